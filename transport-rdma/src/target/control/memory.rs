//! Memory of block devices that come and go while the target runs.
//!
//! A device that has memory of its own is read straight out of it, and for that the memory is registered with every RDMA device, before any CPU has a way into the
//! block device. Each polling CPU is told the key as soon as there is one. Where a registration fails the log says so, and reads there go through buffers.
//!
//! A block device that is gone gives its memory back when the last registration has ended: the CPUs have sent their ways home by then, and a way goes home
//! when the last lease has, which is held until the last transfer out of the memory was returned. So no key is used after its end.
//!
//! | who | waits for |
//! |---|---|
//! | [`Arriving`] | the registrations that were begun with it |
//! | [`Leaving`] | the deregistrations; and a registration that had been begun, which is ended then |
//!
//! Memory that several block devices share is registered with the first of them, and stays so until the last has gone.
//!
//! An RDMA device that is not there registers it when it is back, as it does all memory ([`super::reopening`]).

use std::collections::VecDeque;

use nvmf_core::ChangeId;
use nvmf_core::target::{MadeDevice, RetiredDevice};
use reactor::{RegionId, Segment, Turn};

use super::device::Device;
use super::{Control, Phase, TicketKind, cpu_of};
use crate::target::message::{Message, ToCpu};
use crate::target::region::begin_register;
use crate::verbs::{DeviceId, Provider, RegisteredMemory, Ticket, VerbsError};

/// All memory that RDMA devices may use, and block devices that wait for a registration to begin or end.
#[derive(Default)]
pub(super) struct Memories {
    /// Oldest first.
    pub(super) segments: Vec<Segment>,
    arriving: Vec<Arriving>,
    leaving: Vec<Leaving>,
    gone: VecDeque<RetiredDevice>,
    last_number: u64,
}

/// A block device that was made.
struct Arriving {
    change: ChangeId,
    made: MadeDevice,
    segment: Segment,
    tickets: Vec<Ticket>,
}

/// One that is no more.
struct Leaving {
    retired: RetiredDevice,
    tickets: Vec<Ticket>,
}

impl Memories {
    pub(super) fn new(segments: Vec<Segment>) -> Self {
        Self { segments, ..Self::default() }
    }

    /// Whether this memory is to be registered.
    pub(super) fn has(&self, region: RegionId) -> bool {
        self.segments.iter().any(|segment| segment.region() == region)
    }

    /// Whether nothing waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.arriving.is_empty() && self.leaving.is_empty()
    }

    /// One that no other call has. It goes by a count of this target's, since the ids of regions are another in every run.
    pub(super) fn ticket(&mut self, kind: TicketKind, device: DeviceId) -> Ticket {
        self.last_number += 1;
        kind.numbered(self.last_number << 8 | u64::from(device.0))
    }
}

impl<P: Provider> Control<P> {
    /// A device was made: it can be used when its memory, if it has such, is registered.
    pub(super) fn take_device_in(&mut self, turn: &mut Turn<'_, Message<P>>, change: ChangeId, made: MadeDevice) {
        let segment = made.device.memory().filter(|_| self.phase == Phase::Serving);
        let Some(segment) = segment.filter(|segment| !self.memories.has(segment.region())) else {
            return self.open_device(turn, change, made);
        };
        self.memories.segments.push(segment);
        let mut tickets = Vec::new();
        for (device, record) in (0..).map(DeviceId).zip(&self.devices) {
            if record.is_present() {
                let ticket = self.memories.ticket(TicketKind::RegisterLate, device);
                begin_register(&mut self.provider, device, ticket, segment);
                tickets.push(ticket);
            }
        }
        self.memories.arriving.push(Arriving { change, made, segment, tickets });
        self.open_registered(turn);
    }

    /// Those that wait for nothing.
    fn open_registered(&mut self, turn: &mut Turn<'_, Message<P>>) {
        while let Some(place) = self.memories.arriving.iter().position(|arriving| arriving.tickets.is_empty()) {
            let Arriving { change, made, .. } = self.memories.arriving.remove(place);
            self.open_device(turn, change, made);
        }
    }

    /// Every CPU gets its way into the device, and sleeps on its descriptor as on the others.
    fn open_device(&mut self, turn: &mut Turn<'_, Message<P>>, change: ChangeId, made: MadeDevice) {
        let wakes = &self.wakes;
        self.core.device_made(change, made, |cpu, descriptor| {
            let Some(wakes) = wakes.get(usize::from(cpu.0)).filter(|wakes| wakes.is_there()) else { return false };
            let added = wakes.add(descriptor);
            if let Err(error) = &added {
                tracing::warn!(cpu = cpu.0, %error, "a CPU stays awake while a new device has I/O of its: epoll_ctl failed");
            }
            added.is_ok()
        });
        self.core.poll(turn);
    }

    /// The end of [`TicketKind::RegisterLate`].
    pub(super) fn registered_late(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        ticket: Ticket,
        result: Result<RegisteredMemory, VerbsError>,
    ) {
        let device = DeviceId(ticket.0.to_le_bytes()[0]);
        let mut waits = self.memories.arriving.iter_mut();
        let Some(arriving) = waits.find(|arriving| arriving.tickets.contains(&ticket)) else {
            return self.counts.stale_events += 1;
        };
        arriving.tickets.retain(|other| *other != ticket);
        let (region, name) = (arriving.segment.region(), arriving.made.device.name().to_owned());
        match (result, self.devices.get_mut(usize::from(device.0))) {
            (Ok(registered), Some(record)) if record.is_present() => {
                record.regions.insert(region, registered);
                self.tell_of_memory(turn, device, region, Some(registered.local_key));
            }
            // It went meanwhile: it registers all memory when it is back.
            (Ok(registered), _) => {
                self.provider.begin_deregister_on(device, TicketKind::Discard.numbered(0), registered);
            }
            (Err(error), _) => {
                tracing::warn!(number = device.0, device = name, %error, "memory of a new device could not be registered: it is read through buffers");
            }
        }
        self.open_registered(turn);
    }

    /// A block device that nothing of the target knows any more, and whose memory no RDMA device may use, each once.
    pub fn next_retired(&mut self, turn: &mut Turn<'_, Message<P>>) -> Option<RetiredDevice> {
        while let Some(retired) = self.core.next_retired() {
            let region = retired.device.memory().map(|segment| segment.region());
            let tickets = region
                .filter(|region| !self.is_shared(*region))
                .map(|region| self.deregister(turn, region))
                .unwrap_or_default();
            if tickets.is_empty() {
                self.memories.gone.push_back(retired);
            } else {
                self.memories.leaving.push(Leaving { retired, tickets });
            }
        }
        self.memories.gone.pop_front()
    }

    /// Whether a device that is there, or is to be, has this memory: some devices share theirs.
    fn is_shared(&self, region: RegionId) -> bool {
        let is_it = |arriving: &Arriving| arriving.segment.region() == region;
        self.core.has_memory(region) || self.memories.arriving.iter().any(is_it)
    }

    /// Begins the end of a region's registrations: what they end with.
    fn deregister(&mut self, turn: &mut Turn<'_, Message<P>>, region: RegionId) -> Vec<Ticket> {
        self.memories.segments.retain(|segment| segment.region() != region);
        let mut tickets = Vec::new();
        for device in self.device_ids() {
            let record = &mut self.devices[usize::from(device.0)];
            let is_present = record.is_present();
            if let Device::Opened(opened) = &mut record.state {
                opened.keys.remove(region);
                // One that is under way is ended when it has begun.
                tickets.extend(opened.registering.filter(|(_, of)| *of == region).map(|(ticket, _)| ticket));
            }
            if let Some(registered) = record.regions.remove(&region) {
                let ticket = self.memories.ticket(TicketKind::DeregisterLate, device);
                self.provider.begin_deregister_on(device, ticket, registered);
                tickets.push(ticket);
                if is_present {
                    self.tell_of_memory(turn, device, region, None);
                }
            }
        }
        tickets
    }

    /// A registration ended that had been begun for a device that was back, of memory that is no more: false if nobody waits for that.
    pub(super) fn registered_in_vain(
        &mut self,
        device: DeviceId,
        ticket: Ticket,
        registered: Option<RegisteredMemory>,
    ) -> bool {
        let Some(place) = self.memories.leaving.iter().position(|leaving| leaving.tickets.contains(&ticket)) else {
            return false;
        };
        match registered {
            Some(registered) => {
                let next = self.memories.ticket(TicketKind::DeregisterLate, device);
                self.provider.begin_deregister_on(device, next, registered);
                let tickets = &mut self.memories.leaving[place].tickets;
                tickets.retain(|other| *other != ticket);
                tickets.push(next);
            }
            None => self.deregistered_late(ticket),
        }
        true
    }

    /// The end of [`TicketKind::DeregisterLate`].
    pub(super) fn deregistered_late(&mut self, ticket: Ticket) {
        let Some(place) = self.memories.leaving.iter().position(|leaving| leaving.tickets.contains(&ticket)) else {
            return self.counts.stale_events += 1;
        };
        let leaving = &mut self.memories.leaving[place];
        leaving.tickets.retain(|other| *other != ticket);
        if leaving.tickets.is_empty() {
            let Leaving { retired, .. } = self.memories.leaving.remove(place);
            self.memories.gone.push_back(retired);
        }
    }

    /// Every CPU is told; none that may have left.
    fn tell_of_memory(&self, turn: &mut Turn<'_, Message<P>>, device: DeviceId, region: RegionId, key: Option<u32>) {
        if matches!(self.phase, Phase::Serving | Phase::Ending) {
            for cpu in 0..self.wakes.len() {
                turn.send(cpu_of(cpu), ToCpu::Memory { device, region, key }.into());
            }
        }
    }
}
