//! What one queue pair may have posted: the ledgers of its send queue, its READs and its own receives.
//!
//! It is part of the queue pair's life, so that permits can be taken only while the queue pair is live: a draining one gives them back, and
//! has one of its own for its marker ([`crate::teardown`]).

use super::{Forfeit, Ledger, OwnReceive, Permit, Permits, ReadDepth, SendRoom};

/// See the module.
#[derive(Debug)]
pub(crate) struct Allowance {
    pub(crate) sends: Ledger<SendRoom>,
    pub(crate) reads: Ledger<ReadDepth>,
    /// None at all where receives are shared.
    pub(crate) receives: Ledger<OwnReceive>,
    /// Kept from the beginning, so that a drain never lacks it. `None` where no marker is needed, or it is posted.
    marker: Option<Permit<SendRoom>>,
}

/// Proof that nothing of a queue pair is posted: made of all its permits.
#[derive(Debug)]
#[must_use]
pub(crate) struct NothingPosted(());

impl Allowance {
    /// For a queue pair whose every send is signalled: each comes back by itself.
    pub(crate) fn issue(send_count: u32, read_count: u32, receive_count: u32) -> Self {
        Self {
            sends: Ledger::issue(send_count),
            reads: Ledger::issue(read_count),
            receives: Ledger::issue(receive_count),
            marker: None,
        }
    }

    /// One of the sends is kept for the marker.
    pub(crate) fn with_marker(mut self) -> Self {
        self.marker = self.sends.take();
        self
    }

    /// Sends that are posted and not accounted for.
    pub(crate) fn posted_send_count(&self) -> u32 {
        self.sends.out_count() - u32::from(self.marker.is_some())
    }

    /// Everything that is posted and not accounted for. READs are among the sends.
    pub(crate) fn posted_count(&self) -> u32 {
        self.posted_send_count() + self.receives.out_count()
    }

    /// Whether there is a permit for a marker.
    pub(crate) fn has_marker(&self) -> bool {
        self.marker.is_some()
    }

    /// For the marker, which is posted now.
    pub(crate) fn take_marker(&mut self) -> Option<Permit<SendRoom>> {
        self.marker.take()
    }

    /// The device did not take it.
    pub(crate) fn keep_marker(&mut self, permit: Permit<SendRoom>) {
        self.marker = Some(permit);
    }

    /// All permits, by value; or itself, if some are out.
    pub(crate) fn all_back(mut self) -> Result<NothingPosted, Self> {
        if self.posted_count() > 0 || self.reads.out_count() > 0 {
            return Err(self);
        }
        if let Some(marker) = self.marker.take() {
            self.sends.give(marker);
        }
        // In debug builds the ledgers look for themselves.
        drop(self);
        Ok(NothingPosted(()))
    }

    /// Nothing will be posted any more. What is out is surrendered by who has it.
    pub(crate) fn surrender(self, proof: &impl Forfeit) {
        self.sends.surrender(proof);
        self.reads.surrender(proof);
        self.receives.surrender(proof);
        if let Some(marker) = self.marker {
            marker.surrender(proof);
        }
    }

    /// Its other half, for who may not take any.
    #[inline]
    pub(crate) fn give_back(&mut self) -> GiveBack<'_> {
        GiveBack(self)
    }
}

/// Where permits come back to.
pub(crate) struct GiveBack<'a>(&'a mut Allowance);

impl GiveBack<'_> {
    /// A completion accounted for these.
    #[inline]
    pub(crate) fn sends(&mut self, permits: Permits<SendRoom>) {
        self.0.sends.give_many(permits);
    }

    /// READs completed.
    #[inline]
    pub(crate) fn reads(&mut self, permits: Permits<ReadDepth>) {
        self.0.reads.give_many(permits);
    }

    /// A receive completed.
    #[inline]
    pub(crate) fn receive(&mut self, permit: Permit<OwnReceive>) {
        self.0.receives.give(permit);
    }
}
