//! The target's part of the control plane: listeners, connections, events, and the making and destroying of queue pairs.
//!
//! | part | what it does |
//! |---|---|
//! | here | what the control plane's program calls; shutdown; counters |
//! | `changes` | what is changed while it runs: subsystems, and the addresses that are listened on |
//! | `connections` | each connection from its request to its end |
//! | `memory` | memory of block devices that come and go |
//! | `device`, `reopening` | a device that is removed and comes back, completion queues that break |
//! | `overdue` | what takes longer than it should |
//! | `renewal` | listeners whose address has changed |
//! | `host_shares` | how many queue pairs each host has |
//! | `placement` | on which CPU |
//! | `admission` | whether it may be made, and on which terms |
//! | `record` | what a connection waits for |
//!
//! Owns the provider, and every connection by value. Runs on the control plane's reactor alone. Never waits: what takes time is begun
//! with a ticket, and its end is an event. Events are fetched, acknowledged and their facts copied out in one turn.

#[cfg(feature = "defects")]
mod defective;

mod changes;
mod connections;
mod device;
mod memory;
mod overdue;
mod renewal;
mod reopening;
mod traces;

mod host_shares;
mod placement;

mod admission;
mod record;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use nvmf_core::ChangeId;
use nvmf_core::auth::{Done, Job};
use nvmf_core::defect::{self, Defect};
use nvmf_core::reservation::ReservationRecord;
use nvmf_core::target::{ReservationRead, ReservationWrite, WriteId};
use reactor::{Cpu, Durations, Handle, Progress, Segment, Slab, Turn};

pub(super) use admission::{CpuLoad, Limits, depth_max};
pub use changes::{Change, ControlError};
use changes::{Listener, PendingAnswer};
pub(super) use device::DeviceRecord;
use device::PortState;
use host_shares::HostShares;
use memory::Memories;
use overdue::Overdue;
use placement::Placement;
use record::Record;
use renewal::Renewal;
pub use traces::Traced;
use traces::Traces;

use super::CounterRow;
use super::counters::CpuCounters;
use super::message::{ConnectionRecord, Kind, Leftovers, Message, ToCpu};
use super::placement::{self as rules, PlacementError, PlacementRule};
use crate::binding::RejectStatus;
use crate::trace::Step;
#[cfg(feature = "defects")]
use crate::verbs::EventKind;
use crate::verbs::{ConnectionId, DeviceId, ListenerId, Provider, Ticket};
use crate::wake_set::WakeSet;

/// Events taken in one poll.
const EVENT_LIMIT: usize = 64;

/// How often the end is looked for once only the provider has something alive.
const LAST_LOOK_NS: u64 = 10_000_000;

/// How long that may take: a peer that keeps its side open must not keep us.
const LAST_LOOKS: u32 = 200;

/// What a control plane is made of.
pub(super) struct ControlParts<P: Provider> {
    pub(super) provider: P,
    pub(super) core: nvmf_core::Target,
    /// At least one.
    pub(super) devices: Vec<DeviceRecord<P::Port>>,
    /// What each polling CPU sleeps on.
    pub(super) wakes: Vec<WakeSet>,
    pub(super) listeners: Vec<(ListenerId, SocketAddr)>,
    /// All memory that is registered with each device.
    pub(super) segments: Vec<Segment>,
    pub(super) cpu_counters: Vec<Arc<CpuCounters>>,
    /// Checked.
    pub(super) placement: Vec<PlacementRule>,
    pub(super) host_queue_pair_count_max: u32,
}

/// The target's part of the control plane. A program on the control plane's reactor owns it and passes everything on.
pub struct Control<P: Provider> {
    provider: P,
    core: nvmf_core::Target,
    devices: Vec<DeviceRecord<P::Port>>,
    wakes: Vec<WakeSet>,
    listeners: Vec<Listener>,
    /// Changes that have not been reported as done.
    answers: Vec<PendingAnswer>,
    /// Addresses that are to be listened on anew.
    renewals: Vec<Renewal>,
    memories: Memories,
    loads: Vec<CpuLoad>,
    placement: Placement,
    hosts: HostShares,
    records: Slab<Record, ConnectionRecord>,
    by_connection: BTreeMap<ConnectionId, Handle<ConnectionRecord>>,
    overdue: Overdue,
    phase: Phase,
    counts: Counts,
    cpu_counters: Vec<Arc<CpuCounters>>,
    traces: Traces,
}

/// How far shutdown has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Listeners and connections end.
    Ending,
    /// Polling CPUs leave.
    Leaving {
        cpu_count: usize,
    },
    /// Memory is deregistered.
    Deregistering {
        region_count: usize,
    },
    /// The provider lets go of the last peers.
    LastLooks {
        left: u32,
    },
    Drained,
}

/// What the control plane counts. It is read by its own thread alone.
#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    accepted: u64,
    established: u64,
    stale_events: u64,
    quarantined: u64,
    address_changes: u64,
    device_returns: u64,
    rejected: [u64; RejectStatus::ALL.len()],
}

/// What a timer of this part is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Timer {
    LastLook = 0,
    Overdue = 1,
    Renewal = 2,
    Device = 3,
}

/// What a ticket is for; its lower 56 bits are the record's handle, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum TicketKind {
    Create = 1,
    Destroy = 2,
    DestroyConnection = 3,
    Unlisten = 4,
    Deregister = 5,
    Register = 6,
    /// Of memory that was registered too late.
    Discard = 7,
    Reopen = 8,
    /// Of a block device that was made while the target runs.
    RegisterLate = 9,
    /// Of one that is gone.
    DeregisterLate = 10,
}

impl TicketKind {
    fn ticket(self, record: Handle<ConnectionRecord>) -> Ticket {
        Ticket(u64::from(self as u8) << 56 | record.to_bits())
    }

    fn numbered(self, number: u64) -> Ticket {
        Ticket(u64::from(self as u8) << 56 | number)
    }

    fn is_of(self, ticket: Ticket) -> bool {
        ticket.0 >> 56 == u64::from(self as u8)
    }
}

impl<P: Provider> Control<P> {
    pub(super) fn new(parts: ControlParts<P>) -> Self {
        let record_count = parts.devices[0].limits.queue_pair_count_max * parts.wakes.len();
        let limits = DeviceRecord::common_limits(&parts.devices);
        let provider = &parts.provider;
        let listener = |(id, address)| Listener::new(id, address, provider.device_of_listener(id));
        let listeners = parts.listeners.into_iter().map(listener).collect();
        Self {
            provider: parts.provider,
            core: parts.core,
            hosts: HostShares::new(parts.host_queue_pair_count_max),
            placement: Placement::new(parts.placement, parts.wakes.len()),
            loads: parts.wakes.iter().map(|_| CpuLoad::new(&limits)).collect(),
            devices: parts.devices,
            wakes: parts.wakes,
            listeners,
            answers: Vec::new(),
            renewals: Vec::new(),
            memories: Memories::new(parts.segments),
            records: Slab::new(record_count),
            by_connection: BTreeMap::new(),
            overdue: Overdue::default(),
            phase: Phase::Serving,
            counts: Counts::default(),
            cpu_counters: parts.cpu_counters,
            traces: Traces::default(),
        }
    }

    /// A message to the control plane.
    pub fn receive(&mut self, turn: &mut Turn<'_, Message<P>>, from: Option<Cpu>, message: Message<P>) {
        match message.0 {
            Kind::Core(message) => self.core.receive(turn, from, message),
            Kind::ToControl(message) => self.take_answer(turn, message),
            Kind::ToCpu(_) => unreachable!("a message for a polling CPU was sent to the control plane"),
        }
        self.advance_return(turn);
        self.advance_shutdown(turn);
    }

    /// A timer that this part armed.
    pub fn fire(&mut self, turn: &mut Turn<'_, Message<P>>, token: u64) {
        if token == Timer::Overdue as u64 {
            self.look_for_overdue(turn);
        } else if token == Timer::Renewal as u64 {
            self.listen_anew(turn);
        } else if token == Timer::Device as u64 {
            self.look_for_devices(turn);
        } else if let Phase::LastLooks { left } = self.phase {
            self.phase = Phase::LastLooks { left: left.saturating_sub(1) };
            turn.arm(turn.now_ns() + LAST_LOOK_NS, Timer::LastLook as u64);
        }
        self.advance_shutdown(turn);
    }

    /// Events of the provider.
    pub fn poll(&mut self, turn: &mut Turn<'_, Message<P>>) -> Progress {
        let mut count = 0;
        while count < EVENT_LIMIT {
            let Some(event) = self.provider.next_event(turn.now_ns()) else { break };
            let (kind, subject) = event.outline();
            Step::EventFetched.trace(turn, subject, kind.number().into());
            #[cfg(feature = "defects")]
            if defect::is(Defect::AcknowledgedAfterTheDestroy) && kind == EventKind::Disconnected {
                self.take_unacknowledged(turn, ConnectionId(subject), event);
                count += 1;
                continue;
            }
            let event = self.provider.acknowledge(event);
            Step::EventAcknowledged.trace(turn, subject, kind.number().into());
            self.take_event(turn, event);
            count += 1;
        }
        self.core.poll(turn);
        self.advance_return(turn);
        self.advance_shutdown(turn);
        Progress::busy_if(count > 0)
    }

    /// Stops listening, ends every connection, then has every polling CPU leave.
    pub fn begin_shutdown(&mut self, turn: &mut Turn<'_, Message<P>>) {
        if self.phase != Phase::Serving {
            return;
        }
        tracing::info!(connection_count = self.records.len(), "target shuts down");
        self.core.begin_shutdown();
        self.end_listeners();
        self.phase = Phase::Ending;
        self.end_all(turn, nvmf_core::DisconnectReason::Shutdown);
        self.advance_shutdown(turn);
    }

    /// Everything is gone: the control plane's program may leave.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.phase == Phase::Drained
    }

    /// Readable when [`Self::poll`] may find something.
    #[must_use]
    pub fn wake_descriptor(&self) -> Option<RawFd> {
        self.provider.wake_descriptor()
    }

    /// The NVMe layer's control-plane state, to list it.
    #[must_use]
    pub fn core(&self) -> &nvmf_core::Target {
        &self.core
    }

    /// Work of authentications that may be begun, `running_max` at a time: see [`nvmf_core::Target::next_job`].
    pub fn next_job(&mut self, turn: &mut Turn<'_, Message<P>>, running_max: usize) -> Option<Job> {
        self.core.next_job(turn, running_max)
    }

    /// Such work is done.
    pub fn job_done(&mut self, turn: &mut Turn<'_, Message<P>>, done: Done) {
        self.core.job_done(turn, done);
    }

    /// What is to be put on stable storage: see [`nvmf_core::Target::next_reservation_write`]. To be asked after each poll.
    pub fn next_reservation_write(&mut self) -> Option<ReservationWrite> {
        self.core.next_reservation_write()
    }

    /// What is to be read: see [`nvmf_core::Target::next_reservation_read`]. To be asked when there is nothing more to write.
    pub fn next_reservation_read(&mut self) -> Option<ReservationRead> {
        self.core.next_reservation_read()
    }

    /// What was found there, or why it could not be read. Before the next poll.
    pub fn reservation_read(&mut self, id: ChangeId, outcome: Result<ReservationRecord, String>) {
        self.core.reservation_read(id, outcome);
    }

    /// It is there, or why not. Before the next poll.
    pub fn reservation_written(&mut self, id: WriteId, outcome: Result<(), String>) {
        self.core.reservation_written(id, outcome);
    }

    /// Which CPUs connections may go to.
    #[must_use]
    pub fn placement(&self) -> &[PlacementRule] {
        self.placement.rules()
    }

    /// The same, for those that are requested from now on: queue pairs stay where they are.
    ///
    /// # Errors
    /// [`PlacementError`] names the rule.
    pub fn set_placement(&mut self, rules: Vec<PlacementRule>) -> Result<(), PlacementError> {
        rules::check(&rules, self.wakes.len())?;
        self.placement.set_rules(rules);
        Ok(())
    }

    /// Most queue pairs of one host.
    #[must_use]
    pub fn host_queue_pair_limit(&self) -> u32 {
        self.hosts.limit
    }

    /// The same, for connections that are requested from now on.
    pub fn set_host_queue_pair_limit(&mut self, limit: u32) {
        self.hosts.limit = limit;
    }

    /// Counters and gauges of the transport and the provider: name, labels, value. Names that end with `_live` are zero when nothing is connected
    /// (the provider's: when everything was destroyed).
    #[must_use]
    pub fn counters(&self) -> Vec<CounterRow> {
        let mut all = Vec::new();
        let mut plain = |name: &str, value: u64| all.push((format!("rdma_{name}"), Vec::new(), value));
        plain("connection_requests", self.counts.requests);
        plain("connections_accepted", self.counts.accepted);
        plain("connections_established", self.counts.established);
        plain("connections_live", self.records.len() as u64);
        plain("connections_quarantined_live", self.counts.quarantined);
        plain("stale_events", self.counts.stale_events);
        plain("host_limit_refusals", self.hosts.refused_count);
        plain("address_changes", self.counts.address_changes);
        plain("listeners_renewed_live", self.renewals.len() as u64);
        plain("device_removed", self.devices.iter().filter(|device| !device.is_present()).count() as u64);
        plain("device_returns", self.counts.device_returns);
        plain("regions_registered", self.devices.iter().map(|device| device.regions.len() as u64).sum());
        for (waits_for, count) in self.overdue.rows() {
            all.push(("rdma_connections_overdue_live".into(), vec![("waits_for", waits_for.to_owned())], count));
        }
        for (status, count) in RejectStatus::ALL.iter().zip(self.counts.rejected) {
            all.push(("rdma_connections_rejected".into(), vec![("status", status.to_string())], count));
        }
        for (policy, cpu, count) in self.placement.placed() {
            let labels = vec![("policy", policy.name().to_owned()), ("cpu", cpu.to_string())];
            all.push(("rdma_queue_pairs_placed".into(), labels, count));
        }
        for (policy, count) in self.placement.refused() {
            all.push(("rdma_queue_pairs_not_placed".into(), vec![("policy", policy.name().to_owned())], count));
        }
        for (cpu, load) in self.loads.iter().enumerate() {
            all.push(("rdma_io_queue_pairs_live".into(), vec![("cpu", cpu.to_string())], load.io_count().into()));
            let is_broken = u64::from(load.port == PortState::Broken);
            all.push(("rdma_completion_queue_broken".into(), vec![("cpu", cpu.to_string())], is_broken));
        }
        for (cpu, counters) in self.cpu_counters.iter().enumerate() {
            for (name, value) in counters.list() {
                all.push((format!("rdma_{name}"), vec![("cpu", cpu.to_string())], value));
            }
            for (reason, value) in counters.disconnects() {
                let labels = vec![("cpu", cpu.to_string()), ("reason", reason.to_owned())];
                all.push(("rdma_disconnects".into(), labels, value));
            }
        }
        for (name, value) in self.provider.counters() {
            all.push((format!("rdma_provider_{name}"), vec![("provider", self.provider.name().to_owned())], value));
        }
        all
    }

    /// How long each polling CPU's teardowns took, from the first trigger until they were reaped, and the sum of it (ns).
    pub fn teardown_times(&self) -> impl Iterator<Item = (&Durations, u64)> {
        self.cpu_counters.iter().map(|counters| (&counters.teardown_times, counters.teardown_ns.value()))
    }

    /// One region is deregistered.
    fn region_gone(&mut self, ticket: Ticket) {
        if TicketKind::DeregisterLate.is_of(ticket) {
            return self.deregistered_late(ticket);
        }
        if let (true, Phase::Deregistering { region_count }) = (TicketKind::Deregister.is_of(ticket), self.phase) {
            self.phase = Phase::Deregistering { region_count: region_count.saturating_sub(1) };
        }
    }

    /// One polling CPU has left.
    fn cpu_stopped(&mut self) {
        if let Phase::Leaving { cpu_count } = self.phase {
            self.phase = Phase::Leaving { cpu_count: cpu_count.saturating_sub(1) };
        }
    }

    /// Each phase begins what the next one waits for.
    fn advance_shutdown(&mut self, turn: &mut Turn<'_, Message<P>>) {
        loop {
            self.phase = match self.phase {
                Phase::Ending
                    if self.listeners.is_empty() && (self.connections_are_gone() || defect::is(Defect::StopAtOnce)) =>
                {
                    let leftovers =
                        if self.counts.quarantined == 0 { Leftovers::Nothing } else { Leftovers::Quarantined };
                    // Not a broadcast: a mesh may hold other programs too.
                    for cpu in 0..self.wakes.len() {
                        turn.send(cpu_of(cpu), ToCpu::Stop { leftovers }.into());
                    }
                    Phase::Leaving { cpu_count: self.wakes.len() }
                }
                Phase::Leaving { cpu_count: 0 } => {
                    let mut region_count = 0;
                    for (id, device) in (0..).map(DeviceId).zip(&mut self.devices) {
                        for region in std::mem::take(&mut device.regions).into_values() {
                            let ticket = TicketKind::Deregister.numbered(region_count as u64);
                            self.provider.begin_deregister_on(id, ticket, region);
                            region_count += 1;
                        }
                    }
                    Phase::Deregistering { region_count }
                }
                Phase::Deregistering { region_count: 0 } if self.memories.is_quiet() => {
                    turn.arm(turn.now_ns() + LAST_LOOK_NS, Timer::LastLook as u64);
                    Phase::LastLooks { left: LAST_LOOKS }
                }
                Phase::LastLooks { left } if left == 0 || self.provider.live_count() == 0 => Phase::Drained,
                Phase::Serving
                | Phase::Ending
                | Phase::Leaving { .. }
                | Phase::Deregistering { .. }
                | Phase::LastLooks { .. }
                | Phase::Drained => return,
            };
        }
    }

    /// What is quarantined does not count: it is never gone.
    fn connections_are_gone(&self) -> bool {
        let only_quarantined = self.records.len() as u64 == self.counts.quarantined;
        let is_settled = if self.counts.quarantined > 0 { self.core.is_settled() } else { self.core.live_count() == 0 };
        only_quarantined && is_settled
    }
}

/// Polling CPUs are the first of the mesh; their number was checked when the target was built.
fn cpu_of(index: usize) -> Cpu {
    Cpu(u16::try_from(index).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests;
