//! What poll groups and the control plane send each other. Opaque to transports, which carry it inside their own message.
//!
//! Messages name objects by handle, never by reference, and each receiver looks the handle up: a stale one is a miss, counted and dropped.
//! Of each kind at most one is outstanding per object, so backlogs are bounded.

use reactor::{Handle, Name};

use crate::auth::{Answer, Question};
use crate::failure::Failure;
use crate::lock::{LockName, Span};
use crate::membership::{ControllerLease, Host, Join, Remote, SubsystemLease};
use crate::namespace::DeviceIndex;
use crate::notice::Notice;
use crate::order::{Order, Way};
use crate::petition::{Petition, Ruling};
use crate::poll_group::Aborter;
use crate::qpair::header::Tally;
use crate::status::Status;
use crate::subsystem::Subject;
use crate::target::ChangeId;
use crate::transport::{DisconnectReason, Slot};
use crate::withdrawal::Withdrawal;
use crate::{ControllerKind, Qpair};

/// One message of this layer.
#[derive(Debug)]
pub struct Message(pub(crate) Letter);

impl Message {
    /// What it is, for reports.
    #[must_use]
    pub fn name(&self) -> Name {
        match self.0 {
            Letter::Admit { .. } => &"admit",
            Letter::Retire { .. } => &"retire",
            Letter::Admitted { .. } => &"admitted",
            Letter::NotAdmitted { .. } => &"not-admitted",
            Letter::Join(_) => &"join",
            Letter::Joined { .. } => &"joined",
            Letter::NotJoined { .. } => &"not-joined",
            Letter::Leave { .. } => &"leave",
            Letter::Failed { .. } => &"failed",
            Letter::Abort { .. } => &"abort",
            Letter::Aborted { .. } => &"aborted",
            Letter::FailureTaken { .. } => &"failure-taken",
            Letter::End { .. } => &"end",
            Letter::Withdraw { .. } => &"withdraw",
            Letter::Withdrawn { .. } => &"withdrawn",
            Letter::Authenticate(_) => &"authenticate",
            Letter::Authenticated(_) => &"authenticated",
            Letter::Lock { .. } => &"lock",
            Letter::Fence { .. } => &"fence",
            Letter::Fenced { .. } => &"fenced",
            Letter::Granted { .. } => &"granted",
            Letter::Unlock { .. } => &"unlock",
            Letter::Lift { .. } => &"lift",
            Letter::Notify(_) => &"notify",
            Letter::Petition(_) => &"petition",
            Letter::Ruling(_) => &"ruling",
            Letter::Order { .. } => &"order",
            Letter::Obeyed { .. } => &"obeyed",
        }
    }
}

impl From<Letter> for Message {
    fn from(letter: Letter) -> Self {
        Self(letter)
    }
}

/// What is said.
#[derive(Debug)]
pub(crate) enum Letter {
    /// Poll group to control plane: a controller was made and needs an id. Once per controller; answered by `Admitted` or `NotAdmitted`.
    Admit {
        /// Where it lives.
        controller: Remote<ControllerKind>,
        /// Of what.
        subject: Subject,
        /// For whom.
        host: Box<Host>,
        /// The CNTLID that was asked for.
        wanted: u16,
    },
    /// Poll group to control plane: somebody has to compute. At most one for each qpair at a time; answered by `Authenticated` unless its time is over.
    Authenticate(Box<Question>),
    /// Control plane to poll group: what came of it.
    Authenticated(Box<Answer>),
    /// Poll group to control plane: the controller is gone. Its lease comes home, and its id is free.
    Retire {
        /// By value.
        lease: SubsystemLease,
        /// What its queues had done.
        tally: Tally,
    },
    /// Control plane to poll group: the controller has an id, and can be found under it.
    Admitted {
        /// Which.
        controller: Handle<ControllerKind>,
        /// What it holds from now on, its id among it.
        lease: SubsystemLease,
    },
    /// Control plane to poll group: no.
    NotAdmitted {
        /// Which.
        controller: Handle<ControllerKind>,
        /// Why.
        status: Status,
        /// What Connect's result says about it.
        result: u64,
    },
    /// I/O Connect: from the qpair's CPU to the controller's. Once per qpair and Connect; answered by `Joined` or `NotJoined`.
    Join(Box<Join>),
    /// The qpair is a member for as long as it has the lease.
    Joined {
        /// Which.
        qpair: Handle<Qpair>,
        /// What it holds from now on.
        lease: ControllerLease,
    },
    /// No.
    NotJoined {
        /// Which.
        qpair: Handle<Qpair>,
        /// Why.
        status: Status,
        /// What Connect's result says about it.
        result: u64,
    },
    /// The qpair is reaped; its lease goes home.
    Leave {
        /// By value.
        lease: ControllerLease,
        /// What it has done.
        tally: Tally,
    },
    /// From a member's CPU to the controller's: commands have failed. One for each qpair at a time; answered by `FailureTaken`.
    Failed {
        /// Whose error log.
        controller: Handle<ControllerKind>,
        /// Whose commands.
        qpair: Remote<Qpair>,
        /// The last of them, and how many.
        report: (Failure, u64),
    },
    /// From the controller's CPU to a member's: a command is to be aborted. As many at a time as Identify's ACL says; each answered by `Aborted`.
    Abort {
        /// Of which queue.
        qpair: Handle<Qpair>,
        /// Which.
        command_id: u16,
        /// Who waits for the answer.
        aborter: Aborter,
    },
    /// The end of the command is known.
    Aborted {
        /// The admin queue on which the Abort waits.
        qpair: Handle<Qpair>,
        /// Which of its requests that is.
        slot: Slot,
        /// Whether the command has ended because of it.
        is_aborted: bool,
    },
    /// The next report may be sent.
    FailureTaken {
        /// Which.
        qpair: Handle<Qpair>,
    },
    /// From a controller's CPU to a member's: end that qpair. Once per member.
    End {
        /// Which.
        qpair: Handle<Qpair>,
        /// Why.
        reason: DisconnectReason,
    },
    /// Control plane to every poll group: a subsystem is not offered any more, or less than before, as the snapshot says already. Once per change;
    /// answered by `Withdrawn`.
    Withdraw {
        /// To answer with.
        change: ChangeId,
        /// What ends.
        withdrawal: Box<Withdrawal>,
    },
    /// Poll group to control plane: a host's command is about reservations. Once per request; answered by `Ruling`.
    Petition(Box<Petition>),
    /// How that command ends.
    Ruling(Box<Ruling>),
    /// Control plane to every poll group: hosts are to be told of something, which the snapshot says already. Not answered.
    Notify(Box<Notice>),
    /// Every qpair of this CPU that it ends drains.
    Withdrawn {
        /// Which.
        change: ChangeId,
    },
    /// Control plane to every poll group: do this. Once per change and step; answered by `Obeyed`.
    Order {
        /// To answer with.
        change: ChangeId,
        /// What.
        order: Box<Order>,
    },
    /// Done here.
    Obeyed {
        /// Which.
        change: ChangeId,
        /// What goes home with it.
        way: Option<Box<Way>>,
    },
    /// Poll group to a device's home: a lock on blocks of it is wanted ([`crate::lock`]). Always answered by `Granted`.
    Lock {
        /// Its name from here on.
        lock: LockName,
        /// Of which device.
        device: DeviceIndex,
        /// Which blocks.
        span: Span,
    },
    /// Home to every poll group: no new command is let in to these blocks. Answered by `Fenced` when the old ones are over.
    Fence {
        /// For which lock.
        lock: LockName,
        /// Of which device.
        device: DeviceIndex,
        /// Which blocks.
        span: Span,
    },
    /// Poll group to home: nobody is on those blocks here.
    Fenced {
        /// Which.
        lock: LockName,
    },
    /// Home to whoever asked: it has the lock.
    Granted {
        /// Which.
        lock: LockName,
        /// Of which device.
        device: DeviceIndex,
    },
    /// Whoever had it to home: it is over.
    Unlock {
        /// Which.
        lock: LockName,
    },
    /// Home to every poll group: commands are let in again.
    Lift {
        /// Which.
        lock: LockName,
    },
}
