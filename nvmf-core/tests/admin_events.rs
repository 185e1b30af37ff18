//! Asynchronous events, raised by what changes while the target runs: who is told, once, and what the log then says.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::net::SocketAddr;
use std::sync::Arc;

use harness::device::TestDevice;
use harness::{CLOSED_NQN, Conn, Connect, HOST_NQN, NQN, OTHER_HOST_NQN, Options, World, command, keyed, namespace};
use nvmf_core::spec::{AnaState, NamespaceSpec, SubsystemSpec};
use nvmf_core::status::Status;
use nvmf_core::wire::identify::IdentifyController;
use nvmf_core::wire::{AsyncEvent, DISCOVERY_NQN, DiscoveryHeader, SglDescriptor};
use zerocopy::FromBytes;

const RETAIN: u32 = 1 << 15;

fn world() -> World {
    World::new(Options::new(vec![namespace(1, Arc::new(TestDevice::new("disk", 1000)))]))
}

fn other_address() -> SocketAddr {
    "127.0.0.1:4421".parse().unwrap()
}

fn discovery(world: &mut World, host_nqn: &str) -> Conn {
    let admin = world.open(0, 0, 32);
    let connect = Connect { nqn: DISCOVERY_NQN.into(), host_nqn: host_nqn.into(), ..Connect::new(0, 32) };
    assert_eq!(world.execute_connect(admin, &connect).status(), Status::SUCCESS);
    world.enable(admin);
    admin
}

/// Asks to be told.
fn listen(world: &mut World, admin: Conn, id: u16) {
    world.send(admin, command(0x0C, id, 0, SglDescriptor::NO_DATA, [0; 4]).to_bytes(), &[]);
    world.run(60);
}

/// The events that have been told on this connection, with the requests that told them.
fn told(world: &World, admin: Conn) -> Vec<(u16, AsyncEvent)> {
    let answers = world.responses(admin);
    let events = answers.iter().filter(|answer| (0x700..0x800).contains(&answer.command_id.get()));
    events.map(|answer| (answer.command_id.get(), AsyncEvent::from_result(answer.result.get()))).collect()
}

fn log(world: &mut World, admin: Conn, page: u32, len: u32) -> Vec<u8> {
    let entry = command(0x02, 1, 0, keyed(0, len), [page | (len / 4 - 1) << 16, 0, 0, 0]);
    assert_eq!(world.execute(admin, entry.to_bytes(), &[]).status(), Status::SUCCESS, "{page:#x}");
    world.host_read(0, 0, len as usize)
}

/// GENCTR, and how many entries there are beside the discovery service's own.
fn generation(world: &mut World, admin: Conn, flags: u32) -> (u64, u64) {
    let bytes = log(world, admin, 0x70 | flags, 1024);
    let header = DiscoveryHeader::ref_from_bytes(&bytes).unwrap();
    (header.generation.get(), header.entry_count.get() - 1)
}

#[test]
fn a_discovery_log_that_changes_is_told_once_until_it_is_read() {
    let mut world = world();
    let admin = discovery(&mut world, HOST_NQN);
    assert_eq!(generation(&mut world, admin, 0), (1, 1));
    // What happens before a request is held is kept.
    let change = world.change(|target| target.add_listener(NQN, other_address())).unwrap();
    world.finish(change);
    listen(&mut world, admin, 0x700);
    assert_eq!(told(&world, admin), [(0x700, AsyncEvent::DISCOVERY_CHANGED)]);
    listen(&mut world, admin, 0x701);
    let change = world.change(|target| target.remove_listener(NQN, other_address())).unwrap();
    world.finish(change);
    world.run(60);
    assert_eq!(told(&world, admin).len(), 1, "masked until the log is read");
    assert_eq!(generation(&mut world, admin, RETAIN), (3, 1));
    let change = world.change(|target| target.add_listener(NQN, other_address())).unwrap();
    world.finish(change);
    world.run(60);
    assert_eq!(told(&world, admin).len(), 1, "read, and retained");
    assert_eq!(generation(&mut world, admin, 0), (4, 2));
    let change = world.change(|target| target.remove_listener(NQN, other_address())).unwrap();
    world.finish(change);
    world.run(60);
    assert_eq!(told(&world, admin)[1], (0x701, AsyncEvent::DISCOVERY_CHANGED));
    world.shut_down();
}

#[test]
fn hosts_are_told_of_what_they_see_alone() {
    let mut world = world();
    let (ours, others) = (discovery(&mut world, HOST_NQN), discovery(&mut world, OTHER_HOST_NQN));
    listen(&mut world, ours, 0x700);
    listen(&mut world, others, 0x700);
    assert_eq!((generation(&mut world, ours, 0), generation(&mut world, others, 0)), ((1, 1), (1, 2)));
    // A subsystem that only the other host may use gets another address.
    let change = world.change(|target| target.add_listener(CLOSED_NQN, other_address())).unwrap();
    world.finish(change);
    world.run(60);
    assert_eq!((told(&world, ours).len(), told(&world, others).len()), (0, 1));
    assert_eq!((generation(&mut world, ours, 0), generation(&mut world, others, 0)), ((1, 1), (2, 3)));
    // Now this host may use it too: nothing changes for the other.
    listen(&mut world, others, 0x701);
    let change = world.change(|target| target.add_host(CLOSED_NQN, HOST_NQN)).unwrap();
    world.finish(change);
    world.run(60);
    assert_eq!((told(&world, ours).len(), told(&world, others).len()), (1, 1));
    assert_eq!((generation(&mut world, ours, 0), generation(&mut world, others, 0)), ((2, 3), (2, 3)));
    // What is no part of the log is told to nobody.
    listen(&mut world, ours, 0x701);
    let change = world.change(|target| target.pause_subsystem(NQN)).unwrap();
    world.finish(change);
    world.run(60);
    assert_eq!((told(&world, ours).len(), told(&world, others).len()), (1, 1));
    // A host that is removed sees the log go back, and the count go on.
    let change = world.change(|target| target.remove_host(CLOSED_NQN, HOST_NQN)).unwrap();
    world.finish(change);
    world.run(60);
    assert_eq!((told(&world, ours).len(), generation(&mut world, ours, 0)), (2, (3, 1)));
    world.shut_down();
}

#[test]
fn an_event_that_is_switched_off_is_not_told() {
    let mut world = world();
    let admin = discovery(&mut world, HOST_NQN);
    let set = command(0x09, 1, 0, SglDescriptor::NO_DATA, [0x0B, 0, 0, 0]).to_bytes();
    assert_eq!(world.execute(admin, set, &[]).status(), Status::SUCCESS);
    listen(&mut world, admin, 0x700);
    let change = world.change(|target| target.add_listener(NQN, other_address())).unwrap();
    world.finish(change);
    world.run(60);
    assert_eq!(told(&world, admin), []);
    // Another host's I/O controller has nothing to do with the discovery log.
    let (io_controller, _) = world.attach(0);
    listen(&mut world, io_controller, 0x700);
    let change = world.change(|target| target.remove_listener(NQN, other_address())).unwrap();
    world.finish(change);
    world.run(60);
    assert_eq!(told(&world, io_controller), []);
    world.shut_down();
}

#[test]
fn a_namespace_that_goes_is_told_and_listed() {
    let mut world = world();
    let (admin, _) = world.attach(0);
    listen(&mut world, admin, 0x700);
    let change = world.change(|target| target.remove_namespace(NQN, 1)).unwrap();
    world.finish(change);
    world.run(60);
    assert_eq!(told(&world, admin), [(0x700, AsyncEvent::NAMESPACE_CHANGED)]);
    assert_eq!(log(&mut world, admin, 0x04 | RETAIN, 8), [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(log(&mut world, admin, 0x04, 8), [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(log(&mut world, admin, 0x04, 8), [0; 8], "read");
    world.shut_down();
}

#[test]
fn the_ana_log_tells_groups_and_states_at_the_address_that_the_host_came_by() {
    const ASYMMETRIC: &str = "nqn.2024-01.example:asymmetric";
    let disk: Arc<dyn bdev::Device> = Arc::new(TestDevice::new("disk", 1000));
    let mut world = World::new(Options::new(vec![namespace(1, Arc::clone(&disk))]));
    let change = world.change(|target| target.delete_subsystem(NQN)).unwrap();
    world.finish(change);
    let spec = SubsystemSpec {
        allow_any_host: true,
        listeners: vec![harness::listener(), other_address()],
        namespaces: vec![NamespaceSpec { ana_group: Some(2), ..NamespaceSpec::new(1, disk) }],
        reports_ana: true,
        ..SubsystemSpec::new(ASYMMETRIC, "SERIAL3")
    };
    let change = world.change(move |target| target.create_subsystem(spec)).unwrap();
    world.finish(change);
    let admin = world.open_at(other_address(), 0, 0, 32);
    let connect = Connect { nqn: ASYMMETRIC.into(), ..Connect::new(0, 32) };
    assert_eq!(world.execute_connect(admin, &connect).status(), Status::SUCCESS);
    world.enable(admin);
    // One group, 2, of one namespace, 1, optimized. Without namespaces where the host asks for groups only.
    let page = log(&mut world, admin, 0x0C, 56);
    assert_eq!((page[8], page[16], page[20], page[32], page[48]), (1, 2, 1, 1, 1));
    let groups_only = log(&mut world, admin, 0x0C | 1 << 8, 56);
    assert_eq!((groups_only[8], groups_only[16], groups_only[20], groups_only[48]), (1, 2, 0, 0));
    assert_eq!(page[52..], [0; 4], "nothing behind it");
    let identify = command(0x06, 1, 0, keyed(0, 4096), [1, 0, 0, 0]).to_bytes();
    assert_eq!(world.execute(admin, identify, &[]).status(), Status::SUCCESS);
    let identity = IdentifyController::read_from_bytes(&world.host_read(0, 0, 4096)).unwrap();
    assert_eq!((identity.cmic, identity.anacap, identity.oaes.get()), (0b1011, 0x1F, 1 << 11 | 1 << 8));
    assert!(identity.anatt > 0 && identity.nanagrpid.get() > 0 && identity.anagrpmax >= identity.nanagrpid);
    // Somebody at this address is told, once.
    listen(&mut world, admin, 0x700);
    let change =
        world.change(|target| target.set_ana_state(ASYMMETRIC, other_address(), None, AnaState::NonOptimized)).unwrap();
    world.finish(change);
    world.run(60);
    assert_eq!(told(&world, admin), [(0x700, AsyncEvent::ANA_CHANGED)]);
    let changed = log(&mut world, admin, 0x0C, 56);
    assert_eq!((changed[32], changed[..8] == page[..8]), (2, false), "not optimized, and the page has changed");
    listen(&mut world, admin, 0x701);
    let change = world
        .change(|target| target.set_ana_state(ASYMMETRIC, harness::listener(), None, AnaState::Inaccessible))
        .unwrap();
    world.finish(change);
    world.run(60);
    assert_eq!(told(&world, admin).len(), 1, "of another address");
    world.shut_down();
}
