//! N reactors on one thread, in an order that is chosen, with a virtual clock.
//!
//! The reactors are those of the real runtime. Between turns a reactor that has nothing to do sometimes lies down, as one on a
//! sleeping thread would, so that reclamation meets CPUs that are offline. On request ([`SimulationOptions`]) messages are seen late, CPUs stall or are
//! slow, and whoever says that it can sleep is not stepped until something wakes it. Nothing here depends on anything but the [`Choices`] (drawn from a
//! seed, or listed) and the programs.

mod choices;
mod late;
mod options;
mod place;
mod report;

use std::fmt;
use std::sync::Arc;

use crate::bell::Bell;
use crate::counter::ReactorCounters;
use crate::cpu::Cpu;
use crate::domain::Domain;
use crate::mailbox::{Postbox, Wake};
use crate::mesh::Mesh;
use crate::program::{Program, Progress};
use crate::random::Random;
use crate::reactor::Reactor;
use crate::trace::TraceRecord;
use crate::watch::Watch;

pub use choices::{Choice, Choices};
use late::Arrivals;
pub use options::SimulationOptions;
use place::Place;
pub use report::SimulationReport;

/// A mesh whose every step is chosen. Programs need not be `Send`.
pub struct Simulation<M> {
    mesh: Mesh<M>,
    places: Vec<Place>,
    options: SimulationOptions,
    /// For reports, and for what programs and tests draw themselves.
    seed: u64,
    random: Random,
    choices: Choices,
    /// Whose turn was last.
    last: u16,
    arrivals: Arrivals,
    now_ns: u64,
}

impl<M: Send + 'static> Simulation<M> {
    /// `cpu_count` reactors, none with a program yet.
    #[must_use]
    pub fn new(seed: u64, cpu_count: u16) -> Self {
        Self::with_options(seed, cpu_count, SimulationOptions::default())
    }

    /// The same with rings of a given size: small ones are full more often.
    #[must_use]
    pub fn with_ring_capacity(seed: u64, cpu_count: u16, ring_capacity: usize) -> Self {
        Self::with_options(seed, cpu_count, SimulationOptions { ring_capacity, ..SimulationOptions::default() })
    }

    /// The same, with more that can go wrong.
    #[must_use]
    pub fn with_options(seed: u64, cpu_count: u16, options: SimulationOptions) -> Self {
        Self::with_choices(Choices::seeded(seed), seed, cpu_count, options)
    }

    /// The same, with choices that come from elsewhere: shared with a network or a device that is simulated too, or listed. `seed` is for what
    /// programs draw ([`crate::Turn::random`]).
    #[must_use]
    pub fn with_choices(choices: Choices, seed: u64, cpu_count: u16, options: SimulationOptions) -> Self {
        let bells = (0..cpu_count).map(|_| Bell::new(None)).collect();
        let places = (0..cpu_count).map(|_| Place::new(options.chosen_slowness(&choices))).collect();
        Self {
            mesh: Mesh::new(bells, options.ring_capacity),
            places,
            options,
            seed,
            random: Random::new(seed),
            choices,
            last: cpu_count.saturating_sub(1),
            arrivals: Arrivals::new(cpu_count),
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

    /// What a simulated device wakes `cpu` with, in place of a descriptor, once its news can be polled.
    #[must_use]
    pub fn wake(&self, cpu: Cpu) -> Wake {
        Wake::new(Arc::clone(self.mesh.bells()), cpu)
    }

    /// As [`crate::RuntimeBuilder::counters`].
    #[must_use]
    pub fn counters(&self, cpu: Cpu) -> Arc<ReactorCounters> {
        self.mesh.counters(cpu)
    }

    /// As [`crate::RuntimeBuilder::watch`].
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.mesh.watch().clone()
    }

    /// Gives `cpu` its program. Panics if it has one.
    pub fn install<P: Program<Message = M> + 'static>(&mut self, cpu: Cpu, program: P) {
        let seed = self.random();
        let reactor = Reactor::new(program, self.mesh.sit(cpu, seed));
        self.places[usize::from(cpu.0)].reactor = Some(Box::new(reactor));
    }

    /// The next number of a random sequence of the simulation's seed, for tests.
    pub fn random(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// Virtual time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// One turn of one CPU, chosen, after the clock moved on by a chosen time (0 to 2 µs unless asked otherwise). A turn of a CPU whose
    /// program has left or sleeps, that has none, or that is stalled, does nothing. Where no CPU can turn before some time, the clock goes there.
    pub fn step(&mut self) -> Cpu {
        let ns = self.options.chosen_step_ns(&self.choices);
        self.advance(ns);
        self.skip_dead_time();
        // The calm choice is whose turn it is.
        let cpu_count = u32::from(self.mesh.cpu_count());
        let chosen = (u32::from(self.last) + 1 + self.choices.below("cpu", cpu_count)) % cpu_count;
        self.last = u16::try_from(chosen).unwrap_or_default();
        let cpu = Cpu(self.last);
        self.step_cpu(cpu);
        cpu
    }

    /// One turn of this CPU, unless it sleeps or is stalled.
    pub fn step_cpu(&mut self, cpu: Cpu) {
        let now_ns = self.now_ns;
        let place = &mut self.places[usize::from(cpu.0)];
        if !place.may_turn(now_ns) || place.is_too_slow(&self.choices) {
            return;
        }
        let lies_down = self.choices.one_in("lie down", 4);
        place.wake_up(now_ns);
        if self.options.late_ns_max > 0 && self.begin_late(cpu) {
            return;
        }
        let place = &mut self.places[usize::from(cpu.0)];
        let Some(reactor) = &mut place.reactor else { return };
        let progress = reactor.turn(now_ns);
        if lies_down {
            place.lie_down(now_ns, self.options.sleeps && progress == Progress::Idle);
        }
        if self.options.late_ns_max > 0 {
            self.note_pushes(cpu);
        }
        if self.choices.one_in("stall", self.options.stall_one_in) {
            let ns = self.choices.below("stall ns", clamped(self.options.stall_ns_max));
            self.stall(cpu, u64::from(ns) + 1);
        }
    }

    /// From here on `cpu` makes no turn for this long: its thread was taken off its processor between two turns.
    pub fn stall(&mut self, cpu: Cpu, ns: u64) {
        let place = &mut self.places[usize::from(cpu.0)];
        place.stalled_until_ns = place.stalled_until_ns.max(self.now_ns + ns);
    }

    /// From here on `cpu` makes only one of so many turns; 1 is as fast as the others.
    pub fn slow_down(&mut self, cpu: Cpu, one_in: u32) {
        self.places[usize::from(cpu.0)].turns_one_in = one_in.max(1);
    }

    /// Moves the clock on.
    pub fn advance(&mut self, ns: u64) {
        self.now_ns += ns;
    }

    /// Whether `cpu`'s program has left.
    #[must_use]
    pub fn has_left(&self, cpu: Cpu) -> bool {
        self.places[usize::from(cpu.0)].reactor.as_ref().is_some_and(|reactor| reactor.has_left())
    }

    /// Whether `cpu` sleeps, and would go on sleeping now. Only with [`SimulationOptions::sleeps`].
    #[must_use]
    pub fn sleeps(&self, cpu: Cpu) -> bool {
        self.places[usize::from(cpu.0)].sleeps(self.now_ns)
    }

    /// Whether a step of `cpu` would be a turn: it has a program that has not left, does not sleep and is not stalled.
    #[must_use]
    pub fn may_turn(&self, cpu: Cpu) -> bool {
        self.places[usize::from(cpu.0)].may_turn(self.now_ns)
    }

    /// From when on `cpu` could turn, if nothing wakes it before. `None`: never.
    #[must_use]
    pub fn due_ns(&self, cpu: Cpu) -> Option<u64> {
        self.places[usize::from(cpu.0)].due_ns()
    }

    /// What `cpu` has noted by [`crate::Turn::trace`], from its record number `first` on, and the number of the record that comes next.
    #[must_use]
    pub fn traced(&self, cpu: Cpu, first: u64) -> (Vec<TraceRecord>, u64) {
        self.places[usize::from(cpu.0)].reactor.as_ref().map_or((Vec::new(), 0), |reactor| reactor.traced(first))
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
        for _ in 0..step_limit {
            if self.all_have_left() {
                return true;
            }
            self.step();
        }
        self.all_have_left()
    }

    /// As [`Self::run_until`], for tests: panics with what each CPU does if it did not come to `what`.
    #[track_caller]
    pub fn reach(&mut self, what: &str, step_limit: u64, done: impl FnMut() -> bool) {
        let reached = self.run_until(step_limit, done);
        assert!(reached, "not within {step_limit} steps: {what}\n{}", self.report());
    }

    /// As [`Self::run_until_left`], for tests: panics with what each CPU does if some have not left.
    #[track_caller]
    pub fn reach_end(&mut self, step_limit: u64) {
        let reached = self.run_until_left(step_limit);
        assert!(reached, "not within {step_limit} steps: that all programs leave\n{}", self.report());
    }

    /// What each CPU does, or waits for.
    #[must_use]
    pub fn report(&self) -> SimulationReport {
        SimulationReport::new(self.seed, self.now_ns, self.mesh.domain(), &self.places)
    }

    fn all_have_left(&self) -> bool {
        self.places.iter().filter_map(|place| place.reactor.as_ref()).all(|reactor| reactor.has_left())
    }

    /// While all sleep or are stalled only time can pass.
    fn skip_dead_time(&mut self) {
        let now_ns = self.now_ns;
        if !self.places.iter().any(|place| place.may_turn(now_ns)) {
            let next_ns = self.places.iter().filter_map(Place::due_ns).min();
            self.now_ns = next_ns.map_or(now_ns, |next_ns| next_ns.max(now_ns));
        }
    }

    /// Before a turn: hides what is late. True if the CPU only comes online, and will begin its turn later.
    fn begin_late(&mut self, cpu: Cpu) -> bool {
        let Some(reactor) = &mut self.places[usize::from(cpu.0)].reactor else { return true };
        if !reactor.is_online() {
            reactor.show_all();
            if !self.choices.one_in("come online early", 4) {
                return false;
            }
            // Everything from before its fence is to be seen when it begins.
            reactor.come_online();
            self.arrivals.all_seen(cpu);
            return true;
        }
        let earliest_ns = self.now_ns.saturating_sub(self.options.late_ns_max);
        self.arrivals.hide(cpu, reactor.as_mut(), earliest_ns, &self.choices);
        false
    }

    /// After a turn: what it sent can be late, and what came until now cannot be any longer.
    fn note_pushes(&mut self, cpu: Cpu) {
        let Some(reactor) = &self.places[usize::from(cpu.0)].reactor else { return };
        for to in (0..self.mesh.cpu_count()).map(Cpu).filter(|to| *to != cpu) {
            self.arrivals.note(cpu, to, reactor.position_to(to), self.now_ns);
        }
        self.arrivals.all_seen(cpu);
    }
}

/// As a bound of choices.
fn clamped(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl<M: Send + 'static> fmt::Debug for Simulation<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.report(), f)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod histories;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
