//! `nvmf-tgt`: an NVMe over Fabrics target. One configuration file, one process; SIGTERM drains and ends it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tools::config::Config;
use tools::target::Signals;
use tools::{log, machine, target};

/// Serves block devices to NVMe over Fabrics hosts, over RDMA or the software fabric.
///
/// SIGTERM, SIGINT and SIGHUP drain and end it (exit status 0); a second one ends it at once (1). What keeps it from starting is said on standard
/// error (1).
#[derive(Debug, Parser)]
#[command(name = "nvmf-tgt", version)]
struct Arguments {
    /// The configuration file (TOML); docs/CONFIGURATION.md describes it, examples/demo.toml is one.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,

    /// Only checks the configuration: nothing is opened or started.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nvmf-tgt: {}", in_words(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, each told once: most say their cause themselves.
fn in_words(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        _ if said.contains(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}

fn run(arguments: &Arguments) -> Result<()> {
    let config = Config::load(&arguments.config, &machine::cpus_allowed())?;
    if arguments.check {
        println!("{}: ok", arguments.config.display());
        return Ok(());
    }
    // Before the first thread: threads inherit what is blocked.
    let signals = Signals::block().context("signals")?;
    let log = log::start(&config.log);
    target::run(&config, signals, log)
}
