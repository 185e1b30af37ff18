//! The configuration file: what it may say, and what is made of it.
//!
//! Three steps: the file's own shape with the place of each value ([`shape`]), the checks that turn it into a [`Config`] ([`check`]), and errors
//! that name file, line, field, value and what is allowed ([`report`]). Nothing is opened or started here.
//! Every key is described in `docs/CONFIGURATION.md`.

mod check;
mod log_level;
mod merge;
mod report;
mod shape;
mod size;
mod steps;
mod write;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bdev::{ClusterOptions, Latencies, Limits, Rule};
use nvmf_core::auth::{GroupSet, HashSet};
use nvmf_core::spec::{AnaSpec, ControllerModel, ControllerSpec, HostLimits, ReferralSpec};
use reactor::PollMode;
use transport_rdma::target::Origin;
use uuid::Uuid;

pub use check::serial_number;
pub use log_level::{LOG_LEVELS, log_filter};
pub use merge::merge;
pub(crate) use report::nearest;
pub use report::{ConfigError, Problem};
pub use size::Size;
pub use steps::{SUBSYSTEMS, Step, Way, mebibytes, of_subsystem, to_spdk, way, whole};
pub use write::{table, to_toml};

/// What one thing may hold its CPU for before it is reported.
pub const TURN_LIMIT_US: RangeInclusive<u64> = 1..=10_000_000;

/// How long a CPU may be awake without a turn before it is reported. Shorter times could not be told from the interval between two looks.
pub const STALL_LIMIT_MS: RangeInclusive<u64> = 1000..=3_600_000;

/// A whole configuration, checked in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// CPUs and memory.
    pub target: TargetSection,
    /// Which CPUs connections may go to, in the file's order.
    pub placement: Vec<PlacementSection>,
    /// What one host may take.
    pub limits: LimitsSection,
    /// What is logged, and how.
    pub log: LogSection,
    /// How hosts reach the target.
    pub transport: TransportSection,
    /// Connections to Ceph clusters that devices share.
    pub clusters: Vec<ClusterSection>,
    /// Block devices, in the file's order.
    pub devices: Vec<DeviceSection>,
    /// Subsystems, in the file's order.
    pub subsystems: Vec<SubsystemSection>,
    /// Where else hosts are sent, in the file's order.
    pub referrals: Vec<ReferralSpec>,
    /// Keys that hosts can be given.
    pub keys: Vec<KeySection>,
    /// How hosts that have keys authenticate: hash functions and groups that may be used.
    pub authentication: (HashSet, GroupSet),
    /// Where metrics are served, if they are.
    pub metrics: Option<SocketAddr>,
    /// The RPC socket's path, if there is one.
    pub rpc: Option<PathBuf>,
}

/// CPUs and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSection {
    /// The reactors that poll.
    pub reactors: ReactorSection,
    /// What they do when there is nothing to do.
    pub poll_mode: PollMode,
    /// How long one thing may hold a CPU before it is reported.
    pub turn_limit_us: u64,
    /// How long a CPU may be awake without a turn before it is reported.
    pub stall_limit_ms: u64,
    /// Whether hugepages are tried.
    pub hugepages: bool,
    /// Bytes of data buffers of each CPU.
    pub data_memory_len: usize,
    /// Most queue pairs of each CPU.
    pub queue_pair_count_max: usize,
    /// How long a shutdown may take.
    pub shutdown_deadline_s: u32,
    /// Where each namespace has a file for its reservations.
    pub state_directory: Option<PathBuf>,
    /// Whether what requests change is kept there, and holds again at the next start.
    pub saves_changes: bool,
}

/// Where the reactors that poll run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReactorSection {
    /// One pinned to each of these CPUs, by the operating system's numbers.
    Pinned(Vec<usize>),
    /// So many, wherever the operating system puts them.
    Floating(u16),
}

impl ReactorSection {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Pinned(cpus) => cpus.len(),
            Self::Floating(count) => usize::from(*count),
        }
    }

    /// What they are called, in the mesh's order.
    #[must_use]
    pub fn numbers(&self) -> Vec<usize> {
        match self {
            Self::Pinned(cpus) => cpus.clone(),
            Self::Floating(count) => (0..usize::from(*count)).collect(),
        }
    }
}

/// Which CPUs some connections may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementSection {
    /// Whose.
    pub origin: Origin,
    /// Polling CPUs, as [`ReactorSection::numbers`] names them.
    pub cpus: Vec<usize>,
}

/// What one host may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsSection {
    /// Most queue pairs, by its address.
    pub host_queue_pair_count_max: u32,
    /// What it may have in flight.
    pub host: HostLimits,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSection {
    /// The lowest level that is shown, or a filter by module.
    pub level: String,
    /// Lines for people or for programs.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Which RDMA is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// An RDMA device, if the listeners' addresses are on one; else the software fabric.
    Auto,
    /// The software fabric.
    Soft,
    /// RDMA devices.
    Ibv,
}

/// How hosts reach the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportSection {
    /// Which RDMA.
    pub provider: ProviderKind,
    /// The RDMA device. `None`: the one that the listeners' addresses are on.
    pub device: Option<String>,
    /// Entries of an I/O queue.
    pub queue_depth: u16,
    /// Entries of an admin queue.
    pub admin_queue_depth: u16,
    /// I/O queues of a controller.
    pub io_queue_count_max: u16,
    /// Bytes of in-capsule data.
    pub in_capsule_len: u32,
    /// Bytes that one command may move.
    pub transfer_len_max: u32,
    /// Receives that the queue pairs of one CPU share. 0: each has its own.
    pub shared_receive_count: u32,
    /// Where the software fabric keeps its sockets.
    pub runtime_dir: Option<PathBuf>,
}

impl Default for TransportSection {
    fn default() -> Self {
        let controller = ControllerSpec::default();
        Self {
            provider: ProviderKind::Auto,
            device: None,
            queue_depth: controller.queue_depth_max,
            admin_queue_depth: controller.admin_queue_depth_max,
            io_queue_count_max: controller.io_queue_count_max,
            in_capsule_len: controller.in_capsule_len,
            transfer_len_max: controller.transfer_len_max,
            shared_receive_count: 0,
            runtime_dir: None,
        }
    }
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSection {
    /// Its name.
    pub name: String,
    /// Bytes of a block. One that is made of another has the other's.
    pub block_len: u32,
    /// What it is.
    pub kind: DeviceKind,
    /// What its users may do.
    pub limits: Limits,
}

impl DeviceSection {
    /// One without limits.
    #[must_use]
    pub fn new(name: &str, block_len: u32, kind: DeviceKind) -> Self {
        Self { name: name.to_owned(), block_len, kind, limits: Limits::default() }
    }

    /// The device that it is made of.
    #[must_use]
    pub fn base(&self) -> Option<&String> {
        match &self.kind {
            DeviceKind::Fault { base, .. } | DeviceKind::Delay { base, .. } | DeviceKind::Partition { base, .. } => {
                Some(base)
            }
            DeviceKind::Memory { .. }
            | DeviceKind::Null { .. }
            | DeviceKind::File { .. }
            | DeviceKind::Nvme { .. }
            | DeviceKind::Rbd(_) => None,
        }
    }

    /// The bytes of it that it is made of. `None`: all.
    #[must_use]
    pub fn part(&self) -> Option<(u64, Option<u64>)> {
        match self.kind {
            DeviceKind::Partition { offset, len, .. } => Some((offset, len)),
            DeviceKind::Memory { .. }
            | DeviceKind::Null { .. }
            | DeviceKind::File { .. }
            | DeviceKind::Nvme { .. }
            | DeviceKind::Rbd(_)
            | DeviceKind::Fault { .. }
            | DeviceKind::Delay { .. } => None,
        }
    }

    /// Whether both are made of different bytes of one device.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        let end = |(offset, len): (u64, Option<u64>)| len.map_or(u64::MAX, |len| offset.saturating_add(len));
        match (self.part(), other.part()) {
            (Some(one), Some(two)) => end(one) <= two.0 || end(two) <= one.0,
            _ => false,
        }
    }
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Memory of the target's own.
    Memory {
        /// Bytes.
        len: u64,
    },
    /// Nothing.
    Null {
        /// Bytes.
        len: u64,
    },
    /// A file or block device.
    File {
        /// Where, relative to the working directory.
        path: PathBuf,
        /// Refuses writes.
        read_only: bool,
        /// Operations with the kernel at a time, on each CPU.
        queue_depth: u32,
    },
    /// A local NVMe drive's namespace.
    Nvme {
        /// Its generic character device.
        path: PathBuf,
        /// Refuses writes.
        read_only: bool,
        /// Operations with the kernel at a time, on each CPU.
        queue_depth: u32,
    },
    /// An image of a Ceph cluster.
    Rbd(RbdSection),
    /// Another device, with faults that are injected.
    Fault {
        /// The other: it stands before this one.
        base: String,
        /// Decides what chance does.
        seed: u64,
        /// What goes wrong from the start, oldest first.
        rules: Vec<Rule>,
    },
    /// Another device, slower.
    Delay {
        /// The other.
        base: String,
        /// By how much.
        latencies: Latencies,
        /// Decides which operations are the slowest of a hundred.
        seed: u64,
    },
    /// A range of another device.
    Partition {
        /// The other.
        base: String,
        /// Its first byte.
        offset: u64,
        /// Bytes. `None`: all from there on.
        len: Option<u64>,
    },
}

/// An image of a Ceph cluster, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RbdSection {
    /// Its pool.
    pub pool: String,
    /// Its name.
    pub image: String,
    /// Its namespace in the pool.
    pub namespace: Option<String>,
    /// A snapshot of it.
    pub snapshot: Option<String>,
    /// How its cluster is reached.
    pub cluster: RbdCluster,
    /// Refuses writes.
    pub read_only: bool,
    /// It is used only under its exclusive lock.
    pub fenced: bool,
    /// Operations with the library at a time, on each CPU.
    pub queue_depth: u32,
}

/// A connection to a Ceph cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RbdCluster {
    /// The image's own.
    Own(ClusterOptions),
    /// One that has this name, which images share.
    Shared(String),
}

/// A connection to a Ceph cluster that images share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSection {
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub options: ClusterOptions,
}

/// An NVM subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsystemSection {
    /// NVMe qualified name.
    pub nqn: String,
    /// Serial number.
    pub serial_number: String,
    /// Model number.
    pub model_number: String,
    /// Whether every host may connect.
    pub allow_any_host: bool,
    /// Otherwise these.
    pub hosts: Vec<String>,
    /// Those of them that have to authenticate.
    pub host_keys: Vec<HostKeySection>,
    /// Addresses.
    pub listeners: Vec<SocketAddr>,
    /// Namespaces.
    pub namespaces: Vec<NamespaceSection>,
    /// The highest namespace id.
    pub nsid_max: u32,
    /// The controller ids that it gives.
    pub controller_ids: RangeInclusive<u16>,
    /// Where its controllers come from.
    pub controller_model: ControllerModel,
    /// Whether other targets offer it too.
    pub is_shared: bool,
    /// Whether hosts are told of ANA.
    pub reports_ana: bool,
    /// Access that is not optimized from the start.
    pub ana: Vec<AnaSpec>,
}

/// A key's name and file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySection {
    /// Its name.
    pub name: String,
    /// Where its secret is.
    pub path: PathBuf,
}

/// The keys of a host of a subsystem, by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKeySection {
    /// The host's NQN.
    pub host: String,
    /// What it proves itself with.
    pub key: String,
    /// What the controller proves itself with.
    pub controller_key: Option<String>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSection {
    /// The device's name.
    pub device: String,
    /// Its id.
    pub nsid: u32,
    /// Its UUID, where one was given.
    pub uuid: Option<Uuid>,
    /// Its NGUID, where one was given.
    pub nguid: Option<[u8; 16]>,
    /// Its EUI-64, where one was given.
    pub eui64: Option<[u8; 8]>,
    /// Its ANA group, where one was given.
    pub ana_group: Option<u32>,
    /// Whether every host of the subsystem sees it.
    pub is_auto_visible: bool,
    /// Otherwise these.
    pub hosts: Vec<String>,
    /// Where its reservations are kept through a loss of power.
    pub ptpl_file: Option<PathBuf>,
}

impl Config {
    /// Reads and checks a file. `cpus_allowed` are the CPUs that this process may use.
    ///
    /// # Errors
    /// Everything that is wrong with it, not only the first thing.
    pub fn load(path: &Path, cpus_allowed: &[usize]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        Self::parse(path, &text, cpus_allowed)
    }

    /// As [`Self::load`], with the text at hand; `path` is for messages.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(path: &Path, text: &str, cpus_allowed: &[usize]) -> Result<Self, ConfigError> {
        let mut report = report::Report::new(path, text);
        let shape = match toml::from_str::<shape::File>(text) {
            Ok(shape) => shape,
            Err(error) => return Err(report.refuse_shape(&error)),
        };
        let config = check::check(shape, cpus_allowed, &mut report);
        report.finish(config)
    }
}

#[cfg(test)]
mod tests;
