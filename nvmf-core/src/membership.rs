//! What ties an I/O qpair to a controller that may live on another CPU, and a controller to its subsystem: the names that messages carry, the Join
//! that asks, the leases that are the answers.

use reactor::{Cpu, Handle};

use crate::reservation::HostNumber;
use crate::subsystem::Subject;
use crate::wire::Nqn;
use crate::{ControllerKind, Qpair};

/// An object of another CPU.
#[derive(Debug)]
pub(crate) struct Remote<K> {
    /// Its owner.
    pub(crate) cpu: Cpu,
    /// Its name there.
    pub(crate) handle: Handle<K>,
}

impl<K> Clone for Remote<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Remote<K> {}
impl<K> PartialEq for Remote<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cpu == other.cpu && self.handle == other.handle
    }
}

/// A host, as Connect names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) nqn: Nqn,
    pub(crate) id: [u8; 16],
}

/// An I/O Connect on its way to the controller.
#[derive(Debug)]
pub(crate) struct Join {
    /// Whom to ask.
    pub(crate) controller: Handle<ControllerKind>,
    /// Its id, as the host gave it.
    pub(crate) controller_id: u16,
    /// Who asks.
    pub(crate) qpair: Remote<Qpair>,
    /// For which queue.
    pub(crate) qid: u16,
    /// What the host said that it connects to: must be what the controller is of.
    pub(crate) subject: Subject,
    /// Must be the host that made the controller.
    pub(crate) host: Host,
}

/// Membership, by value: made where a controller takes a member in, ended where it comes home, and never copied.
#[derive(Debug, PartialEq)]
#[must_use = "a lease goes home to its controller"]
pub(crate) struct ControllerLease {
    controller: Remote<ControllerKind>,
    controller_id: u16,
    qid: u16,
    subject: Subject,
    host: HostNumber,
}

impl ControllerLease {
    /// Only [`crate::controller`] may.
    pub(crate) fn new(controller: Remote<ControllerKind>, owner: &SubsystemLease, qid: u16) -> Self {
        let SubsystemLease { controller_id, subject, host } = *owner;
        Self { controller, controller_id, qid, subject, host }
    }

    /// Whose.
    pub(crate) fn controller(&self) -> Remote<ControllerKind> {
        self.controller
    }

    /// Whose, by id.
    pub(crate) fn controller_id(&self) -> u16 {
        self.controller_id
    }

    /// For which queue.
    pub(crate) fn qid(&self) -> u16 {
        self.qid
    }

    /// What the controller is of.
    pub(crate) fn subject(&self) -> Subject {
        self.subject
    }

    /// Whose commands come by the qpair.
    pub(crate) fn host(&self) -> HostNumber {
        self.host
    }
}

/// The right to be a controller, by value: made by the control plane when it gives a controller its id, ended when it comes home with the
/// controller's end, and never copied. A subsystem is not forgotten while one of its leases is out.
#[derive(Debug, PartialEq)]
#[must_use = "a lease goes home to the control plane"]
pub(crate) struct SubsystemLease {
    controller_id: u16,
    subject: Subject,
    host: HostNumber,
}

impl SubsystemLease {
    /// Only [`crate::target`] may.
    pub(crate) fn new(controller_id: u16, subject: Subject, host: HostNumber) -> Self {
        Self { controller_id, subject, host }
    }

    /// CNTLID.
    pub(crate) fn controller_id(&self) -> u16 {
        self.controller_id
    }

    /// What the controller is of.
    pub(crate) fn subject(&self) -> Subject {
        self.subject
    }

    /// Whose it is.
    pub(crate) fn host(&self) -> HostNumber {
        self.host
    }
}
