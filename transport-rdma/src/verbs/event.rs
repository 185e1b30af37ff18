//! Connection management events, async events and the ends of tickets.

use std::net::SocketAddr;

use super::port::Port;
use super::provider::{RegisteredMemory, Ticket, VerbsError};

/// Names a connection at its provider, for messages and tables. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Names a listener. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u64);

/// A connection (an `rdma_cm_id`): destroyed once, by value.
#[derive(Debug)]
#[must_use = "a connection is destroyed by Provider::begin_destroy_connection"]
pub struct Connection {
    id: ConnectionId,
}

impl Connection {
    /// For providers.
    pub(crate) fn new(id: ConnectionId) -> Self {
        Self { id }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }
}

/// A connection that a peer asks for: accepted or rejected, once.
#[derive(Debug)]
#[must_use = "a connection request is accepted or rejected"]
pub struct ConnectionRequest {
    /// The connection that it will be.
    pub connection: Connection,
    /// Which listener took it.
    pub listener: ListenerId,
    /// The address that the peer connected to.
    pub local: SocketAddr,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The peer's private data, at most 56 bytes on real devices.
    pub private_data: Vec<u8>,
    /// RDMA READs that the peer will answer at a time.
    pub responder_resources: u8,
    /// RDMA READs that the peer will start at a time.
    pub initiator_depth: u8,
}

/// Why a connection came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The other side's consumer refused, with this private data (at most 148 bytes).
    Consumer(Vec<u8>),
    /// Nobody listens there, or may not be reached by this user.
    Unreachable(String),
    /// The peer still knows an old connection of this queue pair number; try again later.
    Stale,
    /// No answer in time.
    TimedOut,
}

/// What happened. Facts only: no pointer into the provider.
#[allow(missing_debug_implementations)]
pub enum Event<P: Port> {
    /// [`super::Provider::begin_register`].
    Registered {
        /// Which call.
        ticket: Ticket,
        /// Its end.
        result: Result<RegisteredMemory, VerbsError>,
    },
    /// [`super::Provider::begin_deregister`]: no later write under its keys.
    Deregistered {
        /// Which call.
        ticket: Ticket,
    },
    /// [`super::Provider::begin_create_queue_pair`].
    QueuePairCreated {
        /// Which call.
        ticket: Ticket,
        /// Its end.
        result: Result<P::QueuePair, VerbsError>,
    },
    /// [`super::Provider::begin_destroy_queue_pair`]: no later write under it. An error quarantines what it used.
    QueuePairDestroyed {
        /// Which call.
        ticket: Ticket,
        /// Its end.
        result: Result<(), VerbsError>,
    },
    /// [`super::Provider::begin_destroy_connection`].
    ConnectionDestroyed {
        /// Which call.
        ticket: Ticket,
    },
    /// [`super::Provider::begin_unlisten`].
    Unlistened {
        /// Which call.
        ticket: Ticket,
    },
    /// [`super::Provider::begin_resolve`]: address and route are known; the queue pair can be made.
    Resolved {
        /// Which call.
        ticket: Ticket,
        /// The connection, or why there is none.
        result: Result<Connection, VerbsError>,
    },
    /// A peer wants to connect.
    ConnectRequest(ConnectionRequest),
    /// The connection is up. On the passive side the first receive may come before it, or instead of it.
    Established {
        /// Which.
        connection: ConnectionId,
        /// What the accepting side sent (active side only), at most 196 bytes.
        private_data: Vec<u8>,
        /// RDMA READs that the peer will answer at a time.
        responder_resources: u8,
        /// RDMA READs that the peer will start at a time.
        initiator_depth: u8,
    },
    /// The connection came to nothing (instead of established). It still has to be destroyed.
    Rejected {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: RejectReason,
    },
    /// The peer disconnected, or died. Does not move our queue pair: [`super::Provider::disconnect`] does. May come twice, late or never.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// The time during which late packets may come is over. Comes only while the connection lives.
    TimewaitExit {
        /// Which.
        connection: ConnectionId,
    },
    /// Async: the queue pair took its last receive from the SRQ. Not on all devices.
    LastWqeReached {
        /// Whose queue pair.
        connection: ConnectionId,
    },
    /// Async: the queue pair is broken.
    QueuePairFatal {
        /// Whose queue pair.
        connection: ConnectionId,
    },
    /// The device is going away: everything on it is to be torn down.
    DeviceRemoved,
}

/// Which object an event is of: it cannot be destroyed before the event is acknowledged. A connection request is the listener's, not the new
/// connection's [rdma_destroy_id(3)].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Charge {
    /// The end of a ticket: nobody waits for it.
    Nothing,
    Connection(ConnectionId),
    Listener(ListenerId),
    /// The queue pair of this connection.
    QueuePair(ConnectionId),
}

impl<P: Port> Event<P> {
    /// A word for reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "REGISTERED",
            Self::Deregistered { .. } => "DEREGISTERED",
            Self::QueuePairCreated { .. } => "QUEUE_PAIR_CREATED",
            Self::QueuePairDestroyed { .. } => "QUEUE_PAIR_DESTROYED",
            Self::ConnectionDestroyed { .. } => "CONNECTION_DESTROYED",
            Self::Unlistened { .. } => "UNLISTENED",
            Self::Resolved { .. } => "RESOLVED",
            Self::ConnectRequest(_) => "CONNECT_REQUEST",
            Self::Established { .. } => "ESTABLISHED",
            Self::Rejected { .. } => "REJECTED",
            Self::Disconnected { .. } => "DISCONNECTED",
            Self::TimewaitExit { .. } => "TIMEWAIT_EXIT",
            Self::LastWqeReached { .. } => "LAST_WQE_REACHED",
            Self::QueuePairFatal { .. } => "QP_FATAL",
            Self::DeviceRemoved => "DEVICE_REMOVED",
        }
    }

    /// Whose it is.
    pub(crate) fn charge(&self) -> Charge {
        match self {
            Self::Registered { .. }
            | Self::Deregistered { .. }
            | Self::QueuePairCreated { .. }
            | Self::QueuePairDestroyed { .. }
            | Self::ConnectionDestroyed { .. }
            | Self::Unlistened { .. }
            | Self::Resolved { .. }
            | Self::DeviceRemoved => Charge::Nothing,
            Self::ConnectRequest(request) => Charge::Listener(request.listener),
            Self::Established { connection, .. }
            | Self::Rejected { connection, .. }
            | Self::Disconnected { connection }
            | Self::TimewaitExit { connection } => Charge::Connection(*connection),
            Self::LastWqeReached { connection } | Self::QueuePairFatal { connection } => Charge::QueuePair(*connection),
        }
    }
}

/// An event whose acknowledgement is owed.
#[must_use = "an unacknowledged event keeps its object from being destroyed"]
pub struct Unacknowledged<P: Port> {
    event: Event<P>,
}

impl<P: Port> Unacknowledged<P> {
    /// For providers.
    pub(crate) fn new(event: Event<P>) -> Self {
        Self { event }
    }

    /// For the contract's cases: whether it is the queue pair's and not the connection's.
    #[cfg(any(test, feature = "contract"))]
    pub(super) fn is_of_queue_pair(&self) -> bool {
        matches!(self.event, Event::LastWqeReached { .. } | Event::QueuePairFatal { .. })
    }

    /// For [`super::Provider::acknowledge`] alone.
    pub(crate) fn into_event(self) -> Event<P> {
        self.event
    }
}
