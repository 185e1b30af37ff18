//! Checks a [`TargetSpec`]: what passes here needs no check later.

use bdev::Device;
use std::collections::BTreeSet;
use std::fmt::Display;

use super::devices::Devices;
use crate::limits as l;
use crate::namespace::DeviceIndex;
use crate::spec::{ControllerModel, ControllerSpec, HostLimits, NamespaceSpec, SubsystemSpec, TargetSpec};
use crate::wire::{DISCOVERY_NQN, Nqn};

/// Why a target cannot be made of a [`TargetSpec`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A field is out of range.
    #[error("{subject}: {field} is {value}: {allowed}")]
    Field {
        /// Of what.
        subject: String,
        /// Which field.
        field: &'static str,
        /// What it was.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// Whether `spec` is one that can be served by `cpu_count` CPUs.
pub(super) fn check(cpu_count: u16, spec: &TargetSpec) -> Result<(), SpecError> {
    let subject = "target";
    within(subject, "cpu_count", cpu_count, 1, l::CPU_COUNT_MAX)?;
    controller(&spec.controller)?;
    for (index, subsystem) in spec.subsystems.iter().enumerate() {
        check_addition(spec.subsystems[..index].iter(), subsystem, &spec.controller)?;
    }
    let of_namespaces = spec.subsystems.iter().flat_map(|subsystem| &subsystem.namespaces).map(|n| &n.device);
    let devices: BTreeSet<_> = spec.devices.iter().chain(of_namespaces).map(|device| device.name()).collect();
    within(subject, "devices (their number)", devices.len(), 0, l::DEVICE_COUNT_MAX)
}

/// Whether `spec` can be served beside the others.
pub(super) fn check_addition<'s>(
    others: impl Iterator<Item = &'s SubsystemSpec> + Clone,
    spec: &'s SubsystemSpec,
    controller: &ControllerSpec,
) -> Result<(), SpecError> {
    within("target", "subsystems (their number)", others.clone().count() + 1, 0, l::SUBSYSTEM_COUNT_MAX)?;
    if others.clone().any(|other| other.nqn == spec.nqn) {
        return refuse(&spec.nqn, "nqn", &spec.nqn, "a name that no other subsystem has");
    }
    check_subsystem(spec, controller.transfer_len_max)?;
    static_ids(others.clone(), spec)?;
    let mut devices = BTreeSet::new();
    for namespace in &spec.namespaces {
        if !devices.insert(namespace.device.name()) {
            let allowed = "a device that no other namespace of this target uses";
            return refuse(&named(spec, namespace), "device", namespace.device.name(), allowed);
        }
        unlike_others(others.clone().chain([spec]), spec, namespace)?;
    }
    Ok(())
}

/// The place of a device that nobody uses.
pub(super) fn free_device(nqn: &str, name: &str, devices: &Devices) -> Result<DeviceIndex, SpecError> {
    let refuse = |allowed: String| {
        let subject = format!("subsystem {nqn}");
        Err(SpecError::Field { subject, field: "device", value: name.into(), allowed })
    };
    match devices.find(name) {
        Ok(index) if devices.claim(index).is_some() => {
            refuse("a device that no other namespace and no other device uses".into())
        }
        Ok(index) => Ok(index),
        Err(error) => refuse(error.to_string()),
    }
}

/// A host that may have nothing in flight would be refused, not limited.
pub(super) fn host_limits(limits: &HostLimits) -> Result<(), SpecError> {
    within("hosts", "commands in flight", limits.command_count_max, 1, u32::MAX)?;
    within("hosts", "bytes in flight", limits.data_len_max, 1, u64::MAX)
}

fn controller(spec: &ControllerSpec) -> Result<(), SpecError> {
    let subject = "controller";
    host_limits(&spec.host)?;
    within(subject, "io_queue_count_max", spec.io_queue_count_max, 1, l::IO_QUEUE_COUNT_MAX)?;
    within(subject, "queue_depth_max", spec.queue_depth_max, l::QUEUE_DEPTH_MIN, l::QUEUE_DEPTH_MAX)?;
    let admin = spec.admin_queue_depth_max;
    within(subject, "admin_queue_depth_max", admin, l::ADMIN_QUEUE_DEPTH_MIN, l::QUEUE_DEPTH_MAX)?;
    within(subject, "transfer_len_max", spec.transfer_len_max, l::TRANSFER_LEN_MIN, l::TRANSFER_LEN_MAX)?;
    if !spec.transfer_len_max.is_power_of_two() {
        return refuse(subject, "transfer_len_max", spec.transfer_len_max, "a power of two");
    }
    within(subject, "in_capsule_len", spec.in_capsule_len, 0, l::IN_CAPSULE_LEN_MAX)?;
    if !spec.in_capsule_len.is_multiple_of(16) {
        return refuse(subject, "in_capsule_len", spec.in_capsule_len, "a multiple of 16");
    }
    Ok(())
}

fn check_subsystem(spec: &SubsystemSpec, transfer_len_max: u32) -> Result<(), SpecError> {
    let subject = format!("subsystem {}", spec.nqn);
    nqn(&subject, "nqn", &spec.nqn)?;
    if spec.nqn == DISCOVERY_NQN {
        return refuse(&subject, "nqn", &spec.nqn, "a name of its own: the discovery service is always there");
    }
    text(&subject, "serial_number", &spec.serial_number, 20)?;
    text(&subject, "model_number", &spec.model_number, 40)?;
    within(&subject, "hosts (their number)", spec.hosts.len(), 0, l::HOST_COUNT_MAX)?;
    for host in &spec.hosts {
        nqn(&subject, "hosts", host)?;
    }
    for (index, keys) in spec.host_keys.iter().enumerate() {
        nqn(&subject, "host_keys", &keys.host)?;
        if spec.host_keys[..index].iter().any(|other| other.host == keys.host) {
            return refuse(&subject, "host_keys", &keys.host, "each host once");
        }
        if !spec.hosts.contains(&keys.host) {
            return refuse(&subject, "host_keys", &keys.host, "a host of the subsystem's list");
        }
    }
    within(&subject, "listeners (their number)", spec.listeners.len(), 0, l::LISTENER_COUNT_MAX)?;
    for (index, listener) in spec.listeners.iter().enumerate() {
        if spec.listeners[..index].contains(listener) {
            return refuse(&subject, "listeners", listener, "each address once");
        }
    }
    within(&subject, "nsid_max", spec.nsid_max, 1, l::NSID_MAX)?;
    controller_ids(&subject, spec)?;
    for rule in &spec.ana {
        if !spec.reports_ana {
            return refuse(&subject, "ana", rule.listener, "nothing where ANA is not reported");
        }
        if !spec.listeners.contains(&rule.listener) {
            return refuse(&subject, "ana", rule.listener, "a listener of the subsystem");
        }
        within(&subject, "ana (its group)", rule.group.unwrap_or(1), 1, spec.nsid_max)?;
    }
    let mut nsids = BTreeSet::new();
    for candidate in &spec.namespaces {
        if !nsids.insert(candidate.nsid) {
            let allowed = "a number that no other namespace of the subsystem has";
            return refuse(&named(spec, candidate), "nsid", candidate.nsid, allowed);
        }
        namespace(spec, candidate, transfer_len_max)?;
    }
    Ok(())
}

fn controller_ids(subject: &str, spec: &SubsystemSpec) -> Result<(), SpecError> {
    let (first, last) = (*spec.controller_ids.start(), *spec.controller_ids.end());
    within(subject, "min_cntlid", first, 1, l::CONTROLLER_ID_MAX)?;
    within(subject, "max_cntlid", last, first, l::CONTROLLER_ID_MAX)
}

/// The ids of static controllers are few, and nobody else's.
fn static_ids<'s>(mut others: impl Iterator<Item = &'s SubsystemSpec>, spec: &SubsystemSpec) -> Result<(), SpecError> {
    if spec.controller_model != ControllerModel::Static {
        return Ok(());
    }
    let ids = &spec.controller_ids;
    let (subject, shown) = (format!("subsystem {}", spec.nqn), format!("{} to {}", ids.start(), ids.end()));
    if ids.len() > usize::from(l::STATIC_CONTROLLER_COUNT_MAX) {
        let allowed = format!("at most {} ids where controllers are static", l::STATIC_CONTROLLER_COUNT_MAX);
        return refuse(&subject, "min_cntlid, max_cntlid", shown, &allowed);
    }
    let overlaps = |other: &&SubsystemSpec| {
        other.controller_model == ControllerModel::Static
            && other.controller_ids.start() <= ids.end()
            && ids.start() <= other.controller_ids.end()
    };
    match others.find(overlaps) {
        Some(other) => {
            let allowed =
                format!("ids that no other subsystem with static controllers has, and {} has some", other.nqn);
            refuse(&subject, "min_cntlid, max_cntlid", shown, &allowed)
        }
        None => Ok(()),
    }
}

/// Whether a namespace can stand in its subsystem, whatever others there are.
fn namespace(spec: &SubsystemSpec, candidate: &NamespaceSpec, transfer_len_max: u32) -> Result<(), SpecError> {
    let subject = named(spec, candidate);
    within(&subject, "nsid", candidate.nsid, 1, spec.nsid_max)?;
    within(&subject, "anagrpid", candidate.ana_group(), 1, spec.nsid_max)?;
    within(&subject, "hosts (their number)", candidate.hosts.len(), 0, l::HOST_COUNT_MAX)?;
    for host in &candidate.hosts {
        nqn(&subject, "hosts", host)?;
    }
    if candidate.is_auto_visible && !candidate.hosts.is_empty() {
        return refuse(&subject, "hosts", candidate.hosts.len(), "none where every host sees the namespace");
    }
    // An identifier of zeroes is none [NVM Command Set 1.0, figure 97].
    if candidate.uuid.is_some_and(|uuid| uuid.is_nil()) {
        return refuse(&subject, "uuid", "zero", "not zero, or left out: it is derived then");
    }
    if candidate.nguid == Some([0; 16]) || candidate.eui64 == Some([0; 8]) {
        return refuse(&subject, "nguid or eui64", "zero", "not zero, or left out");
    }
    if spec.is_shared && (candidate.uuid.is_none() || candidate.nguid.is_none()) {
        let allowed = "given where the subsystem is shared: both targets have to say the same, and what is derived depends on the device's name";
        return refuse(&subject, "uuid and nguid", "left out", allowed);
    }
    check_record(&subject, spec, candidate)?;
    device(&subject, &*candidate.device, transfer_len_max)
}

fn check_record(subject: &str, spec: &SubsystemSpec, namespace: &NamespaceSpec) -> Result<(), SpecError> {
    let Some(kept) = &namespace.persistence else { return Ok(()) };
    if spec.is_shared {
        let allowed = "left out where the subsystem is shared: targets do not share reservations, so hosts are told that there are none";
        return refuse(subject, "persistence file", &kept.file, allowed);
    }
    if !spec.has_reservations() {
        let allowed = "left out where controllers are static: hosts are told that there are no reservations";
        return refuse(subject, "persistence file", &kept.file, allowed);
    }
    kept.record.check().or_else(|error| {
        let allowed =
            format!("reservations as this program writes them ({error}): move the file away to start without");
        refuse(subject, "persistence file", &kept.file, allowed)
    })
}

/// Whether a namespace can come into a subsystem that is there.
pub(super) fn check_namespace_addition<'s>(
    all: impl Iterator<Item = &'s SubsystemSpec>,
    spec: &SubsystemSpec,
    candidate: &NamespaceSpec,
    transfer_len_max: u32,
) -> Result<(), SpecError> {
    namespace(spec, candidate, transfer_len_max)?;
    if spec.namespaces.iter().any(|other| other.nsid == candidate.nsid) {
        let allowed = "a number that no other namespace of the subsystem has";
        return refuse(&named(spec, candidate), "nsid", candidate.nsid, allowed);
    }
    unlike_others(all, spec, candidate)
}

/// Identifiers are each namespace's own, in all subsystems [NVMe Base 2.0, 5.17.2.3].
fn unlike_others<'s>(
    all: impl Iterator<Item = &'s SubsystemSpec>,
    spec: &SubsystemSpec,
    candidate: &NamespaceSpec,
) -> Result<(), SpecError> {
    for (other_spec, other) in all.flat_map(|other| other.namespaces.iter().map(move |namespace| (other, namespace))) {
        if other_spec.nqn == spec.nqn && other.nsid == candidate.nsid {
            continue;
        }
        let field = if other.uuid.is_some() && other.uuid == candidate.uuid {
            "uuid"
        } else if other.nguid.is_some() && other.nguid == candidate.nguid {
            "nguid"
        } else if other.eui64.is_some() && other.eui64 == candidate.eui64 {
            "eui64"
        } else if let (Some(kept), Some(other_kept)) = (&candidate.persistence, &other.persistence)
            && kept.file == other_kept.file
        {
            let allowed = format!("a file of its own: {} has this one", named(other_spec, other));
            return refuse(&named(spec, candidate), "persistence file", &kept.file, allowed);
        } else {
            continue;
        };
        let allowed = format!("its own: {} has the same", named(other_spec, other));
        return refuse(&named(spec, candidate), field, "taken", allowed);
    }
    Ok(())
}

/// Whether a device can be a namespace's.
pub(super) fn device(subject: &str, device: &dyn Device, transfer_len_max: u32) -> Result<(), SpecError> {
    let geometry = device.geometry();
    if !matches!(geometry.block_len, 512 | 4096) {
        return refuse(subject, "device's block length", geometry.block_len, "512 or 4096");
    }
    if geometry.block_count == 0 {
        return refuse(subject, "device's block count", geometry.block_count, "at least 1");
    }
    let block_count_max = u64::from(transfer_len_max / geometry.block_len);
    if geometry.operation_block_count_max < block_count_max {
        let allowed = format!("at least {block_count_max}, the blocks of the largest transfer");
        return refuse(subject, "device's largest operation", geometry.operation_block_count_max, allowed);
    }
    let alignment = geometry.data_alignment;
    if !alignment.is_power_of_two() || alignment > l::BUFFER_ALIGNMENT {
        let allowed = format!("a power of two of at most {}", l::BUFFER_ALIGNMENT);
        return refuse(subject, "device's data alignment", alignment, allowed);
    }
    Ok(())
}

/// A legal name.
pub(super) fn nqn(subject: &str, field: &'static str, value: &str) -> Result<Nqn, SpecError> {
    Nqn::new(value).map_err(|error| SpecError::Field {
        subject: subject.into(),
        field,
        value: value.into(),
        allowed: error.to_string(),
    })
}

/// ASCII without control characters, which is padded with spaces on the wire [NVMe 1.4, 1.5].
fn text(subject: &str, field: &'static str, value: &str, len_max: usize) -> Result<(), SpecError> {
    if value.is_empty() || value.len() > len_max || !value.bytes().all(|byte| matches!(byte, 0x20..=0x7E)) {
        return refuse(subject, field, format!("{value:?}"), format!("1 to {len_max} printable ASCII characters"));
    }
    Ok(())
}

pub(super) fn within<T: PartialOrd + Display>(
    subject: &str,
    field: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), SpecError> {
    if value < least || value > most {
        return refuse(subject, field, value, format!("{least} to {most}"));
    }
    Ok(())
}

fn named(subsystem: &SubsystemSpec, namespace: &NamespaceSpec) -> String {
    format!("namespace {} of subsystem {}", namespace.nsid, subsystem.nqn)
}

fn refuse(
    subject: &str,
    field: &'static str,
    value: impl Display,
    allowed: impl Into<String>,
) -> Result<(), SpecError> {
    Err(SpecError::Field { subject: subject.into(), field, value: value.to_string(), allowed: allowed.into() })
}
