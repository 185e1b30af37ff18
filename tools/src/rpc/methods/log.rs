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

pub(super) fn set_level(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let allowed = format!("{LOG_LEVELS} (SPDK's WARNING, NOTICE and DISABLED are warn, info and off)");
    let level = parameters.string("level")?.ok_or_else(|| parameters.missing("level", &allowed))?;
    if !view.log.set_level(level) {
        return Err(parameters.refuse("level", &json!(level), &allowed));
    }
    tracing::info!(level, "by RPC: the log shows this level");
    Ok(json!(true))
}
