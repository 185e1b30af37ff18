//! Which local key each registered region has. Filled at start-up and when block devices come and go, read on the data path.

use reactor::{RegionId, Segment};

use crate::verbs::{Access, DeviceId, LocalSegment, Memory, Provider, Ticket};

/// Registers memory of the target's. Our device writes data that it reads from hosts into it; no peer does.
pub(super) fn begin_register<P: Provider>(provider: &mut P, device: DeviceId, ticket: Ticket, segment: Segment) {
    provider.begin_register_on(device, ticket, Memory::Private(segment), Access::LOCAL_WRITE);
}

/// Local keys by region: a table of which at least half is free, so that a look finds its place at once or nearly so.
#[derive(Clone, Debug, Default)]
pub(super) struct RegionKeys {
    /// As many places as a power of two, or none. A region is at the place of its number, or in the next free one.
    places: Vec<Option<(RegionId, u32)>>,
}

impl RegionKeys {
    /// The region was registered. May allocate.
    pub(super) fn insert(&mut self, region: RegionId, key: u32) {
        let others = self.entries().filter(|(other, _)| *other != region);
        let all: Vec<_> = others.chain([(region, key)]).collect();
        self.rebuild(&all);
    }

    /// It is registered no more.
    pub(super) fn remove(&mut self, region: RegionId) {
        let all: Vec<_> = self.entries().filter(|(other, _)| *other != region).collect();
        self.rebuild(&all);
    }

    /// Its key.
    #[inline]
    pub(super) fn key(&self, region: RegionId) -> Option<u32> {
        let mask = self.places.len().wrapping_sub(1);
        let mut place = region.0 as usize & mask;
        // Ends at a free place; without any places there is none to begin with.
        while let Some((other, key)) = self.places.get(place).copied().flatten() {
            if other == region {
                return Some(key);
            }
            place = (place + 1) & mask;
        }
        None
    }

    /// A scatter/gather entry of memory that is registered. `None`: our bug, and the queue pair that asked ends with it.
    #[inline]
    pub(super) fn local(&self, memory: Segment) -> Option<LocalSegment> {
        Some(LocalSegment { memory, local_key: self.key(memory.region())? })
    }

    fn entries(&self) -> impl Iterator<Item = (RegionId, u32)> {
        self.places.iter().flatten().copied()
    }

    fn rebuild(&mut self, entries: &[(RegionId, u32)]) {
        let count = (entries.len() * 2).next_power_of_two();
        self.places.clear();
        self.places.resize(count, None);
        for entry in entries {
            let mut place = entry.0.0 as usize & (count - 1);
            while self.places[place].is_some() {
                place = (place + 1) & (count - 1);
            }
            self.places[place] = Some(*entry);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn keys_of_regions_that_come_and_go_agree_with_a_model() {
        let (mut keys, mut model) = (RegionKeys::default(), BTreeMap::new());
        assert_eq!(keys.key(RegionId(0)), None);
        let mut random = 0x9E37_79B9_u32;
        for round in 0..3000 {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            // Numbers that share places in tables of every size, too.
            let region = RegionId(random % 24 * if round % 2 == 0 { 1 } else { 4096 });
            if random & 0x100 == 0 {
                keys.insert(region, round);
                model.insert(region, round);
            } else {
                keys.remove(region);
                model.remove(&region);
            }
            for number in (0..24).chain((0..24).map(|number| number * 4096)) {
                assert_eq!(keys.key(RegionId(number)), model.get(&RegionId(number)).copied());
            }
            assert!(keys.places.len() >= 2 * model.len(), "a search ends");
        }
    }

    #[test]
    fn numbers_that_grow_take_no_room() {
        let mut keys = RegionKeys::default();
        keys.insert(RegionId(0), 7);
        for number in 1..100_000 {
            keys.insert(RegionId(number), number);
            keys.remove(RegionId(number));
        }
        assert_eq!((keys.key(RegionId(0)), keys.places.len()), (Some(7), 2));
    }
}
