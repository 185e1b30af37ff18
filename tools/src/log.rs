//! The log: lines on standard error, for people or for programs. Never per I/O.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSection};

/// Starts logging. Once per process; later calls change nothing.
pub fn start(section: &LogSection) {
    let filter = EnvFilter::try_new(&section.level).unwrap_or_else(|_| EnvFilter::new("info"));
    // A log that cannot be written (its reader is gone) is dropped: it must not end the target.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    // An error means that somebody has started a log before: it stays.
    let _ = match section.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.with_target(true).json().flatten_event(true).try_init(),
    };
}
