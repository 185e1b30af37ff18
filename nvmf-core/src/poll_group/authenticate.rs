//! Authentication on this CPU's queues: the two commands, their deadline, and what comes back from those who compute.
//!
//! Nothing is computed here. A question goes to the control plane by value, and the request that waits for it holds nothing: so a draining qpair waits for no
//! answer, which is a miss then (by handle, or by number where the qpair has asked something else since).

use reactor::{Handle, Turn};

use super::PollGroup;
use super::buffers::RequestName;
use super::timers::{Timer, token};
use crate::Qpair;
use crate::auth::{Answer, Delivered, Delivery, Question, Taken, Work};
use crate::command::{DataPointer, Message as AuthenticationMessage};
use crate::limits::AUTHENTICATION_TIMEOUT_NS;
use crate::membership::{Host, Remote};
use crate::message::{Letter, Message};
use crate::qpair::QpairBody;
use crate::qpair::authentication::{Asked, Authentication, Standing};
use crate::qpair::request::{RequestEvent, RequestState};
use crate::status::Status;
use crate::subsystem::{Snapshot, Subject};
use crate::trace::Step;
use crate::transport::{DisconnectReason, Transport};
use crate::wire::ConnectResult;

impl PollGroup {
    /// A Connect was checked: whether its host has to authenticate on this queue.
    pub(super) fn expect_authentication(
        &mut self,
        snapshot: &Snapshot,
        handle: Handle<Qpair>,
        subject: Subject,
        host: &Host,
    ) {
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        qpair.authentication = match subject {
            Subject::Nvm(id) if snapshot.subsystem(id).is_some_and(|s| s.must_authenticate(host.nqn.as_str())) => {
                Some(Box::new(Authentication::new(host.nqn.clone(), id)))
            }
            Subject::Nvm(_) | Subject::Discovery => None,
        };
    }

    /// Connect succeeded: AUTHREQ, and the time that the host has from now on.
    pub(super) fn require_authentication<M>(&mut self, turn: &mut Turn<'_, M>, handle: Handle<Qpair>) -> u16 {
        let Some(QpairBody { authentication: Some(_), .. }) = self.qpairs.look(handle) else { return 0 };
        self.watch_authentication(turn, handle);
        ConnectResult::AUTHENTICATION_TRANSACTION
    }

    /// Authentication Send was fetched: its message is in the capsule, or has to be pulled.
    pub(super) fn begin_authentication_send<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        name: RequestName,
        send: &AuthenticationMessage,
    ) {
        match send.data {
            DataPointer::InCapsule { .. } => self.authentication_message_is_here(turn, name, send),
            from @ (DataPointer::Keyed { .. } | DataPointer::Listed(_)) => {
                if self.ensure_buffer(name, send.len) {
                    self.pull(transport, name, from, send.len);
                }
            }
            DataPointer::None => self.complete(name, Status::SGL_LENGTH_INVALID, 0),
        }
    }

    /// The message is there: copied out once, then looked at.
    pub(super) fn authentication_message_is_here<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: RequestName,
        send: &AuthenticationMessage,
    ) {
        let (handle, slot) = name;
        let snapshot = self.directory.snapshot(turn.guard());
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let request = qpair.request(slot);
        let data = match send.data {
            DataPointer::InCapsule { offset, len } => request.in_capsule(offset, len),
            DataPointer::Keyed { .. } | DataPointer::Listed(_) | DataPointer::None => {
                request.data_segment(send.len).ok_or(Status::INTERNAL_ERROR)
            }
        };
        let mut bytes = vec![0; send.len as usize];
        match data {
            Ok(data) => data.read(0, &mut bytes),
            Err(status) => return self.complete(name, status, 0),
        }
        let Some(authentication) = &mut qpair.authentication else {
            return self.complete(name, Status::INVALID_OPCODE, 0);
        };
        let was_under_way = authentication.exchange.is_under_way();
        let (hashes, groups) = snapshot.authentication;
        let taken = authentication.exchange.take(&bytes, hashes, groups);
        // A host that is known begins again.
        if !was_under_way && authentication.deadline.is_none() {
            self.watch_authentication(turn, handle);
        }
        match taken {
            Taken::Done => self.complete(name, Status::SUCCESS, 0),
            Taken::Authenticated => {
                self.host_is_known(turn, handle);
                self.complete(name, Status::SUCCESS, 0);
            }
            Taken::Ask(work) => {
                // Strangers do not keep data buffers while somebody computes.
                if let Some(buffer) = self.qpairs.look_mut(handle).and_then(|q| q.request(slot).buffer.take()) {
                    self.buffers.give(buffer);
                }
                self.ask(turn, name, work);
            }
            Taken::Ends => self.end_unauthenticated(turn, name),
            Taken::OutOfTurn => self.complete(name, Status::COMMAND_SEQUENCE_ERROR, 0),
        }
    }

    /// Authentication Receive was fetched, or has its buffer now, or its answer.
    pub(super) fn begin_authentication_receive<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: RequestName,
        receive: &AuthenticationMessage,
    ) {
        let (handle, slot) = name;
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let Some(authentication) = &mut qpair.authentication else {
            return self.complete(name, Status::INVALID_OPCODE, 0);
        };
        let bytes = match authentication.exchange.fetch() {
            Delivery::Message(bytes) => bytes,
            Delivery::Ask(work) => return self.ask(turn, name, work),
            Delivery::OutOfTurn => return self.complete(name, Status::COMMAND_SEQUENCE_ERROR, 0),
        };
        // The host may come again with more room: nothing is lost.
        let Some(len) = u32::try_from(bytes.len()).ok().filter(|len| *len <= receive.len) else {
            return self.complete(name, Status::INVALID_FIELD, 0);
        };
        if !self.ensure_buffer(name, len) {
            return;
        }
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let request = qpair.request(slot);
        let Some(segment) = request.data_segment(len) else { return };
        segment.write(0, &bytes);
        request.push = Some((segment, receive.data));
        let delivered = qpair.authentication.as_mut().map(|authentication| authentication.exchange.delivered());
        match delivered {
            Some(Delivered::Ends) => self.end_unauthenticated(turn, name),
            Some(Delivered::Authenticated) => {
                self.host_is_known(turn, handle);
                self.complete(name, Status::SUCCESS, 0);
            }
            Some(Delivered::On) | None => self.complete(name, Status::SUCCESS, 0),
        }
    }

    /// Somebody has computed.
    pub(super) fn authentication_answered<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        answer: Answer,
    ) {
        let handle = answer.qpair.handle;
        let waits = match self.qpairs.look_mut(handle).map(|qpair| &mut qpair.authentication) {
            Some(Some(authentication)) => {
                let asked = authentication.asked.take_if(|asked| asked.number == answer.number);
                asked.map(|asked| (asked.slot, authentication.exchange.answered(answer.outcome)))
            }
            Some(None) | None => None,
        };
        let Some((slot, is_to_be_retried)) = waits else {
            return self.miss(turn, Step::QpairMissed, handle.to_bits());
        };
        let name = (handle, slot);
        let is_waiting = |q: &mut QpairBody| q.request(slot).state == RequestState::Authenticating;
        if !self.qpairs.look_mut(handle).is_some_and(is_waiting) {
            return self.miss(turn, Step::QpairMissed, handle.to_bits());
        }
        if is_to_be_retried {
            self.counters.authentication_busy_count.add(1);
            return self.complete(name, Status::COMMAND_INTERRUPTED, 0);
        }
        // A Receive goes on with what there is to fetch; a Send has done what it should, and the next Receive says what came of it.
        if let Some(qpair) = self.qpairs.look_mut(handle)
            && qpair.request(slot).is_authentication_send()
        {
            return self.complete(name, Status::SUCCESS, 0);
        }
        self.begin(turn, transport, name);
    }

    /// The time is over: a host that is not known, or an exchange that stands still.
    pub(super) fn expire_authentication<T: Transport>(&mut self, transport: &mut T, handle: Handle<Qpair>) {
        let Some(QpairBody { authentication: Some(authentication), .. }) = self.qpairs.look_mut(handle) else {
            return;
        };
        authentication.deadline = None;
        if authentication.standing == Standing::Stranger || authentication.exchange.is_under_way() {
            self.counters.authentication_timeout_count.add(1);
            transport.disconnect(handle, DisconnectReason::Authentication);
        }
    }

    /// Its qpair drains, or is gone.
    pub(super) fn forget_authentication<M>(turn: &mut Turn<'_, M>, authentication: Option<Box<Authentication>>) {
        if let Some((timer, _)) = authentication.and_then(|authentication| authentication.deadline) {
            turn.cancel(timer);
        }
    }

    fn watch_authentication<M>(&mut self, turn: &mut Turn<'_, M>, handle: Handle<Qpair>) {
        let Some(QpairBody { authentication: Some(authentication), .. }) = self.qpairs.look_mut(handle) else {
            return;
        };
        let deadline_ns = turn.now_ns() + AUTHENTICATION_TIMEOUT_NS;
        let timer = turn.arm(deadline_ns, token(Timer::Authentication(handle)));
        authentication.deadline = Some((timer, deadline_ns));
    }

    fn ask<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, (handle, slot): RequestName, work: Work) {
        let (cpu, control) = (self.cpu, self.control);
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        qpair.must_advance(slot, RequestEvent::AwaitProof);
        let peer = qpair.spec.peer.ip();
        let Some(authentication) = &mut qpair.authentication else { return };
        authentication.last_number = authentication.last_number.wrapping_add(1);
        let number = authentication.last_number;
        authentication.asked = Some(Asked { number, slot });
        let question = Question {
            qpair: Remote { cpu, handle },
            number,
            peer,
            subsystem: authentication.subsystem,
            host: authentication.host.clone(),
            deadline_ns: authentication.deadline.map_or(turn.now_ns(), |(_, deadline_ns)| deadline_ns),
            work,
        };
        turn.send(control, Message(Letter::Authenticate(Box::new(question))).into());
    }

    fn host_is_known<M>(&mut self, turn: &mut Turn<'_, M>, handle: Handle<Qpair>) {
        let Some(QpairBody { authentication: Some(authentication), .. }) = self.qpairs.look_mut(handle) else {
            return;
        };
        authentication.standing = Standing::Known;
        if let Some((timer, _)) = authentication.deadline.take() {
            turn.cancel(timer);
        }
        self.counters.authenticated_count.add(1);
        Step::HostAuthenticated.trace(turn, handle.to_bits(), 0);
    }

    /// It came to nothing: the connection ends when the host has been told so.
    fn end_unauthenticated<M>(&mut self, turn: &mut Turn<'_, M>, name: RequestName) {
        let (handle, slot) = name;
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let failure = qpair.authentication.as_ref().and_then(|authentication| authentication.exchange.failure());
        qpair.last_slot = Some((slot, DisconnectReason::Authentication));
        self.counters.authentication_failed_count.add(1);
        Step::HostRefused.trace(turn, handle.to_bits(), failure.map_or(0, |failure| failure.to_byte().into()));
        self.complete(name, Status::SUCCESS, 0);
    }
}
