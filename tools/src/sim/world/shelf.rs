//! Where reservations are kept through the death of a target: records by file name, each written in one piece or not at all.
//!
//! A write ends when it is chosen that it does, well or badly. Writes can be held: then none ends, as on a file system that hangs. Like the block device it
//! outlives the target: what a target that is killed had under way is there afterwards, or not.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use nvmf_core::reservation::ReservationRecord;
use nvmf_core::target::{ReservationWrite, WriteId};
use reactor::Choices;

/// Most looks that a write waits beyond the first.
const LOOKS_MAX: u32 = 6;

/// See the module. Clones are the same.
#[derive(Clone, Default)]
pub struct Shelf(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    records: BTreeMap<String, ReservationRecord>,
    /// Each with how many looks it still waits.
    under_way: VecDeque<(u32, ReservationWrite)>,
    is_held: bool,
    fails_one_in: u32,
    write_count: u64,
}

impl Shelf {
    /// From here on no write ends, or they end again.
    pub fn hold(&self, is_held: bool) {
        self.0.borrow_mut().is_held = is_held;
    }

    /// One in so many writes fails from here on; 0 for none.
    pub fn fail_one_in(&self, count: u32) {
        self.0.borrow_mut().fails_one_in = count;
    }

    /// Writes that were asked for.
    #[must_use]
    pub fn write_count(&self) -> u64 {
        self.0.borrow().write_count
    }

    /// Writes that have not ended.
    #[must_use]
    pub fn under_way_count(&self) -> usize {
        self.0.borrow().under_way.len()
    }

    /// What is there.
    #[must_use]
    pub fn record(&self, file: &str) -> ReservationRecord {
        self.0.borrow().records.get(file).cloned().unwrap_or_default()
    }

    pub(super) fn begin(&self, choices: &Choices, write: ReservationWrite) {
        let mut state = self.0.borrow_mut();
        state.write_count += 1;
        let looks = choices.between("reservation file", 0, LOOKS_MAX);
        state.under_way.push_back((looks, write));
    }

    /// The next write that ends now, and how.
    pub(super) fn next_end(&self, choices: &Choices) -> Option<(WriteId, Result<(), String>)> {
        let mut state = self.0.borrow_mut();
        if state.is_held {
            return None;
        }
        let place = state.under_way.iter().position(|(looks, _)| *looks == 0)?;
        let (_, write) = state.under_way.remove(place)?;
        if choices.one_in("reservation file fails", state.fails_one_in) {
            return Some((write.id, Err("the file system is full".to_owned())));
        }
        state.records.insert(write.file.to_string(), write.record);
        Some((write.id, Ok(())))
    }

    /// Whether a write is going to end.
    pub(super) fn may_end(&self) -> bool {
        let state = self.0.borrow();
        !state.is_held && !state.under_way.is_empty()
    }

    /// Time goes by.
    pub(super) fn look(&self) {
        self.0.borrow_mut().under_way.iter_mut().for_each(|(looks, _)| *looks = looks.saturating_sub(1));
    }

    /// The target that asked is gone.
    pub(super) fn target_killed(&self, choices: &Choices) {
        let mut state = self.0.borrow_mut();
        let left: Vec<_> = state.under_way.drain(..).collect();
        for (_, write) in left {
            if choices.one_in("takes effect after death", 2) {
                state.records.insert(write.file.to_string(), write.record);
            }
        }
    }
}
