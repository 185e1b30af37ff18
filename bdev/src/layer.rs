//! What channels of devices over other devices share, and the meter with them: what the device below has, and what is on its way there.

use std::collections::VecDeque;

use crate::channel::{Channel, Operation};

/// Operations that one channel of a layer holds; more stay with the submitter.
pub(crate) const OUTSTANDING_MAX: usize = 1024;

/// What the device below has, or is about to: each under a token of our own, its place here.
#[derive(Debug)]
pub(crate) struct Passed<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Passed<T> {
    /// With room for as many as one channel holds.
    pub(crate) fn new() -> Self {
        let mut passed = Self::default();
        passed.reserve(OUTSTANDING_MAX);
        passed
    }

    /// So many in all can be kept without an allocation.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.places.reserve(count.saturating_sub(self.places.len()));
        self.free.reserve(count.saturating_sub(self.free.len()));
    }

    /// Keeps `what`, and gives the token that it goes by below.
    pub(crate) fn insert(&mut self, what: T) -> u64 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(what);
        place as u64
    }

    /// It came back. `None` if it was not there, which is the other device's error.
    pub(crate) fn take(&mut self, token: u64) -> Option<T> {
        let place = usize::try_from(token).unwrap_or(usize::MAX);
        let Some(what) = self.places.get_mut(place).and_then(Option::take) else {
            tracing::error!(token, "a device ended an operation that it did not have");
            return None;
        };
        self.free.push(place);
        Some(what)
    }

    /// The token of the first that fits.
    pub(crate) fn find(&self, mut fits: impl FnMut(&T) -> bool) -> Option<u64> {
        self.places.iter().position(|what| what.as_ref().is_some_and(&mut fits)).map(|place| place as u64)
    }

    /// All of them.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

impl<T> Default for Passed<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

/// Hands over what is on its way down, as far as there is room.
pub(crate) fn forward(base: &mut dyn Channel, now_ns: u64, operations: &mut VecDeque<Operation>) {
    if !operations.is_empty() {
        base.submit(now_ns, operations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_what_they_were_given_for_until_it_is_taken() {
        let mut passed = Passed::new();
        let tokens: Vec<u64> = ["a", "b", "c"].into_iter().map(|what| passed.insert(what)).collect();
        assert_eq!((passed.take(tokens[1]), passed.len()), (Some("b"), 2));
        assert_eq!(passed.take(tokens[1]), None, "once");
        assert_eq!(passed.insert("d"), tokens[1]);
        assert_eq!((passed.find(|what| *what == "c"), passed.find(|what| *what == "b")), (Some(tokens[2]), None));
        assert_eq!(passed.take(u64::MAX), None);
    }
}
