//! Static controllers: asked for by their ids, found again, and nobody else's [NVMe Base 2.0, 3.1.2; NVMe over Fabrics 1.1, 3.3].

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::Arc;

use harness::device::TestDevice;
use harness::{
    Conn, Connect, HOST_ID, HOST_NQN, NQN, OTHER_HOST_NQN, Options, World, command, keyed, listener, namespace,
};
use nvmf_core::DisconnectReason;
use nvmf_core::spec::{ControllerModel, SubsystemSpec};
use nvmf_core::status::Status;
use nvmf_core::wire::{ANY_STATIC_CONTROLLER_ID, ConnectRefusal, DISCOVERY_NQN};

const STATIC_NQN: &str = "nqn.2024-01.example:static";
const DYNAMIC: u16 = 0xFFFF;
const ANY: u16 = ANY_STATIC_CONTROLLER_ID;

fn spec(ids: std::ops::RangeInclusive<u16>) -> SubsystemSpec {
    SubsystemSpec {
        allow_any_host: true,
        listeners: vec![listener()],
        controller_ids: ids,
        controller_model: ControllerModel::Static,
        ..SubsystemSpec::new(STATIC_NQN, "SERIAL2")
    }
}

/// A target whose controllers 1 to 3 are static.
fn world() -> World {
    let mut world = World::new(Options::new(vec![namespace(1, Arc::new(TestDevice::new("disk", 1000)))]));
    let change = world.change(|target| target.create_subsystem(spec(1..=3))).unwrap();
    world.finish(change);
    world
}

/// A new admin queue of a host, and what it was answered with: status, and CNTLID where that is one.
fn admin(world: &mut World, (nqn, host_nqn): (&str, &str), controller_id: u16) -> (Conn, Status, u64) {
    let conn = world.open(0, 0, 32);
    let host_id = if host_nqn == HOST_NQN { HOST_ID } else { [8; 16] };
    let connect = Connect { nqn: nqn.into(), host_nqn: host_nqn.into(), host_id, controller_id, ..Connect::new(0, 32) };
    let response = world.execute_connect(conn, &connect);
    (conn, response.status(), response.result.get())
}

fn leave(world: &mut World, conn: Conn) {
    world.disconnect(conn, DisconnectReason::Host);
    world.run(200);
    assert!(world.is_closed(conn));
}

#[test]
fn a_host_asks_for_one_by_its_id_or_for_any() {
    let mut world = world();
    let ours = (STATIC_NQN, HOST_NQN);
    let no_id = (Status::CONNECT_INVALID_PARAMETERS, ConnectRefusal::CONTROLLER_ID.to_result());
    for wrong in [DYNAMIC, 0, 4, 65_519, 0xFFF0, 0xFFFD] {
        let (_, status, result) = admin(&mut world, ours, wrong);
        assert_eq!((status, result), no_id, "{wrong:#x}");
    }
    // Nor has a dynamic subsystem one that can be asked for, nor the discovery service.
    for (nqn, wrong) in [(NQN, 1), (NQN, ANY), (DISCOVERY_NQN, ANY)] {
        let (_, status, result) = admin(&mut world, (nqn, HOST_NQN), wrong);
        assert_eq!((status, result), no_id, "{nqn} {wrong:#x}");
    }
    let (_, status, id) = admin(&mut world, ours, 2);
    assert_eq!((status, id), (Status::SUCCESS, 2));
    // It has a host, be it the same one.
    for host in [HOST_NQN, OTHER_HOST_NQN] {
        let (_, status, _) = admin(&mut world, (STATIC_NQN, host), 2);
        assert_eq!(status, Status::CONNECT_CONTROLLER_BUSY);
    }
    // Who may not connect at all is told that, whatever it asks for.
    let change = world.change(|target| target.allow_any_host(STATIC_NQN, false)).unwrap();
    world.finish(change);
    assert_eq!(admin(&mut world, ours, 1).1, Status::CONNECT_INVALID_HOST);
    let change = world.change(|target| target.allow_any_host(STATIC_NQN, true)).unwrap();
    world.finish(change);
    let rest: Vec<_> = (0..3).map(|_| admin(&mut world, ours, ANY)).map(|(_, status, id)| (status, id)).collect();
    let busy = (Status::CONNECT_CONTROLLER_BUSY, 0);
    assert_eq!(rest, [(Status::SUCCESS, 1), (Status::SUCCESS, 3), busy]);
    world.shut_down();
}

#[test]
fn a_host_finds_its_controller_again() {
    let mut world = world();
    let (ours, theirs) = ((STATIC_NQN, HOST_NQN), (STATIC_NQN, OTHER_HOST_NQN));
    let (first, _, id) = admin(&mut world, ours, ANY);
    assert_eq!(id, 1);
    let (other, _, id) = admin(&mut world, theirs, ANY);
    assert_eq!(id, 2);
    world.enable(first);
    // Its I/O queues are of that controller.
    let io = world.open(1, 1, 16);
    let connect = Connect { nqn: STATIC_NQN.into(), controller_id: 1, ..Connect::new(1, 16) };
    assert_eq!(world.execute_connect(io, &connect).status(), Status::SUCCESS);
    leave(&mut world, first);
    leave(&mut world, other);
    // The other host comes first, and finds its own.
    let (other, _, id) = admin(&mut world, theirs, ANY);
    assert_eq!(id, 2);
    let (_first, _, id) = admin(&mut world, ours, ANY);
    assert_eq!(id, 1);
    // A second one of the same host is one that nobody had; the next host finds what has gone.
    assert_eq!(admin(&mut world, ours, ANY).2, 3);
    leave(&mut world, other);
    let (_, status, id) = admin(&mut world, (STATIC_NQN, "nqn.2024-01.example:third"), ANY);
    assert_eq!((status, id), (Status::SUCCESS, 2));
    world.shut_down();
}

#[test]
fn dynamic_controllers_get_none_of_their_ids() {
    let mut world = world();
    let (_, id) = world.attach(0);
    assert_eq!(id, 4, "1 to 3 are kept");
    assert_eq!(admin(&mut world, (DISCOVERY_NQN, HOST_NQN), DYNAMIC).2, 5);
    assert_eq!(admin(&mut world, (STATIC_NQN, HOST_NQN), ANY).2, 1);
    world.shut_down();
}

#[test]
fn hosts_are_told_of_the_model() {
    let mut world = world();
    let (conn, _, _) = admin(&mut world, (STATIC_NQN, HOST_NQN), 3);
    world.enable(conn);
    let identify = |world: &mut World, conn| {
        let page = command(0x06, 7, 0, keyed(0, 4096), [1, 0, 0, 0]).to_bytes();
        assert_eq!(world.execute(conn, page, &[]).status(), Status::SUCCESS);
        world.host_read(0, 0, 4096)
    };
    let page = identify(&mut world, conn);
    assert_eq!((page[1802] & 1, u16::from_le_bytes([page[78], page[79]])), (1, 3), "FCATT, CNTLID");
    assert_eq!(page[520] >> 5 & 1, 0, "ONCS: no reservations");
    let (dynamic, _) = world.attach(0);
    let page = identify(&mut world, dynamic);
    assert_eq!((page[1802] & 1, page[520] >> 5 & 1), (0, 1));
    // The discovery log: SUBTYPE, CNTLID and the end of SUBNQN of each entry.
    let (discovery, _, _) = admin(&mut world, (DISCOVERY_NQN, HOST_NQN), DYNAMIC);
    world.enable(discovery);
    let log = command(0x02, 8, 0, keyed(0, 4096), [0x70 | 1023 << 16, 0, 0, 0]).to_bytes();
    assert_eq!(world.execute(discovery, log, &[]).status(), Status::SUCCESS);
    let log = world.host_read(0, 0, 4096);
    assert_eq!(log[8], 3, "two subsystems for this host, and the service itself");
    let entries: Vec<_> = log[1024..]
        .chunks(1024)
        .map(|entry| {
            let name = String::from_utf8(entry[256..512].to_vec()).unwrap();
            (name.trim_end_matches('\0').to_owned(), u16::from_le_bytes([entry[6], entry[7]]))
        })
        .collect();
    let expected = [(NQN, DYNAMIC), (STATIC_NQN, ANY), (DISCOVERY_NQN, DYNAMIC)];
    assert_eq!(entries, expected.map(|(name, id)| (name.to_owned(), id)));
    world.shut_down();
}

#[test]
fn their_ids_are_few_and_nobody_elses() {
    let mut world = world();
    let refused = |world: &mut World, spec: SubsystemSpec| {
        world.change(move |target| target.create_subsystem(spec)).unwrap_err().to_string()
    };
    let other = |ids| SubsystemSpec { nqn: "nqn.2024-01.example:other".into(), ..spec(ids) };
    let error = refused(&mut world, other(10..=1034));
    assert!(error.contains("10 to 1034: at most 1024 ids"), "{error}");
    let error = refused(&mut world, other(3..=4));
    assert!(error.contains("3 to 4") && error.contains(STATIC_NQN), "{error}");
    let change = world.change(move |target| target.create_subsystem(other(4..=1027))).unwrap();
    world.finish(change);
    // A subsystem that is deleted leaves its ids.
    let change = world.change(|target| target.delete_subsystem(STATIC_NQN)).unwrap();
    world.finish(change);
    let (_, id) = world.attach(0);
    assert_eq!(id, 1);
    world.shut_down();
}
