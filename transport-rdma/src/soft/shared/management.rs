//! Connections: asked for, accepted, refused, ended.
//!
//! Control plane only. The messages are those of InfiniBand's connection manager, over the peers' Unix socket. A message for a connection that is gone is late, counted, and
//! answered where the peer would wait otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::SharedProvider;
use super::connection::{Pending, State};
use super::link::{Link, LinkCore, RING_LEN_MAX, RING_LEN_MIN, memory_len};
use super::mapping::{HandOverError, Mapping};
use super::message::{Accept, Connect, Message, PRIVATE_DATA_LEN_MAX, Parameters, Reason};
use super::pair::{NEWS_SLOT_COUNT, Side};
use super::worker::Outcome;
use crate::soft::nic::{LinkParameters, Nic, PortCommand};
use crate::verbs::{
    ConnectParameters, Connection, ConnectionId, ConnectionRequest, Event, ListenerId, RejectReason, Ticket,
};

use super::SharedWire;

/// Most private data of a request, as on InfiniBand.
const REQUEST_DATA_LEN_MAX: usize = 56;
/// Of a rejection.
const REJECT_DATA_LEN_MAX: usize = 148;
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
            Some((descriptor.as_ref()?.try_clone().ok()?, record.control.number(), record.news_slot, record.ring_len))
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
        let Some((descriptor, queue_pair_number, news_slot, ring_len)) = handed else { return };
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

    fn check_request(&self, number: u64, connect: &Connect) -> Result<(), Reason> {
        let refuse = |text: String| Err(Reason::Unreachable(text));
        let Some(peer) = self.peers.get(&number) else { return refuse("the peer is gone".to_owned()) };
        let Some(listener) = self.find_listener(connect.address).and_then(|at| self.listeners.get(&at)) else {
            return refuse(format!("nothing listens on {} any more", connect.address));
        };
        let ring_len_limit = self.options.ring_len;
        if !connect.ring_len.is_power_of_two() || !(RING_LEN_MIN..=RING_LEN_MAX).contains(&connect.ring_len) {
            return refuse(format!("a ring of {} bytes is no ring", connect.ring_len));
        }
        if connect.ring_len > ring_len_limit {
            return refuse(format!("a ring of {} bytes, the limit is ring_len = {ring_len_limit}", connect.ring_len));
        }
        if connect.news_slot >= NEWS_SLOT_COUNT || connect.private_data.len() > REQUEST_DATA_LEN_MAX {
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

    /// The listener of an address: its own, or the wildcard's.
    fn find_listener(&self, address: SocketAddr) -> Option<u64> {
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
                    listener.waiting_count -= 1;
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

    /// Accepts a request: its queue pair may be used from now on.
    pub(super) fn agree(&mut self, number: u64, parameters: &ConnectParameters<'_>) {
        let Some(connection) = self.connections.get(&number) else { return };
        if connection.state == State::Closed {
            let text = "the peer is gone".to_owned();
            return self.events.push_back(rejected_event(number, RejectReason::Unreachable(text)));
        }
        if connection.state != State::Requested {
            return;
        }
        let peer = connection.peer;
        let (remote, retry_count) = (connection.remote, connection.parameters.retry_count);
        let rnr_retry_count = connection.parameters.rnr_retry_count;
        let refusal = if parameters.private_data.len() > PRIVATE_DATA_LEN_MAX {
            Some(format!("private data of {} bytes, the limit is 196", parameters.private_data.len()))
        } else {
            // What we have for the peer is announced before it hears of the connection. An arena that cannot be offered hurts only who uses it.
            let _ = self.offer_arenas(peer);
            let link = LinkParameters { retry_count, rnr_retry_count };
            self.start_link(number, Side::Acceptor, link).is_none().then(|| "no queue pair was made for it".to_owned())
        };
        self.answered(number);
        let Some(remote) = remote else { return };
        if let Some(text) = refusal {
            let reason = Reason::Unreachable(text.clone());
            self.say(peer, &Message::Reject { to: remote, reason }, Vec::new());
            return self.fail_connection(number, RejectReason::Unreachable(text));
        }
        let deadline_ns = self.now_ns + self.options.connect_timeout_ns;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.state = State::Accepted { deadline_ns };
        let record = connection.queue_pair.and_then(|serial| self.queue_pairs.get(&serial));
        let Some(record) = record else { return };
        let accept = Accept {
            to: remote,
            from: number,
            queue_pair_number: record.control.number(),
            news_slot: record.news_slot,
            parameters: narrow(parameters),
            private_data: parameters.private_data.to_vec(),
        };
        connection.pending = Some(Pending::Answer(accept));
    }

    /// The NIC has taken a queue pair's link: now the other side may hear of it.
    pub(super) fn link_taken(&mut self, serial: u64) {
        let Some(number) = self.queue_pairs.get(&serial).map(|record| record.connection) else { return };
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let peer = connection.peer;
        match (connection.pending.take(), connection.state) {
            (Some(Pending::Answer(accept)), State::Accepted { .. }) => {
                connection.is_place_known = true;
                self.say(peer, &Message::Accept(accept), Vec::new());
            }
            (Some(Pending::Establish { private_data }), State::Connecting { .. }) => {
                connection.state = State::Established;
                let remote = connection.remote;
                self.events.push_back(Event::Established {
                    connection: ConnectionId(number),
                    private_data,
                    responder_resources: connection.parameters.responder_resources,
                    initiator_depth: connection.parameters.initiator_depth,
                });
                if let Some(remote) = remote {
                    self.say(peer, &Message::ReadyToUse { to: remote }, Vec::new());
                }
            }
            // Ended meanwhile; who ended it has told the peer.
            (_, _) => {}
        }
    }

    /// The queue pair had left its port before its link came.
    pub(super) fn link_refused(&mut self, serial: u64) {
        let Some(number) = self.queue_pairs.get(&serial).map(|record| record.connection) else { return };
        let is_pending = self.connections.get(&number).is_some_and(|connection| connection.pending.is_some());
        if is_pending {
            self.tell_abandoned(number);
            let text = "its queue pair was taken away before it was connected".to_owned();
            self.fail_connection(number, RejectReason::Unreachable(text));
        }
    }

    /// Tells the peer that what it asked for, or has accepted, comes to nothing.
    fn tell_abandoned(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let (peer, remote) = (connection.peer, connection.remote);
        match (connection.pending.take(), remote) {
            (Some(Pending::Answer(_)), Some(remote)) => {
                let reason = Reason::Consumer(Vec::new());
                self.say(peer, &Message::Reject { to: remote, reason }, Vec::new());
            }
            (Some(Pending::Establish { .. }), Some(remote)) => {
                self.say(peer, &Message::Disconnect { to: remote }, Vec::new());
            }
            (_, _) => {}
        }
    }

    /// Makes the link of a connection's queue pair, and has its NIC take it.
    fn start_link(&mut self, number: u64, side: Side, parameters: LinkParameters) -> Option<()> {
        let connection = self.connections.get(&number)?;
        let record = self.queue_pairs.get_mut(&connection.queue_pair?)?;
        let (pair, remote) = self.peers.get(&connection.peer)?.live_pair()?;
        let shared = (Arc::clone(pair), Arc::clone(remote));
        if record.ending.is_some() || record.core.is_some() {
            return None;
        }
        let (memory, _) = record.memory.take()?;
        let core = Arc::new(LinkCore::new(
            shared,
            side,
            memory,
            record.ring_len,
            record.news_slot,
            connection.remote_news_slot,
        ));
        record.core = Some(Arc::clone(&core));
        let queue_pair = record.control.serial();
        self.ports.get_mut(record.port)?.send(PortCommand::Connect { queue_pair, link: Link::new(core), parameters });
        Some(())
    }

    /// The peer accepted.
    pub(super) fn accepted(&mut self, peer: u64, accept: Accept) {
        if accept.news_slot >= NEWS_SLOT_COUNT {
            return self.blame(peer, "a place beyond the news board");
        }
        let connection = self.connections.get_mut(&accept.to).filter(|connection| connection.peer == peer);
        let is_wanted =
            connection.as_ref().is_some_and(|c| matches!(c.state, State::Connecting { .. }) && c.remote.is_none());
        let Some(connection) = connection.filter(|_| is_wanted) else {
            // Given up here, meanwhile: the peer must not wait.
            self.tally.late_messages += 1;
            self.say(peer, &Message::Disconnect { to: accept.from }, Vec::new());
            return self.say(peer, &Message::Ended { to: accept.from }, Vec::new());
        };
        connection.remote = Some(accept.from);
        connection.remote_queue_pair = Some(accept.queue_pair_number);
        connection.remote_news_slot = accept.news_slot;
        // As the manual page has it: how often RNR is tried again is the receiver's to say.
        let retry_count = connection.parameters.retry_count;
        connection.parameters = accept.parameters;
        let link = LinkParameters { retry_count, rnr_retry_count: accept.parameters.rnr_retry_count };
        if self.start_link(accept.to, Side::Connector, link).is_none() {
            self.say(peer, &Message::Disconnect { to: accept.from }, Vec::new());
            self.say(peer, &Message::Ended { to: accept.from }, Vec::new());
            let text = "its queue pair was destroyed before the peer answered".to_owned();
            return self.fail_connection(accept.to, RejectReason::Unreachable(text));
        }
        if let Some(connection) = self.connections.get_mut(&accept.to) {
            connection.pending = Some(Pending::Establish { private_data: accept.private_data });
        }
    }

    /// The peer refused.
    pub(super) fn rejected(&mut self, peer: u64, to: u64, reason: Reason) {
        let Some(connection) = self.connections.get_mut(&to).filter(|connection| connection.peer == peer) else {
            self.tally.late_messages += 1;
            // Its queue pair never was.
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.board.end_linger(to);
            }
            return;
        };
        connection.is_place_known = false;
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.board.end_linger(to);
        }
        if !matches!(connection.state, State::Connecting { .. }) {
            self.tally.late_messages += 1;
            return;
        }
        let reason = match reason {
            Reason::Consumer(data) => RejectReason::Consumer(data),
            Reason::Unreachable(text) => RejectReason::Unreachable(text),
            Reason::Stale => RejectReason::Stale,
            Reason::TimedOut => RejectReason::TimedOut,
        };
        self.fail_connection(to, reason);
    }

    pub(super) fn ready_to_use(&mut self, peer: u64, to: u64) {
        let connection = self.connections.get_mut(&to).filter(|connection| connection.peer == peer);
        match connection {
            Some(connection) if matches!(connection.state, State::Accepted { .. }) => {
                connection.state = State::Established;
                self.events.push_back(Event::Established {
                    connection: ConnectionId(to),
                    private_data: Vec::new(),
                    responder_resources: connection.parameters.responder_resources,
                    initiator_depth: connection.parameters.initiator_depth,
                });
            }
            Some(_) | None => self.tally.late_messages += 1,
        }
    }

    /// The peer ends a connection.
    pub(super) fn disconnected(&mut self, peer: u64, to: u64) {
        let Some(connection) = self.connections.get_mut(&to).filter(|connection| connection.peer == peer) else {
            self.tally.late_messages += 1;
            return;
        };
        let id = ConnectionId(to);
        match connection.state {
            State::Accepted { .. } | State::Established => {
                connection.state = State::Disconnected;
                self.events.push_back(Event::Disconnected { connection: id });
            }
            State::Disconnecting { .. } => {
                // Both at once.
                let remote = connection.remote;
                self.enter_timewait(to);
                self.events.push_back(Event::Disconnected { connection: id });
                self.reply(peer, remote);
            }
            State::Requested => connection.state = State::Closed,
            State::Disconnected | State::Timewait { .. } | State::Closed => {
                let remote = connection.remote;
                self.reply(peer, remote);
            }
            // It thought better of it.
            State::Connecting { .. } => self.fail_connection(to, RejectReason::Consumer(Vec::new())),
            State::Resolved => self.blame(peer, "the end of a connection that was not asked for"),
        }
    }

    pub(super) fn disconnect_replied(&mut self, peer: u64, to: u64) {
        let connection = self.connections.get(&to).filter(|connection| connection.peer == peer);
        if connection.is_some_and(|connection| matches!(connection.state, State::Disconnecting { .. })) {
            self.enter_timewait(to);
            self.events.push_back(Event::Disconnected { connection: ConnectionId(to) });
        } else {
            self.tally.late_messages += 1;
        }
    }

    /// The queue pair goes to the error state, and the peer is told.
    pub(super) fn end_connection(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let (peer, remote) = (connection.peer, connection.remote);
        let serial = connection.queue_pair;
        match connection.state {
            State::Connecting { .. } | State::Accepted { .. } if connection.pending.is_some() => {
                connection.state = State::Closed;
                self.tell_abandoned(number);
            }
            State::Accepted { .. } | State::Established => {
                let deadline_ns = self.now_ns + self.options.disconnect_timeout_ns;
                connection.state = State::Disconnecting { deadline_ns };
                if let Some(remote) = remote {
                    self.say(peer, &Message::Disconnect { to: remote }, Vec::new());
                }
            }
            State::Disconnected => {
                self.enter_timewait(number);
                self.reply(peer, remote);
            }
            State::Resolved
            | State::Connecting { .. }
            | State::Requested
            | State::Disconnecting { .. }
            | State::Timewait { .. }
            | State::Closed => {}
        }
        if let Some(serial) = serial {
            self.fail_queue_pair(serial);
        }
    }

    fn reply(&mut self, peer: u64, remote: Option<u64>) {
        if let Some(remote) = remote {
            self.say(peer, &Message::DisconnectReply { to: remote }, Vec::new());
        }
    }

    fn enter_timewait(&mut self, number: u64) {
        let deadline_ns = self.now_ns + self.options.timewait_ns;
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.state = State::Timewait { deadline_ns };
            if let Some(queue_pair) = connection.remote_queue_pair {
                self.timewait.push_back((deadline_ns, connection.peer, queue_pair));
            }
        }
    }

    /// Refuses a request, and destroys its connection.
    pub(super) fn refuse_request(&mut self, request: ConnectionRequest, private_data: &[u8]) {
        let number = request.connection.id().0;
        self.tally.requests_rejected += 1;
        let data = private_data[..private_data.len().min(REJECT_DATA_LEN_MAX)].to_vec();
        self.answered(number);
        self.drop_connection(number, Reason::Consumer(data));
    }

    /// A request was answered: the backlog has room again.
    fn answered(&mut self, number: u64) {
        let listener = self.connections.get_mut(&number).and_then(|connection| connection.listener.take());
        if let Some(listener) = listener.and_then(|listener| self.listeners.get_mut(&listener)) {
            listener.waiting_count -= 1;
        }
    }

    /// The connection came to nothing.
    pub(super) fn fail_connection(&mut self, number: u64, reason: RejectReason) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.state = State::Closed;
            self.events.push_back(rejected_event(number, reason));
        }
    }

    /// A peer is gone, with all its connections.
    pub(super) fn lose_connections(&mut self, peer: u64, why: &str) {
        let numbers: Vec<u64> = self
            .connections
            .values()
            .filter(|c| c.peer == peer && c.state != State::Closed)
            .map(|c| c.number)
            .collect();
        for number in numbers {
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            let id = ConnectionId(number);
            match connection.state {
                State::Connecting { .. } => {
                    self.fail_connection(number, RejectReason::Unreachable(why.to_owned()));
                }
                State::Accepted { .. } | State::Established | State::Disconnecting { .. } => {
                    connection.state = State::Closed;
                    self.events.push_back(Event::Disconnected { connection: id });
                }
                State::Timewait { .. } => {
                    connection.state = State::Closed;
                    self.events.push_back(Event::TimewaitExit { connection: id });
                }
                State::Requested | State::Disconnected => connection.state = State::Closed,
                // Connecting will say so.
                State::Resolved | State::Closed => {}
            }
        }
        // Their queue pairs see the peer gone on their own links, which tells what was sent and not consumed from what is only flushed.
        self.timewait.retain(|&(_, known, _)| known != peer);
    }

    /// Deadlines of connections.
    pub(super) fn expire(&mut self) {
        let now_ns = self.now_ns;
        let is_due = |state: State| state.deadline_ns().is_some_and(|deadline_ns| deadline_ns <= now_ns);
        let due: Vec<(u64, State)> =
            self.connections.values().filter(|c| is_due(c.state)).map(|c| (c.number, c.state)).collect();
        for (number, state) in due {
            let connection = ConnectionId(number);
            match state {
                State::Connecting { .. } => {
                    self.tell_abandoned(number);
                    self.fail_connection(number, RejectReason::TimedOut);
                }
                State::Accepted { .. } => {
                    self.tell_abandoned(number);
                    if let Some(serial) = self.connections.get(&number).and_then(|connection| connection.queue_pair) {
                        self.fail_queue_pair(serial);
                    }
                    self.fail_connection(number, RejectReason::TimedOut);
                }
                State::Disconnecting { .. } => {
                    self.enter_timewait(number);
                    self.events.push_back(Event::Disconnected { connection });
                }
                State::Timewait { .. } => {
                    if let Some(record) = self.connections.get_mut(&number) {
                        record.state = State::Closed;
                    }
                    self.events.push_back(Event::TimewaitExit { connection });
                }
                State::Resolved | State::Requested | State::Established | State::Disconnected | State::Closed => {}
            }
        }
        self.timewait.retain(|&(deadline_ns, ..)| deadline_ns > now_ns);
    }

    /// Begins to destroy a connection: what nobody has fetched of it is dropped.
    pub(super) fn destroy_connection(&mut self, ticket: Ticket, number: u64) {
        self.events.retain(|event| event_connection(event) != Some(number));
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.destroy = Some(ticket);
        }
    }

    /// Ends the destroys whose queue pairs are gone and whose events are acknowledged.
    pub(super) fn finish_connections(&mut self) {
        let done: Vec<(u64, Ticket)> = self
            .connections
            .values()
            .filter(|c| c.queue_pair.is_none() && c.unacknowledged == 0)
            .filter_map(|c| Some((c.number, c.destroy?)))
            .collect();
        for (number, ticket) in done {
            self.events.retain(|event| event_connection(event) != Some(number));
            self.answered(number);
            self.drop_connection(number, Reason::Consumer(Vec::new()));
            self.events.push_back(Event::ConnectionDestroyed { ticket });
        }
    }

    /// Takes a connection out, and tells the peer what it has to know.
    fn drop_connection(&mut self, number: u64, reason: Reason) {
        self.tell_abandoned(number);
        let Some(connection) = self.connections.remove(&number) else { return };
        let peer = connection.peer;
        if let Some(remote) = connection.remote {
            match connection.state {
                State::Requested => self.say(peer, &Message::Reject { to: remote, reason }, Vec::new()),
                State::Accepted { .. } | State::Established => {
                    self.say(peer, &Message::Disconnect { to: remote }, Vec::new());
                }
                State::Disconnected => self.say(peer, &Message::DisconnectReply { to: remote }, Vec::new()),
                State::Resolved
                | State::Connecting { .. }
                | State::Disconnecting { .. }
                | State::Timewait { .. }
                | State::Closed => {}
            }
        }
        if let Some((mapping, ring_len)) = connection.memory {
            self.worker.discard(mapping);
            self.uncharge(peer, memory_len(ring_len) as u64);
        }
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.connection_count -= 1;
        }
    }

    pub(super) fn uncharge(&mut self, peer: u64, len: u64) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.mapped_len = peer.mapped_len.saturating_sub(len);
        }
    }

    /// Stops listening: requests that nobody has fetched are refused.
    pub(super) fn unlisten(&mut self, ticket: Ticket, number: u64) {
        let mut kept = std::collections::VecDeque::new();
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::ConnectRequest(request) if request.listener.0 == number => {
                    self.refuse_request(request, &[]);
                }
                event => kept.push_back(event),
            }
        }
        // What refusing may have caused stands behind.
        kept.append(&mut self.events);
        self.events = kept;
        if let Some(listener) = self.listeners.get_mut(&number) {
            if let Some(file) = listener.file.take() {
                self.waker.unwatch(file.socket().as_raw_fd());
            }
            listener.unlisten = Some(ticket);
        }
    }

    pub(super) fn finish_listeners(&mut self) {
        let is_done = |listener: &super::connection::Listener| listener.unacknowledged == 0;
        let done: Vec<(u64, Ticket)> = self
            .listeners
            .iter()
            .filter(|(_, listener)| is_done(listener))
            .filter_map(|(&number, listener)| Some((number, listener.unlisten?)))
            .collect();
        for (number, ticket) in done {
            self.listeners.remove(&number);
            self.events.push_back(Event::Unlistened { ticket });
        }
    }

    /// Counts what was given out and what was acknowledged, for the object that it is about.
    pub(super) fn count_unacknowledged(&mut self, event: &Event<Nic<SharedWire>>, change: i32) {
        let count = match event {
            Event::ConnectRequest(request) => {
                self.listeners.get_mut(&request.listener.0).map(|listener| &mut listener.unacknowledged)
            }
            Event::LastWqeReached { connection } | Event::QueuePairFatal { connection } => self
                .connections
                .get(&connection.0)
                .and_then(|connection| connection.queue_pair)
                .and_then(|serial| self.queue_pairs.get_mut(&serial))
                .map(|record| &mut record.unacknowledged),
            Event::Established { connection, .. }
            | Event::Rejected { connection, .. }
            | Event::Disconnected { connection }
            | Event::TimewaitExit { connection } => {
                self.connections.get_mut(&connection.0).map(|connection| &mut connection.unacknowledged)
            }
            Event::Registered { .. }
            | Event::Deregistered { .. }
            | Event::QueuePairCreated { .. }
            | Event::QueuePairDestroyed { .. }
            | Event::ConnectionDestroyed { .. }
            | Event::Unlistened { .. }
            | Event::Resolved { .. }
            | Event::DeviceRemoved => None,
        };
        if let Some(count) = count {
            *count = count.saturating_add_signed(change);
        }
    }

    /// Whether some destroy may wait for an acknowledgement.
    pub(super) fn is_destroying(&self) -> bool {
        self.connections.values().any(|connection| connection.destroy.is_some())
            || self.queue_pairs.values().any(|record| record.ending.is_some())
            || self.listeners.values().any(|listener| listener.unlisten.is_some())
    }
}

/// The connection that an event of the CM or of its queue pair is about.
fn event_connection(event: &Event<Nic<SharedWire>>) -> Option<u64> {
    match event {
        Event::LastWqeReached { connection }
        | Event::QueuePairFatal { connection }
        | Event::Established { connection, .. }
        | Event::Rejected { connection, .. }
        | Event::Disconnected { connection }
        | Event::TimewaitExit { connection } => Some(connection.0),
        Event::ConnectRequest(_)
        | Event::Registered { .. }
        | Event::Deregistered { .. }
        | Event::QueuePairCreated { .. }
        | Event::QueuePairDestroyed { .. }
        | Event::ConnectionDestroyed { .. }
        | Event::Unlistened { .. }
        | Event::Resolved { .. }
        | Event::DeviceRemoved => None,
    }
}

fn rejected_event(number: u64, reason: RejectReason) -> Event<Nic<SharedWire>> {
    Event::Rejected { connection: ConnectionId(number), reason }
}

fn narrow(parameters: &ConnectParameters<'_>) -> Parameters {
    Parameters {
        responder_resources: parameters.responder_resources,
        initiator_depth: parameters.initiator_depth,
        retry_count: parameters.retry_count.min(7),
        rnr_retry_count: parameters.rnr_retry_count.min(7),
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
