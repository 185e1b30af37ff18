//! The connection manager: letters between machines, and what each does to a connection. Letters of one machine to another keep their order; what they cause comes out
//! as events after a seeded number of looks.

use std::net::SocketAddr;

use super::link::{Held, Link, lock};
use super::machine::MachineId;
use super::provider::{InProcessProvider, Member, Record};

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

/// A peer asks for a connection.
pub(super) struct Request {
    pub(super) from: Place,
    /// Of its queue pair.
    pub(super) number: u32,
    pub(super) address: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) private_data: Vec<u8>,
    pub(super) depths: Depths,
}

/// Between connection managers.
pub(super) enum Letter {
    Request(Request),
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
            Self::Request(_) => "connection request",
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

    /// Sends a letter. What a machine without a device sends is lost; whoever waits for it is told by its own manager, in time.
    pub(super) fn post(&self, to: MachineId, letter: Letter) {
        let mut world = self.world();
        if !world.machine(self.machine).is_without_device() {
            world.post(to, letter);
            return;
        }
        let waiting = match letter {
            Letter::Reply { to, link, .. } => {
                world.close(&link);
                to
            }
            Letter::Reject { to, .. } => to,
            Letter::Request(_)
            | Letter::ReadyToUse { .. }
            | Letter::Disconnect { .. }
            | Letter::DisconnectReply { .. }
            | Letter::PeerDied { .. } => return,
        };
        world.post(to, Letter::Reject { to: waiting, reason: RejectReason::TimedOut });
    }

    fn receive(&mut self, letter: Letter) {
        if self.is_removed() {
            self.receive_without_device(letter);
            return;
        }
        match letter {
            Letter::Request(request) => self.receive_request(request),
            Letter::Reply { to, from, link, private_data, depths } => {
                self.receive_reply(to, from, link, private_data, depths);
            }
            Letter::ReadyToUse { to } => {
                let loses_established = self.world().machine(self.machine).options.loses_established;
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

    /// Only who waits for an answer gets one.
    fn receive_without_device(&mut self, letter: Letter) {
        match letter {
            Letter::Request(Request { from: (machine, to), .. }) => {
                self.post(machine, Letter::Reject { to, reason: RejectReason::TimedOut });
            }
            Letter::Reply { from: (machine, to), link, .. } => {
                self.world().close(&link);
                self.post(machine, Letter::Reject { to, reason: RejectReason::TimedOut });
            }
            Letter::ReadyToUse { .. }
            | Letter::Reject { .. }
            | Letter::Disconnect { .. }
            | Letter::DisconnectReply { .. }
            | Letter::PeerDied { .. } => {}
        }
    }

    fn receive_request(&mut self, request: Request) {
        let Request { from, number, address, peer, private_data, depths } = request;
        if let Some(reason) = self.rejection_of(from.0, number) {
            self.post(from.0, Letter::Reject { to: from.1, reason });
            return;
        }
        let listener = self.world().listeners.get(&address).copied();
        let Some((_, listener)) = listener.filter(|(machine, _)| *machine == self.machine) else {
            let reason = RejectReason::Unreachable(format!("nobody listens on {address}"));
            self.post(from.0, Letter::Reject { to: from.1, reason });
            return;
        };
        let id = self.add_connection(Stage::Requested, address);
        if let Some(record) = self.connections.get_mut(&id) {
            record.peer = Some(from);
            record.peer_number = Some(number);
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

    /// Why a request is rejected before anybody hears of it.
    fn rejection_of(&mut self, peer: MachineId, number: u32) -> Option<RejectReason> {
        let (asked, faults, choices) = {
            let mut world = self.world();
            let choices = world.choices.clone();
            let machine = world.machine(self.machine);
            (machine.rejections.pop_front(), machine.options.manager, choices)
        };
        if asked.is_some() {
            return asked;
        }
        if faults.rejects_stale && self.knows_old(peer, number) {
            return Some(RejectReason::Stale);
        }
        choices.one_in("request rejected", faults.rejects_one_in).then(|| {
            match choices.below("reason of a rejection", 4) {
                0 => RejectReason::Stale,
                1 => RejectReason::TimedOut,
                2 => RejectReason::Consumer(Vec::new()),
                _ => RejectReason::Unreachable("the network says so".to_owned()),
            }
        })
    }

    /// Whether a connection of this queue pair number is in timewait, or lives: then it ends now, since its peer does not know it any more.
    fn knows_old(&mut self, peer: MachineId, number: u32) -> bool {
        let is_one = |record: &Record| {
            record.peer.is_some_and(|(machine, _)| machine == peer) && record.peer_number == Some(number)
        };
        let live = self.connections.iter().find(|(_, record)| is_one(record) && record.stage == Stage::Established);
        let Some(id) = live.map(|(id, _)| *id) else {
            return self.timewaits.iter().any(|(of, known, _)| (*of, *known) == (peer, number));
        };
        self.begin_timewait(id);
        self.push_event(Event::Disconnected { connection: id });
        true
    }

    /// A connection that was up has ended.
    pub(super) fn begin_timewait(&mut self, id: ConnectionId) {
        let until_ns = self.now_ns.saturating_add(self.timewait_ns);
        let Some(record) = self.connections.get_mut(&id) else { return };
        record.stage = Stage::Ended;
        if record.timewait_ns.is_none() {
            record.timewait_ns = Some(until_ns);
            if let (Some((machine, _)), Some(number)) = (record.peer, record.peer_number) {
                self.timewaits.push((machine, number, until_ns));
            }
        }
    }

    fn receive_reply(&mut self, to: ConnectionId, from: Place, link: Link, private_data: Vec<u8>, depths: Depths) {
        let queue_pair = self.advance(to, &[Stage::Connecting], Stage::Established);
        let (Some(queue_pair), Some(connection)) = (queue_pair.flatten(), self.connections.get_mut(&to)) else {
            // We have left meanwhile.
            self.world().close(&link);
            self.post(from.0, Letter::Reject { to: from.1, reason: RejectReason::Consumer(Vec::new()) });
            return;
        };
        lock(&self.world).hand_over(&link, Held::ByItsMachine);
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
                if self.loses_reply() {
                    self.world().close(&link);
                    self.lose_reply(id, (machine, to));
                    return;
                }
                let from = (self.machine, id);
                self.world().hand_over(&link, Held::InALetter);
                self.post(machine, Letter::Reply { to, from, link, private_data, depths });
            }
            (Awaited::Established { private_data, depths }, Stage::Established) => {
                self.post(machine, Letter::ReadyToUse { to });
                self.push_established(id, private_data, depths);
            }
            (Awaited::Reply { link, .. }, _) => self.world().close(&link),
            (Awaited::Established { .. }, _) => {}
        }
    }

    fn loses_reply(&self) -> bool {
        let mut world = self.world();
        let one_in = world.machine(self.machine).options.manager.loses_reply_one_in;
        world.choices.one_in("reply lost", one_in)
    }

    /// Neither side hears of the other again: the active side's connect times out, and so may our accept.
    fn lose_reply(&mut self, id: ConnectionId, (machine, to): Place) {
        let tells = {
            let mut world = self.world();
            // By the active side's own timer, which needs nothing from here.
            world.post(machine, Letter::Reject { to, reason: RejectReason::TimedOut });
            world.choices.one_in("accept times out", 2)
        };
        if tells && let Some(record) = self.connections.get_mut(&id) {
            record.stage = Stage::Ended;
            self.push_event(Event::Rejected { connection: id, reason: RejectReason::TimedOut });
        }
    }

    /// Both ends are told that they are disconnected.
    pub(super) fn cut(&mut self, id: ConnectionId) {
        let Some(record) = self.connections.get(&id) else { return };
        if record.stage != Stage::Established && record.stage != Stage::Accepting {
            return;
        }
        let peer = record.peer;
        self.begin_timewait(id);
        self.push_event(Event::Disconnected { connection: id });
        if let Some((machine, to)) = peer {
            self.world().post(machine, Letter::Disconnect { to });
        }
    }

    /// The connection ends before its queue pair had its link: the peer hears of it as a rejection. Whether that was so.
    pub(super) fn give_up(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let (Some(awaited), Some((machine, to))) = (connection.awaited.take(), connection.peer) else { return false };
        connection.stage = Stage::Ended;
        if let Awaited::Reply { link, .. } = awaited {
            self.world().close(&link);
        }
        self.post(machine, Letter::Reject { to, reason: RejectReason::Consumer(Vec::new()) });
        true
    }

    fn receive_disconnect(&mut self, to: ConnectionId) {
        if self.world().machine(self.machine).options.loses_disconnected {
            // Lost on the way: its receiver knows nothing, its sender's timewait ends all the same.
            return;
        }
        let Some(connection) = self.connections.get(&to) else { return };
        let was_ended = connection.stage == Stage::Ended;
        let peer = connection.peer;
        self.begin_timewait(to);
        if let Some((machine, peer)) = peer {
            self.post(machine, Letter::DisconnectReply { to: peer });
        }
        let comes_twice = self.world().choices.one_in("disconnected twice", 2);
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
    fn advance(&mut self, id: ConnectionId, from: &[Stage], to: Stage) -> Option<Option<Member>> {
        let connection = self.connections.get_mut(&id)?;
        if !from.contains(&connection.stage) {
            return None;
        }
        connection.stage = to;
        Some(connection.queue_pair.clone())
    }
}
