//! Completions become arrivals: step 1 of the walk.
//!
//! A failed completion tells only its `wr_id`: whose it was, and what kind, is in there. It ends its queue pair after the batch.
//!
//! A completion that succeeded gives permits back: a receive its own, a signalled request its own and those of all before it. A failed request
//! gives none: from the first failure on everything is returned, signalled or not, so counting them one by one would count some twice. The
//! marker, which is behind them all, accounts for what is left. A completion for which nothing is out is stale: it is counted and has no effect.

use nvmf_core::defect::{self, Defect};
use nvmf_core::transport::Slot;
use nvmf_core::{Arrival, DisconnectReason, Qpair, Receive};
use reactor::{Handle, Segment};

use super::{CompletionQueue, DataPath, POLL_LIMIT, permit_id};
use crate::binding::{COMMAND_LEN, WorkKind, WorkRequestId};
use crate::target::body::{Body, Capsule, Place};
use crate::verbs::{Completion, CompletionStatus, Port};

impl<Q: Port> DataPath<Q> {
    /// Takes one batch. Returns how many completions it had.
    pub(super) fn take_completions(&mut self, now_ns: u64, arrivals: &mut Vec<Arrival>) -> usize {
        let mut completions = std::mem::take(&mut self.completions);
        let count = self.port.poll(now_ns, POLL_LIMIT, &mut completions);
        self.queue = if count < POLL_LIMIT { CompletionQueue::Empty } else { CompletionQueue::MayHold };
        for completion in completions.drain(..) {
            self.take(&completion, arrivals);
        }
        self.completions = completions;
        count
    }

    #[inline]
    fn take(&mut self, completion: &Completion, arrivals: &mut Vec<Arrival>) {
        let Some(id) = WorkRequestId::from_bits(completion.id) else {
            return self.counters.stale_completions.add(1);
        };
        if id.kind == WorkKind::SharedReceive {
            return self.take_shared_receive(completion, id, arrivals);
        }
        let (index, number) = self.split(id.index);
        let qpair = Handle::from_bits(u64::from(id.generation) << 24 | u64::from(index));
        let Some(body) = self.bodies.look_mut(qpair) else {
            return self.counters.stale_completions.add(1);
        };
        if id.kind == WorkKind::Receive {
            if !body.receive_returned(number) {
                return self.counters.stale_completions.add(1);
            }
        } else if id.kind == WorkKind::Marker {
            if !body.marker_returned() {
                self.counters.stale_completions.add(1);
            }
            return;
        }
        if completion.status != CompletionStatus::Success {
            return self.take_failure(qpair, completion.status);
        }
        match id.kind {
            WorkKind::Receive => {
                self.take_capsule(qpair, permit_id(self.index_shift, qpair, number), completion.len, arrivals)
            }
            WorkKind::Send => self.take_response_sent(qpair, number, arrivals),
            WorkKind::Read => self.take_read(qpair, number, arrivals),
            // One that was signalled since it took the last room.
            WorkKind::Write => self.take_write(qpair),
            // None of this side's, or handled before.
            WorkKind::Marker | WorkKind::SharedReceive | WorkKind::Bind | WorkKind::Invalidate => {
                self.counters.stale_completions.add(1);
            }
        }
    }

    /// The buffer is credited whatever becomes of its queue pair.
    fn take_shared_receive(&mut self, completion: &Completion, id: WorkRequestId, arrivals: &mut Vec<Arrival>) {
        let Some(shared) = &mut self.shared else {
            return self.counters.stale_completions.add(1);
        };
        if !shared.take(id.index, id.generation) {
            return self.counters.stale_completions.add(1);
        }
        self.counters.shared_receives_posted.sub(1);
        let owner = shared.owner(completion.number);
        let body = owner.and_then(|qpair| self.bodies.look_mut(qpair));
        match body {
            Some(body) if completion.status == CompletionStatus::Success && body.is_live() => {
                let qpair = body.work.handle;
                self.take_capsule(qpair, id.index, completion.len, arrivals);
            }
            Some(body) => {
                let qpair = body.work.handle;
                if completion.status != CompletionStatus::Success {
                    self.take_failure(qpair, completion.status);
                }
                if !defect::is(Defect::DeadBranchKeepsReceive) {
                    self.repost_shared(id.index);
                }
            }
            None => {
                self.counters.stale_completions.add(1);
                self.counters.shared_receives_credited.add(1);
                self.repost_shared(id.index);
            }
        }
    }

    /// A command came: admitted if the host keeps to its depth, and handed over if a slot is free.
    #[inline]
    fn take_capsule(&mut self, qpair: Handle<Qpair>, receive: u32, len: u32, arrivals: &mut Vec<Arrival>) {
        let Some(body) = self.bodies.look_mut(qpair) else { return };
        if !body.is_live() {
            return;
        }
        let command = if len as usize >= COMMAND_LEN { body.work.commands.take() } else { None };
        let Some(command) = command else {
            self.endings.push((qpair, DisconnectReason::Protocol));
            if self.shared.is_some() {
                self.repost_shared(receive);
            }
            return;
        };
        let capsule = Capsule { receive, len, command };
        // In order: behind those that wait already.
        let slot = if body.work.waiting_capsules.is_empty() { body.work.free_slots.pop() } else { None };
        match slot {
            Some(slot) => {
                body.work.slots[usize::from(slot)].place = Place::Command(capsule.command);
                self.hand_over(qpair, slot, receive, len, arrivals);
            }
            None => {
                body.work.waiting_capsules.push_back(capsule);
                self.counters.slot_waits.add(1);
            }
        }
    }

    /// A response's send completed, and with it the slot's WRITEs.
    // Always: as calls they would cost more instructions than all of the accounting.
    #[inline(always)]
    fn take_response_sent(&mut self, qpair: Handle<Qpair>, number: u32, arrivals: &mut Vec<Arrival>) {
        let Some(body) = self.bodies.look_mut(qpair) else { return };
        let Some(slot) = body.response_returned(number) else {
            return self.counters.stale_completions.add(1);
        };
        if !body.is_live() {
            return body.work.free_slots.push(slot);
        }
        let has_waiting = body.has_waiting();
        arrivals.push(Arrival::Finished { qpair, slot });
        match body.work.waiting_capsules.pop_front() {
            Some(Capsule { receive, len, command }) => {
                body.work.slots[usize::from(slot)].place = Place::Command(command);
                self.hand_over(qpair, slot, receive, len, arrivals);
            }
            None => body.work.free_slots.push(slot),
        }
        if has_waiting {
            self.post_waiting(qpair);
        }
    }

    /// A WRITE completed: there is room again.
    fn take_write(&mut self, qpair: Handle<Qpair>) {
        let Some(body) = self.bodies.look_mut(qpair) else { return };
        if !body.write_returned() {
            return self.counters.stale_completions.add(1);
        }
        self.post_waiting(qpair);
    }

    /// One READ of a pull completed.
    #[inline(always)]
    fn take_read(&mut self, qpair: Handle<Qpair>, number: u32, arrivals: &mut Vec<Arrival>) {
        let Some(body) = self.bodies.look_mut(qpair) else { return };
        let Some((slot, pulled)) = body.read_returned(number) else {
            return self.counters.stale_completions.add(1);
        };
        let has_waiting = body.has_waiting();
        if !body.is_live() {
            return;
        }
        if pulled {
            arrivals.push(Arrival::Pulled { qpair, slot });
        }
        if has_waiting && !defect::is(Defect::WaitingSendsAreForgotten) {
            self.post_waiting(qpair);
        }
    }

    #[inline]
    fn hand_over(&mut self, qpair: Handle<Qpair>, slot: Slot, receive: u32, len: u32, arrivals: &mut Vec<Arrival>) {
        let Some(memory) = self.receive_segment(qpair, receive) else { return };
        let mut command = [0; COMMAND_LEN];
        memory.read(0, &mut command);
        // The device wrote no more than the buffer has; a provider that says otherwise must not make us read past it.
        let len = (len as usize).min(memory.len());
        let data = (len > COMMAND_LEN).then(|| memory.part(COMMAND_LEN, len - COMMAND_LEN));
        self.counters.commands.add(1);
        arrivals.push(Arrival::Command { qpair, slot, command, data, receive: Receive { id: receive } });
    }

    #[inline]
    fn receive_segment(&self, qpair: Handle<Qpair>, receive: u32) -> Option<Segment> {
        if let Some(shared) = &self.shared {
            return Some(shared.segment(receive));
        }
        let (_, number) = self.split(receive);
        Some(self.bodies.look(qpair)?.work.receives.buffers.get(number as usize)?.segment())
    }

    /// Its queue pair is in the error state. The teardown begins after the batch; where it has begun this is what it waits for.
    fn take_failure(&mut self, qpair: Handle<Qpair>, status: CompletionStatus) {
        if self.bodies.look(qpair).is_some_and(Body::is_live) {
            if defect::is(Defect::FailureFreesInTheBatch) {
                // Leaked, since its permits would tell at once; whatever names it finds it gone.
                return std::mem::forget(self.bodies.remove(qpair));
            }
            self.endings.push((qpair, reason_of(status)));
        }
    }
}

/// What a failed completion says about who ended the connection: a flush that we did not ask for is the peer's doing, or its absence.
fn reason_of(status: CompletionStatus) -> DisconnectReason {
    match status {
        CompletionStatus::WorkRequestFlushed | CompletionStatus::RetryExceeded => DisconnectReason::PeerGone,
        CompletionStatus::Success
        | CompletionStatus::LocalLengthError
        | CompletionStatus::LocalQpOperationError
        | CompletionStatus::LocalProtectionError
        | CompletionStatus::WindowBindError
        | CompletionStatus::BadResponse
        | CompletionStatus::LocalAccessError
        | CompletionStatus::RemoteInvalidRequest
        | CompletionStatus::RemoteAccessError
        | CompletionStatus::RemoteOperationError
        | CompletionStatus::RnrRetryExceeded
        | CompletionStatus::FatalError => DisconnectReason::TransportError,
    }
}
