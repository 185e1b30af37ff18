//! Block devices: [`Device`] holds the facts that never change and is shared; a [`Channel`] is one CPU's way into it.
//!
//! Stands at step 7 of the walk: submit, poll. An operation carries a token chosen by its submitter, which its completion brings back.

mod channel;
mod device;

pub use channel::{Channel, Completion, Operation, OperationKind};
pub use device::{BdevError, Device, DeviceError, Geometry};
