//! The control plane's side: subsystems and their snapshots, controller ids.
//!
//! Owned by the control plane's program, and called on its CPU alone. Poll groups see the [`Directory`], and ask by message.

mod check;
mod directory;
mod ids;

use std::sync::Arc;

use bdev::Device;
use reactor::{Cpu, Domain, Full, Grace, Limbo, Turn, Unlinked};

pub use check::SpecError;
pub use directory::Directory;

use crate::membership::Remote;
use crate::message::{Letter, Message};
use crate::namespace::{DeviceIndex, Namespace};
use crate::spec::{SubsystemSpec, TargetSpec};
use crate::status::Status;
use crate::subsystem::{Snapshot, Subsystem};
use crate::trace::{Step, place};
use ids::ControllerIds;

/// Snapshots that wait for their readers: changes come one at a time and each waits for a free place.
const SNAPSHOT_LIMBO_MAX: usize = 16;

/// Subsystems, owned by the control plane.
pub struct Target {
    spec: TargetSpec,
    directory: Arc<Directory>,
    ids: ControllerIds,
    limbo: Limbo<Unlinked<Snapshot>>,
    generation: u64,
    closing: Closing,
}

/// Shutting down, as far as others know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// Asked for; the snapshot does not say so yet.
    Unpublished,
    Published,
}

impl Target {
    /// Checks the specification and publishes the first snapshot. `cpu_count` polling CPUs.
    ///
    /// # Errors
    /// [`SpecError`] names the field.
    pub fn new(domain: &Domain, cpu_count: u16, mut spec: TargetSpec) -> Result<Self, SpecError> {
        check::check(cpu_count, &spec)?;
        for subsystem in &mut spec.subsystems {
            for namespace in &mut subsystem.namespaces {
                // Derived, so that it survives a restart.
                let derived = || Namespace::derived_uuid(&subsystem.nqn, namespace.device.name());
                namespace.uuid = Some(namespace.uuid.unwrap_or_else(derived));
            }
        }
        let devices: Vec<_> =
            spec.subsystems.iter().flat_map(|s| &s.namespaces).map(|n| Arc::clone(&n.device)).collect();
        let snapshot = Box::new(snapshot(&spec, 1, false)?);
        Ok(Self {
            directory: Arc::new(Directory::new(domain, cpu_count, snapshot, devices)),
            spec,
            ids: ControllerIds::new(),
            limbo: Limbo::new(Grace::Readers, SNAPSHOT_LIMBO_MAX),
            generation: 1,
            closing: Closing::No,
        })
    }

    /// For the poll groups.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// The subsystems. Every namespace has its UUID.
    #[must_use]
    pub fn subsystems(&self) -> &[SubsystemSpec] {
        &self.spec.subsystems
    }

    /// The devices of all namespaces.
    #[must_use]
    pub fn devices(&self) -> &[Arc<dyn Device>] {
        self.directory.devices()
    }

    /// A message of a poll group.
    pub fn receive<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, from: Option<Cpu>, message: Message) {
        match message.0 {
            Letter::Admit { controller } => self.admit(turn, controller),
            Letter::Retire { controller_id } => {
                self.directory.set_controller(controller_id, None);
                if self.ids.free(controller_id) {
                    Step::IdFreed.trace(turn, 0, controller_id.into());
                } else {
                    tracing::error!(controller_id, ?from, "a controller id was given back twice");
                }
            }
            letter @ (Letter::Admitted { .. }
            | Letter::NotAdmitted { .. }
            | Letter::Join(_)
            | Letter::Joined { .. }
            | Letter::NotJoined { .. }
            | Letter::Leave(_)
            | Letter::End { .. }) => {
                tracing::error!(?letter, ?from, "a message for a polling CPU came to the control plane");
            }
        }
    }

    /// Housekeeping, once per turn: what waits in limbo.
    pub fn poll<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>) {
        while let Some(old) = self.limbo.reap(turn) {
            drop(old.into_object());
        }
        if self.closing == Closing::Unpublished && self.limbo.len() < SNAPSHOT_LIMBO_MAX {
            self.closing = Closing::Published;
            self.publish(turn);
        }
    }

    /// Refuses new controllers from now on.
    pub fn begin_shutdown(&mut self) {
        if self.closing == Closing::No {
            self.closing = Closing::Unpublished;
        }
    }

    /// Controllers that are alive or draining. Zero, with nothing in limbo, lets the control plane leave.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.ids.count() + self.limbo.len()
    }

    /// Gives a new controller its id, and puts it where every CPU can find it.
    fn admit<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, controller: Remote<crate::ControllerKind>) {
        // Retryable: another path, or this one after a restart, may take the host.
        let refused = Letter::NotAdmitted { controller: controller.handle, status: Status::CONNECT_CONTROLLER_BUSY };
        let answer = if self.closing == Closing::No {
            self.ids.allocate().map_or(refused, |controller_id| {
                self.directory.set_controller(controller_id, Some(controller));
                Step::IdGiven.trace(turn, place(controller.cpu, controller.handle), controller_id.into());
                Letter::Admitted { controller: controller.handle, controller_id }
            })
        } else {
            refused
        };
        turn.send(controller.cpu, Message(answer).into());
    }

    fn publish<M>(&mut self, turn: &mut Turn<'_, M>) {
        let next = match snapshot(&self.spec, self.generation + 1, self.closing != Closing::No) {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "a checked specification is wrong");
                return;
            }
        };
        self.generation += 1;
        let old = self.directory.replace_snapshot(Box::new(next));
        if let Err(Full(_leaked)) = self.limbo.retire(turn, old) {
            tracing::error!("a snapshot found no place in limbo and is leaked");
        }
    }
}

/// The specification as CPUs see it. Devices are numbered in the order of the specification.
fn snapshot(spec: &TargetSpec, generation: u64, is_closing: bool) -> Result<Snapshot, SpecError> {
    let mut device = 0u16;
    let mut subsystems = Vec::new();
    for subsystem in &spec.subsystems {
        let len = subsystem.namespaces.iter().map(|namespace| namespace.nsid as usize).max().unwrap_or(0);
        let mut namespaces: Vec<Option<Namespace>> = Vec::new();
        namespaces.resize_with(len, || None);
        for namespace in &subsystem.namespaces {
            namespaces[namespace.nsid as usize - 1] =
                Some(Namespace::new(&subsystem.nqn, namespace, DeviceIndex(device)));
            device += 1;
        }
        subsystems.push(Subsystem {
            nqn: check::nqn(&subsystem.nqn, "nqn", &subsystem.nqn)?,
            serial_number: subsystem.serial_number.clone(),
            model_number: subsystem.model_number.clone(),
            hosts: (!subsystem.allow_any_host).then(|| subsystem.hosts.clone()),
            listeners: subsystem.listeners.clone(),
            namespaces,
        });
    }
    Ok(Snapshot { generation, is_closing, controller: spec.controller, subsystems })
}
