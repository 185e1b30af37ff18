//! Runs from seeds: every scenario with the first seed, then every one with the next.
//!
//! The first run of each scenario is also made twice more, to see that it is the same each time ([`repeat`]).

use std::num::NonZeroUsize;

use super::arguments::Seeds;
use super::explore::Totals;
use super::failure::Failure;
use super::progress::{Progress, State};
use super::repeat::{self, Same};
use super::run::{self, Origin, Outcome};
use super::scenario::Scenario;
use super::stopwatch::Stopwatch;
use super::summary::Row;
use super::workers::{self, Next};

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of this scenario.
    pub scenario: Scenario,
    /// With these choices.
    pub origin: Origin,
    /// What is wrong.
    pub failure: Failure,
}

/// Which runs are made.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'p> {
    /// At least one.
    pub scenarios: &'p [Scenario],
    /// Of each.
    pub seeds: Seeds,
    /// When it ends whatever is left.
    pub seconds: Option<f64>,
    /// Whether it goes on after a run that failed.
    pub keeps_going: bool,
    /// Threads.
    pub job_count: NonZeroUsize,
}

struct Tried {
    outcome: Outcome,
    seconds: f64,
    same: Option<Result<Same, Failure>>,
}

impl Plan<'_> {
    /// How many runs there are, if that is known.
    #[must_use]
    pub fn run_count(&self) -> Option<u64> {
        self.seeds.count.map(|count| count.saturating_mul(self.scenarios.len() as u64))
    }

    /// Makes them. What failed is in the order of the plan; without `keeps_going` it is the first that fails, whatever other threads found meanwhile.
    #[must_use]
    pub fn carry_out(&self, progress: &Progress) -> (Vec<Row>, Vec<Found>) {
        let watch = Stopwatch::start();
        let mut rows: Vec<Row> = self.scenarios.iter().map(|scenario| Row::new(scenario.name)).collect();
        let (mut found, mut run_count, mut life_count) = (Vec::new(), 0, 0);
        let has_time = || self.seconds.is_none_or(|seconds| watch.seconds() < seconds);
        let is_wanted = |number| self.run_count().is_none_or(|count| number < count) && has_time();
        workers::in_order(
            self.job_count,
            is_wanted,
            |number| self.try_out(number),
            |number, tried| {
                let (at, origin) = self.at(number);
                let (scenario, row) = (self.scenarios[at], &mut rows[at]);
                let Tried { outcome, seconds, same } = tried;
                row.run_count += 1;
                row.busy_seconds += seconds;
                row.totals.add(Totals::of(&outcome));
                let differs = same.and_then(|same| same.map(|same| row.same = Some(same)).err());
                run_count += 1;
                life_count += outcome.tally.life_count;
                if let Some(failure) = differs.or(outcome.failure) {
                    row.failure_count += 1;
                    progress.say(&format!("{} {origin}: {}", scenario.name, failure.headline()));
                    found.push(Found { scenario, origin, failure });
                }
                let failure_count = found.len() as u64;
                progress.tell(State { doing: scenario.name, run_count, life_count: Some(life_count), failure_count });
                if found.is_empty() || self.keeps_going { Next::GoOn } else { Next::Stop }
            },
        );
        (rows, found)
    }

    fn try_out(&self, number: u64) -> (Tried, Next) {
        let (at, origin) = self.at(number);
        let scenario = &self.scenarios[at];
        let watch = Stopwatch::start();
        let outcome = run::play(scenario, &origin);
        let seconds = watch.seconds();
        let is_first = number < self.scenarios.len() as u64;
        let same = is_first.then(|| repeat::check(scenario, &origin));
        let has_failed = outcome.failure.is_some() || same.as_ref().is_some_and(Result::is_err);
        let behind = if has_failed && !self.keeps_going { Next::Stop } else { Next::GoOn };
        (Tried { outcome, seconds, same }, behind)
    }

    fn at(&self, number: u64) -> (usize, Origin) {
        let count = self.scenarios.len() as u64;
        // Below the number of scenarios.
        let at = usize::try_from(number % count).unwrap_or_default();
        (at, Origin::Seed(self.seeds.first.wrapping_add(number / count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scenario::Run;

    fn made_up(name: &'static str, play: fn(&mut Run) -> Result<(), Failure>) -> Scenario {
        Scenario { name, about: "", entries: &[], play }
    }

    fn carried_out(job_count: usize, keeps_going: bool) -> (Vec<Row>, Vec<Found>) {
        let rarely = |run: &mut Run| {
            let fails = run.choices.one_in("fails", 30);
            if fails { Err(Failure { found_by: "test", what: String::new() }) } else { Ok(()) }
        };
        let scenarios = [made_up("fine", |_| Ok(())), made_up("rarely", rarely)];
        let plan = Plan {
            scenarios: &scenarios,
            seeds: Seeds { first: 5, count: Some(200) },
            seconds: None,
            keeps_going,
            job_count: NonZeroUsize::new(job_count).unwrap(),
        };
        plan.carry_out(&Progress::begin(plan.run_count()))
    }

    #[test]
    fn what_is_found_does_not_depend_on_threads() {
        let (_, alone) = carried_out(1, false);
        assert_eq!(alone.len(), 1, "it ends with the first");
        for job_count in [2, 5] {
            let (rows, found) = carried_out(job_count, false);
            assert_eq!(found[0].origin, alone[0].origin);
            assert_eq!(rows[0].run_count, rows[1].run_count);
        }
    }

    #[test]
    fn it_goes_on_when_asked_to_and_counts() {
        let (rows, found) = carried_out(3, true);
        assert_eq!((rows[0].run_count, rows[0].failure_count), (200, 0));
        assert_eq!((rows[1].run_count, rows[1].failure_count), (200, found.len() as u64));
        assert!(found.len() > 1);
        assert!(rows.iter().all(|row| row.same.is_some()));
    }
}
