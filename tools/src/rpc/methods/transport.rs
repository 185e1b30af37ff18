//! `nvmf_…_transport`: there is one, which the configuration describes and which is there from the start.

use serde_json::{Value, json};

use super::View;
use super::nvmf::check_target;
use crate::config::TransportSection;
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// What SPDK's transport takes for its pools and intervals, of which this one has none.
const OF_NO_EFFECT: [&str; 12] = [
    "io_unit_size",
    "num_shared_buffers",
    "buf_cache_size",
    "iobuf_small_cache_size",
    "iobuf_large_cache_size",
    "num_cqe",
    "max_srq_depth",
    "acceptor_backlog",
    "acceptor_poll_rate",
    "abort_timeout_sec",
    "ack_timeout",
    "data_wr_pool_size",
];

/// Scripts for SPDK begin with this. What they ask for is compared with what there is: less is fine, for hosts get by with what there is.
pub(super) fn create(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    check_target(parameters)?;
    let allowed = format!("{}, which is what this target has", view.transport_type);
    let kind = parameters.needed_string("trtype", &allowed)?;
    if !kind.eq_ignore_ascii_case(view.transport_type) {
        return Err(parameters.refuse("trtype", &json!(kind), &allowed));
    }
    for (name, key, most) in limits(&view.asked.started().transport) {
        if let Some(asked) = parameters.number(name)?
            && asked > most
        {
            let allowed = format!("at most {most}, or transport.{key} larger in the configuration");
            return Err(parameters.refuse(name, &json!(asked), &allowed));
        }
    }
    parameters.boolean("no_srq")?;
    let ignored = of_no_effect(parameters)?;
    if !ignored.is_empty() {
        tracing::info!(
            parameters = ignored.join(", "),
            "nvmf_create_transport: these are about what this target does not have, or sizes by itself"
        );
    }
    Ok(json!(true))
}

pub(super) fn get_transports(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    check_target(parameters)?;
    if let Some(kind) = parameters.string("trtype")?
        && !kind.eq_ignore_ascii_case(view.transport_type)
    {
        return Err(RpcError::no_such("transport", kind));
    }
    let mut described = json!({
        "trtype": view.transport_type,
        "max_srq_depth": view.asked.started().transport.shared_receive_count,
        "no_srq": view.asked.started().transport.shared_receive_count == 0,
        "dif_insert_or_strip": false,
        "zcopy": false,
    });
    for (name, _, value) in limits(&view.asked.started().transport) {
        described[name] = json!(value);
    }
    Ok(json!([described]))
}

/// SPDK's name, the key of the configuration, and what holds.
fn limits(transport: &TransportSection) -> [(&'static str, &'static str, u64); 5] {
    [
        ("max_queue_depth", "queue_depth", u64::from(transport.queue_depth)),
        ("max_io_qpairs_per_ctrlr", "io_queues", u64::from(transport.io_queue_count_max)),
        ("in_capsule_data_size", "in_capsule_size", u64::from(transport.in_capsule_len)),
        ("max_io_size", "transfer_size", u64::from(transport.transfer_len_max)),
        ("max_aq_depth", "admin_queue_depth", u64::from(transport.admin_queue_depth)),
    ]
}

/// Which of the parameters that are about pools and intervals of SPDK's were given.
fn of_no_effect(parameters: &Parameters<'_>) -> Result<Vec<&'static str>, RpcError> {
    let mut given = Vec::new();
    for name in OF_NO_EFFECT {
        if parameters.number(name)?.is_some() {
            given.push(name);
        }
    }
    Ok(given)
}
