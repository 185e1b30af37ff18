//! The real host side: its control plane and its polling CPUs, on a mesh of its own, with a workload that is held against the model of the data.
//!
//! It has one association after the other, as planned or as a scenario tells it. Which of its CPUs turns is chosen. When it has left nothing of it may be
//! left; a target that it calls a breaker of the protocol is a finding.
//!
//! | part | what it is |
//! |---|---|
//! | here | the host as an actor |
//! | [`shape`], [`steering`] | how it is laid out; the scenario's hand on it, and what is seen of it |
//! | [`workload`] | what its CPUs submit, and what they make of the answers |

mod shape;
mod steering;
mod workload;

use std::cell::RefCell;
use std::rc::Rc;

use reactor::{Choices, Cpu, Program, Progress, Simulation, Turn, Wake};
use transport_rdma::host::{self, HostControl, HostFailure, HostMemory, Message};
use transport_rdma::soft::in_process::MachineId;
use transport_rdma::verbs::Provider;

use super::fate::Fate;
use crate::sim::failure::Findings;
use crate::sim::history::History;
use crate::sim::world::actor::Actor;
use crate::sim::world::ground::HostGround;
use crate::sim::world::{P, World};
pub use shape::Shape;
pub use steering::{Association, Observed, Steering};
use workload::{ModelWorkload, Pool};

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
    machine: MachineId,
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
        let steering = Steering::new(associations);
        let name = format!("real host {number}");
        let pool = Rc::new(Pool::new(number, world, shape, Rc::clone(&steering.observed)));
        let (machine, running) = Running::new(&name, number, world, shape, &pool);
        Self {
            name,
            machine,
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

    /// Its machine on the fabric.
    #[must_use]
    pub fn machine(&self) -> MachineId {
        self.machine
    }

    fn drive(&mut self) {
        self.phase = match self.phase {
            // A host that is done with its device leaves by itself.
            Phase::Apart if self.has_left() => self.leave(),
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
        if self.pool.is_apart() {
            self.conclude();
            return Phase::Apart;
        }
        if self.has_left() {
            // What cannot be taken back makes it leave by itself.
            self.conclude();
            return self.leave();
        }
        Phase::Associated { plan, turn_count }
    }

    /// The association is over.
    fn conclude(&self) {
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
    }

    fn leave(&self) -> Phase {
        if !self.has_left() {
            return Phase::Leaving;
        }
        let left: Vec<_> = self.running.iter().flat_map(Running::live).collect();
        self.history.note(&self.name, || format!("has left, and left over {left:?}"));
        if !left.is_empty() && !self.steering.may_leave_over.get() {
            self.findings.report("host", format!("{} has left, and left over {left:?}", self.name));
        }
        let mut observed = self.steering.observed.borrow_mut();
        observed.left_over = left;
        observed.is_done = true;
        Phase::Gone
    }

    fn has_left(&self) -> bool {
        self.running.as_ref().is_none_or(|running| (0..=self.cpu_count).all(|cpu| running.mesh.has_left(Cpu(cpu))))
    }

    fn post(&self, message: Message<P>) {
        let control = Cpu(self.cpu_count);
        // Who has left reads nothing.
        let Some(running) = self.running.as_ref().filter(|running| !running.mesh.has_left(control)) else { return };
        let is_full = running.mesh.postbox(control).post(message).is_err();
        assert!(!is_full, "{}: its postbox is full", self.name);
    }
}

impl Running {
    fn new(name: &str, number: u32, world: &World, shape: Shape, pool: &Rc<Pool>) -> (MachineId, Self) {
        let cpu_count = shape.cpu_count;
        let mut mesh = Simulation::with_choices(world.choices.clone(), 0, cpu_count + 1, shape.reactors);
        mesh.advance(world.now_ns());
        let mut machine = world.fabric.machine();
        let id = machine.id();
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
        (id, Self { mesh, control, last: 0, _ground: HostGround::new(memory) })
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
