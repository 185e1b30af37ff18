//! What the data path does for a device that works.

use super::*;

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
fn several_pulls_of_a_request_end_with_the_last_part_of_all() {
    let mut rig = Rig::new(16, 2, 0);
    rig.capsule(0);
    let (slot, _receive) = receive_of(rig.poll().pop().unwrap());
    rig.path.pull(rig.qpair, slot, Rig::remote(512), rig.data.part(0, 512));
    rig.path.pull(rig.qpair, slot, Rig::remote(2 * 4096), rig.data.part(512, 2 * 4096));
    assert_eq!(rig.sends().len(), 2);
    for (posted, len) in [(3, 512), (3, 4096)] {
        rig.complete(rig.id(WorkKind::Read, 0), CompletionStatus::Success, len);
        assert!(rig.poll().is_empty());
        assert_eq!(rig.sends().len(), posted);
    }
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
