//! The provider of one device: the control plane's side.
//!
//! Owned by the control plane, whose thread makes all its calls; what waits runs on the [`Worker`]. Connections and listeners are named by numbers that are never
//! used again; the libraries' objects carry those numbers, so an event that comes late is a miss.
//!
//! | part | what it is |
//! |---|---|
//! | [`connections`] | what the caller asks of connections and listeners |
//! | [`cm_events`] | events of the connection manager become the interface's |
//! | [`async_events`] | the same for the device's |
//! | [`outcomes`] | what the worker has done |
//! | [`removal`] | a device that is removed, let go of, and opened again |
//!
//! Every event is fetched, copied, and handed out with its acknowledgement owed; what nobody is charged for is acknowledged at once.

mod async_events;
mod cm_events;
mod connections;
mod outcomes;
mod removal;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::IbvOptions;
use super::channel::{Channel, CmEvent};
use super::device::Device;
use super::id::Id;
use super::memory::Registration;
use super::news::{News, Waker};
use super::place;
use super::port::IbvPort;
use super::queue_pair::{Object, QueuePair};
use super::queues::Queues;
use super::sys;
use super::worker::{Outcome, Worker};
use crate::verbs::{
    Access, Charge, ConnectParameters, Connection, ConnectionId, ConnectionRequest, DeviceAttributes, Event, EventKind,
    ListenerId, Memory, PortId, PortOptions, Provider, QueuePairOptions, RegisteredMemory, Ticket, Unacknowledged,
    VerbsError,
};

/// One RDMA device.
pub struct IbvProvider {
    options: IbvOptions,
    ports: Vec<PortRecord>,
    connections: BTreeMap<u64, ConnectionRecord>,
    listeners: BTreeMap<u64, ListenerRecord>,
    /// By local key.
    regions: BTreeMap<u32, Registration>,
    events: VecDeque<Event<IbvPort>>,
    owed: Vec<Owed>,
    next_number: u64,
    /// Queue pairs that are being made or live.
    queue_pair_count: usize,
    is_removed: bool,
    /// What was removed was let go of.
    is_released: bool,
    /// Registrations that the worker has.
    registering_count: usize,
    tally: Tally,
    worker: Worker,
    waker: Waker,
    news: News,
    /// After everything that uses them.
    channel: Arc<Channel>,
    device: Arc<Device>,
}

/// A port, as the control plane knows it.
struct PortRecord {
    queues: Arc<Queues>,
    /// Entries that the completion queue has, that queue pairs and shared receives may fill, and that it may have.
    size: u32,
    used: u32,
    limit: u32,
    is_reported: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its address or its route is asked for.
    Resolving,
    Resolved,
    /// The peer asks for it.
    Requested,
    Connecting,
    Accepted,
    Established,
    /// Rejected, disconnected, or given up.
    Ended,
    /// On the worker.
    Destroying,
}

struct ConnectionRecord {
    stage: Stage,
    /// `None` once the worker has it to destroy it.
    id: Option<Id>,
    peer: SocketAddr,
    /// Of the resolution.
    ticket: Option<Ticket>,
    /// Until it is to be destroyed.
    queue_pair: Option<Arc<Object>>,
    /// A queue pair is being made, or exists: entries of its port's completion queue.
    room: Option<(usize, u32)>,
    /// What the peer said of READs: that it answers, that it starts.
    peer_answers: u8,
    peer_starts: u8,
}

struct ListenerRecord {
    id: Option<Id>,
}

/// An event that was handed out, and what acknowledges it.
struct Owed {
    kind: EventKind,
    subject: u64,
    of: Acknowledgement,
}

enum Acknowledgement {
    Cm(CmEvent),
    Async(sys::AsyncEvent),
    /// The provider's own.
    Nothing,
}

/// Counters.
#[derive(Debug, Default)]
struct Tally {
    late_events: u64,
    requests_refused: u64,
    late_receive_flushes: u64,
    completion_queues_grown: u64,
    undestroyed: u64,
    port_events: u64,
}

impl IbvProvider {
    /// Opens the device that the addresses belong to, or that is named.
    ///
    /// # Errors
    /// Without a device, or if it cannot be told which.
    pub fn open(options: IbvOptions) -> Result<Self, VerbsError> {
        let failed = |call| move |source| VerbsError::System { call, source };
        let name = place::chosen_device(&options)?;
        let device = Device::open(&name)?;
        let channel = Channel::create().map_err(failed("rdma_create_event_channel"))?;
        channel.set_nonblocking().map_err(failed("fcntl of the event channel"))?;
        let waker = Waker::new().map_err(failed("epoll_create1 or eventfd"))?;
        for fd in [channel.descriptor(), device.async_descriptor()] {
            waker.watch(fd).map_err(failed("epoll_ctl"))?;
        }
        let news = waker.news();
        let rung = news.clone();
        let worker = Worker::start("ibv-worker", move || rung.ring()).map_err(failed("starting the worker thread"))?;
        let attributes = device.attributes();
        tracing::info!(
            device = device.name(),
            kind = device.kind(),
            inline_len = attributes.inline_len_max,
            read_depth = attributes.read_initiator_count_max,
            shared_receives = attributes.shared_receive_count_max > 0,
            "RDMA device"
        );
        Ok(Self {
            options,
            ports: Vec::new(),
            connections: BTreeMap::new(),
            listeners: BTreeMap::new(),
            regions: BTreeMap::new(),
            events: VecDeque::new(),
            owed: Vec::new(),
            next_number: 1,
            queue_pair_count: 0,
            is_removed: false,
            is_released: false,
            registering_count: 0,
            tally: Tally::default(),
            worker,
            waker,
            news,
            channel: Arc::new(channel),
            device,
        })
    }

    /// The device's name.
    #[must_use]
    pub fn device_name(&self) -> &str {
        self.device.name()
    }

    /// A name that no connection or listener had before.
    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// An event of the provider's own making.
    fn tell(&mut self, event: Event<IbvPort>) {
        self.events.push_back(event);
    }

    /// Hands an event out: what is charged to an object is owed from here on.
    fn hand_out(&mut self, event: Event<IbvPort>, of: Acknowledgement) -> Unacknowledged<IbvPort> {
        if event.charge() == Charge::Nothing {
            settle(of);
        } else {
            self.owed.push(Owed { kind: event.kind(), subject: event.subject(), of });
        }
        Unacknowledged::new(event)
    }
}

/// Nothing is made of a device that was removed.
fn removed(call: &'static str) -> VerbsError {
    VerbsError::System { call, source: std::io::Error::other("the device was removed") }
}

fn settle(of: Acknowledgement) {
    match of {
        Acknowledgement::Cm(event) => event.acknowledge(),
        // SAFETY: it was fetched, and is acknowledged here, by value, once.
        Acknowledgement::Async(event) => unsafe { sys::ack_async_event(event) },
        Acknowledgement::Nothing => {}
    }
}

impl Provider for IbvProvider {
    type Port = IbvPort;

    fn name(&self) -> &'static str {
        "ibv"
    }

    fn attributes(&self) -> DeviceAttributes {
        self.device.attributes()
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        Some(self.waker.descriptor())
    }

    fn create_port(&mut self, options: PortOptions) -> Result<(PortId, IbvPort), VerbsError> {
        let attributes = self.device.attributes();
        let limits = [
            ("completion_count", options.completion_count, attributes.completion_count_max),
            ("shared_receive_count", options.shared_receive_count, attributes.shared_receive_count_max),
        ];
        if let Some(&(what, value, limit)) = limits.iter().find(|(_, value, limit)| value > limit) {
            return Err(VerbsError::Limit { what, value: value.into(), limit: limit.into() });
        }
        if self.is_removed {
            return Err(removed("creating a port"));
        }
        let number = self.ports.len();
        let (queues, size) = Queues::create(&self.device, number, options)?;
        let port = IbvPort::new(Arc::clone(&queues), self.news.clone());
        let used = options.shared_receive_count;
        self.ports.push(PortRecord { queues, size, used, limit: options.completion_count.max(1), is_reported: false });
        // A machine has no more CPUs than that.
        Ok((PortId(u32::try_from(number).unwrap_or(u32::MAX)), port))
    }

    fn begin_reopen(&mut self, ticket: Ticket, addresses: &[SocketAddr]) {
        self.look_for_device(ticket, addresses);
    }

    fn begin_register(&mut self, ticket: Ticket, memory: Memory, access: Access) {
        if self.is_removed {
            return self.tell(Event::Registered { ticket, result: Err(removed("registering memory")) });
        }
        self.registering_count += 1;
        let device = Arc::clone(&self.device);
        let has_remote = access.intersects(Access::REMOTE_READ | Access::REMOTE_WRITE);
        self.worker.begin(move || Outcome::Registered {
            ticket,
            has_remote,
            result: Registration::begin(&device, &memory, access),
        });
    }

    fn begin_deregister(&mut self, ticket: Ticket, memory: RegisteredMemory) {
        match self.regions.remove(&memory.local_key) {
            Some(region) => self.worker.begin(move || Outcome::Deregistered { ticket, result: region.end() }),
            None => self.tell(Event::Deregistered { ticket }),
        }
    }

    fn allocate_window(&mut self, _region: RegisteredMemory) -> Result<u32, VerbsError> {
        Err(VerbsError::NotBuilt {
            what: "a memory window on an RDMA device",
            instead: "register the region with the rights that the peer needs",
        })
    }

    fn listen(&mut self, address: SocketAddr) -> Result<ListenerId, VerbsError> {
        self.start_listener(address)
    }

    fn begin_unlisten(&mut self, ticket: Ticket, listener: ListenerId) {
        self.end_listener(ticket, listener.0);
    }

    fn begin_create_queue_pair(
        &mut self,
        ticket: Ticket,
        connection: ConnectionId,
        port: PortId,
        options: QueuePairOptions,
    ) {
        if let Err(error) = self.create_queue_pair(ticket, connection.0, port.0 as usize, options) {
            self.tell(Event::QueuePairCreated { ticket, result: Err(error) });
        }
    }

    fn begin_destroy_queue_pair(&mut self, ticket: Ticket, queue_pair: QueuePair) {
        self.destroy_queue_pair(ticket, queue_pair);
    }

    fn begin_resolve(&mut self, ticket: Ticket, address: SocketAddr) {
        if let Err(error) = self.resolve(ticket, address) {
            self.tell(Event::Resolved { ticket, result: Err(error) });
        }
    }

    fn connect(&mut self, connection: &Connection, parameters: ConnectParameters<'_>) {
        self.ask(connection.id().0, &parameters);
    }

    fn accept(&mut self, connection: &Connection, parameters: ConnectParameters<'_>) {
        self.agree(connection.id().0, &parameters);
    }

    fn reject(&mut self, request: ConnectionRequest, private_data: &[u8]) {
        self.refuse(request, private_data);
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        self.end_connection(connection.0);
    }

    fn begin_destroy_connection(&mut self, ticket: Ticket, connection: Connection) {
        self.destroy_connection(Some(ticket), connection.id().0);
    }

    fn next_event(&mut self, _now_ns: u64) -> Option<Unacknowledged<IbvPort>> {
        self.take_news();
        if let Some(event) = self.events.pop_front() {
            return Some(self.hand_out(event, Acknowledgement::Nothing));
        }
        self.next_cm_event().or_else(|| self.next_async_event()).or_else(|| {
            // What fetching has brought about.
            let event = self.events.pop_front()?;
            Some(self.hand_out(event, Acknowledgement::Nothing))
        })
    }

    fn acknowledge(&mut self, event: Unacknowledged<IbvPort>) -> Event<IbvPort> {
        let event = event.into_event();
        let (kind, subject) = (event.kind(), event.subject());
        if let Some(at) = self.owed.iter().position(|owed| (owed.kind, owed.subject) == (kind, subject)) {
            settle(self.owed.remove(at).of);
        }
        event
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("connections_live", self.connections.len() as u64),
            ("queue_pairs_live", self.queue_pair_count as u64),
            ("listeners_live", self.listeners.len() as u64),
            ("regions_live", self.regions.len() as u64),
            ("events_owed", self.owed.len() as u64),
            ("late_events", self.tally.late_events),
            ("requests_refused", self.tally.requests_refused),
            ("late_receive_flushes", self.tally.late_receive_flushes),
            ("completion_queues_grown", self.tally.completion_queues_grown),
            ("undestroyed", self.tally.undestroyed),
            ("port_events", self.tally.port_events),
        ]
    }

    fn live_count(&self) -> usize {
        self.connections.len() + self.queue_pair_count + self.listeners.len()
    }
}

impl Drop for IbvProvider {
    /// Of a program that ends with objects alive: the kernel tells the peers. No call waits for an event, since all are acknowledged first.
    fn drop(&mut self) {
        for owed in self.owed.drain(..) {
            settle(owed.of);
        }
        self.worker.finish();
        let listeners = std::mem::take(&mut self.listeners).into_values().filter_map(|listener| listener.id);
        let connections = std::mem::take(&mut self.connections).into_values().filter_map(|connection| connection.id);
        for id in connections.chain(listeners) {
            let _ = id.destroy();
        }
        for region in std::mem::take(&mut self.regions).into_values() {
            let _ = region.end();
        }
    }
}
