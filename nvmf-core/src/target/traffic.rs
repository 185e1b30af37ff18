//! What hosts and controllers do, for metrics: counters that only grow while their names are there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use reactor::{Cpu, Guard};

use super::Target;
use crate::qpair::header::Tally;
use crate::subsystem::Subject;
use crate::wire::{DISCOVERY_NQN, Nqn};

/// Of the whole target.
#[derive(Debug)]
pub struct Traffic<'t> {
    /// Controllers, by id.
    pub controllers: Vec<ControllerTraffic<'t>>,
    /// Hosts, by subsystem.
    pub hosts: Vec<HostTraffic<'t>>,
    /// Queue pairs by the address that they came to, those without a controller too.
    pub listeners: BTreeMap<SocketAddr, u64>,
}

/// One controller.
#[derive(Debug)]
pub struct ControllerTraffic<'t> {
    /// CNTLID.
    pub id: u16,
    /// Of what.
    pub subsystem_nqn: &'t str,
    /// Whose.
    pub host_nqn: &'t str,
    /// Its queue pairs, the admin queue among them.
    pub qpair_count: u64,
    /// What they have done.
    pub done: Tally,
}

/// One host with one subsystem, or all those that are not told apart.
#[derive(Debug)]
pub struct HostTraffic<'t> {
    /// With which.
    pub subsystem_nqn: &'t str,
    /// Who. `None`: those past [`crate::limits::HOST_BOOK_COUNT_MAX`].
    pub host_nqn: Option<&'t str>,
    /// Controllers that it was given.
    pub connect_count: u64,
    /// Those that it has.
    pub controller_count: u64,
    /// What all of them have done.
    pub done: Tally,
}

impl Target {
    /// One walk over all queue pairs.
    #[must_use]
    pub fn traffic(&self, guard: Guard<'_>) -> Traffic<'_> {
        let mut sums: BTreeMap<u16, (Tally, u64)> = BTreeMap::new();
        let mut listeners = BTreeMap::new();
        for cpu in (0..self.directory.cpu_count()).map(Cpu) {
            for header in self.directory.qpairs(guard, cpu) {
                *listeners.entry(header.listener).or_default() += 1;
                if let Some(id) = header.controller_id() {
                    let (done, qpair_count) = sums.entry(id).or_default();
                    *done += header.tally();
                    *qpair_count += 1;
                }
            }
        }
        let mut live: BTreeMap<(Subject, Option<&Nqn>), Tally> = BTreeMap::new();
        let mut controllers = Vec::new();
        for seen in self.controllers.seen(|id| sums.get(&id).map_or_else(Tally::default, |sum| sum.0)) {
            let own = seen.has_own_book.then_some(seen.host);
            *live.entry((seen.subject, own)).or_default() += seen.done;
            controllers.push(ControllerTraffic {
                id: seen.id,
                subsystem_nqn: self.name(seen.subject),
                host_nqn: seen.host.as_str(),
                qpair_count: sums.get(&seen.id).map_or(0, |sum| sum.1),
                done: seen.done,
            });
        }
        let hosts = self.controllers.books().iter().map(|(subject, host, book)| {
            let mut done = book.past;
            done += live.get(&(subject, host)).copied().unwrap_or_default();
            HostTraffic {
                subsystem_nqn: self.name(subject),
                host_nqn: host.map(Nqn::as_str),
                connect_count: book.connect_count,
                controller_count: book.controller_count,
                done,
            }
        });
        Traffic { controllers, hosts: hosts.collect(), listeners }
    }

    fn name(&self, subject: Subject) -> &str {
        match subject {
            Subject::Discovery => DISCOVERY_NQN,
            Subject::Nvm(id) => {
                self.subsystems.iter().find(|entry| entry.id == id).map_or("", |entry| entry.spec.nqn.as_str())
            }
        }
    }
}
