//! What the walk asks of a transport, and what a transport tells the walk.
//!
//! A *slot* is one request of a qpair, numbered from 0. The transport gives a slot to each capsule that it hands over and keeps
//! count: commands that have no response posted yet are at most the queue's depth (more is a protocol error that ends the
//! connection); slots are twice as many, since a slot ends only when its response's send has completed, and by then the host may have sent
//! the next command [NVMe/RDMA: PROTOCOLS]. A capsule that finds no free slot waits in the transport, in order.

use std::net::SocketAddr;

use reactor::{Handle, Progress, RegionId, Segment, Turn};

use crate::Qpair;

/// A request's number within its qpair.
pub type Slot = u16;

/// Memory of the host, as a keyed SGL descriptor names it [NVMe Base 2.0, 4.1.2].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteBuffer {
    /// The host's address.
    pub address: u64,
    /// Bytes. Zero is legal.
    pub len: u32,
    /// The remote key. Zero is legal.
    pub key: u32,
}

/// The right to one receive buffer: capsule and in-capsule data stay where they are until it is given back by [`Transport::consumed`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a receive permit goes back to the transport, or the queue starves"]
pub struct Receive {
    /// The transport's own number for it.
    pub id: u32,
}

/// What came up from the wire.
#[derive(Debug)]
pub enum Arrival {
    /// A command capsule.
    Command {
        /// Of which qpair.
        qpair: Handle<Qpair>,
        /// The request slot that the transport gave it.
        slot: Slot,
        /// Its first 64 bytes, copied out of what the peer can write.
        command: [u8; 64],
        /// What was received after them: private memory, valid while `receive` is held.
        data: Option<Segment>,
        /// The permit.
        receive: Receive,
    },
    /// What was asked of [`Transport::pull`] is here, all of it.
    Pulled {
        /// Of which qpair.
        qpair: Handle<Qpair>,
        /// Which request.
        slot: Slot,
    },
    /// The response's send has completed, and with it all pushes of this slot: buffers and leases that it still holds are free, and the
    /// slot may come again with the next [`Arrival::Command`].
    Finished {
        /// Of which qpair.
        qpair: Handle<Qpair>,
        /// Which request.
        slot: Slot,
    },
}

/// Why a connection is ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DisconnectReason {
    /// The host asked: Disconnect command, or the transport's disconnect.
    Host,
    /// The host broke the protocol.
    Protocol,
    /// A transfer or send failed.
    TransportError,
    /// No keep-alive in time.
    KeepAlive,
    /// No Connect capsule in time.
    ConnectTimeout,
    /// Its controller ends.
    ControllerGone,
    /// The target is shutting down.
    Shutdown,
    /// The peer process or its device is gone.
    PeerGone,
    /// Our own device was removed, or its completion queue broke.
    DeviceGone,
    /// Our own address moved to another device, or went.
    AddressChanged,
    /// The address that it came by is not offered any more.
    ListenerRemoved,
    /// Its subsystem is being deleted.
    SubsystemDeleted,
    /// Its host may not use the subsystem any more.
    HostRemoved,
    /// Its host did not authenticate, or not in time.
    Authentication,
}

impl DisconnectReason {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::Host,
        Self::Protocol,
        Self::TransportError,
        Self::KeepAlive,
        Self::ConnectTimeout,
        Self::ControllerGone,
        Self::Shutdown,
        Self::PeerGone,
        Self::DeviceGone,
        Self::AddressChanged,
        Self::ListenerRemoved,
        Self::SubsystemDeleted,
        Self::HostRemoved,
        Self::Authentication,
    ];
}

/// A qpair as the transport announces it.
#[derive(Clone, Debug)]
pub struct QpairSpec {
    /// Where the host connected to.
    pub listener: SocketAddr,
    /// Where it came from.
    pub peer: SocketAddr,
    /// Queue entries agreed at transport level (a count): Connect's SQSIZE must fit.
    pub depth: u16,
    /// The queue id in the transport's connection request: Connect's QID must agree.
    pub qid: u16,
    /// Most bytes of in-capsule data.
    pub in_capsule_len: u32,
}

/// Moves capsules and data of one CPU's qpairs. Called from the walk only; none of it blocks, and none of it fails: what finds
/// no room in a send queue waits inside, in order, and is counted; what a broken connection cannot do ends with it.
pub trait Transport {
    /// Step 1: completions become arrivals.
    fn poll<M>(&mut self, turn: &mut Turn<'_, M>, arrivals: &mut Vec<Arrival>) -> Progress;

    /// Gives a receive buffer back. Before [`Self::respond`] of its command: the host may send again as soon as it has the response.
    fn consumed(&mut self, receive: Receive);

    /// Step 6: brings `from.len` bytes, at least one, of the host's memory `into` ours (RDMA READ). A request's pulls are all asked for before
    /// the next [`Self::poll`], and end with one [`Arrival::Pulled`].
    fn pull(&mut self, qpair: Handle<Qpair>, slot: Slot, from: RemoteBuffer, into: Segment);

    /// Step 8: brings all of `from` to the host (RDMA WRITE), before any response posted later. A request may have several; they end with the
    /// slot's [`Arrival::Finished`].
    fn push(&mut self, qpair: Handle<Qpair>, slot: Slot, from: Segment, to: RemoteBuffer);

    /// Step 9: sends the response, and invalidates the host's key with it where asked. The command's place in the queue ends when it is posted;
    /// the slot ends with [`Arrival::Finished`].
    fn respond(&mut self, qpair: Handle<Qpair>, slot: Slot, response: [u8; 16], invalidate: Option<u32>);

    /// Rings the doorbells of all that was posted since.
    fn ring(&mut self);

    /// Whether segments of this region can be pushed and pulled.
    fn is_registered(&self, region: RegionId) -> bool;

    /// Starts the qpair's teardown. The transport then calls [`crate::PollGroup::begin_drain`].
    fn disconnect(&mut self, qpair: Handle<Qpair>, reason: DisconnectReason);
}
