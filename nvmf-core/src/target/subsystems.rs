//! The control plane's list of subsystems, and the snapshot that is made of it.
//!
//! Every edit is checked here and leaves the list as it was where it is refused. What the edit means for hosts is [`super::change`]'s.

use std::net::SocketAddr;
use std::sync::Arc;

use bdev::Device;

use super::change::ChangeError;
use super::check::{self, SpecError};
use crate::limits as l;
use crate::namespace::{DeviceIndex, Namespace};
use crate::spec::{ControllerSpec, SubsystemSpec};
use crate::subsystem::{Snapshot, Subsystem, SubsystemId, SubsystemPort};
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
}

/// All of them, in the order of their ids.
#[derive(Default)]
pub(super) struct Subsystems {
    entries: Vec<Entry>,
    last_id: u64,
}

impl Subsystems {
    /// Puts a checked one in.
    pub(super) fn insert(
        &mut self,
        mut spec: SubsystemSpec,
        devices: &[Arc<dyn Device>],
    ) -> Result<SubsystemId, SpecError> {
        let nqn = check::nqn(&spec.nqn, "nqn", &spec.nqn)?;
        let mut indices = Vec::new();
        for namespace in &mut spec.namespaces {
            let name = namespace.device.name();
            indices.push(check::device_index(&spec.nqn, name, devices)?);
            // Derived, so that it survives a restart.
            namespace.uuid.get_or_insert_with(|| Namespace::derived_uuid(&spec.nqn, name));
        }
        self.last_id += 1;
        let id = SubsystemId(self.last_id);
        let listeners = std::mem::take(&mut spec.listeners);
        let (port_ids, last_port_id) = (Vec::new(), 0);
        let mut entry =
            Entry { id, spec, is_leaving: false, is_paused: false, nqn, port_ids, last_port_id, devices: indices };
        for address in listeners {
            entry.add_listener(address);
        }
        self.entries.push(entry);
        Ok(id)
    }

    /// Nothing of it is left.
    pub(super) fn forget(&mut self, id: SubsystemId) {
        self.entries.retain(|entry| entry.id != id);
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
    pub(super) fn snapshot(&self, controller: ControllerSpec, generation: u64, is_closing: bool) -> Snapshot {
        let subsystems = self.entries.iter().map(Entry::publish).collect();
        Snapshot { generation, is_closing, controller, subsystems }
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
        let Some(place) = self.spec.listeners.iter().position(|listener| *listener == address) else {
            let addresses: Vec<String> = self.spec.listeners.iter().map(ToString::to_string).collect();
            let offered = if addresses.is_empty() { "no address".into() } else { list(&addresses) };
            return Err(ChangeError::NoListener { nqn: self.spec.nqn.clone(), address, offered });
        };
        self.spec.listeners.remove(place);
        self.port_ids.remove(place);
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

    /// The host is not in the list any more.
    pub(super) fn remove_host(&mut self, host: &str) -> Result<(), ChangeError> {
        let Some(place) = self.spec.hosts.iter().position(|listed| listed == host) else {
            let known = if self.spec.hosts.is_empty() { "it is empty".into() } else { list(&self.spec.hosts) };
            return Err(ChangeError::NoHost { nqn: self.spec.nqn.clone(), host: host.into(), known });
        };
        self.spec.hosts.remove(place);
        Ok(())
    }

    fn publish(&self) -> Subsystem {
        let spec = &self.spec;
        let len = spec.namespaces.iter().map(|namespace| namespace.nsid as usize).max().unwrap_or(0);
        let mut namespaces: Vec<Option<Namespace>> = Vec::new();
        namespaces.resize_with(len, || None);
        for (namespace, device) in spec.namespaces.iter().zip(&self.devices) {
            namespaces[namespace.nsid as usize - 1] = Some(Namespace::new(&spec.nqn, namespace, *device));
        }
        let ports = spec.listeners.iter().zip(&self.port_ids);
        Subsystem {
            id: self.id,
            is_leaving: self.is_leaving,
            is_paused: self.is_paused,
            nqn: self.nqn.clone(),
            serial_number: spec.serial_number.clone(),
            model_number: spec.model_number.clone(),
            hosts: (!spec.allow_any_host).then(|| spec.hosts.clone()),
            listeners: ports.map(|(address, id)| SubsystemPort { address: *address, id: *id }).collect(),
            namespaces,
        }
    }
}

/// The first of them, for a person to choose from.
fn list<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN_MAX: usize = 8;
    let shown = names.iter().take(SHOWN_MAX).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN_MAX) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        Some(0) | None => shown,
    }
}
