//! A device that is removed: told of once, let go of when nothing of it is left, looked for, opened again.
//!
//! Its driver may wait until it was let go of, and the removal with it. What it was is kept until another one is there: late questions about it are answered
//! from copies.

use std::net::SocketAddr;
use std::sync::Arc;

use super::super::device::{Device, forget_removed_devices};
use super::super::place;
use super::super::port::IbvPort;
use super::super::worker::Outcome;
use super::{IbvProvider, removed};
use crate::verbs::{DeviceId, Event, Provider, Ticket, VerbsError};

impl IbvProvider {
    /// Told once: every id has an event of it.
    pub(super) fn device_removed(&mut self) -> Option<Event<IbvPort>> {
        if self.is_removed {
            return None;
        }
        self.is_removed = true;
        // It stays readable, and is not to be read any more.
        self.waker.unwatch(self.device.async_descriptor());
        for port in &self.ports {
            port.queues.ask_to_leave();
        }
        // Where nothing is left already.
        self.news.ring();
        Some(Event::DeviceRemoved(DeviceId::ONLY))
    }

    /// A removed device is let go of once nothing of it is left.
    pub(super) fn release_removed(&mut self) {
        let is_left = |this: &Self| this.ports.iter().all(|port| port.queues.has_left());
        let is_used = Provider::live_count(self) > 0 || self.registering_count > 0;
        if !self.is_removed || self.is_released || is_used || !is_left(self) {
            return;
        }
        self.is_released = true;
        let regions: Vec<_> = std::mem::take(&mut self.regions).into_values().collect();
        let queues: Vec<_> = self.ports.iter().map(|port| Arc::clone(&port.queues)).collect();
        let device = Arc::clone(&self.device);
        self.worker.begin(move || {
            for region in regions {
                // Of a device that is gone: ended either way.
                let _ = region.end();
            }
            for queues in &queues {
                queues.close();
            }
            device.close();
            forget_removed_devices();
            Outcome::DeviceReleased
        });
    }

    /// The worker looks, and opens what it finds.
    pub(super) fn look_for_device(&mut self, ticket: Ticket, addresses: &[SocketAddr]) {
        if !self.is_released {
            return self.tell(Event::DeviceReopened {
                ticket,
                result: Err(removed("opening it again before it was let go of")),
            });
        }
        let (named, last) = (self.options.device.clone(), self.device.name().to_owned());
        let addresses = addresses.to_vec();
        self.worker.begin(move || {
            let name = place::returned_device(named.as_deref(), &addresses, &last);
            Outcome::DeviceReopened { ticket, result: name.and_then(|name| Device::open(&name)) }
        });
    }

    pub(super) fn device_reopened(&mut self, ticket: Ticket, result: Result<Arc<Device>, VerbsError>) {
        let watched = result.and_then(|device| {
            let failed = |source| VerbsError::System { call: "epoll_ctl", source };
            self.waker.watch(device.async_descriptor()).map_err(failed)?;
            Ok(device)
        });
        let result = watched.map(|device| {
            tracing::info!(device = device.name(), kind = device.kind(), "the RDMA device is opened again");
            self.device = device;
            // Their queues were destroyed with the device; whoever has the ports drops them.
            self.ports.clear();
            (self.is_removed, self.is_released) = (false, false);
        });
        self.tell(Event::DeviceReopened { ticket, result });
    }
}
