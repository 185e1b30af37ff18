//! What RPC and metrics show: counters of all CPUs. Read on the control plane; written by each CPU alone.

mod device;
mod reactor;
mod traffic;

use std::collections::BTreeMap;
use std::sync::Arc;

use ::reactor::{Counter, Cpu, Guard};
use nvmf_core::{Directory, PollGroupCounters};
use transport_rdma::binding::RejectStatus;
use transport_rdma::target::Control;
use transport_rdma::verbs::Provider;

use super::lookout::{Lookout, Room};
use crate::metrics::{Histogram, Sample, Value, declared};
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
    pub(super) fn samples<P: Provider>(
        &self,
        control: &Control<P>,
        lookout: &Lookout,
        guard: Guard<'_>,
    ) -> Vec<Sample> {
        let mut samples = self.own_samples(control, lookout);
        traffic::samples(&mut samples, control.core(), guard);
        samples
    }

    /// What the target itself counts, without the names of those who use it.
    fn own_samples<P: Provider>(&self, control: &Control<P>, lookout: &Lookout) -> Vec<Sample> {
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
        for (place, (times, sum_ns)) in self.reactors.polling().zip(control.teardown_times()) {
            let value = Value::Histogram(Histogram::of_teardowns(times, sum_ns));
            samples.push(sample("rdma_teardown_seconds", &[("cpu", place.label())], value));
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
        for sample in self.own_samples(control, lookout) {
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
        let mut add = |kind: fn(u64) -> Value, name: &str, more: Option<(&'static str, &str)>, value: u64| {
            let labels = std::iter::once(("cpu", label)).chain(more).map(|(name, value)| (name, value.to_owned()));
            samples.push(sample(name, &labels.collect::<Vec<_>>(), kind(value)));
        };
        for (opcode, counter) in [
            ("read", &counters.read_count),
            ("write", &counters.write_count),
            ("flush", &counters.flush_count),
            ("other", &counters.other_count),
            ("admin", &counters.admin_count),
        ] {
            add(Value::Counter, "commands", Some(("opcode", opcode)), counter.value());
        }
        for (direction, counter) in [("read", &counters.read_bytes), ("write", &counters.written_bytes)] {
            add(Value::Counter, "bytes", Some(("direction", direction)), counter.value());
        }
        for (status, count) in counters.errors.given() {
            add(Value::Counter, "command_errors_by_status", Some(("status", status)), count);
        }
        for (name, counter) in counted(&counters) {
            add(Value::Counter, name, None, counter.value());
        }
        for (name, counter) in measured(&counters) {
            add(Value::Gauge, name, None, counter.value());
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
        let is_gauge = declared::find(&format!("nvmf_{name}")).is_some();
        let value = if is_gauge { Value::Gauge(value) } else { Value::Counter(value) };
        Sample::new(&name, labels, value)
    }
}

/// What a poll group counts.
fn counted(counters: &PollGroupCounters) -> [(&'static str, &Counter); 13] {
    [
        ("command_errors", &counters.error_count),
        ("buffer_waits", &counters.buffer_wait_count),
        ("parks", &counters.park_count),
        ("host_limit_waits", &counters.host_limit_count),
        ("in_place_reads", &counters.in_place_count),
        ("stale_handles", &counters.stale_handle_count),
        ("keep_alive_expired", &counters.keep_alive_expired_count),
        ("connect_timeouts", &counters.connect_timeout_count),
        ("authentications", &counters.authenticated_count),
        ("authentications_failed", &counters.authentication_failed_count),
        ("authentication_timeouts", &counters.authentication_timeout_count),
        ("authentications_busy", &counters.authentication_busy_count),
        ("connects_refused", &counters.connect_refused_count),
    ]
}

/// Its gauges.
fn measured(counters: &PollGroupCounters) -> [(&'static str, &Counter); 8] {
    [
        ("qpairs", &counters.qpairs_live),
        ("controllers", &counters.controllers_live),
        ("requests", &counters.requests_live),
        ("buffers_taken", &counters.buffers_taken),
        ("buffers_awaited", &counters.buffers_awaited),
        ("requests_parked", &counters.requests_parked),
        ("host_shares_awaited", &counters.host_shares_awaited),
        ("device_leases", &counters.device_leases),
    ]
}

/// Gauges of this layer that count live objects.
const LIVE: [&str; 5] = ["qpairs", "controllers", "requests", "device_leases", "limbo_entries"];

fn sample(name: &str, labels: &[(&'static str, String)], value: Value) -> Sample {
    Sample::new(name, labels.to_vec(), value)
}
