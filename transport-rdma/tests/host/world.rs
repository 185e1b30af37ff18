//! A host and a target, each a mesh of its own, joined by the in-process fabric and stepped in an order drawn from a seed.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

use nvmf_core::host::HostIdentity;
use nvmf_core::spec::{ControllerSpec, NamespaceSpec, SubsystemSpec, TargetSpec};
use reactor::{Cpu, Program, Progress, Rest, Simulation, SimulationOptions, Turn, Wake};
use transport_rdma::host::{self, HostControl, HostOptions, Workload};
use transport_rdma::soft::in_process::{Fabric, FabricOptions, InProcessProvider, MachineId};
use transport_rdma::target::{self, Control, TargetOptions};
use transport_rdma::verbs::Provider;

pub(crate) const NQN: &str = "nqn.2026-11.io.quiesce:test";
pub(crate) const BLOCK_LEN: u32 = 512;
pub(crate) const BLOCK_COUNT: u64 = 2048;

type P = InProcessProvider;
/// What is told of a program that is out of reach in its simulation.
pub(crate) type Told = Rc<RefCell<Vec<(String, u64)>>>;

pub(crate) fn address() -> SocketAddr {
    "127.0.0.1:4420".parse().unwrap()
}

/// The target's control plane as a program, as `nvmf-tgt` has one.
pub(crate) struct TargetControl<P: Provider> {
    pub(crate) control: Control<P>,
    pub(crate) stop: Rc<Cell<bool>>,
    pub(crate) told: Told,
}

impl<P: Provider> Program for TargetControl<P> {
    type Message = target::Message<P>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, from: Option<Cpu>, message: Self::Message) {
        self.control.receive(turn, from, message);
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, token: u64) {
        self.control.fire(turn, token);
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Self::Message>) -> Progress {
        if self.stop.replace(false) {
            self.control.begin_shutdown(turn);
        }
        let progress = self.control.poll(turn);
        let rows = self.control.counters().into_iter();
        *self.told.borrow_mut() = rows
            .map(|(name, labels, value)| {
                let labels: String = labels.iter().map(|(key, value)| format!(" {key}={value}")).collect();
                (name + &labels, value)
            })
            .collect();
        if self.control.is_drained() {
            turn.leave();
        }
        progress
    }

    fn rest<'t>(&mut self, _turn: &mut Turn<'t, Self::Message>) -> Rest {
        Rest::Sleep
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        self.control.wake_descriptor()
    }
}

/// The host's control plane, which tells what its provider counts.
struct HostProgram {
    control: HostControl<P>,
    told: Told,
}

impl Program for HostProgram {
    type Message = host::Message<P>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, from: Option<Cpu>, message: Self::Message) {
        self.control.receive(turn, from, message);
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, token: u64) {
        self.control.fire(turn, token);
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Self::Message>) -> Progress {
        let progress = self.control.poll(turn);
        let counters = self.control.provider().counters().into_iter();
        *self.told.borrow_mut() = counters.map(|(name, value)| (name.to_owned(), value)).collect();
        if self.control.is_drained() {
            turn.leave();
        }
        progress
    }
}

pub(crate) struct Target {
    pub(crate) mesh: Simulation<target::Message<P>>,
    cpu_count: u16,
    stop: Rc<Cell<bool>>,
    told: Told,
    /// What is alive while no host is there: listeners, memory.
    baseline: Vec<(String, u64)>,
}

impl Target {
    fn new(fabric: &Fabric, seed: u64, cpu_count: u16, shared_receive_count: u32) -> Self {
        let mut mesh = Simulation::new(seed, cpu_count + 1);
        let options = TargetOptions {
            cpu_count,
            queue_pair_count_max: 16,
            data_memory_len: 1 << 20,
            huge_pages: false,
            shared_receive_count,
            device_count: 1,
            nodes: Vec::new(),
            placement: Vec::new(),
            host_queue_pair_count_max: u32::MAX,
        };
        let (control, cpus) = target::build(fabric.machine(), mesh.domain(), spec(vec![address()]), options).unwrap();
        let (stop, told) = (Rc::default(), Rc::default());
        for (cpu, program) in (0..).zip(cpus) {
            mesh.install(Cpu(cpu), program);
        }
        let program = TargetControl { control, stop: Rc::clone(&stop), told: Rc::clone(&told) };
        mesh.install(Cpu(cpu_count), program);
        // It listens now.
        for _ in 0..1000 {
            mesh.step();
        }
        let baseline = live(&told);
        Self { mesh, cpu_count, stop, told, baseline }
    }

    pub(crate) fn begin_shutdown(&self) {
        self.stop.set(true);
    }

    pub(crate) fn has_left(&self) -> bool {
        (0..=self.cpu_count).all(|cpu| self.mesh.has_left(Cpu(cpu)))
    }

    /// Whether every gauge of live objects is where it was before the first host.
    pub(crate) fn is_as_before(&self) -> bool {
        live(&self.told) == self.baseline
    }
}

pub(crate) fn spec(listeners: Vec<SocketAddr>) -> TargetSpec {
    let memory = |name| Arc::new(bdev::Memory::new(name, BLOCK_LEN, BLOCK_COUNT, false).unwrap());
    TargetSpec {
        subsystems: vec![SubsystemSpec {
            model_number: "simulated".to_owned(),
            allow_any_host: true,
            listeners,
            namespaces: vec![NamespaceSpec::new(1, memory("m1")), NamespaceSpec::new(5, memory("m5"))],
            ..SubsystemSpec::new(NQN, "1")
        }],
        controller: ControllerSpec { queue_depth_max: 32, ..ControllerSpec::default() },
        ..TargetSpec::default()
    }
}

pub(crate) struct Host {
    pub(crate) mesh: Simulation<host::Message<P>>,
    pub(crate) machine: MachineId,
    cpu_count: u16,
    told: Told,
}

impl Host {
    pub(crate) fn shut_down(&self) {
        self.post(host::Message::shutdown());
    }

    pub(crate) fn post(&self, message: host::Message<P>) {
        assert!(self.mesh.postbox(Cpu(self.cpu_count)).post(message).is_ok());
    }

    pub(crate) fn has_left(&self) -> bool {
        (0..=self.cpu_count).all(|cpu| self.mesh.has_left(Cpu(cpu)))
    }

    /// Requests that its queue pairs were given.
    pub(crate) fn sends_posted(&self) -> u64 {
        self.told.borrow().iter().find(|(name, _)| name == "sends_posted").map_or(0, |(_, value)| *value)
    }

    /// Gauges of live objects that are not zero.
    pub(crate) fn live(&self) -> Vec<(String, u64)> {
        live(&self.told)
    }
}

fn live(told: &Told) -> Vec<(String, u64)> {
    told.borrow().iter().filter(|(name, value)| name.contains("_live") && *value > 0).cloned().collect()
}

pub(crate) fn options() -> HostOptions {
    let mut options = HostOptions::new(address(), NQN.to_owned(), HostIdentity::from_uuid([7; 16]));
    options.queue_depth = 4;
    options.queue_count_per_cpu = 2;
    options.data_memory_len = 64 << 10;
    options.huge_pages = false;
    // Virtual time runs at about a microsecond a step.
    options.attach_timeout_ms = 200;
    options.command_timeout_ms = 200;
    options.drain_timeout_ms = 50;
    options.shutdown_timeout_ms = 50;
    options
}

/// Both, and what joins them.
pub(crate) struct World {
    pub(crate) fabric: Fabric,
    pub(crate) target: Option<Target>,
    seed: u64,
    coin: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let shared_receive_count = if seed.is_multiple_of(2) { 0 } else { 128 };
        Self::with(seed, FabricOptions::default(), shared_receive_count)
    }

    pub(crate) fn with(seed: u64, options: FabricOptions, shared_receive_count: u32) -> Self {
        let fabric = Fabric::with_options(seed, options);
        let cpu_count = 1 + u16::try_from(seed % 2).unwrap();
        let target = Some(Target::new(&fabric, seed, cpu_count, shared_receive_count));
        Self { fabric, target, seed, coin: seed }
    }

    pub(crate) fn host<W: Workload>(&self, options: HostOptions, workload: impl FnMut(u16) -> W) -> Host {
        let cpu_count = options.cpu_count;
        let sleeps = SimulationOptions { sleeps: self.seed % 4 < 2, ..SimulationOptions::default() };
        let mut mesh = Simulation::with_options(self.seed ^ 0xABCD, cpu_count + 1, sleeps);
        let mut machine = self.fabric.machine();
        let machine_id = machine.id();
        let wakes: Vec<Wake> = (0..cpu_count).map(|cpu| mesh.wake(Cpu(cpu))).collect();
        machine.wake_with(move |port| wakes[port.0 as usize].wake());
        let (control, cpus) = host::build(machine, options, workload).unwrap();
        for (cpu, program) in (0..).zip(cpus) {
            mesh.install(Cpu(cpu), program);
        }
        let told: Told = Rc::default();
        mesh.install(Cpu(cpu_count), HostProgram { control, told: Rc::clone(&told) });
        Host { mesh, machine: machine_id, cpu_count, told }
    }

    /// One step of either.
    pub(crate) fn step(&mut self, host: &mut Host) {
        self.coin = self.coin.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        match &mut self.target {
            Some(target) if self.coin >> 63 == 0 => {
                target.mesh.step();
            }
            _ => {
                host.mesh.step();
            }
        }
    }

    /// Steps until `done`; panics if that takes too long.
    pub(crate) fn run(&mut self, host: &mut Host, what: &str, mut done: impl FnMut(&Self, &Host) -> bool) {
        for _ in 0..300_000 {
            if done(self, host) {
                return;
            }
            self.step(host);
        }
        let target = self.target.as_ref().map(|target| target.told.borrow().clone());
        let told = host.told.borrow();
        panic!("seed {}: {what} did not happen; host {told:?}, target {target:?}", self.seed);
    }

    /// The target goes on alone until nothing of any host is left.
    pub(crate) fn settle(&mut self, host: &mut Host) {
        self.run(host, "the host's end at the target", |world, _| {
            world.target.as_ref().is_none_or(Target::is_as_before)
        });
    }

    /// The target ends in good order.
    pub(crate) fn end(mut self, host: &mut Host) {
        if let Some(target) = &self.target {
            target.begin_shutdown();
            self.run(host, "the target's end", |world, _| world.target.as_ref().is_some_and(Target::has_left));
        }
    }
}
