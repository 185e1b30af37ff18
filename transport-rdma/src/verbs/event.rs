//! Connection management events, async events and the ends of tickets.

use std::net::SocketAddr;

use nvmf_core::traced_words;

use super::port::Port;
use super::provider::{DeviceId, PortId, RegisteredMemory, Ticket, VerbsError};

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

/// Who used an address that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressUser {
    /// A listener: it may hear nothing any more, though it exists.
    Listener(ListenerId),
    /// A connection: it works as long as its device has the way, which is not known.
    Connection(ConnectionId),
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
    /// The address was moved to another device or taken away (RDMA_CM_EVENT_ADDR_CHANGE). Ends nothing by itself.
    AddressChanged {
        /// Whose address.
        of: AddressUser,
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
    /// Async: the completion queue of this port broke (IBV_EVENT_CQ_ERR; an overrun is one reason). Completions are lost: nothing that is posted to
    /// its queue pairs has to come back any more, and none of them works.
    CompletionQueueError {
        /// Whose.
        port: PortId,
    },
    /// The device is going away (IBV_EVENT_DEVICE_FATAL, RDMA_CM_EVENT_DEVICE_REMOVAL): everything on it is to be torn down. No completion has to come
    /// any more, and nothing may be asked of it but destroying, which succeeds: the provider takes EIO for success.
    DeviceRemoved(DeviceId),
    /// Of a device that was removed nothing is left: its queue pairs, connections and listeners were destroyed, and with them its ports and registrations
    /// have ended. From here on [`super::Provider::begin_reopen`] may look for it.
    DeviceReleased(DeviceId),
    /// [`super::Provider::begin_reopen`].
    DeviceReopened {
        /// Which call.
        ticket: Ticket,
        /// Its end. An error: it is not there, or cannot be used yet.
        result: Result<(), VerbsError>,
    },
}

traced_words! {
    /// What an event is of, without its facts: for reports and traces.
    EventKind:
    /// [`Event::Registered`].
    Registered = 1, "REGISTERED";
    /// [`Event::Deregistered`].
    Deregistered = 2, "DEREGISTERED";
    /// [`Event::QueuePairCreated`].
    QueuePairCreated = 3, "QUEUE_PAIR_CREATED";
    /// [`Event::QueuePairDestroyed`].
    QueuePairDestroyed = 4, "QUEUE_PAIR_DESTROYED";
    /// [`Event::ConnectionDestroyed`].
    ConnectionDestroyed = 5, "CONNECTION_DESTROYED";
    /// [`Event::Unlistened`].
    Unlistened = 6, "UNLISTENED";
    /// [`Event::Resolved`].
    Resolved = 7, "RESOLVED";
    /// [`Event::ConnectRequest`].
    ConnectRequest = 8, "CONNECT_REQUEST";
    /// [`Event::Established`].
    Established = 9, "ESTABLISHED";
    /// [`Event::Rejected`].
    Rejected = 10, "REJECTED";
    /// [`Event::Disconnected`].
    Disconnected = 11, "DISCONNECTED";
    /// [`Event::TimewaitExit`].
    TimewaitExit = 12, "TIMEWAIT_EXIT";
    /// [`Event::AddressChanged`].
    AddressChanged = 13, "ADDR_CHANGE";
    /// [`Event::LastWqeReached`].
    LastWqeReached = 14, "LAST_WQE_REACHED";
    /// [`Event::QueuePairFatal`].
    QueuePairFatal = 15, "QP_FATAL";
    /// [`Event::CompletionQueueError`].
    CompletionQueueError = 16, "CQ_ERR";
    /// [`Event::DeviceRemoved`].
    DeviceRemoved = 17, "DEVICE_REMOVED";
    /// [`Event::DeviceReleased`].
    DeviceReleased = 18, "DEVICE_RELEASED";
    /// [`Event::DeviceReopened`].
    DeviceReopened = 19, "DEVICE_REOPENED";
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
    /// What kind of event it is.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Registered { .. } => EventKind::Registered,
            Self::Deregistered { .. } => EventKind::Deregistered,
            Self::QueuePairCreated { .. } => EventKind::QueuePairCreated,
            Self::QueuePairDestroyed { .. } => EventKind::QueuePairDestroyed,
            Self::ConnectionDestroyed { .. } => EventKind::ConnectionDestroyed,
            Self::Unlistened { .. } => EventKind::Unlistened,
            Self::Resolved { .. } => EventKind::Resolved,
            Self::ConnectRequest(_) => EventKind::ConnectRequest,
            Self::Established { .. } => EventKind::Established,
            Self::Rejected { .. } => EventKind::Rejected,
            Self::Disconnected { .. } => EventKind::Disconnected,
            Self::TimewaitExit { .. } => EventKind::TimewaitExit,
            Self::AddressChanged { .. } => EventKind::AddressChanged,
            Self::LastWqeReached { .. } => EventKind::LastWqeReached,
            Self::QueuePairFatal { .. } => EventKind::QueuePairFatal,
            Self::CompletionQueueError { .. } => EventKind::CompletionQueueError,
            Self::DeviceRemoved(_) => EventKind::DeviceRemoved,
            Self::DeviceReleased(_) => EventKind::DeviceReleased,
            Self::DeviceReopened { .. } => EventKind::DeviceReopened,
        }
    }

    /// A word for reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// What it names, for reports: a connection, a listener, a port or a ticket.
    pub(crate) fn subject(&self) -> u64 {
        match self {
            Self::Registered { ticket, .. }
            | Self::Deregistered { ticket }
            | Self::QueuePairCreated { ticket, .. }
            | Self::QueuePairDestroyed { ticket, .. }
            | Self::ConnectionDestroyed { ticket }
            | Self::Unlistened { ticket }
            | Self::Resolved { ticket, .. }
            | Self::DeviceReopened { ticket, .. } => ticket.0,
            Self::ConnectRequest(request) => request.connection.id.0,
            Self::Established { connection, .. }
            | Self::Rejected { connection, .. }
            | Self::Disconnected { connection }
            | Self::TimewaitExit { connection }
            | Self::AddressChanged { of: AddressUser::Connection(connection) }
            | Self::LastWqeReached { connection }
            | Self::QueuePairFatal { connection } => connection.0,
            Self::AddressChanged { of: AddressUser::Listener(listener) } => listener.0,
            Self::CompletionQueueError { port } => port.0.into(),
            Self::DeviceRemoved(device) | Self::DeviceReleased(device) => device.0.into(),
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
            // A port lives as long as its provider.
            | Self::CompletionQueueError { .. }
            | Self::DeviceRemoved(_)
            | Self::DeviceReleased(_)
            | Self::DeviceReopened { .. } => Charge::Nothing,
            Self::ConnectRequest(request) => Charge::Listener(request.listener),
            Self::AddressChanged { of: AddressUser::Listener(listener) } => Charge::Listener(*listener),
            Self::Established { connection, .. }
            | Self::Rejected { connection, .. }
            | Self::Disconnected { connection }
            | Self::TimewaitExit { connection }
            | Self::AddressChanged { of: AddressUser::Connection(connection) } => Charge::Connection(*connection),
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

    /// What it is, before its facts are taken out: kind and subject.
    pub(crate) fn outline(&self) -> (EventKind, u64) {
        (self.event.kind(), self.event.subject())
    }

    /// For [`super::Provider::acknowledge`] alone.
    pub(crate) fn into_event(self) -> Event<P> {
        self.event
    }
}
