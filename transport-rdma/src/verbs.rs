//! What the transport needs of RDMA, with static dispatch.
//!
//! Two sides. A [`Provider`] belongs to the control plane: devices, memory registration, connections, events, creating and destroying.
//! A [`Port`] belongs to one polling CPU: its completion queue, its shared receive queue and the queue pairs attached to it; it only
//! posts, polls and rings. No call of either side blocks: what takes time is begun with a [`Ticket`] and ends with an event that
//! carries it, so that in the simulator its end is the scheduler's choice, and "never ends" a case.
//!
//! **Life of a queue pair.** [`Provider::begin_create_queue_pair`] ends in [`Event::QueuePairCreated`] with a [`Port::QueuePair`] by value. It is
//! sent to its CPU, which attaches it ([`Port::attach`]), posts receives and then has the control plane accept or connect. Teardown:
//! [`Provider::disconnect`] (moves the queue pair to the error state first, then tells the peer); all posted work returns by flush
//! completions; the CPU detaches it, sends it back by value, and [`Provider::begin_destroy_queue_pair`] consumes it. After
//! [`Event::QueuePairDestroyed`] neither this device nor the peer writes under it any more, and the CQ is polled empty once. Then
//! [`Provider::begin_destroy_connection`].
//!
//! **A device that goes, and comes back.** [`Event::DeviceRemoved`]: everything on it is destroyed, and each port is polled until it has noticed. Then
//! [`Event::DeviceReleased`], and [`Provider::begin_reopen`] until it is there. Its ports are new ones then; the old are dropped.
//!
//! **Events.** [`Provider::next_event`] gives an [`Unacknowledged`]; its facts come out only by [`Provider::acknowledge`], so none can be used unacknowledged
//! or acknowledged and used again. Destroys do not end while an event of the object is unacknowledged.
//!
//! What real devices do in teardown (flush in order per queue; no order between the queues; LAST_WQE only with an SRQ and not on all
//! devices; DISCONNECTED never, late or twice; first receive before ESTABLISHED) every provider may do.

#[cfg(any(test, feature = "contract"))]
pub mod contract;

mod event;
mod port;
mod provider;
#[cfg(test)]
pub(crate) mod scripted;
mod several;

pub(crate) use event::Charge;
pub use event::{
    AddressUser, Connection, ConnectionId, ConnectionRequest, Event, EventKind, ListenerId, RejectReason,
    Unacknowledged,
};
pub use port::{
    Completion, CompletionStatus, Flags, LocalSegment, Port, PostError, QueuePairName, Received, SendOperation,
    SendRequest,
};
pub use provider::{
    Access, ConnectParameters, DeviceAttributes, DeviceId, Memory, PortId, PortOptions, Provider, QueuePairOptions,
    RegisteredMemory, Ticket, VerbsError,
};
pub use several::{Route, Several, SeveralPort, SeveralQueuePair};
