//! Requests that the walk itself holds back, in the order in which they came, until a condition of this CPU ends.
//!
//! A parked request keeps its slot and, where its data came in the capsule, its receive; everything else it has still to ask for. One alone keeps
//! more: the second of a pair, whose first has compared, keeps their lock. Whoever ends a
//! condition calls [`PollGroup::unpark`], and the requests go through the I/O batch once more, as if they had just come: whatever holds then, holds
//! for them too. So a request may be parked again, for the same cause or another.

use std::collections::VecDeque;

use super::PollGroup;
use super::buffers::RequestName;
use crate::qpair::request::{Fusion, Hold, RequestEvent};
use crate::subsystem::SubsystemId;

/// What a parked request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its subsystem is paused.
    Paused(SubsystemId),
}

/// The parked requests of one CPU.
#[derive(Default)]
pub(super) struct Parking {
    parked: VecDeque<(RequestName, Cause)>,
}

impl Parking {
    /// Makes sure that `request_count` requests in all can be parked without an allocation.
    pub(super) fn reserve(&mut self, request_count: usize) {
        self.parked.reserve(request_count.saturating_sub(self.parked.len()));
    }

    /// Requests that match are parked no longer, and are not begun again.
    pub(super) fn forget(&mut self, matches: impl Fn(RequestName) -> bool) {
        self.parked.retain(|(name, _)| !matches(*name));
    }

    /// Requests that are parked.
    pub(super) fn len(&self) -> usize {
        self.parked.len()
    }
}

impl PollGroup {
    /// Holds a request back that has not been given memory or work yet.
    pub(super) fn park(&mut self, name: RequestName, cause: Cause) {
        let Some(qpair) = self.qpairs.look_mut(name.0) else { return };
        qpair.must_advance(name.1, RequestEvent::Park);
        let request = qpair.request(name.1);
        // What its host may have in flight is for commands that get on; so are the blocks.
        Self::give_way(request, &mut self.hosts, &mut self.gate);
        if let Fusion::First { second, hold: Hold::Has { lock, device } } = request.fusion {
            // It asks again.
            request.fusion = Fusion::First { second, hold: Hold::Nothing };
            self.unlock(lock, device);
        }
        self.parking.parked.push_back((name, cause));
        self.counters.park_count.add(1);
    }

    /// Begins the requests again whose cause has ended, in their order: in this turn's I/O batch, or in the next one's where this turn's has passed.
    pub(super) fn unpark(&mut self, has_ended: impl Fn(Cause) -> bool) {
        if self.parking.parked.is_empty() {
            return;
        }
        let (qpairs, batch) = (&mut self.qpairs, &mut self.io_batch);
        self.parking.parked.retain(|((handle, slot), cause)| {
            let ends = has_ended(*cause);
            if ends && let Some(qpair) = qpairs.look_mut(*handle) {
                qpair.must_advance(*slot, RequestEvent::Unpark);
                batch.push((*handle, *slot));
            }
            !ends
        });
    }
}
