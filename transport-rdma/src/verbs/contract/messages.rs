//! SEND: order, receives, limits, errors.

use super::pair::{End, Pair, RECEIVE_LEN, Setup, assert_ended, receive_offset};
use super::{Case, Rig};
use crate::verbs::{
    CompletionStatus as Status, Event, Flags, Port, PostError, Provider, QueuePairName, SendOperation, SendRequest,
};

pub(super) fn cases<R: Rig>() -> Vec<(&'static str, Case<R>)> {
    vec![
        ("messages_keep_their_order", messages_keep_their_order),
        ("all_kinds_of_messages", all_kinds_of_messages),
        ("receiver_not_ready_then_ready", receiver_not_ready_then_ready),
        ("receiver_not_ready_for_too_long", receiver_not_ready_for_too_long),
        ("message_too_long_for_its_receive", message_too_long_for_its_receive),
        ("receive_into_memory_that_is_not_ours", receive_into_memory_that_is_not_ours),
        ("unsignalled_sends", unsignalled_sends),
        ("shared_receives", shared_receives),
        ("what_cannot_be_posted", what_cannot_be_posted),
        ("inline_data_is_copied_when_it_is_posted", inline_data_is_copied_when_it_is_posted),
    ]
}

/// 100 messages through 8 receives: each comes once, whole, in order, and so do the completions of both sides.
fn messages_keep_their_order<R: Rig>(rig: R) {
    const COUNT: u64 = 100;
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 0, 8);
        }
    });
    let (mut posted, mut sent, mut received) = (0, 0, 0);
    while sent < COUNT || received < COUNT {
        while posted < COUNT && posted - sent < 16 {
            let offset = usize::try_from(posted % 16).unwrap() * RECEIVE_LEN;
            pair.sides[0].write(offset, &message(posted));
            let segment = pair.sides[0].part(offset, message(posted).len());
            pair.sides[0].send(ends[0].name, posted, SendOperation::Send, segment);
            posted += 1;
        }
        pair.step();
        for (id, status) in pair.sides[0].take_completions() {
            assert_eq!((id, status), (sent, Status::Success));
            sent += 1;
        }
        for completion in std::mem::take(&mut pair.sides[1].completions) {
            assert_eq!((completion.id, completion.status), (received, Status::Success));
            let expected = message(received);
            assert_eq!(completion.len as usize, expected.len());
            assert_eq!(pair.sides[1].bytes(receive_offset(received), expected.len()), expected);
            if received + 8 < COUNT {
                pair.post_receives(1, ends[1].name, received + 8, 1);
            }
            received += 1;
        }
    }
    pair.finish(ends);
}

/// Lengths from 0 to 255, contents that tell them apart.
fn message(number: u64) -> Vec<u8> {
    let len = usize::try_from(number * 37 % 256).unwrap();
    (0..len).map(|at| (at as u64 ^ number).to_le_bytes()[0]).collect()
}

fn all_kinds_of_messages<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 0, 4);
        }
    });
    let side = &mut pair.sides[0];
    side.write(0, b"gathered");
    let parts = [side.part(0, 3), side.part(3, 0), side.part(3, 5)];
    side.send_with(ends[0].name, 1, SendOperation::SendWithImmediate(0xABCD), Flags::SIGNALED, &parts);
    side.send_with(ends[0].name, 2, SendOperation::Send, Flags::SIGNALED | Flags::SOLICITED, &[]);
    side.send_with(ends[0].name, 3, SendOperation::Send, Flags::SIGNALED | Flags::INLINE | Flags::FENCE, &parts[..1]);
    let received = pair.full_completions(1, 3);
    let facts: Vec<_> = received.iter().map(|one| (one.id, one.status, one.len, one.received.immediate)).collect();
    let success = Status::Success;
    assert_eq!(facts, [(0, success, 8, Some(0xABCD)), (1, success, 0, None), (2, success, 3, None)]);
    assert_eq!(pair.sides[1].bytes(receive_offset(0), 8), b"gathered");
    assert_eq!(pair.sides[1].bytes(receive_offset(2), 3), b"gat");
    assert_eq!(pair.completions(0, 3), [(1, success), (2, success), (3, success)]);
    pair.finish(ends);
}

/// A message without a receive waits, and those behind it; one queue pair's wait is not another's.
fn receiver_not_ready_then_ready<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let waiting = pair.connect();
    let other = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 9, 1);
        }
    });
    for id in 1..=3 {
        let segment = pair.sides[0].part(0, 16);
        pair.sides[0].send(waiting[0].name, id, SendOperation::Send, segment);
    }
    pair.pass(20_000_000);
    assert_eq!(pair.sides[0].take_completions(), []);
    let segment = pair.sides[0].part(0, 16);
    pair.sides[0].send(other[0].name, 4, SendOperation::Send, segment);
    assert_eq!(pair.completions(1, 1), [(9, Status::Success)]);
    assert_eq!(pair.completions(0, 1), [(4, Status::Success)]);
    pair.post_receives(1, waiting[1].name, 1, 2);
    assert_eq!(pair.completions(1, 2), [(1, Status::Success), (2, Status::Success)]);
    assert_eq!(pair.completions(0, 2), [(1, Status::Success), (2, Status::Success)]);
    pair.steps(50);
    assert_eq!(pair.sides[0].take_completions(), [], "the third still waits");
    pair.post_receives(1, waiting[1].name, 3, 1);
    assert_eq!(pair.completions(0, 1), [(3, Status::Success)]);
    pair.completions(1, 1);
    let [active, passive] = other;
    pair.end(0, active);
    pair.end(1, passive);
    pair.finish(waiting);
}

fn receiver_not_ready_for_too_long<R: Rig>(rig: R) {
    let mut pair = Pair::with(rig, Setup { rnr_retry_count: 1, ..Setup::default() });
    let ends = pair.connect_with(|pair, side, name| {
        if side == 0 {
            pair.post_receives(0, name, 7, 2);
        }
    });
    for id in 1..=3 {
        let segment = pair.sides[0].part(0, 16);
        pair.sides[0].send(ends[0].name, id, SendOperation::Send, segment);
    }
    let completions = pair.completions(0, 5);
    let (sends, receives): (Vec<_>, Vec<_>) = completions.into_iter().partition(|(id, _)| *id < 7);
    let flushed = Status::WorkRequestFlushed;
    assert_eq!(sends, [(1, Status::RnrRetryExceeded), (2, flushed), (3, flushed)]);
    assert_eq!(receives, [(7, flushed), (8, flushed)]);
    pair.finish(ends);
}

fn message_too_long_for_its_receive<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 1, 3);
        }
    });
    pair.sides[1].write(receive_offset(2), &[0xEE; RECEIVE_LEN]);
    for (id, len) in [(1, RECEIVE_LEN), (2, RECEIVE_LEN + 1), (3, 1)] {
        let segment = pair.sides[0].part(0, len);
        pair.sides[0].send(ends[0].name, id, SendOperation::Send, segment);
    }
    let flushed = Status::WorkRequestFlushed;
    assert_ended::<R>(&pair.completions(1, 3), &[(1, Status::Success), (2, Status::LocalLengthError), (3, flushed)]);
    assert_ended::<R>(
        &pair.completions(0, 3),
        &[(1, Status::Success), (2, Status::RemoteInvalidRequest), (3, flushed)],
    );
    assert_eq!(pair.sides[1].bytes(receive_offset(2), RECEIVE_LEN), [0xEE; RECEIVE_LEN]);
    pair.finish(ends);
}

fn receive_into_memory_that_is_not_ours<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect();
    let mut foreign = pair.sides[1].part(receive_offset(0), 64);
    foreign.local_key = 0xFFFF_FF00;
    pair.sides[1].port.post_receive(ends[1].name, 1, &[foreign]).unwrap();
    let segment = pair.sides[0].part(0, 16);
    pair.sides[0].send(ends[0].name, 1, SendOperation::Send, segment);
    assert_ended::<R>(&pair.completions(1, 1), &[(1, Status::LocalProtectionError)]);
    assert_eq!(pair.completions(0, 1), [(1, Status::RemoteOperationError)]);
    pair.finish(ends);
}

/// Successes that were not asked for give no completion, and their room only with the next one that is polled; failures always complete.
fn unsignalled_sends<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 0, 16);
        }
    });
    let name = ends[0].name;
    for id in 0..15 {
        pair.sides[0].send_with(name, id, SendOperation::Send, Flags::empty(), &[]);
    }
    pair.completions(1, 15);
    pair.steps(50);
    assert_eq!(pair.sides[0].take_completions(), []);
    pair.sides[0].send_with(name, 15, SendOperation::Send, Flags::SIGNALED, &[]);
    let more = SendRequest { id: 16, operation: SendOperation::Send, flags: Flags::empty(), segments: &[] };
    if !R::IS_DEVICE {
        assert_eq!(pair.sides[0].port.post_send(name, &more), Err(PostError::QueueFull));
    }
    assert_eq!(pair.completions(0, 1), [(15, Status::Success)]);
    // Now there is room for 16; they find no receive, and end with the disconnect.
    for id in 16..32 {
        pair.sides[0].send_with(name, id, SendOperation::Send, Flags::empty(), &[]);
    }
    if !R::IS_DEVICE {
        assert_eq!(pair.sides[0].port.post_send(name, &more), Err(PostError::QueueFull));
    }
    pair.completions(1, 1);
    pair.sides[0].provider.disconnect(ends[0].id());
    let flushed: Vec<_> = (16..32).map(|id| (id, Status::WorkRequestFlushed)).collect();
    assert_eq!(pair.completions(0, 16), flushed);
    pair.finish(ends);
}

/// Two queue pairs of one machine take from one SRQ, in the order of the messages' arrival; the end of one takes nothing from the other.
fn shared_receives<R: Rig>(rig: R) {
    let mut pair = Pair::with(rig, Setup::shared(4));
    let first = pair.connect();
    let second = pair.connect();
    let post = |pair: &mut Pair<R>, id| {
        let segment = pair.sides[1].part(receive_offset(id), RECEIVE_LEN);
        pair.sides[1].port.post_shared_receive(id, &[segment])
    };
    let send = |pair: &mut Pair<R>, name: QueuePairName, byte: u8| {
        pair.sides[0].write(0, &[byte]);
        let segment = pair.sides[0].part(0, 1);
        pair.sides[0].send(name, u64::from(byte), SendOperation::Send, segment);
    };
    for id in 0..4 {
        assert_eq!(post(&mut pair, id), Ok(()));
    }
    if !R::IS_DEVICE {
        assert_eq!(post(&mut pair, 4), Err(PostError::QueueFull));
    }
    for (at, end) in [&first, &second, &first].into_iter().enumerate() {
        send(&mut pair, end[0].name, u8::try_from(at).unwrap());
        let completion = pair.full_completions(1, 1)[0];
        assert_eq!((completion.id, completion.status), (at as u64, Status::Success));
        assert_eq!(completion.number, if at == 1 { second[1].name.number } else { first[1].name.number });
        assert_eq!(pair.sides[1].bytes(receive_offset(at as u64), 1), [u8::try_from(at).unwrap()]);
    }
    pair.completions(0, 3);
    let [active, passive] = first;
    let id = passive.id();
    pair.sides[1].provider.disconnect(id);
    if pair.sides[1].provider.attributes().raises_last_wqe {
        pair.event(1, "LAST_WQE_REACHED", |event| {
            matches!(event, Event::LastWqeReached { connection } if *connection == id).then_some(())
        });
    }
    pair.end(1, passive);
    pair.end(0, active);
    pair.steps(50);
    assert_eq!(pair.sides[1].take_completions(), [], "the SRQ's receives are nobody's to flush");
    assert!(
        !pair.sides[1].events.iter().any(|event| matches!(event, Event::LastWqeReached { .. })),
        "once, and for one"
    );
    send(&mut pair, second[0].name, 3);
    assert_eq!(pair.completions(1, 1), [(3, Status::Success)]);
    pair.completions(0, 1);
    // An empty SRQ makes the next message wait.
    send(&mut pair, second[0].name, 4);
    pair.steps(50);
    assert_eq!(pair.sides[0].take_completions(), []);
    assert_eq!(post(&mut pair, 5), Ok(()));
    assert_eq!(pair.completions(1, 1), [(5, Status::Success)]);
    assert_eq!(pair.completions(0, 1), [(4, Status::Success)]);
    pair.finish(second);
}

fn what_cannot_be_posted<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let unconnected: End = pair.resolve();
    let name = unconnected.name;
    let segment = pair.sides[0].part(0, 16);
    let send = |pair: &mut Pair<R>, name, flags, segments: &[_]| {
        let request = SendRequest { id: 1, operation: SendOperation::Send, flags, segments };
        pair.sides[0].port.post_send(name, &request)
    };
    assert_eq!(send(&mut pair, name, Flags::empty(), &[segment]), Err(PostError::WrongState), "before it is connected");
    for id in 0..16 {
        assert_eq!(pair.sides[0].port.post_receive(name, id, &[segment]), Ok(()), "but it takes receives");
    }
    if !R::IS_DEVICE {
        assert_eq!(pair.sides[0].port.post_receive(name, 16, &[segment]), Err(PostError::QueueFull));
    }
    assert_eq!(pair.sides[0].port.post_shared_receive(1, &[segment]), Err(PostError::WrongState), "there is no SRQ");
    let stale = QueuePairName { number: name.number ^ 1, ..name };
    assert_eq!(pair.sides[0].port.post_receive(stale, 1, &[segment]), Err(PostError::WrongState));
    assert!(pair.sides[0].port.detach(stale).is_none());
    pair.end(0, unconnected);
    assert_eq!(pair.sides[0].take_completions().len(), 16);
    let ends = pair.connect();
    let name = ends[0].name;
    assert_eq!(send(&mut pair, name, Flags::empty(), &[segment; 5]), Err(PostError::Malformed), "too many segments");
    let long = pair.sides[0].part(0, 65);
    assert_eq!(send(&mut pair, name, Flags::INLINE, &[long]), Err(PostError::Malformed), "too long for inline");
    assert_eq!(pair.sides[0].port.post_receive(name, 1, &[segment; 5]), Err(PostError::Malformed));
    pair.finish(ends);
}

/// Also of those that wait for room on the wire.
fn inline_data_is_copied_when_it_is_posted<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect();
    for id in 0..16_u8 {
        pair.sides[0].write(0, &[id; 64]);
        // Inline data needs no key.
        let mut segments = [pair.sides[0].part(0, 40), pair.sides[0].part(40, 24)];
        segments[0].local_key = 0;
        segments[1].local_key = 0;
        let flags = Flags::INLINE | Flags::SIGNALED;
        pair.sides[0].send_with(ends[0].name, u64::from(id), SendOperation::Send, flags, &segments);
        pair.sides[0].write(0, &[0xFF; 64]);
    }
    pair.steps(20);
    pair.post_receives(1, ends[1].name, 0, 16);
    assert_eq!(pair.completions(1, 16).len(), 16);
    for id in 0..16_u8 {
        assert_eq!(pair.sides[1].bytes(receive_offset(u64::from(id)), 64), [id; 64]);
    }
    assert!(pair.completions(0, 16).iter().all(|(_, status)| *status == Status::Success));
    pair.finish(ends);
}
