//! Memory that a hostile peer hands over: what is refused, and that what is taken over stays.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::soft::shared::mapping::{HandOverError, Mapping, seal};
use crate::soft::shared::sigbus;

const PAGE: usize = 4096;
const HUGE: usize = 2 << 20;

fn memfd(huge: bool, len: usize) -> OwnedFd {
    let name = CString::new("hostile").unwrap();
    let flags =
        libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | if huge { libc::MFD_HUGETLB | libc::MFD_HUGE_2MB } else { 0 };
    // SAFETY: plain system call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: a new descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    truncate(&fd, len).unwrap();
    fd
}

fn truncate(fd: &OwnedFd, len: usize) -> io::Result<()> {
    // SAFETY: plain system call.
    result(unsafe { libc::ftruncate(fd.as_raw_fd(), i64::try_from(len).unwrap()) })
}

fn fill(fd: &OwnedFd, offset: usize, len: usize) -> io::Result<()> {
    allocate(fd, 0, offset, len)
}

fn punch(fd: &OwnedFd, offset: usize, len: usize) -> io::Result<()> {
    allocate(fd, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, len)
}

fn allocate(fd: &OwnedFd, mode: i32, offset: usize, len: usize) -> io::Result<()> {
    let (offset, len) = (i64::try_from(offset).unwrap(), i64::try_from(len).unwrap());
    // SAFETY: plain system call.
    result(unsafe { libc::fallocate(fd.as_raw_fd(), mode, offset, len) })
}

/// The peer's own mapping, which it had before.
fn map(fd: &OwnedFd, len: usize) -> io::Result<*mut libc::c_void> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
    if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(base) }
}

fn result(code: i32) -> io::Result<()> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn take(fd: &OwnedFd, len: usize) -> Result<Mapping, HandOverError> {
    Mapping::take_over(fd, len as u64, true)
}

/// Hugepages for one test, given back with it. `None`, said aloud, where there are none to be had.
struct HugePages {
    before: Option<String>,
    _alone: MutexGuard<'static, ()>,
}

/// The pool is the machine's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const POOL: &str = "/proc/sys/vm/nr_hugepages";

impl HugePages {
    fn reserve(count: u64) -> Option<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let free = || {
            let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with("HugePages_Free"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        if free().is_some_and(|free| free >= count) {
            return Some(Self { before: None, _alone: alone });
        }
        let before = fs::read_to_string(POOL).ok()?;
        let wanted = before.trim().parse::<u64>().ok()? + count;
        let _ = fs::write(POOL, wanted.to_string());
        let pages = Self { before: Some(before), _alone: alone };
        if free().is_some_and(|free| free >= count) {
            return Some(pages);
        }
        eprintln!("hugepage cases did not run: {POOL} is 0 and cannot be raised");
        None
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = fs::write(POOL, before.trim());
        }
    }
}

/// Both page kinds, as page length.
fn page_kinds(case: impl Fn(bool, usize)) {
    case(false, PAGE);
    if let Some(_pages) = HugePages::reserve(8) {
        case(true, HUGE);
    }
}

#[test]
fn what_is_taken_over_stays() {
    page_kinds(|huge, page| {
        let len = 4 * page;
        let fd = memfd(huge, len);
        fill(&fd, 0, len).unwrap();
        let theirs = map(&fd, len).unwrap();
        let ours = take(&fd, len).unwrap();
        assert!(punch(&fd, 0, page).is_err(), "a hole");
        assert!(punch(&fd, page, page).is_err(), "a hole in the middle");
        assert!(truncate(&fd, page).is_err(), "shorter");
        assert!(truncate(&fd, len + page).is_err(), "longer");
        // SAFETY: our mapping of the memfd.
        let removed = unsafe { libc::madvise(theirs, page, libc::MADV_REMOVE) };
        assert_ne!(removed, 0, "MADV_REMOVE");
        assert!(map(&fd, len).is_err(), "another writable mapping");
        assert!(matches!(take(&fd, len), Err(HandOverError::OfferedBefore)));
        // The mapping that they had still works, and ours reads what they write.
        // SAFETY: a mapped, aligned word.
        unsafe { theirs.cast::<u32>().write_volatile(0x1234) };
        assert_eq!(ours.word(0).load(Ordering::Acquire), 0x1234);
        for offset in (0..len).step_by(PAGE) {
            ours.word(offset).store(1, Ordering::Relaxed);
        }
        assert!(!ours.is_faulted());
        // SAFETY: nobody uses it any more.
        unsafe { libc::munmap(theirs, len) };
    });
}

#[test]
fn holes_are_refused() {
    page_kinds(|huge, page| {
        let len = 4 * page;
        let sparse = memfd(huge, len);
        assert!(matches!(take(&sparse, len), Err(HandOverError::Holes { present: 0, .. })));
        let punched = memfd(huge, len);
        fill(&punched, 0, len).unwrap();
        punch(&punched, page, page).unwrap();
        match take(&punched, len) {
            Err(HandOverError::Holes { present, .. }) => assert_eq!(present, 3 * page as u64),
            other => panic!("{other:?}"),
        }
    });
}

/// Torn after the first look: found by the second, and not filled by us.
#[test]
fn holes_torn_meanwhile_are_refused() {
    page_kinds(|huge, page| {
        let len = 4 * page;
        for writable in [true, false] {
            let fd = memfd(huge, len);
            fill(&fd, 0, len).unwrap();
            let tear = || punch(&fd, page, 2 * page).unwrap();
            match Mapping::take_over_while(&fd, len as u64, writable, tear) {
                Err(HandOverError::Holes { present, .. }) => assert_eq!(present, 2 * page as u64),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn sizes_that_are_not_true_are_refused() {
    let fd = memfd(false, 2 * PAGE);
    fill(&fd, 0, 2 * PAGE).unwrap();
    for len in [0, 1, PAGE, 2 * PAGE - 1, 3 * PAGE, usize::MAX] {
        assert!(matches!(take(&fd, len), Err(HandOverError::Size { .. })), "{len}");
    }
    let odd = memfd(false, PAGE + 1);
    assert!(matches!(take(&odd, PAGE + 1), Err(HandOverError::Size { .. })));
}

#[test]
fn what_is_no_memfd_is_refused() {
    let path = std::env::temp_dir().join(format!("quiesce-no-memfd-{}", std::process::id()));
    fs::write(&path, vec![0; PAGE]).unwrap();
    let file = OwnedFd::from(fs::OpenOptions::new().read(true).write(true).open(&path).unwrap());
    let refused = take(&file, PAGE);
    assert!(
        matches!(refused, Err(HandOverError::NotMemfd | HandOverError::Pages | HandOverError::System { .. })),
        "{refused:?}"
    );
    fs::remove_file(&path).unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    assert!(matches!(take(&OwnedFd::from(reader), PAGE), Err(HandOverError::NotMemfd)));
    let null = OwnedFd::from(fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap());
    assert!(take(&null, PAGE).is_err());
}

#[test]
fn what_cannot_be_sealed_is_refused() {
    let fd = memfd(false, PAGE);
    fill(&fd, 0, PAGE).unwrap();
    seal(&fd, libc::F_SEAL_SEAL).unwrap();
    assert!(matches!(take(&fd, PAGE), Err(HandOverError::System { call: "fcntl(F_ADD_SEALS)", .. })));
    let read_only = memfd(false, PAGE);
    fill(&read_only, 0, PAGE).unwrap();
    seal(&read_only, libc::F_SEAL_WRITE).unwrap();
    assert!(take(&read_only, PAGE).is_err());
}

/// More hugepages than there are: the peer sized the memfd, and cannot have filled it.
#[test]
fn an_exhausted_pool_is_refused_and_does_not_fault() {
    let Some(_pages) = HugePages::reserve(2) else { return };
    let len = 4096 * HUGE;
    let fd = memfd(true, len);
    let _ = fill(&fd, 0, HUGE);
    let refused = take(&fd, len);
    assert!(matches!(refused, Err(HandOverError::Holes { .. } | HandOverError::System { .. })), "{refused:?}");
}

/// What seals make impossible, made on purpose: the backstop covers it, marks the region, and leaves others alone.
#[test]
fn a_fault_in_a_peers_region_is_covered() {
    page_kinds(|huge, page| {
        let (fd, other) = (memfd(huge, 2 * page), memfd(huge, 2 * page));
        fill(&fd, 0, 2 * page).unwrap();
        fill(&other, 0, 2 * page).unwrap();
        let (base, other_base) = (map(&fd, 2 * page).unwrap(), map(&other, 2 * page).unwrap());
        let guard = sigbus::enter(base as usize, 2 * page, page).unwrap();
        let other_guard = sigbus::enter(other_base as usize, 2 * page, page).unwrap();
        truncate(&fd, page).unwrap();
        // SAFETY: mapped; the page behind it is gone, which the handler covers.
        let second = unsafe { base.cast::<u8>().add(page + 8) };
        // SAFETY: as above.
        let read = unsafe { second.read_volatile() };
        assert_eq!(read, 0);
        // SAFETY: covered by an anonymous page now.
        unsafe { second.write_volatile(1) };
        assert!(guard.is_faulted());
        assert!(!other_guard.is_faulted());
        drop((guard, other_guard));
        // SAFETY: nobody uses them any more.
        unsafe { libc::munmap(base, 2 * page) };
        // SAFETY: as above.
        unsafe { libc::munmap(other_base, 2 * page) };
    });
}
