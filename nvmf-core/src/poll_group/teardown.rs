//! The end of a qpair, in three steps that the transport calls: drain, release, close.

use reactor::{Full, Handle, Turn};

use super::PollGroup;
use crate::Qpair;
use crate::defect::{self, Defect};
use crate::membership::ControllerLease;
use crate::message::{Letter, Message};
use crate::qpair::header::{QpairHeader, QpairStage, Tally};
use crate::qpair::request::{RequestEvent, RequestState};
use crate::qpair::{Membership, QpairBody, Stage};
use crate::trace::{Step, reason_number};
use crate::transport::{DisconnectReason, Transport};

impl PollGroup {
    /// Teardown, first step: no command is taken any more, what waits for a buffer or a message is dropped, no transfer or response is
    /// started. If this was an admin qpair, its controller's other qpairs are told to end. Once only per qpair.
    pub fn begin_drain<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        qpair: Handle<Qpair>,
        reason: DisconnectReason,
    ) {
        let header = self.header(turn, qpair);
        let Some(body) = self.qpairs.look_mut(qpair) else {
            return self.miss(turn, Step::QpairMissed, qpair.to_bits());
        };
        Step::QpairDrains.trace(turn, qpair.to_bits(), reason_number(reason));
        let membership = match body.take_stage() {
            Stage::AwaitingConnect { timer } => {
                turn.cancel(timer);
                Membership::None
            }
            Stage::Connecting { timer, membership, .. } => {
                turn.cancel(timer);
                membership
            }
            Stage::Admin { controller } => Membership::Owner(controller),
            Stage::Io { lease } => Membership::Member(lease),
            Stage::Draining { membership } => {
                tracing::error!(?qpair, "a qpair was drained twice");
                membership
            }
        };
        let controller = if let Membership::Owner(controller) = membership { Some(controller) } else { None };
        body.stage = Stage::Draining { membership };
        body.stalled.clear();
        body.last_slot = None;
        Self::forget_authentication(turn, body.authentication.take());
        let host = body.host;
        for slot in body.slots() {
            // Free slots and those of a second drain have no such step.
            let _dropped = body.advance(slot, RequestEvent::Drain);
        }
        self.buffers.forget(|(handle, _)| handle == qpair);
        self.hosts.forget(host, |(handle, _)| handle == qpair);
        self.parking.forget(|(handle, _)| handle == qpair);
        self.drop_aborts(qpair);
        self.gate.forget(|(handle, _)| handle == qpair);
        self.let_others_on(qpair, |state| state == RequestState::Dropped);
        self.drop_pairs(qpair);
        if let Some(header) = header {
            header.set_stage(QpairStage::Draining);
        }
        self.return_permits(transport, qpair);
        if let Some(controller) = controller {
            self.close_controller(turn, controller, reason);
        }
        if defect::is(Defect::LeaseGoesHomeEarly)
            && let Some(QpairBody { stage: Stage::Draining { membership }, .. }) = self.qpairs.look_mut(qpair)
            && matches!(membership, Membership::Member(_))
        {
            let membership = std::mem::replace(membership, Membership::None);
            self.send_home(turn, membership, Tally::default());
        }
        self.note_drain(turn, qpair);
    }

    /// No transfer of a draining qpair is under way any more, or none that anybody can still see the end of: blocks of a device's own memory that it pushed
    /// are free. This does not wait for [`Self::outstanding_count`], as others may wait for a lock on them.
    pub fn transfers_ended(&mut self, qpair: Handle<Qpair>) {
        self.let_others_on(qpair, |state| state == RequestState::Responding);
    }

    /// Commands in this state touch their blocks no more, though they hold other things until the release.
    fn let_others_on(&mut self, qpair: Handle<Qpair>, is_meant: impl Fn(RequestState) -> bool) {
        if defect::is(Defect::DroppedCommandKeepsItsClaim) {
            return;
        }
        let Some(body) = self.qpairs.look_mut(qpair) else { return };
        for slot in body.slots() {
            let request = body.request(slot);
            if is_meant(request.state) {
                Self::give_way(request, &mut self.hosts, &mut self.gate);
            }
        }
    }

    /// Teardown, second step: no work request of the qpair can touch memory any more, and [`Self::outstanding_count`] is zero. Buffers,
    /// receive permits and device leases that its requests still hold are released.
    ///
    /// # Panics
    /// If something is still outstanding: memory would be used again under a device's hands.
    pub fn release_requests<T: Transport>(&mut self, transport: &mut T, qpair: Handle<Qpair>) {
        let Some(body) = self.qpairs.look(qpair) else {
            return self.counters.stale_handle_count.add(1);
        };
        assert_eq!(body.awaited_count(), 0, "qpair {qpair:?} still waits for devices or messages");
        let slots = body.slots();
        for slot in slots {
            let Some(body) = self.qpairs.look_mut(qpair) else { return };
            if body.request(slot).state == RequestState::Free {
                continue;
            }
            if defect::is(Defect::DroppedCommandKeepsItsClaim) {
                body.request(slot).claim = None;
            }
            body.must_advance(slot, RequestEvent::Release);
            self.give_back(transport, (qpair, slot));
        }
    }

    /// Teardown, last step: the qpair is reaped. Its handle is stale from now on, and its lease on the controller goes home.
    ///
    /// # Panics
    /// If its requests have not been released.
    pub fn close<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, qpair: Handle<Qpair>) {
        let Some(body) = self.qpairs.remove(qpair) else {
            return self.miss(turn, Step::QpairMissed, qpair.to_bits());
        };
        Step::QpairClosed.trace(turn, qpair.to_bits(), 0);
        assert_eq!(body.live_count(), 0, "qpair {qpair:?} is closed before its requests were released");
        self.handles[qpair.index()] = None;
        self.slot_count -= body.slots().count();
        self.hosts.leave(body.host, body.slots().count());
        let tally = self.header(turn, qpair).map_or_else(Tally::default, QpairHeader::tally);
        if let Some(header) = self.directory.unlink_header(self.cpu, qpair.index())
            && let Err(Full(_leaked)) = self.headers.retire(turn, header)
        {
            // Its place was reserved when the qpair was opened.
            tracing::error!(?qpair, "a qpair's header found no place in limbo and is leaked");
        }
        Self::forget_authentication(turn, body.authentication);
        match body.stage {
            Stage::Draining { membership } => self.send_home(turn, membership, tally),
            Stage::AwaitingConnect { timer } => {
                turn.cancel(timer);
            }
            // A qpair that was never drained is closed only where its connection was never made.
            Stage::Connecting { timer, membership, .. } => {
                turn.cancel(timer);
                self.send_home(turn, membership, tally);
            }
            Stage::Admin { controller } => self.send_home(turn, Membership::Owner(controller), tally),
            Stage::Io { lease } => self.send_home(turn, Membership::Member(lease), tally),
        }
        self.note_drain(turn, qpair);
    }

    fn send_home<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, membership: Membership, tally: Tally) {
        match membership {
            Membership::None => {}
            Membership::Owner(controller) => self.admin_is_reaped(turn, controller),
            Membership::Member(lease) => Self::send_lease(turn, lease, tally),
        }
    }

    fn send_lease<M: From<Message>>(turn: &mut Turn<'_, M>, lease: ControllerLease, tally: Tally) {
        let owner = lease.controller().cpu;
        turn.send(owner, Message(Letter::Leave { lease, tally }).into());
    }

    /// Permits of requests whose capsule nobody reads any more, so that a shared receive queue is not short of them while the qpair drains.
    fn return_permits<T: Transport>(&mut self, transport: &mut T, qpair: Handle<Qpair>) {
        let Some(body) = self.qpairs.look_mut(qpair) else { return };
        for slot in body.slots() {
            let request = body.request(slot);
            if request.state == RequestState::Dropped
                && let Some(receive) = request.receive.take()
            {
                request.capsule_data = None;
                transport.consumed(receive);
            }
        }
    }
}
