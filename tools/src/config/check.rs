//! The checks that turn what was written into what is meant.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use nvmf_core::spec::ControllerSpec;
use toml::Spanned;
use uuid::Uuid;

use super::report::{Report, nearest};
use super::shape;
use super::size::Size;
use super::{
    Config, DeviceKind, DeviceSection, LogFormat, LogSection, NamespaceSection, ProviderKind, SubsystemSection,
    TargetSection, TransportSection,
};

/// NVM Express Base 2.0, 4.5: an NQN has at most 223 bytes.
const NQN_LEN_MAX: usize = 223;

/// Checks all of it. What is wrong goes to the report, and something harmless takes its place, so that the rest is checked too.
pub(super) fn check(file: shape::File, cpus_allowed: &[usize], report: &mut Report<'_>) -> Config {
    let target = check_target(file.target, cpus_allowed, report);
    let log = check_log(file.log, report);
    let transport = check_transport(file.transport, report);
    let devices = check_devices(file.device, report);
    let subsystems = check_subsystems(file.subsystem, &devices, report);
    let metrics = file.metrics.and_then(|metrics| address(&metrics.listen, "metrics.listen", "127.0.0.1:9420", report));
    let rpc = file.rpc.and_then(|rpc| socket_path(&rpc.socket, report));
    Config { target, log, transport, devices, subsystems, metrics, rpc }
}

fn check_target(section: shape::Target, cpus_allowed: &[usize], report: &mut Report<'_>) -> TargetSection {
    let mut cpus: Vec<usize> = Vec::new();
    match section.cpus {
        None => cpus.extend(cpus_allowed.first()),
        Some(list) => {
            if list.get_ref().is_empty() {
                report.refuse(list.span(), "target.cpus", "[]", "at least one CPU, such as [0]");
            }
            for number in list.into_inner() {
                let allowed = format!("this process may use {}", list_of(cpus_allowed));
                match usize::try_from(*number.get_ref()) {
                    Ok(cpu) if cpus.contains(&cpu) => {
                        report.refuse(number.span(), "target.cpus", cpu, "named twice: each CPU polls once");
                    }
                    Ok(cpu) if cpus_allowed.contains(&cpu) => cpus.push(cpu),
                    _ => report.refuse(number.span(), "target.cpus", number.get_ref(), &allowed),
                }
            }
        }
    }
    TargetSection {
        cpus,
        hugepages: section.hugepages.unwrap_or(true),
        data_memory_len: size(section.data_memory, "target.data_memory", 32 << 20, 1 << 20..=64 << 30, report),
        queue_pair_count_max: number(section.queue_pairs, "target.queue_pairs", 256, 1..=65_536, report),
        shutdown_deadline_s: number(section.shutdown_deadline_s, "target.shutdown_deadline_s", 10, 1..=3600, report),
    }
}

fn check_log(section: shape::Log, report: &mut Report<'_>) -> LogSection {
    let level = match section.level {
        None => "info".to_owned(),
        Some(level) => {
            if tracing_subscriber::EnvFilter::from_str(level.get_ref()).is_err() {
                let allowed = "error, warn, info, debug or trace, or a filter such as \"info,bdev=debug\"";
                report.refuse(level.span(), "log.level", quoted(level.get_ref()), allowed);
            }
            level.into_inner()
        }
    };
    let format = choice(
        section.format,
        "log.format",
        LogFormat::Text,
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        report,
    );
    LogSection { level, format }
}

fn check_transport(section: shape::Transport, report: &mut Report<'_>) -> TransportSection {
    let defaults = ControllerSpec::default();
    let provider = choice(
        section.provider,
        "transport.provider",
        ProviderKind::Soft,
        &[("soft", ProviderKind::Soft), ("ibv", ProviderKind::Ibv)],
        report,
    );
    let transfer_span = section.transfer_size.as_ref().map(Spanned::span);
    let transfer_len_max = size(
        section.transfer_size,
        "transport.transfer_size",
        u64::from(defaults.transfer_len_max),
        4096..=16 << 20,
        report,
    );
    // Identify gives it as a power of two of pages: NVM Express Base 2.0, figure 275, MDTS.
    if let Some(span) = transfer_span
        && !u32::is_power_of_two(transfer_len_max)
    {
        let shown = Size(u64::from(transfer_len_max));
        report.refuse(span, "transport.transfer_size", shown, "a power of two, such as \"128KiB\"");
    }
    let capsule_span = section.in_capsule_size.as_ref().map(Spanned::span);
    let in_capsule_len: u32 = size(
        section.in_capsule_size,
        "transport.in_capsule_size",
        u64::from(defaults.in_capsule_len),
        0..=8192,
        report,
    );
    // Identify gives it in units of 16 bytes: NVMe over Fabrics 1.1, figure 29, IOCCSZ.
    if let Some(span) = capsule_span
        && !in_capsule_len.is_multiple_of(16)
    {
        report.refuse(span, "transport.in_capsule_size", in_capsule_len, "a multiple of 16 bytes");
    }
    TransportSection {
        provider,
        queue_depth: number(section.queue_depth, "transport.queue_depth", defaults.queue_depth_max, 2..=1024, report),
        admin_queue_depth: number(
            section.admin_queue_depth,
            "transport.admin_queue_depth",
            defaults.admin_queue_depth_max,
            // NVMe over Fabrics 1.1, 3.3: an admin queue has at least 32 entries.
            32..=1024,
            report,
        ),
        io_queue_count_max: number(
            section.io_queues,
            "transport.io_queues",
            defaults.io_queue_count_max,
            1..=1024,
            report,
        ),
        in_capsule_len,
        transfer_len_max,
        shared_receive_count: number(section.shared_receives, "transport.shared_receives", 0, 0..=65_536, report),
        runtime_dir: section.runtime_dir,
    }
}

fn check_devices(sections: Vec<shape::Device>, report: &mut Report<'_>) -> Vec<DeviceSection> {
    let mut devices: Vec<DeviceSection> = Vec::new();
    for section in sections {
        let name = section.name.get_ref().clone();
        let named = |field: &str| format!("device \"{name}\": {field}");
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            report.refuse(section.name.span(), "device.name", quoted(&name), "a word without blanks");
        } else if devices.iter().any(|device| device.name == name) {
            report.refuse(section.name.span(), "device.name", quoted(&name), "names are unique, and this one is taken");
        }
        let block_len: u32 = match section.block_size {
            None => 512,
            Some(ref block) if [512, 4096].contains(&block.get_ref().0) => {
                if block.get_ref().0 == 512 {
                    512
                } else {
                    4096
                }
            }
            Some(block) => {
                report.refuse(block.span(), &named("block_size"), block.get_ref().0, "512 or 4096");
                512
            }
        };
        let is_file = section.kind.get_ref() == "file";
        let not_for = |report: &mut Report<'_>, span, field: &str, other: &str| {
            report.say(
                Some(span),
                format!("{}: only for {other}, not for type \"{}\"", named(field), section.kind.get_ref()),
            );
        };
        if is_file {
            if let Some(size) = &section.size {
                not_for(report, size.span(), "size", "types \"memory\" and \"null\" (a file has its own)");
            }
        } else {
            if let Some(path) = &section.path {
                not_for(report, path.span(), "path", "type \"file\"");
            }
            if let Some(read_only) = &section.read_only {
                not_for(report, read_only.span(), "read_only", "type \"file\"");
            }
            if let Some(queue_depth) = &section.queue_depth {
                not_for(report, queue_depth.span(), "queue_depth", "type \"file\"");
            }
        }
        let mut len = || match &section.size {
            None => {
                report
                    .say(Some(section.kind.span()), format!("{} is missing: such as size = \"64MiB\"", named("size")));
                u64::from(block_len)
            }
            Some(size) if size.get_ref().0 == 0 || size.get_ref().0 % u64::from(block_len) != 0 => {
                let allowed = format!("a multiple of the block size, {block_len}, and not 0");
                report.refuse(size.span(), &named("size"), size.get_ref(), &allowed);
                u64::from(block_len)
            }
            Some(size) => size.get_ref().0,
        };
        let kind = match section.kind.get_ref().as_str() {
            "memory" => DeviceKind::Memory { len: len() },
            "null" => DeviceKind::Null { len: len() },
            "file" => {
                let path = section.path.map(Spanned::into_inner).unwrap_or_else(|| {
                    let text = format!("{} is missing: such as path = \"disk.img\"", named("path"));
                    report.say(Some(section.kind.span()), text);
                    PathBuf::new()
                });
                let read_only = section.read_only.is_some_and(Spanned::into_inner);
                let queue_depth = number(section.queue_depth, &named("queue_depth"), 128, 1..=4096, report);
                DeviceKind::File { path, read_only, queue_depth }
            }
            other => {
                let allowed = "\"memory\", \"null\" or \"file\"";
                report.refuse(section.kind.span(), &named("type"), quoted(other), allowed);
                DeviceKind::Null { len: u64::from(block_len) }
            }
        };
        devices.push(DeviceSection { name, block_len, kind });
    }
    devices
}

fn check_subsystems(
    sections: Vec<shape::Subsystem>,
    devices: &[DeviceSection],
    report: &mut Report<'_>,
) -> Vec<SubsystemSection> {
    let mut subsystems: Vec<SubsystemSection> = Vec::new();
    // Which namespace uses a device: two would write over each other.
    let mut users: BTreeMap<String, String> = BTreeMap::new();
    if sections.is_empty() {
        report.say(None, "has no [[subsystem]]: there would be nothing to connect to".to_owned());
    }
    for section in sections {
        let nqn = section.nqn.get_ref().clone();
        let named = |field: &str| format!("subsystem \"{nqn}\": {field}");
        check_nqn(&section.nqn, "subsystem.nqn", report);
        if subsystems.iter().any(|subsystem| subsystem.nqn == nqn) {
            report.refuse(section.nqn.span(), "subsystem.nqn", quoted(&nqn), "names are unique, and this one is taken");
        }
        if !section.allow_any_host && section.hosts.is_empty() {
            let text = format!(
                "{} is missing: list host NQNs, or set allow_any_host = true; nobody could connect",
                named("hosts")
            );
            report.say(Some(section.nqn.span()), text);
        }
        for host in &section.hosts {
            check_nqn(host, &named("hosts"), report);
        }
        if section.listeners.is_empty() {
            let text = format!("{} is missing: such as listeners = [\"127.0.0.1:4420\"]", named("listeners"));
            report.say(Some(section.nqn.span()), text);
        }
        let mut listeners = Vec::new();
        for listener in &section.listeners {
            if let Some(address) = address(listener, &named("listeners"), "127.0.0.1:4420", report) {
                if address.ip().is_unspecified() {
                    let allowed = "an address that hosts can connect to, not a wildcard";
                    report.refuse(listener.span(), &named("listeners"), quoted(listener.get_ref()), allowed);
                }
                listeners.push(address);
            }
        }
        let namespaces = check_namespaces(section.namespace, &nqn, devices, &mut users, report);
        subsystems.push(SubsystemSection {
            serial_number: words(section.serial, &named("serial"), 20, report).unwrap_or_else(|| serial_number(&nqn)),
            model_number: words(section.model, &named("model"), 40, report).unwrap_or_else(|| "Quiesce".to_owned()),
            allow_any_host: section.allow_any_host,
            hosts: section.hosts.into_iter().map(Spanned::into_inner).collect(),
            listeners,
            namespaces,
            nqn,
        });
    }
    subsystems
}

fn check_namespaces(
    sections: Vec<shape::Namespace>,
    nqn: &str,
    devices: &[DeviceSection],
    users: &mut BTreeMap<String, String>,
    report: &mut Report<'_>,
) -> Vec<NamespaceSection> {
    let named = |field: &str| format!("subsystem \"{nqn}\": namespace.{field}");
    let mut namespaces: Vec<NamespaceSection> = Vec::new();
    for section in sections {
        let device = section.device.get_ref().clone();
        if !devices.iter().any(|known| known.name == device) {
            let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
            let allowed = match nearest(&device, names.iter().copied()) {
                Some(name) => format!("there is no such [[device]]; did you mean \"{name}\"?"),
                None if names.is_empty() => "there is no such [[device]], nor any other".to_owned(),
                None => format!("there is no such [[device]]; there are {}", names.join(", ")),
            };
            report.refuse(section.device.span(), &named("device"), quoted(&device), &allowed);
        }
        let next = namespaces.iter().map(|namespace| namespace.nsid).max().unwrap_or(0).saturating_add(1);
        let nsid_span = section.nsid.as_ref().map(Spanned::span);
        let nsid = number(section.nsid, &named("nsid"), next, 1..=1024, report);
        if let Some(other) = namespaces.iter().find(|namespace| namespace.nsid == nsid) {
            let span = nsid_span.unwrap_or_else(|| section.device.span());
            let allowed = format!("unique in its subsystem, and device \"{}\" has this one", other.device);
            report.refuse(span, &named("nsid"), nsid, &allowed);
        }
        if let Some(user) = users.insert(device.clone(), format!("namespace {nsid} of \"{nqn}\"")) {
            let allowed = format!("one namespace for each device, and {user} has it");
            report.refuse(section.device.span(), &named("device"), quoted(&device), &allowed);
        }
        let uuid = section.uuid.and_then(|uuid| {
            let parsed = Uuid::parse_str(uuid.get_ref()).ok().filter(|uuid| !uuid.is_nil());
            if parsed.is_none() {
                let allowed = "a UUID such as \"6f1c2d9e-8f0b-4d5c-9a3b-0c1d2e3f4a5b\", not nil";
                report.refuse(uuid.span(), &named("uuid"), quoted(uuid.get_ref()), allowed);
            }
            parsed
        });
        namespaces.push(NamespaceSection { device, nsid, uuid });
    }
    namespaces
}

/// A serial number that survives a restart and differs between subsystems.
fn serial_number(nqn: &str) -> String {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, nqn.as_bytes()).simple().to_string();
    format!("QS{}", id[..16].to_ascii_uppercase())
}

/// NVM Express Base 2.0, 4.5: `nqn.yyyy-mm.reverse.domain:name`, or the same with a UUID.
fn check_nqn(nqn: &Spanned<String>, field: &str, report: &mut Report<'_>) {
    let text = nqn.get_ref();
    let date_and_domain = text.strip_prefix("nqn.").and_then(|rest| rest.split_once('.'));
    let well_formed = date_and_domain.is_some_and(|(date, domain)| {
        let date = date.as_bytes();
        let digits = |range: &[u8]| range.iter().all(u8::is_ascii_digit);
        date.len() == 7 && digits(&date[..4]) && date[4] == b'-' && digits(&date[5..]) && !domain.is_empty()
    });
    if !well_formed || text.len() > NQN_LEN_MAX || text.chars().any(char::is_control) {
        let allowed = "such as \"nqn.2026-11.org.example:disks\", at most 223 bytes";
        report.refuse(nqn.span(), field, quoted(text), allowed);
    }
}

fn words(text: Option<Spanned<String>>, field: &str, len_max: usize, report: &mut Report<'_>) -> Option<String> {
    let text = text?;
    let value = text.get_ref();
    if value.is_empty() || value.len() > len_max || !value.bytes().all(|byte| (0x20..=0x7E).contains(&byte)) {
        let allowed = format!("1 to {len_max} printable ASCII characters");
        report.refuse(text.span(), field, quoted(value), &allowed);
    }
    Some(text.into_inner())
}

fn address(text: &Spanned<String>, field: &str, example: &str, report: &mut Report<'_>) -> Option<SocketAddr> {
    let parsed = text.get_ref().parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    if parsed.is_none() {
        let allowed = format!("an IP address and a port, such as \"{example}\" or \"[::1]:4420\"");
        report.refuse(text.span(), field, quoted(text.get_ref()), &allowed);
    }
    parsed
}

fn socket_path(path: &Spanned<PathBuf>, report: &mut Report<'_>) -> Option<PathBuf> {
    // unix(7): sun_path has 108 bytes with the final zero.
    let len = path.get_ref().as_os_str().len();
    if len == 0 || len > 107 {
        let allowed = "a path of 1 to 107 bytes, which is what a Unix socket's address holds";
        report.refuse(path.span(), "rpc.socket", quoted(&path.get_ref().display().to_string()), allowed);
        return None;
    }
    Some(path.get_ref().clone())
}

fn number<T: TryFrom<i64> + Copy + std::fmt::Display + PartialOrd>(
    value: Option<Spanned<i64>>,
    field: &str,
    default: T,
    allowed: RangeInclusive<T>,
    report: &mut Report<'_>,
) -> T {
    let Some(value) = value else {
        return default;
    };
    match T::try_from(*value.get_ref()).ok().filter(|number| allowed.contains(number)) {
        Some(number) => number,
        None => {
            let text = format!("{} to {}", allowed.start(), allowed.end());
            report.refuse(value.span(), field, value.get_ref(), &text);
            default
        }
    }
}

/// `default` and both ends of `allowed` fit into `T`.
fn size<T: TryFrom<u64> + Default>(
    value: Option<Spanned<Size>>,
    field: &str,
    default: u64,
    allowed: RangeInclusive<u64>,
    report: &mut Report<'_>,
) -> T {
    let mut len = default;
    if let Some(value) = value {
        if allowed.contains(&value.get_ref().0) {
            len = value.get_ref().0;
        } else {
            let text = format!("{} to {}", Size(*allowed.start()), Size(*allowed.end()));
            report.refuse(value.span(), field, value.get_ref(), &text);
        }
    }
    T::try_from(len).unwrap_or_default()
}

fn choice<T: Copy>(
    value: Option<Spanned<String>>,
    field: &str,
    default: T,
    allowed: &[(&str, T)],
    report: &mut Report<'_>,
) -> T {
    let Some(value) = value else {
        return default;
    };
    if let Some((_, chosen)) = allowed.iter().find(|(name, _)| name == value.get_ref()) {
        return *chosen;
    }
    let names: Vec<String> = allowed.iter().map(|(name, _)| quoted(name)).collect();
    report.refuse(value.span(), field, quoted(value.get_ref()), &names.join(" or "));
    default
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// Numbers as ranges: `0-3, 8`.
pub(crate) fn list_of(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let show =
        |(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    parts.iter().map(show).collect::<Vec<_>>().join(", ")
}
