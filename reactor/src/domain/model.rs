//! Random histories of participants, at the level of single steps, against a model that knows who still holds what.
//!
//! A turn is two steps here (its begin, which empties the inbox, and its quiet point) with anything between them, as on real CPUs. That the
//! graces are not longer than they must be is shown by the same histories failing with one step less.

use std::collections::BTreeSet;

use super::{Domain, Participant};
use crate::primitive::mutation::{Breach, Rule};
use crate::random::Random;

const CPU_COUNT: u16 = 3;
const SEED_COUNT: u64 = 20_000;
const STEP_COUNT: u32 = 500;

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
}

struct History {
    random: Random,
    has_slow_cpu: bool,
    domain: Domain,
    cpus: Vec<Cpu>,
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
}

impl History {
    fn run(seed: u64, rules: Rules) -> Result<u64, Violation> {
        let domain = Domain::new(CPU_COUNT);
        let cpu = |number| Cpu {
            participant: domain.participant(number),
            in_turn: false,
            dozes: false,
            holds: BTreeSet::new(),
            inbox: Vec::new(),
        };
        let mut history = Self {
            random: Random::new(seed),
            has_slow_cpu: seed.is_multiple_of(2),
            cpus: (0..CPU_COUNT).map(cpu).collect(),
            domain,
            linked: Vec::new(),
            next_object: 0,
            limbo: Vec::new(),
            reclaimed_count: 0,
            rules,
        };
        for _ in 0..STEP_COUNT {
            history.step()?;
            history.check_epochs();
        }
        Ok(history.reclaimed_count)
    }

    fn step(&mut self) -> Result<(), Violation> {
        let chosen = self.below(self.cpus.len());
        if self.random.below(4) == 0 {
            self.domain.advance();
            return Ok(());
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
        if lies_down && cpu.participant.is_online() {
            cpu.participant.doze();
            cpu.dozes = true;
            return;
        }
        if !cpu.participant.is_online() {
            cpu.participant.go_online();
        }
        cpu.inbox.clear();
        cpu.in_turn = true;
    }

    fn end_turn(&mut self, chosen: usize) {
        let cpu = &mut self.cpus[chosen];
        cpu.holds.clear();
        cpu.participant.quiet();
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
        self.cpus[to].inbox.push(object);
        // In the reactor this comes at the end of the turn, but before the quiet point, which is as good.
        if self.rules.holds_for_sleepers {
            self.domain.hold_for(u16::try_from(to).unwrap(), self.cpus[chosen].participant.seen());
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
            if self.cpus.iter().any(|cpu| cpu.holds.contains(&object)) {
                return Err(Violation::Held);
            }
            if self.rules.checks_messages && self.cpus.iter().any(|cpu| cpu.inbox.contains(&object)) {
                return Err(Violation::Mentioned);
            }
            self.reclaimed_count += 1;
        }
        Ok(())
    }

    /// Invariant 2 of the domain.
    fn check_epochs(&self) {
        let epoch = self.domain.epoch();
        for cpu in self.cpus.iter().filter(|cpu| cpu.participant.is_online()) {
            let seen = cpu.participant.seen();
            assert!(seen == epoch || seen + 1 == epoch, "a slot at {seen}, the epoch at {epoch}");
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }
}

fn run_all(rules: Rules) -> Result<u64, Violation> {
    (0..SEED_COUNT).map(|seed| History::run(seed, rules)).sum()
}

const READERS: Rules = Rules { grace_steps: 2, checks_messages: false, holds_for_sleepers: true };
const MESSAGES: Rules = Rules { grace_steps: 4, checks_messages: true, holds_for_sleepers: true };

#[test]
fn two_steps_are_enough_for_readers() {
    let reclaimed_count = run_all(READERS).unwrap();
    assert!(reclaimed_count > SEED_COUNT, "only {reclaimed_count} objects were reclaimed: the histories show nothing");
}

#[test]
fn one_step_is_not_enough_for_readers() {
    assert_eq!(run_all(Rules { grace_steps: 1, ..READERS }), Err(Violation::Held));
}

#[test]
fn four_steps_are_enough_for_messages() {
    let reclaimed_count = run_all(MESSAGES).unwrap();
    assert!(
        reclaimed_count > SEED_COUNT / 2,
        "only {reclaimed_count} objects were reclaimed: the histories show nothing"
    );
}

#[test]
fn three_steps_are_not_enough_for_messages() {
    assert_eq!(run_all(Rules { grace_steps: 3, ..MESSAGES }), Err(Violation::Mentioned));
}

#[test]
fn messages_to_a_sleeper_must_hold_the_epoch_up() {
    assert_eq!(run_all(Rules { holds_for_sleepers: false, ..MESSAGES }), Err(Violation::Mentioned));
}

#[test]
fn whoever_is_offline_before_its_last_look_may_be_overtaken() {
    let _breach = Breach::of(Rule::OfflineLast);
    assert_eq!(run_all(MESSAGES), Err(Violation::Mentioned));
}
