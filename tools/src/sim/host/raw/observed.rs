//! What of a host is seen from outside, with the times of it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::outcome::{Outcome, Tag};
use super::queue::Stage;

/// Responses that are kept.
const RESPONSES_KEPT: usize = 256;

/// A response that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When.
    pub at_ns: u64,
    /// On which queue.
    pub qid: u16,
    /// To what.
    pub what: &'static str,
    /// Code type and code; 0 is success.
    pub status: u16,
    /// The first word of its result.
    pub result: u32,
}

/// The last responses, oldest first. Shown as how many they are: a trace tells them better.
#[derive(Clone, Default)]
pub struct Answers(VecDeque<Answer>);

impl Answers {
    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Answer> {
        self.0.iter()
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of them", self.0.len())
    }
}

/// A connection request that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// When.
    pub at_ns: u64,
    /// For which queue.
    pub qid: u16,
    /// The status in its private data, 0 if it has none.
    pub status: u16,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Observed {
    /// It has nothing left to do.
    pub is_done: bool,
    /// All queues of its session are up.
    pub is_serving: bool,
    /// Sessions that are over.
    pub sessions_ended: u32,
    /// Of them, those that did all that they had planned and were thrown out only if they asked for it.
    pub sessions_as_planned: u32,
    /// Connections that came to be.
    pub established_count: u32,
    /// I/O commands that were answered with success.
    pub io_count: u64,
    /// I/O commands that the device failed.
    pub io_failed_count: u64,
    /// I/O commands whose connection ended before they were answered.
    pub io_lost_count: u64,
    /// Keep Alive commands that were answered.
    pub keep_alive_count: u64,
    /// Connection requests that were refused.
    pub rejects: Vec<Reject>,
    /// Connects that were refused: queue and status.
    pub refusals: Vec<(u16, u16)>,
    /// When the target, or its death, ended a connection, and of which queue.
    pub disconnects: Vec<(u64, u16)>,
    /// Connections that failed under a request: the first failed completion of each, and its queue.
    pub broken: Vec<(u64, u16)>,
    /// Calls of the own machine that failed, or that did not end.
    pub machine_faults: Vec<&'static str>,
    /// The last responses, oldest first.
    pub answers: Answers,
    /// What became of commands that were sent by name.
    pub outcomes: BTreeMap<Tag, Outcome>,
    /// Pairs of Compare and Write that were answered with success.
    pub swap_count: u64,
    /// Commands that an Abort ended.
    pub aborted_count: u64,
    /// How far the last connection of each queue has come. A queue that has none is not there.
    pub stages: BTreeMap<u16, Stage>,
    /// Commands that were sent and not answered.
    pub outstanding_count: usize,
}

impl Observed {
    pub(super) fn answer(&mut self, answer: Answer) {
        if self.answers.0.len() == RESPONSES_KEPT {
            self.answers.0.pop_front();
        }
        self.answers.0.push_back(answer);
    }

    /// Statuses of the refused connection requests.
    #[must_use]
    pub fn reject_statuses(&self) -> Vec<u16> {
        self.rejects.iter().map(|reject| reject.status).collect()
    }
}
