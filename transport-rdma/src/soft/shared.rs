//! The software fabric between processes of one machine.
//!
//! A transport address is found through a Unix socket in a runtime directory; over that socket two processes hand each other memory and manage connections; data, messages
//! and news go through the memory, without a system call.
//!
//! | part | what it is | who calls it |
//! |---|---|---|
//! | [`SharedProvider`] | the provider: events, limits, tickets | control plane |
//! | [`handshake`], [`peers`] | peer processes: found, greeted; heard, ended, forgotten | control plane |
//! | [`requests`], [`answers`], [`endings`], [`listening`] | connections: asked for, answered, ended; listeners | control plane |
//! | [`queue_pairs`] | made, failed, destroyed | control plane |
//! | [`regions`], [`arenas`] | our memory: registered, offered, taken away; the peers': mapped, unmapped | control plane |
//! | [`worker`] | connect(2), mapping, sealing, unmapping | its own thread |
//! | [`port_wire`], [`ways`], [`link`] | the data path: rings, news, copies, wake-ups | the port's CPU |
//! | [`pair`], [`export`], [`local_keys`] | what control plane and CPUs share | both |
//! | [`peer`], [`connection`] | the provider's records | control plane |
//! | [`message`], [`socket`], [`wake`], [`doorbell`], [`directory`], [`mapping`], [`sigbus`] | formats and system calls | both |
//!
//! **Hostile peers.** What a peer sends is parsed and checked in one place each ([`message`], [`link`], [`pair`]); what it hands over is checked and sealed before use
//! ([`mapping`]); what it may have is limited and charged before it is mapped ([`SharedOptions`]). A peer that breaks the protocol is ended, alone.
//!
//! **Objects by number.** Peers, connections, queue pairs and listeners are in tables by numbers that are never reused; messages, tickets, jobs and tokens carry
//! numbers. A late one is a miss.

mod answers;
mod arenas;
mod endings;
mod handshake;
mod listening;
mod peers;
mod queue_pairs;
mod regions;
mod requests;

mod connection;
mod options;
mod peer;
mod worker;

mod port_wire;

mod ways;

mod link;
mod local_keys;

mod export;
mod pair;

mod directory;
mod doorbell;
mod mapping;
mod message;
mod sigbus;
mod socket;
mod wake;

#[cfg(test)]
mod tests;

pub use link::Link;
pub use options::SharedOptions;
pub use port_wire::SharedWire;

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use self::connection::{ConnectionRecord, Listener, QueuePairRecord};
use self::directory::Directory;
pub use self::directory::prepare_runtime_directory;
use self::doorbell::Alarm;
use self::export::Exports;
use self::local_keys::LocalKeys;
use self::message::Instance;
use self::pair::PORT_COUNT_MAX;
use self::peer::Peer;
use self::regions::Regions;
use self::wake::{Token, Waker};
use self::worker::{Outcome, Worker};
use super::nic::{Nic, NicOptions, PortEvent, PortHandle};
use crate::verbs::{
    Access, ConnectParameters, Connection, ConnectionId, ConnectionRequest, DeviceAttributes, Event, ListenerId,
    Memory, PortId, PortOptions, Provider, QueuePairOptions, RegisteredMemory, Ticket, Unacknowledged, VerbsError,
};

/// How often what has no descriptor to wake us is looked at: a copy under way in a peer's process.
const LOOK_AGAIN_NS: u64 = 1_000_000;
const INLINE_LEN_MAX: u32 = 256;
const SEGMENT_COUNT_MAX: u32 = 16;
const WORK_REQUEST_COUNT_MAX: u32 = 16 << 10;
const COMPLETION_COUNT_MAX: u32 = 4 << 20;

/// What happens and does not hurt, counted.
#[derive(Debug, Default)]
struct Tally {
    peers_refused: u64,
    peers_at_fault: u64,
    requests_rejected: u64,
    late_messages: u64,
    memory_refused: u64,
    completion_queue_overruns: u64,
}

/// The software fabric's provider.
pub struct SharedProvider {
    options: SharedOptions,
    directory: Directory,
    instance: Instance,
    waker: Waker,
    worker: Worker,
    local_keys: Arc<LocalKeys>,
    exports: Arc<Exports>,
    ports: Vec<PortHandle<Link>>,
    /// What ends each port's sleep.
    alarms: Vec<Arc<Alarm>>,
    peers: BTreeMap<u64, Peer>,
    connections: BTreeMap<u64, ConnectionRecord>,
    queue_pairs: BTreeMap<u64, QueuePairRecord>,
    listeners: BTreeMap<u64, Listener>,
    /// Queue pairs whose rings are being made.
    orders: BTreeMap<u64, queue_pairs::Order>,
    regions: Regions,
    /// Ended connections whose number is not to be used again yet: until when, peer, the peer's queue pair number.
    timewait: VecDeque<(u64, u64, u32)>,
    events: VecDeque<Event<Nic<SharedWire>>>,
    /// Peers, connections, listeners, queue pairs, ephemeral ports: one sequence.
    next_number: u64,
    queue_pair_number: u32,
    /// Something was asked for that the next look has to begin or end.
    is_dirty: bool,
    /// When to look at what the peers' memory says, of which nothing rings.
    look_again_ns: Option<u64>,
    now_ns: u64,
    tally: Tally,
    tokens: Vec<Token>,
}

impl SharedProvider {
    /// Starts it: the runtime directory, the worker thread.
    ///
    /// # Errors
    /// If an option is out of range, or a descriptor or thread cannot be had.
    pub fn new(options: SharedOptions) -> Result<Self, VerbsError> {
        if !options.ring_len.is_power_of_two() || !(link::RING_LEN_MIN..=link::RING_LEN_MAX).contains(&options.ring_len)
        {
            return Err(VerbsError::Limit {
                what: "ring_len (a power of two, at least 4096)",
                value: options.ring_len.into(),
                limit: link::RING_LEN_MAX.into(),
            });
        }
        let system = |call| move |source| VerbsError::System { call, source };
        let waker = Waker::new().map_err(system("epoll_create1, eventfd or timerfd_create"))?;
        let bell = waker.bell();
        let worker = Worker::start("soft-worker", move || bell.ring()).map_err(system("starting the worker thread"))?;
        let exports = Exports::new().map_err(system("making the key table"))?;
        let mut instance = Instance([0; 16]);
        std::fs::File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut instance.0))
            .map_err(system("reading /dev/urandom"))?;
        Ok(Self {
            directory: Directory::choose(options.directory.clone()),
            options,
            instance,
            waker,
            worker,
            local_keys: Arc::new(LocalKeys::new()),
            exports: Arc::new(exports),
            ports: Vec::new(),
            alarms: Vec::new(),
            peers: BTreeMap::new(),
            connections: BTreeMap::new(),
            queue_pairs: BTreeMap::new(),
            listeners: BTreeMap::new(),
            orders: BTreeMap::new(),
            regions: Regions::default(),
            timewait: VecDeque::new(),
            events: VecDeque::new(),
            next_number: 1,
            queue_pair_number: 1,
            is_dirty: false,
            look_again_ns: None,
            now_ns: 0,
            tally: Tally::default(),
            tokens: Vec::new(),
        })
    }

    /// Where its listeners' sockets are.
    #[must_use]
    pub fn runtime_directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// One look at everything that can have happened.
    fn look(&mut self) {
        let mut tokens = std::mem::take(&mut self.tokens);
        let has_rung = self.waker.ready(&mut tokens);
        let is_due = self.deadline_ns().is_some_and(|deadline_ns| deadline_ns <= self.now_ns);
        if has_rung || is_due || std::mem::take(&mut self.is_dirty) {
            for &token in &tokens {
                match token {
                    Token::Bell | Token::Timer => {}
                    Token::Listener(number) => self.welcome(number),
                    Token::Socket(number) => self.listen_to(number),
                    Token::Process(number) => self.bury(number),
                }
            }
            while let Some(outcome) = self.worker.next() {
                self.conclude(outcome);
            }
            self.hear_ports();
            self.find_faults();
            self.expire();
            self.finish_queue_pairs();
            self.finish_connections();
            self.finish_regions();
            self.finish_listeners();
            self.tend_peers();
        }
        // Not pushed back by each look before it: one that is polled without pause would never come to it.
        let ahead_ns = self.look_again_ns.filter(|&ns| ns > self.now_ns);
        self.look_again_ns = self.waits().then(|| ahead_ns.unwrap_or(self.now_ns + LOOK_AGAIN_NS));
        tokens.clear();
        self.tokens = tokens;
        let deadline_ns = self.deadline_ns();
        self.waker.set_deadline(self.now_ns, deadline_ns);
    }

    /// What the worker has done.
    fn conclude(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Connected { peer, result } => self.connected(peer, result),
            Outcome::PageMade { peer, result } => self.page_made(peer, result),
            Outcome::PairMapped { peer, result } => self.pair_mapped(peer, result),
            Outcome::ArenaMapped { peer, slot, base, result } => self.arena_mapped(peer, slot, base, result),
            Outcome::ArenaUnmapped { peer, slot } => self.arena_unmapped(peer, slot),
            Outcome::RingsMade { serial, result } => self.rings_made(serial, result),
            Outcome::RingsMapped { peer, connect, result } => self.rings_mapped(peer, connect, result),
            Outcome::QueuePairUnmapped { serial } => self.queue_pair_unmapped(serial),
            Outcome::Dropped => {}
        }
    }

    fn hear_ports(&mut self) {
        for port in 0..self.ports.len() {
            while let Some(event) = self.ports[port].next_event() {
                match event {
                    PortEvent::LastWqe { queue_pair } => self.queue_pair_event(queue_pair.0, false),
                    PortEvent::Fatal { queue_pair } => self.queue_pair_event(queue_pair.0, true),
                    PortEvent::Connected { queue_pair } => self.link_taken(queue_pair.0),
                    PortEvent::Unconnected { queue_pair, link } => {
                        self.worker.discard(link.into_core());
                        self.link_refused(queue_pair.0);
                    }
                    PortEvent::CompletionQueueOverrun => {
                        self.tally.completion_queue_overruns += 1;
                        tracing::error!(port, "completion queue overrun: its queue pairs are broken");
                        let port = PortId(u32::try_from(port).unwrap_or(u32::MAX));
                        self.events.push_back(Event::CompletionQueueError { port });
                    }
                }
            }
        }
    }

    /// Whether something is awaited of which nothing rings.
    fn waits(&self) -> bool {
        self.ports.iter().any(PortHandle::is_waiting)
            || self.peers.values().any(Peer::is_waiting)
            || self.queue_pairs.values().any(|record| record.ending.as_ref().is_some_and(|e| e.copies.is_some()))
            || self.regions.is_ending()
    }

    /// When to look although nothing rings.
    fn deadline_ns(&self) -> Option<u64> {
        let connections = self.connections.values().filter_map(|connection| connection.state.deadline_ns());
        let peers = self.peers.values().filter_map(|peer| peer.deadline_ns);
        let listeners = self.listeners.values().filter_map(|listener| listener.paused_until_ns);
        connections.chain(peers).chain(listeners).chain(self.look_again_ns).min()
    }
}

impl Provider for SharedProvider {
    type Port = Nic<SharedWire>;

    fn name(&self) -> &'static str {
        "soft"
    }

    fn attributes(&self) -> DeviceAttributes {
        let nic = NicOptions::default();
        DeviceAttributes {
            queue_pair_count_max: self.options.queue_pair_count_max,
            work_request_count_max: WORK_REQUEST_COUNT_MAX,
            completion_count_max: COMPLETION_COUNT_MAX,
            shared_receive_count_max: WORK_REQUEST_COUNT_MAX,
            segment_count_max: SEGMENT_COUNT_MAX,
            inline_len_max: INLINE_LEN_MAX,
            read_responder_count_max: 128,
            read_initiator_count_max: 128,
            send_len_max: self.options.ring_len / 2,
            transfer_len_max: nic.transfer_len_max,
            raises_last_wqe: nic.raises_last_wqe,
            retries_receiver_not_ready: true,
        }
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        Some(self.waker.descriptor())
    }

    fn create_port(&mut self, options: PortOptions) -> Result<(PortId, Nic<SharedWire>), VerbsError> {
        let limits = [
            ("ports", self.ports.len() as u64 + 1, PORT_COUNT_MAX as u64),
            ("completion_count", options.completion_count.into(), COMPLETION_COUNT_MAX.into()),
            ("shared_receive_count", options.shared_receive_count.into(), WORK_REQUEST_COUNT_MAX.into()),
        ];
        if let Some(&(what, value, limit)) = limits.iter().find(|(_, value, limit)| value > limit) {
            return Err(VerbsError::Limit { what, value, limit });
        }
        let number = self.ports.len();
        let bell = self.waker.bell();
        let alarm = Alarm::new().map_err(|source| VerbsError::System { call: "epoll_create1 or eventfd", source })?;
        let alarm = Arc::new(alarm);
        let wire = SharedWire::new(
            number,
            Arc::clone(&self.local_keys),
            Arc::clone(&self.exports),
            bell.clone(),
            Arc::clone(&alarm),
        );
        self.alarms.push(Arc::clone(&alarm));
        let nic_options = NicOptions {
            send_len_max: self.options.ring_len / 2,
            shared_receive_segment_count_max: SEGMENT_COUNT_MAX,
            ..NicOptions::default()
        };
        let (nic, handle) = Nic::new(
            wire,
            options,
            nic_options,
            Some(Box::new(move || bell.ring())),
            Some(Box::new(move || alarm.ring())),
        );
        self.ports.push(handle);
        // At most PORT_COUNT_MAX.
        Ok((PortId(u32::try_from(number).unwrap_or(u32::MAX)), nic))
    }

    /// It is never removed.
    fn begin_reopen(&mut self, ticket: Ticket, _addresses: &[SocketAddr]) {
        let (what, instead) = ("looking for a device again", "the software fabric has none that could be removed");
        self.events.push_back(Event::DeviceReopened { ticket, result: Err(VerbsError::NotBuilt { what, instead }) });
    }

    fn begin_register(&mut self, ticket: Ticket, memory: Memory, access: Access) {
        self.register(ticket, memory, access);
    }

    fn begin_deregister(&mut self, ticket: Ticket, memory: RegisteredMemory) {
        self.is_dirty = true;
        self.deregister(ticket, memory);
    }

    fn allocate_window(&mut self, region: RegisteredMemory) -> Result<u32, VerbsError> {
        self.open_window(region)
    }

    fn listen(&mut self, address: SocketAddr) -> Result<ListenerId, VerbsError> {
        let file = self.directory.listen(address)?;
        let number = self.number();
        self.waker
            .watch(file.socket().as_raw_fd(), Token::Listener(number))
            .map_err(|source| VerbsError::System { call: "epoll_ctl", source })?;
        let listener = Listener {
            address,
            file: Some(file),
            paused_until_ns: None,
            waiting_count: 0,
            unacknowledged: 0,
            unlisten: None,
        };
        self.listeners.insert(number, listener);
        Ok(ListenerId(number))
    }

    fn begin_unlisten(&mut self, ticket: Ticket, listener: ListenerId) {
        self.is_dirty = true;
        self.unlisten(ticket, listener.0);
    }

    fn begin_create_queue_pair(
        &mut self,
        ticket: Ticket,
        connection: ConnectionId,
        port: PortId,
        options: QueuePairOptions,
    ) {
        if let Err(error) = self.create_queue_pair(ticket, connection.0, port, options) {
            self.events.push_back(Event::QueuePairCreated { ticket, result: Err(error) });
        }
    }

    fn begin_destroy_queue_pair(&mut self, ticket: Ticket, queue_pair: Box<super::nic::QueuePair<Link>>) {
        self.is_dirty = true;
        self.destroy_queue_pair(ticket, queue_pair);
    }

    fn begin_resolve(&mut self, ticket: Ticket, address: SocketAddr) {
        self.resolve(ticket, address);
    }

    fn connect(&mut self, connection: &Connection, parameters: ConnectParameters<'_>) {
        self.is_dirty = true;
        self.ask(connection.id().0, &parameters);
    }

    fn accept(&mut self, connection: &Connection, parameters: ConnectParameters<'_>) {
        self.is_dirty = true;
        self.agree(connection.id().0, &parameters);
    }

    fn reject(&mut self, request: ConnectionRequest, private_data: &[u8]) {
        self.is_dirty = true;
        self.refuse_request(request, private_data);
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        self.is_dirty = true;
        self.end_connection(connection.0);
    }

    fn begin_destroy_connection(&mut self, ticket: Ticket, connection: Connection) {
        self.is_dirty = true;
        self.destroy_connection(ticket, connection.id().0);
    }

    fn next_event(&mut self, now_ns: u64) -> Option<Unacknowledged<Nic<SharedWire>>> {
        self.now_ns = now_ns;
        if self.events.is_empty() {
            self.look();
        }
        let event = self.events.pop_front()?;
        self.count_unacknowledged(&event, 1);
        Some(Unacknowledged::new(event))
    }

    fn acknowledge(&mut self, event: Unacknowledged<Nic<SharedWire>>) -> Event<Nic<SharedWire>> {
        let event = event.into_event();
        self.count_unacknowledged(&event, -1);
        self.is_dirty = true;
        if self.is_destroying() {
            // Somebody waits for this, and may sleep before it looks again.
            self.waker.bell().ring();
        }
        event
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let idle = self.peers.values().filter(|peer| peer.is_idle()).count();
        let mut counters = vec![
            ("peers_live", (self.peers.len() - idle) as u64),
            ("peers_idle", idle as u64),
            ("connections_live", self.connections.len() as u64),
            ("queue_pairs_live", self.queue_pairs.len() as u64),
            ("listeners_live", self.listeners.len() as u64),
            ("regions_live", self.regions.count()),
            ("windows_live", self.regions.window_count()),
            ("mapped_bytes", self.peers.values().map(|peer| peer.mapped_len).sum()),
            ("arenas_offered", self.regions.offered_count()),
            ("peers_refused", self.tally.peers_refused),
            ("peers_at_fault", self.tally.peers_at_fault),
            ("requests_rejected", self.tally.requests_rejected),
            ("late_messages", self.tally.late_messages),
            ("memory_refused", self.tally.memory_refused),
            ("completion_queue_overruns", self.tally.completion_queue_overruns),
        ];
        let sum = |pick: fn(&super::nic::NicCounters) -> &reactor::Counter| {
            self.ports.iter().map(|port| pick(port.counters()).value()).sum::<u64>()
        };
        counters.extend([
            ("sends_posted", sum(|nic| &nic.sends_posted)),
            ("receives_posted", sum(|nic| &nic.receives_posted)),
            ("completions", sum(|nic| &nic.completions)),
            ("failed_completions", sum(|nic| &nic.failures)),
            ("wire_full", sum(|nic| &nic.wire_full)),
            ("receiver_not_ready", sum(|nic| &nic.receiver_not_ready)),
            ("peer_faults", sum(|nic| &nic.peer_faults)),
            ("command_misses", sum(|nic| &nic.misses)),
        ]);
        counters
    }

    fn live_count(&self) -> usize {
        let live = self.peers.values().filter(|peer| !peer.is_idle()).count();
        self.connections.len() + self.queue_pairs.len() + self.listeners.len() + live
    }
}
