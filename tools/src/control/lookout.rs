//! Looks from time to time at what the reactors report and count, and says in the log what a person should know: who held a CPU too long, who does
//! not turn at all, which ring is full, why connections are refused.
//!
//! Owns what was seen before; runs on the control plane, whose sleep a look ends twice a second. Whatever happens, each thing and CPU has a line
//! at most every ten seconds: what is left out is counted, and told with the next line.

mod notice;
mod repeats;

use std::sync::Arc;

use reactor::{Cpu, Stall, StallFinder};

use crate::reactors::Reactors;
use notice::{Notice, Reclamation, RefusedWhy};
use repeats::Repeats;

/// Between two looks. A look takes some µs: well under a thousandth of a CPU.
pub(super) const LOOK_NS: u64 = 500_000_000;

/// Between two lines about one thing.
const QUIET_NS: u64 = 10_000_000_000;

/// Between two lines about one stall, which come ever more slowly.
const STALL_QUIET_MAX_NS: u64 = 300_000_000_000;

/// For reports that found no room.
const UNREPORTED: &str = "unknown";

/// What was seen before.
pub(super) struct Lookout {
    /// When the looks began that have followed each other closely since, and the last of them.
    looking_since_ns: Option<(u64, u64)>,
    finder: StallFinder,
    cpus: Vec<Seen>,
    slow: Repeats<(Cpu, &'static str)>,
    ring_full: Repeats<(Cpu, Cpu)>,
    refused: Repeats<()>,
    /// All that were noted.
    refused_count: u64,
    /// Those that no look has seen, and how things stood when the last of them was refused.
    newly_refused: Option<(u64, Room)>,
}

/// Of one CPU.
#[derive(Default)]
struct Seen {
    /// Its counter at the last look: all that was counted then has been reported by now, or found no room.
    slow_count: u64,
    /// Reports taken, and known to be lost.
    slow_told: u64,
    ring_full_count: u64,
    ring_full_counts: Vec<u64>,
    stall_count: u64,
    stall: Option<Ongoing>,
}

/// A stall that has been said.
struct Ongoing {
    len_ns: u64,
    next_line_ns: u64,
    quiet_ns: u64,
    /// Since when reclamation waits for it.
    waited_for_since_ns: Option<u64>,
}

/// Connections, as far as they say why one is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Refused for want of resources since the start.
    pub(super) refused_count: u64,
    /// There are now, those on their way out included.
    pub(super) connection_count: u64,
    /// There may be.
    pub(super) connection_count_max: u64,
    /// Of those that there are: torn down, and waiting for their grace period.
    pub(super) in_limbo_count: u64,
}

impl Lookout {
    pub(super) fn new(reactors: &Reactors) -> Self {
        let counters = reactors.all().map(|place| Arc::clone(&place.counters)).collect();
        let count = reactors.all().count();
        let seen = || Seen { ring_full_counts: vec![0; count], ..Seen::default() };
        Self {
            looking_since_ns: None,
            finder: StallFinder::new(reactors.domain(), counters),
            cpus: (0..count).map(|_| seen()).collect(),
            slow: Repeats::new(QUIET_NS),
            ring_full: Repeats::new(QUIET_NS),
            refused: Repeats::new(QUIET_NS),
            refused_count: 0,
            newly_refused: None,
        }
    }

    /// Connections have come or gone. To be called in the same turn: a moment later the room says nothing any more about why one was refused.
    pub(super) fn note(&mut self, room: Room) {
        let count = room.refused_count - std::mem::replace(&mut self.refused_count, room.refused_count);
        if count > 0 {
            let before = self.newly_refused.map_or(0, |(count, _)| count);
            self.newly_refused = Some((before + count, room));
        }
    }

    /// One look: says what there is to say.
    pub(super) fn look(&mut self, reactors: &Reactors, now_ns: u64) {
        for notice in self.notices(reactors, now_ns) {
            notice.log();
        }
    }

    /// Times that a CPU stalled, and whether it does now.
    pub(super) fn stalls(&self, cpu: Cpu) -> (u64, bool) {
        self.cpus.get(usize::from(cpu.0)).map_or((0, false), |seen| (seen.stall_count, seen.stall.is_some()))
    }

    /// The CPUs that do not turn.
    pub(super) fn stalled(&self, reactors: &Reactors) -> Vec<String> {
        let stalled = reactors.all().zip(&self.cpus).filter(|(_, seen)| seen.stall.is_some());
        stalled.map(|(place, _)| place.label()).collect()
    }

    fn notices(&mut self, reactors: &Reactors, now_ns: u64) -> Vec<Notice> {
        let mut notices = Vec::new();
        self.look_for_slow(reactors, now_ns, &mut notices);
        self.look_for_stalls(reactors, now_ns, &mut notices);
        self.look_for_full_rings(reactors, now_ns, &mut notices);
        self.look_for_refusals(reactors, now_ns, &mut notices);
        notices
    }

    fn look_for_slow(&mut self, reactors: &Reactors, now_ns: u64, notices: &mut Vec<Notice>) {
        let limit_us = reactors.watch().limit_ns() / 1000;
        while let Some(slow) = reactors.watch().take() {
            if let Some(seen) = self.cpus.get_mut(usize::from(slow.cpu.0)) {
                seen.slow_told += 1;
            }
            if self.slow.note((slow.cpu, slow.what), 1, slow.len_ns, now_ns) {
                let cpu = reactors.label(slow.cpu);
                notices.push(Notice::Slow { cpu, what: slow.what, held_us: slow.len_ns / 1000, limit_us });
            }
        }
        for (place, seen) in reactors.all().zip(&mut self.cpus) {
            let lost = seen.slow_count.saturating_sub(seen.slow_told);
            seen.slow_told += lost;
            seen.slow_count = place.counters.slow_count.value();
            if lost > 0 && self.slow.note((place.cpu, UNREPORTED), lost, 0, now_ns) {
                notices.push(Notice::SlowUnreported { cpu: place.label(), count: lost, limit_us });
            }
        }
        for ((cpu, what), left_out) in self.slow.over(now_ns) {
            let (cpu, count) = (reactors.label(cpu), left_out.count);
            notices.push(match what {
                UNREPORTED => Notice::SlowUnreported { cpu, count, limit_us },
                what => Notice::SlowAgain { cpu, what, count, longest_us: left_out.most / 1000, limit_us },
            });
        }
    }

    fn look_for_stalls(&mut self, reactors: &Reactors, now_ns: u64, notices: &mut Vec<Notice>) {
        // Where the control plane itself did not run (the whole process was stopped, or the machine), nobody could be seen to turn.
        let since_ns = match self.looking_since_ns {
            Some((since_ns, last_ns)) if now_ns - last_ns <= 2 * LOOK_NS => since_ns,
            Some(_) | None => now_ns,
        };
        self.looking_since_ns = Some((since_ns, now_ns));
        let limit_ns = reactors.stall_limit_ns();
        let mut stalls: Vec<Option<Stall>> = self.cpus.iter().map(|_| None).collect();
        for stall in self.finder.look(now_ns, limit_ns) {
            let at = usize::from(stall.cpu.0);
            if self.cpus[at].stall.is_some() || now_ns - since_ns >= limit_ns {
                stalls[at] = Some(stall);
            }
        }
        for ((place, seen), stall) in reactors.all().zip(&mut self.cpus).zip(stalls) {
            match stall {
                Some(stall) => notices.extend(seen.stalls(place.label(), stall, limit_ns, now_ns)),
                None => notices.extend(seen.turns(place.label())),
            }
        }
    }

    fn look_for_full_rings(&mut self, reactors: &Reactors, now_ns: u64, notices: &mut Vec<Notice>) {
        for (place, seen) in reactors.all().zip(&mut self.cpus) {
            let count = place.counters.ring_full_count.value();
            if count == std::mem::replace(&mut seen.ring_full_count, count) {
                continue;
            }
            for (to, before) in (0..).map(Cpu).zip(&mut seen.ring_full_counts) {
                let now = place.counters.ring_full_count_to(to);
                let count = now - std::mem::replace(before, now);
                if count > 0 && self.ring_full.note((place.cpu, to), count, 0, now_ns) {
                    notices.push(Notice::RingFull { from: place.label(), to: reactors.label(to), count });
                }
            }
        }
        for ((from, to), left_out) in self.ring_full.over(now_ns) {
            let (from, to) = (reactors.label(from), reactors.label(to));
            notices.push(Notice::RingFull { from, to, count: left_out.count });
        }
    }

    fn look_for_refusals(&mut self, reactors: &Reactors, now_ns: u64, notices: &mut Vec<Notice>) {
        // The room stays until the next line: it is that of what is left out, too.
        let Some((new, room)) = self.newly_refused else { return };
        self.newly_refused = Some((0, room));
        let mut count = if new > 0 && self.refused.note((), new, 0, now_ns) { new } else { 0 };
        count += self.refused.over(now_ns).first().map_or(0, |((), left_out)| left_out.count);
        if count == 0 {
            return;
        }
        let stalled = self.stalled(reactors);
        let why = if room.in_limbo_count > 0 && !stalled.is_empty() {
            RefusedWhy::ReclamationWaits { stalled: stalled.join(", ") }
        } else if room.connection_count >= room.connection_count_max {
            RefusedWhy::QueuePairs
        } else {
            RefusedWhy::OtherResources
        };
        notices.push(Notice::Refused { count, room, why });
    }
}

impl Seen {
    fn stalls(&mut self, cpu: String, stall: Stall, limit_ns: u64, now_ns: u64) -> Option<Notice> {
        let ongoing = self.stall.get_or_insert_with(|| {
            self.stall_count += 1;
            Ongoing { len_ns: 0, next_line_ns: now_ns, quiet_ns: QUIET_NS, waited_for_since_ns: None }
        });
        ongoing.len_ns = stall.len_ns;
        match (stall.holds_up_reclamation, ongoing.waited_for_since_ns) {
            (true, None) => {
                // Worth a line of its own.
                ongoing.waited_for_since_ns = Some(now_ns);
                ongoing.next_line_ns = now_ns;
            }
            (false, Some(_)) => ongoing.waited_for_since_ns = None,
            (true, Some(_)) | (false, None) => {}
        }
        if now_ns < ongoing.next_line_ns {
            return None;
        }
        ongoing.next_line_ns = now_ns + ongoing.quiet_ns;
        ongoing.quiet_ns = (ongoing.quiet_ns * 2).min(STALL_QUIET_MAX_NS);
        let reclamation = match ongoing.waited_for_since_ns {
            None => Reclamation::DoesNotWait,
            Some(since_ns) => Reclamation::Waits { for_ms: (now_ns - since_ns) / 1_000_000 },
        };
        let (for_ms, limit_ms) = (stall.len_ns / 1_000_000, limit_ns / 1_000_000);
        Some(Notice::Stalled { cpu, what: stall.what, for_ms, limit_ms, reclamation })
    }

    fn turns(&mut self, cpu: String) -> Option<Notice> {
        self.stall.take().map(|stall| Notice::TurnsAgain { cpu, after_ms: stall.len_ns / 1_000_000 })
    }
}

#[cfg(test)]
mod tests;
