//! What others have done to a file or a disk since it was opened.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::device::News;

/// Looks at a file that had `block_count` blocks. One that has no whole number of blocks is being written to: it is looked at again later.
pub(super) fn look(mut file: &File, block_len: u32, block_count: u64) -> Option<News> {
    if let Some(news) = disk_is_gone(file) {
        return Some(news);
    }
    let len = file.seek(SeekFrom::End(0)).ok().filter(|len| len.is_multiple_of(u64::from(block_len)))?;
    News::of_size(block_count, len / u64::from(block_len))
}

/// A disk that was taken out is not among the kernel's any more, though it is open.
fn disk_is_gone(file: &File) -> Option<News> {
    let disks = Path::new("/sys/dev/block");
    let metadata = file.metadata().ok().filter(|metadata| metadata.file_type().is_block_device())?;
    let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
    // Without sysfs nothing is known of it.
    let is_gone = disks.is_dir() && !disks.join(format!("{major}:{minor}")).exists();
    is_gone.then(|| News::Gone { why: format!("the kernel has no block device {major}:{minor} any more") })
}
