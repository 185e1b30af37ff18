//! The end of a queue pair: `Live → Draining → Quiet → Retired → Reaped`, each step made by consuming the one before.
//!
//! This file is the whole safety argument for reuse of a queue pair's memory; `docs/TEARDOWN.md` tells it with a picture. It decides;
//! it does no I/O. The polling CPU that owns the queue pair drives it ([`crate::target::TargetCpu`]); no other CPU has any of its values.
//!
//! Invariants:
//! 1. There is one [`Live`] for each attached queue pair, and nothing here can be copied: so the first trigger wins, and each step is taken once.
//! 2. A [`Quiet`] is made by [`Draining::check`] alone. Either way no block operation of the queue pair runs, and no message of it is unanswered.
//! 3. A [`Live`] has its queue pair's permits, so nothing is posted without one; [`Draining`] only takes them back. [`Returned`] is made of all of
//!    them, by value; [`Cut`] is what those that are out are surrendered to.
//! 4. Memory of requests is released with a [`MemoryIsQuiet`] in hand: [`Returned`] (every work request was counted back), or [`Destroyed`] (the
//!    destroy call came back, and the completion queue was polled empty since).
//! 5. The object itself comes out of [`release`] alone, which takes the proof that its grace period is over by value.

use reactor::Reaped;

use nvmf_core::DisconnectReason;
use nvmf_core::defect::{self, Defect};

#[cfg(debug_assertions)]
use crate::permit::ProgramDropped;
use crate::permit::{Allowance, Forfeit, GiveBack, NothingPosted, Permit, SendRoom};
use crate::verbs::QueuePairName;

/// The queue pair carries commands.
#[derive(Debug)]
pub(crate) struct Live {
    name: QueuePairName,
    allowance: Allowance,
}

impl Live {
    /// It was attached under this name. Called once, right after.
    pub(crate) fn attached(name: QueuePairName, allowance: Allowance) -> Self {
        Self { name, allowance }
    }

    /// What may be posted.
    #[inline]
    pub(crate) fn allowance(&mut self) -> &mut Allowance {
        &mut self.allowance
    }

    /// To look at.
    #[cfg(debug_assertions)]
    pub(crate) fn books(&self) -> &Allowance {
        &self.allowance
    }

    /// The end of everything: see [`ProgramDropped`].
    #[cfg(debug_assertions)]
    pub(crate) fn surrender(self, proof: &ProgramDropped) {
        self.allowance.surrender(proof);
    }

    /// First step, whoever triggered it.
    pub(crate) fn begin_drain(self, reason: DisconnectReason) -> Draining {
        Draining {
            name: self.name,
            allowance: self.allowance,
            reason,
            error_state: ErrorState::Asked,
            marker: Marker::NotTried,
            shared_receives: SharedReceives::MayBeTaken,
            patience: Patience::Waiting,
        }
    }
}

/// Whether the queue pair was moved to the error state: the only start of a drain that devices know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorState {
    /// The control plane was asked to.
    Asked,
    /// It said that it has.
    Entered,
}

/// The last request of the send queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    NotTried,
    /// It was posted, or refused by the device: either way once.
    Tried,
}

/// What the queue pair took from a shared receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SharedReceives {
    /// It may take more.
    MayBeTaken,
    /// LAST_WQE_REACHED: it takes no more. Completions of what it took may still be in the completion queue.
    LastTaken,
}

/// The deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Waiting,
    Over,
    /// Nothing comes back: the device is gone, or its completion queue broke.
    Pointless,
}

/// Whether what a CPU has posted comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returns {
    Come,
    /// The device is gone, or the completion queue broke: never again, for any of its queue pairs.
    Never,
}

/// How the queue pair gets its receives, as far as draining goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceiveSide {
    /// Its own receive queue: every receive comes back, and with it its permit.
    Own,
    /// A shared one, on a device that says when the last was taken.
    SharedWithLastWqe,
    /// A shared one, on a device that never says: nothing can be proven, only waited and then cut.
    SharedWithoutLastWqe,
}

/// What the owner can see at the end of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    /// The receive side.
    pub(crate) receives: ReceiveSide,
    /// The completion queue was polled to empty in this turn, after this turn's messages.
    pub(crate) completion_queue_empty: bool,
    /// Block operations and messages of the NVMe layer. Never cut, only waited for.
    pub(crate) operation_count: usize,
}

/// The queue pair ends. Its handle is still valid: what the drain waits for must find it.
#[derive(Debug)]
pub(crate) struct Draining {
    name: QueuePairName,
    allowance: Allowance,
    reason: DisconnectReason,
    error_state: ErrorState,
    marker: Marker,
    shared_receives: SharedReceives,
    patience: Patience,
}

impl Draining {
    /// Why it ends.
    pub(crate) fn reason(&self) -> DisconnectReason {
        self.reason
    }

    /// The control plane moved the queue pair to the error state.
    pub(crate) fn entered_error_state(&mut self) {
        self.error_state = ErrorState::Entered;
    }

    /// Where permits come back to.
    #[inline]
    pub(crate) fn give_back(&mut self) -> GiveBack<'_> {
        self.allowance.give_back()
    }

    /// To look at.
    #[cfg(debug_assertions)]
    pub(crate) fn books(&self) -> &Allowance {
        &self.allowance
    }

    /// The end of everything: see [`ProgramDropped`].
    #[cfg(debug_assertions)]
    pub(crate) fn surrender(self, proof: &ProgramDropped) {
        self.allowance.surrender(proof);
    }

    /// What is posted and not accounted for.
    pub(crate) fn posted_count(&self) -> u32 {
        self.allowance.posted_count()
    }

    /// The permit for a marker, if one is to be posted now: in the error state (so that it cannot disturb the peer), once, and only behind
    /// something: a WRITE that succeeded unsignalled says nothing, so only a later completion tells that it is done. The marker's own completion
    /// accounts for everything before it, since requests of one queue complete in order.
    pub(crate) fn take_marker(&mut self) -> Option<Permit<SendRoom>> {
        let is_wanted = self.error_state == ErrorState::Entered
            && self.marker == Marker::NotTried
            && self.patience != Patience::Pointless
            && self.allowance.posted_send_count() > 0;
        if !is_wanted {
            return None;
        }
        self.marker = Marker::Tried;
        self.allowance.take_marker()
    }

    /// Whether the marker was posted and has not come back.
    pub(crate) fn marker_is_out(&self) -> bool {
        self.marker == Marker::Tried && !self.allowance.has_marker() && self.allowance.posted_send_count() > 0
    }

    /// The device refused it: what is posted comes back by itself, or the deadline decides.
    pub(crate) fn marker_refused(&mut self, permit: Permit<SendRoom>) {
        self.allowance.keep_marker(permit);
    }

    /// LAST_WQE_REACHED came.
    pub(crate) fn last_wqe_reached(&mut self) {
        self.shared_receives = SharedReceives::LastTaken;
    }

    /// The deadline's timer fired.
    pub(crate) fn deadline_passed(&mut self) {
        if self.patience == Patience::Waiting && !defect::is(Defect::NoDeadline) {
            self.patience = Patience::Over;
        }
    }

    /// The device gives nothing back any more: what is not back is cut off at once. Operations and messages are waited for all the same.
    pub(crate) fn nothing_returns(&mut self) {
        self.patience = Patience::Pointless;
    }

    /// Whether nothing is outstanding any more, or nothing but what the deadline allows to cut off.
    pub(crate) fn check(self, evidence: &Evidence) -> Result<Quiet, Self> {
        if evidence.operation_count > 0 {
            return Err(self);
        }
        let receives_are_back = self.receives_are_back(evidence);
        let Self { name, allowance, patience, .. } = self;
        let allowance = if self.error_state == ErrorState::Entered && receives_are_back {
            match allowance.all_back() {
                Ok(nothing_posted) => return Ok(Quiet::Returned(Returned { name, _nothing_posted: nothing_posted })),
                Err(allowance) => allowance,
            }
        } else {
            allowance
        };
        match patience {
            Patience::Over | Patience::Pointless => {
                let cut = Cut { name };
                allowance.surrender(&cut);
                Ok(Quiet::Cut(cut))
            }
            Patience::Waiting => Err(Self { allowance, ..self }),
        }
    }
}

impl Draining {
    /// Whether nothing that was posted runs any more, as far as it will ever be known before the destroy call. Operations may be under way.
    pub(crate) fn transfers_ended(&self) -> bool {
        match self.patience {
            Patience::Over | Patience::Pointless => true,
            Patience::Waiting => self.error_state == ErrorState::Entered && self.allowance.posted_send_count() == 0,
        }
    }

    fn receives_are_back(&self, evidence: &Evidence) -> bool {
        match evidence.receives {
            // Their permits say so.
            ReceiveSide::Own => true,
            // LAST_WQE does not say that the completions were polled: the queue has to be seen empty after it.
            ReceiveSide::SharedWithLastWqe => {
                self.shared_receives == SharedReceives::LastTaken && evidence.completion_queue_empty
            }
            ReceiveSide::SharedWithoutLastWqe => false,
        }
    }
}

/// The queue pair may be destroyed. What differs is when its memory may be used again.
#[derive(Debug)]
pub(crate) enum Quiet {
    /// Everything came back.
    Returned(Returned),
    /// The deadline passed first.
    Cut(Cut),
}

/// Proof that every posted work request was counted back.
#[derive(Debug)]
pub(crate) struct Returned {
    name: QueuePairName,
    _nothing_posted: NothingPosted,
}

/// The queue pair is cut off with work outstanding: no proof of anything but that nothing of it is posted or counted any more. Permits that are out are
/// surrendered to it.
#[derive(Debug)]
pub(crate) struct Cut {
    name: QueuePairName,
}

impl Forfeit for Cut {}

impl Quiet {
    /// Names the queue pair a last time, to detach it.
    pub(crate) fn detach(self) -> (QueuePairName, Destroying) {
        match self {
            Self::Returned(returned) => (returned.name, Destroying { proof: Proof::Returned }),
            Self::Cut(cut) => (cut.name, Destroying { proof: Proof::Cut }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Returned,
    Cut,
}

/// The queue pair was detached and is on its way to be destroyed.
#[derive(Debug)]
pub(crate) struct Destroying {
    proof: Proof,
}

/// How the destroy call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DestroyResult {
    /// The device writes under it no more. (EIO on a removed device counts as this: the provider says so.)
    Done,
    /// It failed: the device may still write.
    Failed,
}

/// The completion queue was polled to empty after the destroy call had come back.
#[derive(Debug)]
pub(crate) struct Swept(());

impl Swept {
    /// Said by the owner of the completion queue, right after it polled it to its end.
    pub(crate) fn completion_queue_was_emptied() -> Self {
        Self(())
    }
}

/// What follows the destroy call.
#[derive(Debug)]
pub(crate) enum AfterDestroy {
    /// The normal end.
    Destroyed(Destroyed),
    /// It was cut off and could not be destroyed: its memory is not used again in this process' life.
    Quarantined(Quarantined),
}

/// Proof that whatever a queue pair has is given up.
#[derive(Debug)]
pub(crate) struct Quarantined(());

impl Forfeit for Quarantined {}

impl Destroying {
    /// The destroy call came back and the completion queue was polled empty since.
    pub(crate) fn end(self, result: DestroyResult, swept: Swept) -> AfterDestroy {
        let Swept(()) = swept;
        match (self.proof, result) {
            // Where everything had come back no work is left that could write.
            (Proof::Returned, DestroyResult::Done | DestroyResult::Failed) => {
                AfterDestroy::Destroyed(Destroyed { released: Released::Before })
            }
            (Proof::Cut, DestroyResult::Done) => AfterDestroy::Destroyed(Destroyed { released: Released::NotYet }),
            (Proof::Cut, DestroyResult::Failed) => AfterDestroy::Quarantined(Quarantined(())),
        }
    }
}

/// Whether the memory of requests was released after [`Returned`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Released {
    Before,
    NotYet,
}

/// Proof that no device can touch memory under this queue pair.
#[derive(Debug)]
pub(crate) struct Destroyed {
    released: Released,
}

impl Destroyed {
    /// The proof with which to release requests, unless that was done when everything had come back.
    pub(crate) fn release_owed(&self) -> Option<&Self> {
        (self.released == Released::NotYet).then_some(self)
    }

    /// Last step of the hardware's side: `body` was taken out of every table and waits for late messages and readers.
    pub(crate) fn retire<B>(self, body: B) -> Retired<B> {
        Retired { body }
    }
}

/// Either proof that memory of requests may be used again.
pub(crate) trait MemoryIsQuiet {}
impl MemoryIsQuiet for Returned {}
impl MemoryIsQuiet for Destroyed {}

/// What waits in limbo.
#[derive(Debug)]
pub(crate) struct Retired<B> {
    body: B,
}

/// The final release, the only one: takes the proof that nothing late can reach the body.
pub(crate) fn release<B>(reaped: Reaped<Retired<B>>) -> B {
    reaped.into_inner().body
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What can happen to a draining queue pair, each once.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum News {
        InErrorState,
        SendsBack,
        ReceivesBack,
        LastWqe,
        OperationsDone,
        Deadline,
    }

    const ALL: [News; 6] =
        [News::InErrorState, News::SendsBack, News::ReceivesBack, News::LastWqe, News::OperationsDone, News::Deadline];

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Receives {
        Own,
        Shared,
        SharedUnprovable,
    }

    /// Every order of `rest`, appended to `begun`.
    fn orders(begun: &mut Vec<News>, rest: &[News], visit: &mut impl FnMut(&[News])) {
        if rest.is_empty() {
            return visit(begun);
        }
        for (at, news) in rest.iter().enumerate() {
            let others: Vec<_> =
                rest.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, news)| *news).collect();
            begun.push(*news);
            orders(begun, &others, visit);
            begun.pop();
        }
    }

    use crate::permit::{OwnReceive, Permits, ReadDepth};

    /// What is posted when the drain begins.
    struct Posted {
        sends: Permits<SendRoom>,
        reads: Permits<ReadDepth>,
        receives: Permits<OwnReceive>,
    }

    impl Posted {
        fn give_sends(&mut self, draining: &mut Draining) {
            draining.give_back().sends(self.sends.take_all());
            draining.give_back().reads(self.reads.take_all());
        }

        fn give_receives(&mut self, draining: &mut Draining) {
            while let Some(receive) = self.receives.take_one() {
                draining.give_back().receive(receive);
            }
        }

        fn surrender(self, cut: &Cut) {
            self.sends.surrender(cut);
            self.reads.surrender(cut);
            self.receives.surrender(cut);
        }
    }

    /// A queue pair with so many requests posted, one of them a READ where there are any, and so many receives.
    fn draining(send_count: u32, receive_count: u32) -> (Draining, Posted) {
        let mut live =
            Live::attached(QueuePairName { index: 0, number: 1 }, Allowance::issue(8, 4, receive_count).with_marker());
        let allowance = live.allowance();
        let posted = Posted {
            sends: allowance.sends.take_many(send_count).unwrap(),
            reads: allowance.reads.take_many(send_count.min(1)).unwrap(),
            receives: allowance.receives.take_many(receive_count).unwrap(),
        };
        (live.begin_drain(DisconnectReason::Host), posted)
    }

    /// Plays one order; after each piece of news compares with what the rules say in one line each.
    fn play(order: &[News], receives: Receives, completion_queue_empty: bool) {
        let (mut draining, mut posted) = draining(3, if receives == Receives::Own { 2 } else { 0 });
        for count in 1..=order.len() {
            let seen = &order[..count];
            match seen[count - 1] {
                News::InErrorState => draining.entered_error_state(),
                News::LastWqe => draining.last_wqe_reached(),
                News::Deadline => draining.deadline_passed(),
                News::SendsBack => posted.give_sends(&mut draining),
                News::ReceivesBack => posted.give_receives(&mut draining),
                News::OperationsDone => {}
            }
            let has = |news| seen.contains(&news);
            let evidence = Evidence {
                receives: match receives {
                    Receives::Own => ReceiveSide::Own,
                    Receives::Shared => ReceiveSide::SharedWithLastWqe,
                    Receives::SharedUnprovable => ReceiveSide::SharedWithoutLastWqe,
                },
                completion_queue_empty,
                operation_count: usize::from(!has(News::OperationsDone)),
            };
            let receives_back = match receives {
                Receives::Own => has(News::ReceivesBack),
                Receives::Shared => has(News::LastWqe) && completion_queue_empty,
                Receives::SharedUnprovable => false,
            };
            let returned = has(News::InErrorState) && has(News::SendsBack) && receives_back;
            let context = format!("{seen:?} {receives:?} {completion_queue_empty}");
            match draining.check(&evidence) {
                Ok(_) if !has(News::OperationsDone) => panic!("quiet with an operation under way: {context}"),
                Ok(Quiet::Returned(_)) => return assert!(returned, "{context}"),
                Ok(Quiet::Cut(cut)) => {
                    posted.surrender(&cut);
                    return assert!(has(News::Deadline) && !returned, "{context}");
                }
                Err(still) => {
                    assert!(!has(News::OperationsDone) || !(returned || has(News::Deadline)), "{context}");
                    draining = still;
                }
            }
        }
        unreachable!("with the deadline and without operations every drain ends: {order:?}");
    }

    #[test]
    fn every_order_of_news_ends_as_the_rules_say() {
        let mut order_count = 0;
        orders(&mut Vec::new(), &ALL, &mut |order| {
            order_count += 1;
            for receives in [Receives::Own, Receives::Shared, Receives::SharedUnprovable] {
                play(order, receives, true);
                play(order, receives, false);
            }
        });
        assert_eq!(order_count, 720);
    }

    #[test]
    fn the_marker_goes_out_once_in_the_error_state_and_only_behind_something() {
        let evidence = Evidence { receives: ReceiveSide::Own, completion_queue_empty: false, operation_count: 0 };
        let (mut idle, _) = draining(0, 0);
        idle.entered_error_state();
        assert!(idle.take_marker().is_none(), "nothing to wait for");
        assert!(matches!(idle.check(&evidence), Ok(Quiet::Returned(_))));

        let (mut draining, mut posted) = draining(3, 0);
        assert!(draining.take_marker().is_none(), "not in the error state");
        draining.entered_error_state();
        let marker = draining.take_marker().unwrap();
        assert!(draining.take_marker().is_none());
        let mut draining = draining.check(&evidence).unwrap_err();
        posted.give_sends(&mut draining);
        let mut draining = draining.check(&evidence).unwrap_err();
        assert_eq!(draining.posted_count(), 1, "while the marker is out it decides");
        draining.give_back().sends(marker.into());
        assert!(matches!(draining.check(&evidence), Ok(Quiet::Returned(_))));
    }

    #[test]
    fn a_marker_that_the_device_refused_is_not_tried_again() {
        let evidence = Evidence { receives: ReceiveSide::Own, completion_queue_empty: false, operation_count: 0 };
        let (mut draining, mut posted) = draining(1, 0);
        draining.entered_error_state();
        let marker = draining.take_marker().unwrap();
        draining.marker_refused(marker);
        assert!(draining.take_marker().is_none());
        let mut draining = draining.check(&evidence).unwrap_err();
        posted.give_sends(&mut draining);
        assert!(matches!(draining.check(&evidence), Ok(Quiet::Returned(_))), "everything came back without it");
    }

    #[test]
    fn only_a_cut_queue_pair_that_could_not_be_destroyed_is_quarantined() {
        let quiet = |cut: bool| {
            let (mut draining, posted) = draining(u32::from(cut), 0);
            draining.entered_error_state();
            if cut {
                draining.deadline_passed();
            }
            let evidence = Evidence { receives: ReceiveSide::Own, completion_queue_empty: true, operation_count: 0 };
            let quiet = draining.check(&evidence).unwrap();
            if let Quiet::Cut(cut) = &quiet {
                posted.surrender(cut);
            }
            quiet.detach().1
        };
        let end = |cut, result| quiet(cut).end(result, Swept::completion_queue_was_emptied());
        let release_owed = |after| match after {
            AfterDestroy::Destroyed(destroyed) => Some(destroyed.release_owed().is_some()),
            AfterDestroy::Quarantined(_) => None,
        };
        assert_eq!(release_owed(end(false, DestroyResult::Done)), Some(false));
        assert_eq!(release_owed(end(false, DestroyResult::Failed)), Some(false));
        assert_eq!(release_owed(end(true, DestroyResult::Done)), Some(true));
        assert_eq!(release_owed(end(true, DestroyResult::Failed)), None);
    }
}
