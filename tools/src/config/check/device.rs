//! Devices: names that are unique, and what each type takes.

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;

use super::value::{number, quoted};
use crate::config::report::{Report, nearest};
use crate::config::{DeviceKind, DeviceSection, shape};

pub(super) fn check_devices(sections: Vec<shape::Device>, report: &mut Report<'_>) -> Vec<DeviceSection> {
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
            Some(ref block) => {
                report.refuse(block.span(), &named("block_size"), block.get_ref().0, "512 or 4096");
                512
            }
        };
        let kind_name = section.kind.get_ref().as_str();
        let (is_file, is_fault) = (kind_name == "file", kind_name == "fault");
        let not_for = |report: &mut Report<'_>, span, field: &str, other: &str| {
            report.say(Some(span), format!("{}: only for {other}, not for type \"{kind_name}\"", named(field)));
        };
        if is_fault {
            if let Some(block_size) = &section.block_size {
                not_for(report, block_size.span(), "block_size", "devices that are not made of another");
            }
        } else if let Some(base) = &section.base {
            not_for(report, base.span(), "base", "type \"fault\"");
        }
        if (is_file || is_fault)
            && let Some(size) = &section.size
        {
            not_for(report, size.span(), "size", "types \"memory\" and \"null\" (others have their own)");
        }
        if !is_file {
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
        let kind = match kind_name {
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
            "fault" => {
                DeviceKind::Fault { base: check_base(section.base, &name, section.kind.span(), &devices, report) }
            }
            other => {
                let allowed = "\"memory\", \"null\", \"file\" or \"fault\"";
                report.refuse(section.kind.span(), &named("type"), quoted(other), allowed);
                DeviceKind::Null { len: u64::from(block_len) }
            }
        };
        devices.push(DeviceSection { name, block_len, kind });
    }
    devices
}

/// The device below a fault device: one that stands before it, which nothing else is made of.
fn check_base(
    base: Option<Spanned<String>>,
    name: &str,
    kind_span: Range<usize>,
    devices: &[DeviceSection],
    report: &mut Report<'_>,
) -> String {
    let field = format!("device \"{name}\": base");
    let Some(base) = base else {
        report.say(Some(kind_span), format!("{field} is missing: the name of a device that stands before this one"));
        return String::new();
    };
    let wanted = base.get_ref();
    if !devices.iter().any(|device| device.name == *wanted) {
        let names = devices.iter().map(|device| device.name.as_str());
        let allowed = match nearest(wanted, names) {
            Some(near) => format!("a [[device]] that stands before this one; did you mean \"{near}\"?"),
            None => "a [[device]] that stands before this one".to_owned(),
        };
        report.refuse(base.span(), &field, quoted(wanted), &allowed);
    }
    if let Some(user) = devices.iter().find(|device| device.base() == Some(wanted)) {
        let allowed = format!("one use for each device, and device \"{}\" has it", user.name);
        report.refuse(base.span(), &field, quoted(wanted), &allowed);
    }
    base.into_inner()
}
