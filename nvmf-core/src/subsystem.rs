//! What every CPU knows of the target's subsystems: a snapshot that the control plane replaces whole and that others read by reference for
//! one turn.

use std::net::SocketAddr;

use crate::namespace::Namespace;
use crate::spec::ControllerSpec;
use crate::wire::Nqn;

/// A subsystem's place in the target's list. Places are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SubsystemIndex(pub(crate) u16);

/// What a controller is a controller of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The discovery service, which is the same on every listener.
    Discovery,
    /// One NVM subsystem.
    Nvm(SubsystemIndex),
}

/// The target as it is until the next snapshot.
pub(crate) struct Snapshot {
    /// Counts changes: the discovery log's GENCTR.
    pub(crate) generation: u64,
    /// Whether Connect is refused, since the target shuts down.
    pub(crate) is_closing: bool,
    /// Limits of every controller.
    pub(crate) controller: ControllerSpec,
    /// By [`SubsystemIndex`].
    pub(crate) subsystems: Vec<Subsystem>,
}

/// One NVM subsystem.
pub(crate) struct Subsystem {
    pub(crate) nqn: Nqn,
    pub(crate) serial_number: String,
    pub(crate) model_number: String,
    /// `None`: every host.
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) listeners: Vec<SocketAddr>,
    /// By nsid - 1.
    pub(crate) namespaces: Vec<Option<Namespace>>,
}

impl Snapshot {
    /// The subsystem, if it is still there.
    pub(crate) fn subsystem(&self, index: SubsystemIndex) -> Option<&Subsystem> {
        self.subsystems.get(usize::from(index.0))
    }

    /// What a host means that connects to `nqn` on `listener`: a name that is known elsewhere is not known here.
    pub(crate) fn subject(&self, nqn: &Nqn, listener: SocketAddr) -> Option<Subject> {
        if nqn.is_discovery() {
            return Some(Subject::Discovery);
        }
        (0u16..)
            .zip(&self.subsystems)
            .find(|(_, subsystem)| subsystem.nqn == *nqn && subsystem.is_reachable_on(listener))
            .map(|(index, _)| Subject::Nvm(SubsystemIndex(index)))
    }
}

impl Subsystem {
    /// Whether it is served there.
    pub(crate) fn is_reachable_on(&self, listener: SocketAddr) -> bool {
        self.listeners.contains(&listener)
    }

    /// Whether this host may connect.
    pub(crate) fn allows(&self, host_nqn: &str) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|host| host == host_nqn))
    }

    /// The namespace with this id. 0 and FFFFFFFFh are none's.
    pub(crate) fn namespace(&self, nsid: u32) -> Option<&Namespace> {
        let index = usize::try_from(nsid.checked_sub(1)?).ok()?;
        self.namespaces.get(index)?.as_ref()
    }

    /// The highest namespace id.
    pub(crate) fn nsid_max(&self) -> u32 {
        u32::try_from(self.namespaces.len()).unwrap_or(u32::MAX)
    }

    /// All of them, by id.
    pub(crate) fn active_namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.iter().flatten()
    }
}
