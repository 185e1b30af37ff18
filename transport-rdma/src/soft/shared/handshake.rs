//! Peers: found, greeted, ended.
//!
//! Control plane only. The connecting side: connect(2) on the worker → *Hello* → make the pair page → *Pair* → *Paired* → live. Where the Hello names an instance that is known
//! already (another address of the same process), that peer is used and the new socket closed: there is one pair per two processes, because an arena can be
//! mapped by a peer once.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::SharedProvider;
use super::connection::{ConnectionRecord, State};
use super::directory::own_uid;
use super::mapping::{HandOverError, Mapping};
use super::message::{Instance, Message, Parameters, VERSION};
use super::pair::{KEY_COUNT_MAX, KEY_ENTRY_LEN, PAGE_LEN, Pair, RemoteMemory, Side};
use super::peer::{Peer, SendFailure, Stage};
use super::socket::{self, Arrival, Credentials, MESSAGE_LEN_MAX};
use super::wake::Token;
use super::worker::Outcome;
use crate::verbs::{Connection, ConnectionId, Event, Ticket};

/// Messages of one peer that one look takes.
const MESSAGES_PER_LOOK: usize = 64;

impl SharedProvider {
    /// Begins to find who listens on `address`.
    pub(super) fn resolve(&mut self, ticket: Ticket, address: SocketAddr) {
        let number = self.number();
        let mut peer = Peer::new(number, Side::Connector, Stage::Connecting, None);
        peer.resolves.push((ticket, address));
        self.peers.insert(number, peer);
        let candidates = self.directory.candidates(address);
        self.worker.begin(move || {
            let mut result = Err(io::Error::from_raw_os_error(libc::ENOENT));
            for path in candidates {
                result = socket::connect(&path);
                let nobody = |error: &io::Error| {
                    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
                };
                if !result.as_ref().is_err_and(nobody) {
                    break;
                }
            }
            Outcome::Connected { peer: number, result }
        });
    }

    pub(super) fn connected(&mut self, number: u64, result: io::Result<OwnedFd>) {
        let directory = self.directory.path().display().to_string();
        let failure = match result {
            Ok(socket) => match self.adopt(number, socket, Stage::AwaitHello) {
                Ok(()) => return,
                Err(why) => why,
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                let address = self.peers.get(&number).and_then(|peer| peer.resolves.first()).map(|first| first.1);
                let address = address.map_or_else(String::new, |address| format!(" on {address}"));
                format!("nothing listens{address}: start nvmf-tgt, or check QUIESCE_RUNTIME_DIR ({directory})")
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                "its listener takes no connection: the process is stopped or overloaded".to_owned()
            }
            Err(error) => format!("connecting in {directory} failed: {error}"),
        };
        self.end_peer(number, &failure, false);
    }

    /// Someone connected to a listener.
    pub(super) fn welcome(&mut self, listener: u64) {
        for _ in 0..MESSAGES_PER_LOOK {
            let Some(file) = self.listeners.get(&listener).and_then(|listener| listener.file.as_ref()) else { return };
            let socket = match socket::accept(file.socket()) {
                Ok(Some(socket)) => socket,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    return;
                }
            };
            let number = self.number();
            self.peers.insert(number, Peer::new(number, Side::Acceptor, Stage::AwaitPair, None));
            let refusal = if self.peers.len() > self.options.peer_count_max as usize {
                self.tally.peers_refused += 1;
                let text = format!("{} peer processes are connected, the limit peer_count_max", self.peers.len() - 1);
                let _ = socket::send(&socket, &Message::Refuse { text: text.clone() }.encode(), &[]);
                Err(text)
            } else {
                self.adopt(number, socket, Stage::AwaitPair)
            };
            match refusal {
                Ok(()) => self.say(number, &Message::Hello { version: VERSION, instance: self.instance }, Vec::new()),
                Err(why) => self.end_peer(number, &why, false),
            }
        }
    }

    /// The peer has a socket now: checks who it is, and watches it.
    fn adopt(&mut self, number: u64, socket: OwnedFd, stage: Stage) -> Result<(), String> {
        let credentials = socket::peer_credentials(&socket).map_err(|error| format!("SO_PEERCRED failed: {error}"))?;
        if let Err(text) = check_credentials(credentials) {
            self.tally.peers_refused += 1;
            let _ = socket::send(&socket, &Message::Refuse { text: text.clone() }.encode(), &[]);
            return Err(text);
        }
        let process = socket::peer_process(&socket, credentials.pid)
            .map_err(|error| format!("process {} cannot be watched: {error}", credentials.pid))?;
        let Some(peer) = self.peers.get_mut(&number) else { return Ok(()) };
        let watch = self
            .waker
            .watch(socket.as_raw_fd(), Token::Socket(number))
            .and_then(|()| self.waker.watch(process.as_raw_fd(), Token::Process(number)));
        peer.credentials = Some(credentials);
        peer.socket = Some(socket);
        peer.process = Some(process);
        peer.stage = stage;
        peer.deadline_ns = Some(self.now_ns + self.options.connect_timeout_ns);
        watch.map_err(|error| format!("epoll_ctl failed: {error}"))
    }

    /// Reads what a peer has sent.
    pub(super) fn listen_to(&mut self, number: u64) {
        let mut buffer = [0; MESSAGE_LEN_MAX];
        for _ in 0..MESSAGES_PER_LOOK {
            let Some(peer) = self.peers.get(&number) else { return };
            if peer.is_working {
                return;
            }
            let Some(socket) = &peer.socket else { return };
            let (len, descriptors) = match socket::receive(socket, &mut buffer) {
                Ok(Arrival::Message(len, descriptors)) => (len, descriptors),
                Ok(Arrival::Nothing) => return,
                Ok(Arrival::Closed) => return self.end_peer(number, "it hung up", false),
                Ok(Arrival::Oversized) => return self.blame(number, "a message too long or with too many descriptors"),
                Err(error) => return self.end_peer(number, &format!("its socket failed: {error}"), false),
            };
            let Some(message) = Message::parse(&buffer[..len]) else {
                return self.blame(number, "a message that nobody sends");
            };
            let (least, most) = message.descriptor_count();
            if descriptors.len() < least || descriptors.len() > most {
                return self.blame(number, "a message with the wrong number of descriptors");
            }
            self.hear(number, message, descriptors);
        }
    }

    fn hear(&mut self, number: u64, message: Message, descriptors: Vec<OwnedFd>) {
        let Some(peer) = self.peers.get(&number) else { return };
        match (&peer.stage, message) {
            (_, Message::Refuse { text }) => self.end_peer(number, &format!("it refused: {text}"), false),
            (Stage::AwaitHello, Message::Hello { version, instance }) => self.greet(number, version, instance),
            (Stage::AwaitPair, Message::Pair { version, instance, page_len, key_count }) => {
                self.take_pair(number, version, instance, (page_len, key_count), descriptors);
            }
            (Stage::AwaitPaired { .. }, Message::Paired { key_count }) => {
                self.take_keys(number, key_count, descriptors);
            }
            (Stage::Live(..), Message::Arena { slot, len, base }) => {
                self.take_arena(number, slot, len, base, descriptors);
            }
            (Stage::Live(..), Message::ArenaTaken { slot, error }) => self.arena_taken(number, slot, &error),
            (Stage::Live(..), Message::ArenaWithdrawn { slot }) => self.arena_withdrawn(number, slot),
            (Stage::Live(..), Message::Unmapped { slot }) => self.arena_returned(number, slot),
            (Stage::Live(..), Message::Connect(connect)) => self.asked(number, connect, descriptors),
            (Stage::Live(..), Message::Accept(accept)) => self.accepted(number, accept),
            (Stage::Live(..), Message::Reject { to, reason }) => self.rejected(number, to, reason),
            (Stage::Live(..), Message::ReadyToUse { to }) => self.ready_to_use(number, to),
            (Stage::Live(..), Message::Disconnect { to }) => self.disconnected(number, to),
            (Stage::Live(..), Message::DisconnectReply { to }) => self.disconnect_replied(number, to),
            (Stage::Live(..), Message::Ended { to }) => self.queue_pair_ended(number, to),
            (_, _) => self.blame(number, "a message out of turn"),
        }
    }

    /// The listener's process is known: go on, or use the peer that it is already.
    fn greet(&mut self, number: u64, version: u32, instance: Instance) {
        if version != VERSION {
            let text = format!("it speaks version {version} of the fabric, this process version {VERSION}");
            return self.end_peer(number, &text, true);
        }
        let is_same = |peer: &&mut Peer| {
            peer.number != number && peer.instance == Some(instance) && !peer.is_gone() && instance != self.instance
        };
        if let Some(known) = self.peers.values_mut().find(is_same) {
            let known = known.number;
            let Some(mut peer) = self.peers.remove(&number) else { return };
            self.close(&mut peer);
            if let Some(known) = self.peers.get_mut(&known) {
                known.resolves.append(&mut peer.resolves);
            }
            return self.answer_resolves(known);
        }
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.instance = Some(instance);
        peer.stage = Stage::MakingPage;
        peer.is_working = true;
        self.hold(number);
        self.worker
            .begin(move || Outcome::PageMade { peer: number, result: Mapping::create("quiesce-pair", PAGE_LEN) });
    }

    pub(super) fn page_made(&mut self, number: u64, result: io::Result<(Mapping, OwnedFd)>) {
        self.resume(number);
        let keys = self.exports.descriptor().try_clone();
        let Some(peer) = self.peers.get_mut(&number).filter(|peer| !peer.is_gone()) else { return };
        match (result, keys) {
            (Ok((page, descriptor)), Ok(keys)) => {
                peer.stage = Stage::AwaitPaired { page };
                let page_len = u32::try_from(PAGE_LEN).unwrap_or(u32::MAX);
                let pair =
                    Message::Pair { version: VERSION, instance: self.instance, page_len, key_count: KEY_COUNT_MAX };
                self.say(number, &pair, vec![descriptor, keys]);
            }
            (Err(error), _) | (_, Err(error)) => {
                self.end_peer(number, &format!("shared memory cannot be had: {error}"), true);
            }
        }
    }

    /// A connector offers the pair page and its keys.
    fn take_pair(
        &mut self,
        number: u64,
        version: u32,
        instance: Instance,
        (page_len, key_count): (u32, u32),
        mut descriptors: Vec<OwnedFd>,
    ) {
        if version != VERSION {
            let text = format!("it speaks version {version} of the fabric, this process version {VERSION}");
            return self.end_peer(number, &text, true);
        }
        if page_len as usize != PAGE_LEN || key_count > KEY_COUNT_MAX {
            return self.blame(number, "a pair page or key table of a size that nobody has");
        }
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.instance = Some(instance);
        peer.stage = Stage::MappingPair;
        peer.is_working = true;
        self.hold(number);
        let keys = if key_count > 0 { descriptors.pop() } else { None };
        let Some(page) = descriptors.pop() else { return };
        self.worker.begin(move || {
            let map = || {
                let page = Mapping::take_over(&page, PAGE_LEN as u64, true)?;
                Ok((Some(page), map_keys(keys.as_ref(), key_count)?))
            };
            Outcome::PairMapped { peer: number, result: map() }
        });
    }

    /// The acceptor has mapped the page, and offers its keys.
    fn take_keys(&mut self, number: u64, key_count: u32, mut descriptors: Vec<OwnedFd>) {
        if key_count > KEY_COUNT_MAX {
            return self.blame(number, "a key table of a size that nobody has");
        }
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let Stage::AwaitPaired { page } = std::mem::replace(&mut peer.stage, Stage::AwaitHello) else { return };
        peer.stage = Stage::MappingKeys { page };
        peer.is_working = true;
        self.hold(number);
        let keys = descriptors.pop();
        self.worker.begin(move || Outcome::PairMapped {
            peer: number,
            result: map_keys(keys.as_ref(), key_count).map(|keys| (None, keys)),
        });
    }

    pub(super) fn pair_mapped(
        &mut self,
        number: u64,
        result: Result<(Option<Mapping>, Option<Mapping>), HandOverError>,
    ) {
        self.resume(number);
        let own_keys = self.exports.descriptor().try_clone();
        let Some(peer) = self.peers.get_mut(&number).filter(|peer| !peer.is_gone()) else { return };
        let (page, keys) = match result {
            Ok(mapped) => mapped,
            Err(error) => {
                self.tally.memory_refused += 1;
                return self.end_peer(number, &format!("what it handed over cannot be used: {error}"), true);
            }
        };
        let stage = std::mem::replace(&mut peer.stage, Stage::Gone(None));
        let (page, is_acceptor) = match (stage, page) {
            (Stage::MappingPair, Some(page)) => (page, true),
            (Stage::MappingKeys { page }, None) => (page, false),
            (stage, _) => {
                peer.stage = stage;
                return;
            }
        };
        peer.stage = Stage::Live(Arc::new(Pair::new(number, peer.side, page)), Arc::new(RemoteMemory::new(keys)));
        peer.deadline_ns = None;
        tracing::debug!(peer = number, process = peer.describe(), "peer is live");
        if is_acceptor {
            match own_keys {
                Ok(keys) => self.say(number, &Message::Paired { key_count: KEY_COUNT_MAX }, vec![keys]),
                Err(error) => self.end_peer(number, &format!("a descriptor cannot be had: {error}"), true),
            }
        } else {
            self.answer_resolves(number);
        }
    }

    /// Connections for those who waited, if the peer is live.
    fn answer_resolves(&mut self, number: u64) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        if peer.live_pair().is_none() {
            return;
        }
        for (ticket, address) in std::mem::take(&mut peer.resolves) {
            let connection = self.new_connection(number, address, State::Resolved);
            let result = Ok(Connection::new(ConnectionId(connection)));
            self.events.push_back(Event::Resolved { ticket, result });
        }
    }

    pub(super) fn new_connection(&mut self, peer: u64, address: SocketAddr, state: State) -> u64 {
        let number = self.number();
        let record = ConnectionRecord {
            number,
            peer,
            state,
            address,
            listener: None,
            remote: None,
            remote_queue_pair: None,
            parameters: Parameters::default(),
            remote_news_slot: 0,
            memory: None,
            queue_pair: None,
            pending: None,
            is_place_known: false,
            unacknowledged: 0,
            is_passive: state == State::Requested,
            destroy: None,
        };
        self.connections.insert(number, record);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.connection_count += 1;
        }
        number
    }

    /// Sends to a peer; one that does not read, or is gone, is ended.
    pub(super) fn say(&mut self, number: u64, message: &Message, descriptors: Vec<OwnedFd>) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        match peer.send(message, descriptors) {
            Ok(()) => {}
            Err(SendFailure::HungUp) => self.end_peer(number, "it hung up", false),
            Err(SendFailure::NotReading) => self.end_peer(number, "it does not read its messages", false),
        }
    }

    /// Ends a peer that broke the protocol.
    pub(super) fn blame(&mut self, number: u64, what: &str) {
        self.tally.peers_at_fault += 1;
        self.end_peer(number, &format!("it broke the protocol: {what}"), true);
    }

    /// A peer's process has ended.
    pub(super) fn bury(&mut self, number: u64) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        if let Some(process) = peer.process.take() {
            self.waker.unwatch(process.as_raw_fd());
        }
        if let Some(pair) = peer.pair() {
            pair.set_dead();
        }
        self.end_peer(number, "its process has ended", false);
    }

    /// Closes what there is of a peer; its connections end, its queue pairs fail. What is mapped stays until they are destroyed.
    pub(super) fn end_peer(&mut self, number: u64, why: &str, is_to_be_told: bool) {
        let Some(mut peer) = self.peers.remove(&number) else { return };
        let description = peer.describe();
        if !peer.is_gone() {
            tracing::info!(peer = number, process = description, why, "peer ended");
        }
        if is_to_be_told {
            let _ = peer.send(&Message::Refuse { text: why.to_owned() }, Vec::new());
        }
        if let Some(socket) = peer.socket.take() {
            self.waker.unwatch(socket.as_raw_fd());
        }
        let stage = std::mem::replace(&mut peer.stage, Stage::Gone(None));
        let pair = match stage {
            Stage::Live(pair, remote) => {
                pair.set_gone();
                Some((pair, remote))
            }
            Stage::Gone(pair) => pair,
            Stage::AwaitPaired { page } | Stage::MappingKeys { page } => {
                self.worker.discard(page);
                None
            }
            Stage::Connecting | Stage::AwaitHello | Stage::MakingPage | Stage::AwaitPair | Stage::MappingPair => None,
        };
        peer.stage = Stage::Gone(pair);
        peer.deadline_ns = None;
        let why = if matches!(peer.side, Side::Connector) && peer.credentials.is_none() {
            why.to_owned()
        } else {
            format!("{description}: {why}")
        };
        if peer.why.is_empty() {
            peer.why.clone_from(&why);
        }
        let resolves = std::mem::take(&mut peer.resolves);
        self.peers.insert(number, peer);
        // As on any network: the way is known, and connecting will say that nobody is there.
        for (ticket, address) in resolves {
            let connection = self.new_connection(number, address, State::Resolved);
            let result = Ok(Connection::new(ConnectionId(connection)));
            self.events.push_back(Event::Resolved { ticket, result });
        }
        self.lose_connections(number, &why);
        self.lose_arenas(number);
        self.is_dirty = true;
        self.waker.bell().ring();
    }

    /// Ends peers in whose memory a fault was covered, or whose wire found one.
    pub(super) fn find_faults(&mut self) {
        let is_faulted = |peer: &&Peer| {
            peer.live_pair().is_some_and(|(pair, remote)| pair.is_faulted() || remote.is_faulted() || pair.is_gone())
        };
        while let Some(number) = self.peers.values().find(is_faulted).map(|peer| peer.number) {
            self.blame(number, "memory that it handed over is gone");
        }
    }

    /// Flushes what waits, ends handshakes that take too long, and forgets peers that nothing needs.
    pub(super) fn tend_peers(&mut self) {
        let numbers: Vec<u64> = self.peers.keys().copied().collect();
        for number in numbers {
            let Some(peer) = self.peers.get_mut(&number) else { continue };
            match peer.flush() {
                Ok(()) => {}
                Err(_) => self.end_peer(number, "it hung up", false),
            }
            let Some(peer) = self.peers.get(&number) else { continue };
            if peer.deadline_ns.is_some_and(|deadline_ns| deadline_ns <= self.now_ns) {
                self.end_peer(number, "no answer in time: the process is stopped or overloaded", true);
            }
            self.forget_if_unused(number);
        }
    }

    fn forget_if_unused(&mut self, number: u64) {
        let Some(peer) = self.peers.get(&number) else { return };
        if !peer.is_idle() || peer.is_working {
            return;
        }
        let is_needed = match &peer.stage {
            // A process that lives may still be in mid-copy, under keys that are still to be closed.
            Stage::Gone(Some((pair, _))) => !pair.is_dead() && self.regions.has_keys_for(number),
            Stage::Gone(None) => false,
            // A live pair is kept while an arena is known to either side: it can be mapped once.
            Stage::Live(..) => {
                peer.side == Side::Acceptor || !peer.arenas.is_empty() || self.regions.is_offered_to(number)
            }
            Stage::Connecting
            | Stage::AwaitHello
            | Stage::MakingPage
            | Stage::AwaitPaired { .. }
            | Stage::MappingKeys { .. }
            | Stage::AwaitPair
            | Stage::MappingPair => true,
        };
        if is_needed {
            return;
        }
        if let Some(mut peer) = self.peers.remove(&number) {
            self.exports.forget(number);
            self.regions.forget_peer(number);
            self.close(&mut peer);
            // What is mapped is unmapped there.
            self.worker.discard(peer);
        }
    }

    fn close(&self, peer: &mut Peer) {
        for descriptor in [peer.socket.take(), peer.process.take()].into_iter().flatten() {
            self.waker.unwatch(descriptor.as_raw_fd());
        }
    }

    /// Nothing is read from this peer until its job has ended.
    pub(super) fn hold(&mut self, number: u64) {
        if let Some(peer) = self.peers.get_mut(&number) {
            peer.is_working = true;
            if let Some(socket) = &peer.socket {
                self.waker.unwatch(socket.as_raw_fd());
            }
        }
    }

    /// The job has ended.
    pub(super) fn resume(&mut self, number: u64) {
        if let Some(peer) = self.peers.get_mut(&number) {
            peer.is_working = false;
            if let Some(socket) = &peer.socket
                && let Err(error) = self.waker.watch(socket.as_raw_fd(), Token::Socket(number))
            {
                self.end_peer(number, &format!("epoll_ctl failed: {error}"), true);
            }
        }
    }
}

fn map_keys(keys: Option<&OwnedFd>, key_count: u32) -> Result<Option<Mapping>, HandOverError> {
    match keys {
        Some(keys) => Mapping::take_over(keys, u64::from(key_count) * KEY_ENTRY_LEN as u64, false).map(Some),
        None => Ok(None),
    }
}

/// The same user, or root.
fn check_credentials(credentials: Credentials) -> Result<(), String> {
    if credentials.uid == own_uid() || credentials.uid == 0 {
        return Ok(());
    }
    Err(format!(
        "process {} runs as user {}, this one as user {}: only the same user or root may connect",
        credentials.pid,
        credentials.uid,
        own_uid()
    ))
}
