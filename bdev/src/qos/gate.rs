//! One CPU's gate into a device.
//!
//! While the device has no limit, nothing waits and everything is passed on as it comes: one relaxed load and a comparison for each call. Otherwise operations wait here, by
//! host, until there are tokens for them. What has gone through has its submitter's token, so completions pass without a look.
//!
//! Memory for what waits grows to what waits at most, and stays.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, TryLockError};

use reactor::{Progress, Rest, Segment};

use super::account::{Account, Prices, Share, Units};
use super::queue::Queues;
use super::{Direction, Limits, SLICE_NS, Seat, Throttle};
use crate::channel::{Channel, Completion, Operation, OperationKind};
use crate::device::DeviceError;

/// Operations that wait at one gate; more stay with the submitter, in the order in which they came.
const WAITING_MAX: usize = 16 << 10;

/// Operations that have had their turn and for which the device has no room. More do not get a turn.
const FORWARD_MAX: usize = 64;

/// What a gate said longer ago does not count.
const SAID_NS: u64 = 8 * SLICE_NS;

/// How often hosts that come no more are looked for.
const FORGET_EVERY_NS: u64 = 1_000_000_000;

/// A channel, and before it the limits of its device.
pub struct Gate {
    channel: Box<dyn Channel>,
    throttle: Arc<Throttle>,
    block_len: u64,
    /// The number of the change that the fields below are of, and whether there is a limit.
    seen: u64,
    /// Nothing is limited, and nothing of a limit that was is left.
    is_open: bool,
    limits: Limits,
    device_prices: Prices,
    host_prices: Prices,
    seat: Arc<Seat>,
    /// The other gates'.
    others: Vec<Arc<Seat>>,
    account: Account,
    waiting: Units,
    pub(super) queues: Queues,
    forward: VecDeque<Operation>,
    cancelled: Vec<u64>,
    /// When something last went through.
    used_ns: u64,
    forgot_ns: u64,
    has_slices: bool,
}

impl Gate {
    /// A gate before `channel`, whose blocks have so many bytes. Takes a lock: not for a polling CPU.
    #[must_use]
    pub fn new(channel: Box<dyn Channel>, throttle: Arc<Throttle>, block_len: u32) -> Self {
        let seat = throttle.join();
        let mut gate = Self {
            channel,
            throttle,
            block_len: block_len.into(),
            // No change has this number.
            seen: u64::MAX - 1,
            is_open: false,
            limits: Limits::default(),
            device_prices: Prices::default(),
            host_prices: Prices::default(),
            seat,
            others: Vec::new(),
            account: Account::default(),
            waiting: Units::default(),
            queues: Queues::default(),
            forward: VecDeque::new(),
            cancelled: Vec::new(),
            used_ns: 0,
            forgot_ns: 0,
            has_slices: false,
        };
        gate.refresh();
        gate.is_open = !gate.is_limited();
        gate
    }

    /// Whether everything may pass as it comes.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        // Relaxed: a limit holds from soon on. What it is is read under the lock.
        self.is_open && self.throttle.state.load(Ordering::Relaxed) == self.seen
    }

    fn is_limited(&self) -> bool {
        self.seen & 1 > 0
    }

    /// Looks at what has changed, if the lock is free.
    fn refresh(&mut self) {
        // Acquire: against the lock's being seen free before the change was made under it.
        if self.throttle.state.load(Ordering::Acquire) == self.seen {
            return;
        }
        let Some(shared) = unlocked(self.throttle.shared.try_lock()) else { return };
        // Not changed but with the lock held.
        self.seen = self.throttle.state.load(Ordering::Relaxed);
        // Whoever sees the change first: what is taken from here on may have to wait, and a poll must not pass it by.
        self.is_open = false;
        self.others.clear();
        self.others.extend(shared.seats.iter().filter(|seat| !Arc::ptr_eq(seat, &self.seat)).map(Arc::clone));
        if self.limits != shared.limits {
            self.limits = shared.limits;
            self.device_prices = Prices::new(self.limits.device);
            self.host_prices = Prices::new(self.limits.host);
            // Tokens of another rate, or debts of one.
            self.account = Account::default();
            self.queues.hosts.iter_mut().for_each(|host| host.account = Account::default());
        }
        drop(shared);
        if !self.is_limited() {
            self.queues.drain(&mut self.forward);
            self.waiting = Units::default();
        }
    }

    fn take(&mut self, now_ns: u64, operations: &mut VecDeque<Operation>) {
        let room = WAITING_MAX.saturating_sub(self.queues.len() + self.forward.len() + self.cancelled.len());
        for operation in operations.drain(..room.min(operations.len())) {
            match Direction::of(operation.kind) {
                Some(direction) if self.is_limited() => {
                    let units = units(direction, &operation, self.block_len);
                    self.waiting.add(units);
                    self.queues.push(now_ns, direction, units, operation);
                }
                // What is not limited waits for nobody.
                Some(_) | None => self.forward.push_back(operation),
            }
        }
    }

    /// Lets through what there are tokens for.
    fn release(&mut self, now_ns: u64) {
        if self.queues.len() > 0 {
            self.refill(now_ns);
        } else if self.has_slices && now_ns.saturating_sub(self.used_ns) >= SLICE_NS {
            self.give_back();
        }
        loop {
            while self.forward.len() < FORWARD_MAX && self.let_one_through(now_ns) {}
            if self.forward.is_empty() {
                return;
            }
            self.channel.submit(now_ns, &mut self.forward);
            // The device has no room.
            if !self.forward.is_empty() {
                return;
            }
        }
    }

    fn let_one_through(&mut self, now_ns: u64) -> bool {
        let device_allows = Direction::BOTH.map(|direction| self.account.allows(&self.device_prices, direction));
        let Some(chosen) = self.queues.next(device_allows, &self.host_prices) else { return false };
        let Some(operation) = self.queues.pop(chosen) else { return false };
        let units = units(chosen.direction, &operation, self.block_len);
        self.waiting.remove(units);
        let cost_ps = self.account.charge(&self.device_prices, units);
        let host = &mut self.queues.hosts[chosen.place];
        host.waiting.remove(units);
        host.account.charge(&self.host_prices, units);
        self.queues.serve(now_ns, chosen, cost_ps);
        self.used_ns = now_ns;
        self.forward.push_back(operation);
        true
    }

    fn refill(&mut self, now_ns: u64) {
        let burst_ns = self.limits.burst_ns();
        self.has_slices = true;
        if now_ns.saturating_sub(self.seat.said_ns.load(Ordering::Relaxed)) >= SLICE_NS {
            self.seat.weight.store(self.queues.weight(now_ns), Ordering::Relaxed);
            self.seat.said_ns.store(now_ns, Ordering::Relaxed);
        }
        if self.device_prices.is_any() {
            let share = self.share(now_ns);
            let buckets = (&self.throttle.buckets, burst_ns);
            self.account.refill(now_ns, &self.device_prices, buckets, &self.waiting, share);
        }
        self.join_hosts();
        if self.host_prices.is_any() {
            for host in &mut self.queues.hosts {
                let share = Share { own: 1, all: host.cpu_count() };
                if let Some(shared) = &host.shared {
                    let buckets = (&shared.buckets, burst_ns);
                    host.account.refill(now_ns, &self.host_prices, buckets, &host.waiting, share);
                }
            }
        }
        if now_ns.saturating_sub(self.forgot_ns) >= FORGET_EVERY_NS {
            self.forgot_ns = now_ns;
            self.queues.forget(now_ns);
        }
    }

    /// What hosts that are new here share with other CPUs, if the lock is free.
    fn join_hosts(&mut self) {
        let mut newcomers = self.queues.hosts.iter_mut().filter(|host| host.shared.is_none()).peekable();
        if newcomers.peek().is_some()
            && let Some(mut shared) = unlocked(self.throttle.shared.try_lock())
        {
            newcomers.for_each(|host| host.shared = Some(shared.host(host.key)));
        }
    }

    /// Of the device, what this CPU has a right to: in proportion to the hosts that wait here and at the other gates.
    fn share(&self, now_ns: u64) -> Share {
        let own = self.seat.weight.load(Ordering::Relaxed).max(1);
        let is_recent = |seat: &&Arc<Seat>| now_ns.saturating_sub(seat.said_ns.load(Ordering::Relaxed)) <= SAID_NS;
        let others: u64 = self.others.iter().filter(is_recent).map(|seat| seat.weight.load(Ordering::Relaxed)).sum();
        Share { own, all: own + others }
    }

    fn give_back(&mut self) {
        self.has_slices = false;
        self.seat.weight.store(0, Ordering::Relaxed);
        self.account.give_back(&self.device_prices, &self.throttle.buckets);
        for host in &mut self.queues.hosts {
            if let Some(shared) = &host.shared {
                host.account.give_back(&self.host_prices, &shared.buckets);
            }
        }
    }

    /// When the first of those that wait may go, or tokens can be asked for again.
    fn ready_ns(&self) -> Option<u64> {
        let now_ns = self.used_ns;
        let (burst_ns, device_share) = (self.limits.burst_ns(), self.share(now_ns));
        let ways = self.queues.hosts.iter().flat_map(|host| Direction::BOTH.map(|direction| (host, direction)));
        let waiting = ways.filter(|(host, direction)| !host.queue(*direction).is_empty());
        let ready = waiting.map(|(host, direction)| {
            let share = Share { own: 1, all: host.cpu_count() };
            let of_host = host.account.ready_ns(now_ns, &self.host_prices, direction, share, burst_ns);
            of_host.max(self.account.ready_ns(now_ns, &self.device_prices, direction, device_share, burst_ns))
        });
        ready.min()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.give_back();
        self.throttle.leave(&self.seat);
    }
}

impl Channel for Gate {
    fn submit(&mut self, now_ns: u64, operations: &mut VecDeque<Operation>) {
        if self.is_open() {
            return self.channel.submit(now_ns, operations);
        }
        self.refresh();
        self.take(now_ns, operations);
        self.release(now_ns);
    }

    fn poll(&mut self, now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        if self.is_open() {
            return self.channel.poll(now_ns, completions);
        }
        self.refresh();
        let had_len = completions.len();
        let result = Err(DeviceError::Cancelled);
        completions.extend(self.cancelled.drain(..).map(|token| Completion { token, result }));
        let waiting_count = self.queues.len();
        self.release(now_ns);
        let has_released = self.queues.len() < waiting_count;
        let progress = self.channel.poll(now_ns, completions);
        self.is_open = !self.is_limited() && self.queues.len() == 0 && self.forward.is_empty();
        progress.or(Progress::busy_if(has_released || completions.len() > had_len))
    }

    fn cancel(&mut self, token: u64) -> bool {
        if let Some((place, direction, operation)) = self.queues.remove(token) {
            let units = units(direction, &operation, self.block_len);
            self.waiting.remove(units);
            self.queues.hosts[place].waiting.remove(units);
        } else if let Some(place) = self.forward.iter().position(|operation| operation.token == token) {
            self.forward.remove(place);
        } else {
            return self.channel.cancel(token);
        }
        self.cancelled.push(token);
        self.is_open = false;
        true
    }

    fn cancel_all(&mut self) {
        if self.has_slices {
            self.give_back();
        }
        self.queues.drain(&mut self.forward);
        self.waiting = Units::default();
        self.is_open &= self.forward.is_empty();
        self.cancelled.extend(self.forward.drain(..).map(|operation| operation.token));
        self.channel.cancel_all();
    }

    fn in_place(&self, start_block: u64, block_count: u64) -> Option<Segment> {
        // What is read in place is not submitted, and would be counted by nobody.
        if self.is_open() { self.channel.in_place(start_block, block_count) } else { None }
    }

    fn outstanding_count(&self) -> usize {
        self.channel.outstanding_count() + self.queues.len() + self.forward.len() + self.cancelled.len()
    }

    fn arm(&mut self) -> Rest {
        let rest = self.channel.arm();
        if self.is_open() {
            return rest;
        }
        if self.has_slices && self.queues.len() == 0 {
            self.give_back();
        }
        // What has had its turn goes on when the device has ended something; if it has nothing, now.
        let is_stuck = !self.forward.is_empty() && self.channel.outstanding_count() == 0;
        if is_stuck || !self.cancelled.is_empty() {
            return Rest::Poll;
        }
        if self.forward.len() >= FORWARD_MAX {
            return rest;
        }
        // Something that was changed is seen by then, too.
        self.ready_ns().map_or(rest, |ready_ns| rest.and(Rest::SleepUntil(ready_ns)))
    }

    fn disarm(&mut self) {
        self.channel.disarm();
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        self.channel.wake_descriptor()
    }
}

/// What an operation comes to.
fn units(direction: Direction, operation: &Operation, block_len: u64) -> Units {
    let moves_data = matches!(operation.kind, OperationKind::Read | OperationKind::Write { .. });
    let byte_count = if moves_data { operation.block_count.saturating_mul(block_len) } else { 0 };
    Units::of(direction, byte_count)
}

/// What is behind the lock, if it is free. Nothing that panicked left it half changed.
fn unlocked<G>(result: Result<G, TryLockError<G>>) -> Option<G> {
    match result {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
