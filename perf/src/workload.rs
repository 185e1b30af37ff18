//! The workload of a job: one type for the CPU's program, with one branch per call and turn.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use nvmf_core::host::Discovered;
use reactor::Progress;
use transport_rdma::host::{Ended, HostFailure, IoQueues, Start, Workload};
use transport_rdma::verbs::Port;

use crate::digest::DigestWorkload;
use crate::identify::IdentifyWorkload;
use crate::load::LoadWorkload;
use crate::outcome::{End, Live, Stop};
use crate::reservation::ReservationWorkload;
use crate::settings::{Job, Settings};
use crate::verify::VerifyWorkload;

/// What a CPU does.
#[allow(clippy::large_enum_variant, reason = "there is one for each CPU")]
pub(crate) enum JobWorkload {
    Load(LoadWorkload),
    Verify(VerifyWorkload),
    Digest(DigestWorkload),
    Identify(IdentifyWorkload),
    Reservation(ReservationWorkload),
}

impl JobWorkload {
    pub(crate) fn new(settings: &Arc<Settings>, cpu: u16, live: Arc<Live>, stop: Arc<Stop>, ends: Sender<End>) -> Self {
        let settings = Arc::clone(settings);
        match settings.job {
            Job::Load(_) => Self::Load(LoadWorkload::new(settings, cpu, live, stop, ends)),
            Job::Verify(_) => Self::Verify(VerifyWorkload::new(settings, live, stop, ends)),
            Job::Digest => Self::Digest(DigestWorkload::new(settings, live, stop, ends)),
            Job::Discover | Job::Identify => Self::Identify(IdentifyWorkload::new(live, ends)),
            Job::Reservation(_) => Self::Reservation(ReservationWorkload::new(&settings, live, stop, ends)),
        }
    }
}

macro_rules! each {
    ($self:expr, $workload:ident => $call:expr) => {
        match $self {
            Self::Load($workload) => $call,
            Self::Verify($workload) => $call,
            Self::Digest($workload) => $call,
            Self::Identify($workload) => $call,
            Self::Reservation($workload) => $call,
        }
    };
}

impl Workload for JobWorkload {
    fn ready(&mut self, start: Start<'_>) {
        each!(self, workload => workload.ready(start));
    }

    fn discovered(&mut self, found: &[Discovered]) {
        each!(self, workload => workload.discovered(found));
    }

    fn poll<Q: Port>(&mut self, now_ns: u64, io: &mut IoQueues<'_, Q>) -> Progress {
        each!(self, workload => workload.poll(now_ns, io))
    }

    fn completed(&mut self, now_ns: u64, ended: &[Ended]) {
        each!(self, workload => workload.completed(now_ns, ended));
    }

    fn is_done(&self) -> bool {
        each!(self, workload => workload.is_done())
    }

    fn failed(&mut self, failure: &HostFailure) {
        each!(self, workload => workload.failed(failure));
    }
}
