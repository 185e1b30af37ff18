//! The receiving half of a queue pair: messages meet receives.

use super::command::PortEvent;
use super::completion_queue::Credit;
use super::device::Device;
use super::queue_pair::{QueuePair, total_len};
use super::receive_queue::ReceiveQueue;
use crate::soft::wire::{LinkState, PeerFault, Transfer, Wire};
use crate::verbs::{CompletionStatus, Received};

impl<W: Wire> Device<W> {
    /// Takes the peer's messages as far as there are receives.
    #[inline]
    pub(super) fn respond(&mut self, queue_pair: &mut QueuePair<W::Link>, slot: u32) -> Result<(), PeerFault> {
        if !queue_pair.state.takes_messages() {
            return Ok(());
        }
        // Out of the queue pair for the while, so that both can be lent.
        let Some(mut link) = queue_pair.link.take() else { return Ok(()) };
        let mut refused = None;
        let result = loop {
            match self.respond_one(queue_pair, slot, &mut link) {
                Ok(Taken::Message) => {}
                Ok(Taken::Nothing) => break Ok(()),
                Ok(Taken::Refused(state)) => {
                    refused = Some(state);
                    break Ok(());
                }
                Err(fault) => break Err(fault),
            }
        };
        queue_pair.link = Some(link);
        if let Some(state) = refused {
            self.fail(queue_pair, slot, state, None);
            if state == LinkState::RefusedKey {
                self.end.send(PortEvent::Fatal { queue_pair: queue_pair.serial() });
            }
        }
        result
    }

    #[inline]
    fn respond_one(
        &mut self,
        queue_pair: &mut QueuePair<W::Link>,
        slot: u32,
        link: &mut W::Link,
    ) -> Result<Taken, PeerFault> {
        let Some(header) = self.wire.peek(link)? else {
            queue_pair.is_blocked = false;
            return Ok(Taken::Nothing);
        };
        let (queue, credit) = match &queue_pair.receive {
            Some(own) => (Some(own), Credit::Receive),
            None => (self.shared_receives.as_ref(), Credit::SharedReceive),
        };
        let Some(receive) = queue.and_then(ReceiveQueue::first) else {
            if self.options.is_iwarp {
                self.end.counters().receiver_not_ready.add(1);
                return Ok(Taken::Refused(LinkState::Error));
            }
            if queue_pair.said != LinkState::NoReceive {
                self.end.counters().receiver_not_ready.add(1);
                self.say(queue_pair, link, LinkState::NoReceive);
            }
            self.block(queue_pair, slot);
            return Ok(Taken::Nothing);
        };
        let id = receive.id;
        let verdict = if total_len(&receive.segments) < u64::from(header.len) {
            Verdict::Refuse(CompletionStatus::LocalLengthError, LinkState::RefusedLength)
        } else if !receive.segments.iter().all(|segment| self.wire.allows_local(segment, true)) {
            Verdict::Refuse(CompletionStatus::LocalProtectionError, LinkState::RefusedOperation)
        } else {
            // The key ends before anything can report it. A peer names any key that it likes: only windows of this very queue pair are its to end.
            let ended = match header.invalidate {
                None => Transfer::Done,
                Some(key) if queue_pair.has_window(key) => self.wire.invalidate(key),
                Some(_) => Transfer::Denied,
            };
            match ended {
                Transfer::Done => {
                    self.wire.take(link, &receive.segments);
                    Verdict::Take
                }
                Transfer::Unfinished => Verdict::Wait,
                Transfer::Denied | Transfer::Gone => {
                    Verdict::Refuse(CompletionStatus::LocalQpOperationError, LinkState::RefusedKey)
                }
            }
        };
        if matches!(verdict, Verdict::Wait) {
            self.block(queue_pair, slot);
            return Ok(Taken::Nothing);
        }
        match &mut queue_pair.receive {
            Some(own) => own.take(),
            None => self.shared_receives.as_mut().and_then(ReceiveQueue::take),
        };
        if let Verdict::Refuse(status, state) = verdict {
            self.complete(queue_pair, slot, id, status, credit);
            return Ok(Taken::Refused(state));
        }
        if let Some(key) = header.invalidate {
            queue_pair.window_ended(key);
        }
        if queue_pair.said == LinkState::NoReceive {
            self.say(queue_pair, link, LinkState::Ready);
        }
        let received = Received { immediate: header.immediate, invalidated: header.invalidate };
        self.complete_received(queue_pair, slot, id, CompletionStatus::Success, credit, header.len, received);
        self.mark_dirty(queue_pair, slot);
        Ok(Taken::Message)
    }

    /// The message stays; every poll looks again.
    fn block(&mut self, queue_pair: &mut QueuePair<W::Link>, slot: u32) {
        queue_pair.is_blocked = true;
        self.mark_active(queue_pair, slot);
    }
}

/// What is to be done with a message and the receive for it.
#[derive(Clone, Copy)]
enum Verdict {
    Take,
    Wait,
    Refuse(CompletionStatus, LinkState),
}

/// What a look at the next message came to.
enum Taken {
    Message,
    Nothing,
    Refused(LinkState),
}
