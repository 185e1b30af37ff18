//! How a world is laid out.

use std::net::SocketAddr;

use nvmf_core::spec::{ControllerSpec, HostLimits};
use reactor::{Choices, SimulationOptions};
use transport_rdma::soft::in_process::FabricOptions;

/// The subsystem that is served.
pub const SUBSYSTEM: &str = "nqn.2026-01.org.quiesce:simulated";
/// Bytes of a block.
pub const BLOCK_LEN: u32 = 512;
/// Blocks of a namespace.
pub const BLOCK_COUNT: u64 = 1024;

/// Where the target listens.
#[must_use]
pub fn address() -> SocketAddr {
    address_of(0)
}

/// The same, where it listens at several addresses.
#[must_use]
pub fn address_of(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, number, 1], 4420))
}

/// The file that keeps the reservations of a namespace.
#[must_use]
pub fn reservation_file(nsid: u32) -> String {
    format!("reservations-{nsid}")
}

/// Disks that a world can have.
pub const DISK_COUNT_MAX: usize = 3;

/// The name of a disk: namespace 1 is made of disk 0.
#[must_use]
pub fn disk_name(disk: usize) -> &'static str {
    const NAMES: [&str; DISK_COUNT_MAX] = ["simulated0", "simulated1", "simulated2"];
    NAMES[disk]
}

/// See the module. Fields are free to change before the world is made.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Polling CPUs of the target; the control plane has one more.
    pub cpu_count: u16,
    /// Queue pairs of one CPU.
    pub queue_pair_count_max: usize,
    /// Depth of each CPU's shared receive queue, 0 for own receives.
    pub shared_receive_count: u32,
    /// Bytes of data buffers of one CPU.
    pub data_memory_len: usize,
    /// Whether reads are pushed straight out of the device's memory.
    pub reads_in_place: bool,
    /// Disks, each with a namespace in the beginning; at most [`DISK_COUNT_MAX`].
    pub disk_count: usize,
    /// What the last of them says of its size.
    pub last_disk_block_count: u64,
    /// Addresses at which the target listens.
    pub address_count: u8,
    /// Whether the subsystem reports asymmetric access.
    pub reports_ana: bool,
    /// Whether reservations are kept through a loss of power.
    pub keeps_reservations: bool,
    /// Namespaces of which hosts see only those that they are shown.
    pub hidden: Vec<u32>,
    /// Limits of controllers.
    pub controller: ControllerSpec,
    /// The network, the devices, the connection managers.
    pub fabric: FabricOptions,
    /// The target's CPUs.
    pub reactors: SimulationOptions,
}

impl Layout {
    /// Two CPUs, own receives, a device and a network as they should be, everything seen in time.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            cpu_count: 2,
            queue_pair_count_max: 8,
            shared_receive_count: 0,
            data_memory_len: 256 << 10,
            reads_in_place: false,
            disk_count: 1,
            last_disk_block_count: BLOCK_COUNT,
            address_count: 1,
            reports_ana: false,
            keeps_reservations: false,
            hidden: Vec::new(),
            controller: ControllerSpec {
                io_queue_count_max: 4,
                queue_depth_max: 16,
                admin_queue_depth_max: 32,
                transfer_len_max: 16 << 10,
                in_capsule_len: 512,
                host: HostLimits::default(),
            },
            fabric: FabricOptions { delay_max: 0, ..FabricOptions::default() },
            reactors: SimulationOptions { sleeps: true, ..SimulationOptions::default() },
        }
    }

    /// The same with everything in it chosen that devices and machines do differently.
    #[must_use]
    pub fn chosen(choices: &Choices) -> Self {
        let mut layout = Self::calm();
        layout.cpu_count = choices.one_of("target CPUs", &[2, 1, 3]);
        layout.shared_receive_count = choices.one_of("shared receives", &[0, 24, 64]);
        layout.reads_in_place = choices.one_in("reads in place", 3);
        layout.fabric.delay_max = choices.one_of("network delay", &[0, 3, 12]);
        layout.fabric.raises_last_wqe = !choices.one_in("never raises LAST_WQE", 3);
        layout.fabric.sweeps_on_destroy = choices.one_in("sweeps on destroy", 2);
        layout.fabric.loses_disconnected = choices.one_in("loses DISCONNECTED", 4);
        layout.fabric.loses_established = choices.one_in("loses ESTABLISHED", 4);
        // Where the end of a drain can be proven it is waited for.
        layout.fabric.forbids_destroy_with_work = layout.drains_are_provable();
        if choices.one_in("short of room", 4) {
            layout.fabric.attributes.transfer_len_max = 1024;
            layout.fabric.attributes.work_request_count_max = 24;
            layout.fabric.attributes.inline_len_max = 0;
        }
        layout.reactors.late_ns_max = choices.one_of("late messages", &[0, 5_000, 50_000]);
        layout.reactors.ring_capacity = choices.one_of("ring capacity", &[64, 1, 3]);
        layout
    }

    /// Hosts may have as many commands in flight as they like, or a few, or one at a time.
    #[must_use]
    pub fn limiting_hosts(mut self, choices: &Choices) -> Self {
        self.controller.host.command_count_max = choices.one_of("commands of a host", &[u32::MAX, 4, 1]);
        self
    }

    /// Whether every drain can end with the proof that all work came back.
    #[must_use]
    pub fn drains_are_provable(&self) -> bool {
        self.shared_receive_count == 0 || (self.fabric.raises_last_wqe && !self.fabric.is_iwarp)
    }
}
