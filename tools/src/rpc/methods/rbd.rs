//! `bdev_rbd_…`: images of Ceph clusters, under SPDK's names and parameters, and what SPDK has not: the image's lock, by which one target takes an image over
//! from another.
//!
//! Everything here that asks a cluster does so on a thread of its own, and is answered when it is done.

use std::path::PathBuf;
use std::sync::Arc;

use ::bdev::{Ceph, Cluster, ClusterOptions, Device, Rbd, RbdOptions, Standing};
use nvmf_core::ChangeId;
use serde_json::{Value, json};

use super::{View, Work, device, subsystem};
use crate::clusters::Refusal;
use crate::config::{DeviceKind, DeviceSection, RbdCluster, RbdSection};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// SPDK counts `new_size` in these.
const MIB: u64 = 1 << 20;

pub(super) fn create(view: View<'_>, parameters: &Parameters<'_>) -> Result<(ChangeId, Value), RpcError> {
    let name = match parameters.string("name")? {
        Some(name) => name.to_owned(),
        None => device::free_name(&view, "Ceph"),
    };
    let pool = parameters.needed_string("pool_name", "the name of a pool")?;
    let image = parameters.needed_string("rbd_name", "the name of an image")?;
    let text = |field| Ok::<_, RpcError>(parameters.string(field)?.map(str::to_owned));
    let block_len = device::block_len(parameters)?;
    let block_len = block_len.ok_or_else(|| parameters.missing("block_size", "512 or 4096"))?;
    let settings = parameters.texts("config")?.unwrap_or_default();
    let user = text("user_id")?;
    let config_file = text("config_file")?.map(PathBuf::from);
    let key_file = text("key_file")?.map(PathBuf::from);
    let shared = match parameters.string("cluster_name")? {
        None => None,
        Some(cluster) if view.clusters.find(cluster).is_none() => return Err(RpcError::no_such("cluster", cluster)),
        Some(cluster) => Some(cluster.to_owned()),
    };
    if shared.is_some() && (user.is_some() || config_file.is_some() || key_file.is_some() || !settings.is_empty()) {
        return Err(parameters.out_of_place(
            "cluster_name",
            "user_id, config_file, key_file and config were given when the cluster was registered",
        ));
    }
    let own = || RbdCluster::Own(ClusterOptions { config_file, user, settings, key_file });
    let kind = DeviceKind::Rbd(RbdSection {
        pool: pool.to_owned(),
        image: image.to_owned(),
        namespace: text("namespace_name")?,
        snapshot: text("snapshot_name")?,
        cluster: shared.map_or_else(own, RbdCluster::Shared),
        read_only: parameters.boolean("read_only")?.unwrap_or(false),
        fenced: parameters.boolean("fenced")?.unwrap_or(false),
        queue_depth: device::queue_depth(parameters, RbdOptions::new(pool, image).queue_depth)?,
    });
    device::make(view, parameters, DeviceSection::new(&name, block_len, kind))
}

pub(super) fn delete(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    find(&view, parameters)?;
    device::delete(view, parameters)
}

pub(super) fn resize(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let device = find(&view, parameters)?;
    let new_size = parameters.number_in("new_size", 0..=u64::MAX / MIB)?;
    let new_size =
        new_size.ok_or_else(|| parameters.missing("new_size", "the new size in MiB; 0: what the image has"))?;
    let block_count = new_size * MIB / u64::from(device.geometry().block_len);
    let resized = Arc::clone(&device);
    let work: Work = Box::new(move || {
        // As with SPDK, 0 asks how large the image is now.
        if block_count == 0 {
            resized.rescan()?
        } else {
            resized.resize(block_count)?
        }
        Ok(())
    });
    begin(view, parameters, Some(device.name().to_owned()), work)
}

/// SPDK has none. It does not set ANA states, and it need not be called before they are set: a device without its lock answers with path errors whatever its
/// state says, so that no order of the two can do harm. The target sets the states of the namespace's ANA group as the lock comes and goes.
pub(super) fn acquire_lock(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    change_lock(view, parameters, Rbd::acquire_lock)
}

/// SPDK has none.
pub(super) fn release_lock(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    change_lock(view, parameters, Rbd::release_lock)
}

fn change_lock(
    view: View<'_>,
    parameters: &Parameters<'_>,
    change: fn(&Rbd) -> Result<(), ::bdev::BdevError>,
) -> Result<ChangeId, RpcError> {
    let device = find(&view, parameters)?;
    let name = device.name().to_owned();
    let work: Work = Box::new(move || {
        if let Some(rbd) = device.as_rbd() {
            change(rbd)?;
        }
        Ok(())
    });
    begin(view, parameters, Some(name), work)
}

pub(super) fn register_cluster(view: View<'_>, parameters: &Parameters<'_>) -> Result<(ChangeId, Value), RpcError> {
    let name = parameters.needed_string("name", "the name that devices call it by")?.to_owned();
    if let Some(mask) = parameters.string("core_mask")? {
        let why = "threads of Ceph's libraries may use every CPU here that the process may: leave it out";
        tracing::debug!(mask, "{why}");
        return Err(parameters.out_of_place("core_mask", why));
    }
    let path = |field| Ok::<_, RpcError>(parameters.string(field)?.map(PathBuf::from));
    let options = ClusterOptions {
        config_file: path("config_file")?,
        user: parameters.string("user_id")?.map(str::to_owned),
        key_file: path("key_file")?,
        settings: parameters.texts("config_param")?.unwrap_or_default(),
    };
    let clusters = view.clusters.clone();
    if !clusters.keep(&name) {
        return Err(parameters.refuse("name", &json!(name), "a name that no other cluster has"));
    }
    let (kept, made_name) = (clusters.clone(), name.clone());
    let work: Work = Box::new(move || {
        let connected = Ceph::load(&made_name).and_then(|ceph| Cluster::connect(&made_name, &ceph, options));
        clusters.put(&made_name, connected.as_ref().ok().cloned());
        connected?;
        Ok(())
    });
    match begin(view, parameters, None, work) {
        Ok(change) => Ok((change, json!(name))),
        Err(error) => {
            kept.put(&name, None);
            Err(error)
        }
    }
}

pub(super) fn unregister_cluster(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let name = parameters.needed_string("name", "the name of a cluster")?;
    let cluster = view.clusters.take(name).map_err(|refusal| match refusal {
        Refusal::Unknown => RpcError::no_such("cluster", name),
        Refusal::InUse => parameters.not_now("a device uses the cluster: delete the device first"),
    })?;
    let work: Work = Box::new(move || {
        drop(cluster);
        Ok(())
    });
    begin(view, parameters, None, work)
}

pub(super) fn get_clusters_info(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let name = parameters.string("name")?;
    let described = |(cluster_name, cluster): (String, Arc<Cluster>)| {
        let mut described = json!({ "cluster_name": cluster_name });
        describe_cluster(cluster.options(), &mut described);
        described
    };
    let chosen = view.clusters.all().into_iter().filter(|(known, _)| name.is_none_or(|name| name == known));
    let mut chosen: Vec<Value> = chosen.map(described).collect();
    match name {
        None => Ok(Value::Array(chosen)),
        // As SPDK: one is not in a list.
        Some(name) => chosen.pop().ok_or_else(|| RpcError::no_such("cluster", name)),
    }
}

/// For `bdev_get_bdevs`.
pub(super) fn describe(rbd: &Rbd) -> Value {
    let options = rbd.options();
    let mut described = json!({ "pool_name": options.pool, "rbd_name": options.image });
    for (field, value) in [("namespace_name", &options.namespace), ("snapshot_name", &options.snapshot)] {
        if let Some(value) = value {
            described[field] = json!(value);
        }
    }
    describe_cluster(rbd.cluster_options(), &mut described);
    if options.fenced {
        described["lock"] = json!(match rbd.standing() {
            Standing::Holder => "held",
            Standing::Lost => "lost",
            Standing::Standby | Standing::Open => "not held",
        });
    }
    json!({ "rbd": described })
}

fn describe_cluster(options: &ClusterOptions, described: &mut Value) {
    if let Some(user) = &options.user {
        described["user_id"] = json!(user);
    }
    if let Some(file) = &options.config_file {
        described["config_file"] = json!(file.display().to_string());
    }
    if let Some(file) = &options.key_file {
        described["key_file"] = json!(file.display().to_string());
    }
    if !options.settings.is_empty() {
        described["config_param"] = options.settings.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    }
}

fn begin(
    view: View<'_>,
    parameters: &Parameters<'_>,
    device: Option<String>,
    work: Work,
) -> Result<ChangeId, RpcError> {
    view.target.work(device, work).map_err(|error| subsystem::refusal(parameters, &error))
}

/// The image's device of this name.
fn find(view: &View<'_>, parameters: &Parameters<'_>) -> Result<Arc<dyn Device>, RpcError> {
    let name = device::needed_name(parameters)?;
    let devices = view.target.devices();
    match devices.iter().find(|facts| facts.device.name() == name) {
        None => Err(RpcError::no_such("bdev", name)),
        Some(facts) if facts.device.as_rbd().is_none() => {
            Err(parameters.refuse("name", &json!(name), "that of a device of bdev_rbd_create, or of type \"rbd\""))
        }
        Some(facts) => Ok(Arc::clone(facts.device)),
    }
}
