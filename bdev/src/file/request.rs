//! One operation on a file: the system calls that it still needs, one after the other. No I/O here: a result goes in, the next step comes out.

use reactor::Segment;

use crate::channel::{Operation, OperationKind};
use crate::device::{Deallocation, DeviceError};
use crate::extent::Extent;

/// How often one call that says "again" is repeated before the operation fails.
const RETRY_COUNT_MAX: u32 = 64;

/// Longest single read or write: the kernel's own limit is 2 GiB less a page.
const CALL_LEN_MAX: u64 = 1 << 30;

/// What the file system cannot do. Learned from its first refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    /// FALLOC_FL_ZERO_RANGE.
    pub(super) zero_range: bool,
    /// FALLOC_FL_PUNCH_HOLE.
    pub(super) punch_hole: bool,
}

/// The call that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Reads into memory.
    Read { offset: u64, into: Segment },
    /// Writes from memory; returns when it is on stable storage if `durable`.
    Write { offset: u64, from: Segment, durable: bool },
    /// Writes this many zeroes, at most as many as there are in one piece.
    WriteZeroes { offset: u64, len: u64, durable: bool },
    /// Has the file system zero the range, and give its space back if `punch`.
    Zero { offset: u64, len: u64, punch: bool },
    /// Everything on stable storage.
    Sync,
    /// None, which succeeds.
    Nothing,
}

/// What a call's result leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another call.
    Call,
    /// The end.
    Done(Result<(), DeviceError>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Read, write or written zeroes, `done_len` bytes of which are there.
    Transfer,
    /// fallocate.
    Zero,
    /// fdatasync.
    Sync,
    /// Advice that nobody takes.
    Nothing,
}

/// An operation under way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) token: u64,
    kind: OperationKind,
    extent: Extent,
    data: Option<Segment>,
    step: Step,
    /// It is done also where the file system refuses it.
    is_advice: bool,
    done_len: u64,
    retry_count: u32,
    is_cancelled: bool,
}

impl Request {
    /// `extent` is the operation's, checked. Where deallocated blocks shall be zeroes, they are written if there is no other way.
    pub(super) fn new(operation: &Operation, extent: Extent, refused: Refused, deallocation: Deallocation) -> Self {
        let is_advice = operation.kind == OperationKind::Deallocate && deallocation != Deallocation::Zeroes;
        let step = match operation.kind {
            OperationKind::Deallocate if !refused.punch_hole => Step::Zero,
            OperationKind::Deallocate if is_advice => Step::Nothing,
            OperationKind::Read | OperationKind::Write { .. } => Step::Transfer,
            OperationKind::Flush => Step::Sync,
            OperationKind::WriteZeroes { deallocate: true, .. } if !refused.punch_hole => Step::Zero,
            OperationKind::WriteZeroes { deallocate: false, .. } if !refused.zero_range => Step::Zero,
            OperationKind::WriteZeroes { .. } | OperationKind::Deallocate | OperationKind::WriteUncorrectable => {
                Step::Transfer
            }
        };
        Self {
            token: operation.token,
            kind: operation.kind,
            extent,
            data: operation.data,
            step,
            is_advice,
            done_len: 0,
            retry_count: 0,
            is_cancelled: false,
        }
    }

    /// It need not be done any more: its present call is its last, however that ends. False: that was said before.
    pub(super) fn cancel(&mut self) -> bool {
        !std::mem::replace(&mut self.is_cancelled, true)
    }

    /// The call that is to be made now.
    pub(super) fn call(&self) -> Call {
        let offset = self.extent.offset + self.done_len;
        let len = (self.extent.len - self.done_len).min(CALL_LEN_MAX);
        match (self.step, self.kind, self.data) {
            (Step::Transfer, OperationKind::Read, Some(data)) => Call::Read { offset, into: self.rest(data, len) },
            (Step::Transfer, OperationKind::Write { force_unit_access: durable }, Some(data)) => {
                Call::Write { offset, from: self.rest(data, len), durable }
            }
            (Step::Transfer, OperationKind::WriteZeroes { force_unit_access: durable, .. }, _) => {
                Call::WriteZeroes { offset, len, durable }
            }
            (Step::Transfer, OperationKind::Deallocate, _) => Call::WriteZeroes { offset, len, durable: false },
            (Step::Zero, OperationKind::WriteZeroes { deallocate: punch, .. }, _) => Call::Zero { offset, len, punch },
            (Step::Zero, OperationKind::Deallocate, _) => Call::Zero { offset, len, punch: true },
            (Step::Nothing, _, _) => Call::Nothing,
            (Step::Transfer | Step::Zero | Step::Sync, _, _) => Call::Sync,
        }
    }

    /// What is left of `data`, at most `len` bytes. The extent check made data and range equally long.
    fn rest(&self, data: Segment, len: u64) -> Segment {
        let done_len = usize::try_from(self.done_len).unwrap_or(usize::MAX);
        data.part(done_len, usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// Takes the result of [`Self::call`]: as the kernel gives it, a count or a negated errno.
    pub(super) fn advance(&mut self, result: i32, refused: &mut Refused) -> Next {
        // A call that was cancelled says so, or where it was under way that it was interrupted [io_uring/cancel.c, io_async_cancel_one].
        let was_stopped = matches!(-result, libc::ECANCELED | libc::EINTR);
        match self.after(result, refused) {
            Next::Call if self.is_cancelled => Next::Done(Err(DeviceError::Cancelled)),
            Next::Done(Err(_)) if self.is_cancelled && was_stopped => Next::Done(Err(DeviceError::Cancelled)),
            next @ (Next::Call | Next::Done(_)) => next,
        }
    }

    fn after(&mut self, result: i32, refused: &mut Refused) -> Next {
        let Ok(moved_len) = u64::try_from(result) else {
            return self.failed(-result, refused);
        };
        match self.step {
            Step::Sync | Step::Nothing => Next::Done(Ok(())),
            // One call punches at most so much, and a deallocation may be longer.
            Step::Zero if self.extent.len - self.done_len > CALL_LEN_MAX => {
                self.done_len += CALL_LEN_MAX;
                Next::Call
            }
            Step::Zero if matches!(self.kind, OperationKind::WriteZeroes { force_unit_access: true, .. }) => {
                self.enter(Step::Sync)
            }
            Step::Zero => Next::Done(Ok(())),
            // A read that brings nothing is past the end of a file that was truncated under us.
            Step::Transfer if moved_len == 0 => Next::Done(Err(match self.kind {
                OperationKind::Read => DeviceError::OutOfRange,
                OperationKind::Write { .. }
                | OperationKind::WriteZeroes { .. }
                | OperationKind::Deallocate
                | OperationKind::WriteUncorrectable
                | OperationKind::Flush => DeviceError::WriteFault,
            })),
            Step::Transfer => {
                self.done_len += moved_len;
                self.retry_count = 0;
                if self.done_len >= self.extent.len { Next::Done(Ok(())) } else { Next::Call }
            }
        }
    }

    fn enter(&mut self, step: Step) -> Next {
        self.step = step;
        self.retry_count = 0;
        Next::Call
    }

    fn failed(&mut self, errno: i32, refused: &mut Refused) -> Next {
        if matches!(errno, libc::EAGAIN | libc::EINTR) && self.retry_count < RETRY_COUNT_MAX {
            self.retry_count += 1;
            return Next::Call;
        }
        if self.step == Step::Zero && matches!(errno, libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM) {
            match self.kind {
                OperationKind::WriteZeroes { deallocate: true, .. } | OperationKind::Deallocate => {
                    refused.punch_hole = true;
                }
                OperationKind::WriteZeroes { .. }
                | OperationKind::Read
                | OperationKind::Write { .. }
                | OperationKind::WriteUncorrectable
                | OperationKind::Flush => refused.zero_range = true,
            }
            return if self.is_advice { Next::Done(Ok(())) } else { self.enter(Step::Transfer) };
        }
        Next::Done(Err(device_error(errno, self.kind)))
    }
}

/// errno in the block layer's terms.
fn device_error(errno: i32, kind: OperationKind) -> DeviceError {
    match errno {
        libc::ENOSPC | libc::EDQUOT => DeviceError::NoSpace,
        libc::EROFS | libc::EBADF | libc::EPERM => DeviceError::ReadOnly,
        libc::EFBIG | libc::ENXIO => DeviceError::OutOfRange,
        libc::EOPNOTSUPP | libc::ENOSYS => DeviceError::Unsupported,
        libc::EIO | libc::EREMOTEIO | libc::ENODATA | libc::ENOLINK | libc::EILSEQ | libc::ETIMEDOUT => match kind {
            OperationKind::Read => DeviceError::ReadFault,
            OperationKind::Write { .. }
            | OperationKind::WriteZeroes { .. }
            | OperationKind::Deallocate
            | OperationKind::WriteUncorrectable
            | OperationKind::Flush => DeviceError::WriteFault,
        },
        _ => DeviceError::Internal,
    }
}

#[cfg(test)]
mod tests {
    use reactor::Arena;

    use super::*;

    fn request(kind: OperationKind, len: u64, data: Option<Segment>) -> Request {
        let operation = Operation { token: 1, host: 0, kind, start_block: 8, block_count: len / 512, data };
        Request::new(&operation, Extent { offset: 4096, len }, Refused::default(), Deallocation::Zeroes)
    }

    #[test]
    fn a_short_read_goes_on_where_it_stopped() {
        let data = Arena::new(4096, false).unwrap().segment();
        let mut refused = Refused::default();
        let mut read = request(OperationKind::Read, 4096, Some(data));
        assert_eq!(read.call(), Call::Read { offset: 4096, into: data });
        assert_eq!(read.advance(1000, &mut refused), Next::Call);
        assert_eq!(read.call(), Call::Read { offset: 5096, into: data.part(1000, 3096) });
        assert_eq!(read.advance(3096, &mut refused), Next::Done(Ok(())));
    }

    #[test]
    fn a_file_that_shrank_is_out_of_range() {
        let data = Arena::new(4096, false).unwrap().segment();
        let mut read = request(OperationKind::Read, 4096, Some(data));
        assert_eq!(read.advance(512, &mut Refused::default()), Next::Call);
        assert_eq!(read.advance(0, &mut Refused::default()), Next::Done(Err(DeviceError::OutOfRange)));
    }

    #[test]
    fn zeroes_are_written_where_the_file_system_cannot_zero_and_that_is_remembered() {
        let kind = OperationKind::WriteZeroes { deallocate: true, force_unit_access: true };
        let mut refused = Refused::default();
        let mut zeroes = request(kind, 8192, None);
        assert_eq!(zeroes.call(), Call::Zero { offset: 4096, len: 8192, punch: true });
        assert_eq!(zeroes.advance(-libc::EOPNOTSUPP, &mut refused), Next::Call);
        assert_eq!(refused, Refused { zero_range: false, punch_hole: true });
        assert_eq!(zeroes.call(), Call::WriteZeroes { offset: 4096, len: 8192, durable: true });
        assert_eq!(zeroes.advance(4096, &mut refused), Next::Call);
        assert_eq!(zeroes.call(), Call::WriteZeroes { offset: 8192, len: 4096, durable: true });
        assert_eq!(zeroes.advance(4096, &mut refused), Next::Done(Ok(())));
        let operation = Operation { token: 2, host: 0, kind, start_block: 0, block_count: 1, data: None };
        let second = Request::new(&operation, Extent { offset: 0, len: 512 }, refused, Deallocation::Zeroes);
        assert_eq!(second.call(), Call::WriteZeroes { offset: 0, len: 512, durable: true });
    }

    #[test]
    fn a_refused_deallocation_is_zeroes_or_nothing() {
        let operation = Operation {
            token: 1,
            host: 0,
            kind: OperationKind::Deallocate,
            start_block: 8,
            block_count: 8,
            data: None,
        };
        let extent = Extent { offset: 4096, len: 4096 };
        let mut refused = Refused::default();
        let mut zeroes = Request::new(&operation, extent, refused, Deallocation::Zeroes);
        assert_eq!(zeroes.call(), Call::Zero { offset: 4096, len: 4096, punch: true });
        assert_eq!(zeroes.advance(-libc::EOPNOTSUPP, &mut refused), Next::Call);
        assert_eq!(zeroes.call(), Call::WriteZeroes { offset: 4096, len: 4096, durable: false });
        assert!(refused.punch_hole);
        let mut advice = Request::new(&operation, extent, Refused::default(), Deallocation::Unspecified);
        assert_eq!(advice.advance(-libc::EOPNOTSUPP, &mut refused), Next::Done(Ok(())));
        let mut advice = Request::new(&operation, extent, refused, Deallocation::Unspecified);
        assert_eq!(advice.call(), Call::Nothing);
        assert_eq!(advice.advance(0, &mut refused), Next::Done(Ok(())));
    }

    #[test]
    fn a_long_range_is_punched_in_pieces() {
        let kind = OperationKind::WriteZeroes { deallocate: true, force_unit_access: true };
        let operation = Operation { token: 1, host: 0, kind, start_block: 0, block_count: 5 << 20, data: None };
        let extent = Extent { offset: 0, len: 5 << 29 };
        let mut zeroes = Request::new(&operation, extent, Refused::default(), Deallocation::Zeroes);
        let mut offsets = Vec::new();
        while let Call::Zero { offset, len, punch: true } = zeroes.call() {
            offsets.push((offset, len));
            assert_eq!(zeroes.advance(0, &mut Refused::default()), Next::Call);
        }
        assert_eq!(offsets, [(0, 1 << 30), (1 << 30, 1 << 30), (1 << 31, 1 << 29)]);
        assert_eq!(zeroes.call(), Call::Sync);
    }

    #[test]
    fn forced_zeroes_are_synced() {
        let mut zeroes = request(OperationKind::WriteZeroes { deallocate: false, force_unit_access: true }, 4096, None);
        assert_eq!(zeroes.advance(0, &mut Refused::default()), Next::Call);
        assert_eq!(zeroes.call(), Call::Sync);
        assert_eq!(zeroes.advance(0, &mut Refused::default()), Next::Done(Ok(())));
    }

    #[test]
    fn again_is_repeated_but_not_for_ever() {
        let mut flush = request(OperationKind::Flush, 0, None);
        let mut call_count = 1;
        while flush.advance(-libc::EINTR, &mut Refused::default()) == Next::Call {
            call_count += 1;
        }
        assert_eq!(call_count, RETRY_COUNT_MAX + 1);
    }

    #[test]
    fn a_cancelled_operation_makes_no_further_call() {
        let data = Arena::new(4096, false).unwrap().segment();
        let read = || request(OperationKind::Read, 4096, Some(data));
        let cancelled = Next::Done(Err(DeviceError::Cancelled));
        for (result, next) in [
            (4096, Next::Done(Ok(()))),
            (512, cancelled),
            (-libc::ECANCELED, cancelled),
            (-libc::EINTR, cancelled),
            (-libc::EAGAIN, cancelled),
            (-libc::EIO, Next::Done(Err(DeviceError::ReadFault))),
        ] {
            let mut read = read();
            assert!(read.cancel());
            assert!(!read.cancel(), "once is enough");
            assert_eq!(read.advance(result, &mut Refused::default()), next, "{result}");
        }
        let mut zeroes = request(OperationKind::WriteZeroes { deallocate: false, force_unit_access: true }, 4096, None);
        zeroes.cancel();
        assert_eq!(zeroes.advance(0, &mut Refused::default()), cancelled, "zeroed, and not yet durable");
    }

    #[test]
    fn errors_are_named_for_what_was_done() {
        let write = OperationKind::Write { force_unit_access: false };
        for (errno, kind, error) in [
            (libc::EIO, OperationKind::Read, DeviceError::ReadFault),
            (libc::EIO, write, DeviceError::WriteFault),
            (libc::EIO, OperationKind::Flush, DeviceError::WriteFault),
            (libc::ENOSPC, write, DeviceError::NoSpace),
            (libc::EROFS, write, DeviceError::ReadOnly),
            (libc::EFBIG, write, DeviceError::OutOfRange),
            (libc::ENOMEM, write, DeviceError::Internal),
        ] {
            assert_eq!(device_error(errno, kind), error, "{errno} {kind:?}");
        }
    }
}
