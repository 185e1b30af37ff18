//! Opening a file or block device: its kind, its size, its lock, and whether reads and writes can go past the page cache.
//!
//! # Invariants of the unsafe code
//! 1. A `statx` is plain numbers: all zeroes is one.
//! 2. Pointers given to a system call point at values that live through it and are as long as it is told.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use reactor::Arena;

use super::FileOptions;
use crate::device::{Atomic, BdevError, Deallocation, Preferred};
use crate::lock::{lock, open_when_free};

/// Alignment of data where the file system does not say what direct I/O needs.
const DATA_ALIGNMENT_UNTOLD: usize = 4096;

/// A file, open and locked.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) len: u64,
    pub(super) direct: bool,
    pub(super) data_alignment: usize,
    pub(super) deallocation: Deallocation,
    pub(super) preferred: Preferred,
    pub(super) atomic: Atomic,
}

/// Opens `path`. `try_direct` is false for channels that cannot keep direct I/O's alignment.
pub(super) fn open(device: &str, path: &Path, options: FileOptions, try_direct: bool) -> Result<Opened, BdevError> {
    let failed =
        |call| move |source| BdevError::File { device: device.to_owned(), call, path: path.to_owned(), source };
    // Looked at before it is opened: opening a FIFO waits for its other end.
    let kind = std::fs::metadata(path).map_err(failed("open"))?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(BdevError::Field {
            device: device.to_owned(),
            field: "path",
            value: path.display().to_string(),
            allowed: "a regular file or a block device",
        });
    }
    // O_EXCL on a block device is refused while it is mounted or otherwise held, so one open file must be closed before the next is opened.
    let exclusive = if kind.is_block_device() && !options.read_only { libc::O_EXCL } else { 0 };
    let direct = if try_direct { direct(path, options, exclusive).map(Some) } else { Ok(None) };
    let (mut file, data_alignment) = match direct {
        Ok(Some((file, data_alignment))) => (file, Some(data_alignment)),
        Ok(None) => (open_with(path, options.read_only, exclusive).map_err(failed("open"))?, None),
        Err(reason) => {
            let file = open_with(path, options.read_only, exclusive).map_err(failed("open"))?;
            tracing::info!(device, path = %path.display(), %reason, "no direct I/O on this file: its blocks go through the page cache");
            (file, None)
        }
    };
    lock(&file, options.read_only).map_err(failed("lock"))?;
    let len = file.seek(SeekFrom::End(0)).map_err(failed("seek to the end"))?;
    check_len(device, len, options.block_len)?;
    if let Some(logical) =
        logical_block_len(&file).filter(|logical| kind.is_block_device() && *logical > options.block_len)
    {
        return Err(BdevError::Field {
            device: device.to_owned(),
            field: "block size",
            value: options.block_len.to_string(),
            allowed: if logical == 4096 {
                "4096: the disk has blocks of 4096 bytes itself"
            } else {
                "a disk with blocks of 512 or 4096 bytes"
            },
        });
    }
    let (deallocation, preferred) = if kind.is_block_device() {
        // Where the device below cannot zero what it discards, the kernel refuses the call [block/fops.c, blkdev_fallocate], and writing zeroes to a
        // whole device instead is nothing that anybody who discards it would want.
        (Deallocation::Unspecified, preferred_of_device(&file, options.block_len))
    } else {
        let unit = file.metadata().map_err(failed("stat"))?.blksize();
        (Deallocation::Zeroes, preferred(options.block_len, unit, unit))
    };
    let direct = data_alignment.is_some();
    let atomic = Atomic { write: 1, power_fail: whole_blocks(options.block_len, physical_len(&file)) };
    if atomic.power_fail == 0 && !options.read_only {
        tracing::warn!(
            device,
            path = %path.display(),
            block_len = options.block_len,
            "a loss of power may leave a part of a block written, as the disk below is not known to write whole blocks of this size: \
             a block size of 512 has no such blocks"
        );
    }
    Ok(Opened { file, len, direct, data_alignment: data_alignment.unwrap_or(1), deallocation, preferred, atomic })
}

/// Bytes of a block device's own blocks: it reads and writes nothing smaller.
fn logical_block_len(file: &File) -> Option<u32> {
    let mut len = 0_u32;
    // SAFETY: invariant 2: the call writes one 32-bit number.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::BLKSSZGET, &raw mut len) };
    (result == 0).then_some(len)
}

/// Bytes that the disk below writes wholly or not at all: those of its physical block [Linux, `Documentation/ABI/stable/sysfs-block`,
/// `queue/physical_block_size`]. `None`: there is no disk, or none that says.
fn physical_len(file: &File) -> Option<u64> {
    let metadata = file.metadata().ok()?;
    let device = if metadata.file_type().is_block_device() { metadata.rdev() } else { metadata.dev() };
    let disk = Path::new("/sys/dev/block").join(format!("{}:{}", libc::major(device), libc::minor(device)));
    // A partition that begins within a physical block has blocks that lie in two.
    if std::fs::read_to_string(disk.join("alignment_offset")).is_ok_and(|text| text.trim() != "0") {
        return None;
    }
    // A partition has its disk's, which is the directory above it.
    let text = ["queue", "../queue"]
        .iter()
        .find_map(|queue| std::fs::read_to_string(disk.join(queue).join("physical_block_size")).ok())?;
    text.trim().parse().ok()
}

/// Whether the disk does a block in one piece: 1, or 0. Where it does not say it has sectors of 512 bytes: less no disk does. Two blocks may lie in two of its.
fn whole_blocks(block_len: u32, physical_len: Option<u64>) -> u32 {
    u32::from(physical_len.unwrap_or(512).max(512) >= u64::from(block_len))
}

/// What a block device says of itself.
fn preferred_of_device(file: &File, block_len: u32) -> Preferred {
    let [mut physical, mut optimal] = [0_u32; 2];
    // SAFETY: invariant 2: both calls write one 32-bit number.
    let physical_is_told = unsafe { libc::ioctl(file.as_raw_fd(), libc::BLKPBSZGET, &raw mut physical) } == 0;
    // SAFETY: as above.
    let optimal_is_told = unsafe { libc::ioctl(file.as_raw_fd(), libc::BLKIOOPT, &raw mut optimal) } == 0;
    let told = |is_told: bool, value: u32| if is_told { u64::from(value) } else { 0 };
    preferred(block_len, told(physical_is_told, physical), told(optimal_is_told, optimal))
}

/// In blocks, of what the system says in bytes. What is no multiple of a block, or not told, is a block.
fn preferred(block_len: u32, unit: u64, optimal: u64) -> Preferred {
    let blocks = |len: u64, multiple: u64| match u32::try_from(len / u64::from(block_len)) {
        Ok(count) if count > 0 && len.is_multiple_of(u64::from(block_len)) && len.is_multiple_of(multiple) => count,
        Ok(_) | Err(_) => u32::try_from(multiple / u64::from(block_len)).unwrap_or(1).max(1),
    };
    let write = blocks(unit, 1);
    let write_optimal = blocks(optimal, u64::from(write) * u64::from(block_len));
    Preferred { boundary: 0, write, write_optimal, deallocate: write }
}

fn open_with(path: &Path, read_only: bool, flags: i32) -> io::Result<File> {
    open_when_free(|| OpenOptions::new().read(true).write(!read_only).custom_flags(flags).open(path))
}

pub(super) fn check_len(device: &str, len: u64, block_len: u32) -> Result<(), BdevError> {
    let allowed = match block_len {
        _ if len == 0 => "a file that is not empty: make it with `truncate -s SIZE FILE`",
        _ if len.is_multiple_of(u64::from(block_len)) => return Ok(()),
        512 => "a multiple of the block size: round it with `truncate -s %512 FILE`",
        _ => "a multiple of the block size: round it with `truncate -s %4096 FILE`, or set the block size to 512",
    };
    Err(BdevError::Field { device: device.to_owned(), field: "size", value: format!("{len} bytes"), allowed })
}

/// Opens it for direct I/O, and reads a block to see that it works. Returns also the alignment that data needs.
fn direct(path: &Path, options: FileOptions, flags: i32) -> Result<(File, usize), String> {
    let file = open_with(path, options.read_only, flags | libc::O_DIRECT).map_err(|error| error.to_string())?;
    let alignment = match direct_alignment(path) {
        Some((_, offset_alignment)) if offset_alignment > options.block_len => {
            return Err(format!("it needs blocks of {offset_alignment} bytes"));
        }
        Some((0, _)) => return Err("the file system does not support it".to_owned()),
        Some((data_alignment, _)) => data_alignment as usize,
        None => DATA_ALIGNMENT_UNTOLD,
    };
    let arena = Arena::new(options.block_len as usize, false).map_err(|error| error.to_string())?;
    let (memory, len) = (arena.segment().as_ptr(), options.block_len as usize);
    // SAFETY: invariant 2: the arena is at least that long.
    let read = unsafe { libc::pread(file.as_raw_fd(), memory.cast(), len, 0) };
    let error = io::Error::last_os_error();
    // SAFETY: the one segment made of it was used by the call that has returned.
    unsafe { arena.release() };
    if usize::try_from(read) == Ok(len) { Ok((file, alignment)) } else { Err(format!("a first read failed: {error}")) }
}

/// What direct I/O on `path` needs: alignment of memory, alignment of offsets. `None` where the file system does not tell.
fn direct_alignment(path: &Path) -> Option<(u32, u32)> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).ok()?;
    let mut facts = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: invariant 2.
    let result = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_DIOALIGN, facts.as_mut_ptr()) };
    // SAFETY: invariant 1.
    let facts = unsafe { facts.assume_init() };
    (result == 0 && facts.stx_mask & libc::STATX_DIOALIGN != 0)
        .then_some((facts.stx_dio_mem_align, facts.stx_dio_offset_align))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_in_bytes_becomes_blocks() {
        let of = |write, write_optimal| Preferred { boundary: 0, write, write_optimal, deallocate: write };
        assert_eq!(preferred(512, 4096, 4096), of(8, 8));
        assert_eq!(preferred(4096, 4096, 65536), of(1, 16));
        assert_eq!(preferred(4096, 512, 0), of(1, 1), "less than a block is a block");
        assert_eq!(preferred(512, 4096, 6144), of(8, 8), "the best size is a multiple of the smallest");
        assert_eq!(preferred(512, u64::MAX, u64::MAX), of(1, 1));
    }

    #[test]
    fn a_block_that_the_disk_writes_in_parts_may_be_torn() {
        assert_eq!([None, Some(512), Some(4096), Some(16384)].map(|len| whole_blocks(4096, len)), [0, 0, 1, 1]);
        assert_eq!([None, Some(0), Some(512), Some(4096)].map(|len| whole_blocks(512, len)), [1, 1, 1, 1]);
    }

    #[test]
    fn a_size_that_does_not_fit_says_what_to_do() {
        assert!(check_len("d", 8192, 4096).is_ok());
        assert_eq!(
            check_len("disk0", 0, 512).unwrap_err().to_string(),
            "disk0: size is 0 bytes: a file that is not empty: make it with `truncate -s SIZE FILE`"
        );
        assert_eq!(
            check_len("disk0", 5000, 512).unwrap_err().to_string(),
            "disk0: size is 5000 bytes: a multiple of the block size: round it with `truncate -s %512 FILE`"
        );
    }
}
