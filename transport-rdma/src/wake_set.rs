//! The descriptors that one polling CPU sleeps on, as one.
//!
//! Owned by the CPU's program. Holds no references: who made the descriptors keeps them for as long as the program lives.
//!
//! Invariant, cited by the `SAFETY` notes:
//! 1. Descriptors that the kernel gives are owned at once; what it reads is ours.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// None, one, or an epoll descriptor over several.
#[derive(Debug)]
pub(crate) enum WakeSet {
    None,
    One(RawFd),
    Several(OwnedFd),
}

impl WakeSet {
    pub(crate) fn new(descriptors: impl IntoIterator<Item = RawFd>) -> io::Result<Self> {
        let descriptors: Vec<RawFd> = descriptors.into_iter().collect();
        match *descriptors {
            [] => return Ok(Self::None),
            [fd] => return Ok(Self::One(fd)),
            [..] => {}
        }
        // SAFETY: plain system call.
        let number = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: invariant 1.
        let epoll = unsafe { OwnedFd::from_raw_fd(number) };
        for fd in descriptors {
            // By level: what is still readable is found again, what is not any more is forgotten, and nothing is to be drained here.
            let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
            // SAFETY: invariant 1.
            let added = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
            if added < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self::Several(epoll))
    }

    /// Readable when one of them is.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        match self {
            Self::None => None,
            Self::One(fd) => Some(*fd),
            Self::Several(epoll) => Some(epoll.as_raw_fd()),
        }
    }
}
