//! A pointer to one of the libraries' objects, which may go to another thread.
//!
//! Invariant, cited by the `SAFETY` notes:
//! 1. libibverbs and librdmacm may be called from any thread [ibv_fork_init(3) apart, rdma_cm(7)]; who holds a [`Raw`] says in its own file until when the
//!    object lives.

use std::io;
use std::ptr::NonNull;

/// Never null.
pub(super) struct Raw<T>(NonNull<T>);

impl<T> std::fmt::Debug for Raw<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> Clone for Raw<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Raw<T> {}

impl<T> PartialEq for Raw<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

// SAFETY: invariant 1.
unsafe impl<T> Send for Raw<T> {}
// SAFETY: invariant 1.
unsafe impl<T> Sync for Raw<T> {}

impl<T> Raw<T> {
    /// Of what a call returned: null means that it failed, and errno says why.
    pub(super) fn returned(pointer: *mut T) -> io::Result<Self> {
        NonNull::new(pointer).map(Self).ok_or_else(io::Error::last_os_error)
    }

    pub(super) fn as_ptr(self) -> *mut T {
        self.0.as_ptr()
    }
}

/// Of a call that returns 0 or an errno (libibverbs).
pub(super) fn by_errno(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        // Some return -1 and set errno instead.
        -1 => Err(io::Error::last_os_error()),
        number => Err(io::Error::from_raw_os_error(number.abs())),
    }
}

/// Of a call that returns 0, or -1 with errno set (librdmacm).
pub(super) fn by_last_error(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
