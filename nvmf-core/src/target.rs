//! The control plane's side: subsystems, their snapshots, controller ids.

use std::sync::Arc;

use reactor::{Cpu, Domain, Turn};

use crate::message::Message;
use crate::spec::TargetSpec;

/// What every CPU may look at: snapshots, the qpairs' headers, and where each controller lives.
pub struct Directory {
    _todo: (),
}

/// Why a target cannot be made of a [`TargetSpec`].
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A field is out of range.
    #[error("{subject}: {field} is {value}: {allowed}")]
    Field {
        /// Of what.
        subject: String,
        /// Which field.
        field: &'static str,
        /// What it was.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// Subsystems, owned by the control plane.
pub struct Target {
    _todo: (),
}

impl Target {
    /// Checks the specification and publishes the first snapshot. `cpu_count` polling CPUs.
    ///
    /// # Errors
    /// [`SpecError`] names the field.
    pub fn new(domain: &Domain, cpu_count: u16, spec: TargetSpec) -> Result<Self, SpecError> {
        let _ = (domain, cpu_count, spec);
        todo!()
    }

    /// For the poll groups.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        todo!()
    }

    /// A message of a poll group.
    pub fn receive<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, from: Option<Cpu>, message: Message) {
        let _ = (turn, from, message);
        todo!()
    }

    /// Housekeeping, once per turn: what waits in limbo.
    pub fn poll<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>) {
        let _ = turn;
        todo!()
    }

    /// Refuses new controllers from now on.
    pub fn begin_shutdown(&mut self) {
        todo!()
    }

    /// Controllers that are alive or draining. Zero, with nothing in limbo, lets the control plane leave.
    #[must_use]
    pub fn live_count(&self) -> usize {
        todo!()
    }
}
