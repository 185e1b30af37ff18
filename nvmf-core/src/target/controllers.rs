//! The controllers of the whole target, as the control plane knows them: one record for each lease that is out.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::ids::ControllerIds;
use crate::membership::{Host, SubsystemLease};
use crate::reservation::{HostId, HostNumber};
use crate::subsystem::{Subject, SubsystemId};
use crate::wire::Nqn;

/// A controller, from the moment that it has an id until nothing of it is left.
#[derive(Clone, Copy, Debug)]
pub struct ControllerFacts<'t> {
    /// CNTLID.
    pub id: u16,
    /// Whose host.
    pub host_nqn: &'t str,
    /// The host's identifier.
    pub host_id: [u8; 16],
}

/// One lease that is out.
struct Record {
    subject: Subject,
    host: Box<Host>,
}

/// All of them.
pub(super) struct Controllers {
    ids: ControllerIds,
    records: BTreeMap<u16, Record>,
}

impl Controllers {
    pub(super) fn new() -> Self {
        Self { ids: ControllerIds::new(), records: BTreeMap::new() }
    }

    /// A new one gets its id, of these. `None`: there is none left.
    pub(super) fn lease(
        &mut self,
        subject: Subject,
        host: Box<Host>,
        number: HostNumber,
        ids: &RangeInclusive<u16>,
    ) -> Option<SubsystemLease> {
        let id = self.ids.allocate(ids)?;
        self.records.insert(id, Record { subject, host });
        Some(SubsystemLease::new(id, subject, number))
    }

    /// A lease came home: nothing is left of the controller.
    pub(super) fn give_back(&mut self, lease: SubsystemLease) {
        let id = lease.controller_id();
        let record = self.records.remove(&id);
        debug_assert_eq!(record.map(|record| record.subject), Some(lease.subject()));
        let was_taken = self.ids.free(id);
        assert!(was_taken, "leases are made here and come home once, and controller id {id} came twice");
    }

    /// Leases that are out.
    pub(super) fn count(&self) -> usize {
        self.ids.count()
    }

    /// Those on one subsystem.
    pub(super) fn count_of(&self, subsystem: SubsystemId) -> usize {
        self.of(Subject::Nvm(subsystem)).count()
    }

    /// Whose they are.
    pub(super) fn host_ids(&self) -> impl Iterator<Item = HostId> {
        self.records.values().map(|record| record.host.id)
    }

    /// Another host that has this one's identifier, if this is the first of its controllers there. To reservations both are one host.
    pub(super) fn namesake(&self, subject: Subject, host: &Host) -> Option<&Nqn> {
        let hosts = || self.records.values().filter(|record| record.subject == subject && record.host.id == host.id);
        if hosts().any(|record| record.host.nqn == host.nqn) {
            return None;
        }
        hosts().next().map(|record| &record.host.nqn)
    }

    /// The controllers of one subject, by id.
    pub(super) fn of(&self, subject: Subject) -> impl Iterator<Item = ControllerFacts<'_>> {
        self.records.iter().filter(move |(_, record)| record.subject == subject).map(|(id, record)| ControllerFacts {
            id: *id,
            host_nqn: record.host.nqn.as_str(),
            host_id: record.host.id,
        })
    }
}
