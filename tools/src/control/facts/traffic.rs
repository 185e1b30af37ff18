//! What metrics show by name: hosts, controllers, subsystems, namespaces, listeners.

use std::collections::BTreeMap;

use nvmf_core::{Tally, Target};
use reactor::Guard;

use super::sample;
use crate::metrics::{Sample, Value};

/// Controllers past these have no lines of their own: their hosts have.
const CONTROLLER_COUNT_MAX: usize = 256;

/// What stands for hosts that are not told apart.
const OTHERS: &str = "others";

type Labels<'a> = [(&'static str, &'a str)];

pub(super) fn samples(samples: &mut Vec<Sample>, target: &Target, guard: Guard<'_>) {
    let traffic = target.traffic(guard);
    for host in &traffic.hosts {
        let labels = [("subsystem", host.subsystem_nqn), ("host", host.host_nqn.unwrap_or(OTHERS))];
        add(samples, "host_connects", &labels, Value::Counter(host.connect_count));
        add(samples, "host_controllers", &labels, Value::Gauge(host.controller_count));
        done(samples, "host", &labels, host.done);
    }
    for controller in traffic.controllers.iter().take(CONTROLLER_COUNT_MAX) {
        let (subsystem, id) = (("subsystem", controller.subsystem_nqn), controller.id.to_string());
        let labels = [subsystem, ("cntlid", id.as_str())];
        add(samples, "controller_info", &[subsystem, ("host", controller.host_nqn), labels[1]], Value::Gauge(1));
        add(samples, "controller_queue_pairs", &labels, Value::Gauge(controller.qpair_count));
        done(samples, "controller", &labels, controller.done);
    }
    let mut listeners: BTreeMap<_, u64> = BTreeMap::new();
    for subsystem in target.subsystems() {
        let name = ("subsystem", subsystem.nqn.as_str());
        add(samples, "subsystem_namespaces", &[name], Value::Gauge(subsystem.namespaces.len() as u64));
        for namespace in &subsystem.namespaces {
            let nsid = namespace.nsid.to_string();
            let labels = [name, ("nsid", nsid.as_str()), ("device", namespace.device.name())];
            add(samples, "namespace_info", &labels, Value::Gauge(1));
        }
        listeners.extend(subsystem.listeners.iter().map(|address| (*address, 0)));
    }
    // Those that are gone may still have queue pairs.
    listeners.extend(traffic.listeners);
    for (address, count) in listeners {
        add(samples, "listener_queue_pairs", &[("address", &address.to_string())], Value::Gauge(count));
    }
}

fn done(samples: &mut Vec<Sample>, of: &str, labels: &Labels<'_>, tally: Tally) {
    for (word, operations, bytes) in
        [("read", tally.read_count, tally.read_bytes), ("write", tally.write_count, tally.written_bytes)]
    {
        let with = |label| [labels, &[(label, word)]].concat();
        add(samples, &format!("{of}_operations"), &with("opcode"), Value::Counter(operations));
        add(samples, &format!("{of}_bytes"), &with("direction"), Value::Counter(bytes));
    }
}

fn add(samples: &mut Vec<Sample>, name: &str, labels: &Labels<'_>, value: Value) {
    let labels: Vec<_> = labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
    samples.push(sample(name, &labels, value));
}
