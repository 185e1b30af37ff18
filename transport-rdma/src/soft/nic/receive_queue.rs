//! Posted receives in order: a queue pair's own, or a port's shared ones.

use crate::verbs::{LocalSegment, PostError};

/// One posted receive.
#[derive(Default)]
pub(super) struct Receive {
    pub(super) id: u64,
    pub(super) segments: Vec<LocalSegment>,
}

/// A ring of receives. A slot's list of segments keeps its memory, so posting allocates nothing once the ring has gone round.
pub(super) struct ReceiveQueue {
    ring: Box<[Receive]>,
    head: usize,
    /// Posted and not taken.
    len: usize,
    /// Posted and not credited: taken ones count until their completion is polled.
    outstanding: usize,
    segment_count_max: usize,
}

impl ReceiveQueue {
    pub(super) fn new(capacity: usize, segment_count_max: usize) -> Self {
        let receive = || Receive { id: 0, segments: Vec::with_capacity(segment_count_max.min(1)) };
        let ring = std::iter::repeat_with(receive).take(capacity).collect();
        Self { ring, head: 0, len: 0, outstanding: 0, segment_count_max }
    }

    #[inline]
    pub(super) fn post(&mut self, id: u64, segments: &[LocalSegment]) -> Result<(), PostError> {
        if segments.len() > self.segment_count_max {
            return Err(PostError::Malformed);
        }
        if self.outstanding == self.ring.len() {
            return Err(PostError::QueueFull);
        }
        let at = self.position(self.len);
        let slot = &mut self.ring[at];
        slot.id = id;
        slot.segments.clear();
        slot.segments.extend_from_slice(segments);
        self.len += 1;
        self.outstanding += 1;
        Ok(())
    }

    /// The oldest, still queued.
    #[inline]
    pub(super) fn first(&self) -> Option<&Receive> {
        if self.len == 0 { None } else { Some(&self.ring[self.head]) }
    }

    /// Takes the oldest away.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let id = self.ring[self.head].id;
        self.head = self.position(1);
        self.len -= 1;
        Some(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Posted and not credited.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// A completion of one was polled (or swept).
    #[inline]
    pub(super) fn credit(&mut self) {
        debug_assert!(self.outstanding > self.len, "more receives credited than taken");
        self.outstanding -= 1;
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

    #[test]
    fn room_comes_back_with_the_credit_and_not_before() {
        let mut queue = ReceiveQueue::new(2, 1);
        assert_eq!(queue.post(1, &[]), Ok(()));
        assert_eq!(queue.post(2, &[]), Ok(()));
        assert_eq!(queue.post(3, &[]), Err(PostError::QueueFull));
        assert_eq!(queue.take(), Some(1));
        assert_eq!(queue.post(3, &[]), Err(PostError::QueueFull));
        queue.credit();
        assert_eq!(queue.post(3, &[]), Ok(()));
        assert_eq!((queue.take(), queue.take(), queue.take()), (Some(2), Some(3), None));
    }
}
