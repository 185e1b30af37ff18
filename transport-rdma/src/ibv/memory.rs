//! Registered memory: whole arenas, once each, at start.
//!
//! Invariant, cited by the `SAFETY` notes:
//! 1. The region's pointer lives until [`Registration::end`]; the device lives longer, and the caller keeps the memory mapped.

use std::io;
use std::sync::Arc;

use reactor::{Segment, SharedArena};

use super::device::Device;
use super::raw::{Raw, by_errno};
use super::sys;
use crate::verbs::{Access, Memory, RegisteredMemory};

/// A memory region.
#[derive(Debug)]
pub(super) struct Registration {
    raw: Raw<sys::ibv_mr>,
    /// Shared memory stays mapped as long as the device knows it.
    _arena: Option<Arc<SharedArena>>,
}

impl Registration {
    /// Pins the pages: takes its time.
    pub(super) fn begin(device: &Device, memory: &Memory, access: Access) -> io::Result<Self> {
        let (segment, arena): (Segment, _) = match memory {
            Memory::Private(segment) => (*segment, None),
            Memory::Shared(arena) => (arena.segment(), Some(Arc::clone(arena))),
        };
        let flags = access_flags(access, device.reads_need_remote_write());
        // SAFETY: the device is open; the memory is mapped, so long.
        let made = unsafe { sys::ibv_reg_mr(device.pd(), segment.as_ptr().cast(), segment.len(), flags) };
        Ok(Self { raw: Raw::returned(made)?, _arena: arena })
    }

    /// After this neither device nor peer touches it.
    pub(super) fn end(self) -> io::Result<()> {
        // SAFETY: invariant 1.
        by_errno(unsafe { sys::ibv_dereg_mr(self.raw.as_ptr()) })
    }

    pub(super) fn keys(&self, has_remote: bool) -> RegisteredMemory {
        // SAFETY: invariant 1; the keys never change.
        let region = unsafe { &*self.raw.as_ptr() };
        RegisteredMemory { local_key: region.lkey, remote_key: if has_remote { region.rkey } else { 0 } }
    }
}

/// Windows are not offered, so the right to bind them is not asked for.
fn access_flags(access: Access, reads_need_remote_write: bool) -> i32 {
    let mut flags = 0;
    if access.contains(Access::LOCAL_WRITE) {
        flags |= sys::ACCESS_LOCAL_WRITE;
        if reads_need_remote_write {
            flags |= sys::ACCESS_REMOTE_WRITE;
        }
    }
    if access.contains(Access::REMOTE_WRITE) {
        // Which the device wants with it.
        flags |= sys::ACCESS_REMOTE_WRITE | sys::ACCESS_LOCAL_WRITE;
    }
    if access.contains(Access::REMOTE_READ) {
        flags |= sys::ACCESS_REMOTE_READ;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights() {
        assert_eq!(access_flags(Access::empty(), false), 0);
        assert_eq!(access_flags(Access::LOCAL_WRITE, false), 1);
        assert_eq!(access_flags(Access::LOCAL_WRITE, true), 3, "iWARP");
        assert_eq!(access_flags(Access::REMOTE_WRITE, false), 3);
        assert_eq!(access_flags(Access::REMOTE_READ | Access::WINDOW_BIND, false), 4);
        assert_eq!(access_flags(Access::all(), false), 7);
    }
}
