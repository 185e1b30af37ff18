//! One CPU's way into a device.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use reactor::{Progress, Rest, Segment};

use crate::device::DeviceError;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Blocks to `data`.
    Read,
    /// `data` to blocks.
    Write {
        /// Completed only when on stable storage.
        force_unit_access: bool,
    },
    /// Everything completed before is on stable storage. Has no range.
    Flush,
    /// Blocks read as zero afterwards.
    WriteZeroes {
        /// Their space may be given back.
        deallocate: bool,
        /// Completed only when on stable storage.
        force_unit_access: bool,
    },
    /// The blocks' space may be given back. What they read as afterwards is said by [`crate::Geometry::deallocation`].
    Deallocate,
    /// Reads of the blocks fail until they are written.
    WriteUncorrectable,
}

impl OperationKind {
    /// Whether blocks may be other than before.
    #[must_use]
    pub const fn is_change(self) -> bool {
        match self {
            Self::Read | Self::Flush => false,
            Self::Write { .. } | Self::WriteZeroes { .. } | Self::Deallocate | Self::WriteUncorrectable => true,
        }
    }
}

/// One block operation. The submitter has checked the range against the device's [`crate::Geometry`].
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Comes back in the completion; the device gives it no meaning.
    pub token: u64,
    /// On whose behalf: the same number on every CPU, for devices that share themselves out. 0: nobody's.
    pub host: u64,
    /// What.
    pub kind: OperationKind,
    /// First block.
    pub start_block: u64,
    /// Blocks. 0 for a flush.
    pub block_count: u64,
    /// For reads and writes: exactly `block_count` blocks of memory, valid until the completion.
    pub data: Option<Segment>,
}

/// The end of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The operation's token.
    pub token: u64,
    /// How it ended.
    pub result: Result<(), DeviceError>,
}

/// One CPU's way into a device: made elsewhere, sent to its CPU, used only there. No method blocks. Times are those of its CPU's turns, in ns: they do not
/// go back, and those of two CPUs are of one clock.
pub trait Channel: Send {
    /// Takes operations from the front as long as there is room; what stays is back-pressure. One system call at most.
    fn submit(&mut self, now_ns: u64, operations: &mut VecDeque<Operation>);

    /// Appends the completions that are there.
    fn poll(&mut self, now_ns: u64, completions: &mut Vec<Completion>) -> Progress;

    /// An operation need not be done any more. True: if it can still be stopped, it soon ends with [`DeviceError::Cancelled`], otherwise as if this had not
    /// been said. False: it goes on, or there is none with this token. What a cancelled write has done is unknown. What is here is right for devices that
    /// cannot stop anything.
    fn cancel(&mut self, token: u64) -> bool {
        let _ = token;
        false
    }

    /// Nothing that was submitted need be done any more: as [`Self::cancel`] of each. What is here is right for devices that cannot stop anything.
    fn cancel_all(&mut self) {}

    /// The blocks' own memory, where a read needs no copy: the submitter holds its lease on the device until the last transfer out of it
    /// has been returned. `None` where the device has no such memory.
    fn in_place(&self, start_block: u64, block_count: u64) -> Option<Segment> {
        let _ = (start_block, block_count);
        None
    }

    /// Operations submitted and not completed.
    fn outstanding_count(&self) -> usize;

    /// Its CPU would sleep: has completions make [`Self::wake_descriptor`] readable from here on, and looks once more. [`Rest::Poll`] if
    /// [`Self::poll`] has something to do. Each call is followed by one of [`Self::disarm`] before anything else. What is here is right for devices whose
    /// completions are there as soon as the operation is submitted.
    fn arm(&mut self) -> Rest {
        if self.outstanding_count() > 0 { Rest::Poll } else { Rest::Sleep }
    }

    /// Its CPU is awake.
    fn disarm(&mut self) {}

    /// Readable while armed if a completion is there. Does not change. Not drained by who waits for it.
    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }
}
