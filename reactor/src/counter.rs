//! Counters with one writer. All accesses are relaxed (`docs/ORDERING.md`, 9): they are numbers for people.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::cpu::Cpu;
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
    pub turn_lengths: TurnLengths,
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

/// How many of the turns that found something were how long: four buckets for each power of two, so that a bucket's ends are at most a fifth apart.
#[derive(Debug)]
pub struct TurnLengths([Counter; BUCKET_COUNT]);

/// Buckets: lengths from 2^36 ns (a minute) are in the last.
const BUCKET_COUNT: usize = 35 * 4;

impl Default for TurnLengths {
    fn default() -> Self {
        Self([const { Counter::new() }; BUCKET_COUNT])
    }
}

impl TurnLengths {
    #[inline]
    pub(crate) fn record(&self, len_ns: u64) {
        self.0[bucket(len_ns)].add(1);
    }

    /// The buckets that are not empty: longest length of the bucket (ns), number of turns.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.0.iter().map(Counter::value);
        counts.enumerate().filter(|(_, count)| *count > 0).map(|(bucket, count)| (longest(bucket), count))
    }

    /// The length that `share` (0 to 1) of the turns did not exceed, to the precision of the buckets; 0 if there were none.
    #[must_use]
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let total: u64 = self.0.iter().map(Counter::value).sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share"
        )]
        let wanted = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let reached = self.buckets().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(0, |(longest_ns, _)| longest_ns)
    }
}

#[inline]
fn bucket(len_ns: u64) -> usize {
    if len_ns < 4 {
        return usize::try_from(len_ns).unwrap_or(0);
    }
    let exponent = len_ns.ilog2();
    let quarter = (len_ns >> (exponent - 2)) & 3;
    let bucket = u64::from(exponent - 1) * 4 + quarter;
    usize::try_from(bucket).unwrap_or(usize::MAX).min(BUCKET_COUNT - 1)
}

/// The longest length in a bucket.
fn longest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 4 {
        return bucket;
    }
    let exponent = bucket / 4 + 1;
    let quarter = bucket % 4;
    ((5 + quarter) << (exponent - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_in_the_bucket_that_ends_at_or_after_it() {
        let mut before = 0;
        for len_ns in (0..5000).chain((13..36).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let bucket = bucket(len_ns);
            assert!(len_ns <= longest(bucket), "{len_ns} in a bucket up to {}", longest(bucket));
            assert!(bucket == 0 || len_ns > longest(bucket - 1), "{len_ns} after {}", longest(bucket - 1));
            assert!(bucket >= before);
            before = bucket;
        }
        assert_eq!(bucket(u64::MAX), BUCKET_COUNT - 1);
    }

    #[test]
    fn quantiles_are_the_buckets_ends() {
        let lengths = TurnLengths::default();
        assert_eq!(lengths.quantile_ns(0.5), 0);
        for len_ns in 1..=100 {
            lengths.record(len_ns);
        }
        let median = lengths.quantile_ns(0.5);
        assert!((50..=60).contains(&median), "{median}");
        assert!((100..=112).contains(&lengths.quantile_ns(1.0)));
        assert_eq!(lengths.buckets().map(|(_, count)| count).sum::<u64>(), 100);
    }

    #[test]
    fn an_activity_has_a_name_from_the_start() {
        let counters = ReactorCounters::new(2);
        assert_eq!(counters.activity(), "start");
        counters.set_activity(&"connect");
        assert_eq!(counters.activity(), "connect");
    }
}
