//! The atomics that reclamation and sleeping are built on, in one place, so that a model checker's can be put here instead.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering};

/// Store-load ordering is always written as this fence, never as sequentially consistent loads and stores.
#[inline]
pub(crate) fn fence_seq_cst() {
    std::sync::atomic::fence(Ordering::SeqCst);
}
