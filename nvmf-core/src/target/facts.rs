//! What the control plane tells of subsystems, controllers and qpairs: to list them.

use std::net::SocketAddr;

use reactor::{Cpu, Guard};

use super::Target;
use super::controllers::{ControllerFacts, PastController};
use crate::qpair::header::QpairStage;
use crate::spec::SubsystemSpec;
use crate::subsystem::Subject;
use crate::wire::DISCOVERY_NQN;

/// A qpair that has a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QpairFacts {
    /// Where it lives.
    pub cpu: Cpu,
    /// CNTLID.
    pub controller_id: u16,
    /// Whose host.
    pub host_nqn: String,
    /// Queue id.
    pub qid: u16,
    /// Where it is in its life.
    pub stage: QpairStage,
    /// Where the host connected to.
    pub listener: SocketAddr,
    /// Where it came from.
    pub peer: SocketAddr,
    /// Commands fetched that read, and the bytes that they bring.
    pub read_count: u64,
    /// See `read_count`.
    pub read_bytes: u64,
    /// Commands fetched that write, and the bytes that they take.
    pub write_count: u64,
    /// See `write_count`.
    pub written_bytes: u64,
}

impl Target {
    /// The subsystems, those that are being deleted too. Every namespace has its UUID.
    pub fn subsystems(&self) -> impl Iterator<Item = &SubsystemSpec> {
        self.subsystems.iter().map(|entry| &entry.spec)
    }

    /// The controllers that went last, oldest first.
    pub fn past_controllers(&self) -> impl Iterator<Item = &PastController> {
        self.controllers.past()
    }

    /// The controllers of a subsystem, by id; of the discovery service too, by its name. `None`: there is no such subsystem.
    pub fn controllers(&self, nqn: &str) -> Option<impl Iterator<Item = ControllerFacts<'_>>> {
        Some(self.controllers.of(self.subject(nqn)?))
    }

    /// The qpairs of a subsystem's controllers, by controller and queue id. `None`: there is no such subsystem.
    #[must_use]
    pub fn qpairs(&self, guard: Guard<'_>, nqn: &str) -> Option<Vec<QpairFacts>> {
        let subject = self.subject(nqn)?;
        let mut found = Vec::new();
        for cpu in (0..self.directory.cpu_count()).map(Cpu) {
            for header in self.directory.qpairs(guard, cpu) {
                let owner = self.controllers.of(subject).find(|owner| Some(owner.id) == header.controller_id());
                let Some(owner) = owner else { continue };
                found.push(QpairFacts {
                    cpu,
                    controller_id: owner.id,
                    host_nqn: owner.host_nqn.into(),
                    qid: header.qid,
                    stage: header.stage(),
                    listener: header.listener,
                    peer: header.peer,
                    read_count: header.read_count.value(),
                    read_bytes: header.read_bytes.value(),
                    write_count: header.write_count.value(),
                    written_bytes: header.written_bytes.value(),
                });
            }
        }
        found.sort_by_key(|qpair| (qpair.controller_id, qpair.qid, qpair.cpu));
        Some(found)
    }

    fn subject(&self, nqn: &str) -> Option<Subject> {
        if nqn == DISCOVERY_NQN {
            return Some(Subject::Discovery);
        }
        self.subsystems.iter().find(|entry| entry.spec.nqn == nqn).map(|entry| Subject::Nvm(entry.id))
    }
}
