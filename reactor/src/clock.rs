//! Time in ns.
//!
//! With an invariant time stamp counter (it counts at one rate in all power states, and Linux keeps it equal on all CPUs) the
//! time is a multiplication away from one instruction; elsewhere the operating system is asked.

use std::time::Instant;

/// How long the counter is compared with the operating system's clock.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const CALIBRATION_NS: u64 = 5_000_000;

/// A monotonic clock: the time stamp counter where it is invariant, else the operating system's. Copies show the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    source: Source,
}

/// Where a turn takes its time from.
pub trait TimeSource {
    /// ns.
    fn now_ns(&self) -> u64;
}

/// Without [`Self::now_ns`]'s promise, at half its cost: the CPU may read the counter some tens of ns before what comes earlier in the program.
/// That is enough for a turn, which has one time for all that it does.
impl TimeSource for Clock {
    #[inline]
    fn now_ns(&self) -> u64 {
        match &self.source {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Source::Counter(counter) => counter.about_now_ns(),
            Source::OperatingSystem(_) => Self::now_ns(self),
        }
    }
}

/// Time that stands still during a turn, as in a simulation.
impl TimeSource for u64 {
    fn now_ns(&self) -> u64 {
        *self
    }
}

#[derive(Clone, Copy, Debug)]
enum Source {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Counter(counter::Counter),
    OperatingSystem(Instant),
}

impl Clock {
    /// Starts at zero. The first of a process calibrates, which takes some ms.
    #[must_use]
    pub fn start() -> Self {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if let Some(counter) = counter::Counter::start() {
            return Self { source: Source::Counter(counter) };
        }
        Self { source: Source::OperatingSystem(operating_system()) }
    }

    /// ns since the start. Never before what the program did earlier: a time that was read on one CPU and sent to another is not after the time
    /// that is read there.
    #[must_use]
    #[inline]
    pub fn now_ns(&self) -> u64 {
        match &self.source {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Source::Counter(counter) => counter.now_ns(),
            // 2^64 ns are 584 years.
            Source::OperatingSystem(start) => {
                u64::try_from(operating_system().duration_since(*start).as_nanos()).unwrap_or(u64::MAX)
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn operating_system() -> Instant {
    Instant::now()
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod counter {
    use std::arch::x86_64::{__cpuid, _mm_lfence, _rdtsc};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use super::{CALIBRATION_NS, operating_system};

    /// ns = (counter − start) · ns_per_tick, the factor with 32 bits behind the point.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Counter {
        start: u64,
        ns_per_tick_shifted: u64,
    }

    const SHIFT: u32 = 32;

    /// Measured once: the counter has one rate as long as the machine runs. 0 before. A number by itself, so relaxed; who comes at the same time measures
    /// too, and either is right.
    static NS_PER_TICK_SHIFTED: AtomicU64 = AtomicU64::new(0);

    impl Counter {
        /// `None` where the counter cannot be trusted.
        pub(super) fn start() -> Option<Self> {
            let ns_per_tick_shifted = match NS_PER_TICK_SHIFTED.load(Ordering::Relaxed) {
                0 => Self::calibrate()?,
                measured => measured,
            };
            NS_PER_TICK_SHIFTED.store(ns_per_tick_shifted, Ordering::Relaxed);
            Some(Self { start: tick(), ns_per_tick_shifted })
        }

        fn calibrate() -> Option<u64> {
            if !is_invariant() {
                return None;
            }
            let (begin_tick, begin) = both();
            let (end_tick, ns) = loop {
                let (tick, now) = both();
                let ns = u64::try_from(now.duration_since(begin).as_nanos()).ok()?;
                if ns >= CALIBRATION_NS {
                    break (tick, ns);
                }
                std::hint::spin_loop();
            };
            let ticks = end_tick.checked_sub(begin_tick).filter(|ticks| *ticks > 0)?;
            let factor = (u128::from(ns) << SHIFT) / u128::from(ticks);
            u64::try_from(factor).ok()
        }

        #[inline]
        pub(super) fn now_ns(&self) -> u64 {
            self.ns(tick())
        }

        /// Not ordered with what comes before.
        #[inline]
        pub(super) fn about_now_ns(&self) -> u64 {
            // SAFETY: every x86-64 has it.
            self.ns(unsafe { _rdtsc() })
        }

        #[inline]
        fn ns(&self, tick: u64) -> u64 {
            // Counters of two CPUs may differ by a few ticks: never below zero.
            let ticks = tick.saturating_sub(self.start);
            let ns = (u128::from(ticks) * u128::from(self.ns_per_tick_shifted)) >> SHIFT;
            #[expect(clippy::cast_possible_truncation, reason = "2^64 ns are 584 years")]
            let ns = ns as u64;
            ns
        }
    }

    /// Both clocks at one moment, as nearly as can be had: of some tries the one in which the counter moved least around the
    /// other clock's reading, so that an interrupt in between does no harm.
    fn both() -> (u64, Instant) {
        let once = || {
            let before = tick();
            let now = operating_system();
            let width = tick().saturating_sub(before);
            (width, before + width / 2, now)
        };
        let mut best = once();
        for _ in 0..4 {
            let next = once();
            if next.0 < best.0 {
                best = next;
            }
        }
        (best.1, best.2)
    }

    #[inline]
    fn tick() -> u64 {
        // Not before what the program did earlier.
        // SAFETY: part of SSE2, which every x86-64 has.
        unsafe { _mm_lfence() };
        // SAFETY: every x86-64 has it.
        unsafe { _rdtsc() }
    }

    /// AMD64 Architecture Programmer's Manual, volume 3, CPUID Fn8000_0007_EDX bit 8 (Intel: the same leaf and bit).
    fn is_invariant() -> bool {
        const HIGHEST_EXTENDED_LEAF: u32 = 0x8000_0000;
        const POWER_LEAF: u32 = 0x8000_0007;
        const INVARIANT_COUNTER: u32 = 1 << 8;
        __cpuid(HIGHEST_EXTENDED_LEAF).eax >= POWER_LEAF && __cpuid(POWER_LEAF).edx & INVARIANT_COUNTER != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_agrees_with_the_operating_systems_clock() {
        let clock = Clock::start();
        let begin = operating_system();
        let begin_ns = clock.now_ns();
        #[expect(clippy::disallowed_methods, reason = "time must pass")]
        std::thread::sleep(Duration::from_millis(50));
        let ns = clock.now_ns() - begin_ns;
        let expected_ns = u64::try_from(begin.elapsed().as_nanos()).unwrap();
        // A thousandth, and a millisecond for being taken off the CPU between the two readings.
        assert!(ns.abs_diff(expected_ns) < expected_ns / 1000 + 1_000_000, "{ns} against {expected_ns}");
    }

    #[test]
    fn it_never_goes_backwards_also_between_cpus() {
        use std::sync::atomic::{AtomicU64, Ordering};
        let clock = Clock::start();
        let latest_ns = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..100_000 {
                        let seen_ns = latest_ns.load(Ordering::Acquire);
                        let now_ns = clock.now_ns();
                        assert!(now_ns >= seen_ns, "{now_ns} after {seen_ns}");
                        latest_ns.fetch_max(now_ns, Ordering::AcqRel);
                    }
                });
            }
        });
    }
}
