//! The peers' arenas: mapped here, and unmapped.
//!
//! Control plane only. An arena is checked and charged before the worker maps it; it stays until its owner withdraws it and the pair has no queue pair, or the peer is gone.

use std::os::fd::OwnedFd;

use super::SharedProvider;
use super::mapping::{HandOverError, Mapping};
use super::message::Message;
use super::pair::RemoteArena;
use super::worker::Outcome;

impl SharedProvider {
    /// A peer offers an arena. It is checked and charged before it is mapped.
    pub(super) fn take_arena(&mut self, number: u64, slot: u32, len: u64, base: u64, mut descriptors: Vec<OwnedFd>) {
        let Some(descriptor) = descriptors.pop() else { return };
        let limit = self.options.mapped_len_per_peer_max;
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let has_room = peer.live_pair().is_some_and(|(_, remote)| remote.has_room(slot));
        if !has_room || peer.arenas.contains_key(&slot) || base.checked_add(len).is_none() || len == 0 {
            return self.blame(number, "an arena in a slot or at an address where none can be");
        }
        let mapped_len = peer.mapped_len.saturating_add(len);
        if mapped_len > limit {
            self.tally.memory_refused += 1;
            let error =
                format!("{mapped_len} bytes mapped for this process, the limit is mapped_len_per_peer_max = {limit}");
            return self.say(number, &Message::ArenaTaken { slot, error }, Vec::new());
        }
        peer.mapped_len = mapped_len;
        peer.arenas.insert(slot, (len, false));
        self.hold(number);
        self.worker.begin(move || {
            let result = Mapping::take_over(&descriptor, len, true);
            Outcome::ArenaMapped { peer: number, slot, base, result }
        });
    }

    pub(super) fn arena_mapped(&mut self, number: u64, slot: u32, base: u64, result: Result<Mapping, HandOverError>) {
        self.resume(number);
        let Some(peer) = self.peers.get_mut(&number) else { return self.worker.discard(result.ok()) };
        let error = match (result, peer.live_pair()) {
            (Ok(memory), Some((_, remote))) => match remote.add_arena(slot, RemoteArena { base, memory }) {
                Ok(()) => String::new(),
                Err(arena) => {
                    self.worker.discard(arena);
                    "its slot is taken".to_owned()
                }
            },
            (Ok(memory), None) => {
                self.worker.discard(memory);
                "the peer is gone".to_owned()
            }
            (Err(error), _) => error.to_string(),
        };
        if !error.is_empty() {
            self.tally.memory_refused += 1;
            if let Some((len, _)) = peer.arenas.remove(&slot) {
                peer.mapped_len = peer.mapped_len.saturating_sub(len);
            }
        }
        self.say(number, &Message::ArenaTaken { slot, error }, Vec::new());
    }

    /// The owner has dropped an arena.
    pub(super) fn arena_withdrawn(&mut self, number: u64, slot: u32) {
        let arena = self.peers.get_mut(&number).and_then(|peer| peer.arenas.get_mut(&slot));
        match arena {
            Some((_, is_withdrawn)) => {
                *is_withdrawn = true;
                self.return_arenas(number);
            }
            None => self.blame(number, "the end of an arena that it did not offer"),
        }
    }

    /// Unmaps withdrawn arenas, once no queue pair of the pair is left that could be copying.
    pub(super) fn return_arenas(&mut self, number: u64) {
        let Some(peer) = self.peers.get_mut(&number).filter(|peer| peer.queue_pair_count == 0) else { return };
        let slots: Vec<u32> =
            peer.arenas.iter().filter(|(_, (_, is_withdrawn))| *is_withdrawn).map(|(&slot, _)| slot).collect();
        for slot in slots {
            let Some(arena) = peer.remote_mut().and_then(|remote| remote.take_arena(slot)) else { continue };
            self.worker.begin(move || {
                drop(arena);
                Outcome::ArenaUnmapped { peer: number, slot }
            });
        }
    }

    pub(super) fn arena_unmapped(&mut self, number: u64, slot: u32) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        if let Some((len, _)) = peer.arenas.remove(&slot) {
            peer.mapped_len = peer.mapped_len.saturating_sub(len);
        }
        self.say(number, &Message::Unmapped { slot }, Vec::new());
    }
}
