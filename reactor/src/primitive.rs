//! The atomics that messages, reclamation and sleeping are built on, in one place.
//!
//! Under `--cfg loom` they are the model checker's; under `--cfg tsan` a fence is an access of one shared word, since ThreadSanitizer does
//! not model fences. [`Site`] names the places whose ordering the proofs rest on, so that the models can weaken one at a time and show that they
//! would notice.

#[cfg(any(loom, tsan, test))]
pub(crate) mod mutation;
mod site;

pub(crate) use site::Site;

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::Arc as SharedArc,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering},
};

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Where the last owner goes on to touch what the others have touched. Everywhere else the standard library's does: nothing depends on who is last.
#[cfg(not(loom))]
pub(crate) use std::sync::Arc as SharedArc;

#[cfg(not(loom))]
pub(crate) use cell::UnsafeCell;

#[cfg(not(loom))]
mod cell {
    /// A cell with the model checker's interface: pointers are used inside a closure, so that it knows when.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(crate) fn with<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
            look(self.0.get())
        }

        #[inline]
        pub(crate) fn with_mut<R>(&self, touch: impl FnOnce(*mut T) -> R) -> R {
            touch(self.0.get())
        }
    }
}
