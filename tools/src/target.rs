//! A configuration becomes a running target: devices, the transport, the mesh of reactors.
//!
//! What a person gets wrong first (a port in use, a missing file, a second instance) is met before anything runs, and is one error with a way out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bdev::{Cluster, Device};
use nvmf_core::spec::{
    AuthenticationSpec, ControllerModel, ControllerSpec, NamespaceSpec, Persistence, SubsystemSpec, TargetSpec,
};
use nvmf_core::target::DeviceFacts;
use reactor::{
    ArenaOptions, Cpu, Domain, HugepagePlan, Hugepages, NumaNode, Placement, Program, ReactorOptions, Runtime,
    RuntimeBuilder,
};
use transport_rdma::ibv::IbvOptions;
use transport_rdma::soft::shared::{SharedOptions, SharedProvider};
use transport_rdma::target::{Assembled, BuildError, Message, PlacementRule, TargetOptions, build};
use transport_rdma::verbs::Provider;

use crate::clusters::Clusters;
use crate::config::{
    Config, DeviceKind, DeviceSection, NamespaceSection, PlacementSection, ReactorSection, Size, Step, SubsystemSection,
};
use crate::control::{ControlParts, ControlProgram, Facts, Listener};
use crate::fabric::{self, Fabric};
use crate::keeper::{self, Keeper, StateDirectory};
use crate::keyring::Keyring;
use crate::log::Log;
use crate::machine;
use crate::notify::Notifier;
use crate::opening::Means;
use crate::poll_mode;
use crate::present::Asked;
use crate::reactors::Reactors;
use crate::saved::SavedFile;
use crate::system;
pub use crate::system::Signals;
use crate::workers;

/// Messages that each ring between two reactors holds; more wait in the sender's backlog.
const RING_CAPACITY: usize = 1024;

/// What a target starts with.
#[derive(Debug)]
pub struct Start {
    /// What it is.
    pub config: Config,
    /// The file that says so, which can be read again.
    pub file: Option<PathBuf>,
    /// Calls that are performed before it is ready.
    pub first: Vec<Step>,
    /// Addresses that those calls have it listen on.
    pub listened: Vec<SocketAddr>,
}

/// Starts a target and waits for its end. `signals` were blocked before the process had other threads.
///
/// # Errors
/// Anything that keeps it from starting.
pub fn run(start: Start, signals: Signals, log: Log) -> Result<()> {
    let Start { config: of_file, file, first, listened } = start;
    let state = of_file.target.state_directory.as_deref().map(StateDirectory::open).transpose();
    let state = state.context("target.state_directory")?;
    let saved = state.as_ref().filter(|_| of_file.target.saves_changes).map(SavedFile::in_directory);
    let config = match &saved {
        Some(saved) => &saved.merged(&of_file, &machine::cpus_allowed())?,
        None => &of_file,
    };
    let asked = Asked::new(of_file.clone(), config, file);
    say_cpus(config);
    match system::raise_descriptor_limit() {
        Ok(limit) => tracing::debug!(limit, "descriptors"),
        Err(error) => {
            tracing::warn!(%error, "the limit of descriptors stays as it is: many hosts may need more (ulimit -n)")
        }
    }
    let fabric = fabric::choose(config, &listened)?;
    let memory = memory_plan(config, fabric.device_count())?;
    tracing::info!("{memory}");
    say_spare_devices(config);
    check_memory(&memory)?;
    // Before the other parts: cheap, and the likeliest to be wrong on a machine where a target runs already.
    let listeners = listen(config)?;
    let notifier = Notifier::from_environment();
    let outside = Outside { signals, notifier, listeners, log, state, saved, asked, first };
    let runtime = match fabric {
        Fabric::Soft => {
            let options = SharedOptions { directory: config.transport.runtime_dir.clone(), ..SharedOptions::default() };
            let provider = SharedProvider::new(options).context("the software fabric")?;
            self::start(config, provider, outside, build)?
        }
        Fabric::Ibv(devices) => start_on_devices(config, devices, outside)?,
    };
    runtime.join();
    if !bdev::wait_until_closed(CLOSE_PATIENCE) {
        tracing::warn!(
            "a Ceph cluster does not close an image: its lock and its watch stay until the cluster misses them"
        );
    }
    tracing::info!("ended");
    Ok(())
}

#[cfg(feature = "ibv")]
fn start_on_devices(config: &Config, devices: Vec<IbvOptions>, outside: Outside) -> Result<Runtime> {
    use transport_rdma::ibv::IbvProvider;
    use transport_rdma::target::build_several;
    use transport_rdma::verbs::Several;

    let what = "transport.provider = \"ibv\"";
    let mut providers = devices.into_iter().map(IbvProvider::open).collect::<Result<Vec<_>, _>>().context(what)?;
    if providers.len() == 1 {
        return start(config, providers.remove(0), outside, build);
    }
    // Each says which addresses are its own.
    let provider = Several::new(providers, Box::new(|_| None)).context(what)?;
    start(config, provider, outside, build_several)
}

#[cfg(not(feature = "ibv"))]
fn start_on_devices(_config: &Config, _devices: Vec<IbvOptions>, _outside: Outside) -> Result<Runtime> {
    Err(transport_rdma::ibv::not_built().into())
}

/// What the control plane gets from outside.
struct Outside {
    signals: Signals,
    notifier: Notifier,
    listeners: Vec<Listener>,
    log: Log,
    state: Option<StateDirectory>,
    saved: Option<SavedFile>,
    asked: Asked,
    first: Vec<Step>,
}

/// How a target is put together, for one device or several.
type Build<P, const SEVERAL: bool> =
    fn(P, &Domain, TargetSpec, TargetOptions) -> Result<Assembled<P, SEVERAL>, BuildError>;

fn start<P, const SEVERAL: bool>(
    config: &Config,
    provider: P,
    outside: Outside,
    build: Build<P, SEVERAL>,
) -> Result<Runtime>
where
    P: Provider + Send,
    P::Port: Send,
{
    let means = Means { huge_pages: config.target.hugepages, clusters: clusters(config)? };
    let mut devices: Vec<Arc<dyn Device>> = Vec::new();
    for section in &config.devices {
        devices.push(means.open(section, base_of(section, &devices))?);
    }
    let mut builder: RuntimeBuilder<Message<P>> =
        RuntimeBuilder::new(&reactor_options(config), RING_CAPACITY).context("target.cpus")?;
    let reactors = Reactors::of(&builder, &config.target.reactors, machine::cpus_allowed());
    reactors.watch().set_limit_ns(config.target.turn_limit_us * 1000);
    reactors.set_stall_limit_ns(config.target.stall_limit_ms * 1_000_000);

    let options = target_options(config, provider.device_count())?;
    let cpu_count = options.cpu_count;
    let keyring = keyring(config)?;
    let Outside { signals, notifier, listeners, log, state, saved, asked, first } = outside;
    let spec = target_spec(config, &devices, &keyring, state.as_ref())?;
    let (control, cpus) = build(provider, builder.domain(), spec, options)?;
    set_limits(config, control.core().devices());
    for subsystem in &config.subsystems {
        let listeners = subsystem.listeners.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        tracing::info!(nqn = subsystem.nqn, listeners, namespaces = subsystem.namespaces.len(), "subsystem");
    }

    let facts = Facts {
        reactors,
        queue_pair_count_max: config.target.queue_pair_count_max,
        directory: control.core().directory(),
    };
    let shutdown_deadline_ns = u64::from(config.target.shutdown_deadline_s) * 1_000_000_000;
    let keeper = Keeper::start(state).context("starting the thread that keeps reservations")?;
    let parts = ControlParts {
        control,
        facts,
        log,
        keyring,
        signals,
        notifier,
        listeners,
        shutdown_deadline_ns,
        keeper,
        means,
        asked,
        saved,
        first,
    };
    let program = ControlProgram::new(parts).context("epoll for the control plane")?;
    for (cpu, program) in (0..cpu_count).zip(cpus) {
        spawn(&mut builder, Cpu(cpu), &format!("poll-{cpu}"), program)?;
    }
    spawn(&mut builder, Cpu(cpu_count), "control", program)?;
    Ok(builder.start())
}

/// Those that poll, then the control plane.
fn reactor_options(config: &Config) -> Vec<ReactorOptions> {
    let placed = |placement| ReactorOptions { placement, poll_mode: config.target.poll_mode };
    let mut reactors: Vec<_> = match &config.target.reactors {
        ReactorSection::Pinned(cpus) => {
            cpus.iter().map(|os_cpu| placed(Placement::Pinned { os_cpu: *os_cpu })).collect()
        }
        ReactorSection::Floating(count) => (0..*count).map(|_| placed(Placement::Floating)).collect(),
    };
    reactors.push(ReactorOptions::sleeping());
    reactors
}

fn spawn<P>(builder: &mut RuntimeBuilder<P::Message>, cpu: Cpu, name: &str, program: P) -> Result<()>
where
    P: Program + Send + 'static,
{
    builder.spawn(cpu, name, move || program).with_context(|| format!("starting thread {name}"))
}

fn listen(config: &Config) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    match &config.rpc {
        Some(path) => {
            listeners.push(Listener::rpc(path)?);
            tracing::info!(socket = %path.display(), "JSON-RPC");
        }
        None => tracing::info!("JSON-RPC: none, since there is no [rpc]"),
    }
    match config.metrics {
        Some(address) => {
            listeners.push(Listener::metrics(address)?);
            tracing::info!(url = format!("http://{address}/metrics"), "metrics");
        }
        None => tracing::info!("metrics: none, since there is no [metrics]"),
    }
    Ok(listeners)
}

/// How long clusters have to close images at the end.
pub(crate) const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// The device that another is made of: it stands before it.
fn base_of(section: &DeviceSection, others: &[Arc<dyn Device>]) -> Option<Arc<dyn Device>> {
    others.iter().find(|other| Some(other.name()) == section.base().map(String::as_str)).cloned()
}

/// Connections that devices share.
fn clusters(config: &Config) -> Result<Clusters> {
    let clusters = Clusters::default();
    for section in &config.clusters {
        let options = section.options.clone();
        let cluster = bdev::Ceph::load(&section.name).and_then(|ceph| Cluster::connect(&section.name, &ceph, options));
        clusters.put(&section.name, Some(cluster?));
    }
    Ok(clusters)
}

/// No host is there yet.
fn set_limits<'t>(config: &Config, devices: impl Iterator<Item = DeviceFacts<'t>>) {
    for facts in devices {
        let section = config.devices.iter().find(|section| section.name == facts.device.name());
        if let Some(section) = section.filter(|section| section.limits.is_any()) {
            tracing::info!(device = section.name, limits = ?section.limits, "limits");
            facts.throttle.set(section.limits);
        }
    }
}

fn target_options(config: &Config, device_count: u8) -> Result<TargetOptions> {
    Ok(TargetOptions {
        cpu_count: u16::try_from(config.target.reactors.count()).context("target.cpus: more than 65535")?,
        queue_pair_count_max: config.target.queue_pair_count_max,
        data_memory_len: config.target.data_memory_len,
        huge_pages: config.target.hugepages,
        shared_receive_count: config.transport.shared_receive_count,
        device_count,
        nodes: nodes(config),
        placement: placement_rules(config),
        host_queue_pair_count_max: config.limits.host_queue_pair_count_max,
    })
}

/// The same by the CPUs' places in the mesh. They were checked.
fn placement_rules(config: &Config) -> Vec<PlacementRule> {
    let numbers = config.target.reactors.numbers();
    let place = |cpu: &usize| (0..).zip(&numbers).find(|(_, number)| *number == cpu).map(|(place, _)| place);
    let rule = |section: &PlacementSection| PlacementRule {
        origin: section.origin,
        cpus: section.cpus.iter().filter_map(place).collect(),
    };
    config.placement.iter().map(rule).collect()
}

/// The NUMA node of each polling CPU; none where a thread may run anywhere.
fn nodes(config: &Config) -> Vec<Option<NumaNode>> {
    match &config.target.reactors {
        ReactorSection::Pinned(cpus) => cpus.iter().map(|os_cpu| NumaNode::of_cpu(*os_cpu)).collect(),
        ReactorSection::Floating(count) => (0..*count).map(|_| None).collect(),
    }
}

fn controller_spec(config: &Config) -> ControllerSpec {
    ControllerSpec {
        io_queue_count_max: config.transport.io_queue_count_max,
        queue_depth_max: config.transport.queue_depth,
        admin_queue_depth_max: config.transport.admin_queue_depth,
        transfer_len_max: config.transport.transfer_len_max,
        in_capsule_len: config.transport.in_capsule_len,
        host: config.limits.host,
    }
}

fn target_spec(
    config: &Config,
    devices: &[Arc<dyn Device>],
    keyring: &Keyring,
    state: Option<&StateDirectory>,
) -> Result<TargetSpec> {
    let subsystems = config.subsystems.iter().map(|section| subsystem_spec(section, devices, keyring, state));
    let subsystems = subsystems.collect::<Result<Vec<_>>>()?;
    let (hashes, groups) = config.authentication;
    let mut first = [0; 4];
    workers::draw(&mut first).context("random bytes of the system")?;
    let authentication = AuthenticationSpec { hashes, groups, first_sequence: u32::from_le_bytes(first) };
    Ok(TargetSpec {
        devices: devices.to_vec(),
        subsystems,
        referrals: config.referrals.clone(),
        controller: controller_spec(config),
        authentication,
    })
}

fn keyring(config: &Config) -> Result<Keyring> {
    let mut keyring = Keyring::default();
    for key in &config.keys {
        keyring.add_file(&key.name, &key.path).with_context(|| format!("[[key]] \"{}\"", key.name))?;
    }
    Ok(keyring)
}

fn subsystem_spec(
    section: &SubsystemSection,
    devices: &[Arc<dyn Device>],
    keyring: &Keyring,
    state: Option<&StateDirectory>,
) -> Result<SubsystemSpec> {
    let keys = section.host_keys.iter();
    let host_keys = keys
        .map(|keys| keyring.host_keys(&keys.host, &keys.key, keys.controller_key.as_deref()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("subsystem \"{}\"", section.nqn))?;
    let mut namespaces = Vec::new();
    for namespace in &section.namespaces {
        let Some(device) = devices.iter().find(|device| device.name() == namespace.device) else {
            bail!("{}: namespace {} has no device \"{}\"", section.nqn, namespace.nsid, namespace.device);
        };
        let mut spec = NamespaceSpec {
            uuid: namespace.uuid,
            nguid: namespace.nguid,
            eui64: namespace.eui64,
            ana_group: namespace.ana_group,
            is_auto_visible: namespace.is_auto_visible,
            hosts: namespace.hosts.clone(),
            ..NamespaceSpec::new(namespace.nsid, Arc::clone(device))
        };
        spec.persistence = persistence(section, namespace, &spec, state)?;
        namespaces.push(spec);
    }
    Ok(SubsystemSpec {
        model_number: section.model_number.clone(),
        allow_any_host: section.allow_any_host,
        hosts: section.hosts.clone(),
        host_keys,
        listeners: section.listeners.clone(),
        namespaces,
        nsid_max: section.nsid_max,
        controller_ids: section.controller_ids.clone(),
        controller_model: section.controller_model,
        is_shared: section.is_shared,
        reports_ana: section.reports_ana,
        ana: section.ana.clone(),
        ..SubsystemSpec::new(&section.nqn, &section.serial_number)
    })
}

/// Where the namespace's reservations are kept, and what is there.
fn persistence(
    section: &SubsystemSection,
    namespace: &NamespaceSection,
    spec: &NamespaceSpec,
    state: Option<&StateDirectory>,
) -> Result<Option<Persistence>> {
    let uuid = spec.uuid_in(&section.nqn);
    let (path, field) = match (&namespace.ptpl_file, state) {
        (Some(path), _) => (std::path::absolute(path)?, "ptpl_file"),
        // Others are offered no reservations.
        (None, Some(state)) if !section.is_shared && section.controller_model == ControllerModel::Dynamic => {
            (state.file(&section.nqn, uuid), "target.state_directory")
        }
        (None, _) => return Ok(None),
    };
    let named = || format!("{}: namespace {}: {field}", section.nqn, namespace.nsid);
    let record = keeper::open(&path, uuid).with_context(named)?;
    let file = path.to_str().context("a path that is not UTF-8").with_context(named)?.into();
    Ok(Some(Persistence { file, record }))
}

/// What is allocated in large pieces, in that order: memory devices, and what each CPU needs for data, receives and responses.
fn memory_plan(config: &Config, device_count: u8) -> Result<HugepagePlan> {
    let huge_pages = config.target.hugepages;
    let devices = config.devices.iter().filter_map(|device| match device.kind {
        DeviceKind::Memory { len } => {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            Some(ArenaOptions { len, huge_pages, node: None })
        }
        DeviceKind::Null { .. }
        | DeviceKind::File { .. }
        | DeviceKind::Nvme { .. }
        | DeviceKind::Rbd(_)
        | DeviceKind::Fault { .. }
        | DeviceKind::Delay { .. }
        | DeviceKind::Partition { .. } => None,
    });
    let lens = transport_rdma::target::memory_lens(&target_options(config, device_count)?, &controller_spec(config))?;
    let cpus = nodes(config).into_iter().flat_map(|node| lens.map(|len| ArenaOptions { len, huge_pages, node }));
    Ok(HugepagePlan::new(Hugepages::now(), &devices.chain(cpus).collect::<Vec<_>>()))
}

/// All of it is touched at the start: what is too much would not fail, but have the kernel end some process.
fn check_memory(plan: &HugepagePlan) -> Result<()> {
    let Some(available_len) = machine::memory_available() else {
        return Ok(());
    };
    if plan.ordinary_len() > available_len {
        bail!(
            "memory: devices of type \"memory\", target.data_memory and queue pairs (target.queue_pairs, transport.queue_depth) need {} MiB beside hugepages, and {} MiB are available: make them smaller",
            plan.ordinary_len() >> 20,
            available_len >> 20,
        );
    }
    Ok(())
}

fn say_cpus(config: &Config) {
    let buffers = Size(config.target.data_memory_len as u64);
    let who = match &config.target.reactors {
        ReactorSection::Pinned(cpus) => {
            let cpus = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            format!("polls on CPU {cpus}, each with {buffers} of data buffers")
        }
        ReactorSection::Floating(count) => {
            format!("polls with {count} threads that are not pinned, each with {buffers} of data buffers")
        }
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "nvmf-tgt {who}");
    tracing::info!("a CPU with nothing to do {}", poll_mode::describe(config.target.poll_mode));
}

fn say_spare_devices(config: &Config) {
    let namespaces = || config.subsystems.iter().flat_map(|subsystem| &subsystem.namespaces);
    for device in &config.devices {
        let is_base = config.devices.iter().any(|other| other.base() == Some(&device.name));
        if !is_base && namespaces().all(|namespace| namespace.device != device.name) {
            tracing::warn!(device = device.name, "no namespace uses this device");
        }
    }
}
