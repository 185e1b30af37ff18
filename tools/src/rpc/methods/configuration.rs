//! The configuration of a running target: saved in the shape of SPDK's files or in ours, told as calls, and read again.

use std::borrow::Cow;

use nvmf_core::ChangeId;
use serde_json::{Value, json};

use super::{Made, View, subsystem};
use crate::config::{Config, SUBSYSTEMS, Step, Way, merge, of_subsystem, to_spdk, to_toml, way, whole};
use crate::machine::cpus_allowed;
use crate::present;
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;
use crate::spdk_file;

/// SPDK's client asks for these when it saves.
pub(super) fn get_subsystems(_: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    Ok(SUBSYSTEMS.into_iter().map(|name| json!({ "subsystem": name, "depends_on": [] })).collect())
}

/// The calls that lead to what one of them is.
pub(super) fn get_config(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let allowed = SUBSYSTEMS.map(|name| format!("{name:?}")).join(", ");
    let name = parameters.needed_string("name", &allowed)?;
    if !SUBSYSTEMS.contains(&name) {
        return Err(parameters.refuse("name", &json!(name), &allowed));
    }
    Ok(of_subsystem(&whole(&present::config(&view)), name))
}

/// All of it. SPDK's client puts this together itself; this is for others, and for our own format.
pub(super) fn save(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let config = present::config(&view);
    match parameters.string("format")? {
        None | Some("json") => Ok(to_spdk(&whole(&config))),
        Some("toml") => Ok(json!(to_toml(&config))),
        Some(other) => Err(parameters.refuse("format", &json!(other), "\"json\" (SPDK's) or \"toml\"")),
    }
}

/// Performs the calls of a file in SPDK's shape, one after the other.
pub(super) fn load(view: View<'_>, parameters: &Parameters<'_>) -> Result<Made, RpcError> {
    let config = parameters
        .any("config")
        .ok_or_else(|| parameters.missing("config", "an object as save_config gives it: {\"subsystems\": [...]}"))?;
    let file = spdk_file::SpdkFile::read(config).map_err(|error| parameters.impossible(&error.to_string()))?;
    let steps = file.steps;
    let count = steps.len();
    let change = run(view, parameters, steps, None)?;
    Ok((change, json!({ "calls": count, "ignored": file.ignored })))
}

/// Reads the configuration file again, and does what has changed in it. What requests have changed and the file says nothing of stays.
pub(super) fn reload(view: View<'_>, parameters: &Parameters<'_>) -> Result<Made, RpcError> {
    let Some(file) = view.asked.file() else {
        return Err(parameters.impossible("the target was started without a configuration file (--config)"));
    };
    let after = Config::load(file, &cpus_allowed()).map_err(|error| parameters.impossible(&error.to_string()))?;
    let present = present::config(&view);
    let Way { steps, left } = way(&present, &merge(&present, view.asked.started(), &after));
    for what in &left {
        tracing::warn!("reload: {what}");
    }
    let calls: Vec<Cow<'_, str>> = steps.iter().map(|step| step.method.clone()).collect();
    tracing::info!(calls = calls.join(", "), "reload of {}", file.display());
    let result = json!({ "calls": calls, "not_applied": left });
    let change = run(view, parameters, steps, Some(Box::new(after)))?;
    Ok((change, result))
}

fn run(
    view: View<'_>,
    parameters: &Parameters<'_>,
    steps: Vec<Step>,
    started: Option<Box<Config>>,
) -> Result<ChangeId, RpcError> {
    if view.target.is_running() {
        return Err(parameters.not_now("another configuration is just being loaded: wait until that is done"));
    }
    view.target.run(steps, started).map_err(|error| subsystem::refusal(parameters, &error))
}
