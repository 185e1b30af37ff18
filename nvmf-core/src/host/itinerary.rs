//! Which discovery services a host asks, one after the other: the first, those that its log refers to, those that theirs do, and so on.
//!
//! Logs are hostile: services may refer to each other in a ring, or each to thousands. Nobody is asked twice, nobody who is further away than a number of
//! steps, and no more than a number of them in all; what was left out is counted. Without I/O: the caller asks.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use crate::host::discover::Discovered;
use crate::wire::{SubsystemType, TransportKind};

/// See the module.
#[derive(Debug)]
pub struct Itinerary {
    /// Asked, or going to be.
    known: BTreeSet<SocketAddr>,
    waiting: VecDeque<(SocketAddr, u32)>,
    /// How far the service is that was asked last.
    distance: u32,
    distance_max: u32,
    count_max: usize,
    left_out_count: usize,
}

impl Itinerary {
    /// From one service to those that are at most `distance_max` referrals away, and at most `count_max` in all.
    #[must_use]
    pub fn new(start: SocketAddr, distance_max: u32, count_max: usize) -> Self {
        Self {
            known: BTreeSet::from([start]),
            waiting: VecDeque::from([(start, 0)]),
            distance: 0,
            distance_max,
            count_max,
            left_out_count: 0,
        }
    }

    /// Whom to ask next.
    pub fn next_stop(&mut self) -> Option<SocketAddr> {
        let (address, distance) = self.waiting.pop_front()?;
        self.distance = distance;
        Some(address)
    }

    /// The log of the one that was asked last.
    pub fn found(&mut self, log: &[Discovered]) {
        for entry in log {
            let is_referral = entry.subsystem_type == Some(SubsystemType::Referral);
            let address = entry.socket_address().filter(|_| entry.transport == Some(TransportKind::Rdma));
            let Some(address) = address.filter(|address| is_referral && !self.known.contains(address)) else {
                continue;
            };
            if self.distance >= self.distance_max || self.known.len() >= self.count_max {
                self.left_out_count += 1;
            } else {
                self.known.insert(address);
                self.waiting.push_back((address, self.distance + 1));
            }
        }
    }

    /// Referrals that were not followed since they are too far or too many.
    #[must_use]
    pub fn left_out_count(&self) -> usize {
        self.left_out_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{AddressFamily, Nqn};

    fn entry(port: u16) -> Discovered {
        Discovered {
            transport: Some(TransportKind::Rdma),
            address_family: Some(AddressFamily::Ipv4),
            subsystem_type: Some(SubsystemType::Referral),
            requirements: 0,
            subsystem_nqn: Nqn::discovery(),
            address: "127.0.0.1".into(),
            service: port.to_string(),
            port_id: 0,
            controller_id: 0xFFFF,
            admin_queue_depth_max: 32,
            flags: 0,
        }
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Where one gets that asks, where `log` is who refers to whom.
    fn walk(itinerary: &mut Itinerary, log: impl Fn(u16) -> Vec<Discovered>) -> Vec<u16> {
        let mut ports = Vec::new();
        while let Some(address) = itinerary.next_stop() {
            ports.push(address.port());
            itinerary.found(&log(address.port()));
        }
        ports
    }

    #[test]
    fn a_ring_is_walked_once() {
        let mut itinerary = Itinerary::new(at(1), 10, 10);
        assert_eq!(walk(&mut itinerary, |port| vec![entry(port % 3 + 1), entry(port)]), [1, 2, 3]);
        assert_eq!(itinerary.left_out_count(), 0);
    }

    #[test]
    fn neither_too_far_nor_too_many() {
        let mut itinerary = Itinerary::new(at(1), 2, 100);
        assert_eq!(walk(&mut itinerary, |port| vec![entry(port + 1)]), [1, 2, 3]);
        assert_eq!(itinerary.left_out_count(), 1);
        let mut itinerary = Itinerary::new(at(1), 100, 5);
        assert_eq!(walk(&mut itinerary, |port| (1..4).map(|step| entry(port * 10 + step)).collect()).len(), 5);
        assert!(itinerary.left_out_count() > 0);
    }

    #[test]
    fn only_discovery_services_that_can_be_reached_are_asked() {
        let mut itinerary = Itinerary::new(at(1), 3, 9);
        let subsystem = Discovered { subsystem_type: Some(SubsystemType::Nvm), ..entry(2) };
        let itself = Discovered { subsystem_type: Some(SubsystemType::CurrentDiscovery), ..entry(3) };
        let tcp = Discovered { transport: Some(TransportKind::Tcp), ..entry(4) };
        let nowhere = Discovered { address: "far".into(), ..entry(5) };
        let log = [subsystem, itself, tcp, nowhere, entry(6)];
        assert_eq!(walk(&mut itinerary, |_| log.to_vec()), [1, 6]);
    }
}
