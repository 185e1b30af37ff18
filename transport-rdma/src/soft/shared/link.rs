//! One end of a connection: two rings in shared memory, and what this end privately knows of them.
//!
//! The memory, made by the connecting side: one control page, then two rings of whole power-of-two length, the first into the connector, the second into the acceptor.
//!
//! | control page, bytes | what | written by |
//! |---|---|---|
//! | side × 256 + 0 | how many lines this side has consumed of the ring into it; its link state beside | this side |
//! | side × 256 + 128 | its *gate*: 0 open, else closed: nothing is copied from or to its memory for this connection any more | this side |
//!
//! An entry of a ring is a 16-byte header (length, flags, immediate data, key to invalidate) and the payload, in whole lines of 64 bytes; it may wrap. Indices count
//! lines and wrap at 2³². The producer index is on the receiver's news board and nowhere else.
//!
//! [`LinkCore`] is shared with the provider, which closes the gate; [`Link`] moves with the queue pair and is used by its CPU alone. What is compared
//! with a peer's index is always the private copy of our own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use reactor::doorbell;

use super::mapping::Mapping;
use super::pair::{Pair, RemoteMemory, Side};
use crate::soft::wire::{LinkState, MessageHeader, PeerFault, WireFull};
use crate::verbs::LocalSegment;

/// Bytes before the rings.
pub(super) const CONTROL_LEN: usize = 4096;
/// Shortest ring.
pub(super) const RING_LEN_MIN: u32 = 4096;
/// Longest ring.
pub(super) const RING_LEN_MAX: u32 = 16 << 20;

const LINE_LEN: u32 = 64;
const HEADER_LEN: u32 = 16;
const SIDE_LEN: usize = 256;
const STATE_OFFSET: usize = 4;
const GATE_OFFSET: usize = 128;

const HAS_IMMEDIATE: u32 = 1;
const HAS_INVALIDATE: u32 = 2;
const IS_SOLICITED: u32 = 4;

/// Bytes of a connection's memory.
pub(super) fn memory_len(ring_len: u32) -> usize {
    CONTROL_LEN + 2 * ring_len as usize
}

/// What provider and CPU both see of one end.
#[derive(Debug)]
pub(super) struct LinkCore {
    pair: Arc<Pair>,
    remote: Arc<RemoteMemory>,
    /// Which side of the *connection* this end is: the rings' order. (The pair's side says who made the page.)
    side: Side,
    memory: Mapping,
    ring_len: u32,
    /// Our place on our board.
    news_slot: u32,
    /// The peer's on its.
    peer_news_slot: u32,
    /// The peer's port that its queue pair is on.
    peer_port: u32,
}

impl LinkCore {
    pub(super) fn new(
        (pair, remote): (Arc<Pair>, Arc<RemoteMemory>),
        side: Side,
        memory: Mapping,
        ring_len: u32,
        news_slot: u32,
        (peer_news_slot, peer_port): (u32, u32),
    ) -> Self {
        assert!(memory.len() >= memory_len(ring_len) && ring_len.is_power_of_two());
        Self { pair, remote, side, memory, ring_len, news_slot, peer_news_slot, peer_port }
    }

    #[inline]
    pub(super) fn pair(&self) -> &Arc<Pair> {
        &self.pair
    }

    #[inline]
    pub(super) fn remote(&self) -> &RemoteMemory {
        &self.remote
    }

    #[inline]
    pub(super) fn news_slot(&self) -> u32 {
        self.news_slot
    }

    #[inline]
    pub(super) fn peer_port(&self) -> usize {
        self.peer_port as usize
    }

    /// Rings for the peer's CPU, if it sleeps: for what was said outside of its wire.
    pub(super) fn wake_peer(&self) {
        doorbell::after_news();
        self.pair.wake_peer(self.peer_port());
    }

    /// Closes our gate: before [`Pair::copies`].
    pub(super) fn close_gate(&self) {
        self.memory.word(self.side.index() * SIDE_LEN + GATE_OFFSET).store(1, Ordering::Release);
    }

    /// Whether the peer's gate is open. To be read while *busy*.
    #[inline]
    pub(super) fn is_peer_open(&self) -> bool {
        self.memory.word(self.side.other().index() * SIDE_LEN + GATE_OFFSET).load(Ordering::Relaxed) == 0
    }

    /// What the peer says of itself.
    pub(super) fn peer_state(&self) -> LinkState {
        if self.pair.is_gone() || self.memory.is_faulted() {
            return LinkState::Gone;
        }
        // Acquire: what it consumed before it said so is seen.
        match self.memory.word(self.side.other().index() * SIDE_LEN + STATE_OFFSET).load(Ordering::Acquire) {
            0 => LinkState::Ready,
            1 => LinkState::NoReceive,
            3 => LinkState::RefusedLength,
            4 => LinkState::RefusedKey,
            5 => LinkState::RefusedOperation,
            _ => LinkState::Error,
        }
    }

    /// Says it to the peer. An end that has failed closes its gate, too.
    pub(super) fn set_state(&self, state: LinkState) {
        let (word, has_failed) = match state {
            LinkState::Ready => (0, false),
            LinkState::NoReceive => (1, false),
            LinkState::Error | LinkState::Gone => (2, true),
            LinkState::RefusedLength => (3, true),
            LinkState::RefusedKey => (4, true),
            LinkState::RefusedOperation => (5, true),
        };
        if has_failed {
            self.close_gate();
        }
        self.memory.word(self.side.index() * SIDE_LEN + STATE_OFFSET).store(word, Ordering::Release);
    }

    fn ring_offset(&self, into: Side) -> usize {
        CONTROL_LEN + into.index() * self.ring_len as usize
    }
}

/// One end of a connection, with its queue pair.
#[derive(Debug)]
pub struct Link {
    pub(super) core: Arc<LinkCore>,
    /// Its queue pair's slot on the port it is attached to.
    pub(super) index: u32,
    /// Which way of that port's it goes.
    pub(super) way: u32,
    /// Lines written, and made visible.
    produced: u32,
    published: u32,
    /// Lines that the peer has consumed, and messages.
    echoed: u32,
    echoed_message_count: u32,
    /// Where messages end that the peer has not consumed.
    ends: VecDeque<u32>,
    /// Lines of the peer's that were seen, that we took, and of which we told it.
    seen: u32,
    consumed: u32,
    released: u32,
    peeked: Option<MessageHeader>,
    /// Bytes that an unfinished transfer has moved.
    pub(super) transferred: usize,
}

impl Link {
    pub(super) fn new(core: Arc<LinkCore>) -> Self {
        // As many messages as there are lines: never grows.
        let ends = VecDeque::with_capacity(core.ring_len as usize / LINE_LEN as usize);
        Self {
            core,
            index: u32::MAX,
            way: u32::MAX,
            produced: 0,
            published: 0,
            echoed: 0,
            echoed_message_count: 0,
            ends,
            seen: 0,
            consumed: 0,
            released: 0,
            peeked: None,
            transferred: 0,
        }
    }

    /// The shared half.
    pub(super) fn into_core(self) -> Arc<LinkCore> {
        self.core
    }

    fn capacity(&self) -> u32 {
        self.core.ring_len / LINE_LEN
    }

    pub(super) fn send(&mut self, header: &MessageHeader, payload: &[LocalSegment]) -> Result<(), WireFull> {
        let lines = line_count(header.len);
        if lines > self.capacity() - self.produced.wrapping_sub(self.echoed) {
            // A fault shows when the consumed count is asked for; until then there is no room.
            let _ = self.refresh_echo();
            if lines > self.capacity() - self.produced.wrapping_sub(self.echoed) {
                return Err(WireFull);
            }
        }
        let into = self.core.side.other();
        let at = self.core.ring_offset(into) + self.position(self.produced);
        let mut flags = 0;
        if header.immediate.is_some() {
            flags |= HAS_IMMEDIATE;
        }
        if header.invalidate.is_some() {
            flags |= HAS_INVALIDATE;
        }
        if header.solicited {
            flags |= IS_SOLICITED;
        }
        let memory = &self.core.memory;
        memory.word(at).store(header.len, Ordering::Relaxed);
        memory.word(at + 4).store(flags, Ordering::Relaxed);
        memory.word(at + 8).store(header.immediate.unwrap_or(0), Ordering::Relaxed);
        memory.word(at + 12).store(header.invalidate.unwrap_or(0), Ordering::Relaxed);
        let mut offset = self.position(self.produced) + HEADER_LEN as usize;
        let mut rest = header.len as usize;
        for segment in payload {
            let len = segment.memory.len().min(rest);
            for (at, from, len) in self.pieces(into, offset, len) {
                // SAFETY: a segment's bytes are mapped (`reactor::Segment`), and `from + len` is within it.
                let source = unsafe { segment.memory.as_ptr().add(from) };
                // SAFETY: as above.
                unsafe { memory.copy_in(at, source, len) };
            }
            offset += len;
            rest -= len;
        }
        self.produced = self.produced.wrapping_add(lines);
        self.ends.push_back(self.produced);
        Ok(())
    }

    /// True if there was anything to.
    #[inline]
    pub(super) fn publish(&mut self) -> bool {
        let is_news = self.published != self.produced;
        if is_news {
            self.published = self.produced;
            // Release: after all data that was written before it; the peer acquires the index before it touches any.
            self.core.pair.peer_news(self.core.peer_news_slot).store(self.produced, Ordering::Release);
        }
        is_news
    }

    pub(super) fn consumed_count(&mut self) -> Result<u32, PeerFault> {
        if !self.ends.is_empty() {
            self.refresh_echo()?;
        }
        Ok(self.echoed_message_count)
    }

    /// Looks how much the peer has consumed.
    fn refresh_echo(&mut self) -> Result<(), PeerFault> {
        // Acquire: its copies out of the ring came before; the lines may be written again.
        let echoed = self.core.memory.word(self.core.side.other().index() * SIDE_LEN).load(Ordering::Acquire);
        let step = echoed.wrapping_sub(self.echoed);
        if step > self.published.wrapping_sub(self.echoed) {
            return Err(PeerFault::Index);
        }
        while let Some(&end) = self.ends.front() {
            if end.wrapping_sub(self.echoed) > step {
                break;
            }
            self.ends.pop_front();
            self.echoed_message_count = self.echoed_message_count.wrapping_add(1);
        }
        self.echoed = echoed;
        Ok(())
    }

    #[inline]
    pub(super) fn peek(&mut self) -> Result<Option<MessageHeader>, PeerFault> {
        if let Some(header) = self.peeked {
            return Ok(Some(header));
        }
        if self.seen == self.consumed {
            // Acquire: pairs with the publishing store; entries and data are there.
            let seen = self.core.pair.our_news(self.core.news_slot).load(Ordering::Acquire);
            let waiting = seen.wrapping_sub(self.consumed);
            if waiting == 0 {
                return Ok(None);
            }
            if waiting > self.capacity() {
                return Err(PeerFault::Index);
            }
            self.seen = seen;
        }
        let header = self.parse_header()?;
        self.peeked = Some(header);
        Ok(Some(header))
    }

    /// Copies the next header out, once, and checks it.
    fn parse_header(&self) -> Result<MessageHeader, PeerFault> {
        let at = self.core.ring_offset(self.core.side) + self.position(self.consumed);
        let memory = &self.core.memory;
        let len = memory.word(at).load(Ordering::Relaxed);
        let flags = memory.word(at + 4).load(Ordering::Relaxed);
        let immediate = memory.word(at + 8).load(Ordering::Relaxed);
        let key = memory.word(at + 12).load(Ordering::Relaxed);
        if len > self.core.ring_len / 2
            || line_count(len) > self.seen.wrapping_sub(self.consumed)
            || flags & !(HAS_IMMEDIATE | HAS_INVALIDATE | IS_SOLICITED) != 0
        {
            return Err(PeerFault::Header);
        }
        Ok(MessageHeader {
            len,
            immediate: (flags & HAS_IMMEDIATE != 0).then_some(immediate),
            invalidate: (flags & HAS_INVALIDATE != 0).then_some(key),
            solicited: flags & IS_SOLICITED != 0,
        })
    }

    pub(super) fn take(&mut self, into: &[LocalSegment]) {
        let Some(header) = self.peeked.take() else { return };
        let mut offset = self.position(self.consumed) + HEADER_LEN as usize;
        let mut rest = header.len as usize;
        for segment in into {
            let len = segment.memory.len().min(rest);
            for (at, to, len) in self.pieces(self.core.side, offset, len) {
                // SAFETY: a segment's bytes are mapped (`reactor::Segment`), and `to + len` is within it.
                let target = unsafe { segment.memory.as_ptr().add(to) };
                // SAFETY: as above.
                unsafe { self.core.memory.copy_out(at, target, len) };
            }
            offset += len;
            rest -= len;
        }
        self.consumed = self.consumed.wrapping_add(line_count(header.len));
    }

    /// True if there was anything to.
    #[inline]
    pub(super) fn release(&mut self) -> bool {
        let is_news = self.released != self.consumed;
        if is_news {
            self.released = self.consumed;
            // Release: after our copies out of the ring.
            self.core.memory.word(self.core.side.index() * SIDE_LEN).store(self.consumed, Ordering::Release);
        }
        is_news
    }

    /// Byte of a ring at which a line begins.
    #[inline]
    fn position(&self, index: u32) -> usize {
        (index & (self.capacity() - 1)) as usize * LINE_LEN as usize
    }

    /// `len` bytes from byte `offset` of a ring on, which may wrap: where in the memory, from which byte on, how many.
    #[inline]
    fn pieces(&self, into: Side, offset: usize, len: usize) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let ring_len = self.core.ring_len as usize;
        let base = self.core.ring_offset(into);
        let offset = offset % ring_len;
        let first = len.min(ring_len - offset);
        let both = [(base + offset, 0, first), (base, first, len - first)];
        both.into_iter().filter(|&(_, _, len)| len > 0)
    }
}

/// Lines of an entry.
#[inline]
fn line_count(len: u32) -> u32 {
    // Widened by one line instead of adding first: a hostile length does not wrap.
    len / LINE_LEN + (len % LINE_LEN + HEADER_LEN).div_ceil(LINE_LEN)
}
