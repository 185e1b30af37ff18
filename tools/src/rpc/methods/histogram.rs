//! `bdev_get_latency_histogram`, which SPDK has not: how long each device's operations took. (SPDK's `bdev_get_histogram` has to be switched on, and answers in its own
//! encoding; here the histograms are always there.)

use std::collections::BTreeMap;

use ::bdev::{Class, Statistics};
use serde_json::{Value, json};

use super::View;
use super::thread::TICK_RATE;
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// Since the start: for reads, writes and everything else a list of pairs, the longest time of a bucket and how many operations are in it. Reads out of a
/// device's own memory take no time, and are not in it.
pub(super) fn get_histogram(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let name = parameters.string("name")?;
    let devices = view.target.devices();
    let chosen = devices.iter().filter(|facts| name.is_none_or(|name| name == facts.device.name()));
    let bdevs: Vec<Value> = chosen
        .map(|facts| {
            let of = |class| {
                let mut buckets = BTreeMap::new();
                for (longest_ns, count) in
                    facts.statistics.iter().flat_map(|cpu: &std::sync::Arc<Statistics>| cpu.times(class).buckets())
                {
                    *buckets.entry(longest_ns).or_insert(0) += count;
                }
                buckets.into_iter().collect::<Vec<(u64, u64)>>()
            };
            json!({
                "name": facts.device.name(),
                "read": of(Class::Read),
                "write": of(Class::Write),
                // One histogram for all the rest.
                "other": of(Class::Other),
            })
        })
        .collect();
    match name {
        Some(name) if bdevs.is_empty() => Err(RpcError::no_such("bdev", name)),
        Some(_) | None => Ok(json!({ "tick_rate": TICK_RATE, "bdevs": bdevs })),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::rpc::methods::tests::call;

    #[test]
    fn what_all_cpus_took_is_told_together() {
        let told = call("bdev_get_latency_histogram", json!({ "name": "disk0" })).unwrap();
        let device = &told["bdevs"][0];
        let timed: u64 = device["read"].as_array().unwrap().iter().map(|bucket| bucket[1].as_u64().unwrap()).sum();
        assert_eq!((timed, &device["write"]), (2, &json!([])));
        assert!(device["read"][0][0].as_u64().unwrap() >= 5000, "{told}");
        let error = call("bdev_get_latency_histogram", json!({ "name": "nodisk" })).unwrap_err();
        assert!(format!("{error:?}").contains("nodisk"), "{error:?}");
    }
}
