//! Completions on their way from the library's threads to a channel's CPU.
//!
//! # Invariants of the unsafe code
//! 1. The argument of a completion is a strong count of its [`Slot`], made by `Arc::into_raw`. It goes back once: by the callback, or where the call was refused,
//!    in which case there is no callback. So a callback finds its slot, the queue and the descriptor, however late it comes, whatever has gone by then.
//! 2. A completion is released once, by the same.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use super::library::Ceph;
use crate::inbox::Entrance;

/// What a call of a slot has come to: the slot's number, and a count of bytes, 0, or a negated errno.
pub(super) type Ended = (u32, i64);

/// Where an operation of a channel hears of its call.
#[derive(Debug)]
pub(super) struct Slot {
    ceph: Arc<Ceph>,
    entrance: Arc<Entrance<Ended>>,
    number: u32,
}

impl Slot {
    pub(super) fn new(ceph: &Arc<Ceph>, entrance: &Arc<Entrance<Ended>>, number: u32) -> Arc<Self> {
        Arc::new(Self { ceph: Arc::clone(ceph), entrance: Arc::clone(entrance), number })
    }

    /// Makes a completion for `begin`, which is heard of through this slot, unless `begin` is refused.
    pub(super) fn with_completion(
        self: &Arc<Self>,
        ceph: &Ceph,
        begin: impl FnOnce(*mut c_void) -> i32,
    ) -> Result<(), i64> {
        let argument = Arc::into_raw(Arc::clone(self)).cast_mut().cast();
        let mut completion = ptr::null_mut();
        // SAFETY: invariant 1; the out parameter lives through the call.
        let made = unsafe { (ceph.rbd_aio_create_completion)(argument, on_completion, &raw mut completion) };
        let begun = if made < 0 { made } else { begin(completion) };
        if begun >= 0 {
            return Ok(());
        }
        if made >= 0 {
            // SAFETY: invariant 2: it was refused, so nobody else does.
            unsafe { (ceph.rbd_aio_release)(completion) };
        }
        // SAFETY: invariant 1: it was refused.
        drop(unsafe { Arc::from_raw(argument.cast_const().cast::<Self>()) });
        Err(i64::from(begun))
    }
}

/// A thread of the library: an operation has ended.
unsafe extern "C" fn on_completion(completion: *mut c_void, argument: *mut c_void) {
    // SAFETY: invariant 1.
    let slot = unsafe { Arc::from_raw(argument.cast_const().cast::<Slot>()) };
    // SAFETY: the completion is there until it is released.
    let result = unsafe { (slot.ceph.rbd_aio_get_return_value)(completion) };
    // SAFETY: invariant 2.
    unsafe { (slot.ceph.rbd_aio_release)(completion) };
    slot.entrance.bring((slot.number, result as i64));
}
