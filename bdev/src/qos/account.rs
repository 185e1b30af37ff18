//! What one CPU may still do under a set of limits: its slices of the shared buckets, spent in even pace.
//!
//! Tokens are time in ps here, since an operation under a high limit costs less than a ns that it could be rounded to.

use super::bucket::{Buckets, Demand};
use super::{BURST_MS_MIN, Direction, Kind, Rates, SLICE_NS};

const PS_PER_NS: i64 = 1000;

/// A bucket that has so much is not at its limit: what is taken from it is spent at once.
const UNPACED_NS: u64 = BURST_MS_MIN as u64 * 1_000_000;

/// Prices have so many binary places.
const PRICE_SHIFT: u32 = 16;

/// What an operation costs under a set of limits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prices {
    /// ps for each operation or byte, with [`PRICE_SHIFT`]. 0: no limit.
    per_unit: [u64; Kind::COUNT],
}

impl Prices {
    pub(super) fn new(rates: Rates) -> Self {
        let price = |rate: u64| match rate {
            0 => 0,
            // 10^12 with 16 places has 56 bits.
            rate => ((1_000_000_000_000 << PRICE_SHIFT) / rate).max(1),
        };
        Self { per_unit: rates.array().map(price) }
    }

    pub(super) fn is_any(&self) -> bool {
        self.per_unit.iter().any(|price| *price > 0)
    }

    fn is_limited(&self, kind: Kind) -> bool {
        self.per_unit[kind as usize] > 0
    }

    fn of(&self, kind: Kind, unit_count: u64) -> i64 {
        let ps = (u128::from(self.per_unit[kind as usize]) * u128::from(unit_count)) >> PRICE_SHIFT;
        // A month, for what no limit was made for.
        const MOST: i64 = i64::MAX / 4;
        i64::try_from(ps).map_or(MOST, |ps| ps.min(MOST))
    }
}

/// Operations and bytes, each under the limits that it comes under.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Units([u64; Kind::COUNT]);

impl Units {
    /// Of one operation.
    pub(super) fn of(direction: Direction, byte_count: u64) -> Self {
        let mut units = [0; Kind::COUNT];
        for (kind, count) in direction.kinds().into_iter().zip([1, 1, byte_count, byte_count]) {
            units[kind as usize] = count;
        }
        Self(units)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(unit, other)| *unit += other);
    }

    pub(super) fn remove(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(unit, other)| *unit = unit.saturating_sub(other));
    }
}

/// How much of a bucket one CPU has a right to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) own: u64,
    /// At least its own, and not 0.
    pub(super) all: u64,
}

impl Share {
    fn of(self, ns: u64) -> u64 {
        // A slice has 20 bits, and weights are sums of a few of 20.
        ns.saturating_mul(self.own) / self.all.max(1)
    }

    fn is_whole(self) -> bool {
        self.own >= self.all
    }
}

/// What one CPU has of each limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    purses: [Purse; Kind::COUNT],
}

/// What it has of one.
#[derive(Clone, Copy, Debug, Default)]
struct Purse {
    /// To be spent now. Below zero: a debt.
    balance_ps: i64,
    /// To be spent in even pace during the slice that began then.
    slice_ps: i64,
    /// What of it has gone into the balance.
    paced_ps: i64,
    slice_began_ns: u64,
    /// When the bucket was last asked. 0: never.
    asked_ns: u64,
}

impl Account {
    /// Whether something of this direction may begin.
    pub(super) fn allows(&self, prices: &Prices, direction: Direction) -> bool {
        direction.kinds().into_iter().all(|kind| !prices.is_limited(kind) || self.purse(kind).balance_ps > 0)
    }

    /// It begins. Gives what it costs where that is most, in ps.
    pub(super) fn charge(&mut self, prices: &Prices, units: Units) -> i64 {
        let mut most_ps = 0;
        for kind in Kind::ALL {
            if prices.is_limited(kind) {
                let price_ps = prices.of(kind, units.0[kind as usize]);
                let purse = &mut self.purses[kind as usize];
                purse.balance_ps = purse.balance_ps.saturating_sub(price_ps);
                most_ps = most_ps.max(price_ps);
            }
        }
        most_ps
    }

    /// Takes slices for what waits, where it is time.
    pub(super) fn refill(
        &mut self,
        now_ns: u64,
        prices: &Prices,
        (buckets, burst_ns): (&Buckets, u64),
        waiting: &Units,
        share: Share,
    ) {
        for kind in Kind::ALL {
            let unit_count = waiting.0[kind as usize];
            if !prices.is_limited(kind) {
                continue;
            }
            let purse = &mut self.purses[kind as usize];
            purse.pace(now_ns);
            let since_ns = now_ns.saturating_sub(purse.asked_ns);
            // What has no bytes waits for some all the same.
            let lack_ps = prices.of(kind, unit_count).max(1).saturating_sub(purse.total_ps());
            if waiting.0[kind.counted_by() as usize] == 0 || lack_ps <= 0 || (purse.asked_ns > 0 && since_ns < SLICE_NS)
            {
                continue;
            }
            // Who comes after a long time has no right to all of it.
            let elapsed_ns = if since_ns > 4 * SLICE_NS { SLICE_NS } else { since_ns };
            let spare_ns = ns_of(purse.total_ps().max(0));
            let demand = Demand {
                // Twice the time that has passed: what was left unused before is used up, so that a bucket at its limit is an empty one.
                wanted_ns: ns_of(lack_ps).saturating_add(1).max((2 * elapsed_ns).saturating_sub(spare_ns)),
                entitled_ns: share.of(elapsed_ns),
                reserve_ns: if share.is_whole() { 0 } else { 2 * SLICE_NS },
            };
            let grant = buckets.of(kind).take(now_ns, burst_ns, demand);
            let granted_ps = i64::try_from(grant.granted_ns).unwrap_or(i64::MAX / PS_PER_NS).saturating_mul(PS_PER_NS);
            purse.receive(now_ns, granted_ps, grant.available_ns < UNPACED_NS);
        }
    }

    /// What has not been used goes back.
    pub(super) fn give_back(&mut self, prices: &Prices, buckets: &Buckets) {
        for kind in Kind::ALL {
            let purse = &mut self.purses[kind as usize];
            let unused_ns = ns_of(purse.total_ps().max(0));
            if prices.is_limited(kind) && unused_ns > 0 {
                buckets.of(kind).give(unused_ns);
                // It may ask again at once: who sleeps between two operations shall not wait for a slice.
                *purse = Purse::default();
            }
        }
    }

    /// When something of this direction may begin, or the buckets can be asked again.
    pub(super) fn ready_ns(
        &self,
        now_ns: u64,
        prices: &Prices,
        direction: Direction,
        share: Share,
        burst_ns: u64,
    ) -> u64 {
        let limited = direction.kinds().into_iter().filter(|kind| prices.is_limited(*kind));
        limited.map(|kind| self.purse(kind).ready_ns(now_ns, share, burst_ns)).max().unwrap_or(now_ns)
    }

    fn purse(&self, kind: Kind) -> &Purse {
        &self.purses[kind as usize]
    }
}

impl Purse {
    /// All that it has.
    fn total_ps(&self) -> i64 {
        self.balance_ps.saturating_add(self.slice_ps - self.paced_ps)
    }

    /// What has come due of the slice goes into the balance.
    fn pace(&mut self, now_ns: u64) {
        if self.paced_ps == self.slice_ps {
            return;
        }
        let elapsed_ns = now_ns.saturating_sub(self.slice_began_ns).min(SLICE_NS);
        // A slice that is paced is less than 4 ms, 32 bits of ps, and the time 20.
        let due_ps =
            i64::try_from(u128::from(self.slice_ps.unsigned_abs()) * u128::from(elapsed_ns) / u128::from(SLICE_NS))
                .unwrap_or(self.slice_ps);
        self.balance_ps = self.balance_ps.saturating_add(due_ps - self.paced_ps);
        self.paced_ps = due_ps;
    }

    fn receive(&mut self, now_ns: u64, granted_ps: i64, is_paced: bool) {
        self.balance_ps = self.total_ps();
        (self.slice_ps, self.paced_ps) = (0, 0);
        self.asked_ns = now_ns.max(1);
        if is_paced {
            (self.slice_ps, self.slice_began_ns) = (granted_ps, now_ns);
        } else {
            self.balance_ps = self.balance_ps.saturating_add(granted_ps);
        }
    }

    fn ready_ns(&self, now_ns: u64, share: Share, burst_ns: u64) -> u64 {
        if self.balance_ps > 0 {
            return now_ns;
        }
        let due_ps = self.paced_ps.saturating_sub(self.balance_ps).saturating_add(1);
        if due_ps <= self.slice_ps {
            let elapsed_ns =
                u128::from(due_ps.unsigned_abs()) * u128::from(SLICE_NS) / u128::from(self.slice_ps.unsigned_abs());
            return self.slice_began_ns.saturating_add(u64::try_from(elapsed_ns).unwrap_or(SLICE_NS)).saturating_add(1);
        }
        // A debt takes its time, of which this CPU has a share; but what a bucket has beyond a burst is lost if nobody asks for it.
        let debt_ns = ns_of(self.total_ps().saturating_neg().max(0));
        let alone_ns = if share.is_whole() { debt_ns } else { SLICE_NS };
        self.asked_ns.saturating_add(alone_ns.clamp(SLICE_NS, burst_ns / 2))
    }
}

/// Whole ns of what is not below zero.
fn ns_of(ps: i64) -> u64 {
    ps.unsigned_abs() / PS_PER_NS.unsigned_abs()
}
