//! What wakes a sleeping port: the peers' rings, and this process' own.
//!
//! A [`Doorbell`] belongs to one port and one peer: a pair of Unix sockets, of which we keep one end and hand over the other. To ring is to send a byte. All of a port's
//! doorbells, and an event descriptor that its own control plane rings, stand in the port's [`Alarm`], one epoll descriptor. When to ring is decided by words in the
//! pair page ([`super::pair`]); who is awake is never rung for.
//!
//! **Hostile peers.** Sockets, since a send with `MSG_DONTWAIT` never waits, whatever the peer does to what it handed over (an event descriptor that it made blocking and
//! filled would hold whoever rings it); [`PeerDoorbell`] is checked to be one. Received from is only the end that nobody else ever had. A doorbell that has rung more
//! often than it was asked to is taken out of the alarm: its peer wakes nobody any more. One that is shut rings never; its peer is served when the port is awake.
//!
//! Edges, not levels: what has rung and is not found any more (a pair whose last queue pair has left the port) cannot keep a port awake.
//!
//! Invariant, cited by the `SAFETY` notes:
//! 1. Descriptors that the kernel gives are owned at once; buffers are ours, with their true lengths.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::socket;

/// What one look takes; what is more ends the next sleep.
const READY_COUNT: libc::c_int = 64;
/// The token of the port's own control plane. Peers' numbers begin at 1.
const OWN: u64 = 0;

/// One port's: what its sleep ends with.
#[derive(Debug)]
pub(super) struct Alarm {
    epoll: OwnedFd,
    own: OwnedFd,
}

/// Our end of the one through which one peer wakes one port of ours.
#[derive(Debug)]
pub(super) struct Doorbell {
    socket: OwnedFd,
    /// How often the peer was told that the port sleeps, and how often it has rung. Written by the port's CPU alone.
    asked_count: AtomicU32,
    rung_count: AtomicU32,
}

/// The one through which we wake a port of a peer's.
#[derive(Debug)]
pub(super) struct PeerDoorbell(OwnedFd);

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: plain system call.
        let epoll = own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: plain system call.
        let own = own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        let alarm = Self { epoll, own };
        alarm.watch(alarm.own.as_raw_fd(), OWN)?;
        Ok(alarm)
    }

    /// Readable when something has rung.
    pub(super) fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// This process rings, from any thread.
    pub(super) fn ring(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: invariant 1. It never waits: nobody else has the descriptor, and a counter that is full has rung already.
        unsafe { libc::write(self.own.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// A peer may ring from here on. It is taken out by being closed.
    pub(super) fn add(&self, doorbell: &Doorbell, peer: u64) -> io::Result<()> {
        self.watch(doorbell.socket.as_raw_fd(), peer)
    }

    /// It may not any more.
    fn silence(&self, doorbell: &Doorbell) {
        let fd = doorbell.socket.as_raw_fd();
        // SAFETY: invariant 1.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    fn watch(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLET).cast_unsigned();
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: invariant 1.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The port's CPU is awake: takes what has rung. `find` gives the doorbell of a peer; gives the peers back that were silenced.
    pub(super) fn take<'d>(&self, find: impl Fn(u64) -> Option<&'d Doorbell>, mut silenced: impl FnMut(u64)) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; READY_COUNT as usize];
        // SAFETY: invariant 1; does not wait.
        let count = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), READY_COUNT, 0) };
        for event in &events[..usize::try_from(count).unwrap_or(0)] {
            let token = event.u64;
            if token == OWN {
                self.take_own();
            } else if let Some(doorbell) = find(token)
                && !doorbell.drain()
            {
                self.silence(doorbell);
                silenced(token);
            }
        }
    }

    fn take_own(&self) {
        let mut buffer = [0_u8; 8];
        // SAFETY: invariant 1.
        unsafe { libc::read(self.own.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    }
}

impl Doorbell {
    /// Our end, and the one to hand over.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let [ours, theirs] = socket::pair()?;
        let none = || AtomicU32::new(0);
        Ok((Self { socket: ours, asked_count: none(), rung_count: none() }, theirs))
    }

    /// The peer is told that the port sleeps: it may ring once more.
    pub(super) fn ask(&self) {
        self.asked_count.store(self.asked_count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Takes what it has rung. False if that is more than it was asked for.
    fn drain(&self) -> bool {
        loop {
            let asked_count = self.asked_count.load(Ordering::Relaxed);
            let mut byte = [0_u8];
            let flags = libc::MSG_DONTWAIT;
            // SAFETY: invariant 1. Nobody else ever had this end, so nobody else holds its lock.
            let len = unsafe { libc::recv(self.socket.as_raw_fd(), byte.as_mut_ptr().cast(), byte.len(), flags) };
            if len <= 0 {
                // Nothing more, or shut.
                return true;
            }
            let rung_count = self.rung_count.load(Ordering::Relaxed).wrapping_add(1);
            self.rung_count.store(rung_count, Ordering::Relaxed);
            // Wrapping: the two are never far apart.
            if asked_count.wrapping_sub(rung_count) >= 1 << 31 {
                return false;
            }
        }
    }
}

impl PeerDoorbell {
    /// Takes over what a peer handed over, if it can be rung without waiting.
    pub(super) fn take_over(descriptor: OwnedFd) -> Option<Self> {
        socket::is_message_socket(&descriptor).then_some(Self(descriptor))
    }

    /// Never waits. Where it cannot be rung it has rung already, or the peer has shut it.
    #[cold]
    pub(super) fn ring(&self) {
        let byte = [0_u8];
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: invariant 1.
        unsafe { libc::send(self.0.as_raw_fd(), byte.as_ptr().cast(), byte.len(), flags) };
    }
}

fn own(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: invariant 1.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
