//! Whether the simulator finds what is wrong: published defects are put into the target one after the other ([`nvmf_core::defect`]), and scenarios played
//! until one finds it.
//!
//! Scenarios that are about the defect's entry come first, then all others. One that finds it says in how many of its runs. The run that is named is
//! also made without the defect, and has to be in order then: so it is the defect that was found, and nothing else.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;

use anyhow::Result;
use nvmf_core::defect::Defect;
use serde_json::{Value, json};

use super::arguments::Seeds;
use super::failure::Failure;
use super::progress::{Progress, State};
use super::report;
use super::run::{self, Origin};
use super::scenario::Scenario;
use super::stopwatch::Stopwatch;
use super::workers::{self, Next};

/// So many times as many seeds have scenarios that are about a defect and did not find it.
const PERSISTENCE: u64 = 10;

/// What is searched for, and where.
#[derive(Clone, Copy, Debug)]
pub struct Search<'s> {
    /// At least one.
    pub defects: &'s [Defect],
    /// Where they may be found.
    pub scenarios: &'s [Scenario],
    /// Of each scenario.
    pub seeds: Seeds,
    /// Whether it goes on with a defect that was found.
    pub tries_all: bool,
    /// Threads.
    pub job_count: NonZeroUsize,
}

/// A scenario that found a defect.
#[derive(Clone, Debug)]
pub struct Finder {
    scenario: &'static str,
    /// Whether it is about one of the defect's entries.
    is_meant: bool,
    origin: Origin,
    failure: Failure,
    found_count: u64,
    run_count: u64,
    replay: String,
    /// What the same run said without the defect.
    without: Option<Failure>,
}

/// What became of a defect.
#[derive(Clone, Debug)]
pub struct Row {
    defect: Defect,
    finders: Vec<Finder>,
    /// Scenarios that were tried.
    tried_count: usize,
    seconds: f64,
}

/// What became of all.
#[derive(Clone, Debug)]
pub struct Searched {
    rows: Vec<Row>,
    seconds: f64,
}

/// Puts a defect into the target of every run from now on, or takes it out.
///
/// # Errors
/// If this program was built without them: how to build it.
pub fn inject(defect: Option<Defect>) -> Result<()> {
    #[cfg(feature = "defects")]
    nvmf_core::defect::inject(defect);
    #[cfg(not(feature = "defects"))]
    anyhow::ensure!(
        defect.is_none(),
        "this nvmf-sim was built without defects: cargo build -p tools --bin nvmf-sim --features defects"
    );
    Ok(())
}

impl Search<'_> {
    /// Plays until each is found, or nothing is left to play.
    ///
    /// # Errors
    /// If this program was built without defects.
    pub fn carry_out(&self) -> Result<Searched> {
        let watch = Stopwatch::start();
        let progress = Progress::begin(None);
        let mut rows = Vec::new();
        for defect in self.defects {
            let row = self.look_for(*defect, &progress)?;
            if row.finders.is_empty() {
                progress.say(&format!("{}: NOT FOUND", defect.name()));
            }
            rows.push(row);
        }
        Ok(Searched { rows, seconds: watch.seconds() })
    }

    /// Scenarios that are about it, and those again with more seeds; then all others.
    fn look_for(&self, defect: Defect, progress: &Progress) -> Result<Row> {
        let watch = Stopwatch::start();
        let (meant, others): (Vec<&Scenario>, Vec<&Scenario>) =
            self.scenarios.iter().partition(|scenario| is_about(scenario, defect));
        let count = self.seeds.count.unwrap_or(1);
        let rounds = if self.tries_all {
            vec![([meant, others].concat(), count)]
        } else {
            vec![(meant.clone(), count), (meant, count * PERSISTENCE), (others, count)]
        };
        let (mut finders, mut tried) = (Vec::new(), BTreeSet::new());
        for (scenario, run_count) in rounds.iter().flat_map(|(all, count)| all.iter().map(|one| (*one, *count))) {
            let finder = self.try_with(defect, scenario, run_count)?;
            tried.insert(scenario.name);
            let failure_count = finder.as_ref().map_or(0, |finder| finder.found_count);
            progress.tell(State { doing: defect.name(), run_count, life_count: None, failure_count });
            finders.extend(finder);
            if !finders.is_empty() && !self.tries_all {
                break;
            }
        }
        Ok(Row { defect, finders, tried_count: tried.len(), seconds: watch.seconds() })
    }

    /// Plays a scenario with a defect, and the first run that fails without it.
    fn try_with(&self, defect: Defect, scenario: &Scenario, run_count: u64) -> Result<Option<Finder>> {
        inject(Some(defect))?;
        let found = self.play(scenario, run_count);
        let replays: Vec<_> = found.iter().map(|(origin, _)| report::replay(scenario.name, origin)).collect();
        inject(None)?;
        let found_count = found.len() as u64;
        Ok(found.into_iter().zip(replays).next().map(|((origin, failure), replay)| Finder {
            scenario: scenario.name,
            is_meant: is_about(scenario, defect),
            without: run::play(scenario, &origin).failure,
            origin,
            failure,
            found_count,
            run_count,
            replay,
        }))
    }

    /// The runs that fail, in the order of their seeds.
    fn play(&self, scenario: &Scenario, run_count: u64) -> Vec<(Origin, Failure)> {
        let origin = |number| Origin::Seed(self.seeds.first.wrapping_add(number));
        let mut found = Vec::new();
        workers::in_order(
            self.job_count,
            |number| number < run_count,
            |number| (run::play(scenario, &origin(number)).failure, Next::GoOn),
            |number, failure| {
                found.extend(failure.map(|failure| (origin(number), failure)));
                Next::GoOn
            },
        );
        found
    }
}

/// Whether the scenario says so.
fn is_about(scenario: &Scenario, defect: Defect) -> bool {
    scenario.entries.iter().any(|entry| defect.entries().contains(entry))
}

impl Searched {
    /// Whether every defect was found, by runs that are in order without it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.rows.iter().all(Row::is_found)
    }

    /// For machines.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "complete": self.is_complete(),
            "seconds": self.seconds,
            "defects": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

impl Row {
    fn is_found(&self) -> bool {
        !self.finders.is_empty() && self.finders.iter().all(|finder| finder.without.is_none())
    }

    fn json(&self) -> Value {
        let finder = |finder: &Finder| {
            json!({
                "scenario": finder.scenario,
                "about_it": finder.is_meant,
                "found_by": finder.failure.found_by,
                "what": finder.failure.what,
                "replay": finder.replay,
                "found_in": finder.found_count,
                "of": finder.run_count,
                "without_it": finder.without.as_ref().map(Failure::headline),
            })
        };
        json!({
            "defect": self.defect.name(),
            "entries": self.defect.entries(),
            "what": self.defect.what(),
            "found": self.is_found(),
            "found_by": self.finders.iter().map(finder).collect::<Vec<_>>(),
            "scenarios_tried": self.tried_count,
            "seconds": self.seconds,
        })
    }
}

impl fmt::Display for Searched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["entry", "defect", "scenario", "found by", "seed", "in runs", "s"];
        let mut lines = vec![titles.map(str::to_owned)];
        for row in &self.rows {
            let entry = row.defect.entries().first().map_or("", |entry| entry).to_owned();
            let (name, seconds) = (row.defect.name().to_owned(), format!("{:.1}", row.seconds));
            if row.finders.is_empty() {
                let tried = format!("NOT FOUND in {} scenarios", row.tried_count);
                lines.push([entry, name, tried, String::new(), String::new(), String::new(), seconds]);
                continue;
            }
            for finder in &row.finders {
                let (scenario, found_by) = (finder.scenario.to_owned(), finder.failure.found_by.to_owned());
                let seed = match finder.origin {
                    Origin::Seed(seed) => seed.to_string(),
                    Origin::List(_) => String::new(),
                };
                let share = format!("{} of {}", finder.found_count, finder.run_count);
                lines.push([entry.clone(), name.clone(), scenario, found_by, seed, share, seconds.clone()]);
            }
        }
        let width = |at: usize| lines.iter().map(|line| line[at].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..titles.len()).map(width).collect();
        for line in &lines {
            let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        for (row, finder) in self.rows.iter().flat_map(|row| row.finders.iter().map(move |finder| (row, finder))) {
            if let Some(without) = &finder.without {
                let (name, scenario, origin) = (row.defect.name(), finder.scenario, &finder.origin);
                writeln!(f, "{name}: {scenario} {origin} fails without it too: {}", without.headline())?;
            }
        }
        let found_count = self.rows.iter().filter(|row| row.is_found()).count();
        let count = self.rows.len();
        write!(f, "{found_count} of {count} defects found in {:.0} s", self.seconds)
    }
}
