//! The controller outlives its queue pairs, and a connection its queue pair (invariant 6).
//!
//! The control plane's record of a connection goes when its connection is destroyed; its CPU has reaped the queue pair before.
//!
//! A lease on its controller is out for each I/O queue pair from the moment that it joins until it was *reaped*, which is later than closed, drained or
//! destroyed. A controller goes when the last lease has come home, and nothing names it as its own after that.

use std::collections::{BTreeMap, BTreeSet};

use nvmf_core::trace::Step;
use reactor::{Cpu, TraceRecord};
use transport_rdma::trace::Step as TransportStep;

use super::{Checker, View};
use crate::sim::world::target::Noted;

/// See the module. Places are handles with their CPU: see [`nvmf_core::trace::place`].
#[derive(Default)]
pub(super) struct Outlives {
    /// Controllers, and the members that each has.
    controllers: BTreeMap<u64, BTreeSet<u64>>,
    /// Queue pairs that are adopted and not reaped.
    queue_pairs: BTreeSet<u64>,
    /// Records of connections whose queue pair is adopted and not reaped.
    records: BTreeSet<u64>,
}

impl Outlives {
    fn transport(&mut self, step: Option<TransportStep>, cpu: Cpu, record: &TraceRecord) -> Result<(), String> {
        let (place, detail) = (u64::from(cpu.0) << 56 | record.subject, record.detail);
        match step {
            Some(TransportStep::Adopted) => {
                self.queue_pairs.insert(place);
                self.records.insert(detail);
            }
            Some(TransportStep::Reaped) => {
                self.queue_pairs.remove(&place);
                self.records.remove(&detail);
            }
            Some(TransportStep::RecordForgotten) if self.records.contains(&record.subject) => {
                return Err(format!("record {:#x} is forgotten, and its queue pair was not reaped", record.subject));
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    fn core(&mut self, step: Step, subject: u64, detail: u64) -> Result<(), String> {
        match step {
            Step::ControllerBorn => match self.controllers.insert(subject, BTreeSet::new()) {
                Some(_) => Err(format!("controller {subject:#x} was born twice")),
                None => Ok(()),
            },
            Step::MemberJoined => match self.controllers.get_mut(&detail).map(|members| members.insert(subject)) {
                Some(true) => Ok(()),
                Some(false) => Err(format!("queue pair {subject:#x} joined controller {detail:#x} twice")),
                None => Err(format!("queue pair {subject:#x} joined controller {detail:#x}, which is gone")),
            },
            Step::MemberLeft => {
                if self.queue_pairs.contains(&subject) {
                    return Err(format!("the lease of queue pair {subject:#x} came home before it was reaped"));
                }
                match self.controllers.get_mut(&detail).map(|members| members.remove(&subject)) {
                    Some(true) => Ok(()),
                    Some(false) => {
                        Err(format!("queue pair {subject:#x} left controller {detail:#x}, and was no member"))
                    }
                    None => Err(format!("queue pair {subject:#x} left controller {detail:#x}, which is gone")),
                }
            }
            Step::ControllerGone | Step::ControllerRefused => match self.controllers.remove(&subject) {
                Some(members) if members.is_empty() => Ok(()),
                Some(members) => Err(format!("controller {subject:#x} is gone before its queue pairs {members:x?}")),
                None => Err(format!("controller {subject:#x} is gone twice")),
            },
            Step::QpairOpened
            | Step::QpairDrains
            | Step::QpairClosed
            | Step::ControllerAdmitted
            | Step::ControllerCloses
            | Step::ControllerEnabled
            | Step::ControllerReset
            | Step::ControllerShutDown
            | Step::KeepAliveExpired
            | Step::CommandFailed
            | Step::AbortAsked
            | Step::PressureBegan
            | Step::PressureEnded
            | Step::IdGiven
            | Step::IdFreed
            | Step::QpairMissed
            | Step::HostAuthenticated
            | Step::HostRefused
            | Step::ControllerMissed => Ok(()),
        }
    }
}

impl Checker for Outlives {
    fn name(&self) -> &'static str {
        "outlives"
    }

    fn noted(&mut self, noted: &Noted) -> Result<(), String> {
        let record = &noted.record;
        if let Some(step) = Step::of(record) {
            return self.core(step, record.subject, record.detail);
        }
        self.transport(TransportStep::of(record), noted.cpu, record)
    }

    fn at_rest(&mut self, _view: &View<'_>) -> Result<(), String> {
        match self.controllers.first_key_value() {
            Some((controller, members)) => {
                Err(format!("controller {controller:#x} is left, with members {members:x?}"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_after_its_queue_pair() {
        let mut outlives = Outlives::default();
        let mut play = |step: TransportStep, subject, detail| {
            let record = TraceRecord { at_ns: 0, kind: step.kind(), subject, detail };
            outlives.transport(Some(step), Cpu(0), &record)
        };
        assert!(play(TransportStep::RecordForgotten, 5, 0).is_ok(), "it never had one");
        assert!(play(TransportStep::Adopted, 7, 6).is_ok());
        assert!(play(TransportStep::RecordForgotten, 6, 0).is_err());
        assert!(play(TransportStep::Reaped, 7, 6).is_ok());
        assert!(play(TransportStep::RecordForgotten, 6, 0).is_ok());
    }

    #[test]
    fn a_controller_goes_last() {
        let mut outlives = Outlives::default();
        assert!(outlives.core(Step::ControllerBorn, 1, 0).is_ok());
        assert!(outlives.core(Step::MemberJoined, 10, 1).is_ok());
        outlives.queue_pairs.insert(10);
        assert!(outlives.core(Step::MemberLeft, 10, 1).is_err(), "it was not reaped");
        outlives.queue_pairs.remove(&10);
        assert!(outlives.core(Step::MemberLeft, 10, 1).is_ok());
        assert!(outlives.core(Step::ControllerGone, 1, 0).is_ok());
        assert!(outlives.core(Step::ControllerGone, 1, 0).is_err(), "twice");
        assert!(outlives.core(Step::MemberJoined, 11, 1).is_err(), "it is gone");
        assert!(outlives.core(Step::ControllerBorn, 2, 0).is_ok());
        assert!(outlives.core(Step::MemberJoined, 12, 2).is_ok());
        assert!(outlives.core(Step::ControllerGone, 2, 0).is_err(), "it has a member");
    }
}
