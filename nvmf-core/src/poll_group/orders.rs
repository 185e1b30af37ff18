//! Orders of the control plane on this CPU: what is answered at once, and what waits until devices are at rest.

use reactor::Turn;

use super::PollGroup;
use super::parking::Cause;
use crate::defect::{self, Defect};
use crate::message::{Letter, Message};
use crate::namespace::DeviceIndex;
use crate::order::{Order, Way};
use crate::subsystem::SubsystemId;
use crate::target::ChangeId;

/// An order that is answered when its devices have come to rest.
pub(super) struct Pending {
    change: ChangeId,
    devices: Vec<DeviceIndex>,
    rest: At,
}

/// When a device is at rest.
enum At {
    /// No lease on it is out. The subsystem is one that is paused: its resumption ends the order.
    NoLease { pauses: Option<SubsystemId> },
    /// It has nothing to do.
    NoOperation,
}

impl PollGroup {
    /// Obeys. It is answered now, or at the end of the walk in which its devices came to rest.
    pub(super) fn obey<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, change: ChangeId, order: Order) {
        match order {
            Order::Pause { subsystem, devices } => {
                let devices = if defect::is(Defect::PauseWaitsForNothing) { Vec::new() } else { devices };
                self.orders.push(Pending { change, devices, rest: At::NoLease { pauses: Some(subsystem) } });
                self.answer_orders(turn);
            }
            Order::Look => self.answer(turn, change, None),
            Order::Evict { subsystem, nsid, hosts } => self.evict(turn, change, (subsystem, nsid), &hosts),
            Order::Resume { subsystem } => {
                // With commands coming in again the leases of a pause that was not answered yet might never all be home at one time.
                for pending in &mut self.orders {
                    if matches!(pending.rest, At::NoLease { pauses: Some(paused) } if paused == subsystem) {
                        pending.devices.clear();
                    }
                }
                self.answer_orders(turn);
                self.unpark(|cause| cause == Cause::Paused(subsystem) && !defect::is(Defect::ResumeForgetsTheParked));
                self.answer(turn, change, None);
            }
            Order::Await(device) => {
                self.orders.push(Pending { change, devices: vec![device], rest: At::NoLease { pauses: None } });
                self.answer_orders(turn);
            }
            Order::Reset(devices) => {
                devices.iter().for_each(|device| self.devices.begin_reset(*device));
                let devices = if defect::is(Defect::ResetWaitsForNothing) { Vec::new() } else { devices };
                self.orders.push(Pending { change, devices, rest: At::NoOperation });
                self.answer_orders(turn);
            }
            Order::EndReset(devices) => {
                if !defect::is(Defect::ResetForgetsTheHeld) {
                    devices.iter().for_each(|device| self.devices.end_reset(*device));
                }
                self.answer(turn, change, None);
            }
            Order::Open(device, way) => {
                self.devices.open(device, way);
                self.answer(turn, change, None);
            }
            Order::Close(device) => {
                let way = self.devices.close(device).map(Box::new);
                self.answer(turn, change, way);
            }
        }
    }

    fn answer<M: From<Message>>(&self, turn: &mut Turn<'_, M>, change: ChangeId, way: Option<Box<Way>>) {
        turn.send(self.control, Message(Letter::Obeyed { change, way }).into());
    }

    /// Answers the orders that wait for nothing any more.
    pub(super) fn answer_orders<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>) {
        if self.orders.is_empty() {
            return;
        }
        let (control, devices) = (self.control, &self.devices);
        self.orders.retain(|pending| {
            let is_due = pending.is_due(devices);
            if is_due {
                turn.send(control, Message(Letter::Obeyed { change: pending.change, way: None }).into());
            }
            !is_due
        });
    }

    /// Whether an order could be answered now: its devices came to rest outside of the walk.
    pub(super) fn has_order_due(&self) -> bool {
        self.orders.iter().any(|pending| pending.is_due(&self.devices))
    }
}

impl Pending {
    fn is_due(&self, devices: &crate::devices::Devices) -> bool {
        self.devices.iter().all(|device| match self.rest {
            At::NoLease { .. } => devices.lease_count_of(*device) == 0,
            At::NoOperation => devices.is_drained(*device),
        })
    }
}
