//! Completions on their way from the library's threads to a channel's CPU: a queue without a lock, and an event descriptor that is rung where the CPU
//! sleeps, by the protocol of [`reactor::doorbell`].
//!
//! # Invariants of the unsafe code
//! 1. The argument of a completion is a strong count of its [`Slot`], made by `Arc::into_raw`. It goes back once: by the callback, or where the call was refused,
//!    in which case there is no callback. So a callback finds its slot, the queue and the descriptor, however late it comes, whatever has gone by then.
//! 2. A completion is released once, by the same.

use std::ffi::c_void;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crossbeam_queue::ArrayQueue;
use reactor::{Rest, doorbell};

use super::library::Ceph;

/// What a channel's operations have come to, each a slot's number and a result: bytes, 0, or a negated errno.
#[derive(Debug)]
pub(super) struct News {
    /// Has room for every slot, so that no push can fail: a slot has one call under way at most.
    ended: ArrayQueue<(u32, i64)>,
    /// Whether the channel's CPU sleeps.
    asleep: AtomicU32,
    eventfd: std::fs::File,
}

impl News {
    pub(super) fn new(slot_count: usize) -> io::Result<Arc<Self>> {
        // SAFETY: no memory is involved.
        let number = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was opened just now and has no other owner.
        let eventfd = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(number) });
        Ok(Arc::new(Self { ended: ArrayQueue::new(slot_count), asleep: AtomicU32::new(0), eventfd }))
    }

    /// The channel's CPU: the next.
    pub(super) fn next(&self) -> Option<(u32, i64)> {
        self.ended.pop()
    }

    /// The channel's CPU would sleep.
    pub(super) fn arm(&self) -> Rest {
        doorbell::announce(&self.asleep);
        doorbell::before_last_look();
        if self.ended.is_empty() { Rest::Sleep } else { Rest::Poll }
    }

    /// It is awake. Returns whether somebody is about to ring all the same, and has not yet: that ring is to be [taken in](Self::take_ring).
    pub(super) fn disarm(&self) -> bool {
        // Whoever takes the word rings, so nobody does if that is this CPU.
        !doorbell::take(&self.asleep) && !self.take_ring()
    }

    /// Takes in a ring, if there is one.
    pub(super) fn take_ring(&self) -> bool {
        (&self.eventfd).read(&mut [0; 8]).is_ok()
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Any thread.
    fn tell(&self, slot: u32, result: i64) {
        assert!(self.ended.push((slot, result)).is_ok(), "room for every slot");
        doorbell::after_news();
        if doorbell::take(&self.asleep) {
            // EAGAIN, the only failure, means that it has rung already.
            let _ = (&self.eventfd).write(&1_u64.to_ne_bytes());
        }
    }
}

/// Where an operation of a channel hears of its call.
#[derive(Debug)]
pub(super) struct Slot {
    ceph: Arc<Ceph>,
    news: Arc<News>,
    number: u32,
}

impl Slot {
    pub(super) fn new(ceph: &Arc<Ceph>, news: &Arc<News>, number: u32) -> Arc<Self> {
        Arc::new(Self { ceph: Arc::clone(ceph), news: Arc::clone(news), number })
    }

    /// Makes a completion for `begin`, which is heard of through this slot, unless `begin` is refused.
    pub(super) fn with_completion(
        self: &Arc<Self>,
        ceph: &Ceph,
        begin: impl FnOnce(*mut c_void) -> i32,
    ) -> Result<(), i64> {
        let argument = Arc::into_raw(Arc::clone(self)).cast_mut().cast();
        let mut completion = ptr::null_mut();
        // SAFETY: invariant 1; the out parameter lives through the call.
        let made = unsafe { (ceph.rbd_aio_create_completion)(argument, on_completion, &raw mut completion) };
        let begun = if made < 0 { made } else { begin(completion) };
        if begun >= 0 {
            return Ok(());
        }
        if made >= 0 {
            // SAFETY: invariant 2: it was refused, so nobody else does.
            unsafe { (ceph.rbd_aio_release)(completion) };
        }
        // SAFETY: invariant 1: it was refused.
        drop(unsafe { Arc::from_raw(argument.cast_const().cast::<Self>()) });
        Err(i64::from(begun))
    }
}

/// A thread of the library: an operation has ended.
unsafe extern "C" fn on_completion(completion: *mut c_void, argument: *mut c_void) {
    // SAFETY: invariant 1.
    let slot = unsafe { Arc::from_raw(argument.cast_const().cast::<Slot>()) };
    // SAFETY: the completion is there until it is released.
    let result = unsafe { (slot.ceph.rbd_aio_get_return_value)(completion) };
    // SAFETY: invariant 2.
    unsafe { (slot.ceph.rbd_aio_release)(completion) };
    slot.news.tell(slot.number, result as i64);
}
