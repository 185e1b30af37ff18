//! READ, WRITE, windows: rights, bounds, keys that end.

use reactor::Arena;

use super::pair::{Pair, assert_ended, receive_offset};
use super::{Case, MEMORY_LEN, Rig};
use crate::verbs::{
    Access, CompletionStatus as Status, Flags, LocalSegment, Memory, Port, PostError, Provider, SendOperation,
    SendRequest,
};

pub(super) fn cases<R: Rig>() -> Vec<(&'static str, Case<R>)> {
    vec![
        ("writes_are_there_before_the_message", writes_are_there_before_the_message),
        ("reads_bring_what_is_there", reads_bring_what_is_there),
        ("transfers_that_are_not_allowed", transfers_that_are_not_allowed),
        ("a_failed_transfer_ends_the_queue_pair", a_failed_transfer_ends_the_queue_pair),
        ("local_memory_that_is_not_ours", local_memory_that_is_not_ours),
        ("deregistration_under_traffic", deregistration_under_traffic),
        ("private_memory_comes_and_goes_under_traffic", private_memory_comes_and_goes_under_traffic),
        ("windows_end_with_a_message", windows_end_with_a_message),
        ("a_window_belongs_to_its_queue_pair", a_window_belongs_to_its_queue_pair),
        ("a_message_ends_a_key_that_it_may_not", a_message_ends_a_key_that_it_may_not),
    ]
}

/// A push, then its response: when the receive completes all data is there.
fn writes_are_there_before_the_message<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect();
    let key = pair.sides[1].keys.remote_key;
    for round in 0..20_u8 {
        pair.post_receives(1, ends[1].name, u64::from(round), 1);
        let side = &pair.sides[0];
        side.write(0, &[round; 4096]);
        let parts = [side.part(0, 1000), side.part(1000, 3096)];
        let operation = SendOperation::Write { address: pair.sides[1].address(4096), key };
        let side = &mut pair.sides[0];
        side.send_with(ends[0].name, 1, operation, Flags::empty(), &parts);
        let response = side.part(0, 16);
        side.send(ends[0].name, 2, SendOperation::Send, response);
        assert_eq!(pair.completions(1, 1), [(u64::from(round), Status::Success)]);
        assert_eq!(pair.sides[1].bytes(4096, 4096), [round; 4096]);
        assert_eq!(pair.completions(0, 1), [(2, Status::Success)]);
    }
    pair.finish(ends);
}

fn reads_bring_what_is_there<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect();
    let key = pair.sides[1].keys.remote_key;
    let pattern: Vec<u8> = (0..2000_u32).map(|at| (at % 251).to_le_bytes()[0]).collect();
    pair.sides[1].write(100, &pattern);
    let operation = SendOperation::Read { address: pair.sides[1].address(100), key };
    let side = &mut pair.sides[0];
    let parts = [side.part(5000, 1), side.part(6000, 1999)];
    side.send_with(ends[0].name, 1, operation, Flags::SIGNALED, &parts);
    // Of nothing: succeeds whatever the key.
    side.send_with(ends[0].name, 2, SendOperation::Read { address: 1, key: 0 }, Flags::SIGNALED, &[]);
    assert_eq!(pair.completions(0, 2), [(1, Status::Success), (2, Status::Success)]);
    assert_eq!(pair.sides[0].bytes(5000, 1), pattern[..1]);
    assert_eq!(pair.sides[0].bytes(6000, 1999), pattern[1..]);
    let inline = SendRequest { id: 3, operation, flags: Flags::INLINE, segments: &parts[..1] };
    assert_eq!(pair.sides[0].port.post_send(ends[0].name, &inline), Err(PostError::Malformed));
    pair.finish(ends);
}

/// Rights, bounds and keys that are wrong: an access error, and no byte moves.
fn transfers_that_are_not_allowed<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let memory = Memory::Shared(std::sync::Arc::clone(&pair.sides[1].arena));
    let read_only = pair.register(1, memory.clone(), Access::REMOTE_READ);
    let write_only = pair.register(1, memory.clone(), Access::LOCAL_WRITE | Access::REMOTE_WRITE);
    let ended = pair.register(1, memory, Access::REMOTE_READ | Access::REMOTE_WRITE | Access::LOCAL_WRITE);
    pair.deregister(1, ended);
    let whole = pair.sides[1].arena.segment();
    let (start, end) = (whole.address(), whole.address() + whole.len() as u64);
    let all = pair.sides[1].keys.remote_key;
    let write = |address, key| SendOperation::Write { address, key };
    let read = |address, key| SendOperation::Read { address, key };
    let wrong = [
        ("write, read-only region", write(start, read_only.remote_key)),
        ("read, write-only region", read(start, write_only.remote_key)),
        ("write, ended key", write(start, ended.remote_key)),
        ("read, ended key", read(start, ended.remote_key)),
        ("write, key 0", write(start, 0)),
        ("write, key of nobody", write(start, 0xABCD_EF00)),
        ("write, our own key", write(start, pair.sides[0].keys.local_key)),
        ("write, the peer's local key", write(start, pair.sides[1].keys.local_key)),
        ("write, one byte beyond", write(end - 63, all)),
        ("write, one byte before", write(start - 1, all)),
        ("read, far beyond", read(end + 4096, all)),
        ("read, the end wraps", read(u64::MAX - 10, all)),
    ];
    pair.sides[0].write(0, &[0x55; 64]);
    for (what, operation) in wrong {
        if let SendOperation::Write { key, .. } = operation
            && key == pair.sides[1].keys.remote_key
            && what.contains("local key")
        {
            // Providers may give one key for both.
            continue;
        }
        let ends = pair.connect();
        let segment = pair.sides[0].part(0, 64);
        pair.sides[0].send(ends[0].name, 1, operation, segment);
        assert_eq!(pair.completions(0, 1), [(1, Status::RemoteAccessError)], "{what}");
        assert_eq!(pair.sides[0].bytes(0, 64), [0x55; 64], "{what}");
        assert!(pair.sides[1].bytes(0, MEMORY_LEN).iter().all(|byte| *byte == 0), "{what}");
        let [active, passive] = ends;
        pair.end(0, active);
        pair.end(1, passive);
    }
    pair.deregister(1, read_only);
    pair.deregister(1, write_only);
    pair.close();
}

/// What was before it succeeds, it fails, what is behind it is flushed without having begun.
fn a_failed_transfer_ends_the_queue_pair<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| {
        pair.post_receives(side, name, 20, 2);
    });
    let (name, key, address) = (ends[0].name, pair.sides[1].keys.remote_key, pair.sides[1].address(0));
    pair.sides[0].write(0, &[1; 8]);
    let (segment, empty) = (pair.sides[0].part(0, 8), pair.sides[0].part(0, 0));
    pair.sides[0].send_with(name, 1, SendOperation::Send, Flags::empty(), &[empty]);
    pair.sides[0].send_with(name, 2, SendOperation::Write { address, key: 0 }, Flags::empty(), &[segment]);
    pair.sides[0].send(name, 3, SendOperation::Write { address, key }, segment);
    pair.sides[0].send(name, 4, SendOperation::Send, segment);
    let flushed = Status::WorkRequestFlushed;
    let completions = pair.completions(0, 5);
    let (receives, sends): (Vec<_>, Vec<_>) = completions.into_iter().partition(|(id, _)| *id >= 20);
    assert_eq!(
        sends,
        [(2, Status::RemoteAccessError), (3, flushed), (4, flushed)],
        "the first was silent, the second failed"
    );
    assert_eq!(receives, [(20, flushed), (21, flushed)]);
    assert_eq!(pair.sides[1].bytes(0, 8), [0; 8]);
    let at_peer = pair.completions(1, 1);
    assert_eq!(at_peer[0], (20, Status::Success));
    // A device whose peer did what it may not ends its own side, too.
    assert!(at_peer[1..].iter().all(|end| R::IS_DEVICE && *end == (21, flushed)), "{at_peer:?}");
    pair.finish(ends);
}

fn local_memory_that_is_not_ours<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let memory = Memory::Shared(std::sync::Arc::clone(&pair.sides[0].arena));
    let no_write = pair.register(0, memory, Access::empty());
    assert_eq!(no_write.remote_key, 0);
    let (key, address) = (pair.sides[1].keys.remote_key, pair.sides[1].address(0));
    let segment = pair.sides[0].part(0, 64);
    let foreign = LocalSegment { local_key: 0xFFFF_FF00, ..segment };
    let unwritable = LocalSegment { local_key: no_write.local_key, ..segment };
    let outside = LocalSegment { memory: pair.sides[1].part(0, 64).memory, ..segment };
    for (operation, segment) in [
        (SendOperation::Send, foreign),
        (SendOperation::Write { address, key }, foreign),
        (SendOperation::Write { address, key }, outside),
        (SendOperation::Read { address, key }, unwritable),
    ] {
        let ends = pair.connect();
        pair.sides[0].send(ends[0].name, 1, operation, segment);
        println!("{operation:?}");
        assert_ended::<R>(&pair.completions(0, 1), &[(1, Status::LocalProtectionError)]);
        let [active, passive] = ends;
        pair.end(0, active);
        pair.end(1, passive);
    }
    // Reading from it is allowed.
    let ends = pair.connect();
    pair.sides[0].send(ends[0].name, 1, SendOperation::Write { address, key }, unwritable);
    assert_eq!(pair.completions(0, 1), [(1, Status::Success)]);
    pair.deregister(0, no_write);
    pair.finish(ends);
}

/// After the deregistration's end no byte changes, whatever the peer has under way.
fn deregistration_under_traffic<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let memory = Memory::Shared(std::sync::Arc::clone(&pair.sides[1].arena));
    let keys = pair.register(1, memory, Access::REMOTE_WRITE | Access::LOCAL_WRITE);
    let ends = pair.connect();
    let address = pair.sides[1].address(0);
    pair.sides[0].write(0, &[0x77; 4096]);
    for id in 0..4 {
        let segment = pair.sides[0].part(0, 4096);
        pair.sides[0].send(ends[0].name, id, SendOperation::Write { address, key: keys.remote_key }, segment);
    }
    pair.deregister(1, keys);
    pair.sides[1].arena.segment().part(0, 4096).zero();
    let completions = pair.completions(0, 4);
    let mut order = completions.iter().skip_while(|(_, status)| *status == Status::Success);
    assert!(order.next().is_none_or(|(_, status)| *status == Status::RemoteAccessError), "{completions:?}");
    assert!(order.all(|(_, status)| *status == Status::WorkRequestFlushed), "{completions:?}");
    pair.steps(50);
    assert!(pair.sides[1].bytes(0, 4096).iter().all(|byte| *byte == 0));
    pair.finish(ends);
}

/// Memory of our own is registered, transferred out of and deregistered while queue pairs live: others never notice.
fn private_memory_comes_and_goes_under_traffic<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let before = pair.sides[0].gauges();
    let ends = pair.connect();
    let (name, key, address) = (ends[0].name, pair.sides[1].keys.remote_key, pair.sides[1].address(0));
    for round in 1..20_u8 {
        let memory = Arena::new(1 << 16, false).unwrap();
        memory.segment().part(0, 4096).write(0, &[round; 4096]);
        // Something else is under way meanwhile.
        let other = pair.sides[0].part(8192, 64);
        let elsewhere = SendOperation::Write { address: pair.sides[1].address(8192), key };
        pair.sides[0].send(name, 1, elsewhere, other);
        let registered = pair.register(0, Memory::Private(memory.segment()), Access::LOCAL_WRITE);
        assert_eq!(registered.remote_key, 0, "no peer may use it");
        let segment = LocalSegment { memory: memory.segment().part(0, 4096), local_key: registered.local_key };
        pair.sides[0].send(name, 2, SendOperation::Write { address, key }, segment);
        assert_eq!(pair.completions(0, 2), [(1, Status::Success), (2, Status::Success)]);
        assert_eq!(pair.sides[1].bytes(0, 4096), [round; 4096]);
        pair.deregister(0, registered);
    }
    let [active, passive] = ends;
    pair.end(0, active);
    pair.end(1, passive);
    let regions = |gauges: &[(&str, u64)]| -> Vec<u64> {
        gauges.iter().filter(|(name, _)| name.contains("region")).map(|(_, count)| *count).collect()
    };
    assert_eq!(regions(&pair.sides[0].gauges()), regions(&before));
    pair.close();
}

/// Bound, used, and ended by the peer's message before that message's completion is seen; then bound again under another key.
fn windows_end_with_a_message<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let region = pair.sides[1].keys;
    let window = match pair.sides[1].provider.allocate_window(region) {
        Ok(window) => window,
        Err(error) => return pair.rig.note(&format!("not run: {error}")),
    };
    let address = pair.sides[1].address(0);
    for round in 0..2_u32 {
        let ends = pair.connect_with(|pair, side, name| {
            if side == 1 {
                pair.post_receives(1, name, 5, 1);
            }
        });
        let key = (window & !0xFF) | (round + 7);
        let bind = SendOperation::BindWindow { key, address, len: 4096 };
        pair.sides[1].send_with(ends[1].name, 1, bind, Flags::SIGNALED, &[]);
        assert_eq!(pair.completions(1, 1), [(1, Status::Success)]);
        pair.sides[0].write(0, &[9; 64]);
        let segment = pair.sides[0].part(0, 64);
        pair.sides[0].send(ends[0].name, 1, SendOperation::Write { address, key }, segment);
        pair.sides[0].send(ends[0].name, 2, SendOperation::SendWithInvalidate(key), segment);
        let received = pair.full_completions(1, 1)[0];
        assert_eq!((received.id, received.status), (5, Status::Success));
        assert_eq!(received.received.invalidated, Some(key));
        assert_eq!(pair.sides[1].bytes(0, 64), [9; 64]);
        pair.sides[1].arena.segment().part(0, 64).zero();
        assert_eq!(pair.completions(0, 2), [(1, Status::Success), (2, Status::Success)]);
        pair.sides[0].send(ends[0].name, 3, SendOperation::Write { address, key }, segment);
        assert_eq!(pair.completions(0, 1), [(3, Status::RemoteAccessError)]);
        assert_eq!(pair.sides[1].bytes(0, 64), [0; 64]);
        let [active, passive] = ends;
        pair.end(0, active);
        pair.end(1, passive);
    }
    // The owner ends one itself, and binds none twice or beyond its region.
    let ends = pair.connect();
    let name = ends[1].name;
    let bind = |key, len| SendOperation::BindWindow { key, address, len };
    pair.sides[1].send_with(name, 1, bind(window, 64), Flags::SIGNALED, &[]);
    pair.sides[1].send_with(name, 2, SendOperation::LocalInvalidate(window), Flags::SIGNALED, &[]);
    pair.sides[1].send_with(name, 3, bind(window + 1, 64), Flags::SIGNALED, &[]);
    pair.sides[1].send_with(name, 4, bind(window + 2, 64), Flags::SIGNALED, &[]);
    let success = Status::Success;
    let expected = [(1, success), (2, success), (3, success), (4, Status::WindowBindError)];
    assert_eq!(pair.completions(1, 4), expected);
    pair.finish(ends);
}

/// A message on another connection does not end it: it ends that connection.
fn a_window_belongs_to_its_queue_pair<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let region = pair.sides[1].keys;
    let window = match pair.sides[1].provider.allocate_window(region) {
        Ok(window) => window,
        Err(error) => return pair.rig.note(&format!("not run: {error}")),
    };
    let address = pair.sides[1].address(0);
    let [ours, theirs] = [(); 2].map(|()| {
        pair.connect_with(|pair, side, name| {
            if side == 1 {
                pair.post_receives(1, name, 5, 1);
            }
        })
    });
    let bind = SendOperation::BindWindow { key: window, address, len: 4096 };
    pair.sides[1].send_with(ours[1].name, 1, bind, Flags::SIGNALED, &[]);
    assert_eq!(pair.completions(1, 1), [(1, Status::Success)]);
    let segment = pair.sides[0].part(0, 64);
    pair.sides[0].send(theirs[0].name, 2, SendOperation::SendWithInvalidate(window), segment);
    assert_ne!(pair.completions(1, 1)[0].1, Status::Success);
    assert_eq!(pair.completions(0, 1), [(2, Status::RemoteAccessError)]);
    // It is as valid as before, and its own connection ends it.
    pair.sides[0].send(ours[0].name, 3, SendOperation::Write { address, key: window }, segment);
    pair.sides[0].send(ours[0].name, 4, SendOperation::SendWithInvalidate(window), segment);
    assert_eq!(pair.completions(0, 2), [(3, Status::Success), (4, Status::Success)]);
    assert_eq!(pair.full_completions(1, 1)[0].received.invalidated, Some(window));
    let [active, passive] = theirs;
    pair.end(0, active);
    pair.end(1, passive);
    pair.finish(ours);
}

fn a_message_ends_a_key_that_it_may_not<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 5, 2);
        }
    });
    pair.sides[1].write(receive_offset(5), &[0xEE; 16]);
    let segment = pair.sides[0].part(0, 16);
    // A region's key is no window's.
    let operation = SendOperation::SendWithInvalidate(pair.sides[1].keys.remote_key);
    pair.sides[0].send(ends[0].name, 1, operation, segment);
    let statuses = pair.completions(1, 2);
    assert_ne!(statuses[0].1, Status::Success);
    assert_eq!(statuses[1], (6, Status::WorkRequestFlushed));
    let sent = pair.completions(0, 1);
    if !R::IS_DEVICE {
        // A device may have placed and acknowledged the message before it looks at the key.
        assert_eq!(sent, [(1, Status::RemoteAccessError)]);
        assert_eq!(pair.sides[1].bytes(receive_offset(5), 16), [0xEE; 16]);
    }
    pair.finish(ends);
}
