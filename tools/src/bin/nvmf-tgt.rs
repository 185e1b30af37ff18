//! `nvmf-tgt`: an NVMe over Fabrics target. See [`tools::daemon`].

use std::process::ExitCode;

use clap::Parser;
use tools::daemon::{self, Arguments};

fn main() -> ExitCode {
    match daemon::run(&Arguments::parse()) {
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
