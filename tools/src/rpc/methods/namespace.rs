//! `nvmf_subsystem_…_ns` and `nvmf_ns_…`: namespaces and their access, changed while hosts use them.

use std::path::Path;
use std::sync::Arc;

use nvmf_core::ChangeId;
use nvmf_core::spec::AnaState;
use nvmf_core::target::{Amendment, NamespaceRequest};
use serde_json::{Value, json};
use transport_rdma::target::{Change, ControlError};
use uuid::Uuid;

use super::View;
use super::nvmf::needed_nqn;
use super::subsystem::{begin, listen_address, refusal};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// What describes a namespace.
const NAMESPACE: &[&str] =
    &["nsid", "bdev_name", "nguid", "eui64", "uuid", "anagrpid", "no_auto_visible", "hide_metadata", "ptpl_file"];

pub(super) fn add(view: View<'_>, parameters: &Parameters<'_>) -> Result<(ChangeId, Value), RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    let described = parameters.object("namespace", NAMESPACE)?;
    // There is no metadata to hide.
    described.boolean("hide_metadata")?;
    let nsid = match described.number("nsid")? {
        // 0 is what SPDK takes for *the next one*.
        None | Some(0) => {
            let free = view.target.free_nsid(&nqn);
            free.map_err(|error| refusal(parameters, &ControlError::Change(error)))?
        }
        Some(nsid) => narrow(&described, "nsid", nsid)?,
    };
    let mut namespace = NamespaceRequest {
        nsid,
        device: described.needed_string("bdev_name", "the name of a device")?.to_owned(),
        uuid: described.string("uuid")?.map(|text| uuid(&described, text)).transpose()?,
        nguid: described.string("nguid")?.map(|text| identifier(&described, "nguid", text)).transpose()?,
        eui64: described.string("eui64")?.map(|text| identifier(&described, "eui64", text)).transpose()?,
        ana_group: described.number("anagrpid")?.map(|group| narrow(&described, "anagrpid", group)).transpose()?,
        is_auto_visible: !described.boolean("no_auto_visible")?.unwrap_or(false),
        persistence_file: described.string("ptpl_file")?.map(|path| absolute(&described, path)).transpose()?,
    };
    if namespace.persistence_file.is_none() {
        namespace.persistence_file = state_file(&view, &nqn, &namespace);
    }
    let change = begin(view, parameters, Change::Amend(Amendment::AddNamespace { nqn, namespace }))?;
    Ok((change, json!(nsid)))
}

pub(super) fn remove(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    let nsid = needed_nsid(parameters)?;
    begin(view, parameters, Change::Amend(Amendment::RemoveNamespace { nqn, nsid }))
}

pub(super) fn add_host(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let (nqn, nsid, host) = named_host(parameters)?;
    begin(view, parameters, Change::Amend(Amendment::AddNamespaceHost { nqn, nsid, host }))
}

pub(super) fn remove_host(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let (nqn, nsid, host) = named_host(parameters)?;
    begin(view, parameters, Change::Amend(Amendment::RemoveNamespaceHost { nqn, nsid, host }))
}

pub(super) fn set_ana_group(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    let nsid = needed_nsid(parameters)?;
    let group = parameters.number("anagrpid")?.ok_or_else(|| parameters.missing("anagrpid", "an ANA group"))?;
    let group = narrow(parameters, "anagrpid", group)?;
    begin(view, parameters, Change::Amend(Amendment::SetAnaGroup { nqn, nsid, group }))
}

pub(super) fn set_ana_state(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    let listener = listen_address(&view, parameters)?;
    let text = parameters.needed_string("ana_state", ANA_STATES)?;
    let state = ana_state(text).ok_or_else(|| parameters.refuse("ana_state", &json!(text), ANA_STATES))?;
    let group = parameters.number("anagrpid")?.filter(|group| *group != 0);
    let group = group.map(|group| narrow(parameters, "anagrpid", group)).transpose()?;
    begin(view, parameters, Change::Amend(Amendment::SetAnaState { nqn, listener, group, state }))
}

/// One name for one file, whatever the directory that the target was started in.
fn absolute(parameters: &Parameters<'_>, text: &str) -> Result<Arc<str>, RpcError> {
    let path = std::path::absolute(text).ok();
    let path = path.as_deref().and_then(Path::to_str).map(Arc::from);
    path.ok_or_else(|| parameters.refuse("ptpl_file", &json!(text), "the path of a file"))
}

/// The file of a namespace that names none, where there is a directory for such files.
fn state_file(view: &View<'_>, nqn: &str, namespace: &NamespaceRequest) -> Option<Arc<str>> {
    // What hosts cannot reserve needs none.
    let is_without =
        view.target.subsystems().iter().any(|subsystem| subsystem.nqn == nqn && !subsystem.has_reservations());
    let path = view.state.filter(|_| !is_without)?.file(nqn, namespace.uuid_in(nqn));
    path.to_str().map(Arc::from)
}

/// SPDK takes the first three.
pub const ANA_STATES: &str = "\"optimized\", \"non_optimized\", \"inaccessible\", \"persistent_loss\" or \"change\"";

/// The state that a word means.
#[must_use]
pub fn ana_state(text: &str) -> Option<AnaState> {
    match text {
        "optimized" => Some(AnaState::Optimized),
        "non_optimized" => Some(AnaState::NonOptimized),
        "inaccessible" => Some(AnaState::Inaccessible),
        "persistent_loss" => Some(AnaState::PersistentLoss),
        "change" => Some(AnaState::Change),
        _ => None,
    }
}

/// The word for a state.
#[must_use]
pub fn ana_word(state: AnaState) -> &'static str {
    match state {
        AnaState::Optimized => "optimized",
        AnaState::NonOptimized => "non_optimized",
        AnaState::Inaccessible => "inaccessible",
        AnaState::PersistentLoss => "persistent_loss",
        AnaState::Change => "change",
    }
}

fn named_host(parameters: &Parameters<'_>) -> Result<(String, u32, String), RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    let host = parameters.needed_string("host", "the NQN of a host")?.to_owned();
    Ok((nqn, needed_nsid(parameters)?, host))
}

fn needed_nsid(parameters: &Parameters<'_>) -> Result<u32, RpcError> {
    let nsid = parameters.number("nsid")?.ok_or_else(|| parameters.missing("nsid", "the id of a namespace"))?;
    narrow(parameters, "nsid", nsid)
}

/// What is out of range here is out of range for the target too, which says what the range is.
fn narrow(parameters: &Parameters<'_>, name: &str, value: u64) -> Result<u32, RpcError> {
    u32::try_from(value).map_err(|_| parameters.refuse(name, &json!(value), "a number of 32 bits"))
}

fn uuid(parameters: &Parameters<'_>, text: &str) -> Result<Uuid, RpcError> {
    Uuid::try_parse(text).map_err(|_| parameters.refuse("uuid", &json!(text), "a UUID"))
}

fn identifier<const LEN: usize>(parameters: &Parameters<'_>, name: &str, text: &str) -> Result<[u8; LEN], RpcError> {
    let allowed = || format!("{} hexadecimal digits", 2 * LEN);
    bytes(text).ok_or_else(|| parameters.refuse(name, &json!(text), &allowed()))
}

/// Bytes in hexadecimal, as SPDK takes NGUID and EUI-64.
#[must_use]
pub fn bytes<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    if text.len() != 2 * LEN || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; LEN];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// The same the other way, as SPDK writes them.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
