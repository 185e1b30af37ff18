//! One NVMe queue over one queue pair: command slots, receives, and what of them the fabric still holds.
//!
//! Owned by its CPU. A command has a *slot* from its submission until both its response has come and its send has completed: the response
//! alone says nothing about our own device, which may still read the capsule to send it again. There are as many slots, capsule buffers, receives and places
//! in the send queue as the queue takes commands, so that nothing can run short: who has a free slot finds a permit for its send.
//!
//! Every request is signalled, so each comes back by itself, in whatever way it ends: a command's slot has the permit of its send until then, each receive its
//! own. A completion of what is not out is no news of ours: it ends the connection.
//!
//! Everything in a response is the target's word: an identifier that names no outstanding command ends the connection. Identifiers carry
//! a generation beside the slot, so that a response which is sent twice is not taken for that of the slot's next command.

mod life;

use nvmf_core::host::HostCompletion;
use nvmf_core::status::Status;
use reactor::{Handle, Segment};

use crate::binding::{COMMAND_LEN, RESPONSE_LEN, WorkKind, WorkRequestId};
use crate::host::error::HostFailure;
use crate::host::link::Link;
use crate::permit::{Allowance, OwnReceive, Permit, SendRoom};
use crate::teardown::Live;
use crate::verbs::{
    Completion, CompletionStatus, Flags, LocalSegment, Port, PostError, QueuePairName, SendOperation, SendRequest,
};

pub(super) use life::Stage;

/// Most commands of a queue: identifiers have ten bits for the slot, and 0xFFFF is never used [NVMe Base 2.0, 3.3.3.1].
pub(super) const DEPTH_MAX: u16 = 1023;
const SLOT_BITS: u32 = 10;

/// An admin command with this tag may be held for as long as the controller likes.
pub(super) const TAG_HELD: u64 = u64::MAX;

/// Bytes of capsule memory that a queue of this depth needs: commands, then responses.
pub(super) fn capsule_memory_len(depth: u16) -> usize {
    (usize::from(depth) * COMMAND_LEN + receive_count(depth) * RESPONSE_LEN).next_multiple_of(COMMAND_LEN)
}

/// Receives of a queue: one for each entry, and a queue has an entry more than it takes commands, since a queue that is full is
/// one entry short [NVMe Base 2.0, 3.3.1].
pub(super) fn receive_count(depth: u16) -> usize {
    usize::from(depth) + 1
}

/// A command that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    pub(super) tag: u64,
    pub(super) response: [u8; RESPONSE_LEN],
}

impl Finished {
    pub(super) fn status(&self) -> Status {
        HostCompletion::parse(&self.response).status
    }
}

/// Why a queue cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueueFault {
    #[error("a response of {len} bytes, which should be 16")]
    ResponseLength { len: u32 },
    #[error("a response for command id {command_id:#06x}, which is not outstanding")]
    UnknownCommand { command_id: u16 },
    #[error("{operation} ended with {status:?}")]
    Transfer { operation: &'static str, status: CompletionStatus },
    #[error("{operation} completed, which was not posted")]
    NotPosted { operation: &'static str },
    #[error("posting {operation} failed: {error:?}")]
    Post { operation: &'static str, error: PostError },
}

impl QueueFault {
    pub(super) fn into_failure(self, qid: u16) -> HostFailure {
        match self {
            Self::ResponseLength { .. } | Self::UnknownCommand { .. } => {
                HostFailure::Protocol { qid, what: self.to_string() }
            }
            Self::Transfer { .. } | Self::NotPosted { .. } | Self::Post { .. } => {
                HostFailure::Disconnected { qid, why: self.to_string() }
            }
        }
    }
}

/// What of a command is still out.
#[derive(Debug, Default)]
enum Phase {
    #[default]
    Free,
    /// Neither response nor send completion has come.
    Posted(Permit<SendRoom>),
    /// The response has come.
    Responded(Permit<SendRoom>),
    /// The send has completed.
    Sent,
}

struct CommandSlot {
    tag: u64,
    submit_ns: u64,
    response: [u8; RESPONSE_LEN],
    generation: u16,
    phase: Phase,
}

/// What a queue is made with.
pub(super) struct QueueOptions {
    pub(super) link: Handle<Link>,
    pub(super) qid: u16,
    pub(super) number: u16,
    /// Commands at a time.
    pub(super) depth: u16,
    /// [`capsule_memory_len`] bytes.
    pub(super) capsules: Segment,
    pub(super) capsule_key: u32,
}

pub(super) struct Queue {
    pub(super) link: Handle<Link>,
    pub(super) qid: u16,
    /// Its number among the CPU's I/O queues.
    pub(super) number: u16,
    pub(super) stage: Stage,
    name: QueuePairName,
    handle: Handle<Queue>,
    slots: Box<[CommandSlot]>,
    free: Vec<u16>,
    commands: Segment,
    responses: Segment,
    capsule_key: u32,
    /// For each receive: whether it is posted.
    receives: Box<[Option<Permit<OwnReceive>>]>,
}

impl Queue {
    pub(super) fn new(options: &QueueOptions, name: QueuePairName, handle: Handle<Queue>) -> Self {
        let depth = usize::from(options.depth);
        let empty =
            |_| CommandSlot { tag: 0, submit_ns: 0, response: [0; RESPONSE_LEN], generation: 0, phase: Phase::Free };
        let receive_count = receive_count(options.depth);
        // At most DEPTH_MAX and one more. A host reads nothing, and needs no marker.
        let allowance = Allowance::issue(u32::from(options.depth), 0, u32::try_from(receive_count).unwrap_or(u32::MAX));
        Self {
            link: options.link,
            qid: options.qid,
            number: options.number,
            stage: Stage::Connecting(Live::attached(name, allowance)),
            name,
            handle,
            slots: (0..depth).map(empty).collect(),
            // The lowest slot on top: a shallow load stays in few cache lines.
            free: (0..options.depth).rev().collect(),
            commands: options.capsules.part(0, depth * COMMAND_LEN),
            responses: options.capsules.part(depth * COMMAND_LEN, receive_count * RESPONSE_LEN),
            capsule_key: options.capsule_key,
            receives: (0..receive_count).map(|_| None).collect(),
        }
    }

    /// Its name on its CPU.
    pub(super) fn handle(&self) -> Handle<Self> {
        self.handle
    }

    /// Commands that could be submitted now.
    pub(super) fn room(&self) -> usize {
        if matches!(self.stage, Stage::Live(_)) { self.free.len() } else { 0 }
    }

    /// When the oldest outstanding command was submitted, of those that have to end in time.
    pub(super) fn oldest_submit_ns(&self) -> Option<u64> {
        let is_awaited =
            |slot: &&CommandSlot| !matches!(slot.phase, Phase::Free) && (self.qid > 0 || slot.tag != TAG_HELD);
        self.slots.iter().filter(is_awaited).map(|slot| slot.submit_ns).min()
    }

    /// Posts all receives, before the connection is made.
    pub(super) fn post_receives<Q: Port>(&mut self, port: &mut Q) -> Result<(), QueueFault> {
        (0..self.receives.len()).try_for_each(|slot| self.post_receive(port, slot))
    }

    fn post_receive<Q: Port>(&mut self, port: &mut Q, slot: usize) -> Result<(), QueueFault> {
        let memory = self.responses.part(slot * RESPONSE_LEN, RESPONSE_LEN);
        let segment = LocalSegment { memory, local_key: self.capsule_key };
        let id = work_id(WorkKind::Receive, self.handle, slot);
        let refused = |error| QueueFault::Post { operation: "a receive", error };
        let receives = &mut self.stage.allowance().ok_or(refused(PostError::WrongState))?.receives;
        let permit = receives.take().ok_or(refused(PostError::QueueFull))?;
        match port.post_receive(self.name, id, &[segment]) {
            Ok(()) => {
                self.receives[slot] = Some(permit);
                Ok(())
            }
            Err(error) => {
                receives.give(permit);
                Err(refused(error))
            }
        }
    }

    /// Sends the command that `command` makes of its identifier. The caller has seen [`Self::room`], or that no command is out. `in_capsule` is
    /// sent behind it.
    pub(super) fn submit<Q: Port>(
        &mut self,
        port: &mut Q,
        now_ns: u64,
        tag: u64,
        command: impl FnOnce(u16) -> [u8; COMMAND_LEN],
        in_capsule: Option<LocalSegment>,
    ) -> Result<(), QueueFault> {
        let sends = &mut self.stage.allowance().expect("the caller has seen that it carries commands").sends;
        let number = self.free.pop().expect("the caller has seen room");
        let permit = sends.take().expect("there is a send for each slot, and it is back before the slot is free");
        let index = usize::from(number);
        let slot = &mut self.slots[index];
        let command = command(command_id(number, slot.generation));
        let memory = self.commands.part(index * COMMAND_LEN, COMMAND_LEN);
        memory.write(0, &command);

        let capsule = LocalSegment { memory, local_key: self.capsule_key };
        let id = work_id(WorkKind::Send, self.handle, index);
        let pair;
        let single;
        let segments: &[LocalSegment] = if let Some(data) = in_capsule {
            pair = [capsule, data];
            &pair
        } else {
            single = [capsule];
            &single
        };
        let request = SendRequest { id, operation: SendOperation::Send, flags: Flags::SIGNALED, segments };
        if let Err(error) = port.post_send(self.name, &request) {
            self.free.push(number);
            sends.give(permit);
            return Err(QueueFault::Post { operation: "a command", error });
        }
        slot.tag = tag;
        slot.submit_ns = now_ns;
        slot.phase = Phase::Posted(permit);
        Ok(())
    }

    /// The send of the command in slot `index` has completed.
    pub(super) fn sent(&mut self, index: usize, status: CompletionStatus) -> Result<Option<Finished>, QueueFault> {
        // After a cut it comes too late to count.
        let Some(mut give_back) = self.stage.give_back() else { return Ok(None) };
        let not_posted = QueueFault::NotPosted { operation: "a command's send" };
        let slot = self.slots.get_mut(index).ok_or(not_posted)?;
        let has_response = match std::mem::take(&mut slot.phase) {
            Phase::Posted(send) => {
                give_back.sends(send.into());
                false
            }
            Phase::Responded(send) => {
                give_back.sends(send.into());
                true
            }
            phase @ (Phase::Free | Phase::Sent) => {
                slot.phase = phase;
                return Err(not_posted);
            }
        };
        slot.phase = Phase::Sent;
        if !self.carries_commands() {
            return Ok(None);
        }
        if status != CompletionStatus::Success {
            return Err(QueueFault::Transfer { operation: "a command's send", status });
        }
        Ok(has_response.then(|| self.finish(index)))
    }

    /// Receive number `receive` has completed.
    pub(super) fn received<Q: Port>(
        &mut self,
        port: &mut Q,
        receive: usize,
        completion: &Completion,
    ) -> Result<Option<Finished>, QueueFault> {
        let Some(mut give_back) = self.stage.give_back() else { return Ok(None) };
        let posted = self.receives.get_mut(receive).and_then(Option::take);
        give_back.receive(posted.ok_or(QueueFault::NotPosted { operation: "a response's receive" })?);
        if !self.carries_commands() {
            return Ok(None);
        }
        if completion.status != CompletionStatus::Success {
            return Err(QueueFault::Transfer { operation: "a response's receive", status: completion.status });
        }
        if completion.len as usize != RESPONSE_LEN {
            return Err(QueueFault::ResponseLength { len: completion.len });
        }
        let mut response = [0; RESPONSE_LEN];
        self.responses.part(receive * RESPONSE_LEN, RESPONSE_LEN).read(0, &mut response);
        // Before the slot can be used again: the next command's response needs a receive.
        self.post_receive(port, receive)?;

        let command_id = HostCompletion::parse(&response).command_id;
        let index = usize::from(command_id & ((1 << SLOT_BITS) - 1));
        let unknown = QueueFault::UnknownCommand { command_id };
        let slot = self.slots.get_mut(index).ok_or(unknown)?;
        if command_id >> SLOT_BITS != id_generation(slot.generation) {
            return Err(unknown);
        }
        match std::mem::take(&mut slot.phase) {
            Phase::Posted(send) => {
                slot.response = response;
                slot.phase = Phase::Responded(send);
                Ok(None)
            }
            Phase::Sent => {
                slot.response = response;
                Ok(Some(self.finish(index)))
            }
            phase @ (Phase::Free | Phase::Responded(_)) => {
                slot.phase = phase;
                Err(unknown)
            }
        }
    }

    fn finish(&mut self, index: usize) -> Finished {
        let slot = &mut self.slots[index];
        slot.phase = Phase::Free;
        slot.generation = slot.generation.wrapping_add(1);
        // Cannot truncate: there are at most DEPTH_MAX slots.
        #[allow(clippy::cast_possible_truncation)]
        self.free.push(index as u16);
        Finished { tag: slot.tag, response: slot.response }
    }
}

/// Which queue a completion is of, and which of its slots or receives.
pub(super) fn owner_of(id: WorkRequestId) -> (Handle<Queue>, usize) {
    let bits = u64::from(id.generation) << 24 | u64::from(id.index >> SLOT_BITS);
    (Handle::from_bits(bits), (id.index & ((1 << SLOT_BITS) - 1)) as usize)
}

/// Carries the queue's generation; a slot needs none of its own here, since it is used again only after its send has completed.
fn work_id(kind: WorkKind, queue: Handle<Queue>, slot: usize) -> u64 {
    // Cannot truncate: slots are below 2^10, and `to_bits` checks the sum.
    #[allow(clippy::cast_possible_truncation)]
    let index = (queue.index() << SLOT_BITS | slot) as u32;
    WorkRequestId { kind, index, generation: queue.generation() }.to_bits()
}

fn command_id(slot: u16, generation: u16) -> u16 {
    id_generation(generation) << SLOT_BITS | slot
}

fn id_generation(generation: u16) -> u16 {
    generation & (0xFFFF >> SLOT_BITS)
}

#[cfg(test)]
mod tests;
