//! How the fabric behaves towards one machine. Each machine has its own; the default is calm: only orders and delays are chosen.

mod calls;
mod device;
mod manager;

pub use calls::{CallFaults, Calls};
pub use device::{CompletionFaults, CompletionKinds, DeviceFaults, LastWqeFaults, LastWqeMoment, Reuse};
pub use manager::{EventKinds, ManagerFaults};

use bitflags::bitflags;

use crate::verbs::DeviceAttributes;

bitflags! {
    /// Kinds of calls that can be made never to end.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct TicketKinds: u8 {
        /// [`crate::verbs::Provider::begin_deregister`].
        const DEREGISTER = 1;
        /// [`crate::verbs::Provider::begin_destroy_queue_pair`].
        const DESTROY_QUEUE_PAIR = 2;
        /// [`crate::verbs::Provider::begin_destroy_connection`].
        const DESTROY_CONNECTION = 4;
        /// [`crate::verbs::Provider::begin_unlisten`].
        const UNLISTEN = 8;
    }
}

/// How the fabric behaves towards one machine. May be changed while it runs ([`super::Fabric::change`], [`super::Fabric::change_for`]), except for what
/// a port or machine takes when it is made.
#[derive(Clone, Debug)]
pub struct FabricOptions {
    /// Most looks that a delivery takes beyond the first.
    pub delay_max: u32,
    /// Messages that may be sent and not consumed, per direction of a link.
    pub ring_message_count: u32,
    /// Whether copies may take two steps.
    pub splits_copies: bool,
    /// Whether LAST_WQE_REACHED is raised, and said to be. Taken when a port is made.
    pub raises_last_wqe: bool,
    /// Whether its device is one of iWARP: see [`crate::soft::nic::NicOptions::is_iwarp`]; it never raises LAST_WQE_REACHED. Taken when a port is made.
    pub is_iwarp: bool,
    /// Whether destroying a queue pair removes its completions from the completion queue, as mlx5 does. (C6, R5, R11)
    pub sweeps_on_destroy: bool,
    /// Whether this machine never hears of its peers' disconnects. (E7, I12)
    pub loses_disconnected: bool,
    /// Whether the accepting side is never told that the connection is up. (J4)
    pub loses_established: bool,
    /// Calls that never end.
    pub never_ending: TicketKinds,
    /// Whether destroying a queue pair with work outstanding, which verbs allow, is a panic.
    pub forbids_destroy_with_work: bool,
    /// Whether ending a port before its queue pairs are destroyed is a panic. Verbs forbid it; tests that end in the midst of things do it. (F7, I10)
    pub forbids_port_before_queue_pairs: bool,
    /// Whether a peer's use of a remote key that has ended is a panic, not only an error completion.
    pub forbids_ended_remote_keys: bool,
    /// Whether misuse that a device answers with an error is a panic.
    pub is_strict: bool,
    /// How long after a disconnect the timewait ends. Taken when a machine is made.
    pub timewait_ns: u64,
    /// [`crate::soft::nic::NicOptions::rnr_timer_ns`]. Taken when a port is made.
    pub rnr_timer_ns: u64,
    /// [`crate::soft::nic::NicOptions::transport_timeout_ns`]. Taken when a port is made.
    pub transport_timeout_ns: u64,
    /// What every machine's device can do.
    pub attributes: DeviceAttributes,
    /// What its device does otherwise than a calm one.
    pub device: DeviceFaults,
    /// The same of its connection manager, and of its events.
    pub manager: ManagerFaults,
    /// Which of its calls fail.
    pub calls: CallFaults,
}

impl Default for FabricOptions {
    fn default() -> Self {
        Self {
            delay_max: 3,
            ring_message_count: 64,
            splits_copies: true,
            raises_last_wqe: true,
            is_iwarp: false,
            sweeps_on_destroy: false,
            loses_disconnected: false,
            loses_established: false,
            never_ending: TicketKinds::empty(),
            forbids_destroy_with_work: false,
            forbids_port_before_queue_pairs: false,
            forbids_ended_remote_keys: false,
            is_strict: true,
            timewait_ns: 1_000_000,
            rnr_timer_ns: 640_000,
            transport_timeout_ns: 4_000_000_000,
            attributes: DeviceAttributes {
                queue_pair_count_max: 4096,
                work_request_count_max: 4096,
                completion_count_max: 1 << 20,
                shared_receive_count_max: 1 << 16,
                segment_count_max: 16,
                inline_len_max: 256,
                read_responder_count_max: 16,
                read_initiator_count_max: 16,
                send_len_max: 1 << 20,
                transfer_len_max: 1 << 30,
                raises_last_wqe: true,
                retries_receiver_not_ready: true,
            },
            device: DeviceFaults::default(),
            manager: ManagerFaults::default(),
            calls: CallFaults::default(),
        }
    }
}
