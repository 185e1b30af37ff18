//! Every schedule near the calm one: all that differ from it in at most so many choices inside the scenario's window.
//!
//! A run's choices depend on those before them, so the tree is walked by playing: what a run chose says where its children can differ, and they do so
//! only behind their parent's last special choice. So each schedule is tried once. All with one special choice come first, then all with two, …: what is
//! found first is as short as can be. Of choices with many ways only some are tried ([`WAYS_MAX`]).

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use reactor::Choice;

use super::failure::Failure;
use super::pattern::Pattern;
use super::run::{self, Origin, Outcome};
use super::scenario::Scenario;
use super::schedule::Schedule;
use super::stopwatch::Stopwatch;
use super::workers::{self, Next};

/// Of choices with more ways than this only these are tried beside the calm one: the first, the middle one and the last.
pub const WAYS_MAX: u32 = 8;

/// What is explored.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Most special choices of a schedule.
    pub deviation_count: u32,
    /// Most schedules.
    pub run_count: Option<u64>,
    /// Longest.
    pub seconds: Option<f64>,
    /// Which choices may be special, by what they are about. Without any: all but how far the clock moves on before a step, which hardly matters.
    pub kinds: Vec<Pattern>,
    /// Threads.
    pub job_count: NonZeroUsize,
}

/// All schedules with so many special choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// How many special choices.
    pub deviation_count: u32,
    /// Schedules that were tried.
    pub run_count: u64,
    /// Why not all of them, if it were not.
    pub cut_by: Option<&'static str>,
}

/// What came of it.
#[derive(Debug)]
pub struct Explored {
    /// From the calm run on; those that were not begun are left out.
    pub levels: Vec<Level>,
    /// Choices of the calm run that may be special, and those inside its window.
    pub place_count: usize,
    /// See [`Self::place_count`].
    pub window_count: usize,
    /// What all runs did.
    pub totals: Totals,
    /// The first schedule that fails, in the order of the walk.
    pub found: Option<(Schedule, Failure)>,
}

/// Sums over runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Steps.
    pub step_count: u64,
    /// Queue pair lives.
    pub life_count: u64,
    /// Virtual time.
    pub virtual_ns: u64,
}

/// Explores. `tell` is told how many schedules were tried so far, now and then, from any thread.
#[must_use]
pub fn explore(scenario: &Scenario, bounds: &Bounds, tell: impl Fn(u64) + Sync) -> Explored {
    let walk = Walk { scenario, bounds, tell: &tell, watch: Stopwatch::start(), tried: AtomicU64::new(0) };
    let calm = walk.visit(&Schedule::default());
    let first = Level { deviation_count: 0, run_count: 1, cut_by: None };
    let mut explored = Explored {
        levels: vec![first],
        place_count: calm.children.len(),
        window_count: calm.window_count,
        totals: calm.totals,
        found: calm.failure.map(|failure| (Schedule::default(), failure)),
    };
    let mut left = bounds.run_count.map_or(u64::MAX, |run_count| run_count.saturating_sub(1));
    for deviation_count in 1..=bounds.deviation_count {
        if explored.found.is_some() || explored.levels.last().is_some_and(|level| level.cut_by.is_some()) {
            break;
        }
        let level = walk.level(&calm.children, deviation_count, left, &mut explored);
        left -= level.run_count;
        explored.levels.push(level);
    }
    explored
}

struct Walk<'w, T> {
    scenario: &'w Scenario,
    bounds: &'w Bounds,
    tell: &'w T,
    watch: Stopwatch,
    tried: AtomicU64,
}

/// A run of the walk.
struct Visit {
    failure: Option<Failure>,
    totals: Totals,
    /// Schedules with one special choice more, all behind the last of this one.
    children: Vec<Schedule>,
    window_count: usize,
}

/// What came of all schedules below one.
#[derive(Default)]
struct Branch {
    run_count: u64,
    totals: Totals,
    cut_by: Option<&'static str>,
    /// With the number of its run within the branch.
    found: Option<(u64, Schedule, Failure)>,
}

impl<T: Fn(u64) + Sync> Walk<'_, T> {
    /// All schedules with `deviation_count` special choices, of which the first is one of `firsts`; at most `run_count_max`.
    fn level(&self, firsts: &[Schedule], deviation_count: u32, run_count_max: u64, explored: &mut Explored) -> Level {
        let mut level = Level { deviation_count, run_count: 0, cut_by: None };
        let first = |number: u64| usize::try_from(number).ok().and_then(|number| firsts.get(number));
        let work = |number: u64| {
            let mut branch = Branch::default();
            if let Some(first) = first(number) {
                self.descend(first, deviation_count - 1, run_count_max, &mut branch);
            }
            let behind = if branch.found.is_some() || branch.cut_by.is_some() { Next::Stop } else { Next::GoOn };
            (branch, behind)
        };
        workers::in_order(
            self.bounds.job_count,
            |number| first(number).is_some(),
            work,
            |_, branch| {
                let room = run_count_max - level.run_count;
                let is_cut = branch.run_count > room;
                level.run_count += branch.run_count.min(room);
                explored.totals.add(branch.totals);
                level.cut_by = branch.cut_by.or(is_cut.then_some(LIMIT));
                // What lies behind the limit was found by chance: it depends on how many threads there are.
                explored.found =
                    branch.found.filter(|found| found.0 < room).map(|(_, schedule, failure)| (schedule, failure));
                if explored.found.is_some() || level.cut_by.is_some() { Next::Stop } else { Next::GoOn }
            },
        );
        level
    }

    /// All schedules with `more` special choices behind those of `schedule`.
    fn descend(&self, schedule: &Schedule, more: u32, run_count_max: u64, branch: &mut Branch) {
        if branch.run_count >= run_count_max {
            branch.cut_by = Some(LIMIT);
        } else if self.bounds.seconds.is_some_and(|seconds| self.watch.seconds() >= seconds) {
            branch.cut_by = Some(TIME);
        } else if more == 0 {
            let (outcome, totals) = self.try_out(schedule);
            branch.totals.add(totals);
            branch.found = outcome.failure.map(|failure| (branch.run_count, schedule.clone(), failure));
            branch.run_count += 1;
        } else {
            // It was tried itself one level up: only its choices are of interest.
            for child in self.visit(schedule).children {
                self.descend(&child, more - 1, run_count_max, branch);
                if branch.found.is_some() || branch.cut_by.is_some() {
                    return;
                }
            }
        }
    }

    fn try_out(&self, schedule: &Schedule) -> (Outcome, Totals) {
        let outcome = run::play(self.scenario, &Origin::from(schedule));
        let tried = self.tried.fetch_add(1, Ordering::Relaxed) + 1;
        (self.tell)(tried);
        let totals = Totals::of(&outcome);
        (outcome, totals)
    }

    fn visit(&self, schedule: &Schedule) -> Visit {
        let (outcome, choices) = run::record(self.scenario, &Origin::from(schedule));
        let window = outcome.tally.window;
        let behind = schedule.entries().last().map_or(0, |(last, _)| last + 1);
        let is_inside = |number: &usize| (window.0..window.1).contains(&(*number as u64));
        let kinds = &self.bounds.kinds;
        let is_of_kind = |choice: &Choice| match kinds.is_empty() {
            true => choice.what != "clock",
            false => kinds.iter().any(|kind| kind.matches(choice.what)),
        };
        let places = choices.iter().enumerate().filter(|(number, _)| *number >= behind && is_inside(number));
        let window_count = places.clone().count();
        let children = places
            .filter(|(_, choice)| is_of_kind(choice))
            .flat_map(|(number, choice)| ways(choice.bound).into_iter().map(move |value| schedule.with(number, value)))
            .collect();
        Visit { totals: Totals::of(&outcome), failure: outcome.failure, children, window_count }
    }
}

/// What can cut a walk.
const LIMIT: &str = "--limit";
const TIME: &str = "--minutes";

impl Totals {
    /// Of one run.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let tally = outcome.tally;
        Self { step_count: tally.step_count, life_count: tally.life_count, virtual_ns: tally.virtual_ns }
    }

    /// One more.
    pub fn add(&mut self, other: Self) {
        self.step_count += other.step_count;
        self.life_count += other.life_count;
        self.virtual_ns += other.virtual_ns;
    }
}

/// The ways of a choice that are tried, but for the calm one.
fn ways(bound: u32) -> Vec<u32> {
    if bound <= WAYS_MAX { (1..bound).collect() } else { vec![1, bound / 2, bound - 1] }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use super::*;
    use crate::sim::scenario::Run;

    fn bounds(deviation_count: u32) -> Bounds {
        let job_count = NonZeroUsize::new(3).unwrap();
        Bounds { deviation_count, run_count: None, seconds: None, kinds: vec!["*".parse().unwrap()], job_count }
    }

    fn made_up(play: fn(&mut Run) -> Result<(), Failure>) -> Scenario {
        Scenario { name: "made-up", about: "", entries: &[], play }
    }

    #[test]
    fn every_schedule_within_the_bound_is_tried_once() {
        static SEEN: Mutex<Vec<Vec<u32>>> = Mutex::new(Vec::new());
        let scenario = made_up(|run| {
            let values = (0..6).map(|_| run.choices.below("way", 3)).collect();
            SEEN.lock().unwrap().push(values);
            Ok(())
        });
        let explored = explore(&scenario, &bounds(2), |_| {});
        let counts: Vec<_> = explored.levels.iter().map(|level| (level.run_count, level.cut_by)).collect();
        // Of 6 choices with 2 ways beside the calm one: none, one, two.
        assert_eq!(counts, [(1, None), (6 * 2, None), (15 * 4, None)]);
        let seen: BTreeSet<_> = SEEN.lock().unwrap().drain(..).collect();
        assert_eq!(seen.len(), 1 + 12 + 60);
        assert!(seen.iter().all(|values| values.iter().filter(|value| **value > 0).count() <= 2));
    }

    #[test]
    fn choices_that_come_up_only_after_others_are_tried_too() {
        let scenario = made_up(|run| {
            let rare = run.choices.one_in("rare", 1000) && run.choices.below("then", 5) == 4;
            if rare { Err(Failure { found_by: "test", what: String::new() }) } else { Ok(()) }
        });
        assert!(explore(&scenario, &bounds(1), |_| {}).found.is_none());
        let found = explore(&scenario, &bounds(2), |_| {}).found.unwrap();
        assert_eq!(found.0.to_string(), "0=1,1=4");
    }

    #[test]
    fn only_the_window_and_the_kinds_asked_for_are_explored() {
        let scenario = made_up(|run| {
            let _ = run.choices.below("a", 3);
            run.begin_window();
            let _ = run.choices.below("a", 3);
            let _ = run.choices.below("b", 100);
            run.end_window();
            let _ = run.choices.below("a", 3);
            Ok(())
        });
        let count = |kinds: &[&str]| {
            let kinds = kinds.iter().map(|kind| kind.parse().unwrap()).collect();
            explore(&scenario, &Bounds { kinds, ..bounds(1) }, |_| {}).levels[1].run_count
        };
        assert_eq!(count(&["a"]), 2);
        assert_eq!(count(&["b"]), 3, "of many ways some are tried");
        assert_eq!(count(&["*"]), 5);
    }

    #[test]
    fn a_limit_cuts_at_the_same_place_however_many_threads_there_are() {
        let scenario = made_up(|run| {
            let sum: u32 = (0..10).map(|_| run.choices.below("way", 4)).sum();
            if sum == 6 { Err(Failure { found_by: "test", what: String::new() }) } else { Ok(()) }
        });
        for job_count in [1, 2, 7] {
            let job_count = NonZeroUsize::new(job_count).unwrap();
            let cut = explore(&scenario, &Bounds { run_count: Some(40), job_count, ..bounds(2) }, |_| {});
            assert!(cut.found.is_none());
            assert_eq!(cut.levels[2], Level { deviation_count: 2, run_count: 9, cut_by: Some("--limit") });
            let found = explore(&scenario, &Bounds { job_count, ..bounds(2) }, |_| {}).found.unwrap();
            assert_eq!(found.0.to_string(), "0=3,1=3");
        }
    }
}
