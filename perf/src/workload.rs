//! The workload of a job: one type for the CPU's program, with one branch per call and turn.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use nvmf_core::host::{Discovered, News};
use reactor::Progress;
use transport_rdma::host::{Ended, HostFailure, IoQueues, Start, Workload};
use transport_rdma::verbs::Port;

use crate::digest::DigestWorkload;
use crate::durability::DurabilityWorkload;
use crate::identify::IdentifyWorkload;
use crate::load::LoadWorkload;
use crate::outcome::{End, Live, Stop};
use crate::reservation::ReservationWorkload;
use crate::settings::{Job, Settings};
use crate::verify::VerifyWorkload;

/// What a CPU does, and whom it tells what it hears.
pub(crate) struct JobWorkload {
    task: Task,
    ends: Sender<End>,
}

#[allow(clippy::large_enum_variant, reason = "there is one for each CPU")]
enum Task {
    Load(LoadWorkload),
    Verify(VerifyWorkload),
    Digest(DigestWorkload),
    Durability(DurabilityWorkload),
    Identify(IdentifyWorkload),
    Reservation(ReservationWorkload),
}

impl JobWorkload {
    pub(crate) fn new(settings: &Arc<Settings>, cpu: u16, live: Arc<Live>, stop: Arc<Stop>, ends: Sender<End>) -> Self {
        let settings = Arc::clone(settings);
        let tell = ends.clone();
        let task = match settings.job {
            Job::Load(_) => Task::Load(LoadWorkload::new(settings, cpu, live, stop, ends)),
            Job::Verify(_) => Task::Verify(VerifyWorkload::new(settings, live, stop, ends)),
            Job::Durability(ref job) => {
                let job = job.clone();
                Task::Durability(DurabilityWorkload::new(settings, job, live, stop, ends))
            }
            Job::Digest => Task::Digest(DigestWorkload::new(settings, live, stop, ends)),
            Job::Discover | Job::Identify => Task::Identify(IdentifyWorkload::new(live, ends)),
            Job::Reservation(_) => Task::Reservation(ReservationWorkload::new(&settings, live, stop, ends)),
        };
        Self { task, ends: tell }
    }
}

macro_rules! each {
    ($self:expr, $workload:ident => $call:expr) => {
        match $self {
            Task::Load($workload) => $call,
            Task::Verify($workload) => $call,
            Task::Digest($workload) => $call,
            Task::Durability($workload) => $call,
            Task::Identify($workload) => $call,
            Task::Reservation($workload) => $call,
        }
    };
}

impl Workload for JobWorkload {
    fn ready(&mut self, start: Start<'_>) {
        each!(&mut self.task, workload => workload.ready(start));
    }

    fn discovered(&mut self, found: &[Discovered]) {
        each!(&mut self.task, workload => workload.discovered(found));
    }

    fn news(&mut self, news: &News) {
        // Who listens has gone only when the process ends.
        let _ = self.ends.send(End::News(Box::new(news.clone())));
    }

    fn poll<Q: Port>(&mut self, now_ns: u64, io: &mut IoQueues<'_, Q>) -> Progress {
        each!(&mut self.task, workload => workload.poll(now_ns, io))
    }

    fn completed(&mut self, now_ns: u64, ended: &[Ended]) {
        each!(&mut self.task, workload => workload.completed(now_ns, ended));
    }

    fn is_done(&self) -> bool {
        each!(&self.task, workload => workload.is_done())
    }

    fn failed(&mut self, failure: &HostFailure) {
        each!(&mut self.task, workload => workload.failed(failure));
    }
}
