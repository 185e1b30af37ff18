//! What a host's command asks of the control plane, which alone changes reservations, and what it is answered.
//!
//! A petition names its request by handle and slot. Its qpair does not wait for the ruling when it ends: a ruling that finds nobody is a miss.

use reactor::Handle;

use crate::Qpair;
use crate::membership::Remote;
use crate::reservation::{Claim, HostNumber};
use crate::status::Status;
use crate::subsystem::SubsystemId;
use crate::transport::Slot;

/// See the module.
#[derive(Debug)]
pub(crate) struct Petition {
    /// Whose request it is.
    pub(crate) qpair: Remote<Qpair>,
    /// Which.
    pub(crate) slot: Slot,
    /// For whom.
    pub(crate) host: HostNumber,
    /// Of which subsystem.
    pub(crate) subsystem: SubsystemId,
    /// On which namespace; FFFFFFFFh for a feature of all of them.
    pub(crate) nsid: u32,
    /// What for.
    pub(crate) plea: Plea,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plea {
    /// To change something.
    Claim(Claim),
    /// The report.
    Report,
    /// The Reservation Notification Mask.
    ReadMask,
    /// Another one.
    SetMask(u32),
    /// The Reservation Persistence feature.
    ReadPersistence,
}

/// The answer.
#[derive(Debug)]
pub(crate) struct Ruling {
    /// Whose request it was.
    pub(crate) qpair: Handle<Qpair>,
    /// Which.
    pub(crate) slot: Slot,
    /// How it ends.
    pub(crate) status: Status,
    /// DW0.
    pub(crate) result: u32,
    /// Data for the host, all that there is.
    pub(crate) report: Box<[u8]>,
}
