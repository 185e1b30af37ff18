//! The controllers of the whole target, as the control plane knows them: one record for each lease that is out.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use super::books::Books;
use super::ids::ControllerIds;
use crate::membership::{Host, SubsystemLease};
use crate::qpair::header::Tally;
use crate::reservation::{HostId, HostNumber};
use crate::status::Status;
use crate::subsystem::{Subject, SubsystemId};
use crate::wire::{ANY_STATIC_CONTROLLER_ID, ConnectRefusal, Nqn};

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

/// A controller that is gone, for who asks later what became of a host.
#[derive(Clone, Debug)]
pub struct PastController {
    /// CNTLID, which may be another's by now.
    pub id: u16,
    /// Whose host it was.
    pub host_nqn: String,
    /// When the last of it was gone.
    pub ended_ns: u64,
}

/// So many of them are known.
const PAST_KEPT: usize = 256;

/// One lease that is out.
struct Record {
    subject: Subject,
    host: Box<Host>,
    /// The most that its queues were seen to have done: those that have left are not seen any more, and what they had done comes home with the lease.
    seen: Cell<Tally>,
    /// Its host has a book of its own.
    has_own_book: bool,
}

impl Record {
    fn new(subject: Subject, host: Box<Host>, books: &mut Books) -> Self {
        let has_own_book = books.begin(subject, &host.nqn);
        Self { subject, host, seen: Cell::default(), has_own_book }
    }
}

/// A controller as metrics see it.
pub(super) struct Seen<'t> {
    pub(super) id: u16,
    pub(super) subject: Subject,
    pub(super) host: &'t Nqn,
    pub(super) has_own_book: bool,
    pub(super) done: Tally,
}

/// All of them.
pub(super) struct Controllers {
    ids: ControllerIds,
    records: BTreeMap<u16, Record>,
    /// Static controllers, and who had them last: whoever asks for any finds its own again.
    homes: BTreeMap<u16, (Subject, Nqn)>,
    /// The last that went, oldest first.
    past: VecDeque<PastController>,
    books: Books,
}

impl Controllers {
    pub(super) fn new() -> Self {
        Self {
            ids: ControllerIds::new(),
            records: BTreeMap::new(),
            homes: BTreeMap::new(),
            past: VecDeque::new(),
            books: Books::default(),
        }
    }

    /// A new one gets its id, of these, but none that is kept for static ones. `None`: there is none left.
    pub(super) fn lease(
        &mut self,
        subject: Subject,
        host: Box<Host>,
        number: HostNumber,
        ids: &RangeInclusive<u16>,
        is_kept: impl Fn(u16) -> bool,
    ) -> Option<SubsystemLease> {
        let id = self.ids.allocate(ids, is_kept)?;
        let record = Record::new(subject, host, &mut self.books);
        self.records.insert(id, record);
        Some(SubsystemLease::new(id, subject, number))
    }

    /// A static one, of these: the wanted one, or any. A host that wants any gets the one that it had, or one that nobody had, or one that somebody else
    /// had: hosts are expected to find their controllers again, and those who come no more may lose theirs [NVMe Base 2.0, 3.1.2].
    ///
    /// # Errors
    /// Status and result for the host: there is no such controller, or it has a host [NVMe over Fabrics 1.1, 3.3].
    pub(super) fn lease_static(
        &mut self,
        subject: Subject,
        host: Box<Host>,
        number: HostNumber,
        ids: &RangeInclusive<u16>,
        wanted: u16,
    ) -> Result<SubsystemLease, (Status, u64)> {
        let busy = (Status::CONNECT_CONTROLLER_BUSY, 0);
        let id = if wanted == ANY_STATIC_CONTROLLER_ID {
            let home = |id: &u16| self.homes.get(id).filter(|(of, _)| *of == subject).map(|(_, nqn)| nqn);
            let free = || ids.clone().filter(|id| self.ids.is_free(*id));
            let own = free().find(|id| home(id) == Some(&host.nqn));
            own.or_else(|| free().find(|id| home(id).is_none())).or_else(|| free().next()).ok_or(busy)?
        } else if ids.contains(&wanted) {
            wanted
        } else {
            return Err((Status::CONNECT_INVALID_PARAMETERS, ConnectRefusal::CONTROLLER_ID.to_result()));
        };
        if !self.ids.take(id) {
            return Err(busy);
        }
        self.homes.insert(id, (subject, host.nqn.clone()));
        let record = Record::new(subject, host, &mut self.books);
        self.records.insert(id, record);
        Ok(SubsystemLease::new(id, subject, number))
    }

    /// A subsystem is gone: nobody's controllers are there any more.
    pub(super) fn forget(&mut self, subsystem: SubsystemId) {
        self.homes.retain(|_, (subject, _)| *subject != Subject::Nvm(subsystem));
        self.books.forget(subsystem);
    }

    /// A lease came home: nothing is left of the controller, whose queues had done this.
    pub(super) fn give_back(&mut self, lease: SubsystemLease, tally: Tally, now_ns: u64) {
        let id = lease.controller_id();
        let record = self.records.remove(&id);
        if let Some(record) = &record {
            if self.past.len() == PAST_KEPT {
                self.past.pop_front();
            }
            let host_nqn = record.host.nqn.to_string();
            self.past.push_back(PastController { id, host_nqn, ended_ns: now_ns });
            let is_own = record.has_own_book;
            self.books.end(record.subject, &record.host.nqn, is_own, tally.max(record.seen.get()));
        }
        debug_assert_eq!(record.map(|record| record.subject), Some(lease.subject()));
        let was_taken = self.ids.free(id);
        assert!(was_taken, "leases are made here and come home once, and controller id {id} came twice");
    }

    /// Those that went last, oldest first.
    pub(super) fn past(&self) -> impl Iterator<Item = &PastController> {
        self.past.iter()
    }

    /// What hosts have done.
    pub(super) fn books(&self) -> &Books {
        &self.books
    }

    /// All, by id, with what their queues have done: what those do that are there, or what was seen before if that is more.
    pub(super) fn seen(&self, now: impl Fn(u16) -> Tally) -> impl Iterator<Item = Seen<'_>> {
        self.records.iter().map(move |(id, record)| {
            record.seen.set(record.seen.get().max(now(*id)));
            let Record { subject, host, has_own_book, .. } = record;
            Seen { id: *id, subject: *subject, host: &host.nqn, has_own_book: *has_own_book, done: record.seen.get() }
        })
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
