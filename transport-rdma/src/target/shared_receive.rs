//! The buffers of one CPU's shared receive queue: each is tracked, so that none is lost without a word.
//!
//! A completion names its buffer by number and generation, and its queue pair by number. Numbers of queue pairs are reused: the table
//! here forgets one only after its queue pair was destroyed and the completion queue was polled empty, and before another is adopted.
//!
//! Some drivers sweep a destroyed queue pair's completions out of the completion queue, and its receives are never seen again. Such a *swallowed*
//! receive is found and posted anew. Two things must hold: it was passed by twice as many younger ones as there are buffers (queues hand out their
//! receives in order), and every queue pair that could have taken it by then has been destroyed (one that lives may be in the middle of a message).

use nvmf_core::Qpair;
use reactor::{Handle, Segment};

#[cfg(debug_assertions)]
use crate::permit::ProgramDropped;
use crate::permit::{Ledger, Permit, SharedReceive};

/// Where a buffer is.
#[derive(Debug)]
enum Place {
    /// Posted.
    Queue(Permit<SharedReceive>),
    /// With a command, or waiting for a slot.
    Out,
}

#[derive(Debug)]
struct SharedBuffer {
    generation: u32,
    place: Place,
    /// Posted as the so-many-th.
    sequence: u64,
    /// Found to be passed by, when so many queue pairs had been attached.
    passed_at: Option<u64>,
}

/// A queue pair that takes receives.
#[derive(Debug)]
struct Taker {
    number: u32,
    qpair: Handle<Qpair>,
    /// Attached as the so-many-th.
    order: u64,
}

/// The shared receive queue of one CPU.
#[derive(Debug)]
pub(super) struct SharedReceives {
    memory: Segment,
    buffer_len: usize,
    buffers: Vec<SharedBuffer>,
    /// The queue's places: those that are out are with the buffers that are posted.
    places: Ledger<SharedReceive>,
    /// By number, sorted.
    takers: Vec<Taker>,
    attached_count: u64,
    posted_count: u64,
    /// The youngest receive that came back.
    newest_returned: u64,
    /// Those that the device refused: to be posted again.
    refused: Vec<u32>,
}

impl SharedReceives {
    /// `count` buffers of `buffer_len` bytes. All are out at first: they are to be posted.
    pub(super) fn new(memory: Segment, buffer_len: usize, count: u32) -> Self {
        Self {
            memory,
            buffer_len,
            buffers: (0..count)
                .map(|_| SharedBuffer { generation: 0, place: Place::Out, sequence: 0, passed_at: None })
                .collect(),
            places: Ledger::issue(count),
            takers: Vec::new(),
            attached_count: 0,
            posted_count: 0,
            newest_returned: 0,
            refused: Vec::with_capacity(count as usize),
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
        assert!(matches!(buffer.place, Place::Out), "shared receive {index} is posted already");
        let permit = self.places.take().expect("the queue has a place for each buffer");
        buffer.generation = buffer.generation.wrapping_add(1);
        buffer.place = Place::Queue(permit);
        buffer.sequence = self.posted_count;
        buffer.passed_at = None;
        buffer.generation
    }

    /// The device refused it: it is kept for another try.
    pub(super) fn post_failed(&mut self, index: u32) {
        self.put_out(index as usize);
        self.refused.push(index);
    }

    /// One that the device refused before.
    #[inline]
    pub(super) fn next_refused(&mut self) -> Option<u32> {
        self.refused.pop()
    }

    /// A completion of it came. False if it is not the posting that we wait for.
    #[inline]
    pub(super) fn take(&mut self, index: u32, generation: u32) -> bool {
        match self.buffers.get_mut(index as usize) {
            Some(buffer) if buffer.generation == generation => {
                let sequence = buffer.sequence;
                let was_posted = self.put_out(index as usize);
                if was_posted {
                    self.newest_returned = self.newest_returned.max(sequence);
                }
                was_posted
            }
            Some(_) | None => false,
        }
    }

    /// It is posted no more: its place in the queue is free. False if it was out before.
    fn put_out(&mut self, index: usize) -> bool {
        match std::mem::replace(&mut self.buffers[index].place, Place::Out) {
            Place::Queue(permit) => {
                self.places.give(permit);
                true
            }
            Place::Out => false,
        }
    }

    /// Whether a posted receive was passed by, twice by as many as there are.
    fn is_passed(&self, buffer: &SharedBuffer) -> bool {
        let passed = 2 * self.buffers.len() as u64;
        matches!(buffer.place, Place::Queue(_)) && buffer.sequence + passed < self.newest_returned
    }

    /// Receives that are passed by: swallowed, or in the middle of a message.
    pub(super) fn passed_count(&self) -> u64 {
        self.buffers.iter().filter(|buffer| self.is_passed(buffer)).count() as u64
    }

    /// Takes swallowed receives back, to be posted anew. For the time right after a queue pair was removed.
    pub(super) fn recover(&mut self) -> Vec<u32> {
        let oldest = self.takers.iter().map(|taker| taker.order).min().unwrap_or(u64::MAX);
        let mut recovered = Vec::new();
        for index in 0..self.buffers.len() {
            if !self.is_passed(&self.buffers[index]) {
                continue;
            }
            let passed_at = *self.buffers[index].passed_at.get_or_insert(self.attached_count);
            if oldest > passed_at {
                self.put_out(index);
                recovered.extend(u32::try_from(index));
            }
        }
        recovered
    }

    /// The queue was destroyed, and whoever took receives from it: all are out, to be posted to another.
    pub(super) fn take_all_back(&mut self) {
        for index in 0..self.buffers.len() {
            self.put_out(index);
        }
        self.refused.clear();
        self.takers.clear();
    }

    /// A queue pair of this number was attached.
    pub(super) fn insert(&mut self, number: u32, qpair: Handle<Qpair>) {
        self.attached_count += 1;
        let taker = Taker { number, qpair, order: self.attached_count };
        match self.takers.binary_search_by_key(&number, |taker| taker.number) {
            Ok(at) => self.takers[at] = taker,
            Err(at) => self.takers.insert(at, taker),
        }
    }

    /// It is gone, and none of its completions is left.
    pub(super) fn remove(&mut self, number: u32, qpair: Handle<Qpair>) {
        self.takers.retain(|taker| taker.number != number || taker.qpair != qpair);
    }

    /// Whose completion it is.
    #[inline]
    pub(super) fn owner(&self, number: u32) -> Option<Handle<Qpair>> {
        let at = self.takers.binary_search_by_key(&number, |taker| taker.number).ok()?;
        Some(self.takers[at].qpair)
    }
}

/// With the whole CPU: what is posted goes with the queue.
#[cfg(debug_assertions)]
impl Drop for SharedReceives {
    fn drop(&mut self) {
        for buffer in &mut self.buffers {
            if let Place::Queue(permit) = std::mem::replace(&mut buffer.place, Place::Out) {
                permit.surrender(&ProgramDropped);
            }
        }
        std::mem::replace(&mut self.places, Ledger::issue(0)).surrender(&ProgramDropped);
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
    fn a_swallowed_receive_is_posted_anew_when_nobody_can_have_it() {
        let mut receives = receives();
        let (old, new) = (Handle::from_bits(1 << 24), Handle::from_bits(2 << 24));
        receives.insert(8, old);
        let swallowed = receives.post(0);
        for _ in 0..3 {
            for index in 1..4 {
                let generation = receives.post(index);
                assert!(receives.take(index, generation));
            }
        }
        assert_eq!(receives.passed_count(), 1);
        assert_eq!(receives.recover(), [], "a queue pair that was there may be in the middle of a message");
        receives.insert(9, new);
        receives.remove(8, old);
        assert_eq!(receives.recover(), [0], "the one that is there came later");
        let again = receives.post(0);
        assert!(!receives.take(0, swallowed), "too late: it has been posted anew");
        assert!(receives.take(0, again));
        assert_eq!(receives.recover(), []);
    }

    #[test]
    fn a_receive_that_was_refused_is_tried_again_once() {
        let mut receives = receives();
        receives.post(3);
        receives.post_failed(3);
        assert_eq!(receives.next_refused(), Some(3));
        assert_eq!(receives.next_refused(), None);
        let again = receives.post(3);
        assert!(receives.take(3, again));
    }

    #[test]
    fn receives_of_a_queue_that_is_gone_are_posted_to_the_next_and_none_is_thought_swallowed() {
        let mut receives = receives();
        receives.insert(8, Handle::from_bits(1 << 24));
        let old: Vec<u32> = (0..3).map(|index| receives.post(index)).collect();
        receives.post_failed(2);
        receives.take_all_back();
        assert_eq!((receives.owner(8), receives.next_refused()), (None, None));
        let new: Vec<u32> = (0..4).map(|index| receives.post(index)).collect();
        assert!(!receives.take(0, old[0]), "of the queue that is gone");
        assert_eq!((receives.passed_count(), receives.recover()), (0, Vec::new()));
        assert!(receives.take(0, new[0]) && receives.take(3, new[3]));
    }

    #[test]
    fn a_late_receive_is_not_lost() {
        let mut receives = receives();
        let late = receives.post(0);
        for _ in 0..9 {
            let generation = receives.post(1);
            assert!(receives.take(1, generation));
        }
        assert_eq!(receives.passed_count(), 1);
        assert!(receives.take(0, late));
        assert_eq!((receives.passed_count(), receives.recover()), (0, Vec::new()));
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
