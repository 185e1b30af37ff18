//! The programs around the target: configuration, control, logs, metrics.

pub mod config;
