//! What is said while runs are made, on the standard error: a bar where that is a terminal, few lines where it is not.

use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::stopwatch::Stopwatch;

/// Between two lines where there is no terminal.
const LINE_INTERVAL_SECONDS: f64 = 30.0;

/// Between two changes of the bar.
const BAR_INTERVAL: Duration = Duration::from_millis(200);

/// See the module. Used from any thread.
pub struct Progress {
    watch: Stopwatch,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    /// When the last one was printed.
    Lines(Mutex<f64>),
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct State<'s> {
    /// What is done now.
    pub doing: &'s str,
    /// Runs made.
    pub run_count: u64,
    /// Queue pair lives in them, where that is counted meanwhile.
    pub life_count: Option<u64>,
    /// Runs that failed.
    pub failure_count: u64,
}

impl Progress {
    /// `run_count`: how many there will be, if that is known.
    #[must_use]
    pub fn begin(run_count: Option<u64>) -> Self {
        let shown = if stderr().is_terminal() {
            let template = if run_count.is_some() {
                "{elapsed_precise} {bar:24} {pos}/{len} {msg}"
            } else {
                "{elapsed_precise} {spinner} {pos} {msg}"
            };
            let bar = run_count.map_or_else(ProgressBar::no_length, ProgressBar::new);
            // The templates are constant, and the default style does where one were wrong.
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(BAR_INTERVAL);
            Shown::Bar(bar)
        } else {
            Shown::Lines(Mutex::new(0.0))
        };
        Self { watch: Stopwatch::start(), shown }
    }

    /// It has come so far.
    pub fn tell(&self, state: State<'_>) {
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_position(state.run_count);
                bar.set_message(self.words(state));
            }
            Shown::Lines(last) => {
                let seconds = self.watch.seconds();
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if seconds - *last >= LINE_INTERVAL_SECONDS {
                    *last = seconds;
                    eprintln!("{seconds:.0} s: {} runs, {}", state.run_count, self.words(state));
                }
            }
        }
    }

    /// Says something that is to stay.
    pub fn say(&self, line: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| eprintln!("{line}")),
            Shown::Lines(_) => eprintln!("{line}"),
        }
    }

    fn words(&self, state: State<'_>) -> String {
        let State { doing, life_count, failure_count, .. } = state;
        let lives = life_count.map_or_else(String::new, |life_count| {
            #[expect(clippy::cast_precision_loss, reason = "for a person")]
            let rate = life_count as f64 / self.watch.seconds().max(1e-3);
            format!(" {life_count} lives, {rate:.0} lives/s,")
        });
        format!("{doing},{lives} {failure_count} failed")
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}
