//! One CPU of a simulation: its reactor, and whether it can turn.

use crate::cpu::Cpu;
use crate::program::{Program, Progress};
use crate::reactor::{Probe, Reactor, SleepLimit};
use crate::trace::TraceRecord;

use super::choices::Choices;

/// One CPU.
pub(super) struct Place {
    pub(super) reactor: Option<Box<dyn Installed>>,
    pub(super) turns_one_in: u32,
    pub(super) stalled_until_ns: u64,
    pub(super) asleep: Option<Asleep>,
}

/// Since when, and until when if nothing wakes it.
#[derive(Clone, Copy)]
pub(super) struct Asleep {
    pub(super) since_ns: u64,
    pub(super) until_ns: Option<u64>,
}

/// A reactor, whatever its program is.
pub(super) trait Installed {
    fn turn(&mut self, now_ns: u64) -> Progress;
    fn doze(&mut self) -> bool;
    fn lie_down(&mut self, now_ns: u64) -> Option<SleepLimit>;
    fn wake_up(&mut self, lay_down_ns: u64, now_ns: u64);
    fn has_left(&self) -> bool;
    fn was_rung(&self) -> bool;
    fn is_online(&self) -> bool;
    fn come_online(&mut self);
    fn has_early_news(&self) -> bool;
    fn position_to(&self, to: Cpu) -> u64;
    fn position_from(&self, from: Cpu) -> u64;
    fn hide_from(&mut self, from: Cpu, position: u64);
    fn show_all(&mut self);
    fn probe(&self) -> Probe;
    fn traced(&self, first: u64) -> (Vec<TraceRecord>, u64);
}

impl<P: Program> Installed for Reactor<P> {
    fn turn(&mut self, now_ns: u64) -> Progress {
        Reactor::turn(self, &now_ns)
    }
    fn doze(&mut self) -> bool {
        Reactor::doze(self)
    }
    fn lie_down(&mut self, now_ns: u64) -> Option<SleepLimit> {
        Reactor::lie_down(self, &now_ns)
    }
    fn wake_up(&mut self, lay_down_ns: u64, now_ns: u64) {
        Reactor::wake_up(self, lay_down_ns, now_ns);
    }
    fn has_left(&self) -> bool {
        Reactor::has_left(self)
    }
    fn was_rung(&self) -> bool {
        !self.bell().is_asleep()
    }
    fn is_online(&self) -> bool {
        Reactor::is_online(self)
    }
    fn come_online(&mut self) {
        Reactor::come_online(self);
    }
    fn has_early_news(&self) -> bool {
        Reactor::has_early_news(self)
    }
    fn position_to(&self, to: Cpu) -> u64 {
        Reactor::position_to(self, to)
    }
    fn position_from(&self, from: Cpu) -> u64 {
        Reactor::position_from(self, from)
    }
    fn hide_from(&mut self, from: Cpu, position: u64) {
        Reactor::hide_from(self, from, position);
    }
    fn show_all(&mut self) {
        Reactor::show_all(self);
    }
    fn probe(&self) -> Probe {
        Reactor::probe(self)
    }
    fn traced(&self, first: u64) -> (Vec<TraceRecord>, u64) {
        Reactor::traced(self, first)
    }
}

impl Place {
    pub(super) fn new(turns_one_in: u32) -> Self {
        Self { reactor: None, turns_one_in, stalled_until_ns: 0, asleep: None }
    }

    /// Whether its thread would run now.
    pub(super) fn may_turn(&self, now_ns: u64) -> bool {
        let is_there = self.reactor.as_ref().is_some_and(|reactor| !reactor.has_left());
        is_there && self.stalled_until_ns <= now_ns && !self.sleeps(now_ns)
    }

    /// Whether it sleeps, and nothing has ended that.
    pub(super) fn sleeps(&self, now_ns: u64) -> bool {
        let (Some(asleep), Some(reactor)) = (&self.asleep, &self.reactor) else { return false };
        !reactor.was_rung() && asleep.until_ns.is_none_or(|until_ns| now_ns < until_ns)
    }

    /// From when on it could turn, if that is known.
    pub(super) fn due_ns(&self) -> Option<u64> {
        let reactor = self.reactor.as_ref().filter(|reactor| !reactor.has_left())?;
        let slept_out_ns = match self.asleep {
            Some(asleep) if !reactor.was_rung() => asleep.until_ns?,
            Some(_) | None => 0,
        };
        Some(slept_out_ns.max(self.stalled_until_ns))
    }

    pub(super) fn is_too_slow(&self, choices: &Choices) -> bool {
        choices.below("too slow", self.turns_one_in) != 0
    }

    pub(super) fn wake_up(&mut self, now_ns: u64) {
        if let (Some(asleep), Some(reactor)) = (self.asleep.take(), &mut self.reactor) {
            reactor.wake_up(asleep.since_ns, now_ns);
        }
    }

    /// After a turn, if there is nothing to do: asleep if its program `may_sleep` and can, else offline until the next turn.
    pub(super) fn lie_down(&mut self, now_ns: u64, may_sleep: bool) {
        let Some(reactor) = &mut self.reactor else { return };
        match may_sleep.then(|| reactor.lie_down(now_ns)).flatten() {
            Some(SleepLimit(limit_ns)) => {
                self.asleep = Some(Asleep { since_ns: now_ns, until_ns: limit_ns.map(|ns| now_ns.saturating_add(ns)) });
            }
            None => {
                reactor.doze();
            }
        }
    }
}
