//! One machine's control plane on the fabric.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use super::bell::Waking;
use super::cm::{Awaited, Depths, Place, Stage};
use super::ending::Ending;
use super::events::Pending;
use super::keys::Keys;
use super::link::{Link, lock};
use super::machine::{MachineId, QueuePairRecord};
use super::options::{Calls, Reuse};
use super::world::World;
use crate::soft::nic::{
    LinkParameters, PortCommand, PortEvent, PortHandle, QueuePair, QueuePairControl, QueuePairSerial,
};
use crate::verbs::{
    Charge, ConnectionId, Event, ListenerId, PortId, Provider, QueuePairOptions, RejectReason, VerbsError,
};

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
    /// The peer's queue pair number, on the passive side.
    pub(super) peer_number: Option<u32>,
    pub(super) peer_depths: Depths,
    pub(super) parameters: LinkParameters,
    pub(super) queue_pair: Option<Member>,
    /// What is done once the queue pair has its link.
    pub(super) awaited: Option<Awaited>,
    /// When its timewait ends.
    pub(super) timewait_ns: Option<u64>,
}

/// One machine on a [`super::Fabric`]. Dropping it is the machine's sudden end: its peers find their links gone.
pub struct InProcessProvider {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) machine: MachineId,
    pub(super) now_ns: u64,
    pub(super) timewait_ns: u64,
    pub(super) ports: Vec<PortHandle<Link>>,
    pub(super) connections: BTreeMap<ConnectionId, Record>,
    pub(super) endings: Vec<Ending>,
    pub(super) events: Vec<Pending>,
    pub(super) unacknowledged: BTreeMap<Charge, u32>,
    /// Old connections' peers and queue pair numbers, and until when those are not taken for new ones.
    pub(super) timewaits: Vec<(MachineId, u32, u64)>,
    /// Queue pairs whose LAST_WQE_REACHED waits for its moment.
    last_wqes: Vec<QueuePairSerial>,
    next_id: u64,
    free_numbers: Vec<u32>,
    /// Those that come again at once.
    ready_numbers: Vec<u32>,
    next_number: u32,
    pub(super) queue_pair_count: usize,
    /// Those that nobody has begun to end.
    pub(super) listeners: BTreeSet<ListenerId>,
    pub(super) listener_count: usize,
    pub(super) waking: Option<Waking>,
    /// DEVICE_REMOVED was raised.
    pub(super) is_told: bool,
    /// What was removed was let go of.
    pub(super) is_released: bool,
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
            timewaits: Vec::new(),
            last_wqes: Vec::new(),
            next_id: 1,
            free_numbers: Vec::new(),
            ready_numbers: Vec::new(),
            next_number: FIRST_NUMBER,
            queue_pair_count: 0,
            listeners: BTreeSet::new(),
            listener_count: 0,
            waking: None,
            is_told: false,
            is_released: false,
        }
    }

    /// Its name on the fabric.
    #[must_use]
    pub fn id(&self) -> MachineId {
        self.machine
    }

    /// What wakes the CPU of a port that sleeps: a simulation's [`reactor::Wake`], or a test's note. For ports that are made from here on; called
    /// while the fabric is locked, so it may not use it.
    pub fn wake_with(&mut self, waking: impl Fn(PortId) + Send + Sync + 'static) {
        self.waking = Some(Arc::new(waking));
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

    /// How many looks of this machine `what` takes.
    pub(super) fn delay(&self, what: &'static str) -> u32 {
        self.world().delay(self.machine, what)
    }

    /// Whether this call fails.
    pub(super) fn fails(&self, call: Calls) -> bool {
        let mut world = self.world();
        let choices = world.choices.clone();
        world.machine(self.machine).fails(call, &choices)
    }

    /// The error of a call that fails.
    pub(super) fn error(&self, call: Calls) -> VerbsError {
        let errno = if self.is_removed() { libc::EIO } else { libc::ENOMEM };
        VerbsError::System { call: call.name(), source: std::io::Error::from_raw_os_error(errno) }
    }

    pub(super) fn is_removed(&self) -> bool {
        self.world().machine(self.machine).is_without_device()
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
            peer_number: None,
            peer_depths: none,
            parameters: LinkParameters { retry_count: 0, rnr_retry_count: 0 },
            queue_pair: None,
            awaited: None,
            timewait_ns: None,
        };
        self.connections.insert(id, record);
        self.world().machine(self.machine).connections.insert(id);
        id
    }

    pub(super) fn remove_connection(&mut self, id: ConnectionId) -> Option<Record> {
        self.world().machine(self.machine).connections.remove(&id);
        self.connections.remove(&id)
    }

    pub(super) fn free_number(&mut self, number: u32) {
        let reuse = self.world().machine(self.machine).options.device.numbers;
        match reuse {
            Reuse::Late => self.free_numbers.push(number),
            Reuse::AtOnce => self.ready_numbers.push(number),
            Reuse::Never => {}
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// A number that no queue pair has: one that was freed a little while ago, if there is one, so that reuse is met.
    fn number(&mut self) -> u32 {
        if let Some(number) = self.ready_numbers.pop() {
            return number;
        }
        if self.free_numbers.len() > FREE_NUMBERS_KEPT {
            return self.free_numbers.remove(0);
        }
        self.next_number += 1;
        self.next_number - 1
    }

    pub(super) fn is_strict(&self) -> bool {
        self.world().machine(self.machine).options.is_strict
    }

    pub(super) fn create(
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
        if self.fails(Calls::CREATE_QUEUE_PAIR) {
            return Err(self.error(Calls::CREATE_QUEUE_PAIR));
        }
        let serial = QueuePairSerial(self.next_id());
        let number = self.number();
        let record = self.connections.get_mut(&connection);
        let record = record.unwrap_or_else(|| panic!("a queue pair is made for {connection:?}, which does not exist"));
        assert!(record.queue_pair.is_none(), "a second queue pair is made for {connection:?}");
        let (queue_pair, control) = QueuePair::new(serial, number, options)?;
        record.queue_pair = Some(Member { serial, port, control });
        self.queue_pair_count += 1;
        let record = QueuePairRecord::new(number, port, options.shared_receive);
        self.world().machine(self.machine).queue_pairs.insert(serial, record);
        Ok(queue_pair)
    }

    /// What the ports said.
    pub(super) fn read_ports(&mut self) {
        for port in 0..self.ports.len() {
            while let Some(event) = self.ports[port].next_event() {
                match event {
                    PortEvent::LastWqe { queue_pair } => self.receive_last_wqe(queue_pair),
                    PortEvent::Fatal { queue_pair } => {
                        if let Some(connection) = self.connection_of(queue_pair) {
                            self.push_event(Event::QueuePairFatal { connection });
                        }
                    }
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
                        let port = PortId(u32::try_from(port).unwrap_or(u32::MAX));
                        self.push_event(Event::CompletionQueueError { port });
                    }
                }
            }
        }
        self.raise_last_wqes();
    }

    fn receive_last_wqe(&mut self, serial: QueuePairSerial) {
        let (comes, fatal_first_one_in, choices) = {
            let mut world = self.world();
            let choices = world.choices.clone();
            let machine = world.machine(self.machine);
            (machine.raise_last_wqe(serial, &choices), machine.options.device.last_wqe.fatal_first_one_in, choices)
        };
        if !comes {
            return;
        }
        if let Some(connection) = self.connection_of(serial)
            && choices.one_in("QP_FATAL before LAST_WQE_REACHED", fatal_first_one_in)
        {
            self.push_event(Event::QueuePairFatal { connection });
        }
        self.last_wqes.push(serial);
    }

    /// Raises LAST_WQE_REACHED where its moment has come.
    fn raise_last_wqes(&mut self) {
        for serial in std::mem::take(&mut self.last_wqes) {
            if !self.world().machine(self.machine).is_last_wqe_due(serial) {
                self.last_wqes.push(serial);
            } else if let Some(connection) = self.connection_of(serial) {
                self.push_event(Event::LastWqeReached { connection });
            }
        }
    }

    pub(super) fn connection_of(&self, serial: QueuePairSerial) -> Option<ConnectionId> {
        let of_it = |record: &Record| record.queue_pair.as_ref().is_some_and(|member| member.serial == serial);
        self.connections.iter().find(|(_, record)| of_it(record)).map(|(id, _)| *id)
    }

    /// Timers of connections.
    pub(super) fn end_timewaits(&mut self) {
        let now_ns = self.now_ns;
        let mut ended = Vec::new();
        for (id, record) in &mut self.connections {
            if record.timewait_ns.is_some_and(|at_ns| at_ns <= now_ns) {
                // Once: no second timewait begins.
                record.timewait_ns = Some(u64::MAX);
                ended.push(*id);
            }
        }
        self.timewaits.retain(|(_, _, until_ns)| *until_ns > now_ns);
        for connection in ended {
            self.push_event(Event::TimewaitExit { connection });
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        // A machine has the address 10.0.0.n; only its number of connections tells ports apart.
        let host = u8::try_from(self.machine.0 % 250 + 1).unwrap_or(1);
        let port = 49_152 + u16::try_from(self.next_id % 16_000).unwrap_or(0);
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)), port)
    }

    pub(super) fn refuse(&mut self, connection: ConnectionId, why: String) {
        if let Some(record) = self.connections.get_mut(&connection) {
            record.stage = Stage::Ended;
        }
        let reason = RejectReason::Unreachable(why);
        self.push_event(Event::Rejected { connection, reason });
    }
}

/// Whether `value` is allowed.
pub(super) fn limit(what: &'static str, value: u64, limit: u64) -> Result<(), VerbsError> {
    if value > limit { Err(VerbsError::Limit { what, value, limit }) } else { Ok(()) }
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
        // Nothing names them any more: its peers' links to it are gone, and so is whoever could post. What they share is let go of.
        world.machine(machine).keys = Keys::new();
    }
}
