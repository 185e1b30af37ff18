//! Permits: room in a queue as a value that moves, so that what is given away is given once and comes back once.
//!
//! A [`Ledger`] is where all permits of one kind come from and go home to. Whoever posts something takes a [`Permit`] for it by value, and whatever
//! stands for what was posted (a slot, a place in a queue) keeps it until a completion accounts for it. Nothing here can be copied, and the kinds
//! are types: a permit for a READ is no room in the send queue.
//!
//! Invariants:
//! 1. `at hand + out = issued`, for each ledger at each step: permits are made with their ledger ([`Ledger::issue`]), split and merged, never made otherwise.
//! 2. A permit ends in one of two ways: it comes back to its ledger, or it is *surrendered* with a proof ([`Forfeit`]) that nobody will use it again.
//!    In debug builds dropping one that still counts something panics and says what it was for; so does dropping a ledger that misses some.
//! 3. [`NothingPosted`] is made of ledgers that have all of their permits, by value ([`Allowance::all_back`]).
//!
//! In release builds a [`Permit`] has no size, [`Permits`] is one `u32`, and neither has drop glue: what is left are the additions and subtractions of a
//! plain counter. There is no heap and no atomic here.

mod allowance;

use std::marker::PhantomData;

pub(crate) use allowance::{Allowance, GiveBack, NothingPosted};

/// What permits are for: the kinds, and their names in reports.
pub(crate) trait Kind {
    /// As in "3 permits for … were dropped".
    const NAME: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub(crate) enum $kind {}
            impl Kind for $kind {
                const NAME: &'static str = $name;
            }
        )*
    };
}

kinds! {
    /// A place in the send queue: a push, a pull, a response, the marker, a host's command.
    SendRoom = "send queue room";
    /// An RDMA READ under way.
    ReadDepth = "read depth";
    /// A place in the queue pair's own receive queue.
    OwnReceive = "own receives";
    /// A place in the shared receive queue.
    SharedReceive = "shared receives";
    /// One of the commands that the host may have outstanding.
    CommandRoom = "commands";
    /// An entry of the completion queue.
    CompletionRoom = "completion queue entries";
    /// A shared receive for a command of the host, where a command that finds none ends its connection.
    ReceiveRoom = "shared receives for commands";
    /// A queue pair's place on its CPU: in its table, in limbo, and a receive for its Connect.
    QueuePairRoom = "queue pairs";
}

/// A proof that permits will never be used again: they need not come home.
pub(crate) trait Forfeit {}

/// The program of a CPU is dropped with its queue pairs: its process ends, or one that a test kills. Nobody is left who would miss anything.
#[cfg(debug_assertions)]
pub(crate) struct ProgramDropped;

#[cfg(debug_assertions)]
impl Forfeit for ProgramDropped {}

/// Exactly one. Has no size in release builds.
#[derive(Debug)]
#[must_use = "it goes back to its ledger, or room is lost"]
pub(crate) struct Permit<K: Kind>(Alarm<K, One>);

impl<K: Kind> Permit<K> {
    /// It is not coming back.
    pub(crate) fn surrender(self, proof: &impl Forfeit) {
        Permits::from(self).surrender(proof);
    }

    fn issue() -> Self {
        Self(Alarm(One, PhantomData))
    }

    #[inline]
    fn spend(self) {
        std::mem::forget(self);
    }
}

/// So many, often none.
#[derive(Debug)]
#[must_use = "they go back to their ledger, or room is lost"]
pub(crate) struct Permits<K: Kind>(Alarm<K, u32>);

impl<K: Kind> Permits<K> {
    /// Empty pockets.
    pub(crate) const NONE: Self = Self(Alarm(0, PhantomData));

    /// How many.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.0.0
    }

    /// Takes one out, if there is one.
    #[inline]
    pub(crate) fn take_one(&mut self) -> Option<Permit<K>> {
        self.0.0 = self.0.0.checked_sub(1)?;
        Some(Permit::issue())
    }

    /// Takes so many out, if there are as many.
    #[inline]
    pub(crate) fn split(&mut self, count: u32) -> Option<Self> {
        self.0.0 = self.0.0.checked_sub(count)?;
        Some(Self(Alarm(count, PhantomData)))
    }

    /// All of them: none stay here.
    #[inline]
    pub(crate) fn take_all(&mut self) -> Self {
        std::mem::replace(self, Self::NONE)
    }

    /// Puts one in.
    #[inline]
    pub(crate) fn put(&mut self, permit: Permit<K>) {
        permit.spend();
        self.0.0 += 1;
    }

    /// Puts those of `other` in.
    #[inline]
    pub(crate) fn merge(&mut self, other: Self) {
        self.0.0 += other.spend();
    }

    /// They are not coming back.
    pub(crate) fn surrender(self, _proof: &impl Forfeit) {
        self.spend();
    }

    #[inline]
    fn spend(self) -> u32 {
        let count = self.count();
        std::mem::forget(self);
        count
    }
}

impl<K: Kind> From<Permit<K>> for Permits<K> {
    #[inline]
    fn from(permit: Permit<K>) -> Self {
        permit.spend();
        Self(Alarm(1, PhantomData))
    }
}

/// Where the permits of one kind come from: those at hand, and how many there are in all.
#[derive(Debug)]
pub(crate) struct Ledger<K: Kind> {
    issued: u32,
    at_hand: Permits<K>,
}

impl<K: Kind> Ledger<K> {
    /// Makes `count` permits, all at hand.
    pub(crate) fn issue(count: u32) -> Self {
        Self { issued: count, at_hand: Permits(Alarm(count, PhantomData)) }
    }

    /// How many could be taken.
    #[inline]
    pub(crate) fn at_hand_count(&self) -> u32 {
        self.at_hand.count()
    }

    /// How many are not at hand.
    #[inline]
    pub(crate) fn out_count(&self) -> u32 {
        self.issued - self.at_hand.count()
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn issued_count(&self) -> u32 {
        self.issued
    }

    /// One, if one is at hand.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Permit<K>> {
        self.at_hand.take_one()
    }

    /// So many, if as many are at hand.
    pub(crate) fn take_many(&mut self, count: u32) -> Option<Permits<K>> {
        self.at_hand.split(count)
    }

    /// One is back.
    #[inline]
    pub(crate) fn give(&mut self, permit: Permit<K>) {
        self.at_hand.put(permit);
        self.check();
    }

    /// Some are back.
    #[inline]
    pub(crate) fn give_many(&mut self, permits: Permits<K>) {
        self.at_hand.merge(permits);
        self.check();
    }

    /// Some are never coming back: from now on there are fewer.
    pub(crate) fn write_off(&mut self, permits: Permits<K>, proof: &impl Forfeit) {
        self.issued -= permits.count();
        permits.surrender(proof);
    }

    /// Nobody will take any again. Those that are out are surrendered by who has them.
    pub(crate) fn surrender(mut self, _proof: &impl Forfeit) {
        self.issued = 0;
        self.at_hand.take_all().spend();
    }

    /// A permit of another ledger would make more than there are.
    #[inline]
    fn check(&self) {
        debug_assert!(
            self.at_hand.count() <= self.issued,
            "{} of {} permits for {} at hand",
            self.at_hand.count(),
            self.issued,
            K::NAME
        );
    }
}

#[cfg(debug_assertions)]
impl<K: Kind> Drop for Ledger<K> {
    fn drop(&mut self) {
        let (at_hand, issued) = (self.at_hand.take_all().spend(), self.issued);
        if at_hand != issued && !std::thread::panicking() {
            panic!("a ledger of {issued} permits for {} was dropped with {at_hand} at hand", K::NAME);
        }
    }
}

/// One, where that is known without counting.
#[derive(Debug)]
struct One;

/// A number of permits, as a type that may know it.
trait Count {
    #[cfg(debug_assertions)]
    fn count(&self) -> u32;
}

impl Count for One {
    #[cfg(debug_assertions)]
    fn count(&self) -> u32 {
        1
    }
}

impl Count for u32 {
    #[cfg(debug_assertions)]
    fn count(&self) -> u32 {
        *self
    }
}

/// Goes off if it is dropped with something in it, in debug builds.
#[derive(Debug)]
struct Alarm<K: Kind, C: Count>(C, PhantomData<K>);

#[cfg(debug_assertions)]
impl<K: Kind, C: Count> Drop for Alarm<K, C> {
    fn drop(&mut self) {
        let count = self.0.count();
        if count > 0 && !std::thread::panicking() {
            panic!("{count} permits for {} were dropped: they come back to their ledger, or are surrendered", K::NAME);
        }
    }
}

const _: () = assert!(cfg!(debug_assertions) || size_of::<Option<Permit<SendRoom>>>() == 1);
const _: () = assert!(size_of::<Permit<SendRoom>>() == 0 && size_of::<Permits<SendRoom>>() == 4);
const _: () = assert!(cfg!(debug_assertions) || !std::mem::needs_drop::<Allowance>());

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone;
    impl Forfeit for Gone {}

    /// What a panic said.
    fn complaint(body: impl FnOnce() + std::panic::UnwindSafe) -> Option<String> {
        let payload = std::panic::catch_unwind(body).err()?;
        Some(payload.downcast::<String>().map_or_else(|_| "no words".into(), |words| *words))
    }

    /// Whether dropping is watched: not in release builds, where it costs nothing.
    const WATCHED: bool = cfg!(debug_assertions);

    #[test]
    fn at_hand_and_out_are_what_was_issued() {
        let mut ledger = Ledger::<SendRoom>::issue(3);
        let mut pocket = Permits::NONE;
        for out in 1..=3 {
            pocket.put(ledger.take().unwrap());
            assert_eq!((ledger.at_hand_count(), ledger.out_count(), pocket.count()), (3 - out, out, out));
        }
        assert!(ledger.take().is_none());
        assert!(pocket.split(4).is_none());
        let two = pocket.split(2).unwrap();
        ledger.give_many(two);
        ledger.give(pocket.take_one().unwrap());
        assert!(pocket.take_one().is_none());
        assert_eq!(ledger.out_count(), 0);
        let mut many = ledger.take_many(3).unwrap();
        assert!(ledger.take_many(1).is_none());
        many.merge(Permits::NONE);
        ledger.give_many(many);
    }

    #[test]
    fn a_dropped_permit_says_what_it_was_for() {
        let said = complaint(|| {
            let mut ledger = Ledger::<ReadDepth>::issue(1);
            drop(ledger.take());
        });
        assert_eq!(said.is_some(), WATCHED);
        assert!(said.is_none_or(|said| said.starts_with("1 permits for read depth were dropped")));
        let said = complaint(|| {
            let mut ledger = Ledger::<CompletionRoom>::issue(9);
            drop(ledger.take_many(4));
        });
        assert_eq!(said.is_some(), WATCHED);
        assert!(said.is_none_or(|said| said.starts_with("4 permits for completion queue entries were dropped")));
    }

    #[test]
    fn a_ledger_that_misses_some_says_so() {
        let said = complaint(|| {
            let mut ledger = Ledger::<SendRoom>::issue(5);
            let out = ledger.take_many(2);
            drop(ledger);
            out.unwrap().surrender(&Gone);
        });
        let expected = "a ledger of 5 permits for send queue room was dropped with 3 at hand";
        assert_eq!(said, WATCHED.then(|| expected.to_owned()));
        assert_eq!(complaint(|| drop(Ledger::<SendRoom>::issue(5))), None, "all are there");
    }

    #[test]
    fn permits_of_another_ledger_are_noticed() {
        let said = complaint(|| {
            let (mut one, mut other) = (Ledger::<SendRoom>::issue(1), Ledger::<SendRoom>::issue(1));
            other.give(one.take().unwrap());
        });
        assert_eq!(said, WATCHED.then(|| "2 of 1 permits for send queue room at hand".to_owned()));
    }

    #[test]
    fn what_is_surrendered_is_missed_by_nobody() {
        let mut ledger = Ledger::<SendRoom>::issue(5);
        let two = ledger.take_many(2).unwrap();
        ledger.write_off(two, &Gone);
        assert_eq!((ledger.issued_count(), ledger.out_count()), (3, 0));
        let out = ledger.take().unwrap();
        ledger.surrender(&Gone);
        out.surrender(&Gone);
    }
}
