//! The data buffers of one CPU: two pools, each with the requests that found it empty.
//!
//! Hosts take turns in each pool, and nobody takes a buffer while another waits, so that a stream of commands cannot starve one that does. Owned by the
//! poll group; nothing here allocates once a qpair is connected ([`Buffers::reserve`]).

use reactor::{Buffer, Cpu, Handle, Home, Pool, Segment};

use super::fair::FairQueue;
use super::hosts::HostIndex;
use crate::Qpair;
use crate::limits::{BUFFER_ALIGNMENT, SMALL_BUFFER_LEN};
use crate::transport::Slot;

/// A request, named.
pub(crate) type RequestName = (Handle<Qpair>, Slot);

/// Which pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Size {
    Small,
    Large,
}

struct Shelf {
    pool: Pool,
    waiting: FairQueue,
}

/// Both pools.
pub(crate) struct Buffers {
    small: Shelf,
    large: Shelf,
}

impl Buffers {
    /// For `cpu`. Cuts `memory` in two: one half for small buffers, the rest for buffers of `transfer_len_max`. Where the half would not hold one large buffer,
    /// or large ones are no larger than small ones, all of it is for large ones.
    pub(crate) fn new(cpu: Cpu, memory: Segment, transfer_len_max: u32) -> Self {
        let large_len = transfer_len_max as usize;
        let small_len = SMALL_BUFFER_LEN as usize;
        let start = usize::try_from(memory.address()).unwrap_or(0);
        let skip = (start.next_multiple_of(BUFFER_ALIGNMENT) - start).min(memory.len());
        let memory = memory.part(skip, memory.len() - skip);
        let half = memory.len() / 2 / small_len * small_len;
        let half = if half < large_len || large_len <= small_len { 0 } else { half };
        let (small, large) = (memory.part(0, half), memory.part(half, memory.len() - half));
        let shelf = |size, memory, len| {
            let home = Home { cpu, pool: size as u16 };
            Shelf { pool: Pool::new(home, memory, len), waiting: FairQueue::default() }
        };
        Self { small: shelf(Size::Small, small, small_len), large: shelf(Size::Large, large, large_len) }
    }

    /// Makes sure that so many requests of a host can wait without an allocation.
    pub(crate) fn reserve(&mut self, host: HostIndex, request_count: usize) {
        for shelf in [&mut self.small, &mut self.large] {
            shelf.waiting.reserve(host, request_count);
        }
    }

    /// The pool that serves transfers of `len` bytes.
    pub(crate) fn size_for(&self, len: usize) -> Size {
        // Without small buffers the large ones serve all.
        if len <= SMALL_BUFFER_LEN as usize && self.small.pool.available() + self.small.pool.taken() > 0 {
            Size::Small
        } else {
            Size::Large
        }
    }

    /// A buffer of at least `len` bytes, unless others wait for one already.
    pub(crate) fn take(&mut self, len: usize) -> Option<Buffer> {
        let shelf = self.shelf(self.size_for(len));
        if shelf.waiting.len() == 0 { shelf.pool.take() } else { None }
    }

    /// Puts a request of this host in the queue for `len` bytes.
    pub(crate) fn wait(&mut self, host: HostIndex, len: usize, request: RequestName) {
        let size = self.size_for(len);
        self.shelf(size).waiting.push(host, request);
    }

    /// The request whose turn it is in this pool and a buffer for it, if there are both.
    pub(crate) fn grant(&mut self, size: Size) -> Option<(RequestName, Buffer)> {
        let shelf = self.shelf(size);
        if shelf.waiting.len() == 0 {
            return None;
        }
        let buffer = shelf.pool.take()?;
        match shelf.waiting.pop() {
            Some(request) => Some((request, buffer)),
            None => {
                shelf.pool.give(buffer);
                None
            }
        }
    }

    /// Requests that match wait no longer.
    pub(crate) fn forget(&mut self, matches: impl Fn(RequestName) -> bool) {
        for shelf in [&mut self.small, &mut self.large] {
            shelf.waiting.forget(&matches);
        }
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, buffer: Buffer) {
        let is_large = buffer.home() == self.large.pool.home();
        self.shelf(if is_large { Size::Large } else { Size::Small }).pool.give(buffer);
    }

    /// Buffers that are out.
    pub(crate) fn taken(&self) -> usize {
        self.small.pool.taken() + self.large.pool.taken()
    }

    /// Buffers that are in.
    pub(crate) fn free(&self) -> impl Iterator<Item = Segment> {
        self.small.pool.free().chain(self.large.pool.free())
    }

    /// Requests that wait.
    pub(crate) fn waiting_count(&self) -> usize {
        self.small.waiting.len() + self.large.waiting.len()
    }

    fn shelf(&mut self, size: Size) -> &mut Shelf {
        match size {
            Size::Small => &mut self.small,
            Size::Large => &mut self.large,
        }
    }
}
