//! The methods, with the names, parameters and results that SPDK's users script against. What SPDK reports and this target has not is left out.

use std::net::SocketAddr;
use std::sync::Arc;

use bdev::Device;
use nvmf_core::spec::SubsystemSpec;
use serde_json::{Map, Value, json};

use super::RpcError;

/// What the methods may look at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Subsystems; each namespace has its UUID.
    pub subsystems: &'a [SubsystemSpec],
    /// All devices.
    pub devices: &'a [Arc<dyn Device>],
    /// The polling CPUs.
    pub reactors: &'a [ReactorFacts],
    /// NVMe's transport type: `RDMA`.
    pub transport_type: &'a str,
}

/// One polling CPU.
#[derive(Clone, Copy, Debug)]
pub struct ReactorFacts {
    /// The operating system's number of its CPU.
    pub os_cpu: usize,
    /// Time in turns that found something to do.
    pub busy_ns: u64,
    /// Time in turns that found nothing.
    pub idle_ns: u64,
}

/// A method: from its parameters to its result.
type Method = for<'a> fn(View<'a>, &Parameters<'a>) -> Result<Value, RpcError>;

/// All methods: name, parameters, what it does.
const METHODS: [(&str, &[&str], Method); 4] = [
    ("bdev_get_bdevs", &["name", "timeout"], bdev_get_bdevs),
    ("framework_get_reactors", &[], framework_get_reactors),
    ("nvmf_get_subsystems", &["nqn", "tgt_name"], nvmf_get_subsystems),
    ("rpc_get_methods", &["current", "include_aliases"], rpc_get_methods),
];

/// Performs one request.
///
/// # Errors
/// If there is no such method, or its parameters are not what it takes.
pub fn perform(view: View<'_>, method: &str, parameters: Option<&Value>) -> Result<Value, RpcError> {
    let Some((name, allowed, perform)) = METHODS.iter().find(|(name, _, _)| *name == method) else {
        return Err(RpcError::no_method(method));
    };
    perform(view, &Parameters::new(name, allowed, parameters)?)
}

fn rpc_get_methods(_: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    parameters.boolean("current")?;
    parameters.boolean("include_aliases")?;
    Ok(METHODS.iter().map(|(name, _, _)| json!(name)).collect())
}

fn nvmf_get_subsystems(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
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

fn bdev_get_bdevs(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    // SPDK waits so long for a device to appear; here they are all there from the start.
    parameters.number("timeout")?;
    let name = parameters.string("name")?;
    let chosen: Vec<Value> = view
        .devices
        .iter()
        .filter(|device| name.is_none_or(|name| name == device.name()))
        .map(|device| describe_device(&**device, view.subsystems))
        .collect();
    match name {
        Some(name) if chosen.is_empty() => Err(RpcError::no_such("bdev", name)),
        Some(_) | None => Ok(Value::Array(chosen)),
    }
}

fn describe_device(device: &dyn Device, subsystems: &[SubsystemSpec]) -> Value {
    let geometry = device.geometry();
    let namespace =
        subsystems.iter().flat_map(|subsystem| &subsystem.namespaces).find(|n| n.device.name() == device.name());
    let uuid = namespace.and_then(|namespace| namespace.uuid).map(|uuid| uuid.to_string());
    let mut facts = json!({
        "name": device.name(),
        "aliases": uuid.iter().collect::<Vec<_>>(),
        "product_name": device.product(),
        "block_size": geometry.block_len,
        "num_blocks": geometry.block_count,
        "claimed": namespace.is_some(),
        "zoned": false,
        "supported_io_types": {
            "read": true,
            "write": !geometry.read_only,
            "unmap": false,
            "flush": true,
            "reset": false,
            "nvme_admin": false,
            "nvme_io": false,
            "write_zeroes": !geometry.read_only,
        },
        "driver_specific": {},
    });
    if let Some(uuid) = uuid {
        facts["uuid"] = json!(uuid);
    }
    if namespace.is_some() {
        facts["claim_type"] = json!("exclusive_write");
    }
    facts
}

fn framework_get_reactors(view: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    let describe = |(at, reactor): (usize, &ReactorFacts)| {
        json!({
            "lcore": reactor.os_cpu,
            "busy": reactor.busy_ns,
            "idle": reactor.idle_ns,
            "in_interrupt": false,
            "lw_threads": [{
                "name": format!("nvmf_tgt_poll_group_{at:03}"),
                "id": at + 1,
                "cpumask": cpu_mask(reactor.os_cpu),
                "elapsed": reactor.busy_ns + reactor.idle_ns,
            }],
        })
    };
    let reactors: Vec<Value> = view.reactors.iter().enumerate().map(describe).collect();
    // Times are in ns.
    Ok(json!({ "tick_rate": 1_000_000_000_u64, "pid": std::process::id(), "reactors": reactors }))
}

/// One CPU as a hexadecimal mask.
fn cpu_mask(os_cpu: usize) -> String {
    format!("{:x}{}", 1 << (os_cpu % 4), "0".repeat(os_cpu / 4))
}

/// The parameters of one request: known names only.
struct Parameters<'a> {
    method: &'a str,
    values: Option<&'a Map<String, Value>>,
}

impl<'a> Parameters<'a> {
    fn new(method: &'a str, allowed: &[&str], parameters: Option<&'a Value>) -> Result<Self, RpcError> {
        let values = match parameters {
            None | Some(Value::Null) => None,
            Some(Value::Object(values)) => Some(values),
            Some(_) => return Err(RpcError::parameters(format!("{method} takes an object"))),
        };
        let unknown = values.and_then(|values| values.keys().find(|name| !allowed.contains(&name.as_str())));
        match unknown {
            Some(name) if allowed.is_empty() => {
                Err(RpcError::parameters(format!("{method} takes none, and {name:?} was given")))
            }
            Some(name) => {
                Err(RpcError::parameters(format!("{method} has no {name:?}; it takes {}", allowed.join(", "))))
            }
            None => Ok(Self { method, values }),
        }
    }

    fn string(&self, name: &str) -> Result<Option<&'a str>, RpcError> {
        self.value(name, "a string", Value::as_str)
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, RpcError> {
        self.value(name, "true or false", Value::as_bool)
    }

    fn number(&self, name: &str) -> Result<Option<u64>, RpcError> {
        self.value(name, "a number", Value::as_u64)
    }

    fn value<T>(&self, name: &str, kind: &str, read: fn(&'a Value) -> Option<T>) -> Result<Option<T>, RpcError> {
        let Some(value) = self.values.and_then(|values| values.get(name)) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .ok_or_else(|| RpcError::parameters(format!("{}: {name} is {value}, and should be {kind}", self.method)))
    }
}

#[cfg(test)]
mod tests {
    use nvmf_core::spec::NamespaceSpec;

    use super::*;

    fn with_view<R>(check: impl FnOnce(View<'_>) -> R) -> R {
        let device: Arc<dyn Device> = Arc::new(bdev::Memory::new("disk0", 512, 131_072, false).unwrap());
        let spare: Arc<dyn Device> = Arc::new(bdev::Null::new("spare", 4096, 10).unwrap());
        let subsystems = [SubsystemSpec {
            nqn: "nqn.2026-11.io.quiesce:demo".into(),
            serial_number: "S1".into(),
            model_number: "Quiesce".into(),
            allow_any_host: false,
            hosts: vec!["nqn.2026-11.io.quiesce:host".into()],
            listeners: vec!["127.0.0.1:4420".parse().unwrap(), "[::1]:4421".parse().unwrap()],
            namespaces: vec![NamespaceSpec {
                nsid: 1,
                device: Arc::clone(&device),
                uuid: Some(uuid::uuid!("dd5b8f6e-b67a-4506-b606-7fff5a859920")),
            }],
        }];
        check(View {
            subsystems: &subsystems,
            devices: &[device, spare],
            reactors: &[ReactorFacts { os_cpu: 5, busy_ns: 7, idle_ns: 3 }],
            transport_type: "RDMA",
        })
    }

    fn call(method: &str, parameters: Value) -> Result<Value, RpcError> {
        with_view(|view| perform(view, method, Some(&parameters)))
    }

    #[test]
    fn methods_are_listed() {
        assert_eq!(
            call("rpc_get_methods", json!({})).unwrap(),
            json!(["bdev_get_bdevs", "framework_get_reactors", "nvmf_get_subsystems", "rpc_get_methods"])
        );
    }

    #[test]
    fn subsystems_have_spdks_shape() {
        let result = call("nvmf_get_subsystems", json!({ "nqn": "nqn.2026-11.io.quiesce:demo" })).unwrap();
        assert_eq!(
            result,
            json!([{
                "nqn": "nqn.2026-11.io.quiesce:demo",
                "subtype": "NVMe",
                "listen_addresses": [
                    { "trtype": "RDMA", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420" },
                    { "trtype": "RDMA", "adrfam": "IPv6", "traddr": "::1", "trsvcid": "4421" },
                ],
                "allow_any_host": false,
                "hosts": [{ "nqn": "nqn.2026-11.io.quiesce:host" }],
                "serial_number": "S1",
                "model_number": "Quiesce",
                "namespaces": [{
                    "nsid": 1, "bdev_name": "disk0", "name": "disk0",
                    "uuid": "dd5b8f6e-b67a-4506-b606-7fff5a859920",
                }],
            }])
        );
    }

    #[test]
    fn devices_have_spdks_shape() {
        let all = call("bdev_get_bdevs", json!({})).unwrap();
        assert_eq!(all.as_array().unwrap().len(), 2);
        assert_eq!(all[0]["product_name"], "Malloc disk");
        assert_eq!((&all[0]["block_size"], &all[0]["num_blocks"]), (&json!(512), &json!(131_072)));
        assert_eq!((&all[0]["claimed"], &all[1]["claimed"]), (&json!(true), &json!(false)));
        assert_eq!(all[0]["uuid"], "dd5b8f6e-b67a-4506-b606-7fff5a859920");
        assert_eq!(all[1]["supported_io_types"]["write_zeroes"], true);
        assert_eq!(call("bdev_get_bdevs", json!({ "name": "spare" })).unwrap()[0]["name"], "spare");
    }

    #[test]
    fn reactors_have_spdks_shape() {
        let result = call("framework_get_reactors", Value::Null).unwrap();
        assert_eq!(result["tick_rate"], 1_000_000_000_u64);
        let reactor = &result["reactors"][0];
        assert_eq!((&reactor["lcore"], &reactor["busy"], &reactor["idle"]), (&json!(5), &json!(7), &json!(3)));
        assert_eq!(
            (&reactor["lw_threads"][0]["cpumask"], &reactor["lw_threads"][0]["elapsed"]),
            (&json!("20"), &json!(10))
        );
    }

    #[test]
    fn wrong_parameters_are_named() {
        let refused = |method, parameters| call(method, parameters).unwrap_err();
        assert_eq!(
            refused("nvmf_get_subsystems", json!({ "nqm": "x" })),
            RpcError {
                code: -32602,
                message: "Invalid parameters: nvmf_get_subsystems has no \"nqm\"; it takes nqn, tgt_name".into()
            }
        );
        assert_eq!(
            refused("bdev_get_bdevs", json!({ "name": 5 })).message,
            "Invalid parameters: bdev_get_bdevs: name is 5, and should be a string"
        );
        assert_eq!(
            refused("framework_get_reactors", json!({ "x": 1 })).message,
            "Invalid parameters: framework_get_reactors takes none, and \"x\" was given"
        );
        assert_eq!(refused("bdev_get_bdevs", json!([1])).code, -32602);
        assert_eq!(refused("bdev_get_bdevs", json!({ "name": "nosuch" })).code, -19);
        assert_eq!(refused("bdev_malloc_create", json!({})).code, -32601);
    }
}
