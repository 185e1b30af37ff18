//! Quiescent-state reclamation: the epoch and who has seen it.
//!
//! A *participant* is a reactor of the mesh or a registered [`Reader`]. Each has a slot of its own with the last epoch that it
//! saw at a quiet point, or [`OFFLINE`]. One CPU, the *advancer* (the mesh's last), takes the epoch one step further when all
//! participants that are online have seen the present one. An object that was unlinked is stamped with its CPU's epoch plus one,
//! and given back some steps after that (see [`crate::Grace`]). The orderings are argued in `docs/ORDERING.md`.
//!
//! Invariants, which are what makes `look` and `load` of [`crate::Table`] and [`crate::Published`] sound:
//! 1. A [`Guard`] of lifetime `'t` exists only while its participant is online, and the participant neither publishes an epoch
//!    nor goes offline before `'t` has ended: a reactor does so only between turns, with no program running; a reader only
//!    after its closure, which is written for every `'t`, has returned.
//! 2. The global epoch is at most one above the slot of every participant that is online by itself.
//! 3. Only the advancer stores the global epoch, and there is one.
//! 4. The memory behind what was unlinked is given back only by [`crate::Reaped`], which is made only by a limbo whose grace
//!    period in this domain is over; everywhere else (a table dropped, an unlinked object dropped) it leaks.

#[cfg(test)]
#[cfg(not(loom))]
mod model;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

#[cfg(any(loom, test))]
use crate::primitive::mutation::Rule;
use crate::primitive::{AtomicBool, AtomicU64, Ordering, Site};

/// How many threads that are no reactors may be registered at a time.
#[cfg(not(loom))]
const READER_PLACE_COUNT: usize = 8;
/// Each costs the models a load per step.
#[cfg(loom)]
const READER_PLACE_COUNT: usize = 1;

/// In a slot: this participant holds nothing and is not waited for.
pub(crate) const OFFLINE: u64 = u64::MAX;
/// In a slot, beside the epoch: this participant is still waited for, and will go offline unless somebody takes the mark away.
const DOZING: u64 = 1 << 63;

/// A set of participants (the mesh's reactors, and a fixed number of registered [`Reader`]s) and one global epoch.
#[derive(Clone)]
pub struct Domain {
    inner: Arc<Inner>,
}

struct Inner {
    epoch: CachePadded<AtomicU64>,
    /// The reactors' slots, then the readers'.
    slots: Box<[CachePadded<Slot>]>,
    cpu_count: usize,
    reader_places: [AtomicBool; READER_PLACE_COUNT],
}

/// Written by its participant alone, but for what a sender may do: take it from [`OFFLINE`] to the sender's own epoch, and take the mark [`DOZING`] away.
struct Slot {
    seen: AtomicU64,
    limbo_len: AtomicU64,
    limbo_oldest: AtomicU64,
}

impl Domain {
    pub(crate) fn new(cpu_count: u16) -> Self {
        let slot = || {
            CachePadded::new(Slot {
                seen: AtomicU64::new(OFFLINE),
                limbo_len: AtomicU64::new(0),
                limbo_oldest: AtomicU64::new(0),
            })
        };
        let cpu_count = usize::from(cpu_count);
        let inner = Inner {
            epoch: CachePadded::new(AtomicU64::new(0)),
            slots: (0..cpu_count + READER_PLACE_COUNT).map(|_| slot()).collect(),
            cpu_count,
            reader_places: std::array::from_fn(|_| AtomicBool::new(false)),
        };
        Self { inner: Arc::new(inner) }
    }

    /// How many values wait in limbos of all CPUs.
    #[must_use]
    pub fn limbo_len(&self) -> u64 {
        // ORDERING 9.
        self.reactor_slots().map(|slot| slot.limbo_len.load(Ordering::Relaxed)).sum()
    }

    /// How many steps the epoch has taken since the oldest value that waits was retired; 0 when none waits. It grows past 4
    /// only where a CPU does not reap what it may. It stays small, with [`Self::limbo_len`] above zero, where a CPU does not
    /// turn: see [`Self::laggards`].
    #[must_use]
    pub fn limbo_age_steps(&self) -> u64 {
        let epoch = self.epoch();
        // ORDERING 9.
        self.reactor_slots()
            .filter(|slot| slot.limbo_len.load(Ordering::Relaxed) > 0)
            .map(|slot| (epoch + 1).saturating_sub(slot.limbo_oldest.load(Ordering::Relaxed)))
            .max()
            .unwrap_or(0)
    }

    /// The global epoch. It moves only while something waits in a limbo.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        // ORDERING 3: whoever reaps acquires what the readers did before their quiet points.
        self.inner.epoch.load(Site::ReapEpoch.acquire())
    }

    /// The CPUs (by place in the mesh) that are online and have not seen the present epoch: while something waits and this
    /// does not change, they are the ones that do not turn.
    pub fn laggards(&self) -> impl Iterator<Item = u16> {
        let epoch = self.epoch();
        (0..).zip(self.reactor_slots()).filter_map(move |(cpu, slot)| {
            // ORDERING 9.
            let seen = slot.seen.load(Ordering::Relaxed);
            (seen != OFFLINE && seen & !DOZING != epoch).then_some(cpu)
        })
    }

    /// Whether a CPU is waited for: it is awake, or somebody has sent it something.
    pub(crate) fn is_online(&self, cpu: u16) -> bool {
        // ORDERING 9.
        self.inner.slots[usize::from(cpu)].seen.load(Ordering::Relaxed) != OFFLINE
    }

    /// Registers a thread that is no reactor. `None` when all places are taken.
    #[must_use]
    pub fn register_reader(&self) -> Option<Reader> {
        let place = self.inner.reader_places.iter().position(|taken| {
            // ORDERING 7: the place's last holder let go of it with release.
            taken.compare_exchange(false, true, Site::TakePlace.acquire(), Ordering::Relaxed).is_ok()
        })?;
        let index = self.inner.cpu_count + place;
        let participant = Participant { domain: self.clone(), index, seen: OFFLINE };
        Some(Reader { participant, _place: Place { domain: self.clone(), number: place } })
    }

    pub(crate) fn id(&self) -> DomainId {
        DomainId(Arc::as_ptr(&self.inner).addr())
    }

    pub(crate) fn participant(&self, cpu: u16) -> Participant {
        assert!(usize::from(cpu) < self.inner.cpu_count);
        Participant { domain: self.clone(), index: usize::from(cpu), seen: OFFLINE }
    }

    /// One step of the epoch, if every participant that is online has seen the present one. Called by the advancer alone
    /// (invariant 3).
    pub(crate) fn advance(&self) -> bool {
        // ORDERING 3: only this CPU stores it.
        let epoch = self.inner.epoch.load(Ordering::Relaxed);
        // ORDERING 5: pairs with the fence of whoever comes online.
        Site::SurveyFence.fence();
        let all_seen = self.inner.slots.iter().all(|slot| {
            // ORDERING 2: what was done before the quiet point happened before the step.
            let seen = slot.seen.load(Site::Survey.acquire());
            seen == OFFLINE || seen & !DOZING == epoch
        });
        if all_seen {
            // ORDERING 3.
            self.inner.epoch.store(epoch + 1, Site::Step.release());
        }
        all_seen
    }

    /// Called by a sender, after its fence, for a CPU that it has pushed to: one that is offline is counted as online from
    /// now on, at the sender's epoch, until it comes online itself; one that is about to go offline stays online. So the message holds up the epoch as
    /// it would on a CPU that turns. True if the CPU did not turn.
    #[inline]
    pub(crate) fn hold_for(&self, cpu: u16, epoch: u64) -> bool {
        #[cfg(any(loom, test))]
        if Rule::Hold.is_broken() {
            return false;
        }
        let seen = &self.inner.slots[usize::from(cpu)].seen;
        // ORDERING 6.
        let mut found = seen.load(Ordering::Relaxed);
        // It ends: each exchange that fails has met a receiver that moves on, and soon one that has received the message.
        while found >= DOZING {
            let held = if found == OFFLINE { epoch } else { found & !DOZING };
            match seen.compare_exchange(found, held, Site::Hold.release(), Ordering::Relaxed) {
                Ok(_) => return true,
                Err(changed) => found = changed,
            }
        }
        false
    }

    pub(crate) fn report_limbo(&self, cpu: u16, len: u64, oldest: u64) {
        let slot = &self.inner.slots[usize::from(cpu)];
        // ORDERING 9.
        slot.limbo_len.store(len, Ordering::Relaxed);
        slot.limbo_oldest.store(oldest, Ordering::Relaxed);
    }

    fn reactor_slots(&self) -> impl Iterator<Item = &Slot> {
        self.inner.slots[..self.inner.cpu_count].iter().map(|slot| &**slot)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("epoch", &self.epoch()).field("limbo_len", &self.limbo_len()).finish()
    }
}

/// Which domain a thing is of: an address that is compared and never followed. A new domain may get the address of one
/// that is gone; that does no harm, since a domain is alive while one of its guards is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DomainId(usize);

/// One participant's way into its slot.
pub(crate) struct Participant {
    domain: Domain,
    index: usize,
    /// What this participant last stored in its slot.
    seen: u64,
}

impl Participant {
    /// The epoch in its slot.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    pub(crate) fn is_online(&self) -> bool {
        self.seen != OFFLINE
    }

    /// The quiet point: the participant holds nothing.
    #[inline]
    pub(crate) fn quiet(&mut self) {
        debug_assert!(self.is_online());
        // ORDERING 3.
        let epoch = self.domain.inner.epoch.load(Site::QuietEpoch.acquire());
        if epoch != self.seen {
            self.publish(epoch, Site::Quiet);
        }
    }

    /// Afterwards the participant may look at what is shared.
    pub(crate) fn go_online(&mut self) {
        // ORDERING 5: relaxed, since the fence comes after.
        let mut epoch = self.domain.inner.epoch.load(Ordering::Relaxed);
        #[cfg(loom)]
        self.settle();
        loop {
            self.publish(epoch, Site::Online);
            // ORDERING 5.
            Site::OnlineFence.fence();
            #[cfg(any(loom, test))]
            if Rule::SecondLoad.is_broken() {
                break;
            }
            let again = self.domain.inner.epoch.load(Ordering::Relaxed);
            if again == epoch {
                break;
            }
            epoch = again;
        }
    }

    /// The participant holds nothing, and will hold nothing before it has come online again. A fence is the caller's.
    pub(crate) fn go_offline(&mut self) {
        self.publish(OFFLINE, Site::Offline);
    }

    /// It will go offline if nobody has anything for it: from here on senders see that. A fence and a last look are the caller's, and then either
    /// [`Self::fall_asleep`] or [`Self::stay_awake`].
    pub(crate) fn doze(&mut self) {
        #[cfg(any(loom, test))]
        if Rule::OfflineLast.is_broken() {
            return self.go_offline();
        }
        // ORDERING 2: who reads this instead of the epoch alone has to see as much.
        self.slot().seen.store(self.seen | DOZING, Site::Doze.release());
    }

    /// Goes offline, unless somebody has sent something since [`Self::doze`]: then it is false.
    pub(crate) fn fall_asleep(&mut self) -> bool {
        #[cfg(any(loom, test))]
        if Rule::OfflineLast.is_broken() {
            return true;
        }
        #[cfg(any(loom, test))]
        if Rule::OfflineByExchange.is_broken() {
            // Whatever is there. For the model checker it is an exchange too, which gives it its place behind what is there.
            self.slot().seen.swap(OFFLINE, Site::Offline.release());
            self.seen = OFFLINE;
            return true;
        }
        // ORDERING 2: relaxed, since it continues the release sequence of the mark, and nothing shared was looked at since.
        let dozing = self.seen | DOZING;
        let is_offline =
            self.slot().seen.compare_exchange(dozing, OFFLINE, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_offline {
            self.seen = OFFLINE;
        }
        is_offline
    }

    /// There was something: it was online all the time.
    pub(crate) fn stay_awake(&mut self) {
        #[cfg(any(loom, test))]
        if Rule::OfflineLast.is_broken() {
            return self.go_online();
        }
        #[cfg(loom)]
        self.settle();
        self.publish(self.seen, Site::Quiet);
    }

    /// To the model checker, a plain store may come between a sender's exchange and the store that the exchange read, which is impossible. An exchange
    /// that fails puts what follows behind all that is there. Nobody sends anything to readers.
    #[cfg(loom)]
    fn settle(&self) {
        const NEVER: u64 = OFFLINE - 1;
        let is_reader = self.index >= self.domain.inner.cpu_count;
        assert!(
            is_reader || self.slot().seen.compare_exchange(NEVER, NEVER, Ordering::Relaxed, Ordering::Relaxed).is_err()
        );
    }

    #[inline]
    fn publish(&mut self, epoch: u64, site: Site) {
        // ORDERING 2.
        self.slot().seen.store(epoch, site.release());
        self.seen = epoch;
    }

    #[inline]
    fn slot(&self) -> &Slot {
        &self.domain.inner.slots[self.index]
    }
}

impl Drop for Participant {
    /// Its reactor or reader is gone, and with it everything that it could have held (invariant 1).
    fn drop(&mut self) {
        self.go_offline();
    }
}

/// Proof that its holder is inside a turn (or inside [`Reader::read`]) of one domain.
#[derive(Clone, Copy)]
pub struct Guard<'t> {
    domain: DomainId,
    // Invariant: a longer lifetime can not be had by variance, nor a shorter one be taken for another's.
    _turn: PhantomData<fn(&'t ()) -> &'t ()>,
    _not_send: PhantomData<*const ()>,
}

impl<'t> Guard<'t> {
    /// The caller answers for invariant 1.
    pub(crate) fn new(domain: &'t Domain) -> Self {
        Self { domain: domain.id(), _turn: PhantomData, _not_send: PhantomData }
    }

    /// Panics unless the guard is of this domain: another's says nothing about who still looks here.
    #[inline]
    pub(crate) fn check(self, domain: DomainId) {
        assert!(self.domain == domain, "a guard of one domain used on a table of another");
    }
}

/// A participant that is no reactor: online only while it reads.
pub struct Reader {
    participant: Participant,
    /// Below the participant, which goes offline before the place is given back.
    _place: Place,
}

impl Reader {
    /// Goes online, reads, goes offline. While it reads nothing is reclaimed anywhere: it is to be short.
    pub fn read<R>(&mut self, read: impl for<'t> FnOnce(Guard<'t>) -> R) -> R {
        /// Goes offline also when the closure panics.
        struct Online<'r>(&'r mut Participant);
        impl Drop for Online<'_> {
            fn drop(&mut self) {
                self.0.go_offline();
            }
        }
        self.participant.go_online();
        let online = Online(&mut self.participant);
        read(Guard::new(&online.0.domain))
    }
}

/// One of the places for readers, given back when dropped.
struct Place {
    domain: Domain,
    number: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        // ORDERING 7.
        self.domain.inner.reader_places[self.number].store(false, Site::GivePlace.release());
    }
}
