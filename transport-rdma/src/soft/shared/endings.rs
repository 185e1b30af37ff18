//! Connections: ended by us, by the peer, by time, by the peer's death; and destroyed.
//!
//! Control plane only.

use super::SharedProvider;
use super::connection::State;
use super::link::memory_len;
use super::listening::event_connection;
use super::message::{Message, Reason};
use crate::verbs::{ConnectionId, ConnectionRequest, Event, RejectReason, Ticket};

/// Most private data of a rejection, as on InfiniBand.
const REJECT_DATA_LEN_MAX: usize = 148;

impl SharedProvider {
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

    pub(super) fn reply(&mut self, peer: u64, remote: Option<u64>) {
        if let Some(remote) = remote {
            self.say(peer, &Message::DisconnectReply { to: remote }, Vec::new());
        }
    }

    pub(super) fn enter_timewait(&mut self, number: u64) {
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

    /// The connection came to nothing.
    pub(super) fn fail_connection(&mut self, number: u64, reason: RejectReason) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.state = State::Closed;
            self.events.push_back(Event::Rejected { connection: ConnectionId(number), reason });
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
    pub(super) fn drop_connection(&mut self, number: u64, reason: Reason) {
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
}
