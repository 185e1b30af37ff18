//! Limits of operations and bytes per second, for any device, changed while it runs.
//!
//! | part | what it is |
//! |---|---|
//! | [`gate`] | one CPU's gate: a channel before a channel, in which operations wait |
//! | [`queue`] | the operations that wait, by host, and whose turn it is |
//! | [`account`] | what one CPU may still do: its slices of the shared buckets |
//! | [`bucket`] | what all CPUs share of one limit: a word |
//!
//! **Why a gate and not a device.** Limits are given to devices that have namespaces and hosts already; a layer would have to be put under those. So every channel that the
//! target opens has a [`Gate`] before it, which costs one relaxed load for each call while there is no limit.
//!
//! **Why slices.** A limit holds over all CPUs, and a word that each takes from for each operation would be the shared line that the data path must not have. Each CPU takes
//! a slice of a bucket at most once in a millisecond, spends it in even pace, and gives back what it has not used for as long. Tokens are counted as *time*: at a rate of `r` an
//! operation costs `1/r` of a second. So a bucket is one word, the time up to which everything has been given out; it needs no refilling and no clock, and no rate is in it.
//!
//! **Debt.** Something may begin while its CPU has any tokens left, and costs all that it costs: so what is larger than a burst ends too, and the long run is exact. A burst
//! may exceed what was asked for by one operation for each CPU.
//!
//! **Fairness.** Within a CPU hosts have turns: of those that may go, the one that has been served least, in time of the scarcest limit. Among CPUs a slice is in proportion to
//! the hosts that wait there, each shared by the CPUs that it is on. What one leaves unused others may take.
//!
//! Read and written are counted as operations and bytes, zeroes, deallocations and uncorrectable blocks as write operations without bytes; a flush is never held up.
//! Reads of a device with limits are copied, since a read in place would pass by the gate.
//!
//! The lock is taken when limits change and when a host is new to a CPU, there only if it is free: otherwise again at the next turn.

mod account;
mod bucket;
mod gate;
mod queue;

pub use gate::Gate;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::channel::OperationKind;
use bucket::Buckets;

/// Least burst: below it slices would be lost.
pub const BURST_MS_MIN: u32 = 4;

/// Most.
pub const BURST_MS_MAX: u32 = 10_000;

/// A CPU takes tokens at most once in so long.
const SLICE_NS: u64 = 1_000_000;

/// Limits per second. 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Reads and writes together.
    pub operations: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes read and written together.
    pub bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
}

impl Rates {
    fn array(self) -> [u64; Kind::COUNT] {
        [self.operations, self.reads, self.writes, self.bytes, self.read_bytes, self.write_bytes]
    }
}

/// What a device's users may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All of them together.
    pub device: Rates,
    /// Each host.
    pub host: Rates,
    /// What was left unused for so long can be made up for at once.
    pub burst_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { device: Rates::default(), host: Rates::default(), burst_ms: 10 }
    }
}

impl Limits {
    /// Whether there is any.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.device != Rates::default() || self.host != Rates::default()
    }

    fn burst_ns(&self) -> u64 {
        u64::from(self.burst_ms.clamp(BURST_MS_MIN, BURST_MS_MAX)) * 1_000_000
    }
}

/// Which of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Operations,
    Reads,
    Writes,
    Bytes,
    ReadBytes,
    WriteBytes,
}

impl Kind {
    const COUNT: usize = 6;
    const ALL: [Self; Self::COUNT] =
        [Self::Operations, Self::Reads, Self::Writes, Self::Bytes, Self::ReadBytes, Self::WriteBytes];
}

impl Kind {
    /// The kind that counts the operations that come under this one.
    const fn counted_by(self) -> Self {
        match self {
            Self::Operations | Self::Bytes => Self::Operations,
            Self::Reads | Self::ReadBytes => Self::Reads,
            Self::Writes | Self::WriteBytes => Self::Writes,
        }
    }
}

/// Which way an operation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::Read, Self::Write];

    /// `None`: it is not limited.
    fn of(kind: OperationKind) -> Option<Self> {
        match kind {
            OperationKind::Flush => None,
            OperationKind::Read => Some(Self::Read),
            OperationKind::Write { .. }
            | OperationKind::WriteZeroes { .. }
            | OperationKind::Deallocate
            | OperationKind::WriteUncorrectable => Some(Self::Write),
        }
    }

    /// The limits that it comes under: operations, operations of this way, bytes, bytes of this way.
    const fn kinds(self) -> [Kind; 4] {
        match self {
            Self::Read => [Kind::Operations, Kind::Reads, Kind::Bytes, Kind::ReadBytes],
            Self::Write => [Kind::Operations, Kind::Writes, Kind::Bytes, Kind::WriteBytes],
        }
    }
}

/// The limits of one device, as its control plane and all its gates share them.
pub struct Throttle {
    /// The number of the last change, twice, and whether there is a limit. Changed with the lock held.
    state: AtomicU64,
    buckets: Buckets,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    limits: Limits,
    seats: Vec<Arc<Seat>>,
    hosts: BTreeMap<u64, Arc<Host>>,
}

/// What one gate says to the others: stored by it alone, and read by them once a slice.
#[derive(Default)]
#[repr(align(128))]
struct Seat {
    weight: AtomicU64,
    said_ns: AtomicU64,
}

/// What the gates share of one host.
#[derive(Default)]
struct Host {
    buckets: Buckets,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { state: AtomicU64::new(0), buckets: Buckets::default(), shared: Mutex::default() }
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle").field("limits", &self.limits()).finish_non_exhaustive()
    }
}

impl Throttle {
    /// What holds.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.lock().limits
    }

    /// From here on this holds, also for operations that wait. What was left unused or overdrawn before is forgotten.
    pub fn set(&self, limits: Limits) {
        let mut shared = self.lock();
        shared.limits = limits;
        self.changed(&shared);
    }

    fn join(&self) -> Arc<Seat> {
        let seat = Arc::new(Seat::default());
        let mut shared = self.lock();
        shared.seats.push(Arc::clone(&seat));
        self.members_changed(&shared);
        seat
    }

    fn leave(&self, seat: &Arc<Seat>) {
        let mut shared = self.lock();
        shared.seats.retain(|other| !Arc::ptr_eq(other, seat));
        self.members_changed(&shared);
    }

    /// While there is no limit nobody shares anything.
    fn members_changed(&self, shared: &Shared) {
        if shared.limits.is_any() {
            self.changed(shared);
        }
    }

    /// Gates look at what is behind the lock when this number is another.
    fn changed(&self, shared: &Shared) {
        // Only ever changed here, with the lock held. Release: who sees it may find the lock free, and sees by the lock what it guards.
        let number = (self.state.load(Ordering::Relaxed) >> 1) + 1;
        self.state.store(number << 1 | u64::from(shared.limits.is_any()), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// What is shared of a host.
    fn host(&mut self, key: u64) -> Arc<Host> {
        // Those that no gate has any more.
        self.hosts.retain(|_, host| Arc::strong_count(host) > 1);
        Arc::clone(self.hosts.entry(key).or_default())
    }
}

#[cfg(test)]
mod tests;
