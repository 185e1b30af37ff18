//! Random histories of whole meshes against a model: tables, published values, limbos of both graces that are full at times, readers, messages through
//! tiny rings, sleep, stalls, late messages, leaving.
//!
//! The programs are [`citizen`]s; the [`ledger`] knows what they may see. That the model would notice is shown by breaking the reactor's rules one
//! at a time ([`Rule`]). A history is given by its [`Plan`]; one that fails is run again with less in it, and the simplest that fails is shown.

mod citizen;
mod ledger;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::*;
use crate::primitive::mutation::{Breach, Rule};
use crate::trial::seed_count;
use citizen::{Citizen, Phase, Shared};
use ledger::{Ledger, Totals};

const SEED_COUNT: u64 = 4_000;
/// Histories in which a broken rule has to show. The rarest needs some thousands.
const BREACH_SEED_COUNT: u64 = 40_000;
/// More than any history that goes on needs.
const STEP_LIMIT: u64 = 200_000;

/// All that a history depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    seed: u64,
    cpu_count: u16,
    round_count: u32,
    options: SimulationOptions,
    /// Breaks a rule: messages name also objects that wait for readers only.
    names_all: bool,
}

/// What went wrong, and what came before.
struct Failure {
    what: String,
    last_events: Vec<String>,
    report: SimulationReport,
}

impl Plan {
    fn of(seed: u64) -> Self {
        let cpu_count = 2 + u16::try_from(seed % 3).unwrap();
        Self { seed, cpu_count, round_count: 16, options: SimulationOptions::rough(seed), names_all: false }
    }

    fn run(self) -> Result<Totals, Box<Failure>> {
        let mut history = History::new(self);
        history.run(self.round_count).map_err(|what| {
            let last_events = history.ledger.borrow().last_events();
            Box::new(Failure { what, last_events, report: history.simulation.report() })
        })?;
        Ok(history.totals())
    }

    /// The same with one thing less.
    fn simpler(self) -> impl Iterator<Item = Self> {
        let calm = SimulationOptions::default();
        let options = self.options;
        let with = move |options| Self { options, ..self };
        let plans = [
            Self { round_count: self.round_count / 2, ..self },
            Self { round_count: self.round_count.saturating_sub(1), ..self },
            Self { cpu_count: (self.cpu_count - 1).max(2), ..self },
            with(SimulationOptions { late_ns_max: 0, ..options }),
            with(SimulationOptions { stall_one_in: 0, stall_ns_max: 0, ..options }),
            with(SimulationOptions { slow_one_in: 0, slow_factor: 1, ..options }),
            with(SimulationOptions { sleeps: false, ..options }),
            with(SimulationOptions { ring_capacity: calm.ring_capacity, ..options }),
            with(SimulationOptions { step_ns_max: calm.step_ns_max, ..options }),
        ];
        plans.into_iter().filter(move |plan| *plan != self)
    }

    /// The simplest plan found that fails in whatever way, and how.
    fn simplest(self, failure: Box<Failure>) -> (Self, Box<Failure>) {
        let worse = self.simpler().find_map(|plan| plan.run().err().map(|failure| (plan, failure)));
        match worse {
            Some((plan, failure)) => plan.simplest(failure),
            None => (self, failure),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nlast events:", self.what)?;
        self.last_events.iter().try_for_each(|event| writeln!(f, "  {event}"))?;
        write!(f, "{}", self.report)
    }
}

struct History {
    simulation: Simulation<citizen::Letter>,
    shared: Rc<Shared>,
    ledger: Rc<RefCell<Ledger>>,
    cpu_count: u16,
}

impl History {
    fn new(plan: Plan) -> Self {
        let Plan { seed, cpu_count, options, names_all, .. } = plan;
        let mut simulation = Simulation::with_options(seed, cpu_count, options);
        let ledger = Rc::new(RefCell::new(Ledger::new()));
        let shared = Rc::new(Shared::new(simulation.domain(), cpu_count, &mut ledger.borrow_mut()));
        for cpu in (0..cpu_count).map(Cpu) {
            let limbo_capacity = 1 + usize::try_from(simulation.random() % 6).unwrap();
            let (shared, ledger) = (Rc::clone(&shared), Rc::clone(&ledger));
            simulation.install(cpu, Citizen::new(cpu, limbo_capacity, names_all, shared, ledger));
        }
        Self { simulation, shared, ledger, cpu_count }
    }

    fn run(&mut self, round_count: u32) -> Result<(), String> {
        for _ in 0..round_count {
            self.round()?;
        }
        // Nobody does anything new and nobody wakes anybody: what waits is given back all the same.
        self.shared.phase.set(Phase::Calm);
        let (domain, shared) = (self.simulation.domain().clone(), Rc::clone(&self.shared));
        let came =
            self.simulation.run_until(STEP_LIMIT, || domain.limbo_len() == 0 && shared.homeless_count.get() == 0);
        self.verdict(came, "limbos are emptied while CPUs sleep")?;
        self.shared.phase.set(Phase::Active);
        self.wake_all();
        for _ in 0..round_count / 2 {
            self.round()?;
        }
        self.shared.phase.set(Phase::Ending);
        self.wake_all();
        let came = self.simulation.run_until_left(STEP_LIMIT);
        self.verdict(came, "all programs leave")?;
        self.ledger.borrow().verdict_at_the_end()
    }

    /// Some steps, and something from outside: a reading that lasts, a wake-up, a stall.
    fn round(&mut self) -> Result<(), String> {
        let cpu = Cpu(u16::try_from(self.simulation.random() % u64::from(self.cpu_count)).unwrap());
        match self.simulation.random() % 6 {
            0 | 1 => self.read_for_a_while(),
            2 => self.wake_all(),
            3 => self.simulation.wake(cpu).wake(),
            4 => self.simulation.stall(cpu, 30_000),
            _ => {}
        }
        self.steps(24);
        self.verdict(true, "")
    }

    fn read_for_a_while(&mut self) {
        let mut reader = self.simulation.domain().register_reader().unwrap();
        let shared = Rc::clone(&self.shared);
        reader.read(|guard| {
            let held: Vec<_> = shared.look_at_all(guard).iter().map(|object| object.number).collect();
            self.ledger.borrow_mut().hold(&held);
            self.steps(64);
            self.ledger.borrow_mut().release(&held);
        });
    }

    fn steps(&mut self, count_max: u64) {
        for _ in 0..self.simulation.random() % count_max {
            self.simulation.step();
        }
    }

    fn wake_all(&self) {
        (0..self.cpu_count).for_each(|cpu| self.simulation.wake(Cpu(cpu)).wake());
    }

    fn verdict(&self, came: bool, what: &str) -> Result<(), String> {
        self.ledger.borrow().verdict()?;
        if came { Ok(()) } else { Err(format!("it never came to this: {what}")) }
    }

    fn totals(&self) -> Totals {
        let mut totals = self.ledger.borrow().totals();
        for counters in (0..self.cpu_count).map(|cpu| self.simulation.counters(Cpu(cpu))) {
            totals.ring_full_count += counters.ring_full_count.value();
            totals.sleep_count += counters.sleep_count.value();
        }
        totals
    }
}

#[test]
fn nothing_is_given_back_too_early_nothing_is_lost_and_all_come_to_an_end() {
    let mut totals = Totals::default();
    for seed in 0..seed_count(SEED_COUNT) {
        match Plan::of(seed).run() {
            Ok(more) => totals.add(&more),
            Err(failure) => {
                let (plan, failure) = Plan::of(seed).simplest(failure);
                panic!("seed {seed}; the simplest history that fails is {plan:?}\n{failure}");
            }
        }
    }
    assert!(totals.all_above(2 * SEED_COUNT), "too little happened: {totals:?}");
}

/// What the first history that fails without `rule` noticed.
fn without(rule: Rule) -> Option<String> {
    let _breach = Breach::of(rule);
    (0..BREACH_SEED_COUNT).find_map(|seed| Plan::of(seed).run().err()).map(|failure| failure.what)
}

/// [`Rule::MessageGrace`] is not among them: that three steps are too few shows only where a CPU looks, others turn, and then it sends. Here the looks and
/// the sends of a turn are of one moment; `domain::model` takes turns apart.
#[test]
fn every_rule_is_needed() {
    for (rule, noticed) in [
        (Rule::ReaderGrace, "was given back while a reader held it"),
        (Rule::BacklogHolds, "was given back while a message named it"),
        (Rule::WholeDrain, "was given back while a message named it"),
        (Rule::Hold, "was given back while a message named it"),
        (Rule::NoteAdvancer, "limbos are emptied while CPUs sleep"),
        (Rule::BacklogFirst, "out of order"),
    ] {
        let what = without(rule);
        assert!(what.as_ref().is_some_and(|what| what.contains(noticed)), "without {rule:?}: {what:?}");
    }
}

#[test]
fn the_grace_for_readers_is_not_enough_for_messages() {
    let plans = (0..SEED_COUNT).map(|seed| Plan { names_all: true, ..Plan::of(seed) });
    let what = plans.map(Plan::run).find_map(Result::err).map(|failure| failure.what);
    assert!(what.as_ref().is_some_and(|what| what.contains("was given back while a message named it")), "{what:?}");
}

#[test]
fn a_failure_is_made_simple_and_says_what_came_before() {
    let _breach = Breach::of(Rule::ReaderGrace);
    let failing = (0..SEED_COUNT).map(Plan::of).find_map(|plan| plan.run().err().map(|failure| (plan, failure)));
    let (plan, failure) = failing.unwrap();
    let (simplest, failure) = plan.simplest(failure);
    assert!(simplest.cpu_count == 2 && simplest.options.late_ns_max == 0, "{simplest:?}");
    let told = failure.to_string();
    assert!(told.contains("last events") && told.contains("cpu 1") && told.contains("retired"), "{told}");
}
