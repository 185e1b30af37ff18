//! Two fences that pair with each other: a light one for the many, a heavy one for the few.

#[cfg(not(any(loom, tsan, miri)))]
pub(super) use asymmetric::{heavy, is_asymmetric, light};
#[cfg(any(loom, tsan, miri))]
pub(super) use symmetric::{heavy, is_asymmetric, light};

#[cfg(not(any(loom, tsan, miri)))]
mod asymmetric {
    use std::sync::atomic::{AtomicU8, Ordering, compiler_fence};

    use crate::primitive::Site;

    /// Whether this process has registered with `membarrier(2)`. Decided once.
    static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
    const UNKNOWN: u8 = 0;
    const REGISTERED: u8 = 1;
    const REFUSED: u8 = 2;

    /// linux/membarrier.h.
    const MEMBARRIER_CMD_GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
    const MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

    #[inline]
    pub(in super::super) fn light() {
        if STATE.load(Ordering::Relaxed) == REGISTERED {
            // ORDERING 6: the heavy one is this CPU's fence too.
            compiler_fence(Ordering::SeqCst);
        } else {
            light_unregistered();
        }
    }

    /// Right in any state: the heavy one has a fence of its own.
    #[cold]
    fn light_unregistered() {
        is_asymmetric();
        Site::WakeFence.fence();
    }

    pub(in super::super) fn heavy(site: Site) {
        site.fence();
        if is_asymmetric() {
            let result = membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED);
            // Others rely on it already.
            assert!(
                result == 0,
                "membarrier(2) is refused after it was allowed: a sandbox must be in place before a reactor sleeps"
            );
        }
    }

    pub(in super::super) fn is_asymmetric() -> bool {
        match STATE.load(Ordering::Relaxed) {
            UNKNOWN => {
                let is_registered = membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0;
                let state = if is_registered { REGISTERED } else { REFUSED };
                // Two threads that come here at a time find the same.
                STATE.store(state, Ordering::SeqCst);
                is_registered
            }
            state => state == REGISTERED,
        }
    }

    fn membarrier(command: libc::c_int) -> libc::c_long {
        // SAFETY: touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }
    }
}

#[cfg(any(loom, tsan, miri))]
mod symmetric {
    use crate::primitive::Site;

    #[inline]
    pub(in super::super) fn light() {
        Site::WakeFence.fence();
    }

    pub(in super::super) fn heavy(site: Site) {
        site.fence();
    }

    pub(in super::super) fn is_asymmetric() -> bool {
        false
    }
}
