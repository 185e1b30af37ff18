//! What is left of the device: all of it, some of its ports, nothing.
//!
//! A device that is removed, or a completion queue that breaks, gives nothing back any more: no flush, perhaps no event. So nothing is waited for but
//! what is ours (block operations, messages) and the destroy calls, which end. The target stays up and says what it lacks. A device that was removed is taken
//! in again when it comes back ([`super::reopening`]), with new completion queues; one that broke by itself stays so until then.
//!
//! | state | waits for |
//! |---|---|
//! | Present | |
//! | Removed | its connections and listeners to end; then for the provider to let go of it |
//! | Awaited | the device: it is asked for once a second |
//! | Opened | its memory's registration, and a port for each CPU |

use std::collections::BTreeMap;

use nvmf_core::DisconnectReason;
use nvmf_core::defect::{self, Defect};
use reactor::{Cpu, RegionId, Turn};

use super::admission::Limits;
use super::record::Record;
use super::{Control, cpu_of};
use crate::target::message::{Message, ToCpu};
use crate::target::region::RegionKeys;
use crate::trace::Step;
use crate::verbs::{DeviceId, PortId, Provider, RegisteredMemory, Ticket};

/// How far the device has gone, or has come back.
#[derive(Debug)]
pub(super) enum Device<Q> {
    Present,
    Removed { is_released: bool },
    Awaited(Search),
    Opened(Opened<Q>),
}

/// A device that is asked for.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Why it was not there the last time, as the log was told.
    pub(super) said: String,
    /// The provider looks.
    pub(super) is_under_way: bool,
}

/// A device that is there again, and not in use.
#[derive(Debug)]
pub(super) struct Opened<Q> {
    /// The registration that is under way, and of what.
    pub(super) registering: Option<(Ticket, RegionId)>,
    pub(super) keys: RegionKeys,
    /// For the first CPUs.
    pub(super) ports: Vec<(PortId, Q)>,
    pub(super) has_complained: bool,
}

/// A device, and what was made of it.
#[derive(Debug)]
pub(in crate::target) struct DeviceRecord<Q> {
    pub(super) state: Device<Q>,
    pub(in crate::target) limits: Limits,
    /// Of each CPU.
    pub(in crate::target) ports: Vec<PortId>,
    /// What is registered of the target's memory.
    pub(super) regions: BTreeMap<RegionId, RegisteredMemory>,
    /// CPUs whose ports broke.
    broken: Vec<Cpu>,
}

impl<Q> DeviceRecord<Q> {
    /// One that is there. Its ports are to follow.
    pub(in crate::target) fn new(limits: Limits, regions: BTreeMap<RegionId, RegisteredMemory>) -> Self {
        Self { state: Device::Present, limits, ports: Vec::new(), regions, broken: Vec::new() }
    }

    /// Whether anything but destroying may be asked of it, for connections.
    pub(super) fn is_present(&self) -> bool {
        matches!(self.state, Device::Present)
    }

    /// What a CPU can do for connections of whichever device: as much as on the least of them.
    pub(super) fn common_limits(devices: &[Self]) -> Limits {
        let mut common = devices[0].limits;
        for Self { limits, .. } in devices {
            common.completion_count = common.completion_count.min(limits.completion_count);
            common.device.retries_receiver_not_ready &= limits.device.retries_receiver_not_ready;
        }
        common
    }

    /// It has new ports.
    pub(super) fn replace_ports(&mut self, limits: Limits, ports: Vec<PortId>) {
        (self.limits, self.ports) = (limits, ports);
        self.broken.clear();
    }
}

/// Whether a CPU's port takes queue pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::target) enum PortState {
    #[default]
    Works,
    /// Its completion queue broke.
    Broken,
}

impl<P: Provider> Control<P> {
    /// Everything on the device ends, and nothing is begun on it any more.
    pub(super) fn device_removed(&mut self, turn: &mut Turn<'_, Message<P>>, device: DeviceId) {
        let connection_count = self.records.iter().filter(|(_, record)| record.device == device).count();
        Step::DeviceRemoved.trace(turn, device.0.into(), connection_count as u64);
        let state = &mut self.devices[usize::from(device.0)].state;
        match state {
            Device::Present => {}
            // Nothing has begun on it. Its ports, if there are any, are dropped.
            Device::Opened(_) => {
                tracing::error!(provider = self.provider.name(), "the RDMA device was removed again");
                return *state = Device::Removed { is_released: false };
            }
            Device::Removed { .. } | Device::Awaited(_) => return,
        }
        *state = Device::Removed { is_released: false };
        tracing::error!(
            provider = self.provider.name(),
            number = device.0,
            connection_count,
            "the RDMA device was removed: every connection ends, and none is accepted until it is back"
        );
        let cpu_count = if defect::is(Defect::RemovalWaitsForTheDevice) { 0 } else { self.wakes.len() };
        for cpu in 0..cpu_count {
            turn.send(cpu_of(cpu), ToCpu::NothingReturns { device }.into());
        }
        // They are on it too: as long as they live it cannot go.
        self.suspend_listeners(device);
        self.end_on(turn, device, DisconnectReason::DeviceGone);
    }

    /// A device's record.
    pub(super) fn on(&self, device: DeviceId) -> &DeviceRecord<P::Port> {
        &self.devices[usize::from(device.0)]
    }

    /// Every queue pair of this port ends, and its CPU gets no more, of whichever device.
    pub(super) fn completion_queue_broke(&mut self, turn: &mut Turn<'_, Message<P>>, port: PortId) {
        let place = (0..)
            .map(DeviceId)
            .zip(&self.devices)
            .find_map(|(device, record)| Some((device, record.ports.iter().position(|other| *other == port)?)));
        let Some((device, index)) = place else { return self.counts.stale_events += 1 };
        let cpu = cpu_of(index);
        let is_there = |record: &Record| record.cpu == cpu.0 && record.device == device;
        let records: Vec<_> =
            self.records.iter().filter(|(_, record)| is_there(record)).map(|(handle, _)| handle).collect();
        Step::PortFailed.trace(turn, port.0.into(), records.len() as u64);
        let broken = &mut self.devices[usize::from(device.0)].broken;
        if broken.contains(&cpu) {
            return;
        }
        broken.push(cpu);
        self.loads[index].port = PortState::Broken;
        tracing::error!(
            cpu = cpu.0,
            connection_count = records.len(),
            "a completion queue broke: the connections of its CPU end, and it gets no more until its device has gone and come back, or this process is started again"
        );
        turn.send(cpu, ToCpu::NothingReturns { device }.into());
        for record in records {
            self.end(turn, record, DisconnectReason::DeviceGone);
        }
    }

    /// Which CPUs may get connections, now that a device has new ports.
    pub(super) fn look_at_ports_anew(&mut self) {
        for (index, load) in self.loads.iter_mut().enumerate() {
            let is_broken = self.devices.iter().any(|device| device.broken.contains(&cpu_of(index)));
            load.port = if is_broken { PortState::Broken } else { PortState::Works };
        }
    }
}
