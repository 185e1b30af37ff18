//! N reactors on one thread, in an order drawn from a seed, with a virtual clock.

use crate::domain::Domain;
use crate::program::{Cpu, Program};

/// A mesh whose every step is drawn from a seed. Programs need not be `Send`.
pub struct Simulation<M> {
    _todo: std::marker::PhantomData<M>,
}

impl<M: Send + 'static> Simulation<M> {
    /// `cpu_count` reactors, none with a program yet.
    #[must_use]
    pub fn new(seed: u64, cpu_count: u16) -> Self {
        let _ = (seed, cpu_count);
        todo!()
    }

    /// As [`crate::RuntimeBuilder::domain`].
    #[must_use]
    pub fn domain(&self) -> &Domain {
        todo!()
    }

    /// Gives `cpu` its program.
    pub fn install<P: Program<Message = M> + 'static>(&mut self, cpu: Cpu, program: P) {
        let _ = (cpu, program);
        todo!()
    }

    /// The next number of the simulation's own random sequence.
    pub fn random(&mut self) -> u64 {
        todo!()
    }

    /// Virtual time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        todo!()
    }

    /// One turn of one CPU, chosen by the seed, after the clock moved on by a random 0 to 2 µs.
    pub fn step(&mut self) -> Cpu {
        todo!()
    }

    /// One turn of this CPU.
    pub fn step_cpu(&mut self, cpu: Cpu) {
        let _ = cpu;
        todo!()
    }

    /// Moves the clock on.
    pub fn advance(&mut self, ns: u64) {
        let _ = ns;
        todo!()
    }

    /// Whether `cpu`'s program has left.
    #[must_use]
    pub fn has_left(&self, cpu: Cpu) -> bool {
        let _ = cpu;
        todo!()
    }

    /// Steps until `done` says so; false if it did not within `step_limit` steps.
    pub fn run_until(&mut self, step_limit: u64, mut done: impl FnMut() -> bool) -> bool {
        let _ = (step_limit, &mut done);
        todo!()
    }
}
