//! One run: a scenario with its choices, and what came of it.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::OnceLock;

use reactor::{Choice, Choices};

use super::failure::{Failure, PANIC};
use super::history::{Closeness, History, Line};
use super::scenario::{Run, Scenario, Tally};
use super::schedule::Schedule;
use super::watchdog::{self, Playing};

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

impl From<&Schedule> for Origin {
    fn from(schedule: &Schedule) -> Self {
        Self::List(schedule.list())
    }
}

/// As arguments of `nvmf-sim run`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed(seed) => write!(f, "--seed {seed}"),
            Self::List(values) => {
                let choices: Vec<_> =
                    values.iter().map(|value| Choice { what: "", bound: u32::MAX, value: *value }).collect();
                write!(f, "--choices {}", Schedule::of(&choices))
            }
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What it did.
    pub tally: Tally,
    /// Choices that were made.
    pub choice_count: u64,
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
    /// In which step the choices were made that are not the calm ones, by their numbers.
    pub places: Vec<(usize, u64)>,
    /// See [`History::digest`].
    pub digest: u64,
}

/// Plays a scenario.
#[must_use]
pub fn play(scenario: &Scenario, origin: &Origin) -> Outcome {
    play_with(scenario, origin, origin.choices(), History::default())
}

/// The same, and keeps its choices.
#[must_use]
pub fn record(scenario: &Scenario, origin: &Origin) -> (Outcome, Vec<Choice>) {
    let choices = origin.choices();
    choices.record();
    let outcome = play_with(scenario, origin, choices.clone(), History::default());
    (outcome, choices.recorded())
}

/// The same, and keeps what happened last: of a listed run with every special choice, since there are few.
#[must_use]
pub fn watch(scenario: &Scenario, origin: &Origin) -> Watched {
    let closeness = match origin {
        Origin::Seed(_) => Closeness::Events,
        Origin::List(_) => Closeness::EveryChoice,
    };
    let (choices, history) = (origin.choices(), History::kept(closeness));
    choices.record();
    let outcome = play_with(scenario, origin, choices.clone(), history.clone());
    // Those of the step that failed.
    history.note_choices(&choices.recorded_from(history.next_choice()));
    Watched {
        outcome,
        choices: choices.recorded(),
        lines: history.lines(),
        places: history.places(),
        digest: history.digest(),
    }
}

fn play_with(scenario: &Scenario, origin: &Origin, choices: Choices, history: History) -> Outcome {
    hear_panics();
    let playing = Playing::begin(scenario.name, origin);
    let mut run = Run::new(choices.clone(), history);
    // Nothing of the run is looked at after a panic but its tally.
    let result = panic::catch_unwind(AssertUnwindSafe(|| (scenario.play)(&mut run)));
    let failure = match result {
        Ok(result) => result.err(),
        Err(panic) => Some(Failure { found_by: PANIC, what: heard().unwrap_or_else(|| words_of(panic.as_ref())) }),
    };
    drop(playing);
    Outcome { tally: run.tally(), choice_count: choices.count(), failure }
}

thread_local! {
    /// The last panic of this thread, with its place. Only for reports.
    static HEARD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has panics of runs kept for the report instead of printed.
fn hear_panics() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let Some((scenario, origin)) = watchdog::played() else { return others(info) };
            let is_first = HEARD.with_borrow(Option::is_none);
            if is_first && cfg!(panic = "unwind") {
                HEARD.with_borrow_mut(|heard| *heard = Some(info.to_string()));
            } else {
                // The process ends, so that nobody else can say it.
                eprintln!("nvmf-sim: a panic that ends the program, in: nvmf-sim run --scenario {scenario} {origin}");
                if let Some(first) = heard() {
                    eprintln!("nvmf-sim: while unwinding from: {first}");
                }
                others(info);
            }
        }));
    });
}

fn heard() -> Option<String> {
    HEARD.with_borrow_mut(Option::take)
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    words.unwrap_or("a panic without words").to_owned()
}
