#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests, on small numbers")]

use bdev::Geometry;
use reactor::Arena;

use super::*;
use crate::command::BlockRange;
use crate::host::{copy_list, deallocation_list};

const BLOCK_LEN: u32 = 512;

/// Does what a course wants on blocks in a vector. Returns how it ended, and how many block operations that took.
fn run(mut course: Course, blocks: &mut [u8], host: &[u8], buffer_len: usize) -> (Status, Vec<(OperationKind, u64)>) {
    let buffer = Arena::new(buffer_len, false).unwrap().segment().part(0, buffer_len);
    let part = |part: Part| buffer.part(part.offset as usize, part.len as usize);
    let mut operations = Vec::new();
    loop {
        match course.next(buffer) {
            Step::Pull { skip, into } => part(into).write(0, &host[skip as usize..(skip + into.len) as usize]),
            Step::Operate { kind, start_block, block_count, data } => {
                operations.push((kind, block_count));
                let start = (start_block * u64::from(BLOCK_LEN)) as usize;
                let range = start..start + (block_count * u64::from(BLOCK_LEN)) as usize;
                match (kind, data) {
                    (OperationKind::Read, Some(data)) => part(data).write(0, &blocks[range]),
                    (OperationKind::Write { .. }, Some(data)) => part(data).read(0, &mut blocks[range]),
                    (OperationKind::Deallocate, None) => blocks[range].fill(0),
                    other => panic!("{other:?}"),
                }
            }
            Step::Compare { data, blocks } => {
                let mut read = vec![0; blocks.len as usize];
                part(blocks).read(0, &mut read);
                let has = match data {
                    HostData::Buffer(data) => {
                        let mut has = vec![0; data.len as usize];
                        part(data).read(0, &mut has);
                        has
                    }
                    HostData::Capsule { skip } => host[skip as usize..skip as usize + read.len()].to_vec(),
                };
                if has != read {
                    return (Status::COMPARE_FAILURE, operations);
                }
            }
            Step::End(status) => return (status, operations),
        }
        assert!(operations.len() < 10_000);
    }
}

fn geometry(block_count: u64) -> Geometry {
    Geometry::plain(BLOCK_LEN, block_count, 64)
}

fn disk(block_count: usize) -> Vec<u8> {
    (0..block_count * BLOCK_LEN as usize).map(|at| (at / 512 * 7 + at % 251) as u8).collect()
}

#[test]
fn a_comparison_sees_every_byte_in_constant_memory() {
    for in_capsule in [false, true] {
        for buffer_len in [8192, 32768] {
            let mut blocks = disk(100);
            let host = blocks[512..71 * 512].to_vec();
            let course = || Course::new(Task::compare(1, 70, in_capsule), &geometry(100));
            let (status, operations) = run(course(), &mut blocks, &host, buffer_len);
            assert_eq!(status, Status::SUCCESS);
            let half = if in_capsule { buffer_len } else { buffer_len / 2 };
            let most = (half / 512).min(64) as u64;
            assert_eq!(operations.len() as u64, 70_u64.div_ceil(most), "{buffer_len} {in_capsule}");
            for at in [0, 511, 4096, 35 * 512, host.len() - 1] {
                let mut other = host.clone();
                other[at] ^= 1;
                assert_eq!(run(course(), &mut blocks, &other, buffer_len).0, Status::COMPARE_FAILURE, "byte {at}");
            }
        }
    }
}

#[test]
fn a_verification_reads_each_block_once() {
    let mut blocks = disk(100);
    let (status, operations) = run(Course::new(Task::verify(3, 97), &geometry(100)), &mut blocks, &[], 8192);
    assert_eq!(status, Status::SUCCESS);
    assert!(operations.iter().all(|(kind, count)| *kind == OperationKind::Read && *count <= 16));
    assert_eq!(operations.iter().map(|(_, count)| count).sum::<u64>(), 97);
}

#[test]
fn all_ranges_are_deallocated_or_none() {
    let run = |ranges: &[(u64, u32)]| {
        let mut blocks = disk(1000);
        let course = Course::new(Task::deallocate(ranges.len() as u16), &geometry(1000));
        let (status, operations) = run(course, &mut blocks, &deallocation_list(ranges), 8192);
        (status, operations.len(), blocks)
    };
    let (status, count, blocks) = run(&[(10, 5), (0, 0), (990, 10), (100, 200)]);
    assert_eq!((status, count), (Status::SUCCESS, 1 + 1 + 4), "pieces of 64 blocks");
    let mut expected = disk(1000);
    for range in [10..15, 990..1000, 100..300] {
        expected[range.start * 512..range.end * 512].fill(0);
    }
    assert!(blocks == expected);
    for bad in [(1000, 1), (999, 2), (u64::MAX, u32::MAX), (1, u32::MAX)] {
        let (status, count, blocks) = run(&[(10, 5), bad]);
        assert_eq!((status, count), (Status::LBA_OUT_OF_RANGE, 0), "{bad:?}");
        assert!(blocks == disk(1000));
    }
    assert_eq!(run(&[(0, 0)]).0, Status::SUCCESS);
    assert_eq!(run(&[(1, 1); 256]).1, 256);
}

fn copy(ranges: &[(u64, u32)], to: u64) -> (Status, u64, Vec<u8>) {
    let mut blocks = disk(1000);
    let ranges: Vec<_> = ranges.iter().map(|(start, count)| BlockRange::new(*start, *count).unwrap()).collect();
    let course = Course::new(Task::copy(to, ranges.len() as u16, false), &geometry(1000));
    let result = course.failed_result();
    let (status, _) = run(course, &mut blocks, &copy_list(&ranges), 16384);
    (status, result, blocks)
}

#[test]
fn ranges_are_copied_one_behind_the_other() {
    let (status, _, blocks) = copy(&[(0, 3), (100, 150), (7, 1)], 500);
    assert_eq!(status, Status::SUCCESS);
    let mut expected = disk(1000);
    let source = disk(1000);
    let mut to = 500 * 512;
    for range in [0..3, 100..250, 7..8] {
        let bytes = &source[range.start * 512..range.end * 512];
        expected[to..to + bytes.len()].copy_from_slice(bytes);
        to += bytes.len();
    }
    assert!(blocks == expected);
}

#[test]
fn a_copy_that_cannot_be_whole_is_not_begun() {
    for (ranges, to, status) in [
        (&[(0, 10), (990, 11)][..], 500, Status::LBA_OUT_OF_RANGE),
        (&[(0, 10)], 991, Status::LBA_OUT_OF_RANGE),
        (&[(0, 10)], u64::MAX, Status::LBA_OUT_OF_RANGE),
        (&[(0, 10), (100, 10)], 109, Status::OVERLAPPING_IO_RANGE),
        (&[(0, 10)], 9, Status::OVERLAPPING_IO_RANGE),
        (&[(5, 10)], 0, Status::OVERLAPPING_IO_RANGE),
        (&[(0, 32_769)], 0, Status::COMMAND_SIZE_LIMIT_EXCEEDED),
        (&[(0, 32_768); 5], 0, Status::COMMAND_SIZE_LIMIT_EXCEEDED),
    ] {
        let (ended, result, blocks) = copy(ranges, to);
        assert_eq!((ended, result), (status, 0), "{ranges:?} to {to}");
        assert!(blocks == disk(1000));
    }
    assert_eq!(copy(&[(0, 10)], 10).0, Status::SUCCESS, "one beside the other");
}

#[test]
fn a_copy_that_fails_names_its_range() {
    let buffer = Arena::new(8192, false).unwrap().segment();
    let ranges = [(0, 1), (1, 1)].map(|(start, count)| BlockRange::new(start, count).unwrap());
    let mut course = Course::new(Task::copy(500, 2, true), &geometry(1000));
    assert!(matches!(course.next(buffer), Step::Pull { .. }));
    buffer.write(0, &copy_list(&ranges));
    for expected in [0, 0, 1, 1] {
        assert!(matches!(course.next(buffer), Step::Operate { .. }));
        assert_eq!(course.failed_result(), expected);
    }
    assert_eq!(course.next(buffer), Step::End(Status::SUCCESS));
}
