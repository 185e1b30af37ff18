//! A shared table of objects that one CPU writes and all may look at during a turn.
//!
//! Why `look` may hand out `&'t T`: the guard proves that this participant of the *same* domain stays online, and passes no quiet
//! point, for as long as `'t` lasts; and an object's memory is given back only when every participant has passed quiet points
//! after it was unlinked (`domain`, invariants 1 and 4).
//!
//! Invariants:
//! 1. A slot is null or was made by `Box::into_raw` of a `Box<T>` that nobody else holds.
//! 2. Whoever takes an object out does so with one swap, so that no two `Unlinked` of one object exist, whoever calls.
//! 3. An `Unlinked` becomes a `Box` again only by way of a limbo of its own domain.

use std::fmt;
use std::ptr::{self, NonNull};

use crate::domain::{Domain, DomainId, Guard};
use crate::limbo::Reaped;
use crate::primitive::{AtomicPtr, Ordering, Site};

/// Fixed slots, each empty or naming one object. Slots are written by their owner only. Dropping a table leaks what is still linked (so that a
/// reference from it can never dangle).
///
/// A reference from a table lasts for the turn. It cannot be kept:
///
/// ```compile_fail
/// use reactor::{Cpu, Program, Progress, Table, Turn};
/// struct Keeper { table: Table<u64>, kept: Option<&'static u64> }
/// impl Program for Keeper {
///     type Message = ();
///     fn receive<'t>(&mut self, turn: &mut Turn<'t, ()>, _from: Option<Cpu>, _message: ()) {
///         self.kept = self.table.look(turn.guard(), 0); // borrowed data escapes
///     }
///     fn fire<'t>(&mut self, _turn: &mut Turn<'t, ()>, _token: u64) {}
///     fn poll<'t>(&mut self, _turn: &mut Turn<'t, ()>) -> Progress { Progress::Idle }
/// }
/// ```
///
/// and not be sent:
///
/// ```compile_fail
/// use reactor::{Cpu, Program, Progress, Table, Turn};
/// struct Sender { table: Table<u64> }
/// impl Program for Sender {
///     type Message = &'static u64;
///     fn receive<'t>(&mut self, _turn: &mut Turn<'t, &'static u64>, _from: Option<Cpu>, _message: &'static u64) {}
///     fn fire<'t>(&mut self, _turn: &mut Turn<'t, &'static u64>, _token: u64) {}
///     fn poll<'t>(&mut self, turn: &mut Turn<'t, &'static u64>) -> Progress {
///         if let Some(object) = self.table.look(turn.guard(), 0) {
///             turn.send(Cpu(0), object); // borrowed data escapes
///         }
///         Progress::Idle
///     }
/// }
/// ```
///
/// The same programs compile when they copy what they need:
///
/// ```
/// use reactor::{Cpu, Program, Progress, Table, Turn};
/// struct Copier { table: Table<u64>, kept: Option<u64> }
/// impl Program for Copier {
///     type Message = u64;
///     fn receive<'t>(&mut self, turn: &mut Turn<'t, u64>, _from: Option<Cpu>, _message: u64) {
///         self.kept = self.table.look(turn.guard(), 0).copied();
///     }
///     fn fire<'t>(&mut self, _turn: &mut Turn<'t, u64>, _token: u64) {}
///     fn poll<'t>(&mut self, turn: &mut Turn<'t, u64>) -> Progress {
///         if let Some(object) = self.table.look(turn.guard(), 0) {
///             turn.send(Cpu(0), *object);
///         }
///         Progress::Idle
///     }
/// }
/// ```
pub struct Table<T> {
    slots: Box<[AtomicPtr<T>]>,
    domain: Domain,
}

/// An object that was taken out of a [`Table`] and that readers may still be looking at: it goes into a [`crate::Limbo`]. Dropped elsewhere, it leaks.
#[must_use = "an unlinked object goes to a limbo"]
pub struct Unlinked<T> {
    object: NonNull<T>,
    domain: DomainId,
}

// SAFETY: it stands for a `Box<T>` that will be handed out on the CPU that it was sent to, while others may still hold `&T`.
unsafe impl<T: Send + Sync> Send for Unlinked<T> {}

impl<T: Send + Sync + 'static> Table<T> {
    /// A table of `capacity` empty slots.
    #[must_use]
    pub fn new(domain: &Domain, capacity: usize) -> Self {
        let slots = (0..capacity).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        Self { slots, domain: domain.clone() }
    }

    /// Number of slots.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Puts `object` into an empty slot. Panics if the slot is taken: slots have one owner.
    pub fn link(&self, slot: usize, object: Box<T>) {
        let object = Box::into_raw(object);
        // ORDERING 1: whoever sees the pointer sees the object.
        let linked =
            self.slots[slot].compare_exchange(ptr::null_mut(), object, Site::Link.release(), Ordering::Relaxed).is_ok();
        assert!(linked, "slot {slot} of a shared table linked twice");
    }

    /// Takes the object out. `None` if the slot is empty.
    pub fn unlink(&self, slot: usize) -> Option<Unlinked<T>> {
        // ORDERING 1: it may have been linked by another thread. What goes in is nothing, so there is nothing to release.
        let object = NonNull::new(self.slots[slot].swap(ptr::null_mut(), Site::Unlink.acquire()))?;
        Some(Unlinked { object, domain: self.domain.id() })
    }

    /// The object in `slot`, for the rest of this turn. `None` also for a slot beyond the capacity.
    #[must_use]
    #[inline]
    pub fn look<'t>(&self, guard: Guard<'t>, slot: usize) -> Option<&'t T> {
        guard.check(self.domain.id());
        // ORDERING 1.
        let object = NonNull::new(self.slots.get(slot)?.load(Site::Look.acquire()))?;
        // SAFETY: invariant 1, and it is not given back during 't (file head).
        Some(unsafe { object.as_ref() })
    }
}

impl<T> Unlinked<T> {
    /// For [`crate::Published`]: `object` was taken out of a place of `domain` by a swap, and invariants 1 and 2 hold for it.
    pub(crate) fn new(object: NonNull<T>, domain: DomainId) -> Self {
        Self { object, domain }
    }
}

#[cfg(all(loom, test))]
impl<T> Unlinked<T> {
    /// For models in which nobody looks: there is nobody to wait for.
    pub(crate) fn into_object_of_nobody(self) -> Box<T> {
        // SAFETY: invariants 1 and 2; the model has no readers.
        unsafe { Box::from_raw(self.object.as_ptr()) }
    }
}

impl<T> Reaped<Unlinked<T>> {
    /// The object, which nobody else can see any longer.
    #[must_use]
    pub fn into_object(self) -> Box<T> {
        let reaped_in = self.domain();
        let unlinked = self.into_inner();
        assert!(reaped_in == unlinked.domain, "an object of one domain reaped in another's limbo");
        // SAFETY: invariants 1 and 2, and its grace period in its own domain is over.
        unsafe { Box::from_raw(unlinked.object.as_ptr()) }
    }
}

impl<T> fmt::Debug for Unlinked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unlinked")
    }
}
