//! What the software NIC needs to reach a peer. One wire object belongs to one port (one polling CPU); one *link* is one end of a reliable
//! connection and moves with its queue pair.
//!
//! The wire moves messages in order and copies to and from the peer's memory. It knows nothing of queue pair states, receives or
//! completions: those are the NIC's. Everything that a peer can write is copied out once and checked here; what is wrong ends as
//! [`PeerFault`].

use std::os::fd::RawFd;

use reactor::Rest;

use crate::verbs::LocalSegment;

/// A message's header: `SEND` and its variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    /// Payload bytes.
    pub len: u32,
    /// Immediate data.
    pub immediate: Option<u32>,
    /// A key of the receiver that ends with this message.
    pub invalidate: Option<u32>,
    /// The receiver is to be woken.
    pub solicited: bool,
}

/// The wire has no room for it now: try again when the peer has consumed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireFull;

/// The peer broke the wire's protocol: its queue pair ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerFault {
    /// An index ran backwards or past the ring.
    Index,
    /// A header that no NIC writes.
    Header,
}

/// What one end of a link says of itself to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Takes messages.
    Ready,
    /// Has a message and no receive for it.
    NoReceive,
    /// Its queue pair is in the error state.
    Error,
    /// The same, because the next message was longer than the receive that took it.
    RefusedLength,
    /// The same, because the next message was to end a key that it could not end.
    RefusedKey,
    /// The same, because of a mistake on its own side while it took the next message.
    RefusedOperation,
    /// Its process is gone (said by the wire, not by the peer).
    Gone,
}

impl LinkState {
    /// Whether the queue pair of that end is in the error state, or gone.
    pub(crate) fn is_error(self) -> bool {
        match self {
            Self::Ready | Self::NoReceive => false,
            Self::Error | Self::RefusedLength | Self::RefusedKey | Self::RefusedOperation | Self::Gone => true,
        }
    }
}

/// How a copy from or to the peer's memory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// All bytes are there.
    Done,
    /// Not all yet: call again, with the same arguments, later (the simulated wire; bounded work per turn).
    Unfinished,
    /// Key, bounds or rights did not allow it. Nothing was copied.
    Denied,
    /// The peer's memory is gone, or its queue pair is in the error state (a device drops what comes then): nothing more is copied.
    Gone,
}

/// The way to the peers of one port.
pub trait Wire: Send + 'static {
    /// One end of a connection.
    type Link: Send + 'static;

    /// The link's queue pair is on this port from now on; its news come under `index`.
    fn attach(&mut self, index: u32, link: &mut Self::Link);

    /// It is not any more.
    fn detach(&mut self, index: u32, link: &mut Self::Link);

    /// Appends the indices of queue pairs whose peers have sent, consumed or changed state. A hint: may name too many, and misses none for long.
    fn news(&mut self, now_ns: u64, indices: &mut Vec<u32>);

    /// Appends one message, all of it or nothing. Visible to the peer after [`Self::publish`] at the latest.
    ///
    /// # Errors
    /// [`WireFull`].
    fn send(&mut self, link: &mut Self::Link, header: &MessageHeader, payload: &[LocalSegment])
    -> Result<(), WireFull>;

    /// Makes what was sent visible, after all data that was written before it.
    /// Called once after every batch of [`Self::send`], [`Self::write`] and [`Self::read`] on this link, so a copier's *busy* mark may last until then.
    fn publish(&mut self, link: &mut Self::Link);

    /// How many of our messages the peer has consumed since the link was made, wrapping.
    ///
    /// # Errors
    /// [`PeerFault`].
    fn consumed_count(&mut self, link: &mut Self::Link) -> Result<u32, PeerFault>;

    /// The next message's header, copied out; the same again until [`Self::take`].
    ///
    /// # Errors
    /// [`PeerFault`].
    fn peek(&mut self, link: &mut Self::Link) -> Result<Option<MessageHeader>, PeerFault>;

    /// Copies the peeked message's payload into the segments (which have room for it) and consumes it. The peer sees that after [`Self::release`].
    fn take(&mut self, link: &mut Self::Link, into: &[LocalSegment]);

    /// Makes what was consumed visible.
    fn release(&mut self, link: &mut Self::Link);

    /// What the peer says of itself.
    fn peer_state(&mut self, link: &mut Self::Link) -> LinkState;

    /// Says it to the peer.
    fn set_state(&mut self, link: &mut Self::Link, state: LinkState);

    /// RDMA WRITE: copies the segments to the peer's memory.
    fn write(&mut self, link: &mut Self::Link, key: u32, address: u64, from: &[LocalSegment]) -> Transfer;

    /// RDMA READ: copies from the peer's memory into the segments.
    fn read(&mut self, link: &mut Self::Link, key: u32, address: u64, into: &[LocalSegment]) -> Transfer;

    /// Whether the segment is inside the region of its local key, which is valid and, if `write`, writable for our device.
    fn allows_local(&self, segment: &LocalSegment, write: bool) -> bool;

    /// Ends a key of ours (by the peer's message or by our own request): [`Transfer::Done`] when no copy under it can run any more.
    /// [`Transfer::Unfinished`]: it is closed to new copies, but one that began before may still run: call again, later; nothing that reports
    /// the key's end may be visible before it is done. [`Transfer::Denied`]: it is no key that can be ended so (a bound window's).
    fn invalidate(&mut self, key: u32) -> Transfer;

    /// Binds a window's key to a part of its region. The lowest 8 bits of the key are the caller's to choose at each bind, as with `ibv_inc_rkey`.
    /// False if it cannot be: no window, already bound, not inside the region.
    fn bind(&mut self, key: u32, address: u64, len: u64) -> bool;

    /// Wakes the peers that sleep and have not been rung for since: for all that was published, released or said. Once per batch.
    fn ring(&mut self);

    /// This CPU would sleep: the peers ring from here on. A fence ([`reactor::doorbell::before_last_look`]) and [`Self::last_look`] come next.
    fn announce(&mut self);

    /// Whether [`Self::news`] would name anything now ([`Rest::Poll`]); how long this CPU may sleep otherwise.
    fn last_look(&mut self, now_ns: u64) -> Rest;

    /// This CPU is awake. `has_slept` if it may have been rung for.
    fn withdraw(&mut self, has_slept: bool);

    /// Becomes readable when a peer has rung, or this process' own control plane.
    fn wake_descriptor(&self) -> Option<RawFd>;
}
