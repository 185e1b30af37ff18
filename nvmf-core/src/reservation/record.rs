//! What of a namespace's reservations outlives the target: plain data, which a program keeps for this layer and gives back at its next start.

use super::{HostId, Registry};
use crate::wire::reservation::ReservationType;

/// The reservations of a namespace through a loss of power [NVMe Base 2.0, 5.27.1.27, 8.19]. The default is what a namespace has that never had one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservationRecord {
    /// PTPL. Without it the rest is empty.
    pub is_persistent: bool,
    /// GEN.
    pub generation: u32,
    /// Its type, and the identifier of the host that acquired it.
    pub reservation: Option<(ReservationType, HostId)>,
    /// By host identifier.
    pub registrants: Vec<RegistrantRecord>,
}

/// One registrant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistrantRecord {
    /// Its host identifier.
    pub host_id: HostId,
    /// Its key: not 0.
    pub key: u64,
}

/// Why a record is none that this layer has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// More registrants than there may be.
    #[error("it has {count} registrants, and {limit} is the most")]
    TooMany {
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A key of 0.
    #[error("a registrant has key 0, which is none")]
    NoKey,
    /// Two entries of one host.
    #[error("a host has registered twice")]
    Twice,
    /// Nobody holds the reservation.
    #[error("the holder of the reservation is no registrant")]
    NoHolder,
}

impl ReservationRecord {
    /// Whether a target can be started with it.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn check(&self) -> Result<(), RecordError> {
        Registry::from_record(self).map(|_| ())
    }
}
