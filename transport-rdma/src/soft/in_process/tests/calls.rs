//! Every call that can fail: the n-th of its kind, then no more; or by choice.

use super::*;
use crate::soft::in_process::{CallFaults, Calls};
use crate::verbs::contract::pair::{Attach, Pair, Setup};
use crate::verbs::{
    Access, Flags, Memory, Port, PortOptions, PostError, Provider, RejectReason, SendOperation, SendRequest, Ticket,
};

fn pair() -> Pair<SeededRig> {
    Pair::new(calm(FabricOptions::default()))
}

fn fail(pair: &Pair<SeededRig>, side: usize, call: Calls, nth: u64) {
    pair.rig.fabric.fail_call(pair.sides[side].provider.id(), call, nth);
}

#[test]
fn what_answers_at_once() {
    let mut pair = pair();
    let options = PortOptions { completion_count: 8, shared_receive_count: 0 };
    fail(&pair, 0, Calls::CREATE_PORT, 1);
    assert!(pair.sides[0].provider.create_port(options).is_ok());
    assert!(pair.sides[0].provider.create_port(options).is_err());
    assert!(pair.sides[0].provider.create_port(options).is_ok());
    let keys = pair.sides[0].keys;
    fail(&pair, 0, Calls::ALLOCATE_WINDOW | Calls::LISTEN, 0);
    assert!(pair.sides[0].provider.allocate_window(keys).is_err());
    assert!(pair.sides[0].provider.allocate_window(keys).is_ok(), "one of the kinds is enough");
    fail(&pair, 1, Calls::LISTEN, 0);
    let address = pair.rig.address();
    assert!(pair.sides[1].provider.listen(address).is_err());
    pair.listen();
    pair.close();
}

#[test]
fn what_answers_by_ticket() {
    let mut pair = pair();
    fail(&pair, 0, Calls::REGISTER, 0);
    let memory = Memory::Shared(Arc::clone(&pair.sides[0].arena));
    pair.sides[0].provider.begin_register(Ticket(900), memory, Access::LOCAL_WRITE);
    pair.event(0, "the registration", |event| failure(event, Ticket(900)));
    let address = pair.listen();
    fail(&pair, 0, Calls::RESOLVE, 0);
    pair.sides[0].provider.begin_resolve(Ticket(901), address);
    pair.event(0, "the resolution", |event| failure(event, Ticket(901)));
    assert_eq!(pair.sides[0].provider.live_count(), 0, "there is no connection to destroy");
    let end = pair.resolve();
    let queue_pair = pair.sides[0].port.detach(end.name).unwrap();
    fail(&pair, 0, Calls::DESTROY_QUEUE_PAIR, 0);
    pair.sides[0].provider.begin_destroy_queue_pair(Ticket(902), queue_pair);
    pair.event(0, "the destruction", |event| failure(event, Ticket(902)));
    assert!(!pair.sides[0].gauges().contains(&("queue_pairs_live", 1)), "it is gone all the same");
    fail(&pair, 0, Calls::CREATE_QUEUE_PAIR, 0);
    let (port, options) = (pair.sides[0].port_id, pair.setup.queue_pair);
    pair.sides[0].provider.begin_create_queue_pair(Ticket(903), end.connection.id(), port, options);
    pair.event(0, "the queue pair", |event| failure(event, Ticket(903)));
    pair.destroy_connection(0, end.connection);
    pair.close();
}

#[test]
fn connect_and_accept() {
    let mut pair = pair();
    let parameters = pair.parameters(b"");
    let active = pair.resolve();
    fail(&pair, 0, Calls::CONNECT, 0);
    pair.sides[0].provider.connect(&active.connection, parameters);
    assert!(matches!(pair.event(0, "a rejection", rejection), RejectReason::Unreachable(_)));
    pair.end(0, active);
    let active = pair.resolve();
    pair.sides[0].provider.connect(&active.connection, parameters);
    let passive = pair.request().connection.attach(&mut pair, 1);
    pair.post_receives(1, passive.name, 0, 3);
    fail(&pair, 1, Calls::ACCEPT, 0);
    pair.sides[1].provider.accept(&passive.connection, parameters);
    assert!(matches!(pair.event(1, "a rejection", rejection), RejectReason::Unreachable(_)));
    assert_eq!(pair.event(0, "a rejection", rejection), RejectReason::TimedOut);
    pair.sides[1].provider.disconnect(passive.id());
    assert_eq!(pair.completions(1, 3).len(), 3, "what was posted comes back");
    pair.finish([active, passive]);
}

#[test]
fn posts() {
    let mut pair = Pair::with(calm(FabricOptions::default()), Setup { shared_receive_count: 4, ..Setup::default() });
    let ends = pair.connect();
    let name = ends[0].name;
    for nth in 0..2 {
        for call in [Calls::POST_SEND, Calls::POST_RECEIVE, Calls::POST_SHARED_RECEIVE] {
            fail(&pair, 0, call, nth);
        }
        let port = &mut pair.sides[0].port;
        let request = SendRequest { id: 1, operation: SendOperation::Send, flags: Flags::SIGNALED, segments: &[] };
        let sends: Vec<_> = (0..3).map(|_| port.post_send(name, &request)).collect();
        let receives: Vec<_> = (0..3).map(|_| port.post_receive(name, 2, &[])).collect();
        let shared: Vec<_> = (0..2).map(|id| port.post_shared_receive(10 * nth + id, &[])).collect();
        let expected: Vec<_> = (0..3).map(|at| if at == nth { Err(PostError::WrongState) } else { Ok(()) }).collect();
        assert_eq!((&sends, &receives), (&expected, &expected));
        assert_eq!(shared, expected[..2]);
    }
    pair.sides[0].provider.disconnect(ends[0].id());
    assert_eq!(pair.completions(0, 8).len(), 8, "what failed was not posted");
    pair.finish(ends);
}

#[test]
fn by_choice() {
    let calls = CallFaults { kinds: Calls::POST_RECEIVE, one_in: 3 };
    let options = FabricOptions { calls, ..FabricOptions::default() };
    let mut pair = Pair::new(rig(options));
    let end = pair.resolve();
    let port = &mut pair.sides[0].port;
    let failed = (0..12).filter(|id| port.post_receive(end.name, *id, &[]).is_err()).count();
    assert!((1..12).contains(&failed), "{failed} of 12");
    pair.end(0, end);
    pair.sides[0].take_completions();
    pair.close();
}
