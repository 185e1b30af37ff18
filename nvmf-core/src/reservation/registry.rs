//! The state of one namespace's reservations, and what each claim does to it.
//!
//! Invariants: whoever holds a reservation is a registrant; one that all registrants hold has at least one; keys are never 0.
//!
//! Where the specification leaves something open, or its readers differ:
//! - a key of 0 is refused with *Invalid Field*, as SPDK does: as PRKEY it means *nobody's*;
//! - a Preempt whose key nobody has is a conflict, as in nvmet: it would have done nothing;
//! - a Release of the wrong type by the holder is *Invalid Field* [NVMe Base 2.0, 8.19]; by another registrant it has no effect;
//! - each host is one registrant, over all its controllers, and its controllers are dynamic: a report has one entry for it.

use std::collections::BTreeMap;

use zerocopy::IntoBytes;

use super::claim::{Claim, Effects, Registration};
use super::record::{RecordError, RegistrantRecord, ReservationRecord};
use super::{HostId, HostNumber, Standing};
use crate::limits::REGISTRANT_COUNT_MAX;
use crate::notice::ReservationNotice;
use crate::status::Status;
use crate::wire::reservation::{ReservationRegistrant, ReservationStatus, ReservationType};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registry {
    /// GEN.
    generation: u32,
    /// PTPL.
    is_persistent: bool,
    held: Option<Held>,
    /// Keys.
    registrants: BTreeMap<HostId, u64>,
}

/// A reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    kind: ReservationType,
    /// Who acquired it. Where all registrants hold it this is whoever did last and may be gone: nobody looks.
    holder: HostId,
}

impl Registry {
    /// The state after `claim` of `host`. The state itself stays as it is: whether it is to change may depend on a disk.
    ///
    /// # Errors
    /// The status that answers it. Nothing has changed then.
    pub(crate) fn after(&self, host: &HostId, claim: &Claim) -> Result<(Self, Effects), Status> {
        let (mut next, mut effects) = (self.clone(), Effects::default());
        match *claim {
            Claim::Register { action, persistence } => {
                next.register(host, action, &mut effects)?;
                next.is_persistent = persistence.unwrap_or(next.is_persistent);
                next.count();
            }
            Claim::Acquire { key, kind } => {
                next.check_key(host, key)?;
                next.acquire(host, kind)?;
            }
            Claim::Preempt { key, victim_key, kind, aborts } => {
                next.check_key(host, key)?;
                let preempted = next.preempt(host, victim_key, kind, &mut effects)?;
                if aborts {
                    effects.aborted.clone_from(&preempted);
                }
                effects.notify(ReservationNotice::RegistrationPreempted, preempted);
                next.count();
            }
            Claim::Release { key, kind } => {
                next.check_key(host, key)?;
                next.release(host, kind, &mut effects)?;
            }
            Claim::Clear { key } => {
                next.check_key(host, key)?;
                effects.notify(ReservationNotice::ReservationPreempted, next.others(host));
                next.registrants.clear();
                next.held = None;
                next.count();
            }
            Claim::Persist { is_persistent } => next.is_persistent = is_persistent,
        }
        Ok((next, effects))
    }

    /// Whether it is to outlive the target.
    pub(crate) fn is_persistent(&self) -> bool {
        self.is_persistent
    }

    /// Those who have registered.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &HostId> {
        self.registrants.keys()
    }

    /// What I/O commands need of it. `None`: no reservation is held, and everybody may do everything.
    pub(crate) fn standing(&self, mut number: impl FnMut(&HostId) -> HostNumber) -> Option<Standing> {
        let held = self.held?;
        let holder = number(&held.holder);
        let registrants = self.registrants.keys().filter(|_| held.kind.admits_registrants()).map(number);
        Some(Standing::new(held.kind, holder, registrants))
    }

    /// The Reservation Status Extended structure, of which a host may ask for less than there is [NVMe Base 2.0, 7.5].
    pub(crate) fn report(&self) -> Vec<u8> {
        let count = u16::try_from(self.registrants.len()).unwrap_or(u16::MAX);
        let kind = self.held.map(|held| held.kind);
        let mut bytes = ReservationStatus::new(self.generation, kind, count, self.is_persistent).as_bytes().to_vec();
        for (host, key) in &self.registrants {
            let entry = ReservationRegistrant::new(*host, *key, self.is_holder(host));
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes
    }

    /// What of it outlives the target: where it is not persistent, that alone.
    pub(crate) fn to_record(&self) -> ReservationRecord {
        if !self.is_persistent {
            return ReservationRecord::default();
        }
        let registrants = self.registrants.iter().map(|(host, key)| RegistrantRecord { host_id: *host, key: *key });
        ReservationRecord {
            is_persistent: true,
            generation: self.generation,
            reservation: self.held.map(|held| (held.kind, held.holder)),
            registrants: registrants.collect(),
        }
    }

    /// What has outlived the last one.
    ///
    /// # Errors
    /// [`RecordError`]: it is none that this layer has made.
    pub(crate) fn from_record(record: &ReservationRecord) -> Result<Self, RecordError> {
        if !record.is_persistent {
            return Ok(Self::default());
        }
        if record.registrants.len() > REGISTRANT_COUNT_MAX {
            let (count, limit) = (record.registrants.len(), REGISTRANT_COUNT_MAX);
            return Err(RecordError::TooMany { count, limit });
        }
        let mut registrants = BTreeMap::new();
        for registrant in &record.registrants {
            if registrant.key == 0 {
                return Err(RecordError::NoKey);
            }
            if registrants.insert(registrant.host_id, registrant.key).is_some() {
                return Err(RecordError::Twice);
            }
        }
        let held = record.reservation.map(|(kind, holder)| Held { kind, holder });
        let is_sound = held.is_none_or(|held| {
            if held.kind.is_held_by_all() { !registrants.is_empty() } else { registrants.contains_key(&held.holder) }
        });
        if !is_sound {
            return Err(RecordError::NoHolder);
        }
        Ok(Self { generation: record.generation, is_persistent: true, held, registrants })
    }

    /// Reservation Register [NVMe Base 2.0, 7.3, 8.19].
    fn register(&mut self, host: &HostId, action: Registration, effects: &mut Effects) -> Result<(), Status> {
        let registered = self.registrants.get(host).copied();
        match (action, registered) {
            (Registration::Add { key: 0 } | Registration::Replace { key: 0, .. }, _) => Err(Status::INVALID_FIELD),
            (Registration::Add { key }, None) => self.add(host, key),
            // The same key again is no error, another one is [NVMe Base 2.0, 8.19].
            (Registration::Add { key }, Some(registered)) if key == registered => Ok(()),
            (Registration::Add { .. }, Some(_)) => Err(Status::RESERVATION_CONFLICT),
            (Registration::Remove { current }, Some(registered)) if current.is_none_or(|key| key == registered) => {
                self.unregister(host, effects);
                Ok(())
            }
            // Whoever holds a reservation goes on holding it.
            (Registration::Replace { current, key }, Some(registered))
                if current.is_none_or(|key| key == registered) =>
            {
                self.registrants.insert(*host, key);
                Ok(())
            }
            // With IEKEY a key is replaced whether there was one or not [NVMe Base 2.0, 7.3].
            (Registration::Replace { current: None, key }, None) => self.add(host, key),
            (Registration::Remove { .. } | Registration::Replace { .. }, _) => Err(Status::RESERVATION_CONFLICT),
        }
    }

    fn add(&mut self, host: &HostId, key: u64) -> Result<(), Status> {
        if self.registrants.len() >= REGISTRANT_COUNT_MAX {
            // No status says "too many"; the control plane's log does.
            return Err(Status::INTERNAL_ERROR);
        }
        self.registrants.insert(*host, key);
        Ok(())
    }

    /// A holder that goes releases what it holds. Others are told where their own rights hung on it [NVMe Base 2.0, 8.19].
    fn unregister(&mut self, host: &HostId, effects: &mut Effects) {
        let was = self.held;
        self.remove(host);
        if let Some(held) = was
            && self.held.is_none()
            && held.kind.admits_registrants()
        {
            effects.notify(ReservationNotice::ReservationReleased, self.others(host));
        }
    }

    /// Reservation Acquire [NVMe Base 2.0, 7.2, 8.19].
    fn acquire(&mut self, host: &HostId, kind: ReservationType) -> Result<(), Status> {
        match self.held {
            None => {
                self.held = Some(Held { kind, holder: *host });
                Ok(())
            }
            // What it holds already.
            Some(held) if held.kind == kind && self.is_holder(host) => Ok(()),
            Some(_) => Err(Status::RESERVATION_CONFLICT),
        }
    }

    /// Preempt [NVMe Base 2.0, 7.2, 8.19]. Those whose registration it took away, but for the host itself.
    fn preempt(
        &mut self,
        host: &HostId,
        victim_key: u64,
        kind: ReservationType,
        effects: &mut Effects,
    ) -> Result<Vec<HostId>, Status> {
        let new = Held { kind, holder: *host };
        let Some(held) = self.held else { return self.remove_key(host, victim_key) };
        let takes_over = if held.kind.is_held_by_all() {
            // 0 names everybody.
            victim_key == 0
        } else {
            self.registrants.get(&held.holder) == Some(&victim_key)
        };
        if !takes_over {
            if victim_key == 0 {
                return Err(Status::INVALID_FIELD);
            }
            return self.remove_key(host, victim_key);
        }
        // The reservation goes over to the host, and so does not end with those who go.
        self.held = Some(new);
        let is_meant = |key: u64| victim_key == 0 || key == victim_key;
        let victims: Vec<HostId> = self.others(host).into_iter().filter(|id| is_meant(self.registrants[id])).collect();
        for victim in &victims {
            self.registrants.remove(victim);
        }
        if held.kind != kind {
            effects.notify(ReservationNotice::ReservationReleased, self.others(host));
        }
        Ok(victims)
    }

    /// Everybody with this key is unregistered, the host itself too. Those of them that are others.
    fn remove_key(&mut self, host: &HostId, key: u64) -> Result<Vec<HostId>, Status> {
        let meant: Vec<HostId> = self.registrants.iter().filter(|(_, of)| **of == key).map(|(id, _)| *id).collect();
        if meant.is_empty() {
            return Err(Status::RESERVATION_CONFLICT);
        }
        for id in &meant {
            self.remove(id);
        }
        Ok(meant.into_iter().filter(|id| id != host).collect())
    }

    /// Reservation Release [NVMe Base 2.0, 7.4, 8.19].
    fn release(&mut self, host: &HostId, kind: Option<ReservationType>, effects: &mut Effects) -> Result<(), Status> {
        let Some(held) = self.held.filter(|_| self.is_holder(host)) else { return Ok(()) };
        if kind != Some(held.kind) {
            return Err(Status::INVALID_FIELD);
        }
        self.held = None;
        if held.kind.admits_registrants() {
            effects.notify(ReservationNotice::ReservationReleased, self.others(host));
        }
        Ok(())
    }

    /// Takes a registrant out, and the reservation with it that nobody holds then.
    fn remove(&mut self, host: &HostId) {
        self.registrants.remove(host);
        self.held = self.held.filter(|held| {
            if held.kind.is_held_by_all() { !self.registrants.is_empty() } else { held.holder != *host }
        });
    }

    fn check_key(&self, host: &HostId, key: u64) -> Result<(), Status> {
        if self.registrants.get(host) == Some(&key) { Ok(()) } else { Err(Status::RESERVATION_CONFLICT) }
    }

    fn is_holder(&self, host: &HostId) -> bool {
        self.held.is_some_and(|held| {
            if held.kind.is_held_by_all() { self.registrants.contains_key(host) } else { held.holder == *host }
        })
    }

    fn others(&self, host: &HostId) -> Vec<HostId> {
        self.registrants.keys().filter(|id| *id != host).copied().collect()
    }

    /// GEN counts registrations, preemptions and Clears that succeed [NVMe Base 2.0, figure 'Reservation Status Data Structure'].
    fn count(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}
