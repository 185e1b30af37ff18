//! What two processes share beside rings, as polling CPUs see it: the *pair page*, the doorbells, the peer's keys, the peer's arenas.
//!
//! The pair page, one block for each side:
//!
//! | bytes | what | written by | read by |
//! |---|---|---|---|
//! | 4096 | news board: 1024 producer indices, in lines of 16 | the other side's CPUs | this side's CPUs, a line by one of them |
//! | 2048 | *busy* words: one line for each of this side's ports, odd while the port copies from or to the other side's memory | this side's CPUs | the other side's control plane and CPUs |
//! | 2048 | *asleep* words: one line for each of this side's ports, not 0 while its CPU sleeps and wants to be rung for | this side's CPUs; cleared by who rings | the other side's CPUs and control plane |
//!
//! A place on the board belongs to one queue pair from its creation until both sides have ended it: nothing late can be stored there. One busy word for each copying
//! CPU (not for each queue pair) is enough, since a CPU copies for one queue pair at a time; and an owner has few words to watch, which never go away.
//!
//! **Waking a CPU that sleeps** ([`reactor::doorbell`] has the protocol and its proof): the sleeper stores *asleep* in the page of every pair with a queue pair on its port, SeqCst fence,
//! looks once more at everything that a poll looks at (board, states, what was consumed), and sleeps on its [`super::doorbell::Alarm`]. Whoever has stored something that a poll of the other side looks at
//! (a producer index, what was consumed, a state) passes one fence for all that a batch stored, then looks once at the asleep word of each pair and port in it; who finds it set and clears it rings the
//! [`super::doorbell::PeerDoorbell`]. So as long as nobody sleeps a batch costs a fence, and a load for each pair in it. For what the peer cannot say (it died, its memory
//! is gone) this side's own control plane rings. Nothing rings for the end of a copy (*busy*): who waits for that looks every millisecond.
//!
//! Shared by `Arc`s.
//!
//! **Taking memory away** (the copier is [`super::port_wire`], the owner [`super::export`] and the provider): the copier stores *busy*, SeqCst fence, reads gate and key, copies, stores
//! *idle*; the owner closes gate or key, SeqCst fence, reads the busy words. By the two fences either the copier sees it closed or the owner sees it busy; and a word that has
//! changed since belongs to a later copy, which has seen it closed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use reactor::doorbell;

use super::doorbell::{Doorbell, PeerDoorbell};
use super::mapping::Mapping;

/// Bytes of the pair page.
pub(super) const PAGE_LEN: usize = 16 << 10;
/// Places on a news board.
pub(super) const NEWS_SLOT_COUNT: u32 = 1024;
/// Places of a line.
pub(super) const NEWS_LINE_SLOTS: u32 = 16;
/// Most ports of a provider.
pub(super) const PORT_COUNT_MAX: usize = 32;
/// Most arenas that a peer may have offered at a time.
pub(super) const ARENA_COUNT_MAX: usize = 64;

/// Bytes of a key table's entry.
pub(super) const KEY_ENTRY_LEN: usize = 32;
/// Most entries of a key table: 12 bits of a key.
pub(super) const KEY_COUNT_MAX: u32 = 4096;

const SIDE_LEN: usize = PAGE_LEN / 2;
const BUSY_OFFSET: usize = 4096;
const ASLEEP_OFFSET: usize = BUSY_OFFSET + PORT_COUNT_MAX * LINE_LEN;
const LINE_LEN: usize = 64;

/// Which end of the Unix socket a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Connected; made the page.
    Connector,
    /// Was connected to.
    Acceptor,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Connector => Self::Acceptor,
            Self::Acceptor => Self::Connector,
        }
    }

    /// 0 or 1.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Connector => 0,
            Self::Acceptor => 1,
        }
    }
}

/// A peer's arena, mapped here.
#[derive(Debug)]
pub(super) struct RemoteArena {
    /// Its first address in the peer's process.
    pub(super) base: u64,
    pub(super) memory: Mapping,
}

/// The two processes' shared state.
#[derive(Debug)]
pub(super) struct Pair {
    id: u64,
    side: Side,
    page: Mapping,
    /// By port of ours, from its first queue pair with this peer on.
    doorbells: [OnceLock<Doorbell>; PORT_COUNT_MAX],
    /// By port of the peer's, as it hands them over.
    peer_doorbells: [OnceLock<PeerDoorbell>; PORT_COUNT_MAX],
    gone: AtomicBool,
    dead: AtomicBool,
}

/// What of the peer's memory is mapped here. Held by links beside the pair: with the last link gone the provider has the only reference, and may take arenas out.
#[derive(Debug)]
pub(super) struct RemoteMemory {
    /// The peer's key table, mapped for reading.
    keys: Option<Mapping>,
    arenas: Vec<OnceLock<RemoteArena>>,
}

/// The peer's busy words at one moment.
#[derive(Clone, Debug)]
pub(super) struct Copies([u32; PORT_COUNT_MAX]);

impl Pair {
    pub(super) fn new(id: u64, side: Side, page: Mapping) -> Self {
        Self {
            id,
            side,
            page,
            doorbells: [const { OnceLock::new() }; PORT_COUNT_MAX],
            peer_doorbells: [const { OnceLock::new() }; PORT_COUNT_MAX],
            gone: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Where the peer stores the producer index of what it sends to the queue pair at `slot` of our board.
    #[inline]
    pub(super) fn our_news(&self, slot: u32) -> &AtomicU32 {
        self.news(self.side, slot)
    }

    /// The line of our board that begins at `first_slot`.
    #[inline]
    pub(super) fn our_news_line(&self, first_slot: u32) -> &[AtomicU32; NEWS_LINE_SLOTS as usize] {
        self.page.words(self.side.index() * SIDE_LEN + (first_slot % NEWS_SLOT_COUNT) as usize * 4)
    }

    /// Where we store ours, at `slot` of the peer's board.
    #[inline]
    pub(super) fn peer_news(&self, slot: u32) -> &AtomicU32 {
        self.news(self.side.other(), slot)
    }

    fn news(&self, side: Side, slot: u32) -> &AtomicU32 {
        self.page.word(side.index() * SIDE_LEN + (slot % NEWS_SLOT_COUNT) as usize * 4)
    }

    /// Our port's busy word.
    #[inline]
    pub(super) fn our_busy(&self, port: usize) -> &AtomicU32 {
        self.busy(self.side, port)
    }

    fn busy(&self, side: Side, port: usize) -> &AtomicU32 {
        self.page.word(side.index() * SIDE_LEN + BUSY_OFFSET + (port % PORT_COUNT_MAX) * LINE_LEN)
    }

    /// Our port's asleep word.
    #[inline]
    pub(super) fn our_asleep(&self, port: usize) -> &AtomicU32 {
        self.asleep(self.side, port)
    }

    fn asleep(&self, side: Side, port: usize) -> &AtomicU32 {
        self.page.word(side.index() * SIDE_LEN + ASLEEP_OFFSET + (port % PORT_COUNT_MAX) * LINE_LEN)
    }

    /// Our port's doorbell, if one was made.
    pub(super) fn doorbell(&self, port: usize) -> Option<&Doorbell> {
        self.doorbells.get(port)?.get()
    }

    /// Enters our port's. Gives it back if there is one.
    pub(super) fn add_doorbell(&self, port: usize, doorbell: Doorbell) -> Result<(), Doorbell> {
        self.doorbells[port % PORT_COUNT_MAX].set(doorbell)
    }

    /// Enters a port of the peer's. Gives it back if there is one, or no such port.
    pub(super) fn add_peer_doorbell(&self, port: u32, doorbell: PeerDoorbell) -> Result<(), PeerDoorbell> {
        match self.peer_doorbells.get(port as usize) {
            Some(place) => place.set(doorbell),
            None => Err(doorbell),
        }
    }

    /// Rings for the peer's port, if it sleeps. After the news for it and the fence ([`doorbell::after_news`]).
    #[inline]
    pub(super) fn wake_peer(&self, port: usize) {
        // Written by the peer: who claims to sleep without end costs a system call for each batch to it, which never waits.
        if doorbell::take(self.asleep(self.side.other(), port))
            && let Some(doorbell) = self.peer_doorbells[port % PORT_COUNT_MAX].get()
        {
            doorbell.ring();
        }
    }

    /// What the peer's CPUs copy now. After a gate or key was closed: the fence that pairs with the copier's is in here.
    pub(super) fn copies(&self) -> Copies {
        fence(Ordering::SeqCst);
        let mut words = [0; PORT_COUNT_MAX];
        for (port, word) in words.iter_mut().enumerate() {
            // Acquire: pairs with the copier's release of *idle*; what it copied is there.
            *word = self.busy(self.side.other(), port).load(Ordering::Acquire);
        }
        Copies(words)
    }

    /// Whether all copies that ran then have ended. A peer that lies here hurts only itself: it could write into its mapping anyway.
    pub(super) fn have_ended(&self, then: &Copies) -> bool {
        // A dead process copies nothing; one that only closed its socket may still be in mid-copy.
        self.is_dead()
            || then.0.iter().enumerate().all(|(port, &word)| {
                word.is_multiple_of(2) || self.busy(self.side.other(), port).load(Ordering::Acquire) != word
            })
    }

    /// The peer is gone, or is treated so: nothing is copied any more.
    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    #[inline]
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Whether a fault in what the peer handed over was covered.
    pub(super) fn is_faulted(&self) -> bool {
        self.page.is_faulted()
    }

    /// The peer's process has ended.
    pub(super) fn set_dead(&self) {
        self.set_gone();
        self.dead.store(true, Ordering::Release);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }
}

impl RemoteMemory {
    pub(super) fn new(keys: Option<Mapping>) -> Self {
        Self { keys, arenas: std::iter::repeat_with(OnceLock::new).take(ARENA_COUNT_MAX).collect() }
    }

    /// Whether a fault in it was covered.
    pub(super) fn is_faulted(&self) -> bool {
        self.keys.as_ref().is_some_and(Mapping::is_faulted)
            || self.arenas.iter().filter_map(OnceLock::get).any(|arena| arena.memory.is_faulted())
    }

    /// Adds an arena of the peer's. Gives it back if the slot is taken or there is none.
    pub(super) fn add_arena(&self, slot: u32, arena: RemoteArena) -> Result<(), RemoteArena> {
        match self.arenas.get(slot as usize) {
            Some(place) => place.set(arena),
            None => Err(arena),
        }
    }

    /// Whether the slot can take an arena.
    pub(super) fn has_room(&self, slot: u32) -> bool {
        self.arenas.get(slot as usize).is_some_and(|place| place.get().is_none())
    }

    /// Takes an arena out: only with the sole reference, so that no CPU copies.
    pub(super) fn take_arena(&mut self, slot: u32) -> Option<RemoteArena> {
        self.arenas.get_mut(slot as usize)?.take()
    }

    /// The place in the peer's memory that `key` allows for `len` bytes at `address` with `access`. Everything is copied out of shared memory once, and checked
    /// against what is mapped here: no entry, whatever it says, reaches outside. To be called while *busy*.
    #[inline]
    pub(super) fn look(&self, key: u32, address: u64, len: usize, access: u32) -> Option<(&RemoteArena, usize)> {
        let keys = self.keys.as_ref()?;
        let entry = (key >> 20) as usize * KEY_ENTRY_LEN;
        if entry + KEY_ENTRY_LEN > keys.len() {
            return None;
        }
        // Acquire: pairs with the owner's release of the key after the rest of its entry.
        if keys.word(entry).load(Ordering::Acquire) != key || key == 0 {
            return None;
        }
        let rights = keys.word(entry + 4).load(Ordering::Relaxed);
        let start = keys.double_word(entry + 8).load(Ordering::Relaxed);
        let region_len = keys.double_word(entry + 16).load(Ordering::Relaxed);
        let end = address.checked_add(len as u64)?;
        if rights & access != access || address < start || end > start.checked_add(region_len)? {
            return None;
        }
        let arena = self.arenas.get((rights >> 8) as usize)?.get()?;
        let offset = usize::try_from(address.checked_sub(arena.base)?).ok()?;
        if offset > arena.memory.len() || len > arena.memory.len() - offset {
            return None;
        }
        Some((arena, offset))
    }
}
