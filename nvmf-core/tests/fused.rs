//! Fused Compare and Write through the walk: the order of the pair, its statuses, and that it is one operation whatever others do on other CPUs.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bdev::{BdevError, Channel, Completion, Device, Geometry, Operation, OperationKind};
use harness::device::TestDevice;
use harness::{Conn, NQN, OP_READ, OP_WRITE, Options, World, io, namespace};
use nvmf_core::command::{BlockRange, DataPointer, Fuse};
use nvmf_core::host;
use nvmf_core::status::Status;
use nvmf_core::wire::CompletionEntry;
use nvmf_core::{DisconnectReason, RemoteBuffer};
use reactor::Progress;

const NSID: u32 = 1;

fn range(start: u64, count: u32) -> BlockRange {
    BlockRange::new(start, count).unwrap()
}

fn keyed(at: usize, len: usize) -> DataPointer {
    DataPointer::Keyed { buffer: RemoteBuffer { address: at as u64, len: len as u32, key: 1 }, invalidate: false }
}

fn fused(mut command: [u8; 64], fuse: Fuse) -> [u8; 64] {
    host::fuse(&mut command, fuse);
    command
}

/// Compare what is in the host's memory at `has`, then write what is at `new`. The commands' ids are `id` and `id + 1`.
fn pair(id: u16, range: BlockRange, has: usize, new: usize) -> [[u8; 64]; 2] {
    let len = range.byte_len(512) as usize;
    [
        fused(host::compare(id, NSID, range, keyed(has, len)), Fuse::First),
        fused(host::write(id + 1, NSID, range, false, keyed(new, len)), Fuse::Second),
    ]
}

/// The statuses that end these commands, by id.
fn statuses(world: &mut World, queue: Conn, commands: &[[u8; 64]]) -> Vec<(u16, Status)> {
    let before = world.responses(queue).len();
    for command in commands {
        world.send(queue, *command, &[]);
    }
    for _ in 0..400 {
        world.run(1);
    }
    let mut ended: Vec<_> = world.responses(queue)[before..]
        .iter()
        .map(|response| (response.command_id.get(), response.status()))
        .collect();
    ended.sort_by_key(|(id, _)| *id);
    ended
}

fn one_queue(device: TestDevice) -> (World, Conn) {
    let mut world = World::new(Options::new(vec![namespace(NSID, Arc::new(device))]));
    let (_, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    (world, queue)
}

#[test]
fn a_pair_writes_if_and_only_if_it_compares() {
    let device = TestDevice::new("disk", 100);
    let state = Arc::clone(&device.state);
    let (mut world, queue) = one_queue(device);
    world.host_write(1, 0, &[0; 1024]);
    world.host_write(1, 4096, &[0x11; 1024]);
    let both = statuses(&mut world, queue, &pair(1, range(7, 2), 0, 4096));
    assert_eq!(both, [(1, Status::SUCCESS), (2, Status::SUCCESS)]);
    assert!(state.lock().unwrap().blocks[7 * 512..9 * 512].iter().all(|byte| *byte == 0x11));
    world.host_write(1, 4096, &[0x22; 1024]);
    let both = statuses(&mut world, queue, &pair(3, range(7, 2), 0, 4096));
    assert_eq!(both, [(3, Status::COMPARE_FAILURE), (4, Status::ABORTED_FUSED_FAILED)]);
    assert!(state.lock().unwrap().blocks[7 * 512..9 * 512].iter().all(|byte| *byte == 0x11));
    // The queue goes on, and nothing is locked.
    assert_eq!(world.execute(queue, io(OP_WRITE, 5, 7, 2, harness::keyed(4096, 1024)), &[]).status(), Status::SUCCESS);
    world.shut_down();
}

#[test]
fn pairs_that_are_none() {
    let (mut world, queue) = one_queue(TestDevice::new("disk", 100));
    let compare = |id, start, fuse| fused(host::compare(id, NSID, range(start, 1), keyed(0, 512)), fuse);
    let write = |id, start, fuse| fused(host::write(id, NSID, range(start, 1), false, keyed(0, 512)), fuse);
    let (first, second, alone) = (Fuse::First, Fuse::Second, Fuse::Alone);
    let missing = Status::ABORTED_FUSED_MISSING;
    let cases = [
        ("a second alone", vec![write(1, 0, second)], vec![(1, missing)]),
        (
            "another command between",
            vec![compare(1, 0, first), write(2, 0, alone), write(3, 0, second)],
            vec![(1, missing), (2, Status::SUCCESS), (3, missing)],
        ),
        (
            "two firsts",
            vec![compare(1, 0, first), compare(2, 0, first), write(3, 0, second)],
            vec![(1, missing), (2, Status::SUCCESS), (3, Status::SUCCESS)],
        ),
        ("write and compare", vec![write(1, 0, first), compare(2, 0, second)], vec![(1, missing), (2, missing)]),
        ("write and write", vec![write(1, 0, first), write(2, 0, second)], vec![(1, missing), (2, missing)]),
        (
            "other blocks",
            vec![compare(1, 0, first), write(2, 1, second)],
            vec![(1, Status::INVALID_FIELD), (2, Status::INVALID_FIELD)],
        ),
        (
            "past the end",
            vec![compare(1, 100, first), write(2, 100, second)],
            vec![(1, Status::LBA_OUT_OF_RANGE), (2, Status::ABORTED_FUSED_FAILED)],
        ),
        (
            "a write that is no command",
            vec![compare(1, 0, first), {
                let mut bad = write(2, 0, second);
                bad[39] = 0x7F;
                bad
            }],
            vec![(1, Status::ABORTED_FUSED_FAILED), (2, Status::SGL_TYPE_INVALID)],
        ),
        (
            "a comparison that is no command",
            vec![
                {
                    let mut bad = compare(1, 0, first);
                    bad[39] = 0x7F;
                    bad
                },
                write(2, 0, second),
            ],
            vec![(1, Status::SGL_TYPE_INVALID), (2, Status::ABORTED_FUSED_FAILED)],
        ),
        (
            "FUSE 11b",
            vec![{
                let mut bad = write(1, 0, alone);
                bad[1] |= 0b11;
                bad
            }],
            vec![(1, Status::INVALID_FIELD)],
        ),
    ];
    for (what, commands, expected) in cases {
        assert_eq!(statuses(&mut world, queue, &commands), expected, "{what}");
    }
    world.shut_down();
}

#[test]
fn a_read_only_device_fails_the_write_before_anything_is_compared() {
    let device = TestDevice::new("disk", 100).read_only();
    let state = Arc::clone(&device.state);
    let (mut world, queue) = one_queue(device);
    let both = statuses(&mut world, queue, &pair(1, range(0, 1), 0, 0));
    assert_eq!(both, [(1, Status::ABORTED_FUSED_FAILED), (2, Status::NAMESPACE_WRITE_PROTECTED)]);
    assert!(state.lock().unwrap().seen.is_empty());
    world.shut_down();
}

#[test]
fn what_overlaps_a_pair_waits_and_the_end_of_its_queue_lets_it_go_on() {
    for end_it in [false, true] {
        let device = TestDevice::new("disk", 100);
        let state = Arc::clone(&device.state);
        let mut world = World::new(Options::new(vec![namespace(NSID, Arc::new(device))]));
        let (_, id) = world.attach(0);
        let (queue, other) = (world.connect_io(1, id, 1), world.connect_io(0, id, 2));
        state.lock().unwrap().hold = true;
        for command in pair(1, range(10, 4), 0, 4096) {
            world.send(queue, command, &[]);
        }
        world.run(300);
        let begun = |state: &Mutex<harness::device::State>| state.lock().unwrap().seen.len();
        assert_eq!(begun(&state), 1, "the comparison");
        let before = world.responses(other).len();
        world.send(other, io(OP_WRITE, 1, 13, 2, harness::keyed(0, 1024)), &[]);
        world.send(other, io(OP_READ, 2, 8, 3, harness::keyed(0, 1536)), &[]);
        world.send(other, io(OP_READ, 3, 14, 3, harness::keyed(0, 1536)), &[]);
        world.run(300);
        assert_eq!(begun(&state), 2, "only what is beside the pair");
        assert_eq!(world.counters(0).park_count.value(), 2);
        if end_it {
            world.disconnect(queue, DisconnectReason::Host);
            world.run(50);
            assert!(!world.is_closed(queue), "the device has the comparison");
        }
        state.lock().unwrap().hold = false;
        world.run(400);
        assert_eq!(world.responses(other).len(), before + 3);
        assert_eq!(world.is_closed(queue), end_it);
        let kinds: Vec<_> = state.lock().unwrap().seen.iter().map(|(kind, _)| *kind).collect();
        let write = OperationKind::Write { force_unit_access: false };
        let writes = kinds.iter().filter(|kind| **kind == write).count();
        assert_eq!(writes, if end_it { 1 } else { 2 }, "the pair's write is not begun once its queue ends");
        world.shut_down();
    }
}

#[test]
fn a_read_out_of_the_devices_own_memory_is_over_when_the_fabric_has_done_it() {
    let device = bdev::Memory::new("ram", 512, 100, false).unwrap();
    let mut world = World::new(Options::new(vec![namespace(NSID, Arc::new(device))]));
    let (_, id) = world.attach(0);
    let (queue, reader) = (world.connect_io(1, id, 1), world.connect_io(0, id, 2));
    world.run(50);
    world.wire(0).hold_finished = true;
    assert_eq!(world.execute(reader, io(OP_READ, 1, 10, 2, harness::keyed(0, 1024)), &[]).status(), Status::SUCCESS);
    assert_eq!(world.counters(0).in_place_count.value(), 1);
    let before = world.responses(queue).len();
    for command in pair(1, range(11, 1), 0, 4096) {
        world.send(queue, command, &[]);
    }
    world.run(500);
    assert_eq!(world.responses(queue).len(), before, "the device's memory may still be read");
    world.wire(0).hold_finished = false;
    world.run(300);
    assert_eq!(world.responses(queue).len(), before + 2);
    world.shut_down();
}

/// What a pair waits for may be of its own queue, whose end then waits for the pair's lock.
#[test]
fn a_queue_ends_whose_pair_waits_for_what_was_dropped_with_it() {
    let (mut world, queue) = one_queue(TestDevice::new("disk", 100));
    world.run(50);
    world.wire(1).hold_pulls = true;
    world.send(queue, io(OP_WRITE, 1, 10, 2, harness::keyed(0, 1024)), &[]);
    world.run(100);
    for command in pair(2, range(11, 1), 0, 4096) {
        world.send(queue, command, &[]);
    }
    world.run(300);
    world.disconnect(queue, DisconnectReason::Host);
    world.run(300);
    assert!(world.is_closed(queue), "the write that is being pulled has given its blocks back");
    world.shut_down();
}

/// The same where its data is pushed out of the device's own memory: that is over when the transport says so.
#[test]
fn a_queue_ends_whose_pair_waits_for_what_it_reads_in_place() {
    let device = bdev::Memory::new("ram", 512, 100, false).unwrap();
    let mut world = World::new(Options::new(vec![namespace(NSID, Arc::new(device))]));
    let (_, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    world.run(50);
    world.wire(1).hold_finished = true;
    assert_eq!(world.execute(queue, io(OP_READ, 1, 10, 2, harness::keyed(0, 1024)), &[]).status(), Status::SUCCESS);
    for command in pair(2, range(11, 1), 0, 4096) {
        world.send(queue, command, &[]);
    }
    world.run(300);
    world.disconnect(queue, DisconnectReason::Host);
    world.run(300);
    assert!(world.is_closed(queue), "nothing is pushed any more");
    world.shut_down();
}

/// The lock waits for somebody else's command, which may wait for what the queue gives back at its very end. So the queue is closed before its lock comes,
/// and the lock goes back.
#[test]
fn a_queue_that_ends_waits_for_no_lock() {
    let device = bdev::Memory::new("ram", 512, 100, false).unwrap();
    let mut world = World::new(Options::new(vec![namespace(NSID, Arc::new(device))]));
    let (_, id) = world.attach(0);
    let (queue, reader, next) = (world.connect_io(1, id, 1), world.connect_io(0, id, 2), world.connect_io(1, id, 3));
    world.run(50);
    world.wire(0).hold_finished = true;
    assert_eq!(world.execute(reader, io(OP_READ, 1, 10, 2, harness::keyed(0, 1024)), &[]).status(), Status::SUCCESS);
    for command in pair(2, range(11, 1), 0, 4096) {
        world.send(queue, command, &[]);
    }
    world.run(300);
    world.disconnect(queue, DisconnectReason::Host);
    world.run(300);
    assert!(world.is_closed(queue), "it waits for a lock that waits for a reader");
    // Whoever comes next is behind that lock, and gets its own.
    let before = world.responses(next).len();
    for command in pair(4, range(11, 1), 0, 4096) {
        world.send(next, command, &[]);
    }
    world.run(300);
    assert_eq!(world.responses(next).len(), before);
    world.wire(0).hold_finished = false;
    world.run(300);
    let statuses: Vec<_> = world.responses(next)[before..].iter().map(CompletionEntry::status).collect();
    assert_eq!(statuses, [Status::SUCCESS, Status::SUCCESS]);
    world.shut_down();
}

#[test]
fn queues_that_end_at_any_moment_leave_no_lock() {
    for steps in 0..60 {
        let mut world = World::new(Options {
            seed: 1 + steps,
            ..Options::new(vec![namespace(NSID, Arc::new(TestDevice::new("disk", 100)))])
        });
        let (_, id) = world.attach(0);
        let queues = [world.connect_io(1, id, 1), world.connect_io(0, id, 2), world.connect_io(1, id, 3)];
        for (place, queue) in queues.iter().enumerate() {
            for command in pair(1, range(place as u64, 3), 0, 0) {
                world.send(*queue, command, &[]);
            }
        }
        world.run(steps as usize);
        world.disconnect(queues[0], DisconnectReason::Host);
        world.run(steps as usize);
        world.disconnect(queues[1], DisconnectReason::Host);
        world.run(1000);
        assert!(world.is_closed(queues[0]) && world.is_closed(queues[1]));
        assert_eq!(world.responses(queues[2]).len(), 1 + 2, "{steps} steps");
        world.shut_down();
    }
}

/// A pause that comes between a pair's comparison and its write waits for both.
#[test]
fn a_pause_waits_for_the_whole_of_a_pair_that_has_begun() {
    let device = TestDevice::new("disk", 100);
    let state = Arc::clone(&device.state);
    let (mut world, queue) = one_queue(device);
    state.lock().unwrap().hold = true;
    for command in pair(1, range(10, 1), 0, 4096) {
        world.send(queue, command, &[]);
    }
    world.run(300);
    let pause = world.change(|target| target.pause_subsystem(NQN)).unwrap();
    world.run(300);
    assert!(!world.is_done(pause), "the comparison is under way");
    let before = world.responses(queue).len();
    // It comes too late for this pause.
    for command in pair(3, range(20, 1), 0, 4096) {
        world.send(queue, command, &[]);
    }
    state.lock().unwrap().hold = false;
    world.finish(pause);
    let write = OperationKind::Write { force_unit_access: false };
    let kinds = || state.lock().unwrap().seen.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
    assert_eq!(kinds(), [OperationKind::Read, write], "both have been carried out when the pause is answered");
    world.run(300);
    assert_eq!(world.responses(queue).len(), before + 2);
    assert_eq!(kinds().len(), 2);
    let resume = world.change(|target| target.resume_subsystem(NQN)).unwrap();
    world.finish(resume);
    world.run(300);
    let statuses: Vec<_> = world.responses(queue)[before..].iter().map(CompletionEntry::status).collect();
    assert_eq!(statuses, [Status::SUCCESS; 4]);
    world.shut_down();
}

/// A lock that is granted to a pair of a paused subsystem goes back: nothing is locked while it is paused, and a CPU may leave.
#[test]
fn a_pair_that_is_paused_before_it_begins_has_no_lock_meanwhile() {
    let device = bdev::Memory::new("ram", 512, 100, false).unwrap();
    let mut world = World::new(Options::new(vec![namespace(NSID, Arc::new(device))]));
    let (_, id) = world.attach(0);
    let (queue, reader) = (world.connect_io(1, id, 1), world.connect_io(0, id, 2));
    world.run(50);
    let unlocked = world.live_count(0) + world.live_count(1);
    world.wire(0).hold_finished = true;
    assert_eq!(world.execute(reader, io(OP_READ, 1, 10, 2, harness::keyed(0, 1024)), &[]).status(), Status::SUCCESS);
    let before = world.responses(queue).len();
    for command in pair(2, range(11, 1), 0, 4096) {
        world.send(queue, command, &[]);
    }
    world.run(300);
    assert!(world.live_count(0) + world.live_count(1) > unlocked, "a lock is waited for");
    let pause = world.change(|target| target.pause_subsystem(NQN)).unwrap();
    world.wire(0).hold_finished = false;
    world.finish(pause);
    world.run(300);
    assert_eq!(world.responses(queue).len(), before);
    assert_eq!(world.live_count(0) + world.live_count(1), unlocked, "nothing is locked");
    let resume = world.change(|target| target.resume_subsystem(NQN)).unwrap();
    world.finish(resume);
    world.run(300);
    let statuses: Vec<_> = world.responses(queue)[before..].iter().map(CompletionEntry::status).collect();
    assert_eq!(statuses, [Status::SUCCESS; 2]);
    world.shut_down();
}

/// Operations end after a random number of polls, and take effect then. Remembers what was written, in order.
#[derive(Debug)]
struct Slow(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
    blocks: Vec<[u8; 512]>,
    /// Block and the number that its first 8 bytes are.
    writes: Vec<(u64, u64)>,
    random: u64,
}

impl Log {
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }
}

impl Device for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }
    fn product(&self) -> &'static str {
        "Slow disk"
    }
    fn geometry(&self) -> Geometry {
        Geometry::plain(512, self.0.lock().unwrap().blocks.len() as u64, 256)
    }
    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        Ok(Box::new(SlowChannel { log: Arc::clone(&self.0), waiting: Vec::new() }))
    }
}

struct SlowChannel {
    log: Arc<Mutex<Log>>,
    waiting: Vec<(u64, Operation)>,
}

impl Channel for SlowChannel {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        let mut log = self.log.lock().unwrap();
        self.waiting.extend(operations.drain(..).map(|operation| (log.below(12), operation)));
    }
    fn poll(&mut self, _now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let mut log = self.log.lock().unwrap();
        for (polls, operation) in std::mem::take(&mut self.waiting) {
            if polls > 0 {
                self.waiting.push((polls - 1, operation));
                continue;
            }
            for index in 0..operation.block_count {
                let block = operation.start_block + index;
                let part = operation.data.unwrap().part(index as usize * 512, 512);
                match operation.kind {
                    OperationKind::Read => part.write(0, &log.blocks[block as usize]),
                    OperationKind::Write { .. } => {
                        let mut bytes = [0; 512];
                        part.read(0, &mut bytes);
                        log.blocks[block as usize] = bytes;
                        log.writes.push((block, u64::from_le_bytes(bytes[..8].try_into().unwrap())));
                    }
                    other @ (OperationKind::Flush
                    | OperationKind::WriteZeroes { .. }
                    | OperationKind::Deallocate
                    | OperationKind::WriteUncorrectable) => panic!("{other:?}"),
                }
            }
            completions.push(Completion { token: operation.token, result: Ok(()) });
        }
        Progress::busy_if(!completions.is_empty())
    }
    fn outstanding_count(&self) -> usize {
        self.waiting.len()
    }
}

/// A block that holds this number.
fn block(number: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Pairs and plain writes of unique numbers from queues of both CPUs. A pair's write must come directly behind the write of what it compared,
/// in the order in which the device did them.
#[test]
fn a_pair_is_one_operation_to_everybody() {
    const BLOCK_COUNT: u64 = 3;
    let (mut won, mut lost, mut parked) = (0, 0, 0);
    for seed in 1..=25_u64 {
        let log = Log { blocks: vec![[0; 512]; 16], writes: Vec::new(), random: seed * 0x9E37_79B9 };
        let log = Arc::new(Mutex::new(log));
        let device = Arc::new(Slow(Arc::clone(&log)));
        let mut world = World::new(Options { seed, ..Options::new(vec![namespace(NSID, device)]) });
        let (_, id) = world.attach(0);
        let queues: Vec<Conn> = (1..=4).map(|qid| world.connect_io(qid % 2, id, qid)).collect();
        let mut next = 1;
        // What each pair compared, by what it writes.
        let mut pairs: Vec<(u64, u64, u64)> = Vec::new();
        let mut winners = Vec::new();
        for _ in 0..40 {
            let mut sent = Vec::new();
            for (place, queue) in queues.iter().enumerate() {
                // Some begin while others are under way.
                let steps = log.lock().unwrap().below(120);
                world.run(steps as usize);
                let room = place * 8192;
                let at = log.lock().unwrap().below(BLOCK_COUNT);
                let before = world.responses(*queue).len();
                if log.lock().unwrap().below(3) > 0 {
                    let old = u64::from_le_bytes(log.lock().unwrap().blocks[at as usize][..8].try_into().unwrap());
                    world.host_write(queue.cpu, room, &block(old));
                    world.host_write(queue.cpu, room + 4096, &block(next));
                    for command in pair(10, range(at, 1), room, room + 4096) {
                        world.send(*queue, command, &[]);
                    }
                    pairs.push((at, old, next));
                    sent.push((*queue, before, 2, Some(next)));
                    next += 1;
                } else {
                    world.host_write(queue.cpu, room, &block(next));
                    world.host_write(queue.cpu, room + 512, &block(next + 1));
                    world.send(*queue, io(OP_WRITE, 10, at, 2, harness::keyed(room, 1024)), &[]);
                    sent.push((*queue, before, 1, None));
                    next += 2;
                }
            }
            for (queue, before, count, fused) in sent {
                let mut steps_left = 20_000;
                while world.responses(queue).len() < before + count {
                    world.run(1);
                    steps_left -= 1;
                    assert!(steps_left > 0, "seed {seed}: something waits for ever");
                }
                let responses = world.responses(queue)[before..].to_vec();
                match (fused, responses[0].status()) {
                    (None, status) => assert_eq!(status, Status::SUCCESS),
                    (Some(number), Status::SUCCESS) => {
                        assert_eq!(responses[1].status(), Status::SUCCESS);
                        winners.push(number);
                        won += 1;
                    }
                    (Some(_), status) => {
                        assert_eq!(
                            (status, responses[1].status()),
                            (Status::COMPARE_FAILURE, Status::ABORTED_FUSED_FAILED)
                        );
                        lost += 1;
                    }
                }
            }
        }
        parked += world.counters(0).park_count.value() + world.counters(1).park_count.value();
        let writes = log.lock().unwrap().writes.clone();
        for (at, old, new) in pairs {
            let place = writes.iter().position(|write| *write == (at, new));
            assert_eq!(place.is_some(), winners.contains(&new), "written if and only if it was said to be");
            if let Some(place) = place {
                let before =
                    writes[..place].iter().rev().find(|(block, _)| *block == at).map_or(0, |(_, number)| *number);
                assert_eq!(before, old, "seed {seed}: somebody wrote between the comparison and the write");
            }
        }
        world.shut_down();
    }
    assert!(won > 100 && lost > 100 && parked > 100, "{won} won, {lost} lost, {parked} waited");
}
