//! Memory of this process alone.
//!
//! Invariants:
//! 1. `address` and `len` are one live mapping, whole pages of `pages`, made by `Arena::with` and unmapped only by
//!    `Arena::release`, which consumes the arena.

use std::alloc::Layout;
use std::ptr::NonNull;

use super::node::{self, NumaNode};
use super::{ArenaOptions, MemoryError, PageKind, RegionId, Segment, mapping};

/// Private, touched memory, on hugepages where there are enough. Dropping an arena leaks its mapping (segments may be out); see
/// [`Self::release`].
#[derive(Debug)]
pub struct Arena {
    address: usize,
    len: usize,
    region: RegionId,
    pages: PageKind,
    node: Option<NumaNode>,
    why_ordinary: Option<MemoryError>,
}

impl Arena {
    /// As the options say: zeroed, touched, kept out of forked children. With [`ArenaOptions::huge_pages`] all of it is on hugepages, or, where
    /// they are missing, none, or a control group forbids them, all of it on ordinary ones: then [`Self::why_ordinary`] tells.
    ///
    /// # Errors
    /// If the machine has not that much memory.
    pub fn with(options: ArenaOptions) -> Result<Self, MemoryError> {
        let why_ordinary = match options.huge_pages.then(|| Self::on_huge_pages(options)) {
            Some(Ok(arena)) => return Ok(arena),
            Some(Err(error)) => Some(error),
            None => None,
        };
        let len = mapping::whole_pages(options.len, PageKind::Ordinary)?;
        let address = mapping::map_private(len)?;
        let arena = Self::touched(address, len, PageKind::Ordinary, options.node)?;
        Ok(Self { why_ordinary, ..arena })
    }

    /// [`Self::with`] options of this length, on hugepages or not, and no preferred node.
    ///
    /// # Errors
    /// If the machine has not that much memory.
    pub fn new(len: usize, huge_pages: bool) -> Result<Self, MemoryError> {
        Self::with(ArenaOptions { huge_pages, ..ArenaOptions::new(len) })
    }

    fn on_huge_pages(options: ArenaOptions) -> Result<Self, MemoryError> {
        mapping::check_huge_pages(options.len)?;
        let len = mapping::whole_pages(options.len, PageKind::Huge)?;
        // Promises all pages or none, wherever they are: populating them fails only where a control group allows fewer.
        // SAFETY: the layout's size is not zero.
        let address = unsafe { hugepage_rs::alloc(huge_layout(len)) };
        match NonNull::new(address) {
            Some(address) => Self::touched(address.as_ptr(), len, PageKind::Huge, options.node),
            None => Err(mapping::failed(mapping::MMAP_HUGE, len)),
        }
    }

    fn touched(address: *mut u8, len: usize, pages: PageKind, node: Option<NumaNode>) -> Result<Self, MemoryError> {
        // SAFETY: a mapping of `len` bytes that was made just now; it has no pages yet.
        let node = node.filter(|node| unsafe { node::prefer(address, len, *node) });
        let region = mapping::next_region();
        let arena = Self { address: address.expose_provenance(), len, region, pages, node, why_ordinary: None };
        // SAFETY: likewise.
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

    /// Why it is on ordinary pages although hugepages were asked for.
    #[must_use]
    pub fn why_ordinary(&self) -> Option<&MemoryError> {
        self.why_ordinary.as_ref()
    }

    /// The node that its pages were asked to come from. `None` if none was, or the kernel did not take the preference.
    #[must_use]
    pub fn node(&self) -> Option<NumaNode> {
        self.node
    }

    /// Gives the pages back to the machine and keeps the addresses: what was there reads as zeroes from now on, and whoever still has a segment reads
    /// and writes memory that is there. What a device holds stays until it is deregistered.
    ///
    /// # Errors
    /// If the kernel cannot (hugepages before Linux 5.18): then all is as it was.
    pub fn discard(&self) -> Result<(), MemoryError> {
        // SAFETY: invariant 1; the mapping stays, and its contents are bytes of which any value is one.
        unsafe { mapping::discard(std::ptr::with_exposed_provenance_mut(self.address), self.len) }
    }

    /// Unmaps it.
    ///
    /// # Safety
    /// No segment of this arena is used any more, by this process or a device.
    pub unsafe fn release(self) {
        let address = std::ptr::with_exposed_provenance_mut(self.address);
        match self.pages {
            // SAFETY: invariant 1, and the caller's promise; the layout is the one it was made with.
            PageKind::Huge => unsafe { hugepage_rs::dealloc(address, huge_layout(self.len)) },
            // SAFETY: invariant 1, and the caller's promise.
            PageKind::Ordinary => unsafe { mapping::unmap(address, self.len) },
        }
    }
}

/// For a length that was rounded up to whole pages of this machine's memory.
fn huge_layout(len: usize) -> Layout {
    match Layout::from_size_align(len, PageKind::Ordinary.page_len()) {
        Ok(layout) => layout,
        Err(error) => unreachable!("{len} bytes were checked against the machine's memory: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{policy_of, some_node};
    use super::*;

    #[test]
    fn asking_for_huge_pages_gives_memory_with_or_without_them() {
        let arena = Arena::new(5000, true).unwrap();
        let segment = arena.segment();
        assert_eq!(segment.len() % arena.pages().page_len(), 0);
        assert_eq!(arena.why_ordinary().is_some(), arena.pages() == PageKind::Ordinary);
        assert!(segment.len() >= 5000);
        let mut bytes = vec![1; segment.len()];
        segment.read(0, &mut bytes);
        assert!(bytes.iter().all(|&byte| byte == 0));
        segment.write(segment.len() - 1, &[9]);
        // SAFETY: the segment is not used below.
        unsafe { arena.release() };
    }

    #[test]
    fn more_than_the_pool_has_is_all_on_ordinary_pages_and_says_why() {
        let len = (usize::try_from(super::super::Hugepages::now().free).unwrap() + 1) * PageKind::Huge.page_len();
        let arena = Arena::new(len, true).unwrap();
        if arena.pages() == PageKind::Ordinary {
            let why = arena.why_ordinary().unwrap().to_string();
            assert!(why.contains("mmap(MAP_HUGETLB)"), "{why}");
        }
        // SAFETY: no segment of it was used.
        unsafe { arena.release() };
        assert!(Arena::new(1, false).unwrap().why_ordinary().is_none(), "none were asked for");
    }

    #[test]
    fn the_kernel_is_told_which_node_is_preferred() {
        let Some(node) = some_node() else {
            println!("not checked: this kernel knows no NUMA nodes");
            return;
        };
        for huge_pages in [false, true] {
            let options = ArenaOptions { huge_pages, node: Some(node), ..ArenaOptions::new(10_000) };
            let arena = Arena::with(options).unwrap();
            let Some(policy) = policy_of(arena.segment()) else {
                println!("not checked: no /proc/self/numa_maps");
                return;
            };
            match arena.node() {
                Some(asked) => assert_eq!((asked, policy), (node, format!("prefer:{}", node.0))),
                None => println!("not checked: mbind is not allowed here"),
            }
        }
        assert_eq!(policy_of(Arena::new(10_000, false).unwrap().segment()).as_deref(), Some("default"));
    }

    #[test]
    fn a_node_that_is_not_there_is_no_error_and_not_claimed() {
        for number in [1023, 1024, u32::MAX] {
            let arena = Arena::with(ArenaOptions { node: Some(NumaNode(number)), ..ArenaOptions::new(1) }).unwrap();
            assert_eq!(arena.node(), None);
        }
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
