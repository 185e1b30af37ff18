//! What all queue pairs of a port share, and the two things that happen to any of them: a completion and a failure.

use super::NicOptions;
use super::command::{NicEnd, PortEvent};
use super::completion_queue::{CompletionQueue, Credit, Entry, completion};
use super::queue_pair::QueuePair;
use super::receive_queue::ReceiveQueue;
use super::send_queue::Reaped;
use super::state::Move;
use crate::soft::wire::{LinkState, PeerFault, Wire};
use crate::verbs::{CompletionStatus, Received};

/// The port without its queue pairs.
pub(super) struct Device<W: Wire> {
    pub(super) wire: W,
    pub(super) completions: CompletionQueue,
    pub(super) shared_receives: Option<ReceiveQueue>,
    pub(super) end: NicEnd<W::Link>,
    pub(super) options: NicOptions,
    /// The last poll's time.
    pub(super) now_ns: u64,
    /// Slots that the doorbell has to publish.
    pub(super) dirty: Vec<u32>,
    /// Slots that every poll looks at: sends under way, or messages without receives.
    pub(super) active: Vec<u32>,
}

impl<W: Wire> Device<W> {
    /// Completes one request.
    #[inline]
    pub(super) fn complete(
        &mut self,
        queue_pair: &QueuePair<W::Link>,
        slot: u32,
        id: u64,
        status: CompletionStatus,
        credit: Credit,
    ) {
        self.complete_received(queue_pair, slot, id, status, credit, 0, Received::default());
    }

    /// The same for a receive.
    #[inline]
    #[allow(clippy::too_many_arguments, reason = "the fields of one completion")]
    pub(super) fn complete_received(
        &mut self,
        queue_pair: &QueuePair<W::Link>,
        slot: u32,
        id: u64,
        status: CompletionStatus,
        credit: Credit,
        len: u32,
        received: Received,
    ) {
        let counters = self.end.counters();
        counters.completions.add(1);
        if status != CompletionStatus::Success {
            counters.failures.add(1);
        }
        let completion = completion(id, status, queue_pair.number(), len, received);
        self.completions.push(Entry { completion, credit, slot, serial: queue_pair.serial() });
    }

    /// The doorbell has to visit it.
    #[inline]
    pub(super) fn mark_dirty(&mut self, queue_pair: &mut QueuePair<W::Link>, slot: u32) {
        if !queue_pair.is_dirty {
            queue_pair.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Every poll has to visit it.
    #[inline]
    pub(super) fn mark_active(&mut self, queue_pair: &mut QueuePair<W::Link>, slot: u32) {
        if !queue_pair.is_active {
            queue_pair.is_active = true;
            self.active.push(slot);
        }
    }

    /// How many messages the peer has consumed: never more than were sent.
    #[inline]
    pub(super) fn consumed_count(
        &mut self,
        queue_pair: &QueuePair<W::Link>,
        link: &mut W::Link,
    ) -> Result<u32, PeerFault> {
        let consumed = self.wire.consumed_count(link)?;
        // Wrapping: the two are never further apart than the send queue is long.
        let is_ahead = queue_pair.send.sent_count().wrapping_sub(consumed) >= 1 << 31;
        if is_ahead { Err(PeerFault::Index) } else { Ok(consumed) }
    }

    /// Completes what is done at the head of the send queue, as far as the peer has `consumed`. Gives the status of a failed request that has come
    /// to the head: the caller ends the queue pair with it.
    #[inline]
    pub(super) fn reap(
        &mut self,
        queue_pair: &mut QueuePair<W::Link>,
        slot: u32,
        consumed: u32,
    ) -> Option<CompletionStatus> {
        while let Some(reaped) = queue_pair.send.reap(consumed) {
            queue_pair.waits_since_ns = self.now_ns;
            queue_pair.not_ready_since_ns = None;
            match reaped {
                Reaped::Completed { id, credit } => {
                    self.complete(queue_pair, slot, id, CompletionStatus::Success, Credit::Send(credit));
                }
                Reaped::Silent => {}
                Reaped::Failed(status) => return Some(status),
            }
        }
        None
    }

    /// Moves the queue pair to the error state, tells the peer, and returns all its work: first what had succeeded, then the oldest send with
    /// `first` (flushed if `None`), then everything flushed, in order per queue.
    pub(super) fn fail(
        &mut self,
        queue_pair: &mut QueuePair<W::Link>,
        slot: u32,
        said: LinkState,
        first: Option<CompletionStatus>,
    ) {
        let Some(state) = queue_pair.state.next(Move::Fail) else { return };
        queue_pair.state = state;
        if let Some(mut link) = queue_pair.link.take() {
            self.say(queue_pair, &mut link, said);
            // A peer that lies here has consumed nothing.
            if let Ok(consumed) = self.consumed_count(queue_pair, &mut link) {
                // A failed request at the head stays for the flush; whoever found it gave its status already, or the flush is not its own.
                let _ = self.reap(queue_pair, slot, consumed);
            }
            queue_pair.link = Some(link);
        }
        let mut status = first.unwrap_or(CompletionStatus::WorkRequestFlushed);
        while let Some((id, credit)) = queue_pair.send.flush() {
            self.complete(queue_pair, slot, id, status, Credit::Send(credit));
            status = CompletionStatus::WorkRequestFlushed;
        }
        self.flush_receives(queue_pair, slot);
        if queue_pair.receive.is_none() && self.options.raises_last_wqe {
            self.end.send(PortEvent::LastWqe { queue_pair: queue_pair.serial() });
        }
    }

    /// Returns the receives of a queue pair in the error state.
    pub(super) fn flush_receives(&mut self, queue_pair: &mut QueuePair<W::Link>, slot: u32) {
        while let Some(id) = queue_pair.receive.as_mut().and_then(ReceiveQueue::take) {
            self.complete(queue_pair, slot, id, CompletionStatus::WorkRequestFlushed, Credit::Receive);
        }
    }

    /// The peer broke the wire's protocol.
    pub(super) fn fail_by_fault(&mut self, queue_pair: &mut QueuePair<W::Link>, slot: u32) {
        self.end.counters().peer_faults.add(1);
        self.fail(queue_pair, slot, LinkState::Error, Some(CompletionStatus::BadResponse));
        self.end.send(PortEvent::Fatal { queue_pair: queue_pair.serial() });
    }

    /// Tells the peer, once per change. What was consumed before becomes visible before it: a peer that reads the state first knows all that had succeeded.
    pub(super) fn say(&mut self, queue_pair: &mut QueuePair<W::Link>, link: &mut W::Link, state: LinkState) {
        if queue_pair.said != state {
            queue_pair.said = state;
            self.wire.release(link);
            self.wire.set_state(link, state);
        }
    }
}
