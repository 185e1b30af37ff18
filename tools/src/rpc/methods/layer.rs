//! `bdev_delay_…` and `bdev_split_…`: devices that are made of another, under SPDK's names and parameters.
//!
//! Two things differ. SPDK makes fewer partitions where the base has no room for all of them; here that is refused. And SPDK keeps a split for a base that is to
//! come; here the base is there.

use std::sync::Arc;

use ::bdev::{Device, Latencies, LatencyKind, Layer};
use nvmf_core::ChangeId;
use serde_json::{Value, json};

use super::{MadeSeveral, View, device};
use crate::config::{DeviceKind, DeviceSection};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// SPDK counts `split_size_mb` in these.
const MIB: u64 = 1 << 20;

/// More is a mistake: the target has no room for so many devices.
const SPLIT_COUNT_MAX: u64 = 1 << 16;

/// Where nobody says what decides chance, every run is the same.
const SEED: u64 = 0;

/// What `latency_type` can be.
const LATENCIES: [(&str, LatencyKind); 4] = [
    ("avg_read", LatencyKind::Read),
    ("p99_read", LatencyKind::ReadP99),
    ("avg_write", LatencyKind::Write),
    ("p99_write", LatencyKind::WriteP99),
];

pub(super) fn create_delay(view: View<'_>, parameters: &Parameters<'_>) -> Result<(ChangeId, Value), RpcError> {
    let base_name = parameters.needed_string("base_bdev_name", "the name of a device")?;
    let name = device::needed_name(parameters)?.to_owned();
    let latency = |field| {
        let us = parameters.number(field)?;
        us.ok_or_else(|| parameters.missing(field, "a time in µs"))
    };
    let latencies = Latencies {
        read_us: latency("avg_read_latency")?,
        read_p99_us: latency("p99_read_latency")?,
        write_us: latency("avg_write_latency")?,
        write_p99_us: latency("p99_write_latency")?,
    };
    let kind =
        DeviceKind::Delay { base: base_name.to_owned(), latencies, seed: parameters.number("seed")?.unwrap_or(SEED) };
    let section = DeviceSection::new(&name, block_len_of(&view, base_name), kind);
    device::make(view, parameters, section)
}

pub(super) fn update_latency(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let name = parameters.needed_string("delay_bdev_name", "the name of a device of bdev_delay_create")?;
    let words = "\"avg_read\", \"p99_read\", \"avg_write\" or \"p99_write\"";
    let word = parameters.needed_string("latency_type", words)?;
    let Some((_, kind)) = LATENCIES.iter().find(|(other, _)| *other == word) else {
        return Err(parameters.refuse("latency_type", &json!(word), words));
    };
    let us = parameters.number("latency_us")?.ok_or_else(|| parameters.missing("latency_us", "a time in µs"))?;
    let device = find(&view, name).ok_or_else(|| RpcError::no_such("bdev", name))?;
    let Some(Layer::Delay(delay)) = device.layer() else {
        return Err(parameters.refuse("delay_bdev_name", &json!(name), "that of a device of bdev_delay_create"));
    };
    delay.set_latency(*kind, us).map_err(|error| parameters.impossible(&error.to_string()))?;
    Ok(json!(true))
}

pub(super) fn delete_delay(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let name = device::needed_name(parameters)?;
    match find(&view, name).as_ref().map(|device| device.layer()) {
        None => Err(RpcError::no_such("bdev", name)),
        Some(Some(Layer::Delay(_))) => device::delete(view, parameters),
        Some(_) => Err(parameters.refuse("name", &json!(name), "that of a device of bdev_delay_create")),
    }
}

/// SPDK has none: its partitions are equal parts, or what a partition table says.
pub(super) fn create_partition(view: View<'_>, parameters: &Parameters<'_>) -> Result<(ChangeId, Value), RpcError> {
    let name = device::needed_name(parameters)?.to_owned();
    let base_name = parameters.needed_string("base_bdev_name", "the name of a device")?;
    let base = find(&view, base_name).ok_or_else(|| RpcError::no_such("bdev", base_name))?;
    let geometry = base.geometry();
    let block_len = u64::from(geometry.block_len);
    let last = geometry.block_count.saturating_sub(1);
    let offset = parameters.number_in("offset_blocks", 0..=last)?.unwrap_or(0);
    let count = parameters.number_in("num_blocks", 1..=geometry.block_count - offset.min(last))?;
    let len = count.map(|count| count * block_len);
    let kind = DeviceKind::Partition { base: base_name.to_owned(), offset: offset * block_len, len };
    device::make(view, parameters, DeviceSection::new(&name, geometry.block_len, kind))
}

pub(super) fn delete_partition(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let name = device::needed_name(parameters)?;
    match find(&view, name).as_ref().map(|device| device.layer()) {
        None => Err(RpcError::no_such("bdev", name)),
        Some(Some(Layer::Partition(_))) => device::delete(view, parameters),
        Some(_) => Err(parameters.refuse("name", &json!(name), "that of a partition of another device")),
    }
}

pub(super) fn create_split(view: View<'_>, parameters: &Parameters<'_>) -> Result<MadeSeveral, RpcError> {
    let base_name = parameters.needed_string("base_bdev", "the name of a device")?;
    let count = parameters.number_in("split_count", 1..=SPLIT_COUNT_MAX)?;
    let count = count.ok_or_else(|| parameters.missing("split_count", "how many partitions to make"))?;
    let size_mib = parameters.number_in("split_size_mb", 0..=u64::MAX / MIB)?.unwrap_or(0);
    let base = find(&view, base_name).ok_or_else(|| RpcError::no_such("bdev", base_name))?;
    let geometry = base.geometry();
    let block_count = match size_mib {
        0 => {
            let even = geometry.block_count / count;
            // Where the base has a boundary each begins at one.
            let boundary = u64::from(geometry.preferred.boundary).max(1);
            if even >= boundary { even / boundary * boundary } else { even }
        }
        mib => mib * MIB / u64::from(geometry.block_len),
    };
    if block_count == 0 || block_count.checked_mul(count).is_none_or(|all| all > geometry.block_count) {
        let allowed =
            format!("partitions that \"{base_name}\" has room for, which has {} blocks", geometry.block_count);
        let value = json!(format!("{count} of {block_count} blocks"));
        return Err(parameters.refuse("split_count", &value, &allowed));
    }
    let names: Vec<String> = (0..count).map(|number| format!("{base_name}p{number}")).collect();
    // Before the first is begun: otherwise some would be there, and an error.
    if let Some(taken) = names.iter().find(|name| find(&view, name).is_some()) {
        return Err(parameters.not_now(&format!("there is a device \"{taken}\" already: delete that one first")));
    }
    let mut changes = Vec::new();
    for (number, name) in (0..).zip(&names) {
        let len = block_count * u64::from(geometry.block_len);
        let kind = DeviceKind::Partition { base: base_name.to_owned(), offset: number * len, len: Some(len) };
        let change = view.target.make_device(DeviceSection::new(name, geometry.block_len, kind));
        changes.push(change.map_err(|error| super::subsystem::refusal(parameters, &error))?);
    }
    Ok((changes, json!(names)))
}

/// All partitions of a device.
pub(super) fn delete_split(view: View<'_>, parameters: &Parameters<'_>) -> Result<MadeSeveral, RpcError> {
    let base_name = parameters.needed_string("base_bdev", "the name of a device")?;
    find(&view, base_name).ok_or_else(|| RpcError::no_such("bdev", base_name))?;
    let devices = view.target.devices();
    let is_part = |device: &Arc<dyn Device>| matches!(device.layer(), Some(Layer::Partition(partition)) if partition.base_name() == base_name);
    let names: Vec<String> =
        devices.iter().filter(|facts| is_part(facts.device)).map(|facts| facts.device.name().to_owned()).collect();
    if names.is_empty() {
        return Err(parameters.refuse("base_bdev", &json!(base_name), "that of a device with partitions"));
    }
    let mut changes = Vec::new();
    for name in names {
        changes.push(device::begin_delete(view.target, parameters, name)?);
    }
    Ok((changes, json!(true)))
}

/// What SPDK says of such a device.
pub(super) fn describe(layer: Layer<'_>, name: &str) -> Value {
    match layer {
        // And how often something was injected.
        Layer::Fault(fault) => {
            json!({ "error_disk": { "base_bdev": fault.base_name(), "injected": fault.hit_count() } })
        }
        Layer::Delay(delay) => {
            let latencies = delay.latencies();
            json!({ "delay": {
                "name": name,
                "base_bdev_name": delay.base_name(),
                "avg_read_latency": latencies.read_us,
                "p99_read_latency": latencies.read_p99_us,
                "avg_write_latency": latencies.write_us,
                "p99_write_latency": latencies.write_p99_us,
            } })
        }
        Layer::Partition(partition) => {
            json!({ "split": { "base_bdev": partition.base_name(), "offset_blocks": partition.blocks().start } })
        }
    }
}

/// That there is no such device is said elsewhere.
pub(super) fn block_len_of(view: &View<'_>, name: &str) -> u32 {
    find(view, name).map_or(512, |device| device.geometry().block_len)
}

fn find(view: &View<'_>, name: &str) -> Option<Arc<dyn Device>> {
    view.target.devices().iter().map(|facts| Arc::clone(facts.device)).find(|device| device.name() == name)
}
