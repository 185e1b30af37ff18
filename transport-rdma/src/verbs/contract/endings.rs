//! Flush, disconnect, destroy, events that are owed.

use super::pair::{Pair, Setup, receive_offset};
use super::{Case, Rig};
use crate::verbs::{CompletionStatus as Status, Event, Flags, Port, Provider, SendOperation};

pub(super) fn cases<R: Rig>() -> Vec<(&'static str, Case<R>)> {
    vec![
        ("everything_is_flushed_in_order", everything_is_flushed_in_order),
        ("a_peers_disconnect_does_not_move_us", a_peers_disconnect_does_not_move_us),
        ("both_disconnect_at_once", both_disconnect_at_once),
        ("disconnected_before_it_is_attached", disconnected_before_it_is_attached),
        ("a_peer_in_the_error_state", a_peer_in_the_error_state),
        ("a_peer_that_dies", a_peer_that_dies),
        ("a_peer_whose_cpu_stopped", a_peer_whose_cpu_stopped),
        ("detached_with_work_outstanding", detached_with_work_outstanding),
        ("an_event_that_is_owed_keeps_its_object", an_event_that_is_owed_keeps_its_object),
        ("names_and_numbers_come_again", names_and_numbers_come_again),
    ]
}

/// Sends and receives each in order; what is posted later too; no success among them.
fn everything_is_flushed_in_order<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| {
        if side == 0 {
            pair.post_receives(0, name, 100, 10);
        }
    });
    let name = ends[0].name;
    for id in 0..8 {
        // Unsignalled ones complete too when they fail.
        let flags = if id % 2 == 0 { Flags::SIGNALED } else { Flags::empty() };
        pair.sides[0].send_with(name, id, SendOperation::Send, flags, &[]);
    }
    pair.sides[0].provider.disconnect(ends[0].id());
    let completions = pair.completions(0, 18);
    assert!(completions.iter().all(|(_, status)| *status == Status::WorkRequestFlushed), "{completions:?}");
    let ids = |receives: bool| -> Vec<u64> {
        completions.iter().map(|(id, _)| *id).filter(|id| (*id >= 100) == receives).collect()
    };
    assert_eq!(ids(false), (0..8).collect::<Vec<_>>());
    assert_eq!(ids(true), (100..110).collect::<Vec<_>>());
    pair.sides[0].send_with(name, 8, SendOperation::Send, Flags::empty(), &[]);
    pair.post_receives(0, name, 110, 1);
    let mut late = pair.completions(0, 2);
    // Between queues there is no order.
    late.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(late, [(8, Status::WorkRequestFlushed), (110, Status::WorkRequestFlushed)]);
    // Again: nothing more comes of it.
    pair.sides[0].provider.disconnect(ends[0].id());
    pair.steps(50);
    assert_eq!(pair.sides[0].take_completions(), []);
    pair.finish(ends);
}

/// The peer's disconnect is an event. Our receives stay until we disconnect ourselves; then timewait ends once.
fn a_peers_disconnect_does_not_move_us<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 1, 2);
        }
    });
    pair.sides[0].provider.disconnect(ends[0].id());
    let id = ends[1].id();
    pair.event(1, "the peer's disconnect", |event| {
        matches!(event, Event::Disconnected { connection } if *connection == id).then_some(())
    });
    pair.steps(100);
    assert_eq!(pair.sides[1].take_completions(), []);
    pair.sides[1].provider.disconnect(id);
    assert_eq!(pair.completions(1, 2), [(1, Status::WorkRequestFlushed), (2, Status::WorkRequestFlushed)]);
    pair.finish(ends);
}

fn both_disconnect_at_once<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| pair.post_receives(side, name, 1, 2));
    pair.sides[0].provider.disconnect(ends[0].id());
    pair.sides[1].provider.disconnect(ends[1].id());
    for side in 0..2 {
        assert_eq!(pair.completions(side, 2), [(1, Status::WorkRequestFlushed), (2, Status::WorkRequestFlushed)]);
    }
    pair.finish(ends);
}

/// The queue pair is still on its way to its CPU when the disconnect comes: it is attached in the error state.
fn disconnected_before_it_is_attached<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let parameters = pair.parameters(b"");
    let active = pair.resolve();
    pair.sides[0].provider.connect(&active.connection, parameters);
    let connection = pair.request().connection;
    let queue_pair = pair.create(1, connection.id());
    pair.sides[1].provider.disconnect(connection.id());
    pair.steps(20);
    let name = pair.sides[1].port.attach(queue_pair);
    pair.post_receives(1, name, 1, 1);
    assert_eq!(pair.completions(1, 1), [(1, Status::WorkRequestFlushed)]);
    let queue_pair = pair.sides[1].port.detach(name).unwrap();
    pair.destroy_queue_pair(1, queue_pair);
    pair.destroy_connection(1, connection);
    pair.event(0, "the rejection", |event| matches!(event, Event::Rejected { .. }).then_some(()));
    pair.end(0, active);
    pair.close();
}

/// A peer that takes nothing any more: the first send is retried to its end, the others are flushed.
fn a_peer_in_the_error_state<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect();
    pair.sides[1].provider.disconnect(ends[1].id());
    pair.steps(20);
    let (key, address) = (pair.sides[1].keys.remote_key, pair.sides[1].address(0));
    pair.sides[0].write(0, &[1; 64]);
    let segment = pair.sides[0].part(0, 64);
    pair.sides[0].send(ends[0].name, 1, SendOperation::Send, segment);
    pair.sides[0].send(ends[0].name, 2, SendOperation::Write { address, key }, segment);
    assert_eq!(pair.completions(0, 2), [(1, Status::RetryExceeded), (2, Status::WorkRequestFlushed)]);
    assert_eq!(pair.sides[1].bytes(0, 64), [0; 64], "a queue pair in the error state takes no write");
    pair.finish(ends);
}

/// Its CPU does not turn for a while: nothing is lost, and everything goes on. (How long is too long is each provider's own.)
fn a_peer_whose_cpu_stopped<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 0, 4);
        }
    });
    pair.sides[1].is_stopped = true;
    for id in 0..4 {
        pair.sides[0].send_with(ends[0].name, id, SendOperation::Send, Flags::SIGNALED, &[]);
    }
    pair.pass(20_000_000);
    let mut sent = pair.sides[0].take_completions();
    assert!(sent.is_empty() || R::IS_DEVICE, "nobody has consumed them");
    pair.sides[1].is_stopped = false;
    let expected: Vec<_> = (0..4).map(|id| (id, Status::Success)).collect();
    assert_eq!(pair.completions(1, 4), expected);
    let missing_count = 4 - sent.len();
    sent.extend(pair.completions(0, missing_count));
    assert_eq!(sent, expected);
    pair.finish(ends);
}

fn a_peer_that_dies<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let [active, passive] = pair.connect_with(|pair, side, name| {
        if side == 0 {
            pair.post_receives(0, name, 10, 1);
        }
    });
    for id in 1..=2 {
        pair.sides[0].send_with(active.name, id, SendOperation::Send, Flags::SIGNALED, &[]);
    }
    let Pair { mut rig, setup: _, sides, .. } = pair;
    let [mut first, second] = sides;
    rig.kill(second.provider);
    drop((second.port, passive));
    for _ in 0..200_000 {
        let now_ns = rig.step();
        first.port.poll(now_ns, 32, &mut first.completions);
        if let Some(event) = first.provider.next_event(now_ns) {
            first.events.push(first.provider.acknowledge(event));
        }
        let told = first.events.iter().any(|event| matches!(event, Event::Disconnected { .. }));
        if told && first.completions.len() >= 3 {
            break;
        }
    }
    let completions = first.take_completions();
    let (receives, sends): (Vec<_>, Vec<_>) = completions.into_iter().partition(|(id, _)| *id >= 10);
    assert_eq!(sends, [(1, Status::RetryExceeded), (2, Status::WorkRequestFlushed)]);
    assert_eq!(receives, [(10, Status::WorkRequestFlushed)]);
    let id = active.id();
    assert!(
        first
            .take_event(|event| matches!(event, Event::Disconnected { connection } if *connection == id).then_some(()))
            .is_some()
    );
}

/// Verbs allow it: what was outstanding never completes, and after the destroy nothing is written any more.
fn detached_with_work_outstanding<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let [active, passive] = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 1, 2);
        }
    });
    let address = pair.sides[1].address(0);
    let key = pair.sides[1].keys.remote_key;
    pair.sides[0].write(0, &[3; 4096]);
    let segment = pair.sides[0].part(0, 4096);
    for id in 0..3 {
        pair.sides[0].send(active.name, id, SendOperation::Write { address, key }, segment);
    }
    let short = pair.sides[0].part(0, 16);
    pair.sides[0].send(active.name, 3, SendOperation::Send, short);
    pair.destroy(1, passive);
    pair.sides[1].arena.segment().part(0, 4096).zero();
    pair.sides[1].arena.segment().part(receive_offset(1), 256).zero();
    let completions = pair.completions(0, 4);
    assert!(completions.iter().map(|(id, _)| *id).eq(0..4), "{completions:?}");
    pair.steps(20);
    assert_eq!(pair.sides[1].bytes(0, 4096), [0; 4096]);
    assert_eq!(pair.sides[1].bytes(receive_offset(1), 256), [0; 256]);
    pair.sides[1].take_completions();
    pair.end(0, active);
    pair.close();
}

/// Fetched and not acknowledged: the destroy does not end. Acknowledged: it does.
fn an_event_that_is_owed_keeps_its_object<R: Rig>(rig: R) {
    let mut pair = Pair::with(rig, Setup::shared(4));
    let [active, passive] = pair.connect();
    let raises_last_wqe = pair.sides[1].provider.attributes().raises_last_wqe;
    pair.sides[1].is_holding = true;
    pair.sides[0].provider.disconnect(active.id());
    pair.sides[1].provider.disconnect(passive.id());
    let expected = if raises_last_wqe { 2 } else { 1 };
    pair.until("the owed events", |pair| (pair.sides[1].held.len() >= expected).then_some(()));
    pair.steps(50);
    pair.sides[1].is_holding = false;
    let queue_pair = pair.sides[1].port.detach(passive.name).unwrap();
    let ticket = pair.sides[1].ticket();
    pair.sides[1].provider.begin_destroy_queue_pair(ticket, queue_pair);
    let destroyed = |pair: &mut Pair<R>| {
        pair.sides[1].take_event(|event| {
            matches!(event, Event::QueuePairDestroyed { ticket: of, .. } if *of == ticket).then_some(())
        })
    };
    if raises_last_wqe {
        pair.steps(200);
        assert!(destroyed(&mut pair).is_none(), "LAST_WQE_REACHED is owed");
        let held = std::mem::take(&mut pair.sides[1].held);
        let side = &mut pair.sides[1];
        let mut kept = Vec::new();
        for event in held {
            // The connection's own event stays owed.
            if event.is_of_queue_pair() {
                side.events.push(side.provider.acknowledge(event));
            } else {
                kept.push(event);
            }
        }
        side.held = kept;
    }
    pair.until("the queue pair's destruction", |pair| destroyed(pair));
    let ticket = pair.sides[1].ticket();
    pair.sides[1].provider.begin_destroy_connection(ticket, passive.connection);
    pair.steps(200);
    let gone = |pair: &mut Pair<R>| {
        pair.sides[1].take_event(|event| {
            matches!(event, Event::ConnectionDestroyed { ticket: of } if *of == ticket).then_some(())
        })
    };
    assert!(gone(&mut pair).is_none(), "DISCONNECTED is owed");
    let held = std::mem::take(&mut pair.sides[1].held);
    for event in held {
        let side = &mut pair.sides[1];
        side.events.push(side.provider.acknowledge(event));
    }
    pair.until("the connection's destruction", |pair| gone(pair));
    pair.end(0, active);
    pair.close();
}

/// Connections come and go: slots, numbers and keys are used again, and nothing of an old one reaches a new one.
fn names_and_numbers_come_again<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    for round in 0..12_u64 {
        let ends = pair.connect_with(|pair, side, name| {
            if side == 1 {
                pair.post_receives(1, name, round, 2);
            }
        });
        pair.sides[0].send_with(ends[0].name, round, SendOperation::Send, Flags::SIGNALED, &[]);
        assert_eq!(pair.completions(1, 1), [(round, Status::Success)]);
        assert_eq!(pair.completions(0, 1), [(round, Status::Success)]);
        let [active, passive] = ends;
        let stale = active.name;
        if round % 2 == 0 {
            pair.end(0, active);
            pair.end(1, passive);
        } else {
            pair.end(1, passive);
            pair.end(0, active);
        }
        assert_eq!(pair.sides[1].take_completions(), [(round + 1, Status::WorkRequestFlushed)]);
        assert_eq!(pair.sides[0].take_completions(), []);
        assert!(pair.sides[0].port.detach(stale).is_none());
    }
    pair.close();
}
