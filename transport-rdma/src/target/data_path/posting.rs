//! Transfers and responses become work requests; what finds no room waits in order.
//!
//! Room is a permit that moves: taken when a request is posted, given back when its completion, or that of a later signalled request,
//! says that it is done. Pulls wait by themselves (for read depth too), so that a response never waits for a READ of another command.

use nvmf_core::transport::{RemoteBuffer, Slot};
use nvmf_core::{Arrival, DisconnectReason, Qpair};
use reactor::{Counter, Handle, Segment};

use super::{DataPath, Doorbell, request_id};
use crate::binding::{RESPONSE_LEN, WorkKind};
use crate::target::body::{Body, WaitingPull, WaitingSend};
use crate::target::counters::CpuCounters;
use crate::target::region::RegionKeys;
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
        let Some((body, mut poster)) = self.parts(qpair) else { return };
        let done = poster.pull_in_order(body, WaitingPull { slot, from, into });
        self.after_posting(qpair, done);
    }

    pub(super) fn begin_push(&mut self, qpair: Handle<Qpair>, slot: Slot, from: Segment, to: RemoteBuffer) {
        if from.is_empty() {
            return;
        }
        let Some((body, mut poster)) = self.parts(qpair) else { return };
        poster.counters.pushed_bytes.add(from.len() as u64);
        let done = poster.send_in_order(body, WaitingSend::Push { slot, from, to });
        self.after_posting(qpair, done);
    }

    pub(super) fn begin_response(
        &mut self,
        qpair: Handle<Qpair>,
        slot: Slot,
        response: [u8; RESPONSE_LEN],
        invalidate: Option<u32>,
    ) {
        let Some((body, mut poster)) = self.parts(qpair) else { return };
        // The slot's own place: nobody reads it before the request is posted, nor writes it before the slot comes again.
        poster.response_segment(qpair, slot).write(0, &response);
        let done = poster.send_in_order(body, WaitingSend::Response { slot, invalidate });
        self.after_posting(qpair, done);
    }

    /// A completion gave room back.
    #[inline]
    pub(super) fn post_waiting(&mut self, qpair: Handle<Qpair>) {
        let Some((body, mut poster)) = self.parts(qpair) else { return };
        if body.waiting_sends.is_empty() && body.waiting_pulls.is_empty() {
            return;
        }
        let done = poster.post_waiting(body);
        self.after_posting(qpair, done);
    }

    #[inline]
    fn after_posting(&mut self, qpair: Handle<Qpair>, done: Result<(), PostError>) {
        self.doorbell = Doorbell::Due;
        if let Err(error) = done {
            tracing::debug!(?qpair, ?error, "a request was refused");
            self.endings.push((qpair, DisconnectReason::TransportError));
        }
    }

    /// The body, if commands may still be posted for it.
    #[inline]
    fn parts(&mut self, qpair: Handle<Qpair>) -> Option<(&mut Body, Poster<'_, Q>)> {
        let Some(body) = self.bodies.look_mut(qpair) else {
            self.counters.stale_handles.add(1);
            return None;
        };
        if !body.is_live() {
            return None;
        }
        let poster = Poster {
            port: &mut self.port,
            keys: &self.keys,
            counters: &self.counters,
            responses: self.responses,
            index_shift: self.index_shift,
            transfer_len_max: self.transfer_len_max,
            inline_responses: self.inline_responses,
        };
        Some((body, poster))
    }
}

/// Nothing of it was posted, or not all: the queue pair is to end.
type Posted<T> = Result<Outcome<T>, PostError>;

impl<Q: Port> Poster<'_, Q> {
    /// As much as there is room for; responses first, since they end commands.
    fn post_waiting(&mut self, body: &mut Body) -> Result<(), PostError> {
        while let Some(send) = body.waiting_sends.pop_front() {
            if let Outcome::Waits(rest, _) = self.send(body, send)? {
                body.waiting_sends.push_front(rest);
                break;
            }
        }
        while let Some(pull) = body.waiting_pulls.pop_front() {
            if let Outcome::Waits(rest, _) = self.pull(body, pull)? {
                body.waiting_pulls.push_front(rest);
                break;
            }
        }
        Ok(())
    }

    /// Behind those that wait already.
    #[inline]
    fn pull_in_order(&mut self, body: &mut Body, pull: WaitingPull) -> Result<(), PostError> {
        self.counters.pulled_bytes.add(u64::from(pull.from.len));
        body.slots[usize::from(pull.slot)].read_count = pull.from.len.div_ceil(self.transfer_len_max);
        let outcome =
            if body.waiting_pulls.is_empty() { self.pull(body, pull)? } else { Outcome::Waits(pull, NoRoom::Reads) };
        if let Outcome::Waits(rest, room) = outcome {
            self.wait_counter(room).add(1);
            body.waiting_pulls.push_back(rest);
        }
        Ok(())
    }

    /// Behind those that wait already.
    #[inline]
    fn send_in_order(&mut self, body: &mut Body, send: WaitingSend) -> Result<(), PostError> {
        let outcome =
            if body.waiting_sends.is_empty() { self.send(body, send)? } else { Outcome::Waits(send, NoRoom::Sends) };
        if let Outcome::Waits(rest, room) = outcome {
            self.wait_counter(room).add(1);
            body.waiting_sends.push_back(rest);
        }
        Ok(())
    }

    /// RDMA READs, each signalled: its completion is the only news of the data.
    #[inline]
    fn pull(&mut self, body: &mut Body, mut pull: WaitingPull) -> Posted<WaitingPull> {
        while pull.from.len > 0 {
            if body.read_room == 0 {
                return Ok(Outcome::Waits(pull, NoRoom::Reads));
            }
            if body.send_room == 0 {
                return Ok(Outcome::Waits(pull, NoRoom::Sends));
            }
            let len = pull.from.len.min(self.transfer_len_max);
            let operation = SendOperation::Read { address: pull.from.address, key: pull.from.key };
            let into = pull.into.part(0, len as usize);
            self.post(body, WorkKind::Read, pull.slot, operation, Flags::SIGNALED, into)?;
            body.read_room -= 1;
            pull.from.len -= len;
            // What a host names may wrap; the device's check of bounds says so.
            pull.from.address = pull.from.address.wrapping_add(u64::from(len));
            pull.into = pull.into.part(len as usize, pull.into.len() - len as usize);
        }
        Ok(Outcome::Posted)
    }

    #[inline]
    fn send(&mut self, body: &mut Body, send: WaitingSend) -> Posted<WaitingSend> {
        match send {
            WaitingSend::Push { slot, from, to } => self.push(body, slot, from, to),
            WaitingSend::Response { .. } if body.send_room == 0 => Ok(Outcome::Waits(send, NoRoom::Sends)),
            WaitingSend::Response { slot, invalidate } => {
                self.response(body, slot, invalidate)?;
                Ok(Outcome::Posted)
            }
        }
    }

    /// RDMA WRITEs, unsignalled: the response that follows accounts for them; unless there is no room for one to follow.
    #[inline]
    fn push(&mut self, body: &mut Body, slot: Slot, mut from: Segment, mut to: RemoteBuffer) -> Posted<WaitingSend> {
        while !from.is_empty() {
            if body.send_room == 0 {
                return Ok(Outcome::Waits(WaitingSend::Push { slot, from, to }, NoRoom::Sends));
            }
            let len = from.len().min(self.transfer_len_max as usize);
            let operation = SendOperation::Write { address: to.address, key: to.key };
            let flags = if body.send_room == 1 { Flags::SIGNALED } else { Flags::empty() };
            self.post(body, WorkKind::Write, slot, operation, flags, from.part(0, len))?;
            from = from.part(len, from.len() - len);
            to.address = to.address.wrapping_add(len as u64);
        }
        Ok(Outcome::Posted)
    }

    /// The SEND of 16 bytes. From here on the host may use the command's place in the queue again.
    #[inline]
    fn response(&mut self, body: &mut Body, slot: Slot, invalidate: Option<u32>) -> Result<(), PostError> {
        let operation = match invalidate {
            Some(key) => SendOperation::SendWithInvalidate(key),
            None => SendOperation::Send,
        };
        let flags = if self.inline_responses { Flags::SIGNALED | Flags::INLINE } else { Flags::SIGNALED };
        let from = self.response_segment(body.handle, slot);
        self.post(body, WorkKind::Send, slot, operation, flags, from)?;
        body.command_count = body.command_count.saturating_sub(1);
        self.counters.responses.add(1);
        Ok(())
    }

    #[inline]
    fn response_segment(&self, qpair: Handle<Qpair>, slot: Slot) -> Segment {
        let index = super::permit_id(self.index_shift, qpair, u32::from(slot));
        self.responses.part(index as usize * RESPONSE_LEN, RESPONSE_LEN)
    }

    #[inline]
    fn post(
        &mut self,
        body: &mut Body,
        kind: WorkKind,
        slot: Slot,
        operation: SendOperation,
        flags: Flags,
        memory: Segment,
    ) -> Result<(), PostError> {
        let Some(segment) = self.keys.local(memory) else { return Err(PostError::Malformed) };
        let id = request_id(self.index_shift, kind, body.handle, u32::from(slot));
        self.port.post_send(body.name, &SendRequest { id, operation, flags, segments: &[segment] })?;
        body.take_send_room(flags.contains(Flags::SIGNALED));
        Ok(())
    }

    fn wait_counter(&self, room: NoRoom) -> &Counter {
        match room {
            NoRoom::Sends => &self.counters.send_room_waits,
            NoRoom::Reads => &self.counters.read_depth_waits,
        }
    }
}

/// See [`DataPath::post_marker`]. Its place in the send queue is kept free for it.
pub(super) fn post_marker<Q: Port>(port: &mut Q, name: QueuePairName, id: u64) -> Result<(), PostError> {
    let operation = SendOperation::Write { address: 0, key: 0 };
    port.post_send(name, &SendRequest { id, operation, flags: Flags::SIGNALED, segments: &[] })
}
