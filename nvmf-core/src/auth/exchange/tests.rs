//! Both sides against each other, and the target against hosts that do not keep to the order.

use super::{Delivered, Delivery, Event as E, Exchange, Outcome, Step as S, Taken, Work};
use crate::auth::job::{Job, Question};
use crate::auth::{Credentials, Entropy, GroupSet, HashSet, Secret, Supplicant, SupplicantError, Turn};
use crate::membership::Remote;
use crate::subsystem::SubsystemId;
use crate::wire::Nqn;
use crate::wire::auth::{ControllerMessage, Failure, GroupId, HashId, HostMessage, Negotiate, Offer, Reply};

const STEPS: [S; 11] = [
    S::Idle,
    S::Negotiated,
    S::Challenging,
    S::Challenge,
    S::Challenged,
    S::Verifying,
    S::Success,
    S::Proof,
    S::Proven,
    S::Failing,
    S::Failed,
];
const EVENTS: [E; 11] = [
    E::Negotiate,
    E::Fetch,
    E::Made,
    E::Deliver,
    E::Reply,
    E::Accept,
    E::AcceptBoth,
    E::Busy,
    E::Confirm,
    E::Refuse,
    E::Fail,
];

/// Every edge. A new one shows here, and has to be argued.
const TABLE: &str = "\
Idle Negotiate Negotiated
Idle Fail Failing
Negotiated Fetch Challenging
Negotiated Fail Failing
Challenging Made Challenge
Challenging Busy Negotiated
Challenging Fail Failing
Challenge Deliver Challenged
Challenge Fail Failing
Challenged Reply Verifying
Challenged Refuse Failed
Challenged Fail Failing
Verifying Accept Success
Verifying AcceptBoth Proof
Verifying Busy Challenged
Verifying Fail Failing
Success Deliver Idle
Success Fail Failing
Proof Deliver Proven
Proof Fail Failing
Proven Confirm Idle
Proven Refuse Failed
Proven Fail Failing
Failing Deliver Failed
Failing Fail Failing
";

#[test]
fn the_whole_table() {
    let mut text = String::new();
    for step in STEPS {
        for event in EVENTS {
            if let Some(next) = step.next(event) {
                text.push_str(&format!("{step:?} {event:?} {next:?}\n"));
            }
        }
    }
    assert_eq!(text, TABLE);
}

const HOST: &str = "nqn.2024-01.example:host";
const DISK: &str = "nqn.2024-01.example:disk";

fn secret(byte: u8) -> Secret {
    Secret::generate(Some(HashId::Sha256), &mut |bytes| bytes.fill(byte))
}

/// What the target knows.
struct Keys {
    host: Secret,
    controller: Option<Secret>,
}

fn keys() -> Keys {
    Keys { host: secret(1), controller: Some(secret(2)) }
}

fn perform(keys: &Keys, work: Work) -> Outcome {
    let question = Question {
        qpair: Remote { cpu: reactor::Cpu(0), handle: reactor::Handle::from_bits(1) },
        number: 1,
        peer: [127, 0, 0, 1].into(),
        subsystem: SubsystemId(1),
        host: Nqn::new(HOST).unwrap(),
        deadline_ns: 0,
        work,
    };
    let job = Job {
        question: Box::new(question),
        host_secret: keys.host.clone(),
        controller_secret: keys.controller.clone(),
        subsystem_nqn: Nqn::new(DISK).unwrap(),
        sequence: 77,
    };
    job.perform(&mut |bytes| bytes.fill(0x33)).answer.outcome
}

fn send(exchange: &mut Exchange, keys: &Keys, bytes: &[u8]) -> Option<Taken> {
    match exchange.take(bytes, HashSet::ALL, GroupSet::ALL) {
        Taken::Ask(work) => {
            assert!(matches!(exchange.take(bytes, HashSet::ALL, GroupSet::ALL), Taken::OutOfTurn));
            assert!(matches!(exchange.fetch(), Delivery::OutOfTurn));
            let outcome = perform(keys, work);
            assert!(!exchange.answered(outcome));
            None
        }
        taken @ (Taken::Done | Taken::Authenticated | Taken::Ends | Taken::OutOfTurn) => Some(taken),
    }
}

fn fetch(exchange: &mut Exchange, keys: &Keys) -> (Vec<u8>, Delivered) {
    loop {
        match exchange.fetch() {
            Delivery::Message(bytes) => return (bytes, exchange.delivered()),
            Delivery::Ask(work) => assert!(!exchange.answered(perform(keys, work))),
            Delivery::OutOfTurn => panic!("nothing else is under way"),
        }
    }
}

/// How it ends for the host, and whether the target is convinced.
fn meet(exchange: &mut Exchange, keys: &Keys, credentials: &Credentials) -> (Result<(), SupplicantError>, bool) {
    let entropy = Entropy::draw(&mut |bytes| bytes.fill(0x44));
    let mut host = Supplicant::new(credentials.clone(), HOST, DISK, 9, entropy);
    let mut is_convinced = false;
    let mut turn = host.next(None);
    loop {
        turn = match turn {
            Turn::Send(bytes) => {
                is_convinced |= matches!(send(exchange, keys, &bytes), Some(Taken::Authenticated));
                host.next(None)
            }
            Turn::Receive(_) => {
                let (bytes, delivered) = fetch(exchange, keys);
                is_convinced |= delivered == Delivered::Authenticated;
                host.next(Some(&bytes))
            }
            Turn::Done => return (Ok(()), is_convinced),
            Turn::Failed(error) => return (Err(error), is_convinced),
        };
    }
}

fn credentials(host: u8, controller: Option<u8>) -> Credentials {
    let mut credentials = Credentials::new(secret(host), controller.map(secret));
    credentials.groups = GroupSet::empty().with(GroupId::Null).with(GroupId::Ffdhe2048);
    credentials
}

#[test]
fn who_knows_the_secrets_gets_in() {
    for two_way in [None, Some(2)] {
        for hash in HashSet::BY_STRENGTH {
            for group in [GroupId::Null, GroupId::Ffdhe2048] {
                let mut offered = credentials(1, two_way);
                offered.hashes = HashSet::empty().with(hash);
                offered.groups = GroupSet::empty().with(group);
                let mut exchange = Exchange::new();
                assert_eq!(meet(&mut exchange, &keys(), &offered), (Ok(()), true), "{hash:?} {group:?}");
                // And again, on a queue that serves.
                assert!(!exchange.is_under_way());
                assert_eq!(meet(&mut exchange, &keys(), &offered), (Ok(()), true));
            }
        }
    }
}

#[test]
fn who_does_not_stays_out() {
    let failed = Err(SupplicantError::Refused(Failure::Failed));
    assert_eq!(meet(&mut Exchange::new(), &keys(), &credentials(9, None)), (failed, false));
    assert_eq!(meet(&mut Exchange::new(), &keys(), &credentials(9, Some(2))), (failed, false));
    // A controller that is another, and one that has no secret.
    let controller = Err(SupplicantError::Controller);
    assert_eq!(meet(&mut Exchange::new(), &keys(), &credentials(1, Some(9))), (controller, false));
    let keys = Keys { controller: None, ..keys() };
    assert_eq!(meet(&mut Exchange::new(), &keys, &credentials(1, Some(2))), (failed, false));
    assert_eq!(meet(&mut Exchange::new(), &keys, &credentials(1, None)), (Ok(()), true));
}

fn negotiate(transaction: u16, change: impl FnOnce(&mut Negotiate)) -> Vec<u8> {
    let offer = Offer { hashes: vec![HashId::Sha256, HashId::Sha384], groups: vec![GroupId::Null] };
    let mut negotiate = Negotiate { concatenation: 0, offer: Some(offer) };
    change(&mut negotiate);
    HostMessage::Negotiate(negotiate).to_bytes(transaction)
}

/// What the host is told next.
fn told(exchange: &mut Exchange) -> (u16, ControllerMessage, Delivered) {
    let (bytes, delivered) = fetch(exchange, &keys());
    let (transaction, message) = ControllerMessage::parse(&bytes).unwrap();
    (transaction, message, delivered)
}

fn refused(transaction: u16, failure: Failure) -> (u16, ControllerMessage, Delivered) {
    (transaction, ControllerMessage::Failure1(failure), Delivered::Ends)
}

#[test]
fn the_strongest_in_common_is_chosen() {
    let mut exchange = Exchange::new();
    assert!(matches!(send(&mut exchange, &keys(), &negotiate(5, |_| {})), Some(Taken::Done)));
    let (5, ControllerMessage::Challenge(challenge), Delivered::On) = told(&mut exchange) else { panic!() };
    assert_eq!((challenge.hash, challenge.group, challenge.sequence), (HashId::Sha384, GroupId::Null, 77));
}

#[test]
fn nothing_in_common() {
    let cases = [
        (negotiate(5, |n| n.offer = None), Failure::ProtocolUnusable),
        (negotiate(5, |n| n.concatenation = 1), Failure::ConcatenationMismatch),
        (negotiate(5, |n| n.offer.as_mut().unwrap().hashes.clear()), Failure::HashUnusable),
        (negotiate(5, |n| n.offer.as_mut().unwrap().groups = vec![GroupId::Ffdhe2048]), Failure::GroupUnusable),
    ];
    for (bytes, failure) in cases {
        let mut exchange = Exchange::new();
        let groups = GroupSet::empty().with(GroupId::Null);
        exchange.take(&bytes, HashSet::ALL, groups);
        assert_eq!(exchange.failure(), Some(failure));
        assert_eq!(told(&mut exchange), refused(5, failure));
    }
}

#[test]
fn messages_out_of_turn() {
    let reply = HostMessage::Reply(Reply { response: vec![0; 48], challenge: None, public: vec![] });
    let wrong = Failure::MessageIncorrect;
    // Before anything; what cannot be read; a fetch of nothing.
    for (bytes, failure) in [
        (HostMessage::Success2.to_bytes(0), wrong),
        (reply.to_bytes(0), wrong),
        (HostMessage::Failure2(Failure::Failed).to_bytes(0), wrong),
        (HostMessage::Success2.to_bytes(3), Failure::PayloadIncorrect),
        (vec![0; 3], Failure::PayloadIncorrect),
    ] {
        let mut exchange = Exchange::new();
        send(&mut exchange, &keys(), &bytes);
        assert_eq!(told(&mut exchange), refused(0, failure));
    }
    assert_eq!(told(&mut Exchange::new()), refused(0, wrong));

    let challenged = || {
        let mut exchange = Exchange::new();
        send(&mut exchange, &keys(), &negotiate(5, |_| {}));
        assert!(matches!(told(&mut exchange).1, ControllerMessage::Challenge(_)));
        exchange
    };
    // A second AUTH_Negotiate; another transaction; a reply of another hash; a number where there is no exchange; a wrong response.
    let long = HostMessage::Reply(Reply { response: vec![0; 64], challenge: None, public: vec![] });
    let public = HostMessage::Reply(Reply { response: vec![0; 48], challenge: None, public: vec![2] });
    for (bytes, failure) in [
        (negotiate(6, |_| {}), wrong),
        (reply.to_bytes(6), Failure::PayloadIncorrect),
        (long.to_bytes(5), Failure::PayloadIncorrect),
        (public.to_bytes(5), Failure::PayloadIncorrect),
        (HostMessage::Success2.to_bytes(5), wrong),
        (reply.to_bytes(5), Failure::Failed),
    ] {
        let mut exchange = challenged();
        send(&mut exchange, &keys(), &bytes);
        // The first failure counts, whatever comes after it.
        send(&mut exchange, &keys(), &negotiate(7, |_| {}));
        assert_eq!(told(&mut exchange), refused(5, failure));
        // Nothing comes after that.
        assert!(matches!(send(&mut exchange, &keys(), &negotiate(8, |_| {})), Some(Taken::Done)));
        assert_eq!(exchange.failure(), Some(failure));
    }
    let mut exchange = challenged();
    assert!(matches!(
        send(&mut exchange, &keys(), &HostMessage::Failure2(Failure::HashUnusable).to_bytes(5)),
        Some(Taken::Ends)
    ));
    assert_eq!(exchange.failure(), Some(Failure::HashUnusable));
}

#[test]
fn where_there_is_no_room_the_host_tries_again() {
    let mut exchange = Exchange::new();
    send(&mut exchange, &keys(), &negotiate(5, |_| {}));
    let Delivery::Ask(work) = exchange.fetch() else { panic!() };
    assert!(exchange.answered(Outcome::Busy(work)));
    let (_, ControllerMessage::Challenge(challenge), _) = told(&mut exchange) else { panic!() };
    assert_eq!(challenge.hash, HashId::Sha384);
    let reply = HostMessage::Reply(Reply { response: vec![0; 48], challenge: None, public: vec![] }).to_bytes(5);
    for _ in 0..3 {
        let Taken::Ask(work) = exchange.take(&reply, HashSet::ALL, GroupSet::ALL) else { panic!() };
        assert!(exchange.answered(Outcome::Busy(work)));
    }
    send(&mut exchange, &keys(), &reply);
    assert_eq!(told(&mut exchange), refused(5, Failure::Failed));
}
