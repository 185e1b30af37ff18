//! The control plane's side: subsystems and their snapshots, controller ids, and the changes that are under way.
//!
//! Owned by the control plane's program, and called on its CPU alone. Poll groups see the [`Directory`], and ask by message.
//!
//! | part | what it is |
//! |---|---|
//! | here | messages, publishing, how changes go on |
//! | `edit`, `pause` | the changes that may be asked for |
//! | `authenticate` | keys, and the work of authentications |
//! | [`Amendment`] | most of them as plain data |
//! | `facts` | what is told of subsystems, controllers and qpairs |
//! | `change`, `advance` | what a change waits for, and how it goes on |
//! | `devices`, `device_changes` | devices, and how they come and go |
//! | `subsystems`, `check` | the list, and what may stand in it |
//! | `controllers`, `ids` | leases that are out |
//! | `referrals`, `offers` | where else hosts are sent, and for whom the discovery log has changed |
//! | [`Directory`] | what all CPUs share |

mod amend;
mod ana;
mod authenticate;
mod device_changes;
mod edit;
mod facts;
mod namespaces;
mod pause;

mod advance;
mod change;
mod devices;
mod reservations;
mod subsystems;

mod books;
mod check;
mod controllers;
mod directory;
mod hosts;
mod ids;
mod offers;
mod referrals;
mod traffic;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bdev::Limits;
use reactor::{Cpu, Domain, Full, Grace, Limbo, Turn, Unlinked};

pub use amend::Amendment;
pub use change::{ChangeError, ChangeId};
pub use check::SpecError;
pub use controllers::{ControllerFacts, PastController};
pub use devices::{Base, DeviceFacts, MadeDevice, RetiredDevice};
pub use directory::Directory;
pub use facts::QpairFacts;
pub use namespaces::NamespaceRequest;
pub use reservations::{ReservationRead, ReservationWrite, WriteId};
pub use traffic::{ControllerTraffic, HostTraffic, Traffic};

use crate::ControllerKind;
use crate::auth::Queue;
use crate::membership::{Host, Remote};
use crate::message::{Letter, Message};
use crate::notice::Notice;
use crate::reservation::HostId;
use crate::spec::{ControllerSpec, TargetSpec};
use crate::status::Status;
use crate::subsystem::{Snapshot, Subject};
use crate::trace::{Step, place};
use crate::wire::{ConnectRefusal, DYNAMIC_CONTROLLER_ID};
use change::Changes;
use controllers::Controllers;
use devices::Devices;
use hosts::Hosts;
use offers::Offers;
use referrals::Referrals;
use reservations::Reservations;
use subsystems::Subsystems;

/// Snapshots that wait for their readers: changes wait for a free place.
const SNAPSHOT_LIMBO_MAX: usize = 16;

/// Subsystems, owned by the control plane.
pub struct Target {
    controller: ControllerSpec,
    subsystems: Subsystems,
    devices: Devices,
    retired: VecDeque<RetiredDevice>,
    directory: Arc<Directory>,
    controllers: Controllers,
    /// Authentications that wait for somebody who computes.
    questions: Queue,
    /// S1 of the next challenge.
    next_sequence: u32,
    hosts: Hosts,
    limbo: Limbo<Unlinked<Snapshot>>,
    /// Where else hosts are sent.
    referrals: Referrals,
    /// What the discovery log says.
    offers: Offers,
    /// What is published is not what holds: the next snapshot waits for a place in limbo.
    is_stale: bool,
    /// Shutting down.
    is_closing: bool,
    changes: Changes,
    done: VecDeque<ChangeId>,
    failures: BTreeMap<ChangeId, String>,
    /// What hosts are told once the snapshot says it.
    notices: Vec<Notice>,
    reservations: Reservations,
}

impl Target {
    /// Checks the specification and publishes the first snapshot. `cpu_count` polling CPUs.
    ///
    /// # Errors
    /// [`SpecError`] names the field.
    pub fn new(domain: &Domain, cpu_count: u16, spec: TargetSpec) -> Result<Self, SpecError> {
        check::check(cpu_count, &spec)?;
        let of_namespaces = spec.subsystems.iter().flat_map(|s| &s.namespaces).map(|n| &n.device);
        let mut devices = Devices::new(cpu_count, spec.devices.iter().chain(of_namespaces).map(Arc::clone));
        let mut subsystems = Subsystems::new((spec.authentication.hashes, spec.authentication.groups));
        for subsystem in spec.subsystems {
            subsystems.insert(subsystem, &mut devices)?;
        }
        let (mut hosts, mut reservations) = (Hosts::new(), Reservations::default());
        reservations.follow(&subsystems, &mut hosts);
        let mut snapshot = Box::new(subsystems.snapshot(spec.controller, false));
        reservations.publish(&mut snapshot);
        let referrals = Referrals::new(spec.referrals)?;
        snapshot.referrals = referrals.publish();
        let offers = Offers::new(&snapshot);
        snapshot.discovery = offers.versions();
        Ok(Self {
            controller: spec.controller,
            subsystems,
            devices,
            retired: VecDeque::new(),
            directory: Arc::new(Directory::new(domain, cpu_count, snapshot)),
            controllers: Controllers::new(),
            questions: Queue::default(),
            next_sequence: spec.authentication.first_sequence.max(1),
            hosts,
            limbo: Limbo::new(Grace::Readers, SNAPSHOT_LIMBO_MAX),
            referrals,
            offers,
            is_stale: false,
            is_closing: false,
            changes: Changes::default(),
            done: VecDeque::new(),
            failures: BTreeMap::new(),
            notices: Vec::new(),
            reservations,
        })
    }

    /// For the poll groups.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// Whether a subsystem is offered at this address.
    #[must_use]
    pub fn uses_address(&self, address: SocketAddr) -> bool {
        self.subsystems.use_address(address)
    }

    /// A message of a poll group.
    pub fn receive<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, from: Option<Cpu>, message: Message) {
        match message.0 {
            Letter::Admit { controller, subject, host, wanted } => {
                self.admit(turn, controller, subject, (host, wanted))
            }
            Letter::Authenticate(question) => self.ask(turn, question),
            Letter::Retire { lease, tally } => {
                self.directory.set_controller(lease.controller_id(), None);
                Step::IdFreed.trace(turn, 0, lease.controller_id().into());
                self.controllers.give_back(lease, tally, turn.now_ns());
            }
            Letter::Withdrawn { change } => {
                if !from.is_some_and(|from| self.changes.answered(change, from)) {
                    tracing::error!(?change, ?from, "an answer to a change that does not wait for one");
                }
            }
            Letter::Obeyed { change, way } => {
                match (way, self.changes.device(change)) {
                    (Some(way), Some(device)) => self.devices.came_home(device, *way),
                    (Some(_), None) => tracing::error!(?change, ?from, "a channel came home that belongs nowhere"),
                    (None, _) => {}
                }
                if !from
                    .is_some_and(|from| self.changes.answered(change, from) || self.reservations.answered(change, from))
                {
                    tracing::error!(?change, ?from, "an answer to an order that nobody gave");
                }
            }
            Letter::Petition(petition) => self.take_petition(*petition),
            letter @ (Letter::Admitted { .. }
            | Letter::Authenticated(_)
            | Letter::NotAdmitted { .. }
            | Letter::Join(_)
            | Letter::Joined { .. }
            | Letter::NotJoined { .. }
            | Letter::Leave { .. }
            | Letter::Failed { .. }
            | Letter::Abort { .. }
            | Letter::Aborted { .. }
            | Letter::FailureTaken { .. }
            | Letter::End { .. }
            | Letter::Withdraw { .. }
            | Letter::Notify(_)
            | Letter::Order { .. }
            | Letter::Ruling(_)
            | Letter::Lock { .. }
            | Letter::Fence { .. }
            | Letter::Fenced { .. }
            | Letter::Granted { .. }
            | Letter::Unlock { .. }
            | Letter::Lift { .. }) => {
                tracing::error!(?letter, ?from, "a message for a polling CPU came to the control plane");
            }
        }
    }

    /// Housekeeping, once per turn and after each change: what waits in limbo, what is to be published, how changes go on.
    pub fn poll<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>) {
        while let Some(old) = self.limbo.reap(turn) {
            drop(old.into_object());
        }
        loop {
            if self.is_stale && self.limbo.len() < SNAPSHOT_LIMBO_MAX {
                self.publish(turn);
            }
            if !self.is_stale {
                self.send_notices(turn);
            }
            // Until nothing moves: nobody wakes this CPU for what it could do now. A deletion has a second snapshot to publish.
            let has_moved = self.advance_changes(turn) | self.advance_reservations(turn);
            if !has_moved {
                return;
            }
        }
    }

    /// A change that is done, each once.
    pub fn next_done(&mut self) -> Option<ChangeId> {
        self.done.pop_front()
    }

    /// Why a change that is done came to nothing. `None`: it did what it should, or this was asked before.
    pub fn take_failure(&mut self, change: ChangeId) -> Option<String> {
        self.failures.remove(&change)
    }

    /// Refuses new controllers and changes from now on. Changes that are under way are done all the same.
    pub fn begin_shutdown(&mut self) {
        if !self.is_closing {
            self.is_closing = true;
            self.is_stale = true;
            self.devices.iter().for_each(|facts| {
                facts.device.let_go();
                facts.throttle.set(Limits::default());
            });
        }
    }

    /// Controllers that are alive or draining, changes and claims under way, snapshots that wait for their readers or are to be published. Zero lets the control
    /// plane leave, once it shuts down: nothing comes after that.
    #[must_use]
    pub fn live_count(&self) -> usize {
        // What is published last waits too: it must be in limbo, and out of it again, before the control plane turns no more.
        let under_way = self.changes.under_way.len() + self.reservations.petition_count();
        self.controllers.count() + under_way + self.limbo.len() + usize::from(self.is_stale)
    }

    /// Whether no snapshot is to be published or waits for its readers: what is left of [`Self::live_count`] may be something that never ends.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.limbo.is_empty() && !self.is_stale
    }

    /// Gives a new controller its id, and puts it where every CPU can find it.
    fn admit<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        controller: Remote<ControllerKind>,
        subject: Subject,
        (host, wanted): (Box<Host>, u16),
    ) {
        // Retryable: another path, or this one after a restart, may take the host.
        let busy = (Status::CONNECT_CONTROLLER_BUSY, 0);
        let outcome = match subject {
            _ if self.is_closing => Err(busy),
            // Deleted since its CPU looked: as if it had looked later.
            Subject::Nvm(id) if !self.subsystems.is_offered(id) => {
                Err((Status::CONNECT_INVALID_PARAMETERS, ConnectRefusal::SUBSYSTEM_NQN.to_result()))
            }
            Subject::Nvm(_) | Subject::Discovery => {
                self.warn_of_namesake(subject, &host);
                self.sweep_hosts();
                let number = self.hosts.number(&host.id);
                let nqn = host.nqn.clone();
                let ids = self.subsystems.controller_ids(subject);
                let lease = if wanted == DYNAMIC_CONTROLLER_ID {
                    let subsystems = &self.subsystems;
                    self.controllers.lease(subject, host, number, &ids, |id| subsystems.is_static_id(id)).ok_or(busy)
                } else {
                    self.controllers.lease_static(subject, host, number, &ids, wanted)
                };
                if let Ok(lease) = &lease {
                    self.show_namespaces(subject, lease.controller_id(), &nqn);
                }
                lease
            }
        };
        let answer = match outcome {
            Ok(lease) => {
                self.directory.set_controller(lease.controller_id(), Some((controller, subject)));
                let id = lease.controller_id().into();
                Step::IdGiven.trace(turn, place(controller.cpu, controller.handle), id);
                Letter::Admitted { controller: controller.handle, lease }
            }
            Err((status, result)) => Letter::NotAdmitted { controller: controller.handle, status, result },
        };
        turn.send(controller.cpu, Message(answer).into());
    }

    /// NVMe tells hosts apart by their identifiers where reservations are concerned [NVMe Base 2.0, 8.19], and by their names everywhere else. Two hosts with
    /// one identifier are let in, as SPDK and Linux let them in, since only they can know whether they use reservations.
    fn warn_of_namesake(&self, subject: Subject, host: &Host) {
        if let (Subject::Nvm(_), Some(other)) = (subject, self.controllers.namesake(subject, host)) {
            let id = uuid::Uuid::from_bytes(host.id);
            tracing::warn!(
                host = host.nqn.as_str(),
                other = other.as_str(),
                host_id = %id,
                "two hosts of a subsystem have one host identifier: to reservations they are one host; give each its own"
            );
        }
    }

    fn sweep_hosts(&mut self) {
        if self.hosts.is_full() {
            let used: BTreeSet<HostId> = self.controllers.host_ids().chain(self.reservations.host_ids()).collect();
            self.hosts.sweep(|id| used.contains(id));
        }
    }

    fn publish<M>(&mut self, turn: &mut Turn<'_, M>) {
        self.reservations.follow(&self.subsystems, &mut self.hosts);
        let mut next = self.subsystems.snapshot(self.controller, self.is_closing);
        self.reservations.publish(&mut next);
        next.referrals = self.referrals.publish();
        if let Some(to) = self.offers.change(&next) {
            self.notices.push(Notice::DiscoveryChanged { to });
        }
        next.discovery = self.offers.versions();
        let old = self.directory.replace_snapshot(Box::new(next));
        self.is_stale = false;
        if let Err(Full(_leaked)) = self.limbo.retire(turn, old) {
            tracing::error!("a snapshot found no place in limbo and is leaked");
        }
    }

    /// Hosts are told of something: as soon as what holds now is published.
    pub(crate) fn notify(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    fn send_notices<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>) {
        for notice in self.notices.drain(..) {
            for cpu in (0..self.directory.cpu_count()).map(Cpu) {
                turn.send(cpu, Message(Letter::Notify(Box::new(notice.clone()))).into());
            }
        }
    }
}
