//! Reservations of one namespace: who has registered, who holds what, and which commands of others that keeps out [NVMe Base 2.0, 8.19].
//!
//! Pure: a state, a claim of a host, the state after it. Keeps no time, sends nothing, and knows no CPU.
//!
//! | part | what it is |
//! |---|---|
//! | [`Registry`] | the state, and what each claim does to it |
//! | [`Standing`] | what of it I/O commands need, as every CPU sees it |
//! | [`ReservationRecord`] | what of it outlives the target |
//! | [`HostNumber`] | a host, in a word |
//!
//! Where it lives and how a change becomes known to every CPU is `target::reservations`'s matter.

mod claim;
mod record;
mod registry;
mod standing;

#[cfg(test)]
mod model;

pub use record::{RecordError, RegistrantRecord, ReservationRecord};

pub(crate) use claim::{Claim, Effects};
pub(crate) use registry::Registry;
pub(crate) use standing::{Access, Standing};

/// A host's identifier, as Connect gave it: reservations go by it, over all controllers of the host [NVMe Base 2.0, 8.19].
pub(crate) type HostId = [u8; 16];

/// A host identifier in a word, for as long as a controller or a registrant has it: what I/O commands compare instead of 16 bytes. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostNumber(pub(crate) u64);
