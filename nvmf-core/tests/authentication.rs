//! DH-HMAC-CHAP: our host's side against the target, over the fake fabric; hosts that keep to nothing; keys that change; who computes late or never.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::Arc;

use harness::device::TestDevice;
use harness::jobs::{RUNNING_MAX, random};
use harness::{
    Conn, Connect, HOST_NQN, NQN, OP_READ, Options, World, io, keyed, namespace, property_get, property_set,
};
use nvmf_core::DisconnectReason;
use nvmf_core::auth::{Credentials, Entropy, Failure, GroupId, GroupSet, HashId, HashSet, Secret, SupplicantError};
use nvmf_core::host::{AdminData, Authenticate, HostError, HostIdentity, Outcome, Step, fill};
use nvmf_core::limits::AUTHENTICATION_TIMEOUT_NS;
use nvmf_core::spec::{HostKeys, Key};
use nvmf_core::status::Status;
use nvmf_core::wire::auth::{AuthenticationEntry, ControllerMessage, HostMessage, Negotiate, Offer};
use nvmf_core::wire::{ConnectResult, FabricsType, SglDescriptor, SubmissionEntry, U16, U32};

const AT: usize = 16 << 10;

fn secret(byte: u8) -> Secret {
    Secret::generate(Some(HashId::Sha256), &mut |bytes| bytes.fill(byte))
}

fn key(byte: u8) -> Key {
    Key { name: format!("key{byte}"), secret: secret(byte) }
}

fn keys(host: u8, controller: Option<u8>) -> HostKeys {
    HostKeys { host: HOST_NQN.into(), key: key(host), controller_key: controller.map(key) }
}

fn credentials(host: u8, controller: Option<u8>) -> Credentials {
    let mut credentials = Credentials::new(secret(host), controller.map(secret));
    credentials.groups = GroupSet::empty().with(GroupId::Null).with(GroupId::Ffdhe2048);
    credentials
}

/// A target whose one host has keys.
fn world(seed: u64, keys: HostKeys) -> World {
    let disk = Arc::new(TestDevice::new("disk", 1024));
    let mut options = Options::new(vec![namespace(1, disk)]);
    options.seed = seed;
    let mut world = World::new(options);
    let change = world.change(move |target| target.add_host_with_keys(NQN, keys)).unwrap();
    world.finish(change);
    world
}

/// A queue whose Connect has succeeded, and what AUTHREQ says.
fn connect(world: &mut World, cpu: u16, qid: u16, controller_id: u16) -> (Conn, u16, u16) {
    let depth = if qid == 0 { 32 } else { 16 };
    let conn = world.open(cpu, qid, depth);
    let response = world.execute_connect(conn, &Connect { controller_id, ..Connect::new(qid, depth) });
    assert_eq!(response.status(), Status::SUCCESS);
    let result = ConnectResult::from_result(response.result.get());
    (conn, result.controller_id, result.authentication)
}

fn admin(world: &mut World, cpu: u16) -> (Conn, u16) {
    let (conn, id, authentication) = connect(world, cpu, 0, 0xFFFF);
    assert_eq!(authentication, ConnectResult::AUTHENTICATION_TRANSACTION);
    (conn, id)
}

/// Puts a command's data where it belongs: messages go in the capsule on I/O queues, as Linux sends them.
fn placed(world: &mut World, conn: Conn, mut command: [u8; 64], data: &AdminData) -> ([u8; 64], Vec<u8>) {
    let is_io = world.wire(conn.cpu).connections[conn.index].spec.qid > 0;
    let mut entry = SubmissionEntry::from_bytes(command);
    let capsule = match data {
        AdminData::None => Vec::new(),
        AdminData::Out(bytes) if is_io => {
            entry.sgl1 = SglDescriptor::in_capsule(0, bytes.len() as u32);
            bytes.clone()
        }
        AdminData::Out(bytes) => {
            world.host_write(conn.cpu, AT, bytes);
            entry.sgl1 = keyed(AT, bytes.len() as u32);
            Vec::new()
        }
        AdminData::In(len) => {
            world.host_write(conn.cpu, AT, &vec![0; *len as usize]);
            entry.sgl1 = keyed(AT, *len);
            Vec::new()
        }
    };
    entry.command_id = U16::new(0x77);
    command = entry.to_bytes();
    (command, capsule)
}

/// One exchange, to its end.
fn authenticate(world: &mut World, conn: Conn, credentials: &Credentials) -> Result<(), HostError> {
    let identity = HostIdentity { nqn: HOST_NQN.into(), id: harness::HOST_ID };
    let mut drawn = 5;
    let entropy = Entropy::draw(&mut |bytes| random(&mut drawn, bytes));
    let mut machine = Authenticate::new(credentials, &identity, NQN, 9, entropy);
    let mut step = machine.next(None);
    loop {
        step = match step {
            Step::Submit { command, data } => {
                let (command, capsule) = placed(world, conn, command, &data);
                let completion = world.execute(conn, command, &capsule).to_bytes();
                let data = match data {
                    AdminData::In(len) => world.host_read(conn.cpu, AT, len as usize),
                    AdminData::None | AdminData::Out(_) => Vec::new(),
                };
                machine.next(Some(Outcome { completion, data: &data }))
            }
            Step::Wait { delay_ns } => {
                world.pass(delay_ns / 1_000_000);
                machine.next(None)
            }
            Step::Done(_) => return Ok(()),
            Step::Failed(error) => return Err(error),
        };
    }
}

fn ready(world: &mut World, conn: Conn) -> Status {
    world.execute(conn, property_set(0x14, 0x0046_0001), &[]).status()
}

fn read(world: &mut World, conn: Conn) -> Status {
    world.execute(conn, io(OP_READ, 3, 0, 1, keyed(0, 512)), &[]).status()
}

fn send(message: &HostMessage, transaction: u16) -> ([u8; 64], AdminData) {
    let bytes = message.to_bytes(transaction);
    let entry = entry(FabricsType::AuthenticationSend, bytes.len() as u32);
    (entry.to_bytes(), AdminData::Out(bytes))
}

fn entry(fabrics_type: FabricsType, len: u32) -> AuthenticationEntry {
    let mut entry = AuthenticationEntry::new(fabrics_type);
    (entry.specific_0, entry.specific_1, entry.security_protocol) = (1, 1, 0xE9);
    entry.len = U32::new(len);
    entry
}

fn negotiate(group: GroupId) -> HostMessage {
    let offer = Offer { hashes: vec![HashId::Sha256], groups: vec![group] };
    HostMessage::Negotiate(Negotiate { concatenation: 0, offer: Some(offer) })
}

fn execute(world: &mut World, conn: Conn, (command, data): ([u8; 64], AdminData)) -> Status {
    let (command, capsule) = placed(world, conn, command, &data);
    world.execute(conn, command, &capsule).status()
}

fn fetch(world: &mut World, conn: Conn, len: u32) -> (Status, Vec<u8>) {
    let command = entry(FabricsType::AuthenticationReceive, len).to_bytes();
    let status = execute(world, conn, (command, AdminData::In(len)));
    (status, world.host_read(conn.cpu, AT, len as usize))
}

#[test]
fn a_host_that_proves_itself_is_served_on_every_queue() {
    for seed in 0..20 {
        for two_way in [None, Some(2)] {
            let mut world = world(seed, keys(1, Some(2)));
            let proof = credentials(1, two_way);
            let (admin, id) = admin(&mut world, 0);
            authenticate(&mut world, admin, &proof).unwrap();
            assert_eq!(ready(&mut world, admin), Status::SUCCESS);
            // Each queue for itself, on whatever CPU.
            for qid in 1..=2 {
                let (queue, _, authentication) = connect(&mut world, qid % 2, qid, id);
                assert_eq!(authentication, ConnectResult::AUTHENTICATION_TRANSACTION);
                assert_eq!(read(&mut world, queue), Status::AUTHENTICATION_REQUIRED);
                authenticate(&mut world, queue, &proof).unwrap();
                assert_eq!(read(&mut world, queue), Status::SUCCESS);
            }
            // The deadline was for those who do not.
            world.pass(2 * AUTHENTICATION_TIMEOUT_NS / 1_000_000);
            assert!(world.is_open(admin));
            let count = |world: &World| (0..2).map(|cpu| world.counters(cpu).authenticated_count.value()).sum::<u64>();
            assert_eq!(count(&world), 3);
            world.shut_down();
        }
    }
}

#[test]
fn every_hash_function_with_every_group() {
    let is_long = std::env::var_os("QUIESCE_TEST_LONG").is_some();
    for hash in HashSet::BY_STRENGTH {
        for group in GroupSet::BY_STRENGTH {
            // The large groups once each: they are slow, and do not depend on the hash function.
            let is_large = matches!(group, GroupId::Ffdhe4096 | GroupId::Ffdhe6144 | GroupId::Ffdhe8192);
            if is_large && hash != HashId::Sha384 && !is_long {
                continue;
            }
            let mut world = world(1, keys(1, Some(2)));
            let (admin, _) = admin(&mut world, 0);
            let proof = Credentials {
                hashes: HashSet::empty().with(hash),
                groups: GroupSet::empty().with(group),
                ..credentials(1, Some(2))
            };
            assert_eq!(authenticate(&mut world, admin, &proof), Ok(()), "{hash:?} {group:?}");
            assert_eq!(ready(&mut world, admin), Status::SUCCESS);
            world.shut_down();
        }
    }
}

#[test]
fn until_then_nothing_else_is_admitted() {
    let mut world = world(1, keys(1, None));
    let (admin, id) = admin(&mut world, 0);
    let barred = Status::AUTHENTICATION_REQUIRED;
    assert_eq!(ready(&mut world, admin), barred);
    assert_eq!(world.execute(admin, property_get(0, true), &[]).status(), barred);
    assert_eq!(world.execute(admin, SubmissionEntry::new(0x18).to_bytes(), &[]).status(), barred);
    let mut identify = SubmissionEntry::new(0x06);
    identify.sgl1 = keyed(0, 4096);
    identify.cdw10 = U32::new(1);
    assert_eq!(world.execute(admin, identify.to_bytes(), &[]).status(), barred);
    // A controller that was never enabled takes no I/O queue.
    let io = world.open(1, 1, 16);
    let response = world.execute_connect(io, &Connect { controller_id: id, ..Connect::new(1, 16) });
    assert_eq!(response.status(), Status::COMMAND_SEQUENCE_ERROR);
    world.disconnect(io, DisconnectReason::Host);
    world.shut_down();
}

#[test]
fn who_has_no_key_is_asked_for_nothing() {
    let mut world = world(1, HostKeys { host: "nqn.2024-01.example:another".into(), ..keys(1, None) });
    let (admin, _, authentication) = connect(&mut world, 0, 0, 0xFFFF);
    assert_eq!(authentication, 0);
    assert_eq!(ready(&mut world, admin), Status::SUCCESS);
    assert_eq!(execute(&mut world, admin, send(&negotiate(GroupId::Null), 1)), Status::INVALID_OPCODE);
    assert_eq!(fetch(&mut world, admin, 4096).0, Status::INVALID_OPCODE);
    world.shut_down();
}

#[test]
fn wrong_secrets_end_the_connection_with_the_words_for_it() {
    let refused = |failure| Err(HostError::Authentication(SupplicantError::Refused(failure)));
    let controller = Err(HostError::Authentication(SupplicantError::Controller));
    for (known, shown, expected) in [
        (keys(1, Some(2)), credentials(3, None), refused(Failure::Failed)),
        (keys(1, Some(2)), credentials(3, Some(2)), refused(Failure::Failed)),
        (keys(1, Some(2)), credentials(1, Some(3)), controller),
        (keys(1, None), credentials(1, Some(2)), refused(Failure::Failed)),
    ] {
        let mut world = world(1, known);
        let (admin, _) = admin(&mut world, 0);
        assert_eq!(authenticate(&mut world, admin, &shown), expected);
        world.run(100);
        assert_eq!(world.ended(admin), Some(DisconnectReason::Authentication));
        assert_eq!(world.counters(0).authentication_failed_count.value(), 1);
        world.assert_empty();
    }
}

#[test]
fn what_the_target_does_not_allow_is_not_used() {
    let mut world = world(1, keys(1, None));
    let allowed = (HashSet::empty().with(HashId::Sha512), GroupSet::empty().with(GroupId::Ffdhe2048));
    let change = world.change(move |target| target.set_authentication(allowed.0, allowed.1)).unwrap();
    world.finish(change);
    for (hash, group, failure) in [
        (HashId::Sha256, GroupId::Ffdhe2048, Some(Failure::HashUnusable)),
        (HashId::Sha512, GroupId::Null, Some(Failure::GroupUnusable)),
        (HashId::Sha512, GroupId::Ffdhe2048, None),
    ] {
        let (admin, _) = admin(&mut world, 0);
        let mut proof = credentials(1, None);
        (proof.hashes, proof.groups) = (HashSet::empty().with(hash), GroupSet::empty().with(group));
        let expected = failure.map(|failure| HostError::Authentication(SupplicantError::Refused(failure)));
        assert_eq!(authenticate(&mut world, admin, &proof).err(), expected);
    }
    world.shut_down();
}

#[test]
fn a_host_that_stands_still_is_ended() {
    for sends_something in [false, true] {
        let mut world = world(1, keys(1, None));
        let (admin, _) = admin(&mut world, 0);
        if sends_something {
            assert_eq!(execute(&mut world, admin, send(&negotiate(GroupId::Null), 1)), Status::SUCCESS);
            assert_eq!(fetch(&mut world, admin, 4096).0, Status::SUCCESS);
        }
        world.pass(AUTHENTICATION_TIMEOUT_NS / 1_000_000 - 500);
        assert!(world.is_open(admin));
        world.pass(1000);
        assert_eq!(world.ended(admin), Some(DisconnectReason::Authentication));
        assert_eq!(world.counters(0).authentication_timeout_count.value(), 1);
        world.assert_empty();
    }
}

#[test]
fn again_on_a_queue_that_serves_and_with_the_keys_of_that_moment() {
    let mut world = world(1, keys(1, Some(2)));
    let (admin, id) = admin(&mut world, 0);
    authenticate(&mut world, admin, &credentials(1, None)).unwrap();
    ready(&mut world, admin);
    let (queue, _, _) = connect(&mut world, 1, 1, id);
    authenticate(&mut world, queue, &credentials(1, None)).unwrap();
    // Half of an exchange, and the queue serves.
    assert_eq!(execute(&mut world, queue, send(&negotiate(GroupId::Null), 1)), Status::SUCCESS);
    assert_eq!(read(&mut world, queue), Status::SUCCESS);
    // Then it stands still.
    world.pass(AUTHENTICATION_TIMEOUT_NS / 1_000_000 + 10);
    assert_eq!(world.ended(queue), Some(DisconnectReason::Authentication));
    assert!(world.is_open(admin));

    let (queue, _, _) = connect(&mut world, 1, 2, id);
    authenticate(&mut world, queue, &credentials(1, Some(2))).unwrap();
    let change = world.change(|target| target.set_keys(NQN, HOST_NQN, Some(keys(5, None)))).unwrap();
    world.finish(change);
    assert_eq!(read(&mut world, queue), Status::SUCCESS, "who is in stays in");
    authenticate(&mut world, admin, &credentials(5, None)).unwrap();
    // The old key opens nothing any more; the queue that showed it ends.
    assert!(authenticate(&mut world, queue, &credentials(1, None)).is_err());
    world.run(100);
    assert_eq!(world.ended(queue), Some(DisconnectReason::Authentication));
    assert!(world.is_open(admin));

    // Without keys nobody can be sure of this host; who comes now is not asked.
    let change = world.change(|target| target.set_keys(NQN, HOST_NQN, None)).unwrap();
    world.finish(change);
    assert!(authenticate(&mut world, admin, &credentials(5, None)).is_err());
    world.run(100);
    assert_eq!(connect(&mut world, 0, 0, 0xFFFF).2, 0);
    world.shut_down();
}

#[test]
fn commands_that_make_no_sense() {
    let mut world = world(1, keys(1, None));
    let (admin, _) = admin(&mut world, 0);
    let mut wrong = entry(FabricsType::AuthenticationReceive, 4096);
    wrong.security_protocol = 0;
    assert_eq!(execute(&mut world, admin, (wrong.to_bytes(), AdminData::In(4096))), Status::INVALID_FIELD);
    // Too little room: the challenge is still there afterwards.
    assert_eq!(execute(&mut world, admin, send(&negotiate(GroupId::Ffdhe2048), 4)), Status::SUCCESS);
    assert_eq!(fetch(&mut world, admin, 16).0, Status::INVALID_FIELD);
    let (status, bytes) = fetch(&mut world, admin, 4096);
    assert_eq!(status, Status::SUCCESS);
    assert!(matches!(ControllerMessage::parse(&bytes), Ok((4, ControllerMessage::Challenge(_)))));
    // A fetch of nothing is told so, and is the last.
    let (status, bytes) = fetch(&mut world, admin, 4096);
    assert_eq!(status, Status::SUCCESS);
    let failure = ControllerMessage::Failure1(Failure::MessageIncorrect);
    assert_eq!(ControllerMessage::parse(&bytes), Ok((4, failure)));
    world.run(100);
    assert_eq!(world.ended(admin), Some(DisconnectReason::Authentication));
    world.assert_empty();
}

/// A queue whose Receive waits for somebody who computes.
fn waiting(world: &mut World, cpu: u16) -> Conn {
    let (admin, _) = admin(world, cpu);
    assert_eq!(execute(world, admin, send(&negotiate(GroupId::Null), 1)), Status::SUCCESS);
    let command = entry(FabricsType::AuthenticationReceive, 4096).to_bytes();
    let (command, capsule) = placed(world, admin, command, &AdminData::In(4096));
    world.send(admin, command, &capsule);
    world.run(60);
    admin
}

#[test]
fn nothing_waits_for_who_computes_never() {
    for seed in 0..20 {
        let mut world = world(seed, keys(1, None));
        world.control.borrow_mut().jobs.hold = true;
        let gone = waiting(&mut world, 0);
        let stays = waiting(&mut world, 1);
        // Another command while one is out is out of turn, and changes nothing.
        assert_eq!(fetch(&mut world, stays, 4096).0, Status::COMMAND_SEQUENCE_ERROR);
        world.disconnect(gone, DisconnectReason::Host);
        world.pass(20);
        assert!(world.is_closed(gone), "a question is not waited for");
        world.control.borrow_mut().jobs.hold = false;
        world.run(60);
        assert_eq!(world.counters(0).stale_handle_count.value(), 1, "its answer finds nobody");
        assert_eq!(world.responses(stays).last().unwrap().status(), Status::SUCCESS);
        world.shut_down();
    }
}

#[test]
fn an_answer_that_comes_too_late_is_not_computed() {
    let mut world = world(1, keys(1, None));
    world.control.borrow_mut().jobs.hold = true;
    for _ in 0..RUNNING_MAX {
        waiting(&mut world, 0);
    }
    assert_eq!(world.control.borrow().jobs.done_count, 0);
    world.pass(AUTHENTICATION_TIMEOUT_NS / 1_000_000 + 50);
    world.control.borrow_mut().jobs.hold = false;
    world.run(100);
    // Half of the places are this address's; what stood in line behind them was left out.
    assert_eq!(world.control.borrow().jobs.done_count, RUNNING_MAX / 2);
    world.assert_empty();
}

#[test]
fn many_at_once_take_their_turns() {
    // The limits of the line are tested beside it: the fake fabric has fewer qpairs.
    let mut world = world(1, keys(1, None));
    world.control.borrow_mut().jobs.hold = true;
    let all: Vec<Conn> = (0..12).map(|index| waiting(&mut world, index % 2)).collect();
    world.control.borrow_mut().jobs.hold = false;
    world.run(300);
    for conn in all {
        assert_eq!(world.responses(conn).last().unwrap().status(), Status::SUCCESS);
    }
    world.shut_down();
}

#[test]
fn fill_keeps_what_an_authentication_command_says() {
    let mut command = entry(FabricsType::AuthenticationSend, 72).to_bytes();
    let before = command;
    fill(&mut command, 9, nvmf_core::host::DataPointer::None);
    assert_eq!((&command[4..24], &command[40..]), (&before[4..24], &before[40..]));
}
