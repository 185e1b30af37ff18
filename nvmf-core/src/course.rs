//! Commands that are worked off piece by piece: what comes next after each piece.
//!
//! A [`Course`] does nothing itself. The walk asks it for a [`Step`], does it, and asks again when the step has ended well; it lives in the request's
//! slot. One request has at most one step under way, in one buffer, whatever the command's size, so that none starves others and memory is bounded:
//!
//! | task | buffer |
//! |---|---|
//! | verify | blocks |
//! | compare | the host's data in one half, blocks in the other; all of it for blocks where the data is in the capsule |
//! | deallocate | the list of ranges |
//! | copy | the list of ranges in the first page, blocks behind it |
//!
//! Halves and pages keep every alignment that a device may ask for, since buffers are aligned and long enough (`limits`).

use bdev::{Geometry, OperationKind};
use reactor::Segment;

use crate::command::{COPY_RANGE_LEN, DATASET_RANGE_LEN};
use crate::limits::{COPY_BLOCK_COUNT_MAX, COPY_RANGE_BLOCK_COUNT_MAX, PAGE_LEN, PIECE_LEN_MAX};
use crate::lock::Span;
use crate::status::Status;

/// A command under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Course {
    task: Task,
    stage: Stage,
    block_len: u32,
    /// Of the namespace.
    block_count: u64,
    operation_block_count_max: u64,
}

/// What it is to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Blocks can be read.
    Verify { blocks: Blocks },
    /// Blocks are what the host has. `done_len` bytes are.
    Compare { blocks: Blocks, done_len: u32, in_capsule: bool },
    /// The blocks of a list may go.
    Deallocate { list: List },
    /// The blocks of a list are at `to` as well.
    Copy { list: List, to: u64, force_unit_access: bool },
}

/// Blocks that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    start: u64,
    count: u64,
}

/// A list of ranges, in the buffer once it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List {
    entry_count: u16,
    /// The next to be taken.
    next: u16,
    /// What is left of the one before.
    blocks: Blocks,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Wants what the host has: a list, or the next piece of data.
    Data,
    /// The list is here, and has not been looked at.
    Check,
    /// Wants the next piece of blocks.
    Blocks,
    /// Has this many blocks, to be compared or written.
    Loaded(u32),
}

/// A part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bring the command's data from `skip` on into the buffer.
    Pull {
        /// Bytes of the command's data before.
        skip: u32,
        /// Where to.
        into: Part,
    },
    /// A block operation.
    Operate {
        /// What.
        kind: OperationKind,
        /// First block.
        start_block: u64,
        /// Blocks.
        block_count: u64,
        /// Of the buffer.
        data: Option<Part>,
    },
    /// Are these the same? If not, it ends with COMPARE FAILURE.
    Compare {
        /// What the host has.
        data: HostData,
        /// What was read.
        blocks: Part,
    },
    /// It is over.
    End(Status),
}

/// Where the host's data for a comparison is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostData {
    /// In the buffer.
    Buffer(Part),
    /// In the capsule, this far into the command's data.
    Capsule {
        /// Bytes of the command's data before.
        skip: u32,
    },
}

impl Task {
    pub(crate) fn verify(start_block: u64, block_count: u32) -> Self {
        Self::Verify { blocks: Blocks { start: start_block, count: block_count.into() } }
    }

    pub(crate) fn compare(start_block: u64, block_count: u32, in_capsule: bool) -> Self {
        Self::Compare { blocks: Blocks { start: start_block, count: block_count.into() }, done_len: 0, in_capsule }
    }

    pub(crate) fn deallocate(entry_count: u16) -> Self {
        Self::Deallocate { list: List::new(entry_count) }
    }

    pub(crate) fn copy(to: u64, entry_count: u16, force_unit_access: bool) -> Self {
        Self::Copy { list: List::new(entry_count), to, force_unit_access }
    }
}

impl Course {
    pub(crate) fn new(task: Task, geometry: &Geometry) -> Self {
        let stage = match task {
            Task::Verify { .. } | Task::Compare { in_capsule: true, .. } => Stage::Blocks,
            Task::Compare { .. } | Task::Deallocate { .. } | Task::Copy { .. } => Stage::Data,
        };
        Self {
            task,
            stage,
            block_len: geometry.block_len,
            block_count: geometry.block_count,
            operation_block_count_max: geometry.operation_block_count_max,
        }
    }

    /// The blocks that are left of it. A list is not known before it is here, so it may be of any.
    pub(crate) fn span(&self) -> Span {
        match self.task {
            Task::Verify { blocks } | Task::Compare { blocks, .. } => {
                Span { start: blocks.start, end: blocks.start + blocks.count }
            }
            Task::Deallocate { .. } | Task::Copy { .. } => Span::ALL,
        }
    }

    /// Bytes of buffer that it works well with: all of its data, or as much as there is of the largest.
    pub(crate) fn buffer_len(&self, transfer_len_max: u32) -> u32 {
        let blocks_len = |blocks: Blocks| {
            u32::try_from(blocks.count.saturating_mul(self.block_len.into())).map_or(transfer_len_max, |len| len)
        };
        let len = match self.task {
            Task::Verify { blocks } | Task::Compare { blocks, in_capsule: true, .. } => blocks_len(blocks),
            Task::Compare { blocks, .. } => blocks_len(blocks).saturating_mul(2),
            Task::Deallocate { list } => u32::from(list.entry_count) * DATASET_RANGE_LEN,
            Task::Copy { .. } => transfer_len_max,
        };
        len.min(transfer_len_max)
    }

    /// The length of the list that it begins with, if it does.
    pub(crate) fn list_len(&self) -> Option<u32> {
        match self.task {
            Task::Verify { .. } | Task::Compare { .. } => None,
            Task::Deallocate { list } => Some(u32::from(list.entry_count) * DATASET_RANGE_LEN),
            Task::Copy { list, .. } => Some(u32::from(list.entry_count) * COPY_RANGE_LEN),
        }
    }

    /// The list came in the capsule, and is in the buffer now.
    pub(crate) fn has_list(&mut self) {
        self.stage = Stage::Check;
    }

    /// DW0 of the response, if it fails now: the lowest source range of a copy that was not copied whole [NVM Command Set 1.0, 3.2.2].
    pub(crate) fn failed_result(&self) -> u64 {
        match self.task {
            Task::Copy { list, .. } => list.next.saturating_sub(1).into(),
            Task::Verify { .. } | Task::Compare { .. } | Task::Deallocate { .. } => 0,
        }
    }

    /// What comes next, the step before having ended well.
    pub(crate) fn next(&mut self, buffer: Segment) -> Step {
        let room = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        match self.task {
            Task::Verify { blocks } => self.verify(blocks, room),
            Task::Compare { blocks, done_len, in_capsule } => self.compare(blocks, done_len, in_capsule, room),
            Task::Deallocate { list } => self.deallocate(list, buffer),
            Task::Copy { list, to, force_unit_access } => self.copy(list, to, force_unit_access, buffer),
        }
    }

    fn verify(&mut self, blocks: Blocks, room: u32) -> Step {
        let (start, count, rest) = self.piece(blocks, room);
        if count == 0 {
            return Step::End(Status::SUCCESS);
        }
        self.task = Task::Verify { blocks: rest };
        read(start, count, Part { offset: 0, len: count * self.block_len })
    }

    fn compare(&mut self, blocks: Blocks, done_len: u32, in_capsule: bool, room: u32) -> Step {
        let half = if in_capsule { 0 } else { room / 2 };
        let (start, count, rest) = self.piece(blocks, room - half);
        let len = count * self.block_len;
        let loaded = Part { offset: half, len };
        match self.stage {
            _ if count == 0 => Step::End(Status::SUCCESS),
            Stage::Data | Stage::Check => {
                self.stage = Stage::Blocks;
                Step::Pull { skip: done_len, into: Part { offset: 0, len } }
            }
            Stage::Blocks => {
                self.stage = Stage::Loaded(count);
                read(start, count, loaded)
            }
            Stage::Loaded(_) => {
                self.stage = if in_capsule { Stage::Blocks } else { Stage::Data };
                self.task = Task::Compare { blocks: rest, done_len: done_len + len, in_capsule };
                let data = if in_capsule {
                    HostData::Capsule { skip: done_len }
                } else {
                    HostData::Buffer(Part { offset: 0, len })
                };
                Step::Compare { data, blocks: loaded }
            }
        }
    }

    fn deallocate(&mut self, mut list: List, buffer: Segment) -> Step {
        match self.stage {
            Stage::Data => return self.pull_list(),
            Stage::Check => {
                let is_inside = (0..list.entry_count).all(|index| self.contains(dataset_range(buffer, index)));
                if !is_inside {
                    return Step::End(Status::LBA_OUT_OF_RANGE);
                }
                self.stage = Stage::Blocks;
            }
            Stage::Blocks | Stage::Loaded(_) => {}
        }
        // A range of no blocks is none.
        while list.blocks.count == 0 && list.next < list.entry_count {
            list.blocks = dataset_range(buffer, list.next);
            list.next += 1;
        }
        let blocks = list.blocks;
        if blocks.count == 0 {
            return Step::End(Status::SUCCESS);
        }
        let block_count = blocks.count.min(self.operation_block_count_max);
        list.blocks = Blocks { start: blocks.start + block_count, count: blocks.count - block_count };
        self.task = Task::Deallocate { list };
        Step::Operate { kind: OperationKind::Deallocate, start_block: blocks.start, block_count, data: None }
    }

    fn copy(&mut self, mut list: List, to: u64, force_unit_access: bool, buffer: Segment) -> Step {
        match self.stage {
            Stage::Data => return self.pull_list(),
            Stage::Check => {
                if let Err(status) = self.check_copy(list, to, buffer) {
                    return Step::End(status);
                }
                self.stage = Stage::Blocks;
            }
            Stage::Blocks => {}
            Stage::Loaded(count) => {
                self.stage = Stage::Blocks;
                self.task = Task::Copy { list, to: to + u64::from(count), force_unit_access };
                let data = Some(Part { offset: PAGE_LEN, len: count * self.block_len });
                let kind = OperationKind::Write { force_unit_access };
                return Step::Operate { kind, start_block: to, block_count: count.into(), data };
            }
        }
        if list.blocks.count == 0 && list.next < list.entry_count {
            list.blocks = copy_range(buffer, list.next);
            list.next += 1;
        }
        let room = u32::try_from(buffer.len()).unwrap_or(u32::MAX) - PAGE_LEN;
        let (start, count, rest) = self.piece(list.blocks, room);
        if count == 0 {
            return Step::End(Status::SUCCESS);
        }
        list.blocks = rest;
        self.task = Task::Copy { list, to, force_unit_access };
        self.stage = Stage::Loaded(count);
        read(start, count, Part { offset: PAGE_LEN, len: count * self.block_len })
    }

    fn pull_list(&mut self) -> Step {
        self.stage = Stage::Check;
        Step::Pull { skip: 0, into: Part { offset: 0, len: self.list_len().unwrap_or(0) } }
    }

    /// All of it, before anything is copied: MSSRL and MCL, then the ranges themselves.
    fn check_copy(&self, list: List, to: u64, buffer: Segment) -> Result<(), Status> {
        let ranges = || (0..list.entry_count).map(|index| copy_range(buffer, index));
        if ranges().any(|range| range.count > COPY_RANGE_BLOCK_COUNT_MAX.into()) {
            return Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED);
        }
        let count = ranges().map(|range| range.count).sum();
        if count > COPY_BLOCK_COUNT_MAX.into() {
            return Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED);
        }
        let destination = Blocks { start: to, count };
        if !self.contains(destination) || !ranges().all(|range| self.contains(range)) {
            return Err(Status::LBA_OUT_OF_RANGE);
        }
        // Blocks that are source and destination have no defined contents afterwards. Later revisions of the command set have this code for it.
        if ranges().any(|range| range.start < to + count && to < range.start + range.count) {
            return Err(Status::OVERLAPPING_IO_RANGE);
        }
        Ok(())
    }

    fn contains(&self, blocks: Blocks) -> bool {
        blocks.start.checked_add(blocks.count).is_some_and(|end| end <= self.block_count)
    }

    /// As much of `blocks` as is done at a time with `room` bytes, and what is left then.
    fn piece(&self, blocks: Blocks, room: u32) -> (u64, u32, Blocks) {
        let most = u64::from(room.min(PIECE_LEN_MAX) / self.block_len).min(self.operation_block_count_max);
        let count = blocks.count.min(most);
        let rest = Blocks { start: blocks.start + count, count: blocks.count - count };
        // At most `room`.
        (blocks.start, u32::try_from(count).unwrap_or(0), rest)
    }
}

impl List {
    fn new(entry_count: u16) -> Self {
        Self { entry_count, next: 0, blocks: Blocks { start: 0, count: 0 } }
    }
}

fn read(start_block: u64, count: u32, data: Part) -> Step {
    Step::Operate { kind: OperationKind::Read, start_block, block_count: count.into(), data: Some(data) }
}

/// Context attributes, length in blocks, starting LBA [NVM Command Set 1.0, figure 43].
fn dataset_range(list: Segment, index: u16) -> Blocks {
    let mut bytes = [0; DATASET_RANGE_LEN as usize];
    list.read(usize::from(index) * bytes.len(), &mut bytes);
    let [_, _, _, _, a, b, c, d, start @ ..] = bytes;
    Blocks { start: u64::from_le_bytes(start), count: u32::from_le_bytes([a, b, c, d]).into() }
}

/// Starting LBA at byte 8, number of blocks, zero-based, at byte 16 [NVM Command Set 1.0, figure 37].
fn copy_range(list: Segment, index: u16) -> Blocks {
    let mut bytes = [0; COPY_RANGE_LEN as usize];
    list.read(usize::from(index) * bytes.len(), &mut bytes);
    let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h, low, high, ..] = bytes;
    Blocks {
        start: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        count: u64::from(u16::from_le_bytes([low, high])) + 1,
    }
}

#[cfg(test)]
mod tests;
