//! What a device is.

use std::fmt;
use std::path::PathBuf;

use reactor::Segment;

use crate::channel::Channel;

/// Facts that hold for a device's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a block: 512 or 4096.
    pub block_len: u32,
    /// Blocks.
    pub block_count: u64,
    /// Most blocks in one operation.
    pub operation_block_count_max: u64,
    /// Address alignment that `data` needs, in bytes.
    pub data_alignment: usize,
    /// Whether completed writes can be lost without a flush.
    pub volatile_write_cache: bool,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// Why an operation failed, in the block layer's terms; `nvmf-core` maps it to an NVMe status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// Blocks outside the device (its size changed).
    OutOfRange,
    /// The medium failed while reading.
    ReadFault,
    /// The medium failed while writing.
    WriteFault,
    /// No room on the medium.
    NoSpace,
    /// The device takes no writes.
    ReadOnly,
    /// The device does not do this.
    Unsupported,
    /// Anything else.
    Internal,
}

/// Why a device could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum BdevError {
    /// A field of its description is out of range.
    #[error("{device}: {field} is {value}: {allowed}")]
    Field {
        /// Which device.
        device: String,
        /// Which field.
        field: &'static str,
        /// What it was.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A system call on its file failed.
    #[error("{device}: {call} of {}: {source}", path.display())]
    File {
        /// Which device.
        device: String,
        /// Which call.
        call: &'static str,
        /// On which file.
        path: PathBuf,
        /// errno.
        source: std::io::Error,
    },
    /// There is not enough memory.
    #[error("{device}: {source}")]
    Memory {
        /// Which device.
        device: String,
        /// Why.
        source: reactor::MemoryError,
    },
}

/// A block device: shared, immutable.
pub trait Device: Send + Sync + fmt::Debug {
    /// Its name, unique in the target.
    fn name(&self) -> &str;

    /// What kind it is, as users know it: `Malloc disk`, `Null disk`, `File`.
    fn product(&self) -> &'static str;

    /// Size and limits.
    fn geometry(&self) -> Geometry;

    /// The memory that [`Channel::in_place`] gives pieces of: transports register it once.
    fn memory(&self) -> Option<Segment> {
        None
    }

    /// Opens a way in for one CPU. May make system calls: not for a polling CPU.
    ///
    /// # Errors
    /// If the machine refuses.
    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError>;
}
