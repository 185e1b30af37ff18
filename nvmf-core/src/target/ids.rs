//! Controller ids, unique in the whole target.

use crate::limits::CONTROLLER_COUNT_MAX;

/// Which ids are taken. An id is given again as late as possible, so that a host's late Connect with an old one is likely to find none.
pub(super) struct ControllerIds {
    /// By id; entry 0 is never given.
    taken: Vec<bool>,
    last: u16,
    count: usize,
}

impl ControllerIds {
    pub(super) fn new() -> Self {
        Self { taken: vec![false; usize::from(CONTROLLER_COUNT_MAX) + 1], last: 0, count: 0 }
    }

    /// The next free id after the one given last.
    pub(super) fn allocate(&mut self) -> Option<u16> {
        let after = (1..=CONTROLLER_COUNT_MAX).map(|step| {
            let id = (u32::from(self.last) + u32::from(step) - 1) % u32::from(CONTROLLER_COUNT_MAX) + 1;
            u16::try_from(id).unwrap_or(CONTROLLER_COUNT_MAX)
        });
        let id = after.into_iter().find(|id| !self.taken[usize::from(*id)])?;
        self.taken[usize::from(id)] = true;
        self.last = id;
        self.count += 1;
        Some(id)
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

    #[test]
    fn ids_are_unique_and_reused_late() {
        let mut ids = ControllerIds::new();
        assert_eq!(ids.allocate(), Some(1));
        assert_eq!(ids.allocate(), Some(2));
        assert!(ids.free(1));
        assert!(!ids.free(1));
        assert_eq!(ids.allocate(), Some(3));
        for id in 4..=CONTROLLER_COUNT_MAX {
            assert_eq!(ids.allocate(), Some(id));
        }
        assert_eq!(ids.allocate(), Some(1), "wraps to the freed one");
        assert_eq!(ids.allocate(), None);
        assert!(ids.free(CONTROLLER_COUNT_MAX));
        assert_eq!(ids.allocate(), Some(CONTROLLER_COUNT_MAX));
        assert_eq!(ids.count(), usize::from(CONTROLLER_COUNT_MAX));
        assert!(!ids.free(0xFFFF));
    }
}
