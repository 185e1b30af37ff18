//! What other threads bring to a channel's CPU: a queue without a lock, and an event descriptor that is rung where the CPU sleeps, by the protocol of
//! [`reactor::doorbell`].
//!
//! Each ring is accounted for: who takes the sleeper's word rings, so a CPU that wakes up and finds its word taken knows that one ring has come or will. One
//! that comes late, when the CPU sleeps again, costs that sleep and no further one.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crossbeam_queue::ArrayQueue;
use reactor::{Rest, doorbell};

/// The CPU's end.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    entrance: Arc<Entrance<T>>,
    is_armed: bool,
    /// Rings that others have promised, by taking the word, and that have not been taken in.
    rings_due: u64,
}

/// The others' end. Lives for as long as somebody may bring something, however long the channel has been gone.
#[derive(Debug)]
pub(crate) struct Entrance<T> {
    queue: ArrayQueue<T>,
    /// Whether the channel's CPU sleeps.
    asleep: AtomicU32,
    eventfd: std::fs::File,
}

impl<T> Inbox<T> {
    /// `capacity`: what can be under way at a time, so that everything that is brought finds room.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        let entrance = Entrance { queue: ArrayQueue::new(capacity), asleep: AtomicU32::new(0), eventfd: eventfd()? };
        Ok(Self { entrance: Arc::new(entrance), is_armed: false, rings_due: 0 })
    }

    pub(crate) fn entrance(&self) -> &Arc<Entrance<T>> {
        &self.entrance
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.entrance.queue.pop()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.entrance.queue.capacity()
    }

    /// The CPU would sleep until something is brought.
    pub(crate) fn arm(&mut self) -> Rest {
        self.is_armed = true;
        doorbell::announce(&self.entrance.asleep);
        doorbell::before_last_look();
        if self.entrance.queue.is_empty() { Rest::Sleep } else { Rest::Poll }
    }

    /// The CPU is awake, armed or not.
    pub(crate) fn disarm(&mut self) {
        if self.is_armed {
            self.is_armed = false;
            self.rings_due += u64::from(!doorbell::take(&self.entrance.asleep));
        }
        if self.rings_due > 0 {
            let mut count = [0; 8];
            // EAGAIN, the only failure: it has not rung yet.
            if (&self.entrance.eventfd).read(&mut count).is_ok() {
                self.rings_due = self.rings_due.saturating_sub(u64::from_ne_bytes(count));
            }
        }
    }

    /// Becomes readable when it rings.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.entrance.eventfd.as_raw_fd()
    }
}

impl<T> Entrance<T> {
    /// Any thread. Never waits.
    ///
    /// # Panics
    /// Where more is brought than the capacity that was asked for.
    pub(crate) fn bring(&self, item: T) {
        assert!(self.queue.push(item).is_ok(), "room for everything that can be under way");
        doorbell::after_news();
        if doorbell::take(&self.asleep) {
            // A counter of 2^64 - 2 rings is the only thing that could be in the way.
            let _ = (&self.eventfd).write(&1_u64.to_ne_bytes());
        }
    }
}

fn eventfd() -> io::Result<std::fs::File> {
    // SAFETY: no memory is involved.
    let number = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was opened just now and has no other owner.
    Ok(std::fs::File::from(unsafe { OwnedFd::from_raw_fd(number) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable<T>(inbox: &Inbox<T>) -> bool {
        let mut watched = libc::pollfd { fd: inbox.descriptor(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which is the inbox's.
        unsafe { libc::poll(&raw mut watched, 1, 0) > 0 }
    }

    #[test]
    fn who_sleeps_is_rung_for_and_who_does_not_is_not() {
        let mut inbox = Inbox::new(2).expect("a descriptor");
        inbox.entrance().bring(1);
        assert!(!is_readable(&inbox));
        assert_eq!((inbox.arm(), is_readable(&inbox)), (Rest::Poll, false));
        inbox.disarm();
        assert_eq!(inbox.take(), Some(1));

        assert_eq!(inbox.arm(), Rest::Sleep);
        inbox.entrance().bring(2);
        inbox.entrance().bring(3);
        assert!(is_readable(&inbox));
        inbox.disarm();
        assert_eq!((inbox.take(), inbox.take(), inbox.take()), (Some(2), Some(3), None));
        assert!(!is_readable(&inbox));
    }

    #[test]
    fn a_ring_that_comes_late_costs_one_sleep() {
        let mut inbox = Inbox::<u32>::new(1).expect("a descriptor");
        assert_eq!(inbox.arm(), Rest::Sleep);
        // A bringer takes the word, and is then slow.
        assert!(doorbell::take(&inbox.entrance().asleep));
        inbox.disarm();
        assert!(!is_readable(&inbox));
        // The CPU sleeps with nothing outstanding, thus without arming, and the ring comes.
        (&inbox.entrance().eventfd).write_all(&1_u64.to_ne_bytes()).expect("a ring");
        assert!(is_readable(&inbox));
        inbox.disarm();
        assert!(!is_readable(&inbox), "the next sleep is undisturbed");
    }

    #[test]
    fn what_many_threads_bring_ends_every_sleep() {
        const EACH: u32 = 2_000;
        let mut inbox = Inbox::new(4).expect("a descriptor");
        let permits = Arc::new(ArrayQueue::new(4));
        for _ in 0..4 {
            permits.push(()).expect("room");
        }
        let bringers: Vec<_> = (0..2)
            .map(|_| {
                let (entrance, permits) = (Arc::clone(inbox.entrance()), Arc::clone(&permits));
                std::thread::spawn(move || {
                    for item in 0..EACH {
                        while permits.pop().is_none() {
                            std::thread::yield_now();
                        }
                        entrance.bring(item);
                    }
                })
            })
            .collect();
        let mut count = 0;
        while count < 2 * EACH {
            if inbox.arm() == Rest::Sleep {
                let mut watched = libc::pollfd { fd: inbox.descriptor(), events: libc::POLLIN, revents: 0 };
                // SAFETY: one descriptor, which is the inbox's.
                let woken = unsafe { libc::poll(&raw mut watched, 1, 10_000) };
                assert_eq!(woken, 1, "a ring ends the sleep, at {count}");
            }
            inbox.disarm();
            while inbox.take().is_some() {
                count += 1;
                permits.push(()).expect("room");
            }
        }
        for bringer in bringers {
            bringer.join().expect("a bringer");
        }
        inbox.disarm();
        assert_eq!(inbox.rings_due, 0);
    }
}
