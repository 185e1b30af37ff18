//! `nvmf-tgt`: an NVMe over Fabrics target. See [`tools::daemon`].

use std::process::ExitCode;

use clap::Parser;
use tools::daemon::{self, Arguments};
use tools::in_words;

fn main() -> ExitCode {
    match daemon::run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nvmf-tgt: {}", in_words(&error));
            ExitCode::FAILURE
        }
    }
}
