//! Why a host's connection came to nothing or broke, in words for the person who asked for it.

use std::net::SocketAddr;

use nvmf_core::host::HostError;

use crate::binding::{RejectData, RejectStatus};
use crate::verbs::RejectReason;

/// The end of a connection that nobody wanted. The first failure of any queue ends all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostFailure {
    /// Nobody answers at this address.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why, and what to do.
        why: String,
    },
    /// The target refused a queue.
    #[error("{address} refused queue {qid}: {why}")]
    Rejected {
        /// Where.
        address: SocketAddr,
        /// Which queue; 0 is the admin queue.
        qid: u16,
        /// Why, in words.
        why: String,
    },
    /// The machine or the fabric could not do something.
    #[error("{what}: {why}")]
    Fabric {
        /// What was wanted.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// Something did not end in time.
    #[error("{what} took longer than {limit_ms} ms: is the target alive? (queue {qid})")]
    TimedOut {
        /// What.
        what: &'static str,
        /// Which queue; 0 is the admin queue.
        qid: u16,
        /// The limit.
        limit_ms: u64,
    },
    /// The target broke the protocol.
    #[error("the target broke the protocol on queue {qid}: {what}")]
    Protocol {
        /// Which queue.
        qid: u16,
        /// How.
        what: String,
    },
    /// The connection is gone.
    #[error("the connection of queue {qid} is gone: {why}")]
    Disconnected {
        /// Which queue.
        qid: u16,
        /// Why, as far as it is known.
        why: String,
    },
    /// The host's own device gives nothing back any more. Every connection is dead.
    #[error(
        "this host's RDMA device {what}: every connection is dead, and this process makes no new one; start it again when the device is back"
    )]
    DeviceGone {
        /// What is the matter with it.
        what: &'static str,
    },
    /// The controller refused or failed a command that it needs to become ready.
    #[error("queue {qid}: {error}")]
    Controller {
        /// Which queue.
        qid: u16,
        /// What the controller said.
        error: HostError,
    },
    /// The controller grants less than was asked for.
    #[error("{what}: asked for {wanted}, the controller allows {allowed}: {instead}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// Asked for.
        wanted: u64,
        /// Granted.
        allowed: u64,
        /// The way out.
        instead: &'static str,
    },
    /// The host itself was asked to stop.
    #[error("stopped before it was done")]
    Stopped,
}

impl HostFailure {
    /// Which queue it is about, where it is about one.
    pub(super) fn qid(&self) -> Option<u16> {
        match self {
            Self::Rejected { qid, .. }
            | Self::TimedOut { qid, .. }
            | Self::Protocol { qid, .. }
            | Self::Disconnected { qid, .. }
            | Self::Controller { qid, .. } => Some(*qid),
            Self::Unreachable { .. }
            | Self::Fabric { .. }
            | Self::DeviceGone { .. }
            | Self::Limit { .. }
            | Self::Stopped => None,
        }
    }
}

/// A connection's refusal in words.
pub(super) fn rejection(address: SocketAddr, qid: u16, reason: &RejectReason) -> HostFailure {
    let why = match reason {
        RejectReason::Unreachable(why) => return HostFailure::Unreachable { address, why: why.clone() },
        RejectReason::Stale => "it still knows an old connection of this queue pair; try again".to_owned(),
        RejectReason::TimedOut => "no answer in time; is the target alive?".to_owned(),
        RejectReason::Consumer(bytes) => match RejectData::parse(bytes) {
            Err(_) => "without saying why".to_owned(),
            Ok(RejectData { status }) => match RejectStatus::from_number(status) {
                Some(known) => format!("{known} (status {status}): {}", advice(known)),
                None => format!("status {status}, which the specification does not know"),
            },
        },
    };
    HostFailure::Rejected { address, qid, why }
}

fn advice(status: RejectStatus) -> &'static str {
    match status {
        RejectStatus::NoResources => "the target has no room for another queue; try fewer queue pairs, or later",
        RejectStatus::InvalidQueueId => "more queues than the target offers; try fewer queue pairs",
        RejectStatus::InvalidSendQueueSize | RejectStatus::InvalidReceiveQueueSize => {
            "the queue is deeper than the target offers; try a smaller depth"
        }
        RejectStatus::InvalidLength
        | RejectStatus::InvalidRecordFormat
        | RejectStatus::InvalidInboundReadDepth
        | RejectStatus::InvalidOutboundReadDepth
        | RejectStatus::InvalidControllerId => "the target does not understand this host's connection request",
    }
}
