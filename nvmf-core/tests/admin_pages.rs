//! What NVMe 2.0 makes mandatory: Identify by I/O command set and without one, the logs of what is supported, features with their scopes and data, and
//! what a reset leaves of them.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use harness::admin::{identify, world};
use harness::{Conn, World, command, keyed, property_get, property_set};
use nvmf_core::status::Status;
use nvmf_core::wire::identify::{ControllerList, NamespaceIdentifiers, NamespaceIndependent, NamespaceList};
use nvmf_core::wire::log::{EffectsLog, FeatureEffectsLog, SupportedLogs};
use nvmf_core::wire::{DISCOVERY_NQN, SglDescriptor};
use zerocopy::FromBytes;

const NO_DATA: SglDescriptor = SglDescriptor::NO_DATA;
const ALL: u32 = 0xFFFF_FFFF;

fn log(world: &mut World, admin: Conn, page: u32, len: u32) -> Vec<u8> {
    let entry = command(0x02, 1, ALL, keyed(0, len), [page | (len / 4 - 1) << 16, 0, 0, 0]);
    assert_eq!(world.execute(admin, entry.to_bytes(), &[]).status(), Status::SUCCESS, "{page:#x}");
    world.host_read(0, 0, len as usize)
}

fn set(world: &mut World, admin: Conn, feature: u32, nsid: u32, value: u32) -> Status {
    world.execute(admin, command(0x09, 1, nsid, NO_DATA, [feature, value, 0, 0]).to_bytes(), &[]).status()
}

/// Get Features of `select`: 0 current, 1 default, 2 saved, 3 capabilities.
fn get(world: &mut World, admin: Conn, feature: u32, select: u32, nsid: u32) -> Result<u64, Status> {
    let entry = command(0x0A, 1, nsid, NO_DATA, [feature | select << 8, 0, 0, 0]);
    let response = world.execute(admin, entry.to_bytes(), &[]);
    if response.status().is_success() { Ok(response.result.get()) } else { Err(response.status()) }
}

#[test]
fn identify_by_command_set_and_without() {
    let (mut world, admin, id) = world();
    assert!(identify(&mut world, admin, 0x05, 1, 0).unwrap().iter().all(|byte| *byte == 0));
    assert!(identify(&mut world, admin, 0x05, ALL, 0) == Err(Status::INVALID_NAMESPACE));
    assert!(identify(&mut world, admin, 0x06, 0, 0).is_ok());
    let list = identify(&mut world, admin, 0x07, 1, 0).unwrap();
    assert_eq!(NamespaceList::ref_from_bytes(&list).unwrap().iter().collect::<Vec<_>>(), [5]);
    for structure in [0x05, 0x06, 0x07] {
        assert_eq!(identify(&mut world, admin, structure, 1, 2), Err(Status::INVALID_FIELD), "no zoned namespaces");
    }
    let page = identify(&mut world, admin, 0x08, 5, 0).unwrap();
    let page = NamespaceIndependent::ref_from_bytes(&page).unwrap();
    assert_eq!((page.nmic, page.nsattr, page.nstat), (1, 1, 1), "shared, read only, ready");
    assert!(identify(&mut world, admin, 0x08, 3, 0).unwrap().iter().all(|byte| *byte == 0), "not active");
    let ids = NamespaceIdentifiers::from_page(&identify(&mut world, admin, 0x03, 5, 0).unwrap());
    assert_eq!(ids.command_set, Some(0));
    for this in [0xFFFF, u32::from(id)] {
        let combinations = identify(&mut world, admin, 0x1C | this << 16, 0, 0).unwrap();
        assert_eq!((combinations[0], combinations[1..].iter().all(|byte| *byte == 0)), (1, true));
    }
    assert_eq!(identify(&mut world, admin, 0x1C | 0x123 << 16, 0, 0), Err(Status::INVALID_FIELD));
    world.shut_down();
}

#[test]
fn the_controllers_of_a_subsystem() {
    let (mut world, admin, id) = world();
    let (other, other_id) = world.attach(1);
    let (_discovery, _) = world.connect_admin(1, DISCOVERY_NQN, 0);
    let list = |world: &mut World, first: u32| {
        let bytes = identify(world, admin, 0x13 | first << 16, 0, 0).unwrap();
        let list = ControllerList::ref_from_bytes(&bytes).unwrap();
        list.ids[..usize::from(list.count.get())].iter().map(|id| id.get()).collect::<Vec<_>>()
    };
    assert_eq!(list(&mut world, 0), [id, other_id], "of this subsystem, and not the discovery controller");
    assert_eq!(list(&mut world, u32::from(id) + 1), [other_id]);
    world.disconnect(other, nvmf_core::DisconnectReason::Host);
    world.run(100);
    assert_eq!(list(&mut world, 0), [id]);
    world.shut_down();
}

#[test]
fn logs_of_what_is_supported_agree_with_what_is_done() {
    let (mut world, admin, _) = world();
    let (discovery, _) = world.connect_admin(0, DISCOVERY_NQN, 0);
    world.enable(discovery);
    for conn in [admin, discovery] {
        let pages = log(&mut world, conn, 0x00, 1024);
        let pages = SupportedLogs::ref_from_bytes(&pages).unwrap().clone();
        for (page, told) in (0..=0xFFu32).zip(pages.pages) {
            let entry = command(0x02, 1, ALL, keyed(0, 64), [page | 15 << 16, 0, 0, 0]);
            let status = world.execute(conn, entry.to_bytes(), &[]).status();
            let expected = if told.get() & 1 == 1 { Status::SUCCESS } else { Status::INVALID_LOG_PAGE };
            assert_eq!(status, expected, "{page:#x}");
        }
        let features = log(&mut world, conn, 0x12, 1024);
        let features = FeatureEffectsLog::ref_from_bytes(&features).unwrap().clone();
        for (feature, told) in (0..=0xFFu32).zip(features.features) {
            let nsid = if told.get() >> 20 & 1 == 1 { 1 } else { 0 };
            let is_there = get(&mut world, conn, feature, 3, nsid).is_ok();
            assert_eq!(is_there, told.get() & 1 == 1, "{feature:#x}");
        }
    }
    let effects = log(&mut world, admin, 0x05, 4096);
    let effects = EffectsLog::ref_from_bytes(&effects).unwrap();
    assert_eq!((effects.io[1].get() & 3, effects.io[2].get() & 3, effects.io[0x77].get()), (3, 1, 0));
    assert!(log(&mut world, admin, 0x13, 4096).iter().all(|byte| *byte == 0), "no NVMe-MI");
    world.shut_down();
}

#[test]
fn features_have_scopes_defaults_and_capabilities() {
    let (mut world, admin, _) = world();
    // Of a namespace.
    assert_eq!(set(&mut world, admin, 5, 1, 77), Status::SUCCESS);
    assert_eq!((get(&mut world, admin, 5, 0, 1), get(&mut world, admin, 5, 0, 5)), (Ok(77), Ok(0)));
    assert_eq!(set(&mut world, admin, 5, ALL, 8), Status::SUCCESS);
    assert_eq!((get(&mut world, admin, 5, 0, 1), get(&mut world, admin, 5, 0, 5)), (Ok(8), Ok(8)));
    assert_eq!(get(&mut world, admin, 5, 1, 1), Ok(0), "the default");
    for nsid in [0, 3, 99, ALL] {
        assert_eq!(get(&mut world, admin, 5, 0, nsid), Err(Status::INVALID_NAMESPACE), "{nsid}");
    }
    assert_eq!(set(&mut world, admin, 5, 1, 1 << 16), Status::INVALID_FIELD, "DULBE");
    // Of the controller.
    assert_eq!(set(&mut world, admin, 0x0A, 1, 1), Status::FEATURE_NOT_NAMESPACE_SPECIFIC);
    assert_eq!(set(&mut world, admin, 0x0A, 3, 1), Status::INVALID_NAMESPACE);
    assert_eq!(set(&mut world, admin, 0x0A, ALL, 1), Status::SUCCESS);
    assert_eq!((get(&mut world, admin, 0x0A, 0, 0), get(&mut world, admin, 0x0A, 2, 0)), (Ok(1), Ok(0)));
    // Changeable, per namespace; changeable; neither.
    let capabilities = [(5, 0b110), (0x0A, 0b100), (0x0F, 0b100), (0x81, 0), (6, 0)];
    for (feature, expected) in capabilities {
        assert_eq!(get(&mut world, admin, feature, 3, 1), Ok(expected), "{feature:#x}");
    }
    world.shut_down();
}

#[test]
fn features_that_bring_data() {
    let (mut world, admin, _) = world();
    let transfer = |world: &mut World, opcode, feature, len| {
        world.execute(admin, command(opcode, 1, 0, keyed(256, len), [feature, 0, 0, 0]).to_bytes(), &[]).status()
    };
    // Host Behavior Support.
    let mut behavior = vec![0; 512];
    behavior[0] = 1;
    world.host_write(0, 256, &behavior);
    assert_eq!(transfer(&mut world, 0x09, 0x16, 512), Status::SUCCESS);
    world.host_write(0, 256, &[0xEE; 512]);
    assert_eq!(transfer(&mut world, 0x0A, 0x16, 512), Status::SUCCESS);
    assert_eq!(world.host_read(0, 256, 512), behavior);
    behavior[2] = 2;
    world.host_write(0, 256, &behavior);
    assert_eq!(transfer(&mut world, 0x09, 0x16, 512), Status::INVALID_FIELD);
    assert_eq!(transfer(&mut world, 0x09, 0x16, 511), Status::SGL_LENGTH_INVALID);
    assert_eq!(set(&mut world, admin, 0x16, 0, 0), Status::SGL_LENGTH_INVALID);
    // Timestamp goes on by itself.
    world.host_write(0, 256, &[0x10, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(transfer(&mut world, 0x09, 0x0E, 8), Status::SUCCESS);
    world.pass(500);
    assert_eq!(transfer(&mut world, 0x0A, 0x0E, 8), Status::SUCCESS);
    let stamp = u64::from_le_bytes(world.host_read(0, 256, 8).try_into().unwrap());
    let (ms, attributes) = (stamp & 0xFFFF_FFFF_FFFF, stamp >> 48);
    assert!((0x0100_0000_0010 + 500..0x0100_0000_0010 + 700).contains(&ms), "{ms:#x}");
    assert_eq!(attributes, 0b10, "set by a host");
    world.run(60);
    assert_eq!(world.counters(0).buffers_taken.value(), 0);
    world.shut_down();
}

#[test]
fn a_reset_brings_the_defaults_back() {
    let (mut world, admin, _) = world();
    assert_eq!(set(&mut world, admin, 0x0A, 0, 1), Status::SUCCESS);
    assert_eq!(set(&mut world, admin, 0x0B, 0, 0), Status::SUCCESS);
    assert_eq!(set(&mut world, admin, 0x07, 0, 0), Status::SUCCESS);
    assert_eq!(set(&mut world, admin, 0x0F, 0, 30_000), Status::SUCCESS);
    world.host_write(0, 256, &[1, 1, 1, 1, 1, 1, 0, 0]);
    world.execute(admin, command(0x09, 1, 0, keyed(256, 8), [0x0E, 0, 0, 0]).to_bytes(), &[]);
    assert_eq!(world.execute(admin, property_set(0x14, 0), &[]).status(), Status::SUCCESS);
    assert_eq!(world.execute(admin, property_get(0x1C, false), &[]).result.get(), 0);
    assert_eq!(get(&mut world, admin, 0x0A, 0, 0), Err(Status::COMMAND_SEQUENCE_ERROR), "not enabled");
    // All I/O command sets that there are.
    assert_eq!(world.execute(admin, property_set(0x14, 0x0046_0061), &[]).status(), Status::SUCCESS);
    assert_eq!(get(&mut world, admin, 0x0A, 0, 0), Ok(0));
    assert_eq!(get(&mut world, admin, 0x0B, 0, 0), Ok(1 << 8));
    assert_eq!(get(&mut world, admin, 0x07, 0, 0), Ok(126 << 16 | 126));
    assert_eq!(get(&mut world, admin, 0x0F, 0, 0), Ok(30_000), "the keep-alive timeout is the connection's");
    let read = command(0x0A, 1, 0, keyed(256, 8), [0x0E, 0, 0, 0]).to_bytes();
    assert_eq!(world.execute(admin, read, &[]).status(), Status::SUCCESS);
    assert_eq!(world.host_read(0, 256, 8), [0; 8], "cleared by a reset");
    world.shut_down();
}
