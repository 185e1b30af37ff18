//! The methods, with the names, parameters and results that SPDK's users script against. What SPDK reports and this target has not is left out; what
//! this target has beyond SPDK stands beside it under names of its own.

mod bdev;
mod configuration;
mod device;
mod fault;
mod framework;
mod histogram;
mod host_limits;
mod iostat;
mod keyring;
mod layer;
mod log;
pub mod namespace;
mod notify;
pub mod nvmf;
mod placement;
mod process;
mod qos;
mod rbd;
mod referral;
pub mod subsystem;
mod thread;
mod trace;
mod transport;

use std::cell::RefCell;
use std::sync::Arc;

use nvmf_core::PollGroupCounters;
use nvmf_core::auth::{GroupSet, HashSet};
use nvmf_core::spec::{HostLimits, ReferralSpec, SubsystemSpec};
use nvmf_core::target::{ControllerFacts, DeviceFacts, QpairFacts};
use nvmf_core::{ChangeError, ChangeId};
use reactor::Cpu;
use serde_json::{Value, json};
use transport_rdma::target::{Change, ControlError, PlacementError, PlacementRule};

use super::parameters::Parameters;
use super::schema::SCHEMA;
use super::{Outcome, RpcError};
use crate::clusters::Clusters;
use crate::config::{Config, DeviceSection, Step, nearest};
pub use crate::control::Work;
use crate::events::Question;
use crate::keeper::StateDirectory;
use crate::keyring::Keyring;
use crate::log::Log;
use crate::notifications::Notifications;
use crate::present::Asked;
use crate::reactors::Reactors;

/// The target that is served, whatever fabric it is on.
pub trait TargetAccess {
    /// Subsystems; each namespace has its UUID.
    fn subsystems(&self) -> Vec<&SubsystemSpec>;

    /// Where else hosts are sent.
    fn referrals(&self) -> Vec<&ReferralSpec>;

    /// The devices that can be used.
    fn devices(&self) -> Vec<DeviceFacts<'_>>;

    /// The time of the turns, ns.
    fn now_ns(&self) -> u64;

    /// The lowest namespace id that is free.
    ///
    /// # Errors
    /// Why there is none.
    fn free_nsid(&self, nqn: &str) -> Result<u32, ChangeError>;

    /// Has a device opened.
    ///
    /// # Errors
    /// Why it is refused.
    fn make_device(&mut self, section: DeviceSection) -> Result<ChangeId, ControlError>;

    /// Has something done that takes time. `device` may be larger afterwards.
    ///
    /// # Errors
    /// Why it is refused.
    fn work(&mut self, device: Option<String>, work: Work) -> Result<ChangeId, ControlError>;

    /// What a polling CPU counts of the NVMe layer.
    fn counters(&self, cpu: Cpu) -> Arc<PollGroupCounters>;

    /// Devices that came and went.
    fn notifications(&self) -> &Notifications;

    /// Asks all CPUs what they have traced; the events are the change's result.
    ///
    /// # Errors
    /// Why it is refused.
    fn trace(&mut self, question: Question) -> Result<ChangeId, ControlError>;

    /// The controllers of a subsystem. `None`: there is no such subsystem.
    fn controllers(&self, nqn: &str) -> Option<Vec<ControllerFacts<'_>>>;

    /// The qpairs of its controllers. `None`: there is no such subsystem.
    fn qpairs(&self, nqn: &str) -> Option<Vec<QpairFacts>>;

    /// Hash functions and groups that authentications may use.
    fn authentication(&self) -> (HashSet, GroupSet);

    /// Has calls performed one after the other, as if they were requested; each when the one before is done. `started`: what the target counts as started with when
    /// all are.
    ///
    /// # Errors
    /// Why it is refused.
    fn run(&mut self, steps: Vec<Step>, started: Option<Box<Config>>) -> Result<ChangeId, ControlError>;

    /// Whether calls are just being performed that [`Self::run`] was given.
    fn is_running(&self) -> bool;

    /// Begins a change.
    ///
    /// # Errors
    /// Why it is refused.
    fn change(&mut self, change: Change) -> Result<ChangeId, ControlError>;

    /// What one host may have in flight.
    fn host_limits(&self) -> HostLimits;

    /// Most queue pairs of one host.
    fn host_queue_pair_limit(&self) -> u32;

    /// The same, for connections to come.
    fn set_host_queue_pair_limit(&mut self, limit: u32);

    /// Which CPUs connections may go to.
    fn placement(&self) -> &[PlacementRule];

    /// The same, for connections to come.
    ///
    /// # Errors
    /// Which rule is refused, and why.
    fn set_placement(&mut self, rules: Vec<PlacementRule>) -> Result<(), PlacementError>;
}

/// What the methods may look at, and change.
pub struct View<'a> {
    /// The target.
    pub target: &'a mut dyn TargetAccess,
    /// The reactors.
    pub reactors: &'a Reactors,
    /// The log.
    pub log: &'a Log,
    /// Keys.
    pub keyring: &'a RefCell<Keyring>,
    /// Ceph clusters.
    pub clusters: &'a Clusters,
    /// What was asked for, of what there is.
    pub asked: &'a Asked,
    /// Where namespaces that name no file of their own keep their reservations.
    pub state: Option<&'a StateDirectory>,
    /// NVMe's transport type: `RDMA`.
    pub transport_type: &'a str,
}

/// A change that was begun, and the result that it is answered with.
type Made = (ChangeId, Value);

/// The same of several changes.
type MadeSeveral = (Vec<ChangeId>, Value);

/// A method: from its parameters to what it comes to.
enum Method {
    /// Its result.
    Tell(fn(View<'_>, &Parameters<'_>) -> Result<Value, RpcError>),
    /// A change, which is answered when it is done.
    Change(fn(View<'_>, &Parameters<'_>) -> Result<ChangeId, RpcError>),
    /// The same, with a result of its own.
    Make(fn(View<'_>, &Parameters<'_>) -> Result<Made, RpcError>),
    /// Several, which are answered when the last is done.
    MakeSeveral(fn(View<'_>, &Parameters<'_>) -> Result<MadeSeveral, RpcError>),
}
use Method::{Change as Begin, Make, MakeSeveral, Tell};

/// All methods: name, and what it does. What they take stands in the schema.
const METHODS: &[(&str, Method)] = &[
    ("bdev_aio_create", Make(device::create_file)),
    ("bdev_aio_delete", Begin(device::delete)),
    ("bdev_aio_rescan", Begin(device::rescan)),
    ("bdev_delay_create", Make(layer::create_delay)),
    ("bdev_delay_delete", Begin(layer::delete_delay)),
    ("bdev_delay_update_latency", Tell(layer::update_latency)),
    ("bdev_error_create", Make(fault::create)),
    ("bdev_error_delete", Begin(fault::delete)),
    ("bdev_error_inject_error", Tell(fault::inject)),
    ("bdev_get_bdevs", Tell(bdev::get_bdevs)),
    ("bdev_get_iostat", Tell(iostat::get_iostat)),
    ("bdev_get_latency_histogram", Tell(histogram::get_histogram)),
    ("bdev_malloc_create", Make(device::create_malloc)),
    ("bdev_malloc_delete", Begin(device::delete)),
    ("bdev_null_create", Make(device::create_null)),
    ("bdev_null_delete", Begin(device::delete)),
    ("bdev_null_resize", Begin(device::resize_null)),
    ("bdev_partition_create", Make(layer::create_partition)),
    ("bdev_partition_delete", Begin(layer::delete_partition)),
    ("bdev_rbd_acquire_lock", Begin(rbd::acquire_lock)),
    ("bdev_rbd_create", Make(rbd::create)),
    ("bdev_rbd_delete", Begin(rbd::delete)),
    ("bdev_rbd_get_clusters_info", Tell(rbd::get_clusters_info)),
    ("bdev_rbd_register_cluster", Make(rbd::register_cluster)),
    ("bdev_rbd_release_lock", Begin(rbd::release_lock)),
    ("bdev_rbd_resize", Begin(rbd::resize)),
    ("bdev_rbd_unregister_cluster", Begin(rbd::unregister_cluster)),
    ("bdev_reset", Begin(device::reset)),
    ("bdev_set_qos_limit", Tell(qos::set_limit)),
    ("bdev_split_create", MakeSeveral(layer::create_split)),
    ("bdev_split_delete", MakeSeveral(layer::delete_split)),
    ("bdev_uring_create", Make(device::create_file)),
    ("bdev_uring_delete", Begin(device::delete)),
    ("bdev_uring_rescan", Begin(device::rescan)),
    ("bdev_xnvme_create", Make(device::create_nvme)),
    ("bdev_xnvme_delete", Begin(device::delete)),
    ("framework_get_config", Tell(configuration::get_config)),
    ("framework_get_reactors", Tell(framework::get_reactors)),
    ("framework_get_scheduler", Tell(framework::get_scheduler)),
    ("framework_get_subsystems", Tell(configuration::get_subsystems)),
    ("framework_monitor_turns", Tell(framework::monitor_turns)),
    ("framework_set_poll_mode", Tell(framework::set_poll_mode)),
    ("framework_wait_init", Tell(framework::wait_init)),
    ("keyring_file_add_key", Tell(keyring::add_file)),
    ("keyring_file_remove_key", Tell(keyring::remove)),
    ("keyring_get_keys", Tell(keyring::list)),
    ("load_config", Make(configuration::load)),
    ("log_clear_flag", Tell(log::clear_flag)),
    ("log_get_flags", Tell(log::get_flags)),
    ("log_get_level", Tell(log::get_level)),
    ("log_get_print_level", Tell(log::get_level)),
    ("log_set_flag", Tell(log::set_flag)),
    ("log_set_level", Tell(log::set_level)),
    ("log_set_print_level", Tell(log::set_level)),
    ("notify_get_notifications", Tell(notify::get_notifications)),
    ("notify_get_types", Tell(notify::get_types)),
    ("nvmf_create_subsystem", Begin(subsystem::create_subsystem)),
    ("nvmf_create_transport", Tell(transport::create)),
    ("nvmf_delete_subsystem", Begin(subsystem::delete_subsystem)),
    ("nvmf_discovery_add_referral", Begin(referral::add)),
    ("nvmf_discovery_get_referrals", Tell(referral::get)),
    ("nvmf_discovery_remove_referral", Begin(referral::remove)),
    ("nvmf_get_host_limits", Tell(host_limits::get_host_limits)),
    ("nvmf_get_placement", Tell(placement::get_placement)),
    ("nvmf_get_stats", Tell(nvmf::get_stats)),
    ("nvmf_get_subsystems", Tell(nvmf::get_subsystems)),
    ("nvmf_get_targets", Tell(nvmf::get_targets)),
    ("nvmf_get_transports", Tell(transport::get_transports)),
    ("nvmf_ns_add_host", Begin(namespace::add_host)),
    ("nvmf_ns_remove_host", Begin(namespace::remove_host)),
    ("nvmf_set_config", Begin(keyring::set_config)),
    ("nvmf_set_host_limits", Begin(host_limits::set_host_limits)),
    ("nvmf_set_max_subsystems", Tell(nvmf::set_max_subsystems)),
    ("nvmf_set_placement", Tell(placement::set_placement)),
    ("nvmf_subsystem_add_host", Begin(subsystem::add_host)),
    ("nvmf_subsystem_add_listener", Begin(subsystem::add_listener)),
    ("nvmf_subsystem_add_ns", Make(namespace::add)),
    ("nvmf_subsystem_allow_any_host", Begin(subsystem::allow_any_host)),
    ("nvmf_subsystem_get_controllers", Tell(nvmf::get_controllers)),
    ("nvmf_subsystem_get_listeners", Tell(nvmf::get_listeners)),
    ("nvmf_subsystem_get_qpairs", Tell(nvmf::get_qpairs)),
    ("nvmf_subsystem_listener_set_ana_state", Begin(namespace::set_ana_state)),
    ("nvmf_subsystem_pause", Begin(subsystem::pause)),
    ("nvmf_subsystem_remove_host", Begin(subsystem::remove_host)),
    ("nvmf_subsystem_remove_listener", Begin(subsystem::remove_listener)),
    ("nvmf_subsystem_remove_ns", Begin(namespace::remove)),
    ("nvmf_subsystem_resume", Begin(subsystem::resume)),
    ("nvmf_subsystem_set_keys", Begin(keyring::set_keys)),
    ("nvmf_subsystem_set_ns_ana_group", Begin(namespace::set_ana_group)),
    ("reload_config", Make(configuration::reload)),
    ("rpc_get_methods", Tell(rpc_get_methods)),
    ("rpc_get_schema", Tell(rpc_get_schema)),
    ("save_config", Tell(configuration::save)),
    ("spdk_get_version", Tell(get_version)),
    ("spdk_kill_instance", Tell(process::kill)),
    ("thread_get_pollers", Tell(thread::get_pollers)),
    ("thread_get_stats", Tell(thread::get_stats)),
    ("trace_get_events", Begin(trace::get_events)),
];

/// Whether there is such a method.
#[must_use]
pub fn is_method(name: &str) -> bool {
    METHODS.iter().any(|(known, _)| *known == name)
}

/// Performs one request.
///
/// # Errors
/// If there is no such method, or its parameters are not what it takes.
pub fn perform(view: View<'_>, method: &str, parameters: Option<&Value>) -> Result<Outcome, RpcError> {
    let Some((name, perform)) = METHODS.iter().find(|(name, _)| *name == method) else {
        let near = nearest(method, METHODS.iter().map(|(name, _)| *name));
        return Err(RpcError::no_method(method, near));
    };
    let parameters = Parameters::new(*name, &SCHEMA.parameters(name), parameters)?;
    match perform {
        Tell(tell) => tell(view, &parameters).map(Outcome::Done),
        Begin(begin) => begin(view, &parameters).map(|change| Outcome::Begun(change, json!(true))),
        Make(make) => make(view, &parameters).map(|(change, result)| Outcome::Begun(change, result)),
        MakeSeveral(make) => make(view, &parameters).map(|(changes, result)| Outcome::SeveralBegun(changes, result)),
    }
}

fn rpc_get_methods(_: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    parameters.boolean("current")?;
    parameters.boolean("include_aliases")?;
    Ok(METHODS.iter().map(|(name, _)| json!(name)).collect())
}

/// What the methods take.
fn rpc_get_schema(_: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    serde_json::to_value(&*SCHEMA).map_err(|error| RpcError::internal(error.to_string()))
}

/// Our own version, in the shape of SPDK's.
fn get_version(_: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    Ok(json!({
        "version": concat!("Quiesce v", env!("CARGO_PKG_VERSION")),
        "fields": {
            "major": number(env!("CARGO_PKG_VERSION_MAJOR")),
            "minor": number(env!("CARGO_PKG_VERSION_MINOR")),
            "patch": number(env!("CARGO_PKG_VERSION_PATCH")),
            "suffix": env!("CARGO_PKG_VERSION_PRE"),
        },
    }))
}

#[cfg(test)]
pub(crate) mod tests;
