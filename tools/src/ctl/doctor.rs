//! `nvmf-ctl doctor`: what on this machine keeps a target from running, or from running well.
//!
//! A check looks at a [`Machine`] and, where a configuration is given, at what that asks for, and comes to findings: what it found, why it matters, and the command that mends it.

mod checks;
mod machine;
mod rdma;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use super::answer::{Answer, cell};
use super::trouble::Trouble;
use crate::config::Config;
use machine::Machine;

/// What is looked at.
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// What this configuration asks for: its CPUs, memory, files, devices, addresses.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// A target runs, and could run better.
    Warning,
    /// A target does not run, or hosts do not reach it.
    Problem,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    finding: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, finding: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, finding: finding.into(), why: None, fix: None }
    }

    fn warning(check: &'static str, finding: impl Into<String>, why: &'static str, fix: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, finding: finding.into(), why: Some(why), fix: Some(fix.into()) }
    }

    fn problem(check: &'static str, finding: impl Into<String>, why: &'static str, fix: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::warning(check, finding, why, fix) }
    }
}

impl Doctor {
    pub(super) fn perform(&self, socket: Option<&Path>) -> Result<Answer, Trouble> {
        let machine = Machine::this(socket);
        let config = match &self.config {
            None => None,
            Some(path) => {
                let read = Config::load(path, &machine.cpus_allowed());
                Some(read.map_err(|error| Trouble::Refused(error.to_string()))?)
            }
        };
        let findings = examine(&machine, config.as_ref());
        let json = serde_json::to_value(&findings).map_err(|error| Trouble::Refused(error.to_string()))?;
        let has_problem = findings.iter().any(|finding| finding.level == Level::Problem);
        Ok(Answer { has_problem, ..Answer::new(json, show(&findings)) })
    }
}

fn examine(machine: &Machine, config: Option<&Config>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(checks::hugepages(machine, config));
    findings.extend(checks::memlock(machine));
    findings.extend(checks::cpus(machine, config));
    findings.extend(rdma::devices(machine, config));
    findings.extend(checks::firewall(machine, config));
    findings.extend(checks::io_uring(machine));
    findings.extend(checks::files(machine, config));
    findings.push(checks::socket(machine));
    findings
}

fn show(findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let mark = match finding.level {
            Level::Ok => "ok     ",
            Level::Warning => "WARN   ",
            Level::Problem => "PROBLEM",
        };
        lines.push(format!("{mark}  {:<12}  {}", finding.check, cell(&json!(finding.finding))));
        lines.extend(finding.why.map(|why| format!("{:23}why: {why}", "")));
        lines.extend(finding.fix.iter().map(|fix| format!("{:23}fix: {}", "", cell(&json!(fix)))));
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let counted = |level, word| match count(level) {
        1 => format!("1 {word}"),
        many => format!("{many} {word}s"),
    };
    lines.push(format!("\n{}, {}", counted(Level::Problem, "problem"), counted(Level::Warning, "warning")));
    lines.join("\n")
}

#[cfg(test)]
mod tests;
