//! The host's control plane alone: what every event does in every stage of a link, as one table that is read whole when it changes.
//!
//! The provider and the polling CPU are played by the test. Ends of tickets and answers of the CPU come once and only where they were asked for, so the
//! table has them where they can come; what a device may raise at any time it has everywhere. A stage or an event that is added makes the table
//! longer, and the test fails until somebody has looked at the new lines.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;

use nvmf_core::host::HostIdentity;
use reactor::{Arena, Cpu, Handle, Program, Progress, SharedArena, Simulation, SimulationOptions, Turn};

use super::HostControl;
use crate::binding::AcceptData;
use crate::host::link::Link;
use crate::host::message::{Kind, Message};
use crate::host::options::HostOptions;
use crate::host::queue::Queue;
use crate::trace::ConnectionStage;
use crate::verbs::scripted::{Scripted, ScriptedPort};
use crate::verbs::{
    AddressUser, Connection, ConnectionId, Event, EventKind, ListenerId, PortId, RegisteredMemory, RejectReason,
    VerbsError,
};

const CONNECTION: ConnectionId = ConnectionId(5);
const CPU: Cpu = Cpu(0);
const CONTROL: Cpu = Cpu(1);

type Answers = Rc<RefCell<Vec<Message<Scripted>>>>;

struct ControlProgram {
    control: Rc<RefCell<HostControl<Scripted>>>,
    answers: Answers,
}

impl Program for ControlProgram {
    type Message = Message<Scripted>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, from: Option<Cpu>, message: Self::Message) {
        self.control.borrow_mut().receive(turn, from, message);
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, token: u64) {
        self.control.borrow_mut().fire(turn, token);
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Self::Message>) -> Progress {
        for answer in self.answers.borrow_mut().drain(..) {
            self.control.borrow_mut().receive(turn, Some(CPU), answer);
        }
        self.control.borrow_mut().poll(turn)
    }
}

/// Notes what the CPU was told.
struct Listening(Rc<RefCell<Vec<String>>>);

impl Program for Listening {
    type Message = Message<Scripted>;

    fn receive<'t>(&mut self, _: &mut Turn<'t, Self::Message>, _: Option<Cpu>, message: Self::Message) {
        self.0.borrow_mut().push(message.name().to_string());
        if let Kind::Attach { queue_pair, .. } = message.0 {
            // It has come, and is not lost.
            std::mem::forget(queue_pair);
        }
    }

    fn fire<'t>(&mut self, _: &mut Turn<'t, Self::Message>, _: u64) {}

    fn poll<'t>(&mut self, _: &mut Turn<'t, Self::Message>) -> Progress {
        Progress::Idle
    }
}

struct Bench {
    simulation: Simulation<Message<Scripted>>,
    provider: Scripted,
    control: Rc<RefCell<HostControl<Scripted>>>,
    answers: Answers,
    heard: Rc<RefCell<Vec<String>>>,
}

impl Bench {
    /// One that has registered its memory, and waits for its address.
    fn new() -> Self {
        let options = SimulationOptions { sleeps: false, ..SimulationOptions::default() };
        let mut simulation = Simulation::with_options(1, 2, options);
        let provider = Scripted::default();
        let address = "10.0.0.1:4420".parse().unwrap();
        let options = HostOptions::new(address, "nqn.test".into(), HostIdentity::from_uuid([7; 16]));
        let capsules = Arena::new(4096, false).unwrap().segment();
        let data = Arc::new(SharedArena::new("scripted", 4096, false).unwrap());
        let control = HostControl::new(provider.clone(), Arc::new(options), vec![PortId(0)], capsules, data);
        let control = Rc::new(RefCell::new(control));
        let (answers, heard) = (Answers::default(), Rc::default());
        simulation.install(CPU, Listening(Rc::clone(&heard)));
        simulation.install(CONTROL, ControlProgram { control: Rc::clone(&control), answers: Rc::clone(&answers) });
        let mut bench = Self { simulation, provider, control, answers, heard };
        bench.turns();
        let tickets = bench.provider.0.borrow().tickets.clone();
        for ticket in tickets {
            let memory = RegisteredMemory { local_key: 1, remote_key: 2 };
            bench.event(Event::Registered { ticket, result: Ok(memory) });
        }
        bench
    }

    fn turns(&mut self) {
        for _ in 0..40 {
            self.simulation.step_cpu(CONTROL);
            self.simulation.step_cpu(CPU);
        }
        assert!(self.answers.borrow().is_empty(), "the control plane did not turn");
    }

    fn event(&mut self, event: Event<ScriptedPort>) {
        self.provider.0.borrow_mut().events.push_back(event);
        self.turns();
    }

    fn answer(&mut self, answer: Kind<Scripted>) {
        self.answers.borrow_mut().push(Message(answer));
        self.turns();
    }

    fn stage(&self, link: Handle<Link>) -> Option<ConnectionStage> {
        let control = self.control.borrow();
        let link = control.links.look(link)?;
        assert_eq!(link.stage.as_ref().map(crate::host::link::Stage::word), Some(link.entered));
        Some(link.entered)
    }

    /// The admin queue's.
    fn link(&self) -> Handle<Link> {
        self.control.borrow().links.handles().next().expect("a link was opened")
    }

    fn clear(&self) {
        self.provider.take_calls();
        self.provider.take_lost();
        self.heard.borrow_mut().clear();
    }
}

fn queue() -> Handle<Queue> {
    Handle::from_bits(1 << 24)
}

fn failure() -> VerbsError {
    VerbsError::System { call: "a call", source: std::io::Error::from_raw_os_error(16) }
}

fn established() -> Event<ScriptedPort> {
    let private_data = AcceptData { receive_queue_size: 1024 }.to_bytes().to_vec();
    Event::Established { connection: CONNECTION, private_data, responder_resources: 1, initiator_depth: 1 }
}

/// Where a link can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    In(ConnectionStage),
    ResolvingUnwanted,
    /// The queue pair's destruction is waited for, and no CPU ever had it.
    DestroyingUnadopted,
}

impl Situation {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for stage in ConnectionStage::ALL {
            match stage {
                // A target's.
                ConnectionStage::Rejecting | ConnectionStage::Reaping => {}
                ConnectionStage::Resolving => all.extend([Self::In(*stage), Self::ResolvingUnwanted]),
                ConnectionStage::Destroying => all.extend([Self::In(*stage), Self::DestroyingUnadopted]),
                ConnectionStage::Creating
                | ConnectionStage::Abandoned
                | ConnectionStage::Adopting
                | ConnectionStage::Unwanted
                | ConnectionStage::Live
                | ConnectionStage::Ending
                | ConnectionStage::Leaving
                | ConnectionStage::Quarantined
                | ConnectionStage::Connecting => all.push(Self::In(*stage)),
            }
        }
        all
    }

    fn name(self) -> String {
        match self {
            Self::In(stage) => stage.name().to_owned(),
            Self::ResolvingUnwanted => "resolving, not wanted".to_owned(),
            Self::DestroyingUnadopted => "destroying, never adopted".to_owned(),
        }
    }

    fn stage(self) -> ConnectionStage {
        match self {
            Self::In(stage) => stage,
            Self::ResolvingUnwanted => ConnectionStage::Resolving,
            Self::DestroyingUnadopted => ConnectionStage::Destroying,
        }
    }

    /// The situation before, and what leads from there to here.
    fn bench(self) -> (Bench, Handle<Link>) {
        use ConnectionStage as At;
        let before = match self {
            Self::In(At::Resolving) => {
                let bench = Bench::new();
                let link = bench.link();
                bench.clear();
                return (bench, link);
            }
            Self::ResolvingUnwanted | Self::In(At::Creating) => Self::In(At::Resolving),
            Self::In(At::Abandoned | At::Adopting) => Self::In(At::Creating),
            Self::In(At::Unwanted | At::Connecting) => Self::In(At::Adopting),
            Self::In(At::Live) => Self::In(At::Connecting),
            Self::In(At::Ending) => Self::In(At::Live),
            Self::In(At::Destroying) => Self::In(At::Ending),
            Self::DestroyingUnadopted => Self::In(At::Abandoned),
            Self::In(At::Leaving | At::Quarantined) => Self::In(At::Destroying),
            Self::In(At::Rejecting | At::Reaping) => unreachable!("a target's"),
        };
        let (mut bench, link) = before.bench();
        let step = match self {
            Self::In(At::Adopting) | Self::DestroyingUnadopted => "QUEUE_PAIR_CREATED",
            Self::In(At::Creating) => "RESOLVED",
            Self::In(At::Connecting) => "cpu: attached",
            Self::In(At::Live) => "ESTABLISHED",
            Self::In(At::Destroying) => "cpu: drained",
            Self::In(At::Leaving) => "QUEUE_PAIR_DESTROYED",
            Self::In(At::Quarantined) => "QUEUE_PAIR_DESTROYED failed",
            Self::ResolvingUnwanted
            | Self::In(At::Abandoned | At::Unwanted | At::Ending | At::Resolving | At::Rejecting | At::Reaping) => {
                "shutdown"
            }
        };
        let (_, input) = inputs(before, &bench, link).into_iter().find(|(name, _)| name == step).expect("a step");
        give(&mut bench, input);
        bench.clear();
        assert_eq!(bench.stage(link), Some(self.stage()));
        (bench, link)
    }
}

enum Input {
    Event(Event<ScriptedPort>),
    Answer(Kind<Scripted>),
}

fn give(bench: &mut Bench, input: Input) {
    match input {
        Input::Event(event) => bench.event(event),
        Input::Answer(answer) => bench.answer(answer),
    }
}

/// What can come in this situation, with its name.
fn inputs(situation: Situation, bench: &Bench, link: Handle<Link>) -> Vec<(String, Input)> {
    use ConnectionStage as At;
    let ticket = super::ticket(super::Call::Link, Some(link));
    let stage = situation.stage();
    let queue_pair = || bench.provider.queue_pair();
    let mut all = Vec::new();
    for kind in EventKind::ALL {
        let of_kind: Vec<(&str, Event<ScriptedPort>)> = match kind {
            EventKind::QueuePairCreated if matches!(stage, At::Creating | At::Abandoned) => vec![
                ("", Event::QueuePairCreated { ticket, result: Ok(queue_pair()) }),
                (" failed", Event::QueuePairCreated { ticket, result: Err(failure()) }),
            ],
            EventKind::QueuePairDestroyed if stage == At::Destroying => vec![
                ("", Event::QueuePairDestroyed { ticket, result: Ok(()) }),
                (" failed", Event::QueuePairDestroyed { ticket, result: Err(failure()) }),
            ],
            EventKind::ConnectionDestroyed if stage == At::Leaving => {
                vec![("", Event::ConnectionDestroyed { ticket })]
            }
            EventKind::Resolved if stage == At::Resolving => vec![
                ("", Event::Resolved { ticket, result: Ok(Connection::new(CONNECTION)) }),
                (" failed", Event::Resolved { ticket, result: Err(failure()) }),
            ],
            // Not asked for.
            EventKind::Registered
            | EventKind::Deregistered
            | EventKind::QueuePairCreated
            | EventKind::QueuePairDestroyed
            | EventKind::ConnectionDestroyed
            | EventKind::Resolved
            // A host does not listen, and looks for no device again.
            | EventKind::DeviceReleased
            | EventKind::DeviceReopened
            | EventKind::Unlistened
            | EventKind::ConnectRequest => continue,
            EventKind::Established => vec![("", established())],
            EventKind::Rejected => {
                vec![("", Event::Rejected { connection: CONNECTION, reason: RejectReason::TimedOut })]
            }
            EventKind::Disconnected => vec![("", Event::Disconnected { connection: CONNECTION })],
            EventKind::TimewaitExit => vec![("", Event::TimewaitExit { connection: CONNECTION })],
            EventKind::AddressChanged => vec![
                (" of the connection", Event::AddressChanged { of: AddressUser::Connection(CONNECTION) }),
                (" of a listener", Event::AddressChanged { of: AddressUser::Listener(ListenerId(9)) }),
            ],
            EventKind::LastWqeReached => vec![("", Event::LastWqeReached { connection: CONNECTION })],
            EventKind::QueuePairFatal => vec![("", Event::QueuePairFatal { connection: CONNECTION })],
            EventKind::CompletionQueueError => vec![("", Event::CompletionQueueError { port: PortId(0) })],
            EventKind::DeviceRemoved => vec![("", Event::DeviceRemoved(crate::verbs::DeviceId::ONLY))],
        };
        all.extend(of_kind.into_iter().map(|(more, event)| (format!("{}{more}", kind.name()), Input::Event(event))));
    }
    let queue = queue();
    if matches!(stage, At::Adopting | At::Unwanted) {
        all.push(("cpu: attached".to_owned(), Input::Answer(Kind::Attached { link, queue })));
    }
    if stage == At::Ending {
        let drained = Kind::Drained { link, queue_pair: queue_pair() };
        all.push(("cpu: drained".to_owned(), Input::Answer(drained)));
    }
    all.push(("shutdown".to_owned(), Input::Answer(Kind::Shutdown)));
    all
}

fn outcome(situation: Situation, number: usize) -> Option<(String, String)> {
    let (mut bench, link) = situation.bench();
    let mut inputs = inputs(situation, &bench, link);
    if number >= inputs.len() {
        return None;
    }
    let (name, input) = inputs.swap_remove(number);
    drop(inputs);
    bench.clear();
    give(&mut bench, input);
    assert_eq!(bench.provider.take_lost(), 0, "{}: {name}: a queue pair was dropped, not destroyed", situation.name());
    let mut outcome = match bench.stage(link) {
        Some(stage) if stage == situation.stage() => "stays".to_owned(),
        Some(stage) => stage.name().to_owned(),
        None => "gone".to_owned(),
    };
    let calls = bench.provider.take_calls();
    if !calls.is_empty() {
        write!(outcome, "; calls {}", calls.join(", ")).unwrap();
    }
    let heard = std::mem::take(&mut *bench.heard.borrow_mut());
    if !heard.is_empty() {
        write!(outcome, "; tells its CPU {}", heard.join(", ")).unwrap();
    }
    Some((name, outcome))
}

fn table() -> String {
    let mut table = String::new();
    for situation in Situation::all() {
        writeln!(table, "{}", situation.name()).unwrap();
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for (name, outcome) in (0..).map_while(|number| outcome(situation, number)) {
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
fn every_event_in_every_stage_of_a_link_does_what_the_table_says() {
    let table = table();
    let agreed = include_str!("tests/table.txt");
    assert!(table == agreed, "the table has changed; if that is meant, this is the new table.txt:\n{table}");
}
