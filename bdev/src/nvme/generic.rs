//! A namespace's generic character device (`/dev/ngXnY`): opening, Identify, and what the operating system knows of it.
//!
//! # Invariants of the unsafe code
//! 1. Memory that a call is told of lives through it, is as long as it is told, and may hold any bytes: the calls are synchronous, and the kernel is
//!    done with it when they return.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::command;
use super::identify::{self, Facts, PAGE_LEN, Page, Pages};
use crate::device::BdevError;
use crate::lock::lock;

/// `NVME_IOCTL_ID`: the namespace's identifier.
const IOCTL_ID: libc::c_ulong = 0x4E40;
/// `NVME_IOCTL_ADMIN_CMD`: an administrative command of [`command::LEN`] bytes, read and written.
const IOCTL_ADMIN_COMMAND: libc::c_ulong = 3 << 30 | (command::LEN as libc::c_ulong) << 16 | 0x4E41;

/// Identify's pages [NVMe Base 2.0, 5.17.1].
const CNS_NAMESPACE: u32 = 0;
const CNS_CONTROLLER: u32 = 1;
const CNS_DESCRIPTORS: u32 = 3;
const CNS_COMMAND_SET_CONTROLLER: u32 = 6;

/// Longest transfer where the operating system does not say what it takes: the least that its driver does with memory that is scattered.
const LEN_MAX_UNTOLD: u64 = 128 << 10;
/// The kernel's page: a transfer is so many pieces of memory at most.
const PAGE_LEN_MIN: u64 = 4096;

/// An open namespace.
pub(super) struct Generic {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) nsid: u32,
    /// The namespace's block device, held so that nobody mounts it.
    _block: Option<File>,
}

impl Generic {
    /// Opens and locks it.
    pub(super) fn open(device: &str, path: &Path, read_only: bool) -> Result<Self, BdevError> {
        let failed =
            |call| move |source| BdevError::File { device: device.to_owned(), call, path: path.to_owned(), source };
        let no_such = || BdevError::Field {
            device: device.to_owned(),
            field: "path",
            value: path.display().to_string(),
            allowed: "an NVMe namespace's generic character device, such as /dev/ng0n1: a disk is of type \"file\"",
        };
        let metadata = std::fs::metadata(path).map_err(failed("open"))?;
        if !metadata.file_type().is_char_device() || !is_generic(&sysfs(&metadata)) {
            return Err(no_such());
        }
        let file = OpenOptions::new().read(true).write(!read_only).open(path).map_err(failed("open"))?;
        lock(&file, read_only).map_err(failed("lock"))?;
        let block = if read_only { None } else { hold_block_device(&sysfs(&metadata)).map_err(failed("lock"))? };
        // SAFETY: no memory is involved.
        let id = unsafe { libc::ioctl(file.as_raw_fd(), IOCTL_ID) };
        let nsid = u32::try_from(id).map_err(|_| failed("ioctl NVME_IOCTL_ID")(io::Error::last_os_error()))?;
        Ok(Self { path: path.to_owned(), file, nsid, _block: block })
    }

    /// What it says of itself.
    pub(super) fn facts(&self, device: &str) -> Result<Facts, BdevError> {
        let controller = self.identify(0, CNS_CONTROLLER).map_err(|source| self.failed(device, source))?;
        let namespace = self.identify(self.nsid, CNS_NAMESPACE).map_err(|source| self.failed(device, source))?;
        // Older drives refuse what they do not know.
        let command_set = self.identify(0, CNS_COMMAND_SET_CONTROLLER).ok();
        let descriptors = self.identify(self.nsid, CNS_DESCRIPTORS).ok();
        let pages = Pages {
            controller: &controller,
            namespace: &namespace,
            command_set: command_set.as_deref(),
            descriptors: descriptors.as_deref(),
        };
        identify::facts(device, self.nsid, &pages, self.len_max())
    }

    /// Its size and format as of now.
    pub(super) fn format(&self, device: &str) -> Result<identify::Format, BdevError> {
        let page = self.identify(self.nsid, CNS_NAMESPACE).map_err(|source| self.failed(device, source))?;
        identify::format(device, &page)
    }

    /// Whether the kernel has it no more, though it is open.
    pub(super) fn is_gone(&self) -> bool {
        // Without sysfs nothing is known of it.
        Path::new("/sys/dev/char").is_dir() && self.file.metadata().is_ok_and(|metadata| !sysfs(&metadata).exists())
    }

    /// Bytes of the longest transfer that the driver takes, from memory that may be scattered over pages.
    fn len_max(&self) -> u64 {
        let Some(queue) = self.file.metadata().ok().and_then(|metadata| block_directory(&sysfs(&metadata))) else {
            return LEN_MAX_UNTOLD;
        };
        let told = |name: &str| {
            let text = std::fs::read_to_string(queue.join("queue").join(name)).ok()?;
            text.trim().parse::<u64>().ok().filter(|number| *number > 0)
        };
        match (told("max_hw_sectors_kb"), told("max_segments")) {
            // The first page and the last may be parts of one.
            (Some(kib), Some(segments)) => {
                let scattered = segments.saturating_sub(1).max(1).saturating_mul(PAGE_LEN_MIN);
                kib.saturating_mul(1024).min(scattered)
            }
            _ => LEN_MAX_UNTOLD,
        }
    }

    fn identify(&self, nsid: u32, cns: u32) -> io::Result<Box<Page>> {
        let mut page = Box::new([0; PAGE_LEN]);
        let len = u32::try_from(PAGE_LEN).unwrap_or(u32::MAX);
        let address = page.as_mut_ptr().expose_provenance() as u64;
        let mut command = command::identify(nsid, cns, address, len);
        // SAFETY: invariant 1: the command, and the page that it names.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), IOCTL_ADMIN_COMMAND, command.as_mut_ptr()) };
        match result {
            0 => Ok(page),
            ..0 => Err(io::Error::last_os_error()),
            status => Err(io::Error::other(format!("NVMe status {:#x}", status & 0x7FF))),
        }
    }

    fn failed(&self, device: &str, source: io::Error) -> BdevError {
        BdevError::File { device: device.to_owned(), call: "Identify", path: self.path.clone(), source }
    }
}

/// Where the kernel describes a character device.
fn sysfs(metadata: &std::fs::Metadata) -> PathBuf {
    let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
    Path::new("/sys/dev/char").join(format!("{major}:{minor}"))
}

/// Whether it is described as a namespace's.
fn is_generic(sysfs: &Path) -> bool {
    std::fs::canonicalize(sysfs.join("subsystem")).is_ok_and(|class| class.ends_with("nvme-generic"))
}

/// `ng0n1` is of the same namespace as `nvme0n1`.
fn block_name(sysfs: &Path) -> Option<String> {
    let directory = std::fs::canonicalize(sysfs).ok()?;
    Some(format!("nvme{}", directory.file_name()?.to_str()?.strip_prefix("ng")?))
}

fn block_directory(sysfs: &Path) -> Option<PathBuf> {
    let directory = Path::new("/sys/class/block").join(block_name(sysfs)?);
    directory.exists().then_some(directory)
}

/// Opens the namespace's block device for nobody else. Refused while it is mounted. A drive in a format that the kernel cannot use has none.
fn hold_block_device(sysfs: &Path) -> io::Result<Option<File>> {
    let Some(path) = block_name(sysfs).map(|name| Path::new("/dev").join(name)).filter(|path| path.exists()) else {
        return Ok(None);
    };
    match OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "its block device is mounted, or otherwise used: unmount it first",
        )),
        // Not there, or not for this user, who may use the character device all the same.
        Err(_) => Ok(None),
    }
}
