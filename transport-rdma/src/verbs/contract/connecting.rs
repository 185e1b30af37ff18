//! Private data, rejection, order of events.

use super::pair::{Attach, Pair, Setup};
use super::{Case, Rig};
use crate::verbs::{CompletionStatus as Status, Event, Flags, Provider, RejectReason, SendOperation};

pub(super) fn cases<R: Rig>() -> Vec<(&'static str, Case<R>)> {
    vec![
        ("private_data_goes_both_ways", private_data_goes_both_ways),
        ("rejected_with_private_data", rejected_with_private_data),
        ("nobody_listens", nobody_listens),
        ("too_much_private_data", too_much_private_data),
        ("messages_before_established", messages_before_established),
        ("a_request_that_is_given_up", a_request_that_is_given_up),
        ("an_address_is_listened_on_once", an_address_is_listened_on_once),
        ("limits_are_named", limits_are_named),
        ("timewait_ends", timewait_ends),
    ]
}

fn private_data_goes_both_ways<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let (asked, answered) = ([7_u8; 56], [8_u8; 196]);
    let active = pair.resolve();
    let parameters = pair.parameters(&asked);
    pair.sides[0].provider.connect(&active.connection, parameters);
    let address = pair.listen();
    let request = pair.request();
    assert_eq!(request.private_data, asked);
    assert_eq!((request.local, request.responder_resources, request.initiator_depth), (address, 4, 4));
    let passive = request.connection.attach(&mut pair, 1);
    let parameters = pair.parameters(&answered);
    pair.sides[1].provider.accept(&passive.connection, parameters);
    let data = pair.event(0, "an established connection", |event| match event {
        Event::Established { private_data, responder_resources: 4, initiator_depth: 4, .. } => {
            Some(private_data.clone())
        }
        _ => None,
    });
    // Real devices pad it to the length of the message.
    assert_eq!(data[..196], answered);
    pair.established(1, passive.id());
    pair.finish([active, passive]);
}

fn rejected_with_private_data<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let active = pair.resolve();
    let parameters = pair.parameters(b"");
    pair.sides[0].provider.connect(&active.connection, parameters);
    let request = pair.request();
    pair.sides[1].provider.reject(request, &[5; 148]);
    let reason = rejection(&mut pair);
    let RejectReason::Consumer(data) = reason else { panic!("{reason:?}") };
    assert_eq!(data[..148], [5; 148]);
    pair.until("the end of all but the listener: a rejected connection goes by itself", |pair| {
        (pair.sides[1].provider.live_count() == 1).then_some(())
    });
    pair.end(0, active);
    pair.close();
}

fn rejection<R: Rig>(pair: &mut Pair<R>) -> RejectReason {
    pair.event(0, "a rejection", |event| match event {
        Event::Rejected { reason, .. } => Some(reason.clone()),
        _ => None,
    })
}

fn nobody_listens<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let address = pair.rig.address();
    let active = pair.resolve_to(address);
    let parameters = pair.parameters(b"");
    pair.sides[0].provider.connect(&active.connection, parameters);
    assert!(matches!(rejection(&mut pair), RejectReason::Unreachable(why) if !why.is_empty()));
    pair.end(0, active);
    pair.close();
}

fn too_much_private_data<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let active = pair.resolve();
    let parameters = pair.parameters(&[1; 57]);
    pair.sides[0].provider.connect(&active.connection, parameters);
    assert!(matches!(rejection(&mut pair), RejectReason::Unreachable(why) if why.contains("57") && why.contains("56")));
    pair.end(0, active);
    pair.close();
}

/// The accepting side may have its first message before, after or instead of ESTABLISHED; it may answer at once.
fn messages_before_established<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let active = pair.resolve();
    pair.post_receives(0, active.name, 1, 1);
    let parameters = pair.parameters(b"");
    pair.sides[0].provider.connect(&active.connection, parameters);
    let passive = pair.request().connection.attach(&mut pair, 1);
    pair.post_receives(1, passive.name, 2, 1);
    pair.sides[1].provider.accept(&passive.connection, parameters);
    // Sent before the peer can be ready: it is kept for it.
    pair.steps(1);
    pair.established(0, active.id());
    pair.sides[0].send_with(active.name, 3, SendOperation::Send, Flags::SIGNALED, &[]);
    let first = pair.full_completions(1, 1)[0];
    assert_eq!((first.id, first.status), (2, Status::Success));
    pair.sides[1].send_with(passive.name, 4, SendOperation::Send, Flags::SIGNALED, &[]);
    let mut both = pair.completions(0, 2);
    both.sort_by_key(|(id, _)| *id);
    assert_eq!(both, [(1, Status::Success), (3, Status::Success)]);
    assert_eq!(pair.completions(1, 1), [(4, Status::Success)]);
    pair.finish([active, passive]);
}

/// The asking side leaves before it is answered: the answer comes to nothing, on both sides.
fn a_request_that_is_given_up<R: Rig>(rig: R) {
    let mut pair = Pair::with(rig, Setup::default());
    let active = pair.resolve();
    let parameters = pair.parameters(b"");
    pair.sides[0].provider.connect(&active.connection, parameters);
    let passive = pair.request().connection.attach(&mut pair, 1);
    pair.end(0, active);
    pair.post_receives(1, passive.name, 1, 1);
    pair.sides[1].provider.accept(&passive.connection, parameters);
    pair.event(1, "the end of the connection", |event| {
        matches!(event, Event::Rejected { .. } | Event::Disconnected { .. }).then_some(())
    });
    pair.sides[1].provider.disconnect(passive.id());
    assert_eq!(pair.completions(1, 1), [(1, Status::WorkRequestFlushed)]);
    pair.end(1, passive);
    pair.close();
}

fn an_address_is_listened_on_once<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let address = pair.listen();
    let error = pair.sides[1].provider.listen(address).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    pair.close();
}

fn limits_are_named<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let limits = pair.sides[0].provider.attributes();
    pair.setup.queue_pair.send_count = limits.work_request_count_max + 1;
    let address = pair.listen();
    let ticket = pair.sides[0].ticket();
    pair.sides[0].provider.begin_resolve(ticket, address);
    let connection = pair.until("a resolution", |pair| {
        let at = pair.sides[0].events.iter().position(|event| matches!(event, Event::Resolved { .. }))?;
        match pair.sides[0].events.remove(at) {
            Event::Resolved { result, .. } => result.ok(),
            _ => None,
        }
    });
    let (ticket, port_id, options) = (pair.sides[0].ticket(), pair.sides[0].port_id, pair.setup.queue_pair);
    pair.sides[0].provider.begin_create_queue_pair(ticket, connection.id(), port_id, options);
    let error = pair.event(0, "a refusal", |event| match event {
        Event::QueuePairCreated { ticket: of, result: Err(error) } if *of == ticket => Some(error.to_string()),
        _ => None,
    });
    assert!(error.contains("send_count"), "{error}");
    pair.destroy_connection(0, connection);
    pair.close();
}

/// Once, on a connection that is still there.
fn timewait_ends<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect();
    let id = ends[0].id();
    pair.sides[0].provider.disconnect(id);
    let is_it =
        move |event: &Event<_>| matches!(event, Event::TimewaitExit { connection } if *connection == id).then_some(());
    // On devices by the network's longest life of a packet: up to two minutes on soft-RoCE.
    let give_up_ns = pair.now_ns + 240_000_000_000;
    let mut is_over = pair.sides[0].take_event(is_it);
    while R::IS_DEVICE && is_over.is_none() && pair.now_ns < give_up_ns {
        pair.step();
        is_over = pair.sides[0].take_event(is_it);
    }
    if is_over.is_none() {
        pair.event(0, "the timewait's end", is_it);
    }
    pair.pass(5_000_000);
    assert!(pair.sides[0].take_event(is_it).is_none());
    pair.finish(ends);
}
