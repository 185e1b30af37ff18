//! `bdev_get_iostat`: what each device has done. Ticks are ns.
//!
//! As in SPDK a device's times are those of its operations. A read out of a device's own memory takes none: it is counted and has no part in the
//! latencies, which are those of `timed_read_ops` and so on.

use std::sync::Arc;

use bdev::{Class, DeviceError, Statistics};
use serde_json::{Map, Value, json};

use super::View;
use super::thread::{self, TICK_RATE};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// Classes as SPDK names them: of bytes, of operations, of latencies.
const CLASSES: [(Class, &str, &str); 3] =
    [(Class::Read, "read", "read"), (Class::Write, "written", "write"), (Class::Deallocate, "unmapped", "unmap")];

/// Those beyond SPDK.
const MORE: [(Class, &str); 3] =
    [(Class::WriteZeroes, "write_zeroes"), (Class::Flush, "flush"), (Class::Other, "other")];

pub(super) fn get_iostat(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let name = parameters.string("name")?;
    let is_per_channel = parameters.boolean("per_channel")?.unwrap_or(false);
    let bdevs: Vec<Value> = view
        .target
        .devices()
        .iter()
        .filter(|facts| name.is_none_or(|name| name == facts.device.name()))
        .map(|facts| {
            let mut told = Map::new();
            told.insert("name".into(), json!(facts.device.name()));
            if is_per_channel {
                let places = view.reactors.polling().zip(facts.statistics);
                let channels = places.map(|(place, statistics)| {
                    let mut channel = Map::new();
                    channel.insert("thread_id".into(), json!(thread::id(place)));
                    channel.extend(numbers(std::slice::from_ref(statistics)));
                    Value::Object(channel)
                });
                told.insert("channels".into(), channels.collect());
            } else {
                told.extend(numbers(facts.statistics));
            }
            Value::Object(told)
        })
        .collect();
    match name {
        Some(name) if bdevs.is_empty() => Err(RpcError::no_such("bdev", name)),
        Some(_) | None => Ok(json!({ "tick_rate": TICK_RATE, "ticks": view.target.now_ns(), "bdevs": bdevs })),
    }
}

/// What these CPUs have counted, together.
fn numbers(cpus: &[Arc<Statistics>]) -> Map<String, Value> {
    let mut numbers = Map::new();
    for (class, moved, done) in CLASSES {
        let of_class = || cpus.iter().map(|cpu| cpu.class(class));
        let sum = |number: fn(&bdev::ClassStatistics) -> u64| json!(of_class().map(number).sum::<u64>());
        numbers.insert(format!("bytes_{moved}"), sum(|class| class.byte_count.value()));
        numbers.insert(format!("num_{done}_ops"), sum(|class| class.operation_count.value()));
        numbers.insert(format!("timed_{done}_ops"), sum(|class| class.timed_count.value()));
        numbers.insert(format!("{done}_latency_ticks"), sum(|class| class.time_sum_ns.value()));
        let longest = of_class().map(|class| class.time_max_ns.value()).max();
        numbers.insert(format!("max_{done}_latency_ticks"), json!(longest.unwrap_or(0)));
        let timed = of_class().filter(|class| class.timed_count.value() > 0);
        let shortest = timed.map(|class| class.time_min_ns.value()).min();
        numbers.insert(format!("min_{done}_latency_ticks"), json!(shortest.unwrap_or(0)));
    }
    for (class, name) in MORE {
        let done = cpus.iter().map(|cpu| cpu.class(class).operation_count.value()).sum::<u64>();
        numbers.insert(format!("num_{name}_ops"), json!(done));
    }
    let errors = DeviceError::ALL.iter().filter_map(|error| {
        let count = cpus.iter().map(|cpu| cpu.error_count(*error)).sum::<u64>();
        (count > 0).then(|| (error.name().to_owned(), json!(count)))
    });
    numbers.insert("io_error".into(), Value::Object(errors.collect()));
    numbers.insert("queue_depth".into(), json!(cpus.iter().map(|cpu| cpu.outstanding.value()).sum::<u64>()));
    numbers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::rpc::methods::tests::call;

    #[test]
    fn what_all_cpus_have_counted_is_told_together() {
        let told = call("bdev_get_iostat", json!({ "name": "disk0" })).unwrap();
        assert_eq!((&told["tick_rate"], &told["ticks"]), (&json!(1_000_000_000), &json!(77)));
        assert_eq!(
            told["bdevs"],
            json!([{
                "name": "disk0",
                "bytes_read": 4608, "num_read_ops": 3, "timed_read_ops": 2,
                "read_latency_ticks": 10_000, "max_read_latency_ticks": 5000, "min_read_latency_ticks": 5000,
                "bytes_written": 0, "num_write_ops": 0, "timed_write_ops": 0,
                "write_latency_ticks": 0, "max_write_latency_ticks": 0, "min_write_latency_ticks": 0,
                "bytes_unmapped": 0, "num_unmap_ops": 0, "timed_unmap_ops": 0,
                "unmap_latency_ticks": 0, "max_unmap_latency_ticks": 0, "min_unmap_latency_ticks": 0,
                "num_write_zeroes_ops": 0, "num_flush_ops": 0, "num_other_ops": 0,
                "io_error": { "read_fault": 1 },
                "queue_depth": 0,
            }])
        );
    }

    #[test]
    fn each_cpu_is_told_where_asked_for() {
        let told = call("bdev_get_iostat", json!({ "per_channel": true })).unwrap();
        let bdevs = told["bdevs"].as_array().unwrap();
        assert_eq!(bdevs.len(), 2);
        let channels = bdevs[0]["channels"].as_array().unwrap();
        assert_eq!((&channels[0]["thread_id"], &channels[0]["num_read_ops"]), (&json!(2), &json!(3)));
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let error = call("bdev_get_iostat", json!({ "name": "nodisk" })).unwrap_err();
        assert!(format!("{error:?}").contains("nodisk"), "{error:?}");
    }
}
