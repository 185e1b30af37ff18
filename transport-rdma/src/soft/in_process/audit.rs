//! Whether the accounts agree: what a program posted, what it polled and what the device holds, for every queue; and which memory the devices may touch.
//! Asked at any step. (C19, F1, F2, F11, F13)

use std::collections::BTreeSet;
use std::fmt;

use reactor::Segment;

use super::ledger::{Ledger, Posted};
use super::machine::{Machine, MachineId};
use super::world::World;
use crate::verbs::Completion;

/// Memory that a device may touch: named by a request that was posted and has not been completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostedSegment {
    /// Whose device.
    pub machine: MachineId,
    /// Which queue pair; `None` for a shared receive.
    pub number: Option<u32>,
    /// The request.
    pub id: u64,
    /// The bytes.
    pub memory: Segment,
    /// Whether the device may write them.
    pub is_written: bool,
}

/// Accounts that do not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discrepancy {
    /// A queue's.
    Count {
        /// Whose.
        machine: MachineId,
        /// Which queue pair; `None` for the SRQ.
        number: Option<u32>,
        /// `sends` or `receives`.
        queue: &'static str,
        /// By the program.
        posted: u64,
        /// Polled, or ended without a word.
        completed: u64,
        /// Dropped, swept or swallowed.
        lost: u64,
        /// What the device holds.
        held: u64,
    },
    /// Two shared receives of one machine that are posted at the same time share memory.
    SharedMemory {
        /// Whose.
        machine: MachineId,
        /// The two requests.
        ids: [u64; 2],
    },
    /// Two shared receives that are posted at the same time have the same identifier.
    SharedId {
        /// Whose.
        machine: MachineId,
        /// It.
        id: u64,
    },
    /// A completion that nothing was posted for, or out of its queue's order.
    Stray {
        /// Whose.
        machine: MachineId,
        /// Of the queue pair with this number.
        number: u32,
        /// For this request.
        id: u64,
    },
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose =
            |number: Option<u32>| number.map_or("the SRQ".to_owned(), |number| format!("queue pair {number:#x}"));
        match *self {
            Self::Count { machine, number, queue, posted, completed, lost, held } => write!(
                f,
                "{queue} of {} of {machine:?}: {posted} posted, {completed} completed, {lost} lost, and the device holds {held}",
                whose(number)
            ),
            Self::SharedMemory { machine, ids: [one, other] } => {
                write!(f, "shared receives {one:#x} and {other:#x} of {machine:?} are posted with the same memory")
            }
            Self::SharedId { machine, id } => write!(f, "shared receive {id:#x} of {machine:?} is posted twice"),
            Self::Stray { machine, number, id } => {
                write!(f, "request {id:#x} of queue pair {number:#x} of {machine:?} completed, and it was not its turn")
            }
        }
    }
}

impl World {
    pub(super) fn note_stray(&mut self, machine: MachineId, completion: Completion) {
        self.strays.push(Discrepancy::Stray { machine, number: completion.number, id: completion.id });
    }

    pub(super) fn audit(&self) -> Vec<Discrepancy> {
        let mut found = self.strays.clone();
        for (number, machine) in self.machines.iter().enumerate() {
            if machine.is_alive {
                audit_machine(MachineId(number), machine, &mut found);
            }
        }
        found
    }

    pub(super) fn for_each_posted(&self, of: MachineId, mut visit: impl FnMut(PostedSegment)) {
        let machine = &self.machines[of.0];
        let mut visit_all = |number: Option<u32>, ledger: &Ledger| {
            for Posted { id, segments, is_written, .. } in ledger.open() {
                for segment in segments {
                    let (id, is_written) = (*id, *is_written);
                    visit(PostedSegment { machine: of, number, id, memory: segment.memory, is_written });
                }
            }
        };
        for record in machine.queue_pairs.values() {
            visit_all(Some(record.number), &record.sends);
            visit_all(Some(record.number), &record.receives);
        }
        for port in &machine.ports {
            visit_all(None, &port.shared);
        }
    }
}

fn audit_machine(id: MachineId, machine: &Machine, found: &mut Vec<Discrepancy>) {
    let mut compare = |number: Option<u32>, queue: &'static str, ledger: &Ledger, held: usize| {
        let (posted, completed, lost) = (ledger.posted_count, ledger.completed_count, ledger.lost_count);
        let held = held as u64;
        if held != ledger.in_flight_count() || posted != completed + lost + held {
            found.push(Discrepancy::Count { machine: id, number, queue, posted, completed, lost, held });
        }
    };
    for record in machine.queue_pairs.values() {
        if let Some(outstanding) = record.outstanding {
            compare(Some(record.number), "sends", &record.sends, outstanding.sends);
            compare(Some(record.number), "receives", &record.receives, outstanding.receives);
        }
    }
    for port in machine.ports.iter().filter(|port| !port.is_gone) {
        compare(None, "receives", &port.shared, port.shared_outstanding);
    }
    let mut memory = Vec::new();
    for port in &machine.ports {
        let mut ids = BTreeSet::new();
        for posted in port.shared.open() {
            if !ids.insert(posted.id) {
                found.push(Discrepancy::SharedId { machine: id, id: posted.id });
            }
            let segments = posted.segments.iter().map(|segment| segment.memory).filter(|memory| !memory.is_empty());
            memory.extend(segments.map(|memory| (memory.address(), memory.address() + memory.len() as u64, posted.id)));
        }
    }
    memory.sort_unstable();
    for pair in memory.windows(2) {
        if let [(_, end, one), (begin, _, other)] = pair
            && begin < end
        {
            found.push(Discrepancy::SharedMemory { machine: id, ids: [*one, *other] });
        }
    }
}
