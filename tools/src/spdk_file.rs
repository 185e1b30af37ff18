//! Configuration files as SPDK writes and reads them: JSON-RPC calls by subsystem, performed in their order when the target starts.
//!
//! What is not a call but a property of the target (its transport) is read out of the calls before it starts. Calls about parts that this target has not and needs not
//! are left out, and told; others are errors.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::config::{Config, Step, TransportSection};
use crate::rpc::methods;

/// A file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpdkFile {
    /// Its calls, but for those below.
    pub steps: Vec<Step>,
    /// Calls that ask for nothing here.
    pub ignored: Vec<String>,
}

/// Calls that tune or name parts that SPDK has and this target has not, or finds out by itself.
const IGNORED: [&str; 21] = [
    "accel_set_options",
    "bdev_iscsi_set_options",
    "bdev_nvme_set_hotplug",
    "bdev_nvme_set_options",
    "bdev_raid_set_options",
    "bdev_set_options",
    "bdev_wait_for_examine",
    "framework_set_scheduler",
    "fsdev_set_opts",
    "iobuf_set_options",
    "iscsi_set_options",
    "nbd_start_disk_recovery",
    "nvmf_set_crdt",
    "nvmf_set_max_subsystems",
    "scheduler_set_options",
    "sock_impl_set_options",
    "sock_set_default_impl",
    "trace_enable_tpoint_group",
    "ublk_set_options",
    "vhost_set_options",
    "vmd_set_options",
];

impl SpdkFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is no JSON, or asks for what there is not: everything that it asks for and there is not, by name.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
        Self::read(&value).with_context(|| path.display().to_string())
    }

    /// The same of its contents.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn read(value: &Value) -> Result<Self> {
        let parts = value.get("subsystems").and_then(Value::as_array);
        let parts = parts.context("it has no list \"subsystems\", as SPDK's configuration files have")?;
        let mut file = Self::default();
        let mut unknown = Vec::new();
        for (part, at) in parts.iter().zip(1..) {
            let name = part.get("subsystem").and_then(Value::as_str);
            let name = name.with_context(|| format!("subsystem {at} has no name (\"subsystem\")"))?;
            let calls = match part.get("config") {
                None | Some(Value::Null) => continue,
                Some(calls) => calls.as_array().with_context(|| format!("{name}: \"config\" is no list"))?,
            };
            for (call, at) in calls.iter().zip(1..) {
                let method = call.get("method").and_then(Value::as_str);
                let method = method.with_context(|| format!("{name}: call {at} has no \"method\""))?;
                if IGNORED.contains(&method) {
                    file.ignored.push(method.to_owned());
                } else if methods::is_method(method) {
                    let params = call.get("params").cloned().unwrap_or(Value::Null);
                    file.steps.push(Step { subsystem: "spdk", method: Cow::Owned(method.to_owned()), params });
                } else {
                    unknown.push(format!("{name}: {method}"));
                }
            }
        }
        if !unknown.is_empty() {
            bail!("it asks for what this target has not: {}; take these calls out", unknown.join(", "));
        }
        Ok(file)
    }

    /// What its calls say of the transport, and where hosts are to reach it: both are decided before the target starts.
    pub fn prepare(&self, config: &mut Config) -> Vec<SocketAddr> {
        let mut listened = Vec::new();
        for step in &self.steps {
            match &*step.method {
                "nvmf_create_transport" => take_transport(&mut config.transport, &step.params),
                "nvmf_subsystem_add_listener" => listened.extend(listener(&step.params)),
                _ => {}
            }
        }
        listened
    }
}

/// What does not fit is refused by the call itself.
fn take_transport(transport: &mut TransportSection, params: &Value) {
    let number = |name: &str| params.get(name).and_then(Value::as_u64);
    let small = |name: &str| number(name).and_then(|number| u16::try_from(number).ok());
    let large = |name: &str| number(name).and_then(|number| u32::try_from(number).ok());
    transport.queue_depth =
        small("max_queue_depth").filter(|depth| (2..=1024).contains(depth)).unwrap_or(transport.queue_depth);
    if let Some(len) = large("in_capsule_data_size").filter(|len| *len <= 8192 && len.is_multiple_of(16)) {
        transport.in_capsule_len = len;
    }
}

fn listener(params: &Value) -> Option<SocketAddr> {
    let address = params.get("listen_address")?;
    let text = |name: &str| address.get(name).and_then(Value::as_str);
    Some(SocketAddr::new(text("traddr")?.parse::<IpAddr>().ok()?, text("trsvcid")?.parse().ok()?))
}
