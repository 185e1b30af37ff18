//! `nvmf_…_host_limits`, which SPDK has not: what one host may take, so that it leaves something to the others.

use nvmf_core::ChangeId;
use nvmf_core::spec::HostLimits;
use nvmf_core::target::Amendment;
use serde_json::{Value, json};
use transport_rdma::target::Change;

use super::View;
use super::subsystem::begin;
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// As users write it: 0 is no limit.
fn shown(limit: u64, none: u64) -> u64 {
    if limit == none { 0 } else { limit }
}

pub(super) fn get_host_limits(view: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    let HostLimits { command_count_max, data_len_max } = view.target.host_limits();
    Ok(json!({
        "queue_pairs": shown(view.target.host_queue_pair_limit().into(), u32::MAX.into()),
        "commands": shown(command_count_max.into(), u32::MAX.into()),
        "data_size": shown(data_len_max, u64::MAX),
    }))
}

/// What is not named stays.
pub(super) fn set_host_limits(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let count = |name| -> Result<Option<u32>, RpcError> {
        let number = parameters.number_in(name, 0..=u64::from(u32::MAX) - 1)?;
        Ok(number.and_then(|number| u32::try_from(number).ok()).map(|limit| if limit == 0 { u32::MAX } else { limit }))
    };
    let (queue_pairs, commands) = (count("queue_pairs")?, count("commands")?);
    let data_len = parameters.number("data_size")?.map(|limit| if limit == 0 { u64::MAX } else { limit });
    let mut limits = view.target.host_limits();
    limits.command_count_max = commands.unwrap_or(limits.command_count_max);
    limits.data_len_max = data_len.unwrap_or(limits.data_len_max);
    if let Some(limit) = queue_pairs {
        view.target.set_host_queue_pair_limit(limit);
    }
    begin(view, parameters, Change::Amend(Amendment::LimitHosts(limits)))
}
