//! The accounts: which memory devices may touch, and what the audit finds.

use super::*;
use crate::soft::in_process::ledger::{Ledger, Posted};
use crate::soft::in_process::link::lock;
use crate::soft::in_process::{Discrepancy, PostedSegment};
use crate::verbs::contract::pair::{Pair, Setup, receive_offset};
use crate::verbs::{Flags, Port, Provider, SendOperation};

fn posted(pair: &Pair<SeededRig>, side: usize) -> Vec<PostedSegment> {
    let mut all = Vec::new();
    pair.rig.fabric.for_each_posted(pair.sides[side].provider.id(), |segment| all.push(segment));
    all
}

#[test]
fn memory_is_named_from_the_post_to_the_completion() {
    let mut pair = Pair::new(calm(FabricOptions::default()));
    let ends = pair.connect_with(|pair, side, name| {
        if side == 0 {
            pair.post_receives(0, name, 3, 1);
        }
    });
    pair.sides[1].is_stopped = true;
    let segment = pair.sides[0].part(64, 16);
    pair.sides[0].send(ends[0].name, 1, SendOperation::Send, segment);
    pair.sides[0].send_with(ends[0].name, 2, SendOperation::Send, Flags::INLINE, &[segment]);
    let machine = pair.sides[0].provider.id();
    let number = Some(ends[0].name.number);
    let receive = pair.sides[0].part(receive_offset(3), 256).memory;
    let expected = [
        PostedSegment { machine, number, id: 1, memory: segment.memory, is_written: false },
        PostedSegment { machine, number, id: 3, memory: receive, is_written: true },
    ];
    assert_eq!(posted(&pair, 0), expected, "inline data was copied");
    pair.sides[0].provider.disconnect(ends[0].id());
    // It has happened, and was not polled.
    pair.now_ns += 10_000;
    pair.sides[0].port.poll(pair.now_ns, 0, &mut Vec::new());
    assert_eq!(posted(&pair, 0), expected);
    pair.completions(0, 3);
    assert_eq!(posted(&pair, 0), []);
    pair.sides[1].is_stopped = false;
    pair.finish(ends);
}

/// Destroyed with work outstanding: until the destroy has ended the device may touch it.
#[test]
fn memory_is_named_until_the_destroy_has_ended() {
    let mut pair = Pair::new(calm(FabricOptions::default()));
    let [active, passive] = pair.connect_with(|pair, side, name| {
        if side == 0 {
            pair.post_receives(0, name, 0, 2);
        }
    });
    let queue_pair = pair.sides[0].port.detach(active.name).unwrap();
    assert_eq!(posted(&pair, 0).len(), 2);
    pair.destroy_queue_pair(0, queue_pair);
    assert_eq!(posted(&pair, 0), []);
    pair.destroy_connection(0, active.connection);
    pair.end(1, passive);
    pair.close();
}

#[test]
fn shared_receives_that_are_posted_twice_are_found() {
    let mut pair = Pair::with(calm(FabricOptions::default()), Setup::shared(8));
    let machine = pair.sides[1].provider.id();
    let (one, other) = (pair.sides[1].part(0, 64), pair.sides[1].part(64, 64));
    for (id, segment) in [(1, one), (2, other)] {
        pair.sides[1].port.post_shared_receive(id, &[segment]).unwrap();
    }
    assert_eq!(pair.rig.fabric.audit(), []);
    pair.sides[1].port.post_shared_receive(2, &[]).unwrap();
    assert_eq!(pair.rig.fabric.audit(), [Discrepancy::SharedId { machine, id: 2 }]);
    pair.sides[1].port.post_shared_receive(3, &[pair.sides[1].part(60, 8)]).unwrap();
    let found = pair.rig.fabric.audit();
    assert!(found.contains(&Discrepancy::SharedMemory { machine, ids: [1, 3] }), "{found:?}");
    assert!(found.contains(&Discrepancy::SharedMemory { machine, ids: [3, 2] }), "{found:?}");
}

#[test]
fn accounts_that_do_not_agree_are_found() {
    let mut pair = Pair::new(calm(FabricOptions::default()));
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 0, 2);
        }
    });
    let machine = pair.sides[1].provider.id();
    assert_eq!(pair.rig.fabric.audit(), []);
    // One more than the device knows of.
    let mut world = lock(&pair.sides[1].provider.world);
    let record = world.machine(machine).queue_pairs.values_mut().next().unwrap();
    record.receives.post(Posted::receive(5, &[]));
    drop(world);
    let number = Some(ends[1].name.number);
    let count = Discrepancy::Count { machine, number, queue: "receives", posted: 3, completed: 0, lost: 0, held: 2 };
    assert_eq!(pair.rig.fabric.audit(), [count]);
    // And a completion of what it does not know of.
    let mut world = lock(&pair.sides[1].provider.world);
    world.machine(machine).queue_pairs.values_mut().next().unwrap().receives = Ledger::default();
    drop(world);
    pair.sides[0].send_with(ends[0].name, 1, SendOperation::Send, Flags::empty(), &[]);
    for _ in 0..20 {
        pair.now_ns += 10_000;
        pair.sides[0].port.poll(pair.now_ns, 8, &mut Vec::new());
        pair.sides[1].port.poll(pair.now_ns, 8, &mut Vec::new());
    }
    let stray = Discrepancy::Stray { machine, number: ends[1].name.number, id: 0 };
    assert!(pair.rig.fabric.audit().contains(&stray), "{:?}", pair.rig.fabric.audit());
}
