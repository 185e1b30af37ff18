//! Memory that a device or a peer may write: never behind a Rust reference.

use std::os::fd::{BorrowedFd, OwnedFd};

/// Which pages back an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// 2 MiB hugepages.
    Huge,
    /// 4 KiB pages.
    Ordinary,
}

/// Names one arena for the life of the process. Numbers are given in order of creation and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u32);

/// The machine could not give the memory.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A system call failed.
    #[error("{call} of {len} bytes failed: {source}")]
    System {
        /// Which call.
        call: &'static str,
        /// For how many bytes.
        len: usize,
        /// errno.
        source: std::io::Error,
    },
}

/// A piece of an arena, as a device sees it: plain data. Only arenas and buffers make one, so its address is always inside a
/// live mapping: arenas are unmapped only by [`Arena::release`], whose caller answers for all segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    address: usize,
    len: usize,
    region: RegionId,
}

impl Segment {
    /// First byte.
    #[must_use]
    pub fn as_ptr(self) -> *mut u8 {
        self.address as *mut u8
    }

    /// The address as a number.
    #[must_use]
    pub fn address(self) -> u64 {
        self.address as u64
    }

    /// Bytes.
    #[must_use]
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The arena that it is a piece of.
    #[must_use]
    pub fn region(self) -> RegionId {
        self.region
    }

    /// A part of it. Panics if the part is not inside.
    #[must_use]
    pub fn part(self, offset: usize, len: usize) -> Self {
        assert!(
            offset <= self.len && len <= self.len - offset,
            "part {offset}+{len} of a segment of {} bytes",
            self.len
        );
        Self { address: self.address + offset, len, region: self.region }
    }

    /// Copies `bytes` to `offset`. Panics if they do not fit.
    pub fn write(self, offset: usize, bytes: &[u8]) {
        let _ = (offset, bytes);
        todo!()
    }

    /// Copies from `offset` into `bytes`. Panics if the segment is too short.
    pub fn read(self, offset: usize, bytes: &mut [u8]) {
        let _ = (offset, bytes);
        todo!()
    }

    /// Writes zeroes over all of it.
    pub fn zero(self) {
        todo!()
    }

    /// Copies all of it into `to`, which is at least as long.
    pub fn copy_to(self, to: Segment) {
        let _ = to;
        todo!()
    }
}

/// Private, touched memory, on hugepages where there are enough. Dropping an arena leaks its mapping (segments may be out); see
/// [`Self::release`].
pub struct Arena {
    _todo: (),
}

impl Arena {
    /// `len` bytes, rounded up to whole pages and zeroed. Tries hugepages first if `huge`, then ordinary pages.
    ///
    /// # Errors
    /// If the machine has not that much memory.
    pub fn new(len: usize, huge: bool) -> Result<Self, MemoryError> {
        let _ = (len, huge);
        todo!()
    }

    /// All of it.
    #[must_use]
    pub fn segment(&self) -> Segment {
        todo!()
    }

    /// What it got.
    #[must_use]
    pub fn pages(&self) -> PageKind {
        todo!()
    }

    /// Unmaps it.
    ///
    /// # Safety
    /// No segment of this arena is used any more, by this process or a device.
    pub unsafe fn release(self) {
        todo!()
    }
}

/// Memory in a memfd (hugepages where there are enough), which another process may map. Touched and not sealed: the fabric that hands it over seals it.
pub struct SharedArena {
    _todo: (),
}

impl SharedArena {
    /// As [`Arena::new`].
    ///
    /// # Errors
    /// If the machine has not that much memory, or no memfd.
    pub fn new(name: &str, len: usize, huge: bool) -> Result<Self, MemoryError> {
        let _ = (name, len, huge);
        todo!()
    }

    /// Maps a descriptor that another process handed over, populated, for reading and writing. Checks nothing: the fabric does.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn map(descriptor: OwnedFd, len: usize, pages: PageKind) -> Result<Self, MemoryError> {
        let _ = (descriptor, len, pages);
        todo!()
    }

    /// All of it.
    #[must_use]
    pub fn segment(&self) -> Segment {
        todo!()
    }

    /// The memfd.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// What it got.
    #[must_use]
    pub fn pages(&self) -> PageKind {
        todo!()
    }

    /// Unmaps it.
    ///
    /// # Safety
    /// As [`Arena::release`].
    pub unsafe fn release(self) {
        todo!()
    }
}
