//! Commands that failed, on their way to the error log of their controller [NVMe Base 2.0, 5.16.1.2].
//!
//! A member on another CPU sends one report at a time; what fails until that has been taken in is counted, and the last of it is told with the next.
//! So a host that does nothing but fail costs one message at a time.

use crate::status::Status;

/// One failed command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) sqid: u16,
    pub(crate) command_id: u16,
    pub(crate) status: Status,
    /// Parameter Error Location.
    pub(crate) location: u16,
    /// As the command has it.
    pub(crate) nsid: u32,
    /// SLBA, of an I/O command.
    pub(crate) lba: u64,
}

impl Failure {
    /// Whether the error log has it: what was aborted because the host asked for that, or because a queue ends, is no error.
    pub(crate) fn is_worth_telling(status: Status) -> bool {
        ![Status::SUCCESS, Status::ABORT_REQUESTED, Status::ABORTED_QUEUE_DELETED].iter().any(|none| status.is(*none))
    }
}

/// What a qpair has to report to a controller on another CPU.
#[derive(Debug, Default)]
pub(crate) struct FailureReports {
    /// A report is under way.
    is_out: bool,
    /// What failed meanwhile: the last, and how many.
    missed: Option<(Failure, u64)>,
}

impl FailureReports {
    /// A command has failed. What is to be sent now, if anything: the last failure, and how many there were.
    pub(crate) fn failed(&mut self, failure: Failure) -> Option<(Failure, u64)> {
        if self.is_out {
            let count = self.missed.map_or(0, |(_, count)| count);
            self.missed = Some((failure, count + 1));
            return None;
        }
        self.is_out = true;
        Some((failure, 1))
    }

    /// The report that was under way has been taken in. What is to be sent next.
    pub(crate) fn taken_in(&mut self) -> Option<(Failure, u64)> {
        let next = self.missed.take();
        self.is_out = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_report_at_a_time() {
        let failure = |command_id| Failure {
            sqid: 1,
            command_id,
            status: Status::INVALID_FIELD,
            location: 0xFFFF,
            nsid: 1,
            lba: 0,
        };
        let mut reports = FailureReports::default();
        assert_eq!(reports.failed(failure(1)), Some((failure(1), 1)));
        assert_eq!(reports.failed(failure(2)), None);
        assert_eq!(reports.failed(failure(3)), None);
        assert_eq!(reports.taken_in(), Some((failure(3), 2)), "two more, of which the last is told");
        assert_eq!(reports.taken_in(), None);
        assert_eq!(reports.failed(failure(4)), Some((failure(4), 1)));
        assert!(!Failure::is_worth_telling(Status::ABORT_REQUESTED));
        assert!(Failure::is_worth_telling(Status::LBA_OUT_OF_RANGE));
    }
}
