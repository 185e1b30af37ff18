//! What runs on a CPU.

use std::os::fd::RawFd;

use crate::cpu::Cpu;
use crate::turn::Turn;

/// Whether a poll found anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing was there.
    Idle,
    /// Something was done; there may be more.
    Busy,
}

impl Progress {
    /// Busy if either is.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Busy { self } else { other }
    }

    /// Busy if `did`.
    #[must_use]
    pub fn busy_if(did: bool) -> Self {
        if did { Self::Busy } else { Self::Idle }
    }
}

/// What a reactor runs. All calls come from the reactor's own thread, one at a time, and none may block.
///
/// `'t` is the turn: references from shared tables live as long as it and no longer, and since each method is written for
/// every `'t`, the compiler refuses to keep one in `self`.
pub trait Program {
    /// What other CPUs send. Messages hold handles, never references.
    type Message: Send + 'static;

    /// A message came. Messages of one sender come in the order in which they were sent. `from` is `None` for messages
    /// from a [`crate::Postbox`] (threads that are no reactors).
    fn receive<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, from: Option<Cpu>, message: Self::Message);

    /// A timer that this CPU armed has come due. `token` is what was given to [`Turn::arm`].
    fn fire<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, token: u64);

    /// One bounded round of polling.
    fn poll<'t>(&mut self, turn: &mut Turn<'t, Self::Message>) -> Progress;

    /// For programs on a sleeping reactor ([`crate::Placement::Sleeping`]): a descriptor (typically an epoll instance)
    /// whose readability ends the sleep.
    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }
}
