//! Each queue pair ends once, step by step, and nothing reaches it after its end (invariants 1, 3 and 5).
//!
//! The target's CPUs note each step of a queue pair's life. Here is the order that they must have, once each, on the CPU that adopted it and on no other.
//! What would be an access to freed memory elsewhere shows as news *applied* to a queue pair that was retired before.

use std::collections::BTreeMap;

use reactor::Cpu;
use transport_rdma::trace::{CUT, News, RETURNED, Step};

use super::{Checker, View};
use crate::sim::world::target::Noted;

/// Where a queue pair is in its life, as far as it was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Adopted,
    Draining { since_ns: u64 },
    Quiet { how: u64 },
    DestroySent { how: u64 },
    DestroyReturned { how: u64, has_failed: bool },
    Retired,
    Quarantined,
}

/// Longest drain: the target's own deadline, and time to see that it has passed.
const DRAIN_NS_MAX: u64 = 5_000_000_000 + 500_000_000;

/// Steps between two looks for drains that take too long.
const LOOK_INTERVAL: u32 = 256;

/// So many looks may find the same drain late: where the clock has leapt its CPU has yet to take the turn in which it sees that, and messages may be late.
const LATE_LOOKS: u32 = 4;

/// See the module.
#[derive(Default)]
pub(super) struct Lives {
    /// By CPU and handle. Handles are never used again, so neither are the names here.
    stages: BTreeMap<(u16, u64), Stage>,
    reaped_count: u64,
    steps: u32,
    /// A drain that takes too long, and how many looks have found it so.
    late: Option<((u16, u64), u32)>,
}

impl Lives {
    fn step(&mut self, cpu: Cpu, step: Step, noted: &Noted) -> Result<(), String> {
        let key = (cpu.0, noted.record.subject);
        let detail = noted.record.detail;
        let stage = self.stages.get(&key).copied();
        let next = match (step, stage) {
            (Step::Adopted, None) => Some(Stage::Adopted),
            (Step::DrainBegun, Some(Stage::Adopted)) => Some(Stage::Draining { since_ns: noted.record.at_ns }),
            (Step::MarkerPosted, Some(Stage::Draining { .. })) => return Ok(()),
            (Step::Quiet, Some(Stage::Draining { .. })) => Some(Stage::Quiet { how: detail }),
            // Released once: after the return of everything at once, after a cut when the destroy call has come back.
            (Step::RequestsReleased, Some(Stage::Quiet { how: RETURNED })) if detail == RETURNED => return Ok(()),
            (Step::RequestsReleased, Some(Stage::DestroyReturned { how: CUT, has_failed: false })) if detail == CUT => {
                return Ok(());
            }
            (Step::DestroySent, Some(Stage::Quiet { how })) => Some(Stage::DestroySent { how }),
            (Step::DestroyReturned, Some(Stage::DestroySent { how })) => {
                Some(Stage::DestroyReturned { how, has_failed: detail != 0 })
            }
            (Step::Retired, Some(Stage::DestroyReturned { how, has_failed })) if how == RETURNED || !has_failed => {
                Some(Stage::Retired)
            }
            (Step::Quarantined, Some(Stage::DestroyReturned { how: CUT, has_failed: true })) => {
                Some(Stage::Quarantined)
            }
            (Step::Reaped, Some(Stage::Retired)) => None,
            (Step::Applied, Some(stage)) => return applied(stage, detail),
            // A name that leads nowhere is what handles are for.
            (Step::Missed | Step::Refused, _) => return Ok(()),
            (step, stage) => return Err(wrong(step, stage)),
        };
        match next {
            Some(next) => self.stages.insert(key, next),
            None => self.stages.remove(&key),
        };
        self.reaped_count += u64::from(next.is_none());
        Ok(())
    }
}

fn wrong(step: Step, stage: Option<Stage>) -> String {
    match stage {
        Some(stage) => format!("{:?} where its life is at {stage:?}", step.name()),
        None => {
            format!("{:?}, and this CPU has no such queue pair: it never adopted it, or it was reaped", step.name())
        }
    }
}

/// News that change something must find a queue pair that waits for them.
fn applied(stage: Stage, detail: u64) -> Result<(), String> {
    let news = News::from_number(detail);
    let fits = match stage {
        Stage::Adopted | Stage::Draining { .. } => news != Some(News::QueuePairDestroyed),
        Stage::DestroySent { .. } => news == Some(News::QueuePairDestroyed),
        Stage::Quiet { .. } | Stage::DestroyReturned { .. } | Stage::Retired | Stage::Quarantined => false,
    };
    let name = news.map_or("unknown news", News::name);
    if fits { Ok(()) } else { Err(format!("{name:?} was applied to a queue pair that is at {stage:?}")) }
}

impl Checker for Lives {
    fn name(&self) -> &'static str {
        "lives"
    }

    fn noted(&mut self, noted: &Noted) -> Result<(), String> {
        let Some(step) = Step::of(&noted.record) else { return Ok(()) };
        match step {
            Step::ConnectionRequested
            | Step::StageEntered
            | Step::RecordForgotten
            | Step::RecordMissed
            | Step::EventFetched
            | Step::EventAcknowledged
            | Step::DeviceRemoved
            | Step::PortFailed
            | Step::DeviceReturned
            | Step::Refitted => return Ok(()),
            Step::Adopted
            | Step::Refused
            | Step::Applied
            | Step::Missed
            | Step::DrainBegun
            | Step::MarkerPosted
            | Step::Quiet
            | Step::RequestsReleased
            | Step::DestroySent
            | Step::DestroyReturned
            | Step::Retired
            | Step::Reaped
            | Step::Quarantined => {}
        }
        let in_words = |what| format!("queue pair {:#x} on cpu {}: {what}", noted.record.subject, noted.cpu.0);
        self.step(noted.cpu, step, noted).map_err(in_words)
    }

    fn stepped(&mut self, view: &View<'_>) -> Result<(), String> {
        self.steps += 1;
        // Block operations are waited for without a limit.
        if !self.steps.is_multiple_of(LOOK_INTERVAL) || view.target.device().outstanding_count() > 0 {
            return Ok(());
        }
        let is_late = |stage: &Stage| matches!(stage, Stage::Draining { since_ns } if view.now_ns.saturating_sub(*since_ns) > DRAIN_NS_MAX);
        let late = self.stages.iter().find(|(_, stage)| is_late(stage)).map(|(key, stage)| (*key, *stage));
        let Some((key, stage)) = late else {
            self.late = None;
            return Ok(());
        };
        // Where time passed and nobody acted its CPU has yet to see that the deadline is over.
        let looks = self.late.filter(|(same, _)| *same == key).map_or(1, |(_, looks)| looks + 1);
        self.late = Some((key, looks));
        let (cpu, handle) = key;
        if looks > LATE_LOOKS {
            Err(format!("queue pair {handle:#x} on cpu {cpu} still drains: {stage:?}"))
        } else {
            Ok(())
        }
    }

    fn at_rest(&mut self, view: &View<'_>) -> Result<(), String> {
        let quarantined_count = self.stages.values().filter(|stage| **stage == Stage::Quarantined).count() as u64;
        let begun_count = view.target.count("rdma_disconnects");
        if self.reaped_count + quarantined_count != begun_count {
            return Err(format!("{begun_count} teardowns began, and {} queue pairs were reaped", self.reaped_count));
        }
        self.stages.retain(|_, stage| *stage != Stage::Quarantined);
        match self.stages.first_key_value() {
            Some(((cpu, handle), stage)) => Err(format!("queue pair {handle:#x} on cpu {cpu} was left at {stage:?}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use reactor::TraceRecord;

    use super::*;

    fn noted(cpu: u16, step: Step, detail: u64) -> Noted {
        let record = TraceRecord { at_ns: 0, kind: step.kind(), subject: 7, detail };
        Noted { cpu: Cpu(cpu), record }
    }

    fn play(steps: &[(u16, Step, u64)]) -> Result<(), String> {
        let mut lives = Lives::default();
        steps.iter().try_for_each(|(cpu, step, detail)| lives.noted(&noted(*cpu, *step, *detail)))
    }

    const LIFE: [(u16, Step, u64); 9] = [
        (0, Step::Adopted, 1),
        (0, Step::DrainBegun, 1),
        (0, Step::MarkerPosted, 1),
        (0, Step::Quiet, RETURNED),
        (0, Step::RequestsReleased, RETURNED),
        (0, Step::DestroySent, 1),
        (0, Step::DestroyReturned, 0),
        (0, Step::Retired, 1),
        (0, Step::Reaped, 1),
    ];

    #[test]
    fn a_life_in_order_is_a_life() {
        assert_eq!(play(&LIFE), Ok(()));
    }

    #[test]
    fn no_step_is_taken_twice_or_elsewhere_and_none_but_the_marker_is_left_out() {
        for at in 0..LIFE.len() {
            let mut twice = LIFE.to_vec();
            twice.insert(at, LIFE[at]);
            // The second release of the same memory would be seen as two owners of it.
            let may_repeat = [Step::MarkerPosted, Step::RequestsReleased].contains(&LIFE[at].1);
            assert_eq!(play(&twice).is_ok(), may_repeat, "{:?} twice", LIFE[at].1);
            let mut elsewhere = LIFE.to_vec();
            elsewhere[at].0 = 1;
            assert!(play(&elsewhere).is_err() || at + 1 == LIFE.len(), "{:?} elsewhere", LIFE[at].1);
            let mut without = LIFE.to_vec();
            without.remove(at);
            let may_lack = [Step::MarkerPosted, Step::RequestsReleased, Step::Reaped].contains(&LIFE[at].1);
            assert_eq!(play(&without).is_ok(), may_lack, "without {:?}", LIFE[at].1);
        }
    }

    #[test]
    fn news_after_the_end_are_noticed() {
        let late = (0, Step::Applied, u64::from(News::LastWqeReached.number()));
        for at in 1..=LIFE.len() {
            let mut life = LIFE.to_vec();
            life.insert(at, late);
            assert_eq!(play(&life).is_ok(), at <= 3, "{late:?} after {:?}", LIFE[at - 1].1);
        }
        assert!(play(&[(0, Step::Missed, 3)]).is_ok());
    }

    #[test]
    fn memory_of_a_cut_queue_pair_is_released_after_its_destruction_only() {
        let mut life = LIFE.to_vec();
        life[3].2 = CUT;
        life[4].2 = CUT;
        assert!(play(&life).is_err());
        let released = life.remove(4);
        life.insert(6, released);
        assert_eq!(play(&life), Ok(()));
        life[5].2 = 1;
        assert!(play(&life).is_err(), "the destroy call failed");
    }
}
