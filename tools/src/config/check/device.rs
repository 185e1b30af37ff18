//! Devices: names that are unique, and what each type takes.

mod fault;
mod layer;
mod limits;

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;

use super::rbd;
use super::value::{number, quoted};
use crate::config::report::Report;
use crate::config::{ClusterSection, DeviceKind, DeviceSection, shape};
use fault::check_rules;
use layer::{check_delay, check_fault, check_partition};
use limits::check_limits;

/// A key that only some types have: the types, and how a person says that.
type Belonging = (&'static str, &'static [&'static str], &'static str);

const BELONGINGS: [Belonging; 13] = [
    ("base", &["fault", "delay", "partition"], "types \"fault\", \"delay\" and \"partition\""),
    (
        "block_size",
        &["memory", "null", "file", "rbd"],
        "types \"memory\", \"null\", \"file\" and \"rbd\" (others have their own)",
    ),
    ("size", &["memory", "null", "partition"], "types \"memory\", \"null\" and \"partition\" (others have their own)"),
    ("path", &["file", "nvme"], "types \"file\" and \"nvme\""),
    ("read_only", &["file", "nvme", "rbd"], "types \"file\", \"nvme\" and \"rbd\""),
    ("queue_depth", &["file", "nvme", "rbd"], "types \"file\", \"nvme\" and \"rbd\""),
    ("offset", &["partition"], "type \"partition\""),
    ("avg_read_latency_us", &["delay"], "type \"delay\""),
    ("p99_read_latency_us", &["delay"], "type \"delay\""),
    ("avg_write_latency_us", &["delay"], "type \"delay\""),
    ("p99_write_latency_us", &["delay"], "type \"delay\""),
    ("fault", &["fault"], "type \"fault\""),
    ("seed", &["fault", "delay"], "types \"fault\" and \"delay\""),
];

/// Every type.
const TYPES: [&str; 8] = ["memory", "null", "file", "nvme", "rbd", "fault", "delay", "partition"];

pub(super) fn check_devices(
    sections: Vec<shape::Device>,
    clusters: &[ClusterSection],
    report: &mut Report<'_>,
) -> Vec<DeviceSection> {
    let mut devices: Vec<DeviceSection> = Vec::new();
    for section in sections {
        let device = check_device(section, &devices, clusters, report);
        devices.push(device);
    }
    devices
}

fn check_device(
    mut section: shape::Device,
    others: &[DeviceSection],
    clusters: &[ClusterSection],
    report: &mut Report<'_>,
) -> DeviceSection {
    let name = section.name.get_ref().clone();
    let named = |field: &str| format!("device \"{name}\": {field}");
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        report.refuse(section.name.span(), "device.name", quoted(&name), "a word without blanks");
    } else if others.iter().any(|device| device.name == name) {
        report.refuse(section.name.span(), "device.name", quoted(&name), "names are unique, and this one is taken");
    }
    let mut block_len: u32 = match section.block_size {
        None => 512,
        Some(ref block) if block.get_ref().0 == 512 => 512,
        Some(ref block) if block.get_ref().0 == 4096 => 4096,
        Some(ref block) => {
            report.refuse(block.span(), &named("block_size"), block.get_ref().0, "512 or 4096");
            512
        }
    };
    check_belongings(&section, report);
    let limits = check_limits(&name, section.limits.take(), report);
    let kind_span = section.kind.span();
    let kind = match section.kind.get_ref().as_str() {
        "memory" => DeviceKind::Memory { len: check_size(&section, block_len, report) },
        "null" => DeviceKind::Null { len: check_size(&section, block_len, report) },
        kind @ ("file" | "nvme") => {
            let example = if kind == "file" { "disk.img" } else { "/dev/ng0n1" };
            let is_file = kind == "file";
            let path = section.path.map(Spanned::into_inner).unwrap_or_else(|| {
                report.say(Some(kind_span), format!("{} is missing: such as path = \"{example}\"", named("path")));
                PathBuf::new()
            });
            let read_only = section.read_only.is_some_and(Spanned::into_inner);
            let queue_depth = number(section.queue_depth, &named("queue_depth"), 128, 1..=4096, report);
            if is_file {
                DeviceKind::File { path, read_only, queue_depth }
            } else {
                DeviceKind::Nvme { path, read_only, queue_depth }
            }
        }
        "rbd" => DeviceKind::Rbd(rbd::check(&name, section, clusters, report)),
        "fault" => {
            let rules = check_rules(&name, section.fault.take(), report);
            check_fault(section, others, rules, report)
        }
        "delay" => check_delay(section, others, report),
        "partition" => check_partition(section, others, report),
        other => {
            let [first @ .., last] = TYPES.map(quoted);
            report.refuse(kind_span, &named("type"), quoted(other), &format!("{} or {last}", first.join(", ")));
            DeviceKind::Null { len: u64::from(block_len) }
        }
    };
    let device = DeviceSection { name, block_len, kind, limits };
    // One that is made of another has the other's.
    if let Some(base) = device.base().and_then(|base| others.iter().find(|other| other.name == *base)) {
        block_len = base.block_len;
    }
    DeviceSection { block_len, ..device }
}

/// Keys that the device's type has not.
fn check_belongings(section: &shape::Device, report: &mut Report<'_>) {
    let kind = section.kind.get_ref().as_str();
    // The type is refused, and which keys it has is not known.
    if !TYPES.contains(&kind) {
        return;
    }
    for (field, kinds, others) in BELONGINGS {
        if let Some(span) = span_of(section, field).filter(|_| !kinds.contains(&kind)) {
            let text =
                format!("device \"{}\": {field}: only for {others}, not for type \"{kind}\"", section.name.get_ref());
            report.say(Some(span), text);
        }
    }
    for (field, span) in rbd::spans(section).into_iter().filter(|_| kind != "rbd") {
        let name = section.name.get_ref();
        report.say(Some(span), format!("device \"{name}\": {field}: only for type \"rbd\", not for type \"{kind}\""));
    }
}

fn span_of(section: &shape::Device, field: &str) -> Option<Range<usize>> {
    match field {
        "base" => section.base.as_ref().map(Spanned::span),
        "block_size" => section.block_size.as_ref().map(Spanned::span),
        "size" => section.size.as_ref().map(Spanned::span),
        "path" => section.path.as_ref().map(Spanned::span),
        "read_only" => section.read_only.as_ref().map(Spanned::span),
        "queue_depth" => section.queue_depth.as_ref().map(Spanned::span),
        "offset" => section.offset.as_ref().map(Spanned::span),
        "avg_read_latency_us" => section.avg_read_latency_us.as_ref().map(Spanned::span),
        "p99_read_latency_us" => section.p99_read_latency_us.as_ref().map(Spanned::span),
        "avg_write_latency_us" => section.avg_write_latency_us.as_ref().map(Spanned::span),
        "p99_write_latency_us" => section.p99_write_latency_us.as_ref().map(Spanned::span),
        "fault" => section.fault.as_ref().map(Spanned::span),
        "seed" => section.seed.as_ref().map(Spanned::span),
        _ => None,
    }
}

fn check_size(section: &shape::Device, block_len: u32, report: &mut Report<'_>) -> u64 {
    let field = format!("device \"{}\": size", section.name.get_ref());
    match &section.size {
        None => {
            report.say(Some(section.kind.span()), format!("{field} is missing: such as size = \"64MiB\""));
            u64::from(block_len)
        }
        Some(size) if size.get_ref().0 == 0 || size.get_ref().0 % u64::from(block_len) != 0 => {
            let allowed = format!("a multiple of the block size, {block_len}, and not 0");
            report.refuse(size.span(), &field, size.get_ref(), &allowed);
            u64::from(block_len)
        }
        Some(size) => size.get_ref().0,
    }
}
