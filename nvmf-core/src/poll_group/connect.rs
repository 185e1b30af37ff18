//! Connect: the queue's first command, which ties it to a controller.
//!
//! The admin queue makes a controller here and asks the control plane for its id; an I/O queue asks the controller's CPU. Meanwhile the qpair
//! is `Connecting`, and what else comes on it waits, in order, in its slots.

use reactor::{Full, Handle, Turn};

use super::PollGroup;
use super::buffers::RequestName;
use crate::Qpair;
use crate::command::{Connect, DataPointer};
use crate::controller::{Controller, NewController};
use crate::limits::QUEUE_DEPTH_MIN;
use crate::membership::{Host, Join, Remote};
use crate::message::{Letter, Message};
use crate::qpair::header::QpairStage;
use crate::qpair::request::RequestEvent;
use crate::qpair::{Membership, QpairBody, Stage};
use crate::spec::ControllerModel;
use crate::status::Status;
use crate::subsystem::{Snapshot, Subject};
use crate::trace::{Step, place};
use crate::transport::{QpairSpec, Transport};
use crate::wire::{ConnectData, ConnectParameters, ConnectRefusal, ConnectResult, DYNAMIC_CONTROLLER_ID, Nqn};

/// Status and result of a refused Connect.
pub(super) type Refusal = (Status, u64);

const DATA_LEN: usize = ConnectData::LEN as usize;

fn invalid(field: ConnectRefusal) -> Refusal {
    (Status::CONNECT_INVALID_PARAMETERS, field.to_result())
}

impl PollGroup {
    /// Connect was fetched: its data is in the capsule, or has to be pulled.
    pub(super) fn begin_connect<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        name: RequestName,
        connect: &Connect,
    ) {
        let (handle, slot) = name;
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        // A second time, once it has a buffer.
        if !matches!(qpair.stage, Stage::Connecting { .. }) {
            qpair.begin_connecting(slot);
        }
        match connect.data {
            DataPointer::InCapsule { .. } => self.connect_data_is_here(turn, name, connect),
            from @ (DataPointer::Keyed { .. } | DataPointer::Listed(_)) => {
                if self.ensure_buffer(name, ConnectData::LEN) {
                    self.pull(transport, name, from, ConnectData::LEN);
                }
            }
            DataPointer::None => self.refuse_connect(handle, (Status::SGL_LENGTH_INVALID, 0)),
        }
    }

    /// The 1024 bytes are there: copied out once, then checked.
    pub(super) fn connect_data_is_here<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: RequestName,
        connect: &Connect,
    ) {
        let (handle, slot) = name;
        let mut bytes = [0; DATA_LEN];
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let request = qpair.request(slot);
        let data = match connect.data {
            DataPointer::InCapsule { offset, len } => request.in_capsule(offset, len),
            DataPointer::Keyed { .. } | DataPointer::Listed(_) | DataPointer::None => {
                request.buffer.as_ref().map(|buffer| buffer.segment().part(0, DATA_LEN)).ok_or(Status::INTERNAL_ERROR)
            }
        };
        match data {
            Ok(data) => data.read(0, &mut bytes),
            Err(status) => return self.refuse_connect(handle, (status, 0)),
        }
        let outcome = match ConnectData::parse(&bytes) {
            Ok(parameters) => self.seek_controller(turn, name, connect, parameters),
            Err(error) => Err((error.status(), error.refusal().to_result())),
        };
        if let Err(refusal) = outcome {
            self.refuse_connect(handle, refusal);
        }
    }

    fn seek_controller<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: RequestName,
        connect: &Connect,
        parameters: ConnectParameters,
    ) -> Result<(), Refusal> {
        let snapshot = self.directory.snapshot(turn.guard());
        let Some(qpair) = self.qpairs.look(name.0) else { return Ok(()) };
        let subject = check(snapshot, &qpair.spec, connect, &parameters)?;
        self.count_with_host(name.0, &parameters.host_nqn);
        let host = Host { nqn: parameters.host_nqn, id: parameters.host_id };
        self.expect_authentication(snapshot, name.0, subject, &host);
        if connect.qid == 0 {
            self.make_controller(turn, name, connect, subject, (host, parameters.controller_id))
        } else {
            self.ask_to_join(turn, name, connect, subject, host, parameters.controller_id)
        }
    }

    /// From here on the qpair's commands count with those of its host.
    fn count_with_host(&mut self, handle: Handle<Qpair>, host: &Nqn) {
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let slot_count = qpair.slots().count();
        // An earlier Connect of this qpair may have been refused.
        self.hosts.leave(qpair.host, slot_count);
        qpair.host = self.hosts.enter(host, slot_count);
        qpair.host_key = super::hosts::key(host);
        self.buffers.reserve(qpair.host, self.hosts.slot_count(qpair.host));
    }

    fn make_controller<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (handle, slot): RequestName,
        connect: &Connect,
        subject: Subject,
        (host, wanted): (Host, u16),
    ) -> Result<(), Refusal> {
        let snapshot = self.directory.snapshot(turn.guard());
        let announced = Box::new(host.clone());
        let Some(qpair) = self.qpairs.look(handle) else { return Ok(()) };
        let listener = qpair.spec.listener;
        let (keep_alive_ms, now_ns) = (connect.keep_alive_ms, turn.now_ns());
        let new = NewController { admin: handle, subject, host, listener, keep_alive_ms, now_ns };
        let controller = self
            .controllers
            .insert(Controller::new(new, snapshot))
            .map_err(|Full(_)| (Status::CONNECT_CONTROLLER_BUSY, 0))?;
        Step::ControllerBorn.trace(turn, place(self.cpu, controller), handle.to_bits());
        let remote = Remote { cpu: self.cpu, handle: controller };
        turn.send(self.control, Message(Letter::Admit { controller: remote, subject, host: announced, wanted }).into());
        self.wait_for_controller((handle, slot), subject, Membership::Owner(controller));
        Ok(())
    }

    fn ask_to_join<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (handle, slot): RequestName,
        connect: &Connect,
        subject: Subject,
        host: Host,
        controller_id: u16,
    ) -> Result<(), Refusal> {
        let controller = self.directory.controller(controller_id).ok_or(invalid(ConnectRefusal::CONTROLLER_ID))?;
        let join = Box::new(Join {
            controller: controller.handle,
            controller_id,
            qpair: Remote { cpu: self.cpu, handle },
            qid: connect.qid,
            subject,
            host,
        });
        turn.send(controller.cpu, Message(Letter::Join(join)).into());
        self.wait_for_controller((handle, slot), subject, Membership::None);
        Ok(())
    }

    fn wait_for_controller(&mut self, (handle, slot): RequestName, subject: Subject, membership: Membership) {
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        qpair.must_advance(slot, RequestEvent::AwaitController);
        if let Stage::Connecting { membership: held, subject: agreed, .. } = &mut qpair.stage {
            *held = membership;
            *agreed = Some(subject);
        }
    }

    /// Connect succeeded: the queue serves, and what waited behind Connect is begun in the next turn's batches.
    pub(super) fn connected<M>(
        &mut self,
        turn: &mut Turn<'_, M>,
        handle: Handle<Qpair>,
        controller_id: u16,
        next: Stage,
    ) {
        let stage = if matches!(next, Stage::Admin { .. }) { QpairStage::Admin } else { QpairStage::Io };
        let header = self.header(turn, handle);
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let Stage::Connecting { timer, slot, .. } = std::mem::replace(&mut qpair.stage, next) else {
            return tracing::error!(?handle, "a qpair that was not connecting was connected");
        };
        turn.cancel(timer);
        if let Ok(crate::command::Command::Fabrics(crate::command::FabricsCommand::Connect(connect))) =
            qpair.request(slot).command
        {
            qpair.size_queue(&connect);
            let counted =
                if connect.qid == 0 { &self.counters.admin_connect_count } else { &self.counters.io_connect_count };
            counted.add(1);
        }
        if let Some(header) = header {
            header.set_controller_id(controller_id);
            header.set_stage(stage);
        }
        let authentication = self.require_authentication(turn, handle);
        let result = ConnectResult { controller_id, authentication }.to_result();
        self.complete((handle, slot), Status::SUCCESS, result);
        self.unstall(handle);
    }

    /// Connect is answered with an error. The host may try again until the qpair's time is over.
    pub(super) fn refuse_connect(&mut self, handle: Handle<Qpair>, (status, result): Refusal) {
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let stage = qpair.take_stage();
        let Stage::Connecting { timer, slot, .. } = stage else {
            qpair.stage = stage;
            return;
        };
        qpair.stage = Stage::AwaitingConnect { timer };
        self.counters.connect_refused_count.add(1);
        self.complete((handle, slot), status, result);
        self.unstall(handle);
    }

    /// What waited behind Connect starts now.
    fn unstall(&mut self, handle: Handle<Qpair>) {
        let Some(QpairBody { stalled, .. }) = self.qpairs.look_mut(handle) else { return };
        self.control_batch.extend(stalled.drain(..).map(|slot| (handle, slot)));
    }
}

/// What a Connect is to: or why not.
fn check(
    snapshot: &Snapshot,
    spec: &QpairSpec,
    connect: &Connect,
    parameters: &ConnectParameters,
) -> Result<Subject, Refusal> {
    if snapshot.is_closing {
        return Err((Status::CONNECT_CONTROLLER_BUSY, 0));
    }
    // What the transport's connection request said [NVMe over Fabrics 1.1, 3.3; RDMA private data].
    if connect.qid != spec.qid {
        return Err(invalid(ConnectRefusal::QUEUE_ID));
    }
    let limits = &snapshot.controller;
    let depth_max = if connect.qid == 0 { limits.admin_queue_depth_max } else { limits.queue_depth_max };
    let depth_max = u32::from(depth_max.min(spec.depth));
    if !(u32::from(QUEUE_DEPTH_MIN)..=depth_max).contains(&connect.entry_count) {
        return Err(invalid(ConnectRefusal::QUEUE_SIZE));
    }
    let subject =
        snapshot.subject(&parameters.subsystem_nqn, spec.listener).ok_or(invalid(ConnectRefusal::SUBSYSTEM_NQN))?;
    let is_allowed = match subject {
        // Whoever may ask is told only of what it may use.
        Subject::Discovery => true,
        Subject::Nvm(id) => {
            snapshot.subsystem(id).is_some_and(|subsystem| subsystem.allows(parameters.host_nqn.as_str()))
        }
    };
    if !is_allowed {
        return Err((Status::CONNECT_INVALID_HOST, ConnectRefusal::HOST_NQN.to_result()));
    }
    let model = match subject {
        Subject::Nvm(id) => {
            snapshot.subsystem(id).map_or(ControllerModel::Dynamic, |subsystem| subsystem.controller_model)
        }
        // A discovery controller is always a dynamic one [NVMe Base 2.0, 3.1.2].
        Subject::Discovery => ControllerModel::Dynamic,
    };
    // Each model has its own ways to ask; whether there is the one that was asked for the control plane knows [NVMe over Fabrics 1.1, 3.3].
    let is_dynamic = parameters.controller_id == DYNAMIC_CONTROLLER_ID;
    match (connect.qid, subject) {
        (0, _) if is_dynamic != (model == ControllerModel::Dynamic) => Err(invalid(ConnectRefusal::CONTROLLER_ID)),
        (0, _) => Ok(subject),
        (_, Subject::Discovery) => Err(invalid(ConnectRefusal::QUEUE_ID)),
        (_, Subject::Nvm(_)) => Ok(subject),
    }
}
