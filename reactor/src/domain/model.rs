//! Random histories of participants, at the level of single steps, against a model that knows who still holds what.
//!
//! A turn is two steps here (its begin, which empties the inbox, and its quiet point) with anything between them, as on real CPUs: looks, messages through
//! a ring that holds one, unlinking. Besides the CPUs there is a reader, which is online only while it reads. That the graces are not longer than they must
//! be, and that each rule is needed, is shown by the same histories failing with one step, or one rule, less; such a history is made short.

use std::collections::BTreeSet;

use super::{Domain, OFFLINE, Participant};
use crate::primitive::mutation::{Breach, Rule};
use crate::random::Random;
use crate::trial::{seed_count, shortest};

const CPU_COUNT: u16 = 3;
const SEED_COUNT: u64 = 2_000;
/// Some violations are rare.
const RARE_SEED_COUNT: u64 = 40_000;
const STEP_COUNT: usize = 500;

#[derive(Debug, PartialEq, Eq)]
enum Violation {
    /// Reclaimed while a participant held a reference to it.
    Held,
    /// Reclaimed while a message about it, sent by somebody who held a reference, was on its way.
    Mentioned,
}

struct Cpu {
    participant: Participant,
    in_turn: bool,
    /// Between its announcement and its last look.
    dozes: bool,
    holds: BTreeSet<u64>,
    inbox: Vec<u64>,
    /// Receiver and object.
    backlog: Vec<(usize, u64)>,
}

struct History {
    random: Random,
    has_slow_cpu: bool,
    domain: Domain,
    cpus: Vec<Cpu>,
    /// Its inbox is always empty.
    reader: Cpu,
    linked: Vec<u64>,
    next_object: u64,
    /// Stamp and object.
    limbo: Vec<(u64, u64)>,
    reclaimed_count: u64,
    rules: Rules,
}

#[derive(Clone, Copy)]
struct Rules {
    grace_steps: u64,
    checks_messages: bool,
    /// Whether a sender holds the epoch up for a receiver that is offline.
    holds_for_sleepers: bool,
    /// Whether a CPU whose backlog is not empty passes no quiet point.
    backlog_holds: bool,
    /// Messages on their way to one CPU, of all senders; more wait with the sender.
    inbox_capacity: usize,
    /// Whether a turn takes all that it finds.
    drains_whole: bool,
}

impl History {
    /// Each step is drawn from its number alone, so that steps can be left out. The number of objects that were reclaimed.
    fn run(steps: &[u64], rules: Rules) -> Result<u64, Violation> {
        let domain = Domain::new(CPU_COUNT);
        let cpu = |participant| Cpu {
            participant,
            in_turn: false,
            dozes: false,
            holds: BTreeSet::new(),
            inbox: Vec::new(),
            backlog: Vec::new(),
        };
        let reader = Participant { domain: domain.clone(), index: usize::from(CPU_COUNT), seen: OFFLINE };
        let mut history = Self {
            random: Random::new(0),
            has_slow_cpu: steps.first().is_some_and(|step| step.is_multiple_of(2)),
            cpus: (0..CPU_COUNT).map(|number| cpu(domain.participant(number))).collect(),
            reader: cpu(reader),
            domain,
            linked: Vec::new(),
            next_object: 0,
            limbo: Vec::new(),
            reclaimed_count: 0,
            rules,
        };
        for step in steps {
            history.random = Random::new(*step);
            history.step()?;
            history.check_epochs();
        }
        Ok(history.reclaimed_count)
    }

    fn step(&mut self) -> Result<(), Violation> {
        let chosen = self.below(self.cpus.len());
        match self.random.below(16) {
            0..4 => {
                self.domain.advance();
                return Ok(());
            }
            4 => {
                self.read();
                return Ok(());
            }
            _ => {}
        }
        // In every other history one CPU is slow: on a real machine, one whose wake-up takes long.
        if chosen == 0 && self.has_slow_cpu && self.random.below(8) != 0 {
            return Ok(());
        }
        if !self.cpus[chosen].in_turn {
            self.begin_turn_or_sleep(chosen);
            return Ok(());
        }
        match self.random.below(8) {
            0 => {
                self.linked.push(self.next_object);
                self.next_object += 1;
            }
            1 | 2 => self.look(chosen),
            3 => self.mention(chosen),
            4 => self.unlink(chosen),
            5 => self.reap()?,
            _ => self.end_turn(chosen),
        }
        Ok(())
    }

    fn begin_turn_or_sleep(&mut self, chosen: usize) {
        let lies_down = self.random.below(4) == 0;
        let cpu = &mut self.cpus[chosen];
        if cpu.dozes {
            // As the reactor does: one more look at the inbox, then offline if nobody has sent anything meanwhile.
            cpu.dozes = false;
            if !cpu.inbox.is_empty() || !cpu.participant.fall_asleep() {
                cpu.participant.stay_awake();
            }
            return;
        }
        if lies_down && cpu.backlog.is_empty() && cpu.participant.is_online() {
            cpu.participant.doze();
            cpu.dozes = true;
            return;
        }
        if !cpu.participant.is_online() {
            cpu.participant.go_online();
        }
        if self.rules.drains_whole {
            cpu.inbox.clear();
        } else {
            cpu.inbox.pop();
        }
        cpu.in_turn = true;
    }

    /// The reader begins to read, looks at one thing more, or ends.
    fn read(&mut self) {
        let ends = self.random.below(2) == 0;
        let pick = self.random.next_u64();
        let reader = &mut self.reader;
        if !reader.participant.is_online() {
            reader.participant.go_online();
        } else if ends {
            reader.holds.clear();
            reader.participant.go_offline();
        } else if !self.linked.is_empty() {
            let at = usize::try_from(pick % self.linked.len() as u64).unwrap();
            reader.holds.insert(self.linked[at]);
        }
    }

    fn end_turn(&mut self, chosen: usize) {
        let backlog = std::mem::take(&mut self.cpus[chosen].backlog);
        backlog.into_iter().for_each(|(to, object)| self.send(chosen, to, object));
        let cpu = &mut self.cpus[chosen];
        cpu.holds.clear();
        if cpu.backlog.is_empty() || !self.rules.backlog_holds {
            cpu.participant.quiet();
        }
        cpu.in_turn = false;
    }

    fn look(&mut self, chosen: usize) {
        if !self.linked.is_empty() {
            let at = self.below(self.linked.len());
            let object = self.linked[at];
            self.cpus[chosen].holds.insert(object);
        }
    }

    fn mention(&mut self, chosen: usize) {
        let to = self.below(self.cpus.len());
        let Some(object) = self.cpus[chosen].holds.first().copied() else { return };
        self.send(chosen, to, object);
    }

    fn send(&mut self, from: usize, to: usize, object: u64) {
        let is_behind = self.cpus[from].backlog.iter().any(|(waits_for, _)| *waits_for == to);
        if is_behind || self.cpus[to].inbox.len() >= self.rules.inbox_capacity {
            self.cpus[from].backlog.push((to, object));
            return;
        }
        self.cpus[to].inbox.push(object);
        // In the reactor this comes at the end of the turn, but before the quiet point, which is as good.
        if self.rules.holds_for_sleepers {
            self.domain.hold_for(u16::try_from(to).unwrap(), self.cpus[from].participant.seen());
        }
    }

    fn unlink(&mut self, chosen: usize) {
        if let Some(object) = self.linked.pop() {
            self.limbo.push((self.cpus[chosen].participant.seen() + 1, object));
        }
    }

    fn reap(&mut self) -> Result<(), Violation> {
        let epoch = self.domain.epoch();
        let steps = self.rules.grace_steps;
        let (over, waiting) = self.limbo.drain(..).partition(|(stamp, _)| epoch >= stamp + steps);
        self.limbo = waiting;
        let over: Vec<(u64, u64)> = over;
        for (_, object) in over {
            if self.cpus.iter().chain([&self.reader]).any(|cpu| cpu.holds.contains(&object)) {
                return Err(Violation::Held);
            }
            let is_named = |cpu: &Cpu| cpu.inbox.contains(&object) || cpu.backlog.iter().any(|(_, it)| *it == object);
            if self.rules.checks_messages && self.cpus.iter().any(is_named) {
                return Err(Violation::Mentioned);
            }
            self.reclaimed_count += 1;
        }
        Ok(())
    }

    /// Invariant 2 of the domain.
    fn check_epochs(&self) {
        let epoch = self.domain.epoch();
        for cpu in self.cpus.iter().chain([&self.reader]).filter(|cpu| cpu.participant.is_online()) {
            let seen = cpu.participant.seen();
            assert!(seen == epoch || seen + 1 == epoch, "a slot at {seen}, the epoch at {epoch}");
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }
}

fn steps(seed: u64) -> Vec<u64> {
    let mut random = Random::new(seed);
    (0..STEP_COUNT).map(|_| random.next_u64()).collect()
}

fn run_all(rules: Rules) -> u64 {
    let run = |seed| match History::run(&steps(seed), rules) {
        Ok(reclaimed_count) => reclaimed_count,
        Err(violation) => {
            let fails = |steps: &[u64]| History::run(steps, rules).is_err();
            panic!("seed {seed}: {violation:?}; these steps are enough: {:?}", shortest(&steps(seed), fails));
        }
    };
    (0..seed_count(SEED_COUNT)).map(run).sum()
}

/// The violation that some history comes to, which takes at least some steps but not more than a person can follow.
fn first_violation(rules: Rules) -> Option<Violation> {
    let (seed, violation) = (0..RARE_SEED_COUNT)
        .find_map(|seed| History::run(&steps(seed), rules).err().map(|violation| (seed, violation)))?;
    let short = shortest(&steps(seed), |steps| History::run(steps, rules).as_ref().err() == Some(&violation));
    assert!((5..50).contains(&short.len()), "{} steps", short.len());
    Some(violation)
}

const READERS: Rules = Rules {
    grace_steps: 2,
    checks_messages: false,
    holds_for_sleepers: true,
    backlog_holds: true,
    inbox_capacity: 8,
    drains_whole: true,
};
const MESSAGES: Rules = Rules { grace_steps: 4, checks_messages: true, ..READERS };
const BACKLOGS: Rules = Rules { inbox_capacity: 1, ..MESSAGES };

fn is_kept_by_all(rules: Rules, reclaimed_at_least: u64) {
    let reclaimed_count = run_all(rules);
    assert!(reclaimed_count >= reclaimed_at_least, "only {reclaimed_count} were reclaimed: the histories show nothing");
}

#[test]
fn two_steps_are_enough_for_readers() {
    is_kept_by_all(READERS, SEED_COUNT);
}

#[test]
fn one_step_is_not_enough_for_readers() {
    assert_eq!(first_violation(Rules { grace_steps: 1, ..READERS }), Some(Violation::Held));
}

#[test]
fn four_steps_are_enough_for_messages() {
    is_kept_by_all(MESSAGES, SEED_COUNT / 2);
    is_kept_by_all(BACKLOGS, SEED_COUNT / 10);
}

#[test]
fn three_steps_are_not_enough_for_messages() {
    assert_eq!(first_violation(Rules { grace_steps: 3, ..MESSAGES }), Some(Violation::Mentioned));
}

#[test]
fn messages_to_a_sleeper_must_hold_the_epoch_up() {
    assert_eq!(first_violation(Rules { holds_for_sleepers: false, ..MESSAGES }), Some(Violation::Mentioned));
}

#[test]
fn a_backlog_must_hold_the_epoch_up() {
    assert_eq!(first_violation(Rules { backlog_holds: false, ..BACKLOGS }), Some(Violation::Mentioned));
}

#[test]
fn a_turn_must_take_all_messages_that_it_finds() {
    assert_eq!(first_violation(Rules { drains_whole: false, ..MESSAGES }), Some(Violation::Mentioned));
}

#[test]
fn whoever_is_offline_before_its_last_look_may_be_overtaken() {
    let _breach = Breach::of(Rule::OfflineLast);
    assert_eq!(first_violation(MESSAGES), Some(Violation::Mentioned));
}
