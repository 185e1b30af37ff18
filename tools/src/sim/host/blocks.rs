//! Which blocks are whose: some are every host's, each host has some of its own.

use reactor::Choices;

use super::model::Extent;
use crate::sim::world::layout::BLOCK_COUNT;

/// Blocks that all hosts use: the first of the namespace.
const SHARED_BLOCK_COUNT: u64 = 16;
/// Blocks of one host alone. More hosts than there is room for share them.
const OWN_BLOCK_COUNT: u64 = 48;

/// The first of a host's own blocks.
#[must_use]
pub fn first_own_block(host: u32) -> u64 {
    let places = (BLOCK_COUNT - SHARED_BLOCK_COUNT) / OWN_BLOCK_COUNT;
    SHARED_BLOCK_COUNT + u64::from(host) % places * OWN_BLOCK_COUNT
}

/// Any blocks of a host, at most so many; in one of so many cases they are everybody's.
#[must_use]
pub fn any_extent(choices: &Choices, host: u32, count_max: u16, shares_one_in: u32) -> Extent {
    let count = u16::try_from(choices.between("blocks", 1, u32::from(count_max.max(1)))).unwrap_or(1);
    let is_shared = choices.one_in("shared blocks", shares_one_in);
    let (first, block_count) =
        if is_shared { (0, SHARED_BLOCK_COUNT) } else { (first_own_block(host), OWN_BLOCK_COUNT) };
    let places = u32::try_from(block_count - u64::from(count) + 1).unwrap_or(1);
    Extent { start: first + u64::from(choices.below("first block", places)), count }
}
