//! The control plane's side.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use bitflags::bitflags;
use reactor::{Segment, SharedArena};

use super::event::{Connection, ConnectionId, ConnectionRequest, Event, ListenerId, Unacknowledged};
use super::port::Port;

/// Names one call that was begun. Chosen by the caller; a handle in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names a port at its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u32);

/// Names a device of its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u8);

impl DeviceId {
    /// The only one of a provider that has one.
    pub const ONLY: Self = Self(0);
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum VerbsError {
    /// This build does not have it.
    #[error("{what} is not built: {instead}")]
    NotBuilt {
        /// What was asked for.
        what: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// A system or library call failed.
    #[error("{call} failed: {source}")]
    System {
        /// Which.
        call: &'static str,
        /// errno.
        source: std::io::Error,
    },
    /// More than the device or the provider allows.
    #[error("{what} is {value}, the limit is {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// Asked for.
        value: u64,
        /// Allowed.
        limit: u64,
    },
    /// The address cannot be listened on or reached; `why` says what to do.
    #[error("{address}: {why}")]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why, in words.
        why: String,
    },
}

/// What a device can do: `ibv_device_attr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceAttributes {
    /// Most queue pairs.
    pub queue_pair_count_max: u32,
    /// Most work requests of a queue.
    pub work_request_count_max: u32,
    /// Most entries of a completion queue.
    pub completion_count_max: u32,
    /// Most receives of an SRQ. 0: has none.
    pub shared_receive_count_max: u32,
    /// Most segments of a request.
    pub segment_count_max: u32,
    /// Most inline bytes.
    pub inline_len_max: u32,
    /// Most RDMA READs that a queue pair answers at a time.
    pub read_responder_count_max: u8,
    /// Most RDMA READs that a queue pair starts at a time.
    pub read_initiator_count_max: u8,
    /// Longest SEND.
    pub send_len_max: u32,
    /// Longest READ or WRITE.
    pub transfer_len_max: u32,
    /// Raises LAST_WQE_REACHED.
    pub raises_last_wqe: bool,
    /// Tries a message again that finds no receive (RNR NAK). iWARP does not: "no buffer available" ends the connection [RFC 5041].
    pub retries_receiver_not_ready: bool,
}

/// What a port is made with.
#[derive(Clone, Copy, Debug)]
pub struct PortOptions {
    /// Entries of its completion queue: room for every work request of every queue pair that will be attached.
    pub completion_count: u32,
    /// Depth of its shared receive queue. 0: queue pairs have their own.
    pub shared_receive_count: u32,
}

/// What a queue pair is made with.
#[derive(Clone, Copy, Debug)]
pub struct QueuePairOptions {
    /// Sends, reads, writes posted and not completed.
    pub send_count: u32,
    /// Receives posted. Ignored with a shared receive queue.
    pub receive_count: u32,
    /// Segments of a request.
    pub segment_count: u32,
    /// Inline bytes.
    pub inline_len: u32,
    /// Whether it takes receives from the port's SRQ.
    pub shared_receive: bool,
}

/// What both sides say when they connect: `rdma_conn_param`.
#[derive(Clone, Copy, Debug)]
pub struct ConnectParameters<'a> {
    /// At most 56 bytes when connecting, 196 when accepting.
    pub private_data: &'a [u8],
    /// RDMA READs that we answer at a time.
    pub responder_resources: u8,
    /// RDMA READs that we start at a time.
    pub initiator_depth: u8,
    /// 0–7: transport timeouts beyond the first.
    pub retry_count: u8,
    /// 0–7; 7 means for ever.
    pub rnr_retry_count: u8,
}

bitflags! {
    /// `ibv_access_flags`. Reading locally is always allowed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u8 {
        /// Our device may write into it (receives, READs).
        const LOCAL_WRITE = 1;
        /// The peer may write.
        const REMOTE_WRITE = 2;
        /// The peer may read.
        const REMOTE_READ = 4;
        /// Windows may be bound to parts of it.
        const WINDOW_BIND = 8;
    }
}

/// Memory to register. It stays mapped until it is deregistered.
#[derive(Clone)]
pub enum Memory {
    /// An arena of this process, or a part: local access only on the software fabric.
    Private(Segment),
    /// Memory that a peer process may map. On the software fabric an arena is offered to one peer process only.
    Shared(Arc<SharedArena>),
}

/// The keys of a registered region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisteredMemory {
    /// For our own work requests.
    pub local_key: u32,
    /// For the peer's. 0 where no remote access was asked for.
    pub remote_key: u32,
}

/// One RDMA device, or the software fabric. Used by the control plane alone.
pub trait Provider: Sized + 'static {
    /// Its per-CPU side.
    type Port: Port;

    /// A word for logs and metrics: `soft`, `ibv`, `sim`.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn attributes(&self) -> DeviceAttributes;

    /// Becomes readable when [`Self::next_event`] may have something. `None` in a simulation.
    fn wake_descriptor(&self) -> Option<RawFd>;

    /// How many devices it has. One that has several ([`super::Several`]) takes the place of what follows here with what names the device.
    fn device_count(&self) -> u8 {
        1
    }

    /// [`Self::attributes`] of one of its devices.
    fn attributes_of(&self, _device: DeviceId) -> DeviceAttributes {
        self.attributes()
    }

    /// [`Self::create_port`] on one of its devices.
    ///
    /// # Errors
    /// As there.
    fn create_port_on(&mut self, _device: DeviceId, options: PortOptions) -> Result<(PortId, Self::Port), VerbsError> {
        self.create_port(options)
    }

    /// [`Self::begin_reopen`] of one of its devices.
    fn begin_reopen_on(&mut self, _device: DeviceId, ticket: Ticket, addresses: &[SocketAddr]) {
        self.begin_reopen(ticket, addresses);
    }

    /// [`Self::begin_register`] with one of its devices.
    fn begin_register_on(&mut self, _device: DeviceId, ticket: Ticket, memory: Memory, access: Access) {
        self.begin_register(ticket, memory, access);
    }

    /// [`Self::begin_deregister`] with the device that it was registered with.
    fn begin_deregister_on(&mut self, _device: DeviceId, ticket: Ticket, memory: RegisteredMemory) {
        self.begin_deregister(ticket, memory);
    }

    /// Which device a listener is on.
    fn device_of_listener(&self, _listener: ListenerId) -> DeviceId {
        DeviceId::ONLY
    }

    /// Which device a connection is on.
    fn device_of_connection(&self, _connection: ConnectionId) -> DeviceId {
        DeviceId::ONLY
    }

    /// Makes a port. At start-up, and when a device is back: may take time.
    ///
    /// # Errors
    /// [`VerbsError::Limit`] names what was too large.
    fn create_port(&mut self, options: PortOptions) -> Result<(PortId, Self::Port), VerbsError>;

    /// Looks for the device that was removed and let go of ([`Event::DeviceReleased`]), by its name or as the one that one of these addresses is on, and opens
    /// it: ends in [`Event::DeviceReopened`]. Nothing that was made of it before is there any more: ports are created and memory is registered anew, and
    /// [`Self::attributes`] may have changed.
    fn begin_reopen(&mut self, ticket: Ticket, addresses: &[SocketAddr]);

    /// Registers memory: ends in [`Event::Registered`].
    fn begin_register(&mut self, ticket: Ticket, memory: Memory, access: Access);

    /// Ends its keys: ends in [`Event::Deregistered`], after which neither device nor peer touches it.
    fn begin_deregister(&mut self, ticket: Ticket, memory: RegisteredMemory);

    /// Takes a memory window (type 2) for [`super::SendOperation::BindWindow`]; the key is returned.
    ///
    /// # Errors
    /// If there are no more, or the region was not registered with [`Access::WINDOW_BIND`].
    fn allocate_window(&mut self, region: RegisteredMemory) -> Result<u32, VerbsError>;

    /// Listens.
    ///
    /// # Errors
    /// If the address is in use or not ours.
    fn listen(&mut self, address: SocketAddr) -> Result<ListenerId, VerbsError>;

    /// Stops listening: ends in [`Event::Unlistened`]. Connections stay.
    fn begin_unlisten(&mut self, ticket: Ticket, listener: ListenerId);

    /// Makes a queue pair: ends in [`Event::QueuePairCreated`].
    fn begin_create_queue_pair(
        &mut self,
        ticket: Ticket,
        connection: ConnectionId,
        port: PortId,
        options: QueuePairOptions,
    );

    /// Destroys it: ends in [`Event::QueuePairDestroyed`].
    fn begin_destroy_queue_pair(&mut self, ticket: Ticket, queue_pair: <Self::Port as Port>::QueuePair);

    /// Finds the way to `address`: ends in [`Event::Resolved`].
    fn begin_resolve(&mut self, ticket: Ticket, address: SocketAddr);

    /// Connects; the queue pair of this connection is attached and has its receives. Ends in [`Event::Established`] or [`Event::Rejected`].
    fn connect(&mut self, connection: &Connection, parameters: ConnectParameters<'_>);

    /// Accepts; the queue pair of this connection is attached and has its receives. Ends in [`Event::Established`], [`Event::Rejected`] or [`Event::Disconnected`].
    fn accept(&mut self, connection: &Connection, parameters: ConnectParameters<'_>);

    /// Refuses, with at most 148 bytes of private data, and destroys the connection.
    fn reject(&mut self, request: ConnectionRequest, private_data: &[u8]);

    /// Moves the connection's queue pair to the error state and tells the peer. Any number of times, at any time after the queue pair was made.
    fn disconnect(&mut self, connection: ConnectionId);

    /// Destroys a connection whose queue pair is gone (or never was): ends in [`Event::ConnectionDestroyed`].
    fn begin_destroy_connection(&mut self, ticket: Ticket, connection: Connection);

    /// The next event. `now_ns` is the turn's time, on which connection timers run.
    fn next_event(&mut self, now_ns: u64) -> Option<Unacknowledged<Self::Port>>;

    /// Acknowledges it and gives its facts.
    fn acknowledge(&mut self, event: Unacknowledged<Self::Port>) -> Event<Self::Port>;

    /// What the provider counts, as name and value, for metrics and tests: every live-object gauge is among them, ends with `_live`, and is zero when
    /// everything was destroyed.
    fn counters(&self) -> Vec<(&'static str, u64)>;

    /// Objects that are alive: connections, queue pairs, listeners, peers. Zero lets the control plane leave.
    fn live_count(&self) -> usize;
}
