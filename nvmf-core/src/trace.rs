//! The steps of this layer's lives, as they stand in a CPU's trace ([`reactor::TraceRecord`]): for people, and for checkers that read every CPU's.
//!
//! A [`Step`] has a number in the ring (from 0x100 on) and a name for people; what a record's subject and detail mean is said at each step. Objects
//! that are told of on several CPUs are named by their *place*: handle and CPU in one number ([`place`]). Nothing here is on the way of I/O.

use reactor::{Cpu, Handle, TraceKind, TraceRecord, Turn};

use crate::DisconnectReason;
use crate::status::Status;

/// A fieldless enum with a number and a name for each of its values, and the ways back.
#[macro_export]
#[doc(hidden)]
macro_rules! traced_words {
    ($(#[$of:meta])* $name:ident: $($(#[$doc:meta])* $variant:ident = $number:literal, $word:literal;)*) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum $name {
            $($(#[$doc])* $variant = $number,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its number in the trace.
            #[must_use]
            pub fn number(self) -> u16 {
                self as u16
            }

            /// The value with this number.
            #[must_use]
            pub fn from_number(number: u64) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| u64::from(value.number()) == number)
            }

            /// For people.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

traced_words! {
    /// What happened to a qpair or a controller.
    Step:
    /// A qpair was opened. Subject: its handle. Detail: the queue id that the transport's connection request named.
    QpairOpened = 0x100, "qpair opened";
    /// A qpair takes no commands any more. Subject: its handle. Detail: why, a number of [`reason_number`].
    QpairDrains = 0x101, "qpair drains";
    /// A qpair was closed: its handle is stale. Subject: its handle. Detail: 0.
    QpairClosed = 0x102, "qpair closed";
    /// A controller was made. Subject: its place. Detail: its admin qpair's handle (of the same CPU).
    ControllerBorn = 0x110, "controller born";
    /// A controller has its id, and serves. Subject: its place. Detail: the id.
    ControllerAdmitted = 0x111, "controller admitted";
    /// A controller got no id, and is gone. Subject: its place. Detail: 0.
    ControllerRefused = 0x112, "controller refused";
    /// A controller's admin qpair drains: it takes no member in any more. Subject: its place. Detail: why, a number of [`reason_number`].
    ControllerCloses = 0x113, "controller closes";
    /// A controller is gone. Subject: its place. Detail: its id, or [`NO_ID`].
    ControllerGone = 0x114, "controller gone";
    /// An I/O qpair became a member: its lease is out. On the controller's CPU. Subject: the qpair's place. Detail: the controller's.
    MemberJoined = 0x120, "member joined";
    /// The lease of a reaped qpair came home. On the controller's CPU. Subject: the qpair's place. Detail: the controller's.
    MemberLeft = 0x121, "member left";
    /// A controller id was given, and leads to the controller from now on. On the control plane. Subject: the controller's place. Detail: the id.
    IdGiven = 0x130, "controller id given";
    /// A controller id is free again. On the control plane. Subject: 0. Detail: the id.
    IdFreed = 0x131, "controller id freed";
    /// A host has proven who it is. Subject: the qpair's handle. Detail: 0.
    HostAuthenticated = 0x150, "host authenticated";
    /// A host has not, and the qpair ends. Subject: the qpair's handle. Detail: why, as AUTH_Failure names it.
    HostRefused = 0x151, "host refused";
    /// A host has enabled its controller. Subject: its place. Detail: 0.
    ControllerEnabled = 0x115, "controller enabled";
    /// A host has disabled its controller: its I/O qpairs end. Subject: its place. Detail: 0.
    ControllerReset = 0x116, "controller reset";
    /// A host has shut its controller down: its I/O qpairs end. Subject: its place. Detail: 0.
    ControllerShutDown = 0x117, "controller shut down";
    /// A controller's host has said nothing for the Keep Alive Timeout: it ends. Subject: its place. Detail: 0.
    KeepAliveExpired = 0x118, "keep alive expired";
    /// A command ended in an error that is worth telling. Subject: the qpair's handle. Detail: [`failed_command`].
    CommandFailed = 0x160, "command failed";
    /// A host wants a command aborted. Subject: the handle of the command's qpair, on the CPU that it lives on. Detail: the command's identifier.
    AbortAsked = 0x161, "abort asked";
    /// Commands begin to wait. Subject: 0. Detail: a [`Pressure`].
    PressureBegan = 0x162, "back-pressure began";
    /// None has waited for a second. Subject: 0. Detail: a [`Pressure`].
    PressureEnded = 0x163, "back-pressure ended";
    /// A message or a call named a qpair that is gone. Subject: the handle. Detail: 0.
    QpairMissed = 0x140, "qpair missed";
    /// A message named a controller that is gone. Subject: its place. Detail: 0.
    ControllerMissed = 0x141, "controller missed";
}

traced_words! {
    /// What commands wait for.
    Pressure:
    /// A data buffer of their CPU.
    Buffers = 1, "data buffers";
    /// What their host may have in flight.
    HostLimit = 2, "the host's limit";
    /// A pause of their subsystem, or another command.
    Gate = 3, "a pause";
}

/// A failed command as a detail: its identifier and its status.
#[must_use]
pub fn failed_command(command_id: u16, status: Status) -> u64 {
    u64::from(command_id) << 16 | u64::from(status.to_field())
}

/// What [`failed_command`] was given.
#[must_use]
pub fn failed_command_parts(detail: u64) -> (u16, Status) {
    let word = |shift: u32| u16::try_from(detail >> shift & 0xFFFF).unwrap_or(0);
    (word(16), Status::from_field(word(0)))
}

/// The detail of a controller that goes without an id.
pub const NO_ID: u64 = u64::MAX;

impl Step {
    /// Its kind in the ring.
    #[must_use]
    pub fn kind(self) -> TraceKind {
        TraceKind(self.number())
    }

    /// Which step a record tells of; `None` if it is of another crate.
    #[must_use]
    pub fn of(record: &TraceRecord) -> Option<Self> {
        Self::from_number(record.kind.0.into())
    }

    /// Puts it into this CPU's notes: it may happen often.
    pub(crate) fn note<M>(self, turn: &mut Turn<'_, M>, subject: u64, detail: u64) {
        turn.note(self.kind(), subject, detail);
    }

    /// Puts it into this CPU's trace.
    pub(crate) fn trace<M>(self, turn: &mut Turn<'_, M>, subject: u64, detail: u64) {
        turn.trace(self.kind(), subject, detail);
    }
}

/// An object as all CPUs name it: its owner in the top 8 bits (its number's lowest 8), its handle below.
#[must_use]
pub fn place<K>(cpu: Cpu, handle: Handle<K>) -> u64 {
    u64::from(cpu.0) << 56 | handle.to_bits()
}

/// Why a connection ended, as a detail.
#[must_use]
pub fn reason_number(reason: DisconnectReason) -> u64 {
    reason as u64
}

/// What [`reason_number`] was given.
#[must_use]
pub fn reason_from_number(number: u64) -> Option<DisconnectReason> {
    DisconnectReason::ALL.into_iter().find(|reason| reason_number(*reason) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_this_crates_own_and_lead_back() {
        for step in Step::ALL {
            assert!((0x100..0x200).contains(&step.number()), "{step:?}");
            let record = TraceRecord { kind: step.kind(), ..TraceRecord::default() };
            assert_eq!(Step::of(&record), Some(*step));
            assert_eq!(Step::ALL.iter().filter(|other| other.name() == step.name()).count(), 1, "{step:?}");
        }
        assert_eq!(Step::of(&TraceRecord::default()), None);
        for reason in DisconnectReason::ALL {
            assert_eq!(reason_from_number(reason_number(reason)), Some(reason));
        }
        assert_eq!(reason_from_number(99), None);
        let failed = (0xFFFF, Status::LBA_OUT_OF_RANGE);
        assert_eq!(failed_command_parts(failed_command(failed.0, failed.1)), failed);
    }
}
