//! Checks of memory, CPUs, the firewall, io_uring, files and the socket.

use std::path::Path;

use super::Finding;
use super::machine::Machine;
use crate::config::{Config, DeviceKind, ReactorSection};

/// Bytes of a hugepage.
const HUGEPAGE_LEN: u64 = 2 << 20;

/// What a target without a configuration is taken to need: the data buffers of one CPU.
const DATA_MEMORY_LEN: u64 = 32 << 20;

/// What RDMA devices are registered with must be locked; less than this holds no target.
const LOCKED_MIN_LEN: u64 = 256 << 20;

/// Bytes that a target asks hugepages for: buffers and memory devices. Queue pairs need some more.
fn memory_len(config: Option<&Config>) -> u64 {
    let Some(config) = config else { return DATA_MEMORY_LEN };
    let buffers = config.target.data_memory_len as u64 * config.target.reactors.count() as u64;
    let devices = config.devices.iter().map(|device| match device.kind {
        DeviceKind::Memory { len } => len,
        DeviceKind::Null { .. }
        | DeviceKind::File { .. }
        | DeviceKind::Nvme { .. }
        | DeviceKind::Rbd(_)
        | DeviceKind::Fault { .. }
        | DeviceKind::Delay { .. }
        | DeviceKind::Partition { .. } => 0,
    });
    buffers + devices.sum::<u64>()
}

pub(super) fn hugepages(machine: &Machine, config: Option<&Config>) -> Vec<Finding> {
    const CHECK: &str = "hugepages";
    const WHY: &str = "on ordinary pages the target works, with more TLB misses, and registers memory more slowly";
    let pages = &machine.hugepages;
    if config.is_some_and(|config| !config.target.hugepages) {
        return vec![Finding::ok(CHECK, "not asked for (target.hugepages = false)")];
    }
    let needed = memory_len(config).div_ceil(HUGEPAGE_LEN);
    let nodes: Vec<String> = pages.nodes.iter().map(|node| format!("node {}: {}", node.node.0, node.free)).collect();
    let nodes = if nodes.len() > 1 { format!(" ({})", nodes.join(", ")) } else { String::new() };
    let state = format!(
        "{} of {} of 2 MiB are free{nodes}; {needed} are needed and some for queue pairs",
        pages.free, pages.total
    );
    let mut findings = vec![if pages.free > needed {
        Finding::ok(CHECK, state)
    } else {
        // An eighth for what queue pairs take.
        let wanted = pages.total - pages.free.min(pages.total) + needed + needed.div_ceil(8);
        Finding::warning(
            CHECK,
            state,
            WHY,
            format!("sudo sysctl -w vm.nr_hugepages={wanted}   # for ever: in /etc/sysctl.d/quiesce.conf"),
        )
    }];
    if let Some(room) = pages.group_room.filter(|room| *room < needed) {
        let finding = format!("this process's control group allows it {room} more hugepages; {needed} are needed");
        findings.push(Finding::warning(
            CHECK,
            finding,
            WHY,
            "raise hugetlb.2MB.max of the control group, or of the container",
        ));
    }
    findings
}

pub(super) fn memlock(machine: &Machine) -> Vec<Finding> {
    const CHECK: &str = "memlock";
    const WHY: &str = "memory that RDMA devices write is locked: registering more than the limit fails, and the target does not start";
    let limits = machine.text("proc/self/limits").unwrap_or_default();
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory")?.split_whitespace().next().map(str::to_owned));
    let is_needed = !machine.names("sys/class/infiniband").is_empty();
    let fix = "ulimit -l unlimited   # of a service: LimitMEMLOCK=infinity; for ever: /etc/security/limits.d";
    vec![match limit.as_deref() {
        None => Finding::ok(CHECK, "the kernel does not say"),
        Some("unlimited") => Finding::ok(CHECK, "unlimited"),
        Some(len) if machine.is_root => Finding::ok(CHECK, format!("{len} bytes, which do not bind root")),
        Some(len) if len.parse::<u64>().is_ok_and(|len| len >= LOCKED_MIN_LEN) => {
            Finding::ok(CHECK, format!("{len} bytes"))
        }
        Some(len) if is_needed => Finding::problem(CHECK, format!("only {len} bytes may be locked"), WHY, fix),
        Some(len) => Finding::ok(CHECK, format!("{len} bytes: enough without an RDMA device")),
    }]
}

pub(super) fn cpus(machine: &Machine, config: Option<&Config>) -> Vec<Finding> {
    const CHECK: &str = "CPUs";
    let allowed = machine.cpus_allowed();
    let chosen = match config.map(|config| &config.target.reactors) {
        Some(ReactorSection::Pinned(cpus)) => cpus.clone(),
        Some(ReactorSection::Floating(_)) => Vec::new(),
        None => allowed.iter().copied().take(1).collect(),
    };
    let mut findings = vec![if allowed.len() < 2 {
        let why = "a polling CPU is used whole; the target's other threads and every other program share it";
        Finding::warning(
            CHECK,
            format!("{} may be used", allowed.len()),
            why,
            "give the machine, the container or the cpuset more CPUs",
        )
    } else {
        Finding::ok(CHECK, format!("{} may be used ({})", allowed.len(), list(&allowed)))
    }];
    let isolated = machine.cpu_list("sys/devices/system/cpu/isolated");
    let open: Vec<usize> = chosen.iter().copied().filter(|cpu| !isolated.contains(cpu)).collect();
    if !open.is_empty() {
        let finding = format!("polling CPU {} is not isolated: other programs and interrupts run there", list(&open));
        let why = "whatever else runs on a polling CPU is added to the latency of I/O, for milliseconds at a time";
        let fix =
            format!("kernel command line: isolcpus=managed_irq,domain,{0} nohz_full={0} rcu_nocbs={0}", list(&open));
        findings.push(Finding::warning(CHECK, finding, why, fix));
    }
    let ticking = machine.cpu_list("sys/devices/system/cpu/nohz_full");
    if open.is_empty() && chosen.iter().any(|cpu| !ticking.contains(cpu)) {
        let why = "the scheduler's tick interrupts a polling CPU up to a thousand times a second";
        let fix = format!("kernel command line: nohz_full={0} rcu_nocbs={0}", list(&chosen));
        findings.push(Finding::warning(CHECK, "isolated, and not free of ticks", why, fix));
    }
    let governor = |cpu: &usize| machine.text(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"));
    let slow: Vec<usize> =
        chosen.iter().copied().filter(|cpu| governor(cpu).is_some_and(|word| word != "performance")).collect();
    if let Some(first) = slow.first() {
        let word = governor(first).unwrap_or_default();
        let why = "a CPU that sleeps between commands is slow when it wakes";
        let fix = format!("sudo cpupower -c {} frequency-set -g performance", list(&slow));
        findings.push(Finding::warning(CHECK, format!("the governor of CPU {} is {word}", list(&slow)), why, fix));
    }
    for cpu in &chosen {
        let siblings = machine.cpu_list(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
        if let Some(other) = siblings.iter().find(|other| *other > cpu && chosen.contains(other)) {
            let why =
                "two hardware threads of one core share its units and caches: together they do little more than one";
            let finding = format!("polling CPUs {cpu} and {other} are one core");
            findings.push(Finding::warning(CHECK, finding, why, format!("leave {other} out of target.cpus")));
        }
    }
    findings
}

/// As the kernel writes them, without ranges.
fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// Adapters' RoCE does not pass the kernel's firewall; soft-RoCE and Prometheus' scrapes do.
pub(super) fn firewall(machine: &Machine, config: Option<&Config>) -> Vec<Finding> {
    const CHECK: &str = "firewall";
    let rules = match &machine.firewall {
        Ok(rules) => rules,
        Err(why) if why.contains("No such file") => {
            return vec![Finding::ok(CHECK, "nft is not installed: nftables has no rules of its doing")];
        }
        Err(why) => {
            let matters =
                "rules that drop UDP port 4791 or the port of metrics keep hosts on soft-RoCE, or Prometheus, away";
            return vec![Finding::warning(
                CHECK,
                format!("its rules cannot be read: {why}"),
                matters,
                "sudo nvmf-ctl doctor",
            )];
        }
    };
    let has_input = rules.lines().any(|line| line.contains("hook input"));
    let refuses = |line: &str| line.contains("policy drop") || line.ends_with("drop") || line.starts_with("reject");
    let drops = has_input && rules.lines().map(str::trim).any(refuses);
    if !drops {
        return vec![Finding::ok(CHECK, "no chain of input drops what it does not know")];
    }
    let mut ports = Vec::new();
    if machine.names("sys/class/infiniband").iter().any(|name| name.starts_with("rxe")) {
        ports.push(("udp", 4791, "hosts reach soft-RoCE devices by it"));
    }
    if let Some(metrics) = config.and_then(|config| config.metrics).filter(|metrics| !metrics.ip().is_loopback()) {
        ports.push(("tcp", metrics.port(), "Prometheus scrapes metrics there"));
    }
    let mentions = |port: u16| rules.split(|c: char| !c.is_ascii_digit()).any(|word| word == port.to_string());
    let shut: Vec<Finding> = ports
        .into_iter()
        .filter(|(_, port, _)| !mentions(*port))
        .map(|(protocol, port, why)| {
            let fix = format!("sudo nft add rule inet filter input {protocol} dport {port} accept   # firewalld: firewall-cmd --add-port={port}/{protocol}");
            Finding::problem(CHECK, format!("input is dropped, and no rule names {protocol} port {port}"), why, fix)
        })
        .collect();
    if shut.is_empty() { vec![Finding::ok(CHECK, "input is dropped, but for the ports that are needed")] } else { shut }
}

pub(super) fn io_uring(machine: &Machine) -> Vec<Finding> {
    const CHECK: &str = "io_uring";
    const WHY: &str =
        "without it files are read and written by a thread with the page cache, slower, and NVMe drives cannot be used";
    let fix = match machine.text("proc/sys/kernel/io_uring_disabled").as_deref() {
        Some("1" | "2") => "sudo sysctl -w kernel.io_uring_disabled=0",
        Some(_) | None => {
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile; or Linux 5.14 and later"
        }
    };
    vec![match &machine.io_uring {
        Ok(()) => Finding::ok(CHECK, "may be used"),
        Err(why) => Finding::warning(CHECK, format!("may not be used: {why}"), WHY, fix),
    }]
}

/// What the configuration names has to be there, with the rights that are needed.
pub(super) fn files(machine: &Machine, config: Option<&Config>) -> Vec<Finding> {
    const CHECK: &str = "files";
    let Some(config) = config else { return Vec::new() };
    let mut findings = Vec::new();
    for device in &config.devices {
        let (DeviceKind::File { path, read_only, .. } | DeviceKind::Nvme { path, read_only, .. }) = &device.kind else {
            continue;
        };
        let shown = path.display();
        let why = "a device that cannot be opened keeps the target from starting";
        let at = machine.root.join(path.strip_prefix("/").unwrap_or(path));
        let at = if path.is_absolute() { at } else { path.clone() };
        if !at.exists() {
            let fix = format!("truncate -s 1G {shown}, or another path for device {:?}", device.name);
            findings.push(Finding::problem(
                CHECK,
                format!("{shown} of device {:?} is not there", device.name),
                why,
                fix,
            ));
        } else if !read_only && !crate::system::is_writable(&at) {
            let fix = format!("sudo chown $USER {shown}, or read_only = true");
            findings.push(Finding::problem(
                CHECK,
                format!("{shown} of device {:?} may not be written", device.name),
                why,
                fix,
            ));
        }
    }
    let directories = [
        (config.rpc.as_deref().and_then(Path::parent), "the JSON-RPC socket"),
        (config.target.state_directory.as_deref().and_then(Path::parent), "target.state_directory"),
    ];
    for (directory, what) in directories {
        let Some(directory) = directory.filter(|directory| directory.is_absolute() && !machine.is_writable(directory))
        else {
            continue;
        };
        let shown = directory.display();
        let finding = format!("{shown}, where {what} goes, is not there or may not be written");
        let fix = format!("sudo install -d -o $USER {shown}");
        findings.push(Finding::problem(CHECK, finding, "the target makes files there when it starts", fix));
    }
    if findings.is_empty() {
        let count = config.devices.len();
        findings
            .push(Finding::ok(CHECK, format!("what the configuration's {count} devices and sockets need is there")));
    }
    findings
}

pub(super) fn socket(machine: &Machine) -> Finding {
    match &machine.target {
        Ok(where_) => Finding::ok("target", where_),
        // That none runs is nothing wrong with the machine.
        Err(why) => Finding::ok("target", format!("none answers: {why}")),
    }
}
