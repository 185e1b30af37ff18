//! The data path over a port whose every completion is written by hand.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::mpsc;

use reactor::{Rest, TimerId};

use super::*;
use crate::target::body::{Body, Life};
use crate::target::message::Terms;
use crate::teardown::{Evidence, Quiet, ReceiveSide};
use crate::verbs::{CompletionStatus, Flags, LocalSegment, QueuePairName, Received, SendOperation, SendRequest};

/// What was posted, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Posted {
    Receive(u64),
    SharedReceive(u64),
    Send { id: u64, operation: SendOperation, flags: Flags, len: usize },
}

#[derive(Default)]
struct ByHand {
    posted: Vec<Posted>,
    completions: VecDeque<Completion>,
    refuses_sends: bool,
    ring_count: usize,
}

impl Port for ByHand {
    type QueuePair = ();

    fn attach(&mut self, (): ()) -> QueuePairName {
        QueuePairName { index: 0, number: 7 }
    }

    fn detach(&mut self, _: QueuePairName) -> Option<()> {
        Some(())
    }

    fn post_receive(&mut self, _: QueuePairName, id: u64, _: &[LocalSegment]) -> Result<(), PostError> {
        self.posted.push(Posted::Receive(id));
        Ok(())
    }

    fn post_shared_receive(&mut self, id: u64, _: &[LocalSegment]) -> Result<(), PostError> {
        self.posted.push(Posted::SharedReceive(id));
        Ok(())
    }

    fn post_send(&mut self, _: QueuePairName, request: &SendRequest<'_>) -> Result<(), PostError> {
        if self.refuses_sends {
            return Err(PostError::QueueFull);
        }
        let len = request.segments.iter().map(|segment| segment.memory.len()).sum();
        self.posted.push(Posted::Send { id: request.id, operation: request.operation, flags: request.flags, len });
        Ok(())
    }

    fn ring(&mut self) {
        self.ring_count += 1;
    }

    fn poll(&mut self, _: u64, limit: usize, completions: &mut Vec<Completion>) -> usize {
        let count = limit.min(self.completions.len());
        completions.extend(self.completions.drain(..count));
        count
    }

    fn arm(&mut self, _now_ns: u64) -> Rest {
        Rest::Poll
    }

    fn disarm(&mut self) {}

    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }
}

const SHIFT: u32 = 4;
const DEPTH: u16 = 2;

fn arena(len: usize) -> Segment {
    reactor::Arena::new(len, false).unwrap().segment()
}

/// One that a reactor made: there is no other way to one.
fn timer() -> TimerId {
    struct Arms(mpsc::Sender<TimerId>);
    impl reactor::Program for Arms {
        type Message = ();
        fn receive<'t>(&mut self, _: &mut Turn<'t, ()>, _: Option<reactor::Cpu>, (): ()) {}
        fn fire<'t>(&mut self, _: &mut Turn<'t, ()>, _: u64) {}
        fn poll<'t>(&mut self, turn: &mut Turn<'t, ()>) -> Progress {
            self.0.send(turn.arm(1, 1)).unwrap();
            Progress::Idle
        }
    }
    let (sender, receiver) = mpsc::channel();
    let mut simulation = reactor::Simulation::new(1, 1);
    simulation.install(reactor::Cpu(0), Arms(sender));
    simulation.step();
    receiver.recv().unwrap()
}

struct Rig {
    path: DataPath<ByHand>,
    qpair: Handle<Qpair>,
    data: Segment,
    arrivals: Vec<Arrival>,
}

impl Rig {
    /// One queue pair of depth 2, with room for `send_count` requests and `read_depth` READs; transfers of at most 4096 bytes.
    fn new(send_count: u32, read_depth: u8, shared_count: u32) -> Self {
        let (receives, responses, data) = (arena(4 * 128), arena(64 * 16), arena(16 * 4096));
        let mut keys = RegionKeys::default();
        for (key, segment) in [(1, receives), (2, responses), (3, data)] {
            keys.insert(segment.region(), key);
        }
        let home = reactor::Home { cpu: reactor::Cpu(0), pool: 0 };
        let mut pool = reactor::Pool::new(home, receives.part(0, 3 * 128), 128);
        let shared = (shared_count > 0).then(|| SharedReceives::new(receives, 128, shared_count));
        let buffers = if shared_count > 0 { Vec::new() } else { std::iter::from_fn(|| pool.take()).collect() };
        let mut path = DataPath::new(DataPathOptions {
            port: ByHand::default(),
            queue_pair_count_max: 4,
            completion_count: 64,
            index_shift: SHIFT,
            responses,
            shared,
            keys,
            transfer_len_max: 4096,
            inline_responses: false,
            counters: Arc::default(),
        });
        let qpair = Handle::from_bits(5 << 24 | 1);
        let terms = Terms { depth: DEPTH, read_depth, send_count };
        let name = path.port.attach(());
        if let Some(shared) = &mut path.shared {
            shared.insert(name.number, qpair);
        }
        path.bodies.insert(Box::new(Body::new(qpair, Handle::from_bits(0), name, terms, buffers)));
        assert!(path.post_first_receives(qpair));
        path.ring();
        Self { path, qpair, data, arrivals: Vec::new() }
    }

    fn id(&self, kind: WorkKind, number: u32) -> u64 {
        request_id(SHIFT, kind, self.qpair, number)
    }

    fn complete(&mut self, id: u64, status: CompletionStatus, len: u32) {
        let received = Received::default();
        self.path.port.completions.push_back(Completion { id, status, number: 7, len, received });
    }

    fn capsule(&mut self, number: u32) {
        self.complete(self.id(WorkKind::Receive, number), CompletionStatus::Success, 64);
    }

    fn poll(&mut self) -> Vec<Arrival> {
        self.path.take_completions(0, &mut self.arrivals);
        #[cfg(debug_assertions)]
        self.body().audit();
        std::mem::take(&mut self.arrivals)
    }

    fn body(&mut self) -> &mut Body {
        self.path.bodies.look_mut(self.qpair).unwrap()
    }

    /// Permits that are not at hand: sends (without the marker's), READs, own receives, commands.
    fn out(&mut self) -> [u32; 4] {
        let body = self.body();
        let commands = body.work.commands.out_count();
        let (Some(Life::Live(live)) | Some(Life::Broken(live))) = &mut body.life else { panic!("not live") };
        let allowance = live.allowance();
        let (reads, receives) = (allowance.reads.out_count(), allowance.receives.out_count());
        [allowance.posted_send_count(), reads, receives, commands]
    }

    fn begin_drain(&mut self) {
        assert!(self.body().begin_drain(DisconnectReason::Host, timer));
        self.path.drop_waiting_capsules(self.qpair);
        self.body().draining_mut().unwrap().entered_error_state();
    }

    /// The marker, and all receives that are posted, come back. Sends that were posted said what they said before.
    fn return_all(&mut self) {
        self.path.post_marker(self.qpair);
        self.complete(self.id(WorkKind::Marker, 0), CompletionStatus::WorkRequestFlushed, 0);
        let posted: Vec<_> = self.body().work.receives.posted.iter().map(Option::is_some).collect();
        for (number, _) in (0..).zip(posted).filter(|(_, is_posted)| *is_posted) {
            self.complete(self.id(WorkKind::Receive, number), CompletionStatus::WorkRequestFlushed, 0);
        }
        assert!(self.poll().is_empty(), "what drains brings nothing");
    }

    fn check(&mut self) -> Option<Quiet> {
        let body = self.body();
        let Some(Life::Draining(draining, timer)) = body.life.take() else { panic!("does not drain") };
        let evidence = Evidence { receives: ReceiveSide::Own, completion_queue_empty: true, operation_count: 0 };
        match draining.check(&evidence) {
            Ok(quiet) => Some(quiet),
            Err(draining) => {
                body.life = Some(Life::Draining(draining, timer));
                None
            }
        }
    }

    fn respond(&mut self, slot: Slot) {
        self.path.respond(self.qpair, slot, [0; 16], None);
    }

    fn sends(&self) -> Vec<(u64, usize)> {
        let send = |posted: &Posted| match *posted {
            Posted::Send { id, len, .. } => Some((id, len)),
            Posted::Receive(_) | Posted::SharedReceive(_) => None,
        };
        self.path.port.posted.iter().filter_map(send).collect()
    }

    fn remote(len: u32) -> RemoteBuffer {
        RemoteBuffer { address: 0x1000, len, key: 9 }
    }
}

/// Whatever a test did: everything comes back in the end, and each slot is free once.
impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if matches!(self.body().life, Some(Life::Live(_) | Life::Broken(_))) {
            self.begin_drain();
        }
        if matches!(self.body().life, Some(Life::Draining(..))) {
            self.path.port.refuses_sends = false;
            self.return_all();
            assert!(matches!(self.check(), Some(Quiet::Returned(_))));
        }
        let body = self.body();
        body.release_slots();
        assert_eq!(body.work.free_slots.len(), body.work.slots.len());
        #[cfg(debug_assertions)]
        body.audit();
    }
}

fn receive_of(arrival: Arrival) -> (Slot, Receive) {
    match arrival {
        Arrival::Command { slot, receive, .. } => (slot, receive),
        Arrival::Pulled { .. } | Arrival::Finished { .. } => panic!("no command: {arrival:?}"),
    }
}

#[test]
fn a_command_has_its_slot_until_the_responses_send_completes() {
    let mut rig = Rig::new(16, 4, 0);
    rig.capsule(0);
    let (slot, receive) = receive_of(rig.poll().pop().unwrap());
    assert_eq!(slot, 0);
    let before = rig.path.port.posted.len();
    rig.path.consumed(receive);
    rig.respond(slot);
    let posted = rig.path.port.posted[before..].to_vec();
    assert_eq!(posted[0], Posted::Receive(rig.id(WorkKind::Receive, 0)), "the receive is back before the response");
    assert!(matches!(posted[1], Posted::Send { operation: SendOperation::Send, len: 16, .. }));
    rig.capsule(1);
    let (next, _) = receive_of(rig.poll().pop().unwrap());
    assert_eq!(next, 1, "slot 0 is not free yet");
    rig.complete(rig.id(WorkKind::Send, 0), CompletionStatus::Success, 0);
    assert!(matches!(rig.poll()[..], [Arrival::Finished { slot: 0, .. }]));
}

#[test]
fn one_command_too_many_is_a_protocol_error() {
    let mut rig = Rig::new(16, 4, 0);
    rig.capsule(0);
    rig.capsule(1);
    assert_eq!(rig.poll().len(), 2);
    assert!(rig.path.endings.is_empty());
    rig.capsule(2);
    assert!(rig.poll().is_empty());
    assert_eq!(rig.path.endings, [(rig.qpair, DisconnectReason::Protocol)]);
}

#[test]
fn a_short_capsule_is_a_protocol_error() {
    let mut rig = Rig::new(16, 4, 0);
    rig.complete(rig.id(WorkKind::Receive, 0), CompletionStatus::Success, 63);
    assert!(rig.poll().is_empty());
    assert_eq!(rig.path.endings, [(rig.qpair, DisconnectReason::Protocol)]);
}

#[test]
fn capsules_wait_in_order_while_every_slot_waits_for_its_send() {
    let mut rig = Rig::new(32, 4, 0);
    for round in 0..2 {
        for number in 0..2 {
            rig.capsule(number);
        }
        for arrival in rig.poll() {
            let (slot, receive) = receive_of(arrival);
            assert_eq!(slot / 2, round);
            rig.path.consumed(receive);
            rig.respond(slot);
        }
    }
    rig.capsule(1);
    rig.capsule(0);
    assert!(rig.poll().is_empty(), "four slots wait for their sends");
    assert_eq!(rig.path.counters.slot_waits.value(), 2);
    rig.complete(rig.id(WorkKind::Send, 3), CompletionStatus::Success, 0);
    let mut arrivals = rig.poll();
    let (slot, receive) = receive_of(arrivals.pop().unwrap());
    assert_eq!((slot, receive.id & 15), (3, 1), "the first that waits gets it");
    assert!(matches!(arrivals[..], [Arrival::Finished { slot: 3, .. }]));
}

#[test]
fn a_push_is_split_and_its_response_stays_behind_it() {
    // Room for two besides the marker.
    let mut rig = Rig::new(3, 4, 0);
    rig.capsule(0);
    let (slot, receive) = receive_of(rig.poll().pop().unwrap());
    rig.path.push(rig.qpair, slot, rig.data.part(0, 4096 * 2 + 512), Rig::remote(4096 * 2 + 512));
    rig.path.consumed(receive);
    rig.respond(slot);
    assert_eq!(rig.sends().iter().map(|send| send.1).collect::<Vec<_>>(), [4096, 4096]);
    assert_eq!(rig.path.counters.send_room_waits.value(), 2);
    assert_eq!(rig.out()[3], 1, "its place ends when the response is posted");
    let flags = |posted: &Posted| match *posted {
        Posted::Send { flags, .. } => Some(flags),
        Posted::Receive(_) | Posted::SharedReceive(_) => None,
    };
    let flags: Vec<_> = rig.path.port.posted.iter().filter_map(flags).collect();
    assert_eq!(flags, [Flags::empty(), Flags::SIGNALED], "the one that takes the last room brings it back");
    rig.complete(rig.id(WorkKind::Write, 0), CompletionStatus::Success, 0);
    rig.poll();
    assert_eq!(rig.sends().iter().map(|send| send.1).collect::<Vec<_>>(), [4096, 4096, 512, 16]);
    assert_eq!(rig.out()[3], 0);
}

#[test]
fn a_responses_completion_accounts_for_its_pushes() {
    let mut rig = Rig::new(4, 4, 0);
    rig.capsule(0);
    rig.capsule(1);
    for arrival in rig.poll() {
        let (slot, receive) = receive_of(arrival);
        rig.path.push(rig.qpair, slot, rig.data.part(0, 4096), Rig::remote(4096));
        rig.path.consumed(receive);
        rig.respond(slot);
    }
    assert_eq!(rig.sends().len(), 3, "the second response waits");
    rig.complete(rig.id(WorkKind::Send, 0), CompletionStatus::Success, 0);
    rig.poll();
    assert_eq!(rig.sends().len(), 4);
    // This one took the last room, so it was signalled.
    rig.complete(rig.id(WorkKind::Write, 1), CompletionStatus::Success, 0);
    rig.complete(rig.id(WorkKind::Send, 1), CompletionStatus::Success, 0);
    rig.poll();
    assert_eq!(rig.out(), [0, 0, 3, 0]);
}

#[test]
fn pulls_keep_to_the_read_depth_and_end_with_their_last_part() {
    let mut rig = Rig::new(16, 2, 0);
    rig.capsule(0);
    let (slot, _receive) = receive_of(rig.poll().pop().unwrap());
    rig.path.pull(rig.qpair, slot, Rig::remote(3 * 4096), rig.data.part(0, 3 * 4096));
    assert_eq!(rig.sends().len(), 2);
    assert_eq!(rig.path.counters.read_depth_waits.value(), 1);
    for posted in [3, 3] {
        rig.complete(rig.id(WorkKind::Read, 0), CompletionStatus::Success, 4096);
        assert!(rig.poll().is_empty());
        assert_eq!(rig.sends().len(), posted);
    }
    let last = SendOperation::Read { address: 0x1000 + 2 * 4096, key: 9 };
    assert!(matches!(rig.path.port.posted.last(), Some(Posted::Send { operation, .. }) if *operation == last));
    rig.complete(rig.id(WorkKind::Read, 0), CompletionStatus::Success, 4096);
    assert!(matches!(rig.poll()[..], [Arrival::Pulled { slot: 0, .. }]));
}

#[test]
fn transfers_of_nothing_need_no_wire() {
    let mut rig = Rig::new(16, 2, 0);
    rig.capsule(0);
    let (slot, _receive) = receive_of(rig.poll().pop().unwrap());
    rig.path.push(rig.qpair, slot, rig.data.part(0, 0), Rig::remote(0));
    rig.path.pull(rig.qpair, slot, Rig::remote(0), rig.data.part(0, 0));
    assert!(rig.sends().is_empty());
    assert!(matches!(rig.path.early[..], [Arrival::Pulled { slot: 0, .. }]));
}

#[test]
fn stale_completions_are_dropped_and_counted() {
    let mut rig = Rig::new(16, 2, 0);
    let stale = Handle::from_bits(4 << 24 | 1);
    for kind in [WorkKind::Receive, WorkKind::Send, WorkKind::Read, WorkKind::Marker] {
        rig.complete(request_id(SHIFT, kind, stale, 0), CompletionStatus::Success, 64);
    }
    rig.complete(0, CompletionStatus::Success, 64);
    rig.complete(u64::MAX, CompletionStatus::WorkRequestFlushed, 64);
    assert!(rig.poll().is_empty());
    assert_eq!(rig.path.counters.stale_completions.value(), 6);
    assert!(rig.path.endings.is_empty());
}

#[test]
fn failures_end_the_queue_pair_after_the_batch() {
    let mut rig = Rig::new(16, 2, 0);
    rig.complete(rig.id(WorkKind::Write, 0), CompletionStatus::RemoteAccessError, 0);
    rig.capsule(0);
    assert_eq!(rig.poll().len(), 1, "the rest of the batch still finds its body");
    assert_eq!(rig.path.endings, [(rig.qpair, DisconnectReason::TransportError)]);
}

#[test]
fn a_refused_request_ends_the_queue_pair() {
    let mut rig = Rig::new(16, 2, 0);
    rig.capsule(0);
    let (slot, _receive) = receive_of(rig.poll().pop().unwrap());
    rig.path.port.refuses_sends = true;
    rig.respond(slot);
    assert_eq!(rig.path.endings, [(rig.qpair, DisconnectReason::TransportError)]);
}

#[test]
fn shared_receives_are_credited_whoever_took_them() {
    let mut rig = Rig::new(16, 2, 4);
    assert_eq!(rig.path.counters.shared_receives_posted.value(), 4);
    let shared = |index| WorkRequestId { kind: WorkKind::SharedReceive, index, generation: 1 }.to_bits();
    rig.complete(shared(0), CompletionStatus::Success, 64);
    let (_, receive) = receive_of(rig.poll().pop().unwrap());
    assert_eq!(rig.path.counters.shared_receives_posted.value(), 3);
    rig.path.consumed(receive);
    assert_eq!(rig.path.counters.shared_receives_posted.value(), 4);
    // Of a queue pair that is gone: its number is not known any more.
    let (number, id) = (99, shared(1));
    let received = Received::default();
    let late = Completion { id, status: CompletionStatus::Success, number, len: 64, received };
    rig.path.port.completions.push_back(late);
    assert!(rig.poll().is_empty());
    assert_eq!(rig.path.counters.shared_receives_credited.value(), 1);
    assert_eq!(rig.path.counters.shared_receives_posted.value(), 4);
    // The same posting a second time is none of ours.
    rig.path.port.completions.push_back(late);
    assert!(rig.poll().is_empty());
    assert_eq!(rig.path.counters.shared_receives_posted.value(), 4);
}

#[test]
fn the_doorbell_rings_once_for_a_batch_and_not_for_nothing() {
    let mut rig = Rig::new(16, 2, 0);
    let before = rig.path.port.ring_count;
    rig.path.ring();
    assert_eq!(rig.path.port.ring_count, before);
    rig.capsule(0);
    let (slot, receive) = receive_of(rig.poll().pop().unwrap());
    rig.path.consumed(receive);
    rig.respond(slot);
    rig.path.ring();
    rig.path.ring();
    assert_eq!(rig.path.port.ring_count, before + 1);
}

#[test]
fn what_the_sweep_found_for_a_queue_pair_that_drains_by_now_is_dropped() {
    let mut rig = Rig::new(16, 2, 4);
    let shared = |index| WorkRequestId { kind: WorkKind::SharedReceive, index, generation: 1 }.to_bits();
    rig.complete(shared(0), CompletionStatus::Success, 64);
    let _swept = rig.path.sweep(0);
    assert_eq!(rig.path.counters.shared_receives_posted.value(), 3);
    rig.begin_drain();
    let mut arrivals = Vec::new();
    rig.path.hand_over_early(&mut arrivals);
    assert!(arrivals.is_empty());
    assert_eq!(rig.path.counters.shared_receives_posted.value(), 4);
}

/// Reads and writes of 8 KiB in turn, as many as `PERMITS_COMMANDS` says, for counting instructions: `docs/PERFORMANCE.md` says how.
#[test]
#[ignore = "a measurement"]
fn commands_to_count_the_instructions_of() {
    let count: u32 = std::env::var("PERMITS_COMMANDS").map_or(1000, |count| count.parse().unwrap());
    let mut rig = Rig::new(16, 4, 0);
    let data = rig.data;
    for command in 0..count {
        rig.capsule(command % 3);
        let (slot, receive) = receive_of(rig.poll().pop().unwrap());
        let number = u32::from(slot);
        if command % 2 == 0 {
            rig.path.pull(rig.qpair, slot, Rig::remote(8192), data.part(0, 8192));
            rig.complete(rig.id(WorkKind::Read, number), CompletionStatus::Success, 4096);
            rig.complete(rig.id(WorkKind::Read, number), CompletionStatus::Success, 4096);
            assert_eq!(rig.poll().len(), 1);
        } else {
            rig.path.push(rig.qpair, slot, data.part(0, 8192), Rig::remote(8192));
        }
        rig.path.consumed(receive);
        rig.respond(slot);
        rig.path.ring();
        rig.complete(rig.id(WorkKind::Send, number), CompletionStatus::Success, 0);
        assert_eq!(rig.poll().len(), 1);
        rig.path.port.posted.clear();
    }
    assert_eq!(rig.out()[3], 0);
}
