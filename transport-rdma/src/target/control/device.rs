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

use nvmf_core::DisconnectReason;
use nvmf_core::defect::{self, Defect};
use reactor::Turn;

use super::record::Record;
use super::{Control, cpu_of};
use crate::target::message::{Message, ToCpu};
use crate::target::region::RegionKeys;
use crate::trace::Step;
use crate::verbs::{PortId, Provider, Ticket};

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
    /// The registration that is under way.
    pub(super) ticket: Option<Ticket>,
    pub(super) keys: RegionKeys,
    /// For the first CPUs.
    pub(super) ports: Vec<(PortId, Q)>,
    pub(super) has_complained: bool,
}

impl<Q> Device<Q> {
    /// Whether anything but destroying may be asked of it, for connections.
    pub(super) fn is_present(&self) -> bool {
        matches!(self, Self::Present)
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
    pub(super) fn device_removed(&mut self, turn: &mut Turn<'_, Message<P>>) {
        Step::DeviceRemoved.trace(turn, 0, self.records.len() as u64);
        match self.device {
            Device::Present => {}
            // Nothing has begun on it. Its ports, if there are any, are dropped.
            Device::Opened(_) => {
                tracing::error!(provider = self.provider.name(), "the RDMA device was removed again");
                return self.device = Device::Removed { is_released: false };
            }
            Device::Removed { .. } | Device::Awaited(_) => return,
        }
        self.device = Device::Removed { is_released: false };
        tracing::error!(
            provider = self.provider.name(),
            connection_count = self.records.len(),
            "the RDMA device was removed: every connection ends, and none is accepted until it is back"
        );
        let cpu_count = if defect::is(Defect::RemovalWaitsForTheDevice) { 0 } else { self.ports.len() };
        for cpu in 0..cpu_count {
            turn.send(cpu_of(cpu), ToCpu::NothingReturns.into());
        }
        // They are on it too: as long as they live it cannot go.
        self.suspend_listeners();
        self.end_all(turn, DisconnectReason::DeviceGone);
    }

    /// Every queue pair of this port ends, and it gets no more.
    pub(super) fn completion_queue_broke(&mut self, turn: &mut Turn<'_, Message<P>>, port: PortId) {
        let Some(index) = self.ports.iter().position(|other| *other == port) else {
            return self.counts.stale_events += 1;
        };
        let cpu = cpu_of(index);
        let is_there = |record: &Record| record.cpu == cpu.0;
        let records: Vec<_> =
            self.records.iter().filter(|(_, record)| is_there(record)).map(|(handle, _)| handle).collect();
        Step::PortFailed.trace(turn, port.0.into(), records.len() as u64);
        if self.loads[index].port == PortState::Broken {
            return;
        }
        self.loads[index].port = PortState::Broken;
        tracing::error!(
            cpu = cpu.0,
            connection_count = records.len(),
            "a completion queue broke: the connections of its CPU end, and it gets no more until its device has gone and come back, or this process is started again"
        );
        turn.send(cpu, ToCpu::NothingReturns.into());
        for record in records {
            self.end(turn, record, DisconnectReason::DeviceGone);
        }
    }
}
