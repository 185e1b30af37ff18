//! Keys of our own memory for our own work requests.
//!
//! The control plane writes, every CPU reads: one table for the provider, of atomics, so that a check is a handful of loads. A region is closed only when
//! its user posts nothing under it any more; a check that races with that is the user's mistake, and it gets one of the two answers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::verbs::{Access, LocalSegment};

/// Most registered regions: 12 bits of a key.
pub(super) const LOCAL_KEY_COUNT: u32 = 4096;

#[derive(Debug, Default)]
struct Entry {
    /// 0: closed.
    key: AtomicU32,
    writable: AtomicU32,
    start: AtomicU64,
    end: AtomicU64,
}

/// The table.
#[derive(Debug)]
pub(super) struct LocalKeys {
    entries: Box<[Entry]>,
}

impl LocalKeys {
    pub(super) fn new() -> Self {
        Self { entries: std::iter::repeat_with(Entry::default).take(LOCAL_KEY_COUNT as usize).collect() }
    }

    /// Opens a key. `None`: there are no more. For the control plane alone. Key: 20 bits of generation above 12 bits of index, never 0.
    pub(super) fn open(&self, generation: u32, start: u64, len: u64, access: Access) -> Option<u32> {
        let (index, entry) = (0..).zip(&self.entries).find(|(_, entry)| entry.key.load(Ordering::Relaxed) == 0)?;
        let key = (generation % 0xF_FFFF + 1) << 12 | index;
        entry.start.store(start, Ordering::Relaxed);
        entry.end.store(start.saturating_add(len), Ordering::Relaxed);
        entry.writable.store(u32::from(access.contains(Access::LOCAL_WRITE)), Ordering::Relaxed);
        // Release: whoever sees the key sees the rest.
        entry.key.store(key, Ordering::Release);
        Some(key)
    }

    /// Ends a key.
    pub(super) fn close(&self, key: u32) -> bool {
        self.entry(key)
            .is_some_and(|entry| entry.key.compare_exchange(key, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    /// Whether the segment is inside the region of its key.
    #[inline]
    pub(super) fn allows(&self, segment: &LocalSegment, write: bool) -> bool {
        if segment.memory.is_empty() {
            return true;
        }
        let Some(entry) = self.entry(segment.local_key) else { return false };
        let start = segment.memory.address();
        entry.key.load(Ordering::Acquire) == segment.local_key
            && segment.local_key != 0
            && start >= entry.start.load(Ordering::Relaxed)
            && start.saturating_add(segment.memory.len() as u64) <= entry.end.load(Ordering::Relaxed)
            && (!write || entry.writable.load(Ordering::Relaxed) != 0)
    }

    #[inline]
    fn entry(&self, key: u32) -> Option<&Entry> {
        self.entries.get((key % LOCAL_KEY_COUNT) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reactor::Arena;

    #[test]
    fn bounds_rights_and_generations_are_checked() {
        let arena = Arena::new(8192, false).unwrap();
        let memory = arena.segment();
        let keys = LocalKeys::new();
        let inner = memory.part(4096, 100);
        let key = keys.open(0, inner.address(), 100, Access::LOCAL_WRITE).unwrap();
        let allows =
            |offset, len, write| keys.allows(&LocalSegment { memory: memory.part(offset, len), local_key: key }, write);
        assert!(allows(4096, 100, true));
        assert!(!allows(4095, 2, false));
        assert!(!allows(4190, 7, false));
        assert!(keys.close(key));
        assert!(!keys.close(key));
        assert!(!allows(4096, 1, false));
        let again = keys.open(1, inner.address(), 100, Access::empty()).unwrap();
        assert_ne!(again, key);
        assert!(!keys.close(key));
        assert!(keys.allows(&LocalSegment { memory: inner, local_key: again }, false));
        assert!(!keys.allows(&LocalSegment { memory: inner, local_key: again }, true));
        // SAFETY: no segment is used any more.
        unsafe { arena.release() };
    }
}
