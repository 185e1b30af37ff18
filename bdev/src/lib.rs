//! Block devices: [`Device`] holds the facts that never change and is shared; a [`Channel`] is one CPU's way into it.
//!
//! Stands at step 7 of the walk: submit, poll. An operation carries a token chosen by its submitter, which its completion brings back.
//!
//! | device | what it is |
//! |---|---|
//! | [`Memory`] | blocks in memory of our own; reads are pushed straight out of it |
//! | [`Null`] | drops what is written and reads as zeroes |
//! | [`File`] | a regular file or a block device, through io_uring |
//! | [`Nvme`] | a local NVMe drive's namespace, by its own commands |
//! | [`Rbd`] | an image of a Ceph cluster, through librbd |
//! | [`Fault`] | another device, with what goes wrong injected |
//! | [`Delay`] | another device, slower |
//! | [`Partition`] | a range of another device's blocks |
//!
//! A [`Gate`] before a channel holds its device to limits of operations and bytes per second.
//!
//! What every device keeps is written down as tests: `tests/contract`.

mod delay;
mod fault;
mod partition;
mod qos;

mod file;
mod memory;
mod null;
mod nvme;
mod rbd;

mod extent;
mod inbox;
mod layer;
mod lock;
mod size;
mod uring;
mod zeroes;

mod channel;
mod device;
mod statistics;

pub use channel::{Channel, Completion, Operation, OperationKind};
pub use delay::{Delay, Latencies, LatencyKind};
pub use device::{Atomic, BdevError, Deallocation, Device, DeviceError, Geometry, Identity, Layer, News, Preferred};
pub use fault::{Affected, Effect, Fault, Rule};
pub use file::{File, FileOptions};
pub use memory::Memory;
pub use null::Null;
pub use nvme::{Nvme, NvmeOptions};
pub use partition::Partition;
pub use qos::{BURST_MS_MAX, BURST_MS_MIN, Gate, Limits, Rates, Throttle};
pub use rbd::{Ceph, Cluster, ClusterOptions, Connection, Rbd, RbdOptions, Standing, wait_until_closed};
pub use statistics::{Class, ClassStatistics, Meter, Statistics};
