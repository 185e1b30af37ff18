//! What the worker does: registration, making and destroying of queue pairs, destroying of ids, letting go of a removed device and opening it again.
//!
//! A destroy call waits until the events of its object are acknowledged, which the control plane does in the turn in which it fetches them: it never waits for
//! this thread.

use std::io;
use std::sync::Arc;

use super::device::Device;
use super::memory::Registration;
use super::queue_pair::Object;
use crate::verbs::{Ticket, VerbsError};

/// How a job ended. Numbers name connections and listeners; late ones are misses.
#[derive(Debug)]
pub(super) enum Outcome {
    Registered { ticket: Ticket, has_remote: bool, result: io::Result<Registration> },
    Deregistered { ticket: Ticket, result: io::Result<()> },
    Created { ticket: Ticket, connection: u64, result: io::Result<Arc<Object>> },
    Destroyed { ticket: Ticket, connection: u64, result: io::Result<()> },
    ConnectionGone { ticket: Option<Ticket>, connection: u64, result: io::Result<()> },
    DeviceReleased,
    DeviceReopened { ticket: Ticket, result: Result<Arc<Device>, VerbsError> },
    ListenerGone { ticket: Ticket, listener: u64, result: io::Result<()> },
}

/// The thread and the ways to it.
pub(super) type Worker = crate::worker::Worker<Outcome>;
