//! The host side of NVMe over RDMA: a control plane that makes and ends connections, and polling CPUs that carry commands for a [`Workload`].
//!
//! | part | what it is | runs on |
//! |---|---|---|
//! | [`HostControl`] | registers memory, makes a link per queue, ends them; the first failure ends all | the control plane |
//! | [`HostCpu`] | the port, its queues and command slots, the admin queue's steps, the workload | a polling CPU |
//! | [`Workload`], [`IoQueues`] | what a program brings, and what it submits to | a polling CPU |
//!
//! One host talks to one subsystem at one address. Its memory is registered once: capsules for local access, data for the target to read
//! and write. CPUs share nothing: queue pairs travel between control plane and CPU by value, everything else by handle.

mod admin;
mod control;
mod cpu;
mod error;
mod io_queues;
mod link;
mod memory;
mod message;
mod options;
mod queue;
mod workload;

use std::sync::Arc;

use crate::verbs::{PortOptions, Provider, VerbsError};

pub use control::HostControl;
pub use cpu::HostCpu;
pub use error::HostFailure;
pub use io_queues::{IoQueues, QueueFull};
pub use memory::HostMemory;
pub use message::Message;
pub use options::{HostAuthentication, HostOptions, OptionError};
pub use workload::{Ended, IoCommand, Start, Workload};

/// Why a host could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An option is out of range.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// RDMA refused.
    #[error(transparent)]
    Verbs(#[from] VerbsError),
    /// There is not enough memory.
    #[error(transparent)]
    Memory(#[from] reactor::MemoryError),
}

/// A host's programs: the control plane's, and one for each polling CPU.
pub type Built<P, W> = (HostControl<P>, Vec<HostCpu<P, W>>);

/// Makes a whole host, one workload per polling CPU: takes memory and makes ports. Nothing runs yet; the control plane's first
/// poll begins to connect. Its memory is the process's for life.
///
/// # Errors
/// [`BuildError`].
pub fn build<P: Provider, W: Workload>(
    provider: P,
    options: HostOptions,
    workload: impl FnMut(u16) -> W,
) -> Result<Built<P, W>, BuildError> {
    let memory = HostMemory::allocate(&options)?;
    build_in(&memory, provider, options, workload)
}

/// The same in memory that the caller has, and may take back when the host is gone ([`HostMemory::release`]). It has to be made for these options.
///
/// # Errors
/// [`BuildError`].
pub fn build_in<P: Provider, W: Workload>(
    memory: &HostMemory,
    mut provider: P,
    options: HostOptions,
    mut workload: impl FnMut(u16) -> W,
) -> Result<Built<P, W>, BuildError> {
    options.check()?;
    let cpus = 0..options.cpu_count;
    let (capsules, data) = (memory.capsules(), memory.data());
    let options = Arc::new(options);

    let (mut ports, mut programs) = (Vec::new(), Vec::new());
    let (mut capsules_used, mut data_used) = (0, 0);
    for cpu in cpus {
        let port_options = PortOptions { completion_count: options.completion_count(cpu), shared_receive_count: 0 };
        let (id, port) = provider.create_port(port_options)?;
        ports.push(id);
        let (capsule_len, data_len) = (options.capsule_len(cpu), options.data_len(cpu));
        programs.push(HostCpu::new(
            cpu,
            port,
            Arc::clone(&options),
            capsules.part(capsules_used, capsule_len),
            data.segment().part(data_used, data_len),
            workload(cpu),
        ));
        capsules_used += capsule_len;
        data_used += data_len;
    }
    Ok((HostControl::new(provider, options, ports, capsules, data), programs))
}
