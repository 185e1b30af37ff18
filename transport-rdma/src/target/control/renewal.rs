//! A listener whose address moved to another device, or went: it exists, and may hear nothing any more. So it is ended, and the address is listened on anew,
//! until that succeeds or the address is not wanted any more. Connections are told for themselves. A listener whose device was removed waits here until
//! that is back.
//!
//! One listener for each address at a time: the old one has to be gone before the new one can be.

use std::net::SocketAddr;

use reactor::Turn;

use super::{Control, Phase, Timer};
use crate::target::message::Message;
use crate::verbs::{DeviceId, ListenerId, Provider};

/// How often it is tried.
const RETRY_NS: u64 = 1_000_000_000;

/// An address that nobody listens on though a subsystem is offered there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    pub(super) address: SocketAddr,
    /// That it was on.
    device: DeviceId,
    attempt_count: u32,
}

impl<P: Provider> Control<P> {
    /// A listener's address has changed.
    pub(super) fn listener_address_changed(&mut self, id: ListenerId) {
        self.counts.address_changes += 1;
        match self.end_listener(id) {
            Some((address, device)) => {
                tracing::warn!(%address, "the address has changed: it is listened on anew");
                self.renewals.push(Renewal { address, device, attempt_count: 0 });
            }
            None => self.counts.stale_events += 1,
        }
    }

    /// Ends every listener on a device: each address is listened on again when it is back.
    pub(super) fn suspend_listeners(&mut self, device: DeviceId) {
        let on_it = self.listeners.iter().filter(|listener| listener.device == device);
        for id in on_it.map(|listener| listener.id).collect::<Vec<_>>() {
            if let Some((address, device)) = self.end_listener(id) {
                self.renewals.push(Renewal { address, device, attempt_count: 0 });
            }
        }
    }

    /// Addresses that wait for their listeners on this device.
    pub(super) fn awaited_addresses(&self, device: DeviceId) -> Vec<SocketAddr> {
        self.renewals.iter().filter(|renewal| renewal.device == device).map(|renewal| renewal.address).collect()
    }

    /// Listens on what waits for it, if it can be; tries again in a while if not.
    pub(super) fn listen_anew(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let mut has_failed = false;
        for mut renewal in std::mem::take(&mut self.renewals) {
            let address = renewal.address;
            let is_wanted = self.phase == Phase::Serving;
            if !is_wanted || !self.core.uses_address(address) || self.listeners().any(|other| other == address) {
                continue;
            }
            if self.is_known(address) || !self.on(renewal.device).is_present() {
                // The old one is not gone, or its device is.
                self.renewals.push(renewal);
                continue;
            }
            if let Err(error) = self.listen(address) {
                if renewal.attempt_count == 0 {
                    tracing::error!(%address, %error, "cannot listen on the address again: it is tried every second");
                }
                renewal.attempt_count += 1;
                self.renewals.push(renewal);
                has_failed = true;
            }
        }
        if has_failed {
            turn.arm(turn.now_ns() + RETRY_NS, Timer::Renewal as u64);
        }
    }
}
