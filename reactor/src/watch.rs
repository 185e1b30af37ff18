//! Who holds a CPU too long.
//!
//! Two ways to find out. A CPU notices by itself, afterwards, that one message, timer or part of its poll took longer than the limit: it
//! leaves a [`Slow`] here, for somebody who may write logs. A CPU that does not come back at all is found by somebody else, with a
//! [`StallFinder`]. Both also happen where the operating system, or a hypervisor below it, did not run the thread: from inside it looks the same.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::counter::{Counter, ReactorCounters};
use crate::cpu::Cpu;
use crate::domain::Domain;

/// Reports that wait for somebody to take them; more are only counted.
const REPORT_COUNT_MAX: usize = 64;
const DEFAULT_LIMIT_NS: u64 = 50_000_000;

/// The limit, and what exceeded it. One for a mesh; clonable.
#[derive(Clone)]
pub struct Watch {
    inner: Arc<Inner>,
}

struct Inner {
    limit_ns: Counter,
    slow: ArrayQueue<Slow>,
}

/// Something held its CPU too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Where.
    pub cpu: Cpu,
    /// The message's name, `"timer"`, `"poll"`, or what the poll called the part ([`crate::Turn::section`]).
    pub what: &'static str,
    /// For how long.
    pub len_ns: u64,
    /// When it began.
    pub began_ns: u64,
}

impl Watch {
    pub(crate) fn new() -> Self {
        let limit_ns = Counter::new();
        limit_ns.set(DEFAULT_LIMIT_NS);
        Self { inner: Arc::new(Inner { limit_ns, slow: ArrayQueue::new(REPORT_COUNT_MAX) }) }
    }

    /// How long is too long. 50 ms unless set.
    #[must_use]
    #[inline]
    pub fn limit_ns(&self) -> u64 {
        self.inner.limit_ns.value()
    }

    /// Sets it, for all CPUs.
    pub fn set_limit_ns(&self, ns: u64) {
        self.inner.limit_ns.set(ns);
    }

    /// The oldest report that nobody has taken. What came while 64 were waiting is lost, and is only in [`ReactorCounters::slow_count`].
    #[must_use]
    pub fn take(&self) -> Option<Slow> {
        self.inner.slow.pop()
    }

    #[cold]
    pub(crate) fn report(&self, slow: Slow) {
        // Full: it is counted by the caller.
        let _ = self.inner.slow.push(slow);
    }
}

/// A CPU that does not turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Which.
    pub cpu: Cpu,
    /// What it was doing when it was looked at.
    pub what: &'static str,
    /// How long it has not been seen to turn.
    pub len_ns: u64,
    /// Whether reclamation waits for it: something is in a limbo, and this CPU has not seen the present epoch.
    pub holds_up_reclamation: bool,
}

/// Looks from time to time whether all CPUs of a mesh turn. CPUs that sleep do not count as stalled.
pub struct StallFinder {
    domain: Domain,
    cpus: Vec<Seen>,
}

struct Seen {
    counters: Arc<ReactorCounters>,
    turn_count: u64,
    since_ns: u64,
}

impl StallFinder {
    /// For the CPUs whose counters these are, in the mesh's order.
    #[must_use]
    pub fn new(domain: &Domain, counters: Vec<Arc<ReactorCounters>>) -> Self {
        let cpus = counters.into_iter().map(|counters| Seen { counters, turn_count: 0, since_ns: 0 }).collect();
        Self { domain: domain.clone(), cpus }
    }

    /// The CPUs that have been awake and not been seen to turn for at least `limit_ns`.
    pub fn look(&mut self, now_ns: u64, limit_ns: u64) -> impl Iterator<Item = Stall> {
        let something_waits = self.domain.limbo_len() > 0;
        let domain = &self.domain;
        (0..).zip(&mut self.cpus).filter_map(move |(cpu, seen)| {
            let turn_count = seen.counters.turn_count.value();
            if turn_count != seen.turn_count || !domain.is_online(cpu) {
                seen.turn_count = turn_count;
                seen.since_ns = now_ns;
            }
            let len_ns = now_ns.saturating_sub(seen.since_ns);
            (len_ns >= limit_ns).then(|| Stall {
                cpu: Cpu(cpu),
                what: seen.counters.activity(),
                len_ns,
                holds_up_reclamation: something_waits && domain.laggards().any(|laggard| laggard == cpu),
            })
        })
    }
}
