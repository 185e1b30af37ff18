//! The same run twice: the same choices, in the same order, with the same trace. Without that no seed would repeat anything.

use std::thread;

use reactor::Choice;

use super::failure::Failure;
use super::run::{self, Origin, Watched};
use super::scenario::Scenario;

/// What two runs of the same had in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Same {
    /// Choices of each.
    pub choice_count: u64,
    /// Of what happened: the same in every process, and on every machine with numbers of the same size.
    pub digest: u64,
}

/// Plays a run twice, on two threads.
///
/// # Errors
/// If they differ: where.
pub fn check(scenario: &Scenario, origin: &Origin) -> Result<Same, Failure> {
    let first = run::watch(scenario, origin);
    let second = thread::scope(|scope| scope.spawn(|| run::watch(scenario, origin)).join());
    // Panics of runs are failures of runs; another is ours.
    let second = second.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    match difference(&first, &second) {
        Some(what) => Err(Failure { found_by: "determinism", what }),
        None => Ok(Same { choice_count: first.outcome.choice_count, digest: first.digest }),
    }
}

fn difference(first: &Watched, second: &Watched) -> Option<String> {
    let said = |choice: Option<&Choice>| match choice {
        Some(Choice { what, bound, value }) => format!("{what:?} (bound {bound}, value {value})"),
        None => "nothing, since it was over".to_owned(),
    };
    let count = first.choices.len().max(second.choices.len());
    if let Some(number) = (0..count).find(|number| first.choices.get(*number) != second.choices.get(*number)) {
        let (one, other) = (said(first.choices.get(number)), said(second.choices.get(number)));
        return Some(format!(
            "two runs of the same differ: choice {number} was {one} in the first, {other} in the second"
        ));
    }
    let lines = |watched: &Watched| watched.lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (one, other) = (lines(first), lines(second));
    if let Some(at) = (0..one.len().max(other.len())).find(|at| one.get(*at) != other.get(*at)) {
        let said = |line: Option<&String>| line.map_or("the end", |line| line.trim()).to_owned();
        let (one, other) = (said(one.get(at)), said(other.get(at)));
        return Some(format!(
            "two runs with the same choices differ in what happened:\n  first:  {one}\n  second: {other}"
        ));
    }
    if first.digest != second.digest || first.outcome.tally != second.outcome.tally {
        let (one, other) = (first.outcome.tally, second.outcome.tally);
        return Some(format!(
            "two runs with the same choices differ, before the lines that are kept: {one:?}, {other:?}"
        ));
    }
    (first.outcome.failure != second.outcome.failure).then(|| {
        let said =
            |watched: &Watched| watched.outcome.failure.as_ref().map_or("nothing".to_owned(), ToString::to_string);
        format!("two runs with the same choices end otherwise: {}, and {}", said(first), said(second))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::sim::scenario::Run;

    fn made_up(play: fn(&mut Run) -> Result<(), Failure>) -> Scenario {
        Scenario { name: "made-up", about: "", entries: &[], play }
    }

    #[test]
    fn what_is_the_same_each_time_is_known_as_such_even_if_it_fails() {
        let scenario = made_up(|run| match run.choices.below("way", 3) {
            0 => Ok(()),
            way => Err(Failure { found_by: "test", what: way.to_string() }),
        });
        for seed in 0..10 {
            let same = check(&scenario, &Origin::Seed(seed)).unwrap();
            assert_eq!(same.choice_count, 1);
        }
    }

    #[test]
    fn what_is_another_each_time_is_found_with_the_choice_that_differs() {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let scenario = made_up(|run| {
            let _ = run.choices.below("first", 3);
            let _ = run.choices.below("second", 2 + COUNT.fetch_add(1, Ordering::Relaxed));
            Ok(())
        });
        let failure = check(&scenario, &Origin::Seed(1)).unwrap_err();
        assert_eq!(failure.found_by, "determinism");
        assert!(failure.what.contains("choice 1 was \"second\""), "{failure}");
    }

    #[test]
    fn a_difference_that_no_choice_shows_is_found_by_its_end() {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let scenario = made_up(|_| {
            let what = COUNT.fetch_add(1, Ordering::Relaxed).to_string();
            Err(Failure { found_by: "test", what })
        });
        assert!(check(&scenario, &Origin::Seed(1)).is_err());
    }
}
