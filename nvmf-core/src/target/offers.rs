//! Which hosts see another discovery log than before: GENCTR counts for each host what has changed for it alone.
//!
//! GENCTR of a host is a count for everybody and one for the host. Hosts whose counts are not kept any more are counted for as everybody: they look once
//! more than they have to, and the count never goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::limits::HOST_VERSION_COUNT_MAX;
use crate::notice::Recipients;
use crate::referral::Referral;
use crate::subsystem::{DiscoveryVersions, Snapshot, SubsystemId};
use crate::wire::Nqn;

/// What the log says of one subsystem.
#[derive(Clone, PartialEq, Eq)]
struct Offer {
    listeners: Vec<(SocketAddr, u16)>,
    /// `None`: to everybody.
    hosts: Option<BTreeSet<String>>,
}

/// What the log says, and how often it has changed for whom.
pub(super) struct Offers {
    offers: BTreeMap<SubsystemId, Offer>,
    referrals: Vec<Referral>,
    versions: DiscoveryVersions,
}

impl Offers {
    /// Of the first snapshot.
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let versions = DiscoveryVersions { everybody: 1, hosts: BTreeMap::new() };
        Self { offers: offers(snapshot), referrals: snapshot.referrals.clone(), versions }
    }

    /// As the next snapshot tells them.
    pub(super) fn versions(&self) -> DiscoveryVersions {
        self.versions.clone()
    }

    /// The next snapshot offers something else. Who sees that.
    pub(super) fn change(&mut self, next: &Snapshot) -> Option<Recipients> {
        let mut is_for_everybody = self.referrals != next.referrals;
        if is_for_everybody {
            self.referrals.clone_from(&next.referrals);
        }
        let next = offers(next);
        let ids: BTreeSet<SubsystemId> = self.offers.keys().chain(next.keys()).copied().collect();
        let mut hosts = BTreeSet::new();
        for id in ids {
            match affected(self.offers.get(&id), next.get(&id)) {
                Affected::Everybody => is_for_everybody = true,
                Affected::Hosts(these) => hosts.extend(these),
            }
        }
        self.offers = next;
        if is_for_everybody {
            self.versions.everybody += 1;
            return Some(Recipients::Everybody);
        }
        if hosts.is_empty() {
            return None;
        }
        let nqns = hosts.iter().filter_map(|host| Nqn::new(host).ok()).collect();
        for host in hosts {
            *self.versions.hosts.entry(host).or_default() += 1;
        }
        if self.versions.hosts.len() > HOST_VERSION_COUNT_MAX {
            let most = self.versions.hosts.values().copied().max().unwrap_or(0);
            self.versions.everybody += most;
            self.versions.hosts.clear();
            return Some(Recipients::Everybody);
        }
        Some(Recipients::Hosts(nqns))
    }
}

enum Affected {
    Everybody,
    Hosts(BTreeSet<String>),
}

/// Whose log changes with one subsystem's offer.
fn affected(was: Option<&Offer>, is: Option<&Offer>) -> Affected {
    let audience = |offer: Option<&Offer>| offer.map_or_else(|| Some(BTreeSet::new()), |offer| offer.hosts.clone());
    match (was, is, audience(was), audience(is)) {
        (was, is, _, _) if was == is => Affected::Hosts(BTreeSet::new()),
        (_, _, None, _) | (_, _, _, None) => Affected::Everybody,
        (Some(was), Some(is), Some(before), Some(after)) if was.listeners == is.listeners => {
            Affected::Hosts(before.symmetric_difference(&after).cloned().collect())
        }
        (_, _, Some(before), Some(after)) => Affected::Hosts(before.union(&after).cloned().collect()),
    }
}

fn offers(snapshot: &Snapshot) -> BTreeMap<SubsystemId, Offer> {
    let offer = |subsystem: &crate::subsystem::Subsystem| Offer {
        listeners: subsystem.listeners.iter().map(|port| (port.address, port.id)).collect(),
        hosts: subsystem.hosts.as_ref().map(|hosts| hosts.iter().cloned().collect()),
    };
    snapshot.offered().map(|subsystem| (subsystem.id, offer(subsystem))).collect()
}
