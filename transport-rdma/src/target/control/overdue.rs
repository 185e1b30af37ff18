//! What takes longer than it should: named once in the log, and in a gauge for as long as it lasts.
//!
//! Everything that a connection waits for ends within a bound, but for two things that nobody can hurry: a call of the device that never comes back, and
//! a block operation that never completes. Neither may be cut off, since memory would be used again under the device's hands. So they are kept, safe
//! and visible. Looked at once a second, while any connection is on its way in or out.

use reactor::Turn;

use super::{Control, Timer};
use crate::target::message::Message;
use crate::trace::ConnectionStage;
use crate::verbs::Provider;

/// How long a stage may last: longer than a drain may take.
const OVERDUE_NS: u64 = 8_000_000_000;

/// How often it is looked.
const LOOK_NS: u64 = 1_000_000_000;

/// What is overdue.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    is_looking: bool,
    /// Connections that were reported, by what they wait for, as in [`WAITS`].
    counts: [u64; WAITS.len()],
}

/// What connections wait for.
const WAITS: [&str; 6] = [
    "creation of a queue pair",
    "answer of a CPU",
    "drain: block operations or messages",
    "destruction of a queue pair",
    "grace period of the CPUs",
    "destruction of a connection",
];

/// Which of [`WAITS`]; `None` where it may take as long as it likes.
fn wait_of(stage: ConnectionStage) -> Option<usize> {
    match stage {
        ConnectionStage::Creating | ConnectionStage::Abandoned => Some(0),
        ConnectionStage::Adopting | ConnectionStage::Unwanted => Some(1),
        ConnectionStage::Ending => Some(2),
        ConnectionStage::Rejecting | ConnectionStage::Destroying => Some(3),
        ConnectionStage::Reaping => Some(4),
        ConnectionStage::Leaving => Some(5),
        ConnectionStage::Live | ConnectionStage::Quarantined => None,
        // A host's.
        ConnectionStage::Resolving | ConnectionStage::Connecting => None,
    }
}

impl<P: Provider> Control<P> {
    /// A connection waits for this from now on.
    pub(super) fn watch(&mut self, turn: &mut Turn<'_, Message<P>>, stage: ConnectionStage) {
        if !self.overdue.is_looking && wait_of(stage).is_some() {
            self.overdue.is_looking = true;
            turn.arm(turn.now_ns() + LOOK_NS, Timer::Overdue as u64);
        }
    }

    /// What connections wait for that are on their way in or out, and how many wait, however short.
    pub fn waits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let mut counts = [0; WAITS.len()];
        for (_, record) in self.records.iter() {
            if let Some(wait) = wait_of(record.entered) {
                counts[wait] += 1;
            }
        }
        WAITS.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }

    /// Looks at every connection, and again in a while if any waits.
    pub(super) fn look_for_overdue(&mut self, turn: &mut Turn<'_, Message<P>>) {
        self.overdue.is_looking = false;
        let now_ns = turn.now_ns();
        let handles: Vec<_> = self.records.handles().collect();
        for handle in handles {
            let Some(record) = self.records.look_mut(handle) else { continue };
            let Some(wait) = wait_of(record.entered) else { continue };
            self.overdue.is_looking = true;
            let age_ns = now_ns.saturating_sub(record.entered_ns);
            if age_ns < OVERDUE_NS || record.reported.is_some() {
                continue;
            }
            record.reported = Some(record.entered);
            self.overdue.counts[wait] += 1;
            tracing::error!(
                connection = ?handle,
                cpu = record.cpu,
                waits_for = WAITS[wait],
                waited_s = age_ns / 1_000_000_000,
                "a connection does not get on: what it has is kept until that comes"
            );
        }
        if self.overdue.is_looking {
            turn.arm(now_ns + LOOK_NS, Timer::Overdue as u64);
        }
    }
}

impl Overdue {
    /// What a connection waited for has come, after it had been reported.
    pub(super) fn has_come(&mut self, reported: ConnectionStage) {
        if let Some(wait) = wait_of(reported) {
            self.counts[wait] -= 1;
        }
    }

    /// For metrics: what is waited for, and how many wait.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        WAITS.into_iter().zip(self.counts)
    }
}
