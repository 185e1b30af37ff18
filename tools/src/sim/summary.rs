//! What all runs did: a table for people, rows for machines.

use std::fmt;

use serde_json::{Value, json};

use super::explore::{Explored, Totals};
use super::repeat::Same;

/// What the runs of one scenario did.
#[derive(Clone, Debug)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static str,
    /// Runs.
    pub run_count: u64,
    /// Those that failed.
    pub failure_count: u64,
    /// Sums over those that did not.
    pub totals: Totals,
    /// Real time, of all threads together.
    pub busy_seconds: f64,
    /// What its first run was, each time.
    pub same: Option<Same>,
    /// How far its exploration came.
    pub explored: Option<String>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Summary {
    /// By scenario, in the order of the list.
    pub rows: Vec<Row>,
    /// Real time.
    pub seconds: f64,
    /// Threads.
    pub job_count: usize,
}

impl Row {
    /// No runs yet.
    #[must_use]
    pub fn new(scenario: &'static str) -> Self {
        let (run_count, failure_count, totals) = (0, 0, Totals::default());
        Self { scenario, run_count, failure_count, totals, busy_seconds: 0.0, same: None, explored: None }
    }

    /// For machines.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "runs": self.run_count,
            "failures": self.failure_count,
            "steps": self.totals.step_count,
            "lives": self.totals.life_count,
            "virtual_ns": self.totals.virtual_ns,
            "busy_seconds": self.busy_seconds,
            "lives_per_busy_second": rate(self.totals.life_count, self.busy_seconds),
            "first_run": self.same.map(|same| json!({
                "choices": same.choice_count,
                "digest": format!("{:016x}", same.digest),
            })),
            "explored": self.explored,
        })
    }
}

impl Summary {
    /// Sums of all scenarios.
    #[must_use]
    pub fn sum(&self) -> Row {
        let mut sum = Row::new("all");
        for row in &self.rows {
            sum.run_count += row.run_count;
            sum.failure_count += row.failure_count;
            sum.totals.add(row.totals);
            sum.busy_seconds += row.busy_seconds;
        }
        sum
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self.sum();
        let width = self.rows.iter().map(|row| row.scenario.len()).max().unwrap_or(0).max("scenario".len());
        let titles = ["runs", "failed", "steps", "lives", "virtual s", "busy s", "lives/s"];
        write!(f, "{:<width$}", "scenario")?;
        titles.iter().try_for_each(|title| write!(f, " {title:>10}"))?;
        writeln!(f)?;
        for row in self.rows.iter().chain((self.rows.len() > 1).then_some(&sum)) {
            let Row { scenario, run_count, failure_count, totals, busy_seconds, .. } = row;
            let Totals { step_count, life_count, virtual_ns } = *totals;
            let lives_rate = rate(life_count, *busy_seconds);
            write!(f, "{scenario:<width$} {run_count:>10} {failure_count:>10} {step_count:>10} {life_count:>10}")?;
            writeln!(f, " {:>10.1} {busy_seconds:>10.1} {lives_rate:>10.0}", seconds(virtual_ns))?;
        }
        let Totals { life_count, .. } = sum.totals;
        let (threads, rate) = (self.job_count, rate(life_count, self.seconds));
        let s = if threads == 1 { "" } else { "s" };
        writeln!(
            f,
            "{life_count} queue pair lives in {:.1} s on {threads} thread{s}: {rate:.0} lives/s",
            self.seconds
        )?;
        for (scenario, explored) in self.rows.iter().filter_map(|row| Some((row.scenario, row.explored.as_ref()?))) {
            write!(f, "\n{scenario}: {explored}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (places, window) = (self.place_count, self.window_count);
        writeln!(f, "the calm run makes {window} choices in its window; it can be left in {places} ways")?;
        for level in self.levels.iter().skip(1) {
            let (count, runs) = (level.deviation_count, level.run_count);
            let s = if count == 1 { "" } else { "s" };
            match (level.cut_by, &self.found) {
                (Some(cut_by), _) => writeln!(f, "  {count} choice{s}: {runs} runs, cut by {cut_by}: NOT exhaustive")?,
                (None, Some(_)) if level == &self.levels[self.levels.len() - 1] => {
                    writeln!(f, "  {count} choice{s}: {runs} runs until one failed")?;
                }
                (None, _) => writeln!(f, "  {count} choice{s}: all {runs} runs")?,
            }
        }
        Ok(())
    }
}

fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "for a person")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(1e-6)
}
