//! Machines that stop in the midst of things, go on, or die.

use super::*;
use crate::verbs::contract::pair::Pair;
use crate::verbs::{CompletionStatus as Status, Event, Flags, Provider, SendOperation, Ticket};

/// Half of a copy is there; the memory that it goes to is not let go until its machine goes on, or dies.
#[test]
fn a_copy_stays_half_way() {
    for dies in [false, true] {
        let mut pair = Pair::new(calm(FabricOptions { splits_copies: false, ..FabricOptions::default() }));
        let [active, passive] = pair.connect();
        let fabric = pair.rig.fabric.clone();
        let host = pair.sides[0].provider.id();
        let (key, address) = (pair.sides[1].keys.remote_key, pair.sides[1].address(0));
        pair.sides[0].write(0, &[7; 4096]);
        let segment = pair.sides[0].part(0, 4096);
        fabric.stop_in_copy(host);
        pair.sides[0].send(active.name, 1, SendOperation::Write { address, key }, segment);
        pair.steps(50);
        assert!(fabric.is_stopped(host));
        assert_eq!(pair.sides[1].bytes(0, 4096), [vec![7; 2048], vec![0; 2048]].concat());
        let keys = pair.sides[1].keys;
        pair.sides[1].provider.begin_deregister(Ticket(900), keys);
        let is_over = |event: &Event<_>| matches!(event, Event::Deregistered { ticket: Ticket(900) }).then_some(());
        pair.steps(300);
        assert!(pair.sides[1].take_event(is_over).is_none(), "the peer may still write");
        if dies {
            fabric.kill(host);
        } else {
            fabric.resume(host);
        }
        pair.event(1, "the deregistration", is_over);
        assert_eq!(pair.sides[1].bytes(2048, 2048), [0; 2048], "its key had ended");
        if dies {
            pair.event(1, "DISCONNECTED", |event| matches!(event, Event::Disconnected { .. }).then_some(()));
            pair.end(1, passive);
            assert!(
                pair.sides[1].gauges().iter().all(|(name, _)| *name == "listeners_live"),
                "{:?}",
                pair.sides[1].gauges()
            );
        } else {
            assert_eq!(pair.completions(0, 1), [(1, Status::RemoteAccessError)]);
            let memory = crate::verbs::Memory::Shared(Arc::clone(&pair.sides[1].arena));
            pair.sides[1].keys = pair.register(1, memory, crate::verbs::Access::LOCAL_WRITE);
            pair.finish([active, passive]);
        }
    }
}

/// It neither takes nor tells anything; what it had posted goes on where it was.
#[test]
fn a_stopped_machine_makes_no_look() {
    let mut pair = Pair::new(calm(FabricOptions::default()));
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 0, 1);
        }
    });
    let (fabric, machine) = (pair.rig.fabric.clone(), pair.sides[1].provider.id());
    fabric.stop(machine);
    pair.sides[0].send_with(ends[0].name, 1, SendOperation::Send, Flags::SIGNALED, &[]);
    pair.sides[0].provider.disconnect(ends[0].id());
    pair.steps(200);
    assert_eq!(pair.sides[1].take_completions(), []);
    assert!(pair.sides[1].events.is_empty());
    fabric.resume(machine);
    pair.event(1, "DISCONNECTED", |event| matches!(event, Event::Disconnected { .. }).then_some(()));
    pair.steps(20);
    assert_eq!(pair.sides[1].take_completions().len(), 1, "the message was on its way");
    pair.sides[0].take_completions();
    pair.finish(ends);
}
