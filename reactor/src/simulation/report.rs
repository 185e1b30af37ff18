//! What each CPU of a simulation does, or waits for: what a test prints that did not come to its end.

use std::fmt;

use crate::cpu::Cpu;
use crate::domain::Domain;
use crate::reactor::Probe;

use super::place::{Asleep, Place};

/// The state of a whole simulation, for people.
#[derive(Clone, Debug)]
pub struct SimulationReport {
    seed: u64,
    now_ns: u64,
    epoch: u64,
    limbo_len: u64,
    cpus: Vec<Option<CpuReport>>,
}

#[derive(Clone, Debug)]
struct CpuReport {
    probe: Probe,
    /// By sender: messages in the ring.
    waiting: Vec<u64>,
    condition: Condition,
}

#[derive(Clone, Debug)]
enum Condition {
    Turns,
    TurnsOneIn(u32),
    StalledUntil(u64),
    Sleeps { since_ns: u64, until_ns: Option<u64> },
    Rung { since_ns: u64 },
    Left,
}

impl SimulationReport {
    pub(super) fn new(seed: u64, now_ns: u64, domain: &Domain, places: &[Place]) -> Self {
        let cpus = (0..).map(Cpu).zip(places).map(|(cpu, place)| CpuReport::new(cpu, place, now_ns, places));
        Self { seed, now_ns, epoch: domain.epoch(), limbo_len: domain.limbo_len(), cpus: cpus.collect() }
    }
}

impl CpuReport {
    fn new(cpu: Cpu, place: &Place, now_ns: u64, places: &[Place]) -> Option<Self> {
        let reactor = place.reactor.as_ref()?;
        let waiting = (0..).map(Cpu).zip(places).map(|(from, sender)| match &sender.reactor {
            Some(sender) if from != cpu => sender.position_to(cpu) - reactor.position_from(from),
            Some(_) | None => 0,
        });
        let condition = match place.asleep {
            _ if reactor.has_left() => Condition::Left,
            _ if place.stalled_until_ns > now_ns => Condition::StalledUntil(place.stalled_until_ns),
            Some(Asleep { since_ns, until_ns }) if place.sleeps(now_ns) => Condition::Sleeps { since_ns, until_ns },
            Some(Asleep { since_ns, .. }) => Condition::Rung { since_ns },
            None if place.turns_one_in > 1 => Condition::TurnsOneIn(place.turns_one_in),
            None => Condition::Turns,
        };
        Some(Self { probe: reactor.probe(), waiting: waiting.collect(), condition })
    }
}

impl fmt::Display for SimulationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, now_ns, epoch, limbo_len, cpus } = self;
        writeln!(f, "simulation: seed {seed}, at {now_ns} ns, epoch {epoch}, {limbo_len} values in limbos")?;
        for (number, cpu) in cpus.iter().enumerate() {
            match cpu {
                Some(cpu) => writeln!(f, "  cpu {number} {cpu}")?,
                None => writeln!(f, "  cpu {number} has no program")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for CpuReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { probe, waiting, condition } = self;
        condition.fmt(f)?;
        write!(f, "; {} turns, last in {:?}", probe.turn_count, probe.activity)?;
        match probe.seen_epoch {
            Some(epoch) => write!(f, "; online, saw epoch {epoch}")?,
            None => f.write_str("; offline")?,
        }
        for (from, count) in waiting.iter().enumerate().filter(|(_, count)| **count > 0) {
            write!(f, "; {count} messages from cpu {from}")?;
        }
        for (to, count) in probe.backlog_lens.iter().enumerate().filter(|(_, count)| **count > 0) {
            write!(f, "; {count} messages wait for room to cpu {to}")?;
        }
        for (count, what) in [(probe.postbox_len, "posted"), (probe.local_len, "to itself")] {
            if count > 0 {
                write!(f, "; {count} messages {what}")?;
            }
        }
        if probe.limbo_len > 0 {
            write!(f, "; {} values in its limbos", probe.limbo_len)?;
        }
        if let Some(deadline_ns) = probe.timer_ns {
            write!(f, "; next timer at {deadline_ns} ns")?;
        }
        if probe.is_wanted {
            f.write_str("; a turn was asked for")?;
        }
        if probe.is_leaving {
            f.write_str("; wants to leave")?;
        }
        Ok(())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turns => f.write_str("turns"),
            Self::TurnsOneIn(one_in) => write!(f, "turns, one in {one_in}"),
            Self::StalledUntil(ns) => write!(f, "is stalled until {ns} ns"),
            Self::Sleeps { since_ns, until_ns: Some(until_ns) } => {
                write!(f, "sleeps since {since_ns} ns until {until_ns} ns")
            }
            Self::Sleeps { since_ns, until_ns: None } => write!(f, "sleeps since {since_ns} ns until it is woken"),
            Self::Rung { since_ns } => write!(f, "sleeps since {since_ns} ns and was woken"),
            Self::Left => f.write_str("has left"),
        }
    }
}
