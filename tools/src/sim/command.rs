//! The program: what is done, in which order, what is printed, and the exit status.

use std::fmt;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::arguments::{self, Arguments, DefectsArguments, ListArguments, RunArguments, Seeds, Task};
use super::defects;
use super::explore::{self, Bounds, Totals};
use super::progress::{Progress, State};
use super::report::{self, Report};
use super::run::{self, Origin};
use super::scenario::Scenario;
use super::scenarios;
use super::schedule::Schedule;
use super::stopwatch::{self, Stopwatch};
use super::summary::{Row, Summary};
use super::trials::{Found, Plan};
use super::watchdog::Watchdog;

/// Does what it was asked for.
///
/// # Errors
/// If it was asked for something that is not there.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.task {
        Task::List(list) => print_list(list),
        Task::Run(run) => {
            if let Some(name) = &run.defect {
                defects::inject(Some(arguments::defect(name)?))?;
            }
            Command::new(run)?.carry_out()
        }
        Task::Defects(arguments) => try_defects(arguments),
    }
}

fn print_list(list: &ListArguments) -> Result<ExitCode> {
    let chosen = arguments::chosen(&scenarios::all(), scenarios::on_purpose(), &list.scenarios)?;
    if list.json {
        let row = |scenario: &Scenario| json!({ "scenario": scenario.name, "about": scenario.about, "entries": scenario.entries });
        print_json(&chosen.iter().map(row).collect());
        return Ok(ExitCode::SUCCESS);
    }
    let width = chosen.iter().map(|scenario| scenario.name.len()).max().unwrap_or(0);
    for Scenario { name, about, entries, .. } in chosen {
        let entries = if entries.is_empty() { String::new() } else { format!(" ({})", entries.join(", ")) };
        print(format!("{name:<width$}  {about}{entries}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn try_defects(arguments: &DefectsArguments) -> Result<ExitCode> {
    let meant = arguments::chosen_defects(&arguments.only)?;
    let patience = arguments.patience;
    let _watchdog = Watchdog::start(Duration::from_secs_f64(patience), move |scenario, origin| {
        print(report::endless(scenario, origin, patience));
        process::exit(1);
    });
    let search = defects::Search {
        defects: &meant,
        scenarios: &scenarios::all(),
        seeds: Seeds { first: arguments.first_seed, count: Some(arguments.seeds) },
        tries_all: arguments.all,
        job_count: arguments::job_count(arguments.jobs),
    };
    let searched = search.carry_out()?;
    if arguments.json {
        print_json(&searched.json());
    } else {
        print(&searched);
    }
    Ok(if searched.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `nvmf-sim run`.
struct Command<'c> {
    arguments: &'c RunArguments,
    scenarios: Vec<Scenario>,
    schedule: Option<Schedule>,
    seeds: Seeds,
    watch: Stopwatch,
}

impl<'c> Command<'c> {
    fn new(arguments: &'c RunArguments) -> Result<Self> {
        let scenarios = arguments::chosen(&scenarios::all(), scenarios::on_purpose(), &arguments.scenarios)?;
        let schedule = arguments.schedule()?;
        if schedule.is_some() && scenarios.len() != 1 {
            let count = scenarios.len();
            bail!("--choices are those of one scenario, and {count} are meant: name it with --scenario");
        }
        let seeds = arguments.drawn(stopwatch::fresh_seed());
        Ok(Self { arguments, scenarios, schedule, seeds, watch: Stopwatch::start() })
    }

    fn carry_out(&self) -> Result<ExitCode> {
        let patience = self.arguments.patience;
        let _watchdog = Watchdog::start(Duration::from_secs_f64(patience), move |scenario, origin| {
            print(report::endless(scenario, origin, patience));
            process::exit(1);
        });
        let (rows, found) = if let Some(schedule) = &self.schedule {
            self.play_listed(schedule)
        } else if self.arguments.explore {
            self.explore()
        } else {
            self.draw()
        };
        let job_count = self.arguments.job_count().get();
        let summary = Summary { rows, seconds: self.watch.seconds(), job_count };
        let has_failed = !found.is_empty();
        self.tell(&summary, found);
        Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn draw(&self) -> (Vec<Row>, Vec<Found>) {
        let plan = Plan {
            scenarios: &self.scenarios,
            seeds: self.seeds,
            seconds: self.seconds(),
            keeps_going: self.arguments.keep_going,
            job_count: self.arguments.job_count(),
        };
        let progress = Progress::begin(plan.run_count());
        if self.arguments.fresh {
            progress.say(&format!("fresh seeds: --first-seed {}", self.seeds.first));
        }
        plan.carry_out(&progress)
    }

    fn play_listed(&self, schedule: &Schedule) -> (Vec<Row>, Vec<Found>) {
        let (scenario, origin) = (self.scenarios[0], Origin::from(schedule));
        let watch = Stopwatch::start();
        let outcome = run::play(&scenario, &origin);
        let mut row = Row::new(scenario.name);
        (row.run_count, row.totals, row.busy_seconds) = (1, Totals::of(&outcome), watch.seconds());
        let found: Vec<_> = outcome.failure.map(|failure| Found { scenario, origin, failure }).into_iter().collect();
        row.failure_count = found.len() as u64;
        (vec![row], found)
    }

    fn explore(&self) -> (Vec<Row>, Vec<Found>) {
        let arguments = self.arguments;
        let progress = Progress::begin(None);
        let (mut rows, mut found) = (Vec::new(), Vec::new());
        for scenario in &self.scenarios {
            let watch = Stopwatch::start();
            let bounds = Bounds {
                deviation_count: arguments.deviations,
                run_count: arguments.limit,
                seconds: self.seconds().map(|seconds| (seconds - self.watch.seconds()).max(0.0)),
                kinds: arguments.kinds.clone(),
                job_count: arguments.job_count(),
            };
            let failure_count = found.len() as u64;
            let explored = explore::explore(scenario, &bounds, |run_count| {
                progress.tell(State { doing: scenario.name, run_count, life_count: None, failure_count });
            });
            let mut row = Row::new(scenario.name);
            row.explored = Some(explored.to_string());
            row.run_count = explored.levels.iter().map(|level| level.run_count).sum();
            row.totals = explored.totals;
            // All threads are at it until its end.
            row.busy_seconds = watch.seconds() * f64::from(u32::try_from(bounds.job_count.get()).unwrap_or(u32::MAX));
            if let Some((schedule, failure)) = explored.found {
                row.failure_count = 1;
                progress.say(&format!("{}: {}", scenario.name, failure.headline()));
                found.push(Found { scenario: *scenario, origin: Origin::from(&schedule), failure });
            }
            rows.push(row);
            if !found.is_empty() && !arguments.keep_going {
                break;
            }
        }
        (rows, found)
    }

    /// Prints what was done and what was found: of each scenario's failing runs the first in full, the others by their commands.
    fn tell(&self, summary: &Summary, found: Vec<Found>) {
        let (mut told, mut named): (Vec<Found>, Vec<Found>) = (Vec::new(), Vec::new());
        for found in found {
            let is_told = told.iter().any(|other| other.scenario.name == found.scenario.name);
            if is_told { named.push(found) } else { told.push(found) }
        }
        let failing: Vec<_> = told.iter().map(|found| found.scenario.name).collect();
        let reports: Vec<_> = told.into_iter().map(|found| Report::new(found, !self.arguments.no_shrink)).collect();
        if self.arguments.json {
            let brief = |found: &Found| {
                json!({
                    "scenario": found.scenario.name,
                    "found_by": found.failure.found_by,
                    "what": found.failure.what,
                    "replay": report::replay(found.scenario.name, &found.origin),
                })
            };
            return print_json(&json!({
                "found": !reports.is_empty(),
                "first_seed": self.seeds.first,
                "seconds": summary.seconds,
                "threads": summary.job_count,
                "scenarios": summary.rows.iter().map(Row::json).collect::<Vec<_>>(),
                "failures": reports.iter().map(Report::json).collect::<Vec<_>>(),
                "more_failures": named.iter().map(brief).collect::<Vec<_>>(),
            }));
        }
        if self.arguments.trace {
            for scenario in self.scenarios.iter().filter(|scenario| !failing.contains(&scenario.name)) {
                self.print_trace(scenario);
            }
        }
        print(summary);
        reports.iter().for_each(print);
        for Found { scenario, origin, failure } in named {
            print(format!("failed too: {} ({})", report::replay(scenario.name, &origin), failure.found_by));
        }
        print(if reports.is_empty() { "nothing wrong" } else { "FAILED" });
    }

    fn print_trace(&self, scenario: &Scenario) {
        let origin = match &self.schedule {
            Some(schedule) => Origin::from(schedule),
            None if self.arguments.explore => Origin::from(&Schedule::default()),
            None => Origin::Seed(self.seeds.first),
        };
        let watched = run::watch(scenario, &origin);
        print(format!(
            "{} {origin}: {} choices{}",
            scenario.name,
            watched.choices.len(),
            report::trace(&watched.lines)
        ));
    }

    fn seconds(&self) -> Option<f64> {
        self.arguments.minutes.map(|minutes| minutes * 60.0)
    }
}

fn print_json(value: &Value) {
    print(format!("{value:#}"));
}

/// Whoever reads may have had enough: that is no failure.
fn print(text: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}
