//! A failing run made short: fewer special choices, earlier ones, smaller ones, as long as it fails in the same way ([`Failure::is_like`]).
//!
//! Four kinds of attempts, until none of them helps any more: the choices behind some point become calm; blocks of special choices do, then single
//! ones; blocks of choices are left out, so that what follows comes earlier; values become smaller. What is kept is what a run really chose, so every
//! step of the way is a run that failed. Deterministic, unless the time runs out: its bounds are runs and choices.

use reactor::Choice;

use super::failure::Failure;
use super::run::{self, Origin};
use super::scenario::Scenario;
use super::schedule::Schedule;
use super::stopwatch::Stopwatch;

/// When to stop although more could be tried.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Runs.
    pub run_count: u64,
    /// Choices of all runs together: how long runs take, in a measure that is the same on every machine.
    pub choice_count: u64,
    /// In case choices are slow.
    pub seconds: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { run_count: 20_000, choice_count: 200_000_000, seconds: 60.0 }
    }
}

/// What became of a failing run.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What is still special.
    pub schedule: Schedule,
    /// The choices, up to the last special one.
    pub choices: Vec<Choice>,
    /// How it fails now.
    pub failure: Failure,
    /// Runs that it took.
    pub run_count: u64,
    /// Why more was not tried, if it was not.
    pub stopped_by: Option<&'static str>,
}

/// Shrinks a run that failed so, with these choices.
#[must_use]
pub fn shrink(scenario: &Scenario, failure: &Failure, choices: Vec<Choice>, limits: Limits) -> Shrunk {
    let mut shrinker = Shrinker {
        scenario,
        failure: failure.clone(),
        best: trimmed(choices),
        limits,
        run_count: 0,
        choice_count: 0,
        watch: Stopwatch::start(),
        stopped_by: None,
    };
    shrinker.cut_tail();
    loop {
        let before = cost(&shrinker.best);
        shrinker.calm_blocks();
        shrinker.leave_out_blocks();
        shrinker.lower_values();
        if cost(&shrinker.best) == before {
            break;
        }
    }
    let Shrinker { best: choices, failure, run_count, stopped_by, .. } = shrinker;
    Shrunk { schedule: Schedule::of(&choices), choices, failure, run_count, stopped_by }
}

struct Shrinker<'s> {
    scenario: &'s Scenario,
    failure: Failure,
    best: Vec<Choice>,
    limits: Limits,
    run_count: u64,
    choice_count: u64,
    watch: Stopwatch,
    stopped_by: Option<&'static str>,
}

impl Shrinker<'_> {
    /// Special choices from some point on become calm: the point is halved down to.
    fn cut_tail(&mut self) {
        let (mut low, mut high) = (0, self.special().len());
        while low < high {
            let kept = low.midpoint(high);
            let from = self.special()[kept];
            if self.attempt(self.values()[..from].to_vec()) {
                high = kept.min(self.special().len());
            } else {
                low = kept + 1;
            }
        }
    }

    /// Blocks of special choices become calm, the last first; then smaller blocks.
    fn calm_blocks(&mut self) {
        let mut len = self.special().len().div_ceil(2);
        while len > 0 {
            let mut end = self.special().len();
            while end > 0 {
                let special = self.special();
                // There may be fewer than before.
                end = end.min(special.len());
                let begin = end.saturating_sub(len);
                let mut values = self.values();
                for at in &special[begin..end] {
                    values[*at] = 0;
                }
                self.attempt(values);
                end = begin;
            }
            len /= 2;
        }
    }

    /// Choices ahead of a special one are left out, with it and without: all since the special one before it, half of them, …, one.
    fn leave_out_blocks(&mut self) {
        let mut number = 0;
        while let Some(at) = self.special().get(number).copied() {
            let after =
                number.checked_sub(1).and_then(|before| self.special().get(before).copied()).map_or(0, |at| at + 1);
            let mut len = at - after;
            let is_left_out = self.attempt(self.without(after, at + 1));
            while !is_left_out && len > 0 {
                if self.attempt(self.without(at - len, at)) {
                    break;
                }
                len /= 2;
            }
            number += 1;
        }
    }

    /// Each special choice becomes as small as it can by halves.
    fn lower_values(&mut self) {
        let mut number = 0;
        while let Some(at) = self.special().get(number).copied() {
            let (mut low, mut high) = (1, self.best[at].value);
            while low < high {
                let mut values = self.values();
                values[at] = low.midpoint(high);
                let tried = values[at];
                if self.attempt(values) {
                    high = tried;
                } else {
                    low = tried + 1;
                }
            }
            number += 1;
        }
    }

    /// Plays a list. If it fails in the same way and is better than the best, it is the best.
    fn attempt(&mut self, values: Vec<u32>) -> bool {
        self.stopped_by = self.stopped_by.or_else(|| self.limit());
        if self.stopped_by.is_some() {
            return false;
        }
        let (outcome, choices) = run::record(self.scenario, &Origin::List(values));
        self.run_count += 1;
        self.choice_count += outcome.choice_count;
        let Some(failure) = outcome.failure.filter(|failure| failure.is_like(&self.failure)) else { return false };
        let choices = trimmed(choices);
        let is_better = cost(&choices) < cost(&self.best);
        if is_better {
            self.best = choices;
            self.failure = failure;
        }
        is_better
    }

    fn limit(&self) -> Option<&'static str> {
        if self.run_count >= self.limits.run_count {
            Some("its number of runs")
        } else if self.choice_count >= self.limits.choice_count {
            Some("its number of choices")
        } else {
            (self.watch.seconds() >= self.limits.seconds).then_some("its time")
        }
    }

    fn values(&self) -> Vec<u32> {
        self.best.iter().map(|choice| choice.value).collect()
    }

    fn without(&self, from: usize, to: usize) -> Vec<u32> {
        let mut values = self.values();
        values.drain(from..to);
        values
    }

    /// Places of the special choices.
    fn special(&self) -> Vec<usize> {
        let is_special = |(at, choice): (usize, &Choice)| (choice.value > 0).then_some(at);
        self.best.iter().enumerate().filter_map(is_special).collect()
    }
}

/// Up to the last special choice: what follows is calm anyway.
fn trimmed(mut choices: Vec<Choice>) -> Vec<Choice> {
    let len = choices.iter().rposition(|choice| choice.value > 0).map_or(0, |last| last + 1);
    choices.truncate(len);
    choices
}

/// Fewer special choices are better, then earlier ones, then smaller ones.
fn cost(choices: &[Choice]) -> (usize, usize, u64) {
    let special = choices.iter().filter(|choice| choice.value > 0).count();
    (special, choices.len(), choices.iter().map(|choice| u64::from(choice.value)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scenario::Run;

    fn made_up(play: fn(&mut Run) -> Result<(), Failure>) -> Scenario {
        Scenario { name: "made-up", about: "", entries: &[], play }
    }

    fn shrunk(scenario: &Scenario, limits: Limits) -> Shrunk {
        let failing = (0..1000).find_map(|seed| {
            let (outcome, choices) = run::record(scenario, &Origin::Seed(seed));
            outcome.failure.map(|failure| (failure, choices))
        });
        let (failure, choices) = failing.unwrap();
        let shrunk = shrink(scenario, &failure, choices, limits);
        let again = run::play(scenario, &Origin::from(&shrunk.schedule));
        assert_eq!(again.failure, Some(shrunk.failure.clone()), "what is left fails as it is said to");
        shrunk
    }

    fn wrong(what: impl Into<String>) -> Result<(), Failure> {
        Err(Failure { found_by: "test", what: what.into() })
    }

    #[test]
    fn of_many_choices_only_those_are_left_that_matter() {
        let scenario = made_up(|run| {
            let values: Vec<_> = (0..500).map(|_| run.choices.below("way", 10)).collect();
            if values[100] >= 3 && values[400] > 0 { wrong("both") } else { Ok(()) }
        });
        let shrunk = shrunk(&scenario, Limits::default());
        assert_eq!(shrunk.schedule.to_string(), "100=3,400=1");
        assert_eq!(shrunk.stopped_by, None);
        assert!(shrunk.run_count < 300, "{}", shrunk.run_count);
    }

    #[test]
    fn what_happens_late_happens_early_where_it_can() {
        // Anything twice in a row.
        let scenario = made_up(|run| {
            let values: Vec<_> = (0..200).map(|_| run.choices.below("way", 5)).collect();
            if values.windows(2).any(|pair| pair[0] == 4 && pair[1] == 4) { wrong("twice") } else { Ok(()) }
        });
        let shrunk = shrunk(&scenario, Limits::default());
        assert_eq!(shrunk.schedule.to_string(), "0=4,1=4");
    }

    #[test]
    fn another_failure_is_not_taken_for_the_same() {
        let scenario = made_up(|run| match (run.choices.below("a", 4), run.choices.below("b", 4)) {
            (0, 0) => Err(Failure { found_by: "another", what: String::new() }),
            (2, b) if b > 1 => wrong(b.to_string()),
            _ => Ok(()),
        });
        let shrunk = shrunk(&scenario, Limits::default());
        assert_eq!(shrunk.failure.found_by, "test");
        assert_eq!(shrunk.schedule.to_string(), "0=2,1=2");
    }

    #[test]
    fn panics_are_the_same_at_the_same_place_only() {
        let scenario = made_up(|run| {
            let a = run.choices.below("a", 3);
            assert_ne!(a, 1, "one");
            let b = run.choices.below("b", 100);
            assert!(a + b < 60, "another");
            Ok(())
        });
        let (outcome, choices) = run::record(&scenario, &Origin::List(vec![2, 80]));
        let shrunk = shrink(&scenario, &outcome.failure.unwrap(), choices, Limits::default());
        assert!(shrunk.failure.what.contains("another"), "{}", shrunk.failure);
        assert_eq!(shrunk.schedule.to_string(), "1=60");
    }

    #[test]
    fn it_stops_at_its_limits_and_says_so() {
        let scenario = made_up(|run| {
            let sum: u32 = (0..100).map(|_| run.choices.below("way", 10)).sum();
            if sum > 200 { wrong("much") } else { Ok(()) }
        });
        let few = Limits { run_count: 7, ..Limits::default() };
        let short = shrunk(&scenario, few);
        assert_eq!((short.run_count, short.stopped_by), (7, Some("its number of runs")));
        let little = Limits { choice_count: 1000, ..Limits::default() };
        assert_eq!(shrunk(&scenario, little).stopped_by, Some("its number of choices"));
    }
}
