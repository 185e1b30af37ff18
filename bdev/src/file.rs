//! The file device: a regular file or a block device of the operating system.
//!
//! | part | what it is |
//! |---|---|
//! | [`ring`] | a channel through io_uring: the usual one |
//! | [`worker`] | a channel through a thread: where this process may not use io_uring |
//! | [`request`] | one operation's steps, whichever way it goes |
//! | [`open`] | opening, and what the file system allows |
//! | [`news`] | what others have done to it since |
//!
//! Owns the descriptor, and a lock on it, so that no two processes write to one image. Both go when the last channel has gone.

mod ring;
mod worker;

mod news;
mod open;
mod request;

use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reactor::Segment;

use crate::channel::Channel;
use crate::device::{BdevError, Device, Geometry, News};
use crate::extent;
use crate::size::Size;
use crate::zeroes::zeroes;

/// How a file is used.
#[derive(Clone, Copy, Debug)]
pub struct FileOptions {
    /// Bytes of a block: 512 or 4096.
    pub block_len: u32,
    /// Refuses writes; the file is opened for reading only.
    pub read_only: bool,
    /// Operations that each channel has with the kernel at a time: 1 to 4096.
    pub queue_depth: u32,
    /// Uses a thread and the page cache even where io_uring could be used.
    pub without_ring: bool,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { block_len: 512, read_only: false, queue_depth: 128, without_ring: false }
    }
}

/// A regular file or a block device.
#[derive(Debug)]
pub struct File {
    name: String,
    geometry: Geometry,
    size: Size,
    queue_depth: u32,
    shared: Arc<Shared>,
}

/// What the channels use, for as long as one lives.
struct Shared {
    path: PathBuf,
    file: std::fs::File,
    direct: bool,
    /// Whether channels are io_urings; otherwise they are threads.
    ring: bool,
    /// Written where the file system cannot zero a range itself.
    zeroes: Segment,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("path", &self.path)
            .field("direct", &self.direct)
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

impl File {
    /// Opens `path`, past the page cache (`O_DIRECT`) where the file system allows it, and locks it.
    ///
    /// # Errors
    /// If it cannot be opened, is in use, or its size is no multiple of the block length.
    pub fn open(name: &str, path: &Path, options: FileOptions) -> Result<Self, BdevError> {
        if !(1..=4096).contains(&options.queue_depth) {
            return Err(BdevError::Field {
                device: name.to_owned(),
                field: "queue depth",
                value: options.queue_depth.to_string(),
                allowed: "1 to 4096",
            });
        }
        // Also refuses block lengths, before the file is touched.
        extent::geometry(name, options.block_len, 1)?;
        let ring = !options.without_ring && can_use_ring(name);
        let opened = open::open(name, path, options, ring)?;
        let geometry = Geometry {
            data_alignment: opened.data_alignment,
            volatile_write_cache: true,
            read_only: options.read_only,
            deallocation: opened.deallocation,
            preferred: opened.preferred,
            atomic: opened.atomic,
            ..extent::geometry(name, options.block_len, opened.len / u64::from(options.block_len))?
        };
        let zeroes = zeroes(name)?;
        let shared = Shared { path: path.to_owned(), file: opened.file, direct: opened.direct, ring, zeroes };
        let size = Size::new(geometry.block_count);
        Ok(Self { name: name.to_owned(), geometry, size, queue_depth: options.queue_depth, shared: Arc::new(shared) })
    }

    /// Whether it goes past the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.shared.direct
    }

    /// Whether its channels are io_urings; otherwise they are threads.
    #[must_use]
    pub fn uses_ring(&self) -> bool {
        self.shared.ring
    }
}

impl Device for File {
    fn name(&self) -> &str {
        &self.name
    }

    fn product(&self) -> &'static str {
        "File"
    }

    fn geometry(&self) -> Geometry {
        Geometry { block_count: self.size.now(), ..self.geometry }
    }

    fn rescan(&self) -> Result<(), BdevError> {
        let len = (&self.shared.file).seek(SeekFrom::End(0)).map_err(|source| BdevError::File {
            device: self.name.clone(),
            call: "seek to the end",
            path: self.shared.path.clone(),
            source,
        })?;
        open::check_len(&self.name, len, self.geometry.block_len)?;
        self.size.grow(&self.name, len / u64::from(self.geometry.block_len))
    }

    fn news(&self) -> Option<News> {
        news::look(&self.shared.file, self.geometry.block_len, self.size.now())
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        let shared = Arc::clone(&self.shared);
        let opened: std::io::Result<Box<dyn Channel>> = if self.uses_ring() {
            ring::RingChannel::new(shared, self.geometry, self.size.clone(), self.queue_depth)
                .map(|channel| Box::new(channel) as Box<dyn Channel>)
        } else {
            worker::WorkerChannel::new(shared, self.geometry, self.size.clone(), self.queue_depth)
                .map(|channel| Box::new(channel) as Box<dyn Channel>)
        };
        opened.map_err(|source| BdevError::File {
            device: self.name.clone(),
            call: if self.uses_ring() { "io_uring_setup for a channel" } else { "starting a channel's thread" },
            path: self.shared.path.clone(),
            source,
        })
    }
}

/// Whether this process may use io_uring; if not, the log says why, and what that means.
fn can_use_ring(device: &str) -> bool {
    match ring::probe() {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(device, %error, "{}", ring::refusal(&error));
            false
        }
    }
}
