//! `nvmf_…`: subsystems.

use std::net::SocketAddr;

use nvmf_core::spec::SubsystemSpec;
use serde_json::{Value, json};

use super::View;
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

pub(super) fn get_subsystems(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    parameters.string("tgt_name")?;
    let nqn = parameters.string("nqn")?;
    let chosen: Vec<Value> = view
        .subsystems
        .iter()
        .filter(|subsystem| nqn.is_none_or(|nqn| nqn == subsystem.nqn))
        .map(|subsystem| describe_subsystem(subsystem, view.transport_type))
        .collect();
    match nqn {
        Some(nqn) if chosen.is_empty() => Err(RpcError::no_such("subsystem", nqn)),
        Some(_) | None => Ok(Value::Array(chosen)),
    }
}

fn describe_subsystem(subsystem: &SubsystemSpec, transport_type: &str) -> Value {
    let address = |address: &SocketAddr| {
        json!({
            "trtype": transport_type,
            "adrfam": if address.is_ipv4() { "IPv4" } else { "IPv6" },
            "traddr": address.ip().to_string(),
            "trsvcid": address.port().to_string(),
        })
    };
    let namespaces: Vec<Value> = subsystem
        .namespaces
        .iter()
        .map(|namespace| {
            let mut facts = json!({
                "nsid": namespace.nsid,
                "bdev_name": namespace.device.name(),
                "name": namespace.device.name(),
            });
            if let Some(uuid) = namespace.uuid {
                facts["uuid"] = json!(uuid.to_string());
            }
            facts
        })
        .collect();
    json!({
        "nqn": subsystem.nqn,
        "subtype": "NVMe",
        "listen_addresses": subsystem.listeners.iter().map(address).collect::<Vec<_>>(),
        "allow_any_host": subsystem.allow_any_host,
        "hosts": subsystem.hosts.iter().map(|host| json!({ "nqn": host })).collect::<Vec<_>>(),
        "serial_number": subsystem.serial_number,
        "model_number": subsystem.model_number,
        "namespaces": namespaces,
    })
}
