//! Blocks that fail to be read until they are written.

use std::collections::BTreeMap;

/// A set of blocks as ranges that neither overlap nor touch: end by start.
#[derive(Debug, Default)]
pub(super) struct Uncorrectable {
    ranges: BTreeMap<u64, u64>,
}

impl Uncorrectable {
    pub(super) fn insert(&mut self, mut start: u64, mut end: u64) {
        while let Some((other_start, other_end)) =
            self.last_before(end.saturating_add(1)).filter(|range| range.1 >= start)
        {
            self.ranges.remove(&other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.ranges.insert(start, end);
    }

    pub(super) fn remove(&mut self, start: u64, end: u64) {
        while let Some((other_start, other_end)) = self.last_before(end).filter(|range| range.1 > start) {
            self.ranges.remove(&other_start);
            if other_start < start {
                self.ranges.insert(other_start, start);
            }
            if other_end > end {
                self.ranges.insert(end, other_end);
            }
        }
    }

    /// Whether one of these blocks is among them.
    pub(super) fn hits(&self, start: u64, end: u64) -> bool {
        self.last_before(end).is_some_and(|range| range.1 > start)
    }

    /// The last range that starts before this block.
    fn last_before(&self, end: u64) -> Option<(u64, u64)> {
        self.ranges.range(..end).next_back().map(|(start, end)| (*start, *end))
    }
}
