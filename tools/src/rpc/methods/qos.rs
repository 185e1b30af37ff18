//! `bdev_set_qos_limit`: limits of any device, under SPDK's name and with its parameters.
//!
//! As with SPDK, 0 takes a limit away and what is left out stays. SPDK rounds operations up to thousands, takes whole megabytes, and has no limits for each host, none of reads or writes alone in operations,
//! and no burst; those are ours.

use ::bdev::{BURST_MS_MAX, BURST_MS_MIN, Limits, Rates};
use serde_json::{Value, json};

use super::{View, device};
use crate::config::mebibytes;
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

pub(super) fn set_limit(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let name = device::needed_name(parameters)?;
    let devices = view.target.devices();
    let facts = devices.iter().find(|facts| facts.device.name() == name);
    let facts = facts.ok_or_else(|| RpcError::no_such("bdev", name))?;
    let old = facts.throttle.limits();
    let burst_ms = parameters.number_in("burst_ms", BURST_MS_MIN.into()..=BURST_MS_MAX.into())?;
    let limits = Limits {
        device: rates(parameters, old.device, "")?,
        host: rates(parameters, old.host, "host_")?,
        burst_ms: burst_ms.and_then(|ms| u32::try_from(ms).ok()).unwrap_or(old.burst_ms),
    };
    if parameters.count() == 1 {
        return Err(parameters.missing("rw_ios_per_sec", "given, or another limit"));
    }
    if limits != old {
        tracing::info!(device = name, ?limits, "limits");
        facts.throttle.set(limits);
    }
    Ok(json!(true))
}

fn rates(parameters: &Parameters<'_>, old: Rates, whose: &str) -> Result<Rates, RpcError> {
    let operations = |word: &str, old| Ok(parameters.number(&format!("{whose}{word}_ios_per_sec"))?.unwrap_or(old));
    let bytes = |word: &str, old| Ok(parameters.mebibytes(&format!("{whose}{word}_mbytes_per_sec"))?.unwrap_or(old));
    Ok(Rates {
        operations: operations("rw", old.operations)?,
        reads: operations("r", old.reads)?,
        writes: operations("w", old.writes)?,
        bytes: bytes("rw", old.bytes)?,
        read_bytes: bytes("r", old.read_bytes)?,
        write_bytes: bytes("w", old.write_bytes)?,
    })
}

/// What SPDK says of a device's limits, and ours beside it where there are any.
pub(super) fn describe(limits: Limits) -> Value {
    let Limits { device, host, burst_ms } = limits;
    let mut value = json!({
        "rw_ios_per_sec": device.operations,
        "rw_mbytes_per_sec": mebibytes(device.bytes),
        "r_mbytes_per_sec": mebibytes(device.read_bytes),
        "w_mbytes_per_sec": mebibytes(device.write_bytes),
    });
    if limits.is_any() {
        let ours = [
            ("r_ios_per_sec", json!(device.reads)),
            ("w_ios_per_sec", json!(device.writes)),
            ("host_rw_ios_per_sec", json!(host.operations)),
            ("host_r_ios_per_sec", json!(host.reads)),
            ("host_w_ios_per_sec", json!(host.writes)),
            ("host_rw_mbytes_per_sec", mebibytes(host.bytes)),
            ("host_r_mbytes_per_sec", mebibytes(host.read_bytes)),
            ("host_w_mbytes_per_sec", mebibytes(host.write_bytes)),
            ("burst_ms", json!(burst_ms)),
        ];
        for (name, number) in ours {
            value[name] = number;
        }
    }
    value
}
