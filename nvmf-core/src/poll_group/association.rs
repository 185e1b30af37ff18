//! Messages: how controllers come to be known, how I/O qpairs of other CPUs join them and leave.
//!
//! Every message names its object by handle, which is looked up here; a stale one is a miss, answered where an answer is owed, and counted.

use reactor::{Cpu, Handle, Turn};

use super::PollGroup;
use super::connect::Refusal;
use super::timers::{Timer, token};
use crate::controller::members::{Admission, Joined};
use crate::controller::{Controller, Stage as ControllerStage};
use crate::defect::{self, Defect};
use crate::membership::{ControllerLease, Join, Remote, SubsystemLease};
use crate::message::{Letter, Message};
use crate::qpair::header::Tally;
use crate::qpair::request::RequestEvent;
use crate::qpair::{Membership, Stage};
use crate::status::Status;
use crate::trace::{NO_ID, Step, place, reason_number};
use crate::transport::{DisconnectReason, Transport};
use crate::wire::ConnectRefusal;
use crate::{ControllerKind, Qpair};

impl PollGroup {
    /// A message of the control plane or of another poll group.
    pub fn receive<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        from: Option<Cpu>,
        message: Message,
    ) {
        match message.0 {
            Letter::Admitted { controller, lease } => self.admitted(turn, controller, lease),
            Letter::NotAdmitted { controller, status, result } => self.not_admitted(turn, controller, (status, result)),
            Letter::Join(join) => self.join(turn, join),
            Letter::Joined { qpair, lease } => self.joined(turn, qpair, lease),
            Letter::NotJoined { qpair, status, result } => self.not_joined(turn, qpair, (status, result)),
            Letter::Leave { lease, tally } => self.left(turn, lease, tally),
            Letter::Failed { controller, qpair, report } => self.take_failure_in(turn, controller, qpair, report),
            Letter::Abort { qpair, command_id, aborter } => {
                Step::AbortAsked.note(turn, qpair.to_bits(), command_id.into());
                self.abort(qpair, command_id, aborter);
            }
            Letter::Aborted { qpair, slot, is_aborted } => self.abort_answered((qpair, slot), is_aborted),
            Letter::FailureTaken { qpair } => self.failure_was_taken(turn, qpair),
            Letter::End { qpair, reason } => match self.qpairs.look(qpair) {
                Some(body) if !body.is_draining() => transport.disconnect(qpair, reason),
                Some(_) => {}
                None => self.miss(turn, Step::QpairMissed, qpair.to_bits()),
            },
            Letter::Withdraw { change, withdrawal } => self.withdraw(turn, transport, change, &withdrawal),
            Letter::Notify(notice) => self.notify(&notice),
            Letter::Order { change, order } => self.obey(turn, change, *order),
            Letter::Authenticated(answer) => self.authentication_answered(turn, transport, *answer),
            Letter::Ruling(ruling) => self.ruled(&ruling),
            Letter::Lock { lock, device, span } => self.lock_asked(lock, device, span),
            Letter::Fence { lock, device, span } => self.lock_comes(lock, device, span),
            Letter::Fenced { lock } => self.lock_fenced(lock),
            Letter::Granted { lock, device } => self.lock_granted(lock, device),
            Letter::Unlock { lock } => self.lock_returned(lock),
            Letter::Lift { lock } => self.lock_goes(lock),
            letter @ (Letter::Admit { .. }
            | Letter::Authenticate(_)
            | Letter::Retire { .. }
            | Letter::Withdrawn { .. }
            | Letter::Obeyed { .. }
            | Letter::Petition(_)) => {
                tracing::error!(?letter, ?from, "a message for the control plane came to a polling CPU");
            }
        }
    }

    /// The control plane gave the controller its id.
    fn admitted<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        handle: Handle<ControllerKind>,
        lease: SubsystemLease,
    ) {
        let Some(controller) = self.controllers.look_mut(handle) else {
            self.miss(turn, Step::ControllerMissed, place(self.cpu, handle));
            let tally = Tally::default();
            return turn.send(self.control, Message(Letter::Retire { lease, tally }).into());
        };
        let controller_id = lease.controller_id();
        Step::ControllerAdmitted.trace(turn, place(self.cpu, handle), controller_id.into());
        let admin = controller.admin;
        if self.qpairs.look(admin).is_some_and(|qpair| !qpair.is_draining()) {
            controller.stage = ControllerStage::Live { lease };
            self.connected(turn, admin, controller_id, Stage::Admin { controller: handle });
            self.watch_keep_alive(turn, handle);
        } else {
            // Its admin qpair has begun to drain meanwhile.
            controller.stage = ControllerStage::Closing { lease: Some(lease) };
            self.answer_dropped_connect(admin);
        }
    }

    fn not_admitted<M>(&mut self, turn: &mut Turn<'_, M>, handle: Handle<ControllerKind>, refusal: Refusal) {
        let Some(controller) = self.controllers.remove(handle) else {
            return self.miss(turn, Step::ControllerMissed, place(self.cpu, handle));
        };
        Step::ControllerRefused.trace(turn, place(self.cpu, handle), 0);
        let admin = controller.admin;
        let Some(qpair) = self.qpairs.look_mut(admin) else { return };
        if qpair.is_draining() {
            qpair.stage = Stage::Draining { membership: Membership::None };
            self.answer_dropped_connect(admin);
        } else {
            self.refuse_connect(admin, refusal);
        }
    }

    /// On the controller's CPU: an I/O qpair wants in.
    fn join<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, join: Box<Join>) {
        let Some(controller) = self.controllers.look_mut(join.controller) else {
            self.miss(turn, Step::ControllerMissed, place(self.cpu, join.controller));
            let gone = (Status::CONNECT_INVALID_PARAMETERS, ConnectRefusal::CONTROLLER_ID.to_result());
            return self.answer_join(turn, &join, gone);
        };
        let ControllerStage::Live { lease } = &controller.stage else {
            let gone = (Status::CONNECT_INVALID_PARAMETERS, ConnectRefusal::CONTROLLER_ID.to_result());
            return self.answer_join(turn, &join, gone);
        };
        let id = lease.controller_id();
        let refusal = if id != join.controller_id || controller.subject != join.subject {
            Some((Status::CONNECT_INVALID_PARAMETERS, ConnectRefusal::CONTROLLER_ID.to_result()))
        } else if controller.host != join.host {
            Some((Status::CONNECT_INVALID_HOST, ConnectRefusal::HOST_NQN.to_result()))
        } else if !controller.is_ready() {
            // I/O queues come after CC.EN [NVMe over Fabrics 1.1, 3.3].
            Some((Status::COMMAND_SEQUENCE_ERROR, 0))
        } else if !controller.grants(join.qid)
            || (defect::is(Defect::BusyQueueIdIsRefused) && controller.members.member(join.qid).is_some())
        {
            Some((Status::CONNECT_INVALID_PARAMETERS, ConnectRefusal::QUEUE_ID.to_result()))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.answer_join(turn, &join, refusal);
        }
        let handle = join.controller;
        let here = Remote { cpu: self.cpu, handle };
        match controller.members.admit(here, lease, join, turn.now_ns()) {
            Admission::Joined(Joined { qpair, lease }) => {
                Step::MemberJoined.trace(turn, place(qpair.cpu, qpair.handle), place(self.cpu, handle));
                turn.send(qpair.cpu, Message(Letter::Joined { qpair: qpair.handle, lease }).into());
            }
            Admission::Waits { deadline_ns } => {
                if controller.join_timer.is_none() {
                    controller.join_timer = Some(turn.arm(deadline_ns, token(Timer::JoinWait(handle))));
                }
            }
            Admission::Contended(join) => self.answer_join(turn, &join, (Status::CONNECT_CONTROLLER_BUSY, 0)),
        }
    }

    /// A Join has waited for its queue id as long as it may: the host is to try again.
    pub(super) fn expire_joins<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, handle: Handle<ControllerKind>) {
        let Some(controller) = self.controllers.look_mut(handle) else { return };
        controller.join_timer = None;
        let mut expired = Vec::new();
        while let Some(join) = controller.members.expire(turn.now_ns()) {
            expired.push(join);
        }
        if let Some(deadline_ns) = controller.members.next_deadline_ns() {
            controller.join_timer = Some(turn.arm(deadline_ns, token(Timer::JoinWait(handle))));
        }
        for join in expired {
            self.answer_join(turn, &join, (Status::CONNECT_CONTROLLER_BUSY, 0));
        }
    }

    fn answer_join<M: From<Message>>(&self, turn: &mut Turn<'_, M>, join: &Join, (status, result): Refusal) {
        let answer = Letter::NotJoined { qpair: join.qpair.handle, status, result };
        turn.send(join.qpair.cpu, Message(answer).into());
    }

    /// On the I/O qpair's CPU: it is in.
    fn joined<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, handle: Handle<Qpair>, lease: ControllerLease) {
        let Some(qpair) = self.qpairs.look_mut(handle) else {
            // Cannot be, since a qpair waits for this answer; nothing relies on that.
            self.miss(turn, Step::QpairMissed, handle.to_bits());
            let tally = Tally::default();
            return turn.send(lease.controller().cpu, Message(Letter::Leave { lease, tally }).into());
        };
        if qpair.is_draining() {
            qpair.stage = Stage::Draining { membership: Membership::Member(lease) };
            self.answer_dropped_connect(handle);
        } else {
            let controller_id = lease.controller_id();
            self.connected(turn, handle, controller_id, Stage::Io { lease });
        }
    }

    fn not_joined<M>(&mut self, turn: &mut Turn<'_, M>, handle: Handle<Qpair>, refusal: Refusal) {
        match self.qpairs.look(handle) {
            Some(qpair) if qpair.is_draining() => self.answer_dropped_connect(handle),
            Some(_) => self.refuse_connect(handle, refusal),
            None => self.miss(turn, Step::QpairMissed, handle.to_bits()),
        }
    }

    /// The answer to a Connect whose qpair drains: nothing is awaited any more.
    pub(super) fn answer_dropped_connect(&mut self, handle: Handle<Qpair>) {
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        use crate::qpair::request::RequestState;
        let waiting = qpair.slots().find(|slot| qpair.request(*slot).state == RequestState::DroppedWaiting);
        if let Some(slot) = waiting {
            qpair.must_advance(slot, RequestEvent::Complete);
        }
    }

    /// On the controller's CPU: a member is reaped.
    fn left<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, lease: ControllerLease, tally: Tally) {
        let handle = lease.controller().handle;
        let Some(controller) = self.controllers.look_mut(handle) else {
            return self.miss(turn, Step::ControllerMissed, place(self.cpu, handle));
        };
        if let Some(member) = controller.members.member(lease.qid()) {
            Step::MemberLeft.trace(turn, place(member.cpu, member.handle), place(self.cpu, handle));
        }
        controller.left_tally += tally;
        let next = controller.members.leave(lease);
        if controller.members.count() == 0 {
            controller.queues_ended();
        }
        if let Some(join) = next {
            self.join(turn, join);
        }
        self.retire_if_gone(turn, handle);
    }

    /// Tells the members to end, and turns away who wants in.
    pub(super) fn end_members<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        handle: Handle<ControllerKind>,
        reason: DisconnectReason,
    ) {
        let Some(controller) = self.controllers.look_mut(handle) else { return };
        for member in controller.members.end() {
            turn.send(member.cpu, Message(Letter::End { qpair: member.handle, reason }).into());
        }
        if let Some(timer) = controller.join_timer.take() {
            turn.cancel(timer);
        }
        let waiting: Vec<_> = controller.members.turn_away().collect();
        for join in waiting {
            self.answer_join(turn, &join, (Status::CONNECT_CONTROLLER_BUSY, 0));
        }
    }

    /// The admin qpair begins to drain: the controller is closed.
    pub(super) fn close_controller<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        handle: Handle<ControllerKind>,
        reason: DisconnectReason,
    ) {
        let Some(controller) = self.controllers.look_mut(handle) else { return };
        Step::ControllerCloses.trace(turn, place(self.cpu, handle), reason_number(reason));
        controller.close();
        if let Some(timer) = controller.keep_alive.timer.take() {
            turn.cancel(timer);
        }
        drop(controller.release_events());
        self.end_members(turn, handle, reason);
    }

    /// The admin qpair is reaped: the controller is gone as soon as every lease is home.
    pub(super) fn admin_is_reaped<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, handle: Handle<ControllerKind>) {
        let Some(controller) = self.controllers.look_mut(handle) else { return };
        controller.leave();
        self.retire_if_gone(turn, handle);
    }

    fn retire_if_gone<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, handle: Handle<ControllerKind>) {
        if !self.controllers.look(handle).is_some_and(Controller::is_gone) {
            return;
        }
        let gone = self.controllers.remove(handle);
        let tally = gone.as_ref().map_or_else(Tally::default, |controller| controller.left_tally);
        let lease = gone.and_then(Controller::into_lease);
        let id = lease.as_ref().map_or(NO_ID, |lease| lease.controller_id().into());
        Step::ControllerGone.trace(turn, place(self.cpu, handle), id);
        if let Some(lease) = lease {
            turn.send(self.control, Message(Letter::Retire { lease, tally }).into());
        }
    }

    /// What a message or a call names is gone.
    pub(super) fn miss<M>(&self, turn: &mut Turn<'_, M>, step: Step, subject: u64) {
        self.counters.stale_handle_count.add(1);
        step.trace(turn, subject, 0);
    }
}
