//! Buffers of one size out of one arena, owned by one CPU.
//!
//! A buffer is a move-only value: whoever holds it may use its bytes, and gives it back by value. All operations are O(1) and
//! allocate nothing.

use crate::memory::Segment;

/// A buffer taken from a [`Pool`]: move-only, and given back by value. Dropped elsewhere it is lost to the pool, which counts it as out for ever.
#[derive(Debug)]
#[must_use = "a buffer goes back to its pool"]
pub struct Buffer {
    segment: Segment,
    index: u32,
}

impl Buffer {
    /// All of it.
    #[must_use]
    pub fn segment(&self) -> Segment {
        self.segment
    }
}

/// Equal buffers, last in first out.
#[derive(Debug)]
pub struct Pool {
    memory: Segment,
    buffer_len: usize,
    buffer_count: usize,
    free: Vec<u32>,
    exhausted_count: u64,
}

impl Pool {
    /// Cuts `memory` into buffers of `buffer_len` bytes; what is left at the end is not used. Panics if `buffer_len` is zero or
    /// gives more than 2^32 buffers.
    #[must_use]
    pub fn new(memory: Segment, buffer_len: usize) -> Self {
        assert!(buffer_len > 0, "a pool of buffers of 0 bytes");
        let buffer_count = memory.len() / buffer_len;
        let Ok(last) = u32::try_from(buffer_count) else {
            panic!("a pool of {buffer_count} buffers: at most {} can be named", u32::MAX)
        };
        Self { memory, buffer_len, buffer_count, free: (0..last).rev().collect(), exhausted_count: 0 }
    }

    /// Takes one. `None` is back-pressure, and counted.
    #[inline]
    pub fn take(&mut self) -> Option<Buffer> {
        let Some(index) = self.free.pop() else {
            self.exhausted_count += 1;
            return None;
        };
        Some(Buffer { segment: self.place(index), index })
    }

    /// Gives one back. Panics if it is not of this pool.
    #[inline]
    pub fn give(&mut self, buffer: Buffer) {
        let ours = (buffer.index as usize) < self.buffer_count && self.place(buffer.index) == buffer.segment;
        assert!(ours, "{buffer:?} given back to a pool that it is not from");
        assert!(self.free.len() < self.buffer_count, "more buffers given back than taken");
        self.free.push(buffer.index);
    }

    /// Bytes of each.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        self.buffer_len
    }

    /// How many are in.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// How many are out.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.buffer_count - self.free.len()
    }

    /// How often [`Self::take`] found none.
    #[must_use]
    pub fn exhausted_count(&self) -> u64 {
        self.exhausted_count
    }

    fn place(&self, index: u32) -> Segment {
        self.memory.part(index as usize * self.buffer_len, self.buffer_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Arena;

    #[test]
    fn buffers_do_not_overlap_and_come_back() {
        let arena = Arena::new(4096, false).unwrap();
        let mut pool = Pool::new(arena.segment(), 1000);
        let all: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!((all.len(), pool.available(), pool.taken(), pool.exhausted_count()), (4, 0, 4, 1));
        for (number, buffer) in (0u8..).zip(&all) {
            buffer.segment().write(0, &[number; 1000]);
        }
        for (number, buffer) in (0u8..).zip(&all) {
            let mut bytes = [0xFF; 1000];
            buffer.segment().read(0, &mut bytes);
            assert_eq!(bytes, [number; 1000]);
        }
        for buffer in all {
            pool.give(buffer);
        }
        assert_eq!((pool.available(), pool.taken()), (4, 0));
    }

    #[test]
    #[should_panic(expected = "not from")]
    fn another_pools_buffer_is_our_bug() {
        let arena = Arena::new(8192, false).unwrap();
        let mut low = Pool::new(arena.segment().part(0, 4096), 1024);
        let mut high = Pool::new(arena.segment().part(4096, 4096), 1024);
        let _ = low.take();
        low.give(high.take().unwrap());
    }
}
