//! A bounded ring between two CPUs: one writes, one reads.
//!
//! Each slot says itself whether it is full, beside its value: a message moves from CPU to CPU with one cache line, where a ring with
//! a shared index moves two. What was read is told to the writer once per drain, and the writer looks only when it believes the ring to be full.
//! Slots are visited in an irregular order, with a line between them that nobody touches: otherwise the prefetchers of both CPUs take the next slot away
//! from each other before its message is there.
//!
//! Invariants, with positions counted from 0, and each slot visited once in as many positions as there are slots:
//! 1. `filled` of a slot is *p* + 1 from when the value of position *p* was written whole until the value of *p* + capacity is; 0 before the first.
//! 2. The producer writes position *p* only after it has seen `consumed` > *p* − capacity: so the consumer has moved the slot's former value out.
//! 3. The consumer reads position *p* once, after it has seen `filled` = *p* + 1, and stores `consumed` only up to what it has read.

use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use crate::full::Full;
#[cfg(loom)]
use crate::primitive::mutation::Rule;
use crate::primitive::{AtomicU64, Ordering, SharedArc as Arc, Site, UnsafeCell};

/// Slots are visited in groups of so many.
const GROUP: usize = 16;
/// In `consumed`: the last of these were dropped unread, with the consumer.
const UNREAD: u64 = 1 << 63;

/// A ring's two ends. Above 16, `capacity` is rounded up to a multiple of 16. Panics if it is zero.
pub(crate) fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity > 0, "a ring that holds nothing");
    let capacity = if capacity < GROUP { capacity } else { capacity.next_multiple_of(GROUP) };
    let slot = |_| Slot { filled: AtomicU64::new(0), value: UnsafeCell::new(MaybeUninit::uninit()) };
    let shared =
        Arc::new(Shared { slots: (0..capacity).map(slot).collect(), consumed: CachePadded::new(AtomicU64::new(0)) });
    let producer = Producer { shared: Arc::clone(&shared), position: 0, slot: 0, consumed: 0 };
    (producer, Consumer { shared, position: 0, slot: 0, told: 0, limit: u64::MAX })
}

struct Shared<T> {
    slots: Box<[Slot<T>]>,
    /// Positions that the consumer has read, and [`UNREAD`].
    consumed: CachePadded<AtomicU64>,
}

#[repr(C, align(128))]
struct Slot<T> {
    filled: AtomicU64,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: a slot's value is touched by one end at a time (invariants 2 and 3), and moves from the one's thread to the other's.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

/// The end that writes.
pub(crate) struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// The next to write.
    position: u64,
    /// Its slot.
    slot: usize,
    /// `consumed`, as last seen.
    consumed: u64,
}

impl<T> Producer<T> {
    /// Writes one value, which the consumer can see at once.
    ///
    /// # Errors
    /// [`Full`] hands it back.
    #[inline]
    pub(crate) fn push(&mut self, value: T) -> Result<(), Full<T>> {
        if !self.has_room() {
            return Err(Full(value));
        }
        let slot = &self.shared.slots[self.slot];
        slot.value.with_mut(|place| {
            // SAFETY: the slot is this end's (invariant 2).
            unsafe { (*place).write(value) };
        });
        // ORDERING 10: the value before the mark.
        slot.filled.store(self.position + 1, Site::RingFill.release());
        self.position += 1;
        self.slot = next(self.slot, self.shared.slots.len());
        Ok(())
    }

    /// Whether a push will succeed.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        let capacity = self.shared.slots.len() as u64;
        #[cfg(loom)]
        let capacity = capacity + u64::from(Rule::RingCapacity.is_broken());
        if self.position - self.consumed < capacity {
            return true;
        }
        // ORDERING 10: the old value was moved out before.
        self.consumed = self.shared.consumed.load(Site::RingRoom.acquire()) & !UNREAD;
        self.position - self.consumed < capacity
    }

    /// Whether the consumer has said that it read all that was written. What was dropped with it is not read.
    pub(crate) fn is_taken(&self) -> bool {
        // ORDERING 10.
        self.shared.consumed.load(Site::RingRoom.acquire()) == self.position
    }

    /// Positions written so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }
}

/// The end that reads.
pub(crate) struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// The next to read.
    position: u64,
    /// Its slot.
    slot: usize,
    /// `consumed`, as last stored.
    told: u64,
    /// Positions from here on are not to be seen yet: the simulation's late messages.
    limit: u64,
}

impl<T> Consumer<T> {
    /// The next value. Its room is the producer's only after [`Self::tell`].
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.position >= self.limit || !self.is_filled() {
            return None;
        }
        let slot = &self.shared.slots[self.slot];
        // SAFETY: the slot holds this position's value, which is read once (invariant 3).
        let value = slot.value.with(|place| unsafe { place.cast::<T>().read() });
        self.position += 1;
        self.slot = next(self.slot, self.shared.slots.len());
        Some(value)
    }

    /// Gives the room of all that was read back to the producer.
    #[inline]
    pub(crate) fn tell(&mut self) {
        if self.told != self.position {
            self.told = self.position;
            // ORDERING 10: the values were moved out before.
            self.shared.consumed.store(self.position, Site::RingEmpty.release());
        }
    }

    /// Whether nothing stands in it, late messages included.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_filled()
    }

    /// Positions read so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How many values it can hold.
    pub(crate) fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// From here on only positions below `limit` can be popped.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    #[inline]
    fn is_filled(&self) -> bool {
        // ORDERING 10: the value is seen with the mark.
        self.shared.slots[self.slot].filled.load(Site::RingLook.acquire()) == self.position + 1
    }
}

impl<T> Drop for Consumer<T> {
    /// Drops what nobody has read, and says that it did. What is pushed after this is dropped with the ring.
    fn drop(&mut self) {
        self.tell();
        self.limit = u64::MAX;
        while self.pop().is_some() {}
        if self.told != self.position {
            // ORDERING 10: as in `tell`.
            self.shared.consumed.store(self.position | UNREAD, Site::RingEmpty.release());
        }
    }
}

impl<T> Drop for Shared<T> {
    /// Drops what was pushed after the consumer was dropped.
    fn drop(&mut self) {
        let capacity = self.slots.len() as u64;
        // ORDERING 10: both ends are gone, and this thread has seen all that they did (`Arc`).
        let mut position = self.consumed.load(Ordering::Relaxed) & !UNREAD;
        #[expect(clippy::cast_possible_truncation, reason = "below the capacity, which is a usize")]
        let steps = (position % capacity) as usize;
        let mut place = (0..steps).fold(0, |slot, _| next(slot, self.slots.len()));
        loop {
            let after = next(place, self.slots.len());
            let slot = &mut self.slots[place];
            if slot.filled.load(Ordering::Relaxed) != position + 1 {
                return;
            }
            slot.value.with_mut(|place| {
                // SAFETY: filled and not read (invariant 3), and dropped once: the next slot filled for a position further is another.
                unsafe { place.cast::<T>().drop_in_place() };
            });
            position += 1;
            place = after;
        }
    }
}

/// The slot after `slot`.
#[inline]
fn next(slot: usize, capacity: usize) -> usize {
    if capacity < GROUP {
        return if slot + 1 == capacity { 0 } else { slot + 1 };
    }
    let (group, place) = (slot & !(GROUP - 1), slot & (GROUP - 1));
    let next = usize::from(AFTER[place]);
    if next != 0 {
        return group + next;
    }
    let group = group + GROUP;
    if group == capacity { 0 } else { group }
}

/// Which place of a group comes after which: 0, 5, 11, 2, 14, 7, 1, 9, 12, 4, 15, 6, 3, 10, 13, 8, and the next group's 0.
const AFTER: [u8; GROUP] = [5, 9, 14, 10, 15, 11, 3, 1, 0, 12, 13, 2, 4, 8, 7, 6];

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_visited_once_a_lap() {
        for capacity in [1, 2, 15, 16, 32, 48, 1024] {
            let mut visited = vec![false; capacity];
            let end = (0..capacity).fold(0, |slot, _| {
                assert!(!std::mem::replace(&mut visited[slot], true), "slot {slot} of {capacity} twice");
                next(slot, capacity)
            });
            assert_eq!(end, 0);
        }
    }

    #[test]
    fn it_is_full_until_it_is_told_and_keeps_the_order() {
        let (mut producer, mut consumer) = ring(17);
        assert_eq!(consumer.capacity(), 32);
        let mut next_in = 0;
        let mut next_out = 0;
        for _ in 0..100 {
            while producer.push(next_in).is_ok() {
                next_in += 1;
            }
            assert_eq!(next_in - next_out, 32);
            for _ in 0..7 {
                assert_eq!(consumer.pop(), Some(next_out));
                next_out += 1;
            }
            assert!(!producer.has_room());
            consumer.tell();
        }
        assert_eq!(producer.position(), next_in);
    }

    #[test]
    fn a_limit_hides_what_comes_after_it() {
        let (mut producer, mut consumer) = ring(4);
        producer.push(1).unwrap();
        producer.push(2).unwrap();
        consumer.set_limit(1);
        assert_eq!((consumer.pop(), consumer.pop()), (Some(1), None));
        assert!(!consumer.is_empty());
        consumer.set_limit(u64::MAX);
        assert_eq!(consumer.pop(), Some(2));
        assert!(consumer.is_empty());
    }

    #[test]
    fn every_value_is_dropped_once_whoever_goes_first() {
        let value = Arc::new(());
        for consumer_first in [true, false] {
            let (mut producer, mut consumer) = ring(16);
            for round in 0..20 {
                assert!(producer.push(Arc::clone(&value)).is_ok());
                if round < 15 {
                    assert!(consumer.pop().is_some());
                    consumer.tell();
                }
            }
            assert_eq!(Arc::strong_count(&value), 6);
            if consumer_first {
                drop(consumer);
                assert_eq!(Arc::strong_count(&value), 1);
                assert!(producer.push(Arc::clone(&value)).is_ok());
                assert!(producer.push(Arc::clone(&value)).is_ok());
                assert_eq!(Arc::strong_count(&value), 3);
                drop(producer);
            } else {
                drop(producer);
                drop(consumer);
            }
            assert_eq!(Arc::strong_count(&value), 1);
        }
    }
}
