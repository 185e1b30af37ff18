//! What runs above the queues: one workload per polling CPU.
//!
//! A workload is told what there is to work on, is polled once per turn to submit, and is given the ends of its commands in batches. All
//! calls come from its CPU's thread, none may block, and none is made through a pointer to a function.

use nvmf_core::host::{Attached, Discovered, News, ReservationRequest};
use nvmf_core::status::Status;
use reactor::{Progress, Rest, Segment};

use crate::host::error::HostFailure;
use crate::host::io_queues::IoQueues;
use crate::verbs::Port;

/// What the commands of one CPU are for.
pub trait Workload: 'static {
    /// The controller is ready and this CPU's I/O queues are connected. Called once for each association, before the first [`Self::poll`].
    fn ready(&mut self, start: Start<'_>);

    /// Instead of [`Self::ready`], where the subsystem is the discovery subsystem: its log. It is done then.
    fn discovered(&mut self, found: &[Discovered]) {
        let _ = found;
    }

    /// One round: submits what there is room for. Called once per turn.
    fn poll<Q: Port>(&mut self, now_ns: u64, io: &mut IoQueues<'_, Q>) -> Progress;

    /// These commands have ended: their buffers are this CPU's own again. `now_ns` is the time of the turn that found them.
    fn completed(&mut self, now_ns: u64, ended: &[Ended]);

    /// The controller told of an event, and this is what has become known since. Called on the first CPU alone.
    fn news(&mut self, news: &News) {
        let _ = news;
    }

    /// Whether it wants nothing more. Asked once per turn; the controller is let go when all CPUs' workloads want nothing more.
    fn is_done(&self) -> bool;

    /// It found nothing to do: how long its CPU may sleep, unless commands of its own end before. What else it waits for does not end the sleep. The default
    /// has to be polled.
    fn rest(&mut self, now_ns: u64) -> Rest {
        let _ = now_ns;
        Rest::Poll
    }

    /// The connection came to nothing, or broke: commands that have not ended will not. Called at most once for each association, also before
    /// [`Self::ready`]; no other call but [`Self::apart`] follows.
    fn failed(&mut self, failure: &HostFailure);

    /// Of a host that stays ([`crate::host::HostOptions::stays`]): nothing of the association is left, however it ended, and another can begin.
    fn apart(&mut self, now_ns: u64) {
        let _ = now_ns;
    }
}

/// What a workload is to work on.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The controller and its namespaces.
    pub attached: &'a Attached,
    /// Which polling CPU of the mesh this is.
    pub cpu: u16,
    /// I/O queues of this CPU.
    pub queue_count: u16,
    /// Commands that each of them takes at a time.
    pub queue_depth: u16,
    /// Memory for data: the target can read and write all of it.
    pub memory: Segment,
    /// The turn's time.
    pub now_ns: u64,
}

/// A command's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// On which of this CPU's queues.
    pub queue: u16,
    /// What [`IoQueues::submit`] was given.
    pub tag: u64,
    /// How it ended.
    pub status: Status,
}

/// An I/O command.
#[derive(Clone, Copy, Debug)]
pub enum IoCommand {
    /// Reads `block_count` blocks (at least one) into all of `buffer`.
    Read {
        /// Namespace.
        nsid: u32,
        /// First block.
        slba: u64,
        /// How many blocks, a count.
        block_count: u32,
        /// A part of the CPU's data memory, as long as the blocks.
        buffer: Segment,
    },
    /// Writes `block_count` blocks (at least one) from all of `buffer`.
    Write {
        /// Namespace.
        nsid: u32,
        /// First block.
        slba: u64,
        /// How many blocks, a count.
        block_count: u32,
        /// Ends only when the blocks are durable.
        force_unit_access: bool,
        /// A part of the CPU's data memory, as long as the blocks.
        buffer: Segment,
    },
    /// Makes what was written durable.
    Flush {
        /// Namespace.
        nsid: u32,
    },
    /// Changes or reports reservations.
    Reservation {
        /// Namespace.
        nsid: u32,
        /// What.
        request: ReservationRequest,
        /// A part of the CPU's data memory: as many keys as go with it, or room for the report, a multiple of 4 bytes.
        buffer: Segment,
    },
    /// Writes zeroes without moving data.
    WriteZeroes {
        /// Namespace.
        nsid: u32,
        /// First block.
        slba: u64,
        /// How many blocks, a count.
        block_count: u32,
    },
    /// Has reads of blocks fail until they are written.
    WriteUncorrectable {
        /// Namespace.
        nsid: u32,
        /// First block.
        slba: u64,
        /// How many blocks, a count.
        block_count: u32,
    },
}
