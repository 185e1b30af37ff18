//! What the control plane has every polling CPU do for a change, once the snapshot says what is to hold.
//!
//! An order is obeyed in one of two ways: at once, or when the last of something is gone from this CPU. Each is answered once.

use crate::namespace::DeviceIndex;
use crate::subsystem::SubsystemId;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// The subsystem is paused: answered when no lease on one of these devices is out here. A [`Self::Resume`] answers it too.
    Pause {
        /// Which.
        subsystem: SubsystemId,
        /// Of its namespaces.
        devices: Vec<DeviceIndex>,
    },
    /// The subsystem is paused no longer: what was parked for that is begun.
    Resume {
        /// Which.
        subsystem: SubsystemId,
    },
}
