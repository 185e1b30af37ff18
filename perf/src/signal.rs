//! Ctrl-C and SIGTERM: counted, nothing more; the main thread looks.
//!
//! Invariants:
//! 1. The handler does only what is async-signal-safe: one atomic addition, and `_exit` on the third signal.
//! 2. `sigaction` is given a zeroed structure whose handler has the C signature that it is called with.

use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);
/// 128 + SIGINT: what a shell expects of a program that was interrupted.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// How many signals have come.
pub(crate) fn count() -> u32 {
    COUNT.load(Ordering::Relaxed)
}

/// Counts SIGINT and SIGTERM from now on.
pub(crate) fn install() -> std::io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: 2: all zeroes is a valid sigaction: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: 2.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn on_signal(_signal: libc::c_int) {
    // The first asks to stop, the second not to wait for commands that are out; who asks a third time wants out.
    if COUNT.fetch_add(1, Ordering::Relaxed) >= 2 {
        // SAFETY: 1.
        unsafe { libc::_exit(i32::from(EXIT_INTERRUPTED)) };
    }
}
