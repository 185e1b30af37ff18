//! A completion queue of fixed size. An overrun is fatal: what came too late is lost, and nothing completes any more.

use super::command::QueuePairSerial;
use crate::verbs::{Completion, CompletionStatus, Received};

/// Which queue gets room back when a completion is polled. Room comes back then and not before, as on devices: a program that posts by what it
/// knows to have ended, rather than by what it polled, finds its queue full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::soft) enum Credit {
    /// The send queue, for this request and the unsignalled ones before it.
    Send(u32),
    /// The queue pair's receive queue.
    Receive,
    /// The port's SRQ.
    SharedReceive,
}

/// A completion and what polling it gives back.
#[derive(Clone, Copy, Debug)]
pub(in crate::soft) struct Entry {
    pub(in crate::soft) completion: Completion,
    pub(in crate::soft) credit: Credit,
    /// Whose: a slot may have another queue pair by the time of the poll.
    pub(in crate::soft) slot: u32,
    pub(in crate::soft) serial: QueuePairSerial,
}

/// A ring of completions.
pub(super) struct CompletionQueue {
    entries: Box<[Option<Entry>]>,
    head: usize,
    len: usize,
    is_broken: bool,
    has_overrun: bool,
}

impl CompletionQueue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: vec![None; capacity].into(), head: 0, len: 0, is_broken: false, has_overrun: false }
    }

    /// Adds one. A full queue breaks; a broken one loses everything.
    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        if self.is_broken {
            return;
        }
        if self.len == self.entries.len() {
            self.is_broken = true;
            self.has_overrun = true;
            return;
        }
        let at = self.position(self.len);
        self.entries[at] = Some(entry);
        self.len += 1;
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Entry> {
        if self.len == 0 {
            return None;
        }
        let entry = self.entries[self.head];
        self.len -= 1;
        // An empty queue begins anew: few entries are used over and over, and stay in the cache.
        self.head = if self.len == 0 { 0 } else { self.position(1) };
        entry
    }

    /// Nothing completes any more.
    pub(super) fn break_off(&mut self) {
        self.is_broken = true;
    }

    /// True once after an overrun.
    #[inline]
    pub(super) fn take_overrun(&mut self) -> bool {
        std::mem::take(&mut self.has_overrun)
    }

    #[inline]
    fn position(&self, offset: usize) -> usize {
        let at = self.head + offset;
        if at >= self.entries.len() { at - self.entries.len() } else { at }
    }
}

/// A completion. Of a failed one only identifier, status and number mean anything; the rest is filled with junk that differs from one to
/// the next, as devices do, so that nobody comes to rely on it.
pub(super) fn completion(id: u64, status: CompletionStatus, number: u32, len: u32, received: Received) -> Completion {
    if status == CompletionStatus::Success {
        return Completion { id, status, number, len, received };
    }
    let junk = (id ^ u64::from(number).rotate_left(40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let [a, b, c, d, e, f, g, h] = junk.to_le_bytes();
    let (low, high) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    let received = Received {
        immediate: (junk.count_ones() & 1 == 0).then_some(low),
        invalidated: (low & 1 == 0).then_some(high),
    };
    Completion { id, status, number, len: low ^ high, received }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, number: u32) -> Entry {
        let completion = completion(id, CompletionStatus::Success, number, 0, Received::default());
        Entry { completion, credit: Credit::Receive, slot: 0, serial: QueuePairSerial(0) }
    }

    fn ids(queue: &mut CompletionQueue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop()).map(|entry| entry.completion.id).collect()
    }

    #[test]
    fn keeps_order_around_the_end() {
        let mut queue = CompletionQueue::new(3);
        queue.push(entry(0, 1));
        for round in 0..5 {
            queue.push(entry(round * 2 + 1, 1));
            queue.push(entry(round * 2 + 2, 1));
            assert_eq!(queue.pop().map(|entry| entry.completion.id), Some(round * 2));
            assert_eq!(queue.pop().map(|entry| entry.completion.id), Some(round * 2 + 1));
        }
        assert_eq!(ids(&mut queue), [10]);
    }

    #[test]
    fn one_too_many_breaks_it_for_good() {
        let mut queue = CompletionQueue::new(2);
        queue.push(entry(0, 1));
        queue.push(entry(1, 1));
        assert!(!queue.take_overrun());
        queue.push(entry(2, 1));
        assert!(queue.take_overrun());
        assert!(!queue.take_overrun());
        assert_eq!(ids(&mut queue), [0, 1]);
        queue.push(entry(3, 1));
        assert_eq!(ids(&mut queue), Vec::<u64>::new());
    }

    #[test]
    fn failed_completions_carry_junk() {
        let first = completion(1, CompletionStatus::WorkRequestFlushed, 7, 0, Received::default());
        let second = completion(2, CompletionStatus::WorkRequestFlushed, 7, 0, Received::default());
        assert_ne!(first.len, second.len);
        assert_eq!(first, completion(1, CompletionStatus::WorkRequestFlushed, 7, 0, Received::default()));
    }
}
