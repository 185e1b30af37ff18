//! The links of a host: each connection's way from address to nothing, one event at a time. See [`Stage`].

use reactor::{Cpu, Handle, Turn};

use crate::binding::{AcceptData, RequestData};
use crate::host::control::{Call, HostControl, Phase, ticket};
use crate::host::error::{HostFailure, rejection};
use crate::host::link::{Link, Stage, Wanted};
use crate::host::message::{Kind, Message};
use crate::host::queue::{Queue, receive_count};
use crate::teardown::DestroyResult;
use crate::verbs::{
    ConnectParameters, Connection, ConnectionId, Port, Provider, QueuePairOptions, RejectReason, VerbsError,
};

impl<P: Provider> HostControl<P> {
    pub(super) fn open(&mut self, qid: u16, cpu: Cpu) {
        let link = Link { qid, cpu, stage: Stage::Resolving(Wanted::Yes) };
        let handle =
            self.links.insert(link).unwrap_or_else(|_| unreachable!("a place for each queue was made at start"));
        self.provider.begin_resolve(ticket(Call::Link, Some(handle)), self.options.address);
    }

    pub(super) fn resolved(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<Link>,
        result: Result<Connection, VerbsError>,
    ) {
        let Some(link) = self.links.look_mut(handle) else { return };
        match result {
            Err(error) => {
                self.links.remove(handle);
                self.fail(turn, self.unreachable(&error));
            }
            Ok(connection) => {
                let Stage::Resolving(wanted) = link.stage else { unreachable!("resolved twice") };
                if wanted == Wanted::No {
                    link.stage = Stage::DestroyingConnection;
                    self.provider.begin_destroy_connection(ticket(Call::Link, Some(handle)), connection);
                    return;
                }
                let id = connection.id();
                link.stage = Stage::Creating(connection, Wanted::Yes);
                let depth = self.options.depth_of(link.qid);
                let options = QueuePairOptions {
                    send_count: u32::from(depth),
                    receive_count: u32::from(depth) + 1,
                    segment_count: 2,
                    inline_len: 0,
                    shared_receive: false,
                };
                let port = self.ports[usize::from(link.cpu.0)];
                self.by_connection.insert(id, handle);
                self.provider.begin_create_queue_pair(ticket(Call::Link, Some(handle)), id, port, options);
            }
        }
    }

    pub(super) fn unreachable(&self, error: &VerbsError) -> HostFailure {
        let address = self.options.address;
        let why = match error {
            VerbsError::Address { why, .. } => why.clone(),
            VerbsError::NotBuilt { .. } | VerbsError::System { .. } | VerbsError::Limit { .. } => error.to_string(),
        };
        HostFailure::Unreachable { address, why }
    }

    pub(super) fn created(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<Link>,
        result: Result<<P::Port as Port>::QueuePair, VerbsError>,
    ) {
        let Some(link) = self.links.look_mut(handle) else { return };
        let Stage::Creating(connection, wanted) = std::mem::replace(&mut link.stage, Stage::DestroyingConnection)
        else {
            unreachable!("created twice")
        };
        match result {
            Err(error) => {
                self.destroy_connection(handle, connection);
                self.fail(turn, HostFailure::Fabric { what: "creating a queue pair", why: error.to_string() });
            }
            Ok(queue_pair) if wanted == Wanted::No => {
                link.stage = Stage::DestroyingQueuePair(connection, None);
                self.provider.begin_destroy_queue_pair(ticket(Call::Link, Some(handle)), queue_pair);
            }
            Ok(queue_pair) => {
                link.stage = Stage::Attaching(connection, Wanted::Yes);
                let (cpu, qid) = (link.cpu, link.qid);
                let controller_id = self.controller_id();
                turn.send(cpu, Message(Kind::Attach { link: handle, qid, controller_id, queue_pair }));
            }
        }
    }

    pub(super) fn attached(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Link>, queue: Handle<Queue>) {
        let Some(link) = self.links.look_mut(handle) else { return };
        let Stage::Attaching(connection, wanted) = std::mem::replace(&mut link.stage, Stage::DestroyingConnection)
        else {
            unreachable!("attached twice")
        };
        if wanted == Wanted::No {
            link.stage = Stage::Established(connection, queue);
            self.close(turn, handle);
            return;
        }
        let qid = link.qid;
        let controller_id = self.controller_id();
        let depth = self.options.depth_of(qid);
        // Cannot truncate: the depth has ten bits.
        #[allow(clippy::cast_possible_truncation)]
        let receive_queue_size = receive_count(depth) as u16;
        let private_data =
            RequestData { queue_id: qid, receive_queue_size, send_queue_size_zero_based: depth, controller_id }
                .to_bytes();
        let attributes = self.provider.attributes();
        let parameters = ConnectParameters {
            private_data: &private_data,
            responder_resources: attributes.read_responder_count_max,
            initiator_depth: attributes.read_initiator_count_max,
            retry_count: 7,
            rnr_retry_count: 7,
        };
        self.provider.connect(&connection, parameters);
        if let Some(link) = self.links.look_mut(handle) {
            link.stage = Stage::Connecting(connection, queue);
        }
    }

    /// The controller that new queues are for. The admin queue's own Connect makes it: 0 until then.
    pub(super) fn controller_id(&self) -> u16 {
        if let Phase::Opening { attached, .. } = &self.phase { attached.controller_id } else { 0 }
    }

    pub(super) fn established(&mut self, turn: &mut Turn<'_, Message<P>>, id: ConnectionId, private_data: &[u8]) {
        let Some(&handle) = self.by_connection.get(&id) else { return };
        let Some(link) = self.links.look_mut(handle) else { return };
        let (connection, queue) = match std::mem::replace(&mut link.stage, Stage::DestroyingConnection) {
            Stage::Connecting(connection, queue) => (connection, queue),
            // Closed while the answer was on its way.
            other @ (Stage::Resolving(_)
            | Stage::Creating(..)
            | Stage::Attaching(..)
            | Stage::Established(..)
            | Stage::Closing(..)
            | Stage::DestroyingQueuePair(..)
            | Stage::DestroyingConnection) => {
                link.stage = other;
                return;
            }
        };
        link.stage = Stage::Established(connection, queue);
        let (qid, cpu) = (link.qid, link.cpu);
        let wanted = self.options.depth_of(qid);
        match AcceptData::parse(private_data) {
            Err(error) => {
                let what = format!("the private data of its ACCEPT: {error}");
                self.fail(turn, HostFailure::Protocol { qid, what });
            }
            Ok(accept) if accept.receive_queue_size < wanted => self.fail(
                turn,
                HostFailure::Limit {
                    what: "commands at a time (the target's receive queue)",
                    wanted: u64::from(wanted),
                    allowed: u64::from(accept.receive_queue_size),
                    instead: "use a smaller queue depth and more queue pairs",
                },
            ),
            Ok(_) => turn.send(cpu, Message(Kind::Connected { queue })),
        }
    }

    pub(super) fn rejected(&mut self, turn: &mut Turn<'_, Message<P>>, id: ConnectionId, reason: &RejectReason) {
        let Some(link) = self.by_connection.get(&id).and_then(|&handle| self.links.look(handle)) else { return };
        self.fail(turn, rejection(self.options.address, link.qid, reason));
    }

    pub(super) fn lost(&mut self, turn: &mut Turn<'_, Message<P>>, id: ConnectionId, why: &str) {
        let Some(link) = self.by_connection.get(&id).and_then(|&handle| self.links.look(handle)) else { return };
        self.fail(turn, HostFailure::Disconnected { qid: link.qid, why: why.to_owned() });
    }

    pub(super) fn close(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Link>) {
        let has_cpus = self.has_cpus();
        let Some(link) = self.links.look_mut(handle) else { return };
        let stage = std::mem::replace(&mut link.stage, Stage::DestroyingConnection);
        link.stage = match stage {
            Stage::Resolving(_) => Stage::Resolving(Wanted::No),
            Stage::Creating(connection, _) => Stage::Creating(connection, Wanted::No),
            Stage::Attaching(connection, _) => Stage::Attaching(connection, Wanted::No),
            Stage::Connecting(connection, queue) | Stage::Established(connection, queue) => {
                self.provider.disconnect(connection.id());
                if has_cpus {
                    turn.send(link.cpu, Message(Kind::Close { queue }));
                }
                Stage::Closing(connection, queue)
            }
            other @ (Stage::Closing(..) | Stage::DestroyingQueuePair(..) | Stage::DestroyingConnection) => other,
        };
    }

    pub(super) fn drained(&mut self, handle: Handle<Link>, queue_pair: <P::Port as Port>::QueuePair) {
        let link = self.links.look_mut(handle).expect("a link lives until its queue pair is destroyed");
        let Stage::Closing(connection, queue) = std::mem::replace(&mut link.stage, Stage::DestroyingConnection) else {
            unreachable!("drained without having been closed")
        };
        link.stage = Stage::DestroyingQueuePair(connection, Some(queue));
        self.provider.begin_destroy_queue_pair(ticket(Call::Link, Some(handle)), queue_pair);
    }

    pub(super) fn queue_pair_destroyed(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<Link>,
        result: Result<(), VerbsError>,
    ) {
        let has_cpus = self.has_cpus();
        let link = self.links.look_mut(handle).expect("a link lives until its connection is destroyed");
        let result = match result {
            Ok(()) => DestroyResult::Done,
            Err(error) => {
                tracing::warn!(qid = link.qid, %error, "a queue pair could not be destroyed");
                self.give_memory_up();
                DestroyResult::Failed
            }
        };
        let link = self.links.look_mut(handle).expect("a link lives until its connection is destroyed");
        let Stage::DestroyingQueuePair(connection, queue) =
            std::mem::replace(&mut link.stage, Stage::DestroyingConnection)
        else {
            unreachable!("a queue pair was destroyed twice")
        };
        if let Some(queue) = queue.filter(|_| has_cpus) {
            turn.send(link.cpu, Message(Kind::Destroyed { queue, result }));
        }
        self.destroy_connection(handle, connection);
    }

    pub(super) fn destroy_connection(&mut self, handle: Handle<Link>, connection: Connection) {
        self.by_connection.remove(&connection.id());
        self.provider.begin_destroy_connection(ticket(Call::Link, Some(handle)), connection);
    }
}
