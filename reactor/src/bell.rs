//! Whether a reactor sleeps, and how it is woken.
//!
//! By the protocol of [`crate::doorbell`]; the eventfd is what rings.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::doorbell;
use crate::primitive::{AtomicBool, AtomicU8, AtomicU32, Ordering, Site};

/// One reactor's.
#[derive(Debug)]
pub(crate) struct Bell {
    /// What ends a real thread's sleep.
    eventfd: Option<File>,
    asleep: AtomicU32,
    /// Somebody who is no reactor asked for a turn.
    wanted: AtomicBool,
    stage: AtomicU8,
}

/// A reactor's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// No program yet.
    Absent,
    Live,
    /// Offline for good.
    Left,
}

impl Bell {
    pub(crate) fn new(eventfd: Option<OwnedFd>) -> Self {
        Self {
            eventfd: eventfd.map(File::from),
            asleep: AtomicU32::new(0),
            wanted: AtomicBool::new(false),
            stage: AtomicU8::new(Stage::Absent as u8),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        // ORDERING 8.
        match self.stage.load(Site::Stage.acquire()) {
            stage if stage == Stage::Absent as u8 => Stage::Absent,
            stage if stage == Stage::Live as u8 => Stage::Live,
            _ => Stage::Left,
        }
    }

    pub(crate) fn enter(&self, stage: Stage) {
        // ORDERING 8.
        self.stage.store(stage as u8, Site::Enter.release());
    }

    /// Its own reactor: from here on it may be rung. A fence and another look are the caller's.
    pub(crate) fn lie_down(&self) {
        doorbell::announce(&self.asleep);
    }

    /// Its own reactor: awake.
    pub(crate) fn get_up(&self) {
        doorbell::withdraw(&self.asleep);
    }

    /// Its own reactor: whether somebody asked for a turn since the last time.
    pub(crate) fn take_wanted(&self) -> bool {
        // ORDERING 6: the exchange reads the latest request, and so sees what was made ready before it.
        self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Site::TakeWanted.acquire())
    }

    /// Its own reactor: the same without taking it.
    pub(crate) fn is_wanted(&self) -> bool {
        // ORDERING 6.
        self.wanted.load(Ordering::Relaxed)
    }

    /// Any thread: asks for a turn.
    pub(crate) fn want(&self) {
        // ORDERING 6.
        self.wanted.store(true, Site::Want.release());
        doorbell::after_news();
        self.ring();
    }

    /// Any thread, after its fence: wakes the reactor if it sleeps. Only one of many that ring pays for the system call.
    pub(crate) fn ring(&self) {
        if doorbell::take(&self.asleep) {
            self.signal();
        }
    }

    /// Wakes the thread, or makes its next sleep short.
    pub(crate) fn signal(&self) {
        if let Some(mut eventfd) = self.eventfd.as_ref() {
            // EAGAIN, the only failure, means that it was signalled 2^64 - 2 times before.
            let _ = eventfd.write(&1u64.to_ne_bytes());
        }
    }

    /// Takes the signal back.
    pub(crate) fn clear_signal(&self) {
        if let Some(mut eventfd) = self.eventfd.as_ref() {
            // EAGAIN: there was none.
            let _ = eventfd.read(&mut [0; 8]);
        }
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.eventfd.as_ref().map(AsFd::as_fd)
    }
}
