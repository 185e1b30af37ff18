//! Keys of our memory for peers: the owner's side.
//!
//! One table for the provider, in a memfd of its own that peers map for reading. Entry: key, rights and arena slot, start, length. The control plane
//! opens and closes regions and windows; polling CPUs bind and invalidate windows. The private half says what is so; shared memory is only written.
//!
//! A remote key: 12 bits of entry, 12 of generation, 8 of tag, which for a window its user chooses at each bind (as with `ibv_inc_rkey`).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, RwLock};

use super::mapping::{Mapping, seal};
use super::pair::{ARENA_COUNT_MAX, Copies, KEY_COUNT_MAX, KEY_ENTRY_LEN, Pair};
use crate::verbs::Access;

/// A right to read.
pub(super) const REMOTE_READ: u32 = 1;
/// A right to write.
pub(super) const REMOTE_WRITE: u32 = 2;

/// Private: windows may be bound to the region.
const WINDOW_BIND: u32 = 4;
/// Private: our own device may write.
const LOCAL_WRITE: u32 = 8;

const TAG: u32 = 0xFF;
/// A private key or identity that no user can name, since generations are never 0: an entry that is being bound, or closed and not free.
const NAMELESS: u32 = 1;

#[derive(Debug, Default)]
struct Entry {
    /// Key without tag while the entry is in use, else 0.
    identity: AtomicU32,
    /// The valid key, 0 if there is none.
    key: AtomicU32,
    is_window: AtomicU32,
    /// As in shared memory: rights, and arena slot above 8 bits. Of a window: its region's.
    rights: AtomicU32,
    start: AtomicU64,
    len: AtomicU64,
}

/// The owner's table.
#[derive(Debug)]
pub(super) struct Exports {
    table: Mapping,
    descriptor: OwnedFd,
    entries: Box<[Entry]>,
    /// Which pair an arena slot is offered to, by id; 0: none.
    offered_to: [AtomicU64; ARENA_COUNT_MAX],
    /// Pairs to which something is offered. Written by the control plane, rarely.
    pairs: RwLock<Vec<Arc<Pair>>>,
}

/// What may still run under a closed key.
#[derive(Debug)]
pub(super) enum Ending {
    /// Nothing.
    Done,
    /// These copies, of the pair with this number.
    Copies(u64, Copies),
    /// Not known yet: ask again.
    Unknown,
}

impl Exports {
    pub(super) fn new() -> io::Result<Self> {
        let (table, descriptor) = Mapping::create("quiesce-keys", KEY_COUNT_MAX as usize * KEY_ENTRY_LEN)?;
        // Every peer gets this descriptor, and the first of them must not be able to map it writable: the others trust what is in it. Our own mapping is there already, and stays
        // writable.
        seal(&descriptor, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL)?;
        let entries = std::iter::repeat_with(Entry::default).take(KEY_COUNT_MAX as usize).collect();
        let offered_to = [const { AtomicU64::new(0) }; ARENA_COUNT_MAX];
        Ok(Self { table, descriptor, entries, offered_to, pairs: RwLock::new(Vec::new()) })
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Opens a region's key. `None`: there are no more.
    pub(super) fn open_region(&self, generation: u32, slot: u32, start: u64, len: u64, access: Access) -> Option<u32> {
        let (index, entry) = self.take(generation, slot, start, len, access, false)?;
        let key = entry.identity.load(Ordering::Relaxed);
        // A region that is only for windows has no valid key itself.
        if access.intersects(Access::REMOTE_READ | Access::REMOTE_WRITE) {
            entry.key.store(key, Ordering::Relaxed);
            self.write(index, key, entry.rights.load(Ordering::Relaxed), start, len);
        }
        Some(key)
    }

    /// Takes a window on a region; it is valid once it is bound.
    pub(super) fn open_window(&self, generation: u32, region: u32) -> Option<u32> {
        let parent = self.entry(region)?;
        if parent.identity.load(Ordering::Relaxed) != region {
            return None;
        }
        let (start, len) = (parent.start.load(Ordering::Relaxed), parent.len.load(Ordering::Relaxed));
        let rights = parent.rights.load(Ordering::Relaxed);
        if rights & WINDOW_BIND == 0 {
            return None;
        }
        // A window has its region's remote rights; of a region without any, those that a bind could ask for.
        let mut access = Access::empty();
        access.set(Access::REMOTE_READ, rights & REMOTE_READ != 0 || rights & REMOTE_WRITE == 0);
        access.set(
            Access::REMOTE_WRITE,
            rights & REMOTE_WRITE != 0 || rights & (REMOTE_READ | LOCAL_WRITE) == LOCAL_WRITE,
        );
        let (_, entry) = self.take(generation, rights >> 8, start, len, access, true)?;
        Some(entry.identity.load(Ordering::Relaxed))
    }

    /// Closes a region's or window's key for good. Copies under it may still run ([`Self::copies_in`]); when they have ended, [`Self::free`].
    pub(super) fn close(&self, key: u32) {
        let Some(entry) = self.entry(key) else { return };
        if entry.identity.load(Ordering::Relaxed) != key & !TAG {
            return;
        }
        // Not free yet: a copy that has seen the key may be reading the rest of the entry.
        entry.identity.store(NAMELESS, Ordering::Relaxed);
        entry.key.store(0, Ordering::Relaxed);
        self.table.word(offset(key)).store(0, Ordering::Release);
        // A bind under way on another CPU looks at the identity again after it has written the key.
        fence(Ordering::SeqCst);
        self.table.word(offset(key)).store(0, Ordering::Release);
    }

    /// The entry of a closed key may be used again.
    pub(super) fn free(&self, key: u32) {
        if let Some(entry) = self.entry(key) {
            let _ = entry.identity.compare_exchange(NAMELESS, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Binds a window.
    pub(super) fn bind(&self, key: u32, address: u64, len: u64) -> bool {
        let Some(entry) = self.entry(key) else { return false };
        let is_ours = || entry.identity.load(Ordering::Relaxed) == key & !TAG;
        if !is_ours() || entry.is_window.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let (start, region_len) = (entry.start.load(Ordering::Relaxed), entry.len.load(Ordering::Relaxed));
        let is_inside =
            address >= start && address.checked_add(len).is_some_and(|end| end <= start.saturating_add(region_len));
        if !is_inside || entry.key.compare_exchange(0, NAMELESS, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        self.write((key >> 20) as usize, key, entry.rights.load(Ordering::Relaxed), address, len);
        fence(Ordering::SeqCst);
        if !is_ours() {
            self.table.word(offset(key)).store(0, Ordering::Release);
            return false;
        }
        entry.key.store(key, Ordering::Release);
        true
    }

    /// Closes a bound window's key to new copies, and gives its arena's slot for [`Self::copies_in`]. `None`: it is no bound window's key.
    pub(super) fn invalidate(&self, key: u32) -> Option<u32> {
        let entry = self.entry(key)?;
        if key == NAMELESS
            || entry.identity.load(Ordering::Relaxed) != key & !TAG
            || entry.is_window.load(Ordering::Relaxed) == 0
            || entry.key.compare_exchange(key, 0, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            return None;
        }
        self.table.word(offset(key)).store(0, Ordering::Release);
        Some(entry.rights.load(Ordering::Relaxed) >> 8)
    }

    /// The copies that the peer of an arena runs now, after a key was closed.
    pub(super) fn copies_in(&self, slot: u32) -> Ending {
        let id = self.offered_to.get(slot as usize).map_or(0, |id| id.load(Ordering::Acquire));
        if id == 0 {
            return Ending::Done;
        }
        // Never waited for: the control plane holds it for a push or a removal.
        let Ok(pairs) = self.pairs.try_read() else { return Ending::Unknown };
        let Some(pair) = pairs.iter().find(|pair| pair.id() == id) else { return Ending::Done };
        let copies = pair.copies();
        if pair.have_ended(&copies) { Ending::Done } else { Ending::Copies(id, copies) }
    }

    /// Whether these copies of a pair have ended. Not known is no.
    pub(super) fn have_ended(&self, id: u64, copies: &Copies) -> bool {
        // Never waited for, as above. A pair that is forgotten copies nothing.
        self.pairs
            .try_read()
            .is_ok_and(|pairs| pairs.iter().find(|pair| pair.id() == id).is_none_or(|pair| pair.have_ended(copies)))
    }

    /// The arena in `slot` is offered to this pair from now on.
    pub(super) fn offer(&self, slot: u32, pair: &Arc<Pair>) {
        let mut pairs = self.pairs.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !pairs.iter().any(|known| known.id() == pair.id()) {
            pairs.push(Arc::clone(pair));
        }
        if let Some(place) = self.offered_to.get(slot as usize) {
            place.store(pair.id(), Ordering::Release);
        }
    }

    /// The arena in `slot` is offered to nobody.
    pub(super) fn withdraw(&self, slot: u32) {
        if let Some(place) = self.offered_to.get(slot as usize) {
            place.store(0, Ordering::Release);
        }
    }

    /// The pair is over: nobody copies any more.
    pub(super) fn forget(&self, id: u64) {
        self.pairs.write().unwrap_or_else(std::sync::PoisonError::into_inner).retain(|pair| pair.id() != id);
        for place in &self.offered_to {
            let _ = place.compare_exchange(id, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    fn take(
        &self,
        generation: u32,
        slot: u32,
        start: u64,
        len: u64,
        access: Access,
        is_window: bool,
    ) -> Option<(usize, &Entry)> {
        let is_free = |entry: &Entry| entry.identity.load(Ordering::Relaxed) == 0;
        let (index, entry) = (0_u32..).zip(&self.entries).find(|(_, entry)| is_free(entry))?;
        let bits = [
            (Access::REMOTE_READ, REMOTE_READ),
            (Access::REMOTE_WRITE, REMOTE_WRITE),
            (Access::WINDOW_BIND, WINDOW_BIND),
            (Access::LOCAL_WRITE, LOCAL_WRITE),
        ];
        let granted = bits.iter().filter(|(right, _)| access.contains(*right));
        let rights = granted.fold(slot << 8, |rights, (_, bit)| rights | bit);
        entry.key.store(0, Ordering::Relaxed);
        entry.rights.store(rights, Ordering::Relaxed);
        entry.start.store(start, Ordering::Relaxed);
        entry.len.store(len, Ordering::Relaxed);
        entry.is_window.store(u32::from(is_window), Ordering::Relaxed);
        entry.identity.store(index << 20 | (generation % 0xFFF + 1) << 8, Ordering::Release);
        Some((index as usize, entry))
    }

    /// Writes an entry of shared memory: the key last.
    fn write(&self, index: usize, key: u32, rights: u32, start: u64, len: u64) {
        let at = index * KEY_ENTRY_LEN;
        self.table.word(at + 4).store(rights, Ordering::Relaxed);
        self.table.double_word(at + 8).store(start, Ordering::Relaxed);
        self.table.double_word(at + 16).store(len, Ordering::Relaxed);
        self.table.word(at).store(key, Ordering::Release);
    }

    fn entry(&self, key: u32) -> Option<&Entry> {
        self.entries.get((key >> 20) as usize)
    }
}

/// Whether two keys, of whatever generation and tag, are of one entry.
pub(super) fn is_same_entry(one: u32, other: u32) -> bool {
    one >> 20 == other >> 20
}

fn offset(key: u32) -> usize {
    (key >> 20) as usize * KEY_ENTRY_LEN
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_peer_reads_the_table_and_cannot_write_it() {
        let exports = Exports::new().unwrap();
        let len = KEY_COUNT_MAX as usize * KEY_ENTRY_LEN;
        let fd = exports.descriptor().as_raw_fd();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, wherever the kernel likes; unused.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, 0) };
        assert_eq!(base, libc::MAP_FAILED, "a writable mapping before any peer has sealed it");
        // SAFETY: four readable bytes.
        let written = unsafe { libc::pwrite(fd, [0xFF_u8; 4].as_ptr().cast(), 4, 0) };
        assert_eq!(written, -1, "pwrite");
        let peers = Mapping::take_over(exports.descriptor(), len as u64, false).unwrap();
        let again = Mapping::take_over(exports.descriptor(), len as u64, false).unwrap();
        let key = exports.open_region(0, 0, 0x10000, 0x1000, Access::REMOTE_READ).unwrap();
        for mapping in [peers, again] {
            assert_eq!(mapping.word(offset(key)).load(Ordering::Acquire), key, "our own writes are seen");
        }
    }

    #[test]
    fn windows_are_bound_inside_their_region_and_end_once() {
        let exports = Exports::new().unwrap();
        let region = exports.open_region(0, 0, 0x10000, 0x1000, Access::REMOTE_READ | Access::WINDOW_BIND).unwrap();
        let window = exports.open_window(1, region).unwrap();
        assert_ne!(window, region);
        assert!(!exports.bind(region, 0x10000, 16), "a region is no window");
        assert!(!exports.bind(window, 0xFFFF, 16));
        assert!(!exports.bind(window, 0x10FF8, 16));
        assert!(!exports.bind(window, u64::MAX, 16));
        assert!(exports.bind(window | 5, 0x10010, 16));
        assert!(!exports.bind(window | 6, 0x10010, 16), "already bound");
        assert!(exports.invalidate(window).is_none(), "another tag");
        assert!(exports.invalidate(window | 5).is_some());
        assert!(exports.invalidate(window | 5).is_none());
        assert!(exports.invalidate(region).is_none(), "a region is not invalidated");
        assert!(exports.bind(window | 6, 0x10010, 16));
        exports.close(window);
        assert!(exports.invalidate(window | 6).is_none());
        assert!(!exports.bind(window, 0x10010, 16));
    }
}
