//! How many queue pairs each host has, by its address: all that is known of a host before its Connect.
//!
//! So a host that connects and connects, and never says who it is, takes no more than its share of what the CPUs have room for.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// See the module.
#[derive(Debug)]
pub(super) struct HostShares {
    counts: BTreeMap<IpAddr, u32>,
    /// Most queue pairs of one host.
    pub(super) limit: u32,
    /// Connections that would have been too many.
    pub(super) refused_count: u64,
}

/// One queue pair's place in its host's share.
#[derive(Debug)]
#[must_use = "a place is given back when its connection is forgotten"]
pub(super) struct HostShare {
    host: IpAddr,
}

impl HostShares {
    pub(super) fn new(limit: u32) -> Self {
        Self { counts: BTreeMap::new(), limit, refused_count: 0 }
    }

    /// One more. `None`: the host has as many as it may.
    pub(super) fn take(&mut self, host: IpAddr) -> Option<HostShare> {
        let count = self.counts.entry(host).or_default();
        if *count >= self.limit {
            self.refused_count += 1;
            return None;
        }
        *count += 1;
        Some(HostShare { host })
    }

    /// One less.
    pub(super) fn give(&mut self, share: HostShare) {
        if let Some(count) = self.counts.get_mut(&share.host) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&share.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_its_own_share() {
        let mut shares = HostShares::new(2);
        let [a, b]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let first = shares.take(a).unwrap();
        let second = shares.take(a).unwrap();
        assert!(shares.take(a).is_none());
        let other = shares.take(b).unwrap();
        shares.give(first);
        let third = shares.take(a).unwrap();
        for share in [second, third, other] {
            shares.give(share);
        }
        assert!(shares.counts.is_empty());
        assert_eq!(shares.refused_count, 1);
    }
}
