//! The file as it is written: names, types and defaults, with the place of every value that is checked later.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::size::Size;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) target: Target,
    #[serde(default)]
    pub(super) placement: Vec<Placement>,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) transport: Transport,
    #[serde(default)]
    pub(super) cluster: Vec<Cluster>,
    #[serde(default)]
    pub(super) device: Vec<Device>,
    #[serde(default)]
    pub(super) subsystem: Vec<Subsystem>,
    #[serde(default)]
    pub(super) referral: Vec<Referral>,
    #[serde(default)]
    pub(super) key: Vec<Key>,
    #[serde(default)]
    pub(super) authentication: Authentication,
    pub(super) metrics: Option<Metrics>,
    pub(super) rpc: Option<Rpc>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) cpus: Option<Spanned<Vec<Spanned<i64>>>>,
    pub(super) reactors: Option<Spanned<i64>>,
    pub(super) poll_mode: Option<Spanned<String>>,
    pub(super) spin_us: Option<Spanned<i64>>,
    pub(super) pause_us: Option<Spanned<i64>>,
    pub(super) turn_limit_us: Option<Spanned<i64>>,
    pub(super) stall_limit_ms: Option<Spanned<i64>>,
    pub(super) hugepages: Option<bool>,
    pub(super) data_memory: Option<Spanned<Size>>,
    pub(super) queue_pairs: Option<Spanned<i64>>,
    pub(super) shutdown_deadline_s: Option<Spanned<i64>>,
    pub(super) state_directory: Option<PathBuf>,
    pub(super) save_changes: Option<Spanned<bool>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Placement {
    pub(super) listener: Option<Spanned<String>>,
    pub(super) host: Option<Spanned<String>>,
    pub(super) cpus: Spanned<Vec<Spanned<i64>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Referral {
    pub(super) address: Spanned<String>,
    pub(super) transport: Option<Spanned<String>>,
    pub(super) nqn: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) secure_channel: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) host_queue_pairs: Option<Spanned<i64>>,
    pub(super) host_commands: Option<Spanned<i64>>,
    pub(super) host_data: Option<Spanned<Size>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: Option<Spanned<String>>,
    pub(super) format: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transport {
    pub(super) provider: Option<Spanned<String>>,
    pub(super) device: Option<String>,
    pub(super) queue_depth: Option<Spanned<i64>>,
    pub(super) admin_queue_depth: Option<Spanned<i64>>,
    pub(super) io_queues: Option<Spanned<i64>>,
    pub(super) in_capsule_size: Option<Spanned<Size>>,
    pub(super) transfer_size: Option<Spanned<Size>>,
    pub(super) shared_receives: Option<Spanned<i64>>,
    pub(super) runtime_dir: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: Spanned<String>,
    #[serde(rename = "type")]
    pub(super) kind: Spanned<String>,
    pub(super) base: Option<Spanned<String>>,
    pub(super) size: Option<Spanned<Size>>,
    pub(super) block_size: Option<Spanned<Size>>,
    pub(super) path: Option<Spanned<PathBuf>>,
    pub(super) read_only: Option<Spanned<bool>>,
    pub(super) queue_depth: Option<Spanned<i64>>,
    pub(super) offset: Option<Spanned<Size>>,
    pub(super) avg_read_latency_us: Option<Spanned<i64>>,
    pub(super) p99_read_latency_us: Option<Spanned<i64>>,
    pub(super) avg_write_latency_us: Option<Spanned<i64>>,
    pub(super) p99_write_latency_us: Option<Spanned<i64>>,
    pub(super) seed: Option<Spanned<i64>>,
    pub(super) pool: Option<Spanned<String>>,
    pub(super) image: Option<Spanned<String>>,
    pub(super) namespace: Option<Spanned<String>>,
    pub(super) snapshot: Option<Spanned<String>>,
    pub(super) conf: Option<Spanned<PathBuf>>,
    pub(super) user: Option<Spanned<String>>,
    pub(super) key_file: Option<Spanned<PathBuf>>,
    pub(super) settings: Option<Spanned<BTreeMap<String, String>>>,
    pub(super) cluster: Option<Spanned<String>>,
    pub(super) fenced: Option<Spanned<bool>>,
    pub(super) limits: Option<DeviceLimits>,
    pub(super) fault: Option<Spanned<Vec<DeviceFault>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) name: Spanned<String>,
    pub(super) conf: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) key_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) settings: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceFault {
    pub(super) io_type: Spanned<String>,
    pub(super) error_type: Spanned<String>,
    pub(super) num: Option<Spanned<i64>>,
    pub(super) queue_depth: Option<Spanned<i64>>,
    pub(super) one_in: Option<Spanned<i64>>,
    pub(super) start_block: Option<Spanned<i64>>,
    pub(super) num_blocks: Option<Spanned<i64>>,
    pub(super) corrupt_offset: Option<Spanned<i64>>,
    pub(super) corrupt_value: Option<Spanned<i64>>,
    pub(super) pending_us: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceLimits {
    pub(super) iops: Option<Spanned<i64>>,
    pub(super) read_iops: Option<Spanned<i64>>,
    pub(super) write_iops: Option<Spanned<i64>>,
    pub(super) bandwidth: Option<Spanned<Size>>,
    pub(super) read_bandwidth: Option<Spanned<Size>>,
    pub(super) write_bandwidth: Option<Spanned<Size>>,
    pub(super) burst_ms: Option<Spanned<i64>>,
    pub(super) host: Option<DeviceRates>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceRates {
    pub(super) iops: Option<Spanned<i64>>,
    pub(super) read_iops: Option<Spanned<i64>>,
    pub(super) write_iops: Option<Spanned<i64>>,
    pub(super) bandwidth: Option<Spanned<Size>>,
    pub(super) read_bandwidth: Option<Spanned<Size>>,
    pub(super) write_bandwidth: Option<Spanned<Size>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subsystem {
    pub(super) nqn: Spanned<String>,
    pub(super) serial: Option<Spanned<String>>,
    pub(super) model: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) allow_any_host: bool,
    pub(super) hosts: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) host: Vec<Host>,
    pub(super) listeners: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) namespace: Vec<Namespace>,
    pub(super) max_namespaces: Option<Spanned<i64>>,
    pub(super) min_cntlid: Option<Spanned<i64>>,
    pub(super) max_cntlid: Option<Spanned<i64>>,
    pub(super) controller_model: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) shared: bool,
    #[serde(default)]
    pub(super) ana_reporting: bool,
    #[serde(default)]
    pub(super) ana: Vec<Ana>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ana {
    pub(super) listener: Spanned<String>,
    pub(super) group: Option<Spanned<i64>>,
    pub(super) state: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Namespace {
    pub(super) device: Spanned<String>,
    pub(super) nsid: Option<Spanned<i64>>,
    pub(super) uuid: Option<Spanned<String>>,
    pub(super) nguid: Option<Spanned<String>>,
    pub(super) eui64: Option<Spanned<String>>,
    pub(super) anagrpid: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) no_auto_visible: bool,
    #[serde(default)]
    pub(super) hosts: Vec<Spanned<String>>,
    pub(super) ptpl_file: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Host {
    pub(super) nqn: Spanned<String>,
    pub(super) dhchap_key: Spanned<String>,
    pub(super) dhchap_ctrlr_key: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) name: Spanned<String>,
    pub(super) path: Spanned<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Authentication {
    pub(super) digests: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) dhgroups: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) listen: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rpc {
    pub(super) socket: Spanned<PathBuf>,
}
