//! The methods, with the names, parameters and results that SPDK's users script against. What SPDK reports and this target has not is left out; what
//! this target has beyond SPDK stands beside it under names of its own.

mod bdev;
mod framework;
mod log;
mod nvmf;
mod thread;

use std::sync::Arc;

use ::bdev::Device;
use nvmf_core::spec::SubsystemSpec;
use serde_json::{Value, json};

use super::RpcError;
use super::parameters::Parameters;
use crate::log::Log;
use crate::reactors::Reactors;

/// What the methods may look at, and change.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Subsystems; each namespace has its UUID.
    pub subsystems: &'a [SubsystemSpec],
    /// All devices.
    pub devices: &'a [Arc<dyn Device>],
    /// The reactors.
    pub reactors: &'a Reactors,
    /// The log.
    pub log: &'a Log,
    /// NVMe's transport type: `RDMA`.
    pub transport_type: &'a str,
}

/// A method: from its parameters to its result.
type Method = for<'a> fn(View<'a>, &Parameters<'a>) -> Result<Value, RpcError>;

/// All methods: name, parameters, what it does.
const METHODS: [(&str, &[&str], Method); 12] = [
    ("bdev_get_bdevs", &["name", "timeout"], bdev::get_bdevs),
    ("framework_get_reactors", &[], framework::get_reactors),
    ("framework_monitor_turns", &["turn_limit_us", "stall_limit_ms"], framework::monitor_turns),
    ("framework_set_poll_mode", &["mode", "spin_us", "pause_us", "lcore"], framework::set_poll_mode),
    ("log_get_level", &[], log::get_level),
    ("log_get_print_level", &[], log::get_level),
    ("log_set_level", &["level"], log::set_level),
    ("log_set_print_level", &["level"], log::set_level),
    ("nvmf_get_subsystems", &["nqn", "tgt_name"], nvmf::get_subsystems),
    ("rpc_get_methods", &["current", "include_aliases"], rpc_get_methods),
    ("thread_get_pollers", &[], thread::get_pollers),
    ("thread_get_stats", &[], thread::get_stats),
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

#[cfg(test)]
mod tests;
