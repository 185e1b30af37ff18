//! The memory of a whole host: capsules for its own device, data that the target reads and writes.
//!
//! As with a target's, segments of it are everywhere, so it goes by no drop: a host that ends with its process leaves it to the process. Whoever runs one host
//! after the other owns it, and says when it can be reached by nobody.
//!
//! Invariants:
//! 1. An arena here is unmapped in `HostMemory::release` only, which consumes it.

use std::sync::Arc;

use reactor::{Arena, Segment, SharedArena};

use crate::host::BuildError;
use crate::host::options::HostOptions;

/// The memory of a whole host.
#[derive(Debug)]
pub struct HostMemory {
    capsules: Arena,
    data: Arc<SharedArena>,
}

impl HostMemory {
    /// For a host of these options.
    ///
    /// # Errors
    /// If an option is out of range, or there is not enough memory.
    pub fn allocate(options: &HostOptions) -> Result<Self, BuildError> {
        options.check()?;
        let cpus = 0..options.cpu_count;
        let capsules = Arena::new(cpus.clone().map(|cpu| options.capsule_len(cpu)).sum(), options.huge_pages)?;
        let data_len = cpus.map(|cpu| options.data_len(cpu)).sum();
        let data = Arc::new(SharedArena::new("nvmf-host-data", data_len, options.huge_pages)?);
        Ok(Self { capsules, data })
    }

    pub(super) fn capsules(&self) -> Segment {
        self.capsules.segment()
    }

    pub(super) fn data(&self) -> Arc<SharedArena> {
        Arc::clone(&self.data)
    }

    /// Unmaps it. What a provider still shares stays mapped, and is in `Err`.
    ///
    /// # Errors
    /// The data's arena, if somebody has it.
    ///
    /// # Safety
    /// Nothing of the host that was built in it is left: neither its control plane (and with it the provider) nor one of its CPUs, its workloads included.
    pub unsafe fn release(self) -> Result<(), Arc<SharedArena>> {
        // SAFETY: the caller's promise: nobody is left who has a segment, and no device that was told of one.
        unsafe { self.capsules.release() };
        let data = Arc::try_unwrap(self.data)?;
        // SAFETY: likewise.
        unsafe { data.release() };
        Ok(())
    }
}
