//! N reactors on one thread, in an order drawn from a seed, with a virtual clock.
//!
//! The reactors are those of the real runtime. Between turns a reactor that has nothing to do sometimes lies down, as one on a
//! sleeping thread would, so that reclamation meets CPUs that are offline. Nothing here depends on anything but the
//! seed and the programs.

use std::sync::Arc;

use crate::bell::Bell;
use crate::counter::ReactorCounters;
use crate::cpu::Cpu;
use crate::domain::Domain;
use crate::mailbox::Postbox;
use crate::mesh::Mesh;
use crate::program::{Program, Progress};
use crate::random::Random;
use crate::reactor::Reactor;

/// Messages in each ring, unless asked otherwise.
const RING_CAPACITY: usize = 64;
/// The clock moves on by at most this before each step.
const MAX_STEP_NS: u64 = 2_000;

/// A mesh whose every step is drawn from a seed. Programs need not be `Send`.
pub struct Simulation<M> {
    mesh: Mesh<M>,
    reactors: Vec<Option<Box<dyn Installed>>>,
    random: Random,
    now_ns: u64,
}

/// A reactor, whatever its program is.
trait Installed {
    fn turn(&mut self, now_ns: u64) -> Progress;
    fn doze(&mut self) -> bool;
    fn has_left(&self) -> bool;
}

impl<P: Program> Installed for Reactor<P> {
    fn turn(&mut self, now_ns: u64) -> Progress {
        Reactor::turn(self, &now_ns)
    }
    fn doze(&mut self) -> bool {
        Reactor::doze(self)
    }
    fn has_left(&self) -> bool {
        Reactor::has_left(self)
    }
}

impl<M: Send + 'static> Simulation<M> {
    /// `cpu_count` reactors, none with a program yet.
    #[must_use]
    pub fn new(seed: u64, cpu_count: u16) -> Self {
        Self::with_ring_capacity(seed, cpu_count, RING_CAPACITY)
    }

    /// The same with rings of a given size: small ones are full more often.
    #[must_use]
    pub fn with_ring_capacity(seed: u64, cpu_count: u16, ring_capacity: usize) -> Self {
        let bells = (0..cpu_count).map(|_| Bell::new(None)).collect();
        Self {
            mesh: Mesh::new(bells, ring_capacity),
            reactors: (0..cpu_count).map(|_| None).collect(),
            random: Random::new(seed),
            now_ns: 0,
        }
    }

    /// As [`crate::RuntimeBuilder::domain`].
    #[must_use]
    pub fn domain(&self) -> &Domain {
        self.mesh.domain()
    }

    /// As [`crate::RuntimeBuilder::postbox`].
    #[must_use]
    pub fn postbox(&self, cpu: Cpu) -> Postbox<M> {
        self.mesh.postbox(cpu)
    }

    /// As [`crate::RuntimeBuilder::counters`].
    #[must_use]
    pub fn counters(&self, cpu: Cpu) -> Arc<ReactorCounters> {
        self.mesh.counters(cpu)
    }

    /// Gives `cpu` its program. Panics if it has one.
    pub fn install<P: Program<Message = M> + 'static>(&mut self, cpu: Cpu, program: P) {
        let seed = self.random();
        let reactor = Reactor::new(program, self.mesh.sit(cpu, seed));
        self.reactors[usize::from(cpu.0)] = Some(Box::new(reactor));
    }

    /// The next number of the simulation's own random sequence.
    pub fn random(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// Virtual time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// One turn of one CPU, chosen by the seed, after the clock moved on by a random 0 to 2 µs. A turn of a CPU whose program
    /// has left, or that has none, does nothing.
    pub fn step(&mut self) -> Cpu {
        let ns = self.random.below(MAX_STEP_NS + 1);
        self.advance(ns);
        let chosen = self.random.below(u64::from(self.mesh.cpu_count()));
        let cpu = Cpu(u16::try_from(chosen).unwrap_or_default());
        self.step_cpu(cpu);
        cpu
    }

    /// One turn of this CPU.
    pub fn step_cpu(&mut self, cpu: Cpu) {
        let lies_down = self.random.below(4) == 0;
        if let Some(reactor) = &mut self.reactors[usize::from(cpu.0)] {
            reactor.turn(self.now_ns);
            if lies_down {
                reactor.doze();
            }
        }
    }

    /// Moves the clock on.
    pub fn advance(&mut self, ns: u64) {
        self.now_ns += ns;
    }

    /// Whether `cpu`'s program has left.
    #[must_use]
    pub fn has_left(&self, cpu: Cpu) -> bool {
        self.reactors[usize::from(cpu.0)].as_ref().is_some_and(|reactor| reactor.has_left())
    }

    /// Steps until `done` says so; false if it did not within `step_limit` steps.
    pub fn run_until(&mut self, step_limit: u64, mut done: impl FnMut() -> bool) -> bool {
        for _ in 0..step_limit {
            if done() {
                return true;
            }
            self.step();
        }
        done()
    }

    /// Steps until every program that was installed has left; false if that did not happen within `step_limit` steps.
    pub fn run_until_left(&mut self, step_limit: u64) -> bool {
        let all_left = |simulation: &Self| simulation.reactors.iter().flatten().all(|reactor| reactor.has_left());
        for _ in 0..step_limit {
            if all_left(self) {
                return true;
            }
            self.step();
        }
        all_left(self)
    }
}
