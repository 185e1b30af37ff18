//! What a reactor does between two turns when there is nothing to do.

use std::sync::Arc;

use crate::mailbox::Wake;
use crate::primitive::{AtomicU64, Ordering};
use crate::program::Progress;

/// The longest time that a mode can hold: 2 s.
const NS_MAX: u64 = (1 << 31) - 1;
/// Pause instructions between two turns of a reactor that has been idle for a while: about a microsecond.
const PAUSE_COUNT: u32 = 32;

/// What a reactor does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollMode {
    /// Polls without pause: the CPU is always used whole.
    Busy,
    /// Gives its CPU to other threads after each turn that found nothing.
    Yielding,
    /// Polls without pause for `spin_ns` after there was something to do, then with pause instructions for `pause_ns`, then sleeps until something
    /// wakes it. Both are at most 2 s.
    Adaptive {
        /// ns.
        spin_ns: u64,
        /// ns.
        pause_ns: u64,
    },
}

impl PollMode {
    /// The default: sleeps after a millisecond without work.
    pub const ADAPTIVE: Self = Self::Adaptive { spin_ns: 100_000, pause_ns: 900_000 };
    /// Sleeps at once.
    pub const SLEEPING: Self = Self::Adaptive { spin_ns: 0, pause_ns: 0 };

    const fn to_word(self) -> u64 {
        match self {
            Self::Busy => 0,
            Self::Yielding => 1,
            Self::Adaptive { spin_ns, pause_ns } => 2 | at_most(spin_ns) << 2 | at_most(pause_ns) << 33,
        }
    }

    const fn from_word(word: u64) -> Self {
        match word & 3 {
            0 => Self::Busy,
            1 => Self::Yielding,
            _ => Self::Adaptive { spin_ns: (word >> 2) & NS_MAX, pause_ns: word >> 33 },
        }
    }
}

const fn at_most(ns: u64) -> u64 {
    if ns < NS_MAX { ns } else { NS_MAX }
}

/// Changes one reactor's mode, from any thread.
#[derive(Clone)]
pub struct PollSwitch {
    word: Arc<AtomicU64>,
    wake: Wake,
}

impl PollSwitch {
    pub(crate) fn new(mode: PollMode, wake: Wake) -> Self {
        Self { word: Arc::new(AtomicU64::new(mode.to_word())), wake }
    }

    /// Sets it: a reactor that sleeps is woken to see it.
    pub fn set(&self, mode: PollMode) {
        // ORDERING 9.
        self.word.store(mode.to_word(), Ordering::Relaxed);
        self.wake.wake();
    }

    /// As it is.
    #[must_use]
    pub fn mode(&self) -> PollMode {
        PollMode::from_word(self.word.load(Ordering::Relaxed))
    }
}

/// What comes between a turn and the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    Nothing,
    Pause,
    Yield,
    Sleep,
}

/// Since when there has been nothing to do.
#[derive(Debug, Default)]
pub(super) struct Idleness {
    since_ns: Option<u64>,
}

impl Idleness {
    /// After a turn that began at `turn_ns`.
    pub(super) fn after(&mut self, progress: Progress, switch: &PollSwitch, turn_ns: u64) -> Between {
        if progress == Progress::Busy {
            self.since_ns = None;
            return Between::Nothing;
        }
        match switch.mode() {
            PollMode::Busy => Between::Nothing,
            PollMode::Yielding => Between::Yield,
            PollMode::Adaptive { spin_ns, pause_ns } => self.for_how_long(turn_ns, spin_ns, pause_ns),
        }
    }

    fn for_how_long(&mut self, now_ns: u64, spin_ns: u64, pause_ns: u64) -> Between {
        let idle_ns = now_ns - *self.since_ns.get_or_insert(now_ns);
        if idle_ns < spin_ns {
            Between::Nothing
        } else if idle_ns < spin_ns + pause_ns {
            Between::Pause
        } else {
            // Whether it sleeps or must be polled: it begins anew.
            self.since_ns = None;
            Between::Sleep
        }
    }
}

/// Some pause instructions.
pub(super) fn pause() {
    for _ in 0..PAUSE_COUNT {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_survives_its_word() {
        let longest = PollMode::Adaptive { spin_ns: NS_MAX, pause_ns: NS_MAX };
        for mode in [PollMode::Busy, PollMode::Yielding, PollMode::ADAPTIVE, PollMode::SLEEPING, longest] {
            assert_eq!(PollMode::from_word(mode.to_word()), mode);
        }
        let too_long = PollMode::Adaptive { spin_ns: u64::MAX, pause_ns: 1 << 40 };
        assert_eq!(PollMode::from_word(too_long.to_word()), longest);
    }

    #[test]
    fn it_spins_then_pauses_then_sleeps() {
        let mut idleness = Idleness::default();
        let between: Vec<_> = [1000, 1009, 1010, 1029, 1030, 1031].map(|ns| idleness.for_how_long(ns, 10, 20)).into();
        let expected =
            [Between::Nothing, Between::Nothing, Between::Pause, Between::Pause, Between::Sleep, Between::Nothing];
        assert_eq!(between, expected, "and begins anew after it was woken");
        assert_eq!(Idleness::default().for_how_long(5, 0, 0), Between::Sleep);
    }
}
