//! What makes the control plane look: one epoll descriptor over sockets, pidfds, the worker's and the ports' event descriptor and a timer.
//!
//! Owned by the provider. [`Bell`] is shared: polling CPUs and the worker ring it, with one system call.
//!
//! Invariant, cited by the `SAFETY` notes:
//! 1. Descriptors that the kernel gives are owned at once; buffers are ours, with their true lengths.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Descriptors that one look takes; what is more comes at the next.
const READY_COUNT: libc::c_int = 64;

/// What a watched descriptor stands for. Numbers are never reused, so a late one is a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Worker or port.
    Bell,
    /// A deadline.
    Timer,
    /// A listener.
    Listener(u64),
    /// A peer's socket.
    Socket(u64),
    /// A peer's pidfd.
    Process(u64),
}

impl Token {
    fn to_bits(self) -> u64 {
        match self {
            Self::Bell => 0,
            Self::Timer => 1,
            Self::Listener(number) => number << 3 | 2,
            Self::Socket(number) => number << 3 | 3,
            Self::Process(number) => number << 3 | 4,
        }
    }

    fn from_bits(bits: u64) -> Self {
        match bits & 7 {
            1 => Self::Timer,
            2 => Self::Listener(bits >> 3),
            3 => Self::Socket(bits >> 3),
            4 => Self::Process(bits >> 3),
            _ => Self::Bell,
        }
    }
}

/// Rings from any thread.
#[derive(Clone, Debug)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    /// Never waits: a counter that is full has rung already.
    pub(super) fn ring(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: invariant 1.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

/// The epoll descriptor, a bell and a timer.
#[derive(Debug)]
pub(super) struct Waker {
    epoll: OwnedFd,
    bell: Bell,
    timer: OwnedFd,
    /// What the timer is set to, on the caller's clock.
    deadline_ns: Option<u64>,
}

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: plain system call.
        let epoll = own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: plain system call.
        let bell = own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: plain system call.
        let timer =
            own(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })?;
        let waker = Self { epoll, bell: Bell(Arc::new(bell)), timer, deadline_ns: None };
        waker.watch(waker.bell.0.as_raw_fd(), Token::Bell)?;
        waker.watch(waker.timer.as_raw_fd(), Token::Timer)?;
        Ok(waker)
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Wakes when `fd` is readable or hangs up; [`Self::ready`] gives the token then. [`Self::unwatch`] before it is closed.
    pub(super) fn watch(&self, fd: RawFd, token: Token) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: token.to_bits() };
        // SAFETY: invariant 1.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Ends the watch. Unknown descriptors are ignored.
    pub(super) fn unwatch(&self, fd: RawFd) {
        // SAFETY: invariant 1.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Appends the tokens of what is readable, bell and timer taken in first, so that what rings later is not lost. True if anything was.
    pub(super) fn ready(&mut self, tokens: &mut Vec<Token>) -> bool {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; READY_COUNT as usize];
        // SAFETY: invariant 1; does not wait.
        let count = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), READY_COUNT, 0) };
        let count = usize::try_from(count).unwrap_or(0);
        for event in &events[..count] {
            let token = Token::from_bits(event.u64);
            match token {
                Token::Bell => {
                    drain(&self.bell.0);
                }
                Token::Timer => {
                    drain(&self.timer);
                    self.deadline_ns = None;
                }
                Token::Listener(_) | Token::Socket(_) | Token::Process(_) => {}
            }
            tokens.push(token);
        }
        count > 0
    }

    /// Wakes at `deadline_ns` of the caller's clock, on which it is `now_ns`; never, if `None`.
    pub(super) fn set_deadline(&mut self, now_ns: u64, deadline_ns: Option<u64>) {
        if self.deadline_ns == deadline_ns {
            return;
        }
        self.deadline_ns = deadline_ns;
        // Zero would disarm it.
        let delay_ns = deadline_ns.map_or(0, |deadline_ns| deadline_ns.saturating_sub(now_ns).max(1));
        let value = libc::timespec {
            tv_sec: i64::try_from(delay_ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(delay_ns % 1_000_000_000).unwrap_or(0),
        };
        let timer = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: invariant 1.
        unsafe { libc::timerfd_settime(self.timer.as_raw_fd(), 0, &raw const timer, std::ptr::null_mut()) };
    }
}

fn drain(counter: &OwnedFd) {
    let mut buffer = [0_u8; 8];
    // SAFETY: invariant 1.
    unsafe { libc::read(counter.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
}

fn own(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: invariant 1.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
