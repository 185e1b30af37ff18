//! Shared receives that a queue pair had taken when it ended.

use super::*;
use crate::verbs::contract::pair::{Pair, Setup};
use crate::verbs::{CompletionStatus as Status, Event, Port, PostError, Provider};

fn pair_with(device: DeviceFaults) -> (Pair<SeededRig>, [crate::verbs::contract::pair::End; 2]) {
    let options = FabricOptions { device, ..FabricOptions::default() };
    let mut pair = Pair::with(calm(options), Setup::shared(2));
    let ends = pair.connect();
    for id in 0..2 {
        let segment = pair.sides[1].part(0x100 * usize::try_from(id).unwrap(), 16);
        pair.sides[1].port.post_shared_receive(id, &[segment]).unwrap();
    }
    assert_eq!(pair.sides[1].port.post_shared_receive(2, &[]), Err(PostError::QueueFull));
    (pair, ends)
}

#[test]
fn one_may_come_back_flushed() {
    let (mut pair, ends) = pair_with(DeviceFaults { flushes_shared_receive_one_in: 1, ..DeviceFaults::default() });
    pair.sides[1].provider.disconnect(ends[1].id());
    pair.event(1, "LAST_WQE_REACHED", |event| matches!(event, Event::LastWqeReached { .. }).then_some(()));
    pair.step();
    assert_eq!(pair.sides[1].take_completions(), [(0, Status::WorkRequestFlushed)], "once, before the event");
    assert_eq!(pair.sides[1].port.post_shared_receive(2, &[]), Ok(()));
    pair.finish(ends);
}

#[test]
fn one_may_be_swallowed() {
    let (mut pair, ends) = pair_with(DeviceFaults { swallows_shared_receive_one_in: 1, ..DeviceFaults::default() });
    let machine = pair.sides[1].provider.id();
    let posted = |pair: &Pair<SeededRig>| {
        let mut ids = Vec::new();
        pair.rig.fabric.for_each_posted(machine, |posted| ids.push(posted.id));
        ids
    };
    assert_eq!(posted(&pair), [0, 1]);
    let [active, passive] = ends;
    pair.end(1, passive);
    pair.steps(50);
    assert_eq!(pair.sides[1].take_completions(), []);
    assert_eq!(posted(&pair), [1], "the device has left it");
    assert_eq!(pair.sides[1].port.post_shared_receive(2, &[]), Ok(()), "and its room is free");
    pair.end(0, active);
    pair.close();
}
