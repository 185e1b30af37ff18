//! System calls for memory, and the numbering of arenas.
//!
//! Only the control plane and set-up call these: they are slow.
//!
//! Invariants:
//! 1. A mapping made here is `len` bytes, writable, and nothing else in the process refers to it when it is returned.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{MemoryError, PageKind, RegionId};

/// The call that the hugepage allocator makes.
pub(super) const MMAP_HUGE: &str = "mmap(MAP_HUGETLB)";

static NEXT_REGION: AtomicU32 = AtomicU32::new(0);

/// The next arena's name.
pub(super) fn next_region() -> RegionId {
    // ORDERING 9.
    let number = NEXT_REGION.fetch_add(1, Ordering::Relaxed);
    assert!(number != u32::MAX, "more than 2^32 - 1 arenas in one process");
    RegionId(number)
}

/// `len` rounded up to whole pages, at least one.
pub(super) fn whole_pages(len: usize, pages: PageKind) -> Result<usize, MemoryError> {
    let machine_len = machine_len();
    match len.max(1).checked_next_multiple_of(pages.page_len()) {
        Some(rounded) if rounded <= machine_len => Ok(rounded),
        Some(_) | None => Err(MemoryError::TooLong { len, machine_len }),
    }
}

/// Bytes of memory that the machine has.
fn machine_len() -> usize {
    // SAFETY: asks for a number.
    let page_count = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    let page_count = usize::try_from(page_count).unwrap_or(0);
    page_count.saturating_mul(PageKind::Ordinary.page_len()).min(isize::MAX.unsigned_abs())
}

/// Anonymous private memory on ordinary pages.
pub(super) fn map_private(len: usize) -> Result<*mut u8, MemoryError> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let address = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    mapped(address, len)
}

/// A descriptor's memory, shared; populated at once where it is there already.
pub(super) fn map_shared(descriptor: BorrowedFd<'_>, len: usize, populated: bool) -> Result<*mut u8, MemoryError> {
    let flags = libc::MAP_SHARED | if populated { libc::MAP_POPULATE } else { 0 };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: as in `map_private`; the descriptor is open.
    let address = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, descriptor.as_raw_fd(), 0) };
    mapped(address, len)
}

fn mapped(address: *mut libc::c_void, len: usize) -> Result<*mut u8, MemoryError> {
    if address == libc::MAP_FAILED { Err(failed("mmap", len)) } else { Ok(address.cast()) }
}

/// Unmaps what was mapped here.
///
/// # Safety
/// `address` and `len` are of one mapping that nothing uses any more.
pub(super) unsafe fn unmap(address: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::munmap(address.cast(), len) };
    assert!(result == 0, "munmap of {len} bytes: {}", io::Error::last_os_error());
}

/// Gives the memory of every page back, and keeps the mapping.
///
/// # Safety
/// `len` bytes from `address` are a private mapping whose contents may become zeroes at any moment.
pub(super) unsafe fn discard(address: *mut u8, len: usize) -> Result<(), MemoryError> {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::madvise(address.cast(), len, libc::MADV_DONTNEED) };
    if result == 0 { Ok(()) } else { Err(failed("madvise(MADV_DONTNEED)", len)) }
}

/// Gives every page its memory now, so that running out is an error here and not a signal later.
///
/// # Safety
/// `len` bytes from `address` are a writable mapping that nothing else uses yet.
pub(super) unsafe fn populate(address: *mut u8, len: usize, pages: PageKind) -> Result<(), MemoryError> {
    // SAFETY: the caller's promise.
    let populated = unsafe { populate_at_once(address, len, pages) };
    populated.or_else(|error| {
        if !error.is_unknown_call() {
            return Err(error);
        }
        // SAFETY: the caller's promise.
        unsafe { touch(address, len, pages) };
        Ok(())
    })
}

/// The same, and an error where the kernel is too old (before 5.14) to be asked: see [`MemoryError::is_unknown_call`].
///
/// # Safety
/// As [`populate`].
pub(super) unsafe fn populate_at_once(address: *mut u8, len: usize, pages: PageKind) -> Result<(), MemoryError> {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::madvise(address.cast(), len, libc::MADV_POPULATE_WRITE) };
    if result == 0 {
        return Ok(());
    }
    let call = "madvise(MADV_POPULATE_WRITE)";
    let source = io::Error::last_os_error();
    // The kernel's word for a touch that would be SIGBUS; and the pool has promised the pages.
    if pages == PageKind::Huge && source.raw_os_error() == Some(libc::EFAULT) {
        let why = "a control group allows fewer hugepages than the machine has (hugetlb.2MB.max)";
        return Err(MemoryError::System { call, len, source: io::Error::new(io::ErrorKind::QuotaExceeded, why) });
    }
    Err(MemoryError::System { call, len, source })
}

/// Touches every page. One that cannot be had is a signal.
///
/// # Safety
/// As [`populate`].
pub(super) unsafe fn touch(address: *mut u8, len: usize, pages: PageKind) {
    for offset in (0..len).step_by(pages.page_len()) {
        // SAFETY: inside the mapping.
        let page = unsafe { address.add(offset) };
        // SAFETY: writable, and not used by anybody else.
        unsafe { page.write_volatile(0) };
    }
}

/// Keeps the mapping out of forked children, whose copy-on-write would move pages away from under a device.
///
/// # Safety
/// `address` and `len` are of one mapping.
pub(super) unsafe fn keep_from_children(address: *mut u8, len: usize) -> Result<(), MemoryError> {
    // SAFETY: the caller's promise; the advice changes nothing for this process.
    let result = unsafe { libc::madvise(address.cast(), len, libc::MADV_DONTFORK) };
    if result == 0 { Ok(()) } else { Err(failed("madvise(MADV_DONTFORK)", len)) }
}

/// Whether the default hugepage is 2 MiB. Asked first because the allocator panics where `/proc/meminfo` does not name a
/// size, and because [`PageKind::Huge`] means 2 MiB.
pub(super) fn check_huge_pages(len: usize) -> Result<(), MemoryError> {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let is_2_mib = text.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("Hugepagesize:") && words.next() == Some("2048") && words.next() == Some("kB")
    });
    if is_2_mib {
        return Ok(());
    }
    let why = "the kernel's default hugepage (Hugepagesize in /proc/meminfo) is not one of 2 MiB";
    Err(MemoryError::System { call: MMAP_HUGE, len, source: io::Error::new(io::ErrorKind::Unsupported, why) })
}

/// errno of `call`.
pub(super) fn failed(call: &'static str, len: usize) -> MemoryError {
    MemoryError::System { call, len, source: io::Error::last_os_error() }
}
