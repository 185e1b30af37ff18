//! Locks on ranges of a device's blocks, over all CPUs: what makes a fused Compare and Write one operation [NVMe Base 2.0, 3.4.2].
//!
//! No I/O and no message is here, only who may do what when. Each device has a *home*, one of the polling CPUs, whose [`Home`] grants its locks; each polling
//! CPU has a [`Gate`], where its commands claim the blocks that they will touch. `poll_group/locking.rs` carries the messages.
//!
//! ```text
//! asker           home            every CPU's gate
//!   Lock    ──▶                                        it waits behind every overlapping lock that was asked for before
//!                   Fence   ──▶                        new commands on these blocks are held back from here on
//!                           ◀──   Fenced               once each, when those that were there before are over
//!           ◀──     Granted                            compares and writes, nobody else is on these blocks
//!   Unlock  ──▶                                        also if it has no use for the lock any more
//!                   Lift    ──▶                        what was held back goes on, in order
//! ```
//!
//! **Nobody waits in a ring.** A lock waits for overlapping locks that were asked for before it at its home, and for commands that were at a gate before
//! its fence. A held command waits only for fences that were at its gate before it, and from then on the fences that come later wait for it. All gates
//! see a device's fences in one order, its home's, so that every wait leads to something older. The holder of a lock waits for a buffer
//! and the device: a command that has a buffer has its claim, and so waits for no lock. Nothing can starve either: locks are granted in the order in
//! which they were asked for, and a held command is ahead of every later fence.
//!
//! **The end of a queue or of a CPU.** A queue that ends does not wait for the locks that it has asked for: commands with blocks may wait for what it gives
//! back at its very end, buffers above all. A lock that comes for a queue that drains, or is gone, is given back by its CPU. What is dropped gives
//! its claim back at once, and what is being pushed when the transport is done with it, so that locks do not wait for the ends of queues either.
//! Whoever has asked is always granted, and always unlocks. A CPU stays while it has asked, while it is the home of a lock, or has a fence at its gate. So
//! no message of this protocol can find its receiver gone: CPUs begin to leave when all qpairs are closed, and then nobody asks any more.
//!
//! SPDK's `bdev_lock_lba_range` does the same walk over its channels, but lets reads pass; here a read never shows half of a fused write.

mod gate;
mod home;

pub(crate) use gate::{Claim, Gate};
pub(crate) use home::{Home, Order};

use reactor::{Cpu, Handle};

use crate::Qpair;
use crate::transport::Slot;

/// Blocks of a device, from `start` up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Span {
    /// The whole device, for commands whose blocks are not known when they begin.
    pub(crate) const ALL: Self = Self { start: 0, end: u64::MAX };

    /// Whether they have a block in common.
    pub(crate) const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// Names a lock in messages: who asked for it. The number tells two of one slot apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockName {
    pub(crate) cpu: Cpu,
    pub(crate) qpair: Handle<Qpair>,
    pub(crate) slot: Slot,
    pub(crate) number: u32,
}

#[cfg(test)]
mod tests;
