//! A device that is removed, a completion queue that breaks: nothing that was posted comes back, so nothing is waited for, and every connection is
//! reported dead at once. There is no other association afterwards: neither is made anew in the life of this process.

use reactor::{Cpu, Turn};

use crate::host::control::{HostControl, Phase};
use crate::host::error::HostFailure;
use crate::host::message::{Kind, Message};
use crate::trace::Step;
use crate::verbs::{PortId, Provider};

/// Whether anything but destroying may be asked of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Device {
    Present,
    Removed,
}

impl<P: Provider> HostControl<P> {
    pub(super) fn device_removed(&mut self, turn: &mut Turn<'_, Message<P>>) {
        Step::DeviceRemoved.trace(turn, 0, self.links.len() as u64);
        if self.device == Device::Removed {
            return;
        }
        self.device = Device::Removed;
        tracing::error!(link_count = self.links.len(), "the RDMA device was removed: every connection is dead");
        if self.has_cpus() {
            turn.broadcast(|_cpu| Message(Kind::NothingReturns));
        }
        self.end_without_device(turn, "was removed");
    }

    pub(super) fn completion_queue_broke(&mut self, turn: &mut Turn<'_, Message<P>>, port: PortId) {
        Step::PortFailed.trace(turn, port.0.into(), self.links.len() as u64);
        let Some(cpu) =
            self.ports.iter().position(|other| *other == port).and_then(|index| u16::try_from(index).ok()).map(Cpu)
        else {
            return;
        };
        tracing::error!(cpu = cpu.0, "a completion queue broke: its connections are dead, and so is the association");
        if self.has_cpus() {
            turn.send(cpu, Message(Kind::NothingReturns));
        }
        self.end_without_device(turn, "has a completion queue that broke");
    }

    fn end_without_device(&mut self, turn: &mut Turn<'_, Message<P>>, what: &'static str) {
        self.give_memory_up();
        let failure = HostFailure::DeviceGone { what };
        if matches!(self.phase, Phase::Apart) {
            // There is nothing to end but the host itself.
            self.report(turn, failure);
            self.begin_leaving(turn);
        } else {
            self.fail(turn, failure);
        }
    }
}
