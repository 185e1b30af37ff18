//! Devices and namespaces that come, go, grow and are hidden while hosts use them.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::net::SocketAddr;
use std::sync::Arc;

use bdev::Device;
use harness::device::TestDevice;
use harness::{
    Conn, Connect, HOST_NQN, NQN, OP_FLUSH, OP_READ, OP_WRITE, OTHER_HOST_NQN, Options, World, command, io, keyed,
    listener, namespace, target_spec,
};
use nvmf_core::spec::{AnaState, NamespaceSpec, SubsystemSpec};
use nvmf_core::status::Status;
use nvmf_core::target::{Base, MadeDevice, NamespaceRequest};
use nvmf_core::{ChangeError, ChangeId, Target};
use reactor::Simulation;

const CPU_COUNT: usize = 2;

fn world(seed: u64) -> (World, Arc<TestDevice>) {
    let disk = Arc::new(TestDevice::new("disk", 1024));
    let mut options = Options::new(vec![namespace(1, Arc::clone(&disk) as Arc<dyn Device>)]);
    options.seed = seed;
    (World::new(options), disk)
}

fn request(nsid: u32, device: &str) -> NamespaceRequest {
    NamespaceRequest {
        nsid,
        device: device.into(),
        uuid: None,
        nguid: None,
        eui64: None,
        ana_group: None,
        is_auto_visible: true,
        persistence_file: None,
    }
}

/// Makes a device as whoever opens devices does.
fn begin_device(world: &mut World, device: &Arc<TestDevice>) -> ChangeId {
    let name = device.name().to_owned();
    let change = world.change(move |target| target.begin_device(&name, None)).unwrap();
    let device = Arc::clone(device);
    let made = move |target: &mut Target| {
        let channels = (0..CPU_COUNT).map(|_| device.open_channel().unwrap()).collect();
        target.device_made(change, MadeDevice { device, channels }, |_, _| false);
        Ok(change)
    };
    world.change(made).unwrap()
}

fn make_device(world: &mut World, device: &Arc<TestDevice>) {
    let change = begin_device(world, device);
    world.finish(change);
}

fn add(world: &mut World, request: NamespaceRequest) {
    let change = world.change(move |target| target.add_namespace(NQN, &request)).unwrap();
    world.finish(change);
}

/// A block of a namespace.
fn access(opcode: u8, id: u16, nsid: u32, block: u64) -> [u8; 64] {
    let mut command = io(opcode, id, block, 1, keyed(0, 512));
    command[4..8].copy_from_slice(&nsid.to_le_bytes());
    if opcode == OP_FLUSH {
        command[24..64].fill(0);
    }
    command
}

fn status(world: &mut World, queue: Conn, nsid: u32, block: u64) -> Status {
    world.execute(queue, access(OP_READ, 9, nsid, block), &[]).status()
}

#[test]
fn devices_and_namespaces_come_and_go_under_io() {
    for seed in 0..100 {
        let (mut world, _) = world(seed);
        let (_, id) = world.attach(0);
        let queues = [world.connect_io(0, id, 1), world.connect_io(1, id, 2)];
        let late = Arc::new(TestDevice::new("late", 64));
        for queue in queues {
            assert_eq!(status(&mut world, queue, 2, 0), Status::INVALID_NAMESPACE);
        }
        let none = world.change(|target| target.add_namespace(NQN, &request(2, "late"))).unwrap_err();
        assert_eq!(none.to_string(), "bdev is \"late\", and should be the name of a device: disk");
        make_device(&mut world, &late);
        add(&mut world, request(2, "late"));
        let used = world.change(|target| target.add_namespace(NQN, &request(3, "late"))).unwrap_err();
        assert_eq!(used, ChangeError::DeviceUsed { name: "late".into(), by: format!("namespace 2 of {NQN}") });
        for queue in queues {
            world.host_write(queue.cpu, 0, &[queue.cpu as u8 + 1; 512]);
            let write = access(OP_WRITE, 7, 2, u64::from(queue.cpu));
            assert_eq!(world.execute(queue, write, &[]).status(), Status::SUCCESS);
        }
        assert_eq!(late.state.lock().unwrap().blocks[..1024], [[1; 512], [2; 512]].concat());

        // Removed with a write under way: it ends normally, and nothing new is admitted meanwhile.
        late.state.lock().unwrap().hold = true;
        world.send(queues[1], access(OP_WRITE, 8, 2, 5), &[]);
        world.run(60);
        let removal = world.change(|target| target.remove_namespace(NQN, 2)).unwrap();
        world.run(100);
        assert!(!world.is_done(removal), "seed {seed}: a lease is out");
        for queue in queues {
            assert_eq!(status(&mut world, queue, 2, 0), Status::INVALID_NAMESPACE);
        }
        // Its device is not another namespace's before that.
        let used = world.change(|target| target.add_namespace(NQN, &request(2, "late"))).unwrap_err();
        assert_eq!(used, ChangeError::DeviceUsed { name: "late".into(), by: format!("namespace 2 of {NQN}") });
        late.state.lock().unwrap().hold = false;
        world.finish(removal);
        let ends: Vec<_> = world.responses(queues[1]).iter().filter(|r| r.command_id.get() == 8).copied().collect();
        assert_eq!(ends.len(), 1);
        assert!(ends[0].status().is_success());
        add(&mut world, request(7, "late"));
        assert_eq!(status(&mut world, queues[0], 7, 0), Status::SUCCESS);

        // The device goes with its namespace, and its place is another's.
        let deletion = world.change(|target| target.delete_device("late")).unwrap();
        world.finish(deletion);
        assert_eq!(status(&mut world, queues[0], 7, 0), Status::INVALID_NAMESPACE);
        let weak = Arc::downgrade(&late);
        drop(late);
        let retired = world.change(move |target| {
            let retired = target.next_retired().unwrap();
            assert_eq!((retired.device.name(), retired.channels.len()), ("late", CPU_COUNT));
            assert!(target.next_retired().is_none());
            Err(ChangeError::ShuttingDown)
        });
        assert!(retired.is_err());
        world.run(50);
        assert!(weak.upgrade().is_none(), "nothing of the target knows it");
        let next = Arc::new(TestDevice::new("next", 64));
        make_device(&mut world, &next);
        add(&mut world, request(7, "next"));
        assert_eq!(status(&mut world, queues[1], 7, 63), Status::SUCCESS);
        world.shut_down();
    }
}

#[test]
fn a_device_waits_for_its_io_before_it_goes() {
    let (mut world, disk) = world(2);
    let (_, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    disk.state.lock().unwrap().hold = true;
    world.send(queue, access(OP_WRITE, 8, 1, 5), &[]);
    world.run(60);
    let deletion = world.change(|target| target.delete_device("disk")).unwrap();
    world.run(200);
    assert!(!world.is_done(deletion));
    let changes = world.change(|target| target.delete_device("disk")).unwrap_err();
    assert_eq!(changes, ChangeError::DeviceChanges { name: "disk".into() });
    let taken = world.change(|target| target.begin_device("disk", None)).unwrap_err();
    assert_eq!(taken, ChangeError::DeviceThere { name: "disk".into() });
    disk.state.lock().unwrap().hold = false;
    world.finish(deletion);
    assert_eq!(world.responses(queue).iter().filter(|r| r.command_id.get() == 8).count(), 1);
    world.shut_down();
}

#[test]
fn a_device_that_cannot_be_made_leaves_nothing() {
    let (mut world, _) = world(3);
    let change = world.change(|target| target.begin_device("bad", None)).unwrap();
    world.run(50);
    assert!(!world.is_done(change), "somebody opens it");
    let used = world.change(|target| target.add_namespace(NQN, &request(2, "bad"))).unwrap_err();
    assert_eq!(used, ChangeError::DeviceChanges { name: "bad".into() });
    let failed = world.change(move |target| {
        target.device_failed(change, "no such file".into());
        Ok(change)
    });
    world.finish(failed.unwrap());
    let why = world.change(move |target| {
        assert_eq!(target.take_failure(change).as_deref(), Some("no such file"));
        assert_eq!(target.take_failure(change), None);
        target.begin_device("bad", None)
    });
    assert!(why.is_ok(), "its name is free");
}

/// A device that is made of another keeps it, and gives it back.
#[test]
fn a_device_is_made_of_another_that_nobody_uses() {
    let (mut world, _) = world(4);
    let used = world.change(|target| target.begin_device("above", Some("disk".into()))).unwrap_err();
    assert_eq!(used, ChangeError::DeviceUsed { name: "disk".into(), by: format!("namespace 1 of {NQN}") });
    let removal = world.change(|target| target.remove_namespace(NQN, 1)).unwrap();
    world.finish(removal);
    let above = Arc::new(TestDevice::new("above", 8));
    let change = world.change(|target| target.begin_device("above", Some("disk".into()))).unwrap();
    let made = world.change(move |target| {
        let channels = (0..CPU_COUNT).map(|_| above.open_channel().unwrap()).collect();
        target.device_made(change, MadeDevice { device: above, channels }, |_, _| false);
        Ok(change)
    });
    world.finish(made.unwrap());
    let used = world.change(|target| target.delete_device("disk")).unwrap_err();
    assert_eq!(used, ChangeError::DeviceUsed { name: "disk".into(), by: "device above".into() });
    let deletion = world.change(|target| target.delete_device("above")).unwrap();
    world.finish(deletion);
    add(&mut world, request(1, "disk"));
    world.shut_down();
}

/// Several are made of different blocks of one, which nobody else has then.
#[test]
fn parts_of_a_device_share_it_and_nobody_else() {
    let (mut world, _) = world(4);
    let base = Arc::new(TestDevice::new("base", 100));
    make_device(&mut world, &base);
    let part = |blocks| Base { name: "base", blocks: Some(blocks) };
    let make = |world: &mut World, name: &'static str, blocks| {
        let change = world.change(move |target| target.begin_device(name, Some(part(blocks)))).unwrap();
        let device = Arc::new(TestDevice::new(name, 8));
        let made = world.change(move |target| {
            let channels = (0..CPU_COUNT).map(|_| device.open_channel().unwrap()).collect();
            target.device_made(change, MadeDevice { device, channels }, |_, _| false);
            Ok(change)
        });
        world.finish(made.unwrap());
    };
    make(&mut world, "p0", 0..50);
    make(&mut world, "p1", 50..60);
    let used = |by: &str| ChangeError::DeviceUsed { name: "base".into(), by: by.into() };
    for blocks in [0..1, 40..51, 59..100, 0..100, 55..56] {
        let refused = world.change(move |target| target.begin_device("p2", Some(part(blocks)))).unwrap_err();
        assert_eq!(refused, used("devices p0, p1"));
    }
    let refused = world.change(|target| target.begin_device("p2", Some("base".into()))).unwrap_err();
    assert_eq!(refused, used("devices p0, p1"));
    assert_eq!(world.change(|target| target.delete_device("base")).unwrap_err(), used("devices p0, p1"));
    let refused = world.change(|target| target.add_namespace(NQN, &request(2, "base"))).unwrap_err();
    assert_eq!(refused, used("devices p0, p1"));
    add(&mut world, request(2, "p1"));
    for (name, left) in [("p0", Some("devices p1")), ("p1", None)] {
        let deletion = world.change(|target| target.delete_device(name)).unwrap();
        world.finish(deletion);
        if let Some(left) = left {
            assert_eq!(world.change(|target| target.delete_device("base")).unwrap_err(), used(left));
            make(&mut world, "p3", 0..49);
            let deletion = world.change(|target| target.delete_device("p3")).unwrap();
            world.finish(deletion);
        }
    }
    let deletion = world.change(|target| target.delete_device("base")).unwrap();
    world.finish(deletion);
    world.shut_down();
}

#[test]
fn a_device_grows_under_its_namespace() {
    let (mut world, disk) = world(5);
    let (_, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    assert_eq!(status(&mut world, queue, 1, 1024), Status::LBA_OUT_OF_RANGE);
    let change = world.change(|target| target.resize_device("disk", 2048)).unwrap();
    world.finish(change);
    assert_eq!(status(&mut world, queue, 1, 2047), Status::SUCCESS);
    assert_eq!(status(&mut world, queue, 1, 2048), Status::LBA_OUT_OF_RANGE);
    drop(disk);
    world.shut_down();
}

/// Connects a host: its admin queue's controller, and an I/O queue.
fn attach_as(world: &mut World, host: &str, at: SocketAddr, cpu: u16) -> Conn {
    let admin = world.open_at(at, cpu, 0, 32);
    let connect = Connect { host_nqn: host.into(), ..Connect::new(0, 32) };
    let response = world.execute_connect(admin, &connect);
    assert_eq!(response.status(), Status::SUCCESS);
    world.enable(admin);
    let controller_id = response.result.get() as u16;
    let queue = world.open_at(at, cpu, 1, 16);
    let connect = Connect { controller_id, host_nqn: host.into(), ..Connect::new(1, 16) };
    assert_eq!(world.execute_connect(queue, &connect).status(), Status::SUCCESS);
    queue
}

#[test]
fn a_namespace_is_shown_to_chosen_hosts() {
    let (mut world, _) = world(6);
    let hidden = Arc::new(TestDevice::new("hidden", 64));
    make_device(&mut world, &hidden);
    add(&mut world, NamespaceRequest { is_auto_visible: false, ..request(2, "hidden") });
    let one = attach_as(&mut world, HOST_NQN, listener(), 0);
    let other = attach_as(&mut world, OTHER_HOST_NQN, listener(), 1);
    for queue in [one, other] {
        assert_eq!(status(&mut world, queue, 1, 0), Status::SUCCESS);
        assert_eq!(status(&mut world, queue, 2, 0), Status::INVALID_NAMESPACE);
    }
    let shown = world.change(|target| target.add_namespace_host(NQN, 2, HOST_NQN)).unwrap();
    world.finish(shown);
    assert_eq!(status(&mut world, one, 2, 0), Status::SUCCESS);
    assert_eq!(status(&mut world, other, 2, 0), Status::INVALID_NAMESPACE);
    let twice = world.change(|target| target.add_namespace_host(NQN, 2, HOST_NQN)).unwrap_err();
    assert!(matches!(twice, ChangeError::HostThere { .. }), "{twice}");
    // Who connects later sees what its name may see, whoever had its controller id before.
    let later = [attach_as(&mut world, HOST_NQN, listener(), 1), attach_as(&mut world, OTHER_HOST_NQN, listener(), 0)];
    assert_eq!(status(&mut world, later[0], 2, 0), Status::SUCCESS);
    assert_eq!(status(&mut world, later[1], 2, 0), Status::INVALID_NAMESPACE);
    let hidden = world.change(|target| target.remove_namespace_host(NQN, 2, HOST_NQN)).unwrap();
    world.finish(hidden);
    for queue in [one, other, later[0], later[1]] {
        assert_eq!(status(&mut world, queue, 2, 0), Status::INVALID_NAMESPACE);
    }
    let all = world.change(|target| target.add_namespace_host(NQN, 1, HOST_NQN)).unwrap_err();
    assert_eq!(all, ChangeError::VisibleToAll { nqn: NQN.into(), nsid: 1 });
    let none = world.change(|target| target.remove_namespace_host(NQN, 2, HOST_NQN)).unwrap_err();
    assert!(matches!(none, ChangeError::NoHost { .. }), "{none}");
    world.shut_down();
}

/// A target with a subsystem that reports ANA at two addresses.
fn asymmetric(seed: u64) -> World {
    let (mut world, _) = world(seed);
    let second = Arc::new(TestDevice::new("second", 64));
    make_device(&mut world, &second);
    let removal = world.change(|target| target.delete_subsystem(NQN)).unwrap();
    world.finish(removal);
    let disk = Arc::new(TestDevice::new("more", 64));
    make_device(&mut world, &disk);
    let creation = world.change(move |target| {
        target.create_subsystem(SubsystemSpec {
            allow_any_host: true,
            listeners: vec![listener(), other_listener()],
            namespaces: vec![
                NamespaceSpec::new(1, disk),
                NamespaceSpec { ana_group: Some(2), ..NamespaceSpec::new(2, second) },
            ],
            reports_ana: true,
            controller_ids: 100..=200,
            ..SubsystemSpec::new(NQN, "S1")
        })
    });
    world.finish(creation.unwrap());
    world
}

fn other_listener() -> SocketAddr {
    "127.0.0.1:4421".parse().unwrap()
}

#[test]
fn ana_states_are_each_addresss_and_groups_own() {
    let mut world = asymmetric(7);
    let here = attach_as(&mut world, HOST_NQN, listener(), 0);
    let there = attach_as(&mut world, HOST_NQN, other_listener(), 1);
    for (state, expected) in [
        (AnaState::NonOptimized, Status::SUCCESS),
        (AnaState::Inaccessible, Status::ANA_INACCESSIBLE),
        (AnaState::PersistentLoss, Status::ANA_PERSISTENT_LOSS),
        (AnaState::Change, Status::ANA_TRANSITION),
    ] {
        let change = world.change(move |target| target.set_ana_state(NQN, other_listener(), Some(2), state)).unwrap();
        world.finish(change);
        assert_eq!(status(&mut world, there, 2, 0), expected);
        assert_eq!(world.execute(there, access(OP_FLUSH, 5, 2, 0), &[]).status(), expected);
        assert_eq!(status(&mut world, there, 1, 0), Status::SUCCESS, "another group");
        assert_eq!(status(&mut world, here, 2, 0), Status::SUCCESS, "another address");
    }
    // A namespace goes to another group.
    let change = world.change(|target| target.set_ana_group(NQN, 2, 1)).unwrap();
    world.finish(change);
    assert_eq!(status(&mut world, there, 2, 0), Status::SUCCESS);
    // All groups at once, and back.
    for (state, expected) in
        [(AnaState::Inaccessible, Status::ANA_INACCESSIBLE), (AnaState::Optimized, Status::SUCCESS)]
    {
        let change = world.change(move |target| target.set_ana_state(NQN, listener(), None, state)).unwrap();
        world.finish(change);
        for nsid in [1, 2] {
            assert_eq!(status(&mut world, here, nsid, 0), expected);
            assert_eq!(status(&mut world, there, nsid, 0), Status::SUCCESS);
        }
    }
    let beyond = world.change(|target| target.set_ana_state(NQN, listener(), Some(1025), AnaState::Optimized));
    assert_eq!(beyond.unwrap_err().to_string(), format!("{NQN}: anagrpid is 1025: 1 to 1024"));
    world.shut_down();
}

#[test]
fn a_subsystem_that_says_nothing_of_ana_has_no_states() {
    let (mut world, _) = world(8);
    let none = world.change(|target| target.set_ana_state(NQN, listener(), None, AnaState::Inaccessible)).unwrap_err();
    assert_eq!(none, ChangeError::NoAna { nqn: NQN.into() });
}

#[test]
fn controller_ids_are_of_the_subsystems_range() {
    let mut world = asymmetric(9);
    for id in 100..105 {
        let (_, given) = world.connect_admin(0, NQN, 0);
        assert_eq!(given, id);
    }
    world.shut_down();
}

fn get(world: &mut World, admin: Conn, opcode: u8, nsid: u32, cdw10: u32) -> Result<Vec<u8>, Status> {
    world.host_write(admin.cpu, 0, &[0xEE; 4096]);
    let response = world.execute(admin, command(opcode, 3, nsid, keyed(0, 4096), [cdw10, 0, 0, 0]).to_bytes(), &[]);
    if response.status().is_success() { Ok(world.host_read(admin.cpu, 0, 4096)) } else { Err(response.status()) }
}

fn identify(world: &mut World, admin: Conn, structure: u32, nsid: u32) -> Result<Vec<u8>, Status> {
    get(world, admin, 0x06, nsid, structure)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[test]
fn identify_tells_of_what_its_host_sees_and_of_nothing_else() {
    let (mut world, _) = world(10);
    let hidden = Arc::new(TestDevice::new("hidden", 64));
    make_device(&mut world, &hidden);
    let (nguid, eui64) = (Some([7; 16]), Some([5; 8]));
    add(&mut world, NamespaceRequest { is_auto_visible: false, nguid, eui64, ..request(2, "hidden") });
    let (admin, _) = world.attach(0);
    let list = |world: &mut World| {
        let page = identify(world, admin, 2, 0).unwrap();
        [word(&page, 0), word(&page, 4), word(&page, 8)]
    };
    assert_eq!(list(&mut world), [1, 0, 0]);
    assert!(identify(&mut world, admin, 0, 2).unwrap().iter().all(|byte| *byte == 0), "as an id that is not active");
    assert_eq!(identify(&mut world, admin, 3, 2), Err(Status::INVALID_NAMESPACE));
    let shown = world.change(|target| target.add_namespace_host(NQN, 2, HOST_NQN)).unwrap();
    world.finish(shown);
    assert_eq!(list(&mut world), [1, 2, 0]);
    let page = identify(&mut world, admin, 0, 2).unwrap();
    assert_eq!((word(&page, 0), &page[104..120], &page[120..128]), (64, &[7; 16][..], &[5; 8][..]));
    assert_eq!(word(&page, 92), 0, "no ANA group where ANA is not reported");
    assert_eq!(identify(&mut world, admin, 3, 2).unwrap()[..12], [1, 8, 0, 0, 5, 5, 5, 5, 5, 5, 5, 5]);
    // A device that grew is larger for who looks.
    let change = world.change(|target| target.resize_device("hidden", 128)).unwrap();
    world.finish(change);
    assert_eq!(word(&identify(&mut world, admin, 0, 2).unwrap(), 0), 128);
    let page = identify(&mut world, admin, 1, 0).unwrap();
    assert_eq!((page[76], page[343], word(&page, 344)), (3, 0, 0));
    assert_eq!(get(&mut world, admin, 0x02, 0, 0x0C | 1023 << 16), Err(Status::INVALID_LOG_PAGE));
    world.shut_down();
}

#[test]
fn the_ana_log_tells_each_path_its_own() {
    let mut world = asymmetric(11);
    let log = |world: &mut World, at: SocketAddr| {
        let admin = world.open_at(at, 0, 0, 32);
        assert_eq!(world.execute_connect(admin, &Connect::new(0, 32)).status(), Status::SUCCESS);
        world.enable(admin);
        let page = get(world, admin, 0x02, 0, 0x0C | 1023 << 16).unwrap();
        assert_eq!(u16::from_le_bytes([page[8], page[9]]), 2, "groups");
        let group = |at: usize| (word(&page, at), word(&page, at + 4), page[at + 16], word(&page, at + 32));
        (page[0], group(16), group(52))
    };
    assert_eq!(log(&mut world, listener()), (0, (1, 1, 1, 1), (2, 1, 1, 2)));
    let change = world.change(|target| target.set_ana_state(NQN, other_listener(), Some(2), AnaState::Inaccessible));
    world.finish(change.unwrap());
    assert_eq!(log(&mut world, listener()), (1, (1, 1, 1, 1), (2, 1, 1, 2)));
    assert_eq!(log(&mut world, other_listener()), (1, (1, 1, 1, 1), (2, 1, 3, 2)));
    // Groups only; and what Identify says.
    let (admin, _) = world.attach(0);
    let page = get(&mut world, admin, 0x02, 0, 0x0C | 1 << 8 | 1023 << 16).unwrap();
    assert_eq!((word(&page, 16), word(&page, 20), word(&page, 48)), (1, 0, 2));
    // By offset: the second group; what only 1024 groups and namespaces would reach, as a host that makes room for them asks; and behind all of that.
    let at = |offset: u32| command(0x02, 3, 0, keyed(0, 4096), [0x0C | 1023 << 16, 0, offset, 0]).to_bytes();
    assert_eq!(world.execute(admin, at(52), &[]).status(), Status::SUCCESS);
    assert_eq!(word(&world.host_read(0, 0, 4096), 0), 2);
    for offset in [4096, 16 + 1024 * 36] {
        world.host_write(0, 0, &[0xEE; 4096]);
        assert_eq!(world.execute(admin, at(offset), &[]).status(), Status::SUCCESS);
        assert_eq!(world.host_read(0, 0, 4096), [0; 4096]);
    }
    assert_eq!(world.execute(admin, at(16 + 1024 * 36 + 4), &[]).status(), Status::INVALID_FIELD);
    let page = identify(&mut world, admin, 1, 0).unwrap();
    assert_eq!((page[76], page[342], page[343], word(&page, 344), word(&page, 348)), (0b1011, 10, 0x1F, 1024, 1024));
    assert_eq!(word(&identify(&mut world, admin, 0, 2).unwrap(), 92), 2);
    world.shut_down();
}

/// Hosts hear of what concerns them.
#[test]
fn changes_are_told_by_events() {
    let mut world = asymmetric(12);
    let (admin, _) = world.attach(0);
    let enable = command(0x09, 4, 0, keyed(0, 0), [0x0B, 1 << 8 | 1 << 11, 0, 0]).to_bytes();
    assert_eq!(world.execute(admin, enable, &[]).status(), Status::SUCCESS);
    type Begin = Box<dyn FnOnce(&mut Target) -> Result<ChangeId, ChangeError>>;
    let told = |world: &mut World, id: u16, change: Begin| {
        world.send(admin, command(0x0C, id, 0, keyed(0, 0), [0; 4]).to_bytes(), &[]);
        world.run(50);
        let change = world.change(change).unwrap();
        world.finish(change);
        world.run(50);
        let responses = world.responses(admin);
        responses
            .iter()
            .find(|response| response.command_id.get() == id)
            .map(|response| response.result.get() & 0xFF_FFFF)
    };
    let nothing = told(
        &mut world,
        40,
        Box::new(|target| target.set_ana_state(NQN, other_listener(), None, AnaState::NonOptimized)),
    );
    assert_eq!(nothing, None, "it came by another address");
    let removed = told(&mut world, 41, Box::new(|target| target.remove_namespace(NQN, 2)));
    assert_eq!(removed, None, "the request before takes it");
    assert_eq!(
        told(&mut world, 42, Box::new(|target| target.set_ana_state(NQN, listener(), None, AnaState::NonOptimized))),
        None
    );
    let events: Vec<(u16, u64)> = world
        .responses(admin)
        .iter()
        .filter(|response| (40..43).contains(&response.command_id.get()))
        .map(|response| (response.command_id.get(), response.result.get() & 0xFF_FFFF))
        .collect();
    assert_eq!(events, [(40, 0x04_0002), (41, 0x0C_0302)], "changed namespaces, then ANA");
    world.shut_down();
}

/// What cannot be: each names field, value and way out.
#[test]
fn specifications_that_cannot_be_are_refused() {
    let device = |name: &str| Arc::new(TestDevice::new(name, 64));
    let with = |change: fn(&mut SubsystemSpec)| {
        let mut sim = Simulation::<()>::new(1, 3);
        let _ = &mut sim;
        let mut spec = target_spec(
            vec![namespace(1, device("a")), namespace(2, device("b"))],
            nvmf_core::spec::ControllerSpec::default(),
        );
        change(&mut spec.subsystems[0]);
        Target::new(sim.domain(), 2, spec).err().map(|error| error.to_string())
    };
    assert_eq!(with(|_| {}), None);
    for (change, text) in [
        (
            (|s: &mut SubsystemSpec| s.namespaces[1].nsid = 1025) as fn(&mut SubsystemSpec),
            "namespace 1025 of subsystem nqn.2024-01.example:disk: nsid is 1025: 1 to 1024",
        ),
        (
            |s| s.namespaces.iter_mut().for_each(|n| n.nguid = Some([1; 16])),
            "namespace 1 of subsystem nqn.2024-01.example:disk: nguid is taken: its own: namespace 2 of subsystem nqn.2024-01.example:disk has the same",
        ),
        (
            |s| s.namespaces[0].eui64 = Some([0; 8]),
            "namespace 1 of subsystem nqn.2024-01.example:disk: nguid or eui64 is zero: not zero, or left out",
        ),
        (
            |s| s.is_shared = true,
            "namespace 1 of subsystem nqn.2024-01.example:disk: uuid and nguid is left out: given where the subsystem is shared: both targets have to say the same, and what is derived depends on the device's name",
        ),
        (
            |s| s.controller_ids = std::ops::RangeInclusive::new(5, 4),
            "subsystem nqn.2024-01.example:disk: max_cntlid is 4: 5 to 65519",
        ),
        (
            |s| s.namespaces[0].hosts = vec!["nqn.x:h".into()],
            "namespace 1 of subsystem nqn.2024-01.example:disk: hosts is 1: none where every host sees the namespace",
        ),
    ] {
        assert_eq!(with(change).as_deref(), Some(text));
    }
}

/// Everything at any moment, with I/O under way on two CPUs: whatever was taken is done in the end, every command has one response, and nothing is left.
#[test]
fn changes_at_any_moment_leave_nothing() {
    let mut counts = [0_usize; 3];
    for seed in 0..300 {
        let (mut world, disk) = world(seed);
        let (_, id) = world.attach(0);
        let queues = [world.connect_io(0, id, 1), world.connect_io(1, id, 2)];
        let mut taken = Vec::new();
        let mut sent = [0_usize; 2];
        for round in 0..12_u16 {
            let draw = world.sim.random();
            let nsid = 1 + (draw >> 8) as u32 % 3;
            let name = format!("d{}", (draw >> 16) % 3);
            match draw % 9 {
                0 | 1 => {
                    let device = Arc::new(TestDevice::new(&name, 1024));
                    if world.control.borrow().live_count < 1000
                        && let Ok(change) = world.change(move |target| target.begin_device(&name, None))
                    {
                        let made = move |target: &mut Target| {
                            let channels = (0..CPU_COUNT).map(|_| device.open_channel().unwrap()).collect();
                            target.device_made(change, MadeDevice { device, channels }, |_, _| false);
                            Ok(change)
                        };
                        taken.push(world.change(made).unwrap());
                    }
                }
                2 | 3 => taken.extend(world.change(move |target| target.add_namespace(NQN, &request(nsid, &name)))),
                4 => taken.extend(world.change(move |target| target.remove_namespace(NQN, nsid))),
                5 => taken.extend(world.change(move |target| target.delete_device(&name))),
                6 => taken.extend(world.change(|target| target.pause_subsystem(NQN))),
                7 => taken.extend(world.change(|target| target.resume_subsystem(NQN))),
                _ => disk.state.lock().unwrap().hold = draw & 0x1000 == 0,
            }
            for (place, queue) in queues.iter().enumerate() {
                let opcode = if draw & 0x2000 == 0 { OP_WRITE } else { OP_READ };
                world.send(*queue, access(opcode, 100 * (round + 1), 1 + round as u32 % 3, u64::from(round)), &[]);
                sent[place] += 1;
            }
            let steps = world.sim.random() as usize % 40;
            world.run(steps);
        }
        disk.state.lock().unwrap().hold = false;
        taken.extend(world.change(|target| target.resume_subsystem(NQN)));
        world.run(600);
        for change in &taken {
            assert!(world.is_done(*change), "seed {seed}: {change:?}");
        }
        for (place, queue) in queues.iter().enumerate() {
            let responses = world.responses(*queue);
            assert_eq!(responses.len(), sent[place] + 1, "seed {seed}: one response for each command, and Connect's");
            for response in responses {
                let status = response.status();
                assert!(status.is_success() || status == Status::INVALID_NAMESPACE, "seed {seed}: {status}");
                counts[usize::from(status.is_success())] += 1;
            }
        }
        counts[2] += taken.len();
        world.shut_down();
    }
    assert!(counts.iter().all(|count| *count > 500), "the changes meet I/O: {counts:?}");
}
