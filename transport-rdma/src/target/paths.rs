//! The data paths of one CPU: one for each device.
//!
//! Which one a queue pair is on is looked up by the index of its handle. A CPU that is built for one device (`SEVERAL` is false) never asks: nothing of this
//! is left in its code.
//!
//! Receive permits of several paths carry the path in the bits that no path uses.

use nvmf_core::transport::{RemoteBuffer, Slot};
use nvmf_core::{Arrival, DisconnectReason, Qpair, Receive, Transport};
use reactor::{Handle, Progress, RegionId, Rest, Segment, Turn};

use super::data_path::DataPath;
use crate::verbs::{DeviceId, Port};

/// A path's own part of a receive permit's number.
const RECEIVE_BITS: u32 = 24;

/// See the module.
pub(super) struct Paths<Q: Port, const SEVERAL: bool> {
    first: DataPath<Q>,
    others: Vec<DataPath<Q>>,
    /// Of the queue pair at each index: 0 is the first.
    places: Box<[u8]>,
}

impl<Q: Port, const SEVERAL: bool> Paths<Q, SEVERAL> {
    /// In the order of devices.
    pub(super) fn new(first: DataPath<Q>, others: Vec<DataPath<Q>>, queue_pair_count_max: usize) -> Self {
        assert!(SEVERAL || others.is_empty(), "a CPU for one device has paths to {}", others.len() + 1);
        let places = if SEVERAL { vec![0; queue_pair_count_max].into_boxed_slice() } else { Box::default() };
        Self { first, others, places }
    }

    /// The queue pair comes to this device.
    pub(super) fn assign(&mut self, qpair: Handle<Qpair>, device: DeviceId) {
        if SEVERAL {
            self.places[qpair.index()] = device.0;
        }
    }

    /// The path of a queue pair that is here, or any if it is gone: it is not found there either.
    #[inline]
    pub(super) fn of(&mut self, qpair: Handle<Qpair>) -> &mut DataPath<Q> {
        if SEVERAL {
            let place = self.places.get(qpair.index()).copied().unwrap_or(0);
            return self.on(DeviceId(place));
        }
        &mut self.first
    }

    /// A device's.
    #[inline]
    pub(super) fn on(&mut self, device: DeviceId) -> &mut DataPath<Q> {
        if SEVERAL && device.0 > 0 {
            return &mut self.others[usize::from(device.0) - 1];
        }
        &mut self.first
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &DataPath<Q>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut DataPath<Q>> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// Queue pairs that are here.
    pub(super) fn body_count(&self) -> usize {
        self.all().map(|path| path.bodies.len()).sum()
    }

    /// The next ending that was noted and not taken, from `position` on.
    pub(super) fn take_endings(&mut self, endings: &mut Vec<(Handle<Qpair>, DisconnectReason)>) {
        endings.append(&mut self.first.endings);
        if SEVERAL {
            for path in &mut self.others {
                endings.append(&mut path.endings);
            }
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.all().any(DataPath::has_begun)
    }

    pub(super) fn arm(&mut self, now_ns: u64) -> Rest {
        self.all_mut().fold(Rest::Sleep, |rest, path| rest.and(path.port.arm(now_ns)))
    }

    pub(super) fn disarm(&mut self) {
        self.all_mut().for_each(|path| path.port.disarm());
    }
}

impl<Q: Port, const SEVERAL: bool> Transport for Paths<Q, SEVERAL> {
    #[inline]
    fn poll<M>(&mut self, turn: &mut Turn<'_, M>, arrivals: &mut Vec<Arrival>) -> Progress {
        let mut progress = self.first.poll(turn, arrivals);
        if SEVERAL {
            for (place, path) in (1_u32..).zip(&mut self.others) {
                let begin = arrivals.len();
                progress = progress.or(path.poll(turn, arrivals));
                for arrival in &mut arrivals[begin..] {
                    if let Arrival::Command { receive, .. } = arrival {
                        receive.id |= place << RECEIVE_BITS;
                    }
                }
            }
        }
        progress
    }

    #[inline]
    fn consumed(&mut self, receive: Receive) {
        if SEVERAL {
            let device = DeviceId((receive.id >> RECEIVE_BITS) as u8);
            return self.on(device).consumed(Receive { id: receive.id & ((1 << RECEIVE_BITS) - 1) });
        }
        self.first.consumed(receive);
    }

    #[inline]
    fn pull(&mut self, qpair: Handle<Qpair>, slot: Slot, from: RemoteBuffer, into: Segment) {
        self.of(qpair).pull(qpair, slot, from, into);
    }

    #[inline]
    fn push(&mut self, qpair: Handle<Qpair>, slot: Slot, from: Segment, to: RemoteBuffer) {
        self.of(qpair).push(qpair, slot, from, to);
    }

    #[inline]
    fn respond(&mut self, qpair: Handle<Qpair>, slot: Slot, response: [u8; 16], invalidate: Option<u32>) {
        self.of(qpair).respond(qpair, slot, response, invalidate);
    }

    #[inline]
    fn ring(&mut self) {
        self.first.ring();
        if SEVERAL {
            self.others.iter_mut().for_each(DataPath::ring);
        }
    }

    /// All devices know the same memory, each while it is there.
    #[inline]
    fn is_registered(&self, region: RegionId) -> bool {
        self.first.is_registered(region) && (!SEVERAL || self.others.iter().all(|path| path.is_registered(region)))
    }

    fn disconnect(&mut self, qpair: Handle<Qpair>, reason: DisconnectReason) {
        self.of(qpair).disconnect(qpair, reason);
    }
}
