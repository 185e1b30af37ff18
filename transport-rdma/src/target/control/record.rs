//! One connection, as the control plane knows it: what it waits for. Consumed by value at each step.
//!
//! | stage | waits for | owns |
//! |---|---|---|
//! | Creating | the queue pair | the request |
//! | Abandoned | the queue pair, only to destroy it | the connection |
//! | Adopting | its CPU | the request |
//! | Unwanted | its CPU, only to end it | the connection |
//! | Live | events | the connection |
//! | Ending | its CPU's drain | the connection |
//! | Rejecting | the queue pair's destruction, then it is rejected | the request |
//! | Destroying | the queue pair's destruction | the connection |
//! | Reaping | its CPU's grace period | the connection |
//! | Leaving | the connection's destruction | nothing |
//! | Quarantined | nothing: the queue pair could not be destroyed | the connection |

use std::net::SocketAddr;

use nvmf_core::{DisconnectReason, Qpair};
use reactor::Handle;

use super::admission::Reservation;
use super::host_shares::HostShare;
use crate::binding::RejectStatus;
use crate::target::message::Terms;
use crate::trace::ConnectionStage;
use crate::verbs::{Connection, ConnectionId, ConnectionRequest, DeviceId};

/// See the module.
#[derive(Debug)]
pub(super) enum Stage {
    Creating {
        request: ConnectionRequest,
        queue_id: u16,
    },
    Abandoned {
        connection: Connection,
    },
    Adopting {
        request: ConnectionRequest,
    },
    Unwanted {
        connection: Connection,
        reason: DisconnectReason,
        last_wqe: LastWqe,
    },
    Live {
        connection: Connection,
        qpair: Handle<Qpair>,
    },
    Ending {
        connection: Connection,
        qpair: Handle<Qpair>,
    },
    Rejecting {
        request: ConnectionRequest,
        status: RejectStatus,
    },
    Destroying {
        connection: Connection,
        then: AfterDestroy,
    },
    Reaping {
        connection: Connection,
    },
    Leaving,
    Quarantined {
        #[expect(dead_code, reason = "kept, since it cannot be destroyed")]
        connection: Connection,
    },
}

/// Whether LAST_WQE_REACHED came while nobody could be told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastWqe {
    NotSeen,
    Reached,
}

/// Who waits for a queue pair's destruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum AfterDestroy {
    /// Its CPU, which has the qpair still.
    TellCpu(Handle<Qpair>),
    /// Nobody: no CPU ever had it.
    DestroyConnection,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: ConnectionId,
    /// Where the peer connected to: a copy, so that nobody asks a connection or a listener that may be gone.
    pub(super) listener: SocketAddr,
    /// Which it is on.
    pub(super) device: DeviceId,
    /// Which CPU's room it takes.
    pub(super) cpu: u16,
    pub(super) terms: Terms,
    /// Its part of that room. Nothing, once it is quarantined.
    pub(super) reservation: Reservation,
    /// And of its host's.
    pub(super) host_share: HostShare,
    /// The stage that the trace was told of last.
    pub(super) entered: ConnectionStage,
    /// When.
    pub(super) entered_ns: u64,
    /// This stage, if it was reported to last too long.
    pub(super) reported: Option<ConnectionStage>,
    /// `None` only while a step is being taken.
    pub(super) stage: Option<Stage>,
}

impl Stage {
    /// Its word, for traces and logs.
    pub(super) fn word(&self) -> ConnectionStage {
        match self {
            Self::Creating { .. } => ConnectionStage::Creating,
            Self::Abandoned { .. } => ConnectionStage::Abandoned,
            Self::Adopting { .. } => ConnectionStage::Adopting,
            Self::Unwanted { .. } => ConnectionStage::Unwanted,
            Self::Live { .. } => ConnectionStage::Live,
            Self::Ending { .. } => ConnectionStage::Ending,
            Self::Rejecting { .. } => ConnectionStage::Rejecting,
            Self::Destroying { .. } => ConnectionStage::Destroying,
            Self::Reaping { .. } => ConnectionStage::Reaping,
            Self::Leaving => ConnectionStage::Leaving,
            Self::Quarantined { .. } => ConnectionStage::Quarantined,
        }
    }
}
