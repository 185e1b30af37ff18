//! System calls that the standard library has not: epoll, signals as a descriptor, who is at the other end of a Unix socket.
//!
//! # Invariants of the unsafe code
//! 1. A descriptor that becomes an `OwnedFd` was opened by the call just before, successfully, and has no other owner.
//! 2. Structures given to the kernel are plain numbers (all zeroes is a valid one), live through the call, and are as long as it is told.

use std::fs::File;
use std::io::{self, Read};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Events of one wait.
const EVENT_MAX: u8 = 32;

/// Three numbers of 32 bits.
#[allow(clippy::cast_possible_truncation, reason = "12")]
const UCRED_LEN: libc::socklen_t = size_of::<libc::ucred>() as libc::socklen_t;

/// The signals that end the target.
const SIGNALS: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// Whose rights this process has.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: no memory is involved, and it cannot fail.
    unsafe { libc::geteuid() }
}

/// Whether this process may make an io_uring. None is made.
pub(crate) fn io_uring_is_allowed() -> io::Result<()> {
    let entry_count: libc::c_uint = 1;
    let no_parameters = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the kernel checks that there are parameters only after the right to make one, and says EFAULT of a null pointer, which it does not follow.
    let outcome = unsafe { libc::syscall(libc::SYS_io_uring_setup, entry_count, no_parameters) };
    let error = io::Error::last_os_error();
    if outcome >= 0 || error.raw_os_error() == Some(libc::EFAULT) { Ok(()) } else { Err(error) }
}

/// Whether this process may write to a file, or make files in a directory.
pub(crate) fn is_writable(path: &std::path::Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: the string ends with a zero byte, and lives through the call.
    unsafe { libc::access(path.as_ptr(), libc::W_OK) == 0 }
}

/// The calling thread runs when others have nothing to do, or little.
pub(crate) fn yield_to_others() -> io::Result<()> {
    const NICE: libc::c_int = 10;
    // SAFETY: no memory is involved. On Linux 0 is the calling thread.
    let outcome = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An epoll instance, level-triggered. Its tokens are the caller's.
#[derive(Debug)]
pub(crate) struct Epoll {
    descriptor: OwnedFd,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let number = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        Ok(Self { descriptor: owned(number)? })
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    pub(crate) fn add(&self, watched: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.change(libc::EPOLL_CTL_ADD, watched, token, interest)
    }

    pub(crate) fn modify(&self, watched: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.change(libc::EPOLL_CTL_MOD, watched, token, interest)
    }

    pub(crate) fn remove(&self, watched: RawFd) -> io::Result<()> {
        self.change(libc::EPOLL_CTL_DEL, watched, 0, Interest { read: false, write: false })
    }

    fn change(&self, operation: libc::c_int, watched: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut events = 0;
        if interest.read {
            events |= libc::EPOLLIN;
        }
        if interest.write {
            events |= libc::EPOLLOUT;
        }
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token };
        // SAFETY: invariant 2.
        let result = unsafe { libc::epoll_ctl(self.as_raw_fd(), operation, watched, &raw mut event) };
        succeeded(result)
    }

    /// The tokens of what is ready now, without waiting.
    pub(crate) fn ready(&self, tokens: &mut Vec<u64>) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENT_MAX as usize];
        // SAFETY: invariant 2.
        let count = unsafe { libc::epoll_wait(self.as_raw_fd(), events.as_mut_ptr(), libc::c_int::from(EVENT_MAX), 0) };
        // A failure (EINTR) is as good as nothing ready: it is asked again.
        let count = usize::try_from(count).unwrap_or(0);
        tokens.extend(events[..count].iter().map(|event| event.u64));
    }
}

/// Sends this process a signal.
///
/// # Errors
/// If there is no such signal.
pub(crate) fn signal_oneself(signal: libc::c_int) -> io::Result<()> {
    let own = libc::pid_t::try_from(std::process::id()).map_err(io::Error::other)?;
    // SAFETY: takes no pointers.
    succeeded(unsafe { libc::kill(own, signal) }).map(drop)
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGHUP: to read the configuration file again.
    Reload,
    /// The end. With its name.
    End(&'static str),
}

/// SIGTERM, SIGINT and SIGHUP as a descriptor.
#[derive(Debug)]
pub struct Signals {
    file: File,
}

impl Signals {
    /// Blocks the signals in this thread, and so in all threads that it starts later: to be called before the first of them.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: invariant 2.
        succeeded(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
        for signal in SIGNALS {
            // SAFETY: invariant 2.
            succeeded(unsafe { libc::sigaddset(set.as_mut_ptr(), signal) })?;
        }
        // SAFETY: invariant 2.
        let errno = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
        // SAFETY: invariant 2.
        let number = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        Ok(Self { file: File::from(owned(number)?) })
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// A signal that has come.
    pub(crate) fn next(&mut self) -> Option<Signal> {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        self.file.read_exact(&mut record).ok()?;
        // signalfd(2): ssi_signo is the first field, 32 bits.
        let [one, two, three, four, ..] = record;
        match i32::from_ne_bytes([one, two, three, four]) {
            libc::SIGHUP => Some(Signal::Reload),
            libc::SIGTERM => Some(Signal::End("SIGTERM")),
            libc::SIGINT => Some(Signal::End("SIGINT")),
            _ => Some(Signal::End("a signal")),
        }
    }
}

/// The user at the other end, as it was when the connection was made.
pub(crate) fn peer_user(stream: &UnixStream) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = UCRED_LEN;
    let into = (&raw mut peer).cast();
    // SAFETY: invariant 2.
    let result =
        unsafe { libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, into, &raw mut len) };
    succeeded(result)?;
    Ok(peer.uid)
}

/// Who we are.
pub(crate) fn user() -> u32 {
    // SAFETY: no memory is involved, and it cannot fail.
    unsafe { libc::geteuid() }
}

/// The time of CLOCK_MONOTONIC, for who compares it with its own.
pub(crate) fn monotonic_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: invariant 2. It cannot fail: every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_nsec.cast_unsigned() / 1000
}

/// Takes as many descriptors as the process may have: each host takes some, and the soft limit is often 1024. The limit that holds then.
pub(crate) fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: invariant 2.
    succeeded(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: invariant 2.
    succeeded(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Runs `make` with a mask that gives new files to their owner alone. The mask is the process's: to be called before there are other threads.
pub(crate) fn with_private_mask<R>(make: impl FnOnce() -> R) -> R {
    // SAFETY: no memory is involved, and it cannot fail.
    let before = unsafe { libc::umask(0o177) };
    let made = make();
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    made
}

fn owned(number: libc::c_int) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: invariant 1: all callers pass what a call has just returned.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
