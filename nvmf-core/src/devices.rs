//! Step 7: one CPU's channels into the devices, the operations that wait for room in them, and the leases that are out.
//!
//! A device may be closed or its memory freed only when every CPU's lease count on it is zero. Leases are move-only values in request slots and are
//! counted with plain arithmetic, since they never leave their CPU. Channels are opened elsewhere and come by message; they go home the same way, and
//! only then can a device's place be another's.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use bdev::{Completion, DeviceError, Meter, Operation};
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
    way: Way,
    operations: VecDeque<Operation>,
    /// Those that were cancelled while they waited for room.
    cancelled: Vec<u64>,
    lease_count: u64,
    /// Resets under way: until the last of them is over nothing is submitted.
    reset_count: u32,
}

/// All devices of the target, as this CPU reaches them.
pub(crate) struct Devices {
    /// By the device's place: as many as the highest one.
    ports: Vec<Option<Port>>,
    /// Operations that each port has room for.
    room: usize,
    /// The turn's time.
    now_ns: u64,
    /// Follows what any port has.
    meter: Meter,
}

impl Devices {
    /// With the channels of the devices that are there from the start, in their order.
    pub(crate) fn new(ways: Vec<Way>) -> Self {
        Self {
            ports: ways.into_iter().map(|way| Some(Port::new(way))).collect(),
            room: 0,
            now_ns: 0,
            meter: Meter::default(),
        }
    }

    /// A turn begins.
    pub(crate) fn begin_turn(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// Makes sure that `request_count` operations in all can wait in each port without an allocation, but for the first lease on a device: those that are not
    /// used take no room.
    pub(crate) fn reserve(&mut self, request_count: usize) {
        self.room = request_count;
        self.meter.reserve(request_count);
    }

    /// A channel has come.
    pub(crate) fn open(&mut self, device: DeviceIndex, way: Way) {
        let place = usize::from(device.0);
        if self.ports.len() <= place {
            self.ports.resize_with(place + 1, || None);
        }
        let old = self.ports[place].replace(Port::new(way));
        assert!(old.is_none(), "device {} has a channel already", device.0);
    }

    /// The channel goes. `None`: there was none.
    pub(crate) fn close(&mut self, device: DeviceIndex) -> Option<Way> {
        let port = self.ports.get_mut(usize::from(device.0))?.take()?;
        assert_eq!(port.lease_count, 0, "a channel goes when the last lease is home");
        Some(port.way)
    }

    /// A lease on the device. `None`: there is no way into it on this CPU.
    pub(crate) fn lease(&mut self, device: DeviceIndex) -> Option<DeviceLease> {
        let port = self.ports.get_mut(usize::from(device.0))?.as_mut()?;
        if port.operations.capacity() < self.room {
            port.reserve(self.room);
        }
        port.lease_count += 1;
        Some(DeviceLease { device })
    }

    /// Takes a lease back.
    pub(crate) fn give(&mut self, lease: DeviceLease) {
        let port = port_of(&mut self.ports, lease.device);
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
        let port = self.ports.get(usize::from(device.0))?.as_ref()?;
        // What is read in place would pass by a reset.
        if port.reset_count > 0 { None } else { port.way.channel.in_place(start_block, block_count) }
    }

    /// A read was served out of it.
    pub(crate) fn served_in_place(&self, device: DeviceIndex, len: u32) {
        if let Some(Some(port)) = self.ports.get(usize::from(device.0)) {
            Meter::served_in_place(&port.way.statistics, u64::from(len));
        }
    }

    /// Queues an operation for this turn's submission. The caller has a lease.
    pub(crate) fn queue(&mut self, device: DeviceIndex, operation: Operation) {
        let Self { ports, meter, now_ns, .. } = self;
        let port = port_of(ports, device);
        let operation = meter.begin(*now_ns, operation, port.way.block_len, &port.way.statistics);
        port.operations.push_back(operation);
    }

    /// An operation need not be done any more. Whether it ends soon, as one that was cancelled or one that was done; otherwise it goes on.
    pub(crate) fn cancel(&mut self, device: DeviceIndex, token: u64) -> bool {
        let Some(token) = self.meter.token_of(token) else { return false };
        let Port { way, operations, cancelled, .. } = port_of(&mut self.ports, device);
        // It may still wait for room.
        match operations.iter().position(|operation| operation.token == token) {
            Some(place) => {
                operations.remove(place);
                cancelled.push(token);
                true
            }
            None => way.channel.cancel(token),
        }
    }

    /// Whatever the device has, or is about to have, need not be done any more, and nothing else is submitted before [`Self::end_reset`].
    pub(crate) fn begin_reset(&mut self, device: DeviceIndex) {
        if let Some(Some(port)) = self.ports.get_mut(usize::from(device.0)) {
            port.reset_count += 1;
            port.cancelled.extend(port.operations.drain(..).map(|operation| operation.token));
            port.way.channel.cancel_all();
        }
    }

    /// Whether nothing that was submitted or cancelled has still to end.
    pub(crate) fn is_drained(&self, device: DeviceIndex) -> bool {
        self.ports
            .get(usize::from(device.0))
            .and_then(Option::as_ref)
            .is_none_or(|port| port.cancelled.is_empty() && port.way.channel.outstanding_count() == 0)
    }

    /// What came meanwhile is submitted, in its order, unless another reset is under way.
    pub(crate) fn end_reset(&mut self, device: DeviceIndex) {
        if let Some(Some(port)) = self.ports.get_mut(usize::from(device.0)) {
            // It may have come after the reset began.
            port.reset_count = port.reset_count.saturating_sub(1);
        }
    }

    /// Submits what is queued, one batch a channel, and collects what has completed.
    pub(crate) fn run(&mut self, completions: &mut Vec<Completion>) -> Progress {
        let Self { ports, meter, now_ns, .. } = self;
        let mut progress = Progress::Idle;
        for port in ports.iter_mut().flatten() {
            if !port.operations.is_empty() && port.reset_count == 0 {
                port.way.channel.submit(*now_ns, &mut port.operations);
                progress = Progress::Busy;
            }
            // A port without leases has nothing outstanding: idle devices cost a load.
            if port.lease_count > 0 {
                progress = progress.or(port.poll(*now_ns, meter, completions));
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
            let may_submit = !port.operations.is_empty() && port.reset_count == 0;
            let is_stuck = may_submit && port.way.channel.outstanding_count() == 0;
            let is_stuck = is_stuck || !port.cancelled.is_empty();
            let rest = rest.and(if is_stuck { Rest::Poll } else { port.way.channel.arm() });
            // A completion that nobody would be woken by is waited for awake.
            let is_unheard = !port.way.is_watched && port.way.channel.wake_descriptor().is_some();
            rest.and(if is_unheard { Rest::Poll } else { Rest::Sleep })
        })
    }

    /// It is awake.
    pub(crate) fn disarm(&mut self) {
        for port in self.ports.iter_mut().flatten().filter(|port| port.lease_count > 0) {
            port.way.channel.disarm();
        }
    }

    /// What becomes readable then.
    pub(crate) fn wake_descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.ports
            .iter()
            .flatten()
            .filter(|port| port.way.is_watched)
            .filter_map(|port| port.way.channel.wake_descriptor())
    }
}

/// The port of a device that has leases.
fn port_of(ports: &mut [Option<Port>], device: DeviceIndex) -> &mut Port {
    match ports.get_mut(usize::from(device.0)) {
        Some(Some(port)) => port,
        // A lease keeps it.
        Some(None) | None => unreachable!("device {} has leases and no channel", device.0),
    }
}

impl Port {
    fn new(way: Way) -> Self {
        Self { way, operations: VecDeque::new(), cancelled: Vec::new(), lease_count: 0, reset_count: 0 }
    }

    fn reserve(&mut self, request_count: usize) {
        self.operations.reserve(request_count.saturating_sub(self.operations.len()));
    }

    fn poll(&mut self, now_ns: u64, meter: &mut Meter, completions: &mut Vec<Completion>) -> Progress {
        let had_len = completions.len();
        let result = Err(DeviceError::Cancelled);
        completions.extend(self.cancelled.drain(..).map(|token| Completion { token, result }));
        let progress = self.way.channel.poll(now_ns, completions);
        let mut place = had_len;
        while let Some(completion) = completions.get_mut(place) {
            match meter.end(now_ns, *completion, &self.way.statistics) {
                Some(ended) => {
                    *completion = ended;
                    place += 1;
                }
                None => drop(completions.remove(place)),
            }
        }
        progress
    }
}
