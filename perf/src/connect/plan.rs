//! Which association comes next, and when: what all lines share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use reactor::Clock;

use super::settings::{Extent, Settings};
use crate::arguments::End;
use crate::random::Random;
use crate::signal;

/// How often signals are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How an association is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Quiet,
    Abrupt,
    Early,
}

/// One association.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// Counts all of them, from 1.
    pub(super) number: u64,
    pub(super) ending: Ending,
}

/// The run's associations. All accesses are relaxed: numbers, of which nothing else depends.
pub(super) struct Plan {
    clock: Clock,
    extent: Extent,
    end: End,
    has_io: bool,
    rate_per_s: Option<f64>,
    goes_on: bool,
    begun: AtomicU64,
    ended: AtomicU64,
    last_ended_ns: AtomicU64,
    is_over: AtomicBool,
}

impl Plan {
    /// Begins now.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            clock: Clock::start(),
            extent: settings.extent,
            end: settings.end,
            has_io: settings.slot_count() > 0,
            rate_per_s: settings.rate_per_s,
            goes_on: settings.continue_on_error,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            last_ended_ns: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// The next association, when it is due. `None` if there is to be none.
    pub(super) fn next(&self, random: &mut Random) -> Option<Life> {
        if self.is_over() {
            return None;
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        if matches!(self.extent, Extent::Lives(lives) if number > lives) {
            return None;
        }
        if let Some(rate_per_s) = self.rate_per_s {
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let due = Duration::from_secs_f64((number - 1) as f64 / rate_per_s);
            while self.elapsed() < due {
                if self.is_over() {
                    return None;
                }
                thread::park_timeout((due - self.elapsed()).min(LOOK));
            }
        }
        let ending = match self.end {
            End::Quiet => Ending::Quiet,
            End::Abrupt => Ending::Abrupt,
            End::Early => Ending::Early,
            End::Mixed => match random.below(3) {
                0 => Ending::Early,
                1 if self.has_io => Ending::Abrupt,
                _ => Ending::Quiet,
            },
        };
        Some(Life { number, ending })
    }

    /// One is over.
    pub(super) fn ended(&self, has_failed: bool) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.last_ended_ns.fetch_max(self.clock.now_ns(), Ordering::Relaxed);
        if has_failed && !self.goes_on {
            self.stop();
        }
    }

    /// There are to be no more.
    pub(super) fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Waits, unless there is nothing to wait for.
    pub(super) fn rest(&self, time: Duration) {
        let until = self.elapsed() + time;
        while self.elapsed() < until && !self.is_over() {
            thread::park_timeout((until - self.elapsed()).min(LOOK));
        }
    }

    /// Since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.clock.now_ns())
    }

    /// When the last was over.
    pub(super) fn last_ended(&self) -> Duration {
        Duration::from_nanos(self.last_ended_ns.load(Ordering::Relaxed).max(1))
    }

    /// How many are over.
    pub(super) fn ended_count(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// How much is done, from 0 to 1.
    pub(super) fn share(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let share = match self.extent {
            Extent::Time(time) => self.elapsed().as_secs_f64() / time.as_secs_f64().max(1e-3),
            Extent::Lives(lives) => self.ended_count() as f64 / lives as f64,
        };
        share.min(1.0)
    }

    fn is_over(&self) -> bool {
        let is_late = matches!(self.extent, Extent::Time(time) if self.elapsed() >= time);
        is_late || signal::count() > 0 || self.is_over.load(Ordering::Relaxed)
    }
}
