//! The control plane's record of a connection goes forward only, and goes once (invariant 3, on the side of the control plane).

use std::collections::BTreeMap;

use transport_rdma::trace::{ConnectionStage, Step};

use super::{Checker, View};
use crate::sim::world::target::Noted;

/// See the module.
#[derive(Default)]
pub(super) struct Records {
    /// By handle: the stage that it is in, `None` before the first.
    stages: BTreeMap<u64, Option<ConnectionStage>>,
}

impl Records {
    fn step(&mut self, step: Step, subject: u64, detail: u64) -> Result<(), String> {
        let stage = self.stages.get(&subject).copied();
        match (step, stage) {
            (Step::ConnectionRequested, None) => {
                self.stages.insert(subject, None);
                Ok(())
            }
            (Step::StageEntered, Some(from)) => {
                let to = ConnectionStage::from_number(detail).ok_or_else(|| format!("no stage has number {detail}"))?;
                if !follows(from, to) {
                    return Err(format!("it goes from {from:?} to {to:?}"));
                }
                self.stages.insert(subject, Some(to));
                Ok(())
            }
            (Step::RecordForgotten, Some(from)) => {
                self.stages.remove(&subject);
                if may_end(from) { Ok(()) } else { Err(format!("it is forgotten in {from:?}")) }
            }
            (step, None) => Err(format!("{:?}, and there is no such record", step.name())),
            (step, Some(stage)) => Err(format!("{:?} of a record that is in {stage:?}", step.name())),
        }
    }
}

/// Whether a record may go from one stage to another: the table of `target/control/record.rs`, as arrows.
fn follows(from: Option<ConnectionStage>, to: ConnectionStage) -> bool {
    use ConnectionStage::{
        Abandoned, Adopting, Connecting, Creating, Destroying, Ending, Leaving, Live, Quarantined, Reaping, Rejecting,
        Resolving, Unwanted,
    };
    let Some(from) = from else { return to == Creating };
    let next: &[ConnectionStage] = match from {
        Creating => &[Abandoned, Adopting],
        Abandoned => &[Destroying, Leaving],
        Adopting => &[Live, Unwanted, Ending, Rejecting],
        Unwanted => &[Ending, Destroying],
        Live => &[Ending],
        Ending => &[Destroying],
        Destroying => &[Reaping, Leaving, Quarantined],
        Reaping => &[Leaving],
        // A host's, or the last.
        Rejecting | Leaving | Quarantined | Resolving | Connecting => &[],
    };
    from == to || next.contains(&to)
}

/// Whether a record may be forgotten here: when its connection is destroyed, or was rejected.
fn may_end(from: Option<ConnectionStage>) -> bool {
    match from {
        Some(ConnectionStage::Leaving | ConnectionStage::Rejecting | ConnectionStage::Creating) | None => true,
        Some(_) => false,
    }
}

impl Checker for Records {
    fn name(&self) -> &'static str {
        "records"
    }

    fn noted(&mut self, noted: &Noted) -> Result<(), String> {
        match Step::of(&noted.record) {
            Some(step @ (Step::ConnectionRequested | Step::StageEntered | Step::RecordForgotten)) => {
                let subject = noted.record.subject;
                self.step(step, subject, noted.record.detail).map_err(|what| format!("record {subject:#x}: {what}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn at_rest(&mut self, _view: &View<'_>) -> Result<(), String> {
        self.stages.retain(|_, stage| *stage != Some(ConnectionStage::Quarantined));
        match self.stages.first_key_value() {
            Some((record, stage)) => Err(format!("record {record:#x} was left in {stage:?}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_goes_forward_only() {
        let mut records = Records::default();
        let number = |stage: ConnectionStage| u64::from(stage.number());
        assert!(records.step(Step::ConnectionRequested, 1, 9).is_ok());
        assert!(records.step(Step::StageEntered, 1, number(ConnectionStage::Creating)).is_ok());
        assert!(records.step(Step::StageEntered, 1, number(ConnectionStage::Adopting)).is_ok());
        assert!(records.step(Step::StageEntered, 1, number(ConnectionStage::Creating)).is_err());
        assert!(records.step(Step::RecordForgotten, 1, 9).is_err(), "a live connection is forgotten");
        assert!(records.step(Step::StageEntered, 1, number(ConnectionStage::Live)).is_err(), "there is no such record");
    }
}
