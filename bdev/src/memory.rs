//! The memory device ("Malloc disk"): blocks in an arena of ours.
//!
//! Owns one [`Arena`] for its life. Its channels live on different CPUs and touch the same blocks at the same time without a lock, as the ports
//! of a real disk do: all copies are raw ([`Segment`]), and a host that reads what another is writing gets any mixture of the two.
//! Reads need no copy at all: [`Channel::in_place`] names the blocks themselves.

use std::collections::VecDeque;
use std::fmt;

use reactor::{Arena, MemoryError, PageKind, Progress, Segment};

use crate::channel::{Channel, Completion, Operation, OperationKind};
use crate::device::{BdevError, Deallocation, Device, DeviceError, Geometry};
use crate::extent;

/// Operations that one channel holds; more stay with the submitter.
const OUTSTANDING_MAX: usize = 256;

/// Bytes that one poll zeroes: a Write Zeroes can name hundreds of MiB, and a turn is to stay short.
const ZERO_LEN_PER_POLL: usize = 256 << 10;

/// A device whose blocks are memory of this process. Gone when the process ends.
pub struct Memory {
    name: String,
    geometry: Geometry,
    /// Never released: a transfer out of it may be the last thing that knows it.
    arena: Arena,
}

impl Memory {
    /// `block_count` blocks of zeroes, on hugepages if `huge` and there are enough.
    ///
    /// # Errors
    /// If a number is out of range, or there is not that much memory.
    pub fn new(name: &str, block_len: u32, block_count: u64, huge: bool) -> Result<Self, BdevError> {
        let geometry = Geometry {
            // By writing zeroes: pages that transports have registered cannot be given back, since their devices would go on with the old ones.
            deallocation: Deallocation::Zeroes,
            ..extent::geometry(name, block_len, block_count)?
        };
        let len = usize::try_from(u64::from(block_len) * block_count).map_err(|_| BdevError::Field {
            device: name.to_owned(),
            field: "size",
            value: format!("{block_count} blocks"),
            allowed: "what fits into this machine's memory",
        })?;
        let arena = Arena::new(len, huge).map_err(|source| BdevError::Memory { device: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), geometry, arena })
    }

    /// Which pages it got.
    #[must_use]
    pub fn pages(&self) -> PageKind {
        self.arena.pages()
    }

    /// Why it is on ordinary pages although hugepages were asked for.
    #[must_use]
    pub fn why_ordinary(&self) -> Option<&MemoryError> {
        self.arena.why_ordinary()
    }

    /// Its blocks, without what the arena was rounded up by.
    fn blocks(&self) -> Segment {
        let len = u64::from(self.geometry.block_len) * self.geometry.block_count;
        // It fitted into a usize when the arena was made.
        self.arena.segment().part(0, usize::try_from(len).unwrap_or(usize::MAX))
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("name", &self.name).field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl Device for Memory {
    fn name(&self) -> &str {
        &self.name
    }

    fn product(&self) -> &'static str {
        "Malloc disk"
    }

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn memory(&self) -> Option<Segment> {
        Some(self.blocks())
    }

    fn retire(&self) {
        if let Err(error) = self.arena.discard() {
            tracing::warn!(device = self.name, %error, "memory of a deleted device stays with this process");
        }
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        Ok(Box::new(MemoryChannel {
            geometry: self.geometry,
            blocks: self.blocks(),
            finished: VecDeque::with_capacity(OUTSTANDING_MAX),
            zeroing: VecDeque::with_capacity(OUTSTANDING_MAX),
        }))
    }
}

/// One CPU's way in. Reads and writes are done when they are submitted, zeroing piece by piece when it is polled.
struct MemoryChannel {
    geometry: Geometry,
    blocks: Segment,
    finished: VecDeque<Completion>,
    zeroing: VecDeque<Zeroing>,
}

/// A Write Zeroes under way: what is left of it.
struct Zeroing {
    token: u64,
    rest: Segment,
}

impl MemoryChannel {
    fn begin(&mut self, operation: &Operation) -> Result<Option<Zeroing>, DeviceError> {
        let extent = extent::extent(&self.geometry, operation)?;
        let blocks = self.piece(extent)?;
        match (operation.kind, operation.data) {
            (OperationKind::Read, Some(data)) => blocks.copy_to(data),
            (OperationKind::Write { .. }, Some(data)) => data.copy_to(blocks),
            // A completed write is where it will ever be: nothing to flush, nothing to force.
            (OperationKind::Flush, _) => {}
            (OperationKind::WriteZeroes { .. } | OperationKind::Deallocate, _) => {
                return Ok(Some(Zeroing { token: operation.token, rest: blocks }));
            }
            (OperationKind::Read | OperationKind::Write { .. }, None) => return Err(DeviceError::Internal),
            (OperationKind::WriteUncorrectable, _) => return Err(DeviceError::Unsupported),
        }
        Ok(None)
    }

    fn piece(&self, extent: extent::Extent) -> Result<Segment, DeviceError> {
        let offset = usize::try_from(extent.offset).map_err(|_| DeviceError::OutOfRange)?;
        let len = usize::try_from(extent.len).map_err(|_| DeviceError::OutOfRange)?;
        Ok(self.blocks.part(offset, len))
    }

    fn zero_some(&mut self) {
        let mut budget = ZERO_LEN_PER_POLL;
        while budget > 0
            && let Some(zeroing) = self.zeroing.front_mut()
        {
            let len = zeroing.rest.len().min(budget);
            zeroing.rest.part(0, len).zero();
            budget -= len;
            zeroing.rest = zeroing.rest.part(len, zeroing.rest.len() - len);
            if zeroing.rest.is_empty() {
                self.finished.push_back(Completion { token: zeroing.token, result: Ok(()) });
                self.zeroing.pop_front();
            }
        }
    }
}

impl Channel for MemoryChannel {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        while self.outstanding_count() < OUTSTANDING_MAX
            && let Some(operation) = operations.pop_front()
        {
            match self.begin(&operation) {
                Ok(Some(zeroing)) => self.zeroing.push_back(zeroing),
                Ok(None) => self.finished.push_back(Completion { token: operation.token, result: Ok(()) }),
                Err(error) => self.finished.push_back(Completion { token: operation.token, result: Err(error) }),
            }
        }
    }

    fn poll(&mut self, _now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        if self.outstanding_count() == 0 {
            return Progress::Idle;
        }
        self.zero_some();
        completions.extend(self.finished.drain(..));
        Progress::Busy
    }

    fn in_place(&self, start_block: u64, block_count: u64) -> Option<Segment> {
        let extent = extent::range(&self.geometry, start_block, block_count)?;
        self.piece(extent).ok()
    }

    fn outstanding_count(&self) -> usize {
        self.finished.len() + self.zeroing.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroing_is_spread_over_polls() {
        let device = Memory::new("m", 4096, 1024, false).unwrap();
        let mut channel = device.open_channel().unwrap();
        let kind = OperationKind::WriteZeroes { deallocate: true, force_unit_access: false };
        channel.submit(
            0,
            &mut VecDeque::from([Operation { token: 7, host: 0, kind, start_block: 0, block_count: 1024, data: None }]),
        );
        let mut completions = Vec::new();
        let mut poll_count = 0;
        while completions.is_empty() {
            assert_eq!(channel.poll(0, &mut completions), Progress::Busy);
            poll_count += 1;
        }
        assert_eq!(poll_count, (4096 * 1024) / ZERO_LEN_PER_POLL);
        assert_eq!(completions, [Completion { token: 7, result: Ok(()) }]);
    }

    #[test]
    fn in_place_names_the_blocks_themselves() {
        let device = Memory::new("m", 512, 10, false).unwrap();
        let channel = device.open_channel().unwrap();
        let memory = device.memory().unwrap();
        assert_eq!(memory.len(), 5120);
        assert_eq!(channel.in_place(3, 2), Some(memory.part(3 * 512, 1024)));
        assert_eq!(channel.in_place(9, 2), None);
        assert_eq!(channel.in_place(u64::MAX, 1), None);
    }
}
