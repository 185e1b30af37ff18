//! Queue pairs and completion queues that break at a chosen moment, and what is checked of the order in which things end.

use super::*;
use crate::verbs::contract::pair::{Pair, Setup};
use crate::verbs::{CompletionStatus as Status, Event, EventKind, Flags, Port, PortId, Provider, SendOperation};

#[test]
fn a_completion_queue_breaks() {
    let mut pair = Pair::new(calm(FabricOptions::default()));
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 0, 3);
        }
    });
    let machine = pair.sides[1].provider.id();
    pair.rig.fabric.break_port(machine, PortId(0));
    pair.steps(20);
    let mut kinds: Vec<_> = pair.sides[1].events.iter().map(Event::kind).collect();
    kinds.sort_unstable_by_key(|kind| kind.name());
    assert_eq!(kinds, [EventKind::CompletionQueueError, EventKind::QueuePairFatal]);
    pair.sides[1].provider.disconnect(ends[1].id());
    pair.steps(50);
    assert_eq!(pair.sides[1].take_completions(), [], "nothing completes");
    pair.sides[0].send_with(ends[0].name, 9, SendOperation::Send, Flags::SIGNALED, &[]);
    assert_eq!(pair.completions(0, 1), [(9, Status::RetryExceeded)], "the peer notices when it sends");
    pair.finish(ends);
}

#[test]
fn a_queue_pair_breaks_with_and_before_its_last_wqe() {
    let mut pair = Pair::with(calm(FabricOptions::default()), Setup::shared(2));
    let ends = pair.connect();
    pair.rig.fabric.break_queue_pair(pair.sides[1].provider.id(), ends[1].id());
    pair.steps(20);
    let kinds: Vec<_> = pair.sides[1].events.iter().map(Event::kind).collect();
    assert_eq!(kinds, [EventKind::QueuePairFatal, EventKind::LastWqeReached]);
    pair.finish(ends);
}

/// A program that takes what waits too slowly: the completion queue of the stage is as long as the port's.
#[test]
fn late_completions_overrun_too() {
    let mut options = FabricOptions { is_strict: false, ..FabricOptions::default() };
    options.device.completions.is_split = true;
    let mut pair = Pair::with(calm(options), Setup { completion_count: 4, ..Setup::default() });
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 0, 8);
        }
    });
    let mut polled = Vec::new();
    for id in 0..8 {
        pair.sides[0].send_with(ends[0].name, id, SendOperation::Send, Flags::empty(), &[]);
        for _ in 0..20 {
            pair.now_ns += 10_000;
            pair.sides[0].port.poll(pair.now_ns, 0, &mut Vec::new());
            pair.sides[1].port.poll(pair.now_ns, 0, &mut polled);
        }
    }
    pair.event(1, "CQ_ERR", |event| matches!(event, Event::CompletionQueueError { .. }).then_some(()));
    assert_eq!(pair.completions(1, 4).len(), 4, "what was in it is still there");
    pair.steps(50);
    assert_eq!(pair.sides[1].take_completions(), [], "and nothing more");
    pair.sides[0].take_completions();
    pair.finish(ends);
}

#[test]
#[should_panic(expected = "ends before its queue pair")]
fn a_port_does_not_end_before_its_queue_pairs() {
    let options = FabricOptions { forbids_port_before_queue_pairs: true, ..FabricOptions::default() };
    let mut pair = Pair::new(calm(options));
    let [_active, _passive] = pair.connect();
    let [first, second] = pair.sides;
    drop(first.port);
    drop((first.provider, second));
}

#[test]
#[should_panic(expected = "ends before its queue pair")]
fn not_even_where_it_is_detached() {
    let options = FabricOptions { forbids_port_before_queue_pairs: true, ..FabricOptions::default() };
    let mut pair = Pair::new(calm(options));
    let active = pair.resolve();
    let queue_pair = pair.sides[0].port.detach(active.name);
    let [first, second] = pair.sides;
    drop(first.port);
    drop((first.provider, second, queue_pair));
}
