//! The only place of the simulator that asks what time it really is: for people, for `--minutes`, and for fresh seeds. It decides nothing in a run.

use std::time::{Duration, Instant, SystemTime};

/// Time since it was started.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// From now on.
    #[must_use]
    pub fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "no run sees it")]
        Self(Instant::now())
    }

    /// Since then.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Since then.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

/// A seed that was hardly used before, short enough to be copied by hand.
#[must_use]
pub fn fresh_seed() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a fresh seed is to be another one each time, and is printed")]
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Thousands of seeds follow on it: those of the next second are others.
    since_1970.as_secs() % 1_000_000_000 * 100_000 + u64::from(since_1970.subsec_millis())
}
