//! The links of a host: each connection's way from address to nothing, one event at a time. See [`Stage`].

use reactor::{Cpu, Handle, Turn};

use crate::binding::{AcceptData, RequestData};
use crate::host::control::device::Device;
use crate::host::control::{Call, HostControl, Phase, ticket};
use crate::host::error::{HostFailure, rejection};
use crate::host::link::{Link, Stage, Wanted};
use crate::host::message::{Kind, Message};
use crate::host::queue::{Queue, receive_count};
use crate::teardown::DestroyResult;
use crate::trace::{ConnectionStage, Step};
use crate::verbs::{
    ConnectParameters, Connection, ConnectionId, Port, Provider, QueuePairOptions, RejectReason, VerbsError,
};

impl<P: Provider> HostControl<P> {
    pub(super) fn open(&mut self, turn: &mut Turn<'_, Message<P>>, qid: u16, cpu: Cpu) {
        let stage = Stage::Resolving(Wanted::Yes);
        let link = Link { qid, cpu, entered: stage.word(), stage: Some(stage) };
        let handle =
            self.links.insert(link).unwrap_or_else(|_| unreachable!("a place for each queue was made at start"));
        Step::StageEntered.trace(turn, handle.to_bits(), ConnectionStage::Resolving.number().into());
        self.provider.begin_resolve(ticket(Call::Link, Some(handle)), self.options.address);
    }

    pub(super) fn resolved(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<Link>,
        result: Result<Connection, VerbsError>,
    ) {
        let Some(link) = self.links.look(handle) else { return };
        let (qid, cpu) = (link.qid, link.cpu);
        match result {
            Err(error) => {
                self.forget(turn, handle);
                self.fail(turn, self.unreachable(&error));
            }
            Ok(connection) => {
                let Some(Stage::Resolving(wanted)) = self.take_stage(handle) else { unreachable!("resolved twice") };
                let id = connection.id();
                Step::ConnectionRequested.trace(turn, handle.to_bits(), id.0);
                if wanted == Wanted::No {
                    return self.destroy_connection(turn, handle, connection);
                }
                self.put_stage(turn, handle, Stage::Creating(connection, Wanted::Yes));
                let depth = self.options.depth_of(qid);
                let options = QueuePairOptions {
                    send_count: u32::from(depth),
                    receive_count: u32::from(depth) + 1,
                    segment_count: 2,
                    inline_len: 0,
                    shared_receive: false,
                };
                let port = self.ports[usize::from(cpu.0)];
                self.by_connection.insert(id, handle);
                self.provider.begin_create_queue_pair(ticket(Call::Link, Some(handle)), id, port, options);
            }
        }
    }

    /// What attaching waits for, and for which queue: the one that has come least far.
    pub(super) fn awaited(&self) -> (&'static str, u16) {
        let of_link = |link: &Link| {
            let (order, what) = match link.stage.as_ref()? {
                Stage::Resolving(_) => (0, "attaching (resolving the target's address)"),
                Stage::Creating(..) => (1, "attaching (creating a queue pair)"),
                Stage::Attaching(..) => (2, "attaching (handing a queue pair to its CPU)"),
                Stage::Connecting(..) => (3, "attaching (the answer to a connection request)"),
                Stage::Established(..) => (4, "attaching (the controller's answers)"),
                Stage::Closing(..)
                | Stage::DestroyingQueuePair(..)
                | Stage::DestroyingConnection
                | Stage::Quarantined(_) => return None,
            };
            // Of those that have come as far, the last to begin: the admin queue is the first, and it is ready before the others.
            Some((order, std::cmp::Reverse(link.qid), what))
        };
        let least = self.links.iter().filter_map(|(_, link)| of_link(link)).min();
        least.map_or(("attaching (registering memory)", 0), |(_, qid, what)| (what, qid.0))
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
        let Some(link) = self.links.look(handle) else { return };
        let (qid, cpu) = (link.qid, link.cpu);
        let Some(Stage::Creating(connection, wanted)) = self.take_stage(handle) else { unreachable!("created twice") };
        match result {
            Err(error) => {
                self.destroy_connection(turn, handle, connection);
                self.fail(turn, HostFailure::Fabric { what: "creating a queue pair", why: error.to_string() });
            }
            Ok(queue_pair) if wanted == Wanted::No => {
                self.put_stage(turn, handle, Stage::DestroyingQueuePair(connection, None));
                self.provider.begin_destroy_queue_pair(ticket(Call::Link, Some(handle)), queue_pair);
            }
            Ok(queue_pair) => {
                self.put_stage(turn, handle, Stage::Attaching(connection, Wanted::Yes));
                let controller_id = self.controller_id();
                turn.send(cpu, Message(Kind::Attach { link: handle, qid, controller_id, queue_pair }));
            }
        }
    }

    pub(super) fn attached(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Link>, queue: Handle<Queue>) {
        let Some(qid) = self.links.look(handle).map(|link| link.qid) else { return };
        let Some(Stage::Attaching(connection, wanted)) = self.take_stage(handle) else {
            unreachable!("attached twice")
        };
        if wanted == Wanted::No {
            return self.end_attached(turn, handle, connection, queue);
        }
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
        self.put_stage(turn, handle, Stage::Connecting(connection, queue));
    }

    /// The controller that new queues are for. The admin queue's own Connect makes it: 0 until then.
    pub(super) fn controller_id(&self) -> u16 {
        if let Phase::Opening { attached, .. } = &self.phase { attached.controller_id } else { 0 }
    }

    pub(super) fn established(&mut self, turn: &mut Turn<'_, Message<P>>, id: ConnectionId, private_data: &[u8]) {
        let Some(&handle) = self.by_connection.get(&id) else { return };
        let Some(link) = self.links.look(handle) else { return };
        let (qid, cpu) = (link.qid, link.cpu);
        let queue = match self.take_stage(handle) {
            Some(Stage::Connecting(connection, queue)) => {
                self.put_stage(turn, handle, Stage::Established(connection, queue));
                queue
            }
            // Closed while the answer was on its way.
            Some(other) => return self.put_stage(turn, handle, other),
            None => return,
        };
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
        let qid = link.qid;
        self.fault(turn, HostFailure::Disconnected { qid, why: why.to_owned() });
    }

    /// Begins the end of a link, wherever it is. What is being made is waited for.
    pub(super) fn close(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Link>) {
        let stage = match self.take_stage(handle) {
            None => return,
            Some(Stage::Resolving(_)) => Stage::Resolving(Wanted::No),
            Some(Stage::Creating(connection, _)) => Stage::Creating(connection, Wanted::No),
            Some(Stage::Attaching(connection, _)) => Stage::Attaching(connection, Wanted::No),
            Some(Stage::Connecting(connection, queue) | Stage::Established(connection, queue)) => {
                return self.end_attached(turn, handle, connection, queue);
            }
            Some(
                other @ (Stage::Closing(..)
                | Stage::DestroyingQueuePair(..)
                | Stage::DestroyingConnection
                | Stage::Quarantined(_)),
            ) => other,
        };
        self.put_stage(turn, handle, stage);
    }

    /// The queue pair goes into the error state, and its CPU drains it.
    fn end_attached(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<Link>,
        connection: Connection,
        queue: Handle<Queue>,
    ) {
        // A removed device is asked for nothing but destroying.
        if self.device == Device::Present {
            self.provider.disconnect(connection.id());
        }
        if let Some(cpu) = self.links.look(handle).map(|link| link.cpu).filter(|_| self.has_cpus()) {
            turn.send(cpu, Message(Kind::Close { queue }));
        }
        self.put_stage(turn, handle, Stage::Closing(connection, queue));
    }

    pub(super) fn drained(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<Link>,
        queue_pair: <P::Port as Port>::QueuePair,
    ) {
        let Some(Stage::Closing(connection, queue)) = self.take_stage(handle) else {
            unreachable!("drained without having been closed")
        };
        self.put_stage(turn, handle, Stage::DestroyingQueuePair(connection, Some(queue)));
        self.provider.begin_destroy_queue_pair(ticket(Call::Link, Some(handle)), queue_pair);
    }

    pub(super) fn queue_pair_destroyed(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<Link>,
        result: Result<(), VerbsError>,
    ) {
        let link = self.links.look(handle).expect("a link lives until its connection is destroyed");
        let (qid, cpu) = (link.qid, link.cpu);
        let result = match result {
            Ok(()) => DestroyResult::Done,
            Err(error) => {
                tracing::warn!(qid, %error, "a queue pair could not be destroyed");
                self.give_memory_up();
                DestroyResult::Failed
            }
        };
        let Some(Stage::DestroyingQueuePair(connection, queue)) = self.take_stage(handle) else {
            unreachable!("a queue pair was destroyed twice")
        };
        if let Some(queue) = queue.filter(|_| self.has_cpus()) {
            turn.send(cpu, Message(Kind::Destroyed { queue, result }));
        }
        match result {
            DestroyResult::Done => self.destroy_connection(turn, handle, connection),
            // A connection whose queue pair could not be destroyed cannot be destroyed either.
            DestroyResult::Failed => self.put_stage(turn, handle, Stage::Quarantined(connection)),
        }
    }

    fn destroy_connection(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Link>, connection: Connection) {
        self.by_connection.remove(&connection.id());
        self.put_stage(turn, handle, Stage::DestroyingConnection);
        self.provider.begin_destroy_connection(ticket(Call::Link, Some(handle)), connection);
    }

    /// What is quarantined does not count: it is never gone.
    pub(super) fn links_are_gone(&self) -> bool {
        self.links.iter().all(|(_, link)| matches!(link.stage, Some(Stage::Quarantined(_))))
    }

    /// Nothing is left of it.
    pub(super) fn forget(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Link>) {
        let link = self.links.remove(handle);
        assert!(link.is_some(), "a connection was destroyed twice");
        Step::RecordForgotten.trace(turn, handle.to_bits(), 0);
    }

    fn take_stage(&mut self, handle: Handle<Link>) -> Option<Stage> {
        self.links.look_mut(handle)?.stage.take()
    }

    fn put_stage(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Link>, stage: Stage) {
        let Some(link) = self.links.look_mut(handle) else { return };
        let entered = stage.word();
        if link.entered != entered {
            link.entered = entered;
            Step::StageEntered.trace(turn, handle.to_bits(), entered.number().into());
        }
        link.stage = Some(stage);
    }
}
