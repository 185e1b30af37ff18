//! Shared memory: making it, and taking over what a peer hands over.
//!
//! Owns one mapping. Made and dropped by the provider's worker thread, since mapping and unmapping are slow; read and written by polling CPUs.
//!
//! **Why a peer cannot fault us** (tried on Linux 6.18): a memfd that is sealed against shrinking and growing can still have holes punched into it, on
//! ordinary and huge pages, and the next touch can end in SIGBUS. `F_SEAL_FUTURE_WRITE` refuses hole punching, `MADV_REMOVE` and new writable mappings, and leaves existing ones
//! writable. So [`Mapping::take_over`], in this order: kind, size, no holes; map it, unpopulated; add the seals *itself*; look again that every block is there; populate.
//! What is there after the seals stays there. Populating earlier would fill holes that were torn meanwhile, with our memory, and hide them.
//!
//! Invariants, cited by the `SAFETY` notes:
//! 1. `base … base + len` is a live shared mapping until drop.
//! 2. It may be written by another process at any time: accessed through atomics and [`reactor::copy_bytes`] only, never behind a reference to plain data.
//! 3. Offsets are checked against `len` before a pointer is made.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use reactor::PageKind;

use super::sigbus;

const HUGE_PAGE_LEN: usize = 2 << 20;
const ORDINARY_PAGE_LEN: usize = 4 << 10;
const TMPFS_MAGIC: i64 = 0x0102_1994;
const HUGETLBFS_MAGIC: i64 = 0x9584_58F6;

/// Why what a peer handed over is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandOverError {
    #[error("it is no memfd (memory from a file or a device cannot be sealed)")]
    NotMemfd,
    #[error("it is {actual} bytes long, {announced} were announced")]
    Size { announced: u64, actual: u64 },
    #[error("its pages are not of a known size")]
    Pages,
    #[error("it has holes: {present} of {len} bytes are there")]
    Holes { present: u64, len: u64 },
    #[error(
        "it is sealed against new writable mappings: it was offered to another process before, and an arena can be offered to one peer process only"
    )]
    OfferedBefore,
    #[error("this process shares memory with too many peers")]
    TooMany,
    #[error("{call} failed: {source}")]
    System { call: &'static str, source: io::Error },
}

fn system(call: &'static str) -> HandOverError {
    HandOverError::System { call, source: io::Error::last_os_error() }
}

/// One shared mapping.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// Where a peer may have a hand in it.
    guard: Option<sigbus::Guard>,
}

// SAFETY: invariant 2: every access is atomic or by `copy_bytes`, from any thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// New zeroed memory on ordinary pages, and the descriptor to hand over. `len` is rounded up to whole pages.
    pub(super) fn create(name: &str, len: usize) -> io::Result<(Self, OwnedFd)> {
        let len = len.next_multiple_of(ORDINARY_PAGE_LEN);
        let name = CString::new(name).map_err(io::Error::other)?;
        // SAFETY: a NUL-terminated name.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let descriptor = unsafe { OwnedFd::from_raw_fd(fd) };
        let signed = libc::off_t::try_from(len).map_err(io::Error::other)?;
        // Allocated, not only sized: whoever takes it over refuses holes, and a machine without memory says so here.
        // SAFETY: plain system call.
        if unsafe { libc::posix_fallocate(fd, 0, signed) } != 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        // A peer that has the descriptor must not be able to cut it off under us. (FUTURE_WRITE is the taker's to add: it has to map it yet.)
        seal(&descriptor, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW)?;
        let base = map(&descriptor, len, true, libc::MAP_POPULATE)?;
        Ok((Self { base, len, guard: enter(base, len, PageKind::Ordinary)? }, descriptor))
    }

    /// Takes over what a peer handed over as `len` bytes, checked and sealed. Slow.
    pub(super) fn take_over(descriptor: &OwnedFd, len: u64, writable: bool) -> Result<Self, HandOverError> {
        Self::take_over_while(descriptor, len, writable, || ())
    }

    /// [`Self::take_over`]; `meanwhile` is what the peer does after the first look and before the seals.
    pub(super) fn take_over_while(
        descriptor: &OwnedFd,
        len: u64,
        writable: bool,
        meanwhile: impl FnOnce(),
    ) -> Result<Self, HandOverError> {
        let fd = descriptor.as_raw_fd();
        // SAFETY: plain system call.
        let seals = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
        if seals < 0 {
            return Err(HandOverError::NotMemfd);
        }
        let pages = page_kind(fd)?;
        let page_len = page_len(pages);
        let stat = status(fd)?;
        let actual = u64::try_from(stat.st_size).unwrap_or(0);
        let map_len = usize::try_from(len).map_err(|_| HandOverError::Size { announced: len, actual })?;
        if actual != len || map_len == 0 || !map_len.is_multiple_of(page_len) {
            return Err(HandOverError::Size { announced: len, actual });
        }
        if writable && seals & (libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_WRITE) != 0 {
            return Err(HandOverError::OfferedBefore);
        }
        // Before mapping too: what is plainly sparse costs nothing.
        check_blocks(fd, len)?;
        meanwhile();
        let base =
            map(descriptor, map_len, writable, 0).map_err(|source| HandOverError::System { call: "mmap", source })?;
        let guard = sigbus::enter(base.as_ptr() as usize, map_len, page_len);
        // From here on its drop unmaps.
        let mapping = Self { base, len: map_len, guard };
        if mapping.guard.is_none() {
            return Err(HandOverError::TooMany);
        }
        let wanted = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE;
        // SAFETY: plain system call.
        if unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, wanted) } < 0 {
            // EPERM: sealed against sealing, with other seals than ours.
            // SAFETY: plain system call.
            if unsafe { libc::fcntl(fd, libc::F_GET_SEALS) } & wanted != wanted {
                return Err(system("fcntl(F_ADD_SEALS)"));
            }
        }
        let stat = status(fd)?;
        if u64::try_from(stat.st_size).unwrap_or(0) != len {
            return Err(HandOverError::Size { announced: len, actual: u64::try_from(stat.st_size).unwrap_or(0) });
        }
        check_blocks(fd, len)?;
        mapping.populate(writable, page_len)?;
        Ok(mapping)
    }

    /// Enters all pages, so that no polling CPU faults. They are there: nothing is allocated but page tables.
    fn populate(&self, writable: bool, page_len: usize) -> Result<(), HandOverError> {
        let advice = if writable { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
        loop {
            // SAFETY: invariant 1; populating changes no content.
            if unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, advice) } == 0 {
                return Ok(());
            }
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN) => {}
                // Before Linux 5.14. A fault on the way is covered by the guard.
                Some(libc::EINVAL) => break,
                _ => return Err(system("madvise(MADV_POPULATE)")),
            }
        }
        for offset in (0..self.len).step_by(page_len) {
            std::hint::black_box(self.word(offset).load(Ordering::Relaxed));
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether a fault in it was covered.
    #[inline]
    pub(super) fn is_faulted(&self) -> bool {
        self.guard.as_ref().is_some_and(sigbus::Guard::is_faulted)
    }

    /// A word of it. Panics outside or unaligned: offsets are ours.
    #[inline]
    pub(super) fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4) && offset < self.len && self.len - offset >= 4,
            "word at {offset} of {}",
            self.len
        );
        // SAFETY: invariant 3, just asserted.
        let word = unsafe { self.base.as_ptr().add(offset) }.cast::<u32>();
        // SAFETY: invariants 1 and 2; aligned, since the base is a page's.
        unsafe { AtomicU32::from_ptr(word) }
    }

    /// `COUNT` words of it, one check for all. Panics as [`Self::word`] does.
    #[inline]
    pub(super) fn words<const COUNT: usize>(&self, offset: usize) -> &[AtomicU32; COUNT] {
        assert!(
            offset.is_multiple_of(4) && offset < self.len && self.len - offset >= 4 * COUNT,
            "{COUNT} words at {offset} of {}",
            self.len
        );
        // SAFETY: invariant 3, just asserted.
        let words = unsafe { self.base.as_ptr().add(offset) }.cast::<[AtomicU32; COUNT]>();
        // SAFETY: invariants 1 and 2; aligned, since the base is a page's; an `AtomicU32` is laid out as the word that it is.
        unsafe { &*words }
    }

    /// Two words of it.
    #[inline]
    pub(super) fn double_word(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset.is_multiple_of(8) && offset < self.len && self.len - offset >= 8,
            "words at {offset} of {}",
            self.len
        );
        // SAFETY: invariant 3, just asserted.
        let word = unsafe { self.base.as_ptr().add(offset) }.cast::<u64>();
        // SAFETY: invariants 1 and 2; aligned, since the base is a page's.
        unsafe { AtomicU64::from_ptr(word) }
    }

    /// Copies `len` bytes from private memory into it. Panics outside.
    ///
    /// # Safety
    /// `from` is readable for `len` bytes.
    #[inline]
    pub(super) unsafe fn copy_in(&self, offset: usize, from: *const u8, len: usize) {
        assert!(offset <= self.len && len <= self.len - offset, "{offset}+{len} of {}", self.len);
        // SAFETY: invariant 3, just asserted.
        let to = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: invariants 1 and 2; the caller's promise.
        unsafe { reactor::copy_bytes(to, from, len) };
    }

    /// Copies `len` bytes out of it into private memory. Panics outside.
    ///
    /// # Safety
    /// `to` is writable for `len` bytes.
    #[inline]
    pub(super) unsafe fn copy_out(&self, offset: usize, to: *mut u8, len: usize) {
        assert!(offset <= self.len && len <= self.len - offset, "{offset}+{len} of {}", self.len);
        // SAFETY: invariant 3, just asserted.
        let from = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: invariants 1 and 2; the caller's promise.
        unsafe { reactor::copy_bytes(to, from, len) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Out of the handler's table first: after the unmapping the addresses may be anybody's.
        self.guard = None;
        // SAFETY: invariant 1; nobody can use it any more, since it is dropped.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Adds seals to a memfd.
pub(super) fn seal(descriptor: &impl AsRawFd, seals: libc::c_int) -> io::Result<()> {
    // SAFETY: plain system call.
    if unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn enter(base: NonNull<u8>, len: usize, pages: PageKind) -> io::Result<Option<sigbus::Guard>> {
    match sigbus::enter(base.as_ptr() as usize, len, page_len(pages)) {
        Some(guard) => Ok(Some(guard)),
        None => {
            // SAFETY: just mapped, and nobody else knows it.
            unsafe { libc::munmap(base.as_ptr().cast(), len) };
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        }
    }
}

fn map(descriptor: &OwnedFd, len: usize, writable: bool, flags: libc::c_int) -> io::Result<NonNull<u8>> {
    let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
    // SAFETY: a new mapping wherever the kernel likes.
    let base = unsafe {
        libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED | flags, descriptor.as_raw_fd(), 0)
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

/// Bytes of a page.
pub(super) fn page_len(pages: PageKind) -> usize {
    match pages {
        PageKind::Huge => HUGE_PAGE_LEN,
        PageKind::Ordinary => ORDINARY_PAGE_LEN,
    }
}

fn page_kind(fd: i32) -> Result<PageKind, HandOverError> {
    // SAFETY: all zeroes is a valid statfs.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer is ours.
    if unsafe { libc::fstatfs(fd, &raw mut stat) } != 0 {
        return Err(system("fstatfs"));
    }
    match (stat.f_type, usize::try_from(stat.f_bsize)) {
        (TMPFS_MAGIC, _) => Ok(PageKind::Ordinary),
        (HUGETLBFS_MAGIC, Ok(HUGE_PAGE_LEN)) => Ok(PageKind::Huge),
        _ => Err(HandOverError::Pages),
    }
}

fn status(fd: i32) -> Result<libc::stat, HandOverError> {
    // SAFETY: all zeroes is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer is ours.
    if unsafe { libc::fstat(fd, &raw mut stat) } != 0 {
        return Err(system("fstat"));
    }
    Ok(stat)
}

fn check_blocks(fd: i32, len: u64) -> Result<(), HandOverError> {
    let present = u64::try_from(status(fd)?.st_blocks).unwrap_or(0).saturating_mul(512);
    if present < len { Err(HandOverError::Holes { present, len }) } else { Ok(()) }
}
