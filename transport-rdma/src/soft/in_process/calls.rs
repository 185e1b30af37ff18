//! The provider's calls. None blocks; what takes time ends in an event.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::bell::PortBell;
use super::cm::{Awaited, Depths, Letter, Request, Stage};
use super::ending::What;
use super::ledger::Ledger;
use super::link::{InProcessWire, Link};
use super::machine::{Leaving, PortRecord};
use super::options::Calls;
use super::port::InProcessPort;
use super::provider::{InProcessProvider, limit};
use super::stage::Stage as CompletionStage;
use crate::soft::nic::{LinkParameters, Nic, NicOptions, PortCommand, QueuePair};
use crate::verbs::{
    Access, Charge, ConnectParameters, Connection, ConnectionId, ConnectionRequest, DeviceAttributes, Event,
    ListenerId, Memory, PortId, PortOptions, Provider, QueuePairOptions, RegisteredMemory, RejectReason, Ticket,
    Unacknowledged, VerbsError,
};

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
        let mut world = self.world();
        let options = &world.machine(self.machine).options;
        DeviceAttributes {
            raises_last_wqe: options.raises_last_wqe && !options.is_iwarp,
            retries_receiver_not_ready: !options.is_iwarp,
            ..options.attributes
        }
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }

    fn create_port(&mut self, options: PortOptions) -> Result<(PortId, InProcessPort), VerbsError> {
        let limits = self.attributes();
        limit("completion_count", u64::from(options.completion_count), u64::from(limits.completion_count_max))?;
        let (shared, shared_max) = (options.shared_receive_count, limits.shared_receive_count_max);
        limit("shared_receive_count", u64::from(shared), u64::from(shared_max))?;
        if self.fails(Calls::CREATE_PORT) {
            return Err(self.error(Calls::CREATE_PORT));
        }
        let nic_options = {
            let mut world = self.world();
            let of_machine = &world.machine(self.machine).options;
            NicOptions {
                rnr_timer_ns: of_machine.rnr_timer_ns,
                transport_timeout_ns: of_machine.transport_timeout_ns,
                send_len_max: limits.send_len_max,
                transfer_len_max: limits.transfer_len_max,
                shared_receive_segment_count_max: limits.segment_count_max,
                raises_last_wqe: limits.raises_last_wqe,
                is_iwarp: !limits.retries_receiver_not_ready,
            }
        };
        let id = PortId(u32::try_from(self.ports.len()).unwrap_or(u32::MAX));
        let bell = Arc::new(PortBell::new(id, self.waking.clone()));
        let wire = InProcessWire::new(Arc::clone(&self.world), self.machine, Arc::clone(&bell));
        self.world().machine(self.machine).ports.push(PortRecord {
            stage: CompletionStage::new(options.completion_count as usize),
            bell: Arc::clone(&bell),
            shared: Ledger::default(),
            shared_outstanding: 0,
            leaving: Vec::new(),
            is_gone: false,
            is_leaving: false,
            has_left: false,
        });
        let ringing = Arc::clone(&bell);
        let (nic, handle) = Nic::new(wire, options, nic_options, None, Some(Box::new(move || ringing.ring())));
        self.ports.push(handle);
        Ok((id, InProcessPort::new(nic, Arc::clone(&self.world), self.machine, id, bell)))
    }

    fn begin_reopen(&mut self, ticket: Ticket, _addresses: &[SocketAddr]) {
        assert!(self.is_released, "a device is looked for that was not let go of");
        self.begin_ending(ticket, What::Reopen);
    }

    fn begin_register(&mut self, ticket: Ticket, memory: Memory, access: Access) {
        let is_remote = access.intersects(Access::REMOTE_READ | Access::REMOTE_WRITE | Access::WINDOW_BIND);
        let result = match &memory {
            Memory::Private(_) if is_remote => Err(VerbsError::NotBuilt {
                what: "remote access to private memory on the software fabric",
                instead: "register a shared arena",
            }),
            Memory::Private(_) | Memory::Shared(_) if self.fails(Calls::REGISTER) => Err(self.error(Calls::REGISTER)),
            Memory::Private(_) | Memory::Shared(_) => {
                let machine = self.machine;
                Ok(self.world().machine(machine).keys.register(memory, access))
            }
        };
        self.push_event(Event::Registered { ticket, result });
    }

    fn begin_deregister(&mut self, ticket: Ticket, memory: RegisteredMemory) {
        let machine = self.machine;
        if self.is_released {
            // It ended with the device.
            return self.push_event(Event::Deregistered { ticket });
        }
        let was_registered = {
            let mut world = self.world();
            let machine = world.machine(machine);
            machine.keys.deregister(memory, machine.options.device.keys)
        };
        assert!(was_registered, "{memory:?} is deregistered and is no registered region");
        self.begin_ending(ticket, What::Deregister(memory));
    }

    fn allocate_window(&mut self, region: RegisteredMemory) -> Result<u32, VerbsError> {
        if self.fails(Calls::ALLOCATE_WINDOW) {
            return Err(self.error(Calls::ALLOCATE_WINDOW));
        }
        let machine = self.machine;
        let key = self.world().machine(machine).keys.add_window(region);
        key.ok_or(VerbsError::NotBuilt {
            what: "a memory window on this region",
            instead: "register the region with Access::WINDOW_BIND",
        })
    }

    fn listen(&mut self, address: SocketAddr) -> Result<ListenerId, VerbsError> {
        if self.fails(Calls::LISTEN) {
            return Err(self.error(Calls::LISTEN));
        }
        let id = ListenerId(self.next_id());
        let machine = self.machine;
        let mut world = self.world();
        if world.listeners.contains_key(&address) {
            let why = "is in use; choose another port or end the other listener".to_owned();
            return Err(VerbsError::Address { address, why });
        }
        world.listeners.insert(address, (machine, id));
        drop(world);
        self.listeners.insert(id);
        self.listener_count += 1;
        Ok(id)
    }

    fn begin_unlisten(&mut self, ticket: Ticket, listener: ListenerId) {
        assert!(self.listeners.remove(&listener), "{listener:?} is ended and does not exist");
        let ours = (self.machine, listener);
        self.world().listeners.retain(|_, of| *of != ours);
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
        self.push_event(Event::QueuePairCreated { ticket, result });
    }

    fn begin_destroy_queue_pair(&mut self, ticket: Ticket, queue_pair: Box<QueuePair<Link>>) {
        let serial = queue_pair.serial();
        let Some(connection) = self.connection_of(serial) else {
            panic!("{serial:?} is destroyed and does not belong to a connection");
        };
        let mut world = self.world();
        let choices = world.choices.clone();
        let machine = world.machine(self.machine);
        assert!(
            queue_pair.is_drained() || machine.is_without_device() || !machine.options.forbids_destroy_with_work,
            "the queue pair of {connection:?} is destroyed with work outstanding"
        );
        // A device that is gone answers EIO, which is success.
        let fails = !machine.is_without_device() && machine.fails(Calls::DESTROY_QUEUE_PAIR, &choices);
        let number = queue_pair.number();
        let Some(record) = machine.queue_pairs.get(&serial) else { panic!("{serial:?} is destroyed twice") };
        let (port, is_on_shared) = (record.port, record.is_on_shared);
        let swallows = is_on_shared
            && choices.one_in("shared receive swallowed", machine.options.device.swallows_shared_receive_one_in);
        let is_swept = machine.options.sweeps_on_destroy;
        // A CPU that has left has nothing on its way.
        let has_part = !machine.port(port).is_gone
            && !machine.port(port).has_left
            && (is_swept || swallows || machine.stages(port));
        if has_part {
            machine.port(port).leaving.push(Leaving { serial, number, is_swept, swallows });
        }
        drop(world);
        if has_part {
            self.ports[port.0 as usize].wake();
        }
        let link = queue_pair.into_link();
        self.begin_ending(ticket, What::QueuePair { connection, serial, number, link, fails });
    }

    fn begin_resolve(&mut self, ticket: Ticket, address: SocketAddr) {
        let result = if self.fails(Calls::RESOLVE) {
            Err(self.error(Calls::RESOLVE))
        } else {
            Ok(Connection::new(self.add_connection(Stage::Resolved, address)))
        };
        self.push_event(Event::Resolved { ticket, result });
    }

    fn connect(&mut self, connection: &Connection, parameters: ConnectParameters<'_>) {
        let id = connection.id();
        let from = (self.machine, id);
        let peer = self.address();
        let record = self.connections.get_mut(&id);
        let record = record.unwrap_or_else(|| panic!("{id:?} is connected and does not exist"));
        assert!(record.stage == Stage::Resolved, "{id:?} is connected in stage {:?}", record.stage);
        let member = record.queue_pair.as_ref();
        let number = member.unwrap_or_else(|| panic!("{id:?} is connected without a queue pair")).control.number();
        record.stage = Stage::Connecting;
        record.parameters = link_parameters(&parameters);
        let address = record.address;
        let len = parameters.private_data.len();
        if len > CONNECT_PRIVATE_DATA_LEN_MAX {
            self.refuse(id, format!("private data is {len} bytes, the limit is {CONNECT_PRIVATE_DATA_LEN_MAX}"));
            return;
        }
        if self.fails(Calls::CONNECT) {
            self.refuse(id, self.error(Calls::CONNECT).to_string());
            return;
        }
        let listener = self.world().listeners.get(&address).copied();
        let Some((machine, _)) = listener else {
            self.refuse(id, format!("nobody listens on {address}"));
            return;
        };
        // The connection is its listener's until that answers.
        if let Some(record) = self.connections.get_mut(&id) {
            record.peer = Some((machine, ConnectionId(0)));
        }
        let private_data = parameters.private_data.to_vec();
        let depths = Depths::of(&parameters);
        self.post(machine, Letter::Request(Request { from, number, address, peer, private_data, depths }));
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
        if self.fails(Calls::ACCEPT) {
            self.world().post(machine, Letter::Reject { to, reason: RejectReason::TimedOut });
            self.refuse(id, self.error(Calls::ACCEPT).to_string());
            return;
        }
        let len = parameters.private_data.len();
        if len > ACCEPT_PRIVATE_DATA_LEN_MAX {
            self.post(machine, Letter::Reject { to, reason: RejectReason::Consumer(Vec::new()) });
            self.refuse(id, format!("private data is {len} bytes, the limit is {ACCEPT_PRIVATE_DATA_LEN_MAX}"));
            return;
        }
        if !self.world().machine(machine).is_alive {
            let reason = RejectReason::TimedOut;
            self.push_event(Event::Rejected { connection: id, reason });
            return;
        }
        let ours = self.machine;
        let [link, theirs] = self.world().connect(ours, machine);
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
        let record = self.remove_connection(id);
        let record = record.unwrap_or_else(|| panic!("{id:?} is rejected and does not exist"));
        assert!(record.queue_pair.is_none(), "{id:?} is rejected and has a queue pair");
        self.discard_events(Charge::Connection(id));
        if let Some((machine, to)) = record.peer {
            let reason = RejectReason::Consumer(private_data.to_vec());
            self.post(machine, Letter::Reject { to, reason });
        }
    }

    fn disconnect(&mut self, connection: ConnectionId) {
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
                let peer = record.peer;
                self.begin_timewait(connection);
                if let Some((machine, to)) = peer {
                    self.post(machine, Letter::Disconnect { to });
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
                    self.post(machine, Letter::Reject { to, reason });
                }
                Stage::Accepting | Stage::Established => self.post(machine, Letter::Disconnect { to }),
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
        if !self.world().machine(self.machine).runs() {
            return None;
        }
        self.follow_orders();
        self.read_ports();
        self.read_mail();
        self.end_timewaits();
        self.progress_endings();
        self.release_device();
        self.fetch()
    }

    fn acknowledge(&mut self, event: Unacknowledged<InProcessPort>) -> Event<InProcessPort> {
        let event = event.into_event();
        let charge = event.charge();
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
            ("failed_completions", sum(|nic| nic.failures.value())),
            ("wire_full", sum(|nic| nic.wire_full.value())),
            ("receiver_not_ready", sum(|nic| nic.receiver_not_ready.value())),
            ("completion_queue_overruns", sum(|nic| nic.overruns.value())),
            ("peer_faults", sum(|nic| nic.peer_faults.value())),
            ("command_misses", sum(|nic| nic.misses.value())),
            ("events_owed", self.unacknowledged_count()),
        ]
    }

    fn live_count(&self) -> usize {
        self.connections.len() + self.queue_pair_count + self.listener_count
    }
}

fn link_parameters(parameters: &ConnectParameters<'_>) -> LinkParameters {
    LinkParameters { retry_count: parameters.retry_count.min(7), rnr_retry_count: parameters.rnr_retry_count.min(7) }
}
