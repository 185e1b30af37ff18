//! What has happened that hosts are told of by an asynchronous event [NVMe Base 2.0, 5.2].
//!
//! The control plane makes a [`Notice`] when the snapshot says already what it is about, and sends it to every poll group; each raises the event in
//! those of its controllers that are meant ([`Notice::concerns`]). A host that reads the log which its event names so never reads an old one.
//! Nothing answers a notice, and one that comes late or twice makes a host look once more.

use std::net::SocketAddr;

use crate::membership::Host;
use crate::subsystem::{Subject, SubsystemId};
use crate::wire::Nqn;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A namespace came or went, or what Identify says of it has changed.
    NamespaceChanged {
        /// Of this subsystem.
        subsystem: SubsystemId,
        /// Which.
        nsid: u32,
        /// Who sees the namespace, or saw it.
        to: Recipients,
    },
    /// The ANA log page has changed.
    AnaChanged {
        /// Of this subsystem.
        subsystem: SubsystemId,
        /// Who sees another page.
        to: Recipients,
    },
    /// The discovery log page has changed.
    DiscoveryChanged {
        /// Who sees another page.
        to: Recipients,
    },
    /// Something that was done to a reservation or a registrant by another host.
    Reservation {
        /// Of this subsystem.
        subsystem: SubsystemId,
        /// On which namespace.
        nsid: u32,
        /// What.
        kind: ReservationNotice,
        /// The hosts that are told, by their identifiers: every controller of theirs has an entry in its log.
        hosts: Vec<[u8; 16]>,
    },
}

/// Which of a subject's controllers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recipients {
    /// All of them.
    Everybody,
    /// Those whose admin queue came by this address.
    Listener(SocketAddr),
    /// Those of these hosts.
    Hosts(Vec<Nqn>),
}

/// Reservation Notification Log Page Type, without the empty one [NVMe Base 2.0, 5.16.1.24].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReservationNotice {
    /// The host's registration was preempted.
    RegistrationPreempted = 1,
    /// A reservation was released that the host's registration goes on without.
    ReservationReleased = 2,
    /// The host's reservation was preempted.
    ReservationPreempted = 3,
}

impl Notice {
    /// Whether a controller of `subject` tells its `host`, which came by `listener`.
    pub(crate) fn concerns(&self, subject: Subject, host: &Host, listener: SocketAddr) -> bool {
        match self {
            Self::NamespaceChanged { subsystem, to, .. } | Self::AnaChanged { subsystem, to } => {
                subject == Subject::Nvm(*subsystem) && to.include(host, listener)
            }
            Self::DiscoveryChanged { to } => subject == Subject::Discovery && to.include(host, listener),
            Self::Reservation { subsystem, hosts, .. } => {
                subject == Subject::Nvm(*subsystem) && hosts.contains(&host.id)
            }
        }
    }
}

impl Recipients {
    fn include(&self, host: &Host, listener: SocketAddr) -> bool {
        match self {
            Self::Everybody => true,
            Self::Listener(address) => *address == listener,
            Self::Hosts(nqns) => nqns.contains(&host.nqn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_for_its_subject_and_its_recipients() {
        let nqn = |name: &str| Nqn::new(name).unwrap();
        let host = Host { nqn: nqn("nqn.2024-01.example:a"), id: [1; 16] };
        let (here, there) = ("127.0.0.1:4420".parse().unwrap(), "127.0.0.1:4421".parse().unwrap());
        let (ours, other) = (Subject::Nvm(SubsystemId(1)), Subject::Nvm(SubsystemId(2)));
        let changed = |to| Notice::NamespaceChanged { subsystem: SubsystemId(1), nsid: 1, to };
        assert!(changed(Recipients::Everybody).concerns(ours, &host, here));
        assert!(!changed(Recipients::Everybody).concerns(other, &host, here));
        assert!(!changed(Recipients::Everybody).concerns(Subject::Discovery, &host, here));
        assert!(changed(Recipients::Listener(here)).concerns(ours, &host, here));
        assert!(!changed(Recipients::Listener(there)).concerns(ours, &host, here));
        assert!(changed(Recipients::Hosts(vec![host.nqn.clone()])).concerns(ours, &host, here));
        assert!(!changed(Recipients::Hosts(vec![nqn("nqn.2024-01.example:b")])).concerns(ours, &host, here));
        let log = Notice::DiscoveryChanged { to: Recipients::Everybody };
        assert!(log.concerns(Subject::Discovery, &host, here) && !log.concerns(ours, &host, here));
        let released = |id| Notice::Reservation {
            subsystem: SubsystemId(1),
            nsid: 1,
            kind: ReservationNotice::ReservationReleased,
            hosts: vec![[id; 16]],
        };
        assert!(released(1).concerns(ours, &host, here));
        assert!(!released(2).concerns(ours, &host, here));
    }
}
