//! What metrics show of devices: all CPUs' counts of one together.

use bdev::{Class, DeviceError};
use nvmf_core::target::DeviceFacts;

use super::sample;
use crate::metrics::{Histogram, Sample, Value};

/// Of one device. Times are shown of the classes that it has spent any on.
pub(super) fn samples(samples: &mut Vec<Sample>, facts: DeviceFacts<'_>) {
    let cpus = facts.statistics;
    let device = ("device", facts.device.name().to_owned());
    let mut add = |name: &str, label: Option<(&'static str, &str)>, value: Value| {
        let label = label.map(|(name, value)| (name, value.to_owned()));
        let labels: Vec<_> = std::iter::once(device.clone()).chain(label).collect();
        samples.push(sample(name, &labels, value));
    };
    for class in Class::ALL {
        let label = Some(("operation", class.name()));
        let of_class = || cpus.iter().map(|cpu| cpu.class(class));
        let sum = |number: fn(&bdev::ClassStatistics) -> u64| of_class().map(number).sum::<u64>();
        let done = sum(|class| class.operation_count.value());
        add("bdev_operations", label, Value::Counter(done));
        if !matches!(class, Class::Flush | Class::Other) {
            let moved = sum(|class| class.byte_count.value());
            add("bdev_bytes", label, Value::Counter(moved));
        }
        if matches!(class, Class::Read | Class::Write | Class::Flush) && sum(|class| class.timed_count.value()) > 0 {
            let counted = cpus.iter().flat_map(|cpu| cpu.times(class).buckets());
            let times = Histogram::of_operations(counted, sum(|class| class.time_sum_ns.value()));
            add("bdev_operation_seconds", label, Value::Histogram(times));
        }
    }
    for error in DeviceError::ALL {
        let count = cpus.iter().map(|cpu| cpu.error_count(error)).sum();
        let label = Some(("error", error.name()));
        add("bdev_errors", label, Value::Counter(count));
    }
    let outstanding = cpus.iter().map(|cpu| cpu.outstanding.value()).sum();
    add("bdev_outstanding", None, Value::Gauge(outstanding));
    let geometry = facts.device.geometry();
    let len = geometry.block_count * u64::from(geometry.block_len);
    add("bdev_size_bytes", None, Value::Gauge(len));
}
