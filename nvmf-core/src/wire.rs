//! Wire formats: bytes as the specifications lay them out, and nothing of what they mean for a controller.
//!
//! A format is a `repr(C)` structure of little-endian fields whose names and places are the specification's (tests check every offset):
//! that is the named byte ranges. A reference or copy made of bytes by `zerocopy` is the checked view: its size is right, every value of
//! every field is possible. What a peer sent is then parsed into a typed form whose values are legal: [`crate::command`] for commands,
//! [`ConnectParameters`], [`SglDescriptor`], [`Capabilities`] and so on here. Nothing here allocates for a command, and nothing panics on any bytes.
//!
//! May be called on any CPU; owns nothing.

pub mod auth;
pub mod identify;
pub mod log;
pub mod reservation;

mod completion;
mod connect;
mod discovery;
mod event;
mod fabrics;
mod feature;
mod nqn;
mod opcode;
mod property;
mod sgl;
mod submission;
mod text;

pub use completion::CompletionEntry;
pub use connect::{
    ANY_STATIC_CONTROLLER_ID, ConnectData, ConnectDataError, ConnectParameters, ConnectRefusal, ConnectResult,
    DYNAMIC_CONTROLLER_ID,
};
pub use discovery::{
    AddressFamily, DiscoveryEntry, DiscoveryHeader, RdmaAddressSubtype, SubsystemType, TransportKind, discovery_flags,
    discovery_treq, tcp_security,
};
pub use event::{AsyncEvent, AsyncEventConfiguration};
pub use fabrics::{ConnectEntry, DisconnectEntry, PropertyEntry};
pub use feature::{FeatureId, HostBehavior, QueueCounts, Timestamp};
pub use nqn::{DISCOVERY_NQN, NQN_LEN_MAX, Nqn, NqnError};
pub use opcode::{AdminOpcode, FabricsType, IoOpcode, OPCODE_FABRICS};
pub use property::{Capabilities, Configuration, ControllerStatus, Property, ShutdownStatus, Version};
pub use sgl::{DataPointer, KeyedList, SglDescriptor, SglError};
pub use submission::SubmissionEntry;
pub use text::{pad_text, trim_text};
pub use zerocopy::little_endian::{U16, U32, U64, U128};

/// Bytes of a submission queue entry.
pub const SUBMISSION_ENTRY_LEN: usize = 64;
/// Bytes of a completion queue entry.
pub const COMPLETION_ENTRY_LEN: usize = 16;
