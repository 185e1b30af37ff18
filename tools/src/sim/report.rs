//! A run that failed, told to a person: what is wrong, how to see it again, what is special about it, and what happened last.

use std::env;
use std::fmt;

use nvmf_core::defect;
use serde_json::{Value, json};

use super::failure::Failure;
use super::history::Line;
use super::run::{self, Origin};
use super::shrink::{self, Limits, Shrunk};
use super::trials::Found;

/// Lines of the trace that are printed.
const LINE_COUNT: usize = 60;

/// See the module.
#[derive(Debug)]
pub struct Report {
    found: Found,
    /// Choices of the run as it was found, and how many of them are special.
    choice_count: usize,
    special_count: usize,
    shrunk: Option<Shrunk>,
    /// By choice: the step.
    places: Vec<(usize, u64)>,
    /// Of the short run if there is one.
    lines: Vec<Line>,
    /// How it ended when it was repeated, if that was otherwise.
    ended_otherwise: Option<String>,
}

impl Report {
    /// Plays the run again, and makes it short if `shrinks`.
    #[must_use]
    pub fn new(found: Found, shrinks: bool) -> Self {
        let watched = run::watch(&found.scenario, &found.origin);
        let choice_count = watched.choices.len();
        let special_count = watched.choices.iter().filter(|choice| choice.value > 0).count();
        let again = watched.outcome.failure;
        let fails_again = again.as_ref().is_some_and(|again| again.is_like(&found.failure));
        let shrunk = (shrinks && fails_again)
            .then(|| shrink::shrink(&found.scenario, &found.failure, watched.choices, Limits::default()));
        let (mut places, mut lines) = (watched.places, watched.lines);
        if let Some(shrunk) = &shrunk {
            let short = run::watch(&found.scenario, &Origin::from(&shrunk.schedule));
            (places, lines) = (short.places, short.lines);
        }
        let ended_otherwise =
            (!fails_again).then(|| again.map_or_else(|| "nothing was wrong".to_owned(), |again| again.to_string()));
        Self { found, choice_count, special_count, shrunk, places, lines, ended_otherwise }
    }

    /// For machines.
    #[must_use]
    pub fn json(&self) -> Value {
        let Found { scenario, origin, failure } = &self.found;
        let seed = match origin {
            Origin::Seed(seed) => Some(seed),
            Origin::List(_) => None,
        };
        json!({
            "scenario": scenario.name,
            "seed": seed,
            "found_by": failure.found_by,
            "what": failure.what,
            "replay": replay(scenario.name, origin),
            "ended_otherwise": self.ended_otherwise,
            "choices": self.choice_count,
            "special_choices": self.special_count,
            "shrunk": self.shrunk.as_ref().map(|shrunk| json!({
                "choices": shrunk.schedule.to_string(),
                "special_choices": shrunk.schedule.entries().len(),
                "what": shrunk.failure.what,
                "replay": replay(scenario.name, &Origin::from(&shrunk.schedule)),
                "runs": shrunk.run_count,
                "stopped_by": shrunk.stopped_by,
            })),
            "trace": self.lines.iter().map(|line| json!({
                "at_ns": line.at_ns, "step": line.step, "who": line.who, "what": line.what,
            })).collect::<Vec<_>>(),
        })
    }

    fn write_shrunk(&self, f: &mut fmt::Formatter<'_>, shrunk: &Shrunk) -> fmt::Result {
        let Shrunk { schedule, choices, failure, run_count, stopped_by } = shrunk;
        let left = schedule.entries().len();
        let (all, special) = (self.choice_count, self.special_count);
        writeln!(
            f,
            "\nMade short in {run_count} runs: of {all} choices {special} were special, now {left} of {} are.",
            choices.len()
        )?;
        if let Some(limit) = stopped_by {
            writeln!(f, "(It stopped at {limit}: a shorter one may exist.)")?;
        }
        if failure.what != self.found.failure.what {
            write_fact(f, "what", &failure.what)?;
        }
        if left == 0 {
            writeln!(f, "  Nothing is special about it: the calm run fails.")?;
        } else {
            writeln!(f, "  choice     step  what                            chosen")?;
        }
        for (number, value) in schedule.entries() {
            let (what, last) = choices.get(*number).map_or(("", 0), |choice| (choice.what, choice.bound - 1));
            let step = self.places.iter().find(|place| place.0 == *number).map_or(0, |place| place.1);
            writeln!(f, "{number:>8} {step:>8}  {what:<30}  {value} of 0..={last}")?;
        }
        write_fact(f, "again", &replay(self.found.scenario.name, &Origin::from(schedule)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { scenario, origin, failure } = &self.found;
        writeln!(f, "FAILED: {} {origin}", scenario.name)?;
        write_fact(f, "about", scenario.about)?;
        write_fact(f, "found by", failure.found_by)?;
        write_fact(f, "what", &failure.what)?;
        write_fact(f, "again", &replay(scenario.name, origin))?;
        if let Some(otherwise) = &self.ended_otherwise {
            writeln!(f, "\nWhen it was played again with a trace it ended otherwise, and so it was not made short:")?;
            write_fact(f, "what", otherwise)?;
        }
        if let Some(shrunk) = &self.shrunk {
            self.write_shrunk(f, shrunk)?;
        }
        write_trace(f, if self.shrunk.is_some() { "short run" } else { "run" }, &self.lines)
    }
}

/// The trace of a run.
#[must_use]
pub fn trace(lines: &[Line]) -> String {
    struct Trace<'l>(&'l [Line]);
    impl fmt::Display for Trace<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_trace(f, "run", self.0)
        }
    }
    Trace(lines).to_string()
}

/// What a run that does not end is told as: nobody can look into it.
#[must_use]
pub fn endless(scenario: &str, origin: &Origin, seconds: f64) -> String {
    let failure = Failure { found_by: "watchdog", what: format!("a step does not end: none within {seconds} s") };
    format!("FAILED: {scenario} {origin}\n  {failure}\n  again      {}", replay(scenario, origin))
}

/// The command that plays a run again.
#[must_use]
pub fn replay(scenario: &str, origin: &Origin) -> String {
    let program = env::args().next().filter(|program| program.contains('/'));
    let defect = defect::injected().map_or_else(String::new, |defect| format!(" --defect {}", defect.name()));
    format!("{} run{defect} --scenario {scenario} {origin}", program.as_deref().unwrap_or("nvmf-sim"))
}

fn write_fact(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    for (at, line) in text.lines().enumerate() {
        writeln!(f, "  {:<10} {line}", if at == 0 { name } else { "" })?;
    }
    Ok(())
}

fn write_trace(f: &mut fmt::Formatter<'_>, of: &str, lines: &[Line]) -> fmt::Result {
    let left_out = lines.len().saturating_sub(LINE_COUNT);
    writeln!(f, "\nThe last steps of the {of} (virtual time, step, who, what):")?;
    lines[left_out..].iter().try_for_each(|line| writeln!(f, "{line}"))
}
