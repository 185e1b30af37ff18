//! The memory of a whole target: what its devices, and its peers by way of them, write.
//!
//! Segments of it are everywhere, so it goes by no drop: a target that ends with its process leaves it to the process. Whoever runs one target after
//! the other owns it, and says when it can be reached by nobody.
//!
//! Invariants:
//! 1. An arena here is unmapped in `TargetMemory::release` only, which consumes it.

use nvmf_core::spec::ControllerSpec;
use reactor::{Arena, ArenaOptions, Cpu, Segment};

use super::super::{BuildError, TargetOptions};
use super::memory_lens;

/// The memory of a whole target.
#[derive(Debug)]
pub struct TargetMemory {
    /// By CPU.
    pub(super) cpus: Vec<CpuMemory>,
}

/// Of one CPU.
#[derive(Debug)]
pub(super) struct CpuMemory {
    pub(super) data: Arena,
    pub(super) receives: Arena,
    pub(super) responses: Arena,
}

impl TargetMemory {
    /// For a target of these options.
    ///
    /// # Errors
    /// If there is not enough memory, or the options do not go together.
    pub fn allocate(options: &TargetOptions, controller: &ControllerSpec) -> Result<Self, BuildError> {
        let lens = memory_lens(options, controller)?;
        let of_cpu = |number: u16| {
            let node = options.nodes.get(usize::from(number)).copied().flatten();
            CpuMemory::allocate(Cpu(number), lens.map(|len| ArenaOptions { len, huge_pages: options.huge_pages, node }))
        };
        Ok(Self { cpus: (0..options.cpu_count).map(of_cpu).collect::<Result<_, _>>()? })
    }

    /// Unmaps it.
    ///
    /// # Safety
    /// Nothing of the target that was built in it is left: neither its control plane (and with it the provider) nor one of its CPUs; and no channel of a block
    /// device has an operation of it under way.
    pub unsafe fn release(self) {
        for CpuMemory { data, receives, responses } in self.cpus {
            for arena in [data, receives, responses] {
                // SAFETY: the caller's promise: nobody is left who has a segment, and no device that was told of one.
                unsafe { arena.release() };
            }
        }
    }
}

impl CpuMemory {
    fn allocate(cpu: Cpu, [data, receives, responses]: [ArenaOptions; 3]) -> Result<Self, BuildError> {
        let arena = |what, options| {
            let arena = Arena::with(options)?;
            if let Some(why) = arena.why_ordinary() {
                tracing::info!(cpu = cpu.0, "memory for {what} is on ordinary pages: {why}");
            }
            Ok::<_, BuildError>(arena)
        };
        Ok(Self {
            data: arena("data", data)?,
            receives: arena("receives", receives)?,
            responses: arena("responses", responses)?,
        })
    }

    pub(super) fn segments(&self) -> [Segment; 3] {
        [self.data.segment(), self.receives.segment(), self.responses.segment()]
    }
}
