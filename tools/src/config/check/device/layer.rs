//! Devices that are made of another.

use bdev::{Latencies, Limits, Rule};
use toml::Spanned;

use crate::config::check::value::{number, quoted};
use crate::config::report::{Report, nearest};
use crate::config::size::Size;
use crate::config::{DeviceKind, DeviceSection, shape};

/// A day: more is a mistake in the unit.
const LATENCY_US_MAX: i64 = 86_400_000_000;

pub(super) fn check_fault(
    section: shape::Device,
    others: &[DeviceSection],
    rules: Vec<Rule>,
    report: &mut Report<'_>,
) -> DeviceKind {
    let base = check_base(&section, report, others);
    check_unused(&section, &base, others, report);
    let seed = check_seed(section, report);
    DeviceKind::Fault { base, seed, rules }
}

pub(super) fn check_delay(section: shape::Device, others: &[DeviceSection], report: &mut Report<'_>) -> DeviceKind {
    let base = check_base(&section, report, others);
    check_unused(&section, &base, others, report);
    let name = section.name.get_ref().clone();
    let mut latency = |value: &Option<Spanned<i64>>, field: &str, default: i64| {
        number(value.clone(), &format!("device \"{name}\": {field}"), default, 0..=LATENCY_US_MAX, report)
    };
    let read = latency(&section.avg_read_latency_us, "avg_read_latency_us", 0);
    let write = latency(&section.avg_write_latency_us, "avg_write_latency_us", 0);
    let read_p99 = latency(&section.p99_read_latency_us, "p99_read_latency_us", read);
    let write_p99 = latency(&section.p99_write_latency_us, "p99_write_latency_us", write);
    let latencies = Latencies {
        read_us: read.unsigned_abs(),
        read_p99_us: read_p99.unsigned_abs(),
        write_us: write.unsigned_abs(),
        write_p99_us: write_p99.unsigned_abs(),
    };
    let seed = check_seed(section, report);
    DeviceKind::Delay { base, latencies, seed }
}

pub(super) fn check_partition(section: shape::Device, others: &[DeviceSection], report: &mut Report<'_>) -> DeviceKind {
    let base = check_base(&section, report, others);
    let block_len = others.iter().find(|other| other.name == base).map_or(512, |other| other.block_len);
    let name = section.name.get_ref();
    let mut bytes = |value: &Option<Spanned<Size>>, field: &str, may_be_none: bool| -> Option<u64> {
        let value = value.as_ref()?;
        let len = value.get_ref().0;
        if !len.is_multiple_of(u64::from(block_len)) || (len == 0 && !may_be_none) {
            let end = if may_be_none { "" } else { ", and not 0" };
            let allowed = format!("a multiple of the block size, {block_len}{end}");
            report.refuse(value.span(), &format!("device \"{name}\": {field}"), value.get_ref(), &allowed);
        }
        Some(len)
    };
    let offset = bytes(&section.offset, "offset", true).unwrap_or(0);
    let len = bytes(&section.size, "size", false);
    let kind = DeviceKind::Partition { base: base.clone(), offset, len };
    let this = DeviceSection { name: name.clone(), block_len, kind, limits: Limits::default() };
    let users = others.iter().filter(|other| other.base() == Some(&base));
    if let (Some(span), Some(user)) =
        (section.base.as_ref().map(Spanned::span), users.into_iter().find(|user| !this.is_beside(user)))
    {
        let allowed = match user.part() {
            Some(_) => {
                format!("partitions of a device do not overlap, and device \"{}\" has some of these bytes", user.name)
            }
            None => format!("one use for each device, and device \"{}\" has it", user.name),
        };
        report.refuse(span, &format!("device \"{name}\": base"), quoted(&base), &allowed);
    }
    this.kind
}

/// The device below: one that stands before this one.
fn check_base(section: &shape::Device, report: &mut Report<'_>, others: &[DeviceSection]) -> String {
    let field = format!("device \"{}\": base", section.name.get_ref());
    let Some(base) = &section.base else {
        let text = format!("{field} is missing: the name of a device that stands before this one");
        report.say(Some(section.kind.span()), text);
        return String::new();
    };
    let wanted = base.get_ref();
    if !others.iter().any(|device| device.name == *wanted) {
        let names = others.iter().map(|device| device.name.as_str());
        let allowed = match nearest(wanted, names) {
            Some(near) => format!("a [[device]] that stands before this one; did you mean {near:?}?"),
            None => "a [[device]] that stands before this one".to_owned(),
        };
        report.refuse(base.span(), &field, quoted(wanted), &allowed);
    }
    wanted.clone()
}

/// It is made of all of the device below, which nothing else is made of then.
fn check_unused(section: &shape::Device, wanted: &String, others: &[DeviceSection], report: &mut Report<'_>) {
    let Some(base) = &section.base else { return };
    if let Some(user) = others.iter().find(|device| device.base() == Some(wanted)) {
        let allowed = format!("one use for each device, and device \"{}\" has it", user.name);
        report.refuse(base.span(), &format!("device \"{}\": base", section.name.get_ref()), quoted(wanted), &allowed);
    }
}

fn check_seed(section: shape::Device, report: &mut Report<'_>) -> u64 {
    let field = format!("device \"{}\": seed", section.name.get_ref());
    number(section.seed, &field, 0_i64, 0..=i64::MAX, report).unsigned_abs()
}
