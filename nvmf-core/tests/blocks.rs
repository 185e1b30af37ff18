//! Compare, Verify, Dataset Management, Copy and Write Uncorrectable through the walk, over two CPUs.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::{Arc, Mutex};

use bdev::{DeviceError, OperationKind};
use harness::device::{State, TestDevice};
use harness::{Conn, OP_READ, Options, World, io, namespace};
use nvmf_core::command::{BlockRange, DataPointer};
use nvmf_core::host;
use nvmf_core::status::Status;
use nvmf_core::wire::SglDescriptor;
use nvmf_core::{DisconnectReason, RemoteBuffer};

const BLOCKS: usize = 4096;
const NSID: u32 = 1;

/// Controller on CPU 0, I/O queue on CPU 1; each block has bytes of its own.
fn two_cpus(device: TestDevice) -> (World, Conn, Arc<Mutex<State>>) {
    let state = Arc::clone(&device.state);
    for (at, byte) in state.lock().unwrap().blocks.iter_mut().enumerate() {
        *byte = (at / 512 * 3 + at % 253) as u8;
    }
    let mut world = World::new(Options::new(vec![namespace(NSID, Arc::new(device))]));
    let (_, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    (world, queue, state)
}

fn blocks(state: &Mutex<State>, range: std::ops::Range<usize>) -> Vec<u8> {
    state.lock().unwrap().blocks[range.start * 512..range.end * 512].to_vec()
}

fn range(start: u64, count: u32) -> BlockRange {
    BlockRange::new(start, count).unwrap()
}

fn keyed(at: usize, len: usize) -> DataPointer {
    DataPointer::Keyed { buffer: RemoteBuffer { address: at as u64, len: len as u32, key: 1 }, invalidate: false }
}

fn capsule(len: usize) -> DataPointer {
    DataPointer::InCapsule { offset: 0, len: len as u32 }
}

#[test]
fn a_comparison_of_any_size_is_made_wherever_its_data_is() {
    let (mut world, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS).aligned(4096));
    for (start, count) in [(0, 1), (7, 8), (100, 256), (3840, 256)] {
        let data = blocks(&state, start as usize..start as usize + count as usize);
        world.host_write(1, 0, &data);
        let command = host::compare(1, NSID, range(start, count), keyed(0, data.len()));
        assert_eq!(world.execute(queue, command, &[]).status(), Status::SUCCESS, "{start}+{count}");
        for at in [0, data.len() / 2, data.len() - 1] {
            world.host_write(1, at, &[!data[at]]);
            assert_eq!(world.execute(queue, command, &[]).status(), Status::COMPARE_FAILURE, "byte {at}");
            world.host_write(1, at, &[data[at]]);
        }
        if data.len() <= 4096 {
            let command = host::compare(1, NSID, range(start, count), capsule(data.len()));
            assert_eq!(world.execute(queue, command, &data).status(), Status::SUCCESS);
            let mut other = data.clone();
            *other.last_mut().unwrap() ^= 0x80;
            assert_eq!(world.execute(queue, command, &other).status(), Status::COMPARE_FAILURE);
        }
    }
    // In pieces of the host's memory that are no multiples of anything.
    let data = blocks(&state, 200..300);
    world.host_write(1, 0, &data[..10_001]);
    world.host_write(1, 500_000, &data[10_001..]);
    let mut command = host::compare(1, NSID, range(200, 100), keyed(0, 0));
    let list: Vec<u8> = [(0, 10_001), (500_000, data.len() - 10_001)]
        .into_iter()
        .flat_map(|(address, len)| {
            let remote = RemoteBuffer { address, len: len as u32, key: 1 };
            SglDescriptor::keyed(remote, false).unwrap().to_bytes()
        })
        .collect();
    command[24..40].copy_from_slice(&SglDescriptor::last_segment(0, 2).to_bytes());
    assert_eq!(world.execute(queue, command, &list).status(), Status::SUCCESS);
    world.host_write(1, 500_000 + data.len() - 10_002, &[0xEE]);
    assert_eq!(world.execute(queue, command, &list).status(), Status::COMPARE_FAILURE);
    world.shut_down();
}

/// With the device that is for it, over one that is real.
#[test]
fn uncorrectable_blocks_are_read_again_when_they_were_written() {
    let memory = bdev::Memory::new("m", 512, 64, false).unwrap();
    let faulty = bdev::Fault::new("faulty", Arc::new(memory), 1);
    let mut world = World::new(Options::new(vec![namespace(NSID, Arc::new(faulty))]));
    let (_, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    let mut status = |command, data: &[u8]| world.execute(queue, command, data).status();
    let read = |start, count: u32| host::read(1, NSID, range(start, count), keyed(0, count as usize * 512));
    assert_eq!(status(host::write_uncorrectable(1, NSID, range(8, 4)), &[]), Status::SUCCESS);
    // Unrecovered Read Error is what such a read ends with [NVM Command Set 1.0, 3.2.7].
    assert_eq!(status(read(0, 64), &[]), Status::UNRECOVERED_READ_ERROR);
    assert_eq!(status(host::verify(1, NSID, range(11, 1)), &[]), Status::UNRECOVERED_READ_ERROR);
    assert_eq!(status(read(12, 52), &[]), Status::SUCCESS);
    assert_eq!(status(host::write(1, NSID, range(8, 2), false, capsule(1024)), &[7; 1024]), Status::SUCCESS);
    assert_eq!(status(host::write_zeroes(1, NSID, range(10, 1), false, false), &[]), Status::SUCCESS);
    assert_eq!(status(read(8, 3), &[]), Status::SUCCESS);
    assert_eq!(status(read(8, 4), &[]), Status::UNRECOVERED_READ_ERROR);
    assert_eq!(status(host::write_uncorrectable(1, NSID, range(63, 2)), &[]), Status::LBA_OUT_OF_RANGE);
    world.shut_down();
}

#[test]
fn verify_reads_what_no_transfer_could_hold() {
    let (mut world, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS));
    assert_eq!(world.execute(queue, host::verify(1, NSID, range(0, BLOCKS as u32)), &[]).status(), Status::SUCCESS);
    let seen = std::mem::take(&mut state.lock().unwrap().seen);
    assert_eq!(seen.len(), BLOCKS / 256, "pieces of 128 KiB");
    assert!(seen.iter().all(|(kind, _)| *kind == OperationKind::Read));
    let past_the_end = host::verify(1, NSID, range(1, BLOCKS as u32));
    assert_eq!(world.execute(queue, past_the_end, &[]).status(), Status::LBA_OUT_OF_RANGE);
    state.lock().unwrap().failure = Some(DeviceError::ReadFault);
    let status = world.execute(queue, host::verify(1, NSID, range(0, 600)), &[]).status();
    assert_eq!(status, Status::UNRECOVERED_READ_ERROR);
    assert_eq!(state.lock().unwrap().seen.len(), 1, "the first failure ends it");
    world.shut_down();
}

#[test]
fn ranges_are_deallocated_from_lists_of_the_least_and_of_a_pages_length() {
    let (mut world, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS));
    let mut expected = blocks(&state, 0..BLOCKS);
    let mut clear = |range: std::ops::Range<usize>| expected[range.start * 512..range.end * 512].fill(0);
    // In the capsule, as long as the list.
    let list = host::deallocation_list(&[(5, 3), (4000, 96)]);
    let command = host::deallocate(1, NSID, 2, capsule(list.len()));
    assert_eq!(world.execute(queue, command, &list).status(), Status::SUCCESS);
    clear(5..8);
    clear(4000..4096);
    // A page for one range, as Linux sends it; behind a key.
    let mut list = host::deallocation_list(&[(100, 1)]);
    list.resize(4096, 0xFF);
    world.host_write(1, 64, &list);
    let command = host::deallocate(1, NSID, 1, keyed(64, 4096));
    assert_eq!(world.execute(queue, command, &[]).status(), Status::SUCCESS);
    clear(100..101);
    // All 256.
    let ranges: Vec<(u64, u32)> = (0..256).map(|at| (at * 8 + 1024, 1)).collect();
    let list = host::deallocation_list(&ranges);
    world.host_write(1, 0, &list);
    world.send(queue, host::deallocate(0x77, NSID, 256, keyed(0, list.len())), &[]);
    world.run(2000);
    let ended = *world.responses(queue).last().unwrap();
    assert_eq!((ended.command_id.get(), ended.status()), (0x77, Status::SUCCESS));
    (0..256).for_each(|at| clear(at * 8 + 1024..at * 8 + 1025));
    assert!(blocks(&state, 0..BLOCKS) == expected);

    let short = host::deallocate(1, NSID, 2, keyed(0, 31));
    assert_eq!(world.execute(queue, short, &[]).status(), Status::SGL_LENGTH_INVALID);
    world.host_write(1, 0, &host::deallocation_list(&[(0, 1), (4095, 2)]));
    let past_the_end = host::deallocate(1, NSID, 2, keyed(0, 32));
    assert_eq!(world.execute(queue, past_the_end, &[]).status(), Status::LBA_OUT_OF_RANGE);
    // The other attributes are hints; their list is not even looked at.
    let mut hint = host::deallocate(1, NSID, 1, keyed(0, 16));
    hint[44] = 0b011;
    assert_eq!(world.execute(queue, hint, &[]).status(), Status::SUCCESS);
    assert!(blocks(&state, 0..BLOCKS) == expected);
    world.shut_down();
}

#[test]
fn a_copy_brings_its_ranges_together() {
    let (mut world, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS).aligned(4096));
    let mut expected = blocks(&state, 0..BLOCKS);
    let ranges = [range(0, 1), range(500, 400), range(3, 2)];
    let source: Vec<u8> = [0..1, 500..900, 3..5].into_iter().flat_map(|range| blocks(&state, range)).collect();
    expected[2048 * 512..2048 * 512 + source.len()].copy_from_slice(&source);
    let list = host::copy_list(&ranges);
    world.host_write(1, 0, &list);
    let command = host::copy(1, NSID, 2048, 3, true, keyed(0, list.len()));
    let response = world.execute(queue, command, &[]);
    assert_eq!((response.status(), response.result.get()), (Status::SUCCESS, 0));
    assert!(blocks(&state, 0..BLOCKS) == expected);
    let forced = OperationKind::Write { force_unit_access: true };
    let seen = state.lock().unwrap().seen.clone();
    assert_eq!(seen.iter().filter(|(kind, _)| *kind == forced).count(), 1 + 2 + 1);
    // In the capsule.
    let command = host::copy(2, NSID, 3000, 3, false, capsule(list.len()));
    assert_eq!(world.execute(queue, command, &list).status(), Status::SUCCESS);
    assert!(blocks(&state, 3000..3403) == source);

    let list = host::copy_list(&[range(0, 1); 129]);
    world.host_write(1, 0, &list);
    let too_many = host::copy(1, NSID, 2048, 129, false, keyed(0, list.len()));
    assert_eq!(world.execute(queue, too_many, &[]).status(), Status::COMMAND_SIZE_LIMIT_EXCEEDED);
    let longer = host::copy(1, NSID, 2048, 1, false, keyed(0, 64));
    assert_eq!(world.execute(queue, longer, &[]).status(), Status::SGL_LENGTH_INVALID);
    let mut other_format = host::copy(1, NSID, 2048, 1, false, keyed(0, 32));
    other_format[49] = 1;
    assert_eq!(world.execute(queue, other_format, &[]).status(), Status::INVALID_FIELD);
    world.shut_down();
}

#[test]
fn uncorrectable_is_written_where_the_device_can() {
    let command = host::write_uncorrectable(1, NSID, range(3, 4));
    let (mut world, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS).writing_uncorrectable());
    assert_eq!(world.execute(queue, command, &[]).status(), Status::SUCCESS);
    assert_eq!(state.lock().unwrap().seen, [(OperationKind::WriteUncorrectable, None)]);
    world.shut_down();
    let (mut world, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS));
    assert_eq!(world.execute(queue, command, &[]).status(), Status::INVALID_OPCODE);
    assert!(state.lock().unwrap().seen.is_empty());
    world.shut_down();
}

#[test]
fn others_have_their_turn_while_a_long_command_is_worked_off() {
    let (mut world, queue, _) = two_cpus(TestDevice::new("disk", BLOCKS));
    world.send(queue, host::verify(1, NSID, range(0, BLOCKS as u32)), &[]);
    world.send(queue, io(OP_READ, 2, 9, 1, harness::keyed(0, 512)), &[]);
    let before = world.responses(queue).len();
    while world.responses(queue).len() < before + 2 {
        world.run(1);
    }
    let ended: Vec<u16> = world.responses(queue)[before..].iter().map(|response| response.command_id.get()).collect();
    assert_eq!(ended, [2, 1]);
    world.shut_down();
}

#[test]
fn a_queue_that_ends_between_two_pieces_starts_no_other() {
    for command in [
        host::verify(1, NSID, range(0, BLOCKS as u32)),
        host::compare(1, NSID, range(0, 256), keyed(0, 256 * 512)),
        host::deallocate(1, NSID, 3, keyed(0, 48)),
        host::copy(1, NSID, 2048, 2, false, keyed(0, 64)),
    ] {
        for hold_pulls in [true, false] {
            let (mut world, queue, state) = two_cpus(TestDevice::new("disk", BLOCKS));
            let list = if command[0] == 9 {
                host::deallocation_list(&[(0, 1); 3])
            } else {
                host::copy_list(&[range(0, 200), range(300, 200)])
            };
            world.host_write(1, 0, &list);
            state.lock().unwrap().hold = true;
            world.wire(1).hold_pulls = hold_pulls;
            world.send(queue, command, &[]);
            world.run(100);
            let begun = state.lock().unwrap().seen.len();
            assert!(begun <= 1);
            world.disconnect(queue, DisconnectReason::Host);
            world.run(50);
            assert_eq!(world.is_closed(queue), begun == 0, "what the device has is waited for");
            state.lock().unwrap().hold = false;
            world.wire(1).hold_pulls = false;
            world.run(50);
            assert!(world.is_closed(queue));
            assert_eq!(state.lock().unwrap().seen.len(), begun, "nothing more was begun");
            world.shut_down();
        }
    }
}

#[test]
fn comparisons_wait_for_their_turn_where_buffers_are_few() {
    let device = TestDevice::new("disk", BLOCKS);
    let state = Arc::clone(&device.state);
    let options = Options { data_memory_len: 256 << 10, ..Options::new(vec![namespace(NSID, Arc::new(device))]) };
    let mut world = World::new(options);
    let (_, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    assert!(state.lock().unwrap().blocks.iter().all(|byte| *byte == 0));
    for id in 0..12 {
        world.send(queue, host::compare(id, NSID, range(0, 256), keyed(0, 256 * 512)), &[]);
    }
    world.run(1000);
    let ended: Vec<_> = world.responses(queue).iter().skip(1).map(|response| response.status()).collect();
    assert_eq!(ended, [Status::SUCCESS; 12]);
    assert!(world.counters(1).buffer_wait_count.value() > 0);
    world.shut_down();
}
