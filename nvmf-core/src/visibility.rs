//! Which controllers see a namespace that not every host sees: one bit for each controller id.
//!
//! The control plane alone writes: a bit is right before its controller hears of its id, and follows the namespace's list of hosts from then on. So a
//! command costs one load here, and namespaces that every host sees cost none. Relaxed throughout: a controller's id comes to its CPUs by message, and
//! a host is told of a change after it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::CONTROLLER_ID_MAX;

const BIT_COUNT: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Visibility {
    words: Box<[AtomicU64]>,
}

impl Visibility {
    /// Nobody sees it.
    pub(crate) fn new() -> Self {
        let word_count = usize::from(CONTROLLER_ID_MAX) / BIT_COUNT + 1;
        Self { words: (0..word_count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Whether this controller sees it.
    pub(crate) fn shows_to(&self, controller_id: u16) -> bool {
        let (word, bit) = place(controller_id);
        self.words.get(word).is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Only the control plane may.
    pub(crate) fn set(&self, controller_id: u16, is_shown: bool) {
        let (word, bit) = place(controller_id);
        if let Some(word) = self.words.get(word) {
            let others = word.load(Ordering::Relaxed) & !bit;
            word.store(if is_shown { others | bit } else { others }, Ordering::Relaxed);
        }
    }
}

fn place(controller_id: u16) -> (usize, u64) {
    (usize::from(controller_id) / BIT_COUNT, 1 << (usize::from(controller_id) % BIT_COUNT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_controller_has_its_own_bit() {
        let visibility = Visibility::new();
        let ids = [0, 1, 63, 64, 65, 4095, CONTROLLER_ID_MAX];
        for (place, id) in ids.iter().enumerate() {
            visibility.set(*id, true);
            for (other_place, other) in ids.iter().enumerate() {
                assert_eq!(visibility.shows_to(*other), other_place <= place, "{id} and {other}");
            }
        }
        visibility.set(64, false);
        visibility.set(64, false);
        assert!(visibility.shows_to(63) && !visibility.shows_to(64) && visibility.shows_to(65));
        assert!(!visibility.shows_to(u16::MAX));
    }
}
