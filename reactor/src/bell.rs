//! Whether a reactor sleeps, and how it is woken.
//!
//! By the protocol of [`crate::doorbell`]; the signal is what rings.

mod signal;

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::doorbell;
#[cfg(loom)]
use crate::primitive::mutation::Rule;
use crate::primitive::{AtomicBool, AtomicU8, AtomicU32, Ordering, Site};

use signal::Signal;

/// One reactor's.
#[derive(Debug)]
pub(crate) struct Bell {
    /// What ends a real thread's sleep.
    signal: Signal,
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
            signal: Signal::new(eventfd),
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

    /// Whether it lay down and nobody has rung since: for the simulation, where this is all that a sleep is.
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed) != 0
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
        // ORDERING 6: an exchange continues the release sequences of earlier requests, so that whoever takes this one has seen what came with all.
        #[cfg(loom)]
        if Rule::WantByExchange.is_broken() {
            self.wanted.store(true, Site::Want.release());
            doorbell::after_news();
            return self.ring();
        }
        self.wanted.swap(true, Site::Want.release());
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
        self.signal.raise();
    }

    /// Takes the signal back.
    pub(crate) fn clear_signal(&self) {
        self.signal.clear();
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.signal.descriptor()
    }

    /// The model checker's sleep.
    #[cfg(all(loom, test))]
    pub(crate) fn wait(&self) {
        self.signal.wait();
    }
}
