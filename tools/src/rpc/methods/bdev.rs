//! `bdev_…`: devices.

use bdev::{Deallocation, Identity};
use nvmf_core::spec::SubsystemSpec;
use nvmf_core::target::DeviceFacts;
use serde_json::{Value, json};

use super::{View, layer, qos, rbd};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

pub(super) fn get_bdevs(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    // SPDK waits so long for a device to appear; here whoever makes one is answered when it is there.
    parameters.number("timeout")?;
    let name = parameters.string("name")?;
    let subsystems = view.target.subsystems();
    let chosen: Vec<Value> = view
        .target
        .devices()
        .iter()
        .filter(|facts| name.is_none_or(|name| name == facts.device.name()))
        .map(|facts| describe_device(*facts, &subsystems))
        .collect();
    match name {
        Some(name) if chosen.is_empty() => Err(RpcError::no_such("bdev", name)),
        Some(_) | None => Ok(Value::Array(chosen)),
    }
}

/// A drive's own names.
fn identity(identity: &Identity) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    json!({ "xnvme": {
        "serial_number": identity.serial,
        "model_number": identity.model,
        "firmware_revision": identity.firmware,
        "nguid": identity.nguid.map(|nguid| hex(&nguid)),
        "eui64": identity.eui64.map(|eui64| hex(&eui64)),
    } })
}

fn describe_device(facts: DeviceFacts<'_>, subsystems: &[&SubsystemSpec]) -> Value {
    let DeviceFacts { device, is_claimed, .. } = facts;
    let geometry = device.geometry();
    let namespace =
        subsystems.iter().flat_map(|subsystem| &subsystem.namespaces).find(|n| n.device.name() == device.name());
    let driver_specific = match (device.layer(), device.identity(), device.as_rbd()) {
        (Some(layer), _, _) => layer::describe(layer, device.name()),
        (None, Some(known), _) => identity(known),
        (None, None, Some(rbd)) => rbd::describe(rbd),
        (None, None, None) => json!({}),
    };
    let uuid = namespace.and_then(|namespace| namespace.uuid).map(|uuid| uuid.to_string());
    let mut facts = json!({
        "name": device.name(),
        "aliases": uuid.iter().collect::<Vec<_>>(),
        "product_name": device.product(),
        "block_size": geometry.block_len,
        "num_blocks": geometry.block_count,
        "claimed": is_claimed,
        "assigned_rate_limits": qos::describe(facts.throttle.limits()),
        "zoned": false,
        "supported_io_types": {
            "read": true,
            "write": !geometry.read_only,
            "unmap": !geometry.read_only && geometry.deallocation != Deallocation::Unsupported,
            "flush": true,
            "reset": true,
            "nvme_admin": false,
            "nvme_io": false,
            "write_zeroes": !geometry.read_only,
        },
        "driver_specific": driver_specific,
    });
    if let Some(uuid) = uuid {
        facts["uuid"] = json!(uuid);
    }
    if is_claimed {
        facts["claim_type"] = json!("exclusive_write");
    }
    facts
}
