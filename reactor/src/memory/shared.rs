//! Memory that another process may map.
//!
//! Invariants:
//! 1. `address` and `len` are one live shared mapping of `descriptor`, unmapped only by `SharedArena::release`, which consumes
//!    the arena.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::node::{self, NumaNode};
use super::{ArenaOptions, MemoryError, PageKind, RegionId, Segment, mapping};

/// Memory in a memfd (hugepages where there are enough), which another process may map. Touched and not sealed: the fabric that hands it over seals it.
/// Dropping one leaks its mapping, as with [`crate::Arena`]; see [`Self::release`].
#[derive(Debug)]
pub struct SharedArena {
    address: usize,
    len: usize,
    region: RegionId,
    pages: PageKind,
    node: Option<NumaNode>,
    why_ordinary: Option<MemoryError>,
    descriptor: OwnedFd,
}

impl SharedArena {
    /// As [`crate::Arena::with`]. `name` shows in `/proc`; a NUL in it ends it.
    ///
    /// # Errors
    /// If the machine has not that much memory, or no memfd.
    pub fn with(name: &str, options: ArenaOptions) -> Result<Self, MemoryError> {
        // No hugepages, or not enough of them, shows as an error of any of the calls: then ordinary pages decide.
        let why_ordinary = match options.huge_pages.then(|| Self::on_pages(name, options, PageKind::Huge)) {
            Some(Ok(arena)) => return Ok(arena),
            Some(Err(error)) => Some(error),
            None => None,
        };
        Ok(Self { why_ordinary, ..Self::on_pages(name, options, PageKind::Ordinary)? })
    }

    /// [`Self::with`] options of this length, on hugepages or not, and no preferred node.
    ///
    /// # Errors
    /// If the machine has not that much memory, or no memfd.
    pub fn new(name: &str, len: usize, huge_pages: bool) -> Result<Self, MemoryError> {
        Self::with(name, ArenaOptions { huge_pages, ..ArenaOptions::new(len) })
    }

    /// Its pages come by way of the mapping: a hugepage that `fallocate` brings does not follow a mapping's preferred node.
    fn on_pages(name: &str, options: ArenaOptions, pages: PageKind) -> Result<Self, MemoryError> {
        let len = mapping::whole_pages(options.len, pages)?;
        let descriptor = create(name, len, pages)?;
        set_len(descriptor.as_fd(), len)?;
        let address = mapping::map_shared(descriptor.as_fd(), len, false)?;
        // SAFETY: the mapping that was made just now; it has no pages yet.
        let node = options.node.filter(|node| unsafe { node::prefer(address, len, *node) });
        let arena = Self::of(address, len, pages, node, descriptor);
        // SAFETY: likewise, and nothing else uses it.
        let populated = match unsafe { mapping::populate_at_once(address, len, pages) } {
            Err(error) if error.is_unknown_call() => allocate(arena.descriptor(), len).map(|()| {
                // SAFETY: likewise.
                unsafe { mapping::touch(address, len, pages) };
            }),
            result => result,
        };
        arena.if_ready(populated)
    }

    /// Maps a descriptor that another process handed over, populated, for reading and writing. Checks nothing: the fabric does.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn map(descriptor: OwnedFd, len: usize, pages: PageKind) -> Result<Self, MemoryError> {
        let address = mapping::map_shared(descriptor.as_fd(), len, true)?;
        Self::of(address, len, pages, None, descriptor).if_ready(Ok(()))
    }

    fn of(address: *mut u8, len: usize, pages: PageKind, node: Option<NumaNode>, descriptor: OwnedFd) -> Self {
        let region = mapping::next_region();
        Self { address: address.expose_provenance(), len, region, pages, node, why_ordinary: None, descriptor }
    }

    /// Unmapped again if anything failed. No segment of it was given out.
    fn if_ready(self, populated: Result<(), MemoryError>) -> Result<Self, MemoryError> {
        let address = std::ptr::with_exposed_provenance_mut(self.address);
        // SAFETY: invariant 1.
        let ready = populated.and_then(|()| unsafe { mapping::keep_from_children(address, self.len) });
        match ready {
            Ok(()) => Ok(self),
            Err(error) => {
                // SAFETY: no segment of it was given out.
                unsafe { self.release() };
                Err(error)
            }
        }
    }

    /// All of it.
    #[must_use]
    pub fn segment(&self) -> Segment {
        Segment { address: self.address, len: self.len, region: self.region }
    }

    /// The memfd.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
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

    /// As [`crate::Arena::node`]; `None` also for memory that another process made.
    #[must_use]
    pub fn node(&self) -> Option<NumaNode> {
        self.node
    }

    /// Unmaps it.
    ///
    /// # Safety
    /// As [`crate::Arena::release`].
    pub unsafe fn release(self) {
        // SAFETY: invariant 1, and the caller's promise.
        unsafe { mapping::unmap(std::ptr::with_exposed_provenance_mut(self.address), self.len) }
    }
}

fn create(name: &str, len: usize, pages: PageKind) -> Result<OwnedFd, MemoryError> {
    let visible = name.split('\0').next().unwrap_or_default();
    let name = CString::new(visible).unwrap_or_default();
    let flags = libc::MFD_CLOEXEC
        | libc::MFD_ALLOW_SEALING
        | match pages {
            PageKind::Huge => libc::MFD_HUGETLB | libc::MFD_HUGE_2MB,
            PageKind::Ordinary => 0,
        };
    // SAFETY: the name is a C string that lives through the call.
    let number = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    if number < 0 {
        return Err(mapping::failed("memfd_create", len));
    }
    // SAFETY: a descriptor that was opened just now and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The file's length, which no machine's memory makes too large for the kernel's type.
fn file_len(len: usize) -> libc::off_t {
    libc::off_t::try_from(len).unwrap_or(libc::off_t::MAX)
}

fn set_len(descriptor: BorrowedFd<'_>, len: usize) -> Result<(), MemoryError> {
    // SAFETY: the descriptor is open.
    let result = unsafe { libc::ftruncate(descriptor.as_raw_fd(), file_len(len)) };
    if result == 0 { Ok(()) } else { Err(mapping::failed("ftruncate", len)) }
}

/// Gives the file its memory: an exhausted pool is an error here instead of a signal at the first touch.
fn allocate(descriptor: BorrowedFd<'_>, len: usize) -> Result<(), MemoryError> {
    loop {
        // SAFETY: the descriptor is open.
        if unsafe { libc::fallocate(descriptor.as_raw_fd(), 0, 0, file_len(len)) } == 0 {
            return Ok(());
        }
        let error = mapping::failed("fallocate", len);
        let MemoryError::System { source, .. } = &error else { return Err(error) };
        if source.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{policy_of, some_node};
    use super::*;

    #[test]
    fn two_mappings_of_one_memfd_see_each_other() {
        let ours = SharedArena::new("quiesce test", 10_000, true).unwrap();
        let descriptor = ours.descriptor().try_clone_to_owned().unwrap();
        let len = ours.segment().len();
        assert_eq!(len % ours.pages().page_len(), 0);
        let theirs = SharedArena::map(descriptor, len, ours.pages()).unwrap();
        assert_ne!(ours.segment().region(), theirs.segment().region());
        ours.segment().write(9_990, b"from here");
        let mut seen = [0; 9];
        theirs.segment().read(9_990, &mut seen);
        assert_eq!(&seen, b"from here");
        // SAFETY: neither segment is used below.
        unsafe { ours.release() };
        // SAFETY: likewise.
        unsafe { theirs.release() };
    }

    #[test]
    fn all_blocks_are_there_and_seals_may_be_added() {
        let arena = SharedArena::new("sealable", 1 << 20, false).unwrap();
        let descriptor = arena.descriptor().as_raw_fd();
        let file = std::fs::File::from(arena.descriptor().try_clone_to_owned().unwrap());
        let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
        assert!(blocks * 512 >= 1 << 20, "{blocks}");
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE;
        // SAFETY: the descriptor is open.
        assert_eq!(unsafe { libc::fcntl(descriptor, libc::F_ADD_SEALS, seals) }, 0);
    }

    #[test]
    fn a_kernel_that_cannot_populate_a_mapping_gives_the_blocks_all_the_same() {
        let descriptor = create("old kernel", 1 << 20, PageKind::Ordinary).unwrap();
        set_len(descriptor.as_fd(), 1 << 20).unwrap();
        allocate(descriptor.as_fd(), 1 << 20).unwrap();
        let file = std::fs::File::from(descriptor);
        assert!(std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512 >= 1 << 20);
    }

    #[test]
    fn the_kernel_is_told_which_node_is_preferred() {
        let Some(node) = some_node() else {
            println!("not checked: this kernel knows no NUMA nodes");
            return;
        };
        let options = ArenaOptions { huge_pages: true, node: Some(node), ..ArenaOptions::new(10_000) };
        let arena = SharedArena::with("near", options).unwrap();
        match (arena.node(), policy_of(arena.segment())) {
            (Some(asked), Some(policy)) => assert_eq!((asked, policy), (node, format!("prefer:{}", node.0))),
            (asked, policy) => println!("not checked: mbind or numa_maps is not to be had ({asked:?}, {policy:?})"),
        }
        assert_eq!(arena.why_ordinary().is_some(), arena.pages() == PageKind::Ordinary);
    }

    #[test]
    fn more_than_the_machine_has_is_refused_before_it_is_touched() {
        let error = SharedArena::new("much", 1 << 60, true).unwrap_err();
        assert!(matches!(error, MemoryError::TooLong { len, .. } if len == 1 << 60), "{error}");
    }
}
