//! What all CPUs have traced, put together: whose queue pair and controller each record is of, also of those that are gone, and in words.
//!
//! CPUs note handles and nothing else, so that a record costs a few stores. Some records lead from one name to another (a queue pair's to its record, a controller's to its id): these are
//! read first, and say of every other record whose it is. A handle is never another's again, so this holds for as long as the records are there.

use std::collections::BTreeMap;

use nvmf_core::trace::{NO_ID, Step as Layer};
use reactor::{Cpu, TraceRecord};
use serde_json::{Value, json};
use transport_rdma::target::Traced;
use transport_rdma::trace::Step;

use crate::words;

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Of the controller with this id, and its queue pairs.
    pub cntlid: Option<u16>,
    /// Of its queue pairs with this queue id.
    pub qid: Option<u16>,
    /// Of this host.
    pub host_nqn: Option<String>,
    /// So many, the last.
    pub last: usize,
}

/// Who had a controller id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The id.
    pub cntlid: u16,
    /// Whose host.
    pub host_nqn: String,
    /// When it was gone. None: it is there.
    pub ended_ns: Option<u64>,
}

/// Whose an event is, as far as the records say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Identity {
    cntlid: Option<u16>,
    qid: Option<u16>,
    host_nqn: Option<String>,
}

/// What the records say of names. Objects of CPUs are named by place: the CPU above the handle's 56 bits.
#[derive(Default)]
struct Names {
    /// Queue ids, by the queue pair's place.
    qids: BTreeMap<u64, u16>,
    /// Controllers, by the queue pair's place.
    controllers: BTreeMap<u64, u64>,
    /// Queue pairs' places, by the control plane's record of the connection.
    qpairs: BTreeMap<u64, u64>,
    /// Ids of controllers, by place.
    ids: BTreeMap<u64, u16>,
    /// When a controller was last heard of.
    heard_ns: BTreeMap<u64, u64>,
}

/// Handles have 56 bits.
const HANDLE: u64 = (1 << 56) - 1;

fn place(cpu: Cpu, handle: u64) -> u64 {
    u64::from(cpu.0) << 56 | handle & HANDLE
}

/// What an event is of.
enum Subject {
    Qpair(u64),
    Controller(u64),
    Record(u64),
    Id(u64),
    Nobody,
}

impl Names {
    fn learn(&mut self, cpu: Cpu, record: &TraceRecord) {
        let TraceRecord { at_ns, subject, detail, .. } = *record;
        let id = |detail| u16::try_from(detail).ok();
        match (Layer::of(record), Step::of(record)) {
            (Some(Layer::QpairOpened), _) => self.qids.extend(id(detail).map(|qid| (place(cpu, subject), qid))),
            (Some(Layer::ControllerBorn), _) => drop(self.controllers.insert(place(cpu, detail), subject)),
            (Some(Layer::MemberJoined | Layer::MemberLeft), _) => drop(self.controllers.insert(subject, detail)),
            (Some(Layer::ControllerAdmitted | Layer::IdGiven | Layer::ControllerGone), _) if detail != NO_ID => {
                self.ids.extend(id(detail).map(|id| (subject, id)));
                self.heard_ns.entry(subject).and_modify(|heard_ns| *heard_ns = at_ns.max(*heard_ns)).or_insert(at_ns);
            }
            (_, Some(Step::Adopted | Step::DestroySent | Step::Retired | Step::Reaped | Step::Quarantined)) => {
                self.qpairs.insert(detail, place(cpu, subject));
            }
            _ => {}
        }
    }

    fn identify(&self, cpu: Cpu, record: &TraceRecord, owners: &[Owner]) -> Identity {
        match subject(cpu, record) {
            Subject::Qpair(place) => self.of_qpair(place, owners),
            Subject::Record(record) => {
                self.qpairs.get(&record).map_or_else(Identity::default, |place| self.of_qpair(*place, owners))
            }
            Subject::Controller(place) => self.of_controller(place, owners),
            Subject::Id(id) => Identity { cntlid: u16::try_from(id).ok(), ..Identity::default() },
            Subject::Nobody => Identity::default(),
        }
    }

    fn of_qpair(&self, place: u64, owners: &[Owner]) -> Identity {
        let of = self.controllers.get(&place).map_or_else(Identity::default, |at| self.of_controller(*at, owners));
        Identity { qid: self.qids.get(&place).copied(), ..of }
    }

    fn of_controller(&self, place: u64, owners: &[Owner]) -> Identity {
        let Some(cntlid) = self.ids.get(&place).copied() else { return Identity::default() };
        let heard_ns = self.heard_ns.get(&place).copied().unwrap_or(0);
        // The first that had the id and did not end before this one was heard of.
        let mut had = owners.iter().filter(|owner| owner.cntlid == cntlid);
        let owner = had.find(|owner| owner.ended_ns.is_none_or(|ended_ns| ended_ns >= heard_ns));
        Identity { cntlid: Some(cntlid), qid: None, host_nqn: owner.map(|owner| owner.host_nqn.clone()) }
    }
}

fn subject(cpu: Cpu, record: &TraceRecord) -> Subject {
    let named = record.subject;
    if let Some(step) = Layer::of(record) {
        return match step {
            Layer::QpairOpened
            | Layer::QpairDrains
            | Layer::QpairClosed
            | Layer::HostAuthenticated
            | Layer::HostRefused
            | Layer::CommandFailed
            | Layer::AbortAsked
            | Layer::QpairMissed => Subject::Qpair(place(cpu, named)),
            Layer::MemberJoined | Layer::MemberLeft => Subject::Qpair(named),
            Layer::ControllerBorn
            | Layer::ControllerAdmitted
            | Layer::ControllerRefused
            | Layer::ControllerCloses
            | Layer::ControllerGone
            | Layer::ControllerEnabled
            | Layer::ControllerReset
            | Layer::ControllerShutDown
            | Layer::KeepAliveExpired
            | Layer::IdGiven
            | Layer::ControllerMissed => Subject::Controller(named),
            Layer::IdFreed => Subject::Id(record.detail),
            Layer::PressureBegan | Layer::PressureEnded => Subject::Nobody,
        };
    }
    match Step::of(record) {
        Some(
            Step::Adopted
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
            | Step::Quarantined,
        ) => Subject::Qpair(place(cpu, named)),
        Some(
            Step::Refused | Step::ConnectionRequested | Step::StageEntered | Step::RecordForgotten | Step::RecordMissed,
        ) => Subject::Record(named),
        // A ticket's record is below its kind; connections' and listeners' own ids lead nowhere.
        Some(Step::EventFetched | Step::EventAcknowledged) if named >> 56 != 0 => Subject::Record(named & HANDLE),
        Some(
            Step::EventFetched
            | Step::EventAcknowledged
            | Step::DeviceRemoved
            | Step::PortFailed
            | Step::DeviceReturned
            | Step::Refitted,
        )
        | None => Subject::Nobody,
    }
}

/// The answer: a list, oldest first. `owners` are in the order in which they had their ids; `label` is what a CPU is called.
#[must_use]
pub fn answer(traced: &Traced, owners: &[Owner], question: &Question, label: impl Fn(Cpu) -> String) -> Value {
    let mut names = Names::default();
    for (cpu, records) in traced {
        records.iter().for_each(|record| names.learn(*cpu, record));
    }
    let mut all: Vec<(Cpu, &TraceRecord)> =
        traced.iter().flat_map(|(cpu, records)| records.iter().map(|record| (*cpu, record))).collect();
    // Stable: what one CPU noted in one turn stays in order.
    all.sort_by_key(|(_, record)| record.at_ns);
    all.dedup_by(|second, first| first.0 == second.0 && words::imply(first.1, second.1));
    let is_wanted = |identity: &Identity| {
        question.cntlid.is_none_or(|id| identity.cntlid == Some(id))
            && question.qid.is_none_or(|qid| identity.qid == Some(qid))
            && question.host_nqn.as_ref().is_none_or(|nqn| identity.host_nqn.as_ref() == Some(nqn))
    };
    let identified = all.into_iter().map(|(cpu, record)| (cpu, record, names.identify(cpu, record, owners)));
    let wanted: Vec<_> = identified.filter(|(_, _, identity)| is_wanted(identity)).collect();
    let skipped = wanted.len().saturating_sub(question.last);
    let events = wanted.into_iter().skip(skipped).map(|(cpu, record, identity)| {
        let mut event = json!({ "at_ns": record.at_ns, "cpu": label(cpu), "event": words::told(record) });
        if let Some(cntlid) = identity.cntlid {
            event["cntlid"] = json!(cntlid);
        }
        if let Some(qid) = identity.qid {
            event["qid"] = json!(qid);
        }
        if let Some(host_nqn) = identity.host_nqn {
            event["hostnqn"] = json!(host_nqn);
        }
        event
    });
    events.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: u64 = 1 << 24 | 4;
    const IO: u64 = 1 << 24 | 5;
    const RECORD: u64 = 3 << 24 | 9;

    fn layer(at_ns: u64, step: Layer, subject: u64, detail: u64) -> TraceRecord {
        TraceRecord { at_ns, kind: step.kind(), subject, detail }
    }

    fn transport(at_ns: u64, step: Step, subject: u64, detail: u64) -> TraceRecord {
        TraceRecord { at_ns, kind: step.kind(), subject, detail }
    }

    /// A controller on CPU 0 with an I/O queue on CPU 1; the control plane is CPU 2. It is gone, and another has its id.
    fn a_life() -> (Traced, Vec<Owner>) {
        let controller = place(Cpu(0), 7);
        let first = vec![
            layer(10, Layer::QpairOpened, ADMIN, 0),
            layer(20, Layer::ControllerBorn, controller, ADMIN),
            layer(30, Layer::ControllerAdmitted, controller, 1),
            layer(50, Layer::MemberJoined, place(Cpu(1), IO), controller),
            layer(90, Layer::ControllerGone, controller, 1),
            layer(200, Layer::ControllerAdmitted, place(Cpu(0), 8), 1),
        ];
        let second = vec![
            transport(40, Step::Adopted, IO, RECORD),
            layer(41, Layer::QpairOpened, IO, 1),
            layer(
                60,
                Layer::CommandFailed,
                IO,
                nvmf_core::trace::failed_command(77, nvmf_core::status::Status::LBA_OUT_OF_RANGE),
            ),
            transport(80, Step::DrainBegun, IO, 0),
            transport(85, Step::Reaped, IO, RECORD),
        ];
        let control = vec![
            transport(35, Step::ConnectionRequested, RECORD, 12),
            transport(86, Step::RecordForgotten, RECORD, 12),
        ];
        let owner = |host: &str, ended_ns| Owner { cntlid: 1, host_nqn: host.into(), ended_ns };
        (vec![(Cpu(0), first), (Cpu(1), second), (Cpu(2), control)], vec![owner("gone", Some(95)), owner("here", None)])
    }

    fn ask(question: Question) -> Vec<Value> {
        let (traced, owners) = a_life();
        let Value::Array(events) = answer(&traced, &owners, &question, |cpu| cpu.0.to_string()) else { panic!() };
        events
    }

    #[test]
    fn every_step_of_a_queue_pair_that_is_gone_is_found_on_all_cpus() {
        let events = ask(Question { qid: Some(1), last: 100, ..Question::default() });
        let times: Vec<u64> = events.iter().map(|event| event["at_ns"].as_u64().unwrap()).collect();
        assert_eq!(times, [35, 40, 41, 50, 60, 80, 85, 86]);
        assert!(events.iter().all(|event| event["cntlid"] == 1 && event["hostnqn"] == "gone"), "{events:?}");
        let failed = events[4]["event"].as_str().unwrap();
        assert!(failed.contains("command 77") && failed.contains("LBA"), "{failed}");
    }

    #[test]
    fn an_id_that_two_had_is_told_apart_by_its_hosts() {
        let of = |host: &str| ask(Question { host_nqn: Some(host.into()), last: 100, ..Question::default() });
        assert_eq!(of("here").len(), 1);
        assert_eq!(of("gone").len(), 13 - 1);
        assert_eq!(ask(Question { last: 3, ..Question::default() }).len(), 3);
        assert_eq!(ask(Question { cntlid: Some(9), last: 3, ..Question::default() }), Vec::<Value>::new());
    }
}
