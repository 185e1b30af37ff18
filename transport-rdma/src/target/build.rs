//! Puts a whole target together. Start-up only: nothing runs yet, so it may take its time.
//!
//! Order: memory, limits, registration, ports, poll groups, and listeners last: from then on hosts can come.

mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use nvmf_core::spec::{ControllerSpec, TargetSpec};
use nvmf_core::{PollGroup, PollGroupOptions};
use reactor::{Cpu, Domain, Home, Pool, RegionId, Segment};

use self::memory::CpuMemory;
pub use self::memory::TargetMemory;
use super::body::slot_count;
use super::control::{Control, ControlParts, DeviceRecord, Limits, depth_max};
use super::counters::CpuCounters;
use super::cpu::{TargetCpu, TargetCpuParts};
use super::data_path::{DataPath, DataPathOptions};
use super::paths::Paths;
use super::placement;
use super::region::{RegionKeys, begin_register};
use super::shared_receive::SharedReceives;
use super::{BuildError, TargetOptions};
use crate::binding::{COMMAND_LEN, RESPONSE_LEN, WorkRequestId};
use crate::verbs::{DeviceId, Event, Provider, RegisteredMemory, Ticket, VerbsError};

/// Most receive buffers of one CPU whose queue pairs have their own: with 4 KiB of in-capsule data 64 MiB.
const RECEIVE_COUNT_MAX: usize = 16 * 1024;

/// The receive buffers' number among their CPU's pools; 0 and 1 are the poll group's.
const RECEIVE_POOL: u16 = 2;

/// Looks at the provider's events without one, before registration is given up.
const EVENT_LOOK_COUNT_MAX: u64 = 200_000_000;

/// A target's programs: the control plane's, and one for each polling CPU.
pub type Built<P> = Assembled<P, false>;

/// The same for a provider of one device, or for [`Several`](crate::verbs::Several).
pub type Assembled<P, const SEVERAL: bool> = (Control<P>, Vec<TargetCpu<P, SEVERAL>>);

/// Makes a whole target: takes and registers memory, makes ports, listens. Takes its time; nothing runs yet. Its memory is the process's for life.
///
/// # Errors
/// [`BuildError`].
pub fn build<P: Provider>(
    provider: P,
    domain: &Domain,
    spec: TargetSpec,
    options: TargetOptions,
) -> Result<Built<P>, BuildError> {
    let memory = TargetMemory::allocate(&options, &spec.controller)?;
    build_in(&memory, provider, domain, spec, options)
}

/// The same for a provider of several devices: each polling CPU serves all of them.
///
/// # Errors
/// [`BuildError`].
pub fn build_several<P: Provider>(
    provider: P,
    domain: &Domain,
    spec: TargetSpec,
    options: TargetOptions,
) -> Result<Assembled<P, true>, BuildError> {
    let memory = TargetMemory::allocate(&options, &spec.controller)?;
    build_in(&memory, provider, domain, spec, options)
}

/// The same in memory that the caller has, and may take back when the target is gone ([`TargetMemory::release`]).
///
/// # Errors
/// [`BuildError`].
///
/// # Panics
/// If the memory was not made for these options.
pub fn build_in<P: Provider, const SEVERAL: bool>(
    memory: &TargetMemory,
    mut provider: P,
    domain: &Domain,
    spec: TargetSpec,
    options: TargetOptions,
) -> Result<Assembled<P, SEVERAL>, BuildError> {
    assert_eq!(options.device_count, provider.device_count(), "memory for as many devices as there are");
    placement::check(&options.placement, usize::from(options.cpu_count))?;
    assert_eq!(memory.cpus.len(), usize::from(options.cpu_count), "memory for as many CPUs as there are");
    let listeners: BTreeSet<SocketAddr> =
        spec.subsystems.iter().flat_map(|subsystem| subsystem.listeners.iter().copied()).collect();
    let controller = spec.controller;
    let core = nvmf_core::Target::new(domain, options.cpu_count, spec)?;
    let devices: Vec<Segment> = core.devices().filter_map(|facts| facts.device.memory()).collect();

    let index_shift = index_shift(&controller, options.queue_pair_count_max)?;
    let all: Vec<Segment> = memory.cpus.iter().flat_map(CpuMemory::segments).chain(devices).collect();
    let mut segments = Vec::new();
    let mut records = Vec::new();
    for device in (0..options.device_count).map(DeviceId) {
        let limits = Limits::new(
            controller,
            provider.attributes_of(device),
            options.queue_pair_count_max,
            options.shared_receive_count,
        );
        let mut registrar = Registrar::new(&mut provider, device);
        for segment in &all {
            registrar.register(*segment)?;
        }
        let Registrar { keys, segments: registered, regions, .. } = registrar;
        segments = registered;
        records.push((DeviceRecord::new(limits, regions), keys));
    }

    let directory = core.directory();
    let mut cpus = Vec::new();
    let mut cpu_counters = Vec::new();
    for (number, memory) in (0..options.cpu_count).zip(&memory.cpus) {
        let group = PollGroup::new(PollGroupOptions {
            cpu: Cpu(number),
            control: Cpu(options.cpu_count),
            qpair_count_max: options.queue_pair_count_max,
            data_memory: memory.data.segment(),
            ways: core.open_ways(Cpu(number))?,
            directory: Arc::clone(&directory),
        });
        let counters = Arc::new(CpuCounters::default());
        let mut paths = Vec::new();
        for (device, (record, keys)) in (0..).map(DeviceId).zip(&mut records) {
            let (id, port) = provider.create_port_on(device, record.limits.port_options())?;
            record.ports.push(id);
            paths.push(DataPath::new(DataPathOptions {
                fitting: record.limits.fitting(port, keys.clone()),
                queue_pair_count_max: options.queue_pair_count_max,
                index_shift,
                responses: memory.responses.segment(),
                shared: shared_receives(memory, device, &record.limits),
                counters: Arc::clone(&counters),
            }));
        }
        let first = paths.remove(0);
        cpu_counters.push(Arc::clone(&counters));
        cpus.push(TargetCpu::new(TargetCpuParts {
            control: Cpu(options.cpu_count),
            group,
            paths: Paths::new(first, paths, options.queue_pair_count_max),
            receive_pool: receive_pool(memory, Cpu(number), &controller, options.shared_receive_count),
            queue_pair_count_max: options.queue_pair_count_max,
            counters,
        })?);
    }
    let mut listening = Vec::new();
    for address in listeners {
        listening.push((provider.listen(address)?, address));
        tracing::info!(%address, provider = provider.name(), "listening");
    }
    let wakes = cpus.iter().map(TargetCpu::wakes).collect();
    let parts = ControlParts {
        provider,
        core,
        devices: records.into_iter().map(|(record, _)| record).collect(),
        wakes,
        listeners: listening,
        segments,
        cpu_counters,
        placement: options.placement,
        host_queue_pair_count_max: options.host_queue_pair_count_max,
    };
    Ok((Control::new(parts), cpus))
}

/// Bytes of the three arenas that each CPU of such a target takes: data buffers, receives, responses.
///
/// # Errors
/// If queue depth and number of queue pairs do not go together.
pub fn memory_lens(options: &TargetOptions, controller: &ControllerSpec) -> Result<[usize; 3], BuildError> {
    let receive_count = match options.shared_receive_count {
        0 => (options.queue_pair_count_max * (usize::from(depth_max(controller)) + 1)).min(RECEIVE_COUNT_MAX),
        shared => shared as usize * usize::from(options.device_count),
    };
    let response_count = options.queue_pair_count_max << index_shift(controller, options.queue_pair_count_max)?;
    Ok([options.data_memory_len, receive_count.max(1) * receive_len(controller), response_count.max(1) * RESPONSE_LEN])
}

/// Bytes of a receive buffer, in whole cache lines.
fn receive_len(controller: &ControllerSpec) -> usize {
    (COMMAND_LEN + controller.in_capsule_len as usize).next_multiple_of(64)
}

/// `wr_id`s have 24 bits for queue pair and slot (or receive) together.
fn index_shift(controller: &ControllerSpec, queue_pair_count_max: usize) -> Result<u32, BuildError> {
    let depth = depth_max(controller);
    if depth > 1 << 14 {
        return Err(limit("queue depth", u64::from(depth), 1 << 14));
    }
    let slots = u32::from(slot_count(depth)).max(u32::from(depth) + 1).next_power_of_two();
    let named = queue_pair_count_max as u64 * u64::from(slots);
    if named > u64::from(WorkRequestId::INDEX_COUNT) {
        let allowed = u64::from(WorkRequestId::INDEX_COUNT / slots);
        return Err(limit("queue pairs per CPU at this queue depth", queue_pair_count_max as u64, allowed));
    }
    Ok(slots.trailing_zeros())
}

fn limit(what: &'static str, value: u64, limit: u64) -> BuildError {
    BuildError::Verbs(VerbsError::Limit { what, value, limit })
}

/// Buffers of a CPU whose queue pairs have their own receives, on whichever device.
fn receive_pool(memory: &CpuMemory, cpu: Cpu, controller: &ControllerSpec, shared_count: u32) -> Option<Pool> {
    let home = Home { cpu, pool: RECEIVE_POOL };
    (shared_count == 0).then(|| Pool::new(home, memory.receives.segment(), receive_len(controller)))
}

/// A device's part of a CPU's shared receives.
fn shared_receives(memory: &CpuMemory, device: DeviceId, limits: &Limits) -> Option<SharedReceives> {
    let (count, len) = (limits.shared_receive_count, receive_len(&limits.controller));
    let part_len = count as usize * len;
    let part = || memory.receives.segment().part(usize::from(device.0) * part_len, part_len);
    (count > 0).then(|| SharedReceives::new(part(), len, count))
}

/// Registers memory and waits for each: there is nothing else to do yet.
struct Registrar<'a, P> {
    provider: &'a mut P,
    device: DeviceId,
    keys: RegionKeys,
    segments: Vec<Segment>,
    regions: BTreeMap<RegionId, RegisteredMemory>,
    now_ns: u64,
}

impl<'a, P: Provider> Registrar<'a, P> {
    fn new(provider: &'a mut P, device: DeviceId) -> Self {
        Self {
            provider,
            device,
            keys: RegionKeys::default(),
            segments: Vec::new(),
            regions: BTreeMap::new(),
            now_ns: 0,
        }
    }

    fn register(&mut self, segment: Segment) -> Result<(), BuildError> {
        if self.keys.key(segment.region()).is_some() {
            return Ok(());
        }
        let ticket = Ticket(self.regions.len() as u64);
        begin_register(self.provider, self.device, ticket, segment);
        let registered = self.wait(ticket)?;
        self.keys.insert(segment.region(), registered.local_key);
        self.segments.push(segment);
        self.regions.insert(segment.region(), registered);
        Ok(())
    }

    /// Yields between looks. The time that the provider is given grows, since in a simulation nobody else moves it on.
    fn wait(&mut self, ticket: Ticket) -> Result<RegisteredMemory, BuildError> {
        for _ in 0..EVENT_LOOK_COUNT_MAX {
            self.now_ns += 1000;
            let Some(event) = self.provider.next_event(self.now_ns) else {
                std::thread::yield_now();
                continue;
            };
            if let Event::Registered { ticket: ended, result } = self.provider.acknowledge(event)
                && ended == ticket
            {
                return Ok(result?);
            }
        }
        let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
        Err(BuildError::Verbs(VerbsError::System { call: "memory registration", source }))
    }
}
