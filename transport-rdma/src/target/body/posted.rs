//! What of a queue pair is posted, or stands for what is: each with its permits.

use std::collections::VecDeque;

use crate::permit::{CommandRoom, OwnReceive, Permit, Permits, ReadDepth, SendRoom};

/// Where a slot is.
#[derive(Debug, Default)]
pub(in crate::target) enum Place {
    #[default]
    Free,
    /// With its command: at the NVMe layer, or its response waits for room.
    Command(Permit<CommandRoom>),
    /// Its response is posted: the host may have sent another command in its place.
    ResponsePosted,
}

/// One slot.
#[derive(Debug)]
pub(in crate::target) struct SlotWork {
    pub(in crate::target) place: Place,
    /// Of its pull's READs that are posted.
    pub(in crate::target) reads: Permits<ReadDepth>,
    /// READs of its pull that have not succeeded, those that wait included.
    pub(in crate::target) part_count: u32,
}

impl SlotWork {
    pub(super) const FREE: Self = Self { place: Place::Free, reads: Permits::NONE, part_count: 0 };
}

/// Requests in the send queue that no completion has accounted for. Requests of one send queue complete in order: so a completion accounts for all
/// that were posted since the signalled one before it.
#[derive(Debug)]
pub(in crate::target) struct PostedSends {
    /// For each signalled request, oldest first: the permits that its completion gives back, its own included.
    pub(super) signalled: VecDeque<Permits<SendRoom>>,
    /// Of requests posted since the last signalled one.
    pub(super) unsignalled: Permits<SendRoom>,
}

impl PostedSends {
    /// With room for as many as may be posted.
    pub(super) fn new(send_count: u32) -> Self {
        Self { signalled: VecDeque::with_capacity(send_count as usize), unsignalled: Permits::NONE }
    }

    /// A request was posted.
    #[inline]
    pub(in crate::target) fn push(&mut self, permit: Permit<SendRoom>, is_signalled: bool) {
        self.unsignalled.put(permit);
        if is_signalled {
            self.signalled.push_back(self.unsignalled.take_all());
        }
    }

    /// The oldest signalled request succeeded, and with it all that were posted before it. `None` if there is none: the device says it twice.
    #[inline]
    pub(in crate::target) fn pop(&mut self) -> Option<Permits<SendRoom>> {
        self.signalled.pop_front()
    }

    /// Those that no signalled request accounts for yet: as if they were not out.
    pub(in crate::target) fn take_unsignalled(&mut self) -> Permits<SendRoom> {
        self.unsignalled.take_all()
    }

    /// The last of them came back, or will never.
    pub(super) fn take_all(&mut self) -> Permits<SendRoom> {
        let mut all = self.unsignalled.take_all();
        for permits in self.signalled.drain(..) {
            all.merge(permits);
        }
        all
    }

    #[cfg(debug_assertions)]
    pub(super) fn count(&self) -> u32 {
        self.unsignalled.count() + self.signalled.iter().map(Permits::count).sum::<u32>()
    }
}

/// A queue pair that has its own receives. Empty where the receives are shared.
#[derive(Debug, Default)]
pub(in crate::target) struct OwnReceives {
    pub(in crate::target) buffers: Vec<reactor::Buffer>,
    /// For each buffer: whether it is posted.
    pub(in crate::target) posted: Box<[Option<Permit<OwnReceive>>]>,
}

impl OwnReceives {
    /// None of them is posted.
    pub(super) fn new(buffers: Vec<reactor::Buffer>) -> Self {
        Self { posted: buffers.iter().map(|_| None).collect(), buffers }
    }
}
