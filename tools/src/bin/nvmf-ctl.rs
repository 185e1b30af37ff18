//! `nvmf-ctl`: commands for people, over a target's JSON-RPC socket. All of it is in [`tools::ctl`].

use std::process::ExitCode;

use clap::Parser;
use tools::ctl::{self, Arguments};

fn main() -> ExitCode {
    ctl::run(&Arguments::parse())
}
