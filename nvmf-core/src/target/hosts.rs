//! Host identifiers and their numbers: what makes a comparison of hosts one of words.
//!
//! A number belongs to its identifier for as long as a controller or a registrant has that, and is never given again: what names one that is gone is
//! a miss. Identifiers that nobody has any more are swept out now and then, so that strangers who come and go leave nothing behind.

use std::collections::BTreeMap;

use crate::reservation::{HostId, HostNumber};

/// So many identifiers are not swept for.
const SWEEP_COUNT_MIN: usize = 1024;

/// See the module.
pub(super) struct Hosts {
    numbers: BTreeMap<HostId, HostNumber>,
    ids: BTreeMap<HostNumber, HostId>,
    last: u64,
    sweep_count: usize,
}

impl Hosts {
    pub(super) fn new() -> Self {
        Self { numbers: BTreeMap::new(), ids: BTreeMap::new(), last: 0, sweep_count: SWEEP_COUNT_MIN }
    }

    /// The number of this host: the one that it has, or a new one.
    pub(super) fn number(&mut self, id: &HostId) -> HostNumber {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        self.last += 1;
        let number = HostNumber(self.last);
        self.numbers.insert(*id, number);
        self.ids.insert(number, *id);
        number
    }

    /// The host of this number, if it is still known.
    pub(super) fn id(&self, number: HostNumber) -> Option<HostId> {
        self.ids.get(&number).copied()
    }

    /// Whether there are so many that it is time to sweep.
    pub(super) fn is_full(&self) -> bool {
        self.numbers.len() >= self.sweep_count
    }

    /// Forgets those that nobody has.
    pub(super) fn sweep(&mut self, is_used: impl Fn(&HostId) -> bool) {
        self.numbers.retain(|id, _| is_used(id));
        let numbers = &self.numbers;
        self.ids.retain(|_, id| numbers.contains_key(id));
        // Sweeping costs what there is; so it is paid for by those who came since.
        self.sweep_count = (2 * self.numbers.len()).max(SWEEP_COUNT_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_while_it_is_used_and_never_given_again() {
        let mut hosts = Hosts::new();
        let (one, two) = (hosts.number(&[1; 16]), hosts.number(&[2; 16]));
        assert_ne!(one, two);
        assert_eq!(hosts.number(&[1; 16]), one);
        hosts.sweep(|id| *id == [2; 16]);
        assert_eq!((hosts.id(one), hosts.id(two)), (None, Some([2; 16])));
        let again = hosts.number(&[1; 16]);
        assert!(again > two);
        assert_eq!(hosts.id(again), Some([1; 16]));
    }

    #[test]
    fn strangers_are_swept_out() {
        let mut hosts = Hosts::new();
        for stranger in 0..10 * SWEEP_COUNT_MIN as u64 {
            if hosts.is_full() {
                hosts.sweep(|id| *id == [0; 16]);
            }
            let mut id = [0; 16];
            id[..8].copy_from_slice(&stranger.to_le_bytes());
            hosts.number(&id);
        }
        assert!(hosts.numbers.len() <= SWEEP_COUNT_MIN && hosts.numbers.contains_key(&[0; 16]));
        assert_eq!(hosts.numbers.len(), hosts.ids.len());
    }
}
