//! Transfers and responses become work requests; what finds no room waits in order.
//!
//! Room is a permit that moves: taken for a request that is about to be posted, kept by what stands for it, and given back when its completion, or that of a
//! later signalled request, says that it is done. Pulls wait by themselves (for read depth too), so that a response never waits for a READ of another command.

use nvmf_core::defect::{self, Defect};
use nvmf_core::transport::{RemoteBuffer, Slot};
use nvmf_core::{Arrival, DisconnectReason, Qpair};
use reactor::{Counter, Handle, Segment};

use super::{DataPath, Doorbell, request_id};
use crate::binding::{RESPONSE_LEN, WorkKind};
use crate::permit::{Permit, SendRoom};
use crate::target::body::{Place, WaitingPull, WaitingSend, Work};
use crate::target::counters::CpuCounters;
use crate::target::region::RegionKeys;
use crate::teardown::Live;
use crate::verbs::{Flags, Port, PostError, QueuePairName, SendOperation, SendRequest};

/// What posting needs besides the body: fields of the data path, borrowed apart from its bodies.
struct Poster<'a, Q> {
    port: &'a mut Q,
    keys: &'a RegionKeys,
    counters: &'a CpuCounters,
    responses: Segment,
    index_shift: u32,
    transfer_len_max: u32,
    inline_responses: bool,
}

/// The room that a request did not find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoRoom {
    Sends,
    Reads,
}

/// How far it got.
enum Outcome<T> {
    /// All of it is posted.
    Posted,
    /// This is left.
    Waits(T, NoRoom),
}

impl<Q: Port> DataPath<Q> {
    pub(super) fn begin_pull(&mut self, qpair: Handle<Qpair>, slot: Slot, from: RemoteBuffer, into: Segment) {
        // A transfer of nothing needs no wire, and its key may be anything.
        if from.len == 0 {
            self.early.push(Arrival::Pulled { qpair, slot });
            return;
        }
        let Some((live, work, mut poster)) = self.parts(qpair) else { return };
        let done = poster.pull_in_order(live, work, WaitingPull { slot, from, into });
        self.after_posting(qpair, done);
    }

    pub(super) fn begin_push(&mut self, qpair: Handle<Qpair>, slot: Slot, from: Segment, to: RemoteBuffer) {
        if from.is_empty() {
            return;
        }
        let Some((live, work, mut poster)) = self.parts(qpair) else { return };
        poster.counters.pushed_bytes.add(from.len() as u64);
        let done = poster.send_in_order(live, work, WaitingSend::Push { slot, from, to });
        self.after_posting(qpair, done);
    }

    pub(super) fn begin_response(
        &mut self,
        qpair: Handle<Qpair>,
        slot: Slot,
        response: [u8; RESPONSE_LEN],
        invalidate: Option<u32>,
    ) {
        let Some((live, work, mut poster)) = self.parts(qpair) else { return };
        // The slot's own place: nobody reads it before the request is posted, nor writes it before the slot comes again.
        poster.response_segment(qpair, slot).write(0, &response);
        let done = poster.send_in_order(live, work, WaitingSend::Response { slot, invalidate });
        self.after_posting(qpair, done);
    }

    /// A completion gave room back.
    #[inline]
    pub(super) fn post_waiting(&mut self, qpair: Handle<Qpair>) {
        let Some((live, work, mut poster)) = self.parts(qpair) else { return };
        let done = poster.post_waiting(live, work);
        self.after_posting(qpair, done);
    }

    #[inline]
    fn after_posting(&mut self, qpair: Handle<Qpair>, done: Result<(), PostError>) {
        self.doorbell = Doorbell::Due;
        if let Err(error) = done {
            tracing::debug!(?qpair, ?error, "a request was refused");
            if let Some(body) = self.bodies.look_mut(qpair) {
                body.break_off();
            }
            self.endings.push((qpair, DisconnectReason::TransportError));
        }
    }

    /// The body, if something may still be posted for it.
    #[inline]
    fn parts(&mut self, qpair: Handle<Qpair>) -> Option<(&mut Live, &mut Work, Poster<'_, Q>)> {
        let Some(body) = self.bodies.look_mut(qpair) else {
            self.counters.stale_handles.add(1);
            return None;
        };
        let (live, work) = body.live_mut()?;
        let poster = Poster {
            port: &mut self.port,
            keys: &self.keys,
            counters: &self.counters,
            responses: self.responses,
            index_shift: self.index_shift,
            transfer_len_max: self.transfer_len_max,
            inline_responses: self.inline_responses,
        };
        Some((live, work, poster))
    }
}

/// Nothing of it was posted, or not all: the queue pair is to end.
type Posted<T> = Result<Outcome<T>, PostError>;

impl<Q: Port> Poster<'_, Q> {
    /// As much as there is room for; responses first, since they end commands.
    fn post_waiting(&mut self, live: &mut Live, work: &mut Work) -> Result<(), PostError> {
        while let Some(send) = work.waiting_sends.pop_front() {
            if let Outcome::Waits(rest, _) = self.send(live, work, send)? {
                work.waiting_sends.push_front(rest);
                break;
            }
        }
        while let Some(pull) = work.waiting_pulls.pop_front() {
            if let Outcome::Waits(rest, _) = self.pull(live, work, pull)? {
                work.waiting_pulls.push_front(rest);
                break;
            }
        }
        Ok(())
    }

    /// Behind those that wait already.
    #[inline]
    fn pull_in_order(&mut self, live: &mut Live, work: &mut Work, pull: WaitingPull) -> Result<(), PostError> {
        self.counters.pulled_bytes.add(u64::from(pull.from.len));
        work.slots[usize::from(pull.slot)].part_count += pull.from.len.div_ceil(self.transfer_len_max);
        let outcome = if work.waiting_pulls.is_empty() {
            self.pull(live, work, pull)?
        } else {
            Outcome::Waits(pull, NoRoom::Reads)
        };
        if let Outcome::Waits(rest, room) = outcome {
            self.wait_counter(room).add(1);
            work.waiting_pulls.push_back(rest);
        }
        Ok(())
    }

    /// Behind those that wait already.
    #[inline]
    fn send_in_order(&mut self, live: &mut Live, work: &mut Work, send: WaitingSend) -> Result<(), PostError> {
        let outcome = if work.waiting_sends.is_empty() {
            self.send(live, work, send)?
        } else {
            Outcome::Waits(send, NoRoom::Sends)
        };
        if let Outcome::Waits(rest, room) = outcome {
            self.wait_counter(room).add(1);
            work.waiting_sends.push_back(rest);
        }
        Ok(())
    }

    /// RDMA READs, each signalled: its completion is the only news of the data.
    #[inline]
    fn pull(&mut self, live: &mut Live, work: &mut Work, mut pull: WaitingPull) -> Posted<WaitingPull> {
        while pull.from.len > 0 {
            let Some(read) = live.allowance().reads.take() else { return Ok(Outcome::Waits(pull, NoRoom::Reads)) };
            let Some(send) = live.allowance().sends.take() else {
                live.allowance().reads.give(read);
                return Ok(Outcome::Waits(pull, NoRoom::Sends));
            };
            let len = pull.from.len.min(self.transfer_len_max);
            let operation = SendOperation::Read { address: pull.from.address, key: pull.from.key };
            let into = pull.into.part(0, len as usize);
            if let Err(refused) = self.post(work, send, pull.slot, operation, Flags::SIGNALED, into) {
                live.allowance().reads.give(read);
                return Err(refused.give_back(live));
            }
            work.slots[usize::from(pull.slot)].reads.put(read);
            pull.from.len -= len;
            // What a host names may wrap; the device's check of bounds says so.
            pull.from.address = pull.from.address.wrapping_add(u64::from(len));
            pull.into = pull.into.part(len as usize, pull.into.len() - len as usize);
        }
        Ok(Outcome::Posted)
    }

    #[inline]
    fn send(&mut self, live: &mut Live, work: &mut Work, send: WaitingSend) -> Posted<WaitingSend> {
        match send {
            WaitingSend::Push { slot, from, to } => self.push(live, work, slot, from, to),
            WaitingSend::Response { slot, invalidate } => {
                let Some(permit) = live.allowance().sends.take() else {
                    return Ok(Outcome::Waits(send, NoRoom::Sends));
                };
                self.response(live, work, permit, slot, invalidate)?;
                Ok(Outcome::Posted)
            }
        }
    }

    /// RDMA WRITEs, unsignalled: the response that follows accounts for them; unless there is no room for one to follow.
    #[inline]
    fn push(
        &mut self,
        live: &mut Live,
        work: &mut Work,
        slot: Slot,
        mut from: Segment,
        mut to: RemoteBuffer,
    ) -> Posted<WaitingSend> {
        while !from.is_empty() {
            let Some(permit) = live.allowance().sends.take() else {
                return Ok(Outcome::Waits(WaitingSend::Push { slot, from, to }, NoRoom::Sends));
            };
            let len = from.len().min(self.transfer_len_max as usize);
            let operation = SendOperation::Write { address: to.address, key: to.key };
            let flags = if live.allowance().sends.at_hand_count() == 0 { Flags::SIGNALED } else { Flags::empty() };
            self.post(work, permit, slot, operation, flags, from.part(0, len))
                .map_err(|refused| refused.give_back(live))?;
            if defect::is(Defect::PushTakesNoRoom) {
                live.allowance().sends.give_many(work.posted.take_unsignalled());
            }
            from = from.part(len, from.len() - len);
            to.address = to.address.wrapping_add(len as u64);
        }
        Ok(Outcome::Posted)
    }

    /// The SEND of 16 bytes. From here on the host may use the command's place in the queue again.
    #[inline]
    fn response(
        &mut self,
        live: &mut Live,
        work: &mut Work,
        permit: Permit<SendRoom>,
        slot: Slot,
        invalidate: Option<u32>,
    ) -> Result<(), PostError> {
        let operation = match invalidate {
            Some(key) => SendOperation::SendWithInvalidate(key),
            None => SendOperation::Send,
        };
        let flags = if self.inline_responses { Flags::SIGNALED | Flags::INLINE } else { Flags::SIGNALED };
        let from = self.response_segment(work.handle, slot);
        self.post(work, permit, slot, operation, flags, from).map_err(|refused| refused.give_back(live))?;
        match std::mem::replace(&mut work.slots[usize::from(slot)].place, Place::ResponsePosted) {
            Place::Command(command) => work.commands.give(command),
            place @ (Place::Free | Place::ResponsePosted) => {
                unreachable!("a response for slot {slot} of {:?}, which is {place:?}", work.handle)
            }
        }
        self.counters.responses.add(1);
        Ok(())
    }

    #[inline]
    fn response_segment(&self, qpair: Handle<Qpair>, slot: Slot) -> Segment {
        let index = super::permit_id(self.index_shift, qpair, u32::from(slot));
        self.responses.part(index as usize * RESPONSE_LEN, RESPONSE_LEN)
    }

    /// The permit stays with what is posted, or comes back.
    #[inline]
    fn post(
        &mut self,
        work: &mut Work,
        permit: Permit<SendRoom>,
        slot: Slot,
        operation: SendOperation,
        flags: Flags,
        memory: Segment,
    ) -> Result<(), Refused> {
        let Some(segment) = self.keys.local(memory) else { return Err(Refused(PostError::Malformed, permit)) };
        let id = request_id(self.index_shift, kind_of(operation), work.handle, u32::from(slot));
        match self.port.post_send(work.name, &SendRequest { id, operation, flags, segments: &[segment] }) {
            Ok(()) => {
                work.posted.push(permit, flags.contains(Flags::SIGNALED));
                Ok(())
            }
            Err(error) => Err(Refused(error, permit)),
        }
    }

    fn wait_counter(&self, room: NoRoom) -> &Counter {
        match room {
            NoRoom::Sends => &self.counters.send_room_waits,
            NoRoom::Reads => &self.counters.read_depth_waits,
        }
    }
}

/// The device did not take a request.
struct Refused(PostError, Permit<SendRoom>);

impl Refused {
    #[cold]
    fn give_back(self, live: &mut Live) -> PostError {
        live.allowance().sends.give(self.1);
        self.0
    }
}

/// What its completion will be known by.
#[inline]
fn kind_of(operation: SendOperation) -> WorkKind {
    match operation {
        SendOperation::Read { .. } => WorkKind::Read,
        SendOperation::Write { .. } => WorkKind::Write,
        SendOperation::Send | SendOperation::SendWithImmediate(_) | SendOperation::SendWithInvalidate(_) => {
            WorkKind::Send
        }
        SendOperation::BindWindow { .. } => WorkKind::Bind,
        SendOperation::LocalInvalidate(_) => WorkKind::Invalidate,
    }
}

/// See [`DataPath::post_marker`]. Its place in the send queue is kept free for it.
pub(super) fn post_marker<Q: Port>(port: &mut Q, name: QueuePairName, id: u64) -> Result<(), PostError> {
    let operation = SendOperation::Write { address: 0, key: 0 };
    port.post_send(name, &SendRequest { id, operation, flags: Flags::SIGNALED, segments: &[] })
}
