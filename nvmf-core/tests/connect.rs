//! Connect with each of its fields wrong, one at a time: which status, and which parameter the result names [NVMe over Fabrics 1.1, 3.3].

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::Arc;

use harness::device::TestDevice;
use harness::{Conn, Connect, HOST_ID, NQN, OTHER_HOST_NQN, Options, World, command, keyed, namespace};
use nvmf_core::DisconnectReason;
use nvmf_core::status::Status;
use nvmf_core::wire::{ConnectRefusal, DISCOVERY_NQN};

/// Where Connect's data is in the host's memory.
const DATA_AT: usize = 8192;
/// Byte offsets in the data.
const CNTLID: usize = 16;
const SUBNQN: usize = 256;
const HOSTNQN: usize = 512;

fn world() -> World {
    World::new(Options::new(vec![namespace(1, Arc::new(TestDevice::new("disk", 1000)))]))
}

/// What of a sound Connect is spoilt: its 64 bytes, its 1024 bytes.
type Spoil = fn(&mut [u8; 64], &mut [u8]);

/// The answer to a Connect on a new queue: status and result.
fn connect(world: &mut World, connect: &Connect, spoil: Spoil) -> (Status, u64) {
    let conn = world.open(0, connect.qid, 32);
    let (mut entry, mut data) = connect.build();
    entry.sgl1 = keyed(DATA_AT, 1024);
    let mut bytes = entry.to_bytes();
    spoil(&mut bytes, &mut data);
    world.host_write(0, DATA_AT, &data);
    let response = world.execute(conn, bytes, &[]);
    assert!(world.is_open(conn), "a host may try again");
    world.disconnect(conn, DisconnectReason::Host);
    world.run(60);
    (response.status(), response.result.get())
}

fn invalid(field: ConnectRefusal) -> (Status, u64) {
    (Status::CONNECT_INVALID_PARAMETERS, field.to_result())
}

#[test]
fn each_wrong_field_has_its_status_and_is_named() {
    let mut world = world();
    let wrong_queue_size = invalid(ConnectRefusal::QUEUE_SIZE);
    // The dynamic model: every admin queue makes a controller, and asks for none by its id.
    let wrong_id = invalid(ConnectRefusal::CONTROLLER_ID);
    let (no_subsystem, no_name) = (invalid(ConnectRefusal::SUBSYSTEM_NQN), invalid(ConnectRefusal::HOST_NQN));
    let cases: &[(&str, Spoil, (Status, u64))] = &[
        ("RECFMT 1", |entry, _| entry[40] = 1, (Status::CONNECT_INCOMPATIBLE_FORMAT, 0)),
        ("RECFMT 100h", |entry, _| entry[41] = 1, (Status::CONNECT_INCOMPATIBLE_FORMAT, 0)),
        ("QID of another queue", |entry, _| entry[42] = 5, invalid(ConnectRefusal::QUEUE_ID)),
        ("SQSIZE 0, one entry", |entry, _| entry[44] = 0, wrong_queue_size),
        ("SQSIZE beyond the queue", |entry, _| entry[44] = 32, wrong_queue_size),
        ("SQSIZE FFFFh", |entry, _| entry[44..46].fill(0xFF), wrong_queue_size),
        ("data too short", |entry, _| entry[33] = 3, (Status::SGL_LENGTH_INVALID, 0)),
        ("HOSTID 0", |_, data| data[..16].fill(0), invalid(ConnectRefusal::HOST_ID)),
        ("CNTLID 0", |_, data| data[CNTLID..][..2].fill(0), wrong_id),
        ("CNTLID 1", |_, data| data[CNTLID..][..2].copy_from_slice(&[1, 0]), wrong_id),
        ("CNTLID FFEFh", |_, data| data[CNTLID..][..2].copy_from_slice(&[0xEF, 0xFF]), wrong_id),
        ("CNTLID FFFEh, any static one", |_, data| data[CNTLID] = 0xFE, wrong_id),
        ("SUBNQN empty", |_, data| data[SUBNQN] = 0, no_subsystem),
        ("SUBNQN without an end", |_, data| data[SUBNQN..][..256].fill(b'n'), no_subsystem),
        ("SUBNQN without nqn.", |_, data| data[SUBNQN] = b'N', no_subsystem),
        ("SUBNQN with a control character", |_, data| data[SUBNQN + 8] = 7, no_subsystem),
        ("SUBNQN no UTF-8", |_, data| data[SUBNQN + 8] = 0xFF, no_subsystem),
        ("SUBNQN of nobody", |_, data| data[SUBNQN + 8] = b'!', no_subsystem),
        ("HOSTNQN empty", |_, data| data[HOSTNQN] = 0, no_name),
        ("HOSTNQN without an end", |_, data| data[HOSTNQN..][..256].fill(b'n'), no_name),
        ("HOSTNQN without nqn.", |_, data| data[HOSTNQN] = b'N', no_name),
        ("HOSTNQN no UTF-8", |_, data| data[HOSTNQN + 8] = 0xFF, no_name),
    ];
    for (what, spoil, expected) in cases {
        assert_eq!(connect(&mut world, &Connect::new(0, 32), *spoil), *expected, "{what}");
    }
    let discovery = Connect { nqn: DISCOVERY_NQN.into(), ..Connect::new(0, 32) };
    assert_eq!(connect(&mut world, &discovery, |_, data| data[CNTLID] = 0xFE), wrong_id);
    // What is reserved, or means nothing to this target, is not looked at.
    let harmless: &[(&str, Spoil)] = &[
        ("nothing", |_, _| {}),
        ("reserved bits of CATTR", |entry, _| entry[46] = 0xF8),
        ("priority in CATTR", |entry, _| entry[46] = 3),
        ("the longest KATO", |entry, _| entry[48..52].fill(0xFF)),
        ("reserved bytes", |entry, _| entry[52..64].fill(0xFF)),
        ("reserved bytes of the data", |_, data| {
            data[18..256].fill(0xFF);
            data[768..].fill(0xFF);
        }),
        ("bytes behind the names", |_, data| {
            data[SUBNQN + 250..][..6].fill(0xFF);
            data[HOSTNQN + 250..][..6].fill(0xFF);
        }),
    ];
    for (what, spoil) in harmless {
        assert_eq!(connect(&mut world, &Connect::new(0, 32), *spoil).0, Status::SUCCESS, "{what}");
    }
    world.shut_down();
}

fn host_id(world: &mut World, admin: Conn) -> Vec<u8> {
    // Get Features: Host Identifier, extended.
    let get = command(0x0A, 1, 0, keyed(0, 16), [0x81, 1, 0, 0]).to_bytes();
    assert_eq!(world.execute(admin, get, &[]).status(), Status::SUCCESS);
    world.host_read(0, 0, 16)
}

/// Whoever has the identifier of another host is let in, as SPDK and Linux let it in: they are one host to reservations, which the log says. Its
/// controllers are its own all the same.
#[test]
fn two_hosts_with_one_identifier_are_told_apart_by_their_names() {
    let mut world = world();
    let (admin, id) = world.attach(0);
    let namesake = Connect { host_nqn: OTHER_HOST_NQN.into(), ..Connect::new(0, 32) };
    let other = world.open(0, 0, 32);
    let response = world.execute_connect(other, &namesake);
    assert_eq!(response.status(), Status::SUCCESS);
    world.enable(other);
    assert_eq!([host_id(&mut world, admin), host_id(&mut world, other)], [HOST_ID.to_vec(), HOST_ID.to_vec()]);
    // It came with Connect, and stays [NVMe Base 2.0, 5.27.1.25].
    let set = command(0x09, 1, 0, keyed(0, 16), [0x81, 1, 0, 0]).to_bytes();
    assert_eq!(world.execute(admin, set, &[]).status(), Status::COMMAND_SEQUENCE_ERROR);
    let queue = world.open(0, 1, 16);
    let theirs = Connect { qid: 1, depth: 16, controller_id: id, in_capsule: true, ..namesake };
    let refused = world.execute_connect(queue, &theirs);
    let expected = (Status::CONNECT_INVALID_HOST, ConnectRefusal::HOST_NQN.to_result());
    assert_eq!((refused.status(), refused.result.get()), expected);
    // And one name with two identifiers is two hosts.
    let queue = world.open(0, 1, 16);
    let twin = Connect { controller_id: id, host_id: [9; 16], ..Connect::new(1, 16) };
    assert_eq!(world.execute_connect(queue, &twin).status(), Status::CONNECT_INVALID_HOST);
    let own = Connect { controller_id: id, nqn: NQN.into(), ..Connect::new(1, 16) };
    assert_eq!(world.execute_connect(queue, &own).status(), Status::SUCCESS);
    world.shut_down();
}
