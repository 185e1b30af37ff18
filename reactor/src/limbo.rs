//! Where unlinked objects wait until nobody can still look at them.

use crate::turn::Turn;

/// How late a user may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// Readers of shared tables: two steps of the epoch after the stamp.
    Readers,
    /// Also messages that such readers sent: four steps.
    Messages,
}

/// The thing did not fit and is handed back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// A value that has passed its grace period. Only [`Limbo::reap`] makes one.
#[derive(Debug)]
#[must_use = "reaped values still hold the resources that they are to release"]
pub struct Reaped<T>(T);

impl<T> Reaped<T> {
    /// The value, which now nobody else can reach.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// A bounded queue of unlinked values, owned by one CPU. All of its entries wait for the same grace. Its length and oldest age are
/// reported to the domain, so that the epoch advances while it is not empty.
pub struct Limbo<T> {
    _todo: std::marker::PhantomData<T>,
}

impl<T> Limbo<T> {
    /// A limbo of at most `capacity` entries; allocates them all now.
    #[must_use]
    pub fn new(grace: Grace, capacity: usize) -> Self {
        let _ = (grace, capacity);
        todo!()
    }

    /// Lets `value` wait. The caller has unlinked it from every shared table before.
    ///
    /// # Errors
    /// [`Full`] hands the value back when the limbo's bound is reached.
    pub fn retire<M>(&mut self, turn: &mut Turn<'_, M>, value: T) -> Result<(), Full<T>> {
        let _ = turn;
        Err(Full(value))
    }

    /// The oldest value whose grace period is over.
    pub fn reap<M>(&mut self, turn: &mut Turn<'_, M>) -> Option<Reaped<T>> {
        let _ = turn;
        todo!()
    }

    /// How many values wait.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
