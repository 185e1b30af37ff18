//! The log: lines on standard error, for people or for programs. Never per I/O.
//!
//! What is shown can be changed while the target runs. Call sites that are not shown stay as cheap as they were: the change goes to each
//! of them once.

use std::cell::RefCell;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{LogFormat, LogSection, log_filter};

/// What is shown.
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    /// As it was written.
    level: RefCell<String>,
}

impl Log {
    /// The level, or the filter.
    #[must_use]
    pub fn level(&self) -> String {
        self.level.borrow().clone()
    }

    /// Shows something else from now on. False if `level` is none, and nothing has changed.
    pub fn set_level(&self, level: &str) -> bool {
        let Some(filter) = log_filter(level) else { return false };
        // An error means that this log was not started: somebody has started another before.
        let _ = self.filter.reload(filter);
        self.level.replace(level.to_owned());
        true
    }
}

/// Starts logging. Once per process; later calls change nothing.
pub fn start(section: &LogSection) -> Log {
    let (filter, handle) = reload::Layer::new(log_filter(&section.level).unwrap_or_else(|| EnvFilter::new("info")));
    // A log that cannot be written (its reader is gone) is dropped: it must not end the target.
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).log_internal_errors(false);
    let lines = match section.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.with_target(true).json().flatten_event(true).boxed(),
    };
    // An error means that somebody has started a log before: it stays.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Log { filter: handle, level: RefCell::new(section.level.clone()) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A log that shows nothing, with the layer that must stay alive for it to be changed.
    pub(crate) fn detached() -> (Log, reload::Layer<EnvFilter, Registry>) {
        let (layer, handle) = reload::Layer::new(EnvFilter::new("info"));
        (Log { filter: handle, level: RefCell::new("info".to_owned()) }, layer)
    }

    #[test]
    fn what_is_shown_changes_with_the_level() {
        let (log, layer) = detached();
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            assert!(tracing::enabled!(tracing::Level::INFO) && !tracing::enabled!(tracing::Level::DEBUG));
            assert!(log.set_level("debug"));
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            assert!(!log.set_level("loud"));
            assert_eq!(log.level(), "debug");
            assert!(tracing::enabled!(tracing::Level::DEBUG));
        });
    }
}
