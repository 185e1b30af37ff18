//! What every CPU knows of the target's subsystems: a snapshot that the control plane replaces whole and that others read by reference for
//! one turn.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::auth::{GroupSet, HashSet};
use crate::defect::{self, Defect};
use crate::namespace::Namespace;
use crate::referral::Referral;
use crate::spec::{AnaState, ControllerModel, ControllerSpec};
use crate::wire::Nqn;

/// Names a subsystem for as long as the target runs. It is never used again, also where a later subsystem has the same NQN: what names one that was
/// deleted is a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SubsystemId(pub(crate) u64);

/// What a controller is a controller of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// The discovery service, which is the same on every listener.
    Discovery,
    /// One NVM subsystem.
    Nvm(SubsystemId),
}

/// The target as it is until the next snapshot.
pub(crate) struct Snapshot {
    /// Whether Connect is refused, since the target shuts down.
    pub(crate) is_closing: bool,
    /// Hash functions and groups that authentications may use.
    pub(crate) authentication: (HashSet, GroupSet),
    /// GENCTR.
    pub(crate) discovery: DiscoveryVersions,
    /// What the discovery log says of others.
    pub(crate) referrals: Vec<Referral>,
    /// Limits of every controller.
    pub(crate) controller: ControllerSpec,
    /// In the order of their ids.
    pub(crate) subsystems: Vec<Subsystem>,
}

/// One NVM subsystem.
pub(crate) struct Subsystem {
    pub(crate) id: SubsystemId,
    /// It is being deleted: no host connects to it any more. It stays in the snapshot until its last controller is gone.
    pub(crate) is_leaving: bool,
    /// I/O commands that come now are parked until it is resumed.
    pub(crate) is_paused: bool,
    pub(crate) nqn: Nqn,
    pub(crate) serial_number: String,
    pub(crate) model_number: String,
    /// `None`: every host.
    pub(crate) hosts: Option<Vec<String>>,
    /// Those that have to authenticate.
    pub(crate) authenticated_hosts: Vec<String>,
    pub(crate) listeners: Vec<SubsystemPort>,
    /// By nsid - 1.
    pub(crate) namespaces: Vec<Option<Namespace>>,
    /// NN: the highest namespace id that there may be.
    pub(crate) nsid_max: u32,
    /// Whether hosts are told of ANA.
    pub(crate) reports_ana: bool,
    /// Whether some group is not optimized at some address: only then is an I/O command's group looked at.
    pub(crate) is_asymmetric: bool,
    /// How often the ANA log page has changed.
    pub(crate) ana_change_count: u64,
    /// Whether other targets offer it too: what is not shared with them is said not to be there.
    pub(crate) is_shared: bool,
    /// Where its controllers come from.
    pub(crate) controller_model: ControllerModel,
    /// Whether its namespaces can be reserved.
    pub(crate) has_reservations: bool,
}

/// An address at which a subsystem is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubsystemPort {
    pub(crate) address: SocketAddr,
    /// PORTID: stays with the address while others come and go.
    pub(crate) id: u16,
    /// By ANA group - 1; those beyond the end are optimized.
    pub(crate) ana: Vec<AnaState>,
}

/// One ANA group at one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnaGroup {
    /// ANAGRPID.
    pub(crate) id: u32,
    pub(crate) state: AnaState,
    /// NSIDs of its namespaces that the controller sees, ascending.
    pub(crate) nsids: Vec<u32>,
}

/// How often the discovery log has changed, for whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiscoveryVersions {
    pub(crate) everybody: u64,
    pub(crate) hosts: BTreeMap<String, u64>,
}

impl DiscoveryVersions {
    /// GENCTR for this host.
    pub(crate) fn of(&self, host_nqn: &str) -> u64 {
        self.everybody.wrapping_add(self.hosts.get(host_nqn).copied().unwrap_or(0))
    }
}

impl Snapshot {
    /// The subsystem, if it is still there.
    pub(crate) fn subsystem(&self, id: SubsystemId) -> Option<&Subsystem> {
        let place = self.subsystems.binary_search_by_key(&id, |subsystem| subsystem.id).ok()?;
        self.subsystems.get(place)
    }

    /// What a host means that connects to `nqn` on `listener`: a name that is known elsewhere is not known here.
    pub(crate) fn subject(&self, nqn: &Nqn, listener: SocketAddr) -> Option<Subject> {
        if nqn.is_discovery() {
            return Some(Subject::Discovery);
        }
        self.offered()
            .find(|subsystem| subsystem.nqn == *nqn && subsystem.is_reachable_on(listener))
            .map(|subsystem| Subject::Nvm(subsystem.id))
    }

    /// Those that hosts may connect to.
    pub(crate) fn offered(&self) -> impl Iterator<Item = &Subsystem> {
        self.subsystems.iter().filter(|subsystem| !subsystem.is_leaving)
    }
}

impl Subsystem {
    /// Whether it is served there.
    pub(crate) fn is_reachable_on(&self, listener: SocketAddr) -> bool {
        self.listeners.iter().any(|port| port.address == listener)
    }

    /// Whether this host may connect.
    pub(crate) fn allows(&self, host_nqn: &str) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|host| host == host_nqn))
    }

    /// Whether this host has to authenticate. Also where every host may connect: whoever has a key is nobody else.
    pub(crate) fn must_authenticate(&self, host_nqn: &str) -> bool {
        self.authenticated_hosts.iter().any(|host| host == host_nqn)
    }

    /// The namespace with this id. 0 and FFFFFFFFh are none's.
    pub(crate) fn namespace(&self, nsid: u32) -> Option<&Namespace> {
        let index = usize::try_from(nsid.checked_sub(1)?).ok()?;
        self.namespaces.get(index)?.as_ref()
    }

    /// NN.
    pub(crate) fn nsid_max(&self) -> u32 {
        self.nsid_max
    }

    /// All of them, by id.
    pub(crate) fn active_namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.iter().flatten()
    }

    /// The namespace with this id, if a controller's host sees it: to all others it is as if there were none.
    pub(crate) fn visible_namespace(&self, nsid: u32, controller_id: u16) -> Option<&Namespace> {
        self.namespace(nsid)
            .filter(|namespace| namespace.shows_to(controller_id) || defect::is(Defect::HiddenNamespaceIsServed))
    }

    /// Those that a controller's host sees, by id.
    pub(crate) fn visible_namespaces(&self, controller_id: u16) -> impl Iterator<Item = &Namespace> {
        self.active_namespaces().filter(move |namespace| namespace.shows_to(controller_id))
    }

    /// The state of a group for hosts that came by this address.
    pub(crate) fn ana_state(&self, listener: SocketAddr, group: u32) -> AnaState {
        if !self.is_asymmetric {
            return AnaState::Optimized;
        }
        let port = self.listeners.iter().find(|port| port.address == listener);
        port.map_or(AnaState::Optimized, |port| port.ana_state(group))
    }

    /// The groups that have namespaces which a controller sees, by id, for a host that came by this address.
    pub(crate) fn ana_groups(&self, listener: SocketAddr, controller_id: u16) -> Vec<AnaGroup> {
        let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for namespace in self.visible_namespaces(controller_id) {
            groups.entry(namespace.ana_group).or_default().push(namespace.nsid);
        }
        let group = |(id, nsids)| AnaGroup { id, state: self.ana_state(listener, id), nsids };
        groups.into_iter().map(group).collect()
    }
}

impl SubsystemPort {
    fn ana_state(&self, group: u32) -> AnaState {
        let place = group.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.ana.get(place)).copied().unwrap_or_default()
    }
}
