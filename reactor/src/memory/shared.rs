//! Memory that another process may map.
//!
//! Invariants:
//! 1. `address` and `len` are one live shared mapping of `descriptor`, unmapped only by `SharedArena::release`, which consumes
//!    the arena.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{MemoryError, PageKind, RegionId, Segment, mapping};

/// Memory in a memfd (hugepages where there are enough), which another process may map. Touched and not sealed: the fabric that hands it over seals it.
/// Dropping one leaks its mapping, as with [`crate::Arena`]; see [`Self::release`].
#[derive(Debug)]
pub struct SharedArena {
    address: usize,
    len: usize,
    region: RegionId,
    pages: PageKind,
    descriptor: OwnedFd,
}

impl SharedArena {
    /// As [`crate::Arena::new`]. `name` shows in `/proc`; a NUL in it ends it.
    ///
    /// # Errors
    /// If the machine has not that much memory, or no memfd.
    pub fn new(name: &str, len: usize, huge: bool) -> Result<Self, MemoryError> {
        // No hugepages, or not enough of them, shows as an error of any of the calls: then ordinary pages decide.
        if huge && let Ok(arena) = Self::on_pages(name, len, PageKind::Huge) {
            return Ok(arena);
        }
        Self::on_pages(name, len, PageKind::Ordinary)
    }

    fn on_pages(name: &str, len: usize, pages: PageKind) -> Result<Self, MemoryError> {
        let len = mapping::whole_pages(len, pages)?;
        let descriptor = create(name, len, pages)?;
        allocate(descriptor.as_fd(), len)?;
        Self::map(descriptor, len, pages)
    }

    /// Maps a descriptor that another process handed over, populated, for reading and writing. Checks nothing: the fabric does.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn map(descriptor: OwnedFd, len: usize, pages: PageKind) -> Result<Self, MemoryError> {
        let address = mapping::map_shared(descriptor.as_fd(), len)?;
        let region = mapping::next_region();
        let arena = Self { address: address.expose_provenance(), len, region, pages, descriptor };
        // SAFETY: the mapping that was made just now.
        match unsafe { mapping::keep_from_children(address, len) } {
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

/// Gives the file its length and its memory: an exhausted pool is an error here instead of a signal at the first touch.
fn allocate(descriptor: BorrowedFd<'_>, len: usize) -> Result<(), MemoryError> {
    // Never saturates: no machine's memory has that many bytes.
    let length = libc::off_t::try_from(len).unwrap_or(libc::off_t::MAX);
    // SAFETY: the descriptor is open.
    if unsafe { libc::ftruncate(descriptor.as_raw_fd(), length) } != 0 {
        return Err(mapping::failed("ftruncate", len));
    }
    loop {
        // SAFETY: the descriptor is open.
        if unsafe { libc::fallocate(descriptor.as_raw_fd(), 0, 0, length) } == 0 {
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
    fn more_than_the_machine_has_is_refused_before_it_is_touched() {
        let error = SharedArena::new("much", 1 << 60, true).unwrap_err();
        assert!(matches!(error, MemoryError::TooLong { len, .. } if len == 1 << 60), "{error}");
    }
}
