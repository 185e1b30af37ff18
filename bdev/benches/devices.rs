//! Cost of an operation at the channel of each device, copies beside bare ones of the same places in the same run.
//!
//! `cargo bench -p bdev --bench devices`

mod drive;
#[path = "../../reactor/benches/measure/mod.rs"]
mod measure;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bdev::{Device, File, FileOptions, Memory, Null, OperationKind};
use drive::{BareCopy, Drive, Places};
use measure::{as_float, per_operation, print};
use reactor::Clock;

const WRITE: OperationKind = OperationKind::Write { force_unit_access: false };

/// Far more than caches hold.
const MEMORY_LEN: usize = 64 << 20;

const FILE_LEN: usize = 64 << 20;

fn main() {
    let clock = Clock::start();
    println!("null, in batches of 32:");
    null(clock);
    for places in [Places::InOrder, Places::AtRandom] {
        let how = match places {
            Places::InOrder => "in order",
            Places::AtRandom => "at random",
        };
        println!("memory of 64 MiB on ordinary pages, {how}:");
        for len in [512, 4096, 128 << 10] {
            memory(clock, len, places);
        }
    }
    for (what, directory) in [("tmpfs", "/dev/shm"), ("disk", env!("CARGO_TARGET_TMPDIR"))] {
        file(clock, what, Path::new(directory));
    }
}

fn null(clock: Clock) {
    const COUNT: u64 = 500_000;
    let device = Null::new("null", 512, 1 << 30).expect("a null device");
    for len in [512, 4096, 128 << 10] {
        let mut drive = Drive::new(&device, len, Places::InOrder);
        let count = (COUNT * 512 / len as u64).max(5000);
        let read_ns = per_operation(clock, count, || drive.run(OperationKind::Read, count));
        print(&format!("  read of {len}, zeroed by hand"), read_ns, None);
    }
    let mut drive = Drive::new(&device, 4096, Places::InOrder);
    print("  read in place", per_operation(clock, COUNT, || drive.run_in_place(COUNT)), None);
    print("  write of 4096", per_operation(clock, COUNT, || drive.run(WRITE, COUNT)), None);
}

fn memory(clock: Clock, len: usize, places: Places) {
    let device = Memory::new("memory", 512, (MEMORY_LEN / 512) as u64, false).expect("a memory device");
    let mut drive = Drive::new(&device, len, places);
    let mut bare = BareCopy::new(MEMORY_LEN, len, places);
    // All of it at least once.
    let count = (2 * MEMORY_LEN / len).min(150_000) as u64;
    let bare_read_ns = per_operation(clock, count, || bare.read(count));
    let read_ns = per_operation(clock, count, || drive.run(OperationKind::Read, count));
    let bare_write_ns = per_operation(clock, count, || bare.write(count));
    let write_ns = per_operation(clock, count, || drive.run(WRITE, count));
    let in_place_ns = per_operation(clock, count, || drive.run_in_place(count));
    print_bandwidth(&format!("  read of {len}"), len, read_ns, bare_read_ns);
    print_bandwidth(&format!("  write of {len}"), len, write_ns, bare_write_ns);
    print(&format!("  read of {len} in place"), in_place_ns, None);
    device.retire();
}

fn print_bandwidth(what: &str, len: usize, ns: f64, bare_ns: f64) {
    let rate = |ns: f64| as_float(len as u64) / ns;
    let beside = ("the bare copy", bare_ns);
    print(what, ns, Some(beside));
    println!("  {:<56} {:>9.1} GB/s, bare {:.1}", "", rate(ns), rate(bare_ns));
}

/// Past the page cache where the file system has that; where the file is memory anyway, `pread` and `pwrite` beside it.
fn file(clock: Clock, what: &str, directory: &Path) {
    let in_memory = what == "tmpfs";
    let image = Image::new(directory);
    let device = match File::open("file", &image.0, FileOptions { block_len: 4096, ..FileOptions::default() }) {
        Ok(device) => device,
        Err(error) => return println!("file on {what}: not measured: {error}"),
    };
    println!("file on {what}, io_uring: {}, past the page cache: {}:", device.uses_ring(), device.is_direct());
    let count = if in_memory { 50_000 } else { 4000 };
    // A disk's would be of the page cache: `scripts/bench-file` has fio beside it.
    let bare = in_memory.then(|| bare_file(clock, &image.0, count));
    let (bare_read_ns, bare_write_ns) = bare.unzip();
    for depth in [1, 32] {
        let mut drive = Drive::new(&device, 4096, Places::InOrder).at_depth(depth);
        let read_ns = per_operation(clock, count, || drive.run(OperationKind::Read, count));
        print(&format!("  read of 4096, {depth} at a time"), read_ns, bare_read_ns.map(|ns| ("pread", ns)));
        let write_ns = per_operation(clock, count, || drive.run(WRITE, count));
        print(&format!("  write of 4096, {depth} at a time"), write_ns, bare_write_ns.map(|ns| ("pwrite", ns)));
    }
}

/// ns of `pread` and `pwrite`.
fn bare_file(clock: Clock, path: &Path, count: u64) -> (f64, f64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let mut bytes = vec![0; 4096];
    let place = |number: u64| number % (FILE_LEN as u64 / 4096) * 4096;
    let read_ns = per_operation(clock, count, || {
        (0..count).for_each(|number| file.read_exact_at(&mut bytes, place(number)).expect("bytes"));
    });
    let write_ns = per_operation(clock, count, || {
        (0..count).for_each(|number| file.write_all_at(&bytes, place(number)).expect("room"));
    });
    (read_ns, write_ns)
}

/// A file that is gone with the bench.
struct Image(PathBuf);

impl Image {
    fn new(directory: &Path) -> Self {
        let path = directory.join(format!("bdev-bench-{}.img", std::process::id()));
        // Written, so that reads have something to read.
        fs::write(&path, vec![1; FILE_LEN]).expect("a file");
        Self(path)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}
