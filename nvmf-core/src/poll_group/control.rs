//! Step 4: where a request starts, and the Fabrics and admin commands.

use reactor::{Handle, Turn};

use super::PollGroup;
use super::admission::Sender;
use super::buffers::RequestName;
use super::fetch::data_pointer;
use crate::ControllerKind;
use crate::command::{AdminCommand, Command, DataPointer, FabricsCommand, IoKind, PropertySet};
use crate::controller::{Answer, Controller, Effect, Stage as ControllerStage, Surroundings};
use crate::message::Message;
use crate::notice::Notice;
use crate::qpair::header::Tally;
use crate::qpair::request::{Fusion, RequestEvent, RequestState};
use crate::qpair::{QpairBody, Stage};
use crate::status::Status;
use crate::subsystem::Subject;
use crate::trace::{Step, place};
use crate::transport::{DisconnectReason, Transport};

impl PollGroup {
    /// Starts what was fetched and is not I/O.
    pub(super) fn begin_control_batch<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
    ) {
        let mut batch = std::mem::take(&mut self.control_batch);
        for name in batch.drain(..) {
            self.begin(turn, transport, name);
        }
        // What a refused Connect has set free meanwhile is begun in the next turn.
        if self.control_batch.is_empty() {
            self.control_batch = batch;
        }
    }

    /// Starts a request, or takes it up again once it has a buffer.
    pub(super) fn begin<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        name: RequestName,
    ) {
        let (handle, slot) = name;
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        if qpair.is_draining() {
            return;
        }
        let command = match qpair.request(slot).command {
            Ok(command) => command,
            Err(status) => return self.complete(name, status, 0),
        };
        if let (Stage::Admin { .. } | Stage::Io { .. }, Some(authentication)) = (&qpair.stage, &qpair.authentication)
            && authentication.bars(&command)
        {
            return self.complete(name, Status::AUTHENTICATION_REQUIRED, 0);
        }
        match (&qpair.stage, command) {
            (Stage::Draining { .. }, _) => {}
            (Stage::Connecting { slot: connect, .. }, _) if *connect != slot => qpair.stalled.push_back(slot),
            (
                Stage::AwaitingConnect { .. } | Stage::Connecting { .. },
                Command::Fabrics(FabricsCommand::Connect(connect)),
            ) => self.begin_connect(turn, transport, name, &connect),
            // The first command is Connect, and it comes once [NVMe over Fabrics 1.1, 3.3].
            (Stage::AwaitingConnect { .. } | Stage::Connecting { .. }, _)
            | (Stage::Admin { .. } | Stage::Io { .. }, Command::Fabrics(FabricsCommand::Connect(_))) => {
                self.complete(name, Status::COMMAND_SEQUENCE_ERROR, 0);
            }
            (Stage::Admin { .. } | Stage::Io { .. }, Command::Fabrics(FabricsCommand::AuthenticationSend(send))) => {
                self.begin_authentication_send(turn, transport, name, &send);
            }
            (
                Stage::Admin { .. } | Stage::Io { .. },
                Command::Fabrics(FabricsCommand::AuthenticationReceive(receive)),
            ) => self.begin_authentication_receive(turn, name, &receive),
            (Stage::Admin { controller }, Command::Admin(command)) => {
                let controller = *controller;
                self.begin_admin(turn, transport, name, controller, &command);
            }
            (Stage::Admin { controller }, Command::Fabrics(command)) => {
                let controller = *controller;
                self.execute_fabrics(turn, name, controller, &command);
            }
            (Stage::Io { lease }, Command::Io(command)) => {
                let sender = Sender {
                    subject: lease.subject(),
                    controller_id: lease.controller_id(),
                    host: lease.host(),
                    listener: qpair.spec.listener,
                };
                if let IoKind::Reservation(reservation) = command.kind {
                    self.begin_reservation(turn, transport, name, sender, &command, &reservation);
                } else {
                    self.begin_io(turn, transport, name, sender, &command);
                }
            }
            (Stage::Io { .. }, Command::Fabrics(FabricsCommand::Disconnect)) => {
                // The connection ends when the host has been told so.
                qpair.last_slot = Some((slot, DisconnectReason::Host));
                self.complete(name, Status::SUCCESS, 0);
            }
            // The parser lets no command of the other kind of queue through.
            (Stage::Io { .. }, Command::Fabrics(_) | Command::Admin(_)) | (Stage::Admin { .. }, Command::Io(_)) => {
                self.complete(name, Status::INVALID_OPCODE, 0);
            }
        }
    }

    /// A request's end is known. Its response is posted at step 9 of this turn, or of the next where a message or timer was the cause.
    pub(super) fn complete(&mut self, name: RequestName, status: Status, result: u64) {
        let (handle, slot) = name;
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        qpair.must_advance(slot, RequestEvent::Complete);
        let request = qpair.request(slot);
        request.status = status;
        request.result = result;
        // What the transport reads is its buffer, or the device's own memory until the transport is done.
        if (request.push.is_none() || request.buffer.is_some())
            && let Some(claim) = request.claim.take()
        {
            self.gate.give(claim);
        }
        let is_fused = request.fusion != Fusion::Alone || qpair.fusing == Some(slot);
        if qpair.request(slot).state == RequestState::Completed {
            self.completed.push(name);
        }
        if is_fused {
            self.fused_ended(name, status);
        }
    }

    /// An admin command starts: what it takes from the host is brought here first.
    fn begin_admin<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        name: RequestName,
        controller: Handle<ControllerKind>,
        command: &AdminCommand,
    ) {
        let input =
            self.controllers.look(controller).ok_or(Status::INTERNAL_ERROR).and_then(|owner| owner.input(command));
        match input {
            Ok(None) => self.execute_admin(turn, name, controller, command, &[]),
            Ok(Some((from @ (DataPointer::Keyed { .. } | DataPointer::Listed(_)), len))) => {
                if self.ensure_buffer(name, len) {
                    self.pull(transport, name, from, len);
                }
            }
            // IOCCSZ is for I/O queues: an admin capsule has no data [NVMe RDMA Transport 1.0, 3.3].
            Ok(Some(_)) => self.complete(name, Status::SGL_TYPE_INVALID, 0),
            Err(status) => self.complete(name, status, 0),
        }
    }

    /// What an admin command takes from the host is in its buffer: copied out once, then looked at.
    pub(super) fn admin_data_is_here<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: RequestName,
        command: &AdminCommand,
    ) {
        let Some(qpair) = self.qpairs.look_mut(name.0) else { return };
        let Stage::Admin { controller } = qpair.stage else { return };
        let Some(Ok(Some((_, len)))) = self.controllers.look(controller).map(|owner| owner.input(command)) else {
            return self.complete(name, Status::INTERNAL_ERROR, 0);
        };
        let mut input = vec![0; len as usize];
        if let Some(segment) = qpair.request(name.1).data_segment(len) {
            segment.read(0, &mut input);
        }
        self.execute_admin(turn, name, controller, command, &input);
    }

    fn execute_admin<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: RequestName,
        controller: Handle<ControllerKind>,
        command: &AdminCommand,
        input: &[u8],
    ) {
        let (handle, slot) = name;
        let snapshot = self.directory.snapshot(turn.guard());
        let Some(owner) = self.controllers.look_mut(controller) else {
            return self.complete(name, Status::INTERNAL_ERROR, 0);
        };
        let data_len = owner.data_len(command);
        if data_len > snapshot.controller.transfer_len_max {
            return self.complete(name, Status::INVALID_FIELD, 0);
        }
        // The buffer first: once executed, a command has had its effect.
        if data_len > 0 && !self.ensure_buffer(name, data_len) {
            return;
        }
        let around = Surroundings {
            snapshot,
            directory: &self.directory,
            now_ns: turn.now_ns(),
            begun_ns: self.first_open_ns.unwrap_or_else(|| turn.now_ns()),
            tally: if Controller::needs_tally(command) { self.tally_of(turn, controller) } else { Tally::default() },
        };
        let Some(owner) = self.controllers.look_mut(controller) else { return };
        self.scratch.clear();
        match owner.execute(slot, command, input, &around, &mut self.scratch) {
            Answer::Done { status, result } => {
                if status.is_success()
                    && !self.scratch.is_empty()
                    && let Some(qpair) = self.qpairs.look_mut(handle)
                {
                    let request = qpair.request(slot);
                    if let (Some(buffer), Some(to)) = (&request.buffer, data_pointer(&Command::Admin(*command))) {
                        let segment = buffer.segment().part(0, self.scratch.len());
                        segment.write(0, &self.scratch);
                        request.push = Some((segment, to));
                    }
                }
                self.complete(name, status, result);
                match command {
                    AdminCommand::SetFeatures(_) => self.watch_keep_alive(turn, controller),
                    // A log that was read lets its event be told again.
                    AdminCommand::GetLogPage(_) => self.tell_events(controller),
                    AdminCommand::Identify(_)
                    | AdminCommand::GetFeatures(_)
                    | AdminCommand::KeepAlive
                    | AdminCommand::AsyncEventRequest
                    | AdminCommand::Abort { .. } => {}
                }
            }
            Answer::Held => {
                if let Some(qpair) = self.qpairs.look_mut(handle) {
                    qpair.must_advance(slot, RequestEvent::AwaitEvent);
                }
                // One that is due already.
                self.tell_events(controller);
            }
            Answer::Petition { nsid, plea } => match (owner.subject, &owner.stage) {
                (Subject::Nvm(subsystem), ControllerStage::Live { lease }) => {
                    let served = (subsystem, lease.host());
                    self.petition(turn, name, served, nsid, plea);
                }
                // The discovery service has no namespace, and a controller that ends has no answer.
                _ => self.complete(name, Status::INVALID_FIELD, 0),
            },
            Answer::Abort { sqid, command_id } => self.begin_abort(turn, name, controller, sqid, command_id),
        }
    }

    /// Something has happened: the controllers of this CPU that are meant tell their hosts.
    pub(super) fn notify(&mut self, notice: &Notice) {
        let meant: Vec<Handle<ControllerKind>> = self
            .controllers
            .iter()
            .filter(|(_, controller)| {
                let admin = self.qpairs.look(controller.admin);
                admin.is_some_and(|admin| notice.concerns(controller.subject, &controller.host, admin.spec.listener))
            })
            .map(|(handle, _)| handle)
            .collect();
        for handle in meant {
            if let Some(controller) = self.controllers.look_mut(handle) {
                controller.notice(notice);
            }
            self.tell_events(handle);
        }
    }

    /// Ends as many held event requests as there is to tell.
    fn tell_events(&mut self, handle: Handle<ControllerKind>) {
        let Some(controller) = self.controllers.look_mut(handle) else { return };
        let admin = controller.admin;
        // A closing controller's requests are dropped with their qpair.
        if self.qpairs.look(admin).is_none_or(QpairBody::is_draining) {
            return;
        }
        while let Some((slot, event)) = self.controllers.look_mut(handle).and_then(Controller::next_event) {
            self.complete((admin, slot), Status::SUCCESS, event.to_result());
        }
    }

    fn execute_fabrics<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: RequestName,
        controller: Handle<ControllerKind>,
        command: &FabricsCommand,
    ) {
        let Some(owner) = self.controllers.look_mut(controller) else {
            return self.complete(name, Status::INTERNAL_ERROR, 0);
        };
        match command {
            FabricsCommand::PropertyGet(get) => match owner.property(get) {
                Answer::Done { status, result } => self.complete(name, status, result),
                Answer::Held | Answer::Petition { .. } | Answer::Abort { .. } => {
                    self.complete(name, Status::INTERNAL_ERROR, 0)
                }
            },
            FabricsCommand::PropertySet(set) => self.set_property(turn, name, controller, set),
            FabricsCommand::AuthenticationSend(_)
            | FabricsCommand::AuthenticationReceive(_)
            | FabricsCommand::Connect(_)
            | FabricsCommand::Disconnect => self.complete(name, Status::INVALID_OPCODE, 0),
        }
    }

    fn set_property<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: RequestName,
        controller: Handle<ControllerKind>,
        set: &PropertySet,
    ) {
        let Some(owner) = self.controllers.look_mut(controller) else { return };
        let was_ready = owner.is_ready();
        let place = place(self.cpu, controller);
        match owner.set_property(set) {
            Ok(Effect::None) => {
                if owner.is_ready() && !was_ready {
                    Step::ControllerEnabled.trace(turn, place, 0);
                }
                self.complete(name, Status::SUCCESS, 0);
            }
            Ok(effect @ (Effect::Reset | Effect::ShutDown)) => {
                let step = if effect == Effect::Reset { Step::ControllerReset } else { Step::ControllerShutDown };
                step.trace(turn, place, 0);
                self.end_queues(turn, controller);
                if effect == Effect::Reset {
                    let snapshot = self.directory.snapshot(turn.guard());
                    if let Some(owner) = self.controllers.look_mut(controller) {
                        owner.reset(snapshot);
                    }
                }
                self.complete(name, Status::SUCCESS, 0);
            }
            Err(status) => self.complete(name, status, 0),
        }
    }

    /// A reset or shutdown: the I/O qpairs end, those that want to come in are turned away, held event requests are aborted.
    fn end_queues<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, controller: Handle<ControllerKind>) {
        self.end_members(turn, controller, DisconnectReason::ControllerGone);
        let Some(owner) = self.controllers.look_mut(controller) else { return };
        let admin = owner.admin;
        for slot in owner.release_events() {
            self.complete((admin, slot), Status::ABORTED_QUEUE_DELETED, 0);
        }
    }
}
