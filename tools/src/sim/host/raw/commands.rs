//! Commands out, responses in, and what of a response cannot be.

use transport_rdma::verbs::{Completion, CompletionStatus, Flags, LocalSegment, Port, SendOperation, SendRequest};

use super::RawHost;
use super::memory::DATA_LEN_MAX;
use super::nvme::{self, COMMAND_LEN, RESPONSE_LEN, Response, status};
use super::observed::Answer;
use super::orders::Command;
use super::outcome::Outcome;
use super::queue::{Ended, Kind, Memo, Sent, Stage, WorkId};
use crate::sim::host::law::Since;
use crate::sim::world::layout::{BLOCK_LEN, SUBSYSTEM};

/// What goes with a command's 64 bytes.
pub(super) struct Capsule {
    pub(super) bytes: [u8; COMMAND_LEN],
    /// Data behind them.
    pub(super) data: Option<reactor::Segment>,
}

impl RawHost {
    /// Sends a command of a scenario or a plan. False if the queue is not up or has no place for it.
    pub(super) fn submit(&mut self, place: usize, slot: usize, command: &Command) -> bool {
        let Some(queue) = &self.queues[place] else { return false };
        if !queue.stage.is_up() || !queue.slots.get(slot).is_some_and(super::queue::Slot::is_free) {
            return false;
        }
        if let Command::Swap(extent) = command {
            return self.submit_pair(place, slot, *extent);
        }
        if let Command::Bytes(bytes) = command
            && bytes.len() < COMMAND_LEN
        {
            // Too short for a command: nothing comes back that would name this slot.
            return self.post_send(place, slot, bytes, None);
        }
        let Some((sent, capsule)) = self.make(place, slot, command) else { return false };
        self.send(place, slot, sent, &capsule);
        true
    }

    /// The next step of a queue that has not come to its goal.
    pub(super) fn advance(&mut self, place: usize) {
        let Some(queue) = &self.queues[place] else { return };
        if queue.stage >= queue.goal {
            return;
        }
        match queue.stage {
            Stage::Attached => self.request(place),
            Stage::Established => self.join(place),
            Stage::Joined if queue.qid > 0 => self.enter(place, Stage::Ready),
            Stage::Joined if queue.slots.iter().all(|slot| slot.sent.is_none()) => {
                self.send_simple(place, Sent::Enable, |cid| nvme::property_set(cid, nvme::CC, nvme::CC_ENABLE));
            }
            Stage::Joined
            | Stage::Resolving
            | Stage::Creating
            | Stage::Connecting
            | Stage::Joining
            | Stage::Ready
            | Stage::Draining
            | Stage::Destroying
            | Stage::DestroyingConnection => {}
        }
    }

    fn join(&mut self, place: usize) {
        let (Some(key), Some(queue)) = (self.remote_key(), &mut self.queues[place]) else { return };
        let Some(slot) = queue.free_slot() else { return };
        let (qid, depth, keep_alive_ms) = (queue.qid, queue.opening.depth, queue.opening.keep_alive_ms);
        let controller_id = if qid == 0 { nvme::ANY_CONTROLLER } else { self.controller_id };
        let host = u8::try_from(self.number % 255).unwrap_or(0) + 1;
        let data = queue.slots[slot].buffer.fill(&nvme::connect_data(SUBSYSTEM, controller_id, host));
        let keep_alive_ms = if qid == 0 { keep_alive_ms } else { 0 };
        let cid = cid_of(queue.slots[slot].number, slot);
        let bytes = nvme::connect(cid, qid, depth, keep_alive_ms, keyed(data, key));
        self.enter(place, Stage::Joining);
        self.send(place, slot, Sent::Connect, &Capsule { bytes, data: None });
    }

    /// A command without data.
    pub(super) fn send_simple(&mut self, place: usize, sent: Sent, command: impl FnOnce(u16) -> [u8; COMMAND_LEN]) {
        let Some(queue) = &self.queues[place] else { return };
        let Some(slot) = queue.free_slot() else { return };
        let bytes = command(cid_of(queue.slots[slot].number, slot));
        self.send(place, slot, sent, &Capsule { bytes, data: None });
    }

    fn send_identify(&mut self, place: usize) {
        let (Some(key), Some(queue)) = (self.remote_key(), &mut self.queues[place]) else { return };
        let Some(slot) = queue.free_slot() else { return };
        let sgl = keyed(queue.slots[slot].buffer.clear(nvme::IDENTIFY_LEN), key);
        let bytes = nvme::identify_controller(cid_of(queue.slots[slot].number, slot), sgl);
        self.send(place, slot, Sent::Identify, &Capsule { bytes, data: None });
    }

    fn send(&mut self, place: usize, slot: usize, sent: Sent, capsule: &Capsule) {
        let Some(queue) = &mut self.queues[place] else { return };
        self.history.note(&self.name, || format!("queue {}: sends {} as {slot}", queue.qid, sent.name()));
        // First noted, then posted: a post that fails ends the queue, and loses it with the others.
        self.note_sent(place, slot, sent);
        self.post_send(place, slot, &capsule.bytes, capsule.data);
    }

    pub(super) fn note_sent(&mut self, place: usize, slot: usize, sent: Sent) {
        let since = sent.nsid().map_or_else(Since::default, |nsid| self.law.since(self.number, nsid));
        let Some(queue) = &mut self.queues[place] else { return };
        queue.slots[slot].memo = Memo { since, ..Memo::default() };
        queue.slots[slot].sent = Some(sent);
    }

    pub(super) fn post_send(
        &mut self,
        place: usize,
        slot: usize,
        bytes: &[u8],
        data: Option<reactor::Segment>,
    ) -> bool {
        let (Some(machine), Some(queue)) = (&mut self.machine, &mut self.queues[place]) else { return false };
        let (Some(name), Some(keys)) = (queue.name, machine.keys) else { return false };
        let capsule = self.memory.capsule(place, slot);
        capsule.write(0, bytes);
        let local = |memory| LocalSegment { memory, local_key: keys.local_key };
        let mut segments = vec![local(capsule.part(0, bytes.len()))];
        segments.extend(data.map(local));
        let id = WorkId { generation: queue.generation, place, kind: Kind::Send, number: slot }.to_bits();
        let request = SendRequest { id, operation: SendOperation::Send, flags: Flags::SIGNALED, segments: &segments };
        if machine.port.post_send(name, &request).is_err() {
            self.machine_failed("posting a send");
            self.end_with(place);
            return false;
        }
        queue.slots[slot].is_sending = true;
        queue.posted_count += 1;
        true
    }

    pub(super) fn take_completion(&mut self, completion: &Completion) {
        let Some(id) = WorkId::from_bits(completion.id) else { return };
        // Those of a queue that was cut off come late.
        let Some(queue) = self.queues.get_mut(id.place).and_then(Option::as_mut) else { return };
        if queue.generation != id.generation {
            return;
        }
        queue.posted_count = queue.posted_count.saturating_sub(1);
        if id.kind == Kind::Send {
            queue.slots[id.number].is_sending = false;
            // Answered before we knew that it was sent: only now the place is the next command's.
            if queue.slots[id.number].sent.is_none() {
                queue.slots[id.number].number = queue.slots[id.number].number.wrapping_add(1);
            }
        }
        if completion.status != CompletionStatus::Success {
            if !queue.stage.is_ending() {
                let (at_ns, qid) = (self.now_ns, queue.qid);
                self.history.note(&self.name, || format!("queue {qid}: {:?} {:?}", id.kind, completion.status));
                self.observe().broken.push((at_ns, qid));
                self.disturbed(qid, "its queue pair broke");
            }
            self.end_with(id.place);
            return;
        }
        if id.kind == Kind::Receive && queue.stage.is_up() {
            self.take_response(id.place, id.number, completion);
        }
    }

    fn take_response(&mut self, place: usize, receive: usize, completion: &Completion) {
        if completion.len as usize != RESPONSE_LEN || completion.received.invalidated.is_some() {
            self.violation(place, format!("a response of {} bytes, {:?}", completion.len, completion.received));
            return;
        }
        let mut bytes = [0; RESPONSE_LEN];
        self.memory.receive(place, receive).read(0, &mut bytes);
        let Some(queue) = &mut self.queues[place] else { return };
        if queue.holds_receives {
            queue.held_receives.push(receive);
        } else {
            self.post_receive(place, receive);
        }
        let response = Response::parse(bytes);
        let Some(queue) = &mut self.queues[place] else { return };
        let [slot, number] = response.cid.to_le_bytes();
        let Some(slot) = queue.slots.get_mut(usize::from(slot)).filter(|slot| slot.number == number) else {
            self.violation(place, format!("a response to command {:#06x}, which is not out", response.cid));
            return;
        };
        let Some(sent) = slot.sent.take() else {
            self.violation(place, format!("a second response to command {:#06x}", response.cid));
            return;
        };
        let memo = slot.memo;
        slot.ended = Some(Ended { number, status: response.status, abort_count: memo.abort_count });
        if !slot.is_sending {
            slot.number = slot.number.wrapping_add(1);
        }
        let data = slot.buffer.close();
        let (at_ns, qid, what) = (self.now_ns, queue.qid, sent.name());
        self.history.note(&self.name, || format!("queue {qid}: {what} ended with {:#x}", response.status));
        let Response { status, result, .. } = response;
        self.observe().answer(Answer { at_ns, qid, what, status, result });
        match data {
            Ok(data) => {
                self.answered(place, sent, memo, response, &data);
                if let Some(tag) = memo.tag {
                    self.observe().outcomes.insert(tag, Outcome { status: Some(status), result, data });
                }
            }
            Err(touched) => self.violation(place, format!("{what}: {touched}")),
        }
    }

    fn answered(&mut self, place: usize, sent: Sent, memo: Memo, response: Response, data: &[u8]) {
        let is_success = response.status == status::SUCCESS;
        if !self.can_end_with(place, &sent, memo, response.status) {
            self.violation(place, format!("{} ended with status {:#x}", sent.name(), response.status));
        }
        self.count(&sent, response.status);
        match sent {
            Sent::Connect if is_success => {
                if self.qid_of(place) == 0 {
                    self.controller_id =
                        response.result.to_le_bytes().first_chunk().map_or(0, |id| u16::from_le_bytes(*id));
                }
                self.enter(place, Stage::Joined);
            }
            Sent::Connect => {
                let qid = self.qid_of(place);
                self.observe().refusals.push((qid, response.status));
                self.disturbed(qid, "its Connect was refused");
                self.end_with(place);
            }
            Sent::Enable => self.send_simple(place, Sent::Status, |cid| nvme::property_get(cid, nvme::CSTS)),
            Sent::Status if response.result & 1 == 0 => {
                self.send_simple(place, Sent::Status, |cid| nvme::property_get(cid, nvme::CSTS));
            }
            Sent::Status => self.send_simple(place, Sent::QueueCount, |cid| nvme::queue_count(cid, 4)),
            Sent::QueueCount => self.send_identify(place),
            Sent::Identify => self.enter(place, Stage::Ready),
            Sent::Write(write) | Sent::Zeroes(write) if is_success => self.model.acknowledge(write),
            Sent::Write(write) | Sent::Zeroes(write) => self.write_failed(write, response.status),
            Sent::Compare(_, second) => self.compared(place, second, response.status),
            Sent::Swap(swap) => self.swapped(place, swap, memo, response.status),
            Sent::Read(read) if is_success => {
                if self.model.is_whole(read.extent) {
                    self.known.insert(read.extent.start, data.to_vec());
                }
                let looked_at = self.model.end_read(read, data);
                self.report(place, looked_at);
            }
            Sent::Abort(aim) if is_success => self.abort_answered(place, aim, response.result & 1 == 0),
            Sent::Claim(claim, nsid) if is_success => {
                claim.aborts.iter().for_each(|victim| self.model.forbid(*victim, nsid));
            }
            Sent::WrongKey if is_success => {
                self.violation(place, "a read into memory that is not there succeeded".to_owned());
            }
            Sent::WrongSgl if is_success => {
                self.violation(place, "a read with no SGL succeeded".to_owned());
            }
            Sent::Read(_)
            | Sent::Flush(_)
            | Sent::KeepAlive
            | Sent::EventRequest
            | Sent::ShutDown
            | Sent::Abort(_)
            | Sent::Look
            | Sent::Claim(..)
            | Sent::WrongKey
            | Sent::WrongSgl
            | Sent::Anything => {}
        }
    }

    fn count(&self, sent: &Sent, status: u16) {
        let mut observed = self.observe();
        observed.aborted_count += u64::from(status == status::ABORT_REQUESTED);
        if matches!(sent, Sent::KeepAlive) {
            observed.keep_alive_count += 1;
        } else if matches!(sent, Sent::Write(_) | Sent::Zeroes(_) | Sent::Read(_) | Sent::Flush(_) | Sent::Swap(_)) {
            let is_success = status == status::SUCCESS;
            observed.io_count += u64::from(is_success);
            observed.io_failed_count += u64::from(!is_success);
        }
    }

    pub(super) fn violation(&mut self, place: usize, what: String) {
        let qid = self.qid_of(place);
        self.findings.report("host", format!("{}: the target broke the protocol on queue {qid}: {what}", self.name));
        self.end_with(place);
    }

    pub(super) fn remote_key(&self) -> Option<u32> {
        self.machine.as_ref()?.keys.map(|keys| keys.remote_key)
    }
}

/// The largest extent that a buffer takes.
pub(super) const BLOCK_COUNT_MAX: u16 = {
    assert!(DATA_LEN_MAX / BLOCK_LEN as usize == 8, "as sessions say");
    8
};

pub(super) fn keyed(data: reactor::Segment, key: u32) -> [u8; 16] {
    nvme::keyed(data.address(), u32::try_from(data.len()).unwrap_or(u32::MAX), key)
}

pub(super) fn cid_of(number: u8, slot: usize) -> u16 {
    u16::from_le_bytes([u8::try_from(slot).unwrap_or(u8::MAX), number])
}
