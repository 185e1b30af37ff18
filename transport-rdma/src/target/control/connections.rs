//! Each connection from its request to its end: events of the provider and answers of the CPUs move its record on.
//!
//! Whatever fails takes the same way out as what ends well: queue pair destroyed, then connection destroyed. A name that leads to no record (an
//! event after the end, an answer twice) is a miss, counted and dropped.

use std::net::SocketAddr;

use nvmf_core::defect::{self, Defect};
use nvmf_core::{DisconnectReason, QpairSpec};
use reactor::{Handle, Turn};

use super::admission::{self, Needs, Undestroyed};
use super::placement::Asker;
use super::record::{AfterDestroy, LastWqe, Record, Stage};
use super::{Control, Phase, TicketKind, cpu_of};
use crate::binding::{AcceptData, RejectData, RejectStatus};
use crate::target::message::{ConnectionRecord, Message, QueuePairOf, ToControl, ToCpu};
use crate::teardown::DestroyResult;
use crate::trace::{ConnectionStage, Step};
use crate::verbs::{
    AddressUser, ConnectParameters, Connection, ConnectionId, ConnectionRequest, DeviceId, Event, Provider, Ticket,
    VerbsError,
};

impl<P: Provider> Control<P> {
    pub(super) fn take_event(&mut self, turn: &mut Turn<'_, Message<P>>, event: Event<P::Port>) {
        match event {
            Event::ConnectRequest(request) => self.take_request(turn, request),
            Event::QueuePairCreated { ticket, result } => self.queue_pair_created(turn, handle_of(ticket), result),
            Event::QueuePairDestroyed { ticket, result } => {
                self.queue_pair_destroyed(turn, handle_of(ticket), result);
            }
            Event::ConnectionDestroyed { ticket } => self.connection_destroyed(turn, handle_of(ticket)),
            Event::Established { connection, .. } => match self.by_connection.get(&connection) {
                Some(_) => self.counts.established += 1,
                None => self.counts.stale_events += 1,
            },
            // A host that died is told by its queue pair's flush first, where the provider notices. The timewait begins with a disconnect, whose own
            // event may have been lost; what keeps the number from being used again meanwhile is the provider's business.
            Event::Disconnected { connection } | Event::TimewaitExit { connection } => {
                if let Some(record) = self.find(turn, connection) {
                    self.end(turn, record, DisconnectReason::Host);
                }
            }
            Event::Rejected { connection, .. } | Event::QueuePairFatal { connection } => {
                if let Some(record) = self.find(turn, connection) {
                    self.end(turn, record, DisconnectReason::PeerGone);
                }
            }
            Event::LastWqeReached { connection } => {
                if let Some(record) = self.find(turn, connection) {
                    self.last_wqe_reached(turn, record);
                }
            }
            Event::AddressChanged { of: AddressUser::Connection(connection) } => {
                self.counts.address_changes += 1;
                if let Some(record) = self.find(turn, connection) {
                    self.end(turn, record, DisconnectReason::AddressChanged);
                }
            }
            Event::AddressChanged { of: AddressUser::Listener(listener) } => self.listener_address_changed(listener),
            Event::CompletionQueueError { port } => self.completion_queue_broke(turn, port),
            Event::DeviceRemoved(device) => self.device_removed(turn, device),
            Event::Unlistened { ticket } => {
                self.listener_gone(ticket);
                self.listen_anew(turn);
            }
            Event::DeviceReleased(device) => self.device_released(turn, device),
            Event::DeviceReopened { ticket, result } => self.device_reopened(turn, ticket, result),
            Event::Registered { ticket, result } if TicketKind::RegisterLate.is_of(ticket) => {
                self.registered_late(turn, ticket, result);
            }
            Event::Registered { ticket, result } => self.registered(turn, ticket, result),
            Event::Deregistered { ticket } => self.region_gone(ticket),
            // A target connects to nobody.
            Event::Resolved { .. } => self.counts.stale_events += 1,
        }
    }

    pub(super) fn take_answer(&mut self, turn: &mut Turn<'_, Message<P>>, answer: ToControl<P>) {
        match answer {
            ToControl::Adopted { record, qpair } => self.adopted(turn, record, qpair),
            ToControl::Refused { record, queue_pair } => self.refused(turn, record, *queue_pair),
            ToControl::Disconnect { record, qpair } => self.disconnect(turn, record, qpair),
            ToControl::Destroy { record, queue_pair } => self.destroy(turn, record, *queue_pair),
            ToControl::Reaped { record } => self.reaped(turn, record),
            ToControl::Bereft { port } => drop(port),
            ToControl::Traced { cpu, change, records } => self.traced(turn, cpu, change, records),
            ToControl::Stopped => self.cpu_stopped(),
        }
    }

    /// Begins the end of every connection that came by this address.
    pub(super) fn end_through(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        address: SocketAddr,
        reason: DisconnectReason,
    ) {
        let through = self.records.iter().filter(|(_, record)| record.listener == address);
        let records: Vec<_> = through.map(|(handle, _)| handle).collect();
        for record in records {
            self.end(turn, record, reason);
        }
    }

    /// Begins the end of every connection on this device.
    pub(super) fn end_on(&mut self, turn: &mut Turn<'_, Message<P>>, device: DeviceId, reason: DisconnectReason) {
        let on_it = self.records.iter().filter(|(_, record)| record.device == device);
        let records: Vec<_> = on_it.map(|(handle, _)| handle).collect();
        for record in records {
            self.end(turn, record, reason);
        }
    }

    /// Begins the end of every connection.
    pub(super) fn end_all(&mut self, turn: &mut Turn<'_, Message<P>>, reason: DisconnectReason) {
        let records: Vec<_> = self.records.handles().collect();
        for record in records {
            self.end(turn, record, reason);
        }
    }

    // Set-up.

    fn take_request(&mut self, turn: &mut Turn<'_, Message<P>>, request: ConnectionRequest) {
        self.counts.requests += 1;
        let is_wanted = self.phase == Phase::Serving && self.is_listening(request.listener);
        let device = self.provider.device_of_connection(request.connection.id());
        if !is_wanted || !self.on(device).is_present() {
            return self.reject(request, RejectStatus::NoResources);
        }
        let limits = self.on(device).limits;
        let (data, terms) = match admission::terms(&limits, &request) {
            Ok(agreed) => agreed,
            Err(status) => return self.reject(request, status),
        };
        let needs = Needs::of(&limits, terms);
        let asker = Asker { listener: request.local, peer: request.peer, is_io: data.queue_id > 0 };
        let Some(host_share) = self.hosts.take(request.peer.ip()) else {
            return self.reject(request, RejectStatus::NoResources);
        };
        let Some((cpu, reservation)) = self.placement.choose(&mut self.loads, needs, asker) else {
            self.hosts.give(host_share);
            return self.reject(request, RejectStatus::NoResources);
        };
        let id = request.connection.id();
        let listener = request.local;
        let stage = Stage::Creating { request, queue_id: data.queue_id };
        let record = Record {
            id,
            listener,
            device,
            cpu: cpu_of(cpu).0,
            terms,
            reservation,
            host_share,
            entered: stage.word(),
            entered_ns: turn.now_ns(),
            reported: None,
            stage: Some(stage),
        };
        let handle = match self.records.insert(record) {
            Ok(handle) => handle,
            Err(reactor::Full(mut record)) => {
                self.loads[cpu].give_back(record.reservation);
                self.hosts.give(record.host_share);
                if let Some(Stage::Creating { request, .. }) = record.stage.take() {
                    self.reject(request, RejectStatus::NoResources);
                }
                return;
            }
        };
        self.by_connection.insert(id, handle);
        Step::ConnectionRequested.trace(turn, handle.to_bits(), id.0);
        Step::StageEntered.trace(turn, handle.to_bits(), ConnectionStage::Creating.number().into());
        self.watch(turn, ConnectionStage::Creating);
        let options = admission::queue_pair_options(&limits, terms);
        let port = self.on(device).ports[cpu];
        self.provider.begin_create_queue_pair(TicketKind::Create.ticket(handle), id, port, options);
    }

    fn queue_pair_created(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<ConnectionRecord>,
        result: Result<QueuePairOf<P>, VerbsError>,
    ) {
        match (self.take_stage(handle), result) {
            (Some(Stage::Creating { request, queue_id }), Ok(queue_pair)) => {
                let spec = QpairSpec {
                    listener: request.local,
                    peer: request.peer,
                    depth: self.records.look(handle).map_or(0, |record| record.terms.depth),
                    qid: queue_id,
                    in_capsule_len: self.devices[0].limits.controller.in_capsule_len,
                };
                self.put_stage(turn, handle, Stage::Adopting { request });
                let Some(record) = self.records.look(handle) else { return };
                let message = ToCpu::Adopt {
                    record: handle,
                    device: record.device,
                    queue_pair: Box::new(queue_pair),
                    spec: Box::new(spec),
                    terms: record.terms,
                };
                turn.send(reactor::Cpu(record.cpu), message.into());
            }
            (Some(Stage::Creating { request, .. }), Err(error)) => {
                tracing::warn!(peer = %request.peer, %error, "no queue pair for a connection");
                if defect::is(Defect::CreateFailureLeaks) {
                    self.forget(turn, handle);
                    return std::mem::forget(request);
                }
                #[cfg(feature = "defects")]
                if defect::is(Defect::FailedCreateEndsTwice) {
                    self.forget(turn, handle);
                    return self.end_twice(handle, request);
                }
                self.forget(turn, handle);
                self.reject(request, RejectStatus::NoResources);
            }
            (Some(stage @ Stage::Abandoned { .. }), Ok(queue_pair)) if defect::is(Defect::NobodyAbandons) => {
                std::mem::forget(queue_pair);
                self.put_stage(turn, handle, stage);
            }
            (Some(Stage::Abandoned { connection }), Ok(queue_pair)) => {
                let then = AfterDestroy::DestroyConnection;
                self.put_stage(turn, handle, Stage::Destroying { connection, then });
                self.provider.begin_destroy_queue_pair(TicketKind::Destroy.ticket(handle), queue_pair);
            }
            (Some(Stage::Abandoned { connection }), Err(_)) => self.destroy_connection(turn, handle, connection),
            (stage, result) => {
                self.miss(turn, handle, stage);
                if let Ok(queue_pair) = result {
                    self.destroy_stray(queue_pair);
                }
            }
        }
    }

    /// The CPU has it, and its receives are posted: now the peer may send.
    fn adopted(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<ConnectionRecord>,
        qpair: Handle<nvmf_core::Qpair>,
    ) {
        match self.take_stage(handle) {
            Some(Stage::Adopting { request }) => {
                let terms = self.records.look(handle).map(|record| record.terms);
                let (depth, initiator_depth) = terms.map_or((0, 0), |terms| (terms.depth, terms.read_depth));
                let connection = request.connection;
                let private_data = AcceptData { receive_queue_size: depth }.to_bytes();
                let parameters = ConnectParameters {
                    private_data: &private_data,
                    // The host reads nothing of ours.
                    responder_resources: 0,
                    initiator_depth,
                    retry_count: 7,
                    rnr_retry_count: 7,
                };
                self.provider.accept(&connection, parameters);
                self.counts.accepted += 1;
                self.put_stage(turn, handle, Stage::Live { connection, qpair });
            }
            Some(Stage::Unwanted { connection, reason, last_wqe }) => {
                self.put_stage(turn, handle, Stage::Ending { connection, qpair });
                self.tell_cpu(turn, handle, ToCpu::Disconnect { qpair, reason });
                self.hand_on(turn, handle, qpair, last_wqe);
            }
            stage => self.miss(turn, handle, stage),
        }
    }

    /// The CPU has no room after all.
    fn refused(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<ConnectionRecord>,
        queue_pair: QueuePairOf<P>,
    ) {
        let stage = match self.take_stage(handle) {
            Some(Stage::Adopting { request }) => Stage::Rejecting { request, status: RejectStatus::NoResources },
            Some(Stage::Unwanted { connection, .. }) => {
                Stage::Destroying { connection, then: AfterDestroy::DestroyConnection }
            }
            stage => {
                self.miss(turn, handle, stage);
                return self.destroy_stray(queue_pair);
            }
        };
        self.put_stage(turn, handle, stage);
        self.provider.begin_destroy_queue_pair(TicketKind::Destroy.ticket(handle), queue_pair);
    }

    // The end.

    /// A reason to end came up here: an event, or shutdown.
    pub(super) fn end(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<ConnectionRecord>,
        reason: DisconnectReason,
    ) {
        let stage = match self.take_stage(handle) {
            Some(Stage::Creating { request, .. }) => Stage::Abandoned { connection: request.connection },
            Some(Stage::Adopting { request }) => {
                Stage::Unwanted { connection: request.connection, reason, last_wqe: LastWqe::NotSeen }
            }
            Some(Stage::Live { connection, qpair }) => {
                self.tell_cpu(turn, handle, ToCpu::Disconnect { qpair, reason });
                Stage::Ending { connection, qpair }
            }
            Some(Stage::Reaping { connection }) if defect::is(Defect::DisconnectedDestroysAgain) => {
                return self.destroy_connection(turn, handle, connection);
            }
            // It ends already.
            Some(stage) => stage,
            None => return self.miss(turn, handle, None),
        };
        self.put_stage(turn, handle, stage);
    }

    /// The CPU's drain begins: the queue pair goes into the error state.
    fn disconnect(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<ConnectionRecord>,
        qpair: Handle<nvmf_core::Qpair>,
    ) {
        let (connection, last_wqe) = match self.take_stage(handle) {
            Some(Stage::Live { connection, .. } | Stage::Ending { connection, .. }) => (connection, LastWqe::NotSeen),
            // The CPU could not post its receives: it was never accepted.
            Some(Stage::Adopting { request }) => (request.connection, LastWqe::NotSeen),
            Some(Stage::Unwanted { connection, last_wqe, .. }) => (connection, last_wqe),
            stage => return self.miss(turn, handle, stage),
        };
        let id = connection.id();
        self.put_stage(turn, handle, Stage::Ending { connection, qpair });
        // A removed device is asked for nothing but destroying, and its queue pairs are cut off.
        let device = self.records.look(handle).map(|record| record.device);
        if device.is_some_and(|device| self.on(device).is_present()) {
            if !defect::is(Defect::DisconnectedIsThoughtToFlush) {
                self.provider.disconnect(id);
            }
            self.tell_cpu(turn, handle, ToCpu::InErrorState { qpair });
        }
        self.hand_on(turn, handle, qpair, last_wqe);
    }

    /// It comes once in a queue pair's life: while nobody can be told of it, it is kept.
    fn last_wqe_reached(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<ConnectionRecord>) {
        let reason = DisconnectReason::PeerGone;
        let stage = match self.take_stage(handle) {
            Some(Stage::Creating { request, .. }) => Stage::Abandoned { connection: request.connection },
            Some(Stage::Adopting { request }) => {
                Stage::Unwanted { connection: request.connection, reason, last_wqe: LastWqe::Reached }
            }
            Some(Stage::Unwanted { connection, reason, .. }) => {
                Stage::Unwanted { connection, reason, last_wqe: LastWqe::Reached }
            }
            // Its CPU begins the end, if nobody has.
            Some(stage @ (Stage::Live { qpair, .. } | Stage::Ending { qpair, .. })) => {
                self.hand_on(turn, handle, qpair, LastWqe::Reached);
                stage
            }
            // Nobody waits for it: no CPU ever had the queue pair, or it is quiet.
            stage => return self.miss(turn, handle, stage),
        };
        self.put_stage(turn, handle, stage);
    }

    fn hand_on(
        &self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<ConnectionRecord>,
        qpair: Handle<nvmf_core::Qpair>,
        last_wqe: LastWqe,
    ) {
        if last_wqe == LastWqe::Reached {
            self.tell_cpu(turn, handle, ToCpu::LastWqeReached { qpair });
        }
    }

    /// The drain is over.
    fn destroy(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<ConnectionRecord>,
        queue_pair: QueuePairOf<P>,
    ) {
        match self.take_stage(handle) {
            Some(Stage::Ending { connection, qpair }) => {
                self.put_stage(turn, handle, Stage::Destroying { connection, then: AfterDestroy::TellCpu(qpair) });
                self.provider.begin_destroy_queue_pair(TicketKind::Destroy.ticket(handle), queue_pair);
            }
            stage => {
                self.miss(turn, handle, stage);
                self.destroy_stray(queue_pair);
            }
        }
    }

    /// A queue pair by value is destroyed, whatever the records say. Nobody waits for it.
    fn destroy_stray(&mut self, queue_pair: QueuePairOf<P>) {
        tracing::error!("a queue pair that no connection waits for: it is destroyed");
        self.provider.begin_destroy_queue_pair(TicketKind::Destroy.numbered(0), queue_pair);
    }

    fn queue_pair_destroyed(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<ConnectionRecord>,
        result: Result<(), VerbsError>,
    ) {
        let failed = result.as_ref().err().map(Undestroyed::because);
        if let Err(error) = result {
            tracing::error!(%error, "a queue pair could not be destroyed");
        }
        match self.take_stage(handle) {
            Some(Stage::Destroying { connection, then: AfterDestroy::TellCpu(qpair) }) => {
                let result = if failed.is_some() { DestroyResult::Failed } else { DestroyResult::Done };
                self.keep_or(turn, handle, connection, failed, |this, turn, connection| {
                    this.put_stage(turn, handle, Stage::Reaping { connection });
                });
                self.tell_cpu(turn, handle, ToCpu::QueuePairDestroyed { qpair, result });
            }
            Some(Stage::Destroying { connection, then: AfterDestroy::DestroyConnection }) => {
                self.keep_or(turn, handle, connection, failed, |this, turn, connection| {
                    this.destroy_connection(turn, handle, connection);
                });
            }
            // Rejecting destroys the connection too.
            Some(Stage::Rejecting { request, status }) => match failed {
                Some(proof) => self.quarantine(turn, handle, request.connection, &proof),
                None => {
                    self.forget(turn, handle);
                    self.reject(request, status);
                }
            },
            stage => self.miss(turn, handle, stage),
        }
    }

    /// A connection whose queue pair could not be destroyed cannot be destroyed either.
    fn keep_or(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<ConnectionRecord>,
        connection: Connection,
        failed: Option<Undestroyed>,
        go_on: impl FnOnce(&mut Self, &mut Turn<'_, Message<P>>, Connection),
    ) {
        if let Some(proof) = failed {
            self.quarantine(turn, handle, connection, &proof);
        } else {
            go_on(self, turn, connection);
        }
    }

    fn quarantine(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<ConnectionRecord>,
        connection: Connection,
        proof: &Undestroyed,
    ) {
        self.counts.quarantined += 1;
        if let Some(record) = self.records.look_mut(handle) {
            self.loads[usize::from(record.cpu)].write_off(record.reservation.take(), proof);
        }
        self.put_stage(turn, handle, Stage::Quarantined { connection });
    }

    /// Nothing of it is left on its CPU.
    fn reaped(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<ConnectionRecord>) {
        match self.take_stage(handle) {
            Some(Stage::Reaping { connection }) => self.destroy_connection(turn, handle, connection),
            // Its memory was safe, but the connection stays.
            Some(stage @ Stage::Quarantined { .. }) => self.put_stage(turn, handle, stage),
            stage => self.miss(turn, handle, stage),
        }
    }

    fn destroy_connection(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<ConnectionRecord>,
        connection: Connection,
    ) {
        self.put_stage(turn, handle, Stage::Leaving);
        self.provider.begin_destroy_connection(TicketKind::DestroyConnection.ticket(handle), connection);
    }

    fn connection_destroyed(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<ConnectionRecord>) {
        match self.take_stage(handle) {
            Some(Stage::Leaving) => self.forget(turn, handle),
            stage => self.miss(turn, handle, stage),
        }
    }

    /// The record goes, and with it the room that was reserved.
    fn forget(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<ConnectionRecord>) {
        let Some(record) = self.records.remove(handle) else { return };
        self.by_connection.remove(&record.id);
        Step::RecordForgotten.trace(turn, handle.to_bits(), record.id.0);
        if let Some(reported) = record.reported {
            self.overdue.has_come(reported);
        }
        self.hosts.give(record.host_share);
        if defect::is(Defect::RoomIsNotGivenBack) {
            return std::mem::forget(record.reservation);
        }
        self.loads[usize::from(record.cpu)].give_back(record.reservation);
    }

    /// Refuses, and says why.
    pub(super) fn reject(&mut self, request: ConnectionRequest, status: RejectStatus) {
        tracing::info!(peer = %request.peer, listener = %request.local, %status, "connection refused");
        self.counts.rejected[usize::from(status.number()) - 1] += 1;
        self.provider.reject(request, &RejectData { status: status.number() }.to_bytes());
    }

    // Records.

    pub(super) fn find(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        connection: ConnectionId,
    ) -> Option<Handle<ConnectionRecord>> {
        let found = self.by_connection.get(&connection).copied();
        if found.is_none() {
            self.counts.stale_events += 1;
            Step::RecordMissed.trace(turn, connection.0, 0);
        }
        found
    }

    fn take_stage(&mut self, handle: Handle<ConnectionRecord>) -> Option<Stage> {
        self.records.look_mut(handle)?.stage.take()
    }

    fn put_stage(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<ConnectionRecord>, stage: Stage) {
        if let Some(record) = self.records.look_mut(handle) {
            let entered = stage.word();
            if record.entered != entered {
                record.entered = entered;
                record.entered_ns = turn.now_ns();
                if let Some(reported) = record.reported.take() {
                    self.overdue.has_come(reported);
                }
                Step::StageEntered.trace(turn, handle.to_bits(), entered.number().into());
            }
            record.stage = Some(stage);
            self.watch(turn, entered);
        }
    }

    /// What came does not fit: it came late, or twice.
    fn miss(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<ConnectionRecord>, stage: Option<Stage>) {
        self.counts.stale_events += 1;
        let word = stage.as_ref().map(Stage::word);
        tracing::debug!(?handle, stage = word.map(ConnectionStage::name), "came too late");
        let number = word.map_or(0, ConnectionStage::number);
        Step::RecordMissed.trace(turn, handle.to_bits(), number.into());
        if let Some(stage) = stage {
            self.put_stage(turn, handle, stage);
        }
    }

    fn tell_cpu(&self, turn: &mut Turn<'_, Message<P>>, handle: Handle<ConnectionRecord>, message: ToCpu<P>) {
        if let Some(record) = self.records.look(handle) {
            turn.send(reactor::Cpu(record.cpu), message.into());
        }
    }
}

fn handle_of(ticket: Ticket) -> Handle<ConnectionRecord> {
    Handle::from_bits(ticket.0)
}
