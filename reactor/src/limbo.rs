//! Where unlinked objects wait until nobody can still look at them.
//!
//! A limbo belongs to the CPU that first retires into it. Each entry carries its stamp: that CPU's epoch plus one, at the time.
//! Why the steps of [`Grace`] are enough is paragraph 4 of `docs/ORDERING.md`.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;

use crate::cpu::Cpu;
use crate::domain::DomainId;
use crate::full::Full;
#[cfg(any(loom, test))]
use crate::primitive::mutation::Rule;
use crate::turn::Turn;

/// How late a user may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// Readers of shared tables: two steps of the epoch after the stamp.
    Readers,
    /// Also messages that such readers sent: four steps.
    Messages,
}

impl Grace {
    /// How far the epoch must have gone beyond the stamp.
    fn steps(self) -> u64 {
        match self {
            #[cfg(any(loom, test))]
            Self::Readers if Rule::ReaderGrace.is_broken() => 1,
            #[cfg(any(loom, test))]
            Self::Messages if Rule::MessageGrace.is_broken() => 3,
            Self::Readers => 2,
            Self::Messages => 4,
        }
    }
}

/// A value that has passed its grace period. Only [`Limbo::reap`] makes one.
#[derive(Debug)]
#[must_use = "reaped values still hold the resources that they are to release"]
pub struct Reaped<T> {
    value: T,
    domain: DomainId,
}

impl<T> Reaped<T> {
    /// The value, which now nobody else can reach.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// The domain in which it waited.
    pub(crate) fn domain(&self) -> DomainId {
        self.domain
    }
}

/// A bounded queue of unlinked values, owned by one CPU. All of its entries wait for the same grace. Its length and oldest age are
/// reported to the domain, so that the epoch advances while it is not empty. Dropping it leaks the values that still wait:
/// whether anybody still looks at them is not known then.
pub struct Limbo<T> {
    grace: Grace,
    capacity: usize,
    entries: VecDeque<Entry<T>>,
    home: Option<Home>,
}

struct Entry<T> {
    stamp: u64,
    value: ManuallyDrop<T>,
}

/// Where a limbo is reported: known from the first value on.
#[derive(Clone, Copy)]
struct Home {
    domain: DomainId,
    cpu: Cpu,
    /// Its number among the CPU's limbos.
    place: usize,
}

impl<T> Limbo<T> {
    /// A limbo of at most `capacity` entries; allocates them all now.
    #[must_use]
    pub fn new(grace: Grace, capacity: usize) -> Self {
        Self { grace, capacity, entries: VecDeque::with_capacity(capacity), home: None }
    }

    /// Lets `value` wait. The caller has unlinked it from every shared table before. Panics on another CPU than the one that
    /// retired first.
    ///
    /// # Errors
    /// [`Full`] hands the value back when the limbo's bound is reached.
    pub fn retire<M>(&mut self, turn: &mut Turn<'_, M>, value: T) -> Result<(), Full<T>> {
        let home = self.home_in(turn);
        if self.entries.len() >= self.capacity {
            return Err(Full(value));
        }
        let stamp = turn.seen_epoch() + 1;
        self.entries.push_back(Entry { stamp, value: ManuallyDrop::new(value) });
        self.report(turn, home);
        Ok(())
    }

    /// The oldest value whose grace period is over.
    pub fn reap<M>(&mut self, turn: &mut Turn<'_, M>) -> Option<Reaped<T>> {
        let stamp = self.entries.front()?.stamp;
        let home = self.home_in(turn);
        if turn.domain().epoch() < stamp + self.grace.steps() {
            return None;
        }
        let entry = self.entries.pop_front()?;
        self.report(turn, home);
        Some(Reaped { value: ManuallyDrop::into_inner(entry.value), domain: home.domain })
    }

    /// How many values wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values may wait.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn home_in<M>(&mut self, turn: &mut Turn<'_, M>) -> Home {
        let home = *self.home.get_or_insert_with(|| Home {
            domain: turn.domain().id(),
            cpu: turn.cpu(),
            place: turn.register_limbo(),
        });
        // Stamps of one CPU, in one domain: else they would be neither comparable nor in order.
        assert!(
            home.cpu == turn.cpu() && home.domain == turn.domain().id(),
            "a limbo used on another CPU than its own"
        );
        home
    }

    fn report<M>(&self, turn: &mut Turn<'_, M>, home: Home) {
        turn.report_limbo(home.place, self.entries.len(), self.entries.front().map(|entry| entry.stamp));
    }
}
