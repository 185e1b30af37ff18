//! Memory of this process alone.
//!
//! Invariants:
//! 1. `address` and `len` are one live mapping, whole pages of `pages`, made by `Arena::new` and unmapped only by
//!    `Arena::release`, which consumes the arena.

use std::alloc::Layout;
use std::ptr::NonNull;

use super::{MemoryError, PageKind, RegionId, Segment, mapping};

/// Private, touched memory, on hugepages where there are enough. Dropping an arena leaks its mapping (segments may be out); see
/// [`Self::release`].
#[derive(Debug)]
pub struct Arena {
    address: usize,
    len: usize,
    region: RegionId,
    pages: PageKind,
}

impl Arena {
    /// `len` bytes, rounded up to whole pages and zeroed. Tries hugepages first if `huge`, then ordinary pages.
    ///
    /// # Errors
    /// If the machine has not that much memory.
    pub fn new(len: usize, huge: bool) -> Result<Self, MemoryError> {
        if huge && let Some(arena) = Self::on_huge_pages(len)? {
            return Ok(arena);
        }
        let len = mapping::whole_pages(len, PageKind::Ordinary)?;
        let address = mapping::map_private(len)?;
        Self::touched(address, len, PageKind::Ordinary)
    }

    /// `None` where there are no hugepages or not enough.
    fn on_huge_pages(len: usize) -> Result<Option<Self>, MemoryError> {
        if !mapping::huge_page_is_2_mib() {
            return Ok(None);
        }
        let len = mapping::whole_pages(len, PageKind::Huge)?;
        let Some(layout) = huge_layout(len) else { return Ok(None) };
        // SAFETY: the layout's size is not zero.
        let address = unsafe { hugepage_rs::alloc(layout) };
        match NonNull::new(address) {
            // Populating fails where a control group allows fewer hugepages than the pool has.
            Some(address) => Ok(Self::touched(address.as_ptr(), len, PageKind::Huge).ok()),
            None => Ok(None),
        }
    }

    fn touched(address: *mut u8, len: usize, pages: PageKind) -> Result<Self, MemoryError> {
        let arena = Self { address: address.expose_provenance(), len, region: mapping::next_region(), pages };
        // SAFETY: a mapping of `len` bytes that was made just now.
        let populated = unsafe { mapping::populate(address, len, pages) };
        // SAFETY: the same mapping.
        let ready = populated.and_then(|()| unsafe { mapping::keep_from_children(address, len) });
        match ready {
            Ok(()) => Ok(arena),
            Err(error) => {
                // SAFETY: no segment of it was given out.
                unsafe { arena.release() };
                Err(error)
            }
        }
    }

    /// All of it.
    #[must_use]
    pub fn segment(&self) -> Segment {
        Segment { address: self.address, len: self.len, region: self.region }
    }

    /// What it got.
    #[must_use]
    pub fn pages(&self) -> PageKind {
        self.pages
    }

    /// Unmaps it.
    ///
    /// # Safety
    /// No segment of this arena is used any more, by this process or a device.
    pub unsafe fn release(self) {
        let address = std::ptr::with_exposed_provenance_mut(self.address);
        match (self.pages, huge_layout(self.len)) {
            // SAFETY: invariant 1, and the caller's promise; the layout is the one it was made with.
            (PageKind::Huge, Some(layout)) => unsafe { hugepage_rs::dealloc(address, layout) },
            // SAFETY: invariant 1, and the caller's promise.
            (PageKind::Huge | PageKind::Ordinary, _) => unsafe { mapping::unmap(address, self.len) },
        }
    }
}

/// `None` for no length that was rounded up to whole pages of this machine's memory.
fn huge_layout(len: usize) -> Option<Layout> {
    Layout::from_size_align(len, PageKind::Ordinary.page_len()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_for_huge_pages_gives_memory_with_or_without_them() {
        let arena = Arena::new(5000, true).unwrap();
        let segment = arena.segment();
        assert_eq!(segment.len() % arena.pages().page_len(), 0);
        assert!(segment.len() >= 5000);
        let mut bytes = vec![1; segment.len()];
        segment.read(0, &mut bytes);
        assert!(bytes.iter().all(|&byte| byte == 0));
        segment.write(segment.len() - 1, &[9]);
        // SAFETY: the segment is not used below.
        unsafe { arena.release() };
    }

    #[test]
    fn more_than_the_machine_has_is_an_error_that_says_so() {
        assert!(matches!(Arena::new(usize::MAX, true), Err(MemoryError::TooLong { len: usize::MAX, .. })));
        let error = Arena::new(1 << 60, false).unwrap_err();
        assert!(error.to_string().contains("1152921504606846976 bytes is more than"), "{error}");
    }

    #[test]
    fn regions_are_numbered_upwards() {
        let first = Arena::new(1, false).unwrap();
        let second = Arena::new(1, false).unwrap();
        assert!(first.segment().region() < second.segment().region());
    }
}
