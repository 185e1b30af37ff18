//! I/O commands through the walk, over two CPUs: data, statuses, back-pressure, teardown with operations outstanding.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::{Arc, Mutex};

use bdev::{DeviceError, Memory, OperationKind};
use harness::device::{State, TestDevice};
use harness::{
    Conn, Connect, OP_FLUSH, OP_READ, OP_WRITE, OP_WRITE_ZEROES, Options, World, command, io, keyed, namespace,
};
use nvmf_core::DisconnectReason;
use nvmf_core::spec::ControllerSpec;
use nvmf_core::status::Status;
use nvmf_core::wire::SglDescriptor;
use proptest::prelude::*;

const BLOCKS: usize = 2048;

/// Controller on CPU 0, I/O queue on CPU 1.
fn two_cpus(device: TestDevice) -> (World, Conn, Conn, Arc<Mutex<State>>) {
    let state = Arc::clone(&device.state);
    let mut world = World::new(Options::new(vec![namespace(1, Arc::new(device))]));
    let (admin, id) = world.attach(0);
    let io = world.connect_io(1, id, 1);
    (world, admin, io, state)
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|index| (index as u8).wrapping_mul(31) ^ (index >> 8) as u8 ^ seed).collect()
}

#[test]
fn what_is_written_is_read() {
    let (mut world, _, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS));
    let data = pattern(8192, 1);
    world.host_write(1, 0, &data);
    let status = world.execute(queue, io(OP_WRITE, 1, 100, 16, keyed(0, 8192)), &[]).status();
    assert_eq!(status, Status::SUCCESS);
    assert_eq!(state.lock().unwrap().blocks[100 * 512..116 * 512], data);
    let status = world.execute(queue, io(OP_READ, 2, 100, 16, keyed(65536, 8192)), &[]).status();
    assert_eq!(status, Status::SUCCESS);
    assert_eq!(world.host_read(1, 65536, 8192), data);
    let status = world.execute(queue, io(OP_WRITE_ZEROES, 3, 101, 2, SglDescriptor::NO_DATA), &[]).status();
    assert_eq!(status, Status::SUCCESS);
    let status = world.execute(queue, io(OP_READ, 4, 100, 4, keyed(0, 2048)), &[]).status();
    assert_eq!(status, Status::SUCCESS);
    let mut expected = data[..2048].to_vec();
    expected[512..1536].fill(0);
    assert_eq!(world.host_read(1, 0, 2048), expected);
    let flush = command(OP_FLUSH, 5, 1, SglDescriptor::NO_DATA, [0; 4]).to_bytes();
    assert_eq!(world.execute(queue, flush, &[]).status(), Status::SUCCESS);
    let counters = world.counters(1);
    assert_eq!((counters.read_count.value(), counters.write_count.value()), (2, 1));
    assert_eq!((counters.read_bytes.value(), counters.written_bytes.value()), (8192 + 2048, 8192));
    assert_eq!((counters.flush_count.value(), counters.other_count.value()), (1, 1));
    world.shut_down();
}

#[test]
fn fua_and_deallocate_reach_the_device() {
    let (mut world, _, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS));
    let mut write = command(OP_WRITE, 1, 1, keyed(0, 512), [0, 0, 1 << 30, 0]).to_bytes();
    assert_eq!(world.execute(queue, write, &[]).status(), Status::SUCCESS);
    write[0] = OP_WRITE_ZEROES;
    write[51] |= 1 << 1;
    assert_eq!(world.execute(queue, write, &[]).status(), Status::SUCCESS);
    let kinds: Vec<_> = state.lock().unwrap().seen.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(
        kinds,
        [
            OperationKind::Write { force_unit_access: true },
            OperationKind::WriteZeroes { deallocate: true, force_unit_access: true }
        ]
    );
    world.shut_down();
}

#[test]
fn in_capsule_data_is_used_where_it_is_or_copied_where_the_device_needs_alignment() {
    for (offset, is_copied) in [(0, false), (64, true)] {
        let (mut world, _, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS).aligned(512));
        world.wire(1).capsule_offset = offset;
        let data = pattern(1024, 3);
        let write = io(OP_WRITE, 1, 7, 2, SglDescriptor::in_capsule(0, 1024));
        assert_eq!(world.execute(queue, write, &data).status(), Status::SUCCESS);
        assert_eq!(state.lock().unwrap().blocks[7 * 512..9 * 512], data);
        let address = state.lock().unwrap().seen[0].1.unwrap();
        let is_page_of_a_buffer = address % 4096 == 0;
        assert!(is_page_of_a_buffer || !is_copied, "a copy lies in a data buffer");
        // Outside of what came with the capsule.
        for sgl in [SglDescriptor::in_capsule(512, 1024), SglDescriptor::in_capsule(u64::MAX, 1024)] {
            let status = world.execute(queue, io(OP_WRITE, 2, 7, 2, sgl), &data).status();
            assert_eq!(status, Status::SGL_OFFSET_INVALID);
        }
        let status = world.execute(queue, io(OP_WRITE, 3, 7, 2, SglDescriptor::in_capsule(0, 1024)), &[]).status();
        assert_eq!(status, Status::SGL_OFFSET_INVALID);
        world.shut_down();
    }
}

#[test]
fn memory_is_read_in_place_where_the_fabric_can_reach_it() {
    for registered in [true, false] {
        let device = Memory::new("ram", 512, 4096, false).unwrap();
        let mut world = World::new(Options::new(vec![namespace(1, Arc::new(device))]));
        let (_, id) = world.attach(0);
        let queue = world.connect_io(0, id, 1);
        world.wire(0).registered = registered;
        let data = pattern(4096, 9);
        world.host_write(0, 0, &data);
        assert_eq!(world.execute(queue, io(OP_WRITE, 1, 8, 8, keyed(0, 4096)), &[]).status(), Status::SUCCESS);
        world.run(20);
        world.wire(0).hold_finished = true;
        assert_eq!(world.execute(queue, io(OP_READ, 2, 8, 8, keyed(8192, 4096)), &[]).status(), Status::SUCCESS);
        assert_eq!(world.host_read(0, 8192, 4096), data);
        let counters = world.counters(0);
        world.run(10);
        assert_eq!(counters.in_place_count.value(), u64::from(registered));
        assert_eq!(counters.buffers_taken.value(), u64::from(!registered));
        assert_eq!(counters.device_leases.value(), 1, "the lease is held until the push is returned");
        world.wire(0).hold_finished = false;
        world.run(20);
        assert_eq!(counters.device_leases.value(), 0);
        world.shut_down();
    }
}

#[test]
fn commands_that_cannot_be_done_say_why() {
    let (mut world, _, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS));
    let end = BLOCKS as u64;
    let ram = keyed(0, 4096);
    let cases = [
        ("past the end", io(OP_READ, 1, end - 7, 8, ram), Status::LBA_OUT_OF_RANGE),
        ("far past the end", io(OP_WRITE, 1, u64::MAX, 8, ram), Status::LBA_OUT_OF_RANGE),
        ("SGL too short", io(OP_READ, 1, 0, 9, ram), Status::SGL_LENGTH_INVALID),
        ("SGL too long", io(OP_READ, 1, 0, 7, ram), Status::SGL_LENGTH_INVALID),
        ("more than MDTS", io(OP_READ, 1, 0, 512, keyed(0, 256 * 1024)), Status::INVALID_FIELD),
        ("no such command", io(0x55, 1, 0, 8, ram), Status::INVALID_OPCODE),
        ("read into a capsule", io(OP_READ, 1, 0, 8, SglDescriptor::in_capsule(0, 4096)), Status::SGL_TYPE_INVALID),
        ("namespace 0", command(OP_READ, 1, 0, ram, [0, 0, 7, 0]).to_bytes(), Status::INVALID_NAMESPACE),
        ("namespace 2", command(OP_READ, 1, 2, ram, [0, 0, 7, 0]).to_bytes(), Status::INVALID_NAMESPACE),
        ("all namespaces", command(OP_FLUSH, 1, u32::MAX, ram, [0; 4]).to_bytes(), Status::INVALID_NAMESPACE),
        ("zeroes past the end", io(OP_WRITE_ZEROES, 1, end, 1, SglDescriptor::NO_DATA), Status::LBA_OUT_OF_RANGE),
        ("a second Connect", Connect::new(1, 16).build().0.to_bytes(), Status::INVALID_FIELD),
    ];
    for (what, bytes, status) in cases {
        let response = world.execute(queue, bytes, &[]);
        if what != "a second Connect" {
            assert_eq!(response.status(), status, "{what}");
        }
        assert!(!response.status().is_success(), "{what}");
        assert_eq!(response.status_field.get() & 1, 0, "phase is 0");
    }
    assert!(state.lock().unwrap().seen.is_empty(), "none reached the device");
    assert_eq!(world.counters(1).error_count.value(), cases.len() as u64);
    for (error, status) in [
        (DeviceError::ReadFault, Status::UNRECOVERED_READ_ERROR),
        (DeviceError::NoSpace, Status::CAPACITY_EXCEEDED),
        (DeviceError::Internal, Status::INTERNAL_ERROR),
    ] {
        state.lock().unwrap().failure = Some(error);
        assert_eq!(world.execute(queue, io(OP_READ, 9, 0, 8, ram), &[]).status(), status);
    }
    world.shut_down();
    let (mut world, _, queue, _) = two_cpus(TestDevice::new("disk", BLOCKS).read_only());
    let status = world.execute(queue, io(OP_WRITE, 1, 0, 8, ram), &[]).status();
    assert_eq!(status, Status::NAMESPACE_WRITE_PROTECTED);
    world.shut_down();
}

#[test]
fn the_head_advances_and_keys_are_invalidated() {
    let (mut world, _, queue, _) = two_cpus(TestDevice::new("disk", BLOCKS));
    // Connect was command 1 of 16.
    let heads: Vec<_> =
        (0..20).map(|id| world.execute(queue, io(OP_READ, id, 0, 1, keyed(0, 512)), &[]).sq_head.get()).collect();
    let expected: Vec<u16> = (2..22).map(|fetched| fetched % 16).collect();
    assert_eq!(heads, expected);
    let remote = nvmf_core::RemoteBuffer { address: 0, len: 512, key: 0xABCD };
    let sgl = SglDescriptor::keyed(remote, true).unwrap();
    world.execute(queue, io(OP_READ, 1, 0, 1, sgl), &[]);
    let invalidated = world.wire(1).connections[0].invalidated.clone();
    assert_eq!(invalidated.last(), Some(&Some(0xABCD)));
    assert!(invalidated[..invalidated.len() - 1].iter().all(Option::is_none));
    world.shut_down();
}

/// SGL1 for the `pieces` (address and bytes) of the host's memory, and their descriptors; those in `invalidated` ask for their keys to be so.
fn listed(pieces: &[(u64, u32)], invalidated: &[usize]) -> (SglDescriptor, Vec<u8>) {
    let descriptor = |(index, (address, len)): (usize, &(u64, u32))| {
        let remote = nvmf_core::RemoteBuffer { address: *address, len: *len, key: index as u32 };
        SglDescriptor::keyed(remote, invalidated.contains(&index)).unwrap().to_bytes()
    };
    let list = pieces.iter().enumerate().flat_map(descriptor).collect();
    (SglDescriptor::last_segment(0, pieces.len() as u8), list)
}

#[test]
fn data_may_be_in_several_pieces() {
    let (mut world, _, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS));
    let data = pattern(2048, 5);
    for (address, part) in [(0, 0..100), (9000, 100..100), (5000, 100..1500), (300, 1500..2048)] {
        world.host_write(1, address, &data[part]);
    }
    let pieces = [(0, 100), (9000, 0), (5000, 1400), (300, 548)];
    let (sgl, list) = listed(&pieces, &[0, 2]);
    assert_eq!(world.execute(queue, io(OP_WRITE, 1, 40, 4, sgl), &list).status(), Status::SUCCESS);
    assert_eq!(state.lock().unwrap().blocks[40 * 512..44 * 512], data);
    assert_eq!(world.wire(1).connections[0].invalidated.last(), Some(&Some(2)), "one key, the last that was asked for");

    let (sgl, list) = listed(&[(20_000, 1), (30_000, 2047)], &[]);
    assert_eq!(world.execute(queue, io(OP_READ, 2, 40, 4, sgl), &list).status(), Status::SUCCESS);
    assert_eq!([world.host_read(1, 20_000, 1), world.host_read(1, 30_000, 2047)].concat(), data);
    assert_eq!(world.host_read(1, 20_001, 1), [0], "nothing behind a piece is written");

    // As many as there may be.
    let sixteen: Vec<_> = (0..16).map(|index| (40_000 + index * 200, 128)).collect();
    let (sgl, list) = listed(&sixteen, &[15]);
    assert_eq!(world.execute(queue, io(OP_READ, 3, 40, 4, sgl), &list).status(), Status::SUCCESS);
    let read: Vec<_> = sixteen.iter().flat_map(|(address, _)| world.host_read(1, *address as usize, 128)).collect();
    assert_eq!(read, data);
    world.shut_down();
}

#[test]
fn lists_that_are_none_say_why() {
    let (mut world, _, queue, _) = two_cpus(TestDevice::new("disk", BLOCKS));
    let mut status = |sgl: SglDescriptor, list: &[u8]| world.execute(queue, io(OP_READ, 1, 0, 1, sgl), list).status();
    let whole = [(0, 512)];
    let (sgl, list) = listed(&whole, &[]);
    assert_eq!(status(sgl, &list), Status::SUCCESS);
    assert_eq!(status(sgl, &list[..15]), Status::SGL_OFFSET_INVALID);
    assert_eq!(status(sgl, &[]), Status::SGL_OFFSET_INVALID);
    assert_eq!(status(SglDescriptor::last_segment(1, 1), &list), Status::SGL_OFFSET_INVALID);
    assert_eq!(status(SglDescriptor::last_segment(u32::MAX, 1), &list), Status::SGL_OFFSET_INVALID);
    assert_eq!(status(SglDescriptor::last_segment(0, 0), &list), Status::SGL_SEGMENT_INVALID);
    let seventeen = listed(&[(0, 512); 17], &[]);
    assert_eq!(status(seventeen.0, &seventeen.1), Status::SGL_COUNT_INVALID);
    // A part of a descriptor; an offset of more than 32 bits.
    let mut bytes = sgl.to_bytes();
    bytes[8] = 15;
    assert_eq!(status(SglDescriptor::from_bytes(bytes), &list), Status::SGL_SEGMENT_INVALID);
    bytes[8] = 16;
    bytes[5] = 1;
    assert_eq!(status(SglDescriptor::from_bytes(bytes), &list), Status::SGL_OFFSET_INVALID);
    // What is listed is data behind keys, of the length that the command has.
    for inner in [SglDescriptor::in_capsule(0, 512), sgl, SglDescriptor::default()] {
        assert_eq!(status(sgl, &inner.to_bytes()), Status::SGL_TYPE_INVALID);
    }
    for len in [511, 513] {
        let (sgl, list) = listed(&[(0, len)], &[]);
        assert_eq!(status(sgl, &list), Status::SGL_LENGTH_INVALID);
    }
    world.shut_down();
}

#[test]
fn requests_that_find_no_buffer_wait_in_order() {
    let device = TestDevice::new("disk", BLOCKS);
    let state = Arc::clone(&device.state);
    let mut options = Options::new(vec![namespace(1, Arc::new(device))]);
    // Half of it is three large buffers.
    options.data_memory_len = 96 * 1024;
    options.controller = ControllerSpec { transfer_len_max: 16 * 1024, ..ControllerSpec::default() };
    let mut world = World::new(options);
    let (admin, id) = world.attach(0);
    let queue = world.connect_io(0, id, 1);
    state.lock().unwrap().hold = true;
    for id in 0..10u16 {
        world.send(queue, io(OP_READ, id, u64::from(id), 32, keyed(0, 16 * 1024)), &[]);
    }
    world.run(60);
    let counters = world.counters(0);
    assert_eq!((counters.buffers_awaited.value(), counters.buffer_wait_count.value()), (buffers_short(10, 3), 7));
    // Abort takes one of them out.
    let abort = command(0x08, 77, 0, SglDescriptor::NO_DATA, [9 << 16 | 1, 0, 0, 0]).to_bytes();
    assert_eq!(world.execute(admin, abort, &[]).result.get(), 0, "aborted");
    let again = world.execute(admin, abort, &[]);
    assert_eq!((again.status(), again.result.get()), (Status::SUCCESS, 1), "there is no such command any more");
    state.lock().unwrap().hold = false;
    world.run(200);
    let ids: Vec<_> = world.responses(queue)[1..].iter().map(|r| (r.command_id.get(), r.status())).collect();
    let mut expected = vec![(9, Status::ABORT_REQUESTED)];
    expected.extend((0..9).map(|id| (id, Status::SUCCESS)));
    assert_eq!(ids, expected);
    world.shut_down();
}

fn buffers_short(requests: u64, buffers: u64) -> u64 {
    requests - buffers
}

#[test]
fn a_draining_qpair_waits_for_its_device() {
    for reason in [DisconnectReason::PeerGone, DisconnectReason::Host] {
        let (mut world, admin, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS));
        state.lock().unwrap().hold = true;
        for id in 0..8 {
            let opcode = if id % 2 == 0 { OP_READ } else { OP_WRITE };
            world.send(queue, io(opcode, id, 0, 8, keyed(0, 4096)), &[]);
        }
        world.run(40);
        world.disconnect(queue, reason);
        world.run(200);
        assert!(!world.is_closed(queue), "operations are outstanding");
        assert_eq!(world.counters(1).device_leases.value(), 8);
        let before = world.responses(queue).len();
        state.lock().unwrap().hold = false;
        world.run(200);
        assert!(world.is_closed(queue));
        assert_eq!(world.responses(queue).len(), before, "a draining qpair answers nothing");
        assert!(world.ended(admin).is_none(), "the controller lives on");
        world.shut_down();
    }
}

#[test]
fn transfers_that_never_end_are_released_with_their_qpair() {
    let (mut world, _, queue, _) = two_cpus(TestDevice::new("disk", BLOCKS));
    world.wire(1).hold_pulls = true;
    for id in 0..4 {
        world.send(queue, io(OP_WRITE, id, 0, 8, keyed(0, 4096)), &[]);
    }
    world.run(40);
    assert_eq!(world.counters(1).buffers_taken.value(), 4);
    world.disconnect(queue, DisconnectReason::PeerGone);
    world.run(60);
    assert!(world.is_closed(queue));
    // The late arrivals come after all: stale, counted, dropped.
    world.wire(1).hold_pulls = false;
    world.run(20);
    assert_eq!(world.counters(1).stale_handle_count.value(), 4);
    assert_eq!(world.counters(1).buffers_taken.value(), 0);
}

#[test]
fn disconnect_is_answered_and_then_ends_the_queue() {
    let (mut world, admin, queue, _) = two_cpus(TestDevice::new("disk", BLOCKS));
    let disconnect = nvmf_core::wire::DisconnectEntry::new(nvmf_core::wire::FabricsType::Disconnect).to_bytes();
    assert_eq!(world.execute(queue, disconnect, &[]).status(), Status::SUCCESS);
    world.run(60);
    assert_eq!(world.ended(queue), Some(DisconnectReason::Host));
    assert!(world.is_closed(queue));
    assert_eq!(world.execute(admin, disconnect, &[]).status(), Status::INVALID_QUEUE_TYPE);
    world.shut_down();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever 64 bytes come, on either kind of queue: one response each, nothing panics, nothing is left over.
    #[test]
    fn any_capsule_has_one_response(
        seed: u64,
        capsules in proptest::collection::vec(
            (proptest::array::uniform32(any::<u8>()), any::<[u8; 32]>(), 0u8..16, 0u8..4, any::<bool>(), 0usize..3),
            1..40,
        ),
    ) {
        let device = TestDevice::new("disk", BLOCKS);
        let mut options = Options::new(vec![namespace(1, Arc::new(device))]);
        options.seed = seed;
        let mut world = World::new(options);
        let (admin, id) = world.attach(0);
        let queue = world.connect_io(1, id, 1);
        let mut expected = [world.responses(admin).len(), world.responses(queue).len()];
        let mut held = 0;
        for (low, high, opcode, shape, on_admin, blocks) in capsules {
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(&low);
            bytes[32..].copy_from_slice(&high);
            // Most random bytes fall at the first check: three of four are shaped to get further.
            if shape > 0 {
                bytes[0] = if shape == 1 { 0x7F } else { opcode };
                bytes[1] = 0x40;
                bytes[4..8].copy_from_slice(&u32::from(shape == 3).to_le_bytes());
            }
            if shape == 3 {
                let len = (blocks as u32 + 1) * 512;
                bytes[24..40].copy_from_slice(zerocopy::IntoBytes::as_bytes(&keyed(4096, len)));
                bytes[42..48].fill(0);
                bytes[48..52].copy_from_slice(&(blocks as u32).to_le_bytes());
            }
            // A pull or push must stay inside the fake host's memory; and no reset, which ends the I/O queue.
            if matches!(bytes[39], 0x40 | 0x4F) {
                bytes[24..32].fill(0);
                bytes[34] = 0;
            }
            if bytes[0] == 0x7F && matches!(bytes[4], 0x00 | 0x08) {
                continue;
            }
            let (conn, at) = if on_admin { (admin, 0) } else { (queue, 1) };
            if on_admin && bytes[0] == 0x0C && bytes[1] & 0xC3 == 0x40 && held < 4 {
                held += 1;
                expected[0] -= 1;
            }
            // Abort may release one that is held.
            if on_admin && bytes[0] == 0x08 { continue; }
            world.send(conn, bytes, &[0xAA; 64]);
            expected[at] += 1;
            world.run(12);
        }
        // The first command of a pair waits for the next one of its queue.
        world.send(queue, command(OP_FLUSH, 1, 1, SglDescriptor::NO_DATA, [0; 4]).to_bytes(), &[]);
        expected[1] += 1;
        world.run(1000);
        prop_assert_eq!([world.responses(admin).len(), world.responses(queue).len()], expected);
        prop_assert_eq!((world.ended(admin), world.ended(queue)), (None, None));
        world.shut_down();
    }
}
