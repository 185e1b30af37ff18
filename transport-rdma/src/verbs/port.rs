//! One CPU's side: post, poll, ring; and sleep, where there is nothing to poll for.

use std::os::fd::RawFd;

use bitflags::bitflags;
use reactor::Rest;

/// Names a queue pair within its port, from [`Port::attach`] to [`Port::detach`]. Plain data; a stale name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueuePairName {
    /// The port's slot.
    pub index: u32,
    /// The device's queue pair number, 24 bits; numbers are reused.
    pub number: u32,
}

/// A scatter/gather entry: `ibv_sge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSegment {
    /// First byte and length, inside a registered region.
    pub memory: reactor::Segment,
    /// The region's local key.
    pub local_key: u32,
}

bitflags! {
    /// `ibv_send_flags`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Flags: u8 {
        /// Completes visibly when it succeeds. (What fails always does.)
        const SIGNALED = 1;
        /// Waits for earlier RDMA READs.
        const FENCE = 2;
        /// The data is copied while posting.
        const INLINE = 4;
        /// The receiver is to be woken.
        const SOLICITED = 8;
    }
}

/// `ibv_wr_opcode`, with what each needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOperation {
    /// SEND.
    Send,
    /// SEND with immediate data.
    SendWithImmediate(u32),
    /// SEND that invalidates this key at the receiver, before the receive's completion is visible.
    SendWithInvalidate(u32),
    /// RDMA WRITE to this address under this key.
    Write {
        /// Remote address.
        address: u64,
        /// Remote key.
        key: u32,
    },
    /// RDMA READ from this address under this key.
    Read {
        /// Remote address.
        address: u64,
        /// Remote key.
        key: u32,
    },
    /// Binds a memory window to a part of a region, under a new remote key (type 2): `ibv_bind_mw`.
    BindWindow {
        /// The window's key, from [`super::Provider::allocate_window`].
        key: u32,
        /// First address.
        address: u64,
        /// Bytes.
        len: u64,
    },
    /// Ends a window's key.
    LocalInvalidate(u32),
}

/// `ibv_send_wr`.
#[derive(Clone, Copy, Debug)]
pub struct SendRequest<'a> {
    /// `wr_id`: comes back in the completion.
    pub id: u64,
    /// What.
    pub operation: SendOperation,
    /// How.
    pub flags: Flags,
    /// Gather (SEND, WRITE) or scatter (READ) list, at most the queue pair's limit.
    pub segments: &'a [LocalSegment],
}

/// Why a request was not posted. Nothing was posted then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostError {
    /// The queue has no room: ENOMEM. Accounting by permits makes this our bug.
    QueueFull,
    /// The queue pair is not in a state that takes this (reset, init), or the name is stale: EINVAL.
    WrongState,
    /// Too many segments, too much inline data, a longer message than the device takes: EINVAL.
    Malformed,
}

/// `ibv_wc_status`, those that an RC queue pair can raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the verbs' own names: ibv_wc_status(3)")]
pub enum CompletionStatus {
    Success,
    LocalLengthError,
    LocalQpOperationError,
    LocalProtectionError,
    WorkRequestFlushed,
    WindowBindError,
    BadResponse,
    LocalAccessError,
    RemoteInvalidRequest,
    RemoteAccessError,
    RemoteOperationError,
    RetryExceeded,
    RnrRetryExceeded,
    FatalError,
}

/// What a successful receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Received {
    /// Immediate data.
    pub immediate: Option<u32>,
    /// A key of ours that the sender invalidated.
    pub invalidated: Option<u32>,
}

/// `ibv_wc`. Where `status` is not success only `id`, `status` and `number` mean anything: `len` and `received` are arbitrary then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The request's `wr_id`.
    pub id: u64,
    /// How it ended.
    pub status: CompletionStatus,
    /// Queue pair number.
    pub number: u32,
    /// Bytes received.
    pub len: u32,
    /// For receives.
    pub received: Received,
}

/// One CPU's completion queue, shared receive queue and attached queue pairs. Used by its CPU alone.
pub trait Port: Send + 'static {
    /// A queue pair by value: made by the provider, attached to a port, detached, destroyed by the provider.
    type QueuePair: Send + 'static;

    /// Takes a queue pair in. It was created for this port.
    fn attach(&mut self, queue_pair: Self::QueuePair) -> QueuePairName;

    /// Gives it back for destruction. Nothing can be posted to it any more; completions of what was posted may still be polled.
    fn detach(&mut self, name: QueuePairName) -> Option<Self::QueuePair>;

    /// Posts one receive to a queue pair that has its own receive queue.
    ///
    /// # Errors
    /// [`PostError`].
    fn post_receive(&mut self, name: QueuePairName, id: u64, segments: &[LocalSegment]) -> Result<(), PostError>;

    /// Posts one receive to the shared receive queue.
    ///
    /// # Errors
    /// [`PostError`]; [`PostError::WrongState`] if the port has none.
    fn post_shared_receive(&mut self, id: u64, segments: &[LocalSegment]) -> Result<(), PostError>;

    /// Posts one send. It may start at once, and has started when [`Self::ring`] returns.
    ///
    /// # Errors
    /// [`PostError`].
    fn post_send(&mut self, name: QueuePairName, request: &SendRequest<'_>) -> Result<(), PostError>;

    /// The doorbell, once per batch.
    fn ring(&mut self);

    /// Appends at most `limit` completions; `now_ns` is the turn's time, on which retry timers run. Returns how many.
    fn poll(&mut self, now_ns: u64, limit: usize, completions: &mut Vec<Completion>) -> usize;

    /// Its CPU would sleep: has whatever [`Self::poll`] would find end the sleep from here on, and looks once more (`ibv_req_notify_cq`, and the poll
    /// that has to follow it). [`Rest::Poll`] if something is there, or must be polled; [`Rest::SleepUntil`] where only time can bring something.
    /// What was posted has started before. Each call is followed by one of [`Self::disarm`] before anything else.
    fn arm(&mut self, now_ns: u64) -> Rest;

    /// Its CPU is awake: nobody has to wake it any more, which costs the others nothing from here on.
    fn disarm(&mut self);

    /// While armed it becomes readable when something comes: the completion channel's. Not drained by who waits for it. `None`: see [`Self::arm`]'s
    /// answer, which is not [`Rest::Sleep`] then, unless something else is known to wake this CPU (a simulation's own means).
    fn wake_descriptor(&self) -> Option<RawFd>;
}
