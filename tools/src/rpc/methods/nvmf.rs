//! `nvmf_…`: what there is of subsystems, controllers and qpairs.

use std::net::SocketAddr;

use nvmf_core::QpairStage;
use nvmf_core::limits::SUBSYSTEM_COUNT_MAX;
use nvmf_core::spec::{ControllerModel, SubsystemSpec};
use serde_json::{Value, json};
use uuid::Uuid;

use super::namespace::{ana_word, hexadecimal};
use super::{View, thread};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// The name that SPDK gives a target that was given none, and the only one here.
const TARGET: &str = "nvmf_tgt";

pub(super) fn get_subsystems(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    check_target(parameters)?;
    let nqn = parameters.string("nqn")?;
    let chosen: Vec<Value> = view
        .target
        .subsystems()
        .into_iter()
        .filter(|subsystem| nqn.is_none_or(|nqn| nqn == subsystem.nqn))
        .map(|subsystem| describe_subsystem(subsystem, view.transport_type))
        .collect();
    match nqn {
        Some(nqn) if chosen.is_empty() => Err(RpcError::no_such("subsystem", nqn)),
        Some(_) | None => Ok(Value::Array(chosen)),
    }
}

/// Keys by their names, where the host has some.
fn describe_host(subsystem: &SubsystemSpec, host: &str) -> Value {
    let mut described = json!({ "nqn": host });
    if let Some(keys) = subsystem.host_keys.iter().find(|keys| keys.host == host) {
        described["dhchap_key"] = json!(keys.key.name);
        if let Some(key) = &keys.controller_key {
            described["dhchap_ctrlr_key"] = json!(key.name);
        }
    }
    described
}

/// With SPDK's `ana_states` where the subsystem reports ANA.
pub(super) fn get_listeners(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    check_target(parameters)?;
    let nqn = needed_nqn(parameters)?;
    let subsystems = view.target.subsystems();
    let subsystem = subsystems.iter().find(|subsystem| subsystem.nqn == nqn);
    let subsystem = subsystem.ok_or_else(|| no_subsystem(&view, parameters, nqn))?;
    let listeners = subsystem.listeners.iter();
    let describe = |listener: &SocketAddr| {
        let mut facts = json!({ "address": describe_address(listener, view.transport_type) });
        if subsystem.reports_ana {
            let state = |group| {
                let state = ana_word(subsystem.ana_state(*listener, group));
                json!({ "ana_group": group, "ana_state": state })
            };
            facts["ana_states"] = (1..=subsystem.nsid_max).map(state).collect();
        }
        facts
    };
    Ok(listeners.map(describe).collect())
}

pub(super) fn get_controllers(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    check_target(parameters)?;
    let nqn = needed_nqn(parameters)?;
    let none = || no_subsystem(&view, parameters, nqn);
    let (controllers, qpairs) =
        (view.target.controllers(nqn).ok_or_else(none)?, view.target.qpairs(nqn).ok_or_else(none)?);
    let kind = if nqn == nvmf_core::wire::DISCOVERY_NQN { "discovery" } else { "io" };
    let describe = |controller: &nvmf_core::target::ControllerFacts<'_>| {
        let io_qpairs = qpairs.iter().filter(|qpair| qpair.controller_id == controller.id && qpair.qid != 0);
        json!({
            "cntlid": controller.id,
            "cntrltype": kind,
            "hostnqn": controller.host_nqn,
            "hostid": Uuid::from_bytes(controller.host_id).to_string(),
            "num_io_qpairs": io_qpairs.count(),
        })
    };
    Ok(controllers.iter().map(describe).collect())
}

pub(super) fn get_qpairs(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    check_target(parameters)?;
    let nqn = needed_nqn(parameters)?;
    let qpairs = view.target.qpairs(nqn).ok_or_else(|| no_subsystem(&view, parameters, nqn))?;
    let describe = |qpair: &nvmf_core::target::QpairFacts| {
        let place = view.reactors.polling().find(|place| place.cpu == qpair.cpu);
        json!({
            "cntlid": qpair.controller_id,
            "qid": qpair.qid,
            "state": state(qpair.stage),
            "thread": place.map(thread::name),
            "hostnqn": qpair.host_nqn,
            "listen_address": describe_address(&qpair.listener, view.transport_type),
            "peer_address": describe_address(&qpair.peer, view.transport_type),
            "num_read_ops": qpair.read_count,
            "bytes_read": qpair.read_bytes,
            "num_write_ops": qpair.write_count,
            "bytes_written": qpair.written_bytes,
        })
    };
    Ok(qpairs.iter().map(describe).collect())
}

/// By polling CPU: connections so far and now, and I/O commands.
pub(super) fn get_stats(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    check_target(parameters)?;
    let mut nqns: Vec<&str> = view.target.subsystems().iter().map(|subsystem| subsystem.nqn.as_str()).collect();
    nqns.push(nvmf_core::wire::DISCOVERY_NQN);
    let qpairs: Vec<_> = nqns.into_iter().filter_map(|nqn| view.target.qpairs(nqn)).flatten().collect();
    let groups = view.reactors.polling().map(|place| {
        let counters = view.target.counters(place.cpu);
        let own = || qpairs.iter().filter(|qpair| qpair.cpu == place.cpu);
        let io = [&counters.read_count, &counters.write_count, &counters.flush_count, &counters.other_count];
        json!({
            "name": thread::name(place),
            "admin_qpairs": counters.admin_connect_count.value(),
            "io_qpairs": counters.io_connect_count.value(),
            "current_admin_qpairs": own().filter(|qpair| qpair.qid == 0).count(),
            "current_io_qpairs": own().filter(|qpair| qpair.qid != 0).count(),
            "pending_bdev_io": counters.device_leases.value(),
            // Fetched: those under way are among them.
            "completed_nvme_io": io.into_iter().map(|counter| counter.value()).sum::<u64>(),
            "transports": [{ "trtype": view.transport_type }],
        })
    });
    Ok(json!({ "tick_rate": thread::TICK_RATE, "poll_groups": groups.collect::<Vec<_>>() }))
}

pub(super) fn get_targets(_: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    Ok(json!([TARGET]))
}

/// SPDK allocates so many before its start. Here there is room for as many as there may be.
pub(super) fn set_max_subsystems(_: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let count = parameters.number_in("max_subsystems", 1..=SUBSYSTEM_COUNT_MAX as u64)?;
    count.ok_or_else(|| parameters.missing("max_subsystems", "a number of subsystems"))?;
    Ok(json!(true))
}

/// There is one target, so its name says nothing.
pub(super) fn check_target(parameters: &Parameters<'_>) -> Result<(), RpcError> {
    match parameters.string("tgt_name")? {
        None | Some(TARGET) => Ok(()),
        Some(other) => Err(RpcError::internal(format!(
            "Unable to find a target named {other:?}: there is {TARGET:?}; leave it out"
        ))),
    }
}

pub(super) fn needed_nqn<'a>(parameters: &Parameters<'a>) -> Result<&'a str, RpcError> {
    parameters.needed_string("nqn", "the NQN of a subsystem")
}

fn no_subsystem(view: &View<'_>, parameters: &Parameters<'_>, nqn: &str) -> RpcError {
    let names: Vec<&str> = view.target.subsystems().iter().map(|subsystem| subsystem.nqn.as_str()).collect();
    let allowed = if names.is_empty() { "there is none".to_owned() } else { names.join(" or ") };
    parameters.refuse("nqn", &json!(nqn), &allowed)
}

/// SPDK's words.
fn state(stage: QpairStage) -> &'static str {
    match stage {
        QpairStage::Connecting => "connecting",
        QpairStage::Admin | QpairStage::Io => "enabled",
        QpairStage::Draining => "deactivating",
    }
}

/// An address in SPDK's four words.
#[must_use]
pub fn describe_address(address: &SocketAddr, transport_type: &str) -> Value {
    json!({
        "trtype": transport_type,
        "adrfam": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "traddr": address.ip().to_string(),
        "trsvcid": address.port().to_string(),
    })
}

fn describe_subsystem(subsystem: &SubsystemSpec, transport_type: &str) -> Value {
    let address = |address: &SocketAddr| describe_address(address, transport_type);
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
            if let Some(nguid) = namespace.nguid {
                facts["nguid"] = json!(hexadecimal(&nguid));
            }
            if let Some(eui64) = namespace.eui64 {
                facts["eui64"] = json!(hexadecimal(&eui64));
            }
            if subsystem.reports_ana {
                facts["anagrpid"] = json!(namespace.ana_group());
            }
            if !namespace.is_auto_visible {
                facts["no_auto_visible"] = json!(true);
                facts["hosts"] = json!(namespace.hosts);
            }
            if let Some(kept) = &namespace.persistence {
                facts["ptpl_file"] = json!(&*kept.file);
            }
            facts
        })
        .collect();
    let mut described = json!({
        "nqn": subsystem.nqn,
        "subtype": "NVMe",
        "listen_addresses": subsystem.listeners.iter().map(address).collect::<Vec<_>>(),
        "allow_any_host": subsystem.allow_any_host,
        "hosts": subsystem.hosts.iter().map(|host| describe_host(subsystem, host)).collect::<Vec<_>>(),
        "serial_number": subsystem.serial_number,
        "model_number": subsystem.model_number,
        "max_namespaces": subsystem.nsid_max,
        "min_cntlid": subsystem.controller_ids.start(),
        "max_cntlid": subsystem.controller_ids.end(),
        "ana_reporting": subsystem.reports_ana,
        "namespaces": namespaces,
    });
    if subsystem.controller_model == ControllerModel::Static {
        described["controller_model"] = json!("static");
    }
    described
}
