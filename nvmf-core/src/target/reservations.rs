//! Reservations of all namespaces, which the control plane alone changes, and how a change comes to hold on every CPU.
//!
//! One writer makes the order of claims the same for everybody: those on one namespace are ruled on one after the other, in the order of their
//! petitions. A claim that is granted goes these ways, and is answered at the end of them:
//!
//! | step | waits for | where |
//! |---|---|---|
//! | Writing | the program: the state is on stable storage | it is persistent, or was |
//! | Publishing | a place in limbo for the snapshot that it replaces | what I/O commands need of it has changed |
//! | Telling | every polling CPU: it has looked at the snapshot | likewise |
//! | Evicting | every polling CPU: no command of a preempted host is with a device | Preempt and Abort |
//!
//! *No command is let in by an old state once the claim is answered.* A CPU lets each I/O command in by the snapshot of the moment, also one that
//! waited for a buffer or was parked. The new snapshot is published before any CPU is told; the message brings the store with it; so what a CPU lets in
//! after its answer, it lets in by the new state or a later one. The claim is answered when the last CPU has answered, and the next claim on the
//! namespace is looked at only then. What was let in before may still be on its way: that is what Preempt and Abort is for, whose second round starts
//! when the first is over, so that the set of commands that it waits for does not grow.
//!
//! The next claims do not wait for an eviction: it ends when a device ends it.
//!
//! *What is answered is on stable storage* where the host asked for that: the state is written before it holds, so a loss of power in between leaves a
//! state that nobody has been told of. If it can't be written the claim fails, and nothing has changed.

mod place;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use reactor::{Cpu, Turn};
use uuid::Uuid;

use super::Target;
use super::change::ChangeId;
use super::hosts::Hosts;
use super::subsystems::Subsystems;
use crate::defect::{self, Defect};
use crate::message::{Letter, Message};
use crate::notice::Notice;
use crate::order::Order;
use crate::petition::{Petition, Plea, Ruling};
use crate::reservation::{Claim, Effects, HostId, Registry, ReservationRecord};
use crate::status::Status;
use crate::subsystem::{Snapshot, SubsystemId};
use crate::wire::reservation::NOTIFICATION_MASK;
use place::{Current, Evicting, Place, Step};

/// NSID for all namespaces of a subsystem.
const ALL_NAMESPACES: u32 = 0xFFFF_FFFF;

/// Names a write that the program was asked for. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(u64);

/// What the program puts on stable storage for the control plane, in one piece or not at all, and then says so by [`Target::reservation_written`].
#[derive(Clone, Debug)]
pub struct ReservationWrite {
    /// To answer with.
    pub id: WriteId,
    /// Where, as the namespace's specification says.
    pub file: Arc<str>,
    /// Of which namespace.
    pub uuid: Uuid,
    /// What.
    pub record: ReservationRecord,
}

/// What the program reads for the control plane, after everything that it was asked to write before; [`Target::reservation_read`] says what it found.
#[derive(Clone, Debug)]
pub struct ReservationRead {
    /// To answer with: the change that adds the namespace.
    pub id: ChangeId,
    /// Where, as the namespace's specification says.
    pub file: Arc<str>,
    /// Of which namespace.
    pub uuid: Uuid,
}

type Name = (SubsystemId, u32);

/// See the module.
#[derive(Default)]
pub(super) struct Reservations {
    places: BTreeMap<Name, Place>,
    /// Those with petitions.
    busy: BTreeSet<Name>,
    writes: VecDeque<ReservationWrite>,
    reads: VecDeque<ReservationRead>,
    last_write: u64,
    /// Petitions on namespaces that have gone.
    orphans: Vec<Petition>,
}

impl Reservations {
    /// Every namespace has its place, and what has no namespace any more has none.
    pub(super) fn follow(&mut self, subsystems: &Subsystems, hosts: &mut Hosts) {
        let mut gone = std::mem::take(&mut self.places);
        for entry in subsystems.iter().filter(|entry| entry.spec.has_reservations()) {
            for namespace in &entry.spec.namespaces {
                let name = (entry.id, namespace.nsid);
                let uuid = namespace.uuid.unwrap_or_default();
                let file = namespace.persistence.as_ref().map(|kept| &kept.file);
                let place = match gone.remove(&name) {
                    Some(place) if place.uuid == uuid && place.file.as_ref() == file => place,
                    other => {
                        self.orphans.extend(other.into_iter().flat_map(Place::into_petitions));
                        Place::new(uuid, namespace.persistence.as_ref(), hosts)
                    }
                };
                self.places.insert(name, place);
            }
        }
        self.orphans.extend(gone.into_values().flat_map(Place::into_petitions));
        let places = &self.places;
        self.busy.retain(|name| places.contains_key(name));
    }

    /// Puts into a new snapshot what I/O commands need.
    pub(super) fn publish(&self, snapshot: &mut Snapshot) {
        for ((id, nsid), place) in &self.places {
            let Ok(index) = snapshot.subsystems.binary_search_by_key(id, |subsystem| subsystem.id) else { continue };
            let slot = usize::try_from(*nsid - 1).ok().and_then(|at| snapshot.subsystems[index].namespaces.get_mut(at));
            if let Some(Some(namespace)) = slot {
                namespace.standing.clone_from(&place.standing);
                namespace.reservation_capabilities = place.capabilities();
            }
        }
    }

    /// Whose identifiers are in use.
    pub(super) fn host_ids(&self) -> impl Iterator<Item = HostId> {
        self.places.values().flat_map(|place| place.registry.hosts()).copied()
    }

    /// Petitions that are not ruled on.
    pub(super) fn petition_count(&self) -> usize {
        let of = |name: &Name| self.places.get(name).map_or(0, Place::petition_count);
        self.busy.iter().map(of).sum::<usize>() + self.orphans.len()
    }

    /// A CPU has obeyed. False if nobody waits for that.
    pub(super) fn answered(&mut self, change: ChangeId, from: Cpu) -> bool {
        let places = &mut self.places;
        self.busy.iter().any(|name| places.get_mut(name).is_some_and(|place| place.answered(change, from)))
    }

    /// What is kept is read.
    pub(super) fn want(&mut self, read: ReservationRead) {
        self.reads.push_back(read);
    }

    fn write(&mut self, place: &Place, file: Arc<str>, registry: &Registry) -> WriteId {
        self.last_write += 1;
        let id = WriteId(self.last_write);
        self.writes.push_back(ReservationWrite { id, file, uuid: place.uuid, record: registry.to_record() });
        id
    }
}

impl Target {
    /// What is to be put on stable storage, each once.
    pub fn next_reservation_write(&mut self) -> Option<ReservationWrite> {
        self.reservations.writes.pop_front()
    }

    /// What is to be read, each once. To be asked after [`Self::next_reservation_write`] has said that there is none: what is read was written then.
    pub fn next_reservation_read(&mut self) -> Option<ReservationRead> {
        self.reservations.reads.pop_front()
    }

    /// It is there, or why not. The claim that waits for it goes on with the next [`Self::poll`].
    pub fn reservation_written(&mut self, id: WriteId, outcome: Result<(), String>) {
        if let Err(error) = &outcome {
            tracing::error!(%error, "reservations could not be written: the command that changes them fails, and they stay as they were");
        }
        for name in &self.reservations.busy {
            let Some(place) = self.reservations.places.get_mut(name) else { continue };
            if let Some(Current { step: Step::Writing { id: of, is_done, .. }, .. }) = &mut place.current
                && *of == id
            {
                *is_done = Some(outcome.is_ok());
            }
        }
    }

    /// A petition has come. It is ruled on in [`Self::poll`].
    pub(super) fn take_petition(&mut self, petition: Petition) {
        let name = match petition.nsid {
            ALL_NAMESPACES => self.reservations.places.keys().find(|(id, _)| *id == petition.subsystem).copied(),
            nsid => Some((petition.subsystem, nsid)),
        };
        match name.and_then(|name| Some((name, self.reservations.places.get_mut(&name)?))) {
            Some((name, place)) => {
                place.waiting.push_back(petition);
                self.reservations.busy.insert(name);
            }
            None => self.reservations.orphans.push(petition),
        }
    }

    /// Each petition goes on whose wait is over. False if none could.
    pub(super) fn advance_reservations<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>) -> bool {
        let mut has_moved = !self.reservations.orphans.is_empty();
        for petition in std::mem::take(&mut self.reservations.orphans) {
            rule(turn, &petition, Status::INVALID_NAMESPACE, 0, Box::default());
        }
        let busy: Vec<Name> = self.reservations.busy.iter().copied().collect();
        for name in busy {
            let Some(mut place) = self.reservations.places.remove(&name) else { continue };
            while self.advance_place(turn, name, &mut place) {
                has_moved = true;
            }
            if place.petition_count() == 0 {
                self.reservations.busy.remove(&name);
            }
            self.reservations.places.insert(name, place);
        }
        has_moved
    }

    fn advance_place<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, name: Name, place: &mut Place) -> bool {
        if let Some(at) = place.evicting.iter().position(|evicting| evicting.answers.is_complete()) {
            let Evicting { petition, .. } = place.evicting.remove(at);
            self.grant(turn, name, petition, 0);
            return true;
        }
        let Some(Current { petition, effects, step }) = place.current.take() else {
            let Some(petition) = place.waiting.pop_front() else { return false };
            self.begin_petition(turn, name, place, petition);
            return true;
        };
        match step {
            Step::Writing { is_done: Some(true), next, .. } => self.commit(turn, name, place, petition, effects, next),
            Step::Writing { is_done: Some(false), .. } => {
                rule(turn, &petition, Status::INTERNAL_ERROR, 0, Box::default());
            }
            Step::Publishing if !self.is_stale => {
                let change = self.changes.next_id();
                let answers = self.order_all(turn, change, |_| Some(Order::Look));
                place.current = Some(Current { petition, effects, step: Step::Telling { change, answers } });
            }
            Step::Telling { answers, .. } if answers.is_complete() => {
                self.conclude(turn, name, place, petition, &effects);
            }
            step @ (Step::Writing { .. } | Step::Publishing | Step::Telling { .. }) => {
                place.current = Some(Current { petition, effects, step });
                return false;
            }
        }
        true
    }

    fn begin_petition<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: Name,
        place: &mut Place,
        petition: Petition,
    ) {
        match petition.plea {
            Plea::Report => rule(turn, &petition, Status::SUCCESS, 0, place.registry.report().into()),
            Plea::ReadMask => self.grant(turn, name, petition, place.mask),
            Plea::SetMask(mask) if mask & !NOTIFICATION_MASK == 0 => {
                place.mask = mask;
                self.grant(turn, name, petition, 0);
            }
            Plea::SetMask(_) => rule(turn, &petition, Status::INVALID_FIELD, 0, Box::default()),
            Plea::ReadPersistence => {
                let is_persistent = place.registry.is_persistent();
                self.grant(turn, name, petition, is_persistent.into());
            }
            Plea::Claim(claim) => self.begin_claim(turn, name, place, petition, &claim),
        }
    }

    fn begin_claim<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: Name,
        place: &mut Place,
        petition: Petition,
        claim: &Claim,
    ) {
        // The last controller of the host is gone, and with it whoever would read the answer.
        let Some(host) = self.hosts.id(petition.host) else { return };
        if claim.wants_persistence() && place.file.is_none() {
            // Said by RESCAP bit 0. For all namespaces it is those that can.
            return if petition.nsid == ALL_NAMESPACES {
                self.grant(turn, name, petition, 0);
            } else {
                rule(turn, &petition, Status::INVALID_FIELD, 0, Box::default());
            };
        }
        let (next, effects) = match place.registry.after(&host, claim) {
            Ok(outcome) => outcome,
            Err(status) => return rule(turn, &petition, status, 0, Box::default()),
        };
        let is_kept = place.registry.is_persistent() || next.is_persistent();
        match place.file.clone().filter(|_| is_kept && next != place.registry) {
            Some(file) => {
                let id = self.reservations.write(place, file, &next);
                if defect::is(Defect::AnsweredBeforeItIsWritten) {
                    return self.commit(turn, name, place, petition, effects, next);
                }
                let step = Step::Writing { id, next, is_done: None };
                place.current = Some(Current { petition, effects, step });
            }
            None => self.commit(turn, name, place, petition, effects, next),
        }
    }

    /// It holds from now on; whoever is meant is told once the snapshot says so.
    fn commit<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: Name,
        place: &mut Place,
        petition: Petition,
        effects: Effects,
        next: Registry,
    ) {
        place.registry = next;
        let standing = place.registry.standing(|id| self.hosts.number(id)).map(Arc::new);
        let has_changed = standing != place.standing;
        place.standing = standing;
        for (kind, hosts) in &effects.notifications {
            if place.mask & (1 << *kind as u8) == 0 {
                let (subsystem, nsid) = name;
                self.notify(Notice::Reservation { subsystem, nsid, kind: *kind, hosts: hosts.clone() });
            }
        }
        if has_changed {
            self.is_stale = true;
            place.current = Some(Current { petition, effects, step: Step::Publishing });
        } else {
            self.conclude(turn, name, place, petition, &effects);
        }
    }

    /// Every CPU lets commands in by the new state.
    fn conclude<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: Name,
        place: &mut Place,
        petition: Petition,
        effects: &Effects,
    ) {
        if effects.aborted.is_empty() {
            return self.grant(turn, name, petition, 0);
        }
        let hosts: Vec<_> = effects.aborted.iter().map(|id| self.hosts.number(id)).collect();
        let change = self.changes.next_id();
        let (subsystem, nsid) = name;
        let evict = |_: &mut Self| Some(Order::Evict { subsystem, nsid, hosts: hosts.clone() });
        let answers = self.order_all(turn, change, evict);
        place.evicting.push(Evicting { petition, change, answers });
    }

    /// Answers, or goes on to the next namespace where it is for all of them.
    fn grant<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, name: Name, petition: Petition, result: u32) {
        if petition.nsid == ALL_NAMESPACES {
            let after = (name.0, name.1 + 1)..(SubsystemId(name.0.0 + 1), 0);
            if let Some((next, place)) = self.reservations.places.range_mut(after).next() {
                let next = *next;
                place.waiting.push_back(petition);
                self.reservations.busy.insert(next);
                return;
            }
        }
        rule(turn, &petition, Status::SUCCESS, result, Box::default());
    }
}

fn rule<M: From<Message>>(turn: &mut Turn<'_, M>, petition: &Petition, status: Status, result: u32, report: Box<[u8]>) {
    let Petition { qpair, slot, .. } = *petition;
    let ruling = Ruling { qpair: qpair.handle, slot, status, result, report };
    turn.send(qpair.cpu, Message(Letter::Ruling(Box::new(ruling))).into());
}
