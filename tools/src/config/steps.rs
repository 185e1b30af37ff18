//! What leads from one configuration to another while the target runs: JSON-RPC calls, in an order in which each can be done.
//!
//! From nothing to a configuration these are what SPDK's configuration files hold. What no call can change is told apart: it takes a restart.

use std::borrow::Cow;
use std::net::SocketAddr;

use bdev::{ClusterOptions, Latencies, Limits, Rates, Rule};
use nvmf_core::spec::{AnaSpec, AnaState, ControllerModel, HostLimits, ReferralSpec};
use nvmf_core::wire::TransportKind;
use serde_json::{Map, Value, json};
use transport_rdma::target::Origin;

use super::write::{fault, group_names, hash_names};
use super::{
    Config, DeviceKind, DeviceSection, HostKeySection, NamespaceSection, PlacementSection, RbdCluster, SubsystemSection,
};
use crate::poll_mode::{Word, times_us};
use crate::rpc::methods::namespace::{ana_word, hexadecimal};
use crate::rpc::methods::nvmf::describe_address;

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// SPDK's name of what it belongs to.
    pub subsystem: &'static str,
    /// The method.
    pub method: Cow<'static, str>,
    /// Its parameters, an object.
    pub params: Value,
}

/// The way from one configuration to another.
#[derive(Debug, Default, PartialEq)]
pub struct Way {
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// What is not, and why: for people.
    pub left: Vec<String>,
}

/// NVMe's transport type, as the target's methods have it.
const TRANSPORT_TYPE: &str = "RDMA";

/// SPDK counts in these.
const MIB: u64 = 1 << 20;

/// From one configuration to another: what is to go goes first, what is to come comes last, each before or after what it is made of.
#[must_use]
pub fn way(from: &Config, to: &Config) -> Way {
    let mut way = Way::default();
    note_fixed(&mut way, from, to);
    change_settings(&mut way, from, to);
    // What hosts reach goes first, then what it was made of.
    for old in &from.subsystems {
        match to.subsystems.iter().find(|new| new.nqn == old.nqn) {
            None => way.call("nvmf", "nvmf_delete_subsystem", json!({ "nqn": old.nqn })),
            Some(new) => shrink_subsystem(&mut way, old, new),
        }
    }
    for old in from.devices.iter().rev().filter(|old| !to.devices.iter().any(|new| new.name == old.name)) {
        way.call("bdev", delete_method(&old.kind), json!({ "name": old.name }));
    }
    for old in from.clusters.iter().filter(|old| !to.clusters.contains(old)) {
        way.call("bdev", "bdev_rbd_unregister_cluster", json!({ "name": old.name }));
    }
    for old in from.keys.iter().filter(|old| !to.keys.contains(old)) {
        way.call("keyring", "keyring_file_remove_key", json!({ "name": old.name }));
    }
    for new in to.keys.iter().filter(|new| !from.keys.contains(new)) {
        way.call("keyring", "keyring_file_add_key", json!({ "name": new.name, "path": new.path }));
    }
    for new in to.clusters.iter().filter(|new| !from.clusters.contains(new)) {
        let mut params = object([("name", json!(new.name))]);
        connection(&mut params, &new.options, "config_param");
        way.call("bdev", "bdev_rbd_register_cluster", Value::Object(params));
    }
    for new in &to.devices {
        match from.devices.iter().find(|old| old.name == new.name) {
            None => create_device(&mut way, new),
            Some(old) => change_device(&mut way, old, new),
        }
    }
    for new in &to.subsystems {
        match from.subsystems.iter().find(|old| old.nqn == new.nqn) {
            None => create_subsystem(&mut way, new),
            Some(old) => grow_subsystem(&mut way, old, new),
        }
    }
    change_referrals(&mut way, &from.referrals, &to.referrals);
    way
}

/// All of a configuration, as from nothing: the parts of SPDK's file.
#[must_use]
pub fn whole(config: &Config) -> Vec<Step> {
    let nothing = Config {
        placement: Vec::new(),
        limits: super::LimitsSection { host_queue_pair_count_max: u32::MAX, host: HostLimits::default() },
        clusters: Vec::new(),
        devices: Vec::new(),
        subsystems: Vec::new(),
        referrals: Vec::new(),
        keys: Vec::new(),
        authentication: (nvmf_core::auth::HashSet::ALL, nvmf_core::auth::GroupSet::ALL),
        ..config.clone()
    };
    let transport = &config.transport;
    let mut way = Way::default();
    way.call(
        "nvmf",
        "nvmf_create_transport",
        json!({
            "trtype": TRANSPORT_TYPE,
            "max_queue_depth": transport.queue_depth,
            "max_io_qpairs_per_ctrlr": transport.io_queue_count_max,
            "in_capsule_data_size": transport.in_capsule_len,
            "max_io_size": transport.transfer_len_max,
            "max_aq_depth": transport.admin_queue_depth,
            "max_srq_depth": transport.shared_receive_count,
            "no_srq": transport.shared_receive_count == 0,
        }),
    );
    way.steps.extend(self::way(&nothing, config).steps);
    way.steps
}

/// Steps in the shape of SPDK's configuration files.
#[must_use]
pub fn to_spdk(steps: &[Step]) -> Value {
    let names = SUBSYSTEMS.into_iter().filter(|name| steps.iter().any(|step| step.subsystem == *name));
    let part = |name| json!({ "subsystem": name, "config": of_subsystem(steps, name) });
    json!({ "subsystems": names.map(part).collect::<Vec<_>>() })
}

/// What steps are parts of, in the order in which they are done.
pub const SUBSYSTEMS: [&str; 3] = ["keyring", "bdev", "nvmf"];

/// The steps that belong to one of [`SUBSYSTEMS`].
#[must_use]
pub fn of_subsystem(steps: &[Step], name: &str) -> Value {
    let own = steps.iter().filter(|step| step.subsystem == name);
    own.map(|step| json!({ "method": step.method, "params": step.params })).collect()
}

impl Way {
    fn call(&mut self, subsystem: &'static str, method: &'static str, params: Value) {
        self.steps.push(Step { subsystem, method: Cow::Borrowed(method), params });
    }

    fn leave(&mut self, what: impl Into<String>) {
        self.left.push(what.into());
    }
}

/// What is there for as long as the process is.
fn note_fixed(way: &mut Way, from: &Config, to: &Config) {
    let (old, new) = (&from.target, &to.target);
    let fixed = [
        ("target.cpus or target.reactors", old.reactors != new.reactors),
        ("target.hugepages", old.hugepages != new.hugepages),
        ("target.data_memory", old.data_memory_len != new.data_memory_len),
        ("target.queue_pairs", old.queue_pair_count_max != new.queue_pair_count_max),
        ("target.shutdown_deadline_s", old.shutdown_deadline_s != new.shutdown_deadline_s),
        ("target.state_directory", old.state_directory != new.state_directory),
        ("target.save_changes", old.saves_changes != new.saves_changes),
        ("[transport]", from.transport != to.transport),
        ("log.format", from.log.format != to.log.format),
        ("metrics.listen", from.metrics != to.metrics),
        ("rpc.socket", from.rpc != to.rpc),
    ];
    for (what, _) in fixed.into_iter().filter(|(_, differs)| *differs) {
        way.leave(format!("{what}: takes a restart of the target"));
    }
}

fn change_settings(way: &mut Way, from: &Config, to: &Config) {
    if from.log.level != to.log.level {
        way.call("log", "log_set_level", json!({ "level": to.log.level }));
    }
    if from.target.poll_mode != to.target.poll_mode {
        let mut params = object([("mode", json!(Word::of(to.target.poll_mode).name()))]);
        if let Some((spin_us, pause_us)) = times_us(to.target.poll_mode) {
            params.insert("spin_us".into(), json!(spin_us));
            params.insert("pause_us".into(), json!(pause_us));
        }
        way.call("framework", "framework_set_poll_mode", Value::Object(params));
    }
    let (old, new) = (&from.target, &to.target);
    if (old.turn_limit_us, old.stall_limit_ms) != (new.turn_limit_us, new.stall_limit_ms) {
        let params = json!({ "turn_limit_us": new.turn_limit_us, "stall_limit_ms": new.stall_limit_ms });
        way.call("framework", "framework_monitor_turns", params);
    }
    if from.limits != to.limits {
        let shown = |limit: u32| if limit == u32::MAX { 0 } else { limit };
        let data_len = Some(to.limits.host.data_len_max).filter(|len| *len != u64::MAX).unwrap_or(0);
        let params = json!({
            "queue_pairs": shown(to.limits.host_queue_pair_count_max),
            "commands": shown(to.limits.host.command_count_max),
            "data_size": data_len,
        });
        way.call("nvmf", "nvmf_set_host_limits", params);
    }
    if from.authentication != to.authentication {
        let (hashes, groups) = to.authentication;
        let params = json!({
            "dhchap_digests": hash_names(hashes).collect::<Vec<_>>(),
            "dhchap_dhgroups": group_names(groups).collect::<Vec<_>>(),
        });
        way.call("nvmf", "nvmf_set_config", params);
    }
    if from.placement != to.placement {
        let rules: Vec<Value> = to.placement.iter().map(placement).collect();
        way.call("nvmf", "nvmf_set_placement", json!({ "rules": rules }));
    }
}

fn placement(rule: &PlacementSection) -> Value {
    match rule.origin {
        Origin::Any => json!({ "cpus": rule.cpus }),
        Origin::Listener(address) => json!({ "listener": address, "cpus": rule.cpus }),
        Origin::Host(address) => json!({ "host": address, "cpus": rule.cpus }),
    }
}

const fn delete_method(kind: &DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Memory { .. } => "bdev_malloc_delete",
        DeviceKind::Null { .. } => "bdev_null_delete",
        DeviceKind::File { .. } => "bdev_aio_delete",
        DeviceKind::Nvme { .. } => "bdev_xnvme_delete",
        DeviceKind::Rbd(_) => "bdev_rbd_delete",
        DeviceKind::Fault { .. } => "bdev_error_delete",
        DeviceKind::Delay { .. } => "bdev_delay_delete",
        DeviceKind::Partition { .. } => "bdev_partition_delete",
    }
}

fn create_device(way: &mut Way, device: &DeviceSection) {
    let mut params = object([("name", json!(device.name))]);
    let mut put = |key: &str, value: Value| drop(params.insert(key.into(), value));
    let block_len = u64::from(device.block_len);
    let method = match &device.kind {
        DeviceKind::Memory { len } | DeviceKind::Null { len } => {
            put("num_blocks", json!(len / block_len));
            put("block_size", json!(block_len));
            if matches!(device.kind, DeviceKind::Null { .. }) { "bdev_null_create" } else { "bdev_malloc_create" }
        }
        DeviceKind::File { path, read_only, queue_depth } => {
            put("filename", json!(path));
            put("block_size", json!(block_len));
            put("readonly", json!(read_only));
            put("queue_depth", json!(queue_depth));
            "bdev_aio_create"
        }
        DeviceKind::Nvme { path, read_only, queue_depth } => {
            put("filename", json!(path));
            put("io_mechanism", json!("io_uring_cmd"));
            put("readonly", json!(read_only));
            put("queue_depth", json!(queue_depth));
            "bdev_xnvme_create"
        }
        DeviceKind::Rbd(image) => {
            put("pool_name", json!(image.pool));
            put("rbd_name", json!(image.image));
            put("block_size", json!(block_len));
            put("read_only", json!(image.read_only));
            put("fenced", json!(image.fenced));
            put("queue_depth", json!(image.queue_depth));
            for (key, value) in [("namespace_name", &image.namespace), ("snapshot_name", &image.snapshot)] {
                if let Some(value) = value {
                    put(key, json!(value));
                }
            }
            match &image.cluster {
                RbdCluster::Shared(cluster) => put("cluster_name", json!(cluster)),
                RbdCluster::Own(options) => connection(&mut params, options, "config"),
            }
            "bdev_rbd_create"
        }
        DeviceKind::Fault { base, seed, rules } => {
            put("base_name", json!(base));
            put("seed", json!(seed));
            put("rules", json!(rules.iter().filter_map(rule).collect::<Vec<_>>()));
            "bdev_error_create"
        }
        DeviceKind::Delay { base, latencies, seed } => {
            put("base_bdev_name", json!(base));
            for (word, us) in latency_words(*latencies) {
                put(&format!("{word}_latency"), json!(us));
            }
            put("seed", json!(seed));
            "bdev_delay_create"
        }
        DeviceKind::Partition { base, offset, len } => {
            put("base_bdev_name", json!(base));
            put("offset_blocks", json!(offset / block_len));
            if let Some(len) = len {
                put("num_blocks", json!(len / block_len));
            }
            "bdev_partition_create"
        }
    };
    way.call("bdev", method, Value::Object(params));
    if device.limits != Limits::default() {
        limit_device(way, device);
    }
}

/// In the words of `[[device.fault]]`.
fn rule(rule: &Rule) -> Option<Value> {
    serde_json::to_value(fault(rule)?).ok()
}

fn latency_words(latencies: Latencies) -> [(&'static str, u64); 4] {
    [
        ("avg_read", latencies.read_us),
        ("p99_read", latencies.read_p99_us),
        ("avg_write", latencies.write_us),
        ("p99_write", latencies.write_p99_us),
    ]
}

fn connection(params: &mut Map<String, Value>, options: &ClusterOptions, settings: &str) {
    if let Some(user) = &options.user {
        params.insert("user_id".into(), json!(user));
    }
    for (key, file) in [("config_file", &options.config_file), ("key_file", &options.key_file)] {
        if let Some(file) = file {
            params.insert(key.into(), json!(file));
        }
    }
    if !options.settings.is_empty() {
        let texts = options.settings.iter().map(|(name, value)| (name.clone(), json!(value)));
        params.insert(settings.into(), Value::Object(texts.collect()));
    }
}

fn limit_device(way: &mut Way, device: &DeviceSection) {
    let Limits { device: all, host, burst_ms } = device.limits;
    let mut params = object([("name", json!(device.name)), ("burst_ms", json!(burst_ms))]);
    for (whose, rates) in [("", all), ("host_", host)] {
        let Rates { operations, reads, writes, bytes, read_bytes, write_bytes } = rates;
        for (word, operations, bytes) in
            [("rw", operations, bytes), ("r", reads, read_bytes), ("w", writes, write_bytes)]
        {
            params.insert(format!("{whose}{word}_ios_per_sec"), json!(operations));
            params.insert(format!("{whose}{word}_mbytes_per_sec"), mebibytes(bytes));
        }
    }
    way.call("bdev", "bdev_set_qos_limit", Value::Object(params));
}

/// As a whole number where it is one.
#[expect(clippy::cast_precision_loss, reason = "rates that have more than 53 bits are multiples of MiB in practice")]
#[must_use]
pub fn mebibytes(bytes: u64) -> Value {
    if bytes.is_multiple_of(MIB) { json!(bytes / MIB) } else { json!(bytes as f64 / MIB as f64) }
}

fn change_device(way: &mut Way, old: &DeviceSection, new: &DeviceSection) {
    let name = &new.name;
    if old.block_len != new.block_len {
        way.leave(format!("device \"{name}\": block_size: hosts rely on it; delete the device and make it again"));
        return;
    }
    match (&old.kind, &new.kind) {
        (one, other) if one == other => {}
        (DeviceKind::Null { len: old_len }, DeviceKind::Null { len }) if len > old_len && len.is_multiple_of(MIB) => {
            way.call("bdev", "bdev_null_resize", json!({ "name": name, "new_size": len / MIB }));
        }
        (
            DeviceKind::Delay { base: old_base, latencies: old_latencies, seed: old_seed },
            DeviceKind::Delay { base, latencies, seed },
        ) if (old_base, old_seed) == (base, seed) => {
            let changed = latency_words(*old_latencies).into_iter().zip(latency_words(*latencies));
            for (_, (word, us)) in changed.filter(|(old, new)| old != new) {
                let params = json!({ "delay_bdev_name": name, "latency_type": word, "latency_us": us });
                way.call("bdev", "bdev_delay_update_latency", params);
            }
        }
        _ => way.leave(format!(
            "device \"{name}\": is another one now; delete it and make it again, or restart the target"
        )),
    }
    if old.limits != new.limits {
        limit_device(way, new);
    }
}

fn create_subsystem(way: &mut Way, new: &SubsystemSection) {
    let mut params = object([
        ("nqn", json!(new.nqn)),
        ("serial_number", json!(new.serial_number)),
        ("model_number", json!(new.model_number)),
        ("allow_any_host", json!(new.allow_any_host)),
        ("max_namespaces", json!(new.nsid_max)),
        ("min_cntlid", json!(new.controller_ids.start())),
        ("max_cntlid", json!(new.controller_ids.end())),
        ("ana_reporting", json!(new.reports_ana)),
    ]);
    if new.controller_model == ControllerModel::Static {
        params.insert("controller_model".into(), json!("static"));
    }
    if new.is_shared {
        params.insert("shared".into(), json!(true));
    }
    way.call("nvmf", "nvmf_create_subsystem", Value::Object(params));
    grow_subsystem(way, &SubsystemSection { allow_any_host: new.allow_any_host, ..empty_like(new) }, new);
}

/// The same, and nothing in it.
fn empty_like(subsystem: &SubsystemSection) -> SubsystemSection {
    SubsystemSection {
        hosts: Vec::new(),
        host_keys: Vec::new(),
        listeners: Vec::new(),
        namespaces: Vec::new(),
        ana: Vec::new(),
        ..subsystem.clone()
    }
}

/// What goes from a subsystem that stays.
fn shrink_subsystem(way: &mut Way, old: &SubsystemSection, new: &SubsystemSection) {
    let nqn = &old.nqn;
    let fixed = [
        ("serial", old.serial_number != new.serial_number),
        ("model", old.model_number != new.model_number),
        ("max_namespaces", old.nsid_max != new.nsid_max),
        ("min_cntlid and max_cntlid", old.controller_ids != new.controller_ids),
        ("controller_model", old.controller_model != new.controller_model),
        ("shared", old.is_shared != new.is_shared),
        ("ana_reporting", old.reports_ana != new.reports_ana),
    ];
    for (what, _) in fixed.into_iter().filter(|(_, differs)| *differs) {
        way.leave(format!("subsystem \"{nqn}\": {what}: hosts rely on it; delete the subsystem and make it again"));
    }
    for namespace in old.namespaces.iter().filter(|old| !new.namespaces.iter().any(|new| is_same(old, new))) {
        way.call("nvmf", "nvmf_subsystem_remove_ns", json!({ "nqn": nqn, "nsid": namespace.nsid }));
    }
    for listener in old.listeners.iter().filter(|listener| !new.listeners.contains(listener)) {
        way.call("nvmf", "nvmf_subsystem_remove_listener", json!({ "nqn": nqn, "listen_address": address(listener) }));
    }
    for host in old.hosts.iter().filter(|host| !new.hosts.contains(host)) {
        way.call("nvmf", "nvmf_subsystem_remove_host", json!({ "nqn": nqn, "host": host }));
    }
    if old.allow_any_host && !new.allow_any_host {
        way.call("nvmf", "nvmf_subsystem_allow_any_host", json!({ "nqn": nqn, "allow_any_host": false }));
    }
}

/// Whether both are one namespace for its hosts, whatever group it is in and whoever sees it.
fn is_same(old: &NamespaceSection, new: &NamespaceSection) -> bool {
    let plain =
        |namespace: &NamespaceSection| NamespaceSection { ana_group: None, hosts: Vec::new(), ..namespace.clone() };
    plain(old) == plain(new)
}

/// What comes to a subsystem that is there.
fn grow_subsystem(way: &mut Way, old: &SubsystemSection, new: &SubsystemSection) {
    let nqn = &new.nqn;
    if new.allow_any_host && !old.allow_any_host {
        way.call("nvmf", "nvmf_subsystem_allow_any_host", json!({ "nqn": nqn, "allow_any_host": true }));
    }
    for host in &new.hosts {
        let keys = |subsystem: &SubsystemSection| subsystem.host_keys.iter().find(|keys| keys.host == *host).cloned();
        let (is_known, old_keys, new_keys) = (old.hosts.contains(host), keys(old), keys(new));
        let method = if is_known { "nvmf_subsystem_set_keys" } else { "nvmf_subsystem_add_host" };
        if !is_known || old_keys != new_keys {
            way.call("nvmf", method, host_params(nqn, host, new_keys.as_ref()));
        }
    }
    for new in &new.namespaces {
        match old.namespaces.iter().find(|old| is_same(old, new)) {
            Some(old) => change_namespace(way, nqn, old, new),
            None => add_namespace(way, nqn, new),
        }
    }
    // Last, so that hosts find it whole.
    for listener in new.listeners.iter().filter(|listener| !old.listeners.contains(listener)) {
        way.call("nvmf", "nvmf_subsystem_add_listener", json!({ "nqn": nqn, "listen_address": address(listener) }));
    }
    for listener in &new.listeners {
        change_ana(way, nqn, *listener, &old.ana, &new.ana);
    }
}

fn host_params(nqn: &str, host: &str, keys: Option<&HostKeySection>) -> Value {
    let mut params = object([("nqn", json!(nqn)), ("host", json!(host))]);
    if let Some(keys) = keys {
        params.insert("dhchap_key".into(), json!(keys.key));
        if let Some(key) = &keys.controller_key {
            params.insert("dhchap_ctrlr_key".into(), json!(key));
        }
    }
    Value::Object(params)
}

fn add_namespace(way: &mut Way, nqn: &str, new: &NamespaceSection) {
    let mut described = object([("nsid", json!(new.nsid)), ("bdev_name", json!(new.device))]);
    let texts = [
        ("uuid", new.uuid.map(|uuid| uuid.to_string())),
        ("nguid", new.nguid.map(|id| hexadecimal(&id))),
        ("eui64", new.eui64.map(|id| hexadecimal(&id))),
        ("ptpl_file", new.ptpl_file.as_ref().map(|file| file.display().to_string())),
    ];
    for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text?))) {
        described.insert(key.into(), json!(text));
    }
    if let Some(group) = new.ana_group {
        described.insert("anagrpid".into(), json!(group));
    }
    if !new.is_auto_visible {
        described.insert("no_auto_visible".into(), json!(true));
    }
    way.call("nvmf", "nvmf_subsystem_add_ns", json!({ "nqn": nqn, "namespace": described }));
    for host in &new.hosts {
        way.call("nvmf", "nvmf_ns_add_host", json!({ "nqn": nqn, "nsid": new.nsid, "host": host }));
    }
}

fn change_namespace(way: &mut Way, nqn: &str, old: &NamespaceSection, new: &NamespaceSection) {
    let nsid = new.nsid;
    if old.ana_group.unwrap_or(nsid) != new.ana_group.unwrap_or(nsid) {
        let params = json!({ "nqn": nqn, "nsid": nsid, "anagrpid": new.ana_group.unwrap_or(nsid) });
        way.call("nvmf", "nvmf_subsystem_set_ns_ana_group", params);
    }
    for host in old.hosts.iter().filter(|host| !new.hosts.contains(host)) {
        way.call("nvmf", "nvmf_ns_remove_host", json!({ "nqn": nqn, "nsid": nsid, "host": host }));
    }
    for host in new.hosts.iter().filter(|host| !old.hosts.contains(host)) {
        way.call("nvmf", "nvmf_ns_add_host", json!({ "nqn": nqn, "nsid": nsid, "host": host }));
    }
}

/// The rules of one listener: of several for one group the last holds. What both begin with is left as it is.
fn change_ana(way: &mut Way, nqn: &str, listener: SocketAddr, old: &[AnaSpec], new: &[AnaSpec]) {
    let of_listener =
        |rules: &[AnaSpec]| rules.iter().filter(|rule| rule.listener == listener).copied().collect::<Vec<_>>();
    let (old, new) = (of_listener(old), of_listener(new));
    let same_count = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let forgotten =
        old[same_count..].iter().filter(|rule| !new[same_count..].iter().any(|new| new.group == rule.group));
    let forgotten = forgotten.map(|rule| AnaSpec { state: AnaState::Optimized, ..*rule });
    for rule in forgotten.chain(new[same_count..].iter().copied()) {
        let mut params = object([
            ("nqn", json!(nqn)),
            ("listen_address", address(&listener)),
            ("ana_state", json!(ana_word(rule.state))),
        ]);
        if let Some(group) = rule.group {
            params.insert("anagrpid".into(), json!(group));
        }
        way.call("nvmf", "nvmf_subsystem_listener_set_ana_state", Value::Object(params));
    }
}

fn change_referrals(way: &mut Way, from: &[ReferralSpec], to: &[ReferralSpec]) {
    let described = |referral: &ReferralSpec| {
        let kind = if referral.transport == TransportKind::Tcp { "TCP" } else { TRANSPORT_TYPE };
        object([("address", describe_address(&referral.address, kind)), ("subnqn", json!(referral.subsystem_nqn))])
    };
    for referral in from.iter().filter(|referral| !to.contains(referral)) {
        way.call("nvmf", "nvmf_discovery_remove_referral", Value::Object(described(referral)));
    }
    for referral in to.iter().filter(|referral| !from.contains(referral)) {
        let mut params = described(referral);
        params.insert("secure_channel".into(), json!(referral.needs_secure_channel));
        way.call("nvmf", "nvmf_discovery_add_referral", Value::Object(params));
    }
}

fn address(listener: &SocketAddr) -> Value {
    describe_address(listener, TRANSPORT_TYPE)
}

fn object<const COUNT: usize>(members: [(&str, Value); COUNT]) -> Map<String, Value> {
    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
