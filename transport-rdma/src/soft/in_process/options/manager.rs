//! What a connection manager does otherwise than a calm one, and what becomes of a machine's events.

use bitflags::bitflags;

use crate::verbs::{Event, Port};

/// What a connection manager does otherwise than a calm one. "One in so many" is a choice each time; 0 is never, 1 always.
#[derive(Clone, Copy, Debug, Default)]
pub struct ManagerFaults {
    /// Kinds of events that do not come while they are listed here. (E2, E6, E7, K5, R6)
    pub withholds: EventKinds,
    /// Kinds that come late, each by any number of looks up to [`Self::late_looks_max`].
    pub late: EventKinds,
    /// Most looks that those take more than others.
    pub late_looks_max: u32,
    /// Kinds of which some come twice. Those that give something by value never do. (A4)
    pub twice: EventKinds,
    /// One in so many connection replies is lost for good: the active side's connect times out, the accepting side may hear that or nothing. (J1, K2)
    pub loses_reply_one_in: u32,
    /// One in so many connection requests is rejected before anybody hears of it, for a reason that is chosen. (I12)
    pub rejects_one_in: u32,
    /// Whether a request of a queue pair number that this machine knows an old connection of, live or in timewait, is rejected as stale. The live one is
    /// told that it is disconnected. (I12, C2)
    pub rejects_stale: bool,
    /// Whether fetching REJECTED moves the queue pair to the error state, as librdmacm does. (B8, R22)
    pub rejected_moves_to_error: bool,
}

bitflags! {
    /// Kinds of events.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct EventKinds: u32 {
        /// [`Event::Registered`].
        const REGISTERED = 1;
        /// [`Event::Deregistered`].
        const DEREGISTERED = 1 << 1;
        /// [`Event::QueuePairCreated`].
        const QUEUE_PAIR_CREATED = 1 << 2;
        /// [`Event::QueuePairDestroyed`].
        const QUEUE_PAIR_DESTROYED = 1 << 3;
        /// [`Event::ConnectionDestroyed`].
        const CONNECTION_DESTROYED = 1 << 4;
        /// [`Event::Unlistened`].
        const UNLISTENED = 1 << 5;
        /// [`Event::Resolved`].
        const RESOLVED = 1 << 6;
        /// [`Event::ConnectRequest`].
        const CONNECT_REQUEST = 1 << 7;
        /// [`Event::Established`].
        const ESTABLISHED = 1 << 8;
        /// [`Event::Rejected`].
        const REJECTED = 1 << 9;
        /// [`Event::Disconnected`].
        const DISCONNECTED = 1 << 10;
        /// [`Event::TimewaitExit`].
        const TIMEWAIT_EXIT = 1 << 11;
        /// [`Event::LastWqeReached`].
        const LAST_WQE_REACHED = 1 << 12;
        /// [`Event::QueuePairFatal`].
        const QUEUE_PAIR_FATAL = 1 << 13;
        /// [`Event::DeviceRemoved`].
        const DEVICE_REMOVED = 1 << 14;
        /// [`Event::CompletionQueueError`].
        const COMPLETION_QUEUE_ERROR = 1 << 15;
        /// [`Event::AddressChanged`].
        const ADDRESS_CHANGED = 1 << 16;
        /// [`Event::DeviceReleased`].
        const DEVICE_RELEASED = 1 << 17;
        /// [`Event::DeviceReopened`].
        const DEVICE_REOPENED = 1 << 18;
    }
}

impl EventKinds {
    pub(in super::super) fn of<P: Port>(event: &Event<P>) -> Self {
        match event {
            Event::Registered { .. } => Self::REGISTERED,
            Event::Deregistered { .. } => Self::DEREGISTERED,
            Event::QueuePairCreated { .. } => Self::QUEUE_PAIR_CREATED,
            Event::QueuePairDestroyed { .. } => Self::QUEUE_PAIR_DESTROYED,
            Event::ConnectionDestroyed { .. } => Self::CONNECTION_DESTROYED,
            Event::Unlistened { .. } => Self::UNLISTENED,
            Event::Resolved { .. } => Self::RESOLVED,
            Event::ConnectRequest(_) => Self::CONNECT_REQUEST,
            Event::Established { .. } => Self::ESTABLISHED,
            Event::Rejected { .. } => Self::REJECTED,
            Event::Disconnected { .. } => Self::DISCONNECTED,
            Event::TimewaitExit { .. } => Self::TIMEWAIT_EXIT,
            Event::LastWqeReached { .. } => Self::LAST_WQE_REACHED,
            Event::QueuePairFatal { .. } => Self::QUEUE_PAIR_FATAL,
            Event::DeviceRemoved(_) => Self::DEVICE_REMOVED,
            Event::DeviceReleased(_) => Self::DEVICE_RELEASED,
            Event::DeviceReopened { .. } => Self::DEVICE_REOPENED,
            Event::CompletionQueueError { .. } => Self::COMPLETION_QUEUE_ERROR,
            Event::AddressChanged { .. } => Self::ADDRESS_CHANGED,
        }
    }
}
