//! Counters with one writer. All accesses are relaxed (`docs/ORDERING.md`, 9): they are numbers for people.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::cpu::Cpu;
use crate::durations::Durations;
use crate::program::Name;

/// A number that one CPU writes with plain stores and anybody may read. Also used as a gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`. Only its one writer may.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` away (gauges). Only its one writer may.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Sets it. Only its one writer may.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// As it is now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a reactor counts. One writer: its own CPU, whose cache keeps these lines to itself.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ReactorCounters {
    /// Turns.
    pub turn_count: Counter,
    /// Turns that found something to do.
    pub busy_turn_count: Counter,
    /// Time in turns that found something to do.
    pub busy_ns: Counter,
    /// Time in turns that found nothing; sleep is not counted.
    pub idle_ns: Counter,
    /// Time asleep.
    pub sleep_ns: Counter,
    /// Times that it went to sleep.
    pub sleep_count: Counter,
    /// Longest turn, from its begin to the next one's; sleep is not counted.
    pub longest_turn_ns: Counter,
    /// Lengths of the turns that found something to do.
    pub turn_lengths: Durations,
    /// Messages, timers and parts of polls that held the CPU longer than the limit ([`crate::Watch`]).
    pub slow_count: Counter,
    /// Messages received.
    pub message_count: Counter,
    /// Messages that found the ring full, to any CPU.
    pub ring_full_count: Counter,
    /// Timers fired.
    pub timer_count: Counter,
    /// Values in this CPU's limbos.
    pub limbo_len: Counter,
    ring_full_counts: Box<[Counter]>,
    activity: Activity,
}

impl ReactorCounters {
    pub(crate) fn new(cpu_count: u16) -> Self {
        Self { ring_full_counts: (0..cpu_count).map(|_| Counter::new()).collect(), ..Self::default() }
    }

    /// Messages to `cpu` that found the ring full, and had to wait in the backlog.
    #[must_use]
    pub fn ring_full_count_to(&self, cpu: Cpu) -> u64 {
        self.ring_full_counts.get(usize::from(cpu.0)).map_or(0, Counter::value)
    }

    /// What the CPU does now, or did last.
    #[must_use]
    pub fn activity(&self) -> &'static str {
        self.activity.name()
    }

    #[inline]
    pub(crate) fn set_activity(&self, name: Name) {
        self.activity.set(name);
    }

    pub(crate) fn count_ring_full(&self, to: Cpu) {
        self.ring_full_count.add(1);
        if let Some(count) = self.ring_full_counts.get(usize::from(to.0)) {
            count.add(1);
        }
    }
}

/// A name that one CPU writes and anybody may read.
#[derive(Debug)]
struct Activity(AtomicPtr<&'static str>);

impl Default for Activity {
    fn default() -> Self {
        Self(AtomicPtr::new(std::ptr::from_ref::<&'static str>(&"start").cast_mut()))
    }
}

impl Activity {
    #[inline]
    fn set(&self, name: Name) {
        self.0.store(std::ptr::from_ref(name).cast_mut(), Ordering::Relaxed);
    }

    fn name(&self) -> &'static str {
        // SAFETY: only `set` and `default` store here, from references to statics, which nobody writes.
        unsafe { *self.0.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_activity_has_a_name_from_the_start() {
        let counters = ReactorCounters::new(2);
        assert_eq!(counters.activity(), "start");
        counters.set_activity(&"connect");
        assert_eq!(counters.activity(), "connect");
    }
}
