//! A file's channel through a thread of its own, for processes that may not use io_uring: simple, correct, slower (one call at a time, one more copy).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

use crossbeam_queue::ArrayQueue;
use reactor::{Progress, Rest};

use super::Shared;
use super::request::{Call, Next, Refused, Request};
use crate::channel::{Channel, Completion, Operation};
use crate::device::Geometry;
use crate::extent;
use crate::inbox::{Entrance, Inbox};
use crate::size::Size;

/// Bytes of one call, and of the thread's buffer.
const BUFFER_LEN: usize = 1 << 20;

/// One CPU's way into a file, and the thread that does the work.
pub(super) struct WorkerChannel {
    geometry: Geometry,
    size: Size,
    completions: Inbox<Completion>,
    orders: Arc<Orders>,
    worker: Thread,
    outstanding_count: usize,
}

/// What the thread is told.
struct Orders {
    /// Has room for every outstanding operation, so that no push can fail.
    requests: ArrayQueue<Request>,
    closed: AtomicBool,
}

impl WorkerChannel {
    pub(super) fn new(shared: Arc<Shared>, geometry: Geometry, size: Size, queue_depth: u32) -> io::Result<Self> {
        let completions = Inbox::new(queue_depth as usize)?;
        let orders =
            Arc::new(Orders { requests: ArrayQueue::new(queue_depth as usize), closed: AtomicBool::new(false) });
        let (theirs, entrance) = (Arc::clone(&orders), Arc::clone(completions.entrance()));
        let thread = std::thread::Builder::new()
            .name("bdev-file".to_owned())
            .spawn(move || work(&shared, &theirs, &entrance))?;
        Ok(Self { geometry, size, completions, orders, worker: thread.thread().clone(), outstanding_count: 0 })
    }
}

impl Channel for WorkerChannel {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        self.geometry.block_count = self.size.now();
        let mut sent = false;
        while self.outstanding_count < self.completions.capacity()
            && let Some(operation) = operations.pop_front()
        {
            self.outstanding_count += 1;
            match extent::extent(&self.geometry, &operation) {
                Ok(extent) => {
                    let request = Request::new(&operation, extent, Refused::default(), self.geometry.deallocation);
                    assert!(self.orders.requests.push(request).is_ok(), "room for every outstanding operation");
                    sent = true;
                }
                Err(error) => {
                    self.completions.entrance().bring(Completion { token: operation.token, result: Err(error) });
                }
            }
        }
        if sent {
            self.worker.unpark();
        }
    }

    fn poll(&mut self, _now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let had_len = completions.len();
        while let Some(completion) = self.completions.take() {
            self.outstanding_count -= 1;
            completions.push(completion);
        }
        Progress::busy_if(completions.len() > had_len)
    }

    fn outstanding_count(&self) -> usize {
        self.outstanding_count
    }

    fn arm(&mut self) -> Rest {
        if self.outstanding_count == 0 {
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
fn work(shared: &Shared, orders: &Orders, completions: &Entrance<Completion>) {
    let mut buffer = vec![0; BUFFER_LEN];
    let mut refused = Refused::default();
    while !orders.closed.load(Ordering::Acquire) {
        let Some(mut request) = orders.requests.pop() else {
            // A wake-up between the look and the sleep is kept by the thread's token.
            std::thread::park();
            continue;
        };
        let result = loop {
            let outcome = perform(&shared.file, request.call(), &mut buffer);
            if let Next::Done(result) = request.advance(outcome, &mut refused) {
                break result;
            }
        };
        completions.bring(Completion { token: request.token, result });
    }
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
