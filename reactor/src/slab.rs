//! Slots with generations: a name that outlived its object is a miss, never another object.
//!
//! Owned by one CPU (plain values, no atomics). Free slots are taken last in, first out, so that the order is the same in
//! every run and a slot's memory is still in the cache. All operations but the iterators are O(1) and allocate nothing.
//!
//! Invariants:
//! 1. A slot's generation only grows, by one each time its object is removed; so no two objects ever share a handle.
//! 2. A slot whose generation would wrap is in no free list and holds no object: it is never used again.
//! 3. Generations start at 1: a handle made of zeroed memory is always a miss.

use std::fmt;
use std::marker::PhantomData;

use crate::full::Full;

/// The name of a `K` in its owner's slab: plain data, to be sent, kept in `wr_id`s, timers and contexts, and looked up.
pub struct Handle<K> {
    index: u32,
    generation: u32,
    _kind: PhantomData<fn() -> K>,
}

impl<K> Handle<K> {
    /// Slot number, below the slab's capacity (and below 2^24).
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The slot's generation.
    #[must_use]
    pub fn generation(self) -> u32 {
        self.generation
    }

    /// Packed into 56 bits: generation above 24 bits of index. The top 8 bits are free for a kind.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 24 | u64::from(self.index)
    }

    /// Unpacks what [`Self::to_bits`] made; the top 8 bits are ignored. Any number is allowed: a wrong one is a miss.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        let index = (bits & 0xFF_FFFF) as u32;
        #[expect(clippy::cast_possible_truncation, reason = "the top 8 bits are ignored")]
        let generation = (bits >> 24) as u32;
        Self { index, generation, _kind: PhantomData }
    }
}

impl<K> Clone for Handle<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Handle<K> {}
impl<K> PartialEq for Handle<K> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.generation == other.generation
    }
}
impl<K> Eq for Handle<K> {}
impl<K> fmt::Debug for Handle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// Objects of one CPU in a fixed number of slots. A slot whose generation would wrap is never used again. `K` is the kind that
/// handles are named for: by default the object itself.
pub struct Slab<T, K = T> {
    slots: Box<[Slot<T>]>,
    free: Vec<u32>,
    live_count: usize,
    _kind: PhantomData<fn() -> K>,
}

struct Slot<T> {
    generation: u32,
    object: Option<T>,
}

impl<T, K> Slab<T, K> {
    /// At most `capacity` objects, all slots allocated now. Panics above 2^24.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let slot_count = slot_count(capacity);
        Self {
            slots: (0..capacity).map(|_| Slot { generation: FIRST_GENERATION, object: None }).collect(),
            free: (0..slot_count).rev().collect(),
            live_count: 0,
            _kind: PhantomData,
        }
    }

    /// Puts an object into a free slot.
    ///
    /// # Errors
    /// Hands it back when no slot is free.
    #[inline]
    pub fn insert(&mut self, object: T) -> Result<Handle<K>, Full<T>> {
        let Some(index) = self.free.pop() else { return Err(Full(object)) };
        let slot = &mut self.slots[index as usize];
        slot.object = Some(object);
        self.live_count += 1;
        Ok(handle(index, slot.generation))
    }

    /// The handle that the next successful insert will give.
    #[must_use]
    pub fn next_handle(&self) -> Option<Handle<K>> {
        self.free.last().map(|&index| handle(index, self.slots[index as usize].generation))
    }

    /// The object, unless the handle is stale.
    #[must_use]
    #[inline]
    pub fn look(&self, handle: Handle<K>) -> Option<&T> {
        let slot = self.slots.get(handle.index())?;
        if slot.generation == handle.generation { slot.object.as_ref() } else { None }
    }

    /// The same, to change it.
    #[must_use]
    #[inline]
    pub fn look_mut(&mut self, handle: Handle<K>) -> Option<&mut T> {
        let slot = self.slots.get_mut(handle.index())?;
        if slot.generation == handle.generation { slot.object.as_mut() } else { None }
    }

    /// Takes the object out; its handle is stale from now on.
    #[inline]
    pub fn remove(&mut self, handle: Handle<K>) -> Option<T> {
        let slot = self.slots.get_mut(handle.index())?;
        if slot.generation != handle.generation {
            return None;
        }
        let object = slot.object.take()?;
        self.live_count -= 1;
        // At the last generation the slot stays out of the free list (invariant 2); its handle misses since it is empty.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(handle.index);
        }
        Some(object)
    }

    /// The live objects with their handles, by slot number.
    pub fn iter(&self) -> impl Iterator<Item = (Handle<K>, &T)> {
        (0..)
            .zip(self.slots.iter())
            .filter_map(|(index, slot)| slot.object.as_ref().map(|object| (handle(index, slot.generation), object)))
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Handle<K>, &mut T)> {
        (0..)
            .zip(self.slots.iter_mut())
            .filter_map(|(index, slot)| slot.object.as_mut().map(|object| (handle(index, slot.generation), object)))
    }

    /// The live handles, by slot number.
    pub fn handles(&self) -> impl Iterator<Item = Handle<K>> {
        self.iter().map(|(handle, _)| handle)
    }

    /// Live objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live_count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }
}

/// Facts kept beside another slab's objects, under the same handles.
pub struct Side<T, K> {
    slots: Box<[Option<(u32, T)>]>,
    _kind: PhantomData<fn() -> K>,
}

impl<T, K> Side<T, K> {
    /// For handles of a slab with `capacity` slots.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let slot_count = slot_count(capacity);
        Self { slots: (0..slot_count).map(|_| None).collect(), _kind: PhantomData }
    }

    /// Keeps `value` under `handle`, and gives back what an older handle of the slot had left there. Panics if the handle's
    /// slot is beyond the capacity.
    pub fn insert(&mut self, handle: Handle<K>, value: T) -> Option<T> {
        self.slots[handle.index()].replace((handle.generation, value)).map(|(_, older)| older)
    }

    /// The value kept under exactly this handle.
    #[must_use]
    #[inline]
    pub fn look(&self, handle: Handle<K>) -> Option<&T> {
        match self.slots.get(handle.index())? {
            Some((generation, value)) if *generation == handle.generation => Some(value),
            Some(_) | None => None,
        }
    }

    /// The same, to change it.
    #[must_use]
    #[inline]
    pub fn look_mut(&mut self, handle: Handle<K>) -> Option<&mut T> {
        match self.slots.get_mut(handle.index())? {
            Some((generation, value)) if *generation == handle.generation => Some(value),
            Some(_) | None => None,
        }
    }

    /// Takes it out.
    pub fn remove(&mut self, handle: Handle<K>) -> Option<T> {
        self.look(handle)?;
        self.slots[handle.index()].take().map(|(_, value)| value)
    }
}

/// Handles have 24 bits for the slot.
const MAX_SLOT_COUNT: usize = 1 << 24;
const FIRST_GENERATION: u32 = 1;

fn slot_count(capacity: usize) -> u32 {
    assert!(capacity <= MAX_SLOT_COUNT, "a slab of {capacity} slots: at most {MAX_SLOT_COUNT} can be named");
    #[expect(clippy::cast_possible_truncation, reason = "at most 2^24")]
    let count = capacity as u32;
    count
}

fn handle<K>(index: u32, generation: u32) -> Handle<K> {
    Handle { index, generation, _kind: PhantomData }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(loom))]
    use std::collections::BTreeMap;

    #[test]
    fn a_removed_handle_is_a_miss_for_ever() {
        let mut slab: Slab<u32> = Slab::new(2);
        let first = slab.insert(1).unwrap();
        assert_eq!(slab.remove(first), Some(1));
        let second = slab.insert(2).unwrap();
        assert_eq!(second.index(), first.index());
        assert_eq!((slab.look(first), slab.look(second)), (None, Some(&2)));
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.look(Handle::from_bits(0)), None, "zeroed memory names nothing");
        assert_eq!(slab.look(Handle::from_bits(u64::MAX)), None);
    }

    #[test]
    fn a_slot_whose_generation_would_wrap_is_never_used_again() {
        let mut slab: Slab<u32> = Slab::new(1);
        slab.slots[0].generation = u32::MAX - 1;
        let before_last = slab.insert(1).unwrap();
        slab.remove(before_last).unwrap();
        let last = slab.insert(2).unwrap();
        assert_eq!(last.generation(), u32::MAX);
        assert_eq!(slab.remove(last), Some(2));
        assert_eq!(slab.insert(3), Err(Full(3)));
        assert_eq!(slab.next_handle(), None);
        assert_eq!((slab.look(last), slab.look(before_last)), (None, None));
    }

    #[test]
    fn handles_survive_packing_under_any_top_byte() {
        let mut slab: Slab<u8> = Slab::new(1 << 10);
        let all: Vec<_> = (0..1 << 10).map(|_| slab.insert(7).unwrap()).collect();
        let last = all[1023];
        assert_eq!(Handle::from_bits(last.to_bits() | 0xAB << 56), last);
        assert_eq!(last.to_bits() >> 56, 0);
    }

    #[test]
    #[cfg(not(loom))]
    fn random_operations_agree_with_a_map_until_all_generations_are_used_up() {
        let mut worn_out_count = 0;
        for seed in 0..crate::trial::seed_count(300) {
            let mut random = crate::random::Random::new(seed);
            let mut slab: Slab<u64> = Slab::new(8);
            // Every other slab is near its end.
            if seed.is_multiple_of(2) {
                slab.slots.iter_mut().for_each(|slot| slot.generation = u32::MAX - 4);
            }
            let mut side: Side<u64, u64> = Side::new(8);
            let mut model = BTreeMap::new();
            let mut every: Vec<Handle<u64>> = Vec::new();
            for step in 0..200 {
                if random.next_u64().is_multiple_of(2) {
                    let promised = slab.next_handle();
                    match slab.insert(step) {
                        Ok(handle) => {
                            assert_eq!(promised, Some(handle));
                            assert!(model.insert(handle.to_bits(), step).is_none(), "a handle was given twice");
                            side.insert(handle, step * 2);
                            every.push(handle);
                        }
                        Err(Full(back)) => {
                            let worn_out = slab.slots.iter().filter(|slot| slot.is_worn_out()).count();
                            assert_eq!((back, model.len() + worn_out, promised), (step, 8, None), "seed {seed}");
                            worn_out_count += worn_out;
                        }
                    }
                } else if !every.is_empty() {
                    let handle = every[usize::try_from(random.next_u64() % every.len() as u64).unwrap()];
                    let expected = model.remove(&handle.to_bits());
                    assert_eq!(slab.remove(handle), expected);
                    assert_eq!(side.remove(handle), expected.map(|value| value * 2));
                }
                for handle in &every {
                    assert_eq!(slab.look(*handle), model.get(&handle.to_bits()));
                    assert_eq!(side.look(*handle).copied(), model.get(&handle.to_bits()).map(|value| value * 2));
                }
                assert_eq!(slab.len(), model.len());
                let mut listed: Vec<_> = slab.handles().map(Handle::to_bits).collect();
                listed.sort_unstable();
                assert_eq!(listed, model.keys().copied().collect::<Vec<_>>());
            }
        }
        assert!(worn_out_count > 1_000, "{worn_out_count}");
    }

    #[cfg(not(loom))]
    impl<T> Slot<T> {
        fn is_worn_out(&self) -> bool {
            self.generation == u32::MAX && self.object.is_none()
        }
    }
}
