//! What goes wrong.

use std::ops::Range;

use crate::channel::{Operation, OperationKind};
use crate::device::DeviceError;

/// Which operations a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affected {
    /// Reads.
    Read,
    /// Writes, zeroes among them.
    Write,
    /// Flushes.
    Flush,
    /// Deallocations.
    Deallocate,
    /// Everything.
    All,
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is not done, and fails.
    Fail(DeviceError),
    /// A byte of what a read brings or a write takes is another, without a word. Operations without data are done as they are.
    Corrupt {
        /// Which byte of the operation's data; beyond its end none is.
        offset: u64,
        /// The bits of it that are turned over.
        flip: u8,
    },
    /// A write or a flush is not done, and succeeds. Others are done as they are.
    Lose,
    /// A write that is to be on stable storage is done as one that need not be. Others are done as they are.
    Unforce,
    /// Of a write only the first half of its blocks is done, and it succeeds. Others are done as they are.
    Tear,
    /// It is begun this many polls later.
    Delay {
        /// How many.
        poll_count: u32,
    },
    /// It is begun when the stalled ones are released.
    Stall,
    /// The same, but after so long at the latest.
    StallFor {
        /// How long.
        ns: u64,
    },
    /// There is no room for it now: it comes before the rules again at the next poll.
    Refuse,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// With which operations.
    pub affected: Affected,
    /// Only if they touch these blocks; `None` for all.
    pub blocks: Option<Range<u64>>,
    /// Only while at least so many operations of their CPU are with the device below; 0 for always.
    pub outstanding_min: u64,
    /// With one of so many of them, by chance; 0 and 1 for each.
    pub one_in: u32,
    /// How often; `None` for ever.
    pub count: Option<u32>,
    /// What.
    pub effect: Effect,
}

impl Rule {
    /// For each operation of a kind, for ever.
    #[must_use]
    pub const fn always(affected: Affected, effect: Effect) -> Self {
        Self { affected, blocks: None, outstanding_min: 0, one_in: 1, count: None, effect }
    }

    fn fits(&self, operation: &Operation, outstanding_count: usize) -> bool {
        let is_kind = match (self.affected, operation.kind) {
            (Affected::All, _)
            | (Affected::Read, OperationKind::Read)
            | (
                Affected::Write,
                OperationKind::Write { .. } | OperationKind::WriteZeroes { .. } | OperationKind::WriteUncorrectable,
            )
            | (Affected::Flush, OperationKind::Flush)
            | (Affected::Deallocate, OperationKind::Deallocate) => true,
            (Affected::Read | Affected::Write | Affected::Flush | Affected::Deallocate, _) => false,
        };
        let end = operation.start_block.saturating_add(operation.block_count);
        let is_there =
            self.blocks.as_ref().is_none_or(|blocks| operation.start_block < blocks.end && blocks.start < end);
        is_kind && is_there && outstanding_count as u64 >= self.outstanding_min
    }
}

/// All that goes wrong, oldest first.
pub(super) struct Rules {
    rules: Vec<Rule>,
    random: u64,
    hit_count: u64,
}

impl Rules {
    pub(super) fn new(seed: u64) -> Self {
        // Xorshift stays at zero.
        Self { rules: Vec::new(), random: seed | 1 << 63, hit_count: 0 }
    }

    pub(super) fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    /// In the place of those for the same operations. One that is to come up no more is no rule.
    pub(super) fn replace(&mut self, rule: Rule) {
        self.rules.retain(|other| other.affected != rule.affected);
        if rule.count != Some(0) {
            self.rules.push(rule);
        }
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn hit_count(&self) -> u64 {
        self.hit_count
    }

    /// What happens to the operation, when so many others of its CPU are with the device below.
    pub(super) fn effect(&mut self, operation: &Operation, outstanding_count: usize) -> Option<Effect> {
        for index in 0..self.rules.len() {
            let one_in = u64::from(self.rules[index].one_in.max(1));
            if !self.rules[index].fits(operation, outstanding_count) || (one_in > 1 && self.below(one_in) > 0) {
                continue;
            }
            let effect = self.rules[index].effect;
            self.hit_count += 1;
            match &mut self.rules[index].count {
                None => {}
                Some(count) if *count > 1 => *count -= 1,
                Some(_) => drop(self.rules.remove(index)),
            }
            return Some(effect);
        }
        None
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }
}
