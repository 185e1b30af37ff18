//! The control plane's list of subsystems, and the snapshot that is made of it.
//!
//! Every edit is checked here and leaves the list as it was where it is refused. What the edit means for hosts is [`super::change`]'s.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::change::ChangeError;
use super::check::{self, SpecError};
use super::devices::{Claim, Devices};
use super::namespaces::visibility_of;
use crate::auth::{GroupSet, HashSet};
use crate::limits as l;
use crate::namespace::{DeviceIndex, Namespace};
use crate::spec::{AnaSpec, AnaState, ControllerModel, ControllerSpec, NamespaceSpec, SubsystemSpec};
use crate::subsystem::{DiscoveryVersions, Snapshot, Subject, Subsystem, SubsystemId, SubsystemPort};
use crate::visibility::Visibility;
use crate::wire::Nqn;

/// One subsystem.
pub(super) struct Entry {
    pub(super) id: SubsystemId,
    pub(super) spec: SubsystemSpec,
    pub(super) is_leaving: bool,
    pub(super) is_paused: bool,
    nqn: Nqn,
    /// PORTIDs, in the order of the listeners: an address keeps its own while others come and go.
    port_ids: Vec<u16>,
    last_port_id: u16,
    /// In the order of the namespaces. A device keeps its number, and each CPU its channel, whatever becomes of its namespaces.
    pub(super) devices: Vec<DeviceIndex>,
    /// In the order of the namespaces: of those that not every host sees.
    visibilities: Vec<Option<Arc<Visibility>>>,
    /// In the order of the listeners: by ANA group - 1; those beyond the end are optimized.
    ana: Vec<Vec<AnaState>>,
    ana_change_count: u64,
}

/// All of them, in the order of their ids.
pub(super) struct Subsystems {
    /// Hash functions and groups that authentications may use.
    pub(super) authentication: (HashSet, GroupSet),
    entries: Vec<Entry>,
    last_id: u64,
}

impl Subsystems {
    pub(super) fn new(authentication: (HashSet, GroupSet)) -> Self {
        Self { authentication, entries: Vec::new(), last_id: 0 }
    }

    /// Puts a checked one in.
    pub(super) fn insert(&mut self, mut spec: SubsystemSpec, devices: &mut Devices) -> Result<SubsystemId, SpecError> {
        let nqn = check::nqn(&spec.nqn, "nqn", &spec.nqn)?;
        let mut indices = Vec::new();
        for namespace in &mut spec.namespaces {
            let name = namespace.device.name();
            indices.push(check::free_device(&spec.nqn, name, devices)?);
            // Derived, so that it survives a restart.
            namespace.uuid.get_or_insert_with(|| Namespace::derived_uuid(&spec.nqn, name));
        }
        self.last_id += 1;
        let id = SubsystemId(self.last_id);
        for (namespace, device) in spec.namespaces.iter().zip(&indices) {
            devices.take(*device, Claim::Namespace(id, namespace.nsid));
        }
        let listeners = std::mem::take(&mut spec.listeners);
        let visibilities = spec.namespaces.iter().map(visibility_of).collect();
        let mut entry = Entry {
            id,
            spec,
            is_leaving: false,
            is_paused: false,
            nqn,
            port_ids: Vec::new(),
            last_port_id: 0,
            devices: indices,
            visibilities,
            ana: Vec::new(),
            ana_change_count: 0,
        };
        for address in listeners {
            entry.add_listener(address);
        }
        self.entries.push(entry);
        Ok(id)
    }

    /// Nothing of it is left. Gives the devices that its namespaces were made of.
    pub(super) fn forget(&mut self, id: SubsystemId) -> Vec<DeviceIndex> {
        let place = self.entries.iter().position(|entry| entry.id == id);
        place.map(|place| self.entries.remove(place).devices).unwrap_or_default()
    }

    /// The one of this name, if it is not being deleted.
    pub(super) fn find(&self, nqn: &str) -> Result<&Entry, ChangeError> {
        match self.entries.iter().find(|entry| entry.spec.nqn == nqn) {
            Some(entry) if entry.is_leaving => Err(ChangeError::BeingDeleted { nqn: nqn.into() }),
            Some(entry) => Ok(entry),
            None => Err(ChangeError::NoSubsystem { nqn: nqn.into(), known: self.names() }),
        }
    }

    /// The one of this name, to change it.
    pub(super) fn find_mut(&mut self, nqn: &str) -> Result<&mut Entry, ChangeError> {
        let id = self.find(nqn)?.id;
        let known = || ChangeError::NoSubsystem { nqn: nqn.into(), known: String::new() };
        self.entries.iter_mut().find(|entry| entry.id == id).ok_or_else(known)
    }

    /// The one with this id, whatever becomes of it.
    pub(super) fn look(&self, id: SubsystemId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// The same, to change it.
    pub(super) fn look_mut(&mut self, id: SubsystemId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    /// The ids that controllers of a subject get.
    pub(super) fn controller_ids(&self, subject: Subject) -> RangeInclusive<u16> {
        let entry = match subject {
            Subject::Nvm(id) => self.look(id),
            Subject::Discovery => None,
        };
        entry.map_or(1..=l::CONTROLLER_ID_MAX, |entry| entry.spec.controller_ids.clone())
    }

    /// Whether an id is that of a static controller: nobody else gets it.
    pub(super) fn is_static_id(&self, id: u16) -> bool {
        let mut specs = self.entries.iter().map(|entry| &entry.spec);
        specs.any(|spec| spec.controller_model == ControllerModel::Static && spec.controller_ids.contains(&id))
    }

    /// Whether hosts may connect to it.
    pub(super) fn is_offered(&self, id: SubsystemId) -> bool {
        self.look(id).is_some_and(|entry| !entry.is_leaving)
    }

    /// All of them, those that are being deleted too.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.entries.iter()
    }

    /// Whether some subsystem is offered at this address.
    pub(super) fn use_address(&self, address: SocketAddr) -> bool {
        self.entries.iter().any(|entry| !entry.is_leaving && entry.spec.listeners.contains(&address))
    }

    /// As CPUs see it.
    pub(super) fn snapshot(&self, controller: ControllerSpec, is_closing: bool) -> Snapshot {
        let subsystems = self.entries.iter().map(Entry::publish).collect();
        let (discovery, referrals) = (DiscoveryVersions::default(), Vec::new());
        Snapshot { is_closing, discovery, referrals, authentication: self.authentication, controller, subsystems }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.entries.iter().map(|entry| entry.spec.nqn.as_str()).collect();
        if names.is_empty() { "there is none".into() } else { list(&names) }
    }
}

impl Entry {
    /// It is offered there from now on.
    pub(super) fn add_listener(&mut self, address: SocketAddr) {
        let mut id = self.last_port_id;
        loop {
            id = id.checked_add(1).unwrap_or(1);
            // There are far fewer listeners than ids.
            if !self.port_ids.contains(&id) {
                break;
            }
        }
        self.last_port_id = id;
        self.port_ids.push(id);
        self.spec.listeners.push(address);
        self.ana.push(Vec::new());
        // What was said of the address before it was there, or when it was there before.
        for rule in self.spec.ana.clone().into_iter().filter(|rule| rule.listener == address) {
            self.apply(rule);
        }
    }

    /// Whether it may be.
    pub(super) fn may_add_listener(&self, address: SocketAddr) -> Result<(), ChangeError> {
        if self.spec.listeners.contains(&address) {
            return Err(ChangeError::ListenerThere { nqn: self.spec.nqn.clone(), address });
        }
        let count = self.spec.listeners.len() + 1;
        Ok(check::within(&self.spec.nqn, "listeners (their number)", count, 0, l::LISTENER_COUNT_MAX)?)
    }

    /// It is not offered there any more.
    pub(super) fn remove_listener(&mut self, address: SocketAddr) -> Result<(), ChangeError> {
        let place = self.listener_place(address)?;
        self.spec.listeners.remove(place);
        self.port_ids.remove(place);
        self.ana.remove(place);
        // An address that comes back is optimized, as every new one is.
        self.spec.ana.retain(|rule| rule.listener != address);
        Ok(())
    }

    /// The host may use it.
    pub(super) fn add_host(&mut self, host: &str) -> Result<(), ChangeError> {
        check::nqn(&self.spec.nqn, "host", host)?;
        if self.spec.hosts.iter().any(|listed| listed == host) {
            return Err(ChangeError::HostThere { nqn: self.spec.nqn.clone(), host: host.into() });
        }
        let count = self.spec.hosts.len() + 1;
        check::within(&self.spec.nqn, "hosts (their number)", count, 0, l::HOST_COUNT_MAX)?;
        self.spec.hosts.push(host.into());
        Ok(())
    }

    /// Whether the host is in the list.
    pub(super) fn has_host(&self, host: &str) -> Result<(), ChangeError> {
        if self.spec.hosts.iter().any(|listed| listed == host) { Ok(()) } else { Err(self.no_host(host)) }
    }

    /// Its name, checked.
    pub(super) fn nqn(&self) -> &Nqn {
        &self.nqn
    }

    fn no_host(&self, host: &str) -> ChangeError {
        let known = if self.spec.hosts.is_empty() { "it is empty".into() } else { list(&self.spec.hosts) };
        ChangeError::NoHost { nqn: self.spec.nqn.clone(), host: host.into(), known }
    }

    /// The host is not in the list any more.
    pub(super) fn remove_host(&mut self, host: &str) -> Result<(), ChangeError> {
        let Some(place) = self.spec.hosts.iter().position(|listed| listed == host) else {
            return Err(self.no_host(host));
        };
        self.spec.hosts.remove(place);
        self.spec.host_keys.retain(|keys| keys.host != host);
        Ok(())
    }

    /// Where a namespace is in the lists.
    pub(super) fn place_of(&self, nsid: u32) -> Result<usize, ChangeError> {
        let place = self.spec.namespaces.iter().position(|namespace| namespace.nsid == nsid);
        place.ok_or_else(|| {
            let nsids: Vec<String> = self.spec.namespaces.iter().map(|n| n.nsid.to_string()).collect();
            let known = if nsids.is_empty() { "there is none".into() } else { list(&nsids) };
            ChangeError::NoNamespace { nqn: self.spec.nqn.clone(), nsid, known }
        })
    }

    /// Puts a checked one in.
    pub(super) fn add_namespace(&mut self, mut namespace: NamespaceSpec, device: DeviceIndex) {
        // Derived, so that it survives a restart.
        let (nqn, name) = (&self.spec.nqn, namespace.device.name());
        let uuid = namespace.uuid.unwrap_or_else(|| Namespace::derived_uuid(nqn, name));
        namespace.uuid = Some(uuid);
        self.visibilities.push(visibility_of(&namespace));
        self.devices.push(device);
        self.spec.namespaces.push(namespace);
        self.ana_change_count += 1;
    }

    /// It is not there any more.
    pub(super) fn take_namespace(&mut self, nsid: u32) {
        if let Ok(place) = self.place_of(nsid) {
            self.spec.namespaces.remove(place);
            self.devices.remove(place);
            self.visibilities.remove(place);
            self.ana_change_count += 1;
        }
    }

    /// Puts a host into the list of a namespace that not every host sees, or takes it out.
    pub(super) fn show(&mut self, place: usize, host: &str, is_shown: bool) -> Result<Arc<Visibility>, ChangeError> {
        let namespace = &mut self.spec.namespaces[place];
        let nsid = namespace.nsid;
        let Some(visibility) = &self.visibilities[place] else {
            return Err(ChangeError::VisibleToAll { nqn: self.spec.nqn.clone(), nsid });
        };
        let subject = format!("namespace {nsid} of {}", self.spec.nqn);
        let listed = namespace.hosts.iter().position(|listed| listed == host);
        match (listed, is_shown) {
            (Some(_), true) => return Err(ChangeError::HostThere { nqn: subject, host: host.into() }),
            (None, true) => {
                check::within(&subject, "hosts (their number)", namespace.hosts.len() + 1, 0, l::HOST_COUNT_MAX)?;
                namespace.hosts.push(host.into());
            }
            (Some(listed), false) => drop(namespace.hosts.remove(listed)),
            (None, false) => {
                let known = if namespace.hosts.is_empty() { "it is empty".into() } else { list(&namespace.hosts) };
                return Err(ChangeError::NoHost { nqn: subject, host: host.into(), known });
            }
        }
        Ok(Arc::clone(visibility))
    }

    /// The namespaces that not every host sees.
    pub(super) fn restricted(&self) -> impl Iterator<Item = (&Visibility, &NamespaceSpec)> {
        let both = self.visibilities.iter().zip(&self.spec.namespaces);
        both.filter_map(|(visibility, namespace)| Some((&**visibility.as_ref()?, namespace)))
    }

    /// The state of one ANA group, or of all, at one of its addresses.
    pub(super) fn set_ana_state(
        &mut self,
        listener: SocketAddr,
        group: Option<u32>,
        state: AnaState,
    ) -> Result<(), ChangeError> {
        self.needs_ana()?;
        self.listener_place(listener)?;
        if let Some(group) = group {
            check::within(&self.spec.nqn, "anagrpid", group, 1, self.spec.nsid_max)?;
        }
        let rule = AnaSpec { listener, group, state };
        // What it replaces is forgotten, so that the rules do not grow.
        let is_replaced = |old: &AnaSpec| old.listener == listener && (group.is_none() || old.group == group);
        self.spec.ana.retain(|old| !is_replaced(old));
        self.spec.ana.push(rule);
        self.apply(rule);
        self.ana_change_count += 1;
        Ok(())
    }

    /// A namespace goes to another ANA group.
    pub(super) fn set_ana_group(&mut self, nsid: u32, group: u32) -> Result<(), ChangeError> {
        self.needs_ana()?;
        let place = self.place_of(nsid)?;
        check::within(&self.spec.nqn, "anagrpid", group, 1, self.spec.nsid_max)?;
        self.spec.namespaces[place].ana_group = Some(group);
        self.ana_change_count += 1;
        Ok(())
    }

    fn needs_ana(&self) -> Result<(), ChangeError> {
        if self.spec.reports_ana { Ok(()) } else { Err(ChangeError::NoAna { nqn: self.spec.nqn.clone() }) }
    }

    fn apply(&mut self, rule: AnaSpec) {
        let Some(place) = self.spec.listeners.iter().position(|listener| *listener == rule.listener) else { return };
        let states = &mut self.ana[place];
        match rule.group.and_then(|group| usize::try_from(group).ok()) {
            Some(group) => {
                if states.len() < group {
                    states.resize(group, AnaState::Optimized);
                }
                states[group - 1] = rule.state;
            }
            None => *states = vec![rule.state; self.spec.nsid_max as usize],
        }
        // All that is optimized need not be said.
        while states.last() == Some(&AnaState::Optimized) {
            states.pop();
        }
    }

    fn listener_place(&self, address: SocketAddr) -> Result<usize, ChangeError> {
        self.spec.listeners.iter().position(|listener| *listener == address).ok_or_else(|| {
            let addresses: Vec<String> = self.spec.listeners.iter().map(ToString::to_string).collect();
            let offered = if addresses.is_empty() { "no address".into() } else { list(&addresses) };
            ChangeError::NoListener { nqn: self.spec.nqn.clone(), address, offered }
        })
    }

    fn publish(&self) -> Subsystem {
        let spec = &self.spec;
        let len = spec.namespaces.iter().map(|namespace| namespace.nsid as usize).max().unwrap_or(0);
        let mut namespaces: Vec<Option<Namespace>> = Vec::new();
        namespaces.resize_with(len, || None);
        for ((namespace, device), visibility) in spec.namespaces.iter().zip(&self.devices).zip(&self.visibilities) {
            let made = Namespace::new(&spec.nqn, namespace, *device, visibility.clone());
            namespaces[namespace.nsid as usize - 1] = Some(made);
        }
        let ports = spec.listeners.iter().zip(&self.port_ids).zip(&self.ana);
        let port = |((address, id), ana): ((&SocketAddr, &u16), &Vec<AnaState>)| SubsystemPort {
            address: *address,
            id: *id,
            ana: ana.clone(),
        };
        Subsystem {
            id: self.id,
            is_leaving: self.is_leaving,
            is_paused: self.is_paused,
            nqn: self.nqn.clone(),
            serial_number: spec.serial_number.clone(),
            model_number: spec.model_number.clone(),
            hosts: (!spec.allow_any_host).then(|| spec.hosts.clone()),
            listeners: ports.map(port).collect(),
            authenticated_hosts: spec.host_keys.iter().map(|keys| keys.host.clone()).collect(),
            namespaces,
            nsid_max: spec.nsid_max,
            reports_ana: spec.reports_ana,
            is_asymmetric: self.ana.iter().any(|states| !states.is_empty()),
            ana_change_count: self.ana_change_count,
            is_shared: spec.is_shared,
            controller_model: spec.controller_model,
            has_reservations: spec.has_reservations(),
        }
    }
}

/// The first of them, for a person to choose from.
pub(super) fn list<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN_MAX: usize = 8;
    let shown = names.iter().take(SHOWN_MAX).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN_MAX) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        Some(0) | None => shown,
    }
}
