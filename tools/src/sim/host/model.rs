//! The model of the data: what each block of the namespace may hold, as far as its hosts can know.
//!
//! Shared by all hosts of a world. A host says what it begins and how that ended, and shows what it read. The blocks of all disks are in one row: those of
//! the first come first ([`Extent::nsid`]). The rules:
//!
//! - what was acknowledged is read back until something newer was begun;
//! - of writes to the same block that were under way at the same time either may stay, whosever they are;
//! - a write whose connection died unanswered may take effect until its queue pair is reaped at the target; then one read settles whether it did;
//! - a write that was answered with an error may have taken effect, and does not any more;
//! - a write that was refused has not taken effect, and does not;
//! - nothing of a host takes effect after somebody was told that its commands are aborted;
//! - of all pairs that compare with the same write one replaces it, at most.
//!
//! Each block stands for itself, but where a scenario says that an extent is written by pairs alone: that is seen whole.
//!
//! | part | what it is |
//! |---|---|
//! | here | the namespace, and what hosts say |
//! | [`block`] | one block: what it may hold, and why something else is wrong |
//! | [`stamp`] | the bytes of a block |
//! | [`swaps`] | pairs of Compare and Write |

mod block;
mod stamp;
mod swaps;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

pub use block::Wrong;
use block::{Block, Moment};
use stamp::Generation;
pub use stamp::POISON;

use crate::sim::world::layout::{BLOCK_COUNT, BLOCK_LEN};
pub use swaps::Swap;
use swaps::Swaps;

const BLOCK_BYTES: usize = BLOCK_LEN as usize;

/// Blocks of a namespace, a count from a first. Those of all disks are in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first.
    pub start: u64,
    /// How many, at least one.
    pub count: u16,
}

impl Extent {
    /// In bytes.
    #[must_use]
    pub fn len(self) -> usize {
        usize::from(self.count) * BLOCK_BYTES
    }

    /// Never: an extent has a block.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The same blocks of another disk, counted from the first.
    #[must_use]
    pub fn on_disk(self, disk: u64) -> Self {
        Self { start: self.start_block() + disk * BLOCK_COUNT, ..self }
    }

    /// The namespace: that of the first disk is 1.
    #[must_use]
    pub fn nsid(self) -> u32 {
        u32::try_from(self.start / BLOCK_COUNT + 1).unwrap_or(u32::MAX)
    }

    /// Its first block, as its namespace counts.
    #[must_use]
    pub fn start_block(self) -> u64 {
        self.start % BLOCK_COUNT
    }

    fn blocks(self) -> std::ops::Range<usize> {
        let start = usize::try_from(self.start).unwrap_or(usize::MAX);
        start..start.saturating_add(usize::from(self.count))
    }
}

/// A write that was begun. It ends once.
#[derive(Debug)]
#[must_use = "a write is acknowledged, fails, or is lost"]
pub struct Write {
    /// Where.
    pub extent: Extent,
    generation: Generation,
}

/// A read that was begun.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Where.
    pub extent: Extent,
    began: Moment,
}

/// See the module. Clones are the same model.
#[derive(Clone, Debug)]
pub struct Model(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    blocks: Vec<Block>,
    now: Moment,
    next_generation: Generation,
    tears: bool,
    /// Writes whose connection died: each with the number of its loss.
    lost: Vec<(u64, Write)>,
    next_loss: u64,
    /// Writes that may take effect: whose, and where.
    under_way: BTreeMap<Generation, (u32, Extent)>,
    swaps: Swaps,
    tally: DataTally,
}

/// What hosts did to the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataTally {
    /// Writes that were acknowledged.
    pub acknowledged_count: u64,
    /// Blocks that were read and looked at.
    pub read_block_count: u64,
    /// Writes that were not answered.
    pub lost_count: u64,
    /// Of them, those of which a read can settle what became of them.
    pub settled_count: u64,
}

impl Model {
    /// `block_count` blocks of zeroes. `tears`: a read may find a mixture of what is written meanwhile, as on a device whose memory is read in place.
    #[must_use]
    pub fn new(block_count: u64, tears: bool) -> Self {
        let blocks = (0..block_count).map(|_| Block::new()).collect();
        let tally = DataTally::default();
        Self(Rc::new(RefCell::new(State {
            blocks,
            now: 0,
            next_generation: 1,
            tears,
            lost: Vec::new(),
            next_loss: 0,
            under_way: BTreeMap::new(),
            swaps: Swaps::default(),
            tally,
        })))
    }

    /// A host is about to send a write; `bytes` become its data.
    pub fn begin_write(&self, host: u32, extent: Extent, bytes: &mut [u8]) -> Write {
        let write = self.begin(host, extent, false);
        for (block, bytes) in (extent.start..).zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
            stamp::stamp(block, write.generation, bytes);
        }
        write
    }

    /// The same, where zeroes are written.
    pub fn begin_write_zeroes(&self, host: u32, extent: Extent) -> Write {
        self.begin(host, extent, true)
    }

    fn begin(&self, host: u32, extent: Extent, is_zeroes: bool) -> Write {
        let mut state = self.0.borrow_mut();
        let generation = state.next_generation;
        state.next_generation += 1;
        state.under_way.insert(generation, (host, extent));
        state.each(extent, |block, now| block.begin_write(generation, is_zeroes, now));
        Write { extent, generation }
    }

    /// It was answered with success.
    #[expect(clippy::needless_pass_by_value, reason = "a write ends once")]
    pub fn acknowledge(&self, write: Write) {
        let mut state = self.0.borrow_mut();
        state.tally.acknowledged_count += 1;
        state.under_way.remove(&write.generation);
        state.each(write.extent, |block, now| block.acknowledge(write.generation, now));
    }

    /// It was answered with an error, or never sent.
    #[expect(clippy::needless_pass_by_value, reason = "a write ends once")]
    pub fn fail(&self, write: Write) {
        self.0.borrow_mut().end(&write);
    }

    /// It was answered with an error that says that nothing was done.
    ///
    /// # Errors
    /// If it was seen to have been done.
    #[expect(clippy::needless_pass_by_value, reason = "a write ends once")]
    pub fn refuse(&self, write: Write) -> Result<(), String> {
        let mut state = self.0.borrow_mut();
        state.under_way.remove(&write.generation);
        let mut wrong = None;
        state.each(write.extent, |block, _| wrong = wrong.or(block.refuse(write.generation).err()));
        let Write { extent, generation } = write;
        wrong.map_or(Ok(()), |wrong| Err(format!("blocks from {} on, write {generation}: {wrong}", extent.start)))
    }

    /// Nothing that this host has under way on the namespace takes effect from here on.
    pub fn forbid(&self, host: u32, nsid: u32) {
        let mut state = self.0.borrow_mut();
        let meant = state.under_way.iter().filter(|(_, (of, extent))| *of == host && extent.nsid() == nsid);
        let meant: Vec<Write> =
            meant.map(|(generation, (_, extent))| Write { extent: *extent, generation: *generation }).collect();
        for write in meant {
            state.each(write.extent, |block, now| {
                block.end(write.generation, now);
            });
        }
    }

    /// Its connection died, and it was not answered.
    pub fn lose(&self, write: Write) {
        let mut state = self.0.borrow_mut();
        state.tally.lost_count += 1;
        let loss = state.next_loss;
        state.next_loss += 1;
        state.lost.push((loss, write));
    }

    /// The number that the next lost write will have: writes below it were lost before now.
    #[must_use]
    pub fn next_loss(&self) -> u64 {
        self.0.borrow().next_loss
    }

    /// Lost writes that may take effect yet.
    #[must_use]
    pub fn lost_count(&self) -> usize {
        self.0.borrow().lost.len()
    }

    /// Lost writes below this number have no queue pair at the target any more: they take no effect from here on.
    pub fn settle_lost(&self, below: u64) {
        let mut state = self.0.borrow_mut();
        let (settled, lost) = std::mem::take(&mut state.lost).into_iter().partition(|(loss, _)| *loss < below);
        state.lost = lost;
        let settled: Vec<(u64, Write)> = settled;
        for (_, write) in settled {
            state.tally.settled_count += 1;
            state.end(&write);
        }
    }

    /// A host is about to send a read.
    #[must_use]
    pub fn begin_read(&self, extent: Extent) -> Read {
        Read { extent, began: self.0.borrow_mut().tick() }
    }

    /// It was answered with success, and `bytes` are what its buffer holds.
    ///
    /// # Errors
    /// What is wrong with the first block that is, in words.
    pub fn end_read(&self, read: Read, bytes: &[u8]) -> Result<(), String> {
        self.check_read(read, bytes).map_err(|(_, words)| words)
    }

    fn check_read(&self, read: Read, bytes: &[u8]) -> Result<(), (Wrong, String)> {
        let mut state = self.0.borrow_mut();
        let (now, tears) = (state.tick(), state.tears);
        state.tally.read_block_count += u64::from(read.extent.count);
        state.swaps.check_whole(read.extent, bytes)?;
        for (index, bytes) in read.extent.blocks().zip(bytes.chunks_exact(BLOCK_BYTES)) {
            let content = stamp::content(bytes);
            let Some(block) = state.blocks.get_mut(index) else { continue };
            let expected = block.expected();
            block.end_read(index as u64, content, read.began, now, tears).map_err(|wrong| {
                (wrong, format!("block {index}: {wrong}: read {content}, and it should be {expected}"))
            })?;
        }
        Ok(())
    }

    /// What hosts did so far.
    #[must_use]
    pub fn tally(&self) -> DataTally {
        self.0.borrow().tally
    }
}

impl State {
    fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    fn each(&mut self, extent: Extent, mut change: impl FnMut(&mut Block, Moment)) {
        let now = self.tick();
        for block in self.blocks.iter_mut().take(extent.blocks().end).skip(extent.blocks().start) {
            change(block, now);
        }
    }

    fn end(&mut self, write: &Write) {
        self.under_way.remove(&write.generation);
        self.each(write.extent, |block, now| {
            block.end(write.generation, now);
        });
    }
}
