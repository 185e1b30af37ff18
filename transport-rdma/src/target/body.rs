//! A queue pair's body: everything about it that changes. Owned by the CPU of its poll group, alone.
//!
//! Invariants, all of which [`Body::audit`] looks at:
//! 1. Every permit of the queue pair is in exactly one place. Send queue room: at hand, the marker's, or with the requests that a completion will account
//!    for ([`PostedSends`]). Read depth: at hand, or with the slot whose READ is out. Own receives: at hand, or with the receive that is posted. Commands: at
//!    hand, with a capsule that waits for a slot, or with the slot.
//! 2. Every slot is in exactly one place ([`Place`]): free, which is in `free_slots`; with its command; or its response is posted, whose completion frees it.
//! 3. The request that takes the last of the send queue's room is signalled, so that room always comes back.
//! 4. Both waiting queues are bounded by the slots: a slot has at most one pull, one push in parts and one response under way.
//!
//! Permits of what may be posted are in [`Live`]: so a queue pair that drains has none to take.

#[cfg(debug_assertions)]
mod audit;
mod posted;

use std::collections::VecDeque;

use nvmf_core::transport::{RemoteBuffer, Slot};
use nvmf_core::{DisconnectReason, Qpair};
use reactor::{Handle, Segment, TimerId};

pub(super) use posted::{OwnReceives, Place, PostedSends, SlotWork};

use super::message::{ConnectionRecord, Terms};
#[cfg(debug_assertions)]
use crate::permit::ProgramDropped;
use crate::permit::{Allowance, CommandRoom, Forfeit, GiveBack, Ledger, Permit};
use crate::teardown::{Destroying, Draining, Live, Quarantined};
use crate::verbs::QueuePairName;

/// Where the queue pair is in its life. Retired bodies are in limbo, in no table.
#[derive(Debug)]
pub(super) enum Life {
    Live(Live),
    /// The device refused a request: posts nothing more, since what would follow relies on it. Its end begins after the batch.
    Broken(Live),
    /// Its timer fires at the deadline. It holds a handle, so it is cancelled before the next step.
    Draining(Draining, TimerId),
    Destroying(Destroying),
    /// Kept for ever.
    Quarantined,
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

/// A capsule that was admitted, and needs a slot: its receive and how many bytes came.
#[derive(Debug)]
pub(super) struct Capsule {
    pub(super) receive: u32,
    pub(super) len: u32,
    pub(super) command: Permit<CommandRoom>,
}

#[derive(Debug)]
pub(super) struct Body {
    pub(super) record: Handle<ConnectionRecord>,
    /// `None` only while a step is being taken.
    pub(super) life: Option<Life>,
    pub(super) work: Work,
}

/// Apart from its life, so that both can be borrowed: who posts has a [`Live`], for its permits, and this.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) handle: Handle<Qpair>,
    pub(super) name: QueuePairName,
    /// What the host may have outstanding: a capsule that comes takes one, which its response gives back when it is posted.
    pub(super) commands: Ledger<CommandRoom>,
    pub(super) free_slots: Vec<Slot>,
    pub(super) slots: Box<[SlotWork]>,
    pub(super) posted: PostedSends,
    pub(super) waiting_capsules: VecDeque<Capsule>,
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
        // One receive for each buffer: none where they are shared.
        let receive_count = u32::try_from(buffers.len()).unwrap_or(u32::MAX);
        let allowance = Allowance::issue(terms.send_count, u32::from(terms.read_depth), receive_count).with_marker();
        let work = Work {
            handle,
            name,
            commands: Ledger::issue(u32::from(terms.depth)),
            // Lowest slot last: it is taken first.
            free_slots: (0..slot_count).rev().collect(),
            slots: (0..slot_count).map(|_| SlotWork::FREE).collect(),
            posted: PostedSends::new(terms.send_count),
            waiting_capsules: VecDeque::with_capacity(usize::from(terms.depth)),
            waiting_pulls: VecDeque::with_capacity(usize::from(slot_count)),
            waiting_sends: VecDeque::with_capacity(2 * usize::from(slot_count)),
            receives: OwnReceives::new(buffers),
        };
        Self { record, life: Some(Life::Live(Live::attached(name, allowance))), work }
    }

    #[inline]
    pub(super) fn is_live(&self) -> bool {
        matches!(self.life, Some(Life::Live(_)))
    }

    /// What may post, and what of.
    #[inline]
    pub(super) fn live_mut(&mut self) -> Option<(&mut Live, &mut Work)> {
        match &mut self.life {
            Some(Life::Live(live)) => Some((live, &mut self.work)),
            Some(Life::Broken(_) | Life::Draining(..) | Life::Destroying(_) | Life::Quarantined) | None => None,
        }
    }

    /// Nothing more is posted: something was refused that what follows would rely on.
    pub(super) fn break_off(&mut self) {
        self.life = match self.life.take() {
            Some(Life::Live(live)) => Some(Life::Broken(live)),
            other => other,
        };
    }

    /// First trigger wins: true if this call began the teardown.
    pub(super) fn begin_drain(&mut self, reason: DisconnectReason, arm: impl FnOnce() -> TimerId) -> bool {
        match self.life.take() {
            Some(Life::Live(live) | Life::Broken(live)) => {
                self.life = Some(Life::Draining(live.begin_drain(reason), arm()));
                self.work.waiting_pulls.clear();
                self.work.waiting_sends.clear();
                true
            }
            other => {
                self.life = other;
                false
            }
        }
    }

    /// Whether room that came back may be of use.
    #[inline]
    pub(super) fn has_waiting(&self) -> bool {
        !self.work.waiting_sends.is_empty() || !self.work.waiting_pulls.is_empty()
    }

    /// The drain, if that is where it is.
    pub(super) fn draining_mut(&mut self) -> Option<&mut Draining> {
        match &mut self.life {
            Some(Life::Draining(draining, _)) => Some(draining),
            Some(Life::Live(_) | Life::Broken(_) | Life::Destroying(_) | Life::Quarantined) | None => None,
        }
    }

    // Completions.

    /// A signalled WRITE succeeded. False if no request was out: then nothing is given back.
    #[inline]
    pub(super) fn write_returned(&mut self) -> bool {
        let Some(mut give_back) = give_back(&mut self.life) else { return false };
        let Some(sends) = self.work.posted.pop() else { return false };
        give_back.sends(sends);
        true
    }

    /// A response's send succeeded: the slot that has it is free. `None` if there is none whose response was out.
    #[inline]
    pub(super) fn response_returned(&mut self, number: u32) -> Option<Slot> {
        let slot = Slot::try_from(number).ok()?;
        let work = self.work.slots.get_mut(usize::from(slot))?;
        let Place::ResponsePosted = work.place else { return None };
        let mut give_back = give_back(&mut self.life)?;
        give_back.sends(self.work.posted.pop()?);
        work.place = Place::Free;
        Some(slot)
    }

    /// A READ succeeded: its slot, and whether that was the last part of its pull. `None` if none of the slot's was out.
    #[inline]
    pub(super) fn read_returned(&mut self, number: u32) -> Option<(Slot, bool)> {
        let slot = Slot::try_from(number).ok()?;
        let work = self.work.slots.get_mut(usize::from(slot))?;
        let mut give_back = give_back(&mut self.life)?;
        give_back.reads(work.reads.take_one()?.into());
        // It is one of the sends that are out, and the oldest signalled one.
        if let Some(sends) = self.work.posted.pop() {
            give_back.sends(sends);
        }
        // A part is counted until it succeeds, so there is one.
        work.part_count -= 1;
        Some((slot, work.part_count == 0))
    }

    /// A receive came back, whatever came of it. False if it was not posted.
    #[inline]
    pub(super) fn receive_returned(&mut self, number: u32) -> bool {
        let Some(mut give_back) = give_back(&mut self.life) else { return false };
        let Some(receive) = self.work.receives.posted.get_mut(number as usize).and_then(Option::take) else {
            return false;
        };
        give_back.receive(receive);
        true
    }

    /// The marker came back, and so did everything before it: also what failed, of which some said so and some did not. False if none was out.
    pub(super) fn marker_returned(&mut self) -> bool {
        let Some(Life::Draining(draining, _)) = &mut self.life else { return false };
        if !draining.marker_is_out() {
            return false;
        }
        let mut give_back = draining.give_back();
        give_back.sends(self.work.posted.take_all());
        for work in &mut self.work.slots {
            give_back.reads(work.reads.take_all());
        }
        true
    }

    // The end.

    /// What is out never comes back, or comes too late to count.
    pub(super) fn surrender_posted(&mut self, cut: &impl Forfeit) {
        self.work.posted.take_all().surrender(cut);
        for work in &mut self.work.slots {
            work.reads.take_all().surrender(cut);
        }
        for receive in self.work.receives.posted.iter_mut().filter_map(Option::take) {
            receive.surrender(cut);
        }
    }

    /// The NVMe layer has no slot any more.
    pub(super) fn release_slots(&mut self) {
        self.work.free_slots.clear();
        for (slot, work) in (0..).zip(&mut self.work.slots) {
            if let Place::Command(command) = std::mem::take(&mut work.place) {
                self.work.commands.give(command);
            }
            work.part_count = 0;
            self.work.free_slots.push(slot);
        }
    }

    /// Kept for ever, with its slots as they are.
    pub(super) fn quarantine(&mut self, proof: &Quarantined) {
        self.surrender_commands(proof);
        self.life = Some(Life::Quarantined);
    }

    fn surrender_commands(&mut self, proof: &impl Forfeit) {
        for work in &mut self.work.slots {
            if let Place::Command(command) = std::mem::take(&mut work.place) {
                command.surrender(proof);
            }
        }
        for capsule in self.work.waiting_capsules.drain(..) {
            capsule.command.surrender(proof);
        }
        std::mem::replace(&mut self.work.commands, Ledger::issue(0)).surrender(proof);
    }
}

/// Where permits come back to, as long as the device may return what was posted.
#[inline]
fn give_back(life: &mut Option<Life>) -> Option<GiveBack<'_>> {
    match life {
        Some(Life::Live(live) | Life::Broken(live)) => Some(live.allowance().give_back()),
        Some(Life::Draining(draining, _)) => Some(draining.give_back()),
        Some(Life::Destroying(_) | Life::Quarantined) | None => None,
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
        let place = &mut self.by_index[body.work.handle.index()];
        assert!(place.is_none(), "the NVMe layer gave a handle whose index has a body: {:?}", body.work.handle);
        *place = Some(body);
        self.live_count += 1;
    }

    #[inline]
    pub(super) fn look(&self, handle: Handle<Qpair>) -> Option<&Body> {
        self.by_index.get(handle.index())?.as_deref().filter(|body| body.work.handle == handle)
    }

    #[inline]
    pub(super) fn look_mut(&mut self, handle: Handle<Qpair>) -> Option<&mut Body> {
        self.by_index.get_mut(handle.index())?.as_deref_mut().filter(|body| body.work.handle == handle)
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
        self.by_index.iter().flatten().map(|body| body.work.handle).collect()
    }
}

/// With the whole CPU: a body that goes away by itself has to have its permits back.
#[cfg(debug_assertions)]
impl Drop for Bodies {
    fn drop(&mut self) {
        for mut body in self.by_index.drain(..).flatten() {
            match body.life.take() {
                Some(Life::Live(live) | Life::Broken(live)) => live.surrender(&ProgramDropped),
                Some(Life::Draining(draining, _)) => draining.surrender(&ProgramDropped),
                Some(Life::Destroying(_) | Life::Quarantined) | None => {}
            }
            body.surrender_posted(&ProgramDropped);
            body.surrender_commands(&ProgramDropped);
        }
    }
}
