//! What all CPUs share of one limit: the time up to which its tokens have been given out, in ns.
//!
//! Relaxed throughout: the word is all that there is, and its value is only ever compared with times of a clock that all CPUs have.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Kind;

/// One for each limit.
#[derive(Default)]
pub(super) struct Buckets([Bucket; Kind::COUNT]);

impl Buckets {
    pub(super) fn of(&self, kind: Kind) -> &Bucket {
        &self.0[kind as usize]
    }
}

#[derive(Default)]
#[repr(align(128))]
pub(super) struct Bucket {
    given_until_ns: AtomicU64,
}

/// What is asked of a bucket, in ns of its rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// What could be used.
    pub(super) wanted_ns: u64,
    /// What nobody else has a better right to.
    pub(super) entitled_ns: u64,
    /// What stays for others, of what one is not entitled to.
    pub(super) reserve_ns: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) granted_ns: u64,
    /// What there was.
    pub(super) available_ns: u64,
}

impl Bucket {
    /// Takes what the demand can have. Never more than there is, and there is never more than a burst.
    pub(super) fn take(&self, now_ns: u64, burst_ns: u64, demand: Demand) -> Grant {
        let mut given_until_ns = self.given_until_ns.load(Ordering::Relaxed);
        loop {
            let start_ns = given_until_ns.max(now_ns.saturating_sub(burst_ns));
            let available_ns = now_ns.saturating_sub(start_ns);
            let spare_ns = available_ns.saturating_sub(demand.reserve_ns);
            let granted_ns = demand.wanted_ns.min(demand.entitled_ns.min(available_ns).max(spare_ns));
            let grant = Grant { granted_ns, available_ns };
            if granted_ns == 0 {
                return grant;
            }
            let next_ns = start_ns + granted_ns;
            match self.given_until_ns.compare_exchange_weak(
                given_until_ns,
                next_ns,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return grant,
                Err(other_ns) => given_until_ns = other_ns,
            }
        }
    }

    /// What was taken and not used.
    pub(super) fn give(&self, ns: u64) {
        // Never below zero: the first burst's worth was taken before the clock's zero.
        let _ = self
            .given_until_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until_ns| Some(until_ns.saturating_sub(ns)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(wanted_ns: u64) -> Demand {
        Demand { wanted_ns, entitled_ns: u64::MAX, reserve_ns: 0 }
    }

    #[test]
    fn no_more_is_given_than_time_has_passed_and_a_burst() {
        let bucket = Bucket::default();
        let take = |now_ns, wanted_ns| bucket.take(now_ns, 1000, all(wanted_ns)).granted_ns;
        assert_eq!((take(50_000, 600), take(50_000, 600), take(50_000, 600)), (600, 400, 0));
        assert_eq!((take(50_100, 600), take(50_100, 600)), (100, 0));
        assert_eq!(take(49_000, 600), 0, "another CPU's turn began before");
        assert_eq!(take(90_000, 5000), 1000);
        bucket.give(300);
        assert_eq!(bucket.take(90_000, 1000, all(5000)), Grant { granted_ns: 300, available_ns: 300 });
    }

    #[test]
    fn beyond_what_one_is_entitled_to_a_reserve_stays() {
        let bucket = Bucket::default();
        let demand = Demand { wanted_ns: 900, entitled_ns: 100, reserve_ns: 400 };
        assert_eq!(bucket.take(5000, 1000, demand).granted_ns, 600);
        assert_eq!(bucket.take(5000, 1000, demand).granted_ns, 100);
        assert_eq!(bucket.take(5000, 1000, Demand { wanted_ns: 50, ..demand }).granted_ns, 50);
        assert_eq!(bucket.take(5000, 1000, all(u64::MAX)).granted_ns, 250);
    }
}
