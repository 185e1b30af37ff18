//! Connection requests: asked here, and asked of us.
//!
//! Control plane only. The messages are those of InfiniBand's connection manager, over the peers' Unix socket. What a peer asks for is checked and charged before its memory is
//! mapped; a refusal names the limit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::SharedProvider;
use super::answers::narrow;
use super::connection::State;
use super::link::{RING_LEN_MAX, RING_LEN_MIN, memory_len};
use super::mapping::{HandOverError, Mapping};
use super::message::{Connect, Message, Reason};
use super::pair::{NEWS_SLOT_COUNT, PORT_COUNT_MAX};
use super::worker::Outcome;
use crate::verbs::{ConnectParameters, Connection, ConnectionId, ConnectionRequest, Event, ListenerId, RejectReason};

/// Most private data of a request, as on InfiniBand.
const REQUEST_DATA_LEN_MAX: usize = 56;
/// First port number that a connecting side may call itself.
const EPHEMERAL_PORT: u64 = 49152;

impl SharedProvider {
    /// Asks the peer for a connection.
    pub(super) fn ask(&mut self, number: u64, parameters: &ConnectParameters<'_>) {
        let Some(connection) = self.connections.get(&number) else { return };
        if connection.state != State::Resolved {
            return;
        }
        let (peer, address, serial) = (connection.peer, connection.address, connection.queue_pair);
        let refuse = |text: String| Some(RejectReason::Unreachable(text));
        let lost = match self.peers.get(&peer) {
            Some(peer) if peer.live_pair().is_some() => None,
            Some(peer) => Some(peer.why.clone()),
            None => Some("its process has ended".to_owned()),
        };
        let record = serial.and_then(|serial| self.queue_pairs.get(&serial));
        let handed = record.and_then(|record| {
            let (_, descriptor) = record.memory.as_ref()?;
            let port = u32::try_from(record.port).unwrap_or(u32::MAX);
            let descriptor = descriptor.as_ref()?.try_clone().ok()?;
            Some((descriptor, record.control.number(), record.news_slot, port, record.ring_len))
        });
        let failure = if let Some(why) = lost {
            refuse(why)
        } else if parameters.private_data.len() > REQUEST_DATA_LEN_MAX {
            refuse(format!("private data of {} bytes, the limit is 56", parameters.private_data.len()))
        } else if handed.is_none() {
            refuse("no queue pair was made for the connection".to_owned())
        } else {
            self.offer_arenas(peer).err().map(RejectReason::Unreachable)
        };
        if let Some(reason) = failure {
            return self.fail_connection(number, reason);
        }
        let Some((descriptor, queue_pair_number, news_slot, port, ring_len)) = handed else { return };
        let deadline_ns = self.now_ns + self.options.connect_timeout_ns;
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.state = State::Connecting { deadline_ns };
            connection.parameters.retry_count = parameters.retry_count.min(7);
            connection.is_place_known = true;
        }
        let connect = Connect {
            from: number,
            queue_pair_number,
            address,
            source: source_address(address, number),
            ring_len,
            news_slot,
            port,
            parameters: narrow(parameters),
            private_data: parameters.private_data.to_vec(),
        };
        self.say(peer, &Message::Connect(connect), vec![descriptor]);
    }

    /// A peer asks. Everything is checked and charged before its memory is mapped.
    pub(super) fn asked(&mut self, peer: u64, connect: Connect, mut descriptors: Vec<OwnedFd>) {
        let Some(descriptor) = descriptors.pop() else { return };
        if let Err(reason) = self.check_request(peer, &connect) {
            self.tally.requests_rejected += 1;
            return self.say(peer, &Message::Reject { to: connect.from, reason }, Vec::new());
        }
        let len = memory_len(connect.ring_len) as u64;
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.mapped_len += len;
            peer.connection_count += 1;
        }
        if let Some(listener) = self.find_listener(connect.address).and_then(|at| self.listeners.get_mut(&at)) {
            listener.waiting_count += 1;
        }
        self.hold(peer);
        self.worker.begin(move || {
            let result = Mapping::take_over(&descriptor, len, true);
            Outcome::RingsMapped { peer, connect, result }
        });
    }

    pub(super) fn check_request(&self, number: u64, connect: &Connect) -> Result<(), Reason> {
        let refuse = |text: String| Err(Reason::Unreachable(text));
        let Some(peer) = self.peers.get(&number) else { return refuse("the peer is gone".to_owned()) };
        let Some(listener) = self.find_listener(connect.address).and_then(|at| self.listeners.get(&at)) else {
            return refuse(format!("nothing listens on {} any more", connect.address));
        };
        let ring_len_limit = self.options.ring_len;
        if !connect.ring_len.is_power_of_two() || !(RING_LEN_MIN..=RING_LEN_MAX).contains(&connect.ring_len) {
            return refuse(format!("a ring of {} bytes is no ring", connect.ring_len));
        }
        // Longer is more memory than is allowed. In a shorter one our longest SEND would wait for room for ever.
        if connect.ring_len != ring_len_limit {
            return refuse(format!(
                "a ring of {} bytes, this process needs ring_len = {ring_len_limit}: give both the same",
                connect.ring_len
            ));
        }
        if connect.news_slot >= NEWS_SLOT_COUNT
            || connect.port as usize >= PORT_COUNT_MAX
            || connect.private_data.len() > REQUEST_DATA_LEN_MAX
        {
            return refuse("a request that nobody makes".to_owned());
        }
        if peer.connection_count >= self.options.connection_count_per_peer_max {
            let limit = self.options.connection_count_per_peer_max;
            return refuse(format!(
                "{} connections with this process, the limit is connection_count_per_peer_max = {limit}",
                peer.connection_count
            ));
        }
        let mapped_len = peer.mapped_len.saturating_add(memory_len(connect.ring_len) as u64);
        if mapped_len > self.options.mapped_len_per_peer_max {
            let limit = self.options.mapped_len_per_peer_max;
            return refuse(format!("{mapped_len} bytes mapped, the limit is mapped_len_per_peer_max = {limit}"));
        }
        if listener.waiting_count >= self.options.backlog_count_max {
            let limit = self.options.backlog_count_max;
            return refuse(format!(
                "{} requests wait for an answer, the limit is backlog_count_max = {limit}: try again later",
                listener.waiting_count
            ));
        }
        let is_known = self.connections.values().any(|connection| {
            connection.peer == number
                && connection.remote_queue_pair == Some(connect.queue_pair_number)
                && connection.state != State::Closed
        });
        let in_timewait = self
            .timewait
            .iter()
            .any(|&(_, peer, queue_pair)| peer == number && queue_pair == connect.queue_pair_number);
        if is_known || in_timewait { Err(Reason::Stale) } else { Ok(()) }
    }

    pub(super) fn rings_mapped(&mut self, peer: u64, connect: Connect, result: Result<Mapping, HandOverError>) {
        self.resume(peer);
        let listener = self.find_listener(connect.address);
        let is_live = self.peers.get(&peer).is_some_and(|peer| peer.live_pair().is_some());
        if let Some(peer) = self.peers.get_mut(&peer) {
            // Counted again with the connection.
            peer.connection_count -= 1;
        }
        let failure = match (&result, listener) {
            (Err(error), _) => {
                self.tally.memory_refused += 1;
                Some(format!("the rings' memory cannot be used: {error}"))
            }
            (Ok(_), None) => Some(format!("nothing listens on {} any more", connect.address)),
            (Ok(_), Some(_)) if !is_live => Some("the peer is gone".to_owned()),
            (Ok(_), Some(_)) => None,
        };
        let (mapping, listener) = match (result, listener, failure) {
            (Ok(mapping), Some(listener), None) => (mapping, listener),
            (result, listener, failure) => {
                self.uncharge(peer, memory_len(connect.ring_len) as u64);
                if let Some(listener) = listener.and_then(|listener| self.listeners.get_mut(&listener)) {
                    // It may be another listener of the address by now.
                    listener.waiting_count = listener.waiting_count.saturating_sub(1);
                }
                self.worker.discard(result.ok());
                self.tally.requests_rejected += 1;
                let reason = Reason::Unreachable(failure.unwrap_or_default());
                return self.say(peer, &Message::Reject { to: connect.from, reason }, Vec::new());
            }
        };
        let number = self.new_connection(peer, connect.address, State::Requested);
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.listener = Some(listener);
        connection.remote = Some(connect.from);
        connection.remote_queue_pair = Some(connect.queue_pair_number);
        connection.parameters = connect.parameters;
        connection.remote_news_slot = connect.news_slot;
        connection.remote_port = connect.port;
        connection.memory = Some((mapping, connect.ring_len));
        self.events.push_back(Event::ConnectRequest(ConnectionRequest {
            connection: Connection::new(ConnectionId(number)),
            listener: ListenerId(listener),
            local: connect.address,
            peer: connect.source,
            private_data: connect.private_data,
            responder_resources: connect.parameters.responder_resources,
            initiator_depth: connect.parameters.initiator_depth,
        }));
    }

    /// The listener of an address: its own, or the wildcard's.
    pub(super) fn find_listener(&self, address: SocketAddr) -> Option<u64> {
        let listens = |wanted: SocketAddr| {
            let mut found = self.listeners.iter().filter(|(_, listener)| listener.file.is_some());
            found.find(|(_, listener)| listener.address == wanted).map(|(&number, _)| number)
        };
        let wildcard = match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        listens(address).or_else(|| listens(SocketAddr::new(wildcard, address.port())))
    }
}

/// What the connecting side calls itself: there are no real ports here.
fn source_address(to: SocketAddr, number: u64) -> SocketAddr {
    let port = EPHEMERAL_PORT + number % (u64::from(u16::MAX) - EPHEMERAL_PORT + 1);
    let ip = match to.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, u16::try_from(port).unwrap_or(u16::MAX))
}
