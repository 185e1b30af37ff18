//! `nvmf-perf connect`: whole associations, one after the other and several at a time: how fast they come and go, and whether all of them do.
//!
//! | part | what it is |
//! |---|---|
//! | `settings` | what is to be done, checked |
//! | `line` | one host that stays, and its associations one after the other |
//! | `association` | what is done in each, on the line's polling CPU |
//! | `plan` | which comes next, and when |
//! | `outcome`, `report` | what it came to |

mod settings;

mod line;

mod association;

mod plan;

mod report;

mod outcome;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use transport_rdma::soft::shared::SharedProvider;

use self::line::Line;
use self::outcome::Outcome;
use self::plan::Plan;
use self::report::Report;
pub(crate) use self::settings::Settings;
use crate::fabric::{Chosen, Fabric};
use crate::signal;

/// How often the progress bar is drawn, and the end looked for.
const DRAW_PERIOD: Duration = Duration::from_millis(20);

/// What connecting came to: text, JSON, exit status.
pub(crate) struct Finished {
    pub(crate) text: String,
    pub(crate) json: String,
    pub(crate) code: ExitCode,
}

/// Has the associations.
pub(crate) fn perform(settings: &Arc<Settings>, shows_progress: bool) -> anyhow::Result<Finished> {
    match settings.fabric {
        Chosen::Soft => perform_over::<SharedProvider>(settings, shows_progress),
        #[cfg(feature = "ibv")]
        Chosen::Ibv => perform_over::<transport_rdma::ibv::IbvProvider>(settings, shows_progress),
    }
}

fn perform_over<P: Fabric>(settings: &Arc<Settings>, shows_progress: bool) -> anyhow::Result<Finished> {
    let plan = Arc::new(Plan::new(settings));
    let mut lines = Vec::new();
    for number in 0..settings.line_count {
        let line = Line::<P>::new(Arc::clone(settings), number);
        let plan = Arc::clone(&plan);
        let thread = thread::Builder::new().name(format!("line-{number}"));
        lines.push(thread.spawn(move || {
            let outcome = line.run(&plan);
            if outcome.is_err() {
                plan.stop();
            }
            outcome
        })?);
    }
    watch(&plan, shows_progress, || lines.iter().all(thread::JoinHandle::is_finished));
    let elapsed = plan.last_ended();

    let mut total = Outcome::new();
    for line in lines {
        match line.join() {
            Ok(outcome) => total.add(outcome?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    if let Some(refused) = total.refused {
        bail!("{refused}");
    }
    // Nothing to report but this.
    if let (0, false, Some((_, why))) = (total.life_count(), settings.continue_on_error, total.failures.values().next())
    {
        bail!("{why}");
    }
    let was_stopped = signal::count() > 0;
    let report = Report::new(settings, elapsed, total, was_stopped);
    let is_good = !report.has_mismatches() && (settings.continue_on_error || !report.has_failures());
    let code = match (was_stopped, is_good) {
        (_, false) => ExitCode::FAILURE,
        (true, true) => ExitCode::from(signal::EXIT_INTERRUPTED),
        (false, true) => ExitCode::SUCCESS,
    };
    Ok(Finished { text: report.to_text(), json: report.to_json(), code })
}

fn watch(plan: &Plan, shows_progress: bool, is_over: impl Fn() -> bool) {
    let bar = if shows_progress && std::io::stderr().is_terminal() {
        let style = ProgressStyle::with_template("{bar:32} {percent:>3}%  {msg}").expect("the template is valid");
        ProgressBar::new(1000).with_style(style.progress_chars("=> "))
    } else {
        ProgressBar::hidden()
    };
    while !is_over() {
        thread::park_timeout(DRAW_PERIOD);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
        bar.set_position((plan.share() * 1000.0) as u64);
        bar.set_message(format!("{} associations", plan.ended_count()));
    }
    bar.finish_and_clear();
}
