//! What a target has counted at one moment, by its methods.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::client::Client;
use super::super::controller::connected;
use super::super::trouble::Trouble;

/// Everything that two of make a [`super::report::Report`].
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// The target's clock.
    pub(super) at_ns: u64,
    pub(super) reactors: Vec<Reactor>,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) devices: Vec<Device>,
    /// By the subsystem's NQN.
    pub(super) qpairs: Vec<(String, Qpair)>,
}

/// Of `framework_get_reactors`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Reactor {
    pub(super) lcore: u64,
    pub(super) busy: u64,
    pub(super) idle: u64,
    pub(super) busy_turns: u64,
    pub(super) messages: u64,
    pub(super) lw_threads: Vec<Thread>,
}

/// Its thread.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Thread {
    pub(super) name: String,
}

/// Of `nvmf_get_subsystems`.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    pub(super) nqn: String,
    pub(super) nsid: u64,
    pub(super) device: String,
}

/// Of `bdev_get_iostat` and `bdev_get_latency_histogram`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) num_read_ops: u64,
    pub(super) bytes_read: u64,
    pub(super) num_write_ops: u64,
    pub(super) bytes_written: u64,
    pub(super) num_unmap_ops: u64,
    pub(super) num_write_zeroes_ops: u64,
    pub(super) num_flush_ops: u64,
    pub(super) num_other_ops: u64,
    pub(super) queue_depth: u64,
    #[serde(skip)]
    pub(super) times: Times,
}

/// Histograms: operations by the longest time of their bucket, ns.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Times {
    pub(super) name: String,
    #[serde(with = "buckets")]
    pub(super) read: Buckets,
    #[serde(with = "buckets")]
    pub(super) write: Buckets,
}

pub(super) type Buckets = BTreeMap<u64, u64>;

/// Pairs become a map.
mod buckets {
    use serde::{Deserialize, Deserializer};

    use super::Buckets;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Buckets, D::Error> {
        Ok(Vec::<(u64, u64)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// Of `nvmf_subsystem_get_qpairs`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Qpair {
    pub(super) cntlid: u64,
    pub(super) qid: u64,
    pub(super) state: String,
    pub(super) thread: Option<String>,
    pub(super) hostnqn: String,
    pub(super) num_read_ops: u64,
    pub(super) bytes_read: u64,
    pub(super) num_write_ops: u64,
    pub(super) bytes_written: u64,
}

impl Sample {
    /// Asks for all of it.
    pub(super) fn take(client: &mut Client) -> Result<Self, Trouble> {
        let mut framework = client.call("framework_get_reactors", &Value::Null)?;
        let subsystems = client.call("nvmf_get_subsystems", &Value::Null)?;
        let (connected, _) = connected(client, None, "nvmf_subsystem_get_qpairs")?;
        let mut histograms = client.call("bdev_get_latency_histogram", &Value::Null)?;
        let mut iostat = client.call("bdev_get_iostat", &Value::Null)?;
        let at_ns = iostat["ticks"].as_u64().unwrap_or(0);
        let mut times: Vec<Times> = read("bdev_get_latency_histogram", histograms["bdevs"].take())?;
        let mut devices: Vec<Device> = read("bdev_get_iostat", iostat["bdevs"].take())?;
        for device in &mut devices {
            if let Some(at) = times.iter().position(|times| times.name == device.name) {
                device.times = times.swap_remove(at);
            }
        }
        let mut qpairs = Vec::new();
        for (nqn, listed) in connected {
            let listed: Vec<Qpair> = read("nvmf_subsystem_get_qpairs", listed)?;
            qpairs.extend(listed.into_iter().map(|qpair| (nqn.clone(), qpair)));
        }
        let reactors = read("framework_get_reactors", framework["reactors"].take())?;
        Ok(Self { at_ns, reactors, namespaces: namespaces(&subsystems), devices, qpairs })
    }
}

fn namespaces(subsystems: &Value) -> Vec<Namespace> {
    let none = Vec::new();
    let mut found = Vec::new();
    for subsystem in subsystems.as_array().unwrap_or(&none) {
        for namespace in subsystem["namespaces"].as_array().unwrap_or(&none) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let nsid = namespace["nsid"].as_u64().unwrap_or(0);
            found.push(Namespace { nqn: text(&subsystem["nqn"]), nsid, device: text(&namespace["bdev_name"]) });
        }
    }
    found
}

/// The target may be of another version.
fn read<T: for<'de> Deserialize<'de>>(method: &str, value: Value) -> Result<T, Trouble> {
    let value = if value.is_null() { json!([]) } else { value };
    serde_json::from_value(value).map_err(|error| {
        Trouble::Refused(format!(
            "{method} has another result than this nvmf-ctl knows ({error}): use the one of the target's version"
        ))
    })
}
