//! What lines came to.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use transport_rdma::host::HostFailure;

use crate::outcome::latencies;

/// Mismatches that are told in words.
const TOLD_MAX: usize = 16;

/// What one line's associations came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Associations that ended as they were to.
    pub(crate) quiet_count: u64,
    pub(crate) abrupt_count: u64,
    pub(crate) early_count: u64,
    /// From asking for an association until its queues take commands.
    pub(crate) connect_times: Histogram<u64>,
    /// From its last command until nothing of it is left here.
    pub(crate) disconnect_times: Histogram<u64>,
    /// Commands that were outstanding when their association ended.
    pub(crate) cut_off_count: u64,
    pub(crate) checks: Checks,
    /// By kind: how many, and the first in words.
    pub(crate) failures: BTreeMap<&'static str, (u64, String)>,
    /// Why nothing can be done, in words.
    pub(crate) refused: Option<String>,
}

/// What was compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    pub(crate) block_count: u64,
    pub(crate) mismatch_count: u64,
    /// The first of them in words.
    pub(crate) mismatches: Vec<String>,
}

impl Checks {
    /// A block that is not as written.
    pub(crate) fn mismatch(&mut self, words: impl FnOnce() -> String) {
        self.mismatch_count += 1;
        if self.mismatches.len() < TOLD_MAX {
            self.mismatches.push(words());
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.block_count += other.block_count;
        self.mismatch_count += other.mismatch_count;
        let room = TOLD_MAX - self.mismatches.len().min(TOLD_MAX);
        self.mismatches.extend(other.mismatches.into_iter().take(room));
    }
}

impl Outcome {
    pub(crate) fn new() -> Self {
        Self {
            quiet_count: 0,
            abrupt_count: 0,
            early_count: 0,
            connect_times: latencies(),
            disconnect_times: latencies(),
            cut_off_count: 0,
            checks: Checks::default(),
            failures: BTreeMap::new(),
            refused: None,
        }
    }

    /// Associations that ended as they were to.
    pub(crate) fn life_count(&self) -> u64 {
        self.quiet_count + self.abrupt_count + self.early_count
    }

    pub(crate) fn failure_count(&self) -> u64 {
        self.failures.values().map(|(count, _)| count).sum()
    }

    pub(crate) fn fail(&mut self, kind: &'static str, words: impl FnOnce() -> String) {
        self.failures.entry(kind).or_insert_with(|| (0, words())).0 += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.quiet_count += other.quiet_count;
        self.abrupt_count += other.abrupt_count;
        self.early_count += other.early_count;
        self.connect_times.add(&other.connect_times).expect("all histograms have the same bounds");
        self.disconnect_times.add(&other.disconnect_times).expect("all histograms have the same bounds");
        self.cut_off_count += other.cut_off_count;
        self.checks.add(other.checks);
        for (kind, (count, words)) in other.failures {
            self.failures.entry(kind).or_insert((0, words)).0 += count;
        }
        self.refused = self.refused.take().or(other.refused);
    }
}

/// A failure's kind, which many share.
pub(crate) fn kind_of(failure: &HostFailure) -> &'static str {
    match failure {
        HostFailure::Unreachable { .. } => "unreachable",
        HostFailure::Rejected { .. } => "rejected",
        HostFailure::Fabric { .. } => "fabric",
        HostFailure::TimedOut { .. } => "timed out",
        HostFailure::Protocol { .. } => "protocol",
        HostFailure::Disconnected { .. } => "disconnected",
        HostFailure::DeviceGone { .. } => "device gone",
        HostFailure::Controller { .. } => "controller",
        HostFailure::Limit { .. } => "limit",
        HostFailure::Stopped => "stopped",
    }
}
