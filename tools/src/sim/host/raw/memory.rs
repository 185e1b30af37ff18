//! The raw host's memory: for each place of a queue receives, capsules and data buffers, the latter with guard bytes around them.
//!
//! Owns one arena, which goes back to a store when the host goes: arenas are never unmapped, and there are many runs in a process. The target is
//! told of one buffer at a time and can reach the whole arena; so what it touches beside what it was told of is seen afterwards, here.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use reactor::{MemoryError, Segment, SharedArena};

use crate::sim::host::model::POISON;

/// Queues that a host has at a time, those that end included.
pub(super) const PLACE_COUNT: usize = 8;
/// Commands of a queue at a time, those included that are too many.
pub(super) const COMMAND_COUNT_MAX: usize = 20;
/// Most bytes of a command's data.
pub(super) const DATA_LEN_MAX: usize = 4096;

const RECEIVE_LEN: usize = 64;
const CAPSULE_LEN: usize = 64;
const GUARD_LEN: usize = 128;
const GUARD: u8 = 0x5A;
const BUFFER_LEN: usize = GUARD_LEN + DATA_LEN_MAX + GUARD_LEN;
const PLACE_LEN: usize = COMMAND_COUNT_MAX * (RECEIVE_LEN + CAPSULE_LEN + BUFFER_LEN);

thread_local! {
    /// Arenas of hosts of earlier runs. Which one a host gets decides nothing: what it holds is overwritten before it is looked at.
    static STORE: RefCell<Vec<Arc<SharedArena>>> = const { RefCell::new(Vec::new()) };
}

pub(super) struct Memory {
    arena: Arc<SharedArena>,
}

impl Memory {
    pub(super) fn new() -> Result<Self, MemoryError> {
        let arena = match STORE.with_borrow_mut(Vec::pop) {
            Some(arena) => arena,
            None => Arc::new(SharedArena::new("raw-host", PLACE_COUNT * PLACE_LEN, false)?),
        };
        Ok(Self { arena })
    }

    pub(super) fn arena(&self) -> Arc<SharedArena> {
        Arc::clone(&self.arena)
    }

    pub(super) fn receive(&self, place: usize, number: usize) -> Segment {
        self.part(place, number * RECEIVE_LEN, RECEIVE_LEN)
    }

    pub(super) fn capsule(&self, place: usize, slot: usize) -> Segment {
        self.part(place, COMMAND_COUNT_MAX * RECEIVE_LEN + slot * CAPSULE_LEN, CAPSULE_LEN)
    }

    pub(super) fn buffer(&self, place: usize, slot: usize) -> Buffer {
        let before = COMMAND_COUNT_MAX * (RECEIVE_LEN + CAPSULE_LEN);
        Buffer { whole: self.part(place, before + slot * BUFFER_LEN, BUFFER_LEN), expected: Vec::new(), open: 0..0 }
    }

    fn part(&self, place: usize, offset: usize, len: usize) -> Segment {
        self.arena.segment().part(place * PLACE_LEN + offset, len)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        STORE.with_borrow_mut(|store| store.push(Arc::clone(&self.arena)));
    }
}

/// One command's data, and what may be in it.
pub(super) struct Buffer {
    whole: Segment,
    /// What is there, as far as we know; empty before the first use.
    expected: Vec<u8>,
    /// Where the target may write now.
    open: Range<usize>,
}

impl Buffer {
    /// For a command that sends these bytes.
    pub(super) fn fill(&mut self, data: &[u8]) -> Segment {
        self.prepare(data.len(), |bytes| bytes.copy_from_slice(data));
        self.open = 0..0;
        self.whole.part(GUARD_LEN, data.len())
    }

    /// For a command whose data comes here.
    pub(super) fn clear(&mut self, len: usize) -> Segment {
        self.prepare(len, |bytes| bytes.fill(POISON));
        self.open = GUARD_LEN..GUARD_LEN + len;
        self.whole.part(GUARD_LEN, len)
    }

    fn prepare(&mut self, len: usize, data: impl FnOnce(&mut [u8])) {
        self.expected.clear();
        self.expected.resize(BUFFER_LEN, GUARD);
        data(&mut self.expected[GUARD_LEN..GUARD_LEN + len]);
        self.whole.write(0, &self.expected);
    }

    /// The command has been answered: from here on nothing may change. Gives what has come.
    pub(super) fn close(&mut self) -> Result<Vec<u8>, String> {
        self.check()?;
        let open = std::mem::take(&mut self.open);
        let mut data = vec![0; open.len()];
        self.whole.part(open.start, open.len()).read(0, &mut data);
        if !data.is_empty() {
            self.expected[open].copy_from_slice(&data);
        }
        Ok(data)
    }

    /// Whether everything is as it was but for what the target may write.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.expected.is_empty() {
            return Ok(());
        }
        let mut bytes = vec![0; BUFFER_LEN];
        self.whole.read(0, &mut bytes);
        bytes[self.open.clone()].copy_from_slice(&self.expected[self.open.clone()]);
        match bytes.iter().zip(&self.expected).position(|(is, was)| is != was) {
            None => Ok(()),
            Some(at) => {
                let (is, was) = (bytes[at], self.expected[at]);
                let offset = i64::try_from(at).unwrap_or(i64::MAX) - i64::try_from(GUARD_LEN).unwrap_or(0);
                Err(format!("byte {offset} of its buffer became {is:#04x} and was {was:#04x}"))
            }
        }
    }
}
