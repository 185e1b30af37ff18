//! Posted sends, reads and writes in order, from posting to completion.

use crate::verbs::{CompletionStatus, Flags, LocalSegment, SendOperation};

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not begun, or begun and to be continued.
    Waiting,
    /// A message on the wire; done when the peer has consumed as many messages as this.
    OnWire(u32),
    /// Done; completes when all before it have.
    Done,
    /// Failed; completes, and ends the queue pair, when all before it have completed.
    Failed(CompletionStatus),
}

/// One request.
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) operation: SendOperation,
    pub(super) flags: Flags,
    pub(super) stage: Stage,
    /// Kept only while it waits.
    pub(super) segments: Vec<LocalSegment>,
}

/// What came to the head of the queue and left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaped {
    /// Succeeded: to be completed, with credit for so many requests.
    Completed { id: u64, credit: u32 },
    /// Succeeded, without a completion.
    Silent,
    /// The oldest failed and is still there: it is for the flush.
    Failed(CompletionStatus),
}

/// A ring of requests: `head` to `begun` are executed, up to `len` waiting.
pub(super) struct SendQueue {
    ring: Box<[Entry]>,
    head: usize,
    begun: usize,
    len: usize,
    /// Posted and not credited.
    outstanding: u32,
    /// Unsignalled successes since the last completion: their room comes back with the next.
    silent: u32,
    /// Messages put on the wire, wrapping.
    sent_count: u32,
    /// A request failed: those behind it do not begin.
    is_stopped: bool,
}

impl SendQueue {
    pub(super) fn new(capacity: usize) -> Self {
        let entry = || Entry {
            id: 0,
            operation: SendOperation::Send,
            flags: Flags::empty(),
            stage: Stage::Done,
            segments: Vec::new(),
        };
        Self {
            ring: std::iter::repeat_with(entry).take(capacity).collect(),
            head: 0,
            begun: 0,
            len: 0,
            outstanding: 0,
            silent: 0,
            sent_count: 0,
            is_stopped: false,
        }
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.outstanding as usize == self.ring.len()
    }

    /// Posted and not credited.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding as usize
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a new request may begin at once: none waits before it and none failed.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.begun == self.len && !self.is_stopped
    }

    /// Adds a request. There is room. One that waits keeps its segments; one that does not has begun.
    #[inline]
    pub(super) fn push(
        &mut self,
        id: u64,
        operation: SendOperation,
        flags: Flags,
        stage: Stage,
        segments: &[LocalSegment],
    ) {
        let at = self.position(self.len);
        let entry = &mut self.ring[at];
        entry.id = id;
        entry.operation = operation;
        entry.flags = flags;
        entry.stage = stage;
        if stage == Stage::Waiting {
            entry.segments.clear();
            entry.segments.extend_from_slice(segments);
        } else {
            self.begun += 1;
        }
        self.is_stopped |= matches!(stage, Stage::Failed(_));
        self.len += 1;
        self.outstanding += 1;
    }

    /// Counts a request that never enters the queue (it is flushed at once), and gives its credit.
    pub(super) fn count_flushed(&mut self) -> u32 {
        self.outstanding += 1;
        std::mem::take(&mut self.silent) + 1
    }

    /// Where the next request's place in the ring is: the index of its inline memory.
    pub(super) fn next_index(&self) -> usize {
        self.position(self.len)
    }

    /// The first that waits.
    #[inline]
    pub(super) fn first_waiting(&self) -> Option<&Entry> {
        if self.is_open() || self.is_stopped { None } else { Some(&self.ring[self.position(self.begun)]) }
    }

    /// The first that waits has come to `stage`.
    #[inline]
    pub(super) fn set_begun(&mut self, stage: Stage) {
        let at = self.position(self.begun);
        self.ring[at].stage = stage;
        self.begun += 1;
        self.is_stopped |= matches!(stage, Stage::Failed(_));
    }

    /// Counts a message that went on the wire, and gives its stage.
    #[inline]
    pub(super) fn count_sent(&mut self) -> Stage {
        self.sent_count = self.sent_count.wrapping_add(1);
        Stage::OnWire(self.sent_count)
    }

    /// Whether the oldest is a message that the peer has not consumed, as far as known.
    #[inline]
    pub(super) fn awaits_peer(&self) -> bool {
        self.len > 0 && matches!(self.ring[self.head].stage, Stage::OnWire(_))
    }

    /// Messages put on the wire, wrapping.
    pub(super) fn sent_count(&self) -> u32 {
        self.sent_count
    }

    /// Takes the oldest away if it is done, `consumed` being how many messages the peer has consumed.
    #[inline]
    pub(super) fn reap(&mut self, consumed: u32) -> Option<Reaped> {
        if self.begun == 0 {
            return None;
        }
        let entry = &self.ring[self.head];
        match entry.stage {
            Stage::Done => {}
            // Wrapping: consumed has come to it or beyond. The two are never further apart than the ring is long.
            Stage::OnWire(number) if consumed.wrapping_sub(number) < 1 << 31 => {}
            Stage::OnWire(_) | Stage::Waiting => return None,
            Stage::Failed(status) => return Some(Reaped::Failed(status)),
        }
        let (id, is_signaled) = (entry.id, entry.flags.contains(Flags::SIGNALED));
        self.remove_head();
        self.begun -= 1;
        if is_signaled {
            return Some(Reaped::Completed { id, credit: std::mem::take(&mut self.silent) + 1 });
        }
        self.silent += 1;
        Some(Reaped::Silent)
    }

    /// Takes the oldest away whatever it is: for the flush. Identifier and credit.
    pub(super) fn flush(&mut self) -> Option<(u64, u32)> {
        if self.len == 0 {
            return None;
        }
        let id = self.ring[self.head].id;
        self.remove_head();
        self.begun = self.begun.saturating_sub(1);
        Some((id, std::mem::take(&mut self.silent) + 1))
    }

    /// Completions that stood for so many requests were polled.
    #[inline]
    pub(super) fn credit(&mut self, count: u32) {
        debug_assert!(self.outstanding as usize >= self.len + count as usize, "more sends credited than ended");
        self.outstanding -= count;
    }

    #[inline]
    fn remove_head(&mut self) {
        self.head = self.position(1);
        self.len -= 1;
    }

    #[inline]
    fn position(&self, offset: usize) -> usize {
        let at = self.head + offset;
        if at >= self.ring.len() { at - self.ring.len() } else { at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut SendQueue, id: u64, flags: Flags, stage: Stage) {
        queue.push(id, SendOperation::Send, flags, stage, &[]);
    }

    #[test]
    fn completes_in_order_and_counts_the_silent_ones() {
        let mut queue = SendQueue::new(4);
        let first = queue.count_sent();
        push(&mut queue, 1, Flags::empty(), first);
        push(&mut queue, 2, Flags::empty(), Stage::Done);
        let third = queue.count_sent();
        push(&mut queue, 3, Flags::SIGNALED, third);
        push(&mut queue, 4, Flags::SIGNALED, Stage::Done);
        assert!(queue.is_full());
        assert_eq!(queue.reap(0), None, "a write behind an unconsumed message waits for it");
        assert_eq!(queue.reap(1), Some(Reaped::Silent));
        assert_eq!(queue.reap(1), Some(Reaped::Silent));
        assert_eq!(queue.reap(1), None);
        assert_eq!(queue.reap(2), Some(Reaped::Completed { id: 3, credit: 3 }));
        assert_eq!(queue.reap(2), Some(Reaped::Completed { id: 4, credit: 1 }));
        assert!(queue.is_full(), "room comes with the poll");
        queue.credit(3);
        assert!(!queue.is_full());
    }

    #[test]
    fn nothing_begins_behind_a_failure() {
        let mut queue = SendQueue::new(4);
        let first = queue.count_sent();
        push(&mut queue, 1, Flags::SIGNALED, first);
        push(&mut queue, 2, Flags::SIGNALED, Stage::Failed(CompletionStatus::RemoteAccessError));
        assert!(!queue.is_open());
        push(&mut queue, 3, Flags::SIGNALED, Stage::Waiting);
        assert!(queue.first_waiting().is_none());
        assert_eq!(queue.reap(1), Some(Reaped::Completed { id: 1, credit: 1 }));
        assert_eq!(queue.reap(1), Some(Reaped::Failed(CompletionStatus::RemoteAccessError)));
        assert_eq!(queue.flush(), Some((2, 1)));
        assert_eq!(queue.flush(), Some((3, 1)));
        assert_eq!(queue.flush(), None);
    }

    #[test]
    fn message_numbers_wrap() {
        let mut queue = SendQueue::new(4);
        queue.sent_count = u32::MAX - 1;
        for id in 0..3 {
            let stage = queue.count_sent();
            push(&mut queue, id, Flags::SIGNALED, stage);
        }
        assert_eq!(queue.reap(u32::MAX - 1), None);
        assert_eq!(queue.reap(0), Some(Reaped::Completed { id: 0, credit: 1 }));
        assert_eq!(queue.reap(0), Some(Reaped::Completed { id: 1, credit: 1 }));
        assert_eq!(queue.reap(0), None);
        assert_eq!(queue.reap(1), Some(Reaped::Completed { id: 2, credit: 1 }));
    }
}
