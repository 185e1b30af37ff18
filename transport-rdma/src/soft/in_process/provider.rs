//! One machine's control plane on the fabric.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard};

use super::cm::{Awaited, Depths, Letter, Place, Stage};
use super::ending::{Ending, What};
use super::link::{InProcessWire, Link, lock};
use super::world::{MachineId, World};
use crate::soft::nic::{
    LinkParameters, Nic, NicOptions, PortCommand, PortEvent, PortHandle, QueuePair, QueuePairControl, QueuePairSerial,
};
use crate::verbs::{
    Access, ConnectParameters, Connection, ConnectionId, ConnectionRequest, DeviceAttributes, Event, ListenerId,
    Memory, PortId, PortOptions, Provider, QueuePairOptions, RegisteredMemory, RejectReason, Ticket, Unacknowledged,
    VerbsError,
};

/// The port of this provider.
pub type InProcessPort = Nic<InProcessWire>;

/// Which object an event is of: it cannot be destroyed before the event is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Charge {
    /// The end of a ticket: nobody waits for it.
    Nothing,
    Connection(ConnectionId),
    Listener(ListenerId),
    /// The queue pair of this connection.
    QueuePair(ConnectionId),
}

/// A connection's queue pair.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) serial: QueuePairSerial,
    pub(super) port: PortId,
    pub(super) control: QueuePairControl,
}

/// One connection.
pub(super) struct Record {
    pub(super) stage: Stage,
    /// Where the listener is.
    pub(super) address: SocketAddr,
    pub(super) peer: Option<Place>,
    pub(super) peer_depths: Depths,
    pub(super) parameters: LinkParameters,
    pub(super) queue_pair: Option<Member>,
    /// What is done once the queue pair has its link.
    pub(super) awaited: Option<Awaited>,
    /// When its timewait ends.
    pub(super) timewait_ns: Option<u64>,
}

struct Pending {
    remaining: u32,
    charge: Charge,
    event: Event<InProcessPort>,
}

/// One machine on a [`super::Fabric`]. Dropping it is the machine's sudden end: its peers find their links gone.
pub struct InProcessProvider {
    world: Arc<Mutex<World>>,
    pub(super) machine: MachineId,
    pub(super) now_ns: u64,
    pub(super) timewait_ns: u64,
    ports: Vec<PortHandle<Link>>,
    pub(super) connections: BTreeMap<ConnectionId, Record>,
    pub(super) endings: Vec<Ending>,
    events: Vec<Pending>,
    unacknowledged: BTreeMap<Charge, u32>,
    next_id: u64,
    free_numbers: Vec<u32>,
    next_number: u32,
    pub(super) queue_pair_count: usize,
    listener_count: usize,
}

/// The first queue pair number: the lower ones are the device's own.
const FIRST_NUMBER: u32 = 0x11;
/// Freed queue pair numbers that are kept back.
const FREE_NUMBERS_KEPT: usize = 2;

impl InProcessProvider {
    pub(super) fn new(world: Arc<Mutex<World>>) -> Self {
        let (machine, timewait_ns) = {
            let mut world = lock(&world);
            (world.add_machine(), world.options.timewait_ns)
        };
        Self {
            world,
            machine,
            now_ns: 0,
            timewait_ns,
            ports: Vec::new(),
            connections: BTreeMap::new(),
            endings: Vec::new(),
            events: Vec::new(),
            unacknowledged: BTreeMap::new(),
            next_id: 1,
            free_numbers: Vec::new(),
            next_number: FIRST_NUMBER,
            queue_pair_count: 0,
            listener_count: 0,
        }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// Events fetched and not acknowledged.
    #[must_use]
    pub fn unacknowledged_count(&self) -> u64 {
        self.unacknowledged.values().map(|count| u64::from(*count)).sum()
    }

    pub(super) fn is_charged(&self, charge: Charge) -> bool {
        self.unacknowledged.contains_key(&charge)
    }

    pub(super) fn push_event(&mut self, charge: Charge, event: Event<InProcessPort>) {
        let remaining = self.world().delay();
        self.events.push(Pending { remaining, charge, event });
    }

    /// Unfetched events of an object that goes are discarded. Gives them back.
    pub(super) fn discard_events(&mut self, charge: Charge) -> Vec<Event<InProcessPort>> {
        let (of_it, others) =
            std::mem::take(&mut self.events).into_iter().partition(|pending| pending.charge == charge);
        self.events = others;
        let of_it: Vec<Pending> = of_it;
        of_it.into_iter().map(|pending| pending.event).collect()
    }

    pub(super) fn command(&mut self, port: PortId, command: PortCommand<Link>) {
        self.ports[port.0 as usize].send(command);
    }

    pub(super) fn add_connection(&mut self, stage: Stage, address: SocketAddr) -> ConnectionId {
        let id = ConnectionId(self.next_id());
        let none = Depths { responder_resources: 0, initiator_depth: 0 };
        let record = Record {
            stage,
            address,
            peer: None,
            peer_depths: none,
            parameters: LinkParameters { retry_count: 0, rnr_retry_count: 0 },
            queue_pair: None,
            awaited: None,
            timewait_ns: None,
        };
        self.connections.insert(id, record);
        id
    }

    pub(super) fn free_number(&mut self, number: u32) {
        self.free_numbers.push(number);
    }

    fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// A number that no queue pair has: one that was freed a little while ago, if there is one, so that reuse is met.
    fn number(&mut self) -> u32 {
        if self.free_numbers.len() > FREE_NUMBERS_KEPT {
            return self.free_numbers.remove(0);
        }
        self.next_number += 1;
        self.next_number - 1
    }

    fn is_strict(&self) -> bool {
        self.world().options.is_strict
    }

    fn create(
        &mut self,
        connection: ConnectionId,
        port: PortId,
        options: &QueuePairOptions,
    ) -> Result<Box<QueuePair<Link>>, VerbsError> {
        let limits = self.attributes();
        limit("send_count", u64::from(options.send_count), u64::from(limits.work_request_count_max))?;
        limit("receive_count", u64::from(options.receive_count), u64::from(limits.work_request_count_max))?;
        limit("segment_count", u64::from(options.segment_count), u64::from(limits.segment_count_max))?;
        limit("inline_len", u64::from(options.inline_len), u64::from(limits.inline_len_max))?;
        limit("queue pairs", self.queue_pair_count as u64 + 1, u64::from(limits.queue_pair_count_max))?;
        limit("port", u64::from(port.0) + 1, self.ports.len() as u64)?;
        let serial = QueuePairSerial(self.next_id());
        let number = self.number();
        let record = self.connections.get_mut(&connection);
        let record = record.unwrap_or_else(|| panic!("a queue pair is made for {connection:?}, which does not exist"));
        assert!(record.queue_pair.is_none(), "a second queue pair is made for {connection:?}");
        let (queue_pair, control) = QueuePair::new(serial, number, options)?;
        record.queue_pair = Some(Member { serial, port, control });
        self.queue_pair_count += 1;
        Ok(queue_pair)
    }

    /// What the ports said.
    fn read_ports(&mut self) {
        for port in 0..self.ports.len() {
            while let Some(event) = self.ports[port].next_event() {
                match event {
                    PortEvent::LastWqe { queue_pair } => {
                        if let Some(connection) = self.connection_of(queue_pair) {
                            self.push_event(Charge::QueuePair(connection), Event::LastWqeReached { connection });
                        }
                    }
                    PortEvent::Fatal { queue_pair } => {
                        if let Some(connection) = self.connection_of(queue_pair) {
                            self.push_event(Charge::QueuePair(connection), Event::QueuePairFatal { connection });
                        }
                    }
                    PortEvent::Swept { queue_pair, removed_count: _ } => self.set_swept(queue_pair),
                    PortEvent::Connected { queue_pair } => {
                        if let Some(connection) = self.connection_of(queue_pair) {
                            self.receive_connected(connection);
                        }
                    }
                    PortEvent::Unconnected { queue_pair, link } => {
                        self.world().close(&link);
                        if let Some(connection) = self.connection_of(queue_pair) {
                            self.give_up(connection);
                        }
                    }
                    PortEvent::CompletionQueueOverrun => {
                        assert!(!self.is_strict(), "the completion queue of port {port} overran");
                    }
                }
            }
        }
    }

    fn connection_of(&self, serial: QueuePairSerial) -> Option<ConnectionId> {
        let of_it = |record: &Record| record.queue_pair.as_ref().is_some_and(|member| member.serial == serial);
        self.connections.iter().find(|(_, record)| of_it(record)).map(|(id, _)| *id)
    }

    /// Timers of connections.
    fn end_timewaits(&mut self) {
        let now_ns = self.now_ns;
        let mut ended = Vec::new();
        for (id, record) in &mut self.connections {
            if record.timewait_ns.is_some_and(|at_ns| at_ns <= now_ns) {
                // Once: no second timewait begins.
                record.timewait_ns = Some(u64::MAX);
                ended.push(*id);
            }
        }
        for connection in ended {
            self.push_event(Charge::Connection(connection), Event::TimewaitExit { connection });
        }
    }

    fn address(&self) -> SocketAddr {
        // A machine has the address 10.0.0.n; only its number of connections tells ports apart.
        let host = u8::try_from(self.machine.0 % 250 + 1).unwrap_or(1);
        let port = 49_152 + u16::try_from(self.next_id % 16_000).unwrap_or(0);
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)), port)
    }

    fn refuse(&mut self, connection: ConnectionId, why: String) {
        if let Some(record) = self.connections.get_mut(&connection) {
            record.stage = Stage::Ended;
        }
        let reason = RejectReason::Unreachable(why);
        self.push_event(Charge::Connection(connection), Event::Rejected { connection, reason });
    }
}

/// Whether `value` is allowed.
fn limit(what: &'static str, value: u64, limit: u64) -> Result<(), VerbsError> {
    if value > limit { Err(VerbsError::Limit { what, value, limit }) } else { Ok(()) }
}

/// `rdma_connect(3)`: what is left of a REQ's private data on IP networks.
const CONNECT_PRIVATE_DATA_LEN_MAX: usize = 56;
/// A REP's.
const ACCEPT_PRIVATE_DATA_LEN_MAX: usize = 196;
/// A REJ's.
const REJECT_PRIVATE_DATA_LEN_MAX: usize = 148;

impl Provider for InProcessProvider {
    type Port = InProcessPort;

    fn name(&self) -> &'static str {
        "sim"
    }

    fn attributes(&self) -> DeviceAttributes {
        let world = self.world();
        let mut attributes = world.options.attributes;
        attributes.raises_last_wqe = world.options.raises_last_wqe;
        attributes
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }

    fn create_port(&mut self, options: PortOptions) -> Result<(PortId, InProcessPort), VerbsError> {
        let limits = self.attributes();
        limit("completion_count", u64::from(options.completion_count), u64::from(limits.completion_count_max))?;
        let (shared, shared_max) = (options.shared_receive_count, limits.shared_receive_count_max);
        limit("shared_receive_count", u64::from(shared), u64::from(shared_max))?;
        let nic_options = {
            let world = self.world();
            NicOptions {
                rnr_timer_ns: world.options.rnr_timer_ns,
                transport_timeout_ns: world.options.transport_timeout_ns,
                send_len_max: limits.send_len_max,
                transfer_len_max: limits.transfer_len_max,
                shared_receive_segment_count_max: limits.segment_count_max,
                raises_last_wqe: limits.raises_last_wqe,
            }
        };
        let wire = InProcessWire::new(Arc::clone(&self.world), self.machine);
        let (nic, handle) = Nic::new(wire, options, nic_options, None);
        self.ports.push(handle);
        let count = u32::try_from(self.ports.len()).unwrap_or(u32::MAX);
        Ok((PortId(count - 1), nic))
    }

    fn begin_register(&mut self, ticket: Ticket, memory: Memory, access: Access) {
        let is_remote = access.intersects(Access::REMOTE_READ | Access::REMOTE_WRITE | Access::WINDOW_BIND);
        let result = match &memory {
            Memory::Private(_) if is_remote => Err(VerbsError::NotBuilt {
                what: "remote access to private memory on the software fabric",
                instead: "register a shared arena",
            }),
            Memory::Private(_) | Memory::Shared(_) => {
                let machine = self.machine;
                Ok(self.world().machine(machine).keys.register(memory, access))
            }
        };
        self.push_event(Charge::Nothing, Event::Registered { ticket, result });
    }

    fn begin_deregister(&mut self, ticket: Ticket, memory: RegisteredMemory) {
        let machine = self.machine;
        let was_registered = self.world().machine(machine).keys.deregister(memory);
        assert!(was_registered, "{memory:?} is deregistered and is no registered region");
        self.begin_ending(ticket, What::Deregister(memory));
    }

    fn allocate_window(&mut self, region: RegisteredMemory) -> Result<u32, VerbsError> {
        let machine = self.machine;
        let key = self.world().machine(machine).keys.add_window(region);
        key.ok_or(VerbsError::NotBuilt {
            what: "a memory window on this region",
            instead: "register the region with Access::WINDOW_BIND",
        })
    }

    fn listen(&mut self, address: SocketAddr) -> Result<ListenerId, VerbsError> {
        let id = ListenerId(self.next_id());
        let machine = self.machine;
        let mut world = self.world();
        if world.listeners.contains_key(&address) {
            let why = "is in use; choose another port or end the other listener".to_owned();
            return Err(VerbsError::Address { address, why });
        }
        world.listeners.insert(address, (machine, id));
        drop(world);
        self.listener_count += 1;
        Ok(id)
    }

    fn begin_unlisten(&mut self, ticket: Ticket, listener: ListenerId) {
        let found = {
            let mut world = self.world();
            let before = world.listeners.len();
            world.listeners.retain(|_, (_, id)| *id != listener);
            world.listeners.len() != before
        };
        assert!(found, "{listener:?} is ended and does not exist");
        for event in self.discard_events(Charge::Listener(listener)) {
            if let Event::ConnectRequest(request) = event {
                self.reject(request, &[]);
            }
        }
        self.begin_ending(ticket, What::Unlisten(listener));
    }

    fn begin_create_queue_pair(
        &mut self,
        ticket: Ticket,
        connection: ConnectionId,
        port: PortId,
        options: QueuePairOptions,
    ) {
        let result = self.create(connection, port, &options);
        self.push_event(Charge::Nothing, Event::QueuePairCreated { ticket, result });
    }

    fn begin_destroy_queue_pair(&mut self, ticket: Ticket, queue_pair: Box<QueuePair<Link>>) {
        let serial = queue_pair.serial();
        let Some(connection) = self.connection_of(serial) else {
            panic!("{serial:?} is destroyed and does not belong to a connection");
        };
        assert!(
            queue_pair.is_drained() || !self.world().options.forbids_destroy_with_work,
            "the queue pair of {connection:?} is destroyed with work outstanding"
        );
        let port = self.connections[&connection].queue_pair.as_ref().map(|member| member.port);
        let sweeps = self.world().options.sweeps_on_destroy;
        let number = queue_pair.number();
        if let (Some(port), true) = (port, sweeps) {
            self.command(port, PortCommand::Sweep { queue_pair: serial, number });
        }
        let link = queue_pair.into_link();
        self.begin_ending(ticket, What::QueuePair { connection, serial, number, link, is_swept: !sweeps });
    }

    fn begin_resolve(&mut self, ticket: Ticket, address: SocketAddr) {
        let id = self.add_connection(Stage::Resolved, address);
        self.push_event(Charge::Nothing, Event::Resolved { ticket, result: Ok(Connection::new(id)) });
    }

    fn connect(&mut self, connection: &Connection, parameters: ConnectParameters<'_>) {
        let id = connection.id();
        let from = (self.machine, id);
        let peer = self.address();
        let record = self.connections.get_mut(&id);
        let record = record.unwrap_or_else(|| panic!("{id:?} is connected and does not exist"));
        assert!(record.stage == Stage::Resolved, "{id:?} is connected in stage {:?}", record.stage);
        assert!(record.queue_pair.is_some(), "{id:?} is connected without a queue pair");
        record.stage = Stage::Connecting;
        record.parameters = link_parameters(&parameters);
        let address = record.address;
        let len = parameters.private_data.len();
        if len > CONNECT_PRIVATE_DATA_LEN_MAX {
            self.refuse(id, format!("private data is {len} bytes, the limit is {CONNECT_PRIVATE_DATA_LEN_MAX}"));
            return;
        }
        let listener = self.world().listeners.get(&address).copied();
        let Some((machine, listener)) = listener else {
            self.refuse(id, format!("nobody listens on {address}"));
            return;
        };
        // The connection is its listener's until that answers.
        if let Some(record) = self.connections.get_mut(&id) {
            record.peer = Some((machine, ConnectionId(0)));
        }
        let _ = listener;
        let private_data = parameters.private_data.to_vec();
        let depths = Depths::of(&parameters);
        self.world().post(machine, Letter::Request { from, address, peer, private_data, depths });
    }

    fn accept(&mut self, connection: &Connection, parameters: ConnectParameters<'_>) {
        let id = connection.id();
        let record = self.connections.get_mut(&id);
        let record = record.unwrap_or_else(|| panic!("{id:?} is accepted and does not exist"));
        assert!(record.stage == Stage::Requested, "{id:?} is accepted in stage {:?}", record.stage);
        let member = record.queue_pair.clone();
        let member = member.unwrap_or_else(|| panic!("{id:?} is accepted without a queue pair"));
        let Some((machine, to)) = record.peer else { return };
        record.stage = Stage::Accepting;
        record.parameters = link_parameters(&parameters);
        let link_parameters = record.parameters;
        let len = parameters.private_data.len();
        if len > ACCEPT_PRIVATE_DATA_LEN_MAX {
            self.world().post(machine, Letter::Reject { to, reason: RejectReason::Consumer(Vec::new()) });
            self.refuse(id, format!("private data is {len} bytes, the limit is {ACCEPT_PRIVATE_DATA_LEN_MAX}"));
            return;
        }
        if !self.world().machine(machine).is_alive {
            let reason = RejectReason::TimedOut;
            self.push_event(Charge::Connection(id), Event::Rejected { connection: id, reason });
            return;
        }
        let ours = self.machine;
        let [link, theirs] = self.world().connect([ours, machine]);
        let command = PortCommand::Connect { queue_pair: member.serial, link, parameters: link_parameters };
        self.command(member.port, command);
        let (private_data, depths) = (parameters.private_data.to_vec(), Depths::of(&parameters));
        if let Some(record) = self.connections.get_mut(&id) {
            record.awaited = Some(Awaited::Reply { link: theirs, private_data, depths });
        }
    }

    fn reject(&mut self, request: ConnectionRequest, private_data: &[u8]) {
        let len = private_data.len();
        assert!(len <= REJECT_PRIVATE_DATA_LEN_MAX, "a rejection's private data is {len} bytes");
        let id = request.connection.id();
        let record = self.connections.remove(&id);
        let record = record.unwrap_or_else(|| panic!("{id:?} is rejected and does not exist"));
        assert!(record.queue_pair.is_none(), "{id:?} is rejected and has a queue pair");
        self.discard_events(Charge::Connection(id));
        if let Some((machine, to)) = record.peer {
            let reason = RejectReason::Consumer(private_data.to_vec());
            self.world().post(machine, Letter::Reject { to, reason });
        }
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        let now_ns = self.now_ns;
        let Some(record) = self.connections.get_mut(&connection) else {
            assert!(!self.is_strict(), "{connection:?} is disconnected and does not exist");
            return;
        };
        if let Some(member) = record.queue_pair.clone() {
            self.ports[member.port.0 as usize].fail(&member.control);
        }
        if self.give_up(connection) {
            return;
        }
        let Some(record) = self.connections.get_mut(&connection) else { return };
        match record.stage {
            Stage::Accepting | Stage::Established => {
                record.stage = Stage::Ended;
                record.timewait_ns.get_or_insert(now_ns.saturating_add(self.timewait_ns));
                if let Some((machine, to)) = record.peer {
                    self.world().post(machine, Letter::Disconnect { to });
                }
            }
            Stage::Connecting => record.stage = Stage::Ended,
            Stage::Resolved | Stage::Requested | Stage::Ended => {}
        }
    }

    fn begin_destroy_connection(&mut self, ticket: Ticket, connection: Connection) {
        let id = connection.id();
        let record = self.connections.get(&id);
        let record = record.unwrap_or_else(|| panic!("{id:?} is destroyed and does not exist"));
        assert!(record.queue_pair.is_none(), "{id:?} is destroyed before its queue pair");
        self.give_up(id);
        let record = &self.connections[&id];
        if let Some((machine, to)) = record.peer {
            match record.stage {
                Stage::Requested => {
                    let reason = RejectReason::Consumer(Vec::new());
                    self.world().post(machine, Letter::Reject { to, reason });
                }
                Stage::Accepting | Stage::Established => self.world().post(machine, Letter::Disconnect { to }),
                Stage::Resolved | Stage::Connecting | Stage::Ended => {}
            }
        }
        if let Some(record) = self.connections.get_mut(&id) {
            record.stage = Stage::Ended;
        }
        self.discard_events(Charge::Connection(id));
        self.begin_ending(ticket, What::Connection(id));
    }

    fn next_event(&mut self, now_ns: u64) -> Option<Unacknowledged<InProcessPort>> {
        self.now_ns = now_ns;
        self.read_ports();
        self.read_mail();
        self.end_timewaits();
        self.progress_endings();
        let mut due = None;
        let mut earlier = Vec::new();
        for (at, pending) in self.events.iter_mut().enumerate() {
            // Events of one object keep their order.
            let is_first = pending.charge == Charge::Nothing || !earlier.contains(&pending.charge);
            earlier.push(pending.charge);
            if pending.remaining > 0 {
                pending.remaining -= 1;
            } else if is_first && due.is_none() {
                due = Some(at);
            }
        }
        let pending = self.events.remove(due?);
        if pending.charge != Charge::Nothing {
            *self.unacknowledged.entry(pending.charge).or_insert(0) += 1;
        }
        Some(Unacknowledged::new(pending.event))
    }

    fn acknowledge(&mut self, event: Unacknowledged<InProcessPort>) -> Event<InProcessPort> {
        let event = event.into_event();
        let charge = charge_of(&event);
        if let Some(count) = self.unacknowledged.get_mut(&charge) {
            *count -= 1;
            if *count == 0 {
                self.unacknowledged.remove(&charge);
            }
        }
        event
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let machine = self.machine;
        let mut world = self.world();
        let links = world.link_count(machine);
        let keys = &world.machine(machine).keys;
        let sum = |of: fn(&crate::soft::nic::NicCounters) -> u64| -> u64 {
            self.ports.iter().map(|port| of(port.counters())).sum()
        };
        vec![
            ("connections_live", self.connections.len() as u64),
            ("queue_pairs_live", self.queue_pair_count as u64),
            ("listeners_live", self.listener_count as u64),
            ("regions_live", keys.region_count()),
            ("windows_live", keys.window_count()),
            ("links_live", links),
            ("sends_posted", sum(|nic| nic.sends_posted.value())),
            ("receives_posted", sum(|nic| nic.receives_posted.value())),
            ("completions", sum(|nic| nic.completions.value())),
            ("completions_failed", sum(|nic| nic.failures.value())),
            ("wire_full", sum(|nic| nic.wire_full.value())),
            ("receiver_not_ready", sum(|nic| nic.receiver_not_ready.value())),
            ("completion_queue_overruns", sum(|nic| nic.overruns.value())),
            ("peer_faults", sum(|nic| nic.peer_faults.value())),
            ("commands_missed", sum(|nic| nic.misses.value())),
            ("events_unacknowledged", self.unacknowledged_count()),
        ]
    }

    fn live_count(&self) -> usize {
        self.connections.len() + self.queue_pair_count + self.listener_count
    }
}

impl InProcessProvider {
    pub(super) fn listener_ended(&mut self) {
        self.listener_count -= 1;
    }
}

impl Drop for InProcessProvider {
    fn drop(&mut self) {
        let machine = self.machine;
        let mut world = self.world();
        world.kill(machine);
        for peer in (0..world.machines.len()).map(MachineId) {
            world.post(peer, Letter::PeerDied { machine });
        }
    }
}

fn link_parameters(parameters: &ConnectParameters<'_>) -> LinkParameters {
    LinkParameters { retry_count: parameters.retry_count.min(7), rnr_retry_count: parameters.rnr_retry_count.min(7) }
}

fn charge_of(event: &Event<InProcessPort>) -> Charge {
    match event {
        Event::Registered { .. }
        | Event::Deregistered { .. }
        | Event::QueuePairCreated { .. }
        | Event::QueuePairDestroyed { .. }
        | Event::ConnectionDestroyed { .. }
        | Event::Unlistened { .. }
        | Event::Resolved { .. }
        | Event::DeviceRemoved => Charge::Nothing,
        Event::ConnectRequest(request) => Charge::Listener(request.listener),
        Event::Established { connection, .. }
        | Event::Rejected { connection, .. }
        | Event::Disconnected { connection }
        | Event::TimewaitExit { connection } => Charge::Connection(*connection),
        Event::LastWqeReached { connection } | Event::QueuePairFatal { connection } => Charge::QueuePair(*connection),
    }
}
