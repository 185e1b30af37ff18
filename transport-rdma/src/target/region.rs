//! Which local key each registered region has. Filled at start-up, then read on the data path: an index into a small vector.

use reactor::{RegionId, Segment};

use crate::verbs::{Access, DeviceId, LocalSegment, Memory, Provider, Ticket};

/// Registers memory of the target's. Our device writes data that it reads from hosts into it; no peer does.
pub(super) fn begin_register<P: Provider>(provider: &mut P, device: DeviceId, ticket: Ticket, segment: Segment) {
    provider.begin_register_on(device, ticket, Memory::Private(segment), Access::LOCAL_WRITE);
}

/// Local keys by region.
#[derive(Clone, Debug, Default)]
pub(super) struct RegionKeys {
    /// By region number: regions are few, and numbered in order of creation.
    keys: Vec<Option<u32>>,
}

impl RegionKeys {
    /// The region was registered.
    pub(super) fn insert(&mut self, region: RegionId, key: u32) {
        let index = region.0 as usize;
        if self.keys.len() <= index {
            self.keys.resize(index + 1, None);
        }
        self.keys[index] = Some(key);
    }

    /// Its key.
    #[inline]
    pub(super) fn key(&self, region: RegionId) -> Option<u32> {
        self.keys.get(region.0 as usize).copied().flatten()
    }

    /// A scatter/gather entry of memory that is registered. `None`: our bug, and the queue pair that asked ends with it.
    #[inline]
    pub(super) fn local(&self, memory: Segment) -> Option<LocalSegment> {
        Some(LocalSegment { memory, local_key: self.key(memory.region())? })
    }
}
