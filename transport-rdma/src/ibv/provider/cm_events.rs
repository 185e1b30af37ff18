//! Events of the connection manager become the interface's.
//!
//! One is fetched at a time. An id in an event lives until the event is acknowledged, whatever the worker does meanwhile.

use super::super::channel::Facts;
use super::super::id::Id;
use super::super::port::IbvPort;
use super::super::status;
use super::super::sys::rdma_cm_event_type as kind;
use super::connections::why_not;
use super::{Acknowledgement, ConnectionRecord, IbvProvider, Stage};
use crate::verbs::{
    AddressUser, Connection, ConnectionId, ConnectionRequest, Event, ListenerId, RejectReason, Unacknowledged,
    VerbsError,
};

impl IbvProvider {
    pub(super) fn next_cm_event(&mut self) -> Option<Unacknowledged<IbvPort>> {
        while let Some(fetched) = self.channel.next() {
            let facts = fetched.facts();
            match self.translate(facts) {
                Some(event) => return Some(self.hand_out(event, Acknowledgement::Cm(fetched))),
                None => fetched.acknowledge(),
            }
        }
        None
    }

    /// `None`: a step on the way, or of somebody who has gone.
    fn translate(&mut self, facts: Facts) -> Option<Event<IbvPort>> {
        let number = Id::number_of(facts.id);
        match facts.kind {
            kind::RDMA_CM_EVENT_CONNECT_REQUEST => self.requested(facts),
            kind::RDMA_CM_EVENT_DEVICE_REMOVAL => self.device_removed(),
            kind::RDMA_CM_EVENT_ADDR_CHANGE if self.listeners.contains_key(&number) => {
                Some(Event::AddressChanged { of: AddressUser::Listener(ListenerId(number)) })
            }
            _ => {
                let stage = self.connections.get(&number).map(|record| record.stage);
                match stage {
                    None | Some(Stage::Destroying) => {
                        self.tally.late_events += 1;
                        None
                    }
                    Some(_) => self.of_connection(number, facts),
                }
            }
        }
    }

    fn of_connection(&mut self, number: u64, facts: Facts) -> Option<Event<IbvPort>> {
        let connection = ConnectionId(number);
        match facts.kind {
            kind::RDMA_CM_EVENT_ADDR_RESOLVED => self.address_resolved(number),
            kind::RDMA_CM_EVENT_ROUTE_RESOLVED => self.route_resolved(number),
            kind::RDMA_CM_EVENT_ADDR_ERROR | kind::RDMA_CM_EVENT_ROUTE_ERROR => {
                let error = std::io::Error::from_raw_os_error(facts.status.abs());
                self.unresolved(number, why_not(&error))
            }
            kind::RDMA_CM_EVENT_CONNECT_RESPONSE => self.answered(number, facts),
            kind::RDMA_CM_EVENT_ESTABLISHED => self.established(number),
            kind::RDMA_CM_EVENT_REJECTED => self.ended(number, status::rejection(facts.status, facts.private_data)),
            kind::RDMA_CM_EVENT_UNREACHABLE | kind::RDMA_CM_EVENT_CONNECT_ERROR => {
                self.ended(number, status::no_connection(facts.status))
            }
            kind::RDMA_CM_EVENT_DISCONNECTED => Some(Event::Disconnected { connection }),
            kind::RDMA_CM_EVENT_TIMEWAIT_EXIT => Some(Event::TimewaitExit { connection }),
            kind::RDMA_CM_EVENT_ADDR_CHANGE => Some(Event::AddressChanged { of: AddressUser::Connection(connection) }),
            // Multicast, and what later versions add.
            _ => None,
        }
    }

    fn requested(&mut self, facts: Facts) -> Option<Event<IbvPort>> {
        let listener = Id::number_of(facts.listener);
        let number = self.number();
        // Before anything else is fetched: until now it names the listener.
        let id = Id::of_request(&self.channel, facts.id, number).ok()?;
        let (local, peer) = (id.local_address(), id.peer_address());
        let device = id.device_name();
        let mut record = ConnectionRecord::new(id, peer.or(local)?, Stage::Requested);
        (record.peer_answers, record.peer_starts) = (facts.peer_answers, facts.peer_starts);
        self.connections.insert(number, record);
        let is_listening = self.listeners.get(&listener).is_some_and(|record| record.id.is_some());
        let is_ours = device.as_deref() == Some(self.device.name());
        let (Some(local), Some(peer), true, true) = (local, peer, is_listening, is_ours) else {
            self.tally.requests_refused += 1;
            tracing::warn!(?peer, ?local, ?device, "a connection request that cannot be served is refused");
            // Which tells the peer.
            self.destroy_connection(None, number);
            return None;
        };
        Some(Event::ConnectRequest(ConnectionRequest {
            connection: Connection::new(ConnectionId(number)),
            listener: ListenerId(listener),
            local,
            peer,
            private_data: facts.private_data,
            responder_resources: facts.peer_answers,
            initiator_depth: facts.peer_starts,
        }))
    }

    fn address_resolved(&mut self, number: u64) -> Option<Event<IbvPort>> {
        let id = self.connections.get(&number)?.id.as_ref()?;
        let device = id.device_name();
        if device.as_deref() != Some(self.device.name()) {
            let device = device.unwrap_or_else(|| "no device".to_owned());
            return self.unresolved(
                number,
                format!("it is reached by {device}, and this process uses {}", self.device.name()),
            );
        }
        match id.resolve_route() {
            Ok(()) => None,
            Err(error) => self.unresolved(number, why_not(&error)),
        }
    }

    fn route_resolved(&mut self, number: u64) -> Option<Event<IbvPort>> {
        let record = self.connections.get_mut(&number)?;
        let ticket = record.ticket.take()?;
        record.stage = Stage::Resolved;
        Some(Event::Resolved { ticket, result: Ok(Connection::new(ConnectionId(number))) })
    }

    fn unresolved(&mut self, number: u64, why: String) -> Option<Event<IbvPort>> {
        let record = self.connections.get_mut(&number)?;
        let (ticket, address) = (record.ticket.take()?, record.peer);
        self.destroy_connection(None, number);
        Some(Event::Resolved { ticket, result: Err(VerbsError::Address { address, why }) })
    }

    /// The peer accepted: our queue pair is made ready, then the peer is told.
    fn answered(&mut self, number: u64, facts: Facts) -> Option<Event<IbvPort>> {
        let record = self.connections.get_mut(&number)?;
        let id = record.id.as_ref()?;
        let ready = match (&record.queue_pair, record.stage) {
            (Some(object), Stage::Connecting) => {
                object.connect(id, None, self.options.ack_timeout_exponent).and_then(|()| id.establish())
            }
            (_, _) => Err(std::io::Error::other("it has ended meanwhile")),
        };
        if let Err(error) = ready {
            let _ = id.reject(&[]);
            return self.ended(number, RejectReason::Unreachable(format!("our side could not go on: {error}")));
        }
        record.stage = Stage::Established;
        (record.peer_answers, record.peer_starts) = (facts.peer_answers, facts.peer_starts);
        Some(Event::Established {
            connection: ConnectionId(number),
            private_data: facts.private_data,
            responder_resources: facts.peer_answers,
            initiator_depth: facts.peer_starts,
        })
    }

    /// The passive side's: the peer is ready.
    fn established(&mut self, number: u64) -> Option<Event<IbvPort>> {
        let record = self.connections.get_mut(&number)?;
        if record.stage == Stage::Accepted {
            record.stage = Stage::Established;
        }
        Some(Event::Established {
            connection: ConnectionId(number),
            private_data: Vec::new(),
            responder_resources: record.peer_answers,
            initiator_depth: record.peer_starts,
        })
    }

    /// Told once, also if the call has failed before.
    fn ended(&mut self, number: u64, reason: RejectReason) -> Option<Event<IbvPort>> {
        let record = self.connections.get_mut(&number)?;
        record.stage = Stage::Ended;
        Some(Event::Rejected { connection: ConnectionId(number), reason })
    }
}
