//! A drive's channel: io_uring's command passthrough, which hands NVMe commands to the kernel's driver and statuses back.
//!
//! Each operation is a [`Request`] in a slab, and has at most one command with the kernel at a time; the entry's user data is the request's handle. One
//! `io_uring_enter` for each batch of submissions; completions are read from the shared ring without a system call. The ring's own descriptor is readable
//! as long as a completion is in it. A command that is with the drive cannot be taken back, so nothing can be cancelled.
//!
//! # Invariants of the unsafe code
//! 1. Memory: a command names a [`Segment`], which is always inside a live mapping; the submitter keeps it for this operation until the
//!    completion has been handed out ([`crate::Operation::data`]), and the kernel is done with it when its completion entry is there.
//!    Zeroes come from the arena that all devices share, which is never unmapped.
//! 2. Ranges: each request's slot has a place of its own in the channel's arena. That is unmapped only when the channel has no request.
//! 3. Descriptor: entries name the registered file 0, which the ring itself keeps open.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::types::Fixed;
use io_uring::{IoUring, cqueue, opcode, squeue};
use reactor::{Arena, Handle, Progress, Rest, Segment, Slab};

use super::Shared;
use super::command::{self, Command, RANGE_LEN};
use super::request::{Next, Request};
use crate::channel::{Channel, Completion, Operation};
use crate::device::Geometry;
use crate::extent;
use crate::size::Size;
use crate::uring;

/// Passthrough needs large entries in both queues.
pub(super) type Ring = IoUring<squeue::Entry128, cqueue::Entry32>;

/// The one registered file.
const FILE: Fixed = Fixed(0);

/// `NVME_URING_CMD_IO`: an I/O command of [`command::LEN`] bytes, read and written.
#[expect(clippy::cast_possible_truncation, reason = "72 bytes")]
const URING_COMMAND_IO: u32 = 3 << 30 | (command::LEN as u32) << 16 | 0x4E80;

/// Bytes for a command in an entry.
const ENTRY_COMMAND_LEN: usize = 80;

/// One CPU's way into a drive.
pub(super) struct RingChannel {
    ring: Ring,
    requests: Slab<Request>,
    geometry: Geometry,
    size: Size,
    /// Dataset Management's ranges, one for each slot. `None` only while it is dropped.
    ranges: Option<Arena>,
    /// Ended without the kernel.
    finished: VecDeque<Completion>,
    /// Whether a failing enter has been reported.
    enter_failed: bool,
    shared: Arc<Shared>,
}

impl RingChannel {
    pub(super) fn new(shared: Arc<Shared>, geometry: Geometry, size: Size, queue_depth: u32) -> io::Result<Self> {
        // A request has one entry at most, so neither queue can overflow.
        let ring = Ring::builder().build(queue_depth)?;
        ring.submitter().register_files(&[shared.generic.file.as_raw_fd()])?;
        let ranges = Arena::new(queue_depth as usize * RANGE_LEN, false).map_err(io::Error::other)?;
        Ok(Self {
            ring,
            requests: Slab::new(queue_depth as usize),
            geometry,
            size,
            ranges: Some(ranges),
            finished: VecDeque::with_capacity(queue_depth as usize),
            enter_failed: false,
            shared,
        })
    }

    /// Queues the next command of a request.
    fn queue(&mut self, handle: Handle<Request>) {
        let zeroes = self.shared.zeroes;
        let (Some(request), Some(ranges)) = (self.requests.look(handle), &self.ranges) else {
            return;
        };
        let command = request.command(&self.shared.commands, zeroes.map_or(0, Segment::len));
        let memory = match command {
            Command::Read { into: memory, .. } | Command::Write { from: memory, .. } => Some(memory),
            Command::WriteOfZeroes { count, .. } => {
                zeroes.map(|zeroes| zeroes.part(0, count as usize * self.shared.commands.block_len as usize))
            }
            Command::Deallocate { start, count } => {
                let place = ranges.segment().part(handle.index() * RANGE_LEN, RANGE_LEN);
                place.write(0, &command::range(start, count));
                Some(place)
            }
            Command::WriteZeroes { .. } | Command::WriteUncorrectable { .. } | Command::Flush => None,
        };
        let mut bytes = [0; ENTRY_COMMAND_LEN];
        bytes[..command::LEN].copy_from_slice(&command::encode(self.shared.commands.nsid, command, memory));
        let entry = opcode::UringCmd80::new(FILE, URING_COMMAND_IO).cmd(bytes).build().user_data(handle.to_bits());
        // SAFETY: what the command points at outlives it, by invariants 1 and 2.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        assert!(pushed.is_ok(), "as many entries as requests");
    }

    fn enter(&mut self) {
        uring::enter(&mut self.ring, &self.shared.generic.path, &mut self.enter_failed);
    }
}

impl Channel for RingChannel {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        self.geometry.block_count = self.size.now();
        while self.outstanding_count() < self.requests.capacity()
            && let Some(operation) = operations.pop_front()
        {
            if let Err(error) = extent::extent(&self.geometry, &operation) {
                self.finished.push_back(Completion { token: operation.token, result: Err(error) });
                continue;
            }
            let Ok(handle) = self.requests.insert(Request::new(&operation)) else {
                unreachable!("fewer requests than slots");
            };
            self.queue(handle);
        }
        self.enter();
    }

    fn poll(&mut self, _now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let had_len = completions.len();
        completions.extend(self.finished.drain(..));
        let zeroes_len = self.shared.zeroes.map_or(0, Segment::len);
        let mut again = false;
        loop {
            let Some(entry) = self.ring.completion().next() else { break };
            let handle = Handle::from_bits(entry.user_data());
            let Some(request) = self.requests.look_mut(handle) else {
                continue;
            };
            match request.advance(entry.result(), &self.shared.commands, zeroes_len) {
                Next::Command => {
                    self.queue(handle);
                    again = true;
                }
                Next::Done(result) => {
                    completions.push(Completion { token: request.token, result });
                    self.requests.remove(handle);
                }
            }
        }
        self.enter();
        Progress::busy_if(again || completions.len() > had_len)
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
            let path = self.shared.generic.path.display();
            tracing::error!(%path, count, "a channel is closed with operations in the kernel");
        } else if let Some(ranges) = self.ranges.take() {
            // SAFETY: invariant 2: without a request no command names a place in it.
            unsafe { ranges.release() };
        }
    }
}
