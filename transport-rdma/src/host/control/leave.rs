//! The end of an association that did what it was for: I/O queues end first, then the controller shuts down, and then the admin queue ends
//! [NVMe Base 2.0, 3.6.2].
//!
//! It is a courtesy with a time limit. Whatever goes wrong on the way, the end goes on without it; what goes wrong with I/O queues that end is no news.

use reactor::{Cpu, Turn};

use crate::host::control::device::Device;
use crate::host::control::{HostControl, Phase, TIMER_SHUTDOWN};
use crate::host::error::HostFailure;
use crate::host::link::Stage;
use crate::host::message::{Kind, Message};
use crate::verbs::Provider;

impl<P: Provider> HostControl<P> {
    /// The workloads want nothing more.
    pub(super) fn take_leave(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let timeout_ms = self.options.shutdown_timeout_ms;
        if timeout_ms == 0 || self.device == Device::Removed {
            return self.begin_end(turn);
        }
        self.phase = Phase::TakingLeave { is_told: false };
        self.timers.push(turn.arm(turn.now_ns() + timeout_ms * 1_000_000, TIMER_SHUTDOWN));
        let io: Vec<_> = self.links.iter().filter(|(_, link)| link.qid > 0).map(|(handle, _)| handle).collect();
        for handle in io {
            self.close(turn, handle);
        }
        self.tell_controller(turn);
    }

    /// As soon as the I/O queues have ended.
    pub(super) fn tell_controller(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let Phase::TakingLeave { is_told: is_told @ false } = &mut self.phase else { return };
        let is_gone = |stage: &Option<Stage>| matches!(stage, Some(Stage::Quarantined(_)));
        if self.links.iter().all(|(_, link)| link.qid == 0 || is_gone(&link.stage)) {
            *is_told = true;
            turn.send(Cpu(0), Message(Kind::ShutDown));
        }
    }

    /// The controller has shut down, or will not.
    pub(super) fn leave_taken(&mut self, turn: &mut Turn<'_, Message<P>>) {
        if matches!(self.phase, Phase::TakingLeave { .. }) {
            self.begin_end(turn);
        }
    }

    pub(super) fn leave_takes_too_long(&mut self, turn: &mut Turn<'_, Message<P>>) {
        if let Phase::TakingLeave { is_told } = self.phase {
            let limit_ms = self.options.shutdown_timeout_ms;
            tracing::warn!(
                limit_ms,
                is_told,
                "the controller has not shut down in time: its connection ends without it"
            );
            self.begin_end(turn);
        }
    }

    /// A queue cannot go on.
    pub(super) fn fault(&mut self, turn: &mut Turn<'_, Message<P>>, failure: HostFailure) {
        if !self.is_expected(failure.qid()) {
            self.fail(turn, failure);
        }
    }

    /// Whether the end of this queue is one that this side has begun.
    fn is_expected(&self, qid: Option<u16>) -> bool {
        matches!(self.phase, Phase::TakingLeave { .. }) && qid.is_some_and(|qid| qid > 0)
    }
}
