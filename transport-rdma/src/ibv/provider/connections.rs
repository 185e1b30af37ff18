//! Connections, listeners and queue pairs, as the caller asks.
//!
//! The order in which a connection ends is the caller's: its queue pair first, then its id.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::id::Id;
use super::super::place;
use super::super::queue_pair::{Object, QueuePair, Stage as QueuePairStage};
use super::super::worker::Outcome;
use super::{ConnectionRecord, IbvProvider, ListenerRecord, Stage, removed};
use crate::verbs::{
    ConnectParameters, ConnectionId, ConnectionRequest, Event, ListenerId, QueuePairOptions, RejectReason, Ticket,
    VerbsError,
};

/// What the connection manager's messages carry of the consumers' data.
const REQUEST_DATA_LEN_MAX: usize = 56;
const ACCEPT_DATA_LEN_MAX: usize = 196;
const REJECT_DATA_LEN_MAX: usize = 148;

impl IbvProvider {
    pub(super) fn start_listener(&mut self, address: SocketAddr) -> Result<ListenerId, VerbsError> {
        if self.is_removed {
            return Err(removed("listening"));
        }
        let number = self.number();
        let id = Id::create(&self.channel, number)
            .map_err(|source| VerbsError::System { call: "rdma_create_id", source })?;
        let refused = id.bind(address).and_then(|()| id.listen()).err();
        let elsewhere = id.device_name().filter(|name| name != self.device.name());
        let why = match (refused, elsewhere) {
            (Some(error), _) => why_not(&error),
            (None, Some(name)) => {
                format!("it is on {name}, and this process uses {}: start one for each device", self.device.name())
            }
            (None, None) => {
                self.listeners.insert(number, ListenerRecord { id: Some(id) });
                return Ok(ListenerId(number));
            }
        };
        // No event of it was fetched: this does not wait.
        let _ = id.destroy();
        Err(VerbsError::Address { address, why })
    }

    pub(super) fn end_listener(&mut self, ticket: Ticket, listener: u64) {
        let id = self.listeners.get_mut(&listener).and_then(|record| record.id.take());
        match id {
            Some(id) => {
                self.worker.begin(move || Outcome::ListenerGone { ticket, listener, result: id.destroy() });
            }
            None => self.tell(Event::Unlistened { ticket }),
        }
    }

    pub(super) fn resolve(&mut self, ticket: Ticket, address: SocketAddr) -> Result<(), VerbsError> {
        let number = self.number();
        let id = Id::create(&self.channel, number)
            .map_err(|source| VerbsError::System { call: "rdma_create_id", source })?;
        let source = self.options.source.map(place::any_port);
        if let Err(error) = id.resolve_address(source, address) {
            // No event of it was fetched: this does not wait.
            let _ = id.destroy();
            return Err(VerbsError::Address { address, why: why_not(&error) });
        }
        let record = ConnectionRecord { ticket: Some(ticket), ..ConnectionRecord::new(id, address, Stage::Resolving) };
        self.connections.insert(number, record);
        Ok(())
    }

    pub(super) fn create_queue_pair(
        &mut self,
        ticket: Ticket,
        connection: u64,
        port: usize,
        options: QueuePairOptions,
    ) -> Result<(), VerbsError> {
        let attributes = self.device.attributes();
        let limits = [
            ("queue pairs", self.queue_pair_count as u64 + 1, attributes.queue_pair_count_max.into()),
            ("send_count", options.send_count.into(), attributes.work_request_count_max.into()),
            ("receive_count", options.receive_count.into(), attributes.work_request_count_max.into()),
            ("segment_count", options.segment_count.into(), attributes.segment_count_max.into()),
            ("inline_len", options.inline_len.into(), attributes.inline_len_max.into()),
            ("port", port as u64, (self.ports.len() as u64).saturating_sub(1)),
        ];
        if let Some(&(what, value, limit)) = limits.iter().find(|(_, value, limit)| value > limit) {
            return Err(VerbsError::Limit { what, value, limit });
        }
        let wrong = |text: &str| VerbsError::System { call: "creating a queue pair", source: io::Error::other(text) };
        if self.is_removed {
            return Err(removed("creating a queue pair"));
        }
        let record = self.connections.get_mut(&connection).ok_or_else(|| wrong("no such connection"))?;
        if record.queue_pair.is_some() || record.room.is_some() {
            return Err(wrong("the connection has one already"));
        }
        let id = record.id.clone().ok_or_else(|| wrong("the connection ends"))?;
        let count = options.send_count + if options.shared_receive { 0 } else { options.receive_count };
        record.room = Some((port, count));
        let growth = self.take_room(port, count);
        self.queue_pair_count += 1;
        let queues = Arc::clone(&self.ports[port].queues);
        self.worker.begin(move || {
            let grown = growth.map_or(Ok(()), |size| queues.grow(size));
            let result = grown.and_then(|()| Object::create(&id, connection, &queues, &options));
            Outcome::Created { ticket, connection, result }
        });
        Ok(())
    }

    /// The size to which the port's completion queue has to grow first.
    fn take_room(&mut self, port: usize, count: u32) -> Option<u32> {
        let port = &mut self.ports[port];
        port.used = port.used.saturating_add(count);
        if port.used <= port.size || port.size >= port.limit {
            return None;
        }
        port.size = port.used.next_power_of_two().min(port.limit);
        self.tally.completion_queues_grown += 1;
        Some(port.size)
    }

    pub(super) fn destroy_queue_pair(&mut self, ticket: Ticket, queue_pair: QueuePair) {
        let QueuePair { object, connection } = queue_pair;
        if let Some(record) = self.connections.get_mut(&connection) {
            // From here on nobody moves it.
            record.queue_pair = None;
        }
        let result = Arc::into_inner(object);
        self.worker.begin(move || {
            let result = match result {
                Some(object) => object.destroy(),
                None => Err(io::Error::other("somebody still uses it")),
            };
            Outcome::Destroyed { ticket, connection, result }
        });
    }

    pub(super) fn ask(&mut self, number: u64, parameters: &ConnectParameters<'_>) {
        let asked = self.try_ask(number, parameters);
        self.conclude_call(number, Stage::Connecting, asked);
    }

    fn try_ask(&self, number: u64, parameters: &ConnectParameters<'_>) -> Result<(), String> {
        let (id, object) = self.ready(number, Stage::Resolved)?;
        check_len(parameters.private_data, REQUEST_DATA_LEN_MAX)?;
        let parameters = self.clamped(parameters);
        id.connect(&parameters, object.number(), object.shared_receive())
            .map_err(|error| format!("rdma_connect: {error}"))
    }

    /// The queue pair is ready before the peer hears of it.
    pub(super) fn agree(&mut self, number: u64, parameters: &ConnectParameters<'_>) {
        let agreed = self.try_agree(number, parameters);
        self.conclude_call(number, Stage::Accepted, agreed);
    }

    fn try_agree(&self, number: u64, parameters: &ConnectParameters<'_>) -> Result<(), String> {
        let (id, object) = self.ready(number, Stage::Requested)?;
        check_len(parameters.private_data, ACCEPT_DATA_LEN_MAX)?;
        let parameters = self.clamped(parameters);
        let depths = (parameters.responder_resources, parameters.initiator_depth);
        object
            .connect(id, Some(depths), self.options.ack_timeout_exponent)
            .map_err(|error| format!("ibv_modify_qp: {error}"))?;
        id.accept(&parameters, object.number(), object.shared_receive())
            .map_err(|error| format!("rdma_accept: {error}"))
    }

    fn ready(&self, number: u64, stage: Stage) -> Result<(&Id, &Object), String> {
        let record = self.connections.get(&number).ok_or("the connection is gone")?;
        let (Some(id), Some(object)) = (&record.id, &record.queue_pair) else {
            return Err("no queue pair was made for it".to_owned());
        };
        if record.stage != stage || object.stage() != QueuePairStage::Initial {
            return Err("it has ended meanwhile".to_owned());
        }
        Ok((id, object))
    }

    /// The library refuses READ depths that are beyond the device's.
    fn clamped<'a>(&self, parameters: &ConnectParameters<'a>) -> ConnectParameters<'a> {
        let device = self.device.attributes();
        ConnectParameters {
            responder_resources: parameters.responder_resources.min(device.read_responder_count_max),
            initiator_depth: parameters.initiator_depth.min(device.read_initiator_count_max),
            ..*parameters
        }
    }

    fn conclude_call(&mut self, number: u64, stage: Stage, result: Result<(), String>) {
        let Some(record) = self.connections.get_mut(&number) else { return };
        match result {
            Ok(()) => record.stage = stage,
            Err(why) => self.fail_connection(number, RejectReason::Unreachable(why)),
        }
    }

    /// It comes to nothing; its queue pair takes nothing any more.
    pub(super) fn fail_connection(&mut self, number: u64, reason: RejectReason) {
        let Some(record) = self.connections.get_mut(&number) else { return };
        if matches!(record.stage, Stage::Ended | Stage::Destroying) {
            return;
        }
        record.stage = Stage::Ended;
        self.tell(Event::Rejected { connection: ConnectionId(number), reason });
    }

    pub(super) fn refuse(&mut self, request: ConnectionRequest, private_data: &[u8]) {
        let number = request.connection.id().0;
        if let Some(id) = self.connections.get(&number).and_then(|record| record.id.as_ref()) {
            let len = private_data.len().min(REJECT_DATA_LEN_MAX);
            // A peer that has gone meanwhile hears nothing.
            let _ = id.reject(&private_data[..len]);
        }
        self.destroy_connection(None, number);
    }

    /// The queue pair first: on InfiniBand and RoCE it is the only start of a drain.
    pub(super) fn end_connection(&mut self, number: u64) {
        let Some(record) = self.connections.get_mut(&number) else { return };
        let was = record.stage;
        if was != Stage::Destroying {
            record.stage = Stage::Ended;
        }
        if self.is_removed {
            return;
        }
        if let Some(object) = &record.queue_pair
            && let Err(error) = object.fail()
        {
            tracing::warn!(%error, queue_pair = object.number(), "a queue pair could not be moved to the error state");
        }
        if matches!(was, Stage::Accepted | Stage::Established | Stage::Connecting | Stage::Ended)
            && let Some(id) = &record.id
        {
            // Again, or before there is a connection: an error, which tells nothing new.
            let _ = id.disconnect();
        }
    }

    pub(super) fn destroy_connection(&mut self, ticket: Option<Ticket>, connection: u64) {
        let id = self.connections.get_mut(&connection).and_then(|record| {
            record.stage = Stage::Destroying;
            record.id.take()
        });
        match (id, ticket) {
            (Some(id), ticket) => self.worker.begin(move || {
                let result = id.destroy();
                Outcome::ConnectionGone { ticket, connection, result }
            }),
            (None, Some(ticket)) => self.tell(Event::ConnectionDestroyed { ticket }),
            (None, None) => {}
        }
    }
}

impl ConnectionRecord {
    pub(super) fn new(id: Id, peer: SocketAddr, stage: Stage) -> Self {
        Self { stage, id: Some(id), peer, ticket: None, queue_pair: None, room: None, peer_answers: 0, peer_starts: 0 }
    }
}

fn check_len(private_data: &[u8], limit: usize) -> Result<(), String> {
    match private_data.len() {
        len if len > limit => Err(format!("private data of {len} bytes, the limit is {limit}")),
        _ => Ok(()),
    }
}

/// Why an address cannot be listened on or reached, and what to do.
pub(super) fn why_not(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "somebody listens there already (`rdma resource show cm_id`)".to_owned(),
        Some(libc::EADDRNOTAVAIL | libc::ENODEV) => {
            "it is no address of an RDMA device of this machine (`rdma link`)".to_owned()
        }
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => "there is no route to it over an RDMA device".to_owned(),
        _ => error.to_string(),
    }
}
