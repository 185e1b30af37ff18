//! The descriptors that one polling CPU sleeps on, as one.
//!
//! Shared by the CPU's program, which sleeps on it, and the control plane, which adds the descriptors of what the CPU gets later. Holds no references: a descriptor
//! that its owner closes leaves the set by itself [epoll(7)].
//!
//! Invariant, cited by the `SAFETY` notes:
//! 1. Descriptors that the kernel gives are owned at once; what it reads is ours.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// An epoll descriptor, where there is anything to sleep on.
#[derive(Clone, Debug)]
pub(crate) struct WakeSet(Option<Arc<OwnedFd>>);

impl WakeSet {
    pub(crate) fn new(descriptors: impl IntoIterator<Item = RawFd>) -> io::Result<Self> {
        let mut descriptors = descriptors.into_iter().peekable();
        if descriptors.peek().is_none() {
            return Ok(Self(None));
        }
        // SAFETY: plain system call.
        let number = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: invariant 1.
        let set = Self(Some(Arc::new(unsafe { OwnedFd::from_raw_fd(number) })));
        descriptors.try_for_each(|fd| set.add(fd))?;
        Ok(set)
    }

    /// One more; its CPU may be asleep on the set. Nothing where there is no set: then what is added has no descriptor either.
    pub(crate) fn add(&self, fd: RawFd) -> io::Result<()> {
        let Some(epoll) = &self.0 else { return Ok(()) };
        // By level: what is still readable is found again, what is not any more is forgotten, and nothing is to be drained here.
        let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
        // SAFETY: invariant 1.
        let added = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if added < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Whether there is anything to add to.
    pub(crate) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Readable when one of them is.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.0.as_ref().map(|epoll| epoll.as_raw_fd())
    }
}
