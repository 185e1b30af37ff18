//! Async events of the device become the interface's.
//!
//! Invariant, cited by the `SAFETY` notes:
//! 1. The object that an event names lives until the event is acknowledged: its destroy call waits for that. What names it to us never changes.

use super::super::port::IbvPort;
use super::super::sys;
use super::{Acknowledgement, IbvProvider, settle};
use crate::verbs::{ConnectionId, Event, PortId, Unacknowledged};

impl IbvProvider {
    pub(super) fn next_async_event(&mut self) -> Option<Unacknowledged<IbvPort>> {
        // Neither read nor waited for once the device is gone.
        while !self.is_removed {
            let fetched = self.device.next_async_event()?;
            match self.read(fetched) {
                Some(event) => return Some(self.hand_out(event, Acknowledgement::Async(fetched))),
                None => settle(Acknowledgement::Async(fetched)),
            }
        }
        None
    }

    /// `None`: nobody has to know.
    fn read(&mut self, event: sys::AsyncEvent) -> Option<Event<IbvPort>> {
        match event.kind {
            sys::EVENT_QP_LAST_WQE_REACHED => {
                let connection = self.connection_of(event)?;
                Some(Event::LastWqeReached { connection })
            }
            sys::EVENT_QP_FATAL | sys::EVENT_QP_REQ_ERR | sys::EVENT_QP_ACCESS_ERR => {
                let connection = self.connection_of(event)?;
                tracing::warn!(connection = connection.0, event = event.kind, "a queue pair broke");
                Some(Event::QueuePairFatal { connection })
            }
            // The peer's first message came before the connection manager's last.
            sys::EVENT_COMM_EST => {
                let connection = self.connection_of(event)?;
                if let Some(id) = self.connections.get(&connection.0).and_then(|record| record.id.as_ref()) {
                    id.notify_established();
                }
                None
            }
            sys::EVENT_SQ_DRAINED | sys::EVENT_PATH_MIG | sys::EVENT_PATH_MIG_ERR => None,
            sys::EVENT_CQ_ERR => self.port_broke(completion_queue_number(event)),
            sys::EVENT_SRQ_ERR => self.port_broke(shared_receive_number(event)),
            sys::EVENT_DEVICE_FATAL => {
                tracing::error!(device = self.device.name(), "the device reports a fatal error, or goes away");
                self.device_removed()
            }
            kind => {
                self.tally.port_events += 1;
                let name = match kind {
                    sys::EVENT_PORT_ACTIVE => "port active",
                    sys::EVENT_PORT_ERR => "port error",
                    _ => "other",
                };
                tracing::info!(device = self.device.name(), event = kind, name, "an event of the device");
                None
            }
        }
    }

    /// A queue pair that is being destroyed has none any more.
    fn connection_of(&mut self, event: sys::AsyncEvent) -> Option<ConnectionId> {
        // SAFETY: invariant 1, and the event is a queue pair's.
        let context = unsafe { (*event.element.cast::<sys::ibv_qp>()).qp_context };
        let number = context.addr() as u64;
        let is_known = self.connections.get(&number).is_some_and(|record| record.queue_pair.is_some());
        if !is_known {
            self.tally.late_events += 1;
        }
        is_known.then_some(ConnectionId(number))
    }

    fn port_broke(&mut self, number: usize) -> Option<Event<IbvPort>> {
        let port = self.ports.get_mut(number)?;
        if std::mem::replace(&mut port.is_reported, true) {
            return None;
        }
        Some(Event::CompletionQueueError { port: PortId(u32::try_from(number).unwrap_or(u32::MAX)) })
    }
}

fn completion_queue_number(event: sys::AsyncEvent) -> usize {
    // SAFETY: invariant 1, and the event is a completion queue's.
    unsafe { (*event.element.cast::<sys::ibv_cq>()).cq_context }.addr()
}

fn shared_receive_number(event: sys::AsyncEvent) -> usize {
    // SAFETY: invariant 1, and the event is a shared receive queue's.
    unsafe { (*event.element.cast::<sys::ibv_srq>()).srq_context }.addr()
}
