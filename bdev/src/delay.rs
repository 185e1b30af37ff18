//! The delay device ("delay"): another device whose operations take longer, as SPDK's does it.
//!
//! An operation is begun at once; its completion is held back for the time that its kind asks for, counted from when the device below was done with it. So the device
//! below decides what is read and written, and this one only when it is told of. One of a hundred operations, by a seeded draw of each channel, takes the longer of two
//! times. Flushes are not held back: on most devices they cost what is written, which was.
//!
//! Latencies are changed while it runs, for what completes from then on. Time is that of the turns; a CPU that waits for nothing else sleeps until the first is due.

mod channel;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::channel::Channel;
use crate::device::{BdevError, Device, Geometry, Layer};

/// Longest latency: more is a mistake in the unit. A day.
const LATENCY_US_MAX: u64 = 86_400_000_000;

/// How long operations take beyond what the device below needs, in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// 99 of 100 reads.
    pub read_us: u64,
    /// One of 100 reads.
    pub read_p99_us: u64,
    /// 99 of 100 writes, zeroes and deallocations among them.
    pub write_us: u64,
    /// One of 100 of these.
    pub write_p99_us: u64,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyKind {
    /// [`Latencies::read_us`].
    Read,
    /// [`Latencies::read_p99_us`].
    ReadP99,
    /// [`Latencies::write_us`].
    Write,
    /// [`Latencies::write_p99_us`].
    WriteP99,
}

/// See the module.
pub struct Delay {
    name: String,
    base: Arc<dyn Device>,
    seed: u64,
    shared: Arc<Shared>,
}

/// What the channels look at. Relaxed throughout: each number is by itself, and soon is soon enough.
#[derive(Default)]
struct Shared {
    /// By [`LatencyKind`], in ns.
    latencies: [AtomicU64; 4],
    /// Nothing is held back any more.
    has_let_go: AtomicBool,
    channel_count: AtomicU64,
}

impl Delay {
    /// `base`, slower. The seed decides which operations are the one of a hundred.
    ///
    /// # Errors
    /// If a latency is more than a day.
    pub fn new(name: &str, base: Arc<dyn Device>, latencies: Latencies, seed: u64) -> Result<Self, BdevError> {
        let device = Self { name: name.to_owned(), base, seed, shared: Arc::default() };
        device.set_latency(LatencyKind::Read, latencies.read_us)?;
        device.set_latency(LatencyKind::ReadP99, latencies.read_p99_us)?;
        device.set_latency(LatencyKind::Write, latencies.write_us)?;
        device.set_latency(LatencyKind::WriteP99, latencies.write_p99_us)?;
        Ok(device)
    }

    /// Changes one.
    ///
    /// # Errors
    /// If it is more than a day.
    pub fn set_latency(&self, kind: LatencyKind, us: u64) -> Result<(), BdevError> {
        if us > LATENCY_US_MAX {
            return Err(BdevError::Field {
                device: self.name.clone(),
                field: "latency",
                value: format!("{us} µs"),
                allowed: "at most a day, in µs",
            });
        }
        self.shared.latencies[kind as usize].store(us * 1000, Ordering::Relaxed);
        Ok(())
    }

    /// What they are.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        let us = |kind: LatencyKind| self.shared.latency_ns(kind) / 1000;
        Latencies {
            read_us: us(LatencyKind::Read),
            read_p99_us: us(LatencyKind::ReadP99),
            write_us: us(LatencyKind::Write),
            write_p99_us: us(LatencyKind::WriteP99),
        }
    }

    /// The device below.
    #[must_use]
    pub fn base_name(&self) -> &str {
        self.base.name()
    }
}

impl Shared {
    fn latency_ns(&self, kind: LatencyKind) -> u64 {
        self.latencies[kind as usize].load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delay").field("name", &self.name).field("base", &self.base).finish_non_exhaustive()
    }
}

impl Device for Delay {
    fn name(&self) -> &str {
        &self.name
    }

    fn product(&self) -> &'static str {
        "delay"
    }

    fn geometry(&self) -> Geometry {
        self.base.geometry()
    }

    fn layer(&self) -> Option<Layer<'_>> {
        Some(Layer::Delay(self))
    }

    fn resize(&self, block_count: u64) -> Result<(), BdevError> {
        self.base.resize(block_count)
    }

    fn rescan(&self) -> Result<(), BdevError> {
        self.base.rescan()
    }

    fn let_go(&self) {
        self.shared.has_let_go.store(true, Ordering::Relaxed);
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        let base = self.base.open_channel()?;
        let number = self.shared.channel_count.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(channel::DelayChannel::new(base, Arc::clone(&self.shared), self.seed, number)))
    }
}

#[cfg(test)]
mod tests;
