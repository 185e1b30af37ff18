//! Namespaces that come, go and change while their hosts are connected.
//!
//! What is published decides: a CPU that looks at the next snapshot admits no command for a namespace that went. A removal is done when every CPU has
//! said that no lease on the device is out, and only then is the device free for others.

use std::sync::Arc;

use super::change::{Addition, ChangeError, ChangeId, Task, Wait};
use super::devices::Claim;
use super::reservations::ReservationRead;
use super::{Target, check};
use crate::namespace::{DeviceIndex, Namespace};
use crate::notice::{Notice, Recipients};
use crate::reservation::ReservationRecord;
use crate::spec::{NamespaceSpec, Persistence};
use crate::subsystem::{Subject, SubsystemId};
use crate::visibility::Visibility;
use crate::wire::Nqn;

/// A namespace that is asked for, its device by name.
#[derive(Clone, Debug)]
pub struct NamespaceRequest {
    /// 1 or more.
    pub nsid: u32,
    /// The device's name.
    pub device: String,
    /// UUID.
    pub uuid: Option<uuid::Uuid>,
    /// NGUID.
    pub nguid: Option<[u8; 16]>,
    /// EUI-64.
    pub eui64: Option<[u8; 8]>,
    /// ANA group.
    pub ana_group: Option<u32>,
    /// Whether every host of the subsystem sees it.
    pub is_auto_visible: bool,
    /// Where its reservations are kept through a loss of power, by the program's name for it. What is there is read first.
    pub persistence_file: Option<Arc<str>>,
}

impl NamespaceRequest {
    /// Its UUID in the subsystem of this name: given, or derived.
    #[must_use]
    pub fn uuid_in(&self, nqn: &str) -> uuid::Uuid {
        self.uuid.unwrap_or_else(|| Namespace::derived_uuid(nqn, &self.device))
    }
}

impl Target {
    /// The lowest namespace id that is free in a subsystem, and that no addition under way has.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn free_nsid(&self, nqn: &str) -> Result<u32, ChangeError> {
        let spec = &self.subsystems.find(nqn)?.spec;
        let is_taken = |nsid: &u32| {
            spec.namespaces.iter().any(|namespace| namespace.nsid == *nsid)
                || self.changes.additions().any(|addition| addition.nqn == nqn && addition.request.nsid == *nsid)
        };
        let free = (1..=spec.nsid_max).find(|nsid| !is_taken(nsid));
        free.ok_or(ChangeError::TooManyNamespaces { nqn: nqn.into(), limit: spec.nsid_max })
    }

    /// A namespace of a device that nobody uses. Done when hosts can use it; those that see it are told. Where its reservations are kept, somebody reads
    /// first what is kept of them ([`Self::next_reservation_read`]); the change fails if that can't be read, or if something has taken the namespace's place
    /// meanwhile.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn add_namespace(&mut self, nqn: &str, request: &NamespaceRequest) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let (spec, device) = self.checked_namespace(nqn, request, ReservationRecord::default())?;
        if let Some(file) = &request.persistence_file {
            let addition = Addition { nqn: nqn.to_owned(), request: request.clone() };
            let id = self.changes.begin_with(Task::AddNamespace(Box::new(addition)), Wait::Making);
            self.reservations.want(ReservationRead { id, file: Arc::clone(file), uuid: request.uuid_in(nqn) });
            return Ok(id);
        }
        self.put_namespace(nqn, spec, device)?;
        Ok(self.begin(Task::Publish))
    }

    /// What somebody found for a [`ReservationRead`], or why it could not be read: the namespace is added, or the change fails.
    pub fn reservation_read(&mut self, id: ChangeId, outcome: Result<ReservationRecord, String>) {
        let Some(Addition { nqn, request }) = self.changes.addition(id).cloned() else {
            return tracing::error!(?id, "reservations were read that nobody waits for");
        };
        let mut add = |record| {
            if self.is_closing {
                return Err(ChangeError::ShuttingDown);
            }
            let (spec, device) = self.checked_namespace(&nqn, &request, record)?;
            self.put_namespace(&nqn, spec, device)
        };
        match outcome.and_then(|record| add(record).map_err(|error| error.to_string())) {
            Ok(()) => {
                self.is_stale = true;
                self.changes.go_on(id, Task::Publish);
            }
            Err(why) => self.changes.fail(id, why),
        }
    }

    /// What a request comes to, if nothing forbids it now.
    fn checked_namespace(
        &self,
        nqn: &str,
        request: &NamespaceRequest,
        record: ReservationRecord,
    ) -> Result<(NamespaceSpec, DeviceIndex), ChangeError> {
        let entry = self.subsystems.find(nqn)?;
        let index = self.devices.find(&request.device)?;
        if let Some(claim) = self.devices.claim(index) {
            return Err(ChangeError::DeviceUsed { name: request.device.clone(), by: self.user(claim) });
        }
        let Some(device) = self.devices.device(index) else {
            return Err(ChangeError::DeviceChanges { name: request.device.clone() });
        };
        let spec = NamespaceSpec {
            uuid: request.uuid,
            nguid: request.nguid,
            eui64: request.eui64,
            ana_group: request.ana_group,
            is_auto_visible: request.is_auto_visible,
            persistence: request.persistence_file.clone().map(|file| Persistence { file, record }),
            ..NamespaceSpec::new(request.nsid, Arc::clone(device))
        };
        check::check_namespace_addition(
            self.subsystems.iter().map(|entry| &entry.spec),
            &entry.spec,
            &spec,
            self.controller.transfer_len_max,
        )?;
        Ok((spec, index))
    }

    fn put_namespace(&mut self, nqn: &str, spec: NamespaceSpec, device: DeviceIndex) -> Result<(), ChangeError> {
        let nsid = spec.nsid;
        let entry = self.subsystems.find_mut(nqn)?;
        let id = entry.id;
        entry.add_namespace(spec, device);
        self.devices.take(device, Claim::Namespace(id, nsid));
        self.tell_of_namespace(id, nsid);
        Ok(())
    }

    /// No command for the namespace is admitted any more; those that were are carried out. Hosts that saw it are told. Done when no CPU has anything of
    /// it any more.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn remove_namespace(&mut self, nqn: &str, nsid: u32) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let entry = self.subsystems.find(nqn)?;
        let (id, place) = (entry.id, entry.place_of(nsid)?);
        let device = entry.devices[place];
        self.take_namespace(id, nsid);
        Ok(self.begin(Task::RemoveNamespace(device)))
    }

    /// A host sees the namespace from now on, and is told.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn add_namespace_host(&mut self, nqn: &str, nsid: u32, host: &str) -> Result<ChangeId, ChangeError> {
        self.show(nqn, nsid, host, true)
    }

    /// A host does not see the namespace any more, and is told. Its commands that were admitted are carried out.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn remove_namespace_host(&mut self, nqn: &str, nsid: u32, host: &str) -> Result<ChangeId, ChangeError> {
        self.show(nqn, nsid, host, false)
    }

    fn show(&mut self, nqn: &str, nsid: u32, host: &str, is_shown: bool) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let name = check::nqn(nqn, "host", host)?;
        let entry = self.subsystems.find_mut(nqn)?;
        let (id, place) = (entry.id, entry.place_of(nsid)?);
        let visibility = entry.show(place, host, is_shown)?;
        for controller in self.controllers.of(Subject::Nvm(id)).filter(|controller| controller.host_nqn == host) {
            visibility.set(controller.id, is_shown);
        }
        self.notify(Notice::NamespaceChanged { subsystem: id, nsid, to: Recipients::Hosts(vec![name]) });
        Ok(self.begin(Task::Publish))
    }

    /// A controller has this id from now on: it sees what its host sees.
    pub(super) fn show_namespaces(&self, subject: Subject, controller_id: u16, host: &Nqn) {
        let Subject::Nvm(id) = subject else { return };
        let Some(entry) = self.subsystems.look(id) else { return };
        for (visibility, namespace) in entry.restricted() {
            visibility.set(controller_id, namespace.hosts.iter().any(|listed| listed == host.as_str()));
        }
    }

    /// Takes a namespace out of the next snapshot, and tells who saw it. Its device stays claimed.
    pub(super) fn take_namespace(&mut self, id: SubsystemId, nsid: u32) {
        self.tell_of_namespace(id, nsid);
        if let Some(entry) = self.subsystems.look_mut(id) {
            entry.take_namespace(nsid);
        }
        // At once: nothing is written for it any more, so that whoever adds it again reads the last that was.
        self.reservations.follow(&self.subsystems, &mut self.hosts);
    }

    /// Hosts that see the namespace are told that it changed.
    pub(super) fn tell_of_namespace(&mut self, id: SubsystemId, nsid: u32) {
        let Some(entry) = self.subsystems.look(id) else { return };
        let Ok(place) = entry.place_of(nsid) else { return };
        let spec = &entry.spec.namespaces[place];
        let to = if spec.is_auto_visible {
            Recipients::Everybody
        } else {
            Recipients::Hosts(spec.hosts.iter().filter_map(|host| Nqn::new(host).ok()).collect())
        };
        self.notify(Notice::NamespaceChanged { subsystem: id, nsid, to });
    }
}

/// What a namespace that not every host sees has for it; nothing where every host does.
pub(super) fn visibility_of(spec: &NamespaceSpec) -> Option<Arc<Visibility>> {
    (!spec.is_auto_visible).then(|| Arc::new(Visibility::new()))
}
