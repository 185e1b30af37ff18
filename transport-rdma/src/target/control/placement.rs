//! Which polling CPU a new queue pair goes to: what the rules allow, and of those the one with the least to do.
//!
//! An I/O queue goes where the fewest I/O queues are, an admin queue, which is nearly idle, where the fewest queue pairs are. Were all counted alike, hosts
//! with one I/O queue each would have all of those on the same CPU of two, and their admin queues on the other.
//! A queue pair stays where it is put: what leaves makes room, and the next ones fill it.

use std::net::SocketAddr;

use nvmf_core::defect::{self, Defect};

use super::admission::{CpuLoad, Needs, Reservation};
use crate::target::placement::{PlacementRule, Policy};

/// The rules, and what they decided.
#[derive(Debug)]
pub(super) struct Placement {
    rules: Vec<PlacementRule>,
    counts: [PolicyCounts; Policy::ALL.len()],
}

#[derive(Debug)]
struct PolicyCounts {
    policy: Policy,
    /// Queue pairs that went to each CPU.
    placed: Vec<u64>,
    /// Connections for which no allowed CPU had room.
    refused: u64,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    /// Our address that it came by.
    pub(super) listener: SocketAddr,
    /// Its own.
    pub(super) peer: SocketAddr,
    /// For an I/O queue.
    pub(super) is_io: bool,
}

impl Placement {
    /// With rules that were checked.
    pub(super) fn new(rules: Vec<PlacementRule>, cpu_count: usize) -> Self {
        let counts = Policy::ALL.map(|policy| PolicyCounts { policy, placed: vec![0; cpu_count], refused: 0 });
        Self { rules, counts }
    }

    pub(super) fn rules(&self) -> &[PlacementRule] {
        &self.rules
    }

    /// For connections that are requested from now on.
    pub(super) fn set_rules(&mut self, rules: Vec<PlacementRule>) {
        self.rules = rules;
    }

    /// The CPU, and what is reserved there. `None`: no CPU that it may go to has room.
    pub(super) fn choose(&mut self, loads: &mut [CpuLoad], needs: Needs, asker: Asker) -> Option<(usize, Reservation)> {
        let rule = self.rules.iter().find(|rule| rule.is_for(asker.listener, asker.peer));
        let policy = rule.map_or(Policy::LeastLoaded, PlacementRule::policy);
        let is_allowed =
            |cpu: usize| rule.is_none_or(|rule| rule.cpus.iter().any(|allowed| usize::from(*allowed) == cpu));
        let candidates = loads.iter_mut().enumerate().filter(|(cpu, load)| is_allowed(*cpu) && load.has_room(needs));
        // The first of equals.
        let chosen = candidates.min_by_key(|(_, load)| match asker.is_io {
            _ if defect::is(Defect::FirstCpuTakesAll) => (0, 0),
            true => (load.io_count(), load.queue_pair_count()),
            false => (load.queue_pair_count(), load.io_count()),
        });
        let counts = self.counts.iter_mut().find(|counts| counts.policy == policy)?;
        let Some((cpu, load)) = chosen else {
            counts.refused += 1;
            return None;
        };
        counts.placed[cpu] += 1;
        Some((cpu, load.reserve(needs, asker.is_io)?))
    }

    /// Policy, CPU, and how many queue pairs went there.
    pub(super) fn placed(&self) -> impl Iterator<Item = (Policy, usize, u64)> {
        self.counts.iter().flat_map(|counts| (0..).zip(&counts.placed).map(|(cpu, count)| (counts.policy, cpu, *count)))
    }

    /// Policy, and how many connections it had no room for.
    pub(super) fn refused(&self) -> impl Iterator<Item = (Policy, u64)> {
        self.counts.iter().map(|counts| (counts.policy, counts.refused))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::admission::Limits;
    use super::super::admission::tests::{TERMS, limits};
    use super::*;
    use crate::target::placement::Origin;

    const LISTENER: &str = "10.0.0.1:4420";

    fn asker(peer: &str, is_io: bool) -> Asker {
        Asker { listener: LISTENER.parse().unwrap(), peer: peer.parse().unwrap(), is_io }
    }

    fn cpus(count: usize, limits: &Limits) -> (Placement, Vec<CpuLoad>) {
        (Placement::new(Vec::new(), count), (0..count).map(|_| CpuLoad::new(limits)).collect())
    }

    #[test]
    fn hosts_of_one_queue_each_do_not_meet_on_one_cpu() {
        let limits = limits(64, 0, 4000);
        let needs = Needs::of(&limits, TERMS);
        let (mut placement, mut loads) = cpus(2, &limits);
        let mut held = Vec::new();
        for _ in 0..6 {
            for is_io in [false, true] {
                held.push(placement.choose(&mut loads, needs, asker("10.0.0.9:1", is_io)).unwrap());
            }
        }
        assert_eq!(loads.iter().map(CpuLoad::io_count).collect::<Vec<_>>(), [3, 3]);
        assert_eq!(loads.iter().map(CpuLoad::queue_pair_count).collect::<Vec<_>>(), [7, 5], "admin queues fill up");
        for (cpu, reservation) in held {
            loads[cpu].give_back(reservation);
        }
        assert!(loads.iter().all(|load| load.is_free() && load.io_count() == 0));
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_no_other_cpu_is_taken() {
        let limits = limits(2, 0, 4000);
        let needs = Needs::of(&limits, TERMS);
        let (mut placement, mut loads) = cpus(3, &limits);
        let rule = |origin, cpus: &[u16]| PlacementRule { origin, cpus: cpus.to_vec() };
        placement.set_rules(vec![
            rule(Origin::Host("10.0.0.7".parse().unwrap()), &[2]),
            rule(Origin::Listener(LISTENER.parse().unwrap()), &[1]),
            rule(Origin::Any, &[0]),
        ]);
        let mut other = asker("10.0.0.8:1", true);
        other.listener = "10.0.1.1:4420".parse().unwrap();
        let mut held = Vec::new();
        for asker in [asker("10.0.0.7:1", true), asker("10.0.0.8:1", true), other] {
            for _ in 0..2 {
                held.push(placement.choose(&mut loads, needs, asker).unwrap());
            }
            assert!(placement.choose(&mut loads, needs, asker).is_none(), "its CPU is full");
        }
        assert_eq!(held.iter().map(|(cpu, _)| *cpu).collect::<Vec<_>>(), [2, 2, 1, 1, 0, 0]);
        let placed: Vec<_> = placement.placed().filter(|(_, _, count)| *count > 0).collect();
        assert_eq!(placed, [(Policy::LeastLoaded, 0, 2), (Policy::Listener, 1, 2), (Policy::Host, 2, 2)]);
        assert!(placement.refused().all(|(_, count)| count == 1));
        for (cpu, reservation) in held {
            loads[cpu].give_back(reservation);
        }
    }

    proptest! {
        /// Hosts come with any number of queues and go in any order. Each queue pair goes where the fewest of its kind are; once as many came as had
        /// been there at most, the CPUs differ by one.
        #[test]
        fn what_leaves_is_filled_up_again(
            cpu_count in 1..5_usize,
            steps in prop::collection::vec((0..3_u8, 1..6_usize, any::<prop::sample::Index>()), 1..60),
        ) {
            let limits = limits(4096, 0, 100_000);
            let needs = Needs::of(&limits, TERMS);
            let (mut placement, mut loads) = cpus(cpu_count, &limits);
            let mut hosts: Vec<Vec<(usize, Reservation)>> = Vec::new();
            let mut connect = |loads: &mut Vec<CpuLoad>, queue_count: usize| {
                let mut queues = Vec::new();
                for queue in 0..=queue_count {
                    let least = loads.iter().map(CpuLoad::io_count).min();
                    let (cpu, reservation) = placement.choose(loads, needs, asker("10.0.0.9:1", queue > 0)).unwrap();
                    if queue > 0 {
                        assert_eq!(loads[cpu].io_count().checked_sub(1), least);
                    }
                    queues.push((cpu, reservation));
                }
                queues
            };
            for (kind, queue_count, place) in steps {
                match kind {
                    0 if !hosts.is_empty() => {
                        let place = place.index(hosts.len());
                        for (cpu, reservation) in hosts.swap_remove(place) {
                            loads[cpu].give_back(reservation);
                        }
                    }
                    _ => hosts.push(connect(&mut loads, queue_count)),
                }
            }
            let highest = loads.iter().map(CpuLoad::io_count).max().unwrap_or(0);
            let there: u32 = loads.iter().map(CpuLoad::io_count).sum();
            let missing = highest * u32::try_from(cpu_count).unwrap() - there;
            for _ in 0..missing {
                hosts.push(connect(&mut loads, 1));
            }
            prop_assert!(loads.iter().all(|load| load.io_count() == highest));
            for (cpu, reservation) in hosts.into_iter().flatten() {
                loads[cpu].give_back(reservation);
            }
        }
    }
}
