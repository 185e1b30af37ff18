//! One connection, one queue pair, one listener, as the control plane knows them.
//!
//! Owned by the provider, in tables by number; numbers are never reused.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::directory::SocketFile;
use super::link::LinkCore;
use super::mapping::Mapping;
use super::message::{Accept, Parameters};
use super::pair::{Copies, Pair};
use crate::soft::nic::QueuePairControl;
use crate::verbs::Ticket;

/// Where a connection stands. Deadlines are on the turn's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Active: the peer is live.
    Resolved,
    /// Active: asked for.
    Connecting { deadline_ns: u64 },
    /// Passive: asked for, and not answered yet.
    Requested,
    /// Passive: accepted, and not heard of since.
    Accepted { deadline_ns: u64 },
    /// Both may use it.
    Established,
    /// We have ended it, and wait for the reply.
    Disconnecting { deadline_ns: u64 },
    /// The peer has ended it, and waits for ours.
    Disconnected,
    /// Ended on both sides a moment ago.
    Timewait { deadline_ns: u64 },
    /// Over, or came to nothing.
    Closed,
}

impl State {
    pub(super) fn deadline_ns(self) -> Option<u64> {
        match self {
            Self::Connecting { deadline_ns }
            | Self::Accepted { deadline_ns }
            | Self::Disconnecting { deadline_ns }
            | Self::Timewait { deadline_ns } => Some(deadline_ns),
            Self::Resolved | Self::Requested | Self::Established | Self::Disconnected | Self::Closed => None,
        }
    }
}

/// What waits for a NIC to take a connection's link.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    /// Passive: the answer to the peer.
    Answer(Accept),
    /// Active: the event, and the word to the peer that it may begin.
    Establish { private_data: Vec<u8> },
}

/// One connection.
#[derive(Debug)]
pub(super) struct ConnectionRecord {
    pub(super) number: u64,
    pub(super) peer: u64,
    pub(super) state: State,
    pub(super) address: SocketAddr,
    pub(super) listener: Option<u64>,
    /// The peer's name of it.
    pub(super) remote: Option<u64>,
    pub(super) remote_queue_pair: Option<u32>,
    /// What the peer said.
    pub(super) parameters: Parameters,
    pub(super) remote_news_slot: u32,
    /// The peer's port that its queue pair is on.
    pub(super) remote_port: u32,
    /// Passive, until there is a queue pair for it: the connection's memory.
    pub(super) memory: Option<(Mapping, u32)>,
    pub(super) queue_pair: Option<u64>,
    /// What is said once the NIC has taken the link: before that a send would be refused.
    pub(super) pending: Option<Pending>,
    /// The peer may store at our place of the board.
    pub(super) is_place_known: bool,
    /// Events that were given out and not acknowledged.
    pub(super) unacknowledged: u32,
    /// The peer asked for it: its memory is the peer's.
    pub(super) is_passive: bool,
    pub(super) destroy: Option<Ticket>,
}

/// One queue pair.
#[derive(Debug)]
pub(super) struct QueuePairRecord {
    pub(super) control: QueuePairControl,
    pub(super) connection: u64,
    pub(super) peer: u64,
    pub(super) port: usize,
    pub(super) news_slot: u32,
    pub(super) ring_len: u32,
    /// The connection's memory until there is a link, with the descriptor to hand over where we made it.
    pub(super) memory: Option<(Mapping, Option<OwnedFd>)>,
    pub(super) core: Option<Arc<LinkCore>>,
    pub(super) unacknowledged: u32,
    pub(super) ending: Option<Ending>,
}

/// A queue pair on its way out.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) ticket: Ticket,
    /// Copies that may still run; `None` once the worker unmaps.
    pub(super) copies: Option<(Arc<Pair>, Copies)>,
    pub(super) is_unmapping: bool,
}

/// One listener.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) file: Option<SocketFile>,
    /// Not looked at before this time.
    pub(super) paused_until_ns: Option<u64>,
    /// Connection requests that were not answered yet.
    pub(super) waiting_count: u32,
    pub(super) unacknowledged: u32,
    pub(super) unlisten: Option<Ticket>,
}
