//! Completions that have happened and are in the completion queue later, otherwise, or never.

use super::*;
use crate::soft::in_process::CompletionKinds;
use crate::verbs::contract::pair::{End, Pair};
use crate::verbs::{CompletionStatus as Status, Flags, PortId, Provider, SendOperation};

const PORT: PortId = PortId(0);

fn with(completions: CompletionFaults) -> FabricOptions {
    FabricOptions { device: DeviceFaults { completions, ..DeviceFaults::default() }, ..FabricOptions::default() }
}

/// Side 0 with so many sends and receives, none of which succeeds: its peer's CPU does not turn.
fn busy(rig: SeededRig, count: u64) -> (Pair<SeededRig>, [End; 2]) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| {
        if side == 0 {
            pair.post_receives(0, name, 100, count);
        }
    });
    pair.sides[1].is_stopped = true;
    for id in 0..count {
        pair.sides[0].send_with(ends[0].name, id, SendOperation::Send, Flags::SIGNALED, &[]);
    }
    (pair, ends)
}

fn finish(mut pair: Pair<SeededRig>, ends: [End; 2]) {
    pair.sides[1].is_stopped = false;
    pair.finish(ends);
}

#[test]
fn held_flushes_come_by_number() {
    let holds = CompletionKinds::RECEIVE_FAILED;
    let (mut pair, ends) = busy(calm(with(CompletionFaults { holds, ..CompletionFaults::default() })), 4);
    let machine = pair.sides[0].provider.id();
    pair.sides[0].provider.disconnect(ends[0].id());
    let sends: Vec<_> = (0..4).map(|id| (id, Status::WorkRequestFlushed)).collect();
    assert_eq!(pair.completions(0, 4), sends, "those are not held");
    for id in 100..103 {
        pair.steps(20);
        assert_eq!(pair.sides[0].take_completions(), []);
        assert_eq!(pair.rig.fabric.release_completions(machine, PORT, 1), 1);
        assert_eq!(pair.completions(0, 1), [(id, Status::WorkRequestFlushed)]);
    }
    assert_eq!(pair.rig.fabric.waiting_completion_count(machine, PORT), 1);
    pair.rig.fabric.change_for(machine, |options| options.device.completions.holds = CompletionKinds::empty());
    assert_eq!(pair.completions(0, 1), [(103, Status::WorkRequestFlushed)]);
    assert_eq!(pair.rig.fabric.release_completions(machine, PORT, 5), 0);
    finish(pair, ends);
}

/// Where its CPU sleeps, what is let out wakes it.
#[test]
fn what_is_held_does_not_keep_a_port_awake_and_what_is_released_wakes_it() {
    use crate::verbs::Port;
    use reactor::Rest;
    let (mut pair, ends) =
        busy(calm(with(CompletionFaults { holds: CompletionKinds::FAILED, ..CompletionFaults::default() })), 2);
    let machine = pair.sides[0].provider.id();
    pair.sides[0].provider.disconnect(ends[0].id());
    pair.steps(20);
    pair.sides[0].is_stopped = true;
    assert_eq!(pair.sides[0].port.arm(pair.now_ns), Rest::Sleep);
    pair.rig.fabric.release_completions(machine, PORT, 4);
    assert!(pair.sides[0].port.has_rung());
    pair.sides[0].port.disarm();
    pair.sides[0].is_stopped = false;
    assert_eq!(pair.completions(0, 4).len(), 4);
    finish(pair, ends);
}

/// What one seed makes of eight flushes: how many come in each turn, and in which order.
fn arrivals(seed: u64, completions: CompletionFaults) -> (Vec<usize>, Vec<u64>) {
    let (mut pair, ends) = busy(seeded(seed, with(completions)), 4);
    pair.sides[0].provider.disconnect(ends[0].id());
    let (mut batches, mut ids) = (Vec::new(), Vec::new());
    while ids.len() < 8 {
        pair.step();
        let batch = pair.sides[0].take_completions();
        batches.push(batch.len());
        ids.extend(batch.iter().map(|(id, _)| *id));
    }
    finish(pair, ends);
    batches.drain(..batches.iter().take_while(|len| **len == 0).count());
    for queue in [0..100, 100..200] {
        assert!(ids.iter().filter(|id| queue.contains(*id)).is_sorted(), "seed {seed}: {ids:?}");
    }
    (batches, ids)
}

#[test]
fn batches_are_of_any_size_and_late() {
    let split = CompletionFaults { looks_max: 3, is_split: true, ..CompletionFaults::default() };
    let calm: Vec<_> = (0..8).map(|seed| arrivals(seed, CompletionFaults::default()).0).collect();
    assert!(calm.iter().all(|batches| *batches == [8]), "{calm:?}");
    let batches: Vec<_> = (0..40).map(|seed| arrivals(seed, split).0).collect();
    let has = |len: usize| batches.iter().flatten().any(|of| *of == len);
    assert!((1..=8).all(has), "of every size: {batches:?}");
    assert!(batches.iter().flatten().any(|len| *len == 0), "and looks between them");
}

#[test]
fn between_queues_there_is_any_order() {
    let mixed = CompletionFaults { is_mixed: true, ..CompletionFaults::default() };
    let orders: Vec<_> = (0..40).map(|seed| arrivals(seed, mixed).1).collect();
    let receives_first = |ids: &&Vec<u64>| ids[0] >= 100;
    let between = |ids: &&Vec<u64>| ids[0] < 100 && ids[7] < 100;
    assert!(orders.iter().any(|ids| receives_first(&ids)) && orders.iter().any(|ids| !receives_first(&ids)));
    assert!(orders.iter().any(|ids| between(&ids)), "{orders:?}");
}

#[test]
fn a_success_may_follow_an_error_of_the_other_queue() {
    let mixed = CompletionFaults { is_mixed: true, looks_max: 8, ..CompletionFaults::default() };
    let follows = |seed| {
        let mut pair = Pair::new(seeded(seed, with(mixed)));
        let ends = pair.connect_with(|pair, side, name| {
            if side == 0 {
                pair.post_receives(0, name, 100, 1);
            }
        });
        // Nobody receives it, so it is flushed; the peer's message comes before that.
        pair.sides[0].send_with(ends[0].name, 1, SendOperation::Send, Flags::SIGNALED, &[]);
        pair.sides[1].send_with(ends[1].name, 1, SendOperation::Send, Flags::SIGNALED, &[]);
        pair.until("the receive", |pair| {
            let waiting = pair.rig.fabric.waiting_completion_count(pair.sides[0].provider.id(), PORT);
            (waiting > 0 || !pair.sides[0].completions.is_empty()).then_some(())
        });
        pair.sides[0].provider.disconnect(ends[0].id());
        let order = pair.completions(0, 2);
        pair.steps(20);
        pair.sides[1].take_completions();
        pair.finish(ends);
        order == [(1, Status::WorkRequestFlushed), (100, Status::Success)]
    };
    assert!((0..40).any(follows));
}

#[test]
fn dropped_flushes_never_come_and_are_accounted_for() {
    let (mut pair, ends) = busy(calm(FabricOptions::default()), 4);
    let machine = pair.sides[0].provider.id();
    pair.rig.fabric.drop_flushes(machine, 5);
    pair.sides[0].provider.disconnect(ends[0].id());
    let came: Vec<_> = pair.completions(0, 3).iter().map(|(id, _)| *id).collect();
    assert_eq!(came, [101, 102, 103], "the sends' and the first receive's are lost");
    pair.steps(300);
    assert_eq!(pair.sides[0].take_completions(), []);
    let mut left = 0;
    pair.rig.fabric.for_each_posted(machine, |_| left += 1);
    assert_eq!(left, 0, "what came after it tells that it is over");
    finish(pair, ends);
}

#[test]
fn flushes_are_dropped_by_choice() {
    let drops = CompletionFaults { drops_flush_one_in: 3, ..CompletionFaults::default() };
    let counts: Vec<_> = (0..10)
        .map(|seed| {
            let (mut pair, ends) = busy(seeded(seed, with(drops)), 4);
            pair.sides[0].provider.disconnect(ends[0].id());
            pair.steps(100);
            let count = pair.sides[0].take_completions().len();
            finish(pair, ends);
            count
        })
        .collect();
    assert!(counts.iter().any(|count| *count < 8) && counts.iter().any(|count| *count > 0), "{counts:?}");
}
