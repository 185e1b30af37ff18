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

/// Whether a program that has found nothing to do lets its CPU sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It has to be polled: no sleep now.
    Poll,
    /// It can sleep: a message, a timer or its wake-up descriptor ends the sleep.
    Sleep,
    /// The same, but not beyond this time of the turns' clock (ns).
    SleepUntil(u64),
}

impl Rest {
    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Poll, _) | (_, Self::Poll) => Self::Poll,
            (Self::Sleep, rest) | (rest, Self::Sleep) => rest,
            (Self::SleepUntil(one), Self::SleepUntil(two)) => Self::SleepUntil(one.min(two)),
        }
    }
}

/// A name that costs a pointer to pass on: `&"connect"`.
pub type Name = &'static &'static str;

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

    /// The reactor found nothing to do for a while and would sleep after this. A program whose `poll` looks at anything (a completion queue, a
    /// ring in shared memory, a socket) first has each of these end the sleep by way of [`Self::wake_descriptor`], then looks once more, and answers
    /// [`Rest::Poll`] if something was there. The default never sleeps. Each call is followed by one of [`Self::awake`] before anything else.
    fn rest<'t>(&mut self, _turn: &mut Turn<'t, Self::Message>) -> Rest {
        Rest::Poll
    }

    /// The sleep is over, or did not take place: wake-ups are not needed any more.
    fn awake(&mut self) {}

    /// A descriptor (typically an epoll instance) whose readability ends the sleep. It is not drained.
    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }

    /// What a message is, for the report that it held its CPU too long (see [`crate::Watch`]).
    fn message_name(_message: &Self::Message) -> Name {
        &"message"
    }
}
