//! What a command may end with, and what follows from how it did.

use super::RawHost;
use super::nvme::status;
use super::queue::{Aim, Memo, Second, Sent};
use crate::sim::host::model::{Swap, Write};

impl RawHost {
    /// Whether this command can end with this status.
    pub(super) fn can_end_with(&self, place: usize, sent: &Sent, memo: Memo, status: u16) -> bool {
        if memo.is_aborted && status != status::ABORT_REQUESTED {
            return false;
        }
        match sent {
            Sent::Write(_) | Sent::Zeroes(_) => {
                self.is_fault(status, status::WRITE_FAULT) || self.is_right(sent, memo, true, status)
            }
            Sent::Flush(_) => self.is_right(sent, memo, true, status),
            Sent::Read(_) => self.is_fault(status, status::READ_ERROR) || self.is_right(sent, memo, false, status),
            Sent::Compare(_, second) => match status {
                status::COMPARE_FAILURE => true,
                status::FUSED_FAILED => self.may_be_disturbed(place, *second, sent),
                _ => self.is_fault(status, status::READ_ERROR) || self.is_right(sent, memo, false, status),
            },
            Sent::Swap(_) => match status {
                status::SUCCESS => memo.first == Some(status::SUCCESS) && self.is_right(sent, memo, true, status),
                // The first was aborted before this one came.
                status::FUSED_MISSING => memo.first == Some(status::ABORT_REQUESTED),
                status::FUSED_FAILED => memo.first.is_none_or(|first| first != status::SUCCESS),
                _ => self.is_fault(status, status::WRITE_FAULT) || self.is_right(sent, memo, true, status),
            },
            Sent::WrongSgl => matches!(status, status::SUCCESS | status::SGL_TYPE_INVALID),
            // What it is refused for depends on who else is there; scenarios look at it.
            Sent::Connect
            | Sent::EventRequest
            | Sent::Claim(..)
            | Sent::Look
            | Sent::Abort(_)
            | Sent::WrongKey
            | Sent::Anything => true,
            Sent::Enable | Sent::Status | Sent::QueueCount | Sent::Identify | Sent::KeepAlive | Sent::ShutDown => {
                status == status::SUCCESS
            }
        }
    }

    fn is_fault(&self, status: u16, fault: u16) -> bool {
        status == fault && self.devices.iter().any(|device| device.failed_count() > 0)
    }

    fn is_right(&self, sent: &Sent, memo: Memo, is_write: bool, status: u16) -> bool {
        let is_allowed = |nsid| self.law.allows(self.number, nsid, memo.since, is_write, status);
        (status == status::ABORT_REQUESTED && memo.abort_count > 0) || sent.nsid().is_some_and(is_allowed)
    }

    /// Whether the second command of a pair may have ended before the first: it was to be aborted, or something changes.
    fn may_be_disturbed(&self, place: usize, second: Second, sent: &Sent) -> bool {
        let Some(queue) = &self.queues[place] else { return true };
        let slot = &queue.slots[second.slot];
        let was_aborted = if slot.sent.is_some() && slot.number == second.number {
            slot.memo.abort_count > 0
        } else {
            // It has ended; where its place has had others since, how is not known any more.
            slot.ended.is_none_or(|ended| ended.number != second.number || ended.abort_count > 0)
        };
        was_aborted || sent.nsid().is_some_and(|nsid| self.law.now(self.number, nsid).writes != [status::SUCCESS])
    }

    /// A write that was answered with an error.
    pub(super) fn write_failed(&mut self, write: Write, status: u16) {
        // What the medium fails may have been done; whatever else is said was said before anything was.
        if status == status::WRITE_FAULT {
            return self.model.fail(write);
        }
        if let Err(what) = self.model.refuse(write) {
            self.findings.report("data", format!("{}: ended with {status:#x}: {what}", self.name));
        }
    }

    /// The first of a pair has ended.
    pub(super) fn compared(&mut self, place: usize, second: Second, status: u16) {
        let Some(queue) = &mut self.queues[place] else { return };
        let slot = &mut queue.slots[second.slot];
        if slot.sent.is_some() && slot.number == second.number {
            slot.memo.first = Some(status);
        }
    }

    /// The second of a pair has.
    pub(super) fn swapped(&mut self, place: usize, swap: Swap, _memo: Memo, status: u16) {
        if status == status::SUCCESS {
            self.observe().swap_count += 1;
            let outcome = self.model.acknowledge_swap(swap);
            return self.report(place, outcome);
        }
        self.write_failed(swap.write, status);
    }

    /// An Abort was answered.
    pub(super) fn abort_answered(&mut self, place: usize, aim: Aim, is_aborted: bool) {
        let Some(queue) = self.queues[aim.place].as_mut().filter(|queue| queue.generation == aim.generation) else {
            return;
        };
        let slot = &mut queue.slots[aim.slot];
        if slot.sent.is_some() && slot.number == aim.number {
            slot.memo.is_aborted |= is_aborted;
            return;
        }
        let Some(ended) = slot.ended.filter(|ended| ended.number == aim.number) else { return };
        let was_aborted = ended.status == status::ABORT_REQUESTED;
        let is_wrong = if is_aborted { !was_aborted } else { was_aborted && ended.abort_count == 1 };
        if is_wrong {
            let word = if is_aborted { "" } else { " not" };
            let what =
                format!("an Abort says that it has{word} aborted a command, which ended with {:#x}", ended.status);
            self.violation(place, what);
        }
    }

    pub(super) fn report(&self, place: usize, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            let qid = self.qid_of(place);
            self.findings.report("data", format!("{}: queue {qid}: {what}", self.name));
        }
    }
}
