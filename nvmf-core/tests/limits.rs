//! What may be had of everything, reached and passed by one: the last is served, the next is refused by name, and nobody else is disturbed.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::net::SocketAddr;
use std::sync::Arc;

use harness::device::TestDevice;
use harness::{
    CLOSED_NQN, Connect, NQN, OP_READ, Options, World, command, io, keyed, listener, namespace, target_spec,
};
use nvmf_core::limits::{
    CHANGE_COUNT_MAX, DEVICE_COUNT_MAX, HOST_COUNT_MAX, LISTENER_COUNT_MAX, NSID_MAX, SUBSYSTEM_COUNT_MAX,
};
use nvmf_core::spec::{ControllerSpec, SubsystemSpec};
use nvmf_core::status::Status;
use nvmf_core::wire::{DISCOVERY_NQN, DiscoveryEntry, DiscoveryHeader};
use nvmf_core::{ChangeError, ChangeId, DisconnectReason, Target};
use zerocopy::FromBytes;

type Order = fn(&mut Target, usize) -> Result<ChangeId, ChangeError>;

fn disk(number: usize) -> Arc<dyn bdev::Device> {
    Arc::new(TestDevice::new(&format!("disk{number}"), 8))
}

fn address(number: usize) -> SocketAddr {
    format!("127.0.0.1:{}", 5000 + number).parse().unwrap()
}

/// Adds until it is refused, each when the one before is done; the number that were taken, and the refusal.
fn fill(world: &mut World, order: Order) -> (usize, String) {
    for number in 0.. {
        match world.change(move |target| order(target, number)) {
            Ok(change) => world.finish(change),
            Err(refusal) => return (number, refusal.to_string()),
        }
    }
    unreachable!("there is a limit")
}

/// One host reads as before.
fn works(world: &mut World) {
    let (admin, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    assert_eq!(world.execute(queue, io(OP_READ, 9, 0, 1, keyed(0, 512)), &[]).status(), Status::SUCCESS);
    for conn in [queue, admin] {
        world.disconnect(conn, DisconnectReason::Host);
    }
}

#[test]
fn addresses_of_a_subsystem() {
    let mut world = World::new(Options::new(vec![namespace(1, disk(0))]));
    let (count, refusal) = fill(&mut world, |target, number| target.add_listener(NQN, address(number)));
    assert_eq!(count, LISTENER_COUNT_MAX - 1, "there was one");
    assert_eq!(refusal, format!("{NQN}: listeners (their number) is 65: 0 to 64"));
    // All of them are in the log, and behind them the discovery service itself.
    let (admin, _) = world.connect_admin(0, DISCOVERY_NQN, 0);
    world.enable(admin);
    let len = (1 + LISTENER_COUNT_MAX + 1) * 1024;
    let dwords = u32::try_from(len / 4 - 1).unwrap();
    let get = command(0x02, 3, 0, keyed(0, u32::try_from(len).unwrap()), [0x70 | dwords << 16, dwords >> 16, 0, 0]);
    assert_eq!(world.execute(admin, get.to_bytes(), &[]).status(), Status::SUCCESS);
    let log = world.host_read(0, 0, len);
    let header = DiscoveryHeader::ref_from_bytes(&log[..1024]).unwrap();
    assert_eq!(header.entry_count.get(), LISTENER_COUNT_MAX as u64 + 1);
    let last = DiscoveryEntry::ref_from_bytes(&log[len - 2048..len - 1024]).unwrap();
    assert_eq!(last.port_id.get(), u16::try_from(LISTENER_COUNT_MAX).unwrap());
    world.disconnect(admin, DisconnectReason::Host);
    works(&mut world);
    world.shut_down();
}

#[test]
fn hosts_of_a_subsystem() {
    let mut world = World::new(Options::new(vec![namespace(1, disk(0))]));
    let order: Order = |target, number| target.add_host(CLOSED_NQN, &format!("nqn.2024-01.example:host-{number}"));
    let (count, refusal) = fill(&mut world, order);
    assert_eq!(count, HOST_COUNT_MAX - 1, "there was one");
    assert_eq!(refusal, format!("{CLOSED_NQN}: hosts (their number) is 1025: 0 to 1024"));
    // The last of them comes in, one more does not.
    for (number, status) in [(count - 1, Status::SUCCESS), (count, Status::CONNECT_INVALID_HOST)] {
        let host_nqn = format!("nqn.2024-01.example:host-{number}");
        let conn = world.open(0, 0, 32);
        let connect = Connect { nqn: CLOSED_NQN.into(), host_nqn, ..Connect::new(0, 32) };
        assert_eq!(world.execute_connect(conn, &connect).status(), status);
        world.disconnect(conn, DisconnectReason::Host);
    }
    world.shut_down();
}

#[test]
fn subsystems() {
    let mut world = World::new(Options::new(vec![namespace(1, disk(0))]));
    let (count, refusal) = fill(&mut world, |target, number| {
        let spec = SubsystemSpec {
            allow_any_host: true,
            listeners: vec![listener()],
            ..SubsystemSpec::new(&format!("nqn.2024-01.example:s{number}"), "SERIAL")
        };
        target.create_subsystem(spec)
    });
    assert_eq!(count, SUBSYSTEM_COUNT_MAX - 2, "there were two");
    assert_eq!(refusal, "target: subsystems (their number) is 257: 0 to 256");
    let last = format!("nqn.2024-01.example:s{}", count - 1);
    let (admin, _) = world.connect_admin(0, &last, 0);
    world.disconnect(admin, DisconnectReason::Host);
    // One that goes makes room.
    let deletion = world.change(move |target| target.delete_subsystem(&last)).unwrap();
    world.finish(deletion);
    let creation = world.change(|target| target.create_subsystem(SubsystemSpec::new("nqn.x:again", "SERIAL"))).unwrap();
    world.finish(creation);
    works(&mut world);
    world.shut_down();
}

#[test]
fn namespaces_of_a_subsystem() {
    let count = NSID_MAX;
    let namespaces = (1..=count).map(|nsid| namespace(nsid, disk(nsid as usize))).collect();
    let mut world = World::new(Options::new(namespaces));
    let (admin, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    for nsid in [1, count / 2, count] {
        let read = command(OP_READ, 7, nsid, keyed(0, 512), [0; 4]).to_bytes();
        assert_eq!(world.execute(queue, read, &[]).status(), Status::SUCCESS, "namespace {nsid}");
    }
    let beyond = command(OP_READ, 7, count + 1, keyed(0, 512), [0; 4]).to_bytes();
    assert_eq!(world.execute(queue, beyond, &[]).status(), Status::INVALID_NAMESPACE);
    // The active list has room for exactly so many [NVMe Base 2.0, 5.17.2.2]; the next page is empty.
    for (above, expected) in [(0, count), (count - 1, 1), (count, 0)] {
        let list = harness::admin::identify(&mut world, admin, 2, above, 0).unwrap();
        let listed = list.chunks_exact(4).filter(|nsid| *nsid != [0; 4]).count();
        assert_eq!(listed, expected as usize);
    }
    let none = world.change(|target| target.free_nsid(NQN).map(|_| unreachable!())).unwrap_err();
    assert!(matches!(none, ChangeError::TooManyNamespaces { limit: NSID_MAX, .. }), "{none}");
    world.shut_down();
}

#[test]
fn devices() {
    let made = |target: &mut Target, number: usize| {
        let change = target.begin_device(&format!("made{number}"), None)?;
        let device = disk(10_000 + number);
        let channels = (0..2).map(|_| device.open_channel().unwrap()).collect();
        target.device_made(change, nvmf_core::target::MadeDevice { device, channels }, |_, _| false);
        Ok(change)
    };
    let mut world = World::new(Options::new(vec![namespace(1, disk(0))]));
    let (count, refusal) = fill(&mut world, made);
    assert_eq!(count, DEVICE_COUNT_MAX - 1, "there was one");
    assert_eq!(refusal, "there are 1024 devices, as many as there may be: delete one first");
    works(&mut world);
    world.shut_down();
}

#[test]
fn devices_that_are_there_from_the_start() {
    let try_count = |count: usize| {
        let spec = nvmf_core::spec::TargetSpec {
            devices: (0..count).map(disk).collect(),
            // This one is among them.
            ..target_spec(vec![namespace(1, disk(0))], ControllerSpec::default())
        };
        let sim = reactor::Simulation::<u8>::new(1, 2);
        Target::new(sim.domain(), 1, spec).map(drop).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(try_count(DEVICE_COUNT_MAX), Ok(()));
    assert_eq!(try_count(DEVICE_COUNT_MAX + 1), Err("target: devices (their number) is 1025: 0 to 1024".into()));
}

#[test]
fn changes_under_way() {
    let mut world = World::new(Options::new(vec![namespace(1, disk(0))]));
    let mut taken = Vec::new();
    let refusal = loop {
        // Nobody makes the device, so it does not end.
        let number = taken.len();
        match world.change(move |target| target.begin_device(&format!("made{number}"), None)) {
            Ok(change) => taken.push(change),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(taken.len(), CHANGE_COUNT_MAX);
    assert_eq!(refusal, ChangeError::TooMany { limit: CHANGE_COUNT_MAX });
    // Each that ends makes room for one.
    for (number, change) in taken.into_iter().enumerate() {
        let refused = world.change(move |target| {
            target.device_failed(change, "it cannot be made".into());
            target.delete_subsystem("nqn.x:none")
        });
        assert!(refused.is_err(), "there is no such subsystem, and perhaps no room for a change");
        // It ends in the next turn.
        world.run(10);
        let more = world.change(move |target| target.add_host(CLOSED_NQN, &format!("nqn.x:{number}")));
        world.finish(more.unwrap());
    }
    works(&mut world);
    world.shut_down();
}
