//! The NVMe device: a local drive's namespace, by commands that go to the kernel's driver as they are, past its block layer.
//!
//! | part | what it is |
//! |---|---|
//! | [`ring`] | a channel through io_uring |
//! | [`request`] | one operation's commands, one after the other |
//! | [`status`] | how commands end |
//! | [`generic`] | the namespace's character device: opening, Identify |
//! | [`command`] | commands as the kernel takes them |
//! | [`identify`] | what a drive says of itself |
//!
//! Owns the character device's descriptor and a lock on it, and holds the namespace's block device, so that nobody mounts what is served. All go when
//! the last channel has gone. What is served is the drive's own: its sizes, what it writes wholly or not at all, its identifiers.

mod ring;

mod request;

mod status;

mod generic;

mod command;
mod identify;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reactor::{Arena, Segment};

use crate::channel::{Channel, Operation, OperationKind};
use crate::device::{BdevError, Device, DeviceError, Geometry, Identity, News};
use crate::extent;
use crate::size::Size;
use crate::zeroes::zeroes;
use generic::Generic;
use identify::Commands;

/// Alignment of memory that the driver needs no copy for: NVMe's own, of data pointers [NVMe Base 2.0, 4.1.1].
const DATA_ALIGNMENT: usize = 4;

/// How often, and how far apart, the end of a first read is looked for: longer than the kernel lets a drive take, which is 30 s and as much for a reset.
const FIRST_READ_LOOK_COUNT: u32 = 120_000;
const FIRST_READ_LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// How a drive is used.
#[derive(Clone, Copy, Debug)]
pub struct NvmeOptions {
    /// Refuses writes; the drive is opened for reading only.
    pub read_only: bool,
    /// Operations that each channel has with the kernel at a time: 1 to 4096.
    pub queue_depth: u32,
}

impl Default for NvmeOptions {
    fn default() -> Self {
        Self { read_only: false, queue_depth: 128 }
    }
}

/// A local NVMe namespace.
#[derive(Debug)]
pub struct Nvme {
    name: String,
    geometry: Geometry,
    identity: Identity,
    size: Size,
    queue_depth: u32,
    shared: Arc<Shared>,
}

/// What the channels use, for as long as one lives.
struct Shared {
    generic: Generic,
    commands: Commands,
    /// Written where the drive has none of its own.
    zeroes: Option<Segment>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { generic, commands, .. } = self;
        f.debug_struct("Shared").field("path", &generic.path).field("commands", commands).finish_non_exhaustive()
    }
}

impl Nvme {
    /// Opens a namespace's generic character device (`/dev/ng0n1`), locks it, and asks the drive what it is.
    ///
    /// # Errors
    /// If it cannot be opened, is in use or mounted, has a format that cannot be served, or io_uring's passthrough cannot be used.
    pub fn open(name: &str, path: &Path, options: NvmeOptions) -> Result<Self, BdevError> {
        if !(1..=4096).contains(&options.queue_depth) {
            return Err(BdevError::Field {
                device: name.to_owned(),
                field: "queue depth",
                value: options.queue_depth.to_string(),
                allowed: "1 to 4096",
            });
        }
        let generic = Generic::open(name, path, options.read_only)?;
        let facts = generic.facts(name)?;
        let geometry = Geometry {
            data_alignment: DATA_ALIGNMENT,
            volatile_write_cache: facts.volatile_write_cache,
            read_only: options.read_only || facts.write_protected,
            deallocation: facts.deallocation,
            writes_uncorrectable: facts.commands.uncorrectable_block_count_max > 0,
            preferred: facts.preferred,
            atomic: facts.atomic,
            ..extent::geometry(name, facts.commands.block_len, facts.block_count)?
        };
        let zeroes = match facts.commands.zeroes_block_count_max {
            0 => Some(zeroes(name)?),
            _ => None,
        };
        let shared = Shared { generic, commands: facts.commands, zeroes };
        let device = Self {
            name: name.to_owned(),
            geometry,
            identity: facts.identity,
            size: Size::new(geometry.block_count),
            queue_depth: options.queue_depth,
            shared: Arc::new(shared),
        };
        device.try_read()?;
        Ok(device)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.generic.path
    }

    /// Reads a block to see that passthrough works: kernels before 5.19 have none, and some containers refuse it.
    #[allow(clippy::disallowed_methods, reason = "a device is opened at start-up, or by a thread that may wait")]
    fn try_read(&self) -> Result<(), BdevError> {
        let failed = |source| BdevError::File {
            device: self.name.clone(),
            call: "a first read by io_uring's passthrough (IORING_OP_URING_CMD, Linux 5.19 and a privileged user; a disk of type \"file\" needs neither)",
            path: self.shared.generic.path.clone(),
            source,
        };
        let mut channel = self.open_channel()?;
        let arena = Arena::new(self.geometry.block_len as usize, false);
        let arena = arena.map_err(|source| BdevError::Memory { device: self.name.clone(), source })?;
        let read = Operation {
            token: 0,
            host: 0,
            kind: OperationKind::Read,
            start_block: 0,
            block_count: 1,
            data: Some(arena.segment().part(0, self.geometry.block_len as usize)),
        };
        let mut completions = Vec::new();
        channel.submit(0, &mut VecDeque::from([read]));
        for _ in 0..FIRST_READ_LOOK_COUNT {
            channel.poll(0, &mut completions);
            match completions.first().map(|completion| completion.result) {
                None => std::thread::sleep(FIRST_READ_LOOK_INTERVAL),
                // A bad block is no reason to refuse the others.
                Some(Ok(()) | Err(DeviceError::ReadFault)) => return Ok(()),
                Some(Err(error)) => return Err(failed(std::io::Error::other(error.name()))),
            }
        }
        Err(failed(std::io::Error::from(std::io::ErrorKind::TimedOut)))
    }
}

impl Device for Nvme {
    fn name(&self) -> &str {
        &self.name
    }

    fn product(&self) -> &'static str {
        "NVMe"
    }

    fn geometry(&self) -> Geometry {
        Geometry { block_count: self.size.now(), ..self.geometry }
    }

    fn identity(&self) -> Option<&Identity> {
        Some(&self.identity)
    }

    fn rescan(&self) -> Result<(), BdevError> {
        let format = self.shared.generic.format(&self.name)?;
        if format.block_len != self.geometry.block_len {
            return Err(BdevError::Field {
                device: self.name.clone(),
                field: "block size",
                value: format.block_len.to_string(),
                allowed: "what it was: delete the device and make it again, since the drive was formatted",
            });
        }
        self.size.grow(&self.name, format.block_count)
    }

    fn news(&self) -> Option<News> {
        let generic = &self.shared.generic;
        if generic.is_gone() {
            let why = format!("the kernel has no {} any more", generic.path.display());
            return Some(News::Gone { why });
        }
        // A drive that does not answer now may do so later.
        let format = generic.format(&self.name).ok()?;
        if format.block_len != self.geometry.block_len {
            let why = format!("the drive was formatted, and has blocks of {} bytes", format.block_len);
            return Some(News::Gone { why });
        }
        News::of_size(self.size.now(), format.block_count)
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        let channel =
            ring::RingChannel::new(Arc::clone(&self.shared), self.geometry, self.size.clone(), self.queue_depth);
        let channel = channel.map_err(|source| BdevError::File {
            device: self.name.clone(),
            call: "io_uring_setup with large entries (Linux 5.19) for a channel",
            path: self.shared.generic.path.clone(),
            source,
        })?;
        Ok(Box::new(channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_namespace_is_refused_with_the_way_out() {
        let text = |path: &str, options| Nvme::open("disk0", path.as_ref(), options).unwrap_err().to_string();
        let options = NvmeOptions::default();
        let allowed = "an NVMe namespace's generic character device, such as /dev/ng0n1: a disk is of type \"file\"";
        assert_eq!(text("/dev/null", options), format!("disk0: path is /dev/null: {allowed}"));
        assert_eq!(text("/etc/passwd", options), format!("disk0: path is /etc/passwd: {allowed}"));
        assert!(text("/dev/nowhere", options).starts_with("disk0: open of /dev/nowhere: No such file"));
        let deep = NvmeOptions { queue_depth: 4097, ..options };
        assert_eq!(text("/dev/null", deep), "disk0: queue depth is 4097: 1 to 4096");
    }
}
