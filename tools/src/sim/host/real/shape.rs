//! How a real host is laid out.

use nvmf_core::host::HostIdentity;
use reactor::{Choices, SimulationOptions};
use transport_rdma::host::HostOptions;

use crate::sim::world::layout::{SUBSYSTEM, address};

/// How a real host is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Polling CPUs.
    pub cpu_count: u16,
    /// I/O queues of each.
    pub queue_count_per_cpu: u16,
    /// Commands of a queue at a time.
    pub queue_depth: u16,
    /// Whether small writes go in the capsule.
    pub in_capsule_data: bool,
    /// Keep-alive timeout, 0 for none.
    pub keep_alive_ms: u32,
    /// Its CPUs and the messages between them.
    pub reactors: SimulationOptions,
    /// Most blocks of a command.
    pub block_count_max: u16,
    /// One in so many commands goes to blocks that all hosts use; 0 for none.
    pub shares_one_in: u32,
}

impl Shape {
    /// One CPU with one queue of four.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            cpu_count: 1,
            queue_count_per_cpu: 1,
            queue_depth: 4,
            in_capsule_data: false,
            keep_alive_ms: 10_000,
            reactors: SimulationOptions { sleeps: true, ..SimulationOptions::default() },
            block_count_max: 4,
            shares_one_in: 0,
        }
    }

    /// The same with everything chosen.
    #[must_use]
    pub fn chosen(choices: &Choices) -> Self {
        let reactors = SimulationOptions {
            sleeps: true,
            late_ns_max: choices.one_of("late messages", &[0, 5_000]),
            ..SimulationOptions::default()
        };
        Self {
            cpu_count: choices.one_of("host CPUs", &[1, 2]),
            queue_count_per_cpu: choices.one_of("queues of a CPU", &[1, 2]),
            queue_depth: choices.one_of("queue depth", &[4, 1, 8]),
            in_capsule_data: choices.one_in("in capsule", 2),
            shares_one_in: choices.one_of("shares blocks", &[0, 3]),
            reactors,
            ..Self::calm()
        }
    }

    pub(super) fn options(self, number: u32) -> HostOptions {
        let [identity, ..] = number.to_le_bytes();
        let identity = HostIdentity::from_uuid([identity | 0x80; 16]);
        let mut options = HostOptions::new(address(), SUBSYSTEM.to_owned(), identity);
        options.cpu_count = self.cpu_count;
        options.queue_count_per_cpu = self.queue_count_per_cpu;
        options.queue_depth = self.queue_depth;
        options.data_memory_len = 64 << 10;
        options.huge_pages = false;
        options.in_capsule_data = self.in_capsule_data;
        options.keep_alive_ms = self.keep_alive_ms;
        // Long beside what a step takes, short beside what a run takes.
        (options.attach_timeout_ms, options.command_timeout_ms, options.drain_timeout_ms) = (1000, 1000, 200);
        options.stays = true;
        // What is looked for in scenarios is in the ends of connections.
        options.shutdown_timeout_ms = 0;
        options.asynchronous_events = false;
        options
    }
}
