//! A shared table of objects that one CPU writes and all may look at during a turn.

use crate::domain::{Domain, Guard};

/// Fixed slots, each empty or naming one object. Slots are written by their owner only. Dropping a table leaks what is still linked (so that a
/// reference from it can never dangle).
pub struct Table<T> {
    _todo: std::marker::PhantomData<T>,
}

/// An object that was taken out of a [`Table`] and that readers may still be looking at: it goes into a [`crate::Limbo`]. Dropped elsewhere, it leaks.
#[must_use = "an unlinked object goes to a limbo"]
pub struct Unlinked<T> {
    _todo: std::marker::PhantomData<T>,
}

impl<T: Send + Sync + 'static> Table<T> {
    /// A table of `capacity` empty slots.
    #[must_use]
    pub fn new(domain: &Domain, capacity: usize) -> Self {
        let _ = (domain, capacity);
        todo!()
    }

    /// Number of slots.
    #[must_use]
    pub fn capacity(&self) -> usize {
        todo!()
    }

    /// Puts `object` into an empty slot. Panics if the slot is taken: slots have one owner.
    pub fn link(&self, slot: usize, object: Box<T>) {
        let _ = (slot, object);
        todo!()
    }

    /// Takes the object out. `None` if the slot is empty.
    pub fn unlink(&self, slot: usize) -> Option<Unlinked<T>> {
        let _ = slot;
        todo!()
    }

    /// The object in `slot`, for the rest of this turn.
    #[must_use]
    pub fn look<'t>(&self, guard: Guard<'t>, slot: usize) -> Option<&'t T> {
        let _ = (guard, slot);
        todo!()
    }
}

impl<T> crate::limbo::Reaped<Unlinked<T>> {
    /// The object, which nobody else can see any longer.
    pub fn into_object(self) -> Box<T> {
        todo!()
    }
}
