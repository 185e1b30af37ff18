//! A whole target on the in-process fabric: CPUs 0 … n-1, the control plane, then hosts, all in one simulation.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bdev::Device;
use nvmf_core::ChangeId;
use nvmf_core::spec::{ControllerSpec, HostLimits, NamespaceSpec, SubsystemSpec, TargetSpec};
use nvmf_core::target::{MadeDevice, QpairFacts, RetiredDevice};
use reactor::{Cpu, Program, Progress, Simulation, SimulationOptions, Turn, Wake};
use transport_rdma::soft::in_process::{Fabric, FabricOptions, InProcessProvider};
use transport_rdma::target::{Change, Control, ControlError, Message, TargetOptions, build};

use super::gate::Gate;
use super::raw_host::{BLOCK_LEN, HOST_BLOCK_COUNT, Observed, RawHost, SUBSYSTEM, Session};

pub type Row = (String, Vec<(&'static str, String)>, u64);

/// What the control plane's program shares with the test.
#[derive(Default)]
pub struct Desk {
    pub shut_down: Cell<bool>,
    pub is_drained: Cell<bool>,
    /// What waited for readers when it was drained.
    pub limbo_len: Cell<u64>,
    pub rows: RefCell<Vec<Row>>,
    /// Changes to be asked for, in order; what became of each; those that are done.
    pub orders: RefCell<VecDeque<Change>>,
    pub outcomes: RefCell<Vec<Result<ChangeId, ControlError>>>,
    pub done: RefCell<Vec<ChangeId>>,
    /// Devices to be made; those that are gone.
    pub makes: RefCell<VecDeque<Arc<dyn Device>>>,
    pub retired: RefCell<Vec<RetiredDevice>>,
    /// Reads out of devices' own memory.
    pub in_place_count: Cell<u64>,
    /// What is listened on.
    pub listeners: RefCell<Vec<SocketAddr>>,
    /// The qpairs of the subsystems that there are.
    pub qpairs: RefCell<Vec<(String, QpairFacts)>>,
}

struct ControlProgram {
    control: Control<InProcessProvider>,
    desk: Rc<Desk>,
    turns: u32,
}

impl Program for ControlProgram {
    type Message = Message<InProcessProvider>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, from: Option<Cpu>, message: Self::Message) {
        self.control.receive(turn, from, message);
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, token: u64) {
        self.control.fire(turn, token);
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Self::Message>) -> Progress {
        let progress = self.control.poll(turn);
        if self.desk.shut_down.get() {
            self.control.begin_shutdown(turn);
        }
        while let Some(change) = self.desk.orders.borrow_mut().pop_front() {
            let outcome = self.control.change(turn, change);
            self.desk.outcomes.borrow_mut().push(outcome);
        }
        while let Some(device) = self.desk.makes.borrow_mut().pop_front() {
            let outcome = self.control.begin_device(turn, device.name(), None);
            if let Ok(change) = outcome {
                let channels = (0..self.control.core().directory().cpu_count()).map(|_| device.open_channel().unwrap());
                let made = MadeDevice { channels: channels.collect(), device };
                self.control.device_made(turn, change, Ok(made));
            }
            self.desk.outcomes.borrow_mut().push(outcome);
        }
        while let Some(retired) = self.control.next_retired(turn) {
            self.desk.retired.borrow_mut().push(retired);
        }
        while let Some(done) = self.control.next_done() {
            self.desk.done.borrow_mut().push(done);
        }
        self.turns += 1;
        let drained = self.control.is_drained();
        if drained || self.turns.is_multiple_of(64) {
            *self.desk.rows.borrow_mut() = self.control.counters();
            let directory = self.control.core().directory();
            let counts = (0..directory.cpu_count()).map(|cpu| directory.counters(Cpu(cpu)).in_place_count.value());
            self.desk.in_place_count.set(counts.sum());
            *self.desk.listeners.borrow_mut() = self.control.listeners().collect();
            let core = self.control.core();
            let of = |nqn: &str| core.qpairs(turn.guard(), nqn).unwrap_or_default();
            let names = core.subsystems().map(|subsystem| subsystem.nqn.clone());
            *self.desk.qpairs.borrow_mut() =
                names.flat_map(|nqn| of(&nqn).into_iter().map(move |qpair| (nqn.clone(), qpair))).collect();
        }
        if drained {
            self.desk.limbo_len.set(turn.domain().limbo_len());
            self.desk.is_drained.set(true);
            turn.leave();
        }
        progress
    }
}

pub struct Rig {
    pub simulation: Simulation<Message<InProcessProvider>>,
    pub fabric: Fabric,
    pub desk: Rc<Desk>,
    pub hosts: Vec<Rc<RefCell<Observed>>>,
    pub device: Arc<dyn Device>,
    is_shut: Arc<AtomicBool>,
    control: Cpu,
}

/// How a rig is made.
#[derive(Clone, Debug)]
pub struct Layout {
    pub seed: u64,
    pub cpu_count: u16,
    pub queue_pair_count_max: usize,
    pub shared_receive_count: u32,
    pub transfer_len_max: u32,
    /// Whether the device has a gate ([`Rig::shut_gate`]); then no block is read in place.
    pub gate: bool,
    pub fabric: FabricOptions,
}

impl Layout {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            cpu_count: 2,
            queue_pair_count_max: 8,
            shared_receive_count: 0,
            transfer_len_max: 16 * 1024,
            gate: false,
            fabric: FabricOptions::default(),
        }
    }
}

/// A subsystem without namespaces, beside [`SUBSYSTEM`].
pub const OTHER: &str = "nqn.2026-01.org.quiesce:other";

pub fn subsystem(nqn: &str, listeners: Vec<SocketAddr>, device: Option<&Arc<dyn Device>>) -> SubsystemSpec {
    let namespace = |device| NamespaceSpec::new(1, Arc::clone(device));
    SubsystemSpec {
        model_number: "test".into(),
        allow_any_host: true,
        listeners,
        namespaces: device.map(namespace).into_iter().collect(),
        ..SubsystemSpec::new(nqn, "1")
    }
}

pub fn address() -> SocketAddr {
    "10.0.0.1:4420".parse().unwrap()
}

impl Rig {
    /// Each host gets its sessions.
    pub fn new(layout: &Layout, sessions: Vec<Vec<Session>>) -> Self {
        let host_count = sessions.len() as u16;
        let fabric = Fabric::with_options(layout.seed, layout.fabric.clone());
        // Polling CPUs sleep where they say that they can: a wake-up that is lost is a target that hangs.
        let options = SimulationOptions { sleeps: !layout.seed.is_multiple_of(4), ..SimulationOptions::default() };
        let mut simulation = Simulation::with_options(layout.seed, layout.cpu_count + 1 + host_count, options);
        let blocks = (sessions.len() as u64 + 1) * HOST_BLOCK_COUNT;
        let device = bdev::Memory::new("memory0", BLOCK_LEN as u32, blocks, false).unwrap();
        let is_shut = Arc::new(AtomicBool::new(false));
        let device: Arc<dyn Device> =
            if layout.gate { Arc::new(Gate::new(device, Arc::clone(&is_shut))) } else { Arc::new(device) };
        let spec = TargetSpec {
            // Both at one address, which is listened on once.
            subsystems: vec![
                subsystem(OTHER, vec![address()], None),
                subsystem(SUBSYSTEM, vec![address()], Some(&device)),
            ],
            controller: ControllerSpec {
                io_queue_count_max: 4,
                queue_depth_max: 16,
                admin_queue_depth_max: 32,
                transfer_len_max: layout.transfer_len_max,
                in_capsule_len: 512,
                host: HostLimits::default(),
            },
            ..TargetSpec::default()
        };
        let options = TargetOptions {
            cpu_count: layout.cpu_count,
            queue_pair_count_max: layout.queue_pair_count_max,
            data_memory_len: 256 * 1024,
            huge_pages: false,
            shared_receive_count: layout.shared_receive_count,
            device_count: 1,
            nodes: Vec::new(),
            placement: Vec::new(),
            host_queue_pair_count_max: u32::MAX,
        };
        let mut machine = fabric.machine();
        let wakes: Vec<Wake> = (0..layout.cpu_count).map(|cpu| simulation.wake(Cpu(cpu))).collect();
        machine.wake_with(move |port| wakes[port.0 as usize].wake());
        let (control, cpus) = build(machine, simulation.domain(), spec, options).unwrap();
        for (number, cpu) in (0..).zip(cpus) {
            simulation.install(Cpu(number), cpu);
        }
        let desk = Rc::new(Desk::default());
        let place = Cpu(layout.cpu_count);
        simulation.install(place, ControlProgram { control, desk: Rc::clone(&desk), turns: 0 });
        let mut hosts = Vec::new();
        for (number, sessions) in (0..).zip(sessions) {
            let observed = Rc::new(RefCell::new(Observed::default()));
            let host = RawHost::new(number, fabric.machine(), sessions, Rc::clone(&observed));
            simulation.install(Cpu(layout.cpu_count + 1 + u16::from(number)), host);
            hosts.push(observed);
        }
        Self { simulation, fabric, desk, hosts, device, is_shut, control: place }
    }

    /// Until every host has done its sessions.
    pub fn run_hosts(&mut self, step_limit: u64) {
        let hosts = self.hosts.clone();
        let done = self.simulation.run_until(step_limit, || hosts.iter().all(|host| host.borrow().is_done));
        assert!(done, "hosts stalled: {:?}\n{:#?}", self.hosts, self.nonzero());
    }

    /// Until everything that a connection had is gone: every gauge of live things at zero. (The provider's regions and listeners stay.)
    pub fn settle(&mut self) {
        for _ in 0..2000 {
            self.steps(200);
            let found = self.fabric.audit();
            assert!(found.is_empty(), "{}", found[0]);
            // Limbos of CPUs that sleep empty at intervals.
            if self.live().is_empty() && self.simulation.domain().limbo_len() == 0 {
                return;
            }
            // Deadlines are seconds away.
            self.simulation.advance(10_000_000);
        }
        panic!("left over: {:?}", self.live());
    }

    pub fn steps(&mut self, count: u64) {
        self.simulation.run_until(count, || false);
    }

    /// Asks for a change: taken or refused.
    pub fn change(&mut self, change: Change) -> Result<ChangeId, ControlError> {
        self.desk.orders.borrow_mut().push_back(change);
        for _ in 0..10_000 {
            self.simulation.step_cpu(self.control);
            if let Some(outcome) = self.desk.outcomes.borrow_mut().pop() {
                return outcome;
            }
        }
        panic!("the control plane does not turn");
    }

    /// A device is made while everything runs.
    pub fn make_device(&mut self, device: Arc<dyn Device>) -> ChangeId {
        self.desk.makes.borrow_mut().push_back(device);
        for _ in 0..10_000 {
            self.simulation.step_cpu(self.control);
            if let Some(outcome) = self.desk.outcomes.borrow_mut().pop() {
                return outcome.unwrap();
            }
        }
        panic!("the control plane does not turn");
    }

    pub fn is_done(&self, change: ChangeId) -> bool {
        self.desk.done.borrow().contains(&change)
    }

    /// Until a change is done: without any time passing but that of the turns.
    pub fn finish(&mut self, change: ChangeId) {
        let desk = Rc::clone(&self.desk);
        let done = self.simulation.run_until(20_000, || desk.done.borrow().contains(&change));
        assert!(done, "{change:?} is not done: {:#?}", self.nonzero());
    }

    /// Until a change is done, the target alone: hosts do not turn.
    pub fn finish_alone(&mut self, change: ChangeId) {
        for _ in 0..10_000 {
            (0..=self.control.0).for_each(|cpu| self.simulation.step_cpu(Cpu(cpu)));
            if self.is_done(change) {
                return;
            }
        }
        panic!("{change:?} is not done: {:#?}", self.nonzero());
    }

    /// No operation of the device ends while it is shut.
    pub fn shut_gate(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Ordering::Relaxed);
    }

    /// Everything is ended; the control plane leaves.
    pub fn shut_down(&mut self) {
        self.desk.shut_down.set(true);
        for _ in 0..2000 {
            self.steps(200);
            if self.desk.is_drained.get() {
                // The control plane does not turn for long any more: what waits now would wait for ever, and keep its reactor.
                assert_eq!(self.desk.limbo_len.get(), 0, "drained, and something still waits for readers");
                return;
            }
            self.simulation.advance(10_000_000);
        }
        panic!("does not shut down: {:#?}", self.nonzero());
    }

    /// Gauges of live things that are not zero.
    pub fn live(&self) -> Vec<Row> {
        let stays = |name: &str| name.contains("region") || name.contains("listener") || name.contains("keys");
        let rows = self.desk.rows.borrow();
        rows.iter().filter(|row| row.0.ends_with("_live") && row.2 > 0 && !stays(&row.0)).cloned().collect()
    }

    pub fn nonzero(&self) -> Vec<Row> {
        self.desk.rows.borrow().iter().filter(|row| row.2 > 0).cloned().collect()
    }

    /// Sum over labels.
    pub fn count(&mut self, name: &str) -> u64 {
        self.simulation.step_cpu(self.control);
        self.desk.rows.borrow().iter().filter(|row| row.0 == name).map(|row| row.2).sum()
    }

    pub fn labelled(&self, name: &str, label: &str) -> u64 {
        let rows = self.desk.rows.borrow();
        let has = |row: &&Row| row.0 == name && row.1.iter().any(|(_, value)| value == label);
        rows.iter().filter(has).map(|row| row.2).sum()
    }
}
