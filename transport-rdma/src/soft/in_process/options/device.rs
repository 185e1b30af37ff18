//! What a device does otherwise than a calm one.

use bitflags::bitflags;

use crate::verbs::CompletionStatus;

/// What a device does otherwise than a calm one. "One in so many" is a choice each time; 0 is never, 1 always.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceFaults {
    /// When completions come.
    pub completions: CompletionFaults,
    /// When LAST_WQE_REACHED comes.
    pub last_wqe: LastWqeFaults,
    /// One in so many queue pairs on an SRQ that fail gives a shared receive back that it had taken for a message half come: flushed. (C12, F2)
    pub flushes_shared_receive_one_in: u32,
    /// One in so many destroyed queue pairs on an SRQ takes such a receive with it: it never comes back. (C6, R5)
    pub swallows_shared_receive_one_in: u32,
    /// When the numbers of destroyed queue pairs are used again. (R11, C2)
    pub numbers: Reuse,
    /// When the keys of deregistered regions are used again. (C2)
    pub keys: Reuse,
    /// Whether the peers of a device that is removed are told nothing: only time tells them. (G1)
    pub is_removed_silently: bool,
}

/// Completions that have happened are in the completion queue later, or never.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompletionFaults {
    /// Most looks that what has happened takes to be in the completion queue. (B4, C14, J8)
    pub looks_max: u32,
    /// Whether any part of what has happened may come before the rest, each after looks of its own. (C1)
    pub is_split: bool,
    /// Whether completions of one queue may come before older ones of other queues: a success after an error of the other queue, a receive before the send
    /// that allowed it. (J8, C14)
    pub is_mixed: bool,
    /// Kinds that are held back while they are listed here: for a test that lets them out by number ([`super::super::Fabric::release_completions`]).
    pub holds: CompletionKinds,
    /// One in so many flush completions never comes. (E3)
    pub drops_flush_one_in: u32,
}

impl CompletionFaults {
    /// Whether completions go through the stage at all.
    pub(in super::super) fn is_calm(&self) -> bool {
        self.looks_max == 0 && !self.is_split && !self.is_mixed && self.holds.is_empty() && self.drops_flush_one_in == 0
    }
}

bitflags! {
    /// Kinds of completions.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct CompletionKinds: u8 {
        /// Sends, reads and writes that succeeded.
        const SENT = 1;
        /// Those that failed or were flushed.
        const SEND_FAILED = 2;
        /// Receives that succeeded.
        const RECEIVED = 4;
        /// Those that failed or were flushed.
        const RECEIVE_FAILED = 8;
        /// What comes of an end.
        const FAILED = 2 | 8;
    }
}

impl CompletionKinds {
    pub(in super::super) fn of(is_receive: bool, status: CompletionStatus) -> Self {
        match (is_receive, status == CompletionStatus::Success) {
            (false, true) => Self::SENT,
            (false, false) => Self::SEND_FAILED,
            (true, true) => Self::RECEIVED,
            (true, false) => Self::RECEIVE_FAILED,
        }
    }
}

/// When LAST_WQE_REACHED comes. Late, and twice, are [`super::ManagerFaults`]'.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastWqeFaults {
    /// Where it stands among the flush completions of its queue pair.
    pub moment: LastWqeMoment,
    /// Whether it comes only where the queue pair took a shared receive. (E2)
    pub only_if_consumed: bool,
    /// One in so many is preceded by QP_FATAL. (A4, A7)
    pub fatal_first_one_in: u32,
}

/// Where LAST_WQE_REACHED stands among the flush completions of its queue pair. (A1, A3, C3, E2; the six orders)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LastWqeMoment {
    /// Raised at once, beside them: their delays decide.
    #[default]
    AtOnce,
    /// No flush completion is in the completion queue before the event was fetched.
    Before,
    /// So many as is chosen are there before it is raised, the others not before it was fetched.
    Among,
    /// Raised when all have been polled.
    After,
    /// Never, although the device says that it does.
    Never,
    /// One of these, chosen for each queue pair.
    Chosen,
}

/// When a name is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reuse {
    /// When some more were freed.
    #[default]
    Late,
    /// By the next that is made. A key comes back as the very same.
    AtOnce,
    /// Never.
    Never,
}
