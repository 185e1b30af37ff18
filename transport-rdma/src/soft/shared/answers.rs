//! Answers to connection requests: given here, and given to us.
//!
//! Control plane only. Nobody is told that a connection is up before the NIC has taken its link. A message for a connection that is gone is late, counted, and answered where
//! the peer would wait otherwise.

use std::sync::Arc;

use super::SharedProvider;
use super::connection::{Pending, State};
use super::link::{Link, LinkCore};
use super::message::{Accept, Message, PRIVATE_DATA_LEN_MAX, Parameters, Reason};
use super::pair::{NEWS_SLOT_COUNT, PORT_COUNT_MAX, Side};
use crate::soft::nic::{LinkParameters, PortCommand};
use crate::verbs::{ConnectParameters, ConnectionId, Event, RejectReason};

impl SharedProvider {
    /// Accepts a request: its queue pair may be used from now on.
    pub(super) fn agree(&mut self, number: u64, parameters: &ConnectParameters<'_>) {
        let Some(connection) = self.connections.get(&number) else { return };
        if connection.state == State::Closed {
            let text = "the peer is gone".to_owned();
            return self.fail_connection(number, RejectReason::Unreachable(text));
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
            port: u32::try_from(record.port).unwrap_or(u32::MAX),
            parameters: narrow(parameters),
            private_data: parameters.private_data.to_vec(),
        };
        connection.pending = Some(Pending::Answer(accept));
    }

    /// The peer accepted.
    pub(super) fn accepted(&mut self, peer: u64, accept: Accept) {
        if accept.news_slot >= NEWS_SLOT_COUNT || accept.port as usize >= PORT_COUNT_MAX {
            return self.blame(peer, "a place beyond the news board, or a port that nobody has");
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
        connection.remote_port = accept.port;
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

    /// Makes the link of a connection's queue pair, and has its NIC take it.
    pub(super) fn start_link(&mut self, number: u64, side: Side, parameters: LinkParameters) -> Option<()> {
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
            (connection.remote_news_slot, connection.remote_port),
        ));
        record.core = Some(Arc::clone(&core));
        let queue_pair = record.control.serial();
        self.ports.get_mut(record.port)?.send(PortCommand::Connect { queue_pair, link: Link::new(core), parameters });
        Some(())
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
    pub(super) fn tell_abandoned(&mut self, number: u64) {
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
}

pub(super) fn narrow(parameters: &ConnectParameters<'_>) -> Parameters {
    Parameters {
        responder_resources: parameters.responder_resources,
        initiator_depth: parameters.initiator_depth,
        retry_count: parameters.retry_count.min(7),
        rnr_retry_count: parameters.rnr_retry_count.min(7),
    }
}
