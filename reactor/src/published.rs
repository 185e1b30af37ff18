//! A snapshot that is replaced whole and read by reference for one turn.
//!
//! Sound for the reasons of [`crate::Table`], whose invariants 1 and 2 hold for the pointer here, which is never null.

use std::ptr::NonNull;

use crate::domain::{Domain, Guard};
use crate::primitive::{AtomicPtr, Site};
use crate::table::Unlinked;

/// One shared value. Reading costs a pointer load. Dropping leaks the current value.
pub struct Published<T> {
    value: AtomicPtr<T>,
    domain: Domain,
}

impl<T: Send + Sync + 'static> Published<T> {
    /// Publishes a first value.
    #[must_use]
    pub fn new(domain: &Domain, value: Box<T>) -> Self {
        Self { value: AtomicPtr::new(Box::into_raw(value)), domain: domain.clone() }
    }

    /// The value as it is now, for the rest of this turn.
    #[must_use]
    #[inline]
    pub fn load<'t>(&self, guard: Guard<'t>) -> &'t T {
        guard.check(self.domain.id());
        // ORDERING 1.
        let value = self.value.load(Site::Look.acquire());
        // SAFETY: made by `Box::into_raw`, and not given back during 't (`table`, file head).
        unsafe { &*value }
    }

    /// Replaces the value; the old one goes to a [`crate::Limbo`]. One writer at a time: the owner.
    pub fn replace(&self, value: Box<T>) -> Unlinked<T> {
        // ORDERING 1.
        let old = self.value.swap(Box::into_raw(value), Site::Replace.acquire_release());
        match NonNull::new(old) {
            Some(old) => Unlinked::new(old, self.domain.id()),
            None => unreachable!("a published value is never null"),
        }
    }
}
