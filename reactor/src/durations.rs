//! A histogram of times with one writer: plain stores, as in [`Counter`], and anybody may read.

use crate::counter::Counter;

/// How many things took how long: four buckets for each power of two, so that a bucket's ends are at most a fifth apart.
#[derive(Debug)]
pub struct Durations([Counter; BUCKET_COUNT]);

/// Buckets: what took 2^36 ns (a minute) or longer is in the last.
const BUCKET_COUNT: usize = 35 * 4;

impl Default for Durations {
    fn default() -> Self {
        Self([const { Counter::new() }; BUCKET_COUNT])
    }
}

impl Durations {
    /// One more. Only its one writer may.
    #[inline]
    pub fn record(&self, len_ns: u64) {
        self.0[bucket(len_ns)].add(1);
    }

    /// The buckets that are not empty: longest time of the bucket (ns), how many are in it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.0.iter().map(Counter::value);
        counts.enumerate().filter(|(_, count)| *count > 0).map(|(bucket, count)| (longest(bucket), count))
    }

    /// The time that `share` (0 to 1) of them did not exceed, to the precision of the buckets; 0 if there were none.
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

/// The longest time in a bucket.
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
        let lengths = Durations::default();
        assert_eq!(lengths.quantile_ns(0.5), 0);
        for len_ns in 1..=100 {
            lengths.record(len_ns);
        }
        let median = lengths.quantile_ns(0.5);
        assert!((50..=60).contains(&median), "{median}");
        assert!((100..=112).contains(&lengths.quantile_ns(1.0)));
        assert_eq!(lengths.buckets().map(|(_, count)| count).sum::<u64>(), 100);
    }
}
