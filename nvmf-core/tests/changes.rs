//! Subsystems, addresses and hosts that come and go while qpairs are in every stage: who ends, who stays, when it is done, what is left.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::device::TestDevice;
use harness::{
    CLOSED_NQN, Conn, Connect, HOST_NQN, NQN, OP_READ, OP_WRITE, OTHER_HOST_NQN, Options, World, command, io, keyed,
    listener, namespace, property_set,
};
use nvmf_core::spec::SubsystemSpec;
use nvmf_core::status::Status;
use nvmf_core::wire::{ConnectRefusal, DISCOVERY_NQN, DiscoveryEntry, DiscoveryHeader, trim_text};
use nvmf_core::{ChangeError, ChangeId, DisconnectReason, Target};
use zerocopy::FromBytes;

fn second_listener() -> SocketAddr {
    "127.0.0.1:4421".parse().unwrap()
}

fn world(seed: u64) -> (World, Arc<TestDevice>) {
    let disk = Arc::new(TestDevice::new("disk", 1024));
    let mut options = Options::new(vec![namespace(1, Arc::clone(&disk) as Arc<dyn bdev::Device>)]);
    options.seed = seed;
    (World::new(options), disk)
}

fn fresh(nqn: &str, device: Option<Arc<TestDevice>>) -> SubsystemSpec {
    SubsystemSpec {
        allow_any_host: true,
        listeners: vec![listener()],
        namespaces: device.into_iter().map(|device| namespace(1, device)).collect(),
        ..SubsystemSpec::new(nqn, "SERIAL2")
    }
}

fn delete(target: &mut Target) -> Result<ChangeId, ChangeError> {
    target.delete_subsystem(NQN)
}

fn remove(target: &mut Target) -> Result<ChangeId, ChangeError> {
    target.remove_listener(NQN, listener())
}

fn invalid(field: ConnectRefusal) -> (Status, u64) {
    (Status::CONNECT_INVALID_PARAMETERS, field.to_result())
}

fn read(world: &mut World, queue: Conn) -> Status {
    world.execute(queue, io(OP_READ, 9, 0, 1, keyed(0, 512)), &[]).status()
}

/// The answer to a Connect of a new admin queue.
fn admin_connect(world: &mut World, cpu: u16, listener: SocketAddr, connect: &Connect) -> (Status, u64) {
    let conn = world.open_at(listener, cpu, 0, 32);
    let response = world.execute_connect(conn, connect);
    if !response.status().is_success() {
        world.disconnect(conn, DisconnectReason::Host);
    }
    (response.status(), response.result.get())
}

/// Where the discovery log says that subsystems are: names, ports, port ids.
fn discovery(world: &mut World) -> Vec<(String, String, u16)> {
    let (admin, _) = world.connect_admin(0, DISCOVERY_NQN, 0);
    world.enable(admin);
    let get = command(0x02, 3, 0, keyed(0, 16384), [0x70 | 4095 << 16, 0, 0, 0]).to_bytes();
    assert_eq!(world.execute(admin, get, &[]).status(), Status::SUCCESS);
    let log = world.host_read(0, 0, 16384);
    world.disconnect(admin, DisconnectReason::Host);
    let count = DiscoveryHeader::ref_from_bytes(&log[..1024]).unwrap().entry_count.get() as usize;
    let entry = |index: usize| DiscoveryEntry::ref_from_bytes(&log[(index + 1) * 1024..][..1024]).unwrap();
    let tell =
        |entry: &DiscoveryEntry| (trim_text(&entry.subsystem_nqn), trim_text(&entry.service), entry.port_id.get());
    // The last is the discovery service itself.
    (0..count - 1).map(|index| tell(entry(index))).collect()
}

fn outstanding_write(world: &mut World, disk: &TestDevice, queue: Conn) {
    disk.state.lock().unwrap().hold = true;
    world.send(queue, io(OP_WRITE, 5, 0, 1, keyed(0, 512)), &[]);
    world.run(60);
    assert_eq!(world.counters(queue.cpu).device_leases.value(), 1);
}

#[test]
fn a_deletion_waits_for_the_slowest_io_and_nothing_else_does() {
    for seed in 0..50 {
        let (mut world, disk) = world(seed);
        let (admin, id) = world.attach(0);
        let queue = world.connect_io(1, id, 1);
        outstanding_write(&mut world, &disk, queue);
        let deletion = world.change(delete).unwrap();
        // From this moment nobody comes in: as if there were no such subsystem.
        assert_eq!(
            admin_connect(&mut world, 0, listener(), &Connect::new(0, 32)),
            invalid(ConnectRefusal::SUBSYSTEM_NQN)
        );
        world.pass(5_000);
        for conn in [admin, queue] {
            assert_eq!(world.ended(conn), Some(DisconnectReason::SubsystemDeleted));
        }
        assert!(world.is_closed(admin) && !world.is_closed(queue) && !world.is_done(deletion), "seed {seed}");
        // Its name is taken until then, and so is its device; everything else goes on.
        let taken = world.change(|target| target.create_subsystem(fresh(NQN, None))).unwrap_err();
        assert_eq!(taken, ChangeError::BeingDeleted { nqn: NQN.into() });
        assert_eq!(world.change(delete).unwrap_err(), ChangeError::BeingDeleted { nqn: NQN.into() });
        let device = Arc::clone(&disk);
        let claimed = world.change(|target| target.create_subsystem(fresh("nqn.x:y", Some(device)))).unwrap_err();
        assert!(matches!(claimed, ChangeError::Spec(_)), "{claimed}");
        let other = Connect { nqn: CLOSED_NQN.into(), host_nqn: OTHER_HOST_NQN.into(), ..Connect::new(0, 32) };
        assert_eq!(admin_connect(&mut world, 1, listener(), &other).0, Status::SUCCESS);
        assert_eq!(discovery(&mut world), [], "nothing for this host");

        disk.state.lock().unwrap().hold = false;
        world.finish(deletion);
        assert!(world.is_closed(queue));
        let gone = world.change(delete).unwrap_err();
        assert_eq!(gone, ChangeError::NoSubsystem { nqn: NQN.into(), known: CLOSED_NQN.into() });

        // The same name is another subsystem, with the same device.
        let device = Arc::clone(&disk);
        let creation = world.change(|target| target.create_subsystem(fresh(NQN, Some(device)))).unwrap();
        world.finish(creation);
        let (_, id) = world.attach(1);
        let queue = world.connect_io(0, id, 1);
        assert_eq!(read(&mut world, queue), Status::SUCCESS);
        world.shut_down();
    }
}

#[test]
fn a_removal_is_answered_whatever_the_device_does() {
    for seed in 0..50 {
        let (mut world, disk) = world(seed);
        let addition = world.change(|target| target.add_listener(NQN, second_listener())).unwrap();
        world.finish(addition);
        assert_eq!(discovery(&mut world), [(NQN.into(), "4420".into(), 1), (NQN.into(), "4421".into(), 2)]);
        let (admin, id) = world.attach(0);
        let queue = world.connect_io(1, id, 1);
        // Nobody knows yet whose this is.
        let nobody = world.open(1, 0, 32);
        world.run(20);
        outstanding_write(&mut world, &disk, queue);
        let removal = world.change(remove).unwrap();
        world.finish(removal);
        for conn in [admin, queue] {
            assert_eq!(world.ended(conn), Some(DisconnectReason::ListenerRemoved), "seed {seed}");
        }
        assert!(!world.is_closed(queue), "its write is still with the device");
        assert!(world.is_open(nobody), "it has never said what it connects to");
        let refused = world.execute_connect(nobody, &Connect::new(0, 32));
        assert_eq!((refused.status(), refused.result.get()), invalid(ConnectRefusal::SUBSYSTEM_NQN));
        // An address keeps its port id while others go.
        assert_eq!(discovery(&mut world), [(NQN.into(), "4421".into(), 2)]);
        assert_eq!(admin_connect(&mut world, 0, second_listener(), &Connect::new(0, 32)).0, Status::SUCCESS);

        // H1: the other address goes too, while the first qpair still drains.
        let second = world.change(|target| target.remove_listener(NQN, second_listener())).unwrap();
        world.finish(second);
        assert_eq!(discovery(&mut world), []);
        disk.state.lock().unwrap().hold = false;
        world.shut_down();
    }
}

#[test]
fn other_subsystems_at_the_address_stay() {
    let (mut world, _) = world(3);
    let other = Connect { nqn: CLOSED_NQN.into(), host_nqn: OTHER_HOST_NQN.into(), ..Connect::new(0, 32) };
    let stays = world.open(0, 0, 32);
    assert_eq!(world.execute_connect(stays, &other).status(), Status::SUCCESS);
    let (discovers, _) = world.connect_admin(1, DISCOVERY_NQN, 0);
    let (goes, _) = world.attach(0);
    let removal = world.change(remove).unwrap();
    world.finish(removal);
    assert_eq!(world.ended(goes), Some(DisconnectReason::ListenerRemoved));
    assert!(world.is_open(stays) && world.is_open(discovers));
    world.shut_down();
}

#[test]
fn a_host_that_is_removed_loses_its_controllers_and_no_other_does() {
    let (mut world, disk) = world(4);
    let nqn = CLOSED_NQN;
    let connect = |host: &str| Connect { nqn: nqn.into(), host_nqn: host.into(), ..Connect::new(0, 32) };
    assert_eq!(admin_connect(&mut world, 0, listener(), &connect(HOST_NQN)).0, Status::CONNECT_INVALID_HOST);
    let addition = world.change(|target| target.add_host(CLOSED_NQN, HOST_NQN)).unwrap();
    world.finish(addition);
    let twice = world.change(|target| target.add_host(CLOSED_NQN, HOST_NQN)).unwrap_err();
    assert!(matches!(twice, ChangeError::HostThere { .. }), "{twice}");
    let (goes, stays) = (world.open(0, 0, 32), world.open(1, 0, 32));
    let first = world.execute_connect(goes, &connect(HOST_NQN));
    assert_eq!(first.status(), Status::SUCCESS);
    assert_eq!(world.execute_connect(stays, &connect(OTHER_HOST_NQN)).status(), Status::SUCCESS);
    assert_eq!(world.execute(goes, property_set(0x14, 0x0046_0001), &[]).status(), Status::SUCCESS);
    let member = world.open(1, 1, 16);
    let join = Connect { controller_id: first.result.get() as u16, qid: 1, depth: 16, ..connect(HOST_NQN) };
    assert_eq!(world.execute_connect(member, &join).status(), Status::SUCCESS);

    let removal = world.change(|target| target.remove_host(CLOSED_NQN, HOST_NQN)).unwrap();
    world.finish(removal);
    world.run(50);
    for conn in [goes, member] {
        assert_eq!(world.ended(conn), Some(DisconnectReason::HostRemoved));
    }
    assert!(world.is_open(stays));
    assert_eq!(admin_connect(&mut world, 0, listener(), &connect(HOST_NQN)).0, Status::CONNECT_INVALID_HOST);
    let gone = world.change(|target| target.remove_host(CLOSED_NQN, HOST_NQN)).unwrap_err();
    let known = OTHER_HOST_NQN.to_owned();
    assert_eq!(gone, ChangeError::NoHost { nqn: nqn.into(), host: HOST_NQN.into(), known });

    let opened = world.change(|target| target.allow_any_host(CLOSED_NQN, true)).unwrap();
    world.finish(opened);
    assert_eq!(admin_connect(&mut world, 0, listener(), &connect(HOST_NQN)).0, Status::SUCCESS);
    let removal = world.change(|target| target.remove_host(CLOSED_NQN, OTHER_HOST_NQN)).unwrap();
    world.finish(removal);
    assert!(world.is_open(stays), "it may go on, as everybody may");
    drop(disk);
    world.shut_down();
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let (mut world, _) = world(5);
    let at = listener();
    type Attempt = fn(&mut Target) -> Result<ChangeId, ChangeError>;
    let cases: [(Attempt, &str); 7] = [
        (
            |target| target.add_listener("nqn.x", listener()),
            "nqn is \"nqn.x\", and should be that of a subsystem: nqn.2024-01.example:disk, nqn.2024-01.example:closed",
        ),
        (
            |target| target.add_listener(NQN, listener()),
            "listen_address is 127.0.0.1:4420, where nqn.2024-01.example:disk is offered already: leave it, or choose another address",
        ),
        (
            |target| target.remove_listener(NQN, second_listener()),
            "listen_address is 127.0.0.1:4421, where nqn.2024-01.example:disk is not offered; it is offered at 127.0.0.1:4420",
        ),
        (
            |target| target.create_subsystem(fresh(NQN, None)),
            "nqn is \"nqn.2024-01.example:disk\", and should be a name that no subsystem has: choose another, or delete that one first",
        ),
        (
            |target| target.create_subsystem(fresh("disk", None)),
            "subsystem disk: nqn is disk: an NVMe qualified name starts with \"nqn.\"",
        ),
        (
            |target| target.create_subsystem(SubsystemSpec { serial_number: String::new(), ..fresh("nqn.x:y", None) }),
            "subsystem nqn.x:y: serial_number is \"\": 1 to 20 printable ASCII characters",
        ),
        (
            |target| target.create_subsystem(fresh("nqn.x:y", Some(Arc::new(TestDevice::new("later", 8))))),
            "subsystem nqn.x:y: device is later: bdev is \"later\", and should be the name of a device: disk",
        ),
    ];
    for (order, text) in cases {
        assert_eq!(world.change(order).unwrap_err().to_string(), text);
    }
    assert_eq!(discovery(&mut world), [(NQN.into(), at.port().to_string(), 1)]);

    // What is under way keeps its own place, and only that.
    world.control.borrow_mut().hold = true;
    let removal = world.change(remove).unwrap();
    world.run(100);
    assert!(!world.is_done(removal), "no answer of a CPU has been read");
    let again = world.change(|target| target.add_listener(NQN, listener())).unwrap_err();
    assert!(matches!(again, ChangeError::BeingRemoved { .. }), "{again}");
    assert!(matches!(world.change(remove).unwrap_err(), ChangeError::NoListener { .. }));
    // Snapshots wait for their readers, who do not turn here; changes wait for a place then, and there may be so many.
    let mut waiting = Vec::new();
    let limit = loop {
        match world.change(|target| target.allow_any_host(NQN, true)) {
            Ok(change) => waiting.push(change),
            Err(error) => break error,
        }
    };
    assert_eq!(limit, ChangeError::TooMany { limit: 64 });
    let done_count = waiting.iter().filter(|change| world.is_done(**change)).count();
    assert!((1..=16).contains(&done_count), "as many as snapshots may wait: {done_count}");
    for change in waiting {
        world.finish(change);
    }
    world.control.borrow_mut().hold = false;
    world.finish(removal);
    world.shut_down();
    world.control.borrow_mut().shutdown = true;
    world.run(20);
    assert_eq!(world.change(delete).unwrap_err(), ChangeError::ShuttingDown);
}

#[test]
fn a_shutdown_lives_until_its_last_snapshot_is_out_of_limbo() {
    let (mut world, _) = world(6);
    let told = world.change(|target| {
        assert_eq!(target.live_count(), 0);
        target.begin_shutdown();
        assert_eq!(target.live_count(), 1, "the snapshot that says so is to be published");
        target.delete_subsystem(NQN)
    });
    assert_eq!(told.unwrap_err(), ChangeError::ShuttingDown);
    assert_eq!(world.control.borrow().live_count, 1, "and the one before it waits for its readers");
    world.assert_empty();
}

/// Connects in every stage of being made, with I/O that is held or not, over two subsystems; changes at any moment, several at once, with or without a
/// shutdown among them. Whatever was taken is done in the end, and nothing is left.
#[test]
fn changes_at_any_moment_leave_nothing() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    for seed in 0..600 {
        let (mut world, disk) = world(seed);
        let addition = world.change(|target| target.add_listener(NQN, second_listener())).unwrap();
        world.finish(addition);
        let (_, id) = world.attach(0);
        let mut conns = vec![world.connect_io(1, id, 1)];
        if seed % 2 == 0 {
            outstanding_write(&mut world, &disk, conns[0]);
        }
        let mut taken = Vec::new();
        // Where the subsystem is offered, as far as changes were taken.
        let mut offered = BTreeSet::from([listener(), second_listener()]);
        for _ in 0..6 {
            let draw = world.sim.random();
            let cpu = (draw >> 8) as u16 % 2;
            let at = if draw & 0x1000 == 0 { listener() } else { second_listener() };
            match draw % 8 {
                0..=2 => {
                    let conn = world.open_at(at, cpu, 0, 32);
                    world.send_connect(conn, &Connect::new(0, 32));
                    conns.push(conn);
                }
                3 => {
                    let qid = 2 + (draw >> 16) as u16 % 3;
                    let conn = world.open_at(at, cpu, qid, 16);
                    world.send_connect(conn, &Connect { controller_id: id, ..Connect::new(qid, 16) });
                    conns.push(conn);
                }
                4 | 5 => {
                    offered.remove(&at);
                    taken.extend(world.change(move |target| target.remove_listener(NQN, at)));
                }
                6 => {
                    offered.clear();
                    taken.extend(world.change(delete));
                }
                _ if draw & 0x2000 == 0 => {
                    let device = Arc::clone(&disk);
                    if let Ok(change) = world.change(|target| target.create_subsystem(fresh(NQN, Some(device)))) {
                        offered.insert(listener());
                        taken.push(change);
                    }
                }
                _ => {
                    if let Ok(change) = world.change(move |target| target.add_listener(NQN, at)) {
                        offered.insert(at);
                        taken.push(change);
                    }
                }
            }
            let steps = world.sim.random() as usize % 30;
            world.run(steps);
        }
        if seed % 5 == 0 {
            world.control.borrow_mut().shutdown = true;
            let steps = world.sim.random() as usize % 30;
            world.run(steps);
        }
        disk.state.lock().unwrap().hold = false;
        world.run(400);
        for change in taken {
            assert!(world.is_done(change), "seed {seed}: {change:?}");
        }
        for conn in conns {
            let at = world.wire(conn.cpu).connections[conn.index].spec.listener;
            let is_connected = world.responses(conn).iter().any(|response| response.status().is_success());
            let is_right = offered.contains(&at) || !is_connected || !world.is_open(conn);
            assert!(is_right, "seed {seed}: a qpair stays at {at}, offered at {offered:?}");
            ENDED.fetch_add(usize::from(world.ended(conn).is_some()), Ordering::Relaxed);
            for response in world.responses(conn) {
                let status = response.status();
                let is_known = status.is_success()
                    || status == Status::CONNECT_INVALID_PARAMETERS
                    || status == Status::CONNECT_CONTROLLER_BUSY;
                assert!(is_known, "seed {seed}: {status}");
            }
        }
        world.shut_down();
    }
    assert!(ENDED.load(Ordering::Relaxed) > 600, "the changes meet qpairs: {ENDED:?}");
}
