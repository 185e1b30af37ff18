//! A queue over a port on paper: what a target may answer, in any order.

use std::os::fd::RawFd;

use super::*;
use crate::teardown::{DestroyResult, Retired, Swept};
use crate::verbs::Received;
use nvmf_core::DisconnectReason;
use nvmf_core::host::flush;
use reactor::{Arena, Rest};

/// Takes everything, completes nothing by itself.
#[derive(Default)]
struct PaperPort {
    sends: Vec<(u64, [u8; COMMAND_LEN])>,
    receives: Vec<(u64, Segment)>,
    refuses: Option<PostError>,
    refuses_receives: bool,
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
        if self.refuses_receives {
            return Err(PostError::WrongState);
        }
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

    fn arm(&mut self, _now_ns: u64) -> Rest {
        Rest::Poll
    }

    fn disarm(&mut self) {}

    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }
}

const DEPTH: u16 = 3;

/// Whatever a test did: everything comes back in the end, each by itself.
struct Ending(Option<Queue>);

impl Ending {
    fn end(mut self, result: DestroyResult) -> Option<Retired<Queue>> {
        self.0.take().unwrap().end(result, Swept::completion_queue_was_emptied())
    }
}

impl std::ops::Deref for Ending {
    type Target = Queue;
    fn deref(&self) -> &Queue {
        self.0.as_ref().unwrap()
    }
}

impl std::ops::DerefMut for Ending {
    fn deref_mut(&mut self) -> &mut Queue {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Some(mut queue) = self.0.take().filter(|_| !std::thread::panicking()) else { return };
        queue.begin_drain(DisconnectReason::Host);
        if !matches!(queue.stage, Stage::Draining(_)) {
            return;
        }
        let status = CompletionStatus::WorkRequestFlushed;
        for slot in 0..queue.slots.len() {
            if matches!(queue.slots[slot].phase, Phase::Posted(_) | Phase::Responded(_)) {
                assert_eq!(queue.check_drain(), None);
                assert!(queue.sent(slot, status).unwrap().is_none());
            }
        }
        for receive in 0..queue.receives.len() {
            if queue.receives[receive].is_some() {
                assert_eq!(queue.check_drain(), None);
                let completion = Completion { id: 0, status, number: 0x11, len: 0, received: Received::default() };
                assert!(queue.received(&mut PaperPort::default(), receive, &completion).unwrap().is_none());
            }
        }
        assert!(queue.check_drain().is_some());
        let ended = queue.end(DestroyResult::Failed, Swept::completion_queue_was_emptied());
        assert!(ended.is_some(), "everything came back: a destroy that fails gives nothing up");
    }
}

fn live() -> (Ending, PaperPort) {
    let arena = Arena::new(capsule_memory_len(DEPTH), false).unwrap();
    let capsules = arena.segment().part(0, capsule_memory_len(DEPTH));
    let options =
        QueueOptions { link: Handle::from_bits(0), qid: 1, number: 0, depth: DEPTH, capsules, capsule_key: 1 };
    let mut port = PaperPort::default();
    let name = port.attach(());
    let mut queue = Queue::new(&options, name, Handle::from_bits(0x0500_0002));
    queue.post_receives(&mut port).unwrap();
    assert!(queue.established() && queue.joined());
    (Ending(Some(queue)), port)
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

fn respond(queue: &mut Queue, port: &mut PaperPort, command_id: u16, len: u32) -> Result<Option<Finished>, QueueFault> {
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
    assert!(queue.end(DestroyResult::Done).is_some());
}

/// C8 and its kin: one posting, two completions.
#[test]
fn what_completes_twice_is_a_fault_and_counts_once() {
    let (mut queue, mut port) = live();
    let id = submit(&mut queue, &mut port, 1);
    assert!(sent(&mut queue, 0, &port).unwrap().is_none());
    let twice = sent(&mut queue, 0, &port).unwrap_err();
    assert_eq!(twice, QueueFault::NotPosted { operation: "a command's send" });
    assert!(matches!(twice.into_failure(1), HostFailure::Disconnected { qid: 1, .. }));
    let first = port.receives[0];
    assert!(respond(&mut queue, &mut port, id, 16).unwrap().is_some());
    port.refuses_receives = true;
    port.receives.insert(0, first);
    assert!(respond(&mut queue, &mut port, id, 16).is_err(), "an old response");
    port.receives.insert(0, first);
    let twice = respond(&mut queue, &mut port, id, 16).unwrap_err();
    assert_eq!(twice, QueueFault::NotPosted { operation: "a response's receive" });
    assert_eq!(queue.room(), 3);
}

/// After a cut, completions come too late to count.
#[test]
fn what_comes_after_a_cut_changes_nothing() {
    let (mut queue, mut port) = live();
    let id = submit(&mut queue, &mut port, 1);
    queue.begin_drain(DisconnectReason::Host);
    queue.deadline_passed();
    assert!(queue.check_drain().is_some());
    assert!(sent(&mut queue, 0, &port).unwrap().is_none());
    assert!(respond(&mut queue, &mut port, id, 16).unwrap().is_none());
    assert!(queue.end(DestroyResult::Done).is_some());
}

#[test]
fn the_deadline_cuts_and_a_failed_destroy_gives_the_memory_up() {
    let (mut queue, _) = live();
    queue.begin_drain(DisconnectReason::Host);
    queue.deadline_passed();
    assert!(queue.check_drain().is_some());
    assert!(queue.end(DestroyResult::Failed).is_none());
}
