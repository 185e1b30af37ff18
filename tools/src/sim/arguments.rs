//! The command line.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use nvmf_core::defect::Defect;

use super::pattern::{Pattern, distance};
use super::scenario::Scenario;
use super::schedule::Schedule;

/// Runs of each scenario, unless it is said how many or how long.
const SEED_COUNT: u64 = 100;

/// Simulates an NVMe over Fabrics target and its hosts, in every order that can be chosen, and says what goes wrong.
///
/// The target is the real one; its CPUs, devices, network and clock are simulated, on one thread, and everything that could go one way or another is a
/// choice. A seed draws all choices of a run, so the same seed is the same run. A run that fails is made short, and told with the command that repeats it.
#[derive(Debug, Parser)]
#[command(name = "nvmf-sim", version, arg_required_else_help = true, subcommand_required = true, after_help = HELP)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

const HELP: &str = "\
Examples:
  nvmf-sim run                                     every scenario, 100 seeds each
  nvmf-sim run --fresh --minutes 10                seeds that nobody tried before, for ten minutes
  nvmf-sim run --scenario 'hosts-*' --seeds 5000   some scenarios, more seeds
  nvmf-sim run --scenario NAME --seed 17           repeats one run
  nvmf-sim run --scenario NAME --explore           everything that is one choice away from the calm run
  nvmf-sim defects                                 whether it finds what is known to be wrong

Exit status: 0 if nothing is wrong, 1 if something is, 2 for a wrong command line.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Names the scenarios, and what each is about.
    List(ListArguments),
    /// Plays scenarios, and says what goes wrong.
    Run(RunArguments),
    /// Puts published defects into the target, one after the other, and says which scenario finds each, and how.
    Defects(DefectsArguments),
}

/// Of `nvmf-sim list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only these: a name, its beginning, or a pattern with `*`. May be repeated.
    #[arg(long = "scenario", value_name = "NAME")]
    pub scenarios: Vec<Pattern>,
    /// For machines.
    #[arg(long)]
    pub json: bool,
}

/// Of `nvmf-sim run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Only these scenarios: a name, its beginning, or a pattern with `*`. May be repeated. Without it: all.
    #[arg(long = "scenario", value_name = "NAME")]
    pub scenarios: Vec<Pattern>,

    /// With this defect in the target (`nvmf-sim defects` names them).
    #[arg(long, value_name = "NAME")]
    pub defect: Option<String>,

    /// Runs of each scenario [default: 100, or what there is time for].
    #[arg(long, value_name = "COUNT", help_heading = "Which runs")]
    pub seeds: Option<u64>,
    /// The first seed; the others follow it.
    #[arg(long, value_name = "SEED", default_value_t = 0, help_heading = "Which runs")]
    pub first_seed: u64,
    /// Only this seed: repeats a run.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "first_seed", "fresh", "minutes"], help_heading = "Which runs")]
    pub seed: Option<u64>,
    /// Seeds that were hardly tried before. The first is printed.
    #[arg(long, conflicts_with = "first_seed", help_heading = "Which runs")]
    pub fresh: bool,
    /// For so long, in all.
    #[arg(long, value_name = "MINUTES", value_parser = positive, help_heading = "Which runs")]
    pub minutes: Option<f64>,
    /// Only the run with these choices, as a report prints them: `12=1,801=2` (all others are calm), `calm`, or a file with such a line.
    #[arg(long, value_name = "LIST|FILE", requires = "scenarios", conflicts_with_all = ["seeds", "first_seed", "fresh", "minutes", "seed", "explore"],
        help_heading = "Which runs")]
    pub choices: Option<String>,

    /// Tries every run that differs from the calm one in few choices, instead of seeds.
    #[arg(long, conflicts_with_all = ["seeds", "first_seed", "fresh", "seed"], help_heading = "Exploring")]
    pub explore: bool,
    /// In how many choices at most.
    #[arg(long, value_name = "COUNT", default_value_t = 1, requires = "explore", help_heading = "Exploring")]
    pub deviations: u32,
    /// Most runs of each scenario.
    #[arg(long, value_name = "COUNT", requires = "explore", help_heading = "Exploring")]
    pub limit: Option<u64>,
    /// Only choices about this (a pattern with `*`). May be repeated [default: all but `clock`].
    #[arg(long = "kind", value_name = "WHAT", requires = "explore", help_heading = "Exploring")]
    pub kinds: Vec<Pattern>,

    /// Threads, each with a run of its own [default: one for each CPU]. What is found does not depend on them.
    #[arg(long, value_name = "COUNT")]
    pub jobs: Option<NonZeroUsize>,
    /// Goes on after a run that failed.
    #[arg(long)]
    pub keep_going: bool,
    /// Tells a run that failed as it was found.
    #[arg(long)]
    pub no_shrink: bool,
    /// Prints the trace of each scenario's first run too, if it did not fail.
    #[arg(long)]
    pub trace: bool,
    /// For machines: one JSON document on the standard output.
    #[arg(long)]
    pub json: bool,
    /// A step that takes longer than this is one that does not end.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = positive)]
    pub patience: f64,
}

/// Of `nvmf-sim defects`.
#[derive(Debug, Args)]
pub struct DefectsArguments {
    /// Only these: a name, its beginning, or a pattern with `*`. May be repeated.
    #[arg(long = "only", value_name = "NAME")]
    pub only: Vec<Pattern>,
    /// Runs of a scenario with each defect.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first seed; the others follow it.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub first_seed: u64,
    /// Tries every scenario with every defect, not only until one finds it.
    #[arg(long)]
    pub all: bool,
    /// Threads, each with a run of its own [default: one for each CPU].
    #[arg(long, value_name = "COUNT")]
    pub jobs: Option<NonZeroUsize>,
    /// For machines: one JSON document on the standard output.
    #[arg(long)]
    pub json: bool,
    /// A step that takes longer than this is one that does not end.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = positive)]
    pub patience: f64,
}

/// Where the seeds of a command begin, and how many there are of each scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// How many. `None`: as many as there is time for.
    pub count: Option<u64>,
}

impl RunArguments {
    /// The seeds. `fresh` is a first seed in case that it is wanted.
    #[must_use]
    pub fn drawn(&self, fresh: u64) -> Seeds {
        if let Some(seed) = self.seed {
            return Seeds { first: seed, count: Some(1) };
        }
        let first = if self.fresh { fresh } else { self.first_seed };
        let count = if self.minutes.is_none() { Some(self.seeds.unwrap_or(SEED_COUNT)) } else { self.seeds };
        Seeds { first, count }
    }

    /// Threads.
    #[must_use]
    pub fn job_count(&self) -> NonZeroUsize {
        job_count(self.jobs)
    }

    /// The schedule that is asked for, if one is.
    ///
    /// # Errors
    /// If it is none, and no file with one.
    pub fn schedule(&self) -> Result<Option<Schedule>> {
        let Some(given) = &self.choices else { return Ok(None) };
        let text = if Path::new(given).is_file() {
            fs::read_to_string(given).with_context(|| format!("--choices {given}: cannot read it"))?
        } else {
            given.clone()
        };
        let schedule = text
            .parse()
            .with_context(|| format!("--choices {given}: neither a file nor a list such as 12=1,801=2, nor `calm`"))?;
        Ok(Some(schedule))
    }
}

/// The scenarios that are meant, in the order of `all`. Those in `on_purpose` have to be named in full.
///
/// # Errors
/// If a name means none.
pub fn chosen(all: &[Scenario], on_purpose: &[Scenario], names: &[Pattern]) -> Result<Vec<Scenario>> {
    if names.is_empty() {
        return Ok(all.to_vec());
    }
    let mut is_chosen = vec![false; all.len() + on_purpose.len()];
    let every: Vec<_> = all.iter().chain(on_purpose).copied().collect();
    for name in names {
        let is_it = |scenario: &Scenario| scenario.name == name.text();
        let fits = |scenario: &Scenario| {
            if name.is_open() { name.matches(scenario.name) } else { scenario.name.starts_with(name.text()) }
        };
        let meant: Vec<usize> = match every.iter().position(is_it) {
            Some(at) => vec![at],
            None => (0..all.len()).filter(|at| fits(&all[*at])).collect(),
        };
        if meant.is_empty() {
            let nearest = all.iter().min_by_key(|scenario| distance(scenario.name, name.text()));
            let hint = nearest.map_or_else(String::new, |nearest| format!("; is {:?} meant?", nearest.name));
            bail!("--scenario {}: there is none of that name{hint} (`nvmf-sim list` names them all)", name.text());
        }
        meant.into_iter().for_each(|at| is_chosen[at] = true);
    }
    Ok(every.into_iter().zip(is_chosen).filter(|(_, is_chosen)| *is_chosen).map(|(scenario, _)| scenario).collect())
}

/// Threads: so many, or one for each CPU.
#[must_use]
pub fn job_count(asked: Option<NonZeroUsize>) -> NonZeroUsize {
    asked.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

/// The defects that are meant, in the order of their list.
///
/// # Errors
/// If a name means none.
pub fn chosen_defects(names: &[Pattern]) -> Result<Vec<Defect>> {
    let fits = |name: &Pattern, defect: &Defect| match name.is_open() {
        true => name.matches(defect.name()),
        false => defect.name().starts_with(name.text()),
    };
    for name in names {
        if !Defect::ALL.iter().any(|defect| fits(name, defect)) {
            bail!("--only {}: there is no defect of that name{}", name.text(), nearest_defect(name.text()));
        }
    }
    let is_meant = |defect: &Defect| names.is_empty() || names.iter().any(|name| fits(name, defect));
    Ok(Defect::ALL.iter().copied().filter(is_meant).collect())
}

/// The defect of this name.
///
/// # Errors
/// If there is none.
pub fn defect(name: &str) -> Result<Defect> {
    Defect::named(name)
        .with_context(|| format!("--defect {name}: there is no defect of that name{}", nearest_defect(name)))
}

fn nearest_defect(name: &str) -> String {
    let nearest = Defect::ALL.iter().min_by_key(|defect| distance(defect.name(), name));
    nearest.map_or_else(String::new, |nearest| format!("; is {:?} meant?", nearest.name()))
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        Ok(_) | Err(_) => Err("has to be a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn scenario(name: &'static str) -> Scenario {
        Scenario { name, about: "", entries: &[], play: |_| Ok(()) }
    }

    fn names(texts: &[&str]) -> Result<Vec<&'static str>> {
        let all = [scenario("hosts-come"), scenario("hosts-go"), scenario("device-goes")];
        let names: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Ok(chosen(&all, &[scenario("hosts-fail")], &names)?.iter().map(|scenario| scenario.name).collect())
    }

    fn run(arguments: &[&str]) -> Result<RunArguments, clap::Error> {
        let arguments = ["nvmf-sim", "run"].iter().chain(arguments);
        match Arguments::try_parse_from(arguments)?.task {
            Task::Run(run) => Ok(run),
            Task::List(_) | Task::Defects(_) => unreachable!(),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn scenarios_are_meant_by_name_beginning_or_pattern() {
        assert_eq!(names(&[]).unwrap(), ["hosts-come", "hosts-go", "device-goes"]);
        assert_eq!(names(&["hosts"]).unwrap(), ["hosts-come", "hosts-go"]);
        assert_eq!(names(&["*go*", "hosts-go"]).unwrap(), ["hosts-go", "device-goes"]);
        assert_eq!(names(&["hosts-fail"]).unwrap(), ["hosts-fail"], "only in full");
        let error = names(&["host-go"]).unwrap_err().to_string();
        assert!(error.contains("\"hosts-go\"") && error.contains("--scenario host-go"), "{error}");
    }

    #[test]
    fn defects_are_meant_by_name_beginning_or_pattern() {
        let meant = |texts: &[&str]| {
            let names: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
            chosen_defects(&names)
        };
        assert_eq!(meant(&[]).unwrap(), Defect::ALL);
        assert_eq!(meant(&["no-dead"]).unwrap(), [Defect::NoDeadline]);
        assert_eq!(meant(&["*-receive*"]).unwrap().len(), 2);
        let error = meant(&["no-line"]).unwrap_err().to_string();
        assert!(error.contains("\"no-deadline\""), "{error}");
        assert!(defect("no-dead").is_err(), "in full");
    }

    #[test]
    fn seeds_are_as_many_as_is_said() {
        let drawn = |arguments: &[&str]| run(arguments).unwrap().drawn(77);
        assert_eq!(drawn(&[]), Seeds { first: 0, count: Some(100) });
        assert_eq!(drawn(&["--seed", "5"]), Seeds { first: 5, count: Some(1) });
        assert_eq!(drawn(&["--minutes", "1", "--fresh"]), Seeds { first: 77, count: None });
        assert_eq!(drawn(&["--minutes", "1", "--seeds", "3", "--first-seed", "9"]), Seeds { first: 9, count: Some(3) });
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        let wrong: [&[&str]; 6] = [
            &["--seed", "1", "--seeds", "2"],
            &["--choices", "calm", "--explore"],
            &["--limit", "3"],
            &["--minutes", "0"],
            &["--jobs", "0"],
            &["--fresh", "--first-seed", "3"],
        ];
        for arguments in wrong {
            assert!(run(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn a_wrong_list_of_choices_is_named() {
        assert_eq!(
            run(&["--scenario", "x", "--choices", "3=2"]).unwrap().schedule().unwrap().unwrap().to_string(),
            "3=2"
        );
        let error = run(&["--scenario", "x", "--choices", "no-such-file"]).unwrap().schedule().unwrap_err().to_string();
        assert!(error.contains("no-such-file"), "{error}");
    }
}
