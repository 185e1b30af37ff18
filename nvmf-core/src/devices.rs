//! Step 7: one CPU's channels into the devices, the operations that wait for room in them, and the leases that are out.
//!
//! A device may be closed or its memory freed only when every CPU's lease count on it is zero. Leases are move-only values in request slots and are
//! counted with plain arithmetic, since they never leave their CPU. Channels are opened elsewhere and come by message; they go home the same way, and
//! only then can a device's place be another's.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use bdev::{Channel, Completion, Operation};
use reactor::{Progress, Rest, Segment};

use crate::namespace::DeviceIndex;
use crate::order::Way;

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
    /// Whether this CPU's sleep ends with the channel's descriptor.
    is_watched: bool,
}

/// All devices of the target, as this CPU reaches them.
pub(crate) struct Devices {
    /// By the device's place: as many as the highest one.
    ports: Vec<Option<Port>>,
    /// Operations that each port has room for.
    room: usize,
}

impl Devices {
    /// With the channels of the devices that are there from the start, in their order.
    pub(crate) fn new(channels: Vec<Box<dyn Channel>>) -> Self {
        let ports = channels.into_iter().map(|channel| Some(Port::new(Way { channel, is_watched: true }, 0))).collect();
        Self { ports, room: 0 }
    }

    /// Makes sure that `request_count` operations in all can wait in each port without an allocation.
    pub(crate) fn reserve(&mut self, request_count: usize) {
        self.room = request_count;
        for port in self.ports.iter_mut().flatten() {
            port.operations.reserve(request_count.saturating_sub(port.operations.len()));
        }
    }

    /// A channel has come.
    pub(crate) fn open(&mut self, device: DeviceIndex, way: Way) {
        let place = usize::from(device.0);
        if self.ports.len() <= place {
            self.ports.resize_with(place + 1, || None);
        }
        let old = self.ports[place].replace(Port::new(way, self.room));
        assert!(old.is_none(), "device {} has a channel already", device.0);
    }

    /// The channel goes. `None`: there was none.
    pub(crate) fn close(&mut self, device: DeviceIndex) -> Option<Way> {
        let port = self.ports.get_mut(usize::from(device.0))?.take()?;
        assert_eq!(port.lease_count, 0, "a channel goes when the last lease is home");
        Some(Way { channel: port.channel, is_watched: port.is_watched })
    }

    /// A lease on the device. `None`: there is no way into it on this CPU.
    pub(crate) fn lease(&mut self, device: DeviceIndex) -> Option<DeviceLease> {
        self.ports.get_mut(usize::from(device.0))?.as_mut()?.lease_count += 1;
        Some(DeviceLease { device })
    }

    /// Takes a lease back.
    pub(crate) fn give(&mut self, lease: DeviceLease) {
        let port = self.port(lease.device);
        assert!(port.lease_count > 0, "a lease is given back once");
        port.lease_count -= 1;
    }

    /// Leases on one device that are out.
    pub(crate) fn lease_count_of(&self, device: DeviceIndex) -> u64 {
        self.ports.get(usize::from(device.0)).and_then(Option::as_ref).map_or(0, |port| port.lease_count)
    }

    /// Leases that are out, on all devices.
    pub(crate) fn lease_count(&self) -> u64 {
        self.ports.iter().flatten().map(|port| port.lease_count).sum()
    }

    /// The blocks' own memory, where the device has such.
    pub(crate) fn in_place(&self, device: DeviceIndex, start_block: u64, block_count: u64) -> Option<Segment> {
        self.ports.get(usize::from(device.0))?.as_ref()?.channel.in_place(start_block, block_count)
    }

    /// Queues an operation for this turn's submission. The caller has a lease.
    pub(crate) fn queue(&mut self, device: DeviceIndex, operation: Operation) {
        self.port(device).operations.push_back(operation);
    }

    /// Submits what is queued, one batch a channel, and collects what has completed.
    pub(crate) fn run(&mut self, now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let mut progress = Progress::Idle;
        for port in self.ports.iter_mut().flatten() {
            if !port.operations.is_empty() {
                port.channel.submit(now_ns, &mut port.operations);
                progress = Progress::Busy;
            }
            // A port without leases has nothing outstanding: idle devices cost a load.
            if port.lease_count > 0 {
                progress = progress.or(port.channel.poll(now_ns, completions));
            }
        }
        progress
    }

    /// This CPU would sleep: completions of what is outstanding end the sleep from here on.
    pub(crate) fn arm(&mut self) -> Rest {
        let ports = self.ports.iter_mut().flatten();
        let leased = ports.filter(|port| port.lease_count > 0 || !port.operations.is_empty());
        leased.fold(Rest::Sleep, |rest, port| {
            // What waits for room is submitted after a completion; without any outstanding none would come.
            let is_stuck = !port.operations.is_empty() && port.channel.outstanding_count() == 0;
            let rest = rest.and(if is_stuck { Rest::Poll } else { port.channel.arm() });
            // A completion that nobody would be woken by is waited for awake.
            let is_unheard = !port.is_watched && port.channel.wake_descriptor().is_some();
            rest.and(if is_unheard { Rest::Poll } else { Rest::Sleep })
        })
    }

    /// It is awake.
    pub(crate) fn disarm(&mut self) {
        for port in self.ports.iter_mut().flatten().filter(|port| port.lease_count > 0) {
            port.channel.disarm();
        }
    }

    /// What becomes readable then.
    pub(crate) fn wake_descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.ports.iter().flatten().filter(|port| port.is_watched).filter_map(|port| port.channel.wake_descriptor())
    }

    fn port(&mut self, device: DeviceIndex) -> &mut Port {
        match self.ports.get_mut(usize::from(device.0)) {
            Some(Some(port)) => port,
            // A lease keeps it.
            Some(None) | None => unreachable!("device {} has leases and no channel", device.0),
        }
    }
}

impl Port {
    fn new(Way { channel, is_watched }: Way, room: usize) -> Self {
        Self { channel, operations: VecDeque::with_capacity(room), lease_count: 0, is_watched }
    }
}
