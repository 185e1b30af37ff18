//! What a run came to, for people (a table) and for programs (JSON).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;
use nvmf_core::host::{Attached, Discovered};
use nvmf_core::status::Status;
use nvmf_core::wire::{AddressFamily, SubsystemType, TransportKind};
use serde::Serialize;

use crate::address::TransportAddress;
use crate::outcome::{Outcome, latencies};
use crate::settings::{Job, Settings};

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    settings: ReportSettings,
    namespaces: Vec<Measurement>,
    total: Measurement,
    /// By status, in words.
    errors: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification: Option<Verification>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    was_stopped: bool,
}

#[derive(Debug, Serialize)]
struct ReportSettings {
    address: String,
    subsystem_nqn: String,
    job: &'static str,
    workload: &'static str,
    read_percent: u8,
    io_size: usize,
    io_depth: u16,
    queue_pairs_per_cpu: u16,
    cpus: Vec<usize>,
    warmup_s: f64,
    seed: u64,
}

#[derive(Debug, Serialize)]
struct Measurement {
    #[serde(skip_serializing_if = "Option::is_none")]
    nsid: Option<u32>,
    read_count: u64,
    write_count: u64,
    elapsed_s: f64,
    iops: f64,
    mib_per_s: f64,
    latency_us: Latency,
}

/// Times in µs.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

/// What was compared.
#[derive(Debug, Serialize)]
pub(crate) struct Verification {
    pub(crate) block_count: u64,
    pub(crate) mismatch_count: u64,
    pub(crate) mismatches: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Digest {
    sha256: String,
    byte_count: u64,
}

impl Report {
    /// Merges what the CPUs came to.
    pub(crate) fn new(settings: &Settings, address: &TransportAddress, cpus: &[usize], outcomes: Vec<Outcome>) -> Self {
        // CPUs measure the same time but for their starts: the longest is nobody's advantage.
        let elapsed_ns = outcomes.iter().map(|outcome| outcome.elapsed_ns).max().unwrap_or(0);
        let was_stopped = outcomes.iter().any(|outcome| outcome.was_stopped);
        let mut by_nsid: BTreeMap<u32, (u64, u64, Histogram<u64>)> = BTreeMap::new();
        let mut errors: BTreeMap<Status, u64> = BTreeMap::new();
        let mut verification = Verification { block_count: 0, mismatch_count: 0, mismatches: Vec::new() };
        let mut digest = None;
        for outcome in outcomes {
            for namespace in outcome.namespaces {
                let entry = by_nsid.entry(namespace.nsid).or_insert_with(|| (0, 0, latencies()));
                entry.0 += namespace.read_count;
                entry.1 += namespace.write_count;
                entry.2.add(&namespace.latencies).expect("all histograms have the same bounds");
            }
            for (status, count) in outcome.errors {
                *errors.entry(status).or_default() += count;
            }
            verification.block_count += outcome.verified_block_count;
            verification.mismatch_count += outcome.mismatch_count;
            verification.mismatches.extend(outcome.mismatches);
            digest = digest.or(outcome.digest);
        }
        let mut total = (0, 0, latencies());
        for (reads, writes, latencies) in by_nsid.values() {
            total.0 += reads;
            total.1 += writes;
            total.2.add(latencies).expect("all histograms have the same bounds");
        }
        let io_len = settings.io_len;
        let measure = |nsid, (reads, writes, latencies): (u64, u64, Histogram<u64>)| {
            Measurement::new(nsid, reads, writes, &latencies, elapsed_ns, io_len)
        };
        Self {
            settings: ReportSettings::new(settings, address, cpus),
            namespaces: by_nsid.into_iter().map(|(nsid, parts)| measure(Some(nsid), parts)).collect(),
            total: measure(None, total),
            errors: errors.into_iter().map(|(status, count)| (status.to_string(), count)).collect(),
            verification: matches!(settings.job, Job::Verify(_) | Job::Durability(_)).then_some(verification),
            digest: digest.map(|(hash, byte_count)| Digest { sha256: hex(&hash), byte_count }),
            was_stopped,
        }
    }

    /// Whether commands failed, or blocks were not as written.
    pub(crate) fn is_good(&self) -> bool {
        self.errors.is_empty() && self.verification.as_ref().is_none_or(|found| found.mismatch_count == 0)
    }

    /// Stopped by a signal.
    pub(crate) fn was_stopped(&self) -> bool {
        self.was_stopped
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is plain data")
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        if let Some(digest) = &self.digest {
            let _ = writeln!(text, "{}  {} bytes", digest.sha256, digest.byte_count);
        } else if self.total.read_count + self.total.write_count > 0 {
            self.table(&mut text);
        } else if self.settings.job == "load" {
            let _ = writeln!(text, "no I/O ended in the time that was measured");
        }
        if let Some(verification) = &self.verification {
            text.push_str(&verification.to_text());
        }
        for (status, count) in &self.errors {
            let _ = writeln!(text, "{count} commands ended with {status}");
        }
        if self.was_stopped {
            let _ = writeln!(text, "stopped before it was done");
        }
        text
    }

    fn table(&self, text: &mut String) {
        let settings = &self.settings;
        let mix = if (1..100).contains(&settings.read_percent) && settings.workload.ends_with("rw") {
            format!(" ({} % reads)", settings.read_percent)
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "{}{mix}, {} bytes, depth {}, {} queue pair{} on CPU {}, {:.2} s",
            settings.workload,
            settings.io_size,
            settings.io_depth,
            usize::from(settings.queue_pairs_per_cpu) * settings.cpus.len(),
            if settings.queue_pairs_per_cpu == 1 && settings.cpus.len() == 1 { "" } else { "s" },
            settings.cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            self.total.elapsed_s,
        );
        let _ = writeln!(
            text,
            "{:>9} {:>12} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "namespace", "IOPS", "MiB/s", "mean µs", "p50", "p90", "p99", "p99.9", "max"
        );
        let several = self.namespaces.len() > 1;
        for measurement in self.namespaces.iter().chain(several.then_some(&self.total)) {
            let name = measurement.nsid.map_or_else(|| "total".to_owned(), |nsid| nsid.to_string());
            let Latency { mean, p50, p90, p99, p99_9, max } = &measurement.latency_us;
            let _ = writeln!(
                text,
                "{name:>9} {:>12.0} {:>10.1} {mean:>9.2} {p50:>9.2} {p90:>9.2} {p99:>9.2} {p99_9:>9.2} {max:>9.2}",
                measurement.iops, measurement.mib_per_s
            );
        }
    }
}

impl Verification {
    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        let Self { block_count, mismatch_count, mismatches } = self;
        let _ = match (mismatch_count, block_count) {
            (0, 0) => writeln!(text, "nothing was verified"),
            (0, _) => writeln!(text, "verified: {block_count} blocks are as they were written"),
            _ => writeln!(text, "VERIFICATION FAILED: {mismatch_count} of {block_count} blocks are not as written"),
        };
        for mismatch in mismatches {
            let _ = writeln!(text, "  {mismatch}");
        }
        text
    }
}

#[allow(clippy::cast_precision_loss, reason = "times of a run are far below 2^52 ns")]
impl Latency {
    pub(crate) fn of(times: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1e3;
        Self {
            mean: times.mean() / 1e3,
            p50: us(times.value_at_quantile(0.5)),
            p90: us(times.value_at_quantile(0.9)),
            p99: us(times.value_at_quantile(0.99)),
            p99_9: us(times.value_at_quantile(0.999)),
            max: us(times.max()),
        }
    }
}

impl ReportSettings {
    fn new(settings: &Settings, address: &TransportAddress, cpus: &[usize]) -> Self {
        let job = match settings.job {
            Job::Load(_) => "load",
            Job::Verify(_) => "verify",
            Job::Digest => "digest",
            Job::Durability(_) => "durability",
            Job::Discover => "discover",
            Job::Identify => "identify",
            Job::Reservation(_) => "reservation",
        };
        Self {
            address: address.address.to_string(),
            subsystem_nqn: address.subsystem_nqn.clone(),
            job,
            workload: if job == "digest" { "read" } else { settings.pattern.name() },
            read_percent: settings.read_percent,
            io_size: settings.io_len,
            io_depth: settings.io_depth,
            queue_pairs_per_cpu: settings.queue_count_per_cpu,
            cpus: cpus.to_vec(),
            warmup_s: settings.warmup.as_secs_f64(),
            seed: settings.seed,
        }
    }
}

// Counts and times of a run are far below 2^52: as f64 they are exact enough for people.
#[allow(clippy::cast_precision_loss)]
impl Measurement {
    fn new(
        nsid: Option<u32>,
        read_count: u64,
        write_count: u64,
        latencies: &Histogram<u64>,
        elapsed_ns: u64,
        io_len: usize,
    ) -> Self {
        let elapsed_s = elapsed_ns as f64 / 1e9;
        let count = (read_count + write_count) as f64;
        let iops = if elapsed_ns == 0 { 0.0 } else { count / elapsed_s };
        Self {
            nsid,
            read_count,
            write_count,
            elapsed_s,
            iops,
            mib_per_s: iops * io_len as f64 / f64::from(1 << 20),
            latency_us: Latency::of(latencies),
        }
    }
}

/// The controller and its namespaces, for people.
pub(crate) fn identity(attached: &Attached) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "controller {}: {} (serial {}), I/O queues of up to {} entries, transfers up to {} bytes, in-capsule data up to {} bytes",
        attached.controller_id,
        attached.model_number.trim(),
        attached.serial_number.trim(),
        attached.queue_depth_max,
        attached.transfer_len_max,
        attached.in_capsule_len,
    );
    for namespace in &attached.namespaces {
        let uuid = namespace.uuid.map_or_else(String::new, |uuid| format!(", UUID {}", uuid_text(&uuid)));
        let _ = writeln!(
            text,
            "namespace {}: {} blocks of {} bytes{uuid}",
            namespace.nsid, namespace.block_count, namespace.block_len
        );
    }
    text
}

/// The discovery log, for people: each line can be given to `-r`.
pub(crate) fn discovery_log(found: &[Discovered]) -> String {
    let mut text = String::new();
    for entry in found {
        let kind = entry.transport.map_or("unknown", transport_name);
        let family = entry.address_family.map_or("unknown", family_name);
        let Discovered { address, service, subsystem_nqn, .. } = entry;
        let _ = write!(text, "trtype:{kind} adrfam:{family} traddr:{address} trsvcid:{service} subnqn:{subsystem_nqn}");
        let note = match entry.subsystem_type {
            Some(SubsystemType::Nvm) => "",
            Some(SubsystemType::Referral) => "  (another discovery service)",
            Some(SubsystemType::CurrentDiscovery) => "  (this discovery service)",
            None => "  (unknown kind)",
        };
        let _ = writeln!(text, "{note}");
    }
    if found.iter().all(|entry| entry.subsystem_type == Some(SubsystemType::CurrentDiscovery)) {
        text.push_str("the target offers nothing to this host at this address\n");
    }
    text
}

/// As nvme-cli and SPDK write TRTYPE.
fn transport_name(kind: TransportKind) -> &'static str {
    match kind {
        TransportKind::Rdma => "RDMA",
        TransportKind::FibreChannel => "FC",
        TransportKind::Tcp => "TCP",
        TransportKind::Loopback => "loop",
    }
}

/// As nvme-cli and SPDK write ADRFAM.
fn family_name(family: AddressFamily) -> &'static str {
    match family {
        AddressFamily::Ipv4 => "IPv4",
        AddressFamily::Ipv6 => "IPv6",
        AddressFamily::InfiniBand => "IB",
        AddressFamily::FibreChannel => "FC",
        AddressFamily::Loopback => "intra-host",
    }
}

/// 8-4-4-4-12, as every tool shows a UUID.
pub(crate) fn uuid_text(uuid: &[u8; 16]) -> String {
    let digits = hex(uuid);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use nvmf_core::host::NamespaceInfo;

    use super::*;
    use crate::arguments::Arguments;
    use crate::outcome::NamespaceOutcome;

    fn report(words: &str, outcomes: Vec<Outcome>) -> Report {
        let words = words.split(' ').filter(|word| !word.is_empty());
        let arguments = Arguments::try_parse_from(["nvmf-perf"].into_iter().chain(words)).unwrap();
        let settings = Settings::new(&arguments, 2).unwrap();
        Report::new(&settings, &"traddr:127.0.0.1 subnqn:nqn.x".parse().unwrap(), &[1, 2], outcomes)
    }

    fn outcome(nsid: u32, count: u64, latency_ns: u64) -> Outcome {
        let mut latencies = latencies();
        latencies.record_n(latency_ns, count).unwrap();
        let namespace = NamespaceOutcome { nsid, read_count: count, write_count: 0, latencies };
        Outcome { namespaces: vec![namespace], elapsed_ns: 2_000_000_000, ..Outcome::default() }
    }

    #[test]
    fn cpus_are_merged_per_namespace_and_in_total() {
        let report = report("-o 4k", vec![outcome(1, 1000, 5_000), outcome(1, 1000, 7_000), outcome(2, 500, 9_000)]);
        assert_eq!(report.namespaces.len(), 2);
        assert!((report.namespaces[0].iops - 1000.0).abs() < 1e-6);
        assert!((report.total.iops - 1250.0).abs() < 1e-6);
        assert!((report.total.mib_per_s - 1250.0 / 256.0).abs() < 1e-6);
        assert!((report.total.latency_us.max - 9.0).abs() < 0.01, "{:?}", report.total.latency_us);
        assert!(report.is_good());
        let text = report.to_text();
        assert!(text.contains("total") && text.contains("1250"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["namespaces"][0]["nsid"], 1);
        assert_eq!(json["settings"]["io_size"], 4096);
        assert!(json["total"]["latency_us"]["p99_9"].is_number());
    }

    #[test]
    fn a_line_of_the_discovery_log_can_be_given_back() {
        let entry = |family, address: &str| Discovered {
            transport: Some(TransportKind::Rdma),
            address_family: Some(family),
            subsystem_type: Some(SubsystemType::Nvm),
            requirements: 0,
            subsystem_nqn: "nqn.2026-11.io.example:a".parse().unwrap(),
            address: address.to_owned(),
            service: "4420".to_owned(),
            port_id: 1,
            controller_id: 0xFFFF,
            admin_queue_depth_max: 32,
            flags: 0,
        };
        let text = discovery_log(&[entry(AddressFamily::Ipv4, "127.0.0.1"), entry(AddressFamily::Ipv6, "::1")]);
        let expected = "trtype:RDMA adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.2026-11.io.example:a";
        assert_eq!(text.lines().next(), Some(expected));
        for (line, address) in text.lines().zip(["127.0.0.1:4420", "[::1]:4420"]) {
            assert_eq!(line.parse::<TransportAddress>().unwrap().address.to_string(), address);
        }
    }

    #[test]
    fn a_controller_is_shown_without_queues_that_nobody_asked_for() {
        let uuid = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let namespace = NamespaceInfo { nsid: 3, block_len: 512, metadata_len: 0, block_count: 8, uuid: Some(uuid) };
        let text = identity(&Attached {
            controller_id: 2,
            version: nvmf_core::wire::Version::V2_0,
            io_queue_count: 0,
            queue_depth_max: 256,
            transfer_len_max: 131_072,
            in_capsule_len: 4096,
            serial_number: "S1".to_owned(),
            model_number: "Quiesce".to_owned(),
            namespaces: vec![namespace],
        });
        assert!(text.contains("(serial S1), I/O queues of up to 256 entries, "), "{text}");
        assert!(text.ends_with("UUID 00010203-0405-0607-0809-0a0b0c0d0e0f\n"), "{text}");
    }

    #[test]
    fn mismatches_and_errors_are_bad_news() {
        let bad = Outcome {
            verified_block_count: 10,
            mismatch_count: 1,
            mismatches: vec!["LBA 5".to_owned()],
            ..Outcome::default()
        };
        let report = report("--verify -w write", vec![bad]);
        assert!(!report.is_good());
        assert!(report.to_text().contains("1 of 10 blocks") && report.to_text().contains("LBA 5"));

        let mut failed = Outcome::default();
        failed.errors.insert(Status::from_field(0x0004), 3);
        let report = super::tests::report("", vec![failed]);
        assert!(!report.is_good());
        assert!(report.to_text().contains("3 commands ended with"), "{}", report.to_text());
    }
}
