//! One machine's memory keys: 24 bits of slot, 8 bits of generation. A slot that is used again has another generation, so an old key is no key.

use std::collections::VecDeque;

use reactor::Segment;

use super::options::Reuse;
use crate::verbs::{Access, LocalSegment, Memory, RegisteredMemory};

/// Where bytes are looked for.
#[derive(Clone, Copy)]
struct Range {
    address: u64,
    len: u64,
}

impl Range {
    fn of(segment: Segment) -> Self {
        Self { address: segment.address(), len: segment.len() as u64 }
    }

    fn contains(self, part: Self) -> bool {
        part.address >= self.address && part.len <= self.len && part.address - self.address <= self.len - part.len
    }
}

struct Bound {
    generation: u8,
    range: Range,
    /// Closed to new copies; ends when the running one has.
    is_closing: bool,
}

enum Entry {
    Free,
    Local { memory: Memory, access: Access },
    Remote { memory: Memory, access: Access },
    Window { region: RegisteredMemory, memory: Memory, bound: Option<Bound> },
}

struct Slot {
    generation: u8,
    entry: Entry,
}

/// The table.
pub(super) struct Keys {
    slots: Vec<Slot>,
    free: VecDeque<u32>,
    /// Those that come again at once, with the same key.
    ready: VecDeque<u32>,
    region_count: u64,
    window_count: u64,
}

/// What a key turned out to be, where it was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyError {
    /// It was a key once.
    Ended,
    /// It never was one, or not one for this.
    Wrong,
    /// The bytes are not inside.
    Bounds,
    /// The region does not give this right.
    Rights,
}

/// How many keys keep the same slot out of use after it was freed: small, so that reuse is met.
const FREE_KEPT: usize = 2;

impl Keys {
    pub(super) fn new() -> Self {
        // Key 0 is never one.
        let none = Slot { generation: 0, entry: Entry::Free };
        Self { slots: vec![none], free: VecDeque::new(), ready: VecDeque::new(), region_count: 0, window_count: 0 }
    }

    pub(super) fn region_count(&self) -> u64 {
        self.region_count
    }

    pub(super) fn window_count(&self) -> u64 {
        self.window_count
    }

    pub(super) fn register(&mut self, memory: Memory, access: Access) -> RegisteredMemory {
        self.region_count += 1;
        let local_key = self.add(Entry::Local { memory: memory.clone(), access });
        let remote_key = if access.intersects(Access::REMOTE_READ | Access::REMOTE_WRITE) {
            self.add(Entry::Remote { memory, access })
        } else {
            0
        };
        RegisteredMemory { local_key, remote_key }
    }

    /// Ends a region's keys, and its windows. False if it is none.
    pub(super) fn deregister(&mut self, region: RegisteredMemory, reuse: Reuse) -> bool {
        if !matches!(self.entry(region.local_key), Ok(Entry::Local { .. })) {
            return false;
        }
        for slot in 1..self.slots.len() {
            if matches!(&self.slots[slot].entry, Entry::Window { region: of, .. } if *of == region) {
                self.window_count -= 1;
                self.remove(slot, reuse);
            }
        }
        self.remove(slot_of(region.local_key), reuse);
        if region.remote_key != 0 {
            self.remove(slot_of(region.remote_key), reuse);
        }
        self.region_count -= 1;
        true
    }

    /// All keys end: the device is gone. None of them comes again soon.
    pub(super) fn release(&mut self) {
        for slot in 1..self.slots.len() {
            if !matches!(self.slots[slot].entry, Entry::Free) {
                self.remove(slot, Reuse::Late);
            }
        }
        (self.region_count, self.window_count) = (0, 0);
    }

    /// A window on the region, unbound; `None` if the region does not allow it.
    pub(super) fn add_window(&mut self, region: RegisteredMemory) -> Option<u32> {
        let memory = match self.entry(region.local_key) {
            Ok(Entry::Local { memory, access }) if access.contains(Access::WINDOW_BIND) => memory.clone(),
            Ok(_) | Err(_) => return None,
        };
        self.window_count += 1;
        Some(self.add(Entry::Window { region, memory, bound: None }))
    }

    /// Binds. The key's lowest 8 bits are the caller's.
    pub(super) fn bind(&mut self, key: u32, address: u64, len: u64) -> bool {
        let Some(slot) = self.slots.get_mut(slot_of(key)) else { return false };
        match &mut slot.entry {
            Entry::Window { memory, bound: bound @ None, .. } => {
                let range = Range { address, len };
                if !Range::of(segment_of(memory)).contains(range) {
                    return false;
                }
                *bound = Some(Bound { generation: generation_of(key), range, is_closing: false });
                true
            }
            Entry::Window { .. } | Entry::Free | Entry::Local { .. } | Entry::Remote { .. } => false,
        }
    }

    /// Closes a bound window to new copies; with `finish` it is unbound. False if the key is no bound window's.
    pub(super) fn invalidate(&mut self, key: u32, finish: bool) -> bool {
        let Some(slot) = self.slots.get_mut(slot_of(key)) else { return false };
        let Entry::Window { bound, .. } = &mut slot.entry else { return false };
        match bound {
            Some(of) if of.generation == generation_of(key) => {
                of.is_closing = true;
                if finish {
                    *bound = None;
                }
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether our own device may use these bytes under this key.
    pub(super) fn check_local(&self, segment: &LocalSegment, write: bool) -> Result<(), KeyError> {
        let Entry::Local { memory, access } = self.entry(segment.local_key)? else { return Err(KeyError::Wrong) };
        if !Range::of(segment_of(memory)).contains(Range::of(segment.memory)) {
            return Err(KeyError::Bounds);
        }
        if write && !access.contains(Access::LOCAL_WRITE) { Err(KeyError::Rights) } else { Ok(()) }
    }

    /// Where a peer's bytes are under this key.
    pub(super) fn find_remote(&self, key: u32, address: u64, len: u64, right: Access) -> Result<Segment, KeyError> {
        let wanted = Range { address, len };
        let whole = match &self.slots.get(slot_of(key)).ok_or(KeyError::Wrong)?.entry {
            Entry::Window { bound, memory, .. } => match bound {
                Some(bound) if bound.generation == generation_of(key) && !bound.is_closing => {
                    if !bound.range.contains(wanted) {
                        return Err(KeyError::Bounds);
                    }
                    segment_of(memory)
                }
                Some(_) | None => return Err(KeyError::Ended),
            },
            Entry::Free | Entry::Local { .. } | Entry::Remote { .. } => match self.entry(key)? {
                Entry::Remote { memory, access } => {
                    if !Range::of(segment_of(memory)).contains(wanted) {
                        return Err(KeyError::Bounds);
                    }
                    if !access.contains(right) {
                        return Err(KeyError::Rights);
                    }
                    segment_of(memory)
                }
                Entry::Local { .. } | Entry::Window { .. } | Entry::Free => return Err(KeyError::Wrong),
            },
        };
        let offset = usize::try_from(address - whole.address()).map_err(|_| KeyError::Bounds)?;
        let len = usize::try_from(len).map_err(|_| KeyError::Bounds)?;
        Ok(whole.part(offset, len))
    }

    fn entry(&self, key: u32) -> Result<&Entry, KeyError> {
        let slot = self.slots.get(slot_of(key)).ok_or(KeyError::Wrong)?;
        if slot.generation != generation_of(key) || matches!(slot.entry, Entry::Free) {
            return Err(KeyError::Ended);
        }
        Ok(&slot.entry)
    }

    fn add(&mut self, entry: Entry) -> u32 {
        let late = if self.free.len() > FREE_KEPT { self.free.pop_front() } else { None };
        let slot = self.ready.pop_front().or(late);
        let slot = slot.unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: Entry::Free });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        assert!(slot < 1 << 24, "more than 2^24 memory keys");
        let place = &mut self.slots[slot as usize];
        place.entry = entry;
        slot << 8 | u32::from(place.generation)
    }

    fn remove(&mut self, slot: usize, reuse: Reuse) {
        let place = &mut self.slots[slot];
        place.entry = Entry::Free;
        // Below 2^24: checked when it was added.
        let number = u32::try_from(slot).unwrap_or(u32::MAX);
        match reuse {
            Reuse::AtOnce => self.ready.push_back(number),
            Reuse::Late => {
                place.generation = place.generation.wrapping_add(1);
                self.free.push_back(number);
            }
            Reuse::Never => place.generation = place.generation.wrapping_add(1),
        }
    }
}

fn slot_of(key: u32) -> usize {
    (key >> 8) as usize
}

fn generation_of(key: u32) -> u8 {
    key.to_le_bytes()[0]
}

/// The bytes of registered memory.
pub(super) fn segment_of(memory: &Memory) -> Segment {
    match memory {
        Memory::Private(segment) => *segment,
        Memory::Shared(arena) => arena.segment(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reactor::SharedArena;

    use super::*;

    #[test]
    fn a_slot_that_comes_again_has_another_key() {
        let arena = Arc::new(SharedArena::new("keys", 4096, false).unwrap());
        let segment = arena.segment();
        let mut keys = Keys::new();
        let mut old = Vec::new();
        let mut slots = Vec::new();
        for _ in 0..20 {
            let region = keys.register(Memory::Shared(Arc::clone(&arena)), Access::REMOTE_WRITE);
            assert!(!old.contains(&region.remote_key) && !old.contains(&region.local_key));
            assert!(keys.find_remote(region.remote_key, segment.address(), 4096, Access::REMOTE_WRITE).is_ok());
            for &key in &old {
                let found = keys.find_remote(key, segment.address(), 1, Access::REMOTE_WRITE);
                assert!(found.is_err(), "key {key:#x}");
            }
            slots.push(slot_of(region.remote_key));
            old.extend([region.remote_key, region.local_key]);
            assert!(keys.deregister(region, Reuse::Late));
            assert!(!keys.deregister(region, Reuse::Late));
        }
        slots.sort_unstable();
        slots.dedup();
        assert!(slots.len() < 20, "slots are used again");
        assert_eq!((keys.region_count(), keys.window_count()), (0, 0));
    }

    #[test]
    fn keys_come_again_at_once_or_never() {
        let arena = Arc::new(SharedArena::new("keys", 4096, false).unwrap());
        for (reuse, is_same) in [(Reuse::AtOnce, true), (Reuse::Never, false)] {
            let mut keys = Keys::new();
            let mut seen = Vec::new();
            for _ in 0..8 {
                let region = keys.register(Memory::Shared(Arc::clone(&arena)), Access::REMOTE_WRITE);
                assert_eq!(seen.contains(&region), is_same && !seen.is_empty(), "{reuse:?}");
                assert!(
                    seen.iter()
                        .all(|old: &RegisteredMemory| is_same || slot_of(old.local_key) != slot_of(region.local_key))
                );
                seen.push(region);
                assert!(keys.deregister(region, reuse));
                assert!(
                    keys.find_remote(region.remote_key, arena.segment().address(), 1, Access::REMOTE_WRITE).is_err()
                );
            }
        }
    }
}
