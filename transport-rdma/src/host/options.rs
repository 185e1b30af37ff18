//! How a host is laid out.

use std::net::SocketAddr;

use nvmf_core::auth::{Credentials, RandomSource};
use nvmf_core::host::{Attached, HostIdentity};

use nvmf_core::wire::{DISCOVERY_NQN, DYNAMIC_CONTROLLER_ID};

use crate::host::error::HostFailure;
use crate::host::queue::{DEPTH_MAX, capsule_memory_len};

/// Commands of the admin queue: its work is one at a time, a keep-alive and a request for events beside it.
pub(super) const ADMIN_DEPTH: u16 = 31;
/// Bytes for the data of admin commands.
pub(super) const ADMIN_DATA_LEN: usize = 64 * 1024;
/// Bytes for the data of an I/O queue's Connect: 1024 are used; whole pages keep the workload's memory aligned.
pub(super) const CONNECT_DATA_LEN: usize = 4096;

/// How a host is laid out, and what it connects to.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Where the target is.
    pub address: SocketAddr,
    /// Which subsystem.
    pub subsystem_nqn: String,
    /// Who we are.
    pub identity: HostIdentity,
    /// What to prove ourselves with where the target asks.
    pub authentication: Option<HostAuthentication>,
    /// Which controller is asked for: any that the target makes ([`DYNAMIC_CONTROLLER_ID`]), or of static ones this, or any
    /// ([`ANY_STATIC_CONTROLLER_ID`](nvmf_core::wire::ANY_STATIC_CONTROLLER_ID)).
    pub controller_id: u16,
    /// Polling CPUs: reactors 0 … n-1. The control plane is reactor n.
    pub cpu_count: u16,
    /// I/O queues of each CPU. With 0 on all there is only an admin queue.
    pub queue_count_per_cpu: u16,
    /// Commands that an I/O queue takes at a time: its size in entries is one more.
    pub queue_depth: u16,
    /// Bytes of data memory of each CPU's workload.
    pub data_memory_len: usize,
    /// Whether to try hugepages.
    pub huge_pages: bool,
    /// Whether writes that fit go into the command capsule.
    pub in_capsule_data: bool,
    /// Keep-alive timeout. 0: none.
    pub keep_alive_ms: u32,
    /// How long everything up to [`crate::host::Workload::ready`] may take.
    pub attach_timeout_ms: u64,
    /// How long a command may take.
    pub command_timeout_ms: u64,
    /// How long posted work may take to come back in teardown.
    pub drain_timeout_ms: u64,
    /// Whether the controller is asked to tell of events; the workload of the first CPU hears them.
    pub asynchronous_events: bool,
    /// How long the controller may take to shut down when the workloads want nothing more. 0: it is not told, and the connections just end.
    pub shutdown_timeout_ms: u64,
    /// Whether the host stays when an association has ended, and has others after it with the same workloads, each begun by
    /// [`crate::host::Message::connect`]. Otherwise there is one, begun at once, and everything leaves after it.
    pub stays: bool,
}

/// What a host proves itself with, on each of its queues.
#[derive(Clone, Debug)]
pub struct HostAuthentication {
    /// Its secret, and perhaps the controller's.
    pub credentials: Credentials,
    /// Where its challenges and exponents come from.
    pub random: RandomSource,
}

/// A field of [`HostOptions`] is out of range.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, allowed are {min} to {max}")]
pub struct OptionError {
    /// Which.
    pub field: &'static str,
    /// What it was.
    pub value: u64,
    /// Least.
    pub min: u64,
    /// Most.
    pub max: u64,
}

impl HostOptions {
    /// Sensible values for everything but address and names.
    #[must_use]
    pub fn new(address: SocketAddr, subsystem_nqn: String, identity: HostIdentity) -> Self {
        Self {
            address,
            subsystem_nqn,
            identity,
            authentication: None,
            controller_id: DYNAMIC_CONTROLLER_ID,
            cpu_count: 1,
            queue_count_per_cpu: 1,
            queue_depth: 32,
            data_memory_len: 1 << 20,
            huge_pages: true,
            in_capsule_data: false,
            keep_alive_ms: 10_000,
            attach_timeout_ms: 10_000,
            command_timeout_ms: 30_000,
            drain_timeout_ms: 5_000,
            asynchronous_events: true,
            shutdown_timeout_ms: 1_000,
            stays: false,
        }
    }

    pub(super) fn check(&self) -> Result<(), OptionError> {
        let fields = [
            ("cpu_count", u64::from(self.cpu_count), 1, 256),
            ("queue_count_per_cpu", u64::from(self.queue_count_per_cpu), 0, 1023),
            ("queue_depth", u64::from(self.queue_depth), 1, u64::from(DEPTH_MAX)),
            ("cpu_count times queue_count_per_cpu", self.io_queue_count(), 0, 65_534),
            ("cpu_count (the discovery subsystem has no I/O)", u64::from(self.cpu_count), 1, self.most_if_io(256)),
            (
                "queue_count_per_cpu (the discovery subsystem has no I/O)",
                u64::from(self.queue_count_per_cpu),
                0,
                self.most_if_io(1024) - 1,
            ),
            ("data_memory_len", self.data_memory_len as u64, 0, 1 << 38),
            ("attach_timeout_ms", self.attach_timeout_ms, 1, 3_600_000),
            ("command_timeout_ms", self.command_timeout_ms, 1, 3_600_000),
            ("drain_timeout_ms", self.drain_timeout_ms, 1, 3_600_000),
            ("shutdown_timeout_ms", self.shutdown_timeout_ms, 0, 3_600_000),
        ];
        match fields.into_iter().find(|&(_, value, min, max)| !(min..=max).contains(&value)) {
            Some((field, value, min, max)) => Err(OptionError { field, value, min, max }),
            None => Ok(()),
        }
    }

    /// `most`, or 1 for the discovery subsystem.
    fn most_if_io(&self, most: u64) -> u64 {
        if self.subsystem_nqn == DISCOVERY_NQN { 1 } else { most }
    }

    fn io_queue_count(&self) -> u64 {
        u64::from(self.cpu_count) * u64::from(self.queue_count_per_cpu)
    }

    /// Whether what the controller grants is enough.
    pub(super) fn check_grant(&self, attached: &Attached) -> Result<(), HostFailure> {
        let queue_count = self.cpu_count * self.queue_count_per_cpu;
        if queue_count > attached.io_queue_count {
            return Err(HostFailure::Limit {
                what: "I/O queues",
                wanted: u64::from(queue_count),
                allowed: u64::from(attached.io_queue_count),
                instead: "use fewer queue pairs or CPUs",
            });
        }
        // A queue has one entry more than it takes commands.
        if queue_count > 0 && self.queue_depth >= attached.queue_depth_max {
            return Err(HostFailure::Limit {
                what: "commands at a time of one queue",
                wanted: u64::from(self.queue_depth),
                allowed: u64::from(attached.queue_depth_max.saturating_sub(1)),
                instead: "use a smaller queue depth and more queue pairs",
            });
        }
        Ok(())
    }

    /// Queues of one CPU; the admin queue is on the first.
    pub(super) fn queues_of(&self, cpu: u16) -> usize {
        usize::from(self.queue_count_per_cpu) + usize::from(cpu == 0)
    }

    pub(super) fn depth_of(&self, qid: u16) -> u16 {
        if qid == 0 { ADMIN_DEPTH } else { self.queue_depth }
    }

    /// Capsule memory of one CPU.
    pub(super) fn capsule_len(&self, cpu: u16) -> usize {
        let admin = if cpu == 0 { capsule_memory_len(ADMIN_DEPTH) } else { 0 };
        admin + usize::from(self.queue_count_per_cpu) * capsule_memory_len(self.queue_depth)
    }

    /// Data memory of one CPU: for the admin queue, for Connect of each I/O queue, for the workload.
    pub(super) fn data_len(&self, cpu: u16) -> usize {
        self.transport_data_len(cpu) + self.data_memory_len.next_multiple_of(CONNECT_DATA_LEN)
    }

    /// Of that, what is not the workload's.
    pub(super) fn transport_data_len(&self, cpu: u16) -> usize {
        let admin = if cpu == 0 { ADMIN_DATA_LEN } else { 0 };
        admin + usize::from(self.queue_count_per_cpu) * CONNECT_DATA_LEN
    }

    /// Work requests that the queue pairs of one CPU can have posted.
    pub(super) fn completion_count(&self, cpu: u16) -> u32 {
        let admin = if cpu == 0 { 2 * u32::from(ADMIN_DEPTH) + 1 } else { 0 };
        admin + u32::from(self.queue_count_per_cpu) * (2 * u32::from(self.queue_depth) + 1)
    }
}
