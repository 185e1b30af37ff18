//! Each event that the control plane fetches is acknowledged once, before the next is fetched (invariant 4).
//!
//! Nothing of an event is used after its acknowledgement: that is shown by types (an event's facts are taken out by value as it is acknowledged).
//! And nothing is destroyed under one that is not: the fabric does not end such a call, and the run gets stuck.

use transport_rdma::trace::Step;

use super::{Checker, View};
use crate::sim::world::target::Noted;

/// See the module.
#[derive(Default)]
pub(super) struct Events {
    /// Subject and kind of the one that was fetched last, if it is not acknowledged.
    unacknowledged: Option<(u64, u64)>,
}

impl Checker for Events {
    fn name(&self) -> &'static str {
        "events"
    }

    fn noted(&mut self, noted: &Noted) -> Result<(), String> {
        let event = (noted.record.subject, noted.record.detail);
        match Step::of(&noted.record) {
            Some(Step::EventFetched) => match self.unacknowledged.replace(event) {
                Some(earlier) => Err(format!("{event:?} is fetched while {earlier:?} is not acknowledged")),
                None => Ok(()),
            },
            Some(Step::EventAcknowledged) => match self.unacknowledged.take() {
                Some(fetched) if fetched == event => Ok(()),
                other => Err(format!("{event:?} is acknowledged, but what was fetched is {other:?}")),
            },
            Some(_) | None => Ok(()),
        }
    }

    fn stepped(&mut self, _view: &View<'_>) -> Result<(), String> {
        match self.unacknowledged {
            Some(event) => Err(format!("{event:?} was not acknowledged in the turn in which it was fetched")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use reactor::{Cpu, TraceRecord};

    use super::*;

    fn play(steps: &[(Step, u64)]) -> Result<(), String> {
        let mut events = Events::default();
        steps.iter().try_for_each(|(step, subject)| {
            let record = TraceRecord { at_ns: 0, kind: step.kind(), subject: *subject, detail: 1 };
            events.noted(&Noted { cpu: Cpu(2), record })
        })
    }

    #[test]
    fn each_is_acknowledged_once_and_at_once() {
        use Step::{EventAcknowledged as Acknowledged, EventFetched as Fetched};
        assert_eq!(play(&[(Fetched, 1), (Acknowledged, 1), (Fetched, 2), (Acknowledged, 2)]), Ok(()));
        assert!(play(&[(Fetched, 1), (Fetched, 2)]).is_err());
        assert!(play(&[(Fetched, 1), (Acknowledged, 2)]).is_err());
        assert!(play(&[(Fetched, 1), (Acknowledged, 1), (Acknowledged, 1)]).is_err());
    }
}
