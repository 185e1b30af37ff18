//! `nvmf-sim`: see [`tools::sim`].

use std::process::ExitCode;

use clap::Parser;
use tools::sim::arguments::Arguments;
use tools::sim::command;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    command::run(&arguments).unwrap_or_else(|error| {
        eprintln!("nvmf-sim: {error:#}");
        ExitCode::from(2)
    })
}
