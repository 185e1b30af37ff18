//! Locks on the files of devices, so that no two processes write to one of them.
//!
//! A process that was killed may still hold its lock for some milliseconds, and so does a device that was closed: its io_uring, which has the file registered, is
//! taken down after its end. So one that is held is asked for again for a while.

use std::fs::{File, TryLockError};
use std::io;
use std::time::Duration;

/// How often, and how far apart, a lock is asked for.
const LOCK_TRY_COUNT: u32 = 100;
const LOCK_TRY_INTERVAL: Duration = Duration::from_millis(10);

/// Opens a block device that may be held: `open` is asked again while it says so.
#[allow(clippy::disallowed_methods, reason = "a device is opened at start-up, or by a thread that may wait")]
pub(crate) fn open_when_free(open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    let mut tries_left = LOCK_TRY_COUNT;
    loop {
        let opened = open();
        tries_left -= 1;
        let is_held = opened.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY));
        if tries_left == 0 || !is_held {
            return opened;
        }
        std::thread::sleep(LOCK_TRY_INTERVAL);
    }
}

/// One writer, or any number of readers.
#[allow(clippy::disallowed_methods, reason = "a device is opened at start-up, or by a thread that may wait")]
pub(crate) fn lock(file: &File, read_only: bool) -> io::Result<()> {
    let mut tries_left = LOCK_TRY_COUNT;
    let locked = loop {
        let locked = if read_only { file.try_lock_shared() } else { file.try_lock() };
        tries_left -= 1;
        if tries_left == 0 || !matches!(locked, Err(TryLockError::WouldBlock)) {
            break locked;
        }
        std::thread::sleep(LOCK_TRY_INTERVAL);
    };
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another process, or another device of this target, uses it",
        )),
        // A file system without locks (some network ones) is no reason to refuse.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
