//! One line for each thing and interval; the rest is counted.

use std::collections::BTreeMap;

/// What was said, and what was left out since, by thing.
pub(super) struct Repeats<K> {
    interval_ns: u64,
    said: BTreeMap<K, Said>,
}

struct Said {
    at_ns: u64,
    left_out: LeftOut,
}

/// What was not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// How many there were.
    pub(super) count: u64,
    /// The largest of them.
    pub(super) most: u64,
}

impl<K: Ord + Copy> Repeats<K> {
    pub(super) fn new(interval_ns: u64) -> Self {
        Self { interval_ns, said: BTreeMap::new() }
    }

    /// It happened `count` times, `size` the largest: whether it is to be said. If not, it is counted.
    pub(super) fn note(&mut self, key: K, count: u64, size: u64, now_ns: u64) -> bool {
        if let Some(said) = self.said.get_mut(&key) {
            said.left_out.count += count;
            said.left_out.most = said.left_out.most.max(size);
            return false;
        }
        self.said.insert(key, Said { at_ns: now_ns, left_out: LeftOut::default() });
        true
    }

    /// What was left out of intervals that are over, to be said now. What does not happen any more is forgotten.
    pub(super) fn over(&mut self, now_ns: u64) -> Vec<(K, LeftOut)> {
        let mut over = Vec::new();
        let interval_ns = self.interval_ns;
        self.said.retain(|key, said| {
            if now_ns - said.at_ns < interval_ns {
                return true;
            }
            let left_out = std::mem::take(&mut said.left_out);
            said.at_ns = now_ns;
            if left_out.count > 0 {
                over.push((*key, left_out));
            }
            left_out.count > 0
        });
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_said_once_and_then_summed_up_once_an_interval() {
        let mut repeats = Repeats::new(10);
        assert!(repeats.note('a', 1, 5, 100));
        assert!(!repeats.note('a', 2, 9, 101));
        assert!(!repeats.note('a', 1, 3, 109));
        assert!(repeats.note('b', 1, 0, 109), "another thing has lines of its own");
        assert_eq!(repeats.over(109), []);
        assert_eq!(repeats.over(110), [('a', LeftOut { count: 3, most: 9 })]);
        assert!(!repeats.note('a', 1, 1, 111), "the sum was this interval's line");
        assert_eq!(repeats.over(120), [('a', LeftOut { count: 1, most: 1 })]);
        assert_eq!(repeats.over(130), []);
        assert!(repeats.note('a', 1, 1, 131), "it had stopped");
    }
}
