//! The real host side: its control plane and its polling CPUs, on a mesh of its own, with a workload that is held against the model of the data.
//!
//! It has one association after the other, as planned or as a scenario tells it. Which of its CPUs turns is chosen. When it has left nothing of it may be
//! left; a target that it calls a breaker of the protocol is a finding.
//!
//! | part | what it is |
//! |---|---|
//! | here | the host as an actor, and the scenario's hand on it |
//! | [`workload`] | what its CPUs submit, and what they make of the answers |

mod workload;

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use nvmf_core::host::HostIdentity;
use reactor::{Choices, Cpu, Program, Progress, Simulation, SimulationOptions, Turn, Wake};
use transport_rdma::host::{self, HostControl, HostFailure, HostMemory, HostOptions, Message};
use transport_rdma::verbs::Provider;

use super::fate::Fate;
use crate::sim::failure::Findings;
use crate::sim::history::History;
use crate::sim::world::actor::Actor;
use crate::sim::world::ground::HostGround;
use crate::sim::world::layout::{SUBSYSTEM, address};
use crate::sim::world::{P, World};
use workload::{ModelWorkload, Pool};

/// How a real host is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Polling CPUs.
    pub cpu_count: u16,
    /// I/O queues of each.
    pub queue_count_per_cpu: u16,
    /// Commands of a queue at a time.
    pub queue_depth: u16,
    /// Whether small writes go in the capsule.
    pub in_capsule_data: bool,
    /// Keep-alive timeout, 0 for none.
    pub keep_alive_ms: u32,
    /// Its CPUs and the messages between them.
    pub reactors: SimulationOptions,
    /// Most blocks of a command.
    pub block_count_max: u16,
    /// One in so many commands goes to blocks that all hosts use; 0 for none.
    pub shares_one_in: u32,
}

impl Shape {
    /// One CPU with one queue of four.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            cpu_count: 1,
            queue_count_per_cpu: 1,
            queue_depth: 4,
            in_capsule_data: false,
            keep_alive_ms: 10_000,
            reactors: SimulationOptions { sleeps: true, ..SimulationOptions::default() },
            block_count_max: 4,
            shares_one_in: 0,
        }
    }

    /// The same with everything chosen.
    #[must_use]
    pub fn chosen(choices: &Choices) -> Self {
        let reactors = SimulationOptions {
            sleeps: true,
            late_ns_max: choices.one_of("late messages", &[0, 5_000]),
            ..SimulationOptions::default()
        };
        Self {
            cpu_count: choices.one_of("host CPUs", &[1, 2]),
            queue_count_per_cpu: choices.one_of("queues of a CPU", &[1, 2]),
            queue_depth: choices.one_of("queue depth", &[4, 1, 8]),
            in_capsule_data: choices.one_in("in capsule", 2),
            shares_one_in: choices.one_of("shares blocks", &[0, 3]),
            reactors,
            ..Self::calm()
        }
    }

    fn options(self, number: u32) -> HostOptions {
        let [identity, ..] = number.to_le_bytes();
        let identity = HostIdentity::from_uuid([identity | 0x80; 16]);
        let mut options = HostOptions::new(address(), SUBSYSTEM.to_owned(), identity);
        options.cpu_count = self.cpu_count;
        options.queue_count_per_cpu = self.queue_count_per_cpu;
        options.queue_depth = self.queue_depth;
        options.data_memory_len = 64 << 10;
        options.huge_pages = false;
        options.in_capsule_data = self.in_capsule_data;
        options.keep_alive_ms = self.keep_alive_ms;
        // Long beside what a step takes, short beside what a run takes.
        (options.attach_timeout_ms, options.command_timeout_ms, options.drain_timeout_ms) = (1000, 1000, 200);
        options.stays = true;
        options
    }
}

/// One association of a real host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Association {
    /// Commands of each CPU. Then it ends.
    pub io_count: u32,
    /// It is ended this many of the host's turns after its beginning, wherever it is then.
    pub ends_after_turns: Option<u32>,
}

/// What is seen of a real host.
#[derive(Debug, Default)]
pub struct Observed {
    /// It has left, or is dead.
    pub is_done: bool,
    /// Associations that are over.
    pub ended_count: u32,
    /// Of them, those that did all that was planned.
    pub as_planned_count: u32,
    /// Its workloads have a controller and its queues.
    pub is_serving: bool,
    /// Commands that ended with success.
    pub io_count: u64,
    /// Commands that the device failed.
    pub io_failed_count: u64,
    /// Why associations ended that were not as planned, oldest first.
    pub failures: Vec<HostFailure>,
}

/// A scenario's hand on a real host.
#[derive(Clone, Debug)]
pub struct Steering {
    associations: Rc<RefCell<VecDeque<Association>>>,
    fate: Rc<Cell<Fate>>,
    is_interrupted: Rc<Cell<bool>>,
    is_kept: Rc<Cell<bool>>,
    observed: Rc<RefCell<Observed>>,
}

impl Steering {
    /// Another association after those that are planned.
    pub fn associate(&self, association: Association) {
        self.associations.borrow_mut().push_back(association);
    }

    /// Ends the association that is under way, if one is.
    pub fn interrupt(&self) {
        self.is_interrupted.set(true);
    }

    /// Whether it stays when it has nothing left to do, for more to come.
    pub fn keep(&self, is_kept: bool) {
        self.is_kept.set(is_kept);
    }

    /// Its process and its device stop, as under SIGSTOP.
    pub fn stop(&self) {
        if self.fate.get() == Fate::Runs {
            self.fate.set(Fate::Stopped);
        }
    }

    /// They go on.
    pub fn go_on(&self) {
        if self.fate.get() == Fate::Stopped {
            self.fate.set(Fate::Runs);
        }
    }

    /// Its machine is gone, at its next turn to act.
    pub fn die(&self) {
        self.fate.set(Fate::Dead);
    }

    /// What is seen of it.
    #[must_use]
    pub fn observed(&self) -> Ref<'_, Observed> {
        self.observed.borrow()
    }
}

/// Where the host is with its associations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Apart,
    Associated { plan: Association, turn_count: u32 },
    Leaving,
    Gone,
}

/// Everything of a host that dies with its machine.
struct Running {
    mesh: Simulation<Message<P>>,
    control: Rc<RefCell<HostControl<P>>>,
    last: u16,
    /// Last: see there.
    _ground: HostGround,
}

/// See the module.
pub struct RealHost {
    name: String,
    cpu_count: u16,
    running: Option<Running>,
    phase: Phase,
    pool: Rc<Pool>,
    steering: Steering,
    choices: Choices,
    findings: Findings,
    history: History,
}

impl RealHost {
    /// A host on a machine of its own, which has these associations one after the other, and those that it is told.
    ///
    /// # Panics
    /// If it cannot be built as it is laid out.
    #[must_use]
    pub fn new(number: u32, world: &World, shape: Shape, associations: Vec<Association>) -> Self {
        let steering = Steering {
            associations: Rc::new(RefCell::new(associations.into())),
            fate: Rc::default(),
            is_interrupted: Rc::default(),
            is_kept: Rc::default(),
            observed: Rc::default(),
        };
        let name = format!("real host {number}");
        let pool = Rc::new(Pool::new(number, world, shape, Rc::clone(&steering.observed)));
        let running = Running::new(&name, number, world, shape, &pool);
        Self {
            name,
            cpu_count: shape.cpu_count,
            running: Some(running),
            phase: Phase::Apart,
            pool,
            steering,
            choices: world.choices.clone(),
            findings: world.findings.clone(),
            history: world.history.clone(),
        }
    }

    /// The scenario's hand on it.
    #[must_use]
    pub fn steering(&self) -> Steering {
        self.steering.clone()
    }

    /// What is seen of it.
    #[must_use]
    pub fn observed(&self) -> Rc<RefCell<Observed>> {
        Rc::clone(&self.steering.observed)
    }

    fn drive(&mut self) {
        self.phase = match self.phase {
            Phase::Apart => self.begin(),
            Phase::Associated { plan, turn_count } => self.go_on(plan, turn_count + 1),
            Phase::Leaving => self.leave(),
            Phase::Gone => Phase::Gone,
        };
    }

    fn begin(&mut self) -> Phase {
        self.steering.is_interrupted.set(false);
        let next = self.steering.associations.borrow_mut().pop_front();
        match next {
            Some(plan) => {
                self.history.note(&self.name, || format!("connects: {plan:?}"));
                self.pool.begin(plan.io_count);
                self.post(Message::connect());
                Phase::Associated { plan, turn_count: 0 }
            }
            None if self.steering.is_kept.get() => Phase::Apart,
            None => {
                self.post(Message::shutdown());
                Phase::Leaving
            }
        }
    }

    fn go_on(&mut self, plan: Association, turn_count: u32) -> Phase {
        let is_late = plan.ends_after_turns == Some(turn_count);
        if is_late || self.steering.is_interrupted.replace(false) {
            self.history.note(&self.name, || "ends its association".to_owned());
            self.post(Message::disconnect());
        }
        if !self.pool.is_apart() {
            // What cannot be taken back makes it leave by itself.
            return if self.has_left() { self.leave() } else { Phase::Associated { plan, turn_count } };
        }
        let mut observed = self.steering.observed.borrow_mut();
        observed.ended_count += 1;
        match self.pool.take_failure() {
            None => observed.as_planned_count += 1,
            Some(failure) => {
                self.history.note(&self.name, || format!("its association failed: {failure}"));
                if let HostFailure::Protocol { .. } = failure {
                    self.findings.report("host", format!("{}: {failure}", self.name));
                }
                observed.failures.push(failure);
            }
        }
        Phase::Apart
    }

    fn leave(&self) -> Phase {
        if !self.has_left() {
            return Phase::Leaving;
        }
        let left: Vec<_> = self.running.iter().flat_map(Running::live).collect();
        if !left.is_empty() {
            self.findings.report("host", format!("{} has left, and left over {left:?}", self.name));
        }
        self.steering.observed.borrow_mut().is_done = true;
        Phase::Gone
    }

    fn has_left(&self) -> bool {
        self.running.as_ref().is_none_or(|running| (0..=self.cpu_count).all(|cpu| running.mesh.has_left(Cpu(cpu))))
    }

    fn post(&self, message: Message<P>) {
        let Some(running) = &self.running else { return };
        let is_full = running.mesh.postbox(Cpu(self.cpu_count)).post(message).is_err();
        assert!(!is_full, "{}: its postbox is full", self.name);
    }
}

impl Running {
    fn new(name: &str, number: u32, world: &World, shape: Shape, pool: &Rc<Pool>) -> Self {
        let cpu_count = shape.cpu_count;
        let mut mesh = Simulation::with_choices(world.choices.clone(), 0, cpu_count + 1, shape.reactors);
        mesh.advance(world.now_ns());
        let mut machine = world.fabric.machine();
        let wakes: Vec<Wake> = (0..cpu_count).map(|cpu| mesh.wake(Cpu(cpu))).collect();
        machine.wake_with(move |port| wakes[port.0 as usize].wake());
        let options = shape.options(number);
        let memory = HostMemory::allocate(&options).unwrap_or_else(|error| panic!("memory of {name}: {error}"));
        let built = host::build_in(&memory, machine, options, |cpu| ModelWorkload::new(cpu, Rc::clone(pool)));
        let (control, cpus) = built.unwrap_or_else(|error| panic!("{name}: {error}"));
        for (cpu, program) in (0..).zip(cpus) {
            mesh.install(Cpu(cpu), program);
        }
        let control = Rc::new(RefCell::new(control));
        mesh.install(Cpu(cpu_count), ControlProgram(Rc::clone(&control)));
        Self { mesh, control, last: 0, _ground: HostGround::new(memory) }
    }

    /// Gauges of live things that are not zero.
    fn live(&self) -> Vec<(&'static str, u64)> {
        let counters = self.control.borrow().provider().counters();
        counters.into_iter().filter(|(name, value)| name.ends_with("_live") && *value > 0).collect()
    }
}

/// The host's control plane, which can be looked at between its turns.
struct ControlProgram(Rc<RefCell<HostControl<P>>>);

impl Program for ControlProgram {
    type Message = Message<P>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, from: Option<Cpu>, message: Self::Message) {
        self.0.borrow_mut().receive(turn, from, message);
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, token: u64) {
        self.0.borrow_mut().fire(turn, token);
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Self::Message>) -> Progress {
        let mut control = self.0.borrow_mut();
        let progress = control.poll(turn);
        if control.is_drained() {
            turn.leave();
        }
        progress
    }
}

impl Actor for RealHost {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn act(&mut self, now_ns: u64) {
        match self.steering.fate.get() {
            Fate::Stopped => return,
            Fate::Dead => {
                self.running = None;
                self.phase = Phase::Gone;
                self.steering.observed.borrow_mut().is_done = true;
                return;
            }
            Fate::Runs => {}
        }
        let Some(running) = &mut self.running else { return };
        let behind_ns = now_ns.saturating_sub(running.mesh.now_ns());
        running.mesh.advance(behind_ns);
        // The calm choice is whose turn it is.
        let reactor_count = u32::from(self.cpu_count) + 1;
        let next = u32::from(running.last) + 1 + self.choices.below("which CPU of a host", reactor_count);
        running.last = u16::try_from(next % reactor_count).unwrap_or_default();
        running.mesh.step_cpu(Cpu(running.last));
        self.drive();
    }

    fn may_act(&self, now_ns: u64) -> bool {
        let may_turn = |running: &Running| {
            let is_due = |cpu| running.mesh.due_ns(Cpu(cpu)).is_some_and(|due_ns| due_ns <= now_ns);
            (0..=self.cpu_count).any(|cpu| running.mesh.may_turn(Cpu(cpu)) || is_due(cpu))
        };
        match self.steering.fate.get() {
            Fate::Runs => self.phase != Phase::Gone && self.running.as_ref().is_some_and(may_turn),
            Fate::Stopped => false,
            Fate::Dead => self.running.is_some(),
        }
    }

    fn due_ns(&self) -> Option<u64> {
        let running = self.running.as_ref().filter(|_| self.steering.fate.get() == Fate::Runs)?;
        (0..=self.cpu_count).filter_map(|cpu| running.mesh.due_ns(Cpu(cpu))).min()
    }

    fn condition(&self) -> String {
        let report = self.running.as_ref().map_or(String::new(), |running| running.mesh.report().to_string());
        format!("{}: {:?}, {:?}\n{report}", self.name, self.phase, self.steering.observed.borrow())
    }
}
