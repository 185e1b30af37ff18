//! A device that was removed comes back.
//!
//! Once everything that was on it has ended and the provider has let go of it, it is looked for, once a second. When it is there its memory is registered
//! again, and each polling CPU is sent a new port; then its addresses are listened on as before ([`super::renewal`]). What fails on the way is tried again from there.
//! It may go again at any step: then all of it is dropped, and begins anew.
//!
//! No CPU's answer is waited for: a queue pair that comes to it later finds the new port, since messages keep their order.

use reactor::{Segment, Turn};

use super::admission::CpuLoad;
use super::device::{Device, DeviceRecord, Opened, Search};
use super::{Control, Limits, Phase, TicketKind, Timer, cpu_of};
use crate::target::message::{Message, ToCpu};
use crate::target::region::{RegionKeys, begin_register};
use crate::trace::Step;
use crate::verbs::{DeviceId, Port, Provider, RegisteredMemory, Ticket, VerbsError};

/// How often it is looked for, and what failed tried again.
const LOOK_NS: u64 = 1_000_000_000;

impl<P: Provider> Control<P> {
    /// Nothing that was made of the device is left.
    pub(super) fn device_released(&mut self, turn: &mut Turn<'_, Message<P>>, device: DeviceId) {
        // The provider says first that it went, unless that was lost.
        self.device_removed(turn, device);
        match &mut self.device_mut(device).state {
            Device::Removed { is_released } => *is_released = true,
            Device::Present | Device::Awaited(_) | Device::Opened(_) => self.counts.stale_events += 1,
        }
    }

    /// Begins to look for devices of which nothing is left here either: answers to calls may still be on their way.
    pub(super) fn advance_return(&mut self, turn: &mut Turn<'_, Message<P>>) {
        for device in self.device_ids() {
            let is_released = matches!(self.on(device).state, Device::Removed { is_released: true });
            if is_released && self.phase == Phase::Serving && !self.is_used(device) {
                let record = self.device_mut(device);
                // They ended with it.
                record.regions.clear();
                record.state = Device::Awaited(Search::default());
                let addresses = self.awaited_addresses(device);
                tracing::warn!(
                    number = device.0,
                    ?addresses,
                    "the RDMA device is waited for: it is looked for every second"
                );
                self.try_in_a_while(turn);
            }
        }
    }

    fn is_used(&self, device: DeviceId) -> bool {
        let has_listener = self.listeners.iter().any(|listener| listener.device == device);
        has_listener || self.records.iter().any(|(_, record)| record.device == device)
    }

    pub(super) fn device_ids(&self) -> impl Iterator<Item = DeviceId> + use<P> {
        (0..self.provider.device_count()).map(DeviceId)
    }

    fn device_mut(&mut self, device: DeviceId) -> &mut DeviceRecord<P::Port> {
        &mut self.devices[usize::from(device.0)]
    }

    /// The timer's: goes on where it has failed, or was not there.
    pub(super) fn look_for_devices(&mut self, turn: &mut Turn<'_, Message<P>>) {
        if self.phase != Phase::Serving {
            return;
        }
        for device in self.device_ids() {
            let addresses = self.awaited_addresses(device);
            match &mut self.device_mut(device).state {
                Device::Awaited(search) if !search.is_under_way => {
                    search.is_under_way = true;
                    let ticket = TicketKind::Reopen.numbered(device.0.into());
                    self.provider.begin_reopen_on(device, ticket, &addresses);
                }
                Device::Opened(opened) if opened.registering.is_none() => self.fit_out(turn, device),
                Device::Awaited(_) | Device::Opened(_) | Device::Present | Device::Removed { .. } => {}
            }
        }
    }

    pub(super) fn device_reopened(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        ticket: Ticket,
        result: Result<(), VerbsError>,
    ) {
        let device = DeviceId(ticket.0.to_le_bytes()[0]);
        let Some(Device::Awaited(search)) = self.devices.get_mut(usize::from(device.0)).map(|record| &mut record.state)
        else {
            return self.counts.stale_events += 1;
        };
        match result {
            Err(error) => {
                search.is_under_way = false;
                let why = error.to_string();
                if search.said != why {
                    tracing::info!(number = device.0, why, "the RDMA device is not back");
                    search.said = why;
                }
                self.try_in_a_while(turn);
            }
            Ok(()) => {
                tracing::info!(provider = self.provider.name(), number = device.0, "the RDMA device is there again");
                self.device_mut(device).state = Device::Opened(Opened {
                    registering: None,
                    keys: RegionKeys::default(),
                    ports: Vec::new(),
                    has_complained: false,
                });
                self.fit_out(turn, device);
            }
        }
    }

    /// The next thing that is missing: a region's registration, ports. When nothing is, the device is in use again.
    fn fit_out(&mut self, turn: &mut Turn<'_, Message<P>>, device: DeviceId) {
        let common = DeviceRecord::common_limits(&self.devices);
        let is_idle = self.records.is_empty();
        let record = &mut self.devices[usize::from(device.0)];
        let Device::Opened(opened) = &mut record.state else { return };
        let is_missing = |segment: &Segment| !record.regions.contains_key(&segment.region());
        if let Some(segment) = self.memories.segments.iter().copied().find(is_missing) {
            let ticket = self.memories.ticket(TicketKind::Register, device);
            opened.registering = Some((ticket, segment.region()));
            return begin_register(&mut self.provider, device, ticket, segment);
        }
        let old = &record.limits;
        let attributes = self.provider.attributes_of(device);
        let limits = Limits::new(old.controller, attributes, old.queue_pair_count_max, old.shared_receive_count);
        if !is_idle && limits.completion_count < common.completion_count {
            // Connections of other devices have their room by what was agreed with this one.
            let (value, limit) = (common.completion_count.into(), limits.completion_count.into());
            return self.complain(turn, device, &VerbsError::Limit { what: "completion_count", value, limit });
        }
        while opened.ports.len() < self.wakes.len() {
            let wakes = &self.wakes[opened.ports.len()];
            let made = self.provider.create_port_on(device, limits.port_options()).and_then(|(id, port)| {
                let added = port.wake_descriptor().map_or(Ok(()), |descriptor| wakes.add(descriptor));
                added.map_err(|source| VerbsError::System { call: "epoll_ctl for a polling CPU", source })?;
                Ok((id, port))
            });
            match made {
                Ok(port) => opened.ports.push(port),
                Err(error) => return self.complain(turn, device, &error),
            }
        }
        self.take_in(turn, device, limits);
    }

    pub(super) fn registered(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        ticket: Ticket,
        result: Result<RegisteredMemory, VerbsError>,
    ) {
        let device = DeviceId(ticket.0.to_le_bytes()[0]);
        let Some(record) = self.devices.get_mut(usize::from(device.0)) else {
            return self.counts.stale_events += 1;
        };
        let mut wanted = None;
        if let Device::Opened(opened) = &mut record.state
            && let Some((_, region)) = opened.registering.take_if(|(of, _)| *of == ticket)
        {
            match &result {
                Err(error) if self.memories.has(region) => return self.complain(turn, device, error),
                Ok(registered) if self.memories.has(region) => {
                    opened.keys.insert(region, registered.local_key);
                    record.regions.insert(region, *registered);
                    return self.fit_out(turn, device);
                }
                Ok(_) | Err(_) => wanted = Some(region),
            }
        }
        if !self.registered_in_vain(device, ticket, result.as_ref().ok().copied()) {
            // The device went, or the target ends.
            self.counts.stale_events += 1;
            if let Ok(region) = result {
                self.provider.begin_deregister_on(device, TicketKind::Discard.numbered(0), region);
            }
        }
        // Of memory that went meanwhile: there may be more.
        if wanted.is_some() {
            self.fit_out(turn, device);
        }
    }

    /// Every CPU gets its new port, and hosts may come.
    fn take_in(&mut self, turn: &mut Turn<'_, Message<P>>, device: DeviceId, limits: Limits) {
        let record = self.device_mut(device);
        let Device::Opened(opened) = std::mem::replace(&mut record.state, Device::Present) else { return };
        record.replace_ports(limits, opened.ports.iter().map(|(id, _)| *id).collect());
        if self.records.is_empty() {
            // Nobody has any room: it is as large as it can be now.
            let common = DeviceRecord::common_limits(&self.devices);
            for load in &mut self.loads {
                *load = CpuLoad::new(&common);
            }
        }
        self.look_at_ports_anew();
        for (cpu, (_, port)) in opened.ports.into_iter().enumerate() {
            let fitting = Box::new(limits.fitting(port, opened.keys.clone()));
            turn.send(cpu_of(cpu), ToCpu::Refit { device, fitting }.into());
        }
        self.counts.device_returns += 1;
        Step::DeviceReturned.trace(turn, device.0.into(), self.counts.device_returns);
        tracing::info!(provider = self.provider.name(), number = device.0, "the RDMA device is back in use");
        self.listen_anew(turn);
    }

    /// Once for each return; tries again in a while.
    fn complain(&mut self, turn: &mut Turn<'_, Message<P>>, device: DeviceId, error: &VerbsError) {
        if let Device::Opened(opened) = &mut self.device_mut(device).state
            && !std::mem::replace(&mut opened.has_complained, true)
        {
            tracing::error!(
                number = device.0,
                %error,
                "the RDMA device is there again, and cannot be used yet: it is tried every second"
            );
        }
        self.try_in_a_while(turn);
    }

    fn try_in_a_while(&mut self, turn: &mut Turn<'_, Message<P>>) {
        turn.arm(turn.now_ns() + LOOK_NS, Timer::Device as u64);
    }
}
