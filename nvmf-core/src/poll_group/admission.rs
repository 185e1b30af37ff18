//! Where an I/O command is let in or not, for reasons that have to do with its host and its namespace rather than with its blocks.

use std::net::SocketAddr;

use super::PollGroup;
use super::buffers::RequestName;
use super::parking::Cause;
use crate::command::IoCommand;
use crate::defect::{self, Defect};
use crate::namespace::Namespace;
use crate::reservation::HostNumber;
use crate::spec::AnaState;
use crate::status::Status;
use crate::subsystem::{Snapshot, Subject, Subsystem};

impl PollGroup {
    /// The subsystem that a request is for, unless the request is held back: then it is parked, and begun again later. One that has its lease was let
    /// in before, and goes on.
    pub(super) fn open_subsystem<'t>(
        &mut self,
        snapshot: &'t Snapshot,
        name: RequestName,
        subject: Subject,
    ) -> Option<&'t Subsystem> {
        let subsystem = match subject {
            Subject::Nvm(id) => snapshot.subsystem(id),
            Subject::Discovery => None,
        };
        let Some(subsystem) = subsystem else {
            self.complete(name, Status::INVALID_NAMESPACE, 0);
            return None;
        };
        if subsystem.is_paused
            && let Some(qpair) = self.qpairs.look_mut(name.0)
            && qpair.request(name.1).lease.is_none()
        {
            self.park(name, Cause::Paused(subsystem.id));
            return None;
        }
        Some(subsystem)
    }
}

/// By whom an I/O command comes, and by which way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    /// What its controller is of.
    pub(super) subject: Subject,
    /// Its controller.
    pub(super) controller_id: u16,
    /// Its host.
    pub(super) host: HostNumber,
    /// The address that its qpair came by.
    pub(super) listener: SocketAddr,
}

/// The namespace that a command is for, if it may be carried out.
///
/// # Errors
/// The status that answers it.
pub(super) fn admit_io<'t>(
    subsystem: &'t Subsystem,
    sender: Sender,
    command: &IoCommand,
) -> Result<&'t Namespace, Status> {
    let namespace = subsystem.visible_namespace(command.nsid, sender.controller_id).ok_or(Status::INVALID_NAMESPACE)?;
    if subsystem.is_asymmetric && !defect::is(Defect::AnaStateIsNotAsked) {
        usable(subsystem.ana_state(sender.listener, namespace.ana_group))?;
    }
    match &namespace.standing {
        Some(standing) if !standing.admits(sender.host, command.kind.access()) => Err(Status::RESERVATION_CONFLICT),
        Some(_) | None => Ok(namespace),
    }
}

/// Whether I/O commands are carried out in this state [NVMe Base 2.0, 8.1.3].
fn usable(state: AnaState) -> Result<(), Status> {
    match state {
        AnaState::Optimized | AnaState::NonOptimized => Ok(()),
        AnaState::Inaccessible => Err(Status::ANA_INACCESSIBLE),
        AnaState::PersistentLoss => Err(Status::ANA_PERSISTENT_LOSS),
        AnaState::Change => Err(Status::ANA_TRANSITION),
    }
}
