//! `[device.limits]`: what a device's users may do, together and each host.

use bdev::{BURST_MS_MAX, BURST_MS_MIN, Limits, Rates};
use toml::Spanned;

use crate::config::check::value::number;
use crate::config::report::Report;
use crate::config::shape;
use crate::config::size::Size;

pub(super) fn check_limits(device: &str, section: Option<shape::DeviceLimits>, report: &mut Report<'_>) -> Limits {
    let default = Limits::default();
    let Some(section) = section else { return default };
    let named = format!("device \"{device}\": limits");
    let of_host = section.host.map(|host| check_rates(&format!("{named}.host"), host, report));
    let burst =
        number(section.burst_ms, &format!("{named}.burst_ms"), default.burst_ms, BURST_MS_MIN..=BURST_MS_MAX, report);
    let rates = shape::DeviceRates {
        iops: section.iops,
        read_iops: section.read_iops,
        write_iops: section.write_iops,
        bandwidth: section.bandwidth,
        read_bandwidth: section.read_bandwidth,
        write_bandwidth: section.write_bandwidth,
    };
    Limits { device: check_rates(&named, rates, report), host: of_host.unwrap_or_default(), burst_ms: burst }
}

fn check_rates(named: &str, rates: shape::DeviceRates, report: &mut Report<'_>) -> Rates {
    let mut iops = |value: Option<Spanned<i64>>, field: &str| {
        number(value, &format!("{named}.{field}"), 0_i64, 0..=i64::MAX, report).unsigned_abs()
    };
    let bytes = |value: Option<Spanned<Size>>| value.map_or(0, |size| size.get_ref().0);
    Rates {
        operations: iops(rates.iops, "iops"),
        reads: iops(rates.read_iops, "read_iops"),
        writes: iops(rates.write_iops, "write_iops"),
        bytes: bytes(rates.bandwidth),
        read_bytes: bytes(rates.read_bandwidth),
        write_bytes: bytes(rates.write_bandwidth),
    }
}
