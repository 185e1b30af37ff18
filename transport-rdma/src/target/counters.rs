//! What the transport counts: one writer each, read by anybody.

use nvmf_core::DisconnectReason;
use reactor::{Counter, Durations};

/// One polling CPU's. Written by that CPU alone.
#[derive(Debug, Default)]
pub(crate) struct CpuCounters {
    /// Command capsules handed to the walk.
    pub(crate) commands: Counter,
    /// Responses posted.
    pub(crate) responses: Counter,
    /// Bytes brought by RDMA READ.
    pub(crate) pulled_bytes: Counter,
    /// Bytes brought by RDMA WRITE.
    pub(crate) pushed_bytes: Counter,
    /// Capsules that waited since no slot was free.
    pub(crate) slot_waits: Counter,
    /// Transfers and responses that waited since the send queue was full.
    pub(crate) send_room_waits: Counter,
    /// Pulls that waited since the read depth was used up.
    pub(crate) read_depth_waits: Counter,
    /// Completions whose object was gone: dropped.
    pub(crate) stale_completions: Counter,
    /// Messages, timers and calls whose qpair was gone: dropped.
    pub(crate) stale_handles: Counter,
    /// Queue pairs that this CPU could not take in.
    pub(crate) refused: Counter,
    /// Queue pairs drained to the last work request.
    pub(crate) returned: Counter,
    /// Queue pairs cut off at the deadline.
    pub(crate) cut: Counter,
    /// Queue pairs whose memory is lost, since they could be neither drained nor destroyed.
    pub(crate) quarantined_live: Counter,
    /// Queue pairs attached or on their way to be destroyed.
    pub(crate) queue_pairs_live: Counter,
    /// Those of them that drain.
    pub(crate) draining_live: Counter,
    /// Retired and not reaped.
    pub(crate) limbo_live: Counter,
    /// The most of them at a time. A gauge.
    pub(crate) limbo_max: Counter,
    /// From the beginning of a teardown until it was reaped.
    pub(crate) teardown_times: Durations,
    /// All of these together.
    pub(crate) teardown_ns: Counter,
    /// Receive buffers held by queue pairs of their own receive queue.
    pub(crate) receive_buffers_live: Counter,
    /// Receives posted to the shared receive queue.
    pub(crate) shared_receives_posted: Counter,
    /// Shared receives that came back for a queue pair that was gone, and were posted again.
    pub(crate) shared_receives_credited: Counter,
    /// Shared receives that others have passed by: swallowed with a destroyed queue pair, or in the middle of a message. A gauge.
    pub(crate) shared_receives_unaccounted: Counter,
    /// Those of them that were posted anew.
    pub(crate) shared_receives_recovered: Counter,
    /// Teardowns by reason, as in [`REASONS`].
    disconnects: [Counter; REASONS.len()],
}

/// Every reason with its word.
const REASONS: [(DisconnectReason, &str); 14] = [
    (DisconnectReason::Host, "host"),
    (DisconnectReason::Protocol, "protocol"),
    (DisconnectReason::TransportError, "transport_error"),
    (DisconnectReason::KeepAlive, "keep_alive"),
    (DisconnectReason::ConnectTimeout, "connect_timeout"),
    (DisconnectReason::ControllerGone, "controller_gone"),
    (DisconnectReason::Shutdown, "shutdown"),
    (DisconnectReason::PeerGone, "peer_gone"),
    (DisconnectReason::DeviceGone, "device_gone"),
    (DisconnectReason::AddressChanged, "address_changed"),
    (DisconnectReason::ListenerRemoved, "listener_removed"),
    (DisconnectReason::SubsystemDeleted, "subsystem_deleted"),
    (DisconnectReason::HostRemoved, "host_removed"),
    (DisconnectReason::Authentication, "authentication"),
];

impl CpuCounters {
    /// A teardown began.
    pub(crate) fn count_disconnect(&self, reason: DisconnectReason) {
        for (counter, (listed, _)) in self.disconnects.iter().zip(REASONS) {
            if listed == reason {
                counter.add(1);
            }
        }
    }

    /// One more in limbo.
    pub(crate) fn count_retired(&self) {
        self.limbo_live.add(1);
        self.limbo_max.set(self.limbo_max.value().max(self.limbo_live.value()));
    }

    /// One less, which began to end `teardown_ns` ago.
    pub(crate) fn count_reaped(&self, teardown_ns: u64) {
        self.limbo_live.sub(1);
        self.teardown_times.record(teardown_ns);
        self.teardown_ns.add(teardown_ns);
    }

    /// Teardowns by reason.
    pub(crate) fn disconnects(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.disconnects.iter().zip(REASONS).map(|(counter, (_, word))| (word, counter.value()))
    }

    /// All others. What ends with `_live` is a gauge that is zero when nothing is connected.
    pub(crate) fn list(&self) -> [(&'static str, u64); 22] {
        [
            ("commands", self.commands.value()),
            ("responses", self.responses.value()),
            ("pulled_bytes", self.pulled_bytes.value()),
            ("pushed_bytes", self.pushed_bytes.value()),
            ("slot_waits", self.slot_waits.value()),
            ("send_room_waits", self.send_room_waits.value()),
            ("read_depth_waits", self.read_depth_waits.value()),
            ("stale_completions", self.stale_completions.value()),
            ("stale_handles", self.stale_handles.value()),
            ("refused", self.refused.value()),
            ("returned", self.returned.value()),
            ("cut", self.cut.value()),
            ("quarantined_live", self.quarantined_live.value()),
            ("queue_pairs_live", self.queue_pairs_live.value()),
            ("draining_live", self.draining_live.value()),
            ("limbo_live", self.limbo_live.value()),
            ("limbo_max", self.limbo_max.value()),
            ("receive_buffers_live", self.receive_buffers_live.value()),
            ("shared_receives_posted", self.shared_receives_posted.value()),
            ("shared_receives_credited", self.shared_receives_credited.value()),
            ("shared_receives_unaccounted", self.shared_receives_unaccounted.value()),
            ("shared_receives_recovered", self.shared_receives_recovered.value()),
        ]
    }
}
