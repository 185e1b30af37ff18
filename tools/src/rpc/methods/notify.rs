//! `notify_…`: what has come and gone, for programs that follow.

use serde_json::{Value, json};

use super::View;
use crate::notifications::{KINDS, NOTIFICATION_COUNT_MAX};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

pub(super) fn get_types(_: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    Ok(json!(KINDS))
}

/// From `id` on, or from the oldest that is still known.
pub(super) fn get_notifications(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let first = parameters.number("id")?.unwrap_or(0);
    let most = parameters.number("max")?.unwrap_or(NOTIFICATION_COUNT_MAX as u64);
    let known = view.target.notifications().iter().filter(|(id, _)| *id >= first);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    Ok(known.take(most).map(|(id, (kind, context))| json!({ "id": id, "type": kind, "ctx": context })).collect())
}
