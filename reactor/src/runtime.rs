//! Reactors on real threads.

use std::sync::Arc;

use crate::domain::Domain;
use crate::mailbox::Postbox;
use crate::program::{Cpu, Program};
use crate::reactor::ReactorCounters;

/// Where a reactor's thread runs and what it does when idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Pinned to this CPU of the operating system, polling all the time.
    Pinned {
        /// The operating system's CPU number.
        os_cpu: usize,
    },
    /// Not pinned, yielding when idle: for more reactors than CPUs, and for tests.
    Yielding,
    /// Not pinned, asleep when there is nothing to do: the control plane.
    Sleeping,
}

/// Why a runtime did not start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The CPU cannot be used.
    #[error("cpu {os_cpu} is not available to this process (allowed: {allowed})")]
    NoSuchCpu {
        /// What was asked for.
        os_cpu: usize,
        /// What the process may use, as a list.
        allowed: String,
    },
    /// A system call failed.
    #[error("{call} failed: {source}")]
    System {
        /// Which call.
        call: &'static str,
        /// errno.
        source: std::io::Error,
    },
}

/// A mesh being put together. `M` is its message.
pub struct RuntimeBuilder<M> {
    _todo: std::marker::PhantomData<M>,
}

impl<M: Send + 'static> RuntimeBuilder<M> {
    /// A mesh of as many reactors as placements; rings between each two hold `ring_capacity` messages. Checks the CPU numbers.
    ///
    /// # Errors
    /// [`RuntimeError::NoSuchCpu`].
    pub fn new(placements: &[Placement], ring_capacity: usize) -> Result<Self, RuntimeError> {
        let _ = (placements, ring_capacity);
        todo!()
    }

    /// The mesh's reclamation domain, to make tables in.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        todo!()
    }

    /// The way into `cpu` for other threads.
    #[must_use]
    pub fn postbox(&self, cpu: Cpu) -> Postbox<M> {
        let _ = cpu;
        todo!()
    }

    /// What `cpu` counts.
    #[must_use]
    pub fn counters(&self, cpu: Cpu) -> Arc<ReactorCounters> {
        let _ = cpu;
        todo!()
    }

    /// Starts `cpu`'s thread; the program is made on it.
    ///
    /// # Errors
    /// If the thread cannot be started or pinned.
    pub fn spawn<P>(
        &mut self,
        cpu: Cpu,
        name: &str,
        make: impl FnOnce() -> P + Send + 'static,
    ) -> Result<(), RuntimeError>
    where
        P: Program<Message = M> + 'static,
    {
        let _ = (cpu, name, make);
        todo!()
    }

    /// All reactors were spawned.
    #[must_use]
    pub fn start(self) -> Runtime {
        todo!()
    }
}

/// A running mesh.
pub struct Runtime {
    _todo: (),
}

impl Runtime {
    /// Waits until every program has left.
    pub fn join(self) {
        todo!()
    }
}
