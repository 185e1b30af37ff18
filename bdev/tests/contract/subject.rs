//! Devices under test: each kind, and stacks of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bdev::{
    BdevError, Channel, Delay, Device, Fault, File, FileOptions, Gate, Geometry, Latencies, Limits, Memory, Null, Nvme,
    NvmeOptions, Partition, Rates, Throttle,
};
use reactor::Segment;

use crate::driver::{Driver, zeroes};
use crate::fake_rbd::FakeRbd;

/// Devices of the suite have this many blocks.
pub(crate) const BLOCK_COUNT: u64 = 1000;

/// Blocks of a partition's base before and behind it.
const MARGIN: u64 = 24;

/// The environment may name a disk (`/dev/vda`) or a drive (`/dev/ng0n1`), which the suite is run on alone. Its contents are lost. It is opened by each case, so there
/// has to be one case at a time (`--test-threads 1`).
const GIVEN: &str = "BDEV_CONTRACT_DEVICE";

/// What is at the bottom of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bottom {
    Memory,
    Null,
    /// An image of a cluster, as `fake_rbd` plays one.
    Rbd,
    /// A file of a disk's file system, or of one in memory, which cannot zero a range without writing it; through io_uring or a thread.
    File {
        in_memory: bool,
        without_ring: bool,
    },
    /// What the environment names.
    Given,
}
use Bottom::{File as OnFile, Memory as InMemory, Null as Nothing, Rbd as InCluster};

/// What stands over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Fault,
    Delay,
    Partition,
    /// A gate without a limit.
    Gate,
    /// A gate with limits so high that a burst covers all that a case does.
    Limit,
}
use Over::{Delay as Slower, Fault as Faulty, Gate as Gated, Limit as Limited, Partition as Part};

const RING: Bottom = OnFile { in_memory: false, without_ring: false };
const THREAD: Bottom = OnFile { in_memory: false, without_ring: true };

/// Each kind, each layer over each kind that differs from the others, and higher stacks, lowest layer first.
const STACKS: &[(Bottom, &[Over])] = &[
    (InMemory, &[]),
    (Nothing, &[]),
    (RING, &[]),
    (InCluster, &[]),
    (THREAD, &[]),
    (OnFile { in_memory: true, without_ring: false }, &[]),
    (OnFile { in_memory: true, without_ring: true }, &[]),
    (InMemory, &[Faulty]),
    (Nothing, &[Faulty]),
    (RING, &[Faulty]),
    (InCluster, &[Faulty]),
    (THREAD, &[Faulty]),
    (InMemory, &[Slower]),
    (Nothing, &[Slower]),
    (RING, &[Slower]),
    (InCluster, &[Slower]),
    (THREAD, &[Slower]),
    (InMemory, &[Part]),
    (Nothing, &[Part]),
    (RING, &[Part]),
    (InCluster, &[Part]),
    (THREAD, &[Part]),
    (InMemory, &[Gated]),
    (RING, &[Gated]),
    (InMemory, &[Limited]),
    (Nothing, &[Limited]),
    (RING, &[Limited]),
    (THREAD, &[Limited]),
    (InCluster, &[Limited]),
    (InMemory, &[Part, Slower, Limited]),
    (RING, &[Faulty, Part, Limited]),
    (InMemory, &[Part, Part]),
    (InMemory, &[Slower, Part]),
    (RING, &[Part, Slower]),
    (InMemory, &[Part, Faulty, Slower]),
    (RING, &[Faulty, Slower, Part]),
    (THREAD, &[Slower, Part, Faulty]),
    (InCluster, &[Part, Slower, Faulty]),
];

/// A file that is gone with the test.
pub(crate) struct Image(pub(crate) PathBuf);

impl Image {
    /// In the build's own directory.
    pub(crate) fn new(len: u64) -> Self {
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
pub(crate) struct Subject {
    /// To say which.
    pub(crate) name: String,
    pub(crate) device: Arc<dyn Device>,
    /// The lowest device's, which reads may be pushed out of.
    pub(crate) memory: Option<Segment>,
    pub(crate) bottom: Bottom,
    pub(crate) layers: &'static [Over],
    pub(crate) image: Option<Image>,
}

impl Subject {
    /// Whether it keeps what is written.
    pub(crate) fn keeps(&self) -> bool {
        self.bottom != Nothing
    }

    /// Whether its room is so large that no case fills it.
    pub(crate) fn is_roomy(&self) -> bool {
        self.layers.last() == Some(&Limited)
    }

    /// Whether it ends nothing before its time has come.
    pub(crate) fn waits(&self) -> bool {
        self.layers.contains(&Slower)
    }

    /// Its block's bytes.
    pub(crate) fn block_len(&self) -> usize {
        self.device.geometry().block_len as usize
    }
}

/// A device whose channels have a gate before them, as the target's have.
#[derive(Debug)]
struct BehindGate {
    base: Arc<dyn Device>,
    throttle: Arc<Throttle>,
}

impl Device for BehindGate {
    fn name(&self) -> &str {
        self.base.name()
    }

    fn product(&self) -> &'static str {
        self.base.product()
    }

    fn geometry(&self) -> Geometry {
        self.base.geometry()
    }

    fn resize(&self, block_count: u64) -> Result<(), BdevError> {
        self.base.resize(block_count)
    }

    fn rescan(&self) -> Result<(), BdevError> {
        self.base.rescan()
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        let channel = self.base.open_channel()?;
        Ok(Box::new(Gate::new(channel, Arc::clone(&self.throttle), self.base.geometry().block_len)))
    }
}

/// All of them, with blocks of both lengths.
pub(crate) fn subjects() -> Vec<Subject> {
    if let Some(path) = std::env::var_os(GIVEN) {
        return vec![given(path.as_ref())];
    }
    let stacks = || STACKS.iter().filter(|(bottom, _)| is_possible(*bottom));
    [512, 4096].into_iter().flat_map(|block_len| stacks().map(move |stack| subject(*stack, block_len))).collect()
}

/// The first blocks of a disk or drive, zeroes.
fn given(path: &Path) -> Subject {
    let file = |block_len| File::open("base", path, FileOptions { block_len, ..FileOptions::default() });
    let base: Arc<dyn Device> = match path.file_name() {
        Some(name) if name.as_encoded_bytes().starts_with(b"ng") => {
            Arc::new(Nvme::open("base", path, NvmeOptions::default()).unwrap())
        }
        _ => Arc::new(file(512).or_else(|_| file(4096)).unwrap()),
    };
    let mut driver = Driver::new(&*base);
    assert_eq!(driver.run_one(zeroes(false, true), 0, BLOCK_COUNT + 2 * MARGIN, None), Ok(()));
    let device = Arc::new(Partition::new("part", base, MARGIN, BLOCK_COUNT).unwrap());
    let name = format!("{} of {}", path.display(), device.geometry().block_len);
    Subject { name, device, memory: None, bottom: Bottom::Given, layers: &[Part], image: None }
}

fn is_possible(bottom: Bottom) -> bool {
    !matches!(bottom, OnFile { in_memory: true, .. }) || Path::new("/dev/shm").is_dir()
}

fn subject((bottom, layers): (Bottom, &'static [Over]), block_len: u32) -> Subject {
    let part_count = layers.iter().filter(|layer| **layer == Part).count() as u64;
    let mut block_count = BLOCK_COUNT + 2 * MARGIN * part_count;
    let mut image = None;
    let mut device: Arc<dyn Device> = match bottom {
        InMemory => Arc::new(Memory::new("base", block_len, block_count, false).unwrap()),
        Nothing => Arc::new(Null::new("base", block_len, block_count).unwrap()),
        Bottom::Given => unreachable!("it is made elsewhere"),
        InCluster => {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let image = format!("contract-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
            Arc::new(FakeRbd::load().device(&image, block_len, block_count))
        }
        OnFile { in_memory, without_ring } => {
            let directory = if in_memory { "/dev/shm" } else { env!("CARGO_TARGET_TMPDIR") };
            let made = Image::new_in(directory.as_ref(), u64::from(block_len) * block_count);
            let options = FileOptions { block_len, without_ring, ..FileOptions::default() };
            let file = File::open("base", &made.0, options).unwrap();
            image = Some(made);
            Arc::new(file)
        }
    };
    let memory = device.memory();
    for layer in layers {
        device = match layer {
            Faulty => Arc::new(Fault::new("fault", device, 1)),
            Slower => {
                let latencies = Latencies { read_us: 2, read_p99_us: 30, write_us: 3, write_p99_us: 40 };
                Arc::new(Delay::new("delay", device, latencies, 1).unwrap())
            }
            Gated => Arc::new(BehindGate { base: device, throttle: Arc::default() }),
            Limited => {
                let throttle = Arc::new(Throttle::default());
                let rates = |rate| Rates { operations: rate, bytes: rate << 12, ..Rates::default() };
                throttle.set(Limits { device: rates(1 << 24), host: rates(1 << 23), burst_ms: 1000 });
                Arc::new(BehindGate { base: device, throttle })
            }
            Part => {
                block_count -= 2 * MARGIN;
                Arc::new(Partition::new("part", device, MARGIN, block_count).unwrap())
            }
        };
    }
    assert_eq!(device.geometry().block_count, BLOCK_COUNT);
    Subject { name: format!("{bottom:?} {layers:?} of {block_len}"), device, memory, bottom, layers, image }
}
