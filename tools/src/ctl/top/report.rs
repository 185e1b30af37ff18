//! What happened between two samples: rates, shares and quantiles.

use std::collections::BTreeMap;

use serde::Serialize;

use super::sample::{Buckets, Device, Qpair, Sample};

/// See the module. Busiest first, but for CPUs.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Report {
    pub(super) interval_ns: u64,
    pub(super) cpus: Vec<CpuLine>,
    pub(super) namespaces: Vec<NamespaceLine>,
    pub(super) hosts: Vec<HostLine>,
    pub(super) qpairs: Vec<QpairLine>,
}

/// One polling CPU.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct CpuLine {
    pub(super) cpu: u64,
    /// Thousandths of the interval in turns that found something.
    pub(super) busy_permille: u64,
    /// In turns that found nothing.
    pub(super) polling_permille: u64,
    /// The rest.
    pub(super) asleep_permille: u64,
    pub(super) busy_turns_per_s: u64,
    pub(super) messages_per_s: u64,
    pub(super) qpairs: u64,
}

/// A device, and the namespace that is made of it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct NamespaceLine {
    pub(super) nqn: Option<String>,
    pub(super) nsid: Option<u64>,
    pub(super) device: String,
    pub(super) iops: u64,
    pub(super) read_bytes_per_s: u64,
    pub(super) write_bytes_per_s: u64,
    /// None where no read took time.
    pub(super) read_p50_ns: Option<u64>,
    pub(super) read_p99_ns: Option<u64>,
    pub(super) write_p50_ns: Option<u64>,
    pub(super) write_p99_ns: Option<u64>,
    /// Under way now.
    pub(super) queue_depth: u64,
}

/// All queue pairs of a host.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct HostLine {
    pub(super) hostnqn: String,
    pub(super) controllers: u64,
    pub(super) qpairs: u64,
    pub(super) iops: u64,
    pub(super) read_bytes_per_s: u64,
    pub(super) write_bytes_per_s: u64,
}

/// One queue pair.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct QpairLine {
    pub(super) nqn: String,
    pub(super) hostnqn: String,
    pub(super) cntlid: u64,
    pub(super) qid: u64,
    pub(super) cpu: Option<u64>,
    pub(super) state: String,
    pub(super) iops: u64,
    pub(super) read_bytes_per_s: u64,
    pub(super) write_bytes_per_s: u64,
}

impl Report {
    /// What happened from one sample to a later one. What is new counts from nothing.
    pub(super) fn between(before: &Sample, after: &Sample) -> Self {
        let interval_ns = after.at_ns.saturating_sub(before.at_ns).max(1);
        let mut qpairs: Vec<QpairLine> =
            after.qpairs.iter().map(|(nqn, qpair)| qpair_line(before, after, nqn, qpair)).collect();
        let hosts = hosts(&qpairs);
        qpairs.sort_by(|a, b| {
            b.iops.cmp(&a.iops).then_with(|| (&a.hostnqn, a.cntlid, a.qid).cmp(&(&b.hostnqn, b.cntlid, b.qid)))
        });
        let mut namespaces: Vec<NamespaceLine> =
            after.devices.iter().map(|device| namespace_line(before, after, device)).collect();
        // Those of subsystems first; by what they do, then as they are called.
        namespaces.sort_by(|a, b| {
            let order = a.nsid.is_none().cmp(&b.nsid.is_none()).then(b.iops.cmp(&a.iops));
            order.then_with(|| (&a.nqn, a.nsid, &a.device).cmp(&(&b.nqn, b.nsid, &b.device)))
        });
        Self { interval_ns, cpus: cpus(before, after), namespaces, hosts, qpairs }
    }
}

/// How many a second.
fn rate(before: u64, after: u64, interval_ns: u64) -> u64 {
    let count = u128::from(after.saturating_sub(before));
    u64::try_from(count * 1_000_000_000 / u128::from(interval_ns)).unwrap_or(u64::MAX)
}

fn interval(before: &Sample, after: &Sample) -> u64 {
    after.at_ns.saturating_sub(before.at_ns).max(1)
}

fn cpus(before: &Sample, after: &Sample) -> Vec<CpuLine> {
    let interval_ns = interval(before, after);
    let line = |reactor: &super::sample::Reactor| {
        let nothing = super::sample::Reactor::default();
        let old = before.reactors.iter().find(|old| old.lcore == reactor.lcore).unwrap_or(&nothing);
        let permille = |old: u64, new: u64| (rate(old, new, interval_ns) / 1_000_000).min(1000);
        let busy_permille = permille(old.busy, reactor.busy);
        let polling_permille = permille(old.idle, reactor.idle).min(1000 - busy_permille);
        let is_here =
            |qpair: &Qpair| reactor.lw_threads.iter().any(|thread| Some(&thread.name) == qpair.thread.as_ref());
        CpuLine {
            cpu: reactor.lcore,
            busy_permille,
            polling_permille,
            // The time of a sleep is counted when it ends, so it is what remains.
            asleep_permille: 1000 - busy_permille - polling_permille,
            busy_turns_per_s: rate(old.busy_turns, reactor.busy_turns, interval_ns),
            messages_per_s: rate(old.messages, reactor.messages, interval_ns),
            qpairs: after.qpairs.iter().filter(|(_, qpair)| is_here(qpair)).count() as u64,
        }
    };
    after.reactors.iter().map(line).collect()
}

fn namespace_line(before: &Sample, after: &Sample, device: &Device) -> NamespaceLine {
    let interval_ns = interval(before, after);
    let nothing = Device::default();
    let old = before.devices.iter().find(|old| old.name == device.name).unwrap_or(&nothing);
    let operations = |device: &Device| {
        device.num_read_ops
            + device.num_write_ops
            + device.num_unmap_ops
            + device.num_write_zeroes_ops
            + device.num_flush_ops
            + device.num_other_ops
    };
    let reads = difference(&old.times.read, &device.times.read);
    let writes = difference(&old.times.write, &device.times.write);
    let namespace = after.namespaces.iter().find(|namespace| namespace.device == device.name);
    NamespaceLine {
        nqn: namespace.map(|namespace| namespace.nqn.clone()),
        nsid: namespace.map(|namespace| namespace.nsid),
        device: device.name.clone(),
        iops: rate(operations(old), operations(device), interval_ns),
        read_bytes_per_s: rate(old.bytes_read, device.bytes_read, interval_ns),
        write_bytes_per_s: rate(old.bytes_written, device.bytes_written, interval_ns),
        read_p50_ns: quantile(&reads, 50),
        read_p99_ns: quantile(&reads, 99),
        write_p50_ns: quantile(&writes, 50),
        write_p99_ns: quantile(&writes, 99),
        queue_depth: device.queue_depth,
    }
}

/// What was added to a histogram.
fn difference(before: &Buckets, after: &Buckets) -> Buckets {
    let added = after.iter().map(|(time, count)| (*time, count.saturating_sub(before.get(time).copied().unwrap_or(0))));
    added.filter(|(_, count)| *count > 0).collect()
}

/// The time that so many of a hundred did not exceed.
fn quantile(buckets: &Buckets, percent: u64) -> Option<u64> {
    let wanted = (buckets.values().sum::<u64>() * percent).div_ceil(100);
    let mut seen = 0;
    let reached = buckets.iter().find(|(_, count)| {
        seen += **count;
        seen >= wanted
    });
    reached.map(|(time, _)| *time)
}

fn qpair_line(before: &Sample, after: &Sample, nqn: &str, qpair: &Qpair) -> QpairLine {
    let interval_ns = interval(before, after);
    let nothing = Qpair::default();
    let key = |qpair: &Qpair| (qpair.cntlid, qpair.qid);
    let old =
        before.qpairs.iter().find(|(of, old)| of == nqn && key(old) == key(qpair)).map_or(&nothing, |(_, old)| old);
    // The id may be another's by now, who begins anew.
    let is_same = old.num_read_ops <= qpair.num_read_ops
        && old.num_write_ops <= qpair.num_write_ops
        && old.hostnqn == qpair.hostnqn;
    let old = if is_same { old } else { &nothing };
    let on = |reactor: &&super::sample::Reactor| {
        reactor.lw_threads.iter().any(|thread| Some(&thread.name) == qpair.thread.as_ref())
    };
    QpairLine {
        nqn: nqn.to_owned(),
        hostnqn: qpair.hostnqn.clone(),
        cntlid: qpair.cntlid,
        qid: qpair.qid,
        cpu: after.reactors.iter().find(on).map(|reactor| reactor.lcore),
        state: qpair.state.clone(),
        iops: rate(old.num_read_ops + old.num_write_ops, qpair.num_read_ops + qpair.num_write_ops, interval_ns),
        read_bytes_per_s: rate(old.bytes_read, qpair.bytes_read, interval_ns),
        write_bytes_per_s: rate(old.bytes_written, qpair.bytes_written, interval_ns),
    }
}

fn hosts(qpairs: &[QpairLine]) -> Vec<HostLine> {
    let mut hosts: BTreeMap<&str, HostLine> = BTreeMap::new();
    for qpair in qpairs {
        let host = hosts.entry(&qpair.hostnqn).or_default();
        host.hostnqn.clone_from(&qpair.hostnqn);
        host.controllers += u64::from(qpair.qid == 0);
        host.qpairs += 1;
        host.iops += qpair.iops;
        host.read_bytes_per_s += qpair.read_bytes_per_s;
        host.write_bytes_per_s += qpair.write_bytes_per_s;
    }
    let mut hosts: Vec<HostLine> = hosts.into_values().collect();
    hosts.sort_by(|a, b| b.iops.cmp(&a.iops).then_with(|| a.hostnqn.cmp(&b.hostnqn)));
    hosts
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Namespace, Reactor, Thread, Times};
    use super::*;

    fn sample(at_ns: u64, read_count: u64) -> Sample {
        let thread = || Thread { name: "t0".into() };
        let qpair = |qid| Qpair {
            cntlid: 1,
            qid,
            thread: Some("t0".into()),
            hostnqn: "h".into(),
            num_read_ops: read_count * qid,
            ..Qpair::default()
        };
        Sample {
            at_ns,
            reactors: vec![Reactor {
                lcore: 3,
                busy: at_ns / 4,
                idle: at_ns / 2,
                lw_threads: vec![thread()],
                ..Reactor::default()
            }],
            namespaces: vec![Namespace { nqn: "n".into(), nsid: 7, device: "d".into() }],
            devices: vec![Device {
                name: "d".into(),
                num_read_ops: read_count,
                bytes_read: read_count * 4096,
                times: Times { read: [(100, 10), (900, read_count)].into(), ..Times::default() },
                ..Device::default()
            }],
            qpairs: vec![("n".into(), qpair(0)), ("n".into(), qpair(1))],
        }
    }

    #[test]
    fn rates_shares_and_quantiles_are_of_the_interval_alone() {
        let report = Report::between(&sample(2_000_000_000, 1000), &sample(4_000_000_000, 3000));
        let cpu = &report.cpus[0];
        assert_eq!(
            (cpu.cpu, cpu.busy_permille, cpu.polling_permille, cpu.asleep_permille, cpu.qpairs),
            (3, 250, 500, 250, 2)
        );
        let namespace = &report.namespaces[0];
        assert_eq!((namespace.nsid, namespace.iops, namespace.read_bytes_per_s), (Some(7), 1000, 4_096_000));
        assert_eq!(
            (namespace.read_p50_ns, namespace.write_p50_ns),
            (Some(900), None),
            "what was before does not count"
        );
        assert_eq!((report.hosts[0].controllers, report.hosts[0].qpairs, report.hosts[0].iops), (1, 2, 1000));
        assert_eq!((report.qpairs[0].qid, report.qpairs[0].iops, report.qpairs[0].cpu), (1, 1000, Some(3)));
    }

    #[test]
    fn quantiles_are_reached_by_counting() {
        let buckets: Buckets = [(10, 98), (20, 1), (30, 1)].into();
        assert_eq!(
            (quantile(&buckets, 50), quantile(&buckets, 99), quantile(&buckets, 100)),
            (Some(10), Some(20), Some(30))
        );
        assert_eq!(quantile(&Buckets::new(), 50), None);
    }

    #[test]
    fn an_id_that_is_anothers_by_now_counts_from_nothing() {
        let (mut before, after) = (sample(1_000_000_000, 5000), sample(2_000_000_000, 100));
        assert_eq!(Report::between(&before, &after).qpairs[0].iops, 100);
        before.qpairs.clear();
        assert_eq!(Report::between(&before, &after).hosts[0].iops, 100);
    }
}
