//! Calls that are performed one after the other, each when the one before is done: a file that was read again, or one that the target starts with.

use std::collections::VecDeque;

use nvmf_core::ChangeId;
use reactor::Turn;
use transport_rdma::target::Message;
use transport_rdma::verbs::Provider;

use super::desk::Desk;
use crate::config::{Config, Step};
use crate::rpc::{Outcome, methods};

/// See the module.
pub(super) struct Script {
    steps: VecDeque<Step>,
    /// The one that is being done, and where it is in the order.
    current: String,
    count: usize,
    /// What has to be done before the next.
    waits: Vec<ChangeId>,
    /// Is done when all are.
    change: ChangeId,
    /// What the target counts as started with then.
    started: Option<Box<Config>>,
}

impl Script {
    pub(super) fn new(steps: Vec<Step>, change: ChangeId, started: Option<Box<Config>>) -> Self {
        Self { steps: steps.into(), current: String::new(), count: 0, waits: Vec::new(), change, started }
    }
}

impl<P: Provider> Desk<P> {
    /// Performs calls until one takes time. True if the last of them is done, or one came to nothing.
    pub(super) fn run_script(&mut self, turn: &mut Turn<'_, Message<P>>) -> bool {
        loop {
            let Some(script) = self.script.as_mut().filter(|script| script.waits.is_empty()) else { return false };
            let Some(step) = script.steps.pop_front() else {
                self.end_script(turn, Ok(()));
                return true;
            };
            script.count += 1;
            script.current = step.method.to_string();
            let outcome = self.with_view(turn, |view| methods::perform(view, &step.method, Some(&step.params)));
            let waits = match outcome {
                Ok(Outcome::Done(_)) => Vec::new(),
                Ok(Outcome::Begun(change, _)) => vec![change],
                Ok(Outcome::SeveralBegun(changes, _)) => changes,
                Err(error) => {
                    self.end_script(turn, Err(error.message));
                    return true;
                }
            };
            if let Some(script) = &mut self.script {
                script.waits = waits;
            }
        }
    }

    /// A change is done that the script may wait for.
    pub(super) fn note_for_script(&mut self, turn: &mut Turn<'_, Message<P>>, change: ChangeId, failure: Option<&str>) {
        let Some(script) = self.script.as_mut().filter(|script| script.waits.contains(&change)) else { return };
        script.waits.retain(|waited| *waited != change);
        if let Some(why) = failure {
            self.end_script(turn, Err(why.to_owned()));
        }
    }

    fn end_script(&mut self, turn: &mut Turn<'_, Message<P>>, result: Result<(), String>) {
        let Some(script) = self.script.take() else { return };
        let result = match result {
            Ok(()) => {
                if let Some(started) = script.started {
                    self.asked.start_anew(*started);
                }
                Ok(())
            }
            Err(why) => {
                let rest = script.steps.len();
                let (count, method) = (script.count, script.current);
                Err(format!("call {count} ({method}): {why}; those before it are done, {rest} after it are not"))
            }
        };
        self.control.work_done(turn, script.change, result);
    }
}
