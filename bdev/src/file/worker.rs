//! A file's channel through a thread of its own, for processes that may not use io_uring: simple, correct, slower (one call at a time, one more copy).
//!
//! An operation whose turn has not come can be cancelled, and one that is being done ends with the call that the thread is in.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::Thread;

use crossbeam_queue::ArrayQueue;
use reactor::{Handle, Progress, Rest, Slab};

use super::Shared;
use super::request::{Call, Next, Refused, Request};
use crate::channel::{Channel, Completion, Operation};
use crate::device::{DeviceError, Geometry};
use crate::extent;
use crate::inbox::{Entrance, Inbox};
use crate::size::Size;

/// Bytes of one call, and of the thread's buffer.
const BUFFER_LEN: usize = 1 << 20;

/// One CPU's way into a file, and the thread that does the work.
pub(super) struct WorkerChannel {
    geometry: Geometry,
    size: Size,
    /// The tokens of operations that the thread has.
    tokens: Slab<u64>,
    completions: Inbox<Done>,
    /// Ended without the thread.
    finished: VecDeque<Completion>,
    orders: Arc<Orders>,
    worker: Thread,
}

/// What the thread is to do.
struct Job {
    handle: Handle<u64>,
    request: Request,
}

/// What it has done.
struct Done {
    handle: Handle<u64>,
    result: Result<(), DeviceError>,
}

/// What the thread is told.
struct Orders {
    /// Has room for every outstanding operation, so that no push can fail.
    jobs: ArrayQueue<Job>,
    /// For each slot of the channel the generation that need not be done any more. Relaxed: it is a wish, which may be read too late.
    cancelled: Box<[AtomicU32]>,
    closed: AtomicBool,
}

impl Orders {
    fn is_cancelled(&self, handle: Handle<u64>) -> bool {
        self.cancelled[handle.index()].load(Ordering::Relaxed) == handle.generation()
    }
}

impl WorkerChannel {
    pub(super) fn new(shared: Arc<Shared>, geometry: Geometry, size: Size, queue_depth: u32) -> io::Result<Self> {
        let completions = Inbox::new(queue_depth as usize)?;
        let orders = Arc::new(Orders {
            jobs: ArrayQueue::new(queue_depth as usize),
            // No slot has a generation 0.
            cancelled: (0..queue_depth).map(|_| AtomicU32::new(0)).collect(),
            closed: AtomicBool::new(false),
        });
        let (theirs, entrance) = (Arc::clone(&orders), Arc::clone(completions.entrance()));
        let thread = std::thread::Builder::new()
            .name("bdev-file".to_owned())
            .spawn(move || work(&shared, &theirs, &entrance))?;
        Ok(Self {
            geometry,
            size,
            tokens: Slab::new(queue_depth as usize),
            completions,
            finished: VecDeque::with_capacity(queue_depth as usize),
            orders,
            worker: thread.thread().clone(),
        })
    }
}

impl Channel for WorkerChannel {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        self.geometry.block_count = self.size.now();
        let mut sent = false;
        while self.outstanding_count() < self.completions.capacity()
            && let Some(operation) = operations.pop_front()
        {
            match extent::extent(&self.geometry, &operation) {
                Ok(extent) => {
                    let request = Request::new(&operation, extent, Refused::default(), self.geometry.deallocation);
                    let Ok(handle) = self.tokens.insert(operation.token) else {
                        unreachable!("fewer operations than slots");
                    };
                    assert!(self.orders.jobs.push(Job { handle, request }).is_ok(), "room for every operation");
                    sent = true;
                }
                Err(error) => {
                    self.finished.push_back(Completion { token: operation.token, result: Err(error) });
                }
            }
        }
        if sent {
            self.worker.unpark();
        }
    }

    fn poll(&mut self, _now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let had_len = completions.len();
        completions.extend(self.finished.drain(..));
        while let Some(Done { handle, result }) = self.completions.take() {
            let token = self.tokens.remove(handle).expect("each job is done once");
            completions.push(Completion { token, result });
        }
        Progress::busy_if(completions.len() > had_len)
    }

    fn cancel(&mut self, token: u64) -> bool {
        let Some((handle, _)) = self.tokens.iter().find(|(_, of_slot)| **of_slot == token) else {
            return false;
        };
        self.orders.cancelled[handle.index()].store(handle.generation(), Ordering::Relaxed);
        true
    }

    fn cancel_all(&mut self) {
        for (handle, _) in self.tokens.iter() {
            self.orders.cancelled[handle.index()].store(handle.generation(), Ordering::Relaxed);
        }
    }

    fn outstanding_count(&self) -> usize {
        self.tokens.len() + self.finished.len()
    }

    fn arm(&mut self) -> Rest {
        if !self.finished.is_empty() {
            return Rest::Poll;
        }
        if self.tokens.is_empty() {
            return Rest::Sleep;
        }
        self.completions.arm()
    }

    fn disarm(&mut self) {
        self.completions.disarm();
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        Some(self.completions.descriptor())
    }
}

impl Drop for WorkerChannel {
    fn drop(&mut self) {
        // The thread finishes the call that it is in, and goes by itself: nobody waits for it.
        self.orders.closed.store(true, Ordering::Release);
        self.worker.unpark();
    }
}

/// The thread: one operation after the other, until the channel is gone.
fn work(shared: &Shared, orders: &Orders, completions: &Entrance<Done>) {
    let mut buffer = vec![0; BUFFER_LEN];
    let mut refused = Refused::default();
    while !orders.closed.load(Ordering::Acquire) {
        let Some(Job { handle, request }) = orders.jobs.pop() else {
            // A wake-up between the look and the sleep is kept by the thread's token.
            std::thread::park();
            continue;
        };
        let result = run(&shared.file, request, || orders.is_cancelled(handle), &mut buffer, &mut refused);
        completions.bring(Done { handle, result });
    }
}

/// Does an operation, call by call, as long as somebody wants it.
fn run(
    file: &std::fs::File,
    mut request: Request,
    is_cancelled: impl Fn() -> bool,
    buffer: &mut [u8],
    refused: &mut Refused,
) -> Result<(), DeviceError> {
    while !is_cancelled() {
        let outcome = perform(file, request.call(), buffer);
        if let Next::Done(result) = request.advance(outcome, refused) {
            return result;
        }
    }
    Err(DeviceError::Cancelled)
}

/// Makes one call. Returns what the kernel would: a count, or a negated errno.
fn perform(file: &std::fs::File, call: Call, buffer: &mut [u8]) -> i32 {
    let done = match call {
        Call::Read { offset, into } => {
            let len = into.len().min(buffer.len());
            let piece = &mut buffer[..len];
            file.read_at(piece, offset).inspect(|len| into.write(0, &piece[..*len]))
        }
        Call::Write { offset, from, durable } => {
            let len = from.len().min(buffer.len());
            let piece = &mut buffer[..len];
            from.part(0, len).read(0, piece);
            file.write_at(piece, offset).and_then(|len| sync_if(file, durable, len))
        }
        Call::WriteZeroes { offset, len, durable } => {
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(buffer.len());
            let piece = &mut buffer[..len];
            piece.fill(0);
            file.write_at(piece, offset).and_then(|len| sync_if(file, durable, len))
        }
        Call::Zero { offset, len, punch } => zero(file, offset, len, punch).map(|()| 0),
        Call::Nothing => Ok(0),
        Call::Sync => file.sync_data().map(|()| 0),
    };
    match done {
        Ok(len) => i32::try_from(len).unwrap_or(i32::MAX),
        Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
    }
}

/// Has the file system zero a range, as [`Call::Zero`] says.
fn zero(file: &std::fs::File, offset: u64, len: u64, punch: bool) -> io::Result<()> {
    let how = if punch { libc::FALLOC_FL_PUNCH_HOLE } else { libc::FALLOC_FL_ZERO_RANGE };
    let (Ok(offset), Ok(len)) = (libc::off_t::try_from(offset), libc::off_t::try_from(len)) else {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    };
    // SAFETY: no memory is involved.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), how | libc::FALLOC_FL_KEEP_SIZE, offset, len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn sync_if(file: &std::fs::File, durable: bool, len: usize) -> io::Result<usize> {
    if durable {
        file.sync_data()?;
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::channel::OperationKind;
    use crate::device::Deallocation;
    use crate::extent::Extent;

    #[test]
    fn what_has_not_begun_is_never_done_and_what_has_ends_with_its_call() {
        let path = std::env::temp_dir().join(format!("bdev-worker-{}", std::process::id()));
        let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all_at(&[0xEE; 4096], 0).unwrap();
        let kind = OperationKind::WriteZeroes { deallocate: false, force_unit_access: false };
        let operation = Operation { token: 1, host: 0, kind, start_block: 0, block_count: 8, data: None };
        // Written 1024 bytes at a time.
        let mut refused = Refused { zero_range: true, punch_hole: true };
        let mut zeroed_after = |call_count: u32| {
            let request = Request::new(&operation, Extent { offset: 0, len: 4096 }, refused, Deallocation::Zeroes);
            let left = Cell::new(call_count);
            let is_cancelled = || left.replace(left.get().saturating_sub(1)) == 0;
            let result = run(&file, request, is_cancelled, &mut [0; 1024], &mut refused);
            let mut bytes = [0; 4096];
            file.read_exact_at(&mut bytes, 0).unwrap();
            (result, bytes.iter().filter(|byte| **byte == 0).count())
        };
        assert_eq!(zeroed_after(0), (Err(DeviceError::Cancelled), 0));
        assert_eq!(zeroed_after(2), (Err(DeviceError::Cancelled), 2048));
        assert_eq!(zeroed_after(4), (Ok(()), 4096));
    }

    #[test]
    fn a_wish_is_of_one_operation_and_not_of_the_next_in_its_slot() {
        let mut tokens: Slab<u64> = Slab::new(1);
        let orders = Orders {
            jobs: ArrayQueue::new(1),
            cancelled: Box::new([AtomicU32::new(0)]),
            closed: AtomicBool::new(false),
        };
        let first = tokens.insert(7).unwrap();
        assert!(!orders.is_cancelled(first));
        orders.cancelled[0].store(first.generation(), Ordering::Relaxed);
        assert!(orders.is_cancelled(first));
        tokens.remove(first);
        let second = tokens.insert(8).unwrap();
        assert!(!orders.is_cancelled(second));
    }
}
