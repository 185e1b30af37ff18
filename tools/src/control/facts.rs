//! What RPC and metrics show: counters of all CPUs, and the devices. Read on the control plane; written by each CPU alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use bdev::Device;
use nvmf_core::Directory;
use reactor::{Counter, Cpu, Domain, ReactorCounters};
use transport_rdma::target::Control;
use transport_rdma::verbs::Provider;

use crate::metrics::{Kind, Sample};
use crate::rpc::methods::ReactorFacts;

/// Where the numbers are.
pub struct Facts {
    /// The operating system's number of each polling CPU.
    pub os_cpus: Vec<usize>,
    /// The counters of all reactors: the polling CPUs, then the control plane.
    pub reactor_counters: Vec<Arc<ReactorCounters>>,
    /// The mesh's reclamation.
    pub domain: Domain,
    /// The NVMe layer's.
    pub directory: Arc<Directory>,
    /// All devices of the configuration.
    pub devices: Vec<Arc<dyn Device>>,
}

impl Facts {
    pub(super) fn devices(&self) -> &[Arc<dyn Device>] {
        &self.devices
    }

    pub(super) fn reactors(&self) -> Vec<ReactorFacts> {
        let polling = self.os_cpus.iter().zip(&self.reactor_counters);
        let facts = |(os_cpu, counters): (&usize, &Arc<ReactorCounters>)| ReactorFacts {
            os_cpu: *os_cpu,
            busy_ns: counters.busy_ns.value(),
            idle_ns: counters.idle_ns.value(),
        };
        polling.map(facts).collect()
    }

    /// Everything, for metrics.
    pub(super) fn samples<P: Provider>(&self, control: &Control<P>) -> Vec<Sample> {
        let mut samples = Vec::new();
        for (at, counters) in self.reactor_counters.iter().enumerate() {
            let cpu = self.os_cpus.get(at).map_or_else(|| "control".to_owned(), usize::to_string);
            reactor_samples(&mut samples, &cpu, counters);
        }
        for (at, os_cpu) in (0_u16..).zip(&self.os_cpus) {
            self.command_samples(&mut samples, Cpu(at), &os_cpu.to_string());
        }
        let gauge = |name: &str, help: &str, value| sample(Kind::Gauge, name, help, &[], value);
        samples.push(gauge(
            "limbo_entries",
            "Unlinked objects that wait for their grace period.",
            self.domain.limbo_len(),
        ));
        samples.push(gauge(
            "limbo_oldest_age_steps",
            "Epoch steps since the oldest of them was unlinked.",
            self.domain.limbo_age_steps(),
        ));
        for (name, labels, value) in control.counters() {
            samples.push(self.transport_sample(name, labels, value));
        }
        samples
    }

    /// Gauges of live objects that are not zero: what a drain waits for.
    pub(super) fn alive<P: Provider>(&self, control: &Control<P>) -> Vec<String> {
        let mut alive: BTreeMap<String, u64> = BTreeMap::new();
        for sample in self.samples(control) {
            let is_live = sample.name.ends_with("_live") || LIVE.contains(&sample.name.as_str());
            if sample.kind == Kind::Gauge && is_live && sample.value > 0 {
                *alive.entry(sample.name).or_default() += sample.value;
            }
        }
        alive.into_iter().map(|(name, value)| format!("{name} {value}")).collect()
    }

    fn command_samples(&self, samples: &mut Vec<Sample>, cpu: Cpu, os_cpu: &str) {
        let counters = self.directory.counters(cpu);
        let mut add = |kind, name: &str, help: &str, labels: &[(&'static str, &str)], counter: &Counter| {
            let mut all = vec![("cpu", os_cpu)];
            all.extend_from_slice(labels);
            samples.push(sample(kind, name, help, &all, counter.value()));
        };
        for (opcode, counter) in [
            ("read", &counters.read_count),
            ("write", &counters.write_count),
            ("flush", &counters.flush_count),
            ("other", &counters.other_count),
            ("admin", &counters.admin_count),
        ] {
            add(Kind::Counter, "commands", "Commands fetched.", &[("opcode", opcode)], counter);
        }
        for (direction, counter) in [("read", &counters.read_bytes), ("write", &counters.written_bytes)] {
            add(
                Kind::Counter,
                "bytes",
                "Bytes read by hosts and written by hosts.",
                &[("direction", direction)],
                counter,
            );
        }
        for (name, help, counter) in [
            ("command_errors", "Commands that ended with an error status.", &counters.error_count),
            ("buffer_waits", "Commands that found no data buffer and waited.", &counters.buffer_wait_count),
            ("in_place_reads", "Reads out of a device's own memory, without a copy.", &counters.in_place_count),
            ("stale_handles", "Messages and arrivals for what was gone.", &counters.stale_handle_count),
            (
                "keep_alive_expired",
                "Controllers that ended for want of a Keep Alive.",
                &counters.keep_alive_expired_count,
            ),
            ("connect_timeouts", "Qpairs that ended for want of a Connect.", &counters.connect_timeout_count),
            ("connects_refused", "Connects answered with an error status.", &counters.connect_refused_count),
        ] {
            add(Kind::Counter, name, help, &[], counter);
        }
        for (name, help, counter) in [
            ("qpairs", "Qpairs, draining ones included.", &counters.qpairs_live),
            ("controllers", "Controllers, closing ones included.", &counters.controllers_live),
            ("requests", "Request slots in use.", &counters.requests_live),
            ("buffers_taken", "Data buffers that are out.", &counters.buffers_taken),
            ("buffers_awaited", "Requests that wait for a data buffer.", &counters.buffers_awaited),
            ("device_leases", "Leases on devices.", &counters.device_leases),
        ] {
            add(Kind::Gauge, name, help, &[], counter);
        }
    }

    fn transport_sample(&self, name: String, labels: Vec<(&'static str, String)>, value: u64) -> Sample {
        let labels = labels
            .into_iter()
            .map(|(label, value)| {
                let place: Option<usize> = if label == "cpu" { value.parse().ok() } else { None };
                let os_cpu = place.and_then(|at| self.os_cpus.get(at));
                (label, os_cpu.map_or(value, usize::to_string))
            })
            .collect();
        let is_gauge = name.ends_with("_live") || GAUGES.contains(&name.as_str());
        let kind = if is_gauge { Kind::Gauge } else { Kind::Counter };
        let help = format!("RDMA transport: {}.", name.trim_start_matches("rdma_").replace('_', " "));
        Sample { name, kind, help, labels, value }
    }
}

/// Gauges of this layer that count live objects.
const LIVE: [&str; 5] = ["qpairs", "controllers", "requests", "device_leases", "limbo_entries"];

/// Gauges of the transport whose names do not end with `_live`.
const GAUGES: [&str; 2] = ["rdma_shared_receives_posted", "rdma_shared_receives_unaccounted"];

fn reactor_samples(samples: &mut Vec<Sample>, cpu: &str, counters: &ReactorCounters) {
    for (name, help, counter) in [
        ("reactor_turns", "Turns.", &counters.turn_count),
        ("reactor_busy_turns", "Turns that found something to do.", &counters.busy_turn_count),
        ("reactor_busy_nanoseconds", "Time in turns that found something to do.", &counters.busy_ns),
        ("reactor_idle_nanoseconds", "Time in turns that found nothing to do.", &counters.idle_ns),
        ("reactor_messages", "Messages received.", &counters.message_count),
        ("reactor_ring_full", "Messages that found a ring full and waited.", &counters.ring_full_count),
        ("reactor_timers", "Timers fired.", &counters.timer_count),
    ] {
        samples.push(sample(Kind::Counter, name, help, &[("cpu", cpu)], counter.value()));
    }
    let longest = counters.longest_turn_ns.value();
    let help = "The longest turn so far, sleep not counted.";
    samples.push(sample(Kind::Gauge, "reactor_longest_turn_nanoseconds", help, &[("cpu", cpu)], longest));
}

fn sample(kind: Kind, name: &str, help: &str, labels: &[(&'static str, &str)], value: u64) -> Sample {
    let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Sample { name: name.to_owned(), kind, help: help.to_owned(), labels, value }
}
