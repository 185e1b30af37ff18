//! Controller ids, unique in the whole target.

use std::ops::RangeInclusive;

use crate::limits::{CONTROLLER_COUNT_MAX, CONTROLLER_ID_MAX};

/// Which ids are taken. An id is given again as late as possible, so that a host's late Connect with an old one is likely to find none.
pub(super) struct ControllerIds {
    /// By id; entry 0 is never given.
    taken: Vec<bool>,
    last: u16,
    count: usize,
}

impl ControllerIds {
    pub(super) fn new() -> Self {
        Self { taken: vec![false; usize::from(CONTROLLER_ID_MAX) + 1], last: 0, count: 0 }
    }

    /// The next free id of a range after the one given last, but none that is kept for somebody.
    pub(super) fn allocate(&mut self, range: &RangeInclusive<u16>, is_kept: impl Fn(u16) -> bool) -> Option<u16> {
        if self.count >= usize::from(CONTROLLER_COUNT_MAX) {
            return None;
        }
        let (first, last) = (*range.start(), *range.end());
        let middle = self.last.checked_add(1).filter(|next| range.contains(next)).unwrap_or(first);
        let id = (middle..=last).chain(first..middle).find(|id| self.is_free(*id) && !is_kept(*id))?;
        self.taken[usize::from(id)] = true;
        self.last = id;
        self.count += 1;
        Some(id)
    }

    /// Whether it can be given.
    pub(super) fn is_free(&self, id: u16) -> bool {
        self.taken.get(usize::from(id)) == Some(&false)
    }

    /// This id. False if it is taken, or as many are as may be.
    pub(super) fn take(&mut self, id: u16) -> bool {
        if self.count >= usize::from(CONTROLLER_COUNT_MAX) || !self.is_free(id) {
            return false;
        }
        self.taken[usize::from(id)] = true;
        self.count += 1;
        true
    }

    /// Gives an id back. False if it was not taken.
    pub(super) fn free(&mut self, id: u16) -> bool {
        match self.taken.get_mut(usize::from(id)) {
            Some(taken) if *taken => {
                *taken = false;
                self.count -= 1;
                true
            }
            _ => false,
        }
    }

    /// How many are taken.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocate(ids: &mut ControllerIds, range: &RangeInclusive<u16>) -> Option<u16> {
        ids.allocate(range, |_| false)
    }

    #[test]
    fn ids_are_unique_and_reused_late() {
        let mut ids = ControllerIds::new();
        let range = 1..=CONTROLLER_COUNT_MAX;
        assert_eq!(allocate(&mut ids, &range), Some(1));
        assert_eq!(allocate(&mut ids, &range), Some(2));
        assert!(ids.free(1));
        assert!(!ids.free(1));
        assert_eq!(allocate(&mut ids, &range), Some(3));
        for id in 4..=CONTROLLER_COUNT_MAX {
            assert_eq!(allocate(&mut ids, &range), Some(id));
        }
        assert_eq!(allocate(&mut ids, &range), Some(1), "wraps to the freed one");
        assert_eq!(allocate(&mut ids, &range), None);
        assert_eq!(allocate(&mut ids, &(5000..=6000)), None, "there are as many as there may be");
        assert!(ids.free(CONTROLLER_COUNT_MAX));
        assert_eq!(allocate(&mut ids, &range), Some(CONTROLLER_COUNT_MAX));
        assert_eq!(ids.count(), usize::from(CONTROLLER_COUNT_MAX));
        assert!(!ids.free(0xFFFF));
    }

    #[test]
    fn a_range_gives_its_own_only() {
        let mut ids = ControllerIds::new();
        let (low, high) = (1..=2, 3..=CONTROLLER_ID_MAX);
        assert_eq!(allocate(&mut ids, &high), Some(3));
        assert_eq!(allocate(&mut ids, &low), Some(1));
        assert_eq!(allocate(&mut ids, &high), Some(4));
        assert_eq!(allocate(&mut ids, &low), Some(2));
        assert_eq!(allocate(&mut ids, &low), None);
        assert!(ids.free(1));
        assert_eq!(allocate(&mut ids, &low), Some(1));
        assert_eq!(allocate(&mut ids, &(CONTROLLER_ID_MAX..=CONTROLLER_ID_MAX)), Some(CONTROLLER_ID_MAX));
        assert_eq!(allocate(&mut ids, &high), Some(5), "from the range's start again");
    }

    #[test]
    fn kept_ids_are_given_to_who_asks_for_them() {
        let mut ids = ControllerIds::new();
        let kept = 2..=3;
        assert_eq!(ids.allocate(&(1..=4), |id| kept.contains(&id)), Some(1));
        assert_eq!(ids.allocate(&(1..=4), |id| kept.contains(&id)), Some(4));
        assert_eq!(ids.allocate(&(1..=4), |id| kept.contains(&id)), None);
        assert!(ids.take(3) && !ids.take(3) && !ids.take(4) && !ids.take(0xFFFF));
        assert!(ids.free(3) && ids.take(3));
        assert_eq!(ids.count(), 3);
    }
}
