//! Failed commands go to the error log of their controller: at once where it lives here, else by message, one at a time for each qpair.

use reactor::{Cpu, Handle, Turn};

use super::PollGroup;
use crate::failure::Failure;
use crate::membership::Remote;
use crate::message::{Letter, Message};
use crate::qpair::Stage;
use crate::trace::{Step, failed_command};
use crate::{ControllerKind, Qpair};

impl PollGroup {
    /// What has failed in this turn is reported.
    pub(super) fn report_failures<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>) {
        let mut failures = std::mem::take(&mut self.failures);
        for (handle, failure) in failures.drain(..) {
            let Some(qpair) = self.qpairs.look_mut(handle) else { continue };
            let told = failed_command(failure.command_id, failure.status);
            Step::CommandFailed.note(turn, handle.to_bits(), told);
            match &qpair.stage {
                Stage::Admin { controller } => {
                    let controller = *controller;
                    self.note_failure(controller, failure, 1);
                }
                Stage::Io { lease } => {
                    let controller = lease.controller();
                    if controller.cpu == self.cpu {
                        self.note_failure(controller.handle, failure, 1);
                    } else if let Some(report) = qpair.failures.failed(failure) {
                        self.send_failure(turn, controller, handle, report);
                    }
                }
                // A Connect that was refused has no controller whose log it could be in.
                Stage::AwaitingConnect { .. } | Stage::Connecting { .. } | Stage::Draining { .. } => {}
            }
        }
        self.failures = failures;
    }

    /// On the controller's CPU: a member's report.
    pub(super) fn take_failure_in<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        controller: Handle<ControllerKind>,
        qpair: Remote<Qpair>,
        (failure, count): (Failure, u64),
    ) {
        self.note_failure(controller, failure, count);
        turn.send(qpair.cpu, Message(Letter::FailureTaken { qpair: qpair.handle }).into());
    }

    /// On the member's CPU: its report was taken in.
    pub(super) fn failure_was_taken<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, handle: Handle<Qpair>) {
        // A qpair that is gone or drains has nothing to report any more.
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let Stage::Io { lease } = &qpair.stage else { return };
        let controller = lease.controller();
        if let Some(report) = qpair.failures.taken_in() {
            self.send_failure(turn, controller, handle, report);
        }
    }

    fn note_failure(&mut self, controller: Handle<ControllerKind>, failure: Failure, count: u64) {
        if let Some(controller) = self.controllers.look_mut(controller) {
            controller.failed(failure, count);
        }
    }

    fn send_failure<M: From<Message>>(
        &self,
        turn: &mut Turn<'_, M>,
        controller: Remote<ControllerKind>,
        handle: Handle<Qpair>,
        report: (Failure, u64),
    ) {
        let here: Cpu = self.cpu;
        let letter = Letter::Failed { controller: controller.handle, qpair: Remote { cpu: here, handle }, report };
        turn.send(controller.cpu, Message(letter).into());
    }
}
