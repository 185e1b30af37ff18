//! The operations that wait at a gate, by host, and whose turn it is.
//!
//! Of the hosts that may go, that with the least *service* has its turn: what its operations have cost so far, in time of the device's scarcest limit. Who comes back after it
//! had nothing to do begins where the others are: nobody saves up turns. A host's reads and writes wait apart, so that neither waits for the other's limit.

use std::collections::VecDeque;
use std::sync::Arc;

use super::account::{Account, Prices, Units};
use super::{Direction, Host, SLICE_NS};
use crate::channel::Operation;

/// A host that has not come for so long is forgotten.
const FORGET_NS: u64 = 10_000_000_000;

/// A host that waited within so long counts among those that the device is shared by.
const RECENT_NS: u64 = 2 * SLICE_NS;

/// The weight of a host that is on one CPU.
const HOST_WEIGHT: u64 = 1 << 20;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) place: usize,
    pub(super) direction: Direction,
}

/// One host, as this CPU knows it.
pub(super) struct HostQueue {
    pub(super) key: u64,
    /// `None` until the lock was free.
    pub(super) shared: Option<Arc<Host>>,
    pub(super) account: Account,
    /// What waits.
    pub(super) waiting: Units,
    reads: VecDeque<Operation>,
    writes: VecDeque<Operation>,
    last: Direction,
    service_ps: u64,
    waited_ns: u64,
}

impl HostQueue {
    fn new(key: u64) -> Self {
        Self {
            key,
            shared: None,
            account: Account::default(),
            waiting: Units::default(),
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            last: Direction::Write,
            service_ps: 0,
            waited_ns: 0,
        }
    }

    pub(super) fn queue(&self, direction: Direction) -> &VecDeque<Operation> {
        match direction {
            Direction::Read => &self.reads,
            Direction::Write => &self.writes,
        }
    }

    fn queue_mut(&mut self, direction: Direction) -> &mut VecDeque<Operation> {
        match direction {
            Direction::Read => &mut self.reads,
            Direction::Write => &mut self.writes,
        }
    }

    fn is_empty(&self) -> bool {
        self.reads.is_empty() && self.writes.is_empty()
    }

    /// CPUs that it is on.
    pub(super) fn cpu_count(&self) -> u64 {
        // The throttle has it too.
        self.shared.as_ref().map_or(1, |shared| (Arc::strong_count(shared) as u64).saturating_sub(1).max(1))
    }

    /// Which of its operations may go.
    fn next(&self, device_allows: [bool; 2], prices: &Prices) -> Option<Direction> {
        let may_go = |direction: Direction| {
            device_allows[direction as usize]
                && !self.queue(direction).is_empty()
                && (!prices.is_any() || (self.shared.is_some() && self.account.allows(prices, direction)))
        };
        let [first, second] = match self.last {
            Direction::Read => [Direction::Write, Direction::Read],
            Direction::Write => Direction::BOTH,
        };
        Some(first).filter(|first| may_go(*first)).or(Some(second).filter(|second| may_go(*second)))
    }
}

/// All hosts that have come to this gate of late.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) hosts: Vec<HostQueue>,
    len: usize,
    /// The service of whoever had the last turn.
    service_ps: u64,
}

impl Queues {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts an operation behind those of its host. `units`: what it comes to.
    pub(super) fn push(&mut self, now_ns: u64, direction: Direction, units: Units, operation: Operation) {
        let place = self.hosts.iter().position(|host| host.key == operation.host).unwrap_or_else(|| {
            self.hosts.push(HostQueue::new(operation.host));
            self.hosts.len() - 1
        });
        let service_ps = self.service_ps;
        let host = &mut self.hosts[place];
        if host.is_empty() {
            host.service_ps = host.service_ps.max(service_ps);
        }
        host.waited_ns = now_ns;
        host.waiting.add(units);
        host.queue_mut(direction).push_back(operation);
        self.len += 1;
    }

    /// Whose turn it is, where the device allows reads and writes so.
    pub(super) fn next(&self, device_allows: [bool; 2], prices: &Prices) -> Option<Chosen> {
        let candidates = self.hosts.iter().enumerate().filter_map(|(place, host)| {
            let direction = host.next(device_allows, prices)?;
            Some((host.service_ps, Chosen { place, direction }))
        });
        // The first of several that have been served alike, which is behind them then.
        candidates.min_by_key(|(service_ps, _)| *service_ps).map(|(_, chosen)| chosen)
    }

    /// Takes the oldest operation of the one whose turn it is.
    pub(super) fn pop(&mut self, chosen: Chosen) -> Option<Operation> {
        let host = &mut self.hosts[chosen.place];
        let operation = host.queue_mut(chosen.direction).pop_front()?;
        host.last = chosen.direction;
        self.len -= 1;
        Some(operation)
    }

    /// It cost so much.
    pub(super) fn serve(&mut self, now_ns: u64, chosen: Chosen, cost_ps: i64) {
        let host = &mut self.hosts[chosen.place];
        self.service_ps = self.service_ps.max(host.service_ps);
        // A host that is on several CPUs has a part of its share on each.
        let cost_ps = cost_ps.unsigned_abs().max(1).saturating_mul(host.cpu_count());
        host.service_ps = host.service_ps.saturating_add(cost_ps);
        host.waited_ns = now_ns;
    }

    /// Takes an operation out. `None`: it does not wait here.
    pub(super) fn remove(&mut self, token: u64) -> Option<(usize, Direction, Operation)> {
        for (place, host) in self.hosts.iter_mut().enumerate() {
            for direction in Direction::BOTH {
                let queue = host.queue_mut(direction);
                if let Some(at) = queue.iter().position(|operation| operation.token == token) {
                    let operation = queue.remove(at)?;
                    self.len -= 1;
                    return Some((place, direction, operation));
                }
            }
        }
        None
    }

    /// Takes all that waits out, host by host.
    pub(super) fn drain(&mut self, into: &mut VecDeque<Operation>) {
        for host in &mut self.hosts {
            into.append(&mut host.reads);
            into.append(&mut host.writes);
        }
        self.hosts.clear();
        self.len = 0;
    }

    /// How many hosts wait here, each divided by the CPUs that it is on.
    pub(super) fn weight(&self, now_ns: u64) -> u64 {
        let waits = |host: &&HostQueue| !host.is_empty() || now_ns.saturating_sub(host.waited_ns) <= RECENT_NS;
        self.hosts.iter().filter(waits).map(|host| HOST_WEIGHT / host.cpu_count()).sum()
    }

    /// Those that have not come for long are no more.
    pub(super) fn forget(&mut self, now_ns: u64) {
        self.hosts.retain(|host| !host.is_empty() || now_ns.saturating_sub(host.waited_ns) < FORGET_NS);
    }
}
