//! The backstop against faults in memory that a peer handed over.
//!
//! [`super::mapping`] makes such faults impossible as far as seals can; what is left (a memory failure, a kernel that does not know the seal) would end the
//! process. So every mapping of a peer's memory is entered here, and a SIGBUS handler puts an anonymous page over a fault inside one and marks the
//! region; the wire looks at the mark after each copy, and the peer is ended. A fault anywhere else goes to whoever handled SIGBUS before.
//!
//! Owned by the process. [`enter`] and the guard's drop are for the worker and the control plane; the handler runs on any thread.
//!
//! Invariants, cited by the `SAFETY` notes:
//! 1. The handler uses atomics, `mmap` and `sigaction` alone: async-signal-safe.
//! 2. A region in the table is mapped, whole pages, and nothing but a peer's shared memory, until its guard is dropped; so a page put over part of it
//!    replaces nothing of this process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, OnceLock};

/// Most regions of peers at a time.
const REGION_COUNT_MAX: usize = 16 << 10;

struct Region {
    start: AtomicUsize,
    end: AtomicUsize,
    page_len: AtomicUsize,
    faulted: AtomicBool,
}

static REGIONS: [Region; REGION_COUNT_MAX] = [const {
    Region {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        page_len: AtomicUsize::new(0),
        faulted: AtomicBool::new(false),
    }
}; REGION_COUNT_MAX];

/// One past the highest slot ever used: how far the handler looks.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Free slots below `USED`.
static FREE: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static INSTALL: Once = Once::new();
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// A region's place in the table.
#[derive(Debug)]
pub(super) struct Guard {
    slot: usize,
}

/// Enters a mapping. `None` if the table is full.
pub(super) fn enter(start: usize, len: usize, page_len: usize) -> Option<Guard> {
    INSTALL.call_once(install);
    let slot = {
        let mut free = FREE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match free.pop() {
            Some(slot) => slot,
            None => {
                let slot = USED.load(Ordering::Relaxed);
                if slot == REGION_COUNT_MAX {
                    return None;
                }
                USED.store(slot + 1, Ordering::Release);
                slot
            }
        }
    };
    let region = &REGIONS[slot];
    region.end.store(start + len, Ordering::Relaxed);
    region.page_len.store(page_len, Ordering::Relaxed);
    region.faulted.store(false, Ordering::Relaxed);
    region.start.store(start, Ordering::Release);
    Some(Guard { slot })
}

impl Guard {
    /// Whether a fault was covered: what is in the region is not what the peer wrote.
    #[inline]
    pub(super) fn is_faulted(&self) -> bool {
        REGIONS[self.slot].faulted.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        REGIONS[self.slot].start.store(0, Ordering::Release);
        FREE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(self.slot);
    }
}

fn install() {
    // SAFETY: all zeroes is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as usize;
    // On the alternate stack, as std's own handler; not deferred, so that a fault inside the handler kills instead of hanging.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: the set is ours.
    unsafe { libc::sigemptyset(&raw mut action.sa_mask) };
    // SAFETY: all zeroes is a valid sigaction.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // Read first and set after: the handler must know what was there when it runs for the first time.
    // SAFETY: only asks.
    unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut before) };
    let _ = BEFORE.set(before);
    // SAFETY: the handler keeps to invariant 1.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid siginfo to a SA_SIGINFO handler.
    let info_read = unsafe { &*info };
    // SAFETY: SIGBUS has an address.
    let address = unsafe { info_read.si_addr() } as usize;
    if cover(address) {
        return;
    }
    pass_on(signal, info, context);
}

/// Puts an anonymous page over the fault if it is inside a region.
fn cover(address: usize) -> bool {
    for region in &REGIONS[..USED.load(Ordering::Acquire)] {
        let start = region.start.load(Ordering::Acquire);
        let page_len = region.page_len.load(Ordering::Relaxed);
        if start == 0 || address < start || address >= region.end.load(Ordering::Relaxed) {
            continue;
        }
        let page = address / page_len * page_len;
        // SAFETY: invariant 2: the page is the region's.
        let covered = unsafe {
            libc::mmap(
                page as *mut libc::c_void,
                page_len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        region.faulted.store(true, Ordering::Relaxed);
        return covered != libc::MAP_FAILED;
    }
    false
}

/// To the handler that was there before; if there was none, the default action takes the fault when it happens again.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let before = BEFORE.get();
    match before {
        Some(before)
            if before.sa_flags & libc::SA_SIGINFO != 0
                && before.sa_sigaction != libc::SIG_DFL
                && before.sa_sigaction != libc::SIG_IGN =>
        {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: SA_SIGINFO says that it is such a function.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(before.sa_sigaction) };
            handler(signal, info, context);
        }
        _ => {
            // SAFETY: all zeroes is SIG_DFL without flags.
            let default: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: invariant 1.
            unsafe { libc::sigaction(signal, &raw const default, std::ptr::null_mut()) };
        }
    }
}
