//! The peers' ports that the queue pairs of one port reach: which of them are owed a ring, and whom to tell that this port sleeps.
//!
//! Owned by the port's wire. All links to one port of a peer share a *way*. Whatever is stored for a peer is noted here ([`Ways::owe`]); [`Ways::ring`] then passes
//! one fence for all of them and looks at one word for each ([`super::pair`] has the protocol).

use std::sync::Arc;

use reactor::doorbell;

use super::doorbell::Doorbell;
use super::link::LinkCore;
use super::pair::Pair;

/// A port of a peer's, and what it is owed.
#[derive(Debug)]
struct Way {
    pair: Arc<Pair>,
    peer_port: usize,
    link_count: u32,
    /// Something was stored for it since the last ring.
    is_owed: bool,
}

/// All of one port.
#[derive(Debug)]
pub(super) struct Ways {
    /// Our port.
    port: usize,
    ways: Vec<Option<Way>>,
    /// Those that are owed a ring. Never more than there are.
    owed: Vec<u32>,
}

impl Ways {
    pub(super) fn new(port: usize) -> Self {
        Self { port, ways: Vec::new(), owed: Vec::new() }
    }

    /// The way to a link's peer, with one link more.
    pub(super) fn enter(&mut self, core: &LinkCore) -> u32 {
        let is_it = |way: &&mut Way| way.pair.id() == core.pair().id() && way.peer_port == core.peer_port();
        for (at, way) in (0..).zip(&mut self.ways) {
            if let Some(way) = way.as_mut().filter(is_it) {
                way.link_count += 1;
                return at;
            }
        }
        let way = Way { pair: Arc::clone(core.pair()), peer_port: core.peer_port(), link_count: 1, is_owed: false };
        let at = self.ways.iter().position(Option::is_none).unwrap_or(self.ways.len());
        match self.ways.get_mut(at) {
            Some(place) => *place = Some(way),
            None => self.ways.push(Some(way)),
        }
        self.owed.reserve(self.ways.len());
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// One link less.
    pub(super) fn leave(&mut self, at: u32) {
        // Nothing is left owed to nobody.
        self.ring();
        let Some(place) = self.ways.get_mut(at as usize) else { return };
        if let Some(way) = place {
            way.link_count -= 1;
            if way.link_count == 0 {
                *place = None;
            }
        }
    }

    /// Something was stored for a link's peer.
    #[inline]
    pub(super) fn owe(&mut self, at: u32) {
        if let Some(Some(way)) = self.ways.get_mut(at as usize)
            && !way.is_owed
        {
            way.is_owed = true;
            self.owed.push(at);
        }
    }

    /// Wakes those that sleep and are owed it.
    #[inline]
    pub(super) fn ring(&mut self) {
        if self.owed.is_empty() {
            return;
        }
        doorbell::after_news();
        for at in self.owed.drain(..) {
            if let Some(Some(way)) = self.ways.get_mut(at as usize) {
                way.is_owed = false;
                way.pair.wake_peer(way.peer_port);
            }
        }
    }

    /// This port sleeps: all peers are told.
    pub(super) fn announce(&self) {
        for way in self.ways.iter().flatten() {
            // A pair with several ways is asked several times, which only lets it ring more often.
            if let Some(doorbell) = way.pair.doorbell(self.port) {
                doorbell.ask();
            }
            doorbell::announce(way.pair.our_asleep(self.port));
        }
    }

    /// It does not any more.
    pub(super) fn withdraw(&self) {
        for way in self.ways.iter().flatten() {
            doorbell::withdraw(way.pair.our_asleep(self.port));
        }
    }

    /// Whether all peers have a doorbell, and see in time that it is to be rung.
    pub(super) fn can_all_ring(&self) -> bool {
        let has_doorbell = |way: &Way| way.pair.doorbell(self.port).is_some() && doorbell::reaches_other_processes();
        self.ways.iter().flatten().all(has_doorbell)
    }

    /// Our end of a peer's, if it has a queue pair here.
    pub(super) fn doorbell_of(&self, peer: u64) -> Option<&Doorbell> {
        self.ways.iter().flatten().find(|way| way.pair.id() == peer)?.pair.doorbell(self.port)
    }
}
