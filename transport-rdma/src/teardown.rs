//! The end of a queue pair: `Live → Draining → Quiet → Retired → Reaped`, each step made by consuming the one before.
//!
//! This file is the whole safety argument for reuse of a queue pair's memory; `docs/TEARDOWN.md` tells it with a picture. It decides;
//! it does no I/O. The polling CPU that owns the queue pair drives it ([`crate::target::TargetCpu`]); no other CPU has any of its values.
//!
//! Invariants:
//! 1. There is one [`Live`] for each attached queue pair, and nothing here can be copied: so the first trigger wins, and each step is taken once.
//! 2. A [`Quiet`] is made by [`Draining::check`] alone. Either way no block operation of the queue pair runs, and no message of it is unanswered.
//! 3. Memory of requests is released with a [`MemoryIsQuiet`] in hand: [`Returned`] (every work request was counted back), or [`Destroyed`] (the
//!    destroy call came back, and the completion queue was polled empty since).
//! 4. The object itself comes out of [`release`] alone, which takes the proof that its grace period is over by value.

use reactor::Reaped;

use nvmf_core::DisconnectReason;

use crate::verbs::QueuePairName;

/// The queue pair carries commands.
#[derive(Debug)]
pub(crate) struct Live {
    name: QueuePairName,
}

impl Live {
    /// It was attached under this name. Called once, right after.
    pub(crate) fn attached(name: QueuePairName) -> Self {
        Self { name }
    }

    /// First step, whoever triggered it.
    pub(crate) fn begin_drain(self, reason: DisconnectReason) -> Draining {
        Draining {
            name: self.name,
            reason,
            error_state: ErrorState::Asked,
            sends: Sends::Posted,
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

/// The send queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sends {
    /// Some may be posted.
    Posted,
    /// A last one was posted behind them.
    Marked,
    /// The last one came back, and so did all before it.
    MarkerReturned,
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
    /// Its own receive queue, with so many posted: all come back.
    Own {
        /// Not yet counted back.
        posted_count: u32,
    },
    /// A shared one, on a device that says when the last was taken.
    SharedWithLastWqe,
    /// A shared one, on a device that never says: nothing can be proven, only waited and then cut.
    SharedWithoutLastWqe,
}

/// What the owner can see at the end of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    /// Sends, READs and WRITEs that are not accounted for by a completion of theirs or of a later one.
    pub(crate) send_count: u32,
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
    reason: DisconnectReason,
    error_state: ErrorState,
    sends: Sends,
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

    /// Whether a marker is to be posted now: in the error state (so that it cannot disturb the peer), once, and only behind something: a
    /// WRITE that succeeded unsignalled says nothing, so only a later completion tells that it is done.
    pub(crate) fn wants_marker(&self, send_count: u32) -> bool {
        self.error_state == ErrorState::Entered
            && self.sends == Sends::Posted
            && self.patience != Patience::Pointless
            && send_count > 0
    }

    /// The marker was posted.
    pub(crate) fn marker_posted(&mut self) {
        self.sends = Sends::Marked;
    }

    /// The marker came back: requests of one queue complete in order, so everything before it is done.
    pub(crate) fn marker_returned(&mut self) {
        self.sends = Sends::MarkerReturned;
    }

    /// LAST_WQE_REACHED came.
    pub(crate) fn last_wqe_reached(&mut self) {
        self.shared_receives = SharedReceives::LastTaken;
    }

    /// The deadline's timer fired.
    pub(crate) fn deadline_passed(&mut self) {
        if self.patience == Patience::Waiting {
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
        let sends_are_back = match self.sends {
            Sends::MarkerReturned => true,
            // Nothing was posted, or all of it is accounted for. While a marker is out it decides.
            Sends::Posted => evidence.send_count == 0,
            Sends::Marked => false,
        };
        let receives_are_back = match evidence.receives {
            ReceiveSide::Own { posted_count } => posted_count == 0,
            // LAST_WQE does not say that the completions were polled: the queue has to be seen empty after it.
            ReceiveSide::SharedWithLastWqe => {
                self.shared_receives == SharedReceives::LastTaken && evidence.completion_queue_empty
            }
            ReceiveSide::SharedWithoutLastWqe => false,
        };
        if self.error_state == ErrorState::Entered && sends_are_back && receives_are_back {
            return Ok(Quiet::Returned(Returned { name: self.name }));
        }
        match self.patience {
            Patience::Over | Patience::Pointless => Ok(Quiet::Cut(Cut { name: self.name })),
            Patience::Waiting => Err(self),
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
}

/// The queue pair is cut off with work outstanding: no proof of anything.
#[derive(Debug)]
pub(crate) struct Cut {
    name: QueuePairName,
}

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
    Quarantined,
}

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
            (Proof::Cut, DestroyResult::Failed) => AfterDestroy::Quarantined,
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

    fn draining() -> Draining {
        Live::attached(QueuePairName { index: 0, number: 1 }).begin_drain(DisconnectReason::Host)
    }

    /// Plays one order; after each piece of news compares with what the rules say in one line each.
    fn play(order: &[News], receives: Receives, completion_queue_empty: bool) {
        let mut draining = draining();
        for count in 1..=order.len() {
            let seen = &order[..count];
            match seen[count - 1] {
                News::InErrorState => draining.entered_error_state(),
                News::LastWqe => draining.last_wqe_reached(),
                News::Deadline => draining.deadline_passed(),
                News::SendsBack | News::ReceivesBack | News::OperationsDone => {}
            }
            let has = |news| seen.contains(&news);
            let evidence = Evidence {
                send_count: if has(News::SendsBack) { 0 } else { 3 },
                receives: match receives {
                    Receives::Own => ReceiveSide::Own { posted_count: if has(News::ReceivesBack) { 0 } else { 2 } },
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
                Ok(Quiet::Cut(_)) => return assert!(has(News::Deadline) && !returned, "{context}"),
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
        let mut draining = draining();
        assert!(!draining.wants_marker(3), "not in the error state");
        draining.entered_error_state();
        assert!(!draining.wants_marker(0), "nothing to wait for");
        assert!(draining.wants_marker(3));
        draining.marker_posted();
        assert!(!draining.wants_marker(3));
        let evidence = Evidence {
            send_count: 3,
            receives: ReceiveSide::Own { posted_count: 0 },
            completion_queue_empty: false,
            operation_count: 0,
        };
        let mut draining = draining.check(&evidence).unwrap_err();
        draining.marker_returned();
        assert!(matches!(draining.check(&evidence), Ok(Quiet::Returned(_))), "it accounts for what is silent");
    }

    #[test]
    fn only_a_cut_queue_pair_that_could_not_be_destroyed_is_quarantined() {
        let quiet = |cut: bool| {
            let mut draining = draining();
            draining.entered_error_state();
            if cut {
                draining.deadline_passed();
            }
            let evidence = Evidence {
                send_count: u32::from(cut),
                receives: ReceiveSide::Own { posted_count: 0 },
                completion_queue_empty: true,
                operation_count: 0,
            };
            draining.check(&evidence).unwrap().detach().1
        };
        let end = |cut, result| quiet(cut).end(result, Swept::completion_queue_was_emptied());
        let release_owed = |after| match after {
            AfterDestroy::Destroyed(destroyed) => Some(destroyed.release_owed().is_some()),
            AfterDestroy::Quarantined => None,
        };
        assert_eq!(release_owed(end(false, DestroyResult::Done)), Some(false));
        assert_eq!(release_owed(end(false, DestroyResult::Failed)), Some(false));
        assert_eq!(release_owed(end(true, DestroyResult::Done)), Some(true));
        assert_eq!(release_owed(end(true, DestroyResult::Failed)), None);
    }
}
