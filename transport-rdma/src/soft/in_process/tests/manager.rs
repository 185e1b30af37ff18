//! What the connection manager does: events withheld, twice and invented; replies lost; requests rejected.

use super::*;
use crate::soft::in_process::InjectedEvent;
use crate::verbs::contract::pair::{Attach, End, Pair, Setup};
use crate::verbs::{
    AddressUser, CompletionStatus as Status, ConnectionId, Event, EventKind, PortId, Provider, RejectReason,
};

fn with(manager: ManagerFaults) -> FabricOptions {
    FabricOptions { manager, ..FabricOptions::default() }
}

fn kinds(pair: &Pair<SeededRig>, side: usize) -> Vec<EventKind> {
    pair.sides[side].events.iter().map(Event::kind).collect()
}

fn rejected(pair: &mut Pair<SeededRig>, side: usize, id: ConnectionId) -> RejectReason {
    pair.event(side, "a rejection", |event| {
        rejection(event).filter(|_| matches!(event, Event::Rejected { connection, .. } if *connection == id))
    })
}

fn ask(pair: &mut Pair<SeededRig>) -> End {
    let active = pair.resolve();
    let parameters = pair.parameters(b"");
    pair.sides[0].provider.connect(&active.connection, parameters);
    active
}

#[test]
fn what_is_withheld_comes_when_it_is_not_any_more() {
    let mut pair =
        Pair::new(calm(with(ManagerFaults { withholds: EventKinds::DISCONNECTED, ..ManagerFaults::default() })));
    let ends = pair.connect();
    pair.sides[0].provider.disconnect(ends[0].id());
    pair.pass(2_000_000);
    assert_eq!(kinds(&pair, 1), [EventKind::TimewaitExit], "it stands where DISCONNECTED is expected");
    pair.rig.fabric.change(|options| options.manager.withholds = EventKinds::empty());
    pair.steps(10);
    assert_eq!(kinds(&pair, 1), [EventKind::TimewaitExit, EventKind::Disconnected]);
    pair.finish(ends);
}

#[test]
fn what_is_late_comes_late() {
    let looks = |late| {
        let manager = ManagerFaults { late, late_looks_max: 4000, ..ManagerFaults::default() };
        let mut pair = Pair::new(rig(with(manager)));
        let ends = pair.connect();
        let begin_ns = pair.now_ns;
        pair.sides[0].provider.disconnect(ends[0].id());
        pair.event(1, "DISCONNECTED", |event| matches!(event, Event::Disconnected { .. }).then_some(()));
        let took_ns = pair.now_ns - begin_ns;
        pair.finish(ends);
        took_ns / 10_000
    };
    assert!(looks(EventKinds::empty()) < 20);
    assert!(looks(EventKinds::DISCONNECTED) > 100);
}

#[test]
fn disconnected_comes_twice() {
    let manager = ManagerFaults { twice: EventKinds::DISCONNECTED, ..ManagerFaults::default() };
    let counts: Vec<_> = (0..10)
        .map(|seed| {
            let mut pair = Pair::new(seeded(seed, with(manager)));
            let ends = pair.connect();
            pair.sides[0].provider.disconnect(ends[0].id());
            pair.steps(50);
            let count = kinds(&pair, 1).len();
            pair.finish(ends);
            count
        })
        .collect();
    assert!(counts.contains(&1) && counts.contains(&2), "{counts:?}");
}

#[test]
fn both_hear_of_a_cut_and_neither_is_moved() {
    let mut pair = Pair::new(calm(FabricOptions::default()));
    let ends = pair.connect_with(|pair, side, name| pair.post_receives(side, name, 0, 1));
    pair.rig.fabric.cut(pair.sides[1].provider.id(), ends[1].id());
    for (side, end) in ends.iter().enumerate() {
        pair.event(side, "DISCONNECTED", |event| {
            matches!(event, Event::Disconnected { connection } if *connection == end.id()).then_some(())
        });
    }
    pair.steps(20);
    for (side, end) in ends.iter().enumerate() {
        assert_eq!(pair.sides[side].take_completions(), []);
        pair.sides[side].provider.disconnect(end.id());
        assert_eq!(pair.completions(side, 1), [(0, Status::WorkRequestFlushed)]);
    }
    pair.finish(ends);
}

#[test]
fn a_lost_reply_times_out() {
    let mut told = Vec::new();
    for seed in 0..10 {
        let mut pair =
            Pair::new(seeded(seed, with(ManagerFaults { loses_reply_one_in: 1, ..ManagerFaults::default() })));
        let active = ask(&mut pair);
        let passive = pair.request().connection.attach(&mut pair, 1);
        let parameters = pair.parameters(b"");
        pair.sides[1].provider.accept(&passive.connection, parameters);
        assert_eq!(rejected(&mut pair, 0, active.id()), RejectReason::TimedOut);
        pair.steps(50);
        told.push(kinds(&pair, 1) == [EventKind::Rejected]);
        assert!(told.last() == Some(&true) || kinds(&pair, 1).is_empty());
        pair.finish([active, passive]);
    }
    assert!(told.contains(&true) && told.contains(&false), "{told:?}");
}

#[test]
fn requests_are_rejected_for_any_reason() {
    let mut pair = Pair::new(calm(FabricOptions::default()));
    let machine = pair.sides[1].provider.id();
    let reasons = [
        RejectReason::Stale,
        RejectReason::TimedOut,
        RejectReason::Consumer(vec![3]),
        RejectReason::Unreachable("no".into()),
    ];
    for reason in reasons {
        pair.rig.fabric.reject_next(machine, reason.clone());
        let active = ask(&mut pair);
        assert_eq!(rejected(&mut pair, 0, active.id()), reason);
        pair.end(0, active);
    }
    pair.rig.fabric.change_for(machine, |options| options.manager.rejects_one_in = 1);
    let active = ask(&mut pair);
    assert_eq!(rejected(&mut pair, 0, active.id()), RejectReason::Stale);
    pair.end(0, active);
    assert_eq!(kinds(&pair, 1), []);
    pair.close();
}

/// A number comes again at once, and the peer knows its old connection: in timewait, or alive because nobody told it.
#[test]
fn an_old_connection_makes_a_new_one_stale() {
    for loses_disconnected in [false, true] {
        let mut options = with(ManagerFaults { rejects_stale: true, ..ManagerFaults::default() });
        options.device.numbers = Reuse::AtOnce;
        options.loses_disconnected = loses_disconnected;
        let mut pair = Pair::new(calm(options));
        let [active, passive] = pair.connect();
        let number = active.name.number;
        // Destroyed at once: timewait is not over.
        pair.destroy(0, active);
        pair.steps(10);
        let again = ask(&mut pair);
        assert_eq!(again.name.number, number);
        assert_eq!(rejected(&mut pair, 0, again.id()), RejectReason::Stale);
        pair.event(1, "the old one's end", |event| {
            matches!(event, Event::Disconnected { connection } if *connection == passive.id()).then_some(())
        });
        pair.end(0, again);
        pair.end(1, passive);
        pair.pass(2_000_000);
        let ends = pair.connect();
        assert_eq!(ends[0].name.number, number, "later it may");
        pair.finish(ends);
    }
}

#[test]
fn fetching_a_rejection_may_move_the_queue_pair() {
    for moves in [false, true] {
        let mut pair =
            Pair::new(calm(with(ManagerFaults { rejected_moves_to_error: moves, ..ManagerFaults::default() })));
        pair.rig.fabric.reject_next(pair.sides[1].provider.id(), RejectReason::Stale);
        let active = ask(&mut pair);
        pair.post_receives(0, active.name, 0, 2);
        rejected(&mut pair, 0, active.id());
        pair.steps(10);
        assert_eq!(pair.sides[0].take_completions().len(), if moves { 2 } else { 0 });
        pair.end(0, active);
        pair.sides[0].take_completions();
        pair.close();
    }
}

#[test]
fn any_event_can_be_invented() {
    let mut pair = Pair::with(calm(FabricOptions::default()), Setup::shared(2));
    let ends = pair.connect();
    let (machine, id) = (pair.sides[1].provider.id(), ends[1].id());
    let fabric = pair.rig.fabric.clone();
    let listener = fabric.listeners(machine)[0];
    assert_eq!(fabric.connections(machine), [id]);
    assert_eq!(fabric.port_count(machine), 1);
    let invented = [
        (InjectedEvent::LastWqeReached(id), EventKind::LastWqeReached),
        (InjectedEvent::QueuePairFatal(id), EventKind::QueuePairFatal),
        (InjectedEvent::Rejected(id, RejectReason::TimedOut), EventKind::Rejected),
        (InjectedEvent::Disconnected(id), EventKind::Disconnected),
        (InjectedEvent::TimewaitExit(id), EventKind::TimewaitExit),
        (InjectedEvent::AddressChanged(AddressUser::Connection(id)), EventKind::AddressChanged),
        (InjectedEvent::AddressChanged(AddressUser::Listener(listener)), EventKind::AddressChanged),
        (InjectedEvent::CompletionQueueError(PortId(0)), EventKind::CompletionQueueError),
        (InjectedEvent::DeviceRemoved, EventKind::DeviceRemoved),
    ];
    for (event, kind) in invented {
        fabric.inject(machine, event);
        pair.steps(10);
        assert_eq!(kinds(&pair, 1), [kind]);
        pair.sides[1].events.clear();
    }
    // Of what is gone nothing is told.
    fabric.inject(machine, InjectedEvent::QueuePairFatal(ConnectionId(12345)));
    fabric.inject(machine, InjectedEvent::AddressChanged(AddressUser::Listener(crate::verbs::ListenerId(12345))));
    pair.steps(10);
    assert_eq!(kinds(&pair, 1), []);
    pair.finish(ends);
}
