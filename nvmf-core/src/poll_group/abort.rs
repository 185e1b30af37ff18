//! Abort [NVMe Base 2.0, 5.1]: a command that waits ends with *Command Abort Requested*; one whose data is on its way from the host ends so when
//! that has come, since a transfer cannot be recalled; one that a device works on ends so if the device can stop it. What cannot be stopped, and what
//! another CPU works on, goes on, and bit 0 of the answer says so.
//!
//! The Abort itself waits until the end of the other command is known, on whatever CPU that lives, and is answered after it. Where that command's qpair
//! ends meanwhile, nothing was aborted.

use reactor::{Handle, Turn};

use super::PollGroup;
use super::buffers::RequestName;
use super::io::token;
use crate::defect::{self, Defect};
use crate::limits::ABORT_COUNT_MAX;
use crate::membership::Remote;
use crate::message::{Letter, Message};
use crate::qpair::Stage;
use crate::qpair::request::{RequestEvent, RequestState};
use crate::status::Status;
use crate::trace::Step;
use crate::transport::Slot;
use crate::{ControllerKind, Qpair};

/// DW0 bit 0 of the response: the command was not aborted.
const NOT_ABORTED: u64 = 1;

/// An Abort that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aborter {
    /// On which admin queue.
    pub(crate) admin: Remote<Qpair>,
    /// In which slot.
    pub(crate) slot: Slot,
}

impl PollGroup {
    /// On the controller's CPU: the command is looked for where its queue lives.
    pub(super) fn begin_abort<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (admin, slot): RequestName,
        controller: Handle<ControllerKind>,
        sqid: u16,
        command_id: u16,
    ) {
        let here = Remote { cpu: self.cpu, handle: admin };
        let member = self.controllers.look(controller).and_then(|owner| owner.members.member(sqid));
        let queue = if sqid == 0 { Some(here) } else { member };
        let Some(queue) = queue else {
            return self.complete((admin, slot), Status::SUCCESS, NOT_ABORTED);
        };
        let Some(qpair) = self.qpairs.look_mut(admin) else { return };
        // Once Connect is answered, little else on an admin queue waits for another CPU.
        let waiting = qpair.slots().filter(|slot| qpair.request(*slot).state == RequestState::WaitingController);
        if waiting.count() >= usize::from(ABORT_COUNT_MAX) {
            return self.complete((admin, slot), Status::ABORT_LIMIT_EXCEEDED, 0);
        }
        qpair.must_advance(slot, RequestEvent::AwaitController);
        let aborter = Aborter { admin: here, slot };
        if queue.cpu == self.cpu {
            Step::AbortAsked.note(turn, queue.handle.to_bits(), command_id.into());
            self.abort(queue.handle, command_id, aborter);
        } else {
            turn.send(queue.cpu, Message(Letter::Abort { qpair: queue.handle, command_id, aborter }).into());
        }
    }

    /// On the queue's CPU: ends the command, now or when its data has come, if that can be done.
    pub(super) fn abort(&mut self, handle: Handle<Qpair>, command_id: u16, aborter: Aborter) {
        let found = self.qpairs.look_mut(handle).and_then(|qpair| {
            let slot = qpair.slots().find(|slot| {
                let request = qpair.request(*slot);
                let is_abortable = request.state.is_abortable() || request.state == RequestState::Operating;
                request.command_id == command_id && is_abortable && request.aborter.is_none()
            })?;
            Some((slot, qpair.request(slot).state))
        });
        let Some((slot, state)) = found else { return self.abort_answers.push((aborter, false)) };
        let name = (handle, slot);
        if state == RequestState::Pulling {
            if let Some(qpair) = self.qpairs.look_mut(handle) {
                qpair.request(slot).aborter = Some(aborter);
            }
            return;
        }
        if state == RequestState::Operating {
            let device = self.qpairs.look_mut(handle).and_then(|qpair| Some(qpair.request(slot).work.as_ref()?.0));
            let is_stopped = device.is_some_and(|device| self.devices.cancel(device, token(handle, slot)));
            match self.qpairs.look_mut(handle) {
                Some(qpair) if is_stopped => qpair.request(slot).aborter = Some(aborter),
                Some(_) | None => self.abort_answers.push((aborter, false)),
            }
            return;
        }
        if state == RequestState::WaitingEvent
            && let Some(Stage::Admin { controller }) = self.qpairs.look(handle).map(|qpair| &qpair.stage)
            && let Some(owner) = self.controllers.look_mut(*controller)
        {
            owner.release_event(slot);
        }
        if defect::is(Defect::AbortIsOnlySaid) {
            return self.abort_answers.push((aborter, true));
        }
        self.buffers.forget(|request| request == name);
        if let Some(host) = self.qpairs.look(handle).map(|qpair| qpair.host) {
            self.hosts.forget(host, |request| request == name);
        }
        self.parking.forget(|request| request == name);
        self.gate.forget(|request| request == name);
        self.complete(name, Status::ABORT_REQUESTED, 0);
        self.abort_answers.push((aborter, true));
    }

    /// The data of a command has come. Whether it was to be aborted: then it has ended.
    pub(super) fn abort_pulled(&mut self, name: RequestName) -> bool {
        let aborter = self.qpairs.look_mut(name.0).and_then(|qpair| qpair.request(name.1).aborter.take());
        let Some(aborter) = aborter else { return false };
        self.complete(name, Status::ABORT_REQUESTED, 0);
        self.abort_answers.push((aborter, true));
        true
    }

    /// The qpair drains: what was to be aborted on it ends with it.
    pub(super) fn drop_aborts(&mut self, handle: Handle<Qpair>) {
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        for slot in qpair.slots() {
            if let Some(aborter) = qpair.request(slot).aborter.take() {
                self.abort_answers.push((aborter, false));
            }
        }
    }

    /// After this turn's responses: the Aborts whose commands have ended, or could not be ended, are answered.
    pub(super) fn answer_aborts<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>) {
        let mut answers = std::mem::take(&mut self.abort_answers);
        for (Aborter { admin, slot }, is_aborted) in answers.drain(..) {
            if admin.cpu == self.cpu {
                self.abort_answered((admin.handle, slot), is_aborted);
            } else {
                turn.send(admin.cpu, Message(Letter::Aborted { qpair: admin.handle, slot, is_aborted }).into());
            }
        }
        self.abort_answers = answers;
    }

    /// On the controller's CPU: the answer to an Abort is known.
    pub(super) fn abort_answered(&mut self, (admin, slot): RequestName, is_aborted: bool) {
        // The admin qpair waits for this answer, so it is there.
        let Some(qpair) = self.qpairs.look_mut(admin) else { return self.counters.stale_handle_count.add(1) };
        if qpair.is_draining() {
            // Any one of those that wait: what counts is how many are still awaited.
            self.answer_dropped_connect(admin);
        } else {
            self.complete((admin, slot), Status::SUCCESS, if is_aborted { 0 } else { NOT_ABORTED });
        }
    }
}
