//! What every block device keeps: one suite, run on each.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests, on small numbers")]

mod fake_rbd;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bdev::{
    BdevError, Channel, Completion, Deallocation, Device, DeviceError, Fault, File, FileOptions, Memory, Null,
    Operation, OperationKind,
};
use reactor::{Arena, Rest, Segment};

const READ: OperationKind = OperationKind::Read;
const WRITE: OperationKind = OperationKind::Write { force_unit_access: false };
const WRITE_FORCED: OperationKind = OperationKind::Write { force_unit_access: true };
const FLUSH: OperationKind = OperationKind::Flush;
const DEALLOCATE: OperationKind = OperationKind::Deallocate;

fn zeroes(deallocate: bool, force_unit_access: bool) -> OperationKind {
    OperationKind::WriteZeroes { deallocate, force_unit_access }
}

/// Devices of the suite have this many blocks.
const BLOCK_COUNT: u64 = 1000;

/// A file that is gone with the test.
struct Image(PathBuf);

impl Image {
    /// In the build's own directory.
    fn new(len: u64) -> Self {
        Self::new_in(env!("CARGO_TARGET_TMPDIR").as_ref(), len)
    }

    fn new_in(directory: &Path, len: u64) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("bdev-{}-{}.img", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = directory.join(name);
        fs::File::create(&path).unwrap().set_len(len).unwrap();
        Self(path)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A device under test.
struct Subject {
    device: Box<dyn Device>,
    /// Whether it keeps what is written.
    keeps: bool,
    _image: Option<Image>,
}

fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    for block_len in [512, 4096] {
        let memory = Memory::new("memory", block_len, BLOCK_COUNT, false).unwrap();
        subjects.push(Subject { device: Box::new(memory), keeps: true, _image: None });
        let null = Null::new("null", block_len, BLOCK_COUNT).unwrap();
        subjects.push(Subject { device: Box::new(null), keeps: false, _image: None });
        let base = Memory::new("base", block_len, BLOCK_COUNT, false).unwrap();
        let fault = Fault::new("fault", Arc::new(base), 1);
        subjects.push(Subject { device: Box::new(fault), keeps: true, _image: None });
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let image = format!("contract-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let rbd = fake_rbd::FakeRbd::load().device(&image, block_len, BLOCK_COUNT);
        subjects.push(Subject { device: Box::new(rbd), keeps: true, _image: None });
        // A disk's file system, and one in memory, which cannot zero a range without writing it.
        let directories = [env!("CARGO_TARGET_TMPDIR"), "/dev/shm"].map(Path::new);
        for directory in directories.into_iter().filter(|directory| directory.is_dir()) {
            for without_ring in [false, true] {
                let image = Image::new_in(directory, u64::from(block_len) * BLOCK_COUNT);
                let options = FileOptions { block_len, without_ring, ..FileOptions::default() };
                let file = File::open("file", &image.0, options).unwrap();
                subjects.push(Subject { device: Box::new(file), keeps: true, _image: Some(image) });
            }
        }
    }
    subjects
}

/// One channel and its bookkeeping.
struct Driver {
    channel: Box<dyn Channel>,
    next_token: u64,
}

impl Driver {
    fn new(device: &dyn Device) -> Self {
        Self { channel: device.open_channel().unwrap(), next_token: 1 }
    }

    fn operation(
        &mut self,
        kind: OperationKind,
        start_block: u64,
        block_count: u64,
        data: Option<Segment>,
    ) -> Operation {
        let token = self.next_token;
        self.next_token += 1;
        Operation { token, host: 0, kind, start_block, block_count, data }
    }

    /// Runs operations to their ends; checks that each token comes back once, and gives the results by token order.
    fn run(&mut self, operations: Vec<Operation>) -> Vec<Result<(), DeviceError>> {
        let tokens: Vec<u64> = operations.iter().map(|operation| operation.token).collect();
        let mut waiting = VecDeque::from(operations);
        let mut completions: Vec<Completion> = Vec::new();
        let mut poll_count = 0_u64;
        while !waiting.is_empty() || self.channel.outstanding_count() > 0 {
            self.channel.submit(0, &mut waiting);
            self.channel.poll(0, &mut completions);
            std::thread::yield_now();
            poll_count += 1;
            assert!(poll_count < 100_000_000, "operations never end");
        }
        completions.sort_by_key(|completion| completion.token);
        assert_eq!(completions.iter().map(|completion| completion.token).collect::<Vec<_>>(), tokens);
        completions.into_iter().map(|completion| completion.result).collect()
    }

    fn run_one(
        &mut self,
        kind: OperationKind,
        start: u64,
        count: u64,
        data: Option<Segment>,
    ) -> Result<(), DeviceError> {
        let operation = self.operation(kind, start, count, data);
        self.run(vec![operation])[0]
    }
}

/// A seeded sequence (xorshift): failures repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Test memory. Never unmapped, like every arena that is dropped.
fn memory(len: usize) -> Segment {
    Arena::new(len, false).unwrap().segment().part(0, len)
}

fn bytes(segment: Segment) -> Vec<u8> {
    let mut bytes = vec![0; segment.len()];
    segment.read(0, &mut bytes);
    bytes
}

#[test]
fn random_operations_agree_with_a_model() {
    for subject in subjects().iter().filter(|subject| subject.keeps) {
        let block_len = subject.device.geometry().block_len as usize;
        let mut drivers = [Driver::new(&*subject.device), Driver::new(&*subject.device)];
        let mut model = vec![0_u8; block_len * BLOCK_COUNT as usize];
        let data = memory(64 * block_len);
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for round in 0..300 {
            let driver = &mut drivers[random.below(2) as usize];
            let count = 1 + random.below(64);
            let start = random.below(BLOCK_COUNT - count + 1);
            let piece = data.part(0, count as usize * block_len);
            let range = start as usize * block_len..(start + count) as usize * block_len;
            match random.below(9) {
                0..=2 => {
                    let fill: Vec<u8> = (0..piece.len()).map(|_| random.below(256) as u8).collect();
                    piece.write(0, &fill);
                    let kind = if random.below(4) == 0 { WRITE_FORCED } else { WRITE };
                    assert_eq!(driver.run_one(kind, start, count, Some(piece)), Ok(()));
                    model[range].copy_from_slice(&fill);
                }
                3 => {
                    let kind = zeroes(random.below(2) == 0, random.below(2) == 0);
                    assert_eq!(driver.run_one(kind, start, count, None), Ok(()));
                    model[range].fill(0);
                }
                4 => assert_eq!(driver.run_one(FLUSH, 0, 0, None), Ok(())),
                5 => {
                    assert_eq!(subject.device.geometry().deallocation, Deallocation::Zeroes, "all that the suite has");
                    assert_eq!(driver.run_one(DEALLOCATE, start, count, None), Ok(()));
                    model[range].fill(0);
                }
                _ => {
                    piece.write(0, &vec![0x5A; piece.len()]);
                    assert_eq!(driver.run_one(READ, start, count, Some(piece)), Ok(()));
                    assert!(
                        bytes(piece) == model[range],
                        "{} round {round}: {start}+{count}",
                        subject.device.product()
                    );
                }
            }
        }
    }
}

#[test]
fn many_outstanding_operations_all_end_once_and_a_full_queue_leaves_the_rest() {
    for subject in subjects() {
        let block_len = subject.device.geometry().block_len as usize;
        let mut driver = Driver::new(&*subject.device);
        let data = memory(BLOCK_COUNT as usize * block_len);
        let fill: Vec<u8> = (0..data.len()).map(|at| (at / block_len + at % 251) as u8).collect();
        data.write(0, &fill);
        let all = |driver: &mut Driver, kind| -> Vec<Operation> {
            (0..BLOCK_COUNT)
                .map(|block| {
                    let piece = data.part(block as usize * block_len, block_len);
                    driver.operation(kind, block, 1, Some(piece))
                })
                .collect()
        };
        let writes = all(&mut driver, WRITE);

        let mut waiting = VecDeque::from(writes);
        driver.channel.submit(0, &mut waiting);
        let taken = BLOCK_COUNT as usize - waiting.len();
        assert!(taken > 0, "a channel takes something");
        assert!(!waiting.is_empty(), "a channel's queue is bounded");
        assert_eq!(waiting[0].token, taken as u64 + 1, "taken from the front, in order");
        let mut completions = Vec::new();
        while !waiting.is_empty() || driver.channel.outstanding_count() > 0 {
            driver.channel.submit(0, &mut waiting);
            driver.channel.poll(0, &mut completions);
        }
        completions.sort_by_key(|completion| completion.token);
        assert_eq!(completions.len(), BLOCK_COUNT as usize);
        for (at, completion) in completions.iter().enumerate() {
            assert_eq!(*completion, Completion { token: at as u64 + 1, result: Ok(()) });
        }

        data.zero();
        let reads = all(&mut driver, READ);
        assert!(driver.run(reads).iter().all(Result::is_ok));
        let expected = if subject.keeps { fill } else { vec![0; fill.len()] };
        assert!(bytes(data) == expected, "{}", subject.device.product());
    }
}

/// Sleeps as a CPU does that has nothing to poll for. Gives up after 10 s.
fn sleep_on(channel: &dyn Channel) {
    let fd = channel
        .wake_descriptor()
        .expect("a channel that lets its CPU sleep with operations outstanding has a descriptor");
    let mut watched = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor, which is the channel's.
    let count = unsafe { libc::poll(&raw mut watched, 1, 10_000) };
    assert_eq!(count, 1, "a completion ends the sleep");
}

#[test]
fn completions_end_the_sleep_of_their_cpu() {
    for subject in subjects() {
        let block_len = subject.device.geometry().block_len as usize;
        let mut driver = Driver::new(&*subject.device);
        let data = memory(8 * block_len);
        let is_readable = |channel: &dyn Channel| {
            channel.wake_descriptor().is_some_and(|fd| {
                let mut watched = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                // SAFETY: one descriptor, which is the channel's.
                unsafe { libc::poll(&raw mut watched, 1, 0) > 0 }
            })
        };
        for round in 0..200_u64 {
            assert_eq!(driver.channel.arm(), Rest::Sleep, "nothing is outstanding");
            assert!(!is_readable(&*driver.channel), "{} round {round}", subject.device.product());
            driver.channel.disarm();

            let kind = [READ, WRITE, WRITE_FORCED, FLUSH][round as usize % 4];
            let (count, data) = if kind == FLUSH { (0, None) } else { (8, Some(data)) };
            let operation = driver.operation(kind, round % 4 * 8, count, data);
            let token = operation.token;
            let mut waiting = VecDeque::from([operation]);
            driver.channel.submit(0, &mut waiting);
            assert!(waiting.is_empty());
            let mut completions = Vec::new();
            while completions.is_empty() {
                // Some rounds find it before they sleep, some sleep first.
                if round % 3 == 0 {
                    std::thread::yield_now();
                }
                if driver.channel.arm() == Rest::Sleep {
                    sleep_on(&*driver.channel);
                }
                driver.channel.disarm();
                driver.channel.poll(0, &mut completions);
            }
            assert_eq!(completions, [Completion { token, result: Ok(()) }]);
        }
    }
}

#[test]
fn what_is_outside_the_device_is_answered_not_done() {
    for subject in subjects() {
        let geometry = subject.device.geometry();
        let block_len = geometry.block_len as usize;
        let mut driver = Driver::new(&*subject.device);
        let data = memory(2 * block_len);
        for start in [BLOCK_COUNT - 1, BLOCK_COUNT, u64::MAX - 1, u64::MAX, i64::MAX as u64 / 512] {
            for kind in [READ, WRITE, zeroes(true, false), zeroes(false, true), DEALLOCATE] {
                assert_eq!(
                    driver.run_one(kind, start, 2, Some(data)),
                    Err(DeviceError::OutOfRange),
                    "{start} {kind:?}"
                );
            }
        }
        assert_eq!(driver.run_one(zeroes(false, false), 0, u64::MAX, None), Err(DeviceError::OutOfRange));
        assert_eq!(driver.run_one(READ, 0, 0, Some(data)), Err(DeviceError::OutOfRange));
        // Memory that does not fit the range is never copied.
        assert_eq!(driver.run_one(READ, 0, 1, Some(data)), Err(DeviceError::Internal));
        assert_eq!(driver.run_one(WRITE, 0, 1, None), Err(DeviceError::Internal));
        // The device goes on.
        assert_eq!(driver.run_one(READ, BLOCK_COUNT - 2, 2, Some(data)), Ok(()));
        assert_eq!(bytes(data), vec![0; 2 * block_len]);
    }
}

#[test]
fn what_a_device_says_of_its_blocks_is_possible() {
    for subject in subjects() {
        let geometry = subject.device.geometry();
        let (preferred, atomic) = (geometry.preferred, geometry.atomic);
        assert!(preferred.write > 0 && preferred.deallocate > 0 && atomic.write > 0 && atomic.power_fail > 0);
        assert!(preferred.write_optimal.is_multiple_of(preferred.write) && preferred.write_optimal > 0);
        assert!(atomic.power_fail <= atomic.write);
        assert!(geometry.operation_block_count_max > 0 && geometry.data_alignment.is_power_of_two());
        let mut driver = Driver::new(&*subject.device);
        let uncorrectable = driver.run_one(OperationKind::WriteUncorrectable, 0, 1, None);
        let expected = if geometry.writes_uncorrectable { Ok(()) } else { Err(DeviceError::Unsupported) };
        assert_eq!(uncorrectable, expected, "{}", subject.device.product());
    }
}

#[test]
fn deallocated_space_is_given_back_by_files() {
    use std::os::unix::fs::MetadataExt;
    for subject in subjects() {
        let Some(image) = &subject._image else { continue };
        let block_len = subject.device.geometry().block_len as usize;
        let mut driver = Driver::new(&*subject.device);
        let data = memory(BLOCK_COUNT as usize * block_len);
        data.write(0, &vec![0x77; data.len()]);
        assert_eq!(driver.run_one(WRITE, 0, BLOCK_COUNT, Some(data)), Ok(()));
        assert_eq!(driver.run_one(FLUSH, 0, 0, None), Ok(()));
        let used = fs::metadata(&image.0).unwrap().blocks();
        assert_eq!(driver.run_one(DEALLOCATE, 0, BLOCK_COUNT, None), Ok(()));
        let left = fs::metadata(&image.0).unwrap().blocks();
        assert!(left < used / 2, "{left} of {used} sectors are left of {}", image.0.display());
    }
}

#[test]
fn one_channel_reads_what_another_has_written() {
    for subject in subjects().iter().filter(|subject| subject.keeps) {
        let block_len = subject.device.geometry().block_len as usize;
        let (mut one, mut two) = (Driver::new(&*subject.device), Driver::new(&*subject.device));
        let data = memory(3 * block_len);
        data.write(0, &vec![0xC3; 3 * block_len]);
        assert_eq!(one.run_one(WRITE, 5, 3, Some(data)), Ok(()));
        data.zero();
        assert_eq!(two.run_one(READ, 5, 3, Some(data)), Ok(()));
        assert_eq!(bytes(data), vec![0xC3; 3 * block_len]);
    }
}

#[test]
fn channels_work_on_threads_of_their_own_at_the_same_time() {
    for subject in subjects().iter().filter(|subject| subject.keeps) {
        let block_len = subject.device.geometry().block_len as usize;
        std::thread::scope(|scope| {
            for half in 0..2_u64 {
                let mut driver = Driver::new(&*subject.device);
                scope.spawn(move || {
                    let data = memory(10 * block_len);
                    for round in 0..50_u64 {
                        let start = half * BLOCK_COUNT / 2 + round * 10;
                        let fill = vec![(half * 100 + round) as u8; data.len()];
                        data.write(0, &fill);
                        assert_eq!(driver.run_one(WRITE, start, 10, Some(data)), Ok(()));
                        data.zero();
                        assert_eq!(driver.run_one(READ, start, 10, Some(data)), Ok(()));
                        assert!(bytes(data) == fill);
                    }
                });
            }
        });
    }
}

#[test]
fn memory_that_reads_need_no_copy_of_shows_what_was_written() {
    for subject in subjects() {
        let block_len = subject.device.geometry().block_len as usize;
        let mut driver = Driver::new(&*subject.device);
        let Some(in_place) = driver.channel.in_place(7, 2) else {
            assert!(subject.device.memory().is_none());
            continue;
        };
        let memory_of_device = subject.device.memory().expect("in place means memory");
        assert_eq!(in_place.region(), memory_of_device.region());
        assert!(in_place.address() >= memory_of_device.address());
        assert!(
            in_place.address() + in_place.len() as u64 <= memory_of_device.address() + memory_of_device.len() as u64
        );
        let data = memory(2 * block_len);
        data.write(0, &vec![9; 2 * block_len]);
        assert_eq!(driver.run_one(WRITE, 7, 2, Some(data)), Ok(()));
        assert_eq!(bytes(in_place), vec![if subject.keeps { 9 } else { 0 }; 2 * block_len]);
    }
}

#[test]
fn a_file_shows_its_bytes_and_gets_what_is_written() {
    let image = Image::new(64 * 512);
    fs::write(&image.0, (0..64 * 512).map(|at| (at / 512) as u8).collect::<Vec<_>>()).unwrap();
    let device = File::open("file", &image.0, FileOptions::default()).unwrap();
    let mut driver = Driver::new(&device);
    let data = memory(512);
    assert_eq!(driver.run_one(READ, 9, 1, Some(data)), Ok(()));
    assert_eq!(bytes(data), vec![9; 512]);
    data.write(0, &[0xEE; 512]);
    assert_eq!(driver.run_one(WRITE_FORCED, 63, 1, Some(data)), Ok(()));
    assert_eq!(driver.run_one(zeroes(true, true), 0, 8, None), Ok(()));
    let now = fs::read(&image.0).unwrap();
    assert_eq!(now[63 * 512..], [0xEE; 512]);
    assert_eq!(now[..8 * 512], [0; 8 * 512]);
    assert_eq!(now.len(), 64 * 512);
}

#[test]
fn a_file_that_is_truncated_under_its_device_fails_reads_only_where_it_is_gone() {
    for without_ring in [false, true] {
        let image = Image::new(64 * 512);
        let options = FileOptions { without_ring, ..FileOptions::default() };
        let device = File::open("file", &image.0, options).unwrap();
        let mut driver = Driver::new(&device);
        let data = memory(512);
        fs::OpenOptions::new().write(true).open(&image.0).unwrap().set_len(32 * 512).unwrap();
        assert_eq!(driver.run_one(READ, 40, 1, Some(data)), Err(DeviceError::OutOfRange));
        assert_eq!(driver.run_one(READ, 31, 1, Some(data)), Ok(()));
    }
}

#[test]
fn a_read_only_file_takes_no_writes() {
    let image = Image::new(64 * 512);
    let options = FileOptions { read_only: true, ..FileOptions::default() };
    let device = File::open("file", &image.0, options).unwrap();
    assert!(device.geometry().read_only);
    let mut driver = Driver::new(&device);
    let data = memory(512);
    assert_eq!(driver.run_one(WRITE, 0, 1, Some(data)), Err(DeviceError::ReadOnly));
    assert_eq!(driver.run_one(zeroes(true, false), 0, 1, None), Err(DeviceError::ReadOnly));
    assert_eq!(driver.run_one(FLUSH, 0, 0, None), Ok(()));
    assert_eq!(driver.run_one(READ, 0, 1, Some(data)), Ok(()));
    // Readers share.
    File::open("file again", &image.0, options).unwrap();
}

#[test]
fn a_file_is_written_by_one_device_at_a_time() {
    let image = Image::new(64 * 512);
    let first = File::open("first", &image.0, FileOptions::default()).unwrap();
    let error = File::open("second", &image.0, FileOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("second: lock of {}: another process, or another device of this target, uses it", image.0.display())
    );
    drop(first);
    File::open("second", &image.0, FileOptions::default()).unwrap();
}

#[test]
fn what_is_no_disk_is_refused_with_the_way_out() {
    let text = |path: &str, options| File::open("disk0", path.as_ref(), options).unwrap_err().to_string();
    let options = FileOptions::default();
    assert_eq!(
        text("/nowhere/disk.img", options),
        "disk0: open of /nowhere/disk.img: No such file or directory (os error 2)"
    );
    assert_eq!(text("/dev/null", options), "disk0: path is /dev/null: a regular file or a block device");
    assert_eq!(text("/", options), "disk0: path is /: a regular file or a block device");
    assert_eq!(text("/dev/null", FileOptions { block_len: 1024, ..options }), "disk0: block size is 1024: 512 or 4096");
    assert_eq!(text("/dev/null", FileOptions { queue_depth: 0, ..options }), "disk0: queue depth is 0: 1 to 4096");
    let image = Image::new(1000);
    assert!(matches!(File::open("disk0", &image.0, options), Err(BdevError::Field { field: "size", .. })));
}
