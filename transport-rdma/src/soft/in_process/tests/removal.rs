//! A device that is removed, and comes back.

use super::*;
use crate::verbs::contract::pair::{Attach, Pair, Setup};
use crate::verbs::{
    Access, CompletionStatus as Status, Event, EventKind, Flags, Memory, Port, PortOptions, PostError, Provider,
    RejectReason, SendOperation, Ticket,
};

/// Side 1's device goes, with work outstanding on both sides.
#[test]
fn a_device_goes_and_everything_ends() {
    for is_silent in [false, true] {
        let mut options = FabricOptions { transport_timeout_ns: 1_000_000, ..FabricOptions::default() };
        options.device.is_removed_silently = is_silent;
        let mut pair = Pair::new(calm(options));
        let [active, passive] = pair.connect_with(|pair, side, name| pair.post_receives(side, name, 10, 3));
        let machine = pair.sides[1].provider.id();
        let fabric = pair.rig.fabric.clone();
        fabric.remove_device(machine);
        assert_eq!(pair.sides[1].port.post_receive(passive.name, 20, &[]), Err(PostError::WrongState));
        pair.steps(50);
        let mut kinds: Vec<_> = pair.sides[1].events.drain(..).map(|event| event.kind()).collect();
        kinds.sort_unstable_by_key(|kind| kind.name());
        assert_eq!(kinds, [EventKind::DeviceRemoved, EventKind::QueuePairFatal], "each once");
        // The peer notices by time, or is told by its network at once.
        let begin_ns = pair.now_ns;
        pair.sides[0].send_with(active.name, 1, SendOperation::Send, Flags::SIGNALED, &[]);
        let completions = pair.completions(0, 4);
        assert_eq!(completions[0], (1, Status::RetryExceeded));
        assert_eq!(pair.now_ns - begin_ns > 7_000_000, is_silent);
        assert_eq!(pair.sides[0].events.iter().map(Event::kind).collect::<Vec<_>>(), [], "no letter is sent");
        // Nothing can be made any more.
        let memory = Memory::Shared(Arc::clone(&pair.sides[1].arena));
        pair.sides[1].provider.begin_register(Ticket(900), memory, Access::LOCAL_WRITE);
        pair.event(1, "the registration", |event| failure(event, Ticket(900)));
        assert!(
            pair.sides[1].provider.create_port(PortOptions { completion_count: 1, shared_receive_count: 0 }).is_err()
        );
        // And nobody comes.
        let again = pair.resolve();
        let parameters = pair.parameters(b"");
        pair.sides[0].provider.connect(&again.connection, parameters);
        let reason = pair.event(0, "a rejection", rejection);
        assert!(matches!(reason, RejectReason::Unreachable(_)));
        pair.end(0, again);
        // Everything can be ended.
        pair.sides[1].provider.disconnect(passive.id());
        pair.steps(20);
        assert_eq!(pair.sides[1].take_completions(), [], "no flush comes");
        pair.end(0, active);
        pair.end(1, passive);
        pair.close();
    }
}

/// A success that had happened comes all the same; and what comes back serves again.
#[test]
fn successes_follow_the_removal_and_new_ports_work_after_the_return() {
    let mut options = FabricOptions::default();
    options.device.completions.holds = crate::soft::in_process::CompletionKinds::RECEIVED;
    let mut pair = Pair::new(calm(options));
    let [active, passive] = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 0, 2);
        }
    });
    let machine = pair.sides[1].provider.id();
    pair.sides[0].send_with(active.name, 1, SendOperation::Send, Flags::SIGNALED, &[]);
    assert_eq!(pair.completions(0, 1), [(1, Status::Success)]);
    pair.rig.fabric.remove_device(machine);
    pair.steps(50);
    pair.rig.fabric.change(|options| options.device.completions = CompletionFaults::default());
    assert_eq!(pair.completions(1, 1), [(0, Status::Success)]);
    pair.steps(50);
    assert_eq!(pair.sides[1].take_completions(), []);
    pair.end(0, active);
    pair.end(1, passive);
    // What was made of it is gone, and has to be gone, before it is opened again.
    pair.unlisten();
    pair.event(1, "that it is let go of", |event| matches!(event, Event::DeviceReleased(_)).then_some(()));
    assert_eq!(pair.sides[1].gauges(), [], "its registrations have ended");
    for (ticket, is_there) in [(910, false), (911, true)] {
        if is_there {
            pair.rig.fabric.restore_device(machine);
            let port = pair.sides[1].provider.create_port(PortOptions { completion_count: 1, shared_receive_count: 0 });
            assert!(port.is_err(), "it is not open");
        }
        pair.sides[1].provider.begin_reopen(Ticket(ticket), &[]);
        let answer = pair.event(1, "an answer", |event| {
            let Event::DeviceReopened { ticket: of, result } = event else { return None };
            (*of == Ticket(ticket)).then_some(result.is_ok())
        });
        assert_eq!(answer, is_there);
    }
    let memory = Memory::Shared(Arc::clone(&pair.sides[1].arena));
    pair.sides[1].keys = pair.register(1, memory, Access::LOCAL_WRITE);
    let (port_id, port) =
        pair.sides[1].provider.create_port(PortOptions { completion_count: 64, shared_receive_count: 0 }).unwrap();
    (pair.sides[1].port_id, pair.sides[1].port) = (port_id, port);
    let address = pair.rig.address();
    let listener = pair.sides[1].provider.listen(address).unwrap();
    let active = pair.resolve_to(address);
    let parameters = pair.parameters(b"");
    pair.sides[0].provider.connect(&active.connection, parameters);
    let passive = pair.request().connection.attach(&mut pair, 1);
    pair.sides[1].provider.accept(&passive.connection, parameters);
    pair.established(0, active.id());
    pair.established(1, passive.id());
    pair.sides[1].provider.begin_unlisten(Ticket(901), listener);
    pair.event(1, "the listener's end", |event| {
        matches!(event, Event::Unlistened { ticket: Ticket(901) }).then_some(())
    });
    pair.finish([active, passive]);
}

/// Half-built at both sides: whoever waits for the removed device is told in time.
#[test]
fn who_waits_for_it_is_told() {
    for at_request in [true, false] {
        let mut pair = Pair::with(calm(FabricOptions::default()), Setup::default());
        let active = pair.resolve();
        let parameters = pair.parameters(b"");
        let machine = pair.sides[1].provider.id();
        pair.sides[0].provider.connect(&active.connection, parameters);
        let passive = if at_request {
            pair.rig.fabric.remove_device(machine);
            None
        } else {
            let passive = pair.request().connection.attach(&mut pair, 1);
            pair.rig.fabric.remove_device(machine);
            pair.sides[1].provider.accept(&passive.connection, parameters);
            Some(passive)
        };
        let reason = pair.event(0, "a rejection", rejection);
        assert_eq!(reason, RejectReason::TimedOut);
        pair.end(0, active);
        if let Some(passive) = passive {
            pair.event(1, "the failed accept", |event| matches!(event, Event::Rejected { .. }).then_some(()));
            pair.end(1, passive);
        }
        pair.close();
    }
}
