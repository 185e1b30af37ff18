//! A control plane between a scripted provider and a CPU that only listens.

use std::cell::RefCell;
use std::rc::Rc;

use nvmf_core::spec::{ControllerSpec, TargetSpec};
use nvmf_core::{DisconnectReason, Qpair};
use reactor::{Cpu, Handle, Program, Progress, Simulation, SimulationOptions, Turn};

use crate::binding::RequestData;
use crate::target::control::{Control, ControlParts, DeviceRecord, Limits};
use crate::target::counters::CpuCounters;
use crate::target::message::{ConnectionRecord, Kind, Message, ToControl, ToCpu};
use crate::trace::ConnectionStage;
use crate::verbs::scripted::{Scripted, ScriptedPort};
use crate::verbs::{
    Connection, ConnectionId, ConnectionRequest, Event, ListenerId, PortId, Provider, RegisteredMemory, VerbsError,
};
use crate::wake_set::WakeSet;

pub(super) type Record = Handle<ConnectionRecord>;
type Job = Box<dyn FnOnce(&mut Control<Scripted>, &mut Turn<'_, Message<Scripted>>)>;

/// The connection of every test.
pub(super) const CONNECTION: ConnectionId = ConnectionId(5);
pub(super) const LISTENER: ListenerId = ListenerId(1);

const CPU: Cpu = Cpu(0);
const CONTROL: Cpu = Cpu(1);

struct ControlProgram {
    control: Rc<RefCell<Control<Scripted>>>,
    jobs: Rc<RefCell<Vec<Job>>>,
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
        for job in self.jobs.borrow_mut().drain(..) {
            job(&mut self.control.borrow_mut(), turn);
        }
        self.control.borrow_mut().poll(turn)
    }
}

/// What the CPU was told.
struct Listening(Rc<RefCell<Vec<String>>>);

impl Program for Listening {
    type Message = Message<Scripted>;

    fn receive<'t>(&mut self, _: &mut Turn<'t, Self::Message>, _: Option<Cpu>, message: Self::Message) {
        self.0.borrow_mut().push(message.name().to_string());
        if let Kind::ToCpu(ToCpu::Adopt { queue_pair, .. }) = message.0 {
            // It has come, and is not lost.
            std::mem::forget(queue_pair);
        }
    }

    fn fire<'t>(&mut self, _: &mut Turn<'t, Self::Message>, _: u64) {}

    fn poll<'t>(&mut self, _: &mut Turn<'t, Self::Message>) -> Progress {
        Progress::Idle
    }
}

pub(super) struct Bench {
    simulation: Simulation<Message<Scripted>>,
    pub(super) provider: Scripted,
    pub(super) control: Rc<RefCell<Control<Scripted>>>,
    jobs: Rc<RefCell<Vec<Job>>>,
    heard: Rc<RefCell<Vec<String>>>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let options = SimulationOptions { sleeps: false, ..SimulationOptions::default() };
        let mut simulation = Simulation::with_options(1, 2, options);
        let provider = Scripted::default();
        let controller = ControllerSpec::default();
        let spec = TargetSpec { controller, ..TargetSpec::default() };
        let core = nvmf_core::Target::new(simulation.domain(), 1, spec).unwrap();
        let limits = Limits {
            controller,
            device: provider.attributes(),
            queue_pair_count_max: 4,
            shared_receive_count: 0,
            completion_count: 1 << 16,
        };
        let segment = reactor::Arena::new(4096, false).unwrap().segment();
        let registered = RegisteredMemory { local_key: 7, remote_key: 0 };
        let mut device = DeviceRecord::new(limits, [(segment.region(), registered)].into());
        device.ports.push(PortId(0));
        let control = Control::new(ControlParts {
            provider: provider.clone(),
            core,
            devices: vec![device],
            wakes: vec![WakeSet::new([]).unwrap()],
            listeners: vec![(LISTENER, "10.0.0.1:4420".parse().unwrap())],
            segments: vec![segment],
            cpu_counters: vec![std::sync::Arc::new(CpuCounters::default())],
            placement: Vec::new(),
            host_queue_pair_count_max: u32::MAX,
        });
        let control = Rc::new(RefCell::new(control));
        let (jobs, heard) = (Rc::default(), Rc::default());
        simulation.install(CPU, Listening(Rc::clone(&heard)));
        simulation.install(CONTROL, ControlProgram { control: Rc::clone(&control), jobs: Rc::clone(&jobs) });
        Self { simulation, provider, control, jobs, heard }
    }

    /// Runs `job` on the control plane, and everything that follows at once.
    pub(super) fn run(&mut self, job: impl FnOnce(&mut Control<Scripted>, &mut Turn<'_, Message<Scripted>>) + 'static) {
        self.jobs.borrow_mut().push(Box::new(job));
        self.turns();
    }

    /// So many that every message has come.
    pub(super) fn turns(&mut self) {
        for _ in 0..40 {
            self.simulation.step_cpu(CONTROL);
            self.simulation.step_cpu(CPU);
        }
        assert!(self.jobs.borrow().is_empty(), "the control plane did not turn");
    }

    pub(super) fn advance(&mut self, ns: u64) {
        self.simulation.advance(ns);
        self.turns();
    }

    pub(super) fn event(&mut self, event: Event<ScriptedPort>) {
        self.run(|control, turn| control.take_event(turn, event));
    }

    pub(super) fn answer(&mut self, answer: ToControl<Scripted>) {
        self.run(|control, turn| control.take_answer(turn, answer));
    }

    pub(super) fn end_all(&mut self, reason: DisconnectReason) {
        self.run(move |control, turn| control.end_all(turn, reason));
    }

    pub(super) fn shut_down(&mut self) {
        self.run(|control, turn| control.begin_shutdown(turn));
    }

    /// What the CPU was told since the last time.
    pub(super) fn take_heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.borrow_mut())
    }

    /// The record of the connection, or of none.
    pub(super) fn record(&self) -> Record {
        self.control.borrow().by_connection.get(&CONNECTION).copied().unwrap_or(Handle::from_bits(0))
    }

    pub(super) fn stage(&self, record: Record) -> Option<ConnectionStage> {
        let control = self.control.borrow();
        let record = control.records.look(record)?;
        let word = record.stage.as_ref().map(super::super::record::Stage::word);
        assert_eq!(word, Some(record.entered), "the trace was told of each stage");
        word
    }

    pub(super) fn missed_count(&self) -> u64 {
        self.control.borrow().counts.stale_events
    }

    /// A row of the metrics, summed over labels.
    pub(super) fn row(&self, name: &str) -> u64 {
        self.control.borrow().counters().iter().filter(|row| row.0 == name).map(|row| row.2).sum()
    }
}

/// The qpair that the CPU opened.
pub(super) fn qpair() -> Handle<Qpair> {
    Handle::from_bits(1 << 24)
}

pub(super) fn request() -> Event<ScriptedPort> {
    let data = RequestData { queue_id: 0, receive_queue_size: 8, send_queue_size_zero_based: 7, controller_id: 0 };
    Event::ConnectRequest(ConnectionRequest {
        connection: Connection::new(CONNECTION),
        listener: LISTENER,
        local: "10.0.0.1:4420".parse().unwrap(),
        peer: "10.0.0.2:50000".parse().unwrap(),
        private_data: data.to_bytes().to_vec(),
        responder_resources: 4,
        initiator_depth: 4,
    })
}

pub(super) fn failure() -> VerbsError {
    VerbsError::System { call: "ibv_destroy_qp", source: std::io::Error::from_raw_os_error(16) }
}
