//! A snapshot that is replaced whole and read by reference for one turn.

use crate::domain::{Domain, Guard};
use crate::table::Unlinked;

/// One shared value. Reading costs a pointer load. Dropping leaks the current value.
pub struct Published<T> {
    _todo: std::marker::PhantomData<T>,
}

impl<T: Send + Sync + 'static> Published<T> {
    /// Publishes a first value.
    #[must_use]
    pub fn new(domain: &Domain, value: Box<T>) -> Self {
        let _ = (domain, value);
        todo!()
    }

    /// The value as it is now, for the rest of this turn.
    #[must_use]
    pub fn load<'t>(&self, guard: Guard<'t>) -> &'t T {
        let _ = guard;
        todo!()
    }

    /// Replaces the value; the old one goes to a [`crate::Limbo`]. One writer at a time: the owner.
    pub fn replace(&self, value: Box<T>) -> Unlinked<T> {
        let _ = value;
        todo!()
    }
}
