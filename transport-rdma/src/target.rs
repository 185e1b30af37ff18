//! The target side of NVMe over RDMA: what runs on its polling CPUs, and the part of the control plane that makes and ends connections.
//!
//! | part | what it is |
//! |---|---|
//! | `build` | puts a target together |
//! | [`Control`] | control plane: listeners, connections, events, making and destroying of queue pairs |
//! | [`TargetCpu`] | one polling CPU: messages, the walk, the teardown of its queue pairs |
//! | `paths` | the data paths of one CPU, one for each device |
//! | `data_path` | one CPU's `nvmf_core::Transport`: completions, transfers, responses |
//! | `body` | everything about one queue pair that changes: its CPU's alone |
//! | `fitting` | what a device gives a CPU: a port, and facts |
//! | `placement` | rules that say which CPUs connections may go to |
//! | `shared_receive`, `region` | the shared receive queue's buffers; local keys |
//! | [`Message`] | what control plane and CPUs send each other |
//!
//! The end of a queue pair is decided in `crate::teardown`; `docs/TEARDOWN.md` tells it whole.

mod build;
mod control;
mod cpu;

mod paths;

mod data_path;

mod body;
mod fitting;
mod message;
mod placement;
mod region;
mod shared_receive;

mod counters;

use reactor::NumaNode;

use crate::verbs::VerbsError;

pub use build::{Assembled, Built, TargetMemory, build, build_in, build_several, memory_lens};
pub use control::{Change, Control, ControlError, Traced};
pub use cpu::TargetCpu;
pub use message::Message;
pub use placement::{Origin, PlacementError, PlacementRule, RULE_COUNT_MAX};

/// A counter or gauge: name, labels, value.
pub type CounterRow = (String, Vec<(&'static str, String)>, u64);

/// How a target is laid out.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Polling CPUs: reactors 0 … n-1. The control plane is reactor n.
    pub cpu_count: u16,
    /// Most queue pairs of one CPU.
    pub queue_pair_count_max: usize,
    /// Bytes of data buffers of one CPU.
    pub data_memory_len: usize,
    /// Whether to try hugepages.
    pub huge_pages: bool,
    /// Depth of each CPU's shared receive queue. 0: every queue pair has its own receives.
    pub shared_receive_count: u32,
    /// Devices of the provider.
    pub device_count: u8,
    /// The NUMA node of each CPU, from which its memory is taken if it can be. CPUs beyond the list have no preference.
    pub nodes: Vec<Option<NumaNode>>,
    /// Which CPUs connections may go to. None: all.
    pub placement: Vec<PlacementRule>,
    /// Most queue pairs of one host, by its address.
    pub host_queue_pair_count_max: u32,
}

/// Why a target could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The specification is wrong.
    #[error(transparent)]
    Spec(#[from] nvmf_core::target::SpecError),
    /// RDMA refused.
    #[error(transparent)]
    Verbs(#[from] VerbsError),
    /// A device refused.
    #[error(transparent)]
    Device(#[from] bdev::BdevError),
    /// A rule names no CPU of this target.
    #[error("placement: {0}")]
    Placement(#[from] PlacementError),
    /// There is not enough memory.
    #[error(transparent)]
    Memory(#[from] reactor::MemoryError),
}
