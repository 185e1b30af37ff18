//! What RPC and metrics show: counters of all CPUs. Read on the control plane; written by each CPU alone.

mod device;
mod reactor;

use std::collections::BTreeMap;
use std::sync::Arc;

use ::reactor::{Counter, Cpu};
use nvmf_core::Directory;
use transport_rdma::binding::RejectStatus;
use transport_rdma::target::Control;
use transport_rdma::verbs::Provider;

use super::lookout::{Lookout, Room};
use crate::metrics::{Histogram, Sample, Value};
use crate::reactors::{Place, Reactors};

/// Where the numbers are.
pub struct Facts {
    /// The mesh's reactors.
    pub reactors: Reactors,
    /// Most queue pairs of each polling CPU.
    pub queue_pair_count_max: usize,
    /// The NVMe layer's.
    pub directory: Arc<Directory>,
}

impl Facts {
    /// Everything, for metrics.
    pub(super) fn samples<P: Provider>(&self, control: &Control<P>, lookout: &Lookout) -> Vec<Sample> {
        let mut samples = Vec::new();
        reactor::samples(&mut samples, &self.reactors, lookout);
        for place in self.reactors.polling() {
            self.command_samples(&mut samples, place.cpu, &place.label());
        }
        for facts in control.core().devices() {
            device::samples(&mut samples, facts);
        }
        for (name, labels, value) in control.counters() {
            samples.push(self.transport_sample(name, labels, value));
        }
        let help = "From the beginning of a queue pair's teardown until nothing of it is left.";
        for (place, (times, sum_ns)) in self.reactors.polling().zip(control.teardown_times()) {
            let value = Value::Histogram(Histogram::of_teardowns(times, sum_ns));
            samples.push(sample("rdma_teardown_seconds", help, &[("cpu", place.label())], value));
        }
        samples
    }

    /// Whether there is room for more connections, and how many were refused since there was none.
    pub(super) fn room<P: Provider>(&self, control: &Control<P>) -> Room {
        let polling_count = self.reactors.polling().count() as u64;
        let mut room =
            Room { connection_count_max: polling_count * self.queue_pair_count_max as u64, ..Room::default() };
        let no_resources = RejectStatus::NoResources.to_string();
        for (name, labels, value) in control.counters() {
            match name.as_str() {
                "rdma_connections_rejected" if labels.iter().any(|(_, status)| *status == no_resources) => {
                    room.refused_count += value;
                }
                "rdma_connections_live" => room.connection_count += value,
                "rdma_limbo_live" => room.in_limbo_count += value,
                _ => {}
            }
        }
        room
    }

    /// Gauges of live objects that are not zero: what a drain waits for.
    pub(super) fn alive<P: Provider>(&self, control: &Control<P>, lookout: &Lookout) -> Vec<String> {
        let mut alive: BTreeMap<String, u64> = BTreeMap::new();
        for sample in self.samples(control, lookout) {
            let is_live = sample.name.ends_with("_live") || LIVE.contains(&sample.name.as_str());
            if let Value::Gauge(value @ 1..) = sample.value
                && is_live
            {
                *alive.entry(sample.name).or_default() += value;
            }
        }
        alive.into_iter().map(|(name, value)| format!("{name} {value}")).collect()
    }

    fn command_samples(&self, samples: &mut Vec<Sample>, cpu: Cpu, label: &str) {
        let counters = self.directory.counters(cpu);
        let mut add =
            |kind: fn(u64) -> Value, name: &str, help: &str, more: Option<(&'static str, &str)>, counter: &Counter| {
                let labels = std::iter::once(("cpu", label)).chain(more).map(|(name, value)| (name, value.to_owned()));
                samples.push(sample(name, help, &labels.collect::<Vec<_>>(), kind(counter.value())));
            };
        for (opcode, counter) in [
            ("read", &counters.read_count),
            ("write", &counters.write_count),
            ("flush", &counters.flush_count),
            ("other", &counters.other_count),
            ("admin", &counters.admin_count),
        ] {
            add(Value::Counter, "commands", "Commands fetched.", Some(("opcode", opcode)), counter);
        }
        for (direction, counter) in [("read", &counters.read_bytes), ("write", &counters.written_bytes)] {
            add(
                Value::Counter,
                "bytes",
                "Bytes read by hosts and written by hosts.",
                Some(("direction", direction)),
                counter,
            );
        }
        for (name, help, counter) in [
            ("command_errors", "Commands that ended with an error status.", &counters.error_count),
            ("buffer_waits", "Commands that found no data buffer and waited.", &counters.buffer_wait_count),
            ("parks", "Commands that were held back until something ended: a pause.", &counters.park_count),
            (
                "host_limit_waits",
                "Commands that waited since their host had as much in flight as it may (limits.host_commands, limits.host_data).",
                &counters.host_limit_count,
            ),
            ("in_place_reads", "Reads out of a device's own memory, without a copy.", &counters.in_place_count),
            ("stale_handles", "Messages and arrivals for what was gone.", &counters.stale_handle_count),
            (
                "keep_alive_expired",
                "Controllers that ended for want of a Keep Alive.",
                &counters.keep_alive_expired_count,
            ),
            ("connect_timeouts", "Qpairs that ended for want of a Connect.", &counters.connect_timeout_count),
            ("authentications", "Queues whose host has authenticated, each time.", &counters.authenticated_count),
            (
                "authentications_failed",
                "Queues that ended since their host did not.",
                &counters.authentication_failed_count,
            ),
            (
                "authentication_timeouts",
                "Queues that ended since their host did not authenticate in time.",
                &counters.authentication_timeout_count,
            ),
            (
                "authentications_busy",
                "Authentication commands that were sent away, since too many waited.",
                &counters.authentication_busy_count,
            ),
            ("connects_refused", "Connects answered with an error status.", &counters.connect_refused_count),
        ] {
            add(Value::Counter, name, help, None, counter);
        }
        for (name, help, counter) in [
            ("qpairs", "Qpairs, draining ones included.", &counters.qpairs_live),
            ("controllers", "Controllers, closing ones included.", &counters.controllers_live),
            ("requests", "Request slots in use.", &counters.requests_live),
            ("buffers_taken", "Data buffers that are out.", &counters.buffers_taken),
            ("buffers_awaited", "Requests that wait for a data buffer.", &counters.buffers_awaited),
            ("requests_parked", "Commands that are held back.", &counters.requests_parked),
            (
                "host_shares_awaited",
                "Commands that wait since their host has as much in flight as it may.",
                &counters.host_shares_awaited,
            ),
            ("device_leases", "Leases on devices.", &counters.device_leases),
        ] {
            add(Value::Gauge, name, help, None, counter);
        }
    }

    fn transport_sample(&self, name: String, labels: Vec<(&'static str, String)>, value: u64) -> Sample {
        let labels = labels
            .into_iter()
            .map(|(label, value)| {
                let place: Option<usize> = if label == "cpu" { value.parse().ok() } else { None };
                let place = place.and_then(|at| self.reactors.polling().nth(at));
                (label, place.map_or(value, Place::label))
            })
            .collect();
        let is_gauge = name.ends_with("_live") || GAUGES.contains(&name.as_str());
        let value = if is_gauge { Value::Gauge(value) } else { Value::Counter(value) };
        let help = format!("RDMA transport: {}.", name.trim_start_matches("rdma_").replace('_', " "));
        Sample { name, help, labels, value }
    }
}

/// Gauges of this layer that count live objects.
const LIVE: [&str; 5] = ["qpairs", "controllers", "requests", "device_leases", "limbo_entries"];

/// Gauges of the transport whose names do not end with `_live`.
const GAUGES: [&str; 6] = [
    "rdma_completion_queue_broken",
    "rdma_device_removed",
    "rdma_limbo_max",
    "rdma_regions_registered",
    "rdma_shared_receives_posted",
    "rdma_shared_receives_unaccounted",
];

fn sample(name: &str, help: &str, labels: &[(&'static str, String)], value: Value) -> Sample {
    Sample { name: name.to_owned(), help: help.to_owned(), labels: labels.to_vec(), value }
}
