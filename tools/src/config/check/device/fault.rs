//! What goes wrong on a fault device from the start.

use bdev::Rule;
use toml::Spanned;

use crate::config::check::value::{number, quoted};
use crate::config::report::Report;
use crate::config::shape;
use crate::injection::{self, Details, ERRORS, PENDING_US_MAX};

pub(super) fn check_rules(
    device: &str,
    sections: Option<Spanned<Vec<shape::DeviceFault>>>,
    report: &mut Report<'_>,
) -> Vec<Rule> {
    let sections = sections.map(Spanned::into_inner).unwrap_or_default();
    sections.into_iter().flat_map(|section| check_rule(device, section, report)).collect()
}

/// One for each kind of operation.
fn check_rule(device: &str, section: shape::DeviceFault, report: &mut Report<'_>) -> Vec<Rule> {
    let named = |field: &str| format!("device \"{device}\": fault.{field}");
    let io_type = section.io_type.get_ref();
    let affected = injection::affected(io_type).unwrap_or_else(|| {
        let kinds = "\"read\", \"write\", \"unmap\", \"flush\" or \"all\"";
        report.refuse(section.io_type.span(), &named("io_type"), quoted(io_type), kinds);
        &[]
    });
    let error_type = section.error_type.get_ref();
    let has_value = section.corrupt_value.is_some();
    let has_blocks = section.start_block.is_some() || section.num_blocks.is_some();
    let is_ever = section.num.is_none();
    let count = number(section.num, &named("num"), 0, 1..=i64::from(u32::MAX), report);
    let one_in = number(section.one_in, &named("one_in"), 1, 1..=i64::from(u32::MAX), report);
    let mut unsigned = |value, field: &str, default: i64, least: i64| {
        number(value, &named(field), default, least..=i64::MAX, report).unsigned_abs()
    };
    let outstanding_min = unsigned(section.queue_depth, "queue_depth", 0, 0);
    let start = unsigned(section.start_block, "start_block", 0, 0);
    let block_count = unsigned(section.num_blocks, "num_blocks", i64::MAX, 1);
    let corrupt_offset = unsigned(section.corrupt_offset, "corrupt_offset", 0, 0);
    let corrupt_value = number(section.corrupt_value, &named("corrupt_value"), 0, 1..=255, report);
    if error_type == "corrupt_data" && !has_value {
        let text =
            format!("{} is missing: 1 to 255: the bits of the byte that are turned over", named("corrupt_value"));
        report.say(Some(section.error_type.span()), text);
    }
    let most = i64::try_from(PENDING_US_MAX).unwrap_or(i64::MAX);
    let pending_us =
        section.pending_us.map(|us| number(Some(us), &named("pending_us"), 1, 1..=most, report).unsigned_abs());
    let details = Details { corrupt_offset, corrupt_value: u8::try_from(corrupt_value).unwrap_or(u8::MAX), pending_us };
    let rule = |affected: &bdev::Affected| {
        Some(Rule {
            outstanding_min,
            one_in: u32::try_from(one_in).unwrap_or(u32::MAX),
            count: (!is_ever).then_some(u32::try_from(count).unwrap_or(u32::MAX)),
            blocks: has_blocks.then(|| start..start.saturating_add(block_count)),
            ..Rule::always(*affected, injection::effect(error_type, details, *affected)?)
        })
    };
    let rules: Option<Vec<Rule>> = affected.iter().map(rule).collect();
    rules.unwrap_or_else(|| {
        report.refuse(section.error_type.span(), &named("error_type"), quoted(error_type), ERRORS);
        Vec::new()
    })
}
