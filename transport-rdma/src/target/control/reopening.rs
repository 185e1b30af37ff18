//! A device that was removed comes back.
//!
//! Once everything that was on it has ended and the provider has let go of it, it is looked for, once a second. When it is there its memory is registered
//! again, and each polling CPU is sent a new port; then its addresses are listened on as before ([`super::renewal`]). What fails on the way is tried again from there.
//! It may go again at any step: then all of it is dropped, and begins anew.
//!
//! No CPU's answer is waited for: a queue pair that comes to it later finds the new port, since messages keep their order.

use reactor::Turn;

use super::admission::CpuLoad;
use super::device::{Device, Opened, Search};
use super::{Control, Limits, Phase, TicketKind, Timer, cpu_of};
use crate::target::message::{Message, ToCpu};
use crate::target::region::{RegionKeys, begin_register};
use crate::trace::Step;
use crate::verbs::{Port, Provider, RegisteredMemory, Ticket, VerbsError};

/// How often it is looked for, and what failed tried again.
const LOOK_NS: u64 = 1_000_000_000;

impl<P: Provider> Control<P> {
    /// Nothing that was made of the device is left.
    pub(super) fn device_released(&mut self, turn: &mut Turn<'_, Message<P>>) {
        // The provider says first that it went, unless that was lost.
        self.device_removed(turn);
        match &mut self.device {
            Device::Removed { is_released } => *is_released = true,
            Device::Present | Device::Awaited(_) | Device::Opened(_) => self.counts.stale_events += 1,
        }
    }

    /// Begins to look for it when nothing of before is left here either: answers to calls may still be on their way.
    pub(super) fn advance_return(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let is_released = matches!(self.device, Device::Removed { is_released: true });
        if !is_released || self.phase != Phase::Serving || !self.records.is_empty() || !self.listeners.is_empty() {
            return;
        }
        // They ended with it.
        self.regions.clear();
        self.device = Device::Awaited(Search::default());
        let addresses = self.awaited_addresses();
        tracing::warn!(?addresses, "the RDMA device is waited for: it is looked for every second");
        self.try_in_a_while(turn);
    }

    /// The timer's: goes on where it has failed, or was not there.
    pub(super) fn look_for_device(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let addresses = self.awaited_addresses();
        match &mut self.device {
            _ if self.phase != Phase::Serving => {}
            Device::Awaited(search) if search.is_under_way => {}
            Device::Awaited(search) => {
                search.is_under_way = true;
                self.provider.begin_reopen(TicketKind::Reopen.numbered(0), &addresses);
            }
            Device::Opened(opened) if opened.ticket.is_none() => self.fit_out(turn),
            Device::Opened(_) | Device::Present | Device::Removed { .. } => {}
        }
    }

    pub(super) fn device_reopened(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        _ticket: Ticket,
        result: Result<(), VerbsError>,
    ) {
        let Device::Awaited(search) = &mut self.device else { return self.counts.stale_events += 1 };
        match result {
            Err(error) => {
                search.is_under_way = false;
                let why = error.to_string();
                if search.said != why {
                    tracing::info!(why, "the RDMA device is not back");
                    search.said = why;
                }
                self.try_in_a_while(turn);
            }
            Ok(()) => {
                tracing::info!(provider = self.provider.name(), "the RDMA device is there again");
                self.device = Device::Opened(Opened {
                    ticket: None,
                    keys: RegionKeys::default(),
                    ports: Vec::new(),
                    has_complained: false,
                });
                self.fit_out(turn);
            }
        }
    }

    /// The next thing that is missing: a region's registration, ports. When nothing is, the device is in use again.
    fn fit_out(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let Device::Opened(opened) = &mut self.device else { return };
        if let Some(segment) = self.segments.get(self.regions.len()) {
            // Numbers of returns and regions are far below 2^28.
            let number = (self.counts.device_returns << 28) | self.regions.len() as u64;
            let ticket = TicketKind::Register.numbered(number);
            opened.ticket = Some(ticket);
            return begin_register(&mut self.provider, ticket, *segment);
        }
        let old = &self.limits;
        let limits =
            Limits::new(old.controller, self.provider.attributes(), old.queue_pair_count_max, old.shared_receive_count);
        while opened.ports.len() < self.wakes.len() {
            let wakes = &self.wakes[opened.ports.len()];
            let made = self.provider.create_port(limits.port_options()).and_then(|(id, port)| {
                let added = port.wake_descriptor().map_or(Ok(()), |descriptor| wakes.add(descriptor));
                added.map_err(|source| VerbsError::System { call: "epoll_ctl for a polling CPU", source })?;
                Ok((id, port))
            });
            match made {
                Ok(port) => opened.ports.push(port),
                Err(error) => return self.complain(turn, &error),
            }
        }
        self.take_in(turn, limits);
    }

    pub(super) fn registered(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        ticket: Ticket,
        result: Result<RegisteredMemory, VerbsError>,
    ) {
        let segment = self.segments.get(self.regions.len()).copied();
        match (&mut self.device, segment, result) {
            (Device::Opened(opened), Some(segment), result) if opened.ticket == Some(ticket) => {
                opened.ticket = None;
                match result {
                    Ok(region) => {
                        opened.keys.insert(segment.region(), region.local_key);
                        self.regions.push(region);
                        self.fit_out(turn);
                    }
                    Err(error) => self.complain(turn, &error),
                }
            }
            // The device went, or the target ends.
            (_, _, result) => {
                self.counts.stale_events += 1;
                if let Ok(region) = result {
                    self.provider.begin_deregister(TicketKind::Discard.numbered(0), region);
                }
            }
        }
    }

    /// Every CPU gets its new port, and hosts may come.
    fn take_in(&mut self, turn: &mut Turn<'_, Message<P>>, limits: Limits) {
        let Device::Opened(opened) = std::mem::replace(&mut self.device, Device::Present) else { return };
        self.limits = limits;
        for load in &mut self.loads {
            // Nobody has any of it: there is no record.
            *load = CpuLoad::new(&limits);
        }
        self.ports = opened.ports.iter().map(|(id, _)| *id).collect();
        for (cpu, (_, port)) in opened.ports.into_iter().enumerate() {
            let fitting = Box::new(limits.fitting(port, opened.keys.clone()));
            turn.send(cpu_of(cpu), ToCpu::Refit { fitting }.into());
        }
        self.counts.device_returns += 1;
        Step::DeviceReturned.trace(turn, 0, self.counts.device_returns);
        tracing::info!(provider = self.provider.name(), "the RDMA device is back in use");
        self.listen_anew(turn);
    }

    /// Once for each return; tries again in a while.
    fn complain(&mut self, turn: &mut Turn<'_, Message<P>>, error: &VerbsError) {
        if let Device::Opened(opened) = &mut self.device
            && !std::mem::replace(&mut opened.has_complained, true)
        {
            tracing::error!(%error, "the RDMA device is there again, and cannot be used yet: it is tried every second");
        }
        self.try_in_a_while(turn);
    }

    fn try_in_a_while(&mut self, turn: &mut Turn<'_, Message<P>>) {
        turn.arm(turn.now_ns() + LOOK_NS, Timer::Device as u64);
    }
}
