//! What a port that is built around this one reaches of it: completions one by one before they are given out, and the device's own counts. For the
//! simulated ports alone ([`crate::soft::in_process`]); nothing here is called elsewhere.

use super::completion_queue::{Credit, Entry};
use super::receive_queue::ReceiveQueue;
use super::{Nic, QueuePairState};
use crate::soft::wire::Wire;
use crate::verbs::CompletionStatus;

/// How much room a queue pair's queues have given out and not back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::soft) struct Outstanding {
    pub(in crate::soft) sends: usize,
    pub(in crate::soft) receives: usize,
}

impl<W: Wire> Nic<W> {
    /// The next completion. Its room is given back by [`Self::credit`].
    pub(in crate::soft) fn take_completion(&mut self) -> Option<Entry> {
        self.device.completions.pop()
    }

    /// An attached queue pair's, by its slot.
    pub(in crate::soft) fn outstanding(&self, slot: u32) -> Option<Outstanding> {
        let queue_pair = self.slots.get(slot as usize)?.as_ref()?;
        let receives = queue_pair.receive.as_ref().map_or(0, ReceiveQueue::outstanding);
        Some(Outstanding { sends: queue_pair.send.outstanding(), receives })
    }

    /// The SRQ's.
    pub(in crate::soft) fn shared_outstanding(&self) -> usize {
        self.device.shared_receives.as_ref().map_or(0, ReceiveQueue::outstanding)
    }

    /// Whether an attached queue pair takes from the SRQ and is in the error state.
    pub(in crate::soft) fn has_failed_on_shared(&self, slot: u32) -> bool {
        let queue_pair = self.slots.get(slot as usize).and_then(Option::as_ref);
        queue_pair.is_some_and(|of| of.receive.is_none() && of.state == QueuePairState::Error)
    }

    /// An attached queue pair gives a shared receive back that it had taken: flushed. False if there is none.
    pub(in crate::soft) fn flush_shared_receive(&mut self, slot: u32) -> bool {
        let Some(Some(queue_pair)) = self.slots.get(slot as usize) else { return false };
        let Some(id) = self.device.shared_receives.as_mut().and_then(ReceiveQueue::take) else { return false };
        self.device.complete(queue_pair, slot, id, CompletionStatus::WorkRequestFlushed, Credit::SharedReceive);
        true
    }

    /// A shared receive ends without a completion.
    pub(in crate::soft) fn swallow_shared_receive(&mut self) -> Option<u64> {
        let shared = self.device.shared_receives.as_mut()?;
        let id = shared.take()?;
        shared.credit();
        Some(id)
    }
}
