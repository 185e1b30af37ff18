//! What a change takes away from hosts: a whole subsystem, one of its addresses, or one host's right to it.
//!
//! The control plane makes one when the snapshot says so already; each poll group ends the qpairs that it names, by the ordinary teardown. A Connect
//! that is checked after the message came is checked against that snapshot, so nothing slips in between.

use std::net::SocketAddr;

use crate::subsystem::SubsystemId;
use crate::transport::DisconnectReason;
use crate::wire::Nqn;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Withdrawal {
    /// Of which subsystem.
    pub(crate) subsystem: SubsystemId,
    /// From whom.
    pub(crate) from: Audience,
}

/// Which hosts lose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Everybody: the subsystem is deleted.
    Everybody,
    /// Whoever came by this address.
    Listener(SocketAddr),
    /// The host of this name.
    Host(Nqn),
}

impl Withdrawal {
    /// Why the qpairs end.
    pub(crate) fn reason(&self) -> DisconnectReason {
        match self.from {
            Audience::Everybody => DisconnectReason::SubsystemDeleted,
            Audience::Listener(_) => DisconnectReason::ListenerRemoved,
            Audience::Host(_) => DisconnectReason::HostRemoved,
        }
    }
}
