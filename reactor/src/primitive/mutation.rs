//! The one defect that is switched on in this process: how the models show that they would notice it.
//!
//! A mutation run of the model checker or of ThreadSanitizer is a process of its own, given the defect's name in the environment ([`VARIABLE`]). The simulation's
//! random histories run on one thread each, for which a [`Rule`] is broken while a value lives. In ordinary builds none of this exists.

#[cfg(any(loom, tsan))]
use std::cell::Cell;

#[cfg(any(loom, tsan))]
use super::{Ordering, Site};

#[cfg(any(loom, tsan))]
/// The environment's variable that names the defect, as [`Mutation::name`] writes it.
pub(crate) const VARIABLE: &str = "REACTOR_MUTATION";

#[cfg(any(loom, tsan))]
/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// This access is relaxed, this fence left out.
    Weak(Site),
    /// This read-modify-write does not release.
    AcquireOnly(Site),
    /// This read-modify-write does not acquire.
    ReleaseOnly(Site),
    /// This rule is not kept.
    Broken(Rule),
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the proofs rest on besides orderings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(not(any(loom, tsan)), expect(dead_code, reason = "the histories cannot break those that concern one turn alone"))]
        pub(crate) enum Rule {
            $($(#[$doc])* $name,)*
        }

        impl Rule {
            /// Every one.
            #[cfg(any(loom, tsan))]
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

rules! {
    /// 4: two steps after the stamp for readers.
    ReaderGrace,
    /// 4: four steps after the stamp for messages.
    MessageGrace,
    /// 4: a CPU with a backlog stores no epoch.
    BacklogHolds,
    /// 4: a turn receives everything that stood in the rings.
    WholeDrain,
    /// 5: whoever comes online loads the epoch again after its fence.
    SecondLoad,
    /// 6: the sleeper looks once more after it has announced its sleep.
    LastLook,
    /// 6: a message to a CPU that is offline makes it count as online.
    Hold,
    /// 6: a CPU is offline only after it has looked once more.
    OfflineLast,
    /// 6: it goes offline by an exchange, which fails if somebody has sent something meanwhile.
    OfflineByExchange,
    /// 6: the sender looks after sleepers before its own quiet point.
    BellsBeforeQuiet,
    /// 6: the first value that is retired wakes the advancer.
    NoteAdvancer,
    /// 6: a wake-up is asked for by an exchange, so that whoever takes the latest request has seen what came with all of them.
    WantByExchange,
    /// 8: whoever leaves looks at its rings once more after it has said so.
    LeaverLooks,
    /// 8: a sender looks once more, after its fence, whether the receiver has left.
    SenderLooks,
    /// 10: a ring holds as many messages as it has slots.
    RingCapacity,
    /// A message waits behind those of the backlog.
    BacklogFirst,
}

impl Rule {
    /// Whether it is not kept in this run.
    #[cfg(loom)]
    pub(crate) fn is_broken(self) -> bool {
        chosen() == Some(Mutation::Broken(self))
    }

    /// Whether it is not kept on this thread.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn is_broken(self) -> bool {
        BROKEN.get() == Some(self)
    }
}

#[cfg(any(loom, tsan))]
impl Mutation {
    /// As in the environment.
    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    /// Every one.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let weak = Site::ALL.iter().map(|site| Self::Weak(*site));
        let halves = [Self::AcquireOnly(Site::Replace), Self::ReleaseOnly(Site::Replace)];
        let broken = Rule::ALL.iter().map(|rule| Self::Broken(*rule));
        weak.chain(halves).chain(broken)
    }
}

#[cfg(any(loom, tsan))]
/// What is left of a site's ordering in this run, if it is not as it is meant to be.
pub(super) fn weakened(at: Site) -> Option<Ordering> {
    match chosen()? {
        Mutation::Weak(site) if site == at => Some(Ordering::Relaxed),
        Mutation::AcquireOnly(site) if site == at => Some(Ordering::Acquire),
        Mutation::ReleaseOnly(site) if site == at => Some(Ordering::Release),
        Mutation::Weak(_) | Mutation::AcquireOnly(_) | Mutation::ReleaseOnly(_) | Mutation::Broken(_) => None,
    }
}

#[cfg(any(loom, tsan))]
/// The defect of this process. Panics at a name that is none: a run that changes nothing would show nothing.
pub(crate) fn chosen() -> Option<Mutation> {
    thread_local! {
        // Each thread looks for itself: a cell shared by all would order what ThreadSanitizer is to judge.
        static CHOSEN: Cell<Option<Option<Mutation>>> = const { Cell::new(None) };
    }
    if let Some(chosen) = CHOSEN.get() {
        return chosen;
    }
    let chosen = std::env::var(VARIABLE).ok().map(|name| {
        let named = Mutation::all().find(|mutation| mutation.name() == name);
        named.unwrap_or_else(|| panic!("{VARIABLE}={name}: no such mutation"))
    });
    CHOSEN.set(Some(chosen));
    chosen
}

#[cfg(all(test, not(loom)))]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// While this lives a rule is not kept on this thread.
#[cfg(all(test, not(loom)))]
pub(crate) struct Breach(());

#[cfg(all(test, not(loom)))]
impl Breach {
    pub(crate) fn of(rule: Rule) -> Self {
        BROKEN.set(Some(rule));
        Self(())
    }
}

#[cfg(all(test, not(loom)))]
impl Drop for Breach {
    fn drop(&mut self) {
        BROKEN.set(None);
    }
}
