//! `nvmf_…`: what is changed of subsystems while the target runs. Each is answered when it is done.
//!
//! Errors have SPDK's codes: what was asked for wrongly are invalid parameters, what cannot be done at present is an internal error. Their text is ours.

use std::net::{IpAddr, SocketAddr};

use nvmf_core::ChangeId;
use nvmf_core::limits::{CONTROLLER_ID_MAX, NSID_MAX};
use nvmf_core::spec::{ControllerModel, SubsystemSpec};
use nvmf_core::target::Amendment;
use serde_json::json;
use transport_rdma::target::{Change, ControlError};

use super::nvmf::{check_target, needed_nqn};
use super::{View, keyring};
use crate::config::serial_number;
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// What a subsystem says that it is where nobody says anything.
const MODEL_NUMBER: &str = "Quiesce";

pub(super) fn create_subsystem(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = parameters.needed_string("nqn", "a name such as \"nqn.2026-11.org.example:disks\"")?;
    let serial = parameters.string("serial_number")?;
    let is_shared = parameters.boolean("shared")?.unwrap_or(false);
    if is_shared && serial.is_none() {
        return Err(
            parameters.missing("serial_number", "given where the subsystem is shared: all its targets say the same")
        );
    }
    let ids = 1..=u64::from(CONTROLLER_ID_MAX);
    let first_id = parameters.number_in("min_cntlid", ids.clone())?.unwrap_or(*ids.start());
    let last_id = parameters.number_in("max_cntlid", ids.clone())?.unwrap_or(*ids.end());
    let model = parameters.string("controller_model")?;
    let model = model.map(|word| {
        controller_model(word).ok_or_else(|| parameters.refuse("controller_model", &json!(word), CONTROLLER_MODELS))
    });
    let namespace_count_max = parameters.number_in("max_namespaces", 1..=u64::from(NSID_MAX))?;
    let spec = SubsystemSpec {
        controller_ids: narrow(first_id)..=narrow(last_id),
        controller_model: model.transpose()?.unwrap_or_default(),
        nsid_max: namespace_count_max.and_then(|count| u32::try_from(count).ok()).unwrap_or(NSID_MAX),
        is_shared,
        reports_ana: parameters.boolean("ana_reporting")?.unwrap_or(false),
        model_number: parameters.string("model_number")?.unwrap_or(MODEL_NUMBER).to_owned(),
        allow_any_host: parameters.boolean("allow_any_host")?.unwrap_or(false),
        ..SubsystemSpec::new(nqn, &serial.map_or_else(|| serial_number(nqn), str::to_owned))
    };
    begin(view, parameters, Change::CreateSubsystem(Box::new(spec)))
}

/// SPDK has the first.
pub const CONTROLLER_MODELS: &str = "\"dynamic\" or \"static\"";

/// The model that a word means.
#[must_use]
pub fn controller_model(text: &str) -> Option<ControllerModel> {
    match text {
        "dynamic" => Some(ControllerModel::Dynamic),
        "static" => Some(ControllerModel::Static),
        _ => None,
    }
}

/// Numbers that were checked against the highest id.
fn narrow(id: u64) -> u16 {
    u16::try_from(id).unwrap_or(CONTROLLER_ID_MAX)
}

pub(super) fn delete_subsystem(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    begin(view, parameters, Change::DeleteSubsystem { nqn })
}

pub(super) fn add_listener(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    let address = listen_address(&view, parameters)?;
    begin(view, parameters, Change::AddListener { nqn, address })
}

pub(super) fn remove_listener(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    let address = listen_address(&view, parameters)?;
    begin(view, parameters, Change::RemoveListener { nqn, address })
}

pub(super) fn add_host(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    let host = parameters.needed_string("host", "the NQN of a host")?.to_owned();
    match keyring::host_keys(&view, parameters, &host)? {
        Some(keys) => begin(view, parameters, Change::Amend(Amendment::AddHost { nqn, keys: Box::new(keys) })),
        None => begin(view, parameters, Change::AddHost { nqn, host }),
    }
}

pub(super) fn remove_host(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    let host = parameters.needed_string("host", "the NQN of a host")?.to_owned();
    begin(view, parameters, Change::RemoveHost { nqn, host })
}

pub(super) fn allow_any_host(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    let is_allowed = parameters.boolean("allow_any_host")?;
    let is_allowed = is_allowed.ok_or_else(|| parameters.missing("allow_any_host", "true or false"))?;
    begin(view, parameters, Change::AllowAnyHost { nqn, is_allowed })
}

/// SPDK has this in its library, and no method for it.
pub(super) fn pause(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    begin(view, parameters, Change::Amend(Amendment::PauseSubsystem { nqn }))
}

pub(super) fn resume(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    begin(view, parameters, Change::Amend(Amendment::ResumeSubsystem { nqn }))
}

pub(super) fn begin(view: View<'_>, parameters: &Parameters<'_>, change: Change) -> Result<ChangeId, RpcError> {
    check_target(parameters)?;
    view.target.change(change).map_err(|error| refusal(parameters, &error))
}

/// Why a change was refused.
pub(super) fn refusal(parameters: &Parameters<'_>, error: &ControlError) -> RpcError {
    use nvmf_core::ChangeError as E;
    match error {
        ControlError::Change(
            E::NoSubsystem { .. }
            | E::ListenerThere { .. }
            | E::NoListener { .. }
            | E::HostThere { .. }
            | E::NoHost { .. }
            | E::ReferralThere { .. }
            | E::NoReferral { .. }
            | E::NoNamespace { .. }
            | E::VisibleToAll { .. }
            | E::NoAna { .. }
            | E::NoDevice { .. }
            | E::Device(_)
            | E::Spec(_),
        )
        | ControlError::Listen { .. } => parameters.impossible(&error.to_string()),
        ControlError::Change(
            E::SubsystemThere { .. }
            | E::BeingDeleted { .. }
            | E::BeingRemoved { .. }
            | E::PausedAlready { .. }
            | E::TooManyNamespaces { .. }
            | E::DeviceThere { .. }
            | E::DeviceChanges { .. }
            | E::DeviceUsed { .. }
            | E::TooManyDevices { .. }
            | E::TooMany { .. }
            | E::ShuttingDown,
        )
        | ControlError::AddressEnds { .. }
        | ControlError::NoDevice { .. } => parameters.not_now(&error.to_string()),
    }
}

/// NVMe's four words for an address, as SPDK takes them.
pub(super) fn listen_address(view: &View<'_>, parameters: &Parameters<'_>) -> Result<SocketAddr, RpcError> {
    let parts = address_parts(parameters, "listen_address")?;
    let allowed_type = format!("{:?}", view.transport_type);
    let transport_type = parts.needed_string("trtype", &allowed_type)?;
    if !transport_type.eq_ignore_ascii_case(view.transport_type) {
        return Err(parts.refuse("trtype", &json!(transport_type), &allowed_type));
    }
    ip_address(&parts)
}

pub(super) fn address_parts<'a>(parameters: &Parameters<'a>, name: &str) -> Result<Parameters<'a>, RpcError> {
    parameters.object(name, &["trtype", "adrfam", "traddr", "trsvcid"])
}

/// Three of the four words: an IP address and a port.
pub(super) fn ip_address(parts: &Parameters<'_>) -> Result<SocketAddr, RpcError> {
    let allowed_address = "an IP address that hosts can connect to, such as \"127.0.0.1\"";
    let text = parts.needed_string("traddr", allowed_address)?;
    let ip = text.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified());
    let ip = ip.ok_or_else(|| parts.refuse("traddr", &json!(text), allowed_address))?;
    // SPDK takes IPv4 where nothing is said; the address says it too.
    if let Some(family) = parts.string("adrfam")? {
        let is = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        if !family.eq_ignore_ascii_case(is) {
            return Err(parts.refuse("adrfam", &json!(family), &format!("{is:?}, as traddr {text:?} is, or left out")));
        }
    }
    let allowed_port = "a port from \"1\" to \"65535\", such as \"4420\"";
    let service = parts.needed_string("trsvcid", allowed_port)?;
    match service.parse::<u16>() {
        Ok(port @ 1..) => Ok(SocketAddr::new(ip, port)),
        Ok(0) | Err(_) => Err(parts.refuse("trsvcid", &json!(service), allowed_port)),
    }
}
