//! The places in the code whose ordering matters, by name.

use super::Ordering;

#[cfg(any(loom, tsan))]
use super::mutation;

macro_rules! sites {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One place. `docs/ORDERING.md` argues each; `models` shows that each is needed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Site {
            $($(#[$doc])* $name,)*
        }

        #[cfg(any(loom, tsan))]
        impl Site {
            /// Every one, to be weakened one at a time.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

sites! {
    /// 1: an object is published.
    Link,
    /// 1: an object is found.
    Look,
    /// 1: an object is taken out.
    Unlink,
    /// 1: an object is taken out and another published.
    Replace,
    /// 2: a participant stores what it has seen.
    Quiet,
    /// 2: a participant that comes online stores what it has seen.
    Online,
    /// 2: a participant says that it is about to go offline.
    Doze,
    /// 2: a participant goes offline.
    Offline,
    /// 2: the advancer reads what all have seen.
    Survey,
    /// 3: the advancer steps.
    Step,
    /// 3: a participant reads the epoch at its quiet point.
    QuietEpoch,
    /// 3: a limbo reads the epoch.
    ReapEpoch,
    /// 5: the fence of whoever comes online.
    OnlineFence,
    /// 5: the advancer's fence.
    SurveyFence,
    /// 6: the sleeper's fence before its last look.
    SleepFence,
    /// 6: the fence between what is sent and the look whether the receiver sleeps.
    WakeFence,
    /// 6: a sender has a receiver that does not turn count as online.
    Hold,
    /// 6: a wake-up without a message is asked for.
    Want,
    /// 6: the request is taken.
    TakeWanted,
    /// 7: a reader's place is taken.
    TakePlace,
    /// 7: a reader's place is given back.
    GivePlace,
    /// 8: a reactor enters a stage.
    Enter,
    /// 8: somebody looks at a reactor's stage.
    Stage,
    /// 8: the fence of whoever leaves.
    LeaveFence,
    /// 10: a message is written.
    RingFill,
    /// 10: a message is found.
    RingLook,
    /// 10: a message's room is given back.
    RingEmpty,
    /// 10: room is found.
    RingRoom,
}

impl Site {
    /// For a load.
    #[inline]
    pub(crate) fn acquire(self) -> Ordering {
        self.or_weaker(Ordering::Acquire)
    }

    /// For a store.
    #[inline]
    pub(crate) fn release(self) -> Ordering {
        self.or_weaker(Ordering::Release)
    }

    /// For a read-modify-write.
    #[inline]
    pub(crate) fn acquire_release(self) -> Ordering {
        self.or_weaker(Ordering::AcqRel)
    }

    /// Store-load ordering is always written as this fence, never as sequentially consistent loads and stores.
    #[inline]
    pub(crate) fn fence(self) {
        #[cfg(loom)]
        if mutation::weakened(self) == Some(Ordering::Relaxed) {
            return;
        }
        fence_seq_cst();
    }

    #[inline]
    fn or_weaker(self, ordering: Ordering) -> Ordering {
        #[cfg(any(loom, tsan))]
        if let Some(weaker) = mutation::weakened(self) {
            return weaker;
        }
        ordering
    }
}

#[cfg(loom)]
fn fence_seq_cst() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}

#[cfg(all(not(loom), not(tsan)))]
#[inline]
fn fence_seq_cst() {
    std::sync::atomic::fence(Ordering::SeqCst);
}

/// All fences are read-modify-writes of one word: stronger than needed, and something that ThreadSanitizer understands.
#[cfg(tsan)]
fn fence_seq_cst() {
    static WORD: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    WORD.fetch_add(1, Ordering::AcqRel);
}
