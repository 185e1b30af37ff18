//! What the control plane has every polling CPU do for a change, once the snapshot says what is to hold.
//!
//! An order is obeyed in one of two ways: at once, or when the last of something is gone from this CPU. Each is answered once.

use std::fmt;
use std::sync::Arc;

use bdev::{BdevError, Channel, Device, Gate, Statistics, Throttle};

use crate::namespace::DeviceIndex;
use crate::reservation::HostNumber;
use crate::subsystem::SubsystemId;

/// See the module.
#[derive(Debug)]
pub(crate) enum Order {
    /// The subsystem is paused: answered when no lease on one of these devices is out here. A [`Self::Resume`] answers it too.
    Pause {
        /// Which.
        subsystem: SubsystemId,
        /// Of its namespaces.
        devices: Vec<DeviceIndex>,
    },
    /// Commands that are let in from now on are let in by this snapshot: answered at once.
    Look,
    /// Commands of these hosts on a namespace that were let in before this end: those that wait are aborted, and it is answered when the others, also
    /// of qpairs that drain, are with no device any more.
    Evict {
        /// Of which subsystem.
        subsystem: SubsystemId,
        /// On which namespace.
        nsid: u32,
        /// Whose.
        hosts: Vec<HostNumber>,
    },
    /// The subsystem is paused no longer: what was parked for that is begun.
    Resume {
        /// Which.
        subsystem: SubsystemId,
    },
    /// No snapshot has a namespace of this device any more: answered when no lease on it is out here.
    Await(DeviceIndex),
    /// Whatever these devices have is ended, and nothing new is begun: answered when they have nothing of this CPU's any more.
    Reset(Vec<DeviceIndex>),
    /// The reset is over on every CPU: what came meanwhile is begun.
    EndReset(Vec<DeviceIndex>),
    /// A way into a new device.
    Open(DeviceIndex, Way),
    /// The way into a device goes home with the answer. No lease on it is out.
    Close(DeviceIndex),
}

/// One CPU's way into a device, on its way there or home.
pub struct Way {
    pub(crate) channel: Box<dyn Channel>,
    /// Bytes of the device's blocks.
    pub(crate) block_len: u32,
    /// What that CPU counts of it.
    pub(crate) statistics: Arc<Statistics>,
    /// Whether its CPU's sleep ends with the channel's descriptor.
    pub(crate) is_watched: bool,
}

impl Way {
    /// Into a device that is there from the start. May make system calls.
    pub(crate) fn open(
        device: &dyn Device,
        statistics: &Arc<Statistics>,
        throttle: Arc<Throttle>,
    ) -> Result<Self, BdevError> {
        let channel = device.open_channel()?;
        Ok(Self::new(channel, device.geometry().block_len, Arc::clone(statistics), throttle, true))
    }

    /// By a channel that is open.
    pub(crate) fn new(
        channel: Box<dyn Channel>,
        block_len: u32,
        statistics: Arc<Statistics>,
        throttle: Arc<Throttle>,
        is_watched: bool,
    ) -> Self {
        let channel = Box::new(Gate::new(channel, throttle, block_len));
        Self { channel, block_len, statistics, is_watched }
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Way")
    }
}
