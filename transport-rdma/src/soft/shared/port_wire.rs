//! The wire of one port: how its NIC reaches the peers' processes.
//!
//! Owned by the port's NIC and used by its CPU alone; no call waits or makes a system call. It owns the lines of the peers' news boards that belong to this port, with a
//! private shadow of each, and this port's *busy* words.
//!
//! **News.** A producer index that differs from its shadow is news. That is a hint: what is there is read again, with acquire, when the link is asked. The states of
//! peers have no news of their own: each call looks at one attached link's, in turn.
//!
//! **Sleep** is told and asked by way of [`super::ways`]; the sleep itself ends with the port's [`Alarm`].
//!
//! **Busy** lasts from a link's first copy to its [`Wire::publish`], at the longest to the next [`Wire::news`], and to at most [`BUSY_LEN_MAX`] bytes: one SeqCst fence for
//! each batch.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use reactor::Rest;

use super::doorbell::Alarm;
use super::export::{Ending, Exports, REMOTE_READ, REMOTE_WRITE, is_same_entry};
use super::link::{Link, LinkCore};
use super::local_keys::LocalKeys;
use super::pair::{Copies, NEWS_LINE_SLOTS, Pair};
use super::wake::Bell;
use super::ways::Ways;
use crate::soft::wire::{LinkState, MessageHeader, PeerFault, Transfer, Wire, WireFull};
use crate::verbs::LocalSegment;

/// Most bytes copied at a time, and in one busy period.
const BUSY_LEN_MAX: usize = 128 << 10;
/// A link that is not attached.
const NOBODY: u32 = u32::MAX;
/// How often peers are looked at that cannot ring for want of a descriptor.
const LOOK_AGAIN_NS: u64 = 1_000_000;

/// A line of a news board.
#[derive(Debug)]
struct Line {
    pair: Arc<Pair>,
    first_slot: u32,
    shadow: [u32; NEWS_LINE_SLOTS as usize],
    index: [u32; NEWS_LINE_SLOTS as usize],
    /// Places with a queue pair of ours: the others are not looked at.
    used: u16,
}

/// An attached link, as the sweep sees it.
#[derive(Debug)]
struct Attached {
    core: Arc<LinkCore>,
    state: LinkState,
}

/// A window's key that is closed and may still be copied under.
#[derive(Debug)]
struct Closing {
    key: u32,
    /// Its arena.
    slot: u32,
    /// What may run, and of which pair, once that is known. By number: the last reference to a pair unmaps its page, which is nothing for this CPU.
    copies: Option<(u64, Copies)>,
}

impl Closing {
    /// Whether no copy under the key runs any more.
    fn has_ended(&mut self, exports: &Exports) -> bool {
        if self.copies.is_none() {
            match exports.copies_in(self.slot) {
                Ending::Done => return true,
                Ending::Copies(pair, copies) => self.copies = Some((pair, copies)),
                Ending::Unknown => {}
            }
        }
        self.copies.as_ref().is_some_and(|(pair, copies)| exports.have_ended(*pair, copies))
    }
}

/// One port's wire.
#[derive(Debug)]
pub struct SharedWire {
    port: usize,
    local_keys: Arc<LocalKeys>,
    exports: Arc<Exports>,
    /// Rung when a fault was found.
    bell: Bell,
    /// What ends this port's sleep.
    alarm: Arc<Alarm>,
    lines: Vec<Line>,
    ways: Ways,
    attached: Vec<Option<Attached>>,
    swept: usize,
    /// The attached queue pair for which this port is busy, and bytes copied since.
    busy: Option<u32>,
    busy_len: usize,
    /// Odd while busy. One for all pairs: a word is told apart from its past by any difference.
    sequence: u32,
    closing: Vec<Closing>,
}

impl SharedWire {
    pub(super) fn new(
        port: usize,
        local_keys: Arc<LocalKeys>,
        exports: Arc<Exports>,
        bell: Bell,
        alarm: Arc<Alarm>,
    ) -> Self {
        Self {
            port,
            local_keys,
            exports,
            bell,
            alarm,
            lines: Vec::new(),
            ways: Ways::new(port),
            attached: Vec::new(),
            swept: 0,
            busy: None,
            busy_len: 0,
            sequence: 0,
            closing: Vec::new(),
        }
    }

    #[inline]
    fn begin_busy(&mut self, link: &Link) {
        match &self.busy {
            Some(index) if *index == link.index && self.busy_len < BUSY_LEN_MAX => return,
            Some(_) => self.end_busy(),
            None => {}
        }
        self.sequence = self.sequence.wrapping_add(1);
        link.core.pair().our_busy(self.port).store(self.sequence, Ordering::Relaxed);
        // Pairs with the owner's fence between closing a gate or key and reading the busy words (`Pair::copies`).
        fence(Ordering::SeqCst);
        self.busy = Some(link.index);
        self.busy_len = 0;
    }

    #[inline]
    fn end_busy(&mut self) {
        let Some(index) = self.busy.take() else { return };
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(Some(attached)) = self.attached.get(index as usize) {
            // Release: after all copies.
            attached.core.pair().our_busy(self.port).store(self.sequence, Ordering::Release);
        }
    }

    /// Copies at most [`BUSY_LEN_MAX`] bytes between the segments and the peer's memory, from where the link left off.
    #[inline]
    fn transfer(
        &mut self,
        link: &mut Link,
        key: u32,
        address: u64,
        segments: &[LocalSegment],
        access: u32,
    ) -> Transfer {
        let len: usize = segments.iter().map(|segment| segment.memory.len()).sum();
        self.begin_busy(link);
        let result = self.transfer_busy(link, key, address, segments, access, len);
        if result != Transfer::Unfinished {
            link.transferred = 0;
        }
        result
    }

    #[inline]
    fn transfer_busy(
        &mut self,
        link: &mut Link,
        key: u32,
        address: u64,
        segments: &[LocalSegment],
        access: u32,
        len: usize,
    ) -> Transfer {
        let pair = link.core.pair();
        if pair.is_gone() || !link.core.is_peer_open() {
            return Transfer::Gone;
        }
        if len == 0 {
            return Transfer::Done;
        }
        let Some((arena, offset)) = link.core.remote().look(key, address, len, access) else { return Transfer::Denied };
        let end = len.min(link.transferred + BUSY_LEN_MAX);
        let mut at = 0;
        for segment in segments {
            let segment_len = segment.memory.len();
            let from = link.transferred.max(at);
            let to = end.min(at + segment_len);
            if from < to {
                // SAFETY: a segment's bytes are mapped (`reactor::Segment`), and the part is within it.
                let local = unsafe { segment.memory.as_ptr().add(from - at) };
                if access == REMOTE_WRITE {
                    // SAFETY: as above.
                    unsafe { arena.memory.copy_in(offset + from, local, to - from) };
                } else {
                    // SAFETY: as above.
                    unsafe { arena.memory.copy_out(offset + from, local, to - from) };
                }
            }
            at += segment_len;
        }
        self.busy_len += end - link.transferred;
        link.transferred = end;
        if arena.memory.is_faulted() {
            pair.set_gone();
            self.bell.ring();
            return Transfer::Gone;
        }
        if end < len { Transfer::Unfinished } else { Transfer::Done }
    }
}

impl Wire for SharedWire {
    type Link = Link;

    fn attach(&mut self, index: u32, link: &mut Link) {
        link.index = index;
        link.way = self.ways.enter(&link.core);
        let place = index as usize;
        if self.attached.len() <= place {
            self.attached.resize_with(place + 1, || None);
        }
        self.attached[place] = Some(Attached { core: Arc::clone(&link.core), state: LinkState::Ready });
        let slot = link.core.news_slot();
        let first_slot = slot / NEWS_LINE_SLOTS * NEWS_LINE_SLOTS;
        let id = link.core.pair().id();
        let at = match self.lines.iter().position(|line| line.pair.id() == id && line.first_slot == first_slot) {
            Some(at) => at,
            None => {
                let pair = Arc::clone(link.core.pair());
                let none = [0; NEWS_LINE_SLOTS as usize];
                self.lines.push(Line { pair, first_slot, shadow: none, index: none, used: 0 });
                self.lines.len() - 1
            }
        };
        let line = &mut self.lines[at];
        // What is there already is news: a new place begins at 0.
        let place = (slot - first_slot) as usize;
        line.shadow[place] = 0;
        line.index[place] = index;
        line.used |= 1 << place;
    }

    fn detach(&mut self, index: u32, link: &mut Link) {
        if self.busy == Some(index) {
            self.end_busy();
        }
        link.index = NOBODY;
        self.ways.leave(std::mem::replace(&mut link.way, NOBODY));
        if let Some(place) = self.attached.get_mut(index as usize) {
            *place = None;
        }
        let slot = link.core.news_slot();
        let first_slot = slot / NEWS_LINE_SLOTS * NEWS_LINE_SLOTS;
        let id = link.core.pair().id();
        let found = self.lines.iter().position(|line| line.pair.id() == id && line.first_slot == first_slot);
        if let Some(at) = found {
            let line = &mut self.lines[at];
            line.used &= !(1 << (slot - first_slot));
            if line.used == 0 {
                self.lines.swap_remove(at);
            }
        }
    }

    #[inline]
    fn news(&mut self, _now_ns: u64, indices: &mut Vec<u32>) {
        self.end_busy();
        for line in &mut self.lines {
            let news = line.pair.our_news_line(line.first_slot);
            let mut rest = line.used;
            while rest != 0 {
                // Below 16, which the compiler sees with the mask: no bounds are checked.
                let place = rest.trailing_zeros() as usize % NEWS_LINE_SLOTS as usize;
                rest &= rest - 1;
                let now = news[place].load(Ordering::Relaxed);
                if now != line.shadow[place] {
                    line.shadow[place] = now;
                    indices.push(line.index[place]);
                }
            }
        }
        // Compared, not divided: this is every turn's.
        self.swept += 1;
        if self.swept >= self.attached.len() {
            self.swept = 0;
        }
        if let Some(Some(attached)) = self.attached.get_mut(self.swept) {
            let state = attached.core.peer_state();
            if state != attached.state {
                attached.state = state;
                indices.push(u32::try_from(self.swept).unwrap_or(NOBODY));
            }
        }
    }

    #[inline]
    fn send(&mut self, link: &mut Link, header: &MessageHeader, payload: &[LocalSegment]) -> Result<(), WireFull> {
        link.send(header, payload)
    }

    #[inline]
    fn publish(&mut self, link: &mut Link) {
        if self.busy == Some(link.index) {
            self.end_busy();
        }
        if link.publish() {
            self.ways.owe(link.way);
        }
    }

    #[inline]
    fn consumed_count(&mut self, link: &mut Link) -> Result<u32, PeerFault> {
        link.consumed_count()
    }

    #[inline]
    fn peek(&mut self, link: &mut Link) -> Result<Option<MessageHeader>, PeerFault> {
        link.peek()
    }

    #[inline]
    fn take(&mut self, link: &mut Link, into: &[LocalSegment]) {
        link.take(into);
    }

    #[inline]
    fn release(&mut self, link: &mut Link) {
        if link.release() {
            self.ways.owe(link.way);
        }
    }

    #[inline]
    fn peer_state(&mut self, link: &mut Link) -> LinkState {
        link.core.peer_state()
    }

    fn set_state(&mut self, link: &mut Link, state: LinkState) {
        link.core.set_state(state);
        self.ways.owe(link.way);
    }

    #[inline]
    fn write(&mut self, link: &mut Link, key: u32, address: u64, from: &[LocalSegment]) -> Transfer {
        self.transfer(link, key, address, from, REMOTE_WRITE)
    }

    #[inline]
    fn read(&mut self, link: &mut Link, key: u32, address: u64, into: &[LocalSegment]) -> Transfer {
        self.transfer(link, key, address, into, REMOTE_READ)
    }

    #[inline]
    fn allows_local(&self, segment: &LocalSegment, write: bool) -> bool {
        self.local_keys.allows(segment, write)
    }

    fn invalidate(&mut self, key: u32) -> Transfer {
        let at = self.closing.iter().position(|closing| closing.key == key);
        let begun = at.map(|at| self.closing.swap_remove(at));
        // An open key is closed, whatever was begun before it was bound (on another port, perhaps) and given up.
        let mut closing = match (self.exports.invalidate(key), begun) {
            (Some(slot), _) => Closing { key, slot, copies: None },
            (None, Some(begun)) => begun,
            (None, None) => return Transfer::Denied,
        };
        if closing.has_ended(&self.exports) {
            return Transfer::Done;
        }
        self.closing.push(closing);
        Transfer::Unfinished
    }

    fn bind(&mut self, key: u32, address: u64, len: u64) -> bool {
        let is_bound = self.exports.bind(key, address, len);
        if is_bound {
            // An invalidation that was given up half way says nothing of the new key.
            self.closing.retain(|closing| !is_same_entry(closing.key, key));
        }
        is_bound
    }

    #[inline]
    fn ring(&mut self) {
        self.ways.ring();
    }

    fn announce(&mut self) {
        self.ways.announce();
    }

    fn last_look(&mut self, now_ns: u64) -> Rest {
        let has_news = |line: &Line| {
            let news = line.pair.our_news_line(line.first_slot);
            let places = news.iter().zip(&line.shadow).enumerate();
            let is_new = |(place, (now, shadow)): (usize, (&std::sync::atomic::AtomicU32, &u32))| {
                line.used & 1 << place != 0 && now.load(Ordering::Relaxed) != *shadow
            };
            places.into_iter().any(is_new)
        };
        let has_said = |attached: &Attached| attached.core.peer_state() != attached.state;
        if self.lines.iter().any(has_news) || self.attached.iter().flatten().any(has_said) {
            return Rest::Poll;
        }
        // Not where one was out of descriptors when it came.
        if self.ways.can_all_ring() { Rest::Sleep } else { Rest::SleepUntil(now_ns.saturating_add(LOOK_AGAIN_NS)) }
    }

    fn withdraw(&mut self, has_slept: bool) {
        self.ways.withdraw();
        if has_slept {
            let find = |peer| self.ways.doorbell_of(peer);
            self.alarm.take(find, |peer| {
                tracing::warn!(
                    peer,
                    "a doorbell rang more often than it was asked to: this peer wakes the port no more"
                );
            });
        }
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        Some(self.alarm.descriptor())
    }
}

impl Drop for SharedWire {
    fn drop(&mut self) {
        self.end_busy();
        self.ways.ring();
    }
}
