//! A file's channel through io_uring.
//!
//! Each operation is a [`Request`] in a slab, and has at most one entry with the kernel at a time; the entry's user data is the request's handle. One
//! `io_uring_enter` for each batch of submissions; completions are read from the shared ring without a system call. The ring's own descriptor is readable
//! as long as a completion is in it, so that a CPU can sleep on it.
//!
//! # Invariants of the unsafe code
//! 1. Memory: an entry points into a [`Segment`], which is always inside a live mapping; the submitter keeps it for this operation until the
//!    completion has been handed out ([`crate::Operation::data`]), and the kernel is done with it when its completion entry is there.
//!    Zeroes come from the arena that all devices share, which is never unmapped.
//! 2. Descriptor: entries name the registered file 0, which the ring itself keeps open.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};
use reactor::{Handle, Progress, Rest, Segment, Slab};

use super::Shared;
use super::request::{Call, Next, Refused, Request};
use crate::channel::{Channel, Completion, Operation};
use crate::device::Geometry;
use crate::extent;
use crate::size::Size;
use crate::uring;

/// The one registered file.
const FILE: Fixed = Fixed(0);

/// User data of entries that cancel others: the handle of no request.
const CANCEL: u64 = u64::MAX;

/// Whether this process may use io_uring.
pub(super) fn probe() -> io::Result<()> {
    IoUring::new(2).map(|_| ())
}

/// What a person is told when it may not.
pub(super) fn refusal(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            "io_uring is refused (sysctl kernel.io_uring_disabled, or a container's seccomp profile): a thread and the page cache \
             are used instead, slower"
        }
        Some(libc::ENOSYS) => "this kernel has no io_uring: a thread and the page cache are used instead, slower",
        Some(libc::ENOMEM) => {
            "no locked memory for io_uring (raise `ulimit -l`): a thread and the page cache are used instead, slower"
        }
        _ => "io_uring cannot be used: a thread and the page cache are used instead, slower",
    }
}

/// One CPU's way into a file.
pub(super) struct RingChannel {
    ring: IoUring,
    requests: Slab<Request>,
    geometry: Geometry,
    size: Size,
    zeroes: Segment,
    refused: Refused,
    /// Ended without the kernel.
    finished: VecDeque<Completion>,
    /// Cancellations that the kernel has not answered.
    cancel_count: usize,
    /// Whether a failing enter has been reported.
    enter_failed: bool,
    shared: Arc<Shared>,
}

impl RingChannel {
    pub(super) fn new(shared: Arc<Shared>, geometry: Geometry, size: Size, queue_depth: u32) -> io::Result<Self> {
        // Twice as many entries as requests, and twice as many completions again: neither queue can overflow, since a request has one entry at most, and
        // there are no more cancellations than that.
        let ring = IoUring::new(queue_depth * 2)?;
        ring.submitter().register_files(&[shared.file.as_raw_fd()])?;
        Ok(Self {
            ring,
            requests: Slab::new(queue_depth as usize),
            geometry,
            size,
            zeroes: shared.zeroes,
            refused: Refused::default(),
            finished: VecDeque::with_capacity(queue_depth as usize),
            cancel_count: 0,
            enter_failed: false,
            shared,
        })
    }

    /// Queues the cancellation of a request, unless it was cancelled before. False where as many are under way as there may be.
    fn stop(&mut self, handle: Handle<Request>) -> bool {
        if self.cancel_count == self.requests.capacity() {
            return false;
        }
        if self.requests.look_mut(handle).is_some_and(Request::cancel) {
            let entry = opcode::AsyncCancel::new(handle.to_bits()).build().user_data(CANCEL);
            // SAFETY: the entry points at nothing.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            assert!(pushed.is_ok(), "as many entries as requests and cancellations");
            self.cancel_count += 1;
        }
        true
    }

    fn enter(&mut self) {
        uring::enter(&mut self.ring, &self.shared.path, &mut self.enter_failed);
    }
}

impl Channel for RingChannel {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        self.geometry.block_count = self.size.now();
        while self.outstanding_count() < self.requests.capacity()
            && let Some(operation) = operations.pop_front()
        {
            let request = match extent::extent(&self.geometry, &operation) {
                Ok(extent) => Request::new(&operation, extent, self.refused, self.geometry.deallocation),
                Err(error) => {
                    self.finished.push_back(Completion { token: operation.token, result: Err(error) });
                    continue;
                }
            };
            let call = request.call();
            let Ok(handle) = self.requests.insert(request) else {
                unreachable!("fewer requests than slots");
            };
            queue(&mut self.ring.submission(), call, handle, self.zeroes);
        }
        self.enter();
    }

    fn poll(&mut self, _now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let had_len = completions.len();
        completions.extend(self.finished.drain(..));
        let (_, mut submission, completion) = self.ring.split();
        let mut again = false;
        for entry in completion {
            if entry.user_data() == CANCEL {
                // Whatever was found: the request tells its own end.
                self.cancel_count -= 1;
                continue;
            }
            let handle = Handle::from_bits(entry.user_data());
            let Some(request) = self.requests.look_mut(handle) else {
                continue;
            };
            match request.advance(entry.result(), &mut self.refused) {
                Next::Call => {
                    queue(&mut submission, request.call(), handle, self.zeroes);
                    again = true;
                }
                Next::Done(result) => {
                    completions.push(Completion { token: request.token, result });
                    self.requests.remove(handle);
                }
            }
        }
        drop(submission);
        self.enter();
        Progress::busy_if(again || completions.len() > had_len)
    }

    fn cancel(&mut self, token: u64) -> bool {
        let Some(handle) = self.requests.iter().find(|(_, request)| request.token == token).map(|(handle, _)| handle)
        else {
            return false;
        };
        let is_stopped = self.stop(handle);
        self.enter();
        is_stopped
    }

    fn cancel_all(&mut self) {
        let handles: Vec<Handle<Request>> = self.requests.iter().map(|(handle, _)| handle).collect();
        for handle in handles {
            // What there is no room to cancel goes on.
            let _ = self.stop(handle);
        }
        self.enter();
    }

    fn outstanding_count(&self) -> usize {
        self.requests.len() + self.finished.len()
    }

    fn arm(&mut self) -> Rest {
        if self.finished.is_empty() { uring::arm(&mut self.ring) } else { Rest::Poll }
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        Some(self.ring.as_raw_fd())
    }
}

impl Drop for RingChannel {
    fn drop(&mut self) {
        let count = self.requests.len();
        if count > 0 {
            tracing::error!(path = %self.shared.path.display(), count, "a channel is closed with operations in the kernel");
        }
    }
}

/// Queues one call.
fn queue(submission: &mut squeue::SubmissionQueue<'_>, call: Call, handle: Handle<Request>, zeroes: Segment) {
    let entry = entry(call, zeroes).user_data(handle.to_bits());
    // SAFETY: what the entry points at outlives it, by invariants 1 and 2.
    let pushed = unsafe { submission.push(&entry) };
    assert!(pushed.is_ok(), "as many entries as requests and cancellations");
}

fn entry(call: Call, zeroes: Segment) -> squeue::Entry {
    match call {
        Call::Read { offset, into } => opcode::Read::new(FILE, into.as_ptr(), len(into)).offset(offset).build(),
        Call::Write { offset, from, durable } => write(offset, from, durable),
        Call::WriteZeroes { offset, len, durable } => {
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(zeroes.len());
            write(offset, zeroes.part(0, len), durable)
        }
        Call::Zero { offset, len, punch } => {
            let how = if punch { libc::FALLOC_FL_PUNCH_HOLE } else { libc::FALLOC_FL_ZERO_RANGE };
            opcode::Fallocate::new(FILE, len).offset(offset).mode(how | libc::FALLOC_FL_KEEP_SIZE).build()
        }
        Call::Nothing => opcode::Nop::new().build(),
        Call::Sync => opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build(),
    }
}

fn write(offset: u64, from: Segment, durable: bool) -> squeue::Entry {
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    opcode::Write::new(FILE, from.as_ptr(), len(from)).offset(offset).rw_flags(flags).build()
}

/// A request names at most 1 GiB at a time.
fn len(segment: Segment) -> u32 {
    u32::try_from(segment.len()).unwrap_or(u32::MAX)
}
