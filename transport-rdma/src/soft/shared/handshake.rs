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
use super::peer::{Peer, Stage};
use super::socket::{self, Credentials};
use super::wake::Token;
use super::worker::Outcome;
use crate::verbs::{Connection, ConnectionId, Event, Ticket};

/// Connections that one look takes from a listener.
const WELCOMES_PER_LOOK: usize = 64;
/// How long a listener rests when a connection could not be taken.
const WELCOME_AGAIN_NS: u64 = 100_000_000;

impl SharedProvider {
    /// Begins to find who listens on `address`.
    pub(super) fn resolve(&mut self, ticket: Ticket, address: SocketAddr) {
        // One handshake serves all who ask for the address meanwhile.
        let is_under_way = |peer: &&mut Peer| {
            !peer.is_gone() && peer.live_pair().is_none() && peer.resolves.iter().any(|&(_, known)| known == address)
        };
        if let Some(peer) = self.peers.values_mut().find(is_under_way) {
            return peer.resolves.push((ticket, address));
        }
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
        for _ in 0..WELCOMES_PER_LOOK {
            let Some(file) = self.listeners.get(&listener).and_then(|listener| listener.file.as_ref()) else { return };
            let socket = match socket::accept(file.socket()) {
                Ok(Some(socket)) => socket,
                Ok(None) => return,
                Err(error) => {
                    // Out of descriptors, mostly. The connection still waits there: looking at once would only turn in circles.
                    tracing::warn!(%error, "a connection could not be taken");
                    self.waker.unwatch(file.socket().as_raw_fd());
                    let until_ns = self.now_ns + WELCOME_AGAIN_NS;
                    if let Some(listener) = self.listeners.get_mut(&listener) {
                        listener.paused_until_ns = Some(until_ns);
                    }
                    return;
                }
            };
            let number = self.number();
            self.peers.insert(number, Peer::new(number, Side::Acceptor, Stage::AwaitPair, None));
            let refusal = match self.check_room(&socket) {
                Ok(()) => self.adopt(number, socket, Stage::AwaitPair),
                Err(text) => {
                    self.tally.peers_refused += 1;
                    let _ = socket::send(&socket, &Message::Refuse { text: text.clone() }.encode(), &[]);
                    Err(text)
                }
            };
            match refusal {
                Ok(()) => self.say(number, &Message::Hello { version: VERSION, instance: self.instance }, Vec::new()),
                Err(why) => self.end_peer(number, &why, false),
            }
        }
    }

    /// Whether there is a place for who is at the other end, which is entered already: no process can take all of them.
    fn check_room(&self, socket: &OwnedFd) -> Result<(), String> {
        let credentials = socket::peer_credentials(socket).map_err(|error| format!("SO_PEERCRED failed: {error}"))?;
        let others = self.peers.len() - 1;
        if others >= self.options.peer_count_max as usize {
            return Err(format!("{others} peer processes are connected, the limit peer_count_max"));
        }
        let is_same = |peer: &&Peer| {
            peer.side == Side::Acceptor && peer.credentials.is_some_and(|known| known.pid == credentials.pid)
        };
        let same = self.peers.values().filter(is_same);
        let count = same.clone().count();
        if count >= self.options.peer_count_per_process_max as usize {
            let pid = credentials.pid;
            return Err(format!("process {pid} is {count} peers already, the limit peer_count_per_process_max"));
        }
        let count = same.filter(|peer| !peer.is_gone() && peer.live_pair().is_none()).count();
        if count >= self.options.handshake_count_per_process_max as usize {
            let pid = credentials.pid;
            return Err(format!(
                "process {pid} has {count} handshakes under way, the limit handshake_count_per_process_max"
            ));
        }
        Ok(())
    }

    /// The peer has a socket now: checks who it is, and watches it.
    pub(super) fn adopt(&mut self, number: u64, socket: OwnedFd, stage: Stage) -> Result<(), String> {
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

    /// The listener's process is known: go on, or use the peer that it is already.
    pub(super) fn greet(&mut self, number: u64, version: u32, instance: Instance) {
        if version != VERSION {
            let text = format!("it speaks version {version} of the fabric, this process version {VERSION}");
            return self.end_peer(number, &text, true);
        }
        let process = |peer: &Peer| peer.credentials.map(|credentials| credentials.pid);
        let Some(own) = self.peers.get(&number).map(process) else { return };
        // An instance is what a process says; that it is the same process says the kernel. Without that, who claims another's instance would be given our connections to it.
        let is_same = |peer: &&mut Peer| {
            peer.number != number
                && peer.instance == Some(instance)
                && process(peer) == own
                && !peer.is_gone()
                && instance != self.instance
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
    pub(super) fn take_pair(
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
    pub(super) fn take_keys(&mut self, number: u64, key_count: u32, mut descriptors: Vec<OwnedFd>) {
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
    pub(super) fn answer_resolves(&mut self, number: u64) {
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
            remote_port: 0,
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
