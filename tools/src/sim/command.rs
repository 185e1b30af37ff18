//! The program: which scenarios and seeds are run, what is said meanwhile, and the exit status.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use super::run::{self, Origin};
use super::scenario::Scenario;
use super::scenarios;

/// Simulates NVMe over Fabrics targets and hosts, in every order that can be chosen, and says what goes wrong.
///
/// Exit status: 0 if nothing did, 1 if something did, 2 for a wrong command line.
#[derive(Debug, Parser)]
#[command(name = "nvmf-sim", version)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Lists the scenarios.
    List,
    /// Runs scenarios.
    Run {
        /// Runs of each scenario.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// Only this seed.
        #[arg(long)]
        seed: Option<u64>,
        /// Only this scenario.
        #[arg(long)]
        scenario: Option<String>,
    },
}

/// Does what it was asked for.
///
/// # Errors
/// If it was asked for something that is not there.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.task {
        Task::List => {
            for scenario in scenarios::all() {
                println!("{:<32} {}", scenario.name, scenario.about);
            }
            Ok(ExitCode::SUCCESS)
        }
        Task::Run { seeds, seed, scenario } => {
            let chosen = chosen(scenario.as_deref())?;
            let seeds = seed.map_or(0..*seeds, |seed| seed..seed + 1);
            #[expect(clippy::disallowed_methods, reason = "how long it took is told to a person, and decides nothing")]
            let began = Instant::now();
            let mut lives = 0;
            for scenario in &chosen {
                for seed in seeds.clone() {
                    let outcome = run::play(scenario, &Origin::Seed(seed));
                    lives += outcome.tally.life_count;
                    if let Some(failure) = outcome.failure {
                        println!("{} --seed {seed}: {failure}", scenario.name);
                        for line in run::watch(scenario, &Origin::Seed(seed)).lines {
                            println!("{line}");
                        }
                        return Ok(ExitCode::FAILURE);
                    }
                }
            }
            println!("{lives} queue pair lives in {:.1} s", began.elapsed().as_secs_f64());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn chosen(name: Option<&str>) -> Result<Vec<Scenario>> {
    let all = scenarios::all();
    let Some(name) = name else { return Ok(all) };
    match all.iter().find(|scenario| scenario.name == name) {
        Some(scenario) => Ok(vec![*scenario]),
        None => bail!("there is no scenario {name:?}; `nvmf-sim list` lists them"),
    }
}
