//! What a workload leaves behind, and what it shows while it runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use hdrhistogram::Histogram;
use nvmf_core::host::{Attached, Discovered, News};
use nvmf_core::status::Status;
use reactor::Counter;
use transport_rdma::host::HostFailure;

use crate::reservation::ReservationResult;

/// Latencies beyond this are recorded as this.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// An empty histogram of ns. Its bounds are fixed, so that recording never allocates.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("the bounds are valid")
}

/// What one CPU's workload is doing, for the progress bar. Written by its CPU alone, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Live {
    /// Commands that have ended.
    pub(crate) io_count: Counter,
    /// Of how many, where that is known.
    pub(crate) io_total: Counter,
    /// Whether [`transport_rdma::host::Workload::ready`] was called.
    pub(crate) is_ready: AtomicBool,
}

/// Asks workloads to stop. They look once per turn.
#[derive(Debug, Default)]
pub(crate) struct Stop(AtomicBool);

impl Stop {
    /// Commands that are out still end.
    pub(crate) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One namespace's part of a measurement.
#[derive(Clone, Debug)]
pub(crate) struct NamespaceOutcome {
    pub(crate) nsid: u32,
    pub(crate) read_count: u64,
    pub(crate) write_count: u64,
    pub(crate) latencies: Histogram<u64>,
}

/// What a CPU's workload came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) namespaces: Vec<NamespaceOutcome>,
    /// Measured time.
    pub(crate) elapsed_ns: u64,
    /// Commands that failed, by status.
    pub(crate) errors: BTreeMap<Status, u64>,
    /// Blocks that were compared.
    pub(crate) verified_block_count: u64,
    /// Blocks that were not as written.
    pub(crate) mismatch_count: u64,
    /// The first of them in words.
    pub(crate) mismatches: Vec<String>,
    /// SHA-256 and bytes.
    pub(crate) digest: Option<([u8; 32], u64)>,
    /// Stopped before it was done.
    pub(crate) was_stopped: bool,
    /// Why nothing could be done, in words.
    pub(crate) refused: Option<String>,
}

/// The end of one CPU's workload, and what it hears until then.
pub(crate) enum End {
    Outcome(Box<Outcome>),
    /// What the controller said of itself.
    Attached(Box<Attached>),
    /// The discovery log.
    Discovered(Vec<Discovered>),
    /// What a reservation command came to.
    Reservation(Box<ReservationResult>),
    /// The controller told of something. Not an end.
    News(Box<News>),
    Failed(HostFailure),
}
