//! The end of a process. Ceph's libraries have threads as long as a client is connected, and static objects that `exit` destroys: a thread that still uses
//! those crashes the process. So `exit` waits, not for long, until images that were let go of are closed; and where a client is connected even then, the
//! process ends without those destructors, with the status that it was given.
//!
//! # Invariants of the unsafe code
//! 1. [`at_exit`] is registered after the libraries were loaded: what was registered last is called first, so it comes before their destructors.

use std::ffi::{c_int, c_void};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long `exit` waits.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

/// Handles of librados that are not shut down.
static CLIENT_COUNT: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    /// GNU's: unlike `atexit` it tells the status.
    safe fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
}

/// The libraries are loaded.
pub(super) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if on_exit(at_exit, std::ptr::null_mut()) != 0 {
            tracing::warn!(
                "no room to be told of the process's end: it may crash there while an image is being closed"
            );
        }
    });
}

/// A client was made.
pub(super) fn client_made() {
    CLIENT_COUNT.fetch_add(1, Ordering::Relaxed);
}

/// It is shut down.
pub(super) fn client_gone() {
    // Threads that closed were joined before anybody relies on this.
    CLIENT_COUNT.fetch_sub(1, Ordering::Relaxed);
}

extern "C" fn at_exit(status: c_int, _: *mut c_void) {
    let is_closed = super::closing::wait(None, EXIT_PATIENCE);
    if !is_closed || CLIENT_COUNT.load(Ordering::Relaxed) > 0 {
        // SAFETY: ends the process; nothing runs afterwards. Rust's own output was flushed before `exit` was called.
        unsafe { libc::_exit(status) };
    }
}
