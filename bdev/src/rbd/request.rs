//! One operation on an image: the calls that it still needs, one after the other, and what their results mean. No I/O here.

use reactor::Segment;

use crate::channel::{Operation, OperationKind};
use crate::device::DeviceError;
use crate::extent::Extent;

/// What librbd says when the monitors have locked this client out: EBLOCKLISTED is another name of it.
pub(super) const BLOCKLISTED: i32 = libc::ESHUTDOWN;

/// The call that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Read {
        offset: u64,
        into: Segment,
    },
    Write {
        offset: u64,
        from: Segment,
    },
    /// Zeroes without data, by which space is given back where whole objects are zero.
    WriteZeroes {
        offset: u64,
        len: u64,
    },
    Flush,
}

/// What a call's result leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Call(Call),
    Done(Result<(), DeviceError>),
}

/// An operation under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) token: u64,
    /// Which of the channel's images it went to.
    pub(super) era: u64,
    call: Call,
    /// Its blocks are to be on stable storage when it ends: a cache that may be in between is flushed.
    flushes_after: bool,
    is_fenced: bool,
}

impl Request {
    /// `extent` is the operation's, checked; so is its data. `is_fenced`: the image is written under its lock alone.
    pub(super) fn new(operation: &Operation, extent: Extent, era: u64, is_fenced: bool) -> Result<Self, DeviceError> {
        let Extent { offset, len } = extent;
        let data = || operation.data.ok_or(DeviceError::Internal);
        let (call, flushes_after) = match operation.kind {
            OperationKind::Read => (Call::Read { offset, into: data()? }, false),
            OperationKind::Write { force_unit_access } => (Call::Write { offset, from: data()? }, force_unit_access),
            OperationKind::WriteZeroes { force_unit_access, .. } => {
                (Call::WriteZeroes { offset, len }, force_unit_access)
            }
            // Not rbd_aio_discard, which leaves out in silence what is smaller than its granularity.
            OperationKind::Deallocate => (Call::WriteZeroes { offset, len }, false),
            OperationKind::Flush => (Call::Flush, false),
            OperationKind::WriteUncorrectable => return Err(DeviceError::Unsupported),
        };
        Ok(Self { token: operation.token, era, call, flushes_after, is_fenced })
    }

    pub(super) fn call(&self) -> Call {
        self.call
    }

    /// The call has ended with `result`: bytes, 0, or a negated errno.
    pub(super) fn advance(&mut self, result: i64) -> Next {
        if result < 0 {
            let errno = i32::try_from(-result).unwrap_or(libc::EIO);
            return Next::Done(Err(error(self.call, errno, self.is_fenced)));
        }
        match self.call {
            // Fewer: the image has shrunk.
            Call::Read { into, .. } if result != i64::try_from(into.len()).unwrap_or(i64::MAX) => {
                Next::Done(Err(DeviceError::OutOfRange))
            }
            Call::Write { .. } | Call::WriteZeroes { .. } if self.flushes_after => {
                self.flushes_after = false;
                self.call = Call::Flush;
                Next::Call(self.call)
            }
            Call::Read { .. } | Call::Write { .. } | Call::WriteZeroes { .. } | Call::Flush => Next::Done(Ok(())),
        }
    }
}

/// What an errno means for the operation.
fn error(call: Call, errno: i32, is_fenced: bool) -> DeviceError {
    match (errno, call) {
        // The cluster has locked this client out, or does not answer; other machines may be better off.
        (BLOCKLISTED | libc::ETIMEDOUT | libc::ENOTCONN | libc::EHOSTUNREACH, _) => DeviceError::PathLost,
        // The lock is not ours any more, and librbd was told not to ask for it.
        (libc::EROFS, _) if is_fenced => DeviceError::PathLost,
        (libc::EROFS | libc::EPERM | libc::EACCES, Call::Write { .. } | Call::WriteZeroes { .. }) => {
            DeviceError::ReadOnly
        }
        (libc::ENOSPC | libc::EDQUOT, _) => DeviceError::NoSpace,
        // The range was checked: the image has shrunk since.
        (libc::EINVAL, Call::Read { .. } | Call::Write { .. } | Call::WriteZeroes { .. }) => DeviceError::OutOfRange,
        (libc::EOPNOTSUPP, _) => DeviceError::Unsupported,
        (libc::EIO | libc::EILSEQ, Call::Read { .. }) => DeviceError::ReadFault,
        (libc::EIO, Call::Write { .. } | Call::WriteZeroes { .. } | Call::Flush) => DeviceError::WriteFault,
        (_, _) => DeviceError::Internal,
    }
}

/// Whether a result says that the lock is gone for good: only a new connection helps.
pub(super) fn is_fenced_out(result: i64, is_fenced: bool) -> bool {
    result == -i64::from(BLOCKLISTED) || (is_fenced && result == -i64::from(libc::EROFS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reactor::Arena;

    fn request(kind: OperationKind, is_fenced: bool) -> Request {
        let data = Arena::new(4096, false).unwrap().segment().part(0, 1024);
        let operation = Operation { token: 7, host: 0, kind, start_block: 2, block_count: 2, data: Some(data) };
        Request::new(&operation, Extent { offset: 1024, len: 1024 }, 0, is_fenced).unwrap()
    }

    const WRITE: OperationKind = OperationKind::Write { force_unit_access: false };

    #[test]
    fn a_forced_write_is_flushed_once_it_is_written() {
        for kind in [
            OperationKind::Write { force_unit_access: true },
            OperationKind::WriteZeroes { deallocate: true, force_unit_access: true },
        ] {
            let mut request = request(kind, false);
            assert_eq!(request.advance(0), Next::Call(Call::Flush));
            assert_eq!(request.advance(0), Next::Done(Ok(())));
        }
        let mut failing = request(OperationKind::Write { force_unit_access: true }, false);
        assert_eq!(failing.advance(-i64::from(libc::EIO)), Next::Done(Err(DeviceError::WriteFault)));
        let mut failing = request(OperationKind::Write { force_unit_access: true }, false);
        assert_eq!(failing.advance(0), Next::Call(Call::Flush));
        assert_eq!(failing.advance(-i64::from(libc::EIO)), Next::Done(Err(DeviceError::WriteFault)), "not on storage");
    }

    #[test]
    fn a_read_that_is_short_is_beyond_the_end() {
        assert_eq!(request(OperationKind::Read, false).advance(1024), Next::Done(Ok(())));
        assert_eq!(request(OperationKind::Read, false).advance(512), Next::Done(Err(DeviceError::OutOfRange)));
    }

    #[test]
    fn errors_are_told_apart() {
        let ended = |kind, errno: i32, is_fenced| match request(kind, is_fenced).advance(-i64::from(errno)) {
            Next::Done(Err(error)) => error,
            Next::Call(_) | Next::Done(Ok(())) => panic!("{errno} is an error"),
        };
        assert_eq!(ended(WRITE, libc::ESHUTDOWN, false), DeviceError::PathLost);
        assert_eq!(ended(OperationKind::Read, libc::ETIMEDOUT, false), DeviceError::PathLost);
        assert_eq!(ended(OperationKind::Flush, libc::ESHUTDOWN, true), DeviceError::PathLost);
        assert_eq!(ended(WRITE, libc::EROFS, true), DeviceError::PathLost);
        assert_eq!(ended(WRITE, libc::EROFS, false), DeviceError::ReadOnly);
        assert_eq!(ended(WRITE, libc::EDQUOT, false), DeviceError::NoSpace);
        assert_eq!(ended(OperationKind::Deallocate, libc::EINVAL, false), DeviceError::OutOfRange);
        assert_eq!(ended(OperationKind::Read, libc::EIO, false), DeviceError::ReadFault);
        assert_eq!(ended(WRITE, libc::EIO, false), DeviceError::WriteFault);
        assert_eq!(ended(WRITE, libc::ENOENT, false), DeviceError::Internal);
    }
}
