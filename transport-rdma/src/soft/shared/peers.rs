//! Peers: what they send, how they end, when they are forgotten.
//!
//! Control plane only. A peer that breaks the protocol is ended, alone: its socket is closed, its connections and queue pairs end. What it had mapped here stays until its queue pairs are
//! destroyed.

use std::os::fd::{AsRawFd, OwnedFd};

use super::SharedProvider;
use super::connection::State;
use super::message::Message;
use super::pair::Side;
use super::peer::{Peer, Stage};
use super::socket::{self, Arrival, MESSAGE_LEN_MAX};
use super::wake::Token;
use crate::soft::nic::PortHandle;
use crate::verbs::{Connection, ConnectionId, Event};

/// Messages of one peer that one look takes.
const MESSAGES_PER_LOOK: usize = 64;

impl SharedProvider {
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

    pub(super) fn hear(&mut self, number: u64, message: Message, descriptors: Vec<OwnedFd>) {
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
            (Stage::Live(..), Message::Doorbell { port }) => self.take_doorbell(number, port, descriptors),
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

    /// Sends to a peer; one that does not read, or is gone, is ended.
    pub(super) fn say(&mut self, number: u64, message: &Message, descriptors: Vec<OwnedFd>) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        match peer.send(message, descriptors) {
            Ok(()) => {}
            Err(failure) => self.end_peer(number, failure.text(), false),
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
        // Hosts come and go; one that we end did something wrong.
        match (peer.is_gone(), is_to_be_told) {
            (true, _) => {}
            (false, true) => tracing::warn!(peer = number, process = description, why, "peer ended"),
            (false, false) => tracing::debug!(peer = number, process = description, why, "peer ended"),
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
                // Their polls find out, if they are awake.
                self.ports.iter().for_each(PortHandle::wake);
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
        // Drops what waited for room, with its descriptors.
        let _ = peer.flush();
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
            match peer.tend(self.now_ns, self.options.connect_timeout_ns) {
                Ok(()) => {}
                Err(failure) => self.end_peer(number, failure.text(), false),
            }
            let Some(peer) = self.peers.get(&number) else { continue };
            if peer.deadline_ns.is_some_and(|deadline_ns| deadline_ns <= self.now_ns) {
                self.end_peer(number, "no answer in time: the process is stopped or overloaded", true);
            }
            self.forget_if_unused(number);
        }
    }

    pub(super) fn forget_if_unused(&mut self, number: u64) {
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

    pub(super) fn close(&self, peer: &mut Peer) {
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
