//! Poll modes as people name them: words, times in µs, and which placement allows which. The configuration and RPC take the same.

use reactor::PollMode;

/// The longest time to spin or to pause.
pub const TIME_US_MAX: u64 = 1_000_000;

/// A mode without its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Polls for a while after there was something to do, then sleeps.
    Adaptive,
    /// Polls without pause.
    Busy,
    /// Gives its CPU to other threads after each turn that found nothing.
    Yielding,
}

impl Word {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Adaptive, Self::Busy, Self::Yielding];

    /// What those are called that a reactor may have.
    pub fn allowed(is_pinned: bool) -> String {
        let words = Self::ALL.into_iter().filter(|word| word.is_allowed(is_pinned));
        words.map(|word| format!("\"{}\"", word.name())).collect::<Vec<_>>().join(" or ")
    }

    /// By name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|word| word.name() == name)
    }

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Busy => "busy",
            Self::Yielding => "yielding",
        }
    }

    /// A reactor that is not pinned shares its CPU with others: it must not keep it when there is nothing to do.
    #[must_use]
    pub fn is_allowed(self, is_pinned: bool) -> bool {
        is_pinned || self != Self::Busy
    }

    /// With its times, which only [`Self::Adaptive`] has; those that are not given are the reactor's own.
    #[must_use]
    pub fn with_times(self, spin_us: Option<u64>, pause_us: Option<u64>) -> PollMode {
        match self {
            Self::Busy => PollMode::Busy,
            Self::Yielding => PollMode::Yielding,
            Self::Adaptive => {
                let (default_spin_us, default_pause_us) = times_us(PollMode::ADAPTIVE).unwrap_or_default();
                PollMode::Adaptive {
                    spin_ns: spin_us.unwrap_or(default_spin_us) * 1000,
                    pause_ns: pause_us.unwrap_or(default_pause_us) * 1000,
                }
            }
        }
    }

    /// Of a mode.
    #[must_use]
    pub fn of(mode: PollMode) -> Self {
        match mode {
            PollMode::Busy => Self::Busy,
            PollMode::Yielding => Self::Yielding,
            PollMode::Adaptive { .. } => Self::Adaptive,
        }
    }
}

/// How long an adaptive mode spins and pauses.
#[must_use]
pub fn times_us(mode: PollMode) -> Option<(u64, u64)> {
    match mode {
        PollMode::Adaptive { spin_ns, pause_ns } => Some((spin_ns / 1000, pause_ns / 1000)),
        PollMode::Busy | PollMode::Yielding => None,
    }
}

/// What a CPU does when there is nothing to do, in words.
#[must_use]
pub fn describe(mode: PollMode) -> String {
    match mode {
        PollMode::Busy => "polls on (\"busy\")".to_owned(),
        PollMode::Yielding => "gives its CPU to others between turns (\"yielding\")".to_owned(),
        PollMode::Adaptive { spin_ns, pause_ns } => {
            let (spin_us, pause_us) = (spin_ns / 1000, pause_ns / 1000);
            format!("spins {spin_us} µs, pauses {pause_us} µs, then sleeps where it can (\"adaptive\")")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_what_they_were() {
        for word in Word::ALL {
            assert_eq!(Word::named(word.name()), Some(word));
            assert_eq!(Word::of(word.with_times(None, None)), word);
        }
        assert_eq!(Word::named("Busy"), None);
        assert_eq!(Word::Adaptive.with_times(None, None), PollMode::ADAPTIVE);
        let mode = Word::Adaptive.with_times(Some(3), Some(0));
        assert_eq!((mode, times_us(mode)), (PollMode::Adaptive { spin_ns: 3000, pause_ns: 0 }, Some((3, 0))));
    }

    #[test]
    fn who_shares_a_cpu_may_not_keep_it() {
        assert_eq!(Word::allowed(true), "\"adaptive\" or \"busy\" or \"yielding\"");
        assert_eq!(Word::allowed(false), "\"adaptive\" or \"yielding\"");
    }
}
