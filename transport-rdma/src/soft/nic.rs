//! The software NIC: a state machine without I/O.

mod command;
mod queue_pair;

pub use command::{
    LinkParameters, NicCounters, PortCommand, PortEvent, PortHandle, QueuePairControl, QueuePairSerial, WakeProvider,
};
pub use queue_pair::QueuePair;

use super::wire::Wire;
use crate::verbs::{Completion, LocalSegment, Port, PortOptions, PostError, QueuePairName, SendRequest};

/// How a NIC behaves; equal for all its queue pairs.
#[derive(Clone, Copy, Debug)]
pub struct NicOptions {
    /// How long a sender waits for a receive to be posted, per try.
    pub rnr_timer_ns: u64,
    /// How long a sender waits for the peer to consume anything, per try.
    pub transport_timeout_ns: u64,
    /// Longest SEND.
    pub send_len_max: u32,
    /// Longest READ or WRITE.
    pub transfer_len_max: u32,
    /// Whether queue pairs on an SRQ raise LAST_WQE_REACHED.
    pub raises_last_wqe: bool,
}

impl Default for NicOptions {
    fn default() -> Self {
        Self {
            rnr_timer_ns: 640_000,
            transport_timeout_ns: 4_000_000_000,
            send_len_max: 1 << 20,
            transfer_len_max: 1 << 30,
            raises_last_wqe: true,
        }
    }
}

/// One CPU's software NIC over the wire `W`.
pub struct Nic<W: Wire> {
    wire: W,
    _todo: (),
}

impl<W: Wire> Nic<W> {
    /// A NIC and the provider's end of it. `wake` is called on the NIC's CPU after it sent an event.
    #[must_use]
    pub fn new(
        wire: W,
        port: PortOptions,
        options: NicOptions,
        wake: Option<WakeProvider>,
    ) -> (Self, PortHandle<W::Link>) {
        let _ = (port, options);
        let (handle, _end) = command::ends(wake);
        (Self { wire, _todo: () }, handle)
    }

    /// Its wire.
    pub fn wire(&mut self) -> &mut W {
        &mut self.wire
    }
}

impl<W: Wire> Port for Nic<W> {
    type QueuePair = Box<QueuePair<W::Link>>;

    fn attach(&mut self, queue_pair: Self::QueuePair) -> QueuePairName {
        let _ = queue_pair;
        todo!()
    }

    fn detach(&mut self, name: QueuePairName) -> Option<Self::QueuePair> {
        let _ = name;
        todo!()
    }

    fn post_receive(&mut self, name: QueuePairName, id: u64, segments: &[LocalSegment]) -> Result<(), PostError> {
        let _ = (name, id, segments);
        todo!()
    }

    fn post_shared_receive(&mut self, id: u64, segments: &[LocalSegment]) -> Result<(), PostError> {
        let _ = (id, segments);
        todo!()
    }

    fn post_send(&mut self, name: QueuePairName, request: &SendRequest<'_>) -> Result<(), PostError> {
        let _ = (name, request);
        todo!()
    }

    fn ring(&mut self) {
        todo!()
    }

    fn poll(&mut self, now_ns: u64, limit: usize, completions: &mut Vec<Completion>) -> usize {
        let _ = (now_ns, limit, completions);
        todo!()
    }
}
