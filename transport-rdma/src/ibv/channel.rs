//! The event channel of all ids of one provider: there is one, and no id ever moves to another (`rdma_migrate_id` waits for acknowledgements, too).
//!
//! Invariants, cited by the `SAFETY` notes:
//! 1. The pointer lives as long as the [`Channel`]; every id holds an `Arc` of it.
//! 2. An event lives until it is acknowledged, which takes its [`CmEvent`] by value.

use std::io;
use std::os::fd::RawFd;

use super::device::set_nonblocking;
use super::raw::{Raw, by_last_error};
use super::sys;

/// See above.
#[derive(Debug)]
pub(super) struct Channel(Raw<sys::rdma_event_channel>);

/// An event that is not acknowledged yet.
#[derive(Debug)]
#[must_use = "an event is acknowledged by CmEvent::acknowledge"]
pub(super) struct CmEvent(Raw<sys::rdma_cm_event>);

/// What an event says, copied out of it.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) kind: sys::rdma_cm_event_type::Type,
    pub(super) status: i32,
    pub(super) id: *mut sys::rdma_cm_id,
    pub(super) listener: *mut sys::rdma_cm_id,
    pub(super) private_data: Vec<u8>,
    /// READs that the peer starts at a time, and READs that it answers at a time: the event names them from our side.
    pub(super) peer_starts: u8,
    pub(super) peer_answers: u8,
}

impl Channel {
    pub(super) fn create() -> io::Result<Self> {
        // SAFETY: plain call.
        Raw::returned(unsafe { sys::rdma_create_event_channel() }).map(Self)
    }

    pub(super) fn raw(&self) -> *mut sys::rdma_event_channel {
        self.0.as_ptr()
    }

    pub(super) fn descriptor(&self) -> RawFd {
        // SAFETY: invariant 1; the descriptor never changes.
        unsafe { (*self.raw()).fd }
    }

    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        set_nonblocking(self.descriptor())
    }

    /// The next event. Nothing, or an error, is `None`: what is broken shows in the calls.
    pub(super) fn next(&self) -> Option<CmEvent> {
        let mut event = std::ptr::null_mut();
        // SAFETY: invariant 1.
        by_last_error(unsafe { sys::rdma_get_cm_event(self.raw(), &raw mut event) }).ok()?;
        Raw::returned(event).map(CmEvent).ok()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: invariant 1: no id is left.
        unsafe { sys::rdma_destroy_event_channel(self.raw()) };
    }
}

impl CmEvent {
    pub(super) fn facts(&self) -> Facts {
        // SAFETY: invariant 2.
        let event = unsafe { &*self.0.as_ptr() };
        // SAFETY: ids of this provider are connected, not datagrams; both members are numbers and a pointer.
        let conn = unsafe { event.param.conn };
        let private_data = match (conn.private_data.is_null(), conn.private_data_len) {
            (true, _) | (_, 0) => Vec::new(),
            (false, len) => {
                // SAFETY: invariant 2: it is a part of the event, so long.
                unsafe { std::slice::from_raw_parts(conn.private_data.cast::<u8>(), usize::from(len)) }.to_vec()
            }
        };
        Facts {
            kind: event.event,
            status: event.status,
            id: event.id,
            listener: event.listen_id,
            private_data,
            peer_starts: conn.responder_resources,
            peer_answers: conn.initiator_depth,
        }
    }

    /// Frees it; whoever destroys its id need not wait for it any more.
    pub(super) fn acknowledge(self) {
        // SAFETY: invariant 2.
        unsafe { sys::rdma_ack_cm_event(self.0.as_ptr()) };
    }
}
