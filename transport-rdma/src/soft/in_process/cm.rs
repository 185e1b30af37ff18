//! The connection manager: letters between machines, and what each does to a connection. Letters of one machine to another keep their order; what they cause comes out
//! as events after a seeded number of looks.

use std::net::SocketAddr;

use super::link::Link;
use super::provider::InProcessProvider;
use super::world::MachineId;
use crate::soft::nic::PortCommand;
use crate::verbs::{ConnectParameters, Connection, ConnectionId, ConnectionRequest, Event, RejectReason};

/// A connection at a machine.
pub(super) type Place = (MachineId, ConnectionId);

/// What one side told the other about its RDMA READs.
#[derive(Clone, Copy)]
pub(super) struct Depths {
    pub(super) responder_resources: u8,
    pub(super) initiator_depth: u8,
}

impl Depths {
    pub(super) fn of(parameters: &ConnectParameters<'_>) -> Self {
        Self { responder_resources: parameters.responder_resources, initiator_depth: parameters.initiator_depth }
    }
}

/// Between connection managers.
pub(super) enum Letter {
    Request { from: Place, address: SocketAddr, peer: SocketAddr, private_data: Vec<u8>, depths: Depths },
    Reply { to: ConnectionId, from: Place, link: Link, private_data: Vec<u8>, depths: Depths },
    ReadyToUse { to: ConnectionId },
    Reject { to: ConnectionId, reason: RejectReason },
    Disconnect { to: ConnectionId },
    DisconnectReply { to: ConnectionId },
    PeerDied { machine: MachineId },
}

impl Letter {
    /// For choices.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Request { .. } => "connection request",
            Self::Reply { .. } => "connection reply",
            Self::ReadyToUse { .. } => "ready to use",
            Self::Reject { .. } => "reject",
            Self::Disconnect { .. } => "disconnect request",
            Self::DisconnectReply { .. } => "disconnect reply",
            Self::PeerDied { .. } => "death of a peer",
        }
    }
}

/// What is done once the queue pair has its link.
pub(super) enum Awaited {
    /// The passive side answers.
    Reply { link: Link, private_data: Vec<u8>, depths: Depths },
    /// The active side is up.
    Established { private_data: Vec<u8>, depths: (u8, u8) },
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Resolved.
    Resolved,
    /// Asked for by the peer, not answered.
    Requested,
    /// Asked for by us, not answered.
    Connecting,
    /// Accepted by us; the peer has not said that it is ready.
    Accepting,
    /// Both sides are ready.
    Established,
    /// Rejected or disconnected by one of the two.
    Ended,
}

impl InProcessProvider {
    /// One look at the mail.
    pub(super) fn read_mail(&mut self) {
        loop {
            let letter = self.world().next_letter(self.machine);
            match letter {
                Some(letter) => self.receive(letter),
                None => return,
            }
        }
    }

    fn receive(&mut self, letter: Letter) {
        match letter {
            Letter::Request { from, address, peer, private_data, depths } => {
                self.receive_request(from, address, peer, private_data, depths);
            }
            Letter::Reply { to, from, link, private_data, depths } => {
                self.receive_reply(to, from, link, private_data, depths);
            }
            Letter::ReadyToUse { to } => {
                let loses_established = self.world().options.loses_established;
                if self.advance(to, &[Stage::Accepting], Stage::Established).is_some() && !loses_established {
                    let depths = self.connections.get(&to).map_or((0, 0), |connection| {
                        (connection.peer_depths.responder_resources, connection.peer_depths.initiator_depth)
                    });
                    self.push_established(to, Vec::new(), depths);
                }
            }
            Letter::Reject { to, reason } => {
                if self.advance(to, &[Stage::Connecting, Stage::Accepting], Stage::Ended).is_some() {
                    self.push_event(Event::Rejected { connection: to, reason });
                }
            }
            Letter::Disconnect { to } => self.receive_disconnect(to),
            Letter::DisconnectReply { to } => {
                if self.connections.contains_key(&to) {
                    self.push_event(Event::Disconnected { connection: to });
                }
            }
            Letter::PeerDied { machine } => self.receive_death(machine),
        }
    }

    fn receive_request(
        &mut self,
        from: Place,
        address: SocketAddr,
        peer: SocketAddr,
        private_data: Vec<u8>,
        depths: Depths,
    ) {
        let listener = self.world().listeners.get(&address).copied();
        let Some((_, listener)) = listener.filter(|(machine, _)| *machine == self.machine) else {
            let reason = RejectReason::Unreachable(format!("nobody listens on {address}"));
            self.world().post(from.0, Letter::Reject { to: from.1, reason });
            return;
        };
        let id = self.add_connection(Stage::Requested, address);
        if let Some(record) = self.connections.get_mut(&id) {
            record.peer = Some(from);
            record.peer_depths = depths;
        }
        let request = ConnectionRequest {
            connection: Connection::new(id),
            listener,
            local: address,
            peer,
            private_data,
            responder_resources: depths.responder_resources,
            initiator_depth: depths.initiator_depth,
        };
        self.push_event(Event::ConnectRequest(request));
    }

    fn receive_reply(&mut self, to: ConnectionId, from: Place, link: Link, private_data: Vec<u8>, depths: Depths) {
        let queue_pair = self.advance(to, &[Stage::Connecting], Stage::Established);
        let (Some(queue_pair), Some(connection)) = (queue_pair.flatten(), self.connections.get_mut(&to)) else {
            // We have left meanwhile.
            let mut world = self.world();
            world.close(&link);
            world.post(from.0, Letter::Reject { to: from.1, reason: RejectReason::Consumer(Vec::new()) });
            return;
        };
        connection.peer = Some(from);
        let depths = (depths.responder_resources, depths.initiator_depth);
        connection.awaited = Some(Awaited::Established { private_data, depths });
        let parameters = connection.parameters;
        self.command(queue_pair.port, PortCommand::Connect { queue_pair: queue_pair.serial, link, parameters });
    }

    /// The queue pair has its link.
    pub(super) fn receive_connected(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (stage, peer) = (connection.stage, connection.peer);
        let (Some(awaited), Some((machine, to))) = (connection.awaited.take(), peer) else { return };
        match (awaited, stage) {
            (Awaited::Reply { link, private_data, depths }, Stage::Accepting) => {
                let from = (self.machine, id);
                self.world().post(machine, Letter::Reply { to, from, link, private_data, depths });
            }
            (Awaited::Established { private_data, depths }, Stage::Established) => {
                self.world().post(machine, Letter::ReadyToUse { to });
                self.push_established(id, private_data, depths);
            }
            (Awaited::Reply { link, .. }, _) => self.world().close(&link),
            (Awaited::Established { .. }, _) => {}
        }
    }

    /// The connection ends before its queue pair had its link: the peer hears of it as a rejection. Whether that was so.
    pub(super) fn give_up(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let (Some(awaited), Some((machine, to))) = (connection.awaited.take(), connection.peer) else { return false };
        connection.stage = Stage::Ended;
        let mut world = self.world();
        if let Awaited::Reply { link, .. } = awaited {
            world.close(&link);
        }
        world.post(machine, Letter::Reject { to, reason: RejectReason::Consumer(Vec::new()) });
        true
    }

    fn receive_disconnect(&mut self, to: ConnectionId) {
        if self.world().options.loses_disconnected {
            // Lost on the way: its receiver knows nothing, its sender's timewait ends all the same.
            return;
        }
        let until_ns = self.now_ns.saturating_add(self.timewait_ns);
        let Some(connection) = self.connections.get_mut(&to) else { return };
        let was_ended = connection.stage == Stage::Ended;
        connection.stage = Stage::Ended;
        connection.timewait_ns.get_or_insert(until_ns);
        let peer = connection.peer;
        let comes_twice = {
            let mut world = self.world();
            if let Some((machine, peer)) = peer {
                world.post(machine, Letter::DisconnectReply { to: peer });
            }
            world.choices.one_in("disconnected twice", 2)
        };
        if !was_ended || comes_twice {
            self.push_event(Event::Disconnected { connection: to });
        }
    }

    fn receive_death(&mut self, machine: MachineId) {
        let of_peer: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.peer.is_some_and(|(of, _)| of == machine))
            .map(|(id, _)| *id)
            .collect();
        for id in of_peer {
            if self.advance(id, &[Stage::Connecting], Stage::Ended).is_some() {
                let reason = RejectReason::TimedOut;
                self.push_event(Event::Rejected { connection: id, reason });
            } else if self.advance(id, &[Stage::Accepting, Stage::Established], Stage::Ended).is_some() {
                self.push_event(Event::Disconnected { connection: id });
            }
        }
    }

    fn push_established(&mut self, id: ConnectionId, private_data: Vec<u8>, depths: (u8, u8)) {
        let (responder_resources, initiator_depth) = depths;
        let event = Event::Established { connection: id, private_data, responder_resources, initiator_depth };
        self.push_event(event);
    }

    /// Moves a connection on if it is in one of these stages. Gives its queue pair then.
    fn advance(&mut self, id: ConnectionId, from: &[Stage], to: Stage) -> Option<Option<super::provider::Member>> {
        let connection = self.connections.get_mut(&id)?;
        if !from.contains(&connection.stage) {
            return None;
        }
        connection.stage = to;
        Some(connection.queue_pair.clone())
    }
}
