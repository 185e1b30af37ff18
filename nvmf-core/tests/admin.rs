//! Admin commands, properties and the discovery service.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::Arc;

use harness::admin::world;
use harness::device::TestDevice;
use harness::{
    CLOSED_NQN, Conn, Connect, HOST_ID, NQN, OTHER_HOST_NQN, Options, World, command, keyed, namespace, property_get,
    property_set,
};
use nvmf_core::DisconnectReason;
use nvmf_core::spec::ControllerSpec;
use nvmf_core::status::Status;
use nvmf_core::wire::identify::{IdentifyController, IdentifyNamespace, NamespaceIdentifiers, NamespaceList};
use nvmf_core::wire::{DISCOVERY_NQN, DiscoveryEntry, DiscoveryHeader, SglDescriptor, trim_text};
use zerocopy::FromBytes;

const NO_DATA: SglDescriptor = SglDescriptor::NO_DATA;

/// Identify; its 4096 bytes.
fn identify(world: &mut World, admin: Conn, structure: u32, nsid: u32) -> Result<Vec<u8>, Status> {
    harness::admin::identify(world, admin, structure, nsid, 0)
}

fn set_feature(world: &mut World, admin: Conn, feature: u32, value: u32) -> (Status, u64) {
    let response = world.execute(admin, command(0x09, 1, 0, NO_DATA, [feature, value, 0, 0]).to_bytes(), &[]);
    (response.status(), response.result.get())
}

fn feature(world: &mut World, admin: Conn, feature: u32) -> (Status, u64) {
    let response = world.execute(admin, command(0x0A, 1, 0, NO_DATA, [feature, 0, 0, 0]).to_bytes(), &[]);
    (response.status(), response.result.get())
}

fn log(world: &mut World, admin: Conn, page: u32, offset: u32, len: u32) -> Result<Vec<u8>, Status> {
    let dwords = len / 4 - 1;
    let cdw = [page | (dwords & 0xFFFF) << 16, dwords >> 16, offset, 0];
    let response = world.execute(admin, command(0x02, 1, 0xFFFF_FFFF, keyed(0, len), cdw).to_bytes(), &[]);
    if response.status().is_success() { Ok(world.host_read(0, 0, len as usize)) } else { Err(response.status()) }
}

#[test]
fn a_controller_says_what_it_is() {
    let (mut world, admin, id) = world();
    let bytes = identify(&mut world, admin, 1, 0).unwrap();
    let page = IdentifyController::ref_from_bytes(&bytes).unwrap();
    assert_eq!(page.controller_id.get(), id);
    assert_eq!(page.version.get(), 0x0002_0000);
    assert_eq!(page.mdts, 5, "128 KiB in pages of 4 KiB");
    assert_eq!(trim_text(&page.serial_number), "SERIAL1");
    assert_eq!(trim_text(&page.subsystem_nqn), NQN);
    assert_eq!(page.command_capsule_16b.get(), (64 + 4096) / 16);
    assert_eq!(page.response_capsule_16b.get(), 1);
    assert_eq!((page.namespace_count.get(), page.command_count_max.get()), (1024, 256));
    assert_eq!(page.keep_alive_granularity_100ms.get(), 10);
    assert_eq!(page.sgls.get() & 0x0010_0007, 0x0010_0005, "SGLs, keyed, offsets");
    assert_eq!(page.volatile_write_cache, 0b101);
    assert_eq!(page.controller_type, 1);
    world.shut_down();
}

#[test]
fn the_smallest_largest_transfer_is_not_told_as_no_limit() {
    let smallest = nvmf_core::limits::TRANSFER_LEN_MIN;
    let mut options = Options::new(vec![namespace(1, Arc::new(TestDevice::new("disk", 1000)))]);
    options.controller.transfer_len_max = smallest;
    let mut world = World::new(options);
    let (admin, _) = world.attach(0);
    let bytes = identify(&mut world, admin, 1, 0).unwrap();
    let page = IdentifyController::ref_from_bytes(&bytes).unwrap();
    assert_ne!(page.mdts, 0, "no limit");
    assert_eq!(4096 << page.mdts, smallest);
    world.shut_down();
}

#[test]
fn namespaces_are_listed_and_described() {
    let (mut world, admin, _) = world();
    let list = |world: &mut World, after| {
        let bytes = identify(world, admin, 2, after)?;
        Ok::<_, Status>(NamespaceList::ref_from_bytes(&bytes).unwrap().iter().collect::<Vec<_>>())
    };
    assert_eq!(list(&mut world, 0), Ok(vec![1, 5]));
    assert_eq!(list(&mut world, 1), Ok(vec![5]));
    assert_eq!(list(&mut world, 5), Ok(vec![]));
    assert_eq!(list(&mut world, 0xFFFF_FFFE), Err(Status::INVALID_NAMESPACE));
    let bytes = identify(&mut world, admin, 0, 5).unwrap();
    let page = IdentifyNamespace::ref_from_bytes(&bytes).unwrap();
    assert_eq!(page.block_count.get(), 2000);
    assert_eq!(page.format().and_then(|format| format.block_len()), Some(512));
    assert_eq!(page.nsattr, 1, "read only");
    let ids = NamespaceIdentifiers::from_page(&identify(&mut world, admin, 3, 5).unwrap());
    assert_eq!(ids.nguid, Some(page.nguid));
    assert!(ids.uuid.is_some_and(|uuid| Some(uuid) != ids.nguid));
    assert!(identify(&mut world, admin, 0, 3).unwrap().iter().all(|byte| *byte == 0), "legal, not active");
    assert_eq!(identify(&mut world, admin, 3, 3), Err(Status::INVALID_NAMESPACE));
    for nsid in [0, 1025, 0xFFFF_FFFF] {
        assert_eq!(identify(&mut world, admin, 0, nsid), Err(Status::INVALID_NAMESPACE), "{nsid}");
    }
    for structure in [4, 9, 0x10, 0x12, 0x14, 0x77] {
        assert_eq!(identify(&mut world, admin, structure, 1), Err(Status::INVALID_FIELD), "{structure:#x}");
    }
    world.shut_down();
}

#[test]
fn features_keep_what_can_be_kept() {
    let (mut world, admin, id) = world();
    assert_eq!(feature(&mut world, admin, 7), (Status::SUCCESS, 126 << 16 | 126));
    assert_eq!(set_feature(&mut world, admin, 7, 3 << 16 | 7), (Status::SUCCESS, 3 << 16 | 3));
    assert_eq!(set_feature(&mut world, admin, 7, 0xFFFF), (Status::INVALID_FIELD, 0));
    for (feature_id, value) in [(1, 0x0102_0304), (0x0A, 1), (0x0B, 0xFF), (0x0F, 5000)] {
        assert_eq!(set_feature(&mut world, admin, feature_id, value), (Status::SUCCESS, 0), "{feature_id:#x}");
        assert_eq!(feature(&mut world, admin, feature_id), (Status::SUCCESS, u64::from(value)), "{feature_id:#x}");
    }
    let refused = [
        (2, 1, Status::INVALID_FIELD),
        (6, 0, Status::FEATURE_NOT_CHANGEABLE),
        (5, 77, Status::INVALID_NAMESPACE),
        (0x19, 1, Status::COMMAND_SET_COMBINATION_REJECTED),
        (0x0B, 1 << 9, Status::INVALID_FIELD),
        (0x81, 0, Status::COMMAND_SEQUENCE_ERROR),
        (0x84, 1, Status::INVALID_FIELD),
        (0xD0, 1, Status::INVALID_FIELD),
        (1 | 1 << 31, 0, Status::FEATURE_NOT_SAVEABLE),
    ];
    for (feature_id, value, status) in refused {
        assert_eq!(set_feature(&mut world, admin, feature_id, value).0, status, "{feature_id:#x}");
    }
    assert_eq!(feature(&mut world, admin, 0x81).0, Status::HOST_ID_FORMAT_INCONSISTENT);
    let host_id = command(0x0A, 1, 0, keyed(64, 16), [0x81, 1, 0, 0]).to_bytes();
    assert_eq!(world.execute(admin, host_id, &[]).status(), Status::SUCCESS);
    assert_eq!(world.host_read(0, 64, 16), HOST_ID);
    // Queues: only what was granted, and no new grant while there is one.
    let _io = world.connect_io(1, id, 4);
    let refused = world.open(1, 5, 16);
    let connect = Connect { controller_id: id, ..Connect::new(5, 16) };
    assert_eq!(world.execute_connect(refused, &connect).status(), Status::CONNECT_INVALID_PARAMETERS);
    assert_eq!(set_feature(&mut world, admin, 7, 0).0, Status::COMMAND_SEQUENCE_ERROR);
    // The new keep-alive timeout holds: an interval without a command follows the one with these.
    world.pass(10_200);
    assert_eq!(world.ended(admin), Some(DisconnectReason::KeepAlive));
    world.shut_down();
}

#[test]
fn log_pages_by_offset_and_length() {
    let (mut world, admin, _) = world();
    for (page, len) in [(1, 4096), (2, 512), (3, 512), (4, 4096)] {
        let whole = log(&mut world, admin, page, 0, len).unwrap();
        let tail = log(&mut world, admin, page, 8, len).unwrap();
        assert_eq!(whole[8..], tail[..len as usize - 8], "{page}");
        assert_eq!(tail[len as usize - 8..], [0; 8], "{page}: zeroes behind the end");
        assert_eq!(log(&mut world, admin, page, len + 4, 4), Err(Status::INVALID_FIELD), "{page}");
    }
    assert_eq!(log(&mut world, admin, 3, 0, 16).unwrap()[..], *b"\x01\x00\x00\x00\x00\x00\x00\x000.1.0   ");
    for page in [6, 0x0C, 0x70, 0x81, 0xFF] {
        assert_eq!(log(&mut world, admin, page, 0, 64), Err(Status::INVALID_LOG_PAGE), "{page:#x}");
    }
    assert_eq!(log(&mut world, admin, 2, 0, 256 * 1024), Err(Status::INVALID_FIELD), "more than MDTS");
    world.shut_down();
}

#[test]
fn event_requests_are_held_to_a_limit_and_can_be_aborted() {
    let (mut world, admin, _) = world();
    for id in 10..14 {
        world.send(admin, command(0x0C, id, 0, NO_DATA, [0; 4]).to_bytes(), &[]);
    }
    world.run(60);
    let before = world.responses(admin).len();
    let fifth = world.execute(admin, command(0x0C, 14, 0, NO_DATA, [0; 4]).to_bytes(), &[]);
    assert_eq!(fifth.status(), Status::EVENT_REQUEST_LIMIT_EXCEEDED);
    let abort = |id: u32| command(0x08, 20, 0, NO_DATA, [id << 16, 0, 0, 0]).to_bytes();
    world.send(admin, abort(12), &[]);
    world.run(60);
    let responses = world.responses(admin);
    let last: Vec<_> =
        responses[before + 1..].iter().map(|r| (r.command_id.get(), r.status(), r.result.get())).collect();
    assert_eq!(last, [(12, Status::ABORT_REQUESTED, 0), (20, Status::SUCCESS, 0)]);
    assert_eq!(world.execute(admin, abort(12), &[]).result.get(), 1);
    // There is room for one again.
    world.send(admin, command(0x0C, 15, 0, NO_DATA, [0; 4]).to_bytes(), &[]);
    world.run(60);
    assert_eq!(world.counters(0).requests_live.value(), 4);
    world.shut_down();
}

#[test]
fn properties_over_the_wire() {
    let (mut world, admin, _) = world();
    let cap = world.execute(admin, property_get(0, true), &[]).result.get();
    assert_eq!(cap & 0xFFFF, 255);
    assert_eq!((cap >> 16 & 1, cap >> 24 & 0xFF, cap >> 37 & 0xFF, cap >> 59), (1, 30, 0x41, 1));
    assert_eq!(world.execute(admin, property_get(0x14, false), &[]).result.get(), 0x0046_0001);
    for get in [property_get(0, false), property_get(0x14, true), property_get(0x1000, false)] {
        assert_eq!(world.execute(admin, get, &[]).status(), Status::INVALID_FIELD);
    }
    // Normal shutdown, and CSTS says that it is complete.
    assert_eq!(world.execute(admin, property_set(0x14, 0x0046_4001), &[]).status(), Status::SUCCESS);
    assert_eq!(world.execute(admin, property_get(0x1C, false), &[]).result.get(), 0b1001);
    world.shut_down();
}

#[test]
fn discovery_tells_each_host_what_it_may_use() {
    let (mut world, _, _) = world();
    for (host_nqn, expected) in
        [(harness::HOST_NQN, vec![NQN, DISCOVERY_NQN]), (OTHER_HOST_NQN, vec![NQN, CLOSED_NQN, DISCOVERY_NQN])]
    {
        let admin = world.open(0, 0, 32);
        let connect = Connect { nqn: DISCOVERY_NQN.into(), host_nqn: host_nqn.into(), ..Connect::new(0, 32) };
        let id = world.execute_connect(admin, &connect);
        assert_eq!(id.status(), Status::SUCCESS);
        world.enable(admin);
        let bytes = identify(&mut world, admin, 1, 0).unwrap();
        let page = IdentifyController::ref_from_bytes(&bytes).unwrap();
        assert_eq!((page.controller_type, trim_text(&page.subsystem_nqn).as_str()), (2, DISCOVERY_NQN));
        assert_eq!(identify(&mut world, admin, 2, 0), Err(Status::INVALID_FIELD));
        let header = log(&mut world, admin, 0x70, 0, 1024).unwrap();
        let header = DiscoveryHeader::ref_from_bytes(&header).unwrap();
        assert_eq!((header.generation.get(), header.entry_count.get()), (1, expected.len() as u64));
        let whole = log(&mut world, admin, 0x70, 0, 8192).unwrap();
        for (index, nqn) in (1..).zip(&expected) {
            let entry = DiscoveryEntry::ref_from_bytes(&whole[index * 1024..][..1024]).unwrap();
            assert_eq!(trim_text(&entry.subsystem_nqn), *nqn);
            assert_eq!((trim_text(&entry.address), trim_text(&entry.service)), ("127.0.0.1".into(), "4420".into()));
        }
        assert!(whole[(expected.len() + 1) * 1024..].iter().all(|byte| *byte == 0));
        // By parts, across records.
        for offset in [4, 1000, 1020, 1024] {
            let part = log(&mut world, admin, 0x70, offset, 512).unwrap();
            assert_eq!(part, whole[offset as usize..][..512], "{offset}");
        }
        assert_eq!(log(&mut world, admin, 0x70, 65536, 64), Err(Status::INVALID_FIELD));
        assert_eq!(log(&mut world, admin, 2, 0, 512), Err(Status::INVALID_LOG_PAGE));
        let queue = world.open(1, 1, 16);
        let io = Connect {
            controller_id: u16::try_from(id.result.get()).unwrap(),
            host_nqn: host_nqn.into(),
            ..Connect::new(1, 16)
        };
        assert_eq!(world.execute_connect(queue, &io).status(), Status::CONNECT_INVALID_PARAMETERS);
        assert_eq!(set_feature(&mut world, admin, 7, 0).0, Status::INVALID_FIELD);
    }
    world.shut_down();
}

#[test]
fn a_specification_that_is_wrong_is_refused_by_field() {
    use nvmf_core::target::{SpecError, Target};
    let spec =
        || harness::target_spec(vec![namespace(1, Arc::new(TestDevice::new("d", 8)))], ControllerSpec::default());
    let sim = reactor::Simulation::<harness::Letter>::new(1, 1);
    let field = |spec| match Target::new(sim.domain(), 1, spec) {
        Ok(target) => {
            assert_eq!(target.live_count(), 0);
            ""
        }
        Err(SpecError::Field { field, .. }) => field,
    };
    assert_eq!(field(spec()), "");
    type Spoil = fn(&mut nvmf_core::spec::TargetSpec);
    let cases: [(&str, Spoil); 14] = [
        ("nqn", |s| s.subsystems[0].nqn = "disk".into()),
        ("nqn", |s| s.subsystems[0].nqn = DISCOVERY_NQN.into()),
        ("nqn", |s| s.subsystems[1].nqn = NQN.into()),
        ("serial_number", |s| s.subsystems[0].serial_number = "x".repeat(21)),
        ("model_number", |s| s.subsystems[0].model_number = "ü".into()),
        ("hosts", |s| s.subsystems[0].hosts.push("host".into())),
        ("listeners", |s| s.subsystems[0].listeners.push(harness::listener())),
        ("nsid", |s| s.subsystems[0].namespaces[0].nsid = 0),
        ("nsid", |s| s.subsystems[0].namespaces[0].nsid = 1025),
        ("device", |s| s.subsystems[1].namespaces = s.subsystems[0].namespaces.clone()),
        ("transfer_len_max", |s| s.controller.transfer_len_max = 12288),
        ("in_capsule_len", |s| s.controller.in_capsule_len = 100),
        ("queue_depth_max", |s| s.controller.queue_depth_max = 1),
        ("admin_queue_depth_max", |s| s.controller.admin_queue_depth_max = 16),
    ];
    for (expected, spoil) in cases {
        let mut spec = spec();
        spoil(&mut spec);
        assert_eq!(field(spec), expected);
    }
}
