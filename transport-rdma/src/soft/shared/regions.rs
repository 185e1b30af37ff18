//! Memory: registered, offered to a peer, taken away.
//!
//! Control plane only. A shared arena with a remote right is *offered* to one peer process: the peer of the first connection that is made after it was registered, or, if it is
//! registered while there is exactly one peer with connections, that one. The peer maps it once and keeps it for as long as the arena lives here, so that
//! it can be registered and connected again. Taking a region away: close its keys; wait until no copy under them can run; then the ticket's event.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

use reactor::{RegionId, SharedArena};

use super::SharedProvider;
use super::connection::State;
use super::export::Ending;
use super::local_keys::LOCAL_KEY_COUNT;
use super::mapping::{page_len, seal};
use super::message::Message;
use super::pair::{ARENA_COUNT_MAX, Copies, KEY_COUNT_MAX};
use super::sigbus;
use crate::verbs::{Access, Event, Memory, RegisteredMemory, RejectReason, Ticket, VerbsError};

/// Whom an arena is offered to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Offer {
    /// Nobody yet.
    Free,
    /// This peer was told.
    Made { peer: u64, process: String },
    /// This peer has mapped it.
    Taken { peer: u64, process: String },
    /// This peer is to unmap it.
    Withdrawn { peer: u64 },
    /// A process that is gone, or that refused it: it is sealed, and nobody else can map it.
    Spent { process: String },
}

impl Offer {
    fn peer(&self) -> Option<u64> {
        match self {
            Self::Made { peer, .. } | Self::Taken { peer, .. } | Self::Withdrawn { peer } => Some(*peer),
            Self::Free | Self::Spent { .. } => None,
        }
    }
}

/// An arena with remote keys.
#[derive(Debug)]
struct Export {
    id: RegionId,
    base: u64,
    len: u64,
    /// While a region of it is registered.
    arena: Option<Arc<SharedArena>>,
    weak: Weak<SharedArena>,
    region_count: u32,
    offer: Offer,
    /// Registrations that end when the offer is taken.
    waiting: Vec<(Ticket, RegisteredMemory)>,
    /// A peer that has the descriptor may tear holes into it until it has mapped it: the backstop covers our side, too.
    _guard: Option<sigbus::Guard>,
}

#[derive(Debug)]
struct Region {
    /// Identity of its remote entry, valid or not; 0: none.
    remote: u32,
    slot: u32,
    windows: Vec<u32>,
}

/// A region on its way out.
#[derive(Debug)]
struct EndingRegion {
    ticket: Ticket,
    region: Region,
    /// What may still run, and of which pair.
    copies: Option<(u64, Copies)>,
}

/// What is registered.
#[derive(Debug, Default)]
pub(super) struct Regions {
    /// By local key.
    regions: BTreeMap<u32, Region>,
    /// By arena slot.
    exports: BTreeMap<u32, Export>,
    endings: Vec<EndingRegion>,
    generation: u32,
}

impl Regions {
    pub(super) fn count(&self) -> u64 {
        (self.regions.len() + self.endings.len()) as u64
    }

    pub(super) fn window_count(&self) -> u64 {
        let endings = self.endings.iter().map(|ending| &ending.region);
        self.regions.values().chain(endings).map(|region| region.windows.len() as u64).sum()
    }

    pub(super) fn offered_count(&self) -> u64 {
        self.exports.values().filter(|export| export.offer.peer().is_some()).count() as u64
    }

    /// Whether some region waits for copies.
    pub(super) fn is_ending(&self) -> bool {
        !self.endings.is_empty()
    }

    /// Whether this peer knows an arena of ours.
    pub(super) fn is_offered_to(&self, peer: u64) -> bool {
        self.exports.values().any(|export| export.offer.peer() == Some(peer))
    }

    /// Whether this peer's process could copy under a key that is still to be closed.
    pub(super) fn has_keys_for(&self, peer: u64) -> bool {
        let has_keys = |export: &Export| export.offer.peer() == Some(peer) && export.region_count > 0;
        self.exports.values().any(has_keys)
    }

    /// The peer is over.
    pub(super) fn forget_peer(&mut self, peer: u64) {
        for export in self.exports.values_mut() {
            match &export.offer {
                Offer::Made { peer: known, process } | Offer::Taken { peer: known, process } if *known == peer => {
                    export.offer = Offer::Spent { process: process.clone() };
                }
                Offer::Withdrawn { peer: known } if *known == peer => {
                    export.offer = Offer::Spent { process: String::new() };
                }
                Offer::Free
                | Offer::Made { .. }
                | Offer::Taken { .. }
                | Offer::Withdrawn { .. }
                | Offer::Spent { .. } => {}
            }
        }
    }

    fn generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }
}

impl SharedProvider {
    pub(super) fn register(&mut self, ticket: Ticket, memory: Memory, access: Access) {
        match self.try_register(&memory, access) {
            Ok((memory, slot)) => {
                let is_made = |export: &&mut Export| matches!(export.offer, Offer::Made { .. });
                let export = slot.and_then(|slot| self.regions.exports.get_mut(&slot)).filter(is_made);
                match export {
                    // The peer must know it before anybody is told its key.
                    Some(export) => export.waiting.push((ticket, memory)),
                    None => self.events.push_back(Event::Registered { ticket, result: Ok(memory) }),
                }
            }
            Err(error) => self.events.push_back(Event::Registered { ticket, result: Err(error) }),
        }
    }

    pub(super) fn try_register(
        &mut self,
        memory: &Memory,
        access: Access,
    ) -> Result<(RegisteredMemory, Option<u32>), VerbsError> {
        let is_remote = access.intersects(Access::REMOTE_READ | Access::REMOTE_WRITE | Access::WINDOW_BIND);
        let (segment, shared) = match memory {
            Memory::Private(segment) => (*segment, None),
            Memory::Shared(arena) => (arena.segment(), Some(arena)),
        };
        let (start, len) = (segment.address(), segment.len() as u64);
        let (remote, slot) = match (is_remote, shared) {
            (false, _) => (0, None),
            (true, None) => {
                return Err(VerbsError::NotBuilt {
                    what: "remote access to private memory on the software fabric",
                    instead: "register a SharedArena, which a peer process can map",
                });
            }
            (true, Some(arena)) => {
                let slot = self.export(arena)?;
                let generation = self.regions.generation();
                let key = self.exports.open_region(generation, slot, start, len, access);
                let remote = key.ok_or(VerbsError::Limit {
                    what: "remote keys",
                    value: u64::from(KEY_COUNT_MAX) + 1,
                    limit: KEY_COUNT_MAX.into(),
                })?;
                if let Some(export) = self.regions.exports.get_mut(&slot) {
                    export.region_count += 1;
                    export.arena = Some(Arc::clone(arena));
                }
                (remote, Some(slot))
            }
        };
        let generation = self.regions.generation();
        let Some(local_key) = self.local_keys.open(generation, start, len, access) else {
            if remote != 0 {
                self.exports.close(remote);
                self.exports.free(remote);
            }
            let limit = u64::from(LOCAL_KEY_COUNT);
            return Err(VerbsError::Limit { what: "registered regions", value: limit + 1, limit });
        };
        let region = Region { remote, slot: slot.unwrap_or(0), windows: Vec::new() };
        self.regions.regions.insert(local_key, region);
        if slot.is_some() {
            self.offer_to_the_one_peer();
        }
        let remote_key = if access.intersects(Access::REMOTE_READ | Access::REMOTE_WRITE) { remote } else { 0 };
        Ok((RegisteredMemory { local_key, remote_key }, slot))
    }

    /// The arena's slot: the one that it has, or a new one.
    pub(super) fn export(&mut self, arena: &Arc<SharedArena>) -> Result<u32, VerbsError> {
        let segment = arena.segment();
        let id = segment.region();
        self.withdraw_unused();
        if let Some((&slot, _)) = self.regions.exports.iter().find(|(_, export)| export.id == id) {
            return Ok(slot);
        }
        let limit = ARENA_COUNT_MAX as u64;
        let slot = (0..).take(ARENA_COUNT_MAX).find(|slot| !self.regions.exports.contains_key(slot));
        let slot = slot.ok_or(VerbsError::Limit { what: "arenas with remote access", value: limit + 1, limit })?;
        // A peer that has the descriptor must not be able to cut it off under us.
        seal(&arena.descriptor(), libc::F_SEAL_SHRINK | libc::F_SEAL_GROW)
            .map_err(|source| VerbsError::System { call: "fcntl(F_ADD_SEALS) on the arena", source })?;
        let page_len = page_len(arena.pages());
        let start = segment.as_ptr() as usize;
        let export = Export {
            id,
            base: segment.address(),
            len: segment.len() as u64,
            arena: None,
            weak: Arc::downgrade(arena),
            region_count: 0,
            offer: Offer::Free,
            waiting: Vec::new(),
            _guard: sigbus::enter(start, segment.len(), page_len),
        };
        self.regions.exports.insert(slot, export);
        Ok(slot)
    }

    pub(super) fn open_window(&mut self, region: RegisteredMemory) -> Result<u32, VerbsError> {
        let generation = self.regions.generation();
        let record = self.regions.regions.get_mut(&region.local_key).filter(|record| record.remote != 0);
        let wrong = |text: &str| VerbsError::System { call: "allocating a window", source: io::Error::other(text) };
        let record = record.ok_or_else(|| wrong("the region is not registered with WINDOW_BIND"))?;
        let window = self.exports.open_window(generation, record.remote).ok_or(VerbsError::Limit {
            what: "remote keys",
            value: u64::from(KEY_COUNT_MAX) + 1,
            limit: KEY_COUNT_MAX.into(),
        })?;
        record.windows.push(window);
        Ok(window)
    }

    pub(super) fn deregister(&mut self, ticket: Ticket, memory: RegisteredMemory) {
        let Some(region) = self.regions.regions.remove(&memory.local_key) else {
            return self.events.push_back(Event::Deregistered { ticket });
        };
        self.local_keys.close(memory.local_key);
        for &key in region.windows.iter().chain((region.remote != 0).then_some(&region.remote)) {
            self.exports.close(key);
        }
        let mut ending = EndingRegion { ticket, region, copies: None };
        if ending.region.remote != 0
            && let Ending::Copies(pair, copies) = self.exports.copies_in(ending.region.slot)
        {
            ending.copies = Some((pair, copies));
        }
        self.regions.endings.push(ending);
    }

    /// Ends those under whose keys no copy can run any more.
    pub(super) fn finish_regions(&mut self) {
        let mut at = 0;
        while at < self.regions.endings.len() {
            let ending = &self.regions.endings[at];
            if ending.copies.as_ref().is_some_and(|(pair, copies)| !self.exports.have_ended(*pair, copies)) {
                at += 1;
                continue;
            }
            let ending = self.regions.endings.remove(at);
            for &key in &ending.region.windows {
                self.exports.free(key);
            }
            if ending.region.remote != 0 {
                self.exports.free(ending.region.remote);
                if let Some(export) = self.regions.exports.get_mut(&ending.region.slot) {
                    export.region_count -= 1;
                    if export.region_count == 0 {
                        export.arena = None;
                    }
                }
            }
            self.events.push_back(Event::Deregistered { ticket: ending.ticket });
        }
        self.withdraw_unused();
    }

    /// Takes back what was offered of arenas that are dropped here.
    pub(super) fn withdraw_unused(&mut self) {
        let is_unused = |export: &Export| export.region_count == 0 && export.weak.strong_count() == 0;
        let unused: Vec<u32> =
            self.regions.exports.iter().filter(|(_, export)| is_unused(export)).map(|(&slot, _)| slot).collect();
        for slot in unused {
            let Some(export) = self.regions.exports.get_mut(&slot) else { continue };
            match export.offer.clone() {
                Offer::Made { peer, .. } | Offer::Taken { peer, .. } => {
                    export.offer = Offer::Withdrawn { peer };
                    self.say(peer, &Message::ArenaWithdrawn { slot }, Vec::new());
                }
                Offer::Withdrawn { .. } => {}
                Offer::Free | Offer::Spent { .. } => {
                    self.regions.exports.remove(&slot);
                    self.exports.withdraw(slot);
                }
            }
        }
    }

    pub(super) fn offer_to_the_one_peer(&mut self) {
        let mut peers = self.peers.values().filter(|peer| peer.connection_count > 0 && peer.live_pair().is_some());
        if let (Some(peer), None) = (peers.next(), peers.next()) {
            let number = peer.number;
            // A refusal concerns connections that are being made; there are none here.
            let _ = self.offer_arenas(number);
        }
    }

    /// Offers this peer what is offered to nobody. Fails if there is registered memory and none of it is this peer's: its keys would be refused.
    pub(super) fn offer_arenas(&mut self, number: u64) -> Result<(), String> {
        let Some(peer) = self.peers.get(&number) else { return Ok(()) };
        let Some((pair, _)) = peer.live_pair() else { return Ok(()) };
        let (pair, process) = (Arc::clone(pair), peer.describe());
        let mut serves = false;
        let mut taken_by = None;
        let slots: Vec<u32> = self.regions.exports.keys().copied().collect();
        for slot in slots {
            let Some(export) = self.regions.exports.get_mut(&slot).filter(|export| export.region_count > 0) else {
                continue;
            };
            match &export.offer {
                Offer::Free => {
                    let handed = export.arena.as_ref().map(|arena| arena.descriptor().try_clone_to_owned());
                    let Some(Ok(descriptor)) = handed else { continue };
                    export.offer = Offer::Made { peer: number, process: process.clone() };
                    let arena = Message::Arena { slot, len: export.len, base: export.base };
                    self.exports.offer(slot, &pair);
                    self.say(number, &arena, vec![descriptor]);
                    serves = true;
                }
                Offer::Made { peer, .. } | Offer::Taken { peer, .. } if *peer == number => serves = true,
                Offer::Made { process, .. } | Offer::Taken { process, .. } | Offer::Spent { process } => {
                    taken_by = Some(process.clone());
                }
                Offer::Withdrawn { .. } => {}
            }
        }
        match taken_by {
            Some(process) if !serves => Err(format!(
                "the memory that is registered for remote access was offered to {process}, and an arena can be offered to one peer process only: register another arena"
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// The peer has mapped an arena of ours, or not.
    pub(super) fn arena_taken(&mut self, number: u64, slot: u32, error: &str) {
        let Some(export) = self.regions.exports.get_mut(&slot).filter(|export| export.offer.peer() == Some(number))
        else {
            return self.blame(number, "an arena that it was not offered");
        };
        let waiting = std::mem::take(&mut export.waiting);
        if let Offer::Made { peer, process } = export.offer.clone() {
            export.offer = if error.is_empty() { Offer::Taken { peer, process } } else { Offer::Spent { process } };
        }
        if error.is_empty() {
            if let Some(arena) = &export.arena {
                // The peer should have: now nobody can tear holes into it or map it writable.
                let _ = seal(&arena.descriptor(), libc::F_SEAL_FUTURE_WRITE);
            }
            for (ticket, memory) in waiting {
                self.events.push_back(Event::Registered { ticket, result: Ok(memory) });
            }
            return;
        }
        tracing::warn!(peer = number, error, "the peer did not take an arena");
        self.exports.withdraw(slot);
        for (ticket, memory) in waiting {
            self.undo(memory);
            let source = io::Error::other(error.to_owned());
            let result = Err(VerbsError::System { call: "offering the arena to the peer", source });
            self.events.push_back(Event::Registered { ticket, result });
        }
        let is_concerned = |state: State| matches!(state, State::Connecting { .. });
        let numbers: Vec<u64> =
            self.connections.values().filter(|c| c.peer == number && is_concerned(c.state)).map(|c| c.number).collect();
        for connection in numbers {
            let text = format!("the peer did not take an arena of ours: {error}");
            self.fail_connection(connection, RejectReason::Unreachable(text));
        }
    }

    /// Takes a registration back that nobody was told of.
    pub(super) fn undo(&mut self, memory: RegisteredMemory) {
        if let Some(region) = self.regions.regions.remove(&memory.local_key) {
            self.local_keys.close(memory.local_key);
            self.exports.close(region.remote);
            self.exports.free(region.remote);
            if let Some(export) = self.regions.exports.get_mut(&region.slot) {
                export.region_count -= 1;
            }
        }
    }

    /// The peer has unmapped a withdrawn arena: its slot is free.
    pub(super) fn arena_returned(&mut self, number: u64, slot: u32) {
        let is_withdrawn = |export: &Export| export.offer == Offer::Withdrawn { peer: number };
        if !self.regions.exports.get(&slot).is_some_and(is_withdrawn) {
            return self.blame(number, "an arena that was not withdrawn");
        }
        self.regions.exports.remove(&slot);
        self.exports.withdraw(slot);
    }

    /// The peer is gone: registrations that wait for it fail.
    pub(super) fn lose_arenas(&mut self, number: u64) {
        let slots: Vec<u32> = self
            .regions
            .exports
            .iter()
            .filter(|(_, export)| export.offer.peer() == Some(number))
            .map(|(&slot, _)| slot)
            .collect();
        for slot in slots {
            let Some(export) = self.regions.exports.get_mut(&slot) else { continue };
            for (ticket, memory) in std::mem::take(&mut export.waiting) {
                self.undo(memory);
                let source = io::Error::other("the peer is gone: register another arena");
                let result = Err(VerbsError::System { call: "offering the arena to the peer", source });
                self.events.push_back(Event::Registered { ticket, result });
            }
        }
    }
}
