//! What a controller learns of its queues on other CPUs: signs of life, what they have read and written, what failed.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::Arc;

use harness::device::TestDevice;
use harness::{Conn, NQN, OP_READ, OP_WRITE, Options, World, command, io, keyed, namespace};
use nvmf_core::DisconnectReason;
use nvmf_core::status::Status;
use nvmf_core::wire::log::{ErrorEntry, SmartLog};
use nvmf_core::wire::{DISCOVERY_NQN, SglDescriptor};
use zerocopy::FromBytes;

const ALL: u32 = 0xFFFF_FFFF;

fn world() -> World {
    World::new(Options::new(vec![namespace(1, Arc::new(TestDevice::new("disk", 4096)))]))
}

fn log(world: &mut World, admin: Conn, page: u32, len: u32) -> Vec<u8> {
    let entry = command(0x02, 1, ALL, keyed(0, len), [page | (len / 4 - 1) << 16, 0, 0, 0]);
    assert_eq!(world.execute(admin, entry.to_bytes(), &[]).status(), Status::SUCCESS, "{page:#x}");
    world.host_read(0, 0, len as usize)
}

fn read(world: &mut World, queue: Conn, id: u16, block: u64, count: u32) -> Status {
    world.execute(queue, io(OP_READ, id, block, count, keyed(8192, count * 512)), &[]).status()
}

#[test]
fn a_command_on_another_cpu_is_a_sign_of_life() {
    let mut world = world();
    let (admin, id) = world.connect_admin(0, NQN, 1000);
    world.enable(admin);
    let queue = world.connect_io(1, id, 1);
    // Nothing but reads of the queue on the other CPU, for ten times the timeout.
    for _ in 0..25 {
        world.pass(400);
        assert_eq!(read(&mut world, queue, 7, 0, 1), Status::SUCCESS);
    }
    assert_eq!(world.ended(admin), None);
    assert_eq!(world.counters(0).keep_alive_expired_count.value(), 0);
    // An interval without a command ends it: at the latest after two.
    world.pass(2100);
    assert_eq!((world.ended(admin), world.is_closed(queue)), (Some(DisconnectReason::KeepAlive), true));
    assert_eq!(world.counters(0).keep_alive_expired_count.value(), 1);
    world.shut_down();
}

#[test]
fn a_command_on_the_admin_queue_is_one_too() {
    let mut world = world();
    let (admin, _) = world.connect_admin(0, NQN, 1000);
    world.enable(admin);
    for _ in 0..10 {
        world.pass(700);
        log(&mut world, admin, 2, 512);
    }
    assert_eq!(world.ended(admin), None);
    world.pass(2100);
    assert_eq!(world.ended(admin), Some(DisconnectReason::KeepAlive));
    world.shut_down();
}

#[test]
fn a_discovery_controller_without_keep_alive_ends_after_two_quiet_minutes() {
    let mut world = world();
    let (discovery, _) = world.connect_admin(0, DISCOVERY_NQN, 0);
    world.enable(discovery);
    let (io_controller, _) = world.attach(0);
    world.pass(119_000);
    assert_eq!(world.ended(discovery), None);
    world.pass(122_000);
    assert_eq!(world.ended(discovery), Some(DisconnectReason::KeepAlive));
    assert_eq!(world.ended(io_controller), None, "an I/O controller without keep-alive has no limit");
    world.shut_down();
}

#[test]
fn smart_counts_what_the_queues_did_here_and_elsewhere() {
    let mut world = world();
    let (admin, id) = world.attach(0);
    let (here, there) = (world.connect_io(0, id, 1), world.connect_io(1, id, 2));
    let (other, other_id) = world.attach(1);
    let others = world.connect_io(0, other_id, 1);
    let smart = |world: &mut World, admin| SmartLog::read_from_bytes(&log(world, admin, 2, 512)).unwrap();
    assert_eq!(read(&mut world, here, 1, 0, 8), Status::SUCCESS);
    for block in 0..250 {
        assert_eq!(read(&mut world, there, 2, block * 8, 8), Status::SUCCESS);
    }
    assert_eq!(read(&mut world, others, 2, 0, 8), Status::SUCCESS);
    let write = io(OP_WRITE, 3, 0, 8, SglDescriptor::in_capsule(0, 4096));
    assert_eq!(world.execute(there, write, &[1; 4096]).status(), Status::SUCCESS);
    let log = smart(&mut world, admin);
    assert_eq!((log.host_reads.get(), log.host_writes.get()), (251, 1));
    // 251 * 8 blocks of 512: three thousands, rounded up.
    assert_eq!((log.data_units_read.get(), log.data_units_written.get()), (3, 1));
    assert_eq!((log.available_spare, log.power_on_hours.get()), (100, 0));
    // What a queue did stays when it has left.
    world.disconnect(there, DisconnectReason::Host);
    world.run(200);
    assert!(world.is_closed(there));
    assert_eq!(smart(&mut world, admin).host_reads.get(), 251);
    let bytes = {
        let entry = command(0x02, 1, ALL, keyed(0, 512), [2 | 127 << 16, 0, 0, 0]);
        assert_eq!(world.execute(other, entry.to_bytes(), &[]).status(), Status::SUCCESS);
        world.host_read(1, 0, 512)
    };
    assert_eq!(SmartLog::read_from_bytes(&bytes).unwrap().host_reads.get(), 1, "each controller its own");
    world.shut_down();
}

#[test]
fn errors_of_all_queues_are_in_the_log_newest_first() {
    let mut world = world();
    let (admin, id) = world.attach(0);
    let (here, there) = (world.connect_io(0, id, 1), world.connect_io(1, id, 2));
    let entries = |world: &mut World| {
        let page = log(world, admin, 1, 4096);
        let entries = page.chunks(64).map(|entry| ErrorEntry::read_from_bytes(entry).unwrap());
        entries.take_while(|entry| entry.error_count.get() != 0).collect::<Vec<_>>()
    };
    assert_eq!(entries(&mut world), []);
    assert_eq!(read(&mut world, here, 0x11, 5000, 1), Status::LBA_OUT_OF_RANGE);
    assert_eq!(read(&mut world, there, 0x22, 6000, 1), Status::LBA_OUT_OF_RANGE);
    world.run(100);
    // CNS 77h, at byte 40.
    let entry = command(0x06, 0x33, 9, keyed(0, 4096), [0x77, 0, 0, 0]);
    assert_eq!(world.execute(admin, entry.to_bytes(), &[]).status(), Status::INVALID_FIELD);
    let told: Vec<_> = entries(&mut world)
        .iter()
        .map(|entry| {
            assert_eq!(entry.transport_type, 1, "RDMA");
            let status = Status::from_field(entry.status_field.get());
            let (sqid, command_id) = (entry.sqid.get(), entry.command_id.get());
            let place = (entry.nsid.get(), entry.lba.get(), entry.parameter_location.get());
            (entry.error_count.get(), sqid, command_id, status, place)
        })
        .collect();
    assert_eq!(
        told,
        [
            (3, 0, 0x33, Status::INVALID_FIELD, (9, 0, 40)),
            (2, 2, 0x22, Status::LBA_OUT_OF_RANGE, (1, 6000, 0xFFFF)),
            (1, 1, 0x11, Status::LBA_OUT_OF_RANGE, (1, 5000, 0xFFFF)),
        ]
    );
    // A flood: each is counted, the newest are kept, and one report is under way at a time.
    for id in 0..200 {
        world.send(there, io(OP_READ, 0x100 + id, 7000, 1, keyed(8192, 512)), &[]);
    }
    for _ in 0..50 {
        world.run(100);
    }
    assert_eq!(world.responses(there).len(), 1 + 1 + 200);
    let entries = entries(&mut world);
    assert_eq!(entries[0].error_count.get(), 203);
    assert_eq!((entries[0].command_id.get(), entries[0].lba.get()), (0x100 + 199, 7000));
    assert!(entries.is_sorted_by_key(|entry| std::cmp::Reverse(entry.error_count.get())) && entries.len() <= 64);
    let smart = SmartLog::read_from_bytes(&log(&mut world, admin, 2, 512)).unwrap();
    assert_eq!(smart.error_log_entries.get(), 203);
    assert_eq!(world.counters(0).stale_handle_count.value() + world.counters(1).stale_handle_count.value(), 0);
    world.shut_down();
}
