//! What connecting came to, for people and for programs (JSON).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::outcome::Outcome;
use super::settings::Settings;
use crate::arguments::End;
use crate::report::{Latency, Verification};

/// A whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    settings: ReportSettings,
    /// Associations that ended as they were to.
    lives: u64,
    /// Queue pairs of these that connected, the admin queues' included.
    queue_pair_lives: u64,
    elapsed_s: f64,
    lives_per_s: f64,
    ends: Ends,
    /// Commands that were outstanding when their association ended.
    commands_cut_off: u64,
    connect_us: Latency,
    disconnect_us: Latency,
    verification: Verification,
    failures: BTreeMap<&'static str, Failures>,
    was_stopped: bool,
}

#[derive(Debug, Serialize)]
struct ReportSettings {
    address: String,
    subsystem_nqn: String,
    queue_pairs: u16,
    io_depth: u16,
    io_size: usize,
    at_once: u16,
    end: End,
    verify: usize,
    cpus: Vec<usize>,
    seed: u64,
}

#[derive(Debug, Serialize)]
struct Ends {
    quiet: u64,
    abrupt: u64,
    early: u64,
}

#[derive(Debug, Serialize)]
struct Failures {
    count: u64,
    first: String,
}

impl Report {
    pub(super) fn new(settings: &Settings, elapsed: Duration, outcome: Outcome, was_stopped: bool) -> Self {
        let lives = outcome.life_count();
        let elapsed_s = elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let lives_per_s = lives as f64 / elapsed_s;
        let checks = outcome.checks;
        let failures = outcome.failures.into_iter().map(|(kind, (count, first))| (kind, Failures { count, first }));
        Self {
            settings: ReportSettings {
                address: settings.address.address.to_string(),
                subsystem_nqn: settings.address.subsystem_nqn.clone(),
                queue_pairs: settings.queue_count,
                io_depth: settings.io_depth,
                io_size: settings.io_len,
                at_once: settings.line_count,
                end: settings.end,
                verify: settings.verified_count,
                cpus: settings.cpus.clone(),
                seed: settings.seed,
            },
            lives,
            queue_pair_lives: outcome.connect_times.len() * (1 + u64::from(settings.queue_count)),
            elapsed_s,
            lives_per_s,
            ends: Ends { quiet: outcome.quiet_count, abrupt: outcome.abrupt_count, early: outcome.early_count },
            commands_cut_off: outcome.cut_off_count,
            connect_us: Latency::of(&outcome.connect_times),
            disconnect_us: Latency::of(&outcome.disconnect_times),
            verification: Verification {
                block_count: checks.block_count,
                mismatch_count: checks.mismatch_count,
                mismatches: checks.mismatches,
            },
            failures: failures.collect(),
            was_stopped,
        }
    }

    /// Whether any data was not as written.
    pub(super) fn has_mismatches(&self) -> bool {
        self.verification.mismatch_count > 0
    }

    /// Whether any association failed.
    pub(super) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// For programs.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is plain data")
    }

    /// For people.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let settings = &self.settings;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{} associations of {} queue pairs, {} at a time, {:.2} s: {:.1} connected and disconnected per second",
            self.lives,
            1 + settings.queue_pairs,
            settings.at_once,
            self.elapsed_s,
            self.lives_per_s,
        );
        let Ends { quiet, abrupt, early } = &self.ends;
        if settings.end != End::Quiet {
            let cut_off = self.commands_cut_off;
            let _ =
                writeln!(text, "ended: {quiet} quietly, {abrupt} abruptly ({cut_off} commands cut off), {early} early");
        }
        let _ = writeln!(
            text,
            "{:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "µs", "mean", "p50", "p90", "p99", "p99.9", "max"
        );
        for (name, times) in [("connect", &self.connect_us), ("disconnect", &self.disconnect_us)] {
            let Latency { mean, p50, p90, p99, p99_9, max } = times;
            let _ = writeln!(text, "{name:>10} {mean:>9.0} {p50:>9.0} {p90:>9.0} {p99:>9.0} {p99_9:>9.0} {max:>9.0}");
        }
        if settings.verify > 0 {
            text.push_str(&self.verification.to_text());
        }
        for (kind, Failures { count, first }) in &self.failures {
            let _ = writeln!(text, "{count} failed ({kind}), the first: {first}");
        }
        if self.was_stopped {
            let _ = writeln!(text, "stopped before it was done");
        }
        text
    }
}
