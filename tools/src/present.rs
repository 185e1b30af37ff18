//! What a running target is, as the configuration that would start it: for saving it, and for telling what a new file changes.

use std::path::{Path, PathBuf};

use bdev::Layer;
use nvmf_core::spec::{NamespaceSpec, SubsystemSpec};
use nvmf_core::target::{DeviceFacts, NamespaceRequest};

use crate::config::{
    ClusterSection, Config, DeviceKind, DeviceSection, HostKeySection, KeySection, LimitsSection, NamespaceSection,
    PlacementSection, SubsystemSection,
};
use crate::rpc::methods::View;

/// What was asked for, of what there is.
#[derive(Debug)]
pub struct Asked {
    /// What the target was started with; what no request changes is in it.
    started: Config,
    /// The file that says so.
    file: Option<PathBuf>,
    /// How devices were described, each after what it is made of.
    devices: Vec<DeviceSection>,
}

impl Asked {
    /// Of a target whose file says `started`, and which starts with what requests had made of that.
    #[must_use]
    pub fn new(started: Config, with: &Config, file: Option<PathBuf>) -> Self {
        let devices = with.devices.clone();
        Self { started, file, devices }
    }

    /// The configuration file.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Its file says something else by now, and so it is.
    pub fn start_anew(&mut self, started: Config) {
        self.started = started;
    }

    /// What the target was started with, or last told by its file.
    #[must_use]
    pub fn started(&self) -> &Config {
        &self.started
    }

    /// A device was made.
    pub fn add(&mut self, device: DeviceSection) {
        self.devices.retain(|other| other.name != device.name);
        self.devices.push(device);
    }

    /// A device is gone.
    pub fn forget(&mut self, name: &str) {
        self.devices.retain(|device| device.name != name);
    }
}

/// The configuration that `view` would be started with to be what it is.
#[must_use]
pub fn config(view: &View<'_>) -> Config {
    let started = &view.asked.started;
    let facts = view.target.devices();
    let described = |section: &DeviceSection| {
        let facts = facts.iter().find(|facts| facts.device.name() == section.name)?;
        Some(device(section, facts))
    };
    let polling = view.reactors.polling();
    let numbers: Vec<usize> = polling.filter_map(|place| place.number).collect();
    let mut target = started.target.clone();
    if let Some(place) = view.reactors.polling().next() {
        target.poll_mode = place.switch.mode();
    }
    target.turn_limit_us = view.reactors.watch().limit_ns() / 1000;
    target.stall_limit_ms = view.reactors.stall_limit_ns() / 1_000_000;
    let mut log = started.log.clone();
    log.level = view.log.level();
    Config {
        target,
        log,
        placement: (view.target.placement().iter())
            .map(|rule| PlacementSection {
                origin: rule.origin,
                cpus: rule.cpus.iter().filter_map(|cpu| numbers.get(usize::from(*cpu)).copied()).collect(),
            })
            .collect(),
        limits: LimitsSection {
            host_queue_pair_count_max: view.target.host_queue_pair_limit(),
            host: view.target.host_limits(),
        },
        clusters: (view.clusters.all().into_iter())
            .map(|(name, cluster)| ClusterSection { name, options: cluster.options().clone() })
            .collect(),
        devices: view.asked.devices.iter().filter_map(described).collect(),
        subsystems: view.target.subsystems().into_iter().map(|spec| subsystem(view, spec)).collect(),
        referrals: view.target.referrals().into_iter().cloned().collect(),
        keys: (view.keyring.borrow().list())
            .map(|(name, path)| KeySection { name: name.to_owned(), path: path.to_owned() })
            .collect(),
        authentication: view.target.authentication(),
        ..started.clone()
    }
}

/// As it was described, with what has changed since.
fn device(section: &DeviceSection, facts: &DeviceFacts<'_>) -> DeviceSection {
    let geometry = facts.device.geometry();
    let len_now = geometry.block_count * u64::from(geometry.block_len);
    let kind = match (&section.kind, facts.device.layer()) {
        (DeviceKind::Null { .. }, _) => DeviceKind::Null { len: len_now },
        (DeviceKind::Delay { base, seed, .. }, Some(Layer::Delay(delay))) => {
            DeviceKind::Delay { base: base.clone(), seed: *seed, latencies: delay.latencies() }
        }
        (kind, _) => kind.clone(),
    };
    DeviceSection { kind, limits: facts.throttle.limits(), ..section.clone() }
}

fn subsystem(view: &View<'_>, spec: &SubsystemSpec) -> SubsystemSection {
    SubsystemSection {
        nqn: spec.nqn.clone(),
        serial_number: spec.serial_number.clone(),
        model_number: spec.model_number.clone(),
        allow_any_host: spec.allow_any_host,
        hosts: spec.hosts.clone(),
        host_keys: (spec.host_keys.iter())
            .map(|keys| HostKeySection {
                host: keys.host.clone(),
                key: keys.key.name.clone(),
                controller_key: keys.controller_key.as_ref().map(|key| key.name.clone()),
            })
            .collect(),
        listeners: spec.listeners.clone(),
        namespaces: spec.namespaces.iter().map(|namespace| self::namespace(view, &spec.nqn, namespace)).collect(),
        nsid_max: spec.nsid_max,
        controller_ids: spec.controller_ids.clone(),
        controller_model: spec.controller_model,
        is_shared: spec.is_shared,
        reports_ana: spec.reports_ana,
        ana: spec.ana.clone(),
    }
}

/// What was derived is left out: it is derived again.
fn namespace(view: &View<'_>, nqn: &str, spec: &NamespaceSpec) -> NamespaceSection {
    let request = NamespaceRequest {
        nsid: spec.nsid,
        device: spec.device.name().to_owned(),
        uuid: None,
        nguid: None,
        eui64: None,
        ana_group: None,
        is_auto_visible: true,
        persistence_file: None,
    };
    let derived = request.uuid_in(nqn);
    let in_directory = view.state.map(|state| state.file(nqn, spec.uuid.unwrap_or(derived)));
    let file = spec.persistence.as_ref().map(|kept| PathBuf::from(&*kept.file));
    NamespaceSection {
        device: request.device,
        nsid: spec.nsid,
        uuid: spec.uuid.filter(|uuid| *uuid != derived),
        nguid: spec.nguid,
        eui64: spec.eui64,
        ana_group: spec.ana_group,
        is_auto_visible: spec.is_auto_visible,
        hosts: spec.hosts.clone(),
        ptpl_file: file.filter(|file| Some(file) != in_directory.as_ref()),
    }
}
