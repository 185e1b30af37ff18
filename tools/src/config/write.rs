//! A [`Config`] as a file that [`Config::parse`] makes the same one of: what is saved can be read, edited and started with.
//!
//! `[target]`, `[transport]` and `[log]` are written in full; elsewhere what is left out is what it would be anyway.

use std::path::Path;

use bdev::{Affected, ClusterOptions, Effect, Limits, Rates, Rule};
use nvmf_core::auth::{GroupId, GroupSet, HashId, HashSet};
use nvmf_core::limits::{CONTROLLER_ID_MAX, NSID_MAX};
use nvmf_core::spec::{ControllerModel, ReferralSpec};
use nvmf_core::wire::{DISCOVERY_NQN, TransportKind};
use toml::{Table, Value};
use transport_rdma::target::Origin;

use super::{
    ClusterSection, Config, DeviceKind, DeviceSection, LimitsSection, LogFormat, NamespaceSection, PlacementSection,
    ProviderKind, RbdCluster, RbdSection, ReactorSection, Size, SubsystemSection, TargetSection, TransportSection,
    serial_number,
};
use crate::poll_mode::{Word, times_us};
use crate::rpc::methods::namespace::{ana_word, hexadecimal};

/// The text of the file.
#[must_use]
pub fn to_toml(config: &Config) -> String {
    // Tables of texts, numbers and tables: none of them can fail.
    toml::to_string(&table(config)).unwrap_or_default()
}

/// The same as a table.
#[must_use]
pub fn table(config: &Config) -> Table {
    let mut file = Table::new();
    put(&mut file, "target", target(&config.target));
    put(&mut file, "transport", transport(&config.transport));
    put(&mut file, "log", log(config));
    if let Some(socket) = &config.rpc {
        put(&mut file, "rpc", one("socket", path(socket)));
    }
    if let Some(address) = config.metrics {
        put(&mut file, "metrics", one("listen", address.to_string()));
    }
    put_if(&mut file, "limits", limits(&config.limits));
    put_if(&mut file, "authentication", authentication(config.authentication));
    put_all(&mut file, "placement", config.placement.iter().map(placement));
    put_all(
        &mut file,
        "key",
        config.keys.iter().map(|key| {
            let mut section = one("name", key.name.clone());
            put(&mut section, "path", path(&key.path));
            section
        }),
    );
    put_all(&mut file, "referral", config.referrals.iter().map(referral));
    put_all(&mut file, "cluster", config.clusters.iter().map(cluster));
    put_all(&mut file, "device", config.devices.iter().map(device));
    put_all(&mut file, "subsystem", config.subsystems.iter().map(subsystem));
    file
}

fn target(target: &TargetSection) -> Table {
    let mut section = Table::new();
    match &target.reactors {
        ReactorSection::Pinned(cpus) => put(&mut section, "cpus", list(cpus.iter().map(|cpu| number(*cpu as u64)))),
        ReactorSection::Floating(count) => put(&mut section, "reactors", i64::from(*count)),
    }
    put(&mut section, "poll_mode", Word::of(target.poll_mode).name());
    if let Some((spin_us, pause_us)) = times_us(target.poll_mode) {
        put(&mut section, "spin_us", number(spin_us));
        put(&mut section, "pause_us", number(pause_us));
    }
    put(&mut section, "turn_limit_us", number(target.turn_limit_us));
    put(&mut section, "stall_limit_ms", number(target.stall_limit_ms));
    put(&mut section, "hugepages", target.hugepages);
    put(&mut section, "data_memory", size(target.data_memory_len as u64));
    put(&mut section, "queue_pairs", number(target.queue_pair_count_max as u64));
    put(&mut section, "shutdown_deadline_s", i64::from(target.shutdown_deadline_s));
    if let Some(directory) = &target.state_directory {
        put(&mut section, "state_directory", path(directory));
    }
    put_flag(&mut section, "save_changes", target.saves_changes);
    section
}

fn transport(transport: &TransportSection) -> Table {
    let mut section = Table::new();
    let provider = match transport.provider {
        ProviderKind::Auto => "auto",
        ProviderKind::Soft => "soft",
        ProviderKind::Ibv => "ibv",
    };
    put(&mut section, "provider", provider);
    put_text(&mut section, "device", transport.device.as_ref());
    put(&mut section, "queue_depth", i64::from(transport.queue_depth));
    put(&mut section, "admin_queue_depth", i64::from(transport.admin_queue_depth));
    put(&mut section, "io_queues", i64::from(transport.io_queue_count_max));
    put(&mut section, "in_capsule_size", size(transport.in_capsule_len.into()));
    put(&mut section, "transfer_size", size(transport.transfer_len_max.into()));
    put(&mut section, "shared_receives", i64::from(transport.shared_receive_count));
    if let Some(directory) = &transport.runtime_dir {
        put(&mut section, "runtime_dir", path(directory));
    }
    section
}

fn log(config: &Config) -> Table {
    let mut section = one("level", config.log.level.clone());
    let format = match config.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    put(&mut section, "format", format);
    section
}

fn limits(limits: &LimitsSection) -> Table {
    let mut section = Table::new();
    let mut limit = |key, value: u32| {
        if value != u32::MAX {
            put(&mut section, key, i64::from(value));
        }
    };
    limit("host_queue_pairs", limits.host_queue_pair_count_max);
    limit("host_commands", limits.host.command_count_max);
    if limits.host.data_len_max != u64::MAX {
        put(&mut section, "host_data", size(limits.host.data_len_max));
    }
    section
}

fn authentication((hashes, groups): (HashSet, GroupSet)) -> Table {
    let mut section = Table::new();
    if hashes != HashSet::ALL {
        put(&mut section, "digests", list(hash_names(hashes)));
    }
    if groups != GroupSet::ALL {
        put(&mut section, "dhgroups", list(group_names(groups)));
    }
    section
}

/// What the hash functions of a set are called.
pub(super) fn hash_names(hashes: HashSet) -> impl Iterator<Item = &'static str> {
    HashSet::BY_STRENGTH.into_iter().filter(move |hash| hashes.contains(*hash)).map(HashId::name)
}

/// What the groups of a set are called.
pub(super) fn group_names(groups: GroupSet) -> impl Iterator<Item = &'static str> {
    GroupSet::BY_STRENGTH.into_iter().filter(move |group| groups.contains(*group)).map(GroupId::name)
}

fn placement(rule: &PlacementSection) -> Table {
    let mut section = Table::new();
    match rule.origin {
        Origin::Any => {}
        Origin::Listener(address) => put(&mut section, "listener", address.to_string()),
        Origin::Host(address) => put(&mut section, "host", address.to_string()),
    }
    put(&mut section, "cpus", list(rule.cpus.iter().map(|cpu| number(*cpu as u64))));
    section
}

fn referral(referral: &ReferralSpec) -> Table {
    let mut section = one("address", referral.address.to_string());
    if referral.transport == TransportKind::Tcp {
        put(&mut section, "transport", "tcp");
    }
    if referral.subsystem_nqn != DISCOVERY_NQN {
        put(&mut section, "nqn", referral.subsystem_nqn.clone());
    }
    put_flag(&mut section, "secure_channel", referral.needs_secure_channel);
    section
}

fn cluster(cluster: &ClusterSection) -> Table {
    let mut section = one("name", cluster.name.clone());
    put_connection(&mut section, &cluster.options);
    section
}

fn put_connection(section: &mut Table, options: &ClusterOptions) {
    let paths = [("conf", &options.config_file), ("key_file", &options.key_file)];
    put_text(section, "user", options.user.as_ref());
    for (key, file) in paths.into_iter().filter_map(|(key, file)| Some((key, file.as_ref()?))) {
        put(section, key, path(file));
    }
    let settings = options.settings.iter().map(|(name, value)| (name.clone(), Value::from(value.clone())));
    put_if(section, "settings", settings.collect());
}

fn device(device: &DeviceSection) -> Table {
    let mut section = one("name", device.name.clone());
    let block_len = (device.block_len != 512).then_some(u64::from(device.block_len));
    match &device.kind {
        DeviceKind::Memory { len } => sized(&mut section, "memory", *len, block_len),
        DeviceKind::Null { len } => sized(&mut section, "null", *len, block_len),
        DeviceKind::File { path: file, read_only, queue_depth } => {
            put(&mut section, "type", "file");
            put(&mut section, "path", path(file));
            put_block_len(&mut section, block_len);
            put_flag(&mut section, "read_only", *read_only);
            put_depth(&mut section, *queue_depth);
        }
        DeviceKind::Nvme { path: file, read_only, queue_depth } => {
            put(&mut section, "type", "nvme");
            put(&mut section, "path", path(file));
            put_flag(&mut section, "read_only", *read_only);
            put_depth(&mut section, *queue_depth);
        }
        DeviceKind::Rbd(image) => {
            put(&mut section, "type", "rbd");
            put_block_len(&mut section, block_len);
            put_rbd(&mut section, image);
        }
        DeviceKind::Fault { base, seed, rules } => {
            put(&mut section, "type", "fault");
            put(&mut section, "base", base.clone());
            put_if_not(&mut section, "seed", *seed, 0);
            put_all(&mut section, "fault", rules.iter().filter_map(fault));
        }
        DeviceKind::Delay { base, latencies, seed } => {
            put(&mut section, "type", "delay");
            put(&mut section, "base", base.clone());
            put(&mut section, "avg_read_latency_us", number(latencies.read_us));
            put(&mut section, "p99_read_latency_us", number(latencies.read_p99_us));
            put(&mut section, "avg_write_latency_us", number(latencies.write_us));
            put(&mut section, "p99_write_latency_us", number(latencies.write_p99_us));
            put_if_not(&mut section, "seed", *seed, 0);
        }
        DeviceKind::Partition { base, offset, len } => {
            put(&mut section, "type", "partition");
            put(&mut section, "base", base.clone());
            put(&mut section, "offset", size(*offset));
            if let Some(len) = len {
                put(&mut section, "size", size(*len));
            }
        }
    }
    if device.limits != Limits::default() {
        put(&mut section, "limits", device_limits(device.limits));
    }
    section
}

fn sized(section: &mut Table, kind: &str, len: u64, block_len: Option<u64>) {
    put(section, "type", kind);
    put(section, "size", size(len));
    put_block_len(section, block_len);
}

fn put_block_len(section: &mut Table, block_len: Option<u64>) {
    if let Some(block_len) = block_len {
        put(section, "block_size", number(block_len));
    }
}

fn put_depth(section: &mut Table, queue_depth: u32) {
    put_if_not(section, "queue_depth", queue_depth.into(), 128);
}

fn put_rbd(section: &mut Table, image: &RbdSection) {
    put(section, "pool", image.pool.clone());
    put(section, "image", image.image.clone());
    put_text(section, "namespace", image.namespace.as_ref());
    put_text(section, "snapshot", image.snapshot.as_ref());
    put_flag(section, "read_only", image.read_only);
    put_flag(section, "fenced", image.fenced);
    put_depth(section, image.queue_depth);
    match &image.cluster {
        RbdCluster::Shared(cluster) => put(section, "cluster", cluster.clone()),
        RbdCluster::Own(options) => put_connection(section, options),
    }
}

/// `None`: what tests alone do, which no file can say.
pub(super) fn fault(rule: &Rule) -> Option<Table> {
    let io_type = match rule.affected {
        Affected::Read => "read",
        Affected::Write => "write",
        Affected::Flush => "flush",
        Affected::Deallocate => "unmap",
        Affected::All => return None,
    };
    let mut section = one("io_type", io_type);
    let error_type = match rule.effect {
        Effect::Fail(_) => "failure",
        Effect::Corrupt { .. } => "corrupt_data",
        Effect::Lose => "lost",
        Effect::Unforce => "unforced",
        Effect::Tear => "torn",
        Effect::Stall | Effect::StallFor { .. } => "pending",
        Effect::Refuse => "nomem",
        Effect::Delay { .. } => return None,
    };
    put(&mut section, "error_type", error_type);
    if let Effect::Corrupt { offset, flip } = rule.effect {
        put(&mut section, "corrupt_offset", number(offset));
        put(&mut section, "corrupt_value", i64::from(flip));
    }
    if let Effect::StallFor { ns } = rule.effect {
        put(&mut section, "pending_us", number(ns / 1000));
    }
    if let Some(count) = rule.count {
        put(&mut section, "num", i64::from(count));
    }
    put_if_not(&mut section, "queue_depth", rule.outstanding_min, 0);
    put_if_not(&mut section, "one_in", rule.one_in.into(), 1);
    if let Some(blocks) = &rule.blocks {
        put(&mut section, "start_block", number(blocks.start));
        put(&mut section, "num_blocks", number(blocks.end - blocks.start));
    }
    Some(section)
}

fn device_limits(limits: Limits) -> Table {
    let mut section = rates(limits.device);
    put(&mut section, "burst_ms", i64::from(limits.burst_ms));
    put_if(&mut section, "host", rates(limits.host));
    section
}

fn rates(rates: Rates) -> Table {
    let mut section = Table::new();
    for (key, operations) in [("iops", rates.operations), ("read_iops", rates.reads), ("write_iops", rates.writes)] {
        put_if_not(&mut section, key, operations, 0);
    }
    for (key, bytes) in
        [("bandwidth", rates.bytes), ("read_bandwidth", rates.read_bytes), ("write_bandwidth", rates.write_bytes)]
    {
        if bytes != 0 {
            put(&mut section, key, size(bytes));
        }
    }
    section
}

fn subsystem(subsystem: &SubsystemSection) -> Table {
    let mut section = one("nqn", subsystem.nqn.clone());
    if subsystem.serial_number != serial_number(&subsystem.nqn) {
        put(&mut section, "serial", subsystem.serial_number.clone());
    }
    put(&mut section, "model", subsystem.model_number.clone());
    put_flag(&mut section, "allow_any_host", subsystem.allow_any_host);
    let without_keys = |host: &&String| !subsystem.host_keys.iter().any(|keys| keys.host == **host);
    put(&mut section, "hosts", list(subsystem.hosts.iter().filter(without_keys).cloned()));
    put(&mut section, "listeners", list(subsystem.listeners.iter().map(ToString::to_string)));
    put_if_not(&mut section, "max_namespaces", subsystem.nsid_max.into(), NSID_MAX.into());
    put_if_not(&mut section, "min_cntlid", (*subsystem.controller_ids.start()).into(), 1);
    put_if_not(&mut section, "max_cntlid", (*subsystem.controller_ids.end()).into(), CONTROLLER_ID_MAX.into());
    if subsystem.controller_model == ControllerModel::Static {
        put(&mut section, "controller_model", "static");
    }
    put_flag(&mut section, "shared", subsystem.is_shared);
    put_flag(&mut section, "ana_reporting", subsystem.reports_ana);
    put_all(
        &mut section,
        "host",
        subsystem.host_keys.iter().map(|keys| {
            let mut host = one("nqn", keys.host.clone());
            put(&mut host, "dhchap_key", keys.key.clone());
            put_text(&mut host, "dhchap_ctrlr_key", keys.controller_key.as_ref());
            host
        }),
    );
    put_all(
        &mut section,
        "ana",
        subsystem.ana.iter().map(|rule| {
            let mut ana = one("listener", rule.listener.to_string());
            if let Some(group) = rule.group {
                put(&mut ana, "group", i64::from(group));
            }
            put(&mut ana, "state", ana_word(rule.state));
            ana
        }),
    );
    put_all(&mut section, "namespace", subsystem.namespaces.iter().map(namespace));
    section
}

fn namespace(namespace: &NamespaceSection) -> Table {
    let mut section = one("device", namespace.device.clone());
    put(&mut section, "nsid", i64::from(namespace.nsid));
    put_text(&mut section, "uuid", namespace.uuid.map(|uuid| uuid.to_string()).as_ref());
    put_text(&mut section, "nguid", namespace.nguid.map(|id| hexadecimal(&id)).as_ref());
    put_text(&mut section, "eui64", namespace.eui64.map(|id| hexadecimal(&id)).as_ref());
    if let Some(group) = namespace.ana_group {
        put(&mut section, "anagrpid", i64::from(group));
    }
    put_flag(&mut section, "no_auto_visible", !namespace.is_auto_visible);
    if !namespace.hosts.is_empty() {
        put(&mut section, "hosts", list(namespace.hosts.iter().cloned()));
    }
    if let Some(file) = &namespace.ptpl_file {
        put(&mut section, "ptpl_file", path(file));
    }
    section
}

fn put(section: &mut Table, key: &str, value: impl Into<Value>) {
    section.insert(key.to_owned(), value.into());
}

/// An empty one is left out.
fn put_if(section: &mut Table, key: &str, value: Table) {
    if !value.is_empty() {
        put(section, key, value);
    }
}

fn put_if_not(section: &mut Table, key: &str, value: u64, default: u64) {
    if value != default {
        put(section, key, number(value));
    }
}

fn put_flag(section: &mut Table, key: &str, value: bool) {
    if value {
        put(section, key, true);
    }
}

fn put_text(section: &mut Table, key: &str, value: Option<&String>) {
    if let Some(value) = value {
        put(section, key, value.clone());
    }
}

fn put_all(section: &mut Table, key: &str, tables: impl Iterator<Item = Table>) {
    let tables: Vec<Value> = tables.map(Value::Table).collect();
    if !tables.is_empty() {
        put(section, key, tables);
    }
}

fn one(key: &str, value: impl Into<Value>) -> Table {
    let mut section = Table::new();
    put(&mut section, key, value);
    section
}

fn list<V: Into<Value>>(values: impl Iterator<Item = V>) -> Value {
    Value::Array(values.map(Into::into).collect())
}

/// TOML's numbers have 63 bits, and so has what can be written in them.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// In the largest unit that it is a multiple of.
fn size(len: u64) -> Value {
    if len > 0 && len.is_multiple_of(1024) { Value::from(Size(len).to_string()) } else { Value::from(number(len)) }
}

/// What came from a file or a request is text.
fn path(path: &Path) -> String {
    path.display().to_string()
}
