//! How ports and the worker make the control plane look, and what it sleeps on.
//!
//! [`News`] is shared; the [`Waker`] is the provider's.
//!
//! Invariant, cited by the `SAFETY` notes:
//! 1. Descriptors that the kernel gives are owned at once; buffers are ours, with their true lengths.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rings from any thread.
#[derive(Clone, Debug)]
pub(super) struct News(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bell: OwnedFd,
    has_rung: AtomicBool,
}

/// One epoll descriptor over the connection manager's, the device's and the bell.
#[derive(Debug)]
pub(super) struct Waker {
    epoll: OwnedFd,
    news: News,
}

impl News {
    /// Never waits.
    pub(super) fn ring(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: invariant 1.
        unsafe { libc::write(self.0.bell.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        // After the bell: who takes the word has emptied the bell of what rang before it, so that it never stays readable for nothing.
        self.0.has_rung.store(true, Ordering::Release);
    }

    /// Whether it has rung since the last time; what rings after this is found the next time.
    pub(super) fn take(&self) -> bool {
        if !self.0.has_rung.load(Ordering::Relaxed) {
            return false;
        }
        let mut buffer = [0_u8; 8];
        // SAFETY: invariant 1.
        unsafe { libc::read(self.0.bell.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        // After the bell was emptied: who rings from here on makes it readable again, and sets the word again.
        self.0.has_rung.swap(false, Ordering::AcqRel)
    }
}

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: plain system call.
        let epoll = own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: plain system call.
        let bell = own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        let news = News(Arc::new(Inner { bell, has_rung: AtomicBool::new(false) }));
        let waker = Self { epoll, news };
        waker.watch(waker.news.0.bell.as_raw_fd())?;
        Ok(waker)
    }

    pub(super) fn news(&self) -> News {
        self.news.clone()
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    pub(super) fn watch(&self, fd: RawFd) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
        // SAFETY: invariant 1.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Of a descriptor that stays readable, as a removed device's does.
    pub(super) fn unwatch(&self, fd: RawFd) {
        // SAFETY: invariant 1.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }
}

fn own(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: invariant 1.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(waker: &Waker) -> bool {
        let mut watched = libc::pollfd { fd: waker.descriptor(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which is ours.
        unsafe { libc::poll(&raw mut watched, 1, 0) > 0 }
    }

    #[test]
    fn what_rings_is_found_once() {
        let waker = Waker::new().unwrap();
        let news = waker.news();
        assert!(!news.take() && !is_readable(&waker));
        news.ring();
        news.ring();
        assert!(is_readable(&waker) && news.take());
        assert!(!is_readable(&waker) && !news.take());
    }
}
