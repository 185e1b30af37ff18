//! The workload that only wants to know who is there: it has no I/O queues.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use nvmf_core::host::Discovered;
use reactor::Progress;
use transport_rdma::host::{Ended, HostFailure, IoQueues, Start, Workload};
use transport_rdma::verbs::Port;

use crate::outcome::{End, Live};

/// Passes on what the controller said of itself.
pub(crate) struct IdentifyWorkload {
    live: Arc<Live>,
    ends: Sender<End>,
    is_done: bool,
}

impl IdentifyWorkload {
    pub(crate) fn new(live: Arc<Live>, ends: Sender<End>) -> Self {
        Self { live, ends, is_done: false }
    }
}

impl Workload for IdentifyWorkload {
    fn ready(&mut self, start: Start<'_>) {
        self.live.is_ready.store(true, Ordering::Relaxed);
        let _ = self.ends.send(End::Attached(Box::new(start.attached.clone())));
        self.is_done = true;
    }

    fn discovered(&mut self, found: &[Discovered]) {
        self.live.is_ready.store(true, Ordering::Relaxed);
        let _ = self.ends.send(End::Discovered(found.to_vec()));
        self.is_done = true;
    }

    fn poll<Q: Port>(&mut self, _now_ns: u64, _io: &mut IoQueues<'_, Q>) -> Progress {
        Progress::Idle
    }

    fn completed(&mut self, _now_ns: u64, _ended: &[Ended]) {}

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn failed(&mut self, failure: &HostFailure) {
        let _ = self.ends.send(End::Failed(failure.clone()));
    }
}
