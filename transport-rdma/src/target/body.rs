//! A queue pair's body: everything about it that changes. Owned by the CPU of its poll group, alone.
//!
//! Invariants:
//! 1. A slot is either in `free_slots`, or with the NVMe layer, or its response is posted: then its completion frees it.
//! 2. `send_room` + requests posted and not accounted for = the send queue's room less one: the marker's place is never given away. The request that
//!    takes the last of it is signalled, so that room always comes back.
//! 3. `command_count` counts capsules received whose response is not posted: those that wait for a slot included. At most `depth`.
//! 4. Both waiting queues are bounded by the slots: a slot has at most one pull, one push in parts and one response under way.

use std::collections::VecDeque;

use nvmf_core::transport::{RemoteBuffer, Slot};
use nvmf_core::{DisconnectReason, Qpair};
use reactor::{Handle, Segment, TimerId};

use super::message::{ConnectionRecord, Terms};
use crate::teardown::{Destroying, Draining, Live};
use crate::verbs::QueuePairName;

/// Where the queue pair is in its life. Retired bodies are in limbo, in no table.
#[derive(Debug)]
pub(super) enum Life {
    Live(Live),
    /// Its timer fires at the deadline. It holds a handle, so it is cancelled before the next step.
    Draining(Draining, TimerId),
    Destroying(Destroying),
    /// Kept for ever.
    Quarantined,
}

/// One slot's posted work.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlotWork {
    /// READs of its pull that have not completed, those that wait included.
    pub(super) read_count: u32,
}

/// What is left of a pull that found no room.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingPull {
    pub(super) slot: Slot,
    pub(super) from: RemoteBuffer,
    pub(super) into: Segment,
}

/// A push or response that found no room.
#[derive(Clone, Copy, Debug)]
pub(super) enum WaitingSend {
    Push { slot: Slot, from: Segment, to: RemoteBuffer },
    Response { slot: Slot, invalidate: Option<u32> },
}

/// A capsule that waits for a slot: its receive and how many bytes came.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingCapsule {
    pub(super) receive: u32,
    pub(super) len: u32,
}

/// A queue pair that has its own receives. Empty where the receives are shared.
#[derive(Debug, Default)]
pub(super) struct OwnReceives {
    pub(super) buffers: Vec<reactor::Buffer>,
    pub(super) posted_count: u32,
}

#[derive(Debug)]
pub(super) struct Body {
    pub(super) handle: Handle<Qpair>,
    pub(super) record: Handle<ConnectionRecord>,
    pub(super) name: QueuePairName,
    /// `None` only while a step is being taken.
    pub(super) life: Option<Life>,
    pub(super) depth: u32,
    pub(super) command_count: u32,
    pub(super) free_slots: Vec<Slot>,
    pub(super) slots: Box<[SlotWork]>,
    pub(super) send_room_max: u32,
    pub(super) send_room: u32,
    pub(super) read_room: u32,
    /// For each signalled request posted, oldest first: how many requests its completion accounts for, itself included. Requests of one send
    /// queue complete in order.
    signalled: VecDeque<u32>,
    /// Requests posted since the last signalled one.
    unsignalled_count: u32,
    pub(super) waiting_capsules: VecDeque<WaitingCapsule>,
    pub(super) waiting_pulls: VecDeque<WaitingPull>,
    pub(super) waiting_sends: VecDeque<WaitingSend>,
    pub(super) receives: OwnReceives,
}

impl Body {
    /// Everything that it will ever need is allocated here.
    pub(super) fn new(
        handle: Handle<Qpair>,
        record: Handle<ConnectionRecord>,
        name: QueuePairName,
        terms: Terms,
        buffers: Vec<reactor::Buffer>,
    ) -> Self {
        let slot_count = slot_count(terms.depth);
        let send_room_max = terms.send_count - 1;
        Self {
            handle,
            record,
            name,
            life: Some(Life::Live(Live::attached(name))),
            depth: u32::from(terms.depth),
            command_count: 0,
            // Lowest slot last: it is taken first.
            free_slots: (0..slot_count).rev().collect(),
            slots: vec![SlotWork::default(); usize::from(slot_count)].into_boxed_slice(),
            send_room_max,
            send_room: send_room_max,
            read_room: u32::from(terms.read_depth),
            signalled: VecDeque::with_capacity(send_room_max as usize),
            unsignalled_count: 0,
            waiting_capsules: VecDeque::with_capacity(usize::from(terms.depth)),
            waiting_pulls: VecDeque::with_capacity(usize::from(slot_count)),
            waiting_sends: VecDeque::with_capacity(2 * usize::from(slot_count)),
            receives: OwnReceives { buffers, posted_count: 0 },
        }
    }

    #[inline]
    pub(super) fn is_live(&self) -> bool {
        matches!(self.life, Some(Life::Live(_)))
    }

    /// First trigger wins: true if this call began the teardown.
    pub(super) fn begin_drain(&mut self, reason: DisconnectReason, arm: impl FnOnce() -> TimerId) -> bool {
        match self.life.take() {
            Some(Life::Live(live)) => {
                self.life = Some(Life::Draining(live.begin_drain(reason), arm()));
                self.waiting_pulls.clear();
                self.waiting_sends.clear();
                true
            }
            other => {
                self.life = other;
                false
            }
        }
    }

    /// The drain, if that is where it is.
    pub(super) fn draining_mut(&mut self) -> Option<&mut Draining> {
        match &mut self.life {
            Some(Life::Draining(draining, _)) => Some(draining),
            Some(Life::Live(_) | Life::Destroying(_) | Life::Quarantined) | None => None,
        }
    }

    /// A request was posted.
    #[inline]
    pub(super) fn take_send_room(&mut self, signalled: bool) {
        self.send_room -= 1;
        self.unsignalled_count += 1;
        if signalled {
            self.signalled.push_back(std::mem::take(&mut self.unsignalled_count));
        }
    }

    /// A signalled request succeeded, and with it all that were posted before it.
    #[inline]
    pub(super) fn give_send_room(&mut self) {
        self.send_room += self.signalled.pop_front().unwrap_or(0);
    }

    /// Requests that no completion has accounted for.
    pub(super) fn send_count(&self) -> u32 {
        self.send_room_max - self.send_room
    }
}

/// Slots of a qpair: a slot ends only when its response's send has completed, and by then the host may have sent as many commands again.
pub(super) fn slot_count(depth: u16) -> Slot {
    // Depths are checked to be at most 2^14 where they are agreed.
    depth * 2
}

/// One CPU's bodies, by the index of their handles.
pub(super) struct Bodies {
    by_index: Vec<Option<Box<Body>>>,
    live_count: usize,
}

impl Bodies {
    pub(super) fn new(capacity: usize) -> Self {
        Self { by_index: (0..capacity).map(|_| None).collect(), live_count: 0 }
    }

    pub(super) fn insert(&mut self, body: Box<Body>) {
        let place = &mut self.by_index[body.handle.index()];
        assert!(place.is_none(), "the NVMe layer gave a handle whose index has a body: {:?}", body.handle);
        *place = Some(body);
        self.live_count += 1;
    }

    #[inline]
    pub(super) fn look(&self, handle: Handle<Qpair>) -> Option<&Body> {
        self.by_index.get(handle.index())?.as_deref().filter(|body| body.handle == handle)
    }

    #[inline]
    pub(super) fn look_mut(&mut self, handle: Handle<Qpair>) -> Option<&mut Body> {
        self.by_index.get_mut(handle.index())?.as_deref_mut().filter(|body| body.handle == handle)
    }

    /// For receive permits, which name the index only: while one is out the body cannot go.
    #[inline]
    pub(super) fn at_mut(&mut self, index: usize) -> Option<&mut Body> {
        self.by_index.get_mut(index)?.as_deref_mut()
    }

    pub(super) fn remove(&mut self, handle: Handle<Qpair>) -> Option<Box<Body>> {
        self.look(handle)?;
        self.live_count -= 1;
        self.by_index[handle.index()].take()
    }

    pub(super) fn len(&self) -> usize {
        self.live_count
    }

    /// Every body's handle.
    pub(super) fn handles(&self) -> Vec<Handle<Qpair>> {
        self.by_index.iter().flatten().map(|body| body.handle).collect()
    }
}
