//! `spdk_kill_instance`: the process itself.

use serde_json::{Value, json};

use super::View;
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;
use crate::system;

/// Those that it can be sent, by SPDK's names.
const SIGNALS: [(&str, libc::c_int); 4] =
    [("SIGTERM", libc::SIGTERM), ("SIGINT", libc::SIGINT), ("SIGHUP", libc::SIGHUP), ("SIGKILL", libc::SIGKILL)];

/// Answered before it is heeded.
pub(super) fn kill(_: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let allowed = "SIGTERM, SIGINT, SIGHUP or SIGKILL, also without SIG, or a number of these";
    let name = parameters.needed_string("sig_name", allowed)?;
    let is_meant = |(known, number): &&(&str, libc::c_int)| {
        *known == name || known.strip_prefix("SIG") == Some(name) || number.to_string() == name
    };
    let (_, number) =
        SIGNALS.iter().find(is_meant).ok_or_else(|| parameters.refuse("sig_name", &json!(name), allowed))?;
    system::signal_oneself(*number).map_err(|error| parameters.not_now(&error.to_string()))?;
    Ok(json!(true))
}
