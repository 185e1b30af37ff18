//! What a test or the simulator has a machine meet: asked of the [`super::Fabric`], done by the machine's provider at its next look.

use super::options::{Calls, EventKinds};
use super::provider::InProcessProvider;
use crate::soft::nic::PortCommand;
use crate::verbs::{AddressUser, ConnectionId, DeviceId, Event, PortId, Provider, RejectReason, VerbsError};

/// An event that a machine is told, whatever the truth is. One about an object that is gone by then is not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InjectedEvent {
    /// [`Event::Disconnected`].
    Disconnected(ConnectionId),
    /// [`Event::Rejected`].
    Rejected(ConnectionId, RejectReason),
    /// [`Event::TimewaitExit`].
    TimewaitExit(ConnectionId),
    /// [`Event::LastWqeReached`], where the connection has a queue pair.
    LastWqeReached(ConnectionId),
    /// [`Event::QueuePairFatal`], the same.
    QueuePairFatal(ConnectionId),
    /// [`Event::AddressChanged`].
    AddressChanged(AddressUser),
    /// [`Event::CompletionQueueError`].
    CompletionQueueError(PortId),
    /// [`Event::DeviceRemoved`].
    DeviceRemoved,
}

/// What a provider is to do.
pub(super) enum Order {
    Tell(InjectedEvent),
    BreakPort(PortId),
    BreakQueuePair(ConnectionId),
    /// Both ends are told that they are disconnected, and neither asked for it.
    Cut(ConnectionId),
    RemoveDevice,
}

impl InProcessProvider {
    pub(super) fn follow_orders(&mut self) {
        loop {
            let machine = self.machine;
            let order = self.world().machine(machine).orders.pop_front();
            match order {
                Some(Order::Tell(event)) => self.tell(event),
                Some(Order::BreakPort(port)) => {
                    self.break_port(port);
                    self.push_event(Event::CompletionQueueError { port });
                }
                Some(Order::BreakQueuePair(connection)) => self.break_queue_pair(connection),
                Some(Order::Cut(connection)) => self.cut(connection),
                Some(Order::RemoveDevice) => self.lose_device(),
                None => return,
            }
        }
    }

    fn tell(&mut self, injected: InjectedEvent) {
        let has = |id: &ConnectionId| self.connections.contains_key(id);
        let has_queue_pair = |id: &ConnectionId| self.connections.get(id).is_some_and(|of| of.queue_pair.is_some());
        let is_there = match &injected {
            InjectedEvent::Disconnected(id) | InjectedEvent::Rejected(id, _) | InjectedEvent::TimewaitExit(id) => {
                has(id)
            }
            InjectedEvent::LastWqeReached(id) | InjectedEvent::QueuePairFatal(id) => has_queue_pair(id),
            InjectedEvent::AddressChanged(AddressUser::Connection(id)) => has(id),
            InjectedEvent::AddressChanged(AddressUser::Listener(id)) => self.listeners.contains(id),
            InjectedEvent::CompletionQueueError(_) | InjectedEvent::DeviceRemoved => true,
        };
        if is_there {
            self.push_event(match injected {
                InjectedEvent::Disconnected(connection) => Event::Disconnected { connection },
                InjectedEvent::Rejected(connection, reason) => Event::Rejected { connection, reason },
                InjectedEvent::TimewaitExit(connection) => Event::TimewaitExit { connection },
                InjectedEvent::LastWqeReached(connection) => Event::LastWqeReached { connection },
                InjectedEvent::QueuePairFatal(connection) => Event::QueuePairFatal { connection },
                InjectedEvent::AddressChanged(of) => Event::AddressChanged { of },
                InjectedEvent::CompletionQueueError(port) => Event::CompletionQueueError { port },
                InjectedEvent::DeviceRemoved => return self.raise_removal(),
            });
        }
    }

    /// The completion queue and its queue pairs are dead.
    fn break_port(&mut self, port: PortId) {
        let machine = self.machine;
        self.world().machine(machine).break_stage(port);
        self.command(port, PortCommand::Break);
    }

    /// QP_FATAL, and the error state that it tells of.
    fn break_queue_pair(&mut self, connection: ConnectionId) {
        let Some(member) = self.connections.get(&connection).and_then(|record| record.queue_pair.clone()) else {
            return;
        };
        self.ports[member.port.0 as usize].fail(&member.control);
        self.push_event(Event::QueuePairFatal { connection });
    }

    /// Everything on the device breaks, and DEVICE_REMOVED is raised once. What it tells of its queue pairs and this come by different ways, so in any order.
    fn lose_device(&mut self) {
        let machine = self.machine;
        self.world().machine(machine).is_lost = true;
        for port in (0..self.ports.len()).filter_map(|port| u32::try_from(port).ok()) {
            if !self.world().machine(machine).port(PortId(port)).has_left {
                self.break_port(PortId(port));
            }
        }
        self.raise_removal();
    }

    fn raise_removal(&mut self) {
        self.is_told = true;
        let machine = self.machine;
        for port in &mut self.world().machine(machine).ports {
            port.is_leaving = true;
        }
        for port in &mut self.ports {
            port.wake();
        }
        self.push_event(Event::DeviceRemoved(DeviceId::ONLY));
    }

    /// Once nothing of the device that was removed is left, it is let go of, as a driver may wait for it.
    pub(super) fn release_device(&mut self) {
        if !self.is_told || self.is_released || self.live_count() > 0 || self.is_pending(EventKinds::DEVICE_REMOVED) {
            return;
        }
        let machine = self.machine;
        let mut world = self.world();
        let machine = world.machine(machine);
        if !machine.ports.iter().all(|port| port.has_left || port.is_gone) {
            return;
        }
        machine.let_go_of_device();
        drop(world);
        self.is_released = true;
        self.push_event(Event::DeviceReleased(DeviceId::ONLY));
    }

    /// The device is there again, or not.
    pub(super) fn reopened(&mut self) -> Result<(), VerbsError> {
        let machine = self.machine;
        if self.world().machine(machine).is_removed {
            let source = std::io::Error::from_raw_os_error(libc::ENODEV);
            return Err(VerbsError::System { call: Calls::OPEN.name(), source });
        }
        self.world().machine(machine).is_lost = false;
        if self.fails(Calls::OPEN) {
            self.world().machine(machine).is_lost = true;
            return Err(self.error(Calls::OPEN));
        }
        (self.is_told, self.is_released) = (false, false);
        Ok(())
    }
}
