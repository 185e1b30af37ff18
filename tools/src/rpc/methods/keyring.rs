//! `keyring_…`, and what of `nvmf_…` is about keys: with SPDK's names and parameters.
//!
//! A key is read when it is added (SPDK: when it is used), so `probed` is always true. `refcnt` counts the key itself and the hosts that have it.

use std::path::Path;

use nvmf_core::ChangeId;
use nvmf_core::auth::{GroupId, GroupSet, HashId, HashSet};
use nvmf_core::spec::HostKeys;
use nvmf_core::target::Amendment;
use serde_json::{Value, json};
use transport_rdma::target::Change;

use super::View;
use super::nvmf::needed_nqn;
use super::subsystem::begin;
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

const NAME: &str = "the name of a key, such as \"host-a\"";

pub(super) fn add_file(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let name = parameters.needed_string("name", NAME)?;
    let path = parameters.needed_string("path", "the path of a file with a secret, which begins with /")?;
    let added = view.keyring.borrow_mut().add_file(name, Path::new(path));
    added.map_err(|error| parameters.impossible(&error.to_string()))?;
    Ok(json!(true))
}

pub(super) fn remove(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let name = parameters.needed_string("name", NAME)?;
    let removed = view.keyring.borrow_mut().remove(name);
    removed.map_err(|error| parameters.impossible(&error.to_string()))?;
    Ok(json!(true))
}

pub(super) fn list(view: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    let subsystems = view.target.subsystems();
    let uses = |name: &str| {
        let keys = subsystems.iter().flat_map(|subsystem| &subsystem.host_keys);
        let names = keys.flat_map(|keys| std::iter::once(&keys.key).chain(&keys.controller_key));
        names.filter(|key| key.name == name).count()
    };
    let keyring = view.keyring.borrow();
    let describe = |(name, path): (&str, &Path)| {
        json!({
            "name": name,
            "module": "keyring_file",
            "removed": false,
            "probed": true,
            "refcnt": 1 + uses(name),
            "path": path.display().to_string(),
        })
    };
    Ok(keyring.list().map(describe).collect())
}

/// As SPDK's: keys that are left out are taken away, and a host without any need not authenticate.
pub(super) fn set_keys(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let nqn = needed_nqn(parameters)?.to_owned();
    let host = parameters.needed_string("host", "the NQN of a host")?.to_owned();
    let keys = host_keys(&view, parameters, &host)?.map(Box::new);
    begin(view, parameters, Change::Amend(Amendment::SetKeys { nqn, host, keys }))
}

/// The keys that a request names.
pub(super) fn host_keys(
    view: &View<'_>,
    parameters: &Parameters<'_>,
    host: &str,
) -> Result<Option<HostKeys>, RpcError> {
    match (parameters.string("dhchap_key")?, parameters.string("dhchap_ctrlr_key")?) {
        (None, None) => Ok(None),
        // Who does not know who asks has nobody to prove itself to [NVMe Base 2.0, 8.13.5].
        (None, Some(_)) => Err(parameters.out_of_place("dhchap_ctrlr_key", "goes with a dhchap_key")),
        (Some(key), controller_key) => {
            let keys = view.keyring.borrow().host_keys(host, key, controller_key);
            keys.map(Some).map_err(|error| parameters.impossible(&error.to_string()))
        }
    }
}

/// SPDK takes these before its start only; here they hold for exchanges that begin from now on.
pub(super) fn set_config(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let (mut hashes, mut groups) = view.target.authentication();
    if let Some(names) = parameters.strings("dhchap_digests")? {
        hashes = HashSet::empty();
        let allowed = "a list of \"sha256\", \"sha384\" and \"sha512\"";
        for name in &names {
            let hash = HashId::from_name(name);
            hashes = hashes.with(hash.ok_or_else(|| parameters.refuse("dhchap_digests", &json!(names), allowed))?);
        }
        if hashes.is_empty() {
            return Err(parameters.refuse("dhchap_digests", &json!(names), allowed));
        }
    }
    if let Some(names) = parameters.strings("dhchap_dhgroups")? {
        groups = GroupSet::empty();
        let allowed =
            "a list of \"null\", \"ffdhe2048\", \"ffdhe3072\", \"ffdhe4096\", \"ffdhe6144\" and \"ffdhe8192\"";
        for name in &names {
            let group = GroupId::from_name(name);
            groups = groups.with(group.ok_or_else(|| parameters.refuse("dhchap_dhgroups", &json!(names), allowed))?);
        }
        if groups.is_empty() {
            return Err(parameters.refuse("dhchap_dhgroups", &json!(names), allowed));
        }
    }
    begin(view, parameters, Change::Amend(Amendment::SetAuthentication { hashes, groups }))
}
