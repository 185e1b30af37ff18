//! The memory under a simulated machine's programs, which goes with them: runs leave nothing behind, and what would touch it later is a fault.
//!
//! # Invariants of the unsafe code
//!
//! 1. A ground is the last field of what owns every program that was built in it, and its provider; nobody takes one of them out. Fields are
//!    dropped in their order, so when a ground is dropped nothing of the programs is left. A simulated block device's channels end
//!    their operations when they are dropped, and they are their programs'.
//! 2. What a provider shares of a host's memory ends with the provider.

use transport_rdma::host::HostMemory;
use transport_rdma::target::TargetMemory;

/// Of a target. See the module for where it has to be.
pub struct TargetGround(Option<TargetMemory>);

/// Of a host. See the module for where it has to be.
pub struct HostGround(Option<HostMemory>);

impl TargetGround {
    pub(super) fn new(memory: TargetMemory) -> Self {
        Self(Some(memory))
    }
}

impl HostGround {
    /// For the last field of what owns everything that was built in this memory.
    #[must_use]
    pub fn new(memory: HostMemory) -> Self {
        Self(Some(memory))
    }
}

impl Drop for TargetGround {
    fn drop(&mut self) {
        if let Some(memory) = self.0.take() {
            // SAFETY: invariant 1.
            unsafe { memory.release() };
        }
    }
}

impl Drop for HostGround {
    fn drop(&mut self) {
        if let Some(memory) = self.0.take() {
            // SAFETY: invariant 1.
            let released = unsafe { memory.release() };
            assert!(released.is_ok() || std::thread::panicking(), "somebody shares the memory of a host that is gone");
        }
    }
}
