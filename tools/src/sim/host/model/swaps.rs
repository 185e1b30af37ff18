//! Pairs of Compare and Write: each says which write it replaces.
//!
//! The numbers of writes are never used again. So a write is what a block holds once, and of all pairs that compared with it one can have replaced it:
//! that is what makes a pair one operation. The data itself is held against the model as that of any write.

use std::collections::BTreeMap;

use super::block::Wrong;
use super::stamp::{self, Content, Generation};
use super::{BLOCK_BYTES, Extent, Model, Write};

/// A pair that was begun. Its write ends once, as any.
#[derive(Debug)]
#[must_use = "a pair is acknowledged, refused, or lost"]
pub struct Swap {
    /// Its write.
    pub write: Write,
    /// What it compares with, by its first block.
    old: Generation,
}

/// What is known of pairs.
#[derive(Debug, Default)]
pub(super) struct Swaps {
    /// By block and the write that was replaced: the one that did.
    replaced: BTreeMap<(u64, Generation), Generation>,
    /// Extents that are written by pairs alone.
    whole: Vec<Extent>,
}

impl Swaps {
    /// What was read of an extent that is written by pairs alone is all of one write.
    pub(super) fn check_whole(&self, extent: Extent, bytes: &[u8]) -> Result<(), (Wrong, String)> {
        if !self.whole.contains(&extent) {
            return Ok(());
        }
        let generations: Vec<Generation> = bytes.chunks_exact(BLOCK_BYTES).map(generation_of).collect();
        if generations.windows(2).all(|two| two[0] == two[1]) {
            return Ok(());
        }
        Err((
            Wrong::Torn,
            format!("blocks from {} on are parts of several pairs: writes {generations:?}", extent.start),
        ))
    }
}

impl Model {
    /// This extent is written by pairs of its size alone, so that each is seen whole. At rest blocks are looked at one by one.
    pub fn declare_whole(&self, extent: Extent) {
        self.0.borrow_mut().swaps.whole.push(extent);
    }

    /// Whether it was declared so.
    #[must_use]
    pub fn is_whole(&self, extent: Extent) -> bool {
        self.0.borrow().swaps.whole.contains(&extent)
    }

    /// A host is about to send a pair that compares with `old`; `bytes` become the data of its write.
    pub fn begin_swap(&self, host: u32, extent: Extent, old: &[u8], bytes: &mut [u8]) -> Swap {
        let old = old.get(..BLOCK_BYTES).map_or(0, generation_of);
        Swap { write: self.begin_write(host, extent, bytes), old }
    }

    /// Both of its commands were answered with success.
    ///
    /// # Errors
    /// If another has replaced the same write.
    pub fn acknowledge_swap(&self, swap: Swap) -> Result<(), String> {
        let (start, new) = (swap.write.extent.start, swap.write.generation);
        let earlier = self.0.borrow_mut().swaps.replaced.insert((start, swap.old), new);
        self.acknowledge(swap.write);
        match earlier {
            None => Ok(()),
            Some(other) => {
                Err(format!("block {start}: writes {other} and {new} have both replaced write {}", swap.old))
            }
        }
    }
}

/// Which write a block's bytes are of; what is none, or only a part, is 0.
fn generation_of(bytes: &[u8]) -> Generation {
    match stamp::content(bytes) {
        Content::Stamped { generation, .. } => generation,
        Content::Zeroes | Content::Torn { .. } | Content::Poison => 0,
    }
}
