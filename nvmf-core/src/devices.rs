//! Step 7: one CPU's channels into the devices, the operations that wait for room in them, and the leases that are out.
//!
//! A device may be closed or its memory freed only when every CPU's lease count on it is zero. Leases are move-only values in request slots and are
//! counted with plain arithmetic, since they never leave their CPU.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use bdev::{BdevError, Channel, Completion, Device, Operation};
use reactor::{Progress, Rest, Segment};

use crate::namespace::DeviceIndex;

/// The right to a device's memory and channel: held from the start of an operation until the last transfer out of the device's memory has been
/// returned.
#[derive(Debug)]
#[must_use = "a lease goes back to its device"]
pub(crate) struct DeviceLease {
    device: DeviceIndex,
}

impl DeviceLease {
    /// Whether it is on this device.
    pub(crate) fn is_on(&self, device: DeviceIndex) -> bool {
        self.device == device
    }
}

struct Port {
    channel: Box<dyn Channel>,
    operations: VecDeque<Operation>,
    lease_count: u64,
}

/// All devices of the target, as this CPU reaches them.
pub(crate) struct Devices {
    ports: Vec<Port>,
}

impl Devices {
    /// Opens a channel into each.
    pub(crate) fn open<'d>(devices: impl Iterator<Item = &'d dyn Device>) -> Result<Self, BdevError> {
        let ports = devices
            .map(|device| Ok(Port { channel: device.open_channel()?, operations: VecDeque::new(), lease_count: 0 }))
            .collect::<Result<Vec<_>, BdevError>>()?;
        Ok(Self { ports })
    }

    /// Makes sure that `request_count` operations in all can wait in each port without an allocation.
    pub(crate) fn reserve(&mut self, request_count: usize) {
        for port in &mut self.ports {
            port.operations.reserve(request_count.saturating_sub(port.operations.len()));
        }
    }

    /// A lease on the device.
    pub(crate) fn lease(&mut self, device: DeviceIndex) -> DeviceLease {
        self.port(device).lease_count += 1;
        DeviceLease { device }
    }

    /// Takes a lease back.
    pub(crate) fn give(&mut self, lease: DeviceLease) {
        let port = self.port(lease.device);
        assert!(port.lease_count > 0, "a lease is given back once");
        port.lease_count -= 1;
    }

    /// Leases on one device that are out.
    pub(crate) fn lease_count_of(&self, device: DeviceIndex) -> u64 {
        self.ports.get(usize::from(device.0)).map_or(0, |port| port.lease_count)
    }

    /// Leases that are out, on all devices.
    pub(crate) fn lease_count(&self) -> u64 {
        self.ports.iter().map(|port| port.lease_count).sum()
    }

    /// The blocks' own memory, where the device has such.
    pub(crate) fn in_place(&self, device: DeviceIndex, start_block: u64, block_count: u64) -> Option<Segment> {
        self.ports[usize::from(device.0)].channel.in_place(start_block, block_count)
    }

    /// Queues an operation for this turn's submission.
    pub(crate) fn queue(&mut self, device: DeviceIndex, operation: Operation) {
        self.port(device).operations.push_back(operation);
    }

    /// Submits what is queued, one batch a channel, and collects what has completed.
    pub(crate) fn run(&mut self, completions: &mut Vec<Completion>) -> Progress {
        let mut progress = Progress::Idle;
        for port in &mut self.ports {
            if !port.operations.is_empty() {
                port.channel.submit(&mut port.operations);
                progress = Progress::Busy;
            }
            // A port without leases has nothing outstanding: idle devices cost a load.
            if port.lease_count > 0 {
                progress = progress.or(port.channel.poll(completions));
            }
        }
        progress
    }

    /// This CPU would sleep: completions of what is outstanding end the sleep from here on.
    pub(crate) fn arm(&mut self) -> Rest {
        let leased = self.ports.iter_mut().filter(|port| port.lease_count > 0 || !port.operations.is_empty());
        leased.fold(Rest::Sleep, |rest, port| {
            // What waits for room is submitted after a completion; without any outstanding none would come.
            let is_stuck = !port.operations.is_empty() && port.channel.outstanding_count() == 0;
            rest.and(if is_stuck { Rest::Poll } else { port.channel.arm() })
        })
    }

    /// It is awake.
    pub(crate) fn disarm(&mut self) {
        for port in self.ports.iter_mut().filter(|port| port.lease_count > 0) {
            port.channel.disarm();
        }
    }

    /// What becomes readable then.
    pub(crate) fn wake_descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.ports.iter().filter_map(|port| port.channel.wake_descriptor())
    }

    fn port(&mut self, device: DeviceIndex) -> &mut Port {
        &mut self.ports[usize::from(device.0)]
    }
}
