//! Work requests that were taken and not handed to the device yet: linked lists in fixed memory, one list for each queue.
//!
//! Owned by one port, used by its CPU alone. The memory is taken once; when it is full the port rings early.
//!
//! Invariants, cited by the `SAFETY` notes:
//! 1. The memory of a [`Shelf`] stays where it is and lives as long as the shelf; places below `len` were written.
//! 2. Pointers to places are used until [`Shelf::clear`] at the latest: by then every list was handed over, which copies it.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::sys::{ibv_recv_wr, ibv_send_wr};

/// A fixed number of places that are filled from the front and cleared together, with addresses that stay.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    base: NonNull<T>,
    capacity: usize,
    len: usize,
    owned: PhantomData<T>,
}

// SAFETY: it owns its memory; what it holds are numbers, and pointers into shelves of the same port.
unsafe impl<T> Send for Shelf<T> {}

impl<T> Shelf<T> {
    /// Of places that begin as `filler` has them.
    pub(super) fn new(capacity: usize, filler: impl FnMut() -> T) -> Self {
        // Places are overwritten without a look at what was there.
        const { assert!(!std::mem::needs_drop::<T>()) };
        let memory: Box<[T]> = std::iter::repeat_with(filler).take(capacity).collect();
        Self { base: NonNull::from(Box::leak(memory)).cast(), capacity, len: 0, owned: PhantomData }
    }

    pub(super) fn has_room(&self, count: usize) -> bool {
        self.capacity - self.len >= count
    }

    /// Fills the next place. Panics if there is none.
    #[inline]
    pub(super) fn put(&mut self, value: T) -> *mut T {
        let place = self.next(1);
        // SAFETY: invariant 1, and nobody else knows this place.
        unsafe { place.write(value) };
        place
    }

    /// The next `count` places, one after the other, as they are.
    #[inline]
    pub(super) fn next(&mut self, count: usize) -> *mut T {
        assert!(self.has_room(count), "a shelf of {} is full", self.capacity);
        // SAFETY: invariant 1: the place is inside, or just behind if none is asked for.
        let place = unsafe { self.base.as_ptr().add(self.len) };
        self.len += count;
        place
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }
}

impl<T> Drop for Shelf<T> {
    fn drop(&mut self) {
        let memory = NonNull::slice_from_raw_parts(self.base, self.capacity);
        // SAFETY: invariant 1: it was a box, leaked once.
        drop(unsafe { Box::from_raw(memory.as_ptr()) });
    }
}

/// Requests that can be linked.
pub(super) trait Linked {
    /// Has `next` come after `of`.
    ///
    /// # Safety
    /// `of` is a place of a shelf that was filled.
    unsafe fn link(of: *mut Self, next: *mut Self);
}

impl Linked for ibv_send_wr {
    unsafe fn link(of: *mut Self, next: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { (*of).next = next };
    }
}

impl Linked for ibv_recv_wr {
    unsafe fn link(of: *mut Self, next: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { (*of).next = next };
    }
}

/// A queue's requests, in order.
#[derive(Debug)]
pub(super) struct List<T> {
    first: *mut T,
    last: *mut T,
}

// SAFETY: as a shelf's places.
unsafe impl<T> Send for List<T> {}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { first: std::ptr::null_mut(), last: std::ptr::null_mut() }
    }
}

impl<T: Linked> List<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Adds a place of this port's shelf, whose own link is null.
    #[inline]
    pub(super) fn push(&mut self, place: *mut T) {
        if self.first.is_null() {
            self.first = place;
        } else {
            // SAFETY: invariant 2.
            unsafe { T::link(self.last, place) };
        }
        self.last = place;
    }

    /// The head of all of them; the list is empty then.
    #[inline]
    pub(super) fn take(&mut self) -> *mut T {
        let first = self.first;
        *self = Self::default();
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u64) -> ibv_recv_wr {
        ibv_recv_wr { wr_id: id, next: std::ptr::null_mut(), sg_list: std::ptr::null_mut(), num_sge: 0 }
    }

    fn ids(mut head: *mut ibv_recv_wr) -> Vec<u64> {
        let mut ids = Vec::new();
        while !head.is_null() {
            // SAFETY: invariant 1.
            let request = unsafe { *head };
            ids.push(request.wr_id);
            head = request.next;
        }
        ids
    }

    #[test]
    fn lists_keep_their_order_and_share_a_shelf() {
        let mut shelf = Shelf::new(6, || request(0));
        let mut lists = [List::default(), List::default()];
        for id in 0..6 {
            let place = shelf.put(request(id));
            lists[usize::from(id % 3 == 0)].push(place);
        }
        assert!(!shelf.has_room(1));
        assert_eq!(ids(lists[0].take()), [1, 2, 4, 5]);
        assert_eq!(ids(lists[1].take()), [0, 3]);
        assert!(lists.iter().all(List::is_empty));
        shelf.clear();
        assert!(shelf.has_room(6) && !shelf.has_room(7));
        lists[0].push(shelf.put(request(9)));
        assert_eq!(ids(lists[0].take()), [9]);
    }
}
