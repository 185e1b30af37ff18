//! Messages that are seen late.
//!
//! On real CPUs turns overlap: one looks into a ring, finds nothing, and while it is still in its turn another CPU sends. Here a turn is one step, so the
//! look is put back in time instead: the turn sees each ring as it was at an earlier moment, its *cut*, and everything else as it is now. Such a
//! history is one that real CPUs may have, with nothing reordered at all, because:
//!
//! 1. A cut is never before the end of the receiver's turn before, nor before it came online: whatever the CPU did until then (looks at shared tables and at
//!    the epoch, fences) comes before its look into the rings. So each message is missed by one turn at most, as paragraph 4 of
//!    `docs/ORDERING.md` has it: the turn after the one that stored an epoch sees all that was sent before the step to that epoch.
//! 2. Rings are looked into in order, and their cuts are in that order too. (A message may so overtake the one that caused it, if it comes by a
//!    later ring: also on real CPUs.)
//! 3. From the first message that is delivered on, nothing is late: the program may look at anything while it handles it, and what it sees
//!    is of now. The same where a wake-up was asked for, which the turn takes before it looks into the rings.
//!
//! So the turn is one that began at its first cut and was held up before its first delivery, or before its poll. That a load may see less than a
//! step in time would show (an ordering that is too weak) is not simulated: that is the model checker's part.

use crate::cpu::Cpu;

use super::choices::Choices;
use super::clamped;
use super::place::Installed;

/// What was pushed since each CPU's last turn.
pub(super) struct Arrivals {
    receivers: Vec<Receiver>,
}

struct Receiver {
    /// By sender: how far its ring was filled when this CPU's last turn ended, and how far it is now.
    seen: Vec<u64>,
    filled: Vec<u64>,
    /// In order. No more than the rings hold, since the receiver empties them only in its turn.
    pushes: Vec<Push>,
}

/// One turn of a sender.
struct Push {
    from: Cpu,
    /// How far it filled the ring.
    position: u64,
    at_ns: u64,
}

impl Arrivals {
    pub(super) fn new(cpu_count: u16) -> Self {
        let zeroes = || vec![0; usize::from(cpu_count)];
        let receiver = |_| Receiver { seen: zeroes(), filled: zeroes(), pushes: Vec::new() };
        Self { receivers: (0..cpu_count).map(receiver).collect() }
    }

    /// After a turn of `from`: its ring to `to` is filled up to `position`.
    pub(super) fn note(&mut self, from: Cpu, to: Cpu, position: u64, at_ns: u64) {
        let receiver = &mut self.receivers[usize::from(to.0)];
        let filled = &mut receiver.filled[usize::from(from.0)];
        if *filled != position {
            *filled = position;
            receiver.pushes.push(Push { from, position, at_ns });
        }
    }

    /// What was pushed until now will be seen by `cpu`'s next turn.
    pub(super) fn all_seen(&mut self, cpu: Cpu) {
        let receiver = &mut self.receivers[usize::from(cpu.0)];
        receiver.pushes.clear();
        receiver.seen.copy_from_slice(&receiver.filled);
    }

    /// Before a turn of `cpu`, which is online: draws its cuts, none before `earliest_ns`, and hides what came later.
    pub(super) fn hide(&self, cpu: Cpu, reactor: &mut dyn Installed, earliest_ns: u64, choices: &Choices) {
        reactor.show_all();
        let receiver = &self.receivers[usize::from(cpu.0)];
        let push_count = receiver.pushes.len();
        let overdue_count = receiver.pushes.partition_point(|push| push.at_ns < earliest_ns);
        if reactor.has_early_news() || overdue_count == push_count || !choices.one_in("late", 2) {
            return;
        }
        let mut cut = between(overdue_count, push_count, choices);
        for from in (0..).map(Cpu).take(receiver.seen.len()).filter(|from| *from != cpu) {
            if choices.one_in("later cut", 4) {
                cut = between(cut, push_count, choices);
            }
            let limit = receiver.filled_at(cut, from);
            if limit > reactor.position_from(from) {
                // A message is delivered: from here on nothing is late.
                return;
            }
            reactor.hide_from(from, limit);
        }
    }
}

impl Receiver {
    /// How far `from` had filled its ring when the first `push_count` pushes had come.
    fn filled_at(&self, push_count: usize, from: Cpu) -> u64 {
        let last = self.pushes[..push_count].iter().rev().find(|push| push.from == from);
        last.map_or(self.seen[usize::from(from.0)], |push| push.position)
    }
}

/// Both ends included. The calm choice is the high one: less is late.
fn between(low: usize, high: usize, choices: &Choices) -> usize {
    let less = choices.below("cut", clamped((high - low) as u64 + 1));
    high - less as usize
}
