//! `log_…`: what is shown. SPDK has one level for the system's log and one for standard error; here all lines go to standard error, so that the two
//! names of each method are one.

use serde_json::{Value, json};

use super::View;
use crate::config::LOG_LEVELS;
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

pub(super) fn get_level(view: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    let level = view.log.level();
    let is_filter = level.contains(['=', ',', '[']);
    Ok(match level.to_ascii_uppercase().as_str() {
        _ if is_filter => json!(level),
        "WARN" => json!("WARNING"),
        "OFF" => json!("DISABLED"),
        word => json!(word),
    })
}

/// SPDK's flags are its modules; ours are the packages. One that is set shows everything.
const FLAGS: [&str; 5] = ["bdev", "nvmf_core", "reactor", "tools", "transport_rdma"];

/// What the log's filter says of a package alone.
fn rule(flag: &str) -> String {
    format!("{flag}=debug")
}

fn parts(view: &View<'_>) -> Vec<String> {
    view.log.level().split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

pub(super) fn get_flags(view: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    let parts = parts(&view);
    Ok(FLAGS.into_iter().map(|flag| (flag.to_owned(), json!(parts.contains(&rule(flag))))).collect())
}

pub(super) fn set_flag(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    change_flags(view, parameters, true)
}

pub(super) fn clear_flag(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    change_flags(view, parameters, false)
}

fn change_flags(view: View<'_>, parameters: &Parameters<'_>, is_set: bool) -> Result<Value, RpcError> {
    let allowed = format!("\"all\" or one of {}", FLAGS.join(", "));
    let name = parameters.needed_string("flag", &allowed)?;
    let chosen: Vec<&str> = FLAGS.into_iter().filter(|flag| name == "all" || name == *flag).collect();
    if chosen.is_empty() {
        return Err(parameters.refuse("flag", &json!(name), &allowed));
    }
    let mut parts = parts(&view);
    parts.retain(|part| !chosen.iter().any(|flag| *part == rule(flag)));
    if is_set {
        parts.extend(chosen.into_iter().map(rule));
    }
    view.log.set_level(&parts.join(","));
    Ok(json!(true))
}

pub(super) fn set_level(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let allowed = format!("{LOG_LEVELS} (SPDK's WARNING, NOTICE and DISABLED are warn, info and off)");
    let level = parameters.string("level")?.ok_or_else(|| parameters.missing("level", &allowed))?;
    if !view.log.set_level(level) {
        return Err(parameters.refuse("level", &json!(level), &allowed));
    }
    tracing::info!(level, "by RPC: the log shows this level");
    Ok(json!(true))
}
