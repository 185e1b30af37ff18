//! The buffers of one CPU's shared receive queue: each is tracked, so that none is lost without a word.
//!
//! A completion names its buffer by number and generation, and its queue pair by number. Numbers of queue pairs are reused: the table
//! here forgets one only after its queue pair was destroyed and the completion queue was polled empty, and before another is adopted.

use nvmf_core::Qpair;
use reactor::{Handle, Segment};

/// Where a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Posted.
    Queue,
    /// With a command, or waiting for a slot.
    Out,
}

#[derive(Debug)]
struct SharedBuffer {
    generation: u32,
    place: Place,
    /// Posted as the so-many-th.
    sequence: u64,
}

/// The shared receive queue of one CPU.
#[derive(Debug)]
pub(super) struct SharedReceives {
    memory: Segment,
    buffer_len: usize,
    buffers: Vec<SharedBuffer>,
    /// Queue pairs by number, sorted.
    queue_pairs: Vec<(u32, Handle<Qpair>)>,
    posted_count: u64,
    /// The youngest receive that came back.
    newest_returned: u64,
}

impl SharedReceives {
    /// `count` buffers of `buffer_len` bytes. All are out at first: they are to be posted.
    pub(super) fn new(memory: Segment, buffer_len: usize, count: u32) -> Self {
        Self {
            memory,
            buffer_len,
            buffers: (0..count).map(|_| SharedBuffer { generation: 0, place: Place::Out, sequence: 0 }).collect(),
            queue_pairs: Vec::new(),
            posted_count: 0,
            newest_returned: 0,
        }
    }

    /// Buffers.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.buffers.len()).unwrap_or(u32::MAX)
    }

    /// The buffer's memory.
    #[inline]
    pub(super) fn segment(&self, index: u32) -> Segment {
        self.memory.part(index as usize * self.buffer_len, self.buffer_len)
    }

    /// The buffer is about to be posted: its generation for the `wr_id`.
    #[inline]
    pub(super) fn post(&mut self, index: u32) -> u32 {
        self.posted_count += 1;
        let buffer = &mut self.buffers[index as usize];
        buffer.generation = buffer.generation.wrapping_add(1);
        buffer.place = Place::Queue;
        buffer.sequence = self.posted_count;
        buffer.generation
    }

    /// It could not be posted.
    pub(super) fn post_failed(&mut self, index: u32) {
        self.buffers[index as usize].place = Place::Out;
    }

    /// A completion of it came. False if it is not the posting that we wait for.
    #[inline]
    pub(super) fn take(&mut self, index: u32, generation: u32) -> bool {
        match self.buffers.get_mut(index as usize) {
            Some(buffer) if buffer.generation == generation && buffer.place == Place::Queue => {
                buffer.place = Place::Out;
                self.newest_returned = self.newest_returned.max(buffer.sequence);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Posted receives that must have been swallowed: queues hand out their receives in order, and this one was passed by as many as there
    /// are buffers, twice. Some drivers sweep a destroyed queue pair's completions out of the completion queue, and its receives with them.
    pub(super) fn unaccounted_count(&self) -> u64 {
        let passed = 2 * self.buffers.len() as u64;
        let lost =
            |buffer: &&SharedBuffer| buffer.place == Place::Queue && buffer.sequence + passed < self.newest_returned;
        self.buffers.iter().filter(lost).count() as u64
    }

    /// A queue pair of this number was attached.
    pub(super) fn insert(&mut self, number: u32, qpair: Handle<Qpair>) {
        match self.queue_pairs.binary_search_by_key(&number, |entry| entry.0) {
            Ok(at) => self.queue_pairs[at].1 = qpair,
            Err(at) => self.queue_pairs.insert(at, (number, qpair)),
        }
    }

    /// It is gone, and none of its completions is left.
    pub(super) fn remove(&mut self, number: u32, qpair: Handle<Qpair>) {
        self.queue_pairs.retain(|entry| *entry != (number, qpair));
    }

    /// Whose completion it is.
    #[inline]
    pub(super) fn owner(&self, number: u32) -> Option<Handle<Qpair>> {
        let at = self.queue_pairs.binary_search_by_key(&number, |entry| entry.0).ok()?;
        Some(self.queue_pairs[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receives() -> SharedReceives {
        // No byte of it is touched here.
        let arena = reactor::Arena::new(4096, false).unwrap();
        SharedReceives::new(arena.segment(), 128, 4)
    }

    #[test]
    fn a_completion_of_an_older_posting_is_a_miss() {
        let mut receives = receives();
        let first = receives.post(2);
        assert!(receives.take(2, first));
        assert!(!receives.take(2, first), "it came twice");
        let second = receives.post(2);
        assert!(!receives.take(2, first));
        assert!(receives.take(2, second));
        assert!(!receives.take(77, second), "a number that was never posted");
    }

    #[test]
    fn a_swallowed_receive_is_seen_when_others_have_passed_it_twice() {
        let mut receives = receives();
        let swallowed = receives.post(0);
        for _ in 0..3 {
            for index in 1..4 {
                let generation = receives.post(index);
                assert!(receives.take(index, generation));
            }
        }
        assert_eq!(receives.unaccounted_count(), 1);
        assert!(receives.take(0, swallowed), "late is not lost");
        assert_eq!(receives.unaccounted_count(), 0);
    }

    #[test]
    fn a_reused_number_belongs_to_the_new_queue_pair() {
        let mut receives = receives();
        let (old, new) = (Handle::from_bits(1 << 24), Handle::from_bits(2 << 24));
        receives.insert(9, old);
        receives.insert(9, new);
        receives.remove(9, old);
        assert_eq!(receives.owner(9), Some(new));
        receives.remove(9, new);
        assert_eq!(receives.owner(9), None);
    }
}
