//! A second, smaller reading of the specification, against which random histories are held.
//!
//! It keeps a list of registrants with a flag for each holder, where the registry keeps one holder and a rule. Hosts are small numbers.

use proptest::prelude::*;

use super::claim::{Claim, Registration};
use super::{Access, HostId, HostNumber, Registry};
use crate::notice::ReservationNotice;
use crate::status::Status;
use crate::wire::reservation::ReservationType;

#[derive(Clone, Debug, Default)]
struct Model {
    generation: u32,
    is_persistent: bool,
    kind: u8,
    registrants: Vec<Registrant>,
}

#[derive(Clone, Copy, Debug)]
struct Registrant {
    host: u8,
    key: u64,
    holds: bool,
}

type Told = Vec<(ReservationNotice, Vec<u8>)>;

impl Model {
    fn is_all(&self) -> bool {
        self.kind >= 5
    }

    fn find(&self, host: u8) -> Option<Registrant> {
        self.registrants.iter().find(|registrant| registrant.host == host).copied()
    }

    fn others(&self, host: u8) -> Vec<u8> {
        self.registrants.iter().map(|registrant| registrant.host).filter(|other| *other != host).collect()
    }

    /// Registrants that stay; nobody holds a reservation when its last holder is gone.
    fn keep(&mut self, stays: impl Fn(&Registrant) -> bool) {
        self.registrants.retain(stays);
        if !self.registrants.iter().any(|registrant| registrant.holds) {
            self.kind = 0;
        }
    }

    fn hold(&mut self, host: u8, kind: u8) {
        self.kind = kind;
        for registrant in &mut self.registrants {
            registrant.holds = kind >= 5 || registrant.host == host;
        }
    }

    fn apply(&mut self, host: u8, claim: &Claim) -> Result<(Told, Vec<u8>), Status> {
        let me = self.find(host);
        let proves = |key: u64| match me {
            Some(me) if me.key == key => Ok(me),
            _ => Err(Status::RESERVATION_CONFLICT),
        };
        let mut told = Told::new();
        let mut aborted = Vec::new();
        match *claim {
            Claim::Register { action, persistence } => {
                match action {
                    Registration::Add { key } => match me {
                        _ if key == 0 => return Err(Status::INVALID_FIELD),
                        Some(me) if me.key != key => return Err(Status::RESERVATION_CONFLICT),
                        Some(_) => {}
                        None => self.registrants.push(Registrant { host, key, holds: self.is_all() }),
                    },
                    Registration::Remove { current } => {
                        let me = me.ok_or(Status::RESERVATION_CONFLICT)?;
                        proves(current.unwrap_or(me.key))?;
                        let kind = self.kind;
                        self.keep(|registrant| registrant.host != host);
                        if kind >= 3 && self.kind == 0 {
                            told.push((ReservationNotice::ReservationReleased, self.others(host)));
                        }
                    }
                    Registration::Replace { key: 0, .. } => return Err(Status::INVALID_FIELD),
                    Registration::Replace { current, key } => match (me, current) {
                        (None, None) => self.registrants.push(Registrant { host, key, holds: self.is_all() }),
                        (None, Some(_)) => return Err(Status::RESERVATION_CONFLICT),
                        (Some(me), _) => {
                            proves(current.unwrap_or(me.key))?;
                            let mine = self.registrants.iter_mut().filter(|registrant| registrant.host == host);
                            mine.for_each(|registrant| registrant.key = key);
                        }
                    },
                }
                self.is_persistent = persistence.unwrap_or(self.is_persistent);
                self.generation += 1;
            }
            Claim::Acquire { key, kind } => {
                let me = proves(key)?;
                match self.kind {
                    0 => self.hold(host, kind.to_byte()),
                    same if same == kind.to_byte() && me.holds => {}
                    _ => return Err(Status::RESERVATION_CONFLICT),
                }
            }
            Claim::Preempt { key, victim_key, kind, aborts } => {
                proves(key)?;
                let was = self.kind;
                let single = self.registrants.iter().find(|registrant| registrant.holds && !self.is_all()).copied();
                let everybody = self.is_all() && victim_key == 0;
                let taken = everybody || single.is_some_and(|holder| holder.key == victim_key);
                let meant = |registrant: &Registrant| everybody || registrant.key == victim_key;
                let victims: Vec<u8> =
                    self.registrants.iter().filter(|r| meant(r) && r.host != host).map(|r| r.host).collect();
                if taken {
                    self.hold(host, kind.to_byte());
                    self.keep(|registrant| !victims.contains(&registrant.host));
                    self.hold(host, kind.to_byte());
                } else if was != 0 && victim_key == 0 {
                    return Err(Status::INVALID_FIELD);
                } else if !self.registrants.iter().any(meant) {
                    return Err(Status::RESERVATION_CONFLICT);
                } else {
                    self.keep(|registrant| !meant(registrant));
                }
                if taken && was != kind.to_byte() {
                    told.push((ReservationNotice::ReservationReleased, self.others(host)));
                }
                told.push((ReservationNotice::RegistrationPreempted, victims.clone()));
                if aborts {
                    aborted = victims;
                }
                self.generation += 1;
            }
            Claim::Release { key, kind } => {
                let me = proves(key)?;
                if me.holds {
                    if kind.map(ReservationType::to_byte) != Some(self.kind) {
                        return Err(Status::INVALID_FIELD);
                    }
                    if self.kind >= 3 {
                        told.push((ReservationNotice::ReservationReleased, self.others(host)));
                    }
                    self.kind = 0;
                    self.registrants.iter_mut().for_each(|registrant| registrant.holds = false);
                }
            }
            Claim::Clear { key } => {
                proves(key)?;
                told.push((ReservationNotice::ReservationPreempted, self.others(host)));
                self.kind = 0;
                self.registrants.clear();
                self.generation += 1;
            }
            Claim::Persist { is_persistent } => self.is_persistent = is_persistent,
        }
        told.retain(|(_, hosts)| !hosts.is_empty());
        Ok((told, aborted))
    }

    fn admits(&self, host: u8, access: Access) -> bool {
        let me = self.find(host);
        match (self.kind, access) {
            (0, _) | (_, Access::Reservation) | (1 | 3 | 5, Access::Read) => true,
            (1 | 2, _) => me.is_some_and(|me| me.holds),
            _ => me.is_some(),
        }
    }
}

const HOSTS: u8 = 4;

fn id(host: u8) -> HostId {
    [host; 16]
}

fn kinds() -> impl Strategy<Value = ReservationType> {
    (0..6usize).prop_map(|index| ReservationType::ALL[index])
}

fn claims() -> impl Strategy<Value = Claim> {
    // Few keys, so that hosts share them and guesses are often right.
    let key = || 0..4u64;
    let current = || proptest::option::weighted(0.7, 0..4u64);
    let registration = prop_oneof![
        3 => key().prop_map(|key| Registration::Add { key }),
        1 => current().prop_map(|current| Registration::Remove { current }),
        2 => (current(), key()).prop_map(|(current, key)| Registration::Replace { current, key }),
    ];
    prop_oneof![
        4 => (registration, proptest::option::weighted(0.1, any::<bool>()))
            .prop_map(|(action, persistence)| Claim::Register { action, persistence }),
        3 => (key(), kinds()).prop_map(|(key, kind)| Claim::Acquire { key, kind }),
        3 => (key(), key(), kinds(), any::<bool>())
            .prop_map(|(key, victim_key, kind, aborts)| Claim::Preempt { key, victim_key, kind, aborts }),
        2 => (key(), proptest::option::weighted(0.9, kinds())).prop_map(|(key, kind)| Claim::Release { key, kind }),
        1 => key().prop_map(|key| Claim::Clear { key }),
        1 => any::<bool>().prop_map(|is_persistent| Claim::Persist { is_persistent }),
    ]
}

fn to_hosts(ids: &[HostId]) -> Vec<u8> {
    let mut hosts: Vec<u8> = ids.iter().map(|id| id[0]).collect();
    hosts.sort_unstable();
    hosts
}

fn sorted(mut hosts: Vec<u8>) -> Vec<u8> {
    hosts.sort_unstable();
    hosts
}

/// Holds everything that can be seen of the two against each other.
fn compare(registry: &Registry, model: &Model) -> Result<(), TestCaseError> {
    let report = registry.report();
    prop_assert_eq!(u32::from_le_bytes(report[..4].try_into().unwrap()), model.generation);
    prop_assert_eq!(report[4], model.kind);
    prop_assert_eq!(report[9] != 0, model.is_persistent);
    let mut entries: Vec<_> = report[64..]
        .chunks(64)
        .map(|entry| (entry[16], u64::from_le_bytes(entry[8..16].try_into().unwrap()), entry[2] == 1))
        .collect();
    entries.sort_unstable();
    let mut expected: Vec<_> = model.registrants.iter().map(|r| (r.host, r.key, r.holds)).collect();
    expected.sort_unstable();
    prop_assert_eq!(usize::from(report[5]), expected.len());
    prop_assert_eq!(entries, expected);
    let standing = registry.standing(|id| HostNumber(id[0].into()));
    for host in 0..HOSTS {
        for access in [Access::Read, Access::Write, Access::Reservation] {
            let admits = standing.as_ref().is_none_or(|standing| standing.admits(HostNumber(host.into()), access));
            prop_assert_eq!(admits, model.admits(host, access), "host {} {:?}", host, access);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn histories_end_alike(history in proptest::collection::vec((0..HOSTS, claims()), 1..60)) {
        let (mut registry, mut model) = (Registry::default(), Model::default());
        for (host, claim) in &history {
            let mut next = model.clone();
            match (registry.after(&id(*host), claim), next.apply(*host, claim)) {
                (Ok((state, effects)), Ok((told, aborted))) => {
                    let said: Told = effects.notifications.iter().map(|(kind, ids)| (*kind, to_hosts(ids))).collect();
                    let told: Told = told.into_iter().map(|(kind, hosts)| (kind, sorted(hosts))).collect();
                    prop_assert_eq!(said, told, "{:?} of host {}", claim, host);
                    prop_assert_eq!(to_hosts(&effects.aborted), sorted(aborted));
                    (registry, model) = (state, next);
                }
                (Err(said), Err(expected)) => prop_assert_eq!(said, expected, "{:?} of host {}", claim, host),
                (said, expected) => prop_assert!(false, "{:?} of host {}: {:?}, and {:?}", claim, host, said, expected),
            }
            compare(&registry, &model)?;
            let restored = Registry::from_record(&registry.to_record());
            let expected = if registry.is_persistent() { registry.clone() } else { Registry::default() };
            prop_assert_eq!(restored, Ok(expected), "what outlives the target is what there was");
        }
    }
}

#[test]
fn registrants_have_a_limit() {
    let register = |key| Claim::Register { action: Registration::Add { key }, persistence: None };
    let mut registry = Registry::default();
    let host = |number: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(number as u64).to_le_bytes());
        id
    };
    for number in 0..crate::limits::REGISTRANT_COUNT_MAX {
        registry = registry.after(&host(number), &register(7)).unwrap().0;
    }
    let one_more = host(crate::limits::REGISTRANT_COUNT_MAX);
    assert_eq!(registry.after(&one_more, &register(7)).unwrap_err(), Status::INTERNAL_ERROR);
    let unregister = Claim::Register { action: Registration::Remove { current: Some(7) }, persistence: None };
    registry = registry.after(&host(0), &unregister).unwrap().0;
    registry = registry.after(&one_more, &register(7)).unwrap().0;
    assert_eq!(registry.report().len(), 64 + 64 * crate::limits::REGISTRANT_COUNT_MAX);
}
