//! `bdev_…`: devices that are made, grown and deleted while the target runs, under SPDK's names and parameters.
//!
//! What SPDK has and these devices have not (metadata, protection information) is taken where it says *none* and refused otherwise.

use std::path::PathBuf;

use ::bdev::{FileOptions, NvmeOptions};
use nvmf_core::ChangeId;
use nvmf_core::target::Amendment;
use serde_json::{Value, json};
use transport_rdma::target::Change;

use super::{TargetAccess, View, subsystem};
use crate::config::{DeviceKind, DeviceSection};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// SPDK counts `new_size` in these.
const MIB: u64 = 1 << 20;

pub(super) fn create_malloc(view: View<'_>, parameters: &Parameters<'_>) -> Result<(ChangeId, Value), RpcError> {
    refuse_metadata(parameters)?;
    let name = match parameters.string("name")? {
        Some(name) => name.to_owned(),
        None => free_name(&view, "Malloc"),
    };
    let (block_len, block_count) = size(parameters)?;
    let kind = DeviceKind::Memory { len: block_count * u64::from(block_len) };
    make(view, parameters, DeviceSection::new(&name, block_len, kind))
}

pub(super) fn create_null(view: View<'_>, parameters: &Parameters<'_>) -> Result<(ChangeId, Value), RpcError> {
    refuse_metadata(parameters)?;
    let name = needed_name(parameters)?.to_owned();
    let (block_len, block_count) = size(parameters)?;
    let kind = DeviceKind::Null { len: block_count * u64::from(block_len) };
    make(view, parameters, DeviceSection::new(&name, block_len, kind))
}

/// Both of SPDK's devices on files are ours on io_uring.
pub(super) fn create_file(view: View<'_>, parameters: &Parameters<'_>) -> Result<(ChangeId, Value), RpcError> {
    let name = needed_name(parameters)?.to_owned();
    let path = PathBuf::from(parameters.needed_string("filename", "the path of a file or block device")?);
    let block_len = block_len(parameters)?.unwrap_or(FileOptions::default().block_len);
    let read_only = parameters.boolean("readonly")?.unwrap_or(false);
    // Whether SPDK zeroes by fallocate: ours finds out by itself what the file can do.
    parameters.boolean("fallocate")?;
    let kind =
        DeviceKind::File { path, read_only, queue_depth: queue_depth(parameters, FileOptions::default().queue_depth)? };
    make(view, parameters, DeviceSection::new(&name, block_len, kind))
}

/// SPDK's device on local drives by the kernel's driver is ours on io_uring's passthrough.
pub(super) fn create_nvme(view: View<'_>, parameters: &Parameters<'_>) -> Result<(ChangeId, Value), RpcError> {
    let name = needed_name(parameters)?.to_owned();
    let path = parameters.needed_string("filename", "the path of a drive's generic character device: /dev/ng0n1")?;
    match parameters.string("io_mechanism")? {
        None | Some("io_uring_cmd") => {}
        Some(other) => {
            let allowed = "io_uring_cmd or left out: bdev_uring_create serves block devices by io_uring";
            return Err(parameters.refuse("io_mechanism", &json!(other), allowed));
        }
    }
    // Whether SPDK waits for completions by interrupts. Here the target's poll mode decides whether CPUs sleep.
    if parameters.boolean("conserve_cpu")? == Some(false) {
        let allowed =
            "true or left out: completions come by interrupts, and framework_set_poll_mode says whether CPUs sleep";
        return Err(parameters.refuse("conserve_cpu", &json!(false), allowed));
    }
    let kind = DeviceKind::Nvme {
        path: PathBuf::from(path),
        read_only: parameters.boolean("readonly")?.unwrap_or(false),
        queue_depth: queue_depth(parameters, NvmeOptions::default().queue_depth)?,
    };
    // The drive says what its blocks are.
    make(view, parameters, DeviceSection::new(&name, 512, kind))
}

/// Operations with the kernel or a library at a time, on each CPU; SPDK has no such parameter.
pub(super) fn queue_depth(parameters: &Parameters<'_>, default: u32) -> Result<u32, RpcError> {
    let depth = parameters.number_in("queue_depth", 1..=4096)?;
    Ok(depth.and_then(|depth| u32::try_from(depth).ok()).unwrap_or(default))
}

pub(super) fn delete(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    begin_delete(view.target, parameters, needed_name(parameters)?.to_owned())
}

pub(super) fn begin_delete(
    target: &mut dyn TargetAccess,
    parameters: &Parameters<'_>,
    name: String,
) -> Result<ChangeId, RpcError> {
    let change = target.change(Change::Amend(Amendment::DeleteDevice { name }));
    change.map_err(|error| subsystem::refusal(parameters, &error))
}

pub(super) fn rescan(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let name = needed_name(parameters)?.to_owned();
    subsystem::begin(view, parameters, Change::Amend(Amendment::RescanDevice { name }))
}

pub(super) fn reset(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let name = needed_name(parameters)?.to_owned();
    subsystem::begin(view, parameters, Change::Amend(Amendment::ResetDevice { name }))
}

pub(super) fn resize_null(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let name = needed_name(parameters)?.to_owned();
    let allowed = 1..=u64::MAX / MIB;
    let new_size = parameters.number_in("new_size", allowed)?;
    let new_size = new_size.ok_or_else(|| parameters.missing("new_size", "the new size in MiB"))?;
    let devices = view.target.devices();
    let block_len = devices.iter().find(|facts| facts.device.name() == name).map(|f| f.device.geometry().block_len);
    // Whether there is such a device is said below.
    let block_count = new_size * MIB / u64::from(block_len.unwrap_or(512));
    subsystem::begin(view, parameters, Change::Amend(Amendment::ResizeDevice { name, block_count }))
}

/// Begins a device.
pub(super) fn make(
    view: View<'_>,
    parameters: &Parameters<'_>,
    section: DeviceSection,
) -> Result<(ChangeId, Value), RpcError> {
    let name = section.name.clone();
    // SPDK gives the device's UUID to its namespace; here namespaces have their own, which nvmf_subsystem_add_ns takes.
    if let Some(uuid) = parameters.string("uuid")? {
        let why = "belongs to the namespace here: give it to nvmf_subsystem_add_ns";
        tracing::debug!(uuid, "{why}");
        return Err(parameters.out_of_place("uuid", why));
    }
    if name.is_empty() {
        return Err(parameters.refuse("name", &json!(name), "a name"));
    }
    let change = view.target.make_device(section);
    let change = change.map_err(|error| subsystem::refusal(parameters, &error))?;
    Ok((change, json!(name)))
}

pub(super) fn needed_name<'a>(parameters: &Parameters<'a>) -> Result<&'a str, RpcError> {
    parameters.needed_string("name", "the name of a device")
}

/// Length of a block, and blocks.
fn size(parameters: &Parameters<'_>) -> Result<(u32, u64), RpcError> {
    let block_len = block_len(parameters)?;
    let block_len = block_len.ok_or_else(|| parameters.missing("block_size", "512 or 4096"))?;
    let most = (1_u64 << 50) / u64::from(block_len);
    let block_count = parameters.number_in("num_blocks", 1..=most)?;
    Ok((block_len, block_count.ok_or_else(|| parameters.missing("num_blocks", "the number of blocks"))?))
}

pub(super) fn block_len(parameters: &Parameters<'_>) -> Result<Option<u32>, RpcError> {
    match parameters.number("block_size")? {
        None => Ok(None),
        Some(512) => Ok(Some(512)),
        Some(4096) => Ok(Some(4096)),
        Some(other) => Err(parameters.refuse("block_size", &json!(other), "512 or 4096")),
    }
}

/// What these devices have not.
fn refuse_metadata(parameters: &Parameters<'_>) -> Result<(), RpcError> {
    for name in ["md_size", "dif_type", "dif_pi_format", "optimal_io_boundary"] {
        if let Some(value @ 1..) = parameters.number(name)? {
            return Err(parameters.refuse(name, &json!(value), "0 or left out: these devices have none"));
        }
    }
    for name in ["md_interleave", "dif_is_head_of_md"] {
        if parameters.boolean(name)? == Some(true) {
            return Err(parameters.refuse(name, &json!(true), "false or left out: these devices have no metadata"));
        }
    }
    if let Some(physical) = parameters.number("physical_block_size")?
        && parameters.number("block_size")?.is_some_and(|block_len| block_len != physical)
    {
        return Err(parameters.refuse("physical_block_size", &json!(physical), "block_size or left out"));
    }
    Ok(())
}

/// As SPDK names them.
pub(super) fn free_name(view: &View<'_>, stem: &str) -> String {
    let devices = view.target.devices();
    let is_taken = |name: &String| devices.iter().any(|facts| facts.device.name() == name);
    (0_u32..).map(|number| format!("{stem}{number}")).find(|name| !is_taken(name)).unwrap_or_default()
}
