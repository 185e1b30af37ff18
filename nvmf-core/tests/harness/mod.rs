//! A target without a fabric: poll groups and the control plane on the reactor's simulation, over a transport that is a list.
#![allow(dead_code, unreachable_pub)]

pub mod admin;
mod commands;
pub mod device;
pub mod jobs;
mod wire;

pub use commands::*;
use wire::Path;
pub use wire::{Connection, Wire};

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use nvmf_core::spec::{ControllerSpec, NamespaceSpec, SubsystemSpec, TargetSpec};
use nvmf_core::status::Status;
use nvmf_core::target::{ReservationWrite, WriteId};
use nvmf_core::wire::{CompletionEntry, SglDescriptor};
use nvmf_core::{
    ChangeError, ChangeId, Directory, DisconnectReason, Message, PollGroup, PollGroupCounters, PollGroupOptions,
    QpairSpec, Target,
};
use reactor::{Arena, Cpu, Program, Progress, Segment, Simulation, Turn};

pub const NQN: &str = "nqn.2024-01.example:disk";
pub const CLOSED_NQN: &str = "nqn.2024-01.example:closed";
pub const HOST_NQN: &str = "nqn.2024-01.example:host";
pub const OTHER_HOST_NQN: &str = "nqn.2024-01.example:other-host";
pub const HOST_ID: [u8; 16] = [7; 16];
pub const HOST_MEMORY_LEN: usize = 1 << 20;
const CAPSULE_ROOM: usize = 8192;
const CAPSULE_COUNT: usize = 32;

pub fn listener() -> SocketAddr {
    "127.0.0.1:4420".parse().unwrap()
}

#[derive(Debug)]
pub struct Letter(Message);

impl From<Message> for Letter {
    fn from(message: Message) -> Self {
        Self(message)
    }
}

struct PollingCpu {
    group: PollGroup,
    path: Path,
}

impl PollingCpu {
    fn open_qpairs(&mut self, turn: &mut Turn<'_, Letter>) {
        loop {
            let next = self.path.0.borrow_mut().opens.pop_front();
            let Some(index) = next else { return };
            let spec = self.path.0.borrow().connections[index].spec.clone();
            let handle = self.group.open(turn, spec).ok();
            self.path.0.borrow_mut().connections[index].handle = handle;
        }
    }

    fn end_qpairs(&mut self, turn: &mut Turn<'_, Letter>) {
        let endings = std::mem::take(&mut self.path.0.borrow_mut().endings);
        for (handle, reason) in endings {
            let first = self.path.0.borrow_mut().by_handle(handle).ended.replace(reason).is_none();
            if first {
                self.group.begin_drain(turn, &mut self.path, handle, reason);
                self.path.0.borrow_mut().draining.push(handle);
            }
        }
        if self.path.0.borrow().hold_teardown {
            return;
        }
        let draining = std::mem::take(&mut self.path.0.borrow_mut().draining);
        for handle in draining {
            self.group.transfers_ended(handle);
            if self.group.outstanding_count(handle) > 0 {
                self.path.0.borrow_mut().draining.push(handle);
                continue;
            }
            self.group.release_requests(&mut self.path, handle);
            self.group.close(turn, handle);
            let mut wire = self.path.0.borrow_mut();
            let connection = wire.by_handle(handle);
            connection.closed = true;
            connection.handle = None;
            assert_eq!(connection.receives_out, 0, "every permit came back");
        }
    }
}

impl Program for PollingCpu {
    type Message = Letter;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Letter>, from: Option<Cpu>, message: Letter) {
        self.group.receive(turn, &mut self.path, from, message.0);
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Letter>, token: u64) {
        self.group.fire(turn, &mut self.path, token);
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Letter>) -> Progress {
        self.open_qpairs(turn);
        let progress = self.group.walk(turn, &mut self.path);
        self.end_qpairs(turn);
        self.path.0.borrow_mut().live_count = self.group.live_count();
        progress
    }
}

struct ControlPlane {
    target: Target,
    state: Rc<RefCell<ControlState>>,
}

#[derive(Default)]
pub struct ControlState {
    pub live_count: usize,
    pub shutdown: bool,
    /// Answers nothing while set.
    pub hold: bool,
    /// Work of authentications.
    pub jobs: jobs::Jobs,
    /// Changes that are done.
    pub done: Vec<ChangeId>,
    /// What is to be kept, until a test says what has become of it.
    pub writes: VecDeque<ReservationWrite>,
    /// What has become of it.
    pub written: Vec<(WriteId, Result<(), String>)>,
    held: Vec<(Option<Cpu>, Message)>,
    orders: VecDeque<Order>,
    outcomes: Vec<Result<ChangeId, ChangeError>>,
}

/// What a test wants done to the target.
pub type Order = Box<dyn FnOnce(&mut Target) -> Result<ChangeId, ChangeError>>;

impl Program for ControlPlane {
    type Message = Letter;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Letter>, from: Option<Cpu>, message: Letter) {
        if self.state.borrow().hold {
            return self.state.borrow_mut().held.push((from, message.0));
        }
        self.target.receive(turn, from, message.0);
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Letter>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Letter>) -> Progress {
        if self.state.borrow().shutdown {
            self.target.begin_shutdown();
        }
        if !self.state.borrow().hold {
            let held = std::mem::take(&mut self.state.borrow_mut().held);
            for (from, message) in held {
                self.target.receive(turn, from, message);
            }
        }
        let mut orders = std::mem::take(&mut self.state.borrow_mut().orders);
        for order in orders.drain(..) {
            let outcome = order(&mut self.target);
            self.state.borrow_mut().outcomes.push(outcome);
        }
        self.state.borrow_mut().jobs.run(turn, &mut self.target);
        for (id, outcome) in std::mem::take(&mut self.state.borrow_mut().written) {
            self.target.reservation_written(id, outcome);
        }
        self.target.poll(turn);
        while let Some(write) = self.target.next_reservation_write() {
            self.state.borrow_mut().writes.push_back(write);
        }
        while let Some(done) = self.target.next_done() {
            self.state.borrow_mut().done.push(done);
        }
        self.state.borrow_mut().live_count = self.target.live_count();
        Progress::Idle
    }
}

/// A connection of some CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conn {
    pub cpu: u16,
    pub index: usize,
}

/// Everything.
pub struct World {
    pub sim: Simulation<Letter>,
    pub control: Rc<RefCell<ControlState>>,
    pub directory: Arc<Directory>,
    wires: Vec<Rc<RefCell<Wire>>>,
    /// By device and CPU: what is counted of those that are there from the start.
    pub statistics: Vec<Vec<Arc<bdev::Statistics>>>,
}

pub struct Options {
    pub seed: u64,
    /// Devices that are no namespace.
    pub devices: Vec<Arc<dyn bdev::Device>>,
    pub namespaces: Vec<NamespaceSpec>,
    pub controller: ControllerSpec,
    pub data_memory_len: usize,
    /// Memory of a world that is gone, for who makes thousands of them: an arena stays for the life of the process.
    pub memory: Option<Vec<Memory>>,
}

/// One CPU's.
#[derive(Clone, Copy)]
pub struct Memory {
    data: Segment,
    capsules: Segment,
}

impl Memory {
    fn new(data_len: usize) -> Self {
        let data = Arena::new(data_len, false).unwrap().segment();
        Self { data, capsules: Arena::new(CAPSULE_COUNT * CAPSULE_ROOM, false).unwrap().segment() }
    }

    /// For each CPU.
    pub fn for_all(data_len: usize) -> Vec<Self> {
        (0..CPU_COUNT).map(|_| Self::new(data_len)).collect()
    }
}

impl Options {
    pub fn new(namespaces: Vec<NamespaceSpec>) -> Self {
        Self {
            seed: 1,
            namespaces,
            devices: Vec::new(),
            controller: ControllerSpec::default(),
            data_memory_len: 512 << 10,
            memory: None,
        }
    }
}

pub fn namespace(nsid: u32, device: Arc<dyn bdev::Device>) -> NamespaceSpec {
    NamespaceSpec::new(nsid, device)
}

pub fn target_spec(namespaces: Vec<NamespaceSpec>, controller: ControllerSpec) -> TargetSpec {
    let subsystem = |nqn: &str, any: bool, namespaces| SubsystemSpec {
        allow_any_host: any,
        hosts: vec![OTHER_HOST_NQN.into()],
        listeners: vec![listener()],
        namespaces,
        ..SubsystemSpec::new(nqn, "SERIAL1")
    };
    let subsystems = vec![subsystem(NQN, true, namespaces), subsystem(CLOSED_NQN, false, vec![])];
    TargetSpec { subsystems, controller, ..TargetSpec::default() }
}

const CPU_COUNT: u16 = 2;

impl World {
    pub fn new(options: Options) -> Self {
        let mut sim = Simulation::new(options.seed, CPU_COUNT + 1);
        let spec = TargetSpec { devices: options.devices, ..target_spec(options.namespaces, options.controller) };
        let target = Target::new(sim.domain(), CPU_COUNT, spec).unwrap();
        let directory = target.directory();
        let statistics = target.devices().map(|facts| facts.statistics.to_vec()).collect();
        let mut wires = Vec::new();
        let memory = options.memory.unwrap_or_else(|| Memory::for_all(options.data_memory_len));
        for (cpu, memory) in (0..CPU_COUNT).zip(memory) {
            let wire = Rc::new(RefCell::new(Wire {
                connections: Vec::new(),
                host_memory: vec![0; HOST_MEMORY_LEN],
                hold_pulls: false,
                hold_finished: false,
                hold_teardown: false,
                registered: true,
                capsule_offset: 0,
                opens: VecDeque::new(),
                events: VecDeque::new(),
                held: VecDeque::new(),
                endings: Vec::new(),
                draining: Vec::new(),
                capsule_memory: memory.capsules,
                next_receive: 0,
                live_count: 0,
            }));
            let group = PollGroup::new(PollGroupOptions {
                cpu: Cpu(cpu),
                control: Cpu(CPU_COUNT),
                qpair_count_max: 16,
                data_memory: memory.data,
                ways: target.open_ways(Cpu(cpu)).unwrap(),
                directory: Arc::clone(&directory),
            });
            sim.install(Cpu(cpu), PollingCpu { group, path: Path(Rc::clone(&wire)) });
            wires.push(wire);
        }
        let control = Rc::new(RefCell::new(ControlState::default()));
        sim.install(Cpu(CPU_COUNT), ControlPlane { target, state: Rc::clone(&control) });
        Self { statistics, sim, control, directory, wires }
    }

    /// Begins a change: taken or refused.
    pub fn change(
        &mut self,
        order: impl FnOnce(&mut Target) -> Result<ChangeId, ChangeError> + 'static,
    ) -> Result<ChangeId, ChangeError> {
        self.control.borrow_mut().orders.push_back(Box::new(order));
        self.sim.step_cpu(Cpu(CPU_COUNT));
        self.control.borrow_mut().outcomes.pop().expect("the control plane turns")
    }

    pub fn is_done(&self, change: ChangeId) -> bool {
        self.control.borrow().done.contains(&change)
    }

    /// Runs until the change is done.
    pub fn finish(&mut self, change: ChangeId) {
        for _ in 0..100 {
            self.run(10);
            if self.is_done(change) {
                return;
            }
        }
        panic!("{change:?} is not done");
    }

    pub fn wire(&self, cpu: u16) -> RefMut<'_, Wire> {
        self.wires[usize::from(cpu)].borrow_mut()
    }

    /// What keeps this CPU from leaving.
    pub fn live_count(&self, cpu: u16) -> usize {
        self.wire(cpu).live_count
    }

    pub fn counters(&self, cpu: u16) -> Arc<PollGroupCounters> {
        self.directory.counters(Cpu(cpu))
    }

    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.sim.step();
        }
    }

    /// Time passes, while everybody runs.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.sim.advance(1_000_000);
            for cpu in 0..=CPU_COUNT {
                self.sim.step_cpu(Cpu(cpu));
            }
        }
    }

    pub fn open(&mut self, cpu: u16, qid: u16, depth: u16) -> Conn {
        self.open_at(listener(), cpu, qid, depth)
    }

    pub fn open_at(&mut self, listener: SocketAddr, cpu: u16, qid: u16, depth: u16) -> Conn {
        let spec = QpairSpec {
            listener,
            peer: "127.0.0.1:50000".parse().unwrap(),
            depth,
            qid,
            in_capsule_len: if qid == 0 { 0 } else { 4096 },
        };
        let mut wire = self.wire(cpu);
        let index = wire.connections.len();
        wire.connections.push(Connection {
            spec,
            handle: None,
            responses: Vec::new(),
            invalidated: Vec::new(),
            ended: None,
            closed: false,
            capsules: VecDeque::new(),
            free_slots: (0..depth * 2).rev().collect(),
            receives_out: 0,
            sent: 0,
        });
        wire.opens.push_back(index);
        Conn { cpu, index }
    }

    pub fn send(&mut self, conn: Conn, command: [u8; 64], data: &[u8]) {
        let mut wire = self.wire(conn.cpu);
        let connection = &mut wire.connections[conn.index];
        connection.sent += 1;
        connection.capsules.push_back((command, data.to_vec()));
    }

    /// Sends a command and runs until its response is there.
    pub fn execute(&mut self, conn: Conn, command: [u8; 64], data: &[u8]) -> CompletionEntry {
        let before = self.responses(conn).len();
        self.send(conn, command, data);
        for _ in 0..300 {
            self.sim.step();
            let responses = self.responses(conn);
            if responses.len() > before {
                let response = responses[responses.len() - 1];
                assert_eq!(response.command_id.get(), u16::from_le_bytes([command[2], command[3]]));
                return response;
            }
        }
        panic!("no response to {command:?}");
    }

    pub fn responses(&self, conn: Conn) -> Vec<CompletionEntry> {
        self.wire(conn.cpu).connections[conn.index].responses.clone()
    }

    pub fn ended(&self, conn: Conn) -> Option<DisconnectReason> {
        self.wire(conn.cpu).connections[conn.index].ended
    }

    pub fn is_open(&self, conn: Conn) -> bool {
        let wire = self.wire(conn.cpu);
        let connection = &wire.connections[conn.index];
        connection.handle.is_some() && connection.ended.is_none()
    }

    pub fn is_closed(&self, conn: Conn) -> bool {
        self.wire(conn.cpu).connections[conn.index].closed
    }

    pub fn disconnect(&mut self, conn: Conn, reason: DisconnectReason) {
        let mut wire = self.wire(conn.cpu);
        let handle = wire.connections[conn.index].handle.expect("it is open");
        wire.endings.push((handle, reason));
    }

    pub fn host_write(&mut self, cpu: u16, at: usize, bytes: &[u8]) {
        self.wire(cpu).host_memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn host_read(&self, cpu: u16, at: usize, len: usize) -> Vec<u8> {
        self.wire(cpu).host_memory[at..at + len].to_vec()
    }

    /// Nothing is left: qpairs, controllers, buffers, limbo, ids.
    pub fn assert_empty(&mut self) {
        for _ in 0..100 {
            self.run(20);
            let live: usize = (0..CPU_COUNT).map(|cpu| self.wire(cpu).live_count).sum();
            if live + self.control.borrow().live_count == 0 {
                for cpu in 0..CPU_COUNT {
                    let counters = self.counters(cpu);
                    assert_eq!(counters.device_leases.value(), 0);
                    assert_eq!(counters.requests_live.value(), 0);
                    assert_eq!(counters.buffers_taken.value(), 0);
                }
                return;
            }
        }
        let live: Vec<_> = (0..CPU_COUNT).map(|cpu| self.wire(cpu).live_count).collect();
        panic!("left over: {live:?}, control {}", self.control.borrow().live_count);
    }

    /// Ends all connections, and checks that nothing is left.
    pub fn shut_down(&mut self) {
        for cpu in 0..CPU_COUNT {
            let wire = &mut *self.wire(cpu);
            for connection in &wire.connections {
                if let (Some(handle), None) = (connection.handle, connection.ended) {
                    wire.endings.push((handle, DisconnectReason::Shutdown));
                }
            }
        }
        self.assert_empty();
    }

    /// An admin queue with a ready controller.
    pub fn attach(&mut self, cpu: u16) -> (Conn, u16) {
        let (admin, id) = self.connect_admin(cpu, NQN, 0);
        self.enable(admin);
        (admin, id)
    }

    pub fn connect_admin(&mut self, cpu: u16, nqn: &str, keep_alive_ms: u32) -> (Conn, u16) {
        let admin = self.open(cpu, 0, 32);
        let connect = Connect { keep_alive_ms, nqn: nqn.into(), ..Connect::new(0, 32) };
        let response = self.execute_connect(admin, &connect);
        assert_eq!(response.status(), Status::SUCCESS);
        (admin, u16::try_from(response.result.get() & 0xFFFF).unwrap())
    }

    pub fn enable(&mut self, admin: Conn) {
        let status = self.execute(admin, property_set(0x14, 0x0046_0001), &[]).status();
        assert_eq!(status, Status::SUCCESS);
    }

    pub fn connect_io(&mut self, cpu: u16, controller_id: u16, qid: u16) -> Conn {
        let io = self.open(cpu, qid, 16);
        let connect = Connect { controller_id, ..Connect::new(qid, 16) };
        let response = self.execute_connect(io, &connect);
        assert_eq!(response.status(), Status::SUCCESS);
        io
    }

    /// I/O queues carry Connect's data in the capsule, admin queues have it pulled.
    pub fn execute_connect(&mut self, conn: Conn, connect: &Connect) -> CompletionEntry {
        let (command, data) = self.place_connect(conn, connect);
        self.execute(conn, command, &data)
    }

    pub fn send_connect(&mut self, conn: Conn, connect: &Connect) {
        let (command, data) = self.place_connect(conn, connect);
        self.send(conn, command, &data);
    }

    fn place_connect(&mut self, conn: Conn, connect: &Connect) -> ([u8; 64], Vec<u8>) {
        let (mut entry, data) = connect.build();
        if connect.in_capsule {
            entry.sgl1 = SglDescriptor::in_capsule(0, 1024);
            (entry.to_bytes(), data)
        } else {
            let at = HOST_MEMORY_LEN - 1024;
            self.host_write(conn.cpu, at, &data);
            entry.sgl1 = keyed(at, 1024);
            (entry.to_bytes(), Vec::new())
        }
    }
}
