//! What every event and every answer of a CPU does in every stage of a connection, as one table that is read whole when it changes.
//!
//! A stage, an event or an answer that is added makes the table longer, and the test fails until somebody has looked at the new lines.

use std::fmt::Write;

use nvmf_core::DisconnectReason;

use super::bench::{Bench, CONNECTION, LISTENER, Record, failure, qpair, request};
use crate::target::message::ToControl;
use crate::trace::ConnectionStage;
use crate::verbs::scripted::{Scripted, ScriptedPort};
use crate::verbs::{AddressUser, DeviceId, Event, EventKind, PortId, RegisteredMemory, RejectReason, Ticket};

/// Where a connection can be when something comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    NoRecord,
    In(ConnectionStage),
    /// The queue pair's destruction is waited for, and no CPU ever had it.
    DestroyingUnadopted,
}

impl Situation {
    fn all() -> Vec<Self> {
        let mut all = vec![Self::NoRecord];
        for stage in ConnectionStage::ALL {
            match stage {
                // A host's.
                ConnectionStage::Resolving | ConnectionStage::Connecting => {}
                ConnectionStage::Destroying => all.extend([Self::In(*stage), Self::DestroyingUnadopted]),
                ConnectionStage::Creating
                | ConnectionStage::Abandoned
                | ConnectionStage::Adopting
                | ConnectionStage::Unwanted
                | ConnectionStage::Live
                | ConnectionStage::Ending
                | ConnectionStage::Rejecting
                | ConnectionStage::Reaping
                | ConnectionStage::Leaving
                | ConnectionStage::Quarantined => all.push(Self::In(*stage)),
            }
        }
        all
    }

    fn name(self) -> String {
        match self {
            Self::NoRecord => "no record".to_owned(),
            Self::In(stage) => stage.name().to_owned(),
            Self::DestroyingUnadopted => "destroying, never adopted".to_owned(),
        }
    }

    /// Brings a bench there, by the shortest way.
    fn bench(self) -> (Bench, Record) {
        let mut bench = Bench::new();
        let before = match self {
            Self::NoRecord => return (bench, reactor::Handle::from_bits(0)),
            Self::DestroyingUnadopted => Self::In(ConnectionStage::Abandoned),
            Self::In(stage) => match stage {
                ConnectionStage::Creating => {
                    bench.event(request());
                    let record = bench.record();
                    bench.provider.take_calls();
                    return (bench, record);
                }
                ConnectionStage::Abandoned | ConnectionStage::Adopting => Self::In(ConnectionStage::Creating),
                ConnectionStage::Unwanted | ConnectionStage::Live | ConnectionStage::Rejecting => {
                    Self::In(ConnectionStage::Adopting)
                }
                ConnectionStage::Ending => Self::In(ConnectionStage::Live),
                ConnectionStage::Destroying => Self::In(ConnectionStage::Ending),
                ConnectionStage::Reaping | ConnectionStage::Quarantined => Self::In(ConnectionStage::Destroying),
                ConnectionStage::Leaving => Self::In(ConnectionStage::Reaping),
                ConnectionStage::Resolving | ConnectionStage::Connecting => unreachable!("a host's"),
            },
        };
        let (mut bench, record) = before.bench();
        let queue_pair = Box::new(bench.provider.queue_pair());
        let ticket = bench.provider.last_ticket();
        match self {
            Self::NoRecord => {}
            Self::DestroyingUnadopted => bench.event(Event::QueuePairCreated { ticket, result: Ok(*queue_pair) }),
            Self::In(stage) => match stage {
                ConnectionStage::Adopting => bench.event(Event::QueuePairCreated { ticket, result: Ok(*queue_pair) }),
                ConnectionStage::Abandoned | ConnectionStage::Unwanted | ConnectionStage::Ending => {
                    bench.event(Event::Disconnected { connection: CONNECTION });
                }
                ConnectionStage::Live => bench.answer(ToControl::Adopted { record, qpair: qpair() }),
                ConnectionStage::Rejecting => bench.answer(ToControl::Refused { record, queue_pair }),
                ConnectionStage::Destroying => bench.answer(ToControl::Destroy { record, queue_pair }),
                ConnectionStage::Reaping => bench.event(Event::QueuePairDestroyed { ticket, result: Ok(()) }),
                ConnectionStage::Quarantined => {
                    bench.event(Event::QueuePairDestroyed { ticket, result: Err(failure()) });
                }
                ConnectionStage::Leaving => bench.answer(ToControl::Reaped { record }),
                ConnectionStage::Creating | ConnectionStage::Resolving | ConnectionStage::Connecting => {
                    unreachable!("no such step")
                }
            },
        }
        // Queue pairs of steps that take none are nobody's.
        bench.provider.take_lost();
        bench.provider.take_calls();
        bench.take_heard();
        assert_eq!(bench.stage(record).map(Self::of).or(Some(self)), Some(self.plain()));
        (bench, record)
    }

    fn of(stage: ConnectionStage) -> Self {
        Self::In(stage)
    }

    fn plain(self) -> Self {
        if self == Self::DestroyingUnadopted { Self::In(ConnectionStage::Destroying) } else { self }
    }
}

/// Something that comes.
enum Input {
    Event(Event<ScriptedPort>),
    Answer(ToControl<Scripted>),
    EndAll,
}

/// Everything that can come for the record, with its name.
fn inputs(bench: &Bench, record: Record) -> Vec<(String, Input)> {
    let ticket = Ticket(record.to_bits());
    let mut all = Vec::new();
    for kind in EventKind::ALL {
        let of_kind: Vec<(&str, Event<ScriptedPort>)> = match kind {
            EventKind::Registered => {
                let memory = RegisteredMemory { local_key: 1, remote_key: 2 };
                vec![("", Event::Registered { ticket, result: Ok(memory) })]
            }
            EventKind::Deregistered => vec![("", Event::Deregistered { ticket })],
            EventKind::QueuePairCreated => vec![
                ("", Event::QueuePairCreated { ticket, result: Ok(bench.provider.queue_pair()) }),
                (" failed", Event::QueuePairCreated { ticket, result: Err(failure()) }),
            ],
            EventKind::QueuePairDestroyed => vec![
                ("", Event::QueuePairDestroyed { ticket, result: Ok(()) }),
                (" failed", Event::QueuePairDestroyed { ticket, result: Err(failure()) }),
            ],
            EventKind::ConnectionDestroyed => vec![("", Event::ConnectionDestroyed { ticket })],
            EventKind::Unlistened => vec![("", Event::Unlistened { ticket: Ticket(0) })],
            EventKind::Resolved => vec![("", Event::Resolved { ticket, result: Err(failure()) })],
            // Of another connection: ids are never used again.
            EventKind::ConnectRequest => continue,
            EventKind::Established => vec![(
                "",
                Event::Established {
                    connection: CONNECTION,
                    private_data: Vec::new(),
                    responder_resources: 1,
                    initiator_depth: 1,
                },
            )],
            EventKind::Rejected => {
                vec![("", Event::Rejected { connection: CONNECTION, reason: RejectReason::TimedOut })]
            }
            EventKind::Disconnected => vec![("", Event::Disconnected { connection: CONNECTION })],
            EventKind::TimewaitExit => vec![("", Event::TimewaitExit { connection: CONNECTION })],
            EventKind::AddressChanged => vec![
                (" of the connection", Event::AddressChanged { of: AddressUser::Connection(CONNECTION) }),
                (" of the listener", Event::AddressChanged { of: AddressUser::Listener(LISTENER) }),
            ],
            EventKind::LastWqeReached => vec![("", Event::LastWqeReached { connection: CONNECTION })],
            EventKind::QueuePairFatal => vec![("", Event::QueuePairFatal { connection: CONNECTION })],
            EventKind::CompletionQueueError => vec![("", Event::CompletionQueueError { port: PortId(0) })],
            EventKind::DeviceRemoved => vec![("", Event::DeviceRemoved(DeviceId::ONLY))],
            EventKind::DeviceReleased => vec![("", Event::DeviceReleased(DeviceId::ONLY))],
            // Asked for when no connection is left: `reopening`.
            EventKind::DeviceReopened => continue,
        };
        all.extend(of_kind.into_iter().map(|(more, event)| (format!("{}{more}", kind.name()), Input::Event(event))));
    }
    let queue_pair = || Box::new(bench.provider.queue_pair());
    let qpair = qpair();
    for answer in [
        ToControl::Adopted { record, qpair },
        ToControl::Refused { record, queue_pair: queue_pair() },
        ToControl::Disconnect { record, qpair },
        ToControl::Destroy { record, queue_pair: queue_pair() },
        ToControl::Reaped { record },
    ] {
        let name = match &answer {
            ToControl::Adopted { .. } => "cpu: adopted",
            ToControl::Refused { .. } => "cpu: refused",
            ToControl::Disconnect { .. } => "cpu: drain begun",
            ToControl::Destroy { .. } => "cpu: quiet",
            ToControl::Reaped { .. } => "cpu: reaped",
            // Of no connection.
            ToControl::Bereft { .. } | ToControl::Traced { .. } | ToControl::Stopped => continue,
        };
        all.push((name.to_owned(), Input::Answer(answer)));
    }
    all.push(("shutdown".to_owned(), Input::EndAll));
    all
}

/// What an input did.
fn outcome(situation: Situation, number: usize) -> (String, String) {
    let (mut bench, record) = situation.bench();
    let before = bench.missed_count();
    let mut inputs = inputs(&bench, record);
    let (name, input) = inputs.swap_remove(number);
    // Those that are not given hold queue pairs too.
    drop(inputs);
    bench.provider.take_lost();
    match input {
        Input::Event(event) => bench.event(event),
        Input::Answer(answer) => bench.answer(answer),
        Input::EndAll => bench.end_all(DisconnectReason::Shutdown),
    }
    assert_eq!(bench.provider.take_lost(), 0, "{}: {name}: a queue pair was dropped, not destroyed", situation.name());
    let after = match bench.stage(record) {
        Some(stage) if Situation::In(stage) == situation.plain() => "stays".to_owned(),
        Some(stage) => stage.name().to_owned(),
        None if situation == Situation::NoRecord => "none".to_owned(),
        None => "gone".to_owned(),
    };
    let mut outcome = after;
    let calls = bench.provider.take_calls();
    if !calls.is_empty() {
        write!(outcome, "; calls {}", calls.join(", ")).unwrap();
    }
    let heard = bench.take_heard();
    if !heard.is_empty() {
        write!(outcome, "; tells its CPU {}", heard.join(", ")).unwrap();
    }
    if bench.missed_count() > before {
        outcome.push_str("; missed");
    }
    (name, outcome)
}

fn table() -> String {
    let mut table = String::new();
    let input_count = inputs(&Bench::new(), reactor::Handle::from_bits(0)).len();
    for situation in Situation::all() {
        writeln!(table, "{}", situation.name()).unwrap();
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for number in 0..input_count {
            let (name, outcome) = outcome(situation, number);
            match groups.iter_mut().find(|(of, _)| *of == outcome) {
                Some((_, names)) => names.push(name),
                None => groups.push((outcome, vec![name])),
            }
        }
        for (outcome, names) in groups {
            writeln!(table, "  {outcome}: {}", names.join(", ")).unwrap();
        }
    }
    table
}

#[test]
fn every_event_in_every_stage_does_what_the_table_says() {
    let table = table();
    let agreed = include_str!("table.txt");
    assert!(table == agreed, "the table has changed; if that is meant, this is the new table.txt:\n{table}");
}
