//! One NVMe queue over one queue pair: command slots, receives, and what of them the fabric still holds.
//!
//! Owned by its CPU. A command has a *slot* from its submission until both its response has come and its send has completed: the response
//! alone says nothing about our own device, which may still read the capsule to send it again. There are as many slots, capsule buffers, receives and places
//! in the send queue as the queue takes commands, so that nothing can run short: the free list of slots is the only permit.
//!
//! Everything in a response is the target's word: an identifier that names no outstanding command ends the connection. Identifiers carry
//! a generation beside the slot, so that a response which is sent twice is not taken for that of the slot's next command.

use nvmf_core::DisconnectReason;
use nvmf_core::host::HostCompletion;
use nvmf_core::status::Status;
use reactor::{Handle, Segment};

use crate::binding::{COMMAND_LEN, RESPONSE_LEN, WorkKind, WorkRequestId};
use crate::host::error::HostFailure;
use crate::host::link::Link;
use crate::teardown::{
    AfterDestroy, DestroyResult, Destroying, Draining, Evidence, Live, Quiet, ReceiveSide, Retired, Swept,
};
use crate::verbs::{
    Completion, CompletionStatus, Flags, LocalSegment, Port, PostError, QueuePairName, SendOperation, SendRequest,
};

/// Most commands of a queue: identifiers have ten bits for the slot, and 0xFFFF is never used [NVMe Base 2.0, 3.3.3.1].
pub(super) const DEPTH_MAX: u16 = 1023;
const SLOT_BITS: u32 = 10;

/// Bytes of capsule memory that a queue of this depth needs: commands, then responses.
pub(super) fn capsule_memory_len(depth: u16) -> usize {
    (usize::from(depth) * COMMAND_LEN + receive_count(depth) * RESPONSE_LEN).next_multiple_of(COMMAND_LEN)
}

/// Receives of a queue: one for each entry, and a queue has an entry more than it takes commands, since a queue that is full is
/// one entry short [NVMe Base 2.0, 3.3.1.5].
pub(super) fn receive_count(depth: u16) -> usize {
    usize::from(depth) + 1
}

/// Where a queue is in its life. The teardown's part of it is [`crate::teardown`]'s, by value.
#[derive(Debug)]
pub(super) enum Stage {
    /// Attached, receives posted; the connection is being made.
    Connecting(Live),
    /// The connection is up; the queue's Connect command is out, and nothing else.
    Joining(Live),
    /// Carries commands.
    Live(Live),
    /// Cannot go on: posts nothing more, and waits for the control plane to close it.
    Broken(Live),
    /// Its queue pair is in the error state: what was posted comes back.
    Draining(Draining),
    /// The queue pair is on its way to be destroyed.
    Destroying(Destroying),
    /// The destroy call has come back.
    Over,
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
    #[error("posting {operation} failed: {error:?}")]
    Post { operation: &'static str, error: PostError },
}

impl QueueFault {
    pub(super) fn into_failure(self, qid: u16) -> HostFailure {
        match self {
            Self::ResponseLength { .. } | Self::UnknownCommand { .. } => {
                HostFailure::Protocol { qid, what: self.to_string() }
            }
            Self::Transfer { .. } | Self::Post { .. } => HostFailure::Disconnected { qid, why: self.to_string() },
        }
    }
}

/// What of a command is still out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Free,
    /// Neither response nor send completion has come.
    Posted,
    /// The response has come.
    Responded,
    /// The send has completed.
    Sent,
}

#[derive(Clone, Copy)]
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
    receive_count: usize,
    commands: Segment,
    responses: Segment,
    capsule_key: u32,
    posted_send_count: u32,
    posted_receive_count: u32,
}

impl Queue {
    pub(super) fn new(options: &QueueOptions, name: QueuePairName, handle: Handle<Queue>) -> Self {
        let depth = usize::from(options.depth);
        let empty =
            CommandSlot { tag: 0, submit_ns: 0, response: [0; RESPONSE_LEN], generation: 0, phase: Phase::Free };
        Self {
            link: options.link,
            qid: options.qid,
            number: options.number,
            stage: Stage::Connecting(Live::attached(name)),
            name,
            handle,
            slots: vec![empty; depth].into_boxed_slice(),
            // The lowest slot on top: a shallow load stays in few cache lines.
            free: (0..options.depth).rev().collect(),
            commands: options.capsules.part(0, depth * COMMAND_LEN),
            receive_count: receive_count(options.depth),
            responses: options.capsules.part(depth * COMMAND_LEN, receive_count(options.depth) * RESPONSE_LEN),
            capsule_key: options.capsule_key,
            posted_send_count: 0,
            posted_receive_count: 0,
        }
    }

    /// Commands that could be submitted now.
    pub(super) fn room(&self) -> usize {
        if matches!(self.stage, Stage::Live(_)) { self.free.len() } else { 0 }
    }

    /// When the oldest outstanding command was submitted.
    pub(super) fn oldest_submit_ns(&self) -> Option<u64> {
        self.slots.iter().filter(|slot| slot.phase != Phase::Free).map(|slot| slot.submit_ns).min()
    }

    /// Posts all receives, before the connection is made.
    pub(super) fn post_receives<Q: Port>(&mut self, port: &mut Q) -> Result<(), QueueFault> {
        (0..self.receive_count).try_for_each(|slot| self.post_receive(port, slot))
    }

    fn post_receive<Q: Port>(&mut self, port: &mut Q, slot: usize) -> Result<(), QueueFault> {
        let memory = self.responses.part(slot * RESPONSE_LEN, RESPONSE_LEN);
        let segment = LocalSegment { memory, local_key: self.capsule_key };
        let id = work_id(WorkKind::Receive, self.handle, slot);
        port.post_receive(self.name, id, &[segment])
            .map_err(|error| QueueFault::Post { operation: "a receive", error })?;
        self.posted_receive_count += 1;
        Ok(())
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
        let number = self.free.pop().expect("the caller has seen room");
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
            return Err(QueueFault::Post { operation: "a command", error });
        }
        slot.tag = tag;
        slot.submit_ns = now_ns;
        slot.phase = Phase::Posted;
        self.posted_send_count += 1;
        Ok(())
    }

    /// The send of the command in slot `index` has completed.
    pub(super) fn sent(&mut self, index: usize, status: CompletionStatus) -> Result<Option<Finished>, QueueFault> {
        self.posted_send_count -= 1;
        if !self.carries_commands() {
            return Ok(None);
        }
        if status != CompletionStatus::Success {
            return Err(QueueFault::Transfer { operation: "a command's send", status });
        }
        let slot = &mut self.slots[index];
        match slot.phase {
            Phase::Posted => {
                slot.phase = Phase::Sent;
                Ok(None)
            }
            Phase::Responded => Ok(Some(self.finish(index))),
            Phase::Free | Phase::Sent => panic!("a send completed twice: qid {} slot {index}", self.qid),
        }
    }

    /// Receive number `receive` has completed.
    pub(super) fn received<Q: Port>(
        &mut self,
        port: &mut Q,
        receive: usize,
        completion: &Completion,
    ) -> Result<Option<Finished>, QueueFault> {
        self.posted_receive_count -= 1;
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
        match slot.phase {
            Phase::Posted => {
                slot.response = response;
                slot.phase = Phase::Responded;
                Ok(None)
            }
            Phase::Sent => {
                slot.response = response;
                Ok(Some(self.finish(index)))
            }
            Phase::Free | Phase::Responded => Err(unknown),
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

    /// Whether commands are out, or may be.
    pub(super) fn carries_commands(&self) -> bool {
        match self.stage {
            Stage::Joining(_) | Stage::Live(_) => true,
            // A response before ESTABLISHED cannot be: nothing was sent. But flushes can be, when the connection is refused.
            Stage::Connecting(_) | Stage::Broken(_) | Stage::Draining(_) | Stage::Destroying(_) | Stage::Over => false,
        }
    }

    /// The connection is up. The admin queue's Connect is the first of its steps; an I/O queue's is all that it carries before it is live.
    /// False if it was closed meanwhile.
    pub(super) fn established(&mut self) -> bool {
        self.step(|qid, stage| match stage {
            Stage::Connecting(live) if qid == 0 => Ok(Stage::Live(live)),
            Stage::Connecting(live) => Ok(Stage::Joining(live)),
            other => Err(other),
        })
    }

    /// The queue's Connect has succeeded.
    pub(super) fn joined(&mut self) -> bool {
        self.step(|_, stage| if let Stage::Joining(live) = stage { Ok(Stage::Live(live)) } else { Err(stage) })
    }

    /// Posts nothing more, since something failed. What comes back from now on only counts.
    pub(super) fn break_off(&mut self) {
        self.step(|_, stage| match stage {
            Stage::Connecting(live) | Stage::Joining(live) | Stage::Live(live) => Ok(Stage::Broken(live)),
            other => Err(other),
        });
    }

    /// The control plane has moved the queue pair to the error state.
    pub(super) fn begin_drain(&mut self, reason: DisconnectReason) -> bool {
        self.step(|_, stage| match stage {
            Stage::Connecting(live) | Stage::Joining(live) | Stage::Live(live) | Stage::Broken(live) => {
                let mut draining = live.begin_drain(reason);
                draining.entered_error_state();
                Ok(Stage::Draining(draining))
            }
            other => Err(other),
        })
    }

    /// The deadline's timer has fired.
    pub(super) fn deadline_passed(&mut self) {
        if let Stage::Draining(draining) = &mut self.stage {
            draining.deadline_passed();
        }
    }

    /// Draining → Destroying, once nothing is out any more or the deadline has passed: what to detach.
    pub(super) fn check_drain(&mut self) -> Option<QueuePairName> {
        let Stage::Draining(draining) = std::mem::replace(&mut self.stage, Stage::Over) else {
            unreachable!("only draining queues are checked")
        };
        let evidence = Evidence {
            send_count: self.posted_send_count,
            receives: ReceiveSide::Own { posted_count: self.posted_receive_count },
            // Matters only with a shared receive queue.
            completion_queue_empty: false,
            operation_count: 0,
        };
        match draining.check(&evidence) {
            Err(draining) => {
                self.stage = Stage::Draining(draining);
                None
            }
            Ok(quiet) => {
                if let Quiet::Cut(_) = quiet {
                    let posted_count = self.posted_send_count + self.posted_receive_count;
                    tracing::warn!(self.qid, posted_count, "queue pair is cut off: its work did not return in time");
                }
                let (name, destroying) = quiet.detach();
                self.stage = Stage::Destroying(destroying);
                Some(name)
            }
        }
    }

    /// Destroying → retired (to wait for what is late), or its memory is given up.
    pub(super) fn end(mut self, result: DestroyResult, swept: Swept) -> Option<Retired<Self>> {
        let Stage::Destroying(destroying) = std::mem::replace(&mut self.stage, Stage::Over) else {
            unreachable!("a queue pair is destroyed once, after its drain")
        };
        match destroying.end(result, swept) {
            // A host uses a queue's memory once: there is nothing to release before.
            AfterDestroy::Destroyed(destroyed) => Some(destroyed.retire(self)),
            AfterDestroy::Quarantined => None,
        }
    }

    /// Takes a step of the queue's life, or stays where it is.
    fn step(&mut self, next: impl FnOnce(u16, Stage) -> Result<Stage, Stage>) -> bool {
        let result = next(self.qid, std::mem::replace(&mut self.stage, Stage::Over));
        let has_stepped = result.is_ok();
        self.stage = result.unwrap_or_else(|stage| stage);
        has_stepped
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
mod tests {
    use super::*;
    use crate::verbs::Received;
    use nvmf_core::host::flush;
    use reactor::Arena;

    /// Takes everything, completes nothing by itself.
    #[derive(Default)]
    struct PaperPort {
        sends: Vec<(u64, [u8; COMMAND_LEN])>,
        receives: Vec<(u64, Segment)>,
        refuses: Option<PostError>,
    }

    impl Port for PaperPort {
        type QueuePair = ();
        fn attach(&mut self, (): ()) -> QueuePairName {
            QueuePairName { index: 0, number: 0x11 }
        }
        fn detach(&mut self, _name: QueuePairName) -> Option<()> {
            Some(())
        }
        fn post_receive(&mut self, _name: QueuePairName, id: u64, segments: &[LocalSegment]) -> Result<(), PostError> {
            self.receives.push((id, segments[0].memory));
            Ok(())
        }
        fn post_shared_receive(&mut self, _id: u64, _segments: &[LocalSegment]) -> Result<(), PostError> {
            Err(PostError::WrongState)
        }
        fn post_send(&mut self, _name: QueuePairName, request: &SendRequest<'_>) -> Result<(), PostError> {
            if let Some(error) = self.refuses {
                return Err(error);
            }
            let mut command = [0; COMMAND_LEN];
            request.segments[0].memory.read(0, &mut command);
            self.sends.push((request.id, command));
            Ok(())
        }
        fn ring(&mut self) {}
        fn poll(&mut self, _now_ns: u64, _limit: usize, _completions: &mut Vec<Completion>) -> usize {
            0
        }
    }

    const DEPTH: u16 = 3;

    fn live() -> (Queue, PaperPort) {
        let arena = Arena::new(capsule_memory_len(DEPTH), false).unwrap();
        let capsules = arena.segment().part(0, capsule_memory_len(DEPTH));
        let options =
            QueueOptions { link: Handle::from_bits(0), qid: 1, number: 0, depth: DEPTH, capsules, capsule_key: 1 };
        let mut port = PaperPort::default();
        let name = port.attach(());
        let mut queue = Queue::new(&options, name, Handle::from_bits(0x0500_0002));
        queue.post_receives(&mut port).unwrap();
        assert!(queue.established() && queue.joined());
        (queue, port)
    }

    /// The command's identifier.
    fn submit(queue: &mut Queue, port: &mut PaperPort, tag: u64) -> u16 {
        queue.submit(port, 0, tag, |id| flush(id, 1), None).unwrap();
        let (_, command) = port.sends.last().unwrap();
        u16::from_le_bytes([command[2], command[3]])
    }

    fn sent(queue: &mut Queue, send: usize, port: &PaperPort) -> Result<Option<Finished>, QueueFault> {
        let (handle, slot) = owner_of(WorkRequestId::from_bits(port.sends[send].0).unwrap());
        assert_eq!(handle, Handle::from_bits(0x0500_0002));
        queue.sent(slot, CompletionStatus::Success)
    }

    fn respond(
        queue: &mut Queue,
        port: &mut PaperPort,
        command_id: u16,
        len: u32,
    ) -> Result<Option<Finished>, QueueFault> {
        let (id, memory) = port.receives.remove(0);
        let mut response = [0; RESPONSE_LEN];
        response[12..14].copy_from_slice(&command_id.to_le_bytes());
        memory.write(0, &response);
        let (_, receive) = owner_of(WorkRequestId::from_bits(id).unwrap());
        let received = Received::default();
        let completion = Completion { id, status: CompletionStatus::Success, number: 0x11, len, received };
        queue.received(port, receive, &completion)
    }

    #[test]
    fn a_command_ends_with_both_its_send_and_its_response_in_either_order() {
        let (mut queue, mut port) = live();
        let (first, second) = (submit(&mut queue, &mut port, 10), submit(&mut queue, &mut port, 20));
        assert!(sent(&mut queue, 0, &port).unwrap().is_none());
        assert_eq!(respond(&mut queue, &mut port, first, 16).unwrap().unwrap().tag, 10);
        assert!(respond(&mut queue, &mut port, second, 16).unwrap().is_none());
        assert_eq!(queue.room(), 2);
        assert_eq!(sent(&mut queue, 1, &port).unwrap().unwrap().tag, 20);
        assert_eq!(queue.room(), 3);
        assert_eq!(port.receives.len(), receive_count(DEPTH), "each receive was posted again");
    }

    #[test]
    fn a_queue_takes_no_more_than_its_depth() {
        let (mut queue, mut port) = live();
        for tag in 0..3 {
            submit(&mut queue, &mut port, tag);
        }
        assert_eq!(queue.room(), 0);
        assert_eq!(queue.oldest_submit_ns(), Some(0));
    }

    #[test]
    fn responses_for_commands_that_are_not_out_are_faults() {
        let (mut queue, mut port) = live();
        let id = submit(&mut queue, &mut port, 1);
        for wrong in [id + 1, id ^ 1 << SLOT_BITS, DEPTH, 0x3FF, 0xFFFF] {
            let fault = respond(&mut queue, &mut port, wrong, 16).unwrap_err();
            assert_eq!(fault, QueueFault::UnknownCommand { command_id: wrong });
            assert!(matches!(fault.into_failure(1), HostFailure::Protocol { qid: 1, .. }));
        }
        assert!(respond(&mut queue, &mut port, id, 16).unwrap().is_none());
        let twice = respond(&mut queue, &mut port, id, 16).unwrap_err();
        assert_eq!(twice, QueueFault::UnknownCommand { command_id: id });
        assert!(sent(&mut queue, 0, &port).unwrap().is_some());
        // The slot's next command has another identifier.
        let next = submit(&mut queue, &mut port, 2);
        assert_ne!(next, id);
        assert_eq!(next & 0x3FF, id & 0x3FF);
        assert!(respond(&mut queue, &mut port, id, 16).is_err(), "a late copy is not the next command's");
    }

    #[test]
    fn a_response_of_another_length_is_a_fault() {
        for len in [0, 15, 17] {
            let (mut queue, mut port) = live();
            let id = submit(&mut queue, &mut port, 1);
            let fault = respond(&mut queue, &mut port, id, len).unwrap_err();
            assert_eq!(fault, QueueFault::ResponseLength { len });
        }
    }

    #[test]
    fn what_cannot_be_posted_takes_no_slot() {
        let (mut queue, mut port) = live();
        port.refuses = Some(PostError::WrongState);
        let fault = queue.submit(&mut port, 0, 1, |id| flush(id, 1), None).unwrap_err();
        assert!(matches!(fault, QueueFault::Post { error: PostError::WrongState, .. }));
        assert_eq!(queue.room(), 3);
    }

    #[test]
    fn a_drain_counts_everything_back_before_it_lets_go() {
        let (mut queue, mut port) = live();
        submit(&mut queue, &mut port, 1);
        queue.break_off();
        assert_eq!(queue.room(), 0);
        assert!(queue.begin_drain(DisconnectReason::Host));
        assert!(!queue.begin_drain(DisconnectReason::Host), "the first wins");
        for _ in 0..receive_count(DEPTH) {
            assert_eq!(queue.check_drain(), None);
            let (id, _) = port.receives.remove(0);
            let (_, receive) = owner_of(WorkRequestId::from_bits(id).unwrap());
            let status = CompletionStatus::WorkRequestFlushed;
            let completion = Completion { id, status, number: 0x11, len: 0xDEAD, received: Received::default() };
            assert!(queue.received(&mut port, receive, &completion).unwrap().is_none());
        }
        assert_eq!(queue.check_drain(), None, "a send is still out");
        assert!(queue.sent(0, CompletionStatus::WorkRequestFlushed).unwrap().is_none());
        assert!(queue.check_drain().is_some());
        assert!(queue.end(DestroyResult::Done, Swept::completion_queue_was_emptied()).is_some());
    }

    #[test]
    fn the_deadline_cuts_and_a_failed_destroy_gives_the_memory_up() {
        let (mut queue, _) = live();
        queue.begin_drain(DisconnectReason::Host);
        queue.deadline_passed();
        assert!(queue.check_drain().is_some());
        assert!(queue.end(DestroyResult::Failed, Swept::completion_queue_was_emptied()).is_none());
    }
}
