//! Every choice of a simulated run, from one source.
//!
//! A run is what its choices make of it: whoever simulates something that could go one way or another (a schedule, a network, a device, a host's
//! mood) asks here. So a run is repeated from its seed, or from the list of its choices, and a list can be made shorter and be explored.
//!
//! Each choice is a number below a bound, and 0 is the *calm* one: nothing is late, nothing fails, turns go round. A list that has come to its end
//! goes on calmly. That gives a short list its meaning: it says what is special about a run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::random::Random;

/// The source of a run's choices. Clones are the same source. Used from one thread at a time.
#[derive(Clone, Debug)]
pub struct Choices(Arc<Mutex<Source>>);

/// One choice that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What it was about: a word for reports, and for choosing what to explore.
    pub what: &'static str,
    /// How many ways it could have gone, at least 2.
    pub bound: u32,
    /// Which way it went. 0 is the calm one.
    pub value: u32,
}

#[derive(Debug)]
struct Source {
    origin: Origin,
    /// Choices made, recorded or not.
    count: u64,
    record: Option<Vec<Choice>>,
}

#[derive(Debug)]
enum Origin {
    Seed(Random),
    /// What is left of a list, last first.
    List(Vec<u32>),
}

impl Choices {
    /// Choices drawn from a seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::new(Origin::Seed(Random::new(seed)))
    }

    /// Choices from a list, and calm ones after its end. A value that is not below its choice's bound is taken as the last that is.
    #[must_use]
    pub fn listed(mut values: Vec<u32>) -> Self {
        values.reverse();
        Self::new(Origin::List(values))
    }

    fn new(origin: Origin) -> Self {
        Self(Arc::new(Mutex::new(Source { origin, count: 0, record: None })))
    }

    /// A number below `bound`. Without a choice to make (`bound` of 1 or 0) it is 0, and no choice is counted.
    #[must_use]
    pub fn below(&self, what: &'static str, bound: u32) -> u32 {
        if bound <= 1 {
            return 0;
        }
        // Below a bound of 32 bits.
        let draw = |random: &mut Random| u32::try_from(random.below(u64::from(bound))).unwrap_or_default();
        self.choose(what, bound, draw)
    }

    /// Both ends included; `low` is the calm choice.
    #[must_use]
    pub fn between(&self, what: &'static str, low: u32, high: u32) -> u32 {
        low + self.below(what, (high - low).saturating_add(1))
    }

    /// Whether something happens that does in one of `count` cases: 0 is never, 1 always. However rare it is, it is a choice between two ways.
    #[must_use]
    pub fn one_in(&self, what: &'static str, count: u32) -> bool {
        let draw = |random: &mut Random| u32::from(random.below(u64::from(count)) == u64::from(count) - 1);
        match count {
            0 => false,
            1 => true,
            _ => self.choose(what, 2, draw) == 1,
        }
    }

    /// One of these; the first is the calm choice.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn one_of<T: Copy>(&self, what: &'static str, ways: &[T]) -> T {
        let count = u32::try_from(ways.len()).unwrap_or(u32::MAX);
        ways[self.below(what, count) as usize]
    }

    /// From here on choices are kept for [`Self::recorded`].
    pub fn record(&self) {
        self.source().record = Some(Vec::new());
    }

    /// The choices since [`Self::record`], oldest first.
    #[must_use]
    pub fn recorded(&self) -> Vec<Choice> {
        self.source().record.clone().unwrap_or_default()
    }

    /// The recorded choices from this number on, oldest first.
    #[must_use]
    pub fn recorded_from(&self, first: usize) -> Vec<Choice> {
        self.source().record.as_ref().and_then(|record| record.get(first..)).unwrap_or_default().to_vec()
    }

    /// How many choices were made.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.source().count
    }

    /// A choice between `bound` ways, at least 2; from a seed it is `draw`'s.
    fn choose(&self, what: &'static str, bound: u32, draw: impl FnOnce(&mut Random) -> u32) -> u32 {
        let mut source = self.source();
        source.count += 1;
        let value = match &mut source.origin {
            Origin::Seed(random) => draw(random),
            Origin::List(values) => values.pop().unwrap_or(0).min(bound - 1),
        };
        if let Some(record) = &mut source.record {
            record.push(Choice { what, bound, value });
        }
        value
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(choices: &Choices, bounds: &[u32]) -> Vec<u32> {
        bounds.iter().map(|bound| choices.below("test", *bound)).collect()
    }

    const BOUNDS: [u32; 6] = [2, 3, 1000, 1, 7, u32::MAX];

    #[test]
    fn a_recorded_run_is_repeated_from_its_seed_and_from_its_list() {
        let choices = Choices::seeded(7);
        choices.record();
        let first = values(&choices, &BOUNDS);
        assert_eq!(values(&Choices::seeded(7), &BOUNDS), first);
        let list = choices.recorded().iter().map(|choice| choice.value).collect();
        assert_eq!(values(&Choices::listed(list), &BOUNDS), first);
        assert_eq!(choices.count(), 5, "a bound of 1 is no choice");
        assert_eq!(choices.recorded_from(3), choices.recorded()[3..]);
        assert_eq!(choices.recorded_from(9), []);
    }

    #[test]
    fn a_list_goes_on_calmly_and_fits_every_bound() {
        let choices = Choices::listed(vec![9, 1]);
        assert_eq!(values(&choices, &[3, 2, 2, 50]), [2, 1, 0, 0]);
        assert!(!Choices::listed(vec![]).one_in("test", 4));
        assert!(Choices::listed(vec![1]).one_in("test", 4));
        assert!(Choices::listed(vec![]).one_in("test", 1));
        assert_eq!(Choices::listed(vec![]).one_of("test", &["calm", "wild"]), "calm");
        assert_eq!(Choices::listed(vec![]).between("test", 4, 9), 4);
    }

    #[test]
    fn what_is_rare_is_rare_and_yet_one_of_two_ways() {
        let choices = Choices::seeded(1);
        choices.record();
        let count = (0..10_000).filter(|_| choices.one_in("test", 10)).count();
        assert!((900..1100).contains(&count), "{count}");
        assert!(choices.recorded().iter().all(|choice| choice.bound == 2));
    }
}
