//! One run: a scenario with its choices, and what came of it.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use reactor::{Choice, Choices};

use super::failure::Failure;
use super::history::{History, Line};
use super::scenario::{Run, Scenario, Tally};

/// Where a run's choices come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Drawn.
    Seed(u64),
    /// Listed: see [`Choices::listed`].
    List(Vec<u32>),
}

impl Origin {
    fn choices(&self) -> Choices {
        match self {
            Self::Seed(seed) => Choices::seeded(*seed),
            Self::List(values) => Choices::listed(values.clone()),
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What it did.
    pub tally: Tally,
    /// What is wrong, if anything is.
    pub failure: Option<Failure>,
}

/// What came of a run that was watched.
#[derive(Debug)]
pub struct Watched {
    /// As of any run.
    pub outcome: Outcome,
    /// Its choices.
    pub choices: Vec<Choice>,
    /// What happened last.
    pub lines: Vec<Line>,
}

/// Plays a scenario.
#[must_use]
pub fn play(scenario: &Scenario, origin: &Origin) -> Outcome {
    play_with(scenario, origin.choices(), History::default())
}

/// The same, and keeps its choices and what happened last.
#[must_use]
pub fn watch(scenario: &Scenario, origin: &Origin) -> Watched {
    let (choices, history) = (origin.choices(), History::kept());
    choices.record();
    let outcome = play_with(scenario, choices.clone(), history.clone());
    Watched { outcome, choices: choices.recorded(), lines: history.lines() }
}

fn play_with(scenario: &Scenario, choices: Choices, history: History) -> Outcome {
    hear_panics();
    let mut run = Run::new(choices, history);
    // Nothing of the run is looked at after a panic but its tally.
    let result = panic::catch_unwind(AssertUnwindSafe(|| (scenario.play)(&mut run)));
    let failure = match result {
        Ok(result) => result.err(),
        Err(panic) => Some(Failure { found_by: "panic", what: heard().unwrap_or_else(|| words_of(panic.as_ref())) }),
    };
    Outcome { tally: run.tally(), failure }
}

thread_local! {
    /// The last panic of this thread, with its place. Only for reports.
    static HEARD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has panics of runs kept for the report instead of printed.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| HEARD.with_borrow_mut(|heard| *heard = Some(info.to_string()))));
    });
}

fn heard() -> Option<String> {
    HEARD.with_borrow_mut(Option::take)
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    words.unwrap_or("a panic without words").to_owned()
}
