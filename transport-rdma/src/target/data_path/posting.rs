//! Transfers and responses become work requests; what finds no room waits in order.
//!
//! Room is a permit that moves: taken when a request is posted, given back when its completion, or that of a later signalled request of the same
//! slot, says that it is done. Pulls wait by themselves (for read depth too), so that a response never waits for a READ of another command.

use nvmf_core::transport::{RemoteBuffer, Slot};
use nvmf_core::{Arrival, DisconnectReason, Qpair};
use reactor::{Counter, Handle, Segment};

use super::{DataPath, Doorbell, request_id};
use crate::binding::{RESPONSE_LEN, WorkKind};
use crate::target::body::{Body, WaitingPull, WaitingSend};
use crate::target::region::RegionKeys;
use crate::verbs::{Flags, Port, PostError, QueuePairName, SendOperation, SendRequest};

/// What posting needs besides the body: fields of the data path, borrowed apart from its bodies.
struct Poster<'a, Q> {
    port: &'a mut Q,
    keys: &'a RegionKeys,
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
    /// The device refused: the queue pair is to end.
    Refused,
}

impl<Q: Port> DataPath<Q> {
    pub(super) fn begin_pull(&mut self, qpair: Handle<Qpair>, slot: Slot, from: RemoteBuffer, into: Segment) {
        let transfer_len_max = self.transfer_len_max;
        let Some((body, mut poster, counters)) = self.parts(qpair) else { return };
        // A transfer of nothing needs no wire, and its key may be anything.
        if from.len == 0 {
            self.early.push(Arrival::Pulled { qpair, slot });
            return;
        }
        counters.pulled_bytes.add(u64::from(from.len));
        body.slots[usize::from(slot)].read_count = from.len.div_ceil(transfer_len_max);
        let pull = WaitingPull { slot, from, into };
        if !body.waiting_pulls.is_empty() {
            counters.read_depth_waits.add(1);
            body.waiting_pulls.push_back(pull);
            return;
        }
        match poster.pull(body, pull) {
            Outcome::Posted => {}
            Outcome::Waits(rest, room) => {
                wait_counter(counters, room).add(1);
                body.waiting_pulls.push_back(rest);
            }
            Outcome::Refused => self.endings.push((qpair, DisconnectReason::TransportError)),
        }
        self.doorbell = Doorbell::Due;
    }

    pub(super) fn begin_push(&mut self, qpair: Handle<Qpair>, slot: Slot, from: Segment, to: RemoteBuffer) {
        if from.is_empty() {
            return;
        }
        self.begin_send(qpair, WaitingSend::Push { slot, from, to }, from.len() as u64);
    }

    pub(super) fn begin_response(
        &mut self,
        qpair: Handle<Qpair>,
        slot: Slot,
        response: [u8; RESPONSE_LEN],
        invalidate: Option<u32>,
    ) {
        let Some((_, poster, _)) = self.parts(qpair) else { return };
        // The slot's own place: nobody reads it before the request is posted, nor writes it before the slot comes again.
        poster.response_segment(qpair, slot).write(0, &response);
        self.begin_send(qpair, WaitingSend::Response { slot, invalidate }, 0);
    }

    /// A completion gave room back.
    pub(super) fn post_waiting(&mut self, qpair: Handle<Qpair>) {
        let Some((body, mut poster, counters)) = self.parts(qpair) else { return };
        if body.waiting_sends.is_empty() && body.waiting_pulls.is_empty() {
            return;
        }
        let mut refused = false;
        while let Some(send) = body.waiting_sends.pop_front() {
            match poster.send(body, send, counters) {
                Outcome::Posted => {}
                Outcome::Waits(rest, _) => {
                    body.waiting_sends.push_front(rest);
                    break;
                }
                Outcome::Refused => refused = true,
            }
        }
        while let Some(pull) = body.waiting_pulls.pop_front() {
            match poster.pull(body, pull) {
                Outcome::Posted => {}
                Outcome::Waits(rest, _) => {
                    body.waiting_pulls.push_front(rest);
                    break;
                }
                Outcome::Refused => refused = true,
            }
        }
        self.doorbell = Doorbell::Due;
        if refused {
            self.endings.push((qpair, DisconnectReason::TransportError));
        }
    }

    fn begin_send(&mut self, qpair: Handle<Qpair>, send: WaitingSend, len: u64) {
        let Some((body, mut poster, counters)) = self.parts(qpair) else { return };
        counters.pushed_bytes.add(len);
        if !body.waiting_sends.is_empty() {
            counters.send_room_waits.add(1);
            body.waiting_sends.push_back(send);
            return;
        }
        match poster.send(body, send, counters) {
            Outcome::Posted => {}
            Outcome::Waits(rest, room) => {
                wait_counter(counters, room).add(1);
                body.waiting_sends.push_back(rest);
            }
            Outcome::Refused => self.endings.push((qpair, DisconnectReason::TransportError)),
        }
        self.doorbell = Doorbell::Due;
    }

    /// The body, if commands may still be posted for it.
    #[inline]
    fn parts(&mut self, qpair: Handle<Qpair>) -> Option<(&mut Body, Poster<'_, Q>, &super::CpuCounters)> {
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
            responses: self.responses,
            index_shift: self.index_shift,
            transfer_len_max: self.transfer_len_max,
            inline_responses: self.inline_responses,
        };
        Some((body, poster, &self.counters))
    }
}

impl<Q: Port> Poster<'_, Q> {
    /// RDMA READs, each signalled: its completion is the only news of the data.
    #[inline]
    fn pull(&mut self, body: &mut Body, mut pull: WaitingPull) -> Outcome<WaitingPull> {
        while pull.from.len > 0 {
            if body.read_room == 0 {
                return Outcome::Waits(pull, NoRoom::Reads);
            }
            if body.send_room == 0 {
                return Outcome::Waits(pull, NoRoom::Sends);
            }
            let len = pull.from.len.min(self.transfer_len_max);
            let operation = SendOperation::Read { address: pull.from.address, key: pull.from.key };
            let into = pull.into.part(0, len as usize);
            let posted = self.post(body, WorkKind::Read, pull.slot, operation, Flags::SIGNALED, into);
            if posted.is_err() {
                return Outcome::Refused;
            }
            body.read_room -= 1;
            pull.from.len -= len;
            // What a host names may wrap; the device's check of bounds says so.
            pull.from.address = pull.from.address.wrapping_add(u64::from(len));
            pull.into = pull.into.part(len as usize, pull.into.len() - len as usize);
        }
        Outcome::Posted
    }

    #[inline]
    fn send(&mut self, body: &mut Body, send: WaitingSend, counters: &super::CpuCounters) -> Outcome<WaitingSend> {
        match send {
            WaitingSend::Push { slot, from, to } => self.push(body, slot, from, to),
            WaitingSend::Response { slot, invalidate } => {
                if body.send_room == 0 {
                    return Outcome::Waits(send, NoRoom::Sends);
                }
                let outcome = self.response(body, slot, invalidate);
                counters.responses.add(1);
                outcome
            }
        }
    }

    /// RDMA WRITEs, unsignalled: the response that follows accounts for them.
    #[inline]
    fn push(&mut self, body: &mut Body, slot: Slot, mut from: Segment, mut to: RemoteBuffer) -> Outcome<WaitingSend> {
        while !from.is_empty() {
            if body.send_room == 0 {
                return Outcome::Waits(WaitingSend::Push { slot, from, to }, NoRoom::Sends);
            }
            let len = from.len().min(self.transfer_len_max as usize);
            let operation = SendOperation::Write { address: to.address, key: to.key };
            if self.post(body, WorkKind::Write, slot, operation, Flags::empty(), from.part(0, len)).is_err() {
                return Outcome::Refused;
            }
            body.slots[usize::from(slot)].write_count += 1;
            from = from.part(len, from.len() - len);
            to.address = to.address.wrapping_add(len as u64);
        }
        Outcome::Posted
    }

    /// The SEND of 16 bytes. From here on the host may use the command's place in the queue again.
    #[inline]
    fn response(&mut self, body: &mut Body, slot: Slot, invalidate: Option<u32>) -> Outcome<WaitingSend> {
        let operation = match invalidate {
            Some(key) => SendOperation::SendWithInvalidate(key),
            None => SendOperation::Send,
        };
        let flags = if self.inline_responses { Flags::SIGNALED | Flags::INLINE } else { Flags::SIGNALED };
        let from = self.response_segment(body.handle, slot);
        if self.post(body, WorkKind::Send, slot, operation, flags, from).is_err() {
            return Outcome::Refused;
        }
        body.command_count = body.command_count.saturating_sub(1);
        Outcome::Posted
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
        body.send_room -= 1;
        Ok(())
    }
}

/// See [`DataPath::post_marker`]. Its place in the send queue is kept free for it.
pub(super) fn post_marker<Q: Port>(port: &mut Q, name: QueuePairName, id: u64) -> Result<(), PostError> {
    let operation = SendOperation::Write { address: 0, key: 0 };
    port.post_send(name, &SendRequest { id, operation, flags: Flags::SIGNALED, segments: &[] })
}

fn wait_counter(counters: &super::CpuCounters, room: NoRoom) -> &Counter {
    match room {
        NoRoom::Sends => &counters.send_room_waits,
        NoRoom::Reads => &counters.read_depth_waits,
    }
}
