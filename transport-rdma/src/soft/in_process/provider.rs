//! One machine's control plane on the fabric.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use super::bell::Waking;
use super::cm::{Awaited, Depths, Letter, Place, Stage};
use super::ending::Ending;
use super::link::{InProcessWire, Link, lock};
use super::world::{MachineId, World};
use crate::soft::nic::{
    LinkParameters, Nic, PortCommand, PortEvent, PortHandle, QueuePair, QueuePairControl, QueuePairSerial,
};
use crate::verbs::{Charge, ConnectionId, Event, PortId, Provider, QueuePairOptions, RejectReason, VerbsError};

/// The port of this provider.
pub type InProcessPort = Nic<InProcessWire>;

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

pub(super) struct Pending {
    pub(super) remaining: u32,
    pub(super) charge: Charge,
    pub(super) event: Event<InProcessPort>,
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
    next_id: u64,
    free_numbers: Vec<u32>,
    next_number: u32,
    pub(super) queue_pair_count: usize,
    pub(super) listener_count: usize,
    pub(super) waking: Option<Waking>,
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
            waking: None,
        }
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

    pub(super) fn push_event(&mut self, event: Event<InProcessPort>) {
        let remaining = self.world().delay(event.name());
        self.events.push(Pending { remaining, charge: event.charge(), event });
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

    pub(super) fn next_id(&mut self) -> u64 {
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

    pub(super) fn is_strict(&self) -> bool {
        self.world().options.is_strict
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
    pub(super) fn read_ports(&mut self) {
        for port in 0..self.ports.len() {
            while let Some(event) = self.ports[port].next_event() {
                match event {
                    PortEvent::LastWqe { queue_pair } => {
                        if let Some(connection) = self.connection_of(queue_pair) {
                            self.push_event(Event::LastWqeReached { connection });
                        }
                    }
                    PortEvent::Fatal { queue_pair } => {
                        if let Some(connection) = self.connection_of(queue_pair) {
                            self.push_event(Event::QueuePairFatal { connection });
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
                        let port = PortId(u32::try_from(port).unwrap_or(u32::MAX));
                        self.push_event(Event::CompletionQueueError { port });
                    }
                }
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
        for peer in (0..world.machines.len()).map(MachineId) {
            world.post(peer, Letter::PeerDied { machine });
        }
    }
}
