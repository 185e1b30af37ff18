//! The sending half of a queue pair: requests begin in order, complete in order, and fail by their peer's state or by time.
//!
//! A WRITE or READ behind a SEND begins before the peer has consumed that SEND (a device's responder would take the SEND first). It differs only where the SEND
//! fails, and then the queue pair ends anyway. Reads are done in order and before anything behind them begins, so a fence is always kept.

use reactor::Rest;

use super::device::Device;
use super::queue_pair::{QueuePair, total_len};
use super::receive_queue::ReceiveQueue;
use super::send_queue::Stage;
use crate::soft::wire::{LinkState, MessageHeader, PeerFault, Transfer, Wire, WireFull};
use crate::verbs::{CompletionStatus, Flags, LocalSegment, PostError, SendOperation, SendRequest};

/// How long an unanswered send goes without a look at the peer's state, where there is no news. Timers are exact to this.
const CHECK_INTERVAL_NS: u64 = 500_000;
/// How often a CPU that would sleep looks at what nothing rings for.
const LOOK_AGAIN_NS: u64 = 1_000_000;

impl<W: Wire> Device<W> {
    /// [`crate::verbs::Port::post_send`], the queue pair found.
    #[inline]
    pub(super) fn post_send(
        &mut self,
        queue_pair: &mut QueuePair<W::Link>,
        slot: u32,
        request: &SendRequest<'_>,
    ) -> Result<(), PostError> {
        if !queue_pair.state.takes_sends() {
            return Err(PostError::WrongState);
        }
        self.check_form(queue_pair, request)?;
        if queue_pair.send.is_full() {
            return Err(PostError::QueueFull);
        }
        self.end.counters().sends_posted.add(1);
        let Some(mut link) = queue_pair.link.take_if(|_| queue_pair.state.takes_messages()) else {
            let credit = super::completion_queue::Credit::Send(queue_pair.send.count_flushed());
            self.complete(queue_pair, slot, request.id, CompletionStatus::WorkRequestFlushed, credit);
            return Ok(());
        };
        let was_empty = queue_pair.send.is_empty();
        let stage = if queue_pair.send.is_open() {
            self.begin(queue_pair, &mut link, request.operation, request.flags, request.segments)
        } else {
            Stage::Waiting
        };
        queue_pair.link = Some(link);
        self.enqueue(queue_pair, request, stage);
        if was_empty {
            queue_pair.waits_since_ns = self.now_ns;
        }
        self.mark_dirty(queue_pair, slot);
        if was_empty && matches!(stage, Stage::Done | Stage::Failed(_)) {
            // Nothing before it: it ends now. The consumed count does not matter.
            if let Some(status) = self.reap(queue_pair, slot, 0) {
                self.fail(queue_pair, slot, LinkState::Error, Some(status));
            }
        } else {
            self.mark_active(queue_pair, slot);
        }
        Ok(())
    }

    /// Begins what waits, as far as it goes.
    #[inline]
    pub(super) fn advance(&mut self, queue_pair: &mut QueuePair<W::Link>, slot: u32) {
        if queue_pair.send.first_waiting().is_none() {
            return;
        }
        let Some(mut link) = queue_pair.link.take() else { return };
        self.mark_dirty(queue_pair, slot);
        // The entry's segments are lent to the wire, so what changes the queue is done on its parts.
        while let Some(entry) = queue_pair.send.first_waiting() {
            let (operation, flags) = (entry.operation, entry.flags);
            let outcome = self.execute(&mut link, operation, flags, &entry.segments);
            let stage = Self::stage(queue_pair, operation, outcome);
            if stage == Stage::Waiting {
                break;
            }
            queue_pair.send.set_begun(stage);
        }
        queue_pair.link = Some(link);
    }

    /// Looks what became of the sends under way. `state` is the peer's, read before this; `None` if nothing suggests that it changed.
    #[inline]
    pub(super) fn follow(
        &mut self,
        queue_pair: &mut QueuePair<W::Link>,
        slot: u32,
        state: Option<LinkState>,
    ) -> Result<(), PeerFault> {
        let Some(mut link) = queue_pair.link.take() else { return Ok(()) };
        let consumed = self.consumed_count(queue_pair, &mut link);
        queue_pair.link = Some(link);
        let consumed = consumed?;
        let mut failure = self.reap(queue_pair, slot, consumed);
        if failure.is_none() {
            self.advance(queue_pair, slot);
            failure = self.reap(queue_pair, slot, consumed);
        }
        let failure = failure.or_else(|| self.failure_by_peer(queue_pair, state?));
        let ends_with_peer = self.options.is_iwarp && state.is_some_and(LinkState::is_error);
        if failure.is_some() || ends_with_peer {
            self.fail(queue_pair, slot, LinkState::Error, failure);
        }
        Ok(())
    }

    /// When the peer's state has to be read again without news.
    pub(super) fn next_check_ns(&self) -> u64 {
        let timers = self.options.rnr_timer_ns.min(self.options.transport_timeout_ns);
        self.now_ns.saturating_add(CHECK_INTERVAL_NS.min(timers / 2))
    }

    /// Whether the oldest send fails by the peer's state or by time.
    fn failure_by_peer(&self, queue_pair: &mut QueuePair<W::Link>, state: LinkState) -> Option<CompletionStatus> {
        if queue_pair.send.is_empty() {
            queue_pair.not_ready_since_ns = None;
            return None;
        }
        match state {
            LinkState::Ready => {
                if queue_pair.not_ready_since_ns.take().is_some() {
                    queue_pair.waits_since_ns = self.now_ns;
                }
                if !queue_pair.send.awaits_peer() {
                    return None;
                }
                (self.now_ns > self.answer_deadline_ns(queue_pair)).then_some(CompletionStatus::RetryExceeded)
            }
            LinkState::NoReceive => {
                let since_ns = *queue_pair.not_ready_since_ns.get_or_insert(self.now_ns);
                let deadline_ns = self.receiver_deadline_ns(queue_pair, since_ns)?;
                (self.now_ns > deadline_ns).then_some(CompletionStatus::RnrRetryExceeded)
            }
            LinkState::Error | LinkState::Gone => Some(CompletionStatus::RetryExceeded),
            LinkState::RefusedLength => Some(CompletionStatus::RemoteInvalidRequest),
            LinkState::RefusedKey => Some(CompletionStatus::RemoteAccessError),
            LinkState::RefusedOperation => Some(CompletionStatus::RemoteOperationError),
        }
    }

    /// Until when the peer has time to consume the oldest message.
    fn answer_deadline_ns(&self, queue_pair: &QueuePair<W::Link>) -> u64 {
        let tries = u64::from(queue_pair.parameters.retry_count) + 1;
        queue_pair.waits_since_ns.saturating_add(self.options.transport_timeout_ns.saturating_mul(tries))
    }

    /// Until when it has time to post a receive, if not for ever.
    fn receiver_deadline_ns(&self, queue_pair: &QueuePair<W::Link>, since_ns: u64) -> Option<u64> {
        let retry_count = queue_pair.parameters.rnr_retry_count;
        let limit_ns = self.options.rnr_timer_ns.saturating_mul(u64::from(retry_count) + 1);
        (retry_count != 7).then(|| since_ns.saturating_add(limit_ns))
    }

    /// How long this CPU may sleep with the work of a queue pair that it looked at just now. The peer rings for what it consumes and says.
    pub(super) fn rest_of(&self, queue_pair: &QueuePair<W::Link>) -> Rest {
        let receives = queue_pair.receive.as_ref().or(self.shared_receives.as_ref());
        let has_receive = receives.and_then(ReceiveQueue::first).is_some();
        // A message that waits for a receive waits for this CPU to post one. One that has a receive waits until a key has ended, for copies of which nothing rings.
        let blocked = if queue_pair.is_blocked && has_receive { self.look_again() } else { Rest::Sleep };
        let waiting = match queue_pair.send.first_waiting().map(|entry| entry.operation) {
            // Room comes with what the peer consumes.
            None
            | Some(SendOperation::Send | SendOperation::SendWithImmediate(_) | SendOperation::SendWithInvalidate(_)) => {
                Rest::Sleep
            }
            // Done in parts.
            Some(SendOperation::Write { .. } | SendOperation::Read { .. } | SendOperation::BindWindow { .. }) => {
                Rest::Poll
            }
            Some(SendOperation::LocalInvalidate(_)) => self.look_again(),
        };
        let deadline_ns = match queue_pair.not_ready_since_ns {
            Some(since_ns) => self.receiver_deadline_ns(queue_pair, since_ns),
            None => queue_pair.send.awaits_peer().then(|| self.answer_deadline_ns(queue_pair)),
        };
        let deadline = deadline_ns.map_or(Rest::Sleep, |ns| Rest::SleepUntil(ns.saturating_add(1)));
        blocked.and(waiting).and(deadline)
    }

    /// Where nothing rings.
    pub(super) fn look_again(&self) -> Rest {
        Rest::SleepUntil(self.now_ns.saturating_add(LOOK_AGAIN_NS))
    }

    /// Whether the device takes such a request at all.
    #[inline]
    fn check_form(&self, queue_pair: &QueuePair<W::Link>, request: &SendRequest<'_>) -> Result<(), PostError> {
        let len = total_len(request.segments);
        let (len_max, may_be_inline) = match request.operation {
            SendOperation::Send | SendOperation::SendWithImmediate(_) | SendOperation::SendWithInvalidate(_) => {
                (self.options.send_len_max, true)
            }
            SendOperation::Write { .. } => (self.options.transfer_len_max, true),
            SendOperation::Read { .. } => (self.options.transfer_len_max, false),
            SendOperation::BindWindow { .. } | SendOperation::LocalInvalidate(_) => (0, false),
        };
        let is_inline = request.flags.contains(Flags::INLINE);
        let is_wrong = request.segments.len() > queue_pair.segment_count_max
            || len > u64::from(len_max)
            || is_inline && (!may_be_inline || len > queue_pair.inline_len_max as u64);
        if is_wrong { Err(PostError::Malformed) } else { Ok(()) }
    }

    /// Begins a request that nothing waits before.
    #[inline]
    fn begin(
        &mut self,
        queue_pair: &mut QueuePair<W::Link>,
        link: &mut W::Link,
        operation: SendOperation,
        flags: Flags,
        segments: &[LocalSegment],
    ) -> Stage {
        let outcome = self.execute(link, operation, flags, segments);
        Self::stage(queue_pair, operation, outcome)
    }

    /// Puts it into the queue. Inline data that has to wait is copied, since the caller's memory is free once it is posted.
    #[inline]
    fn enqueue(&mut self, queue_pair: &mut QueuePair<W::Link>, request: &SendRequest<'_>, stage: Stage) {
        let &SendRequest { id, operation, flags, segments } = request;
        if stage == Stage::Waiting && flags.contains(Flags::INLINE) {
            let kept = queue_pair.keep_inline(segments);
            queue_pair.send.push(id, operation, flags, stage, kept.as_slice());
        } else {
            queue_pair.send.push(id, operation, flags, stage, segments);
        }
    }

    #[inline]
    fn stage(queue_pair: &mut QueuePair<W::Link>, operation: SendOperation, outcome: Outcome) -> Stage {
        match outcome {
            Outcome::Sent => queue_pair.send.count_sent(),
            Outcome::Done => {
                if let SendOperation::BindWindow { key, .. } = operation {
                    queue_pair.window_bound(key);
                } else if let SendOperation::LocalInvalidate(key) = operation {
                    queue_pair.window_ended(key);
                }
                Stage::Done
            }
            Outcome::Unfinished => Stage::Waiting,
            Outcome::Failed(status) => Stage::Failed(status),
        }
    }

    /// Does one request, or a step of it.
    #[inline]
    fn execute(
        &mut self,
        link: &mut W::Link,
        operation: SendOperation,
        flags: Flags,
        segments: &[LocalSegment],
    ) -> Outcome {
        let writes_here = matches!(operation, SendOperation::Read { .. });
        if !flags.contains(Flags::INLINE)
            && !segments.iter().all(|segment| self.wire.allows_local(segment, writes_here))
        {
            return Outcome::Failed(CompletionStatus::LocalProtectionError);
        }
        match operation {
            SendOperation::Send => self.send(link, flags, None, None, segments),
            SendOperation::SendWithImmediate(data) => self.send(link, flags, Some(data), None, segments),
            SendOperation::SendWithInvalidate(key) => self.send(link, flags, None, Some(key), segments),
            SendOperation::Write { address, key } => Outcome::of(self.wire.write(link, key, address, segments)),
            SendOperation::Read { address, key } => Outcome::of(self.wire.read(link, key, address, segments)),
            SendOperation::BindWindow { key, address, len } => {
                if self.wire.bind(key, address, len) {
                    Outcome::Done
                } else {
                    Outcome::Failed(CompletionStatus::WindowBindError)
                }
            }
            SendOperation::LocalInvalidate(key) => match self.wire.invalidate(key) {
                Transfer::Done => Outcome::Done,
                Transfer::Unfinished => Outcome::Unfinished,
                Transfer::Denied | Transfer::Gone => Outcome::Failed(CompletionStatus::LocalQpOperationError),
            },
        }
    }

    #[inline]
    fn send(
        &mut self,
        link: &mut W::Link,
        flags: Flags,
        immediate: Option<u32>,
        invalidate: Option<u32>,
        segments: &[LocalSegment],
    ) -> Outcome {
        let Ok(len) = u32::try_from(total_len(segments)) else {
            return Outcome::Failed(CompletionStatus::LocalLengthError);
        };
        let header = MessageHeader { len, immediate, invalidate, solicited: flags.contains(Flags::SOLICITED) };
        match self.wire.send(link, &header, segments) {
            Ok(()) => Outcome::Sent,
            Err(WireFull) => {
                self.end.counters().wire_full.add(1);
                Outcome::Unfinished
            }
        }
    }
}

/// What became of one attempt.
#[derive(Clone, Copy)]
enum Outcome {
    Sent,
    Done,
    Unfinished,
    Failed(CompletionStatus),
}

impl Outcome {
    #[inline]
    fn of(transfer: Transfer) -> Self {
        match transfer {
            Transfer::Done => Self::Done,
            Transfer::Unfinished => Self::Unfinished,
            Transfer::Denied => Self::Failed(CompletionStatus::RemoteAccessError),
            Transfer::Gone => Self::Failed(CompletionStatus::RetryExceeded),
        }
    }
}
