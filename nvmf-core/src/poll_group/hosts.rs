//! What each host has in flight on this CPU, and what it may have.
//!
//! A host is an NQN: all its qpairs on this CPU count together. Before a qpair's Connect has said who its host is, it belongs to the strangers, who are one
//! host in this. An I/O command takes a [`Share`] before anything is done for it and gives it back with all else that it holds; one for which there is
//! none waits, and the commands of its host behind it.

use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest, Sha256};

use super::buffers::RequestName;
use crate::defect::{self, Defect};
use crate::spec::HostLimits;
use crate::wire::Nqn;

/// A host's place in this CPU's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostIndex(pub(super) u16);

impl HostIndex {
    /// Everybody whose Connect has not been checked.
    pub(crate) const STRANGERS: Self = Self(0);

    pub(super) fn place(self) -> usize {
        usize::from(self.0)
    }
}

/// What devices know a host by: the same on every CPU and in every process, and never 0. Two hosts that have the same one share what a device gives to
/// one; nobody finds another's by trying.
pub(super) fn key(host: &Nqn) -> u64 {
    let digest = Sha256::digest(host.as_str());
    digest.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte)).max(1)
}

/// The right to be in flight: held by a request until it gives back all that it holds.
#[derive(Debug)]
#[must_use = "a share goes back to its host"]
pub(crate) struct Share {
    host: HostIndex,
    data_len: u32,
}

#[derive(Default)]
struct Host {
    /// `None`: the place is free, or the strangers'.
    name: Option<Nqn>,
    qpair_count: u32,
    slot_count: usize,
    command_count: u32,
    data_len: u64,
    /// Commands that wait for a share, in order.
    waiting: VecDeque<(RequestName, u32)>,
}

impl Host {
    fn has_room(&self, data_len: u32, limits: &HostLimits) -> bool {
        // One command is always let through, however large it is: whoever waits has another to wait for.
        self.command_count == 0
            || defect::is(Defect::HostsHaveNoLimit)
            || (self.command_count < limits.command_count_max
                && self.data_len + u64::from(data_len) <= limits.data_len_max)
    }

    fn share(&mut self, index: HostIndex, data_len: u32) -> Share {
        self.command_count += 1;
        self.data_len += u64::from(data_len);
        Share { host: index, data_len }
    }
}

/// All hosts of this CPU.
pub(crate) struct Hosts {
    hosts: Vec<Host>,
    by_name: BTreeMap<Nqn, HostIndex>,
    free: Vec<HostIndex>,
    /// Hosts with somebody waiting that had a share given back since.
    stirred: Vec<HostIndex>,
    waiting_count: usize,
}

impl Hosts {
    pub(crate) fn new() -> Self {
        Self {
            hosts: vec![Host::default()],
            by_name: BTreeMap::new(),
            free: Vec::new(),
            stirred: Vec::new(),
            waiting_count: 0,
        }
    }

    /// A qpair of `slot_count` requests is this host's from now on.
    pub(crate) fn enter(&mut self, name: &Nqn, slot_count: usize) -> HostIndex {
        let index = self.by_name.get(name).copied().unwrap_or_else(|| self.add(name));
        let host = &mut self.hosts[index.place()];
        host.qpair_count += 1;
        host.slot_count += slot_count;
        host.waiting.reserve(host.slot_count.saturating_sub(host.waiting.len()));
        index
    }

    /// The qpair is closed. Its requests have given everything back.
    pub(crate) fn leave(&mut self, index: HostIndex, slot_count: usize) {
        if index == HostIndex::STRANGERS {
            return;
        }
        let host = &mut self.hosts[index.place()];
        host.qpair_count -= 1;
        host.slot_count -= slot_count;
        if host.qpair_count == 0 {
            debug_assert!(host.command_count == 0 && host.waiting.is_empty(), "a host leaves with something in flight");
            if let Some(name) = host.name.take() {
                self.by_name.remove(&name);
            }
            self.stirred.retain(|stirred| *stirred != index);
            self.free.push(index);
        }
    }

    /// Requests that the host's qpairs have on this CPU.
    pub(crate) fn slot_count(&self, index: HostIndex) -> usize {
        self.hosts[index.place()].slot_count
    }

    /// A share for a command that moves `data_len` bytes. `None`: it has to wait ([`Self::wait`]).
    pub(crate) fn take(&mut self, index: HostIndex, data_len: u32, limits: &HostLimits) -> Option<Share> {
        let host = &mut self.hosts[index.place()];
        // Nobody overtakes.
        if host.waiting.is_empty() && host.has_room(data_len, limits) {
            Some(host.share(index, data_len))
        } else {
            None
        }
    }

    /// To the end of its host's line.
    pub(crate) fn wait(&mut self, index: HostIndex, request: RequestName, data_len: u32) {
        self.hosts[index.place()].waiting.push_back((request, data_len));
        self.waiting_count += 1;
    }

    /// A share comes back.
    pub(crate) fn give(&mut self, share: Share) {
        let host = &mut self.hosts[share.host.place()];
        debug_assert!(host.command_count > 0, "a share is given back once");
        host.command_count -= 1;
        host.data_len -= u64::from(share.data_len);
        if !host.waiting.is_empty() && !self.stirred.contains(&share.host) {
            self.stirred.push(share.host);
        }
    }

    /// One that waited, and its share. Whoever waits has another of its host in flight, so each is found here when that gives its share back.
    pub(crate) fn grant(&mut self, limits: &HostLimits) -> Option<(RequestName, Share)> {
        while let Some(index) = self.stirred.last().copied() {
            let host = &mut self.hosts[index.place()];
            match host.waiting.front().copied() {
                Some((request, data_len)) if host.has_room(data_len, limits) => {
                    host.waiting.pop_front();
                    self.waiting_count -= 1;
                    return Some((request, host.share(index, data_len)));
                }
                Some(_) | None => self.stirred.pop(),
            };
        }
        None
    }

    /// Requests that match wait no longer.
    pub(crate) fn forget(&mut self, index: HostIndex, matches: impl Fn(RequestName) -> bool) {
        let host = &mut self.hosts[index.place()];
        let before = host.waiting.len();
        host.waiting.retain(|(request, _)| !matches(*request));
        self.waiting_count -= before - host.waiting.len();
    }

    /// Commands that wait for a share.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting_count
    }

    fn add(&mut self, name: &Nqn) -> HostIndex {
        let index = self.free.pop().unwrap_or_else(|| {
            self.hosts.push(Host::default());
            self.stirred.reserve(self.hosts.len());
            HostIndex(u16::try_from(self.hosts.len() - 1).expect("no more hosts than qpairs"))
        });
        self.hosts[index.place()].name = Some(name.clone());
        self.by_name.insert(name.clone(), index);
        index
    }
}

#[cfg(test)]
mod tests {
    use reactor::Handle;

    use super::*;

    const LIMITS: HostLimits = HostLimits { command_count_max: 3, data_len_max: 100 };

    fn name(slot: u16) -> RequestName {
        (Handle::from_bits(0), slot)
    }

    fn nqn(name: &str) -> Nqn {
        Nqn::new(&format!("nqn.2026-11.org.example:{name}")).unwrap()
    }

    #[test]
    fn commands_and_bytes_are_limited_and_nobody_overtakes() {
        let mut hosts = Hosts::new();
        let index = hosts.enter(&nqn("a"), 8);
        let first = hosts.take(index, 60, &LIMITS).unwrap();
        assert!(hosts.take(index, 60, &LIMITS).is_none());
        hosts.wait(index, name(1), 60);
        assert!(hosts.take(index, 1, &LIMITS).is_none(), "one waits already");
        hosts.wait(index, name(2), 1);
        assert!(hosts.grant(&LIMITS).is_none());
        hosts.give(first);
        let (second, share) = hosts.grant(&LIMITS).unwrap();
        let (third, other) = hosts.grant(&LIMITS).unwrap();
        assert_eq!((second, third, hosts.waiting_count()), (name(1), name(2), 0));
        let last = hosts.take(index, 0, &LIMITS).unwrap();
        assert!(hosts.take(index, 0, &LIMITS).is_none(), "three commands");
        for share in [share, other, last] {
            hosts.give(share);
        }
        hosts.leave(index, 8);
    }

    #[test]
    fn what_is_larger_than_the_limit_goes_alone() {
        let mut hosts = Hosts::new();
        let index = hosts.enter(&nqn("a"), 8);
        let large = hosts.take(index, 1000, &LIMITS).unwrap();
        assert!(hosts.take(index, 1, &LIMITS).is_none());
        hosts.wait(index, name(1), 2000);
        hosts.give(large);
        let (_, share) = hosts.grant(&LIMITS).unwrap();
        hosts.give(share);
        hosts.leave(index, 8);
    }

    #[test]
    fn qpairs_of_one_name_are_one_host_and_places_are_used_again() {
        let mut hosts = Hosts::new();
        let (a, b) = (hosts.enter(&nqn("a"), 8), hosts.enter(&nqn("b"), 8));
        assert_eq!(hosts.enter(&nqn("a"), 4), a);
        assert_ne!(a, b);
        assert_eq!(hosts.slot_count(a), 12);
        hosts.leave(a, 8);
        assert_eq!(hosts.enter(&nqn("c"), 1).0, 3, "a is still there");
        hosts.leave(a, 4);
        assert_eq!(hosts.enter(&nqn("d"), 1), a);
        hosts.leave(HostIndex::STRANGERS, 8);
    }
}
