//! NVMe over Fabrics: wire formats, subsystems, controllers, namespaces, and the walk of a command.
//!
//! No clock, no socket, no thread, no unsafe code. Time and messages come with [`reactor::Turn`]; data moves through [`Transport`].
#![forbid(unsafe_code)]

pub mod host;

pub mod poll_group;
pub mod target;

mod controller;
mod discovery;
mod io_limits;
mod message;
mod qpair;

mod devices;
mod failure;
mod lock;
mod membership;
mod notice;
mod plan;

mod course;

mod namespace;
mod order;
mod petition;
mod visibility;
mod withdrawal;

pub mod auth;

mod subsystem;

mod referral;

pub mod reservation;

pub mod command;
pub mod wire;

pub mod counters;
#[doc(hidden)]
pub mod defect;
pub mod limits;
pub mod spec;
pub mod status;
pub mod trace;
pub mod transport;

pub use counters::PollGroupCounters;
pub use message::Message;
pub use order::Way;
pub use poll_group::{PollGroup, PollGroupOptions};
pub use qpair::header::{QpairHeader, QpairStage, Tally};
pub use target::{ChangeError, ChangeId, Directory, Target};
pub use transport::{Arrival, DisconnectReason, QpairSpec, Receive, RemoteBuffer, Slot, Transport};

/// The kind that a qpair's handles are named for. The poll group keeps the NVMe side under it, the transport its queue pair.
#[derive(Debug)]
pub enum Qpair {}

/// The kind that a controller's handles are named for.
#[derive(Debug)]
pub(crate) enum ControllerKind {}
