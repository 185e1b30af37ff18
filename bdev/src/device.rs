//! What a device is.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use reactor::Segment;

use crate::channel::Channel;
use crate::delay::Delay;
use crate::fault::Fault;
use crate::partition::Partition;
use crate::rbd::Rbd;

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
    /// What [`crate::OperationKind::Deallocate`] does.
    pub deallocation: Deallocation,
    /// Whether it takes [`crate::OperationKind::WriteUncorrectable`].
    pub writes_uncorrectable: bool,
    /// How its blocks are best used.
    pub preferred: Preferred,
    /// What a write does wholly or not at all.
    pub atomic: Atomic,
}

/// What becomes of deallocated blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deallocation {
    /// The device does not take the operation.
    Unsupported,
    /// They read as zeroes, or as they were.
    Unspecified,
    /// They read as zeroes.
    Zeroes,
}

/// Sizes and alignments that suit a device, in blocks. Advice: anything else is done as well, only slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preferred {
    /// Reads and writes that do not cross a multiple of this are faster. 0 where there is no such boundary.
    pub boundary: u32,
    /// Writes are multiples of this, at least 1.
    pub write: u32,
    /// The best size of a write, a multiple of `write`.
    pub write_optimal: u32,
    /// Deallocated ranges begin at and are multiples of this, at least 1.
    pub deallocate: u32,
}

/// Blocks of one write that is seen wholly or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atomic {
    /// By reads and writes at the same time. At least 1.
    pub write: u32,
    /// After power was lost. 0: not even one block, since the disk below has smaller ones. NVMe has no word for that: hosts are told 1.
    pub power_fail: u32,
}

impl Geometry {
    /// A device without a cache or any peculiarity, that takes writes of any alignment, and does not deallocate.
    #[must_use]
    pub const fn plain(block_len: u32, block_count: u64, operation_block_count_max: u64) -> Self {
        Self {
            block_len,
            block_count,
            operation_block_count_max,
            data_alignment: 1,
            volatile_write_cache: false,
            read_only: false,
            deallocation: Deallocation::Unsupported,
            writes_uncorrectable: false,
            preferred: Preferred { boundary: 0, write: 1, write_optimal: 1, deallocate: 1 },
            atomic: Atomic { write: 1, power_fail: 1 },
        }
    }
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
    /// It was cancelled.
    Cancelled,
    /// This machine reaches the blocks no longer, or may no longer: another that serves them may.
    PathLost,
    /// Anything else.
    Internal,
}

impl DeviceError {
    /// All, each at its place.
    pub const ALL: [Self; 9] = [
        Self::OutOfRange,
        Self::ReadFault,
        Self::WriteFault,
        Self::NoSpace,
        Self::ReadOnly,
        Self::Unsupported,
        Self::Cancelled,
        Self::PathLost,
        Self::Internal,
    ];

    /// As labels of metrics have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutOfRange => "out_of_range",
            Self::ReadFault => "read_fault",
            Self::WriteFault => "write_fault",
            Self::NoSpace => "no_space",
            Self::ReadOnly => "read_only",
            Self::Unsupported => "unsupported",
            Self::Cancelled => "cancelled",
            Self::PathLost => "path_lost",
            Self::Internal => "internal",
        }
    }
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
    /// A library that is loaded when it is needed is not there, or is too old.
    #[error("{device}: {library} cannot be used: {reason}: install it (Debian: `apt-get install {package}`)")]
    Library {
        /// Which device.
        device: String,
        /// Which library.
        library: String,
        /// What the loader says.
        reason: String,
        /// The package that it is in.
        package: &'static str,
    },
    /// A call of Ceph's libraries failed.
    #[error("{device}: {call} of {object}: {source}{}", hint.map(|hint| format!(": {hint}")).unwrap_or_default())]
    Ceph {
        /// Which device, or cluster.
        device: String,
        /// Which call.
        call: &'static str,
        /// On what.
        object: String,
        /// errno.
        source: std::io::Error,
        /// The way out, where there is a usual one.
        hint: Option<&'static str>,
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

/// A device that is made of another.
#[derive(Clone, Copy, Debug)]
pub enum Layer<'d> {
    /// With what goes wrong.
    Fault(&'d Fault),
    /// Slower.
    Delay(&'d Delay),
    /// A range of its blocks.
    Partition(&'d Partition),
}

impl Layer<'_> {
    /// The device below.
    #[must_use]
    pub fn base_name(&self) -> &str {
        match self {
            Self::Fault(fault) => fault.base_name(),
            Self::Delay(delay) => delay.base_name(),
            Self::Partition(partition) => partition.base_name(),
        }
    }

    /// The blocks of the device below that it is made of. `None`: all, those to come included.
    #[must_use]
    pub fn blocks(&self) -> Option<Range<u64>> {
        match self {
            Self::Fault(_) | Self::Delay(_) => None,
            Self::Partition(partition) => Some(partition.blocks()),
        }
    }
}

/// What others have done to a device: the file was extended, the disk taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// There is more of it: [`Device::rescan`] takes it in.
    Grown {
        /// Blocks that there are.
        block_count: u64,
    },
    /// There is less of it. Operations beyond its end fail.
    Shrunk {
        /// Blocks that there are.
        block_count: u64,
    },
    /// There is none of it any more, and will not be.
    Gone {
        /// What was seen.
        why: String,
    },
}

impl News {
    /// Of a device that had `before` blocks and has `now`.
    pub(crate) fn of_size(before: u64, now: u64) -> Option<Self> {
        match now {
            _ if now > before => Some(Self::Grown { block_count: now }),
            _ if now < before => Some(Self::Shrunk { block_count: now }),
            _ => None,
        }
    }
}

/// What a drive says of itself that is its own wherever it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Of its blocks, the same for ever, and of no others anywhere.
    pub nguid: Option<[u8; 16]>,
    /// The same, shorter.
    pub eui64: Option<[u8; 8]>,
    /// Serial number.
    pub serial: String,
    /// Model.
    pub model: String,
    /// Revision of its firmware.
    pub firmware: String,
}

/// A block device: shared, immutable.
pub trait Device: Send + Sync + fmt::Debug {
    /// Its name, unique in the target.
    fn name(&self) -> &str;

    /// What kind it is, as users know it: `Malloc disk`, `Null disk`, `File`.
    fn product(&self) -> &'static str;

    /// Size and limits.
    fn geometry(&self) -> Geometry;

    /// Who it is, if it is a drive with a name of its own. A namespace that was given no other identifiers has its.
    fn identity(&self) -> Option<&Identity> {
        None
    }

    /// The memory that [`Channel::in_place`] gives pieces of: transports register it once. `None` also where it is that of the device below.
    fn memory(&self) -> Option<Segment> {
        None
    }

    /// It has so many blocks from now on, at least as many as it had, and channels that are open reach them.
    ///
    /// # Errors
    /// If it cannot grow, or would shrink.
    fn resize(&self, block_count: u64) -> Result<(), BdevError> {
        Err(BdevError::Field {
            device: self.name().to_owned(),
            field: "size",
            value: format!("{block_count} blocks"),
            allowed: "what it was: this kind of device does not grow",
        })
    }

    /// Looks how large it is, where that is decided elsewhere. May make system calls.
    ///
    /// # Errors
    /// If it has shrunk, or cannot be asked.
    fn rescan(&self) -> Result<(), BdevError> {
        Err(BdevError::Field {
            device: self.name().to_owned(),
            field: "type",
            value: self.product().to_owned(),
            allowed: "a file: others have the size that they were given",
        })
    }

    /// What others have done to it that it has not been told. May make system calls, and take long.
    fn news(&self) -> Option<News> {
        None
    }

    /// It is made of another device: how, with what only devices of that kind can be told.
    fn layer(&self) -> Option<Layer<'_>> {
        None
    }

    /// It is the rbd device, whose lock can be taken and given back.
    fn as_rbd(&self) -> Option<&Rbd> {
        None
    }

    /// The device goes, or everything does: operations that it has held back at will are begun, and none is held back any more.
    fn let_go(&self) {}

    /// Every channel is closed and nothing transfers out of its memory any more: what it holds goes back to the machine. Its contents are lost, where
    /// they were memory.
    fn retire(&self) {}

    /// Opens a way in for one CPU. May make system calls: not for a polling CPU.
    ///
    /// # Errors
    /// If the machine refuses.
    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError>;
}
