//! Buffers of one size out of one arena, owned by one CPU.
//!
//! A buffer is a move-only value: whoever holds it may use its bytes, and gives it back by value. It may be lent to other CPUs in a message; it
//! goes home the same way, so that a pool has one owner and no lock ([`Buffer::go_home`], [`Pool::give_or_send`]). All operations are O(1) and
//! allocate nothing.

use crate::cpu::Cpu;
use crate::memory::Segment;
use crate::turn::Turn;

/// Where a buffer belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Home {
    /// The CPU that owns the pool.
    pub cpu: Cpu,
    /// Which of that CPU's pools, by a number that its program chooses: so that it knows what to do with one that came back.
    pub pool: u16,
}

/// A buffer taken from a [`Pool`]: move-only, and given back by value. Dropped elsewhere it is lost to the pool, which counts it as out for ever.
#[derive(Debug)]
#[must_use = "a buffer goes back to its pool"]
pub struct Buffer {
    segment: Segment,
    index: u32,
    home: Home,
}

impl Buffer {
    /// All of it. Plain data, as devices want it: nothing but the program's care ends its use when the buffer is given back.
    #[must_use]
    pub fn segment(&self) -> Segment {
        self.segment
    }

    /// Where it goes back to.
    #[must_use]
    pub fn home(&self) -> Home {
        self.home
    }

    /// Sends it to the CPU that it belongs to, as a message; to this one too, where it then comes in a later turn. No fence, and no memory but the
    /// ring's: as any message.
    #[inline]
    pub fn go_home<M: From<Self>>(self, turn: &mut Turn<'_, M>) {
        turn.send(self.home.cpu, M::from(self));
    }
}

/// Equal buffers, last in first out.
#[derive(Debug)]
pub struct Pool {
    home: Home,
    memory: Segment,
    buffer_len: usize,
    buffer_count: usize,
    free: Vec<u32>,
    exhausted_count: u64,
}

impl Pool {
    /// The pool at `home`: cuts `memory` into buffers of `buffer_len` bytes; what is left at the end is not used. Panics if `buffer_len` is zero or
    /// gives more than 2^32 buffers.
    #[must_use]
    pub fn new(home: Home, memory: Segment, buffer_len: usize) -> Self {
        assert!(buffer_len > 0, "a pool of buffers of 0 bytes");
        let buffer_count = memory.len() / buffer_len;
        let Ok(last) = u32::try_from(buffer_count) else {
            panic!("a pool of {buffer_count} buffers: at most {} can be named", u32::MAX)
        };
        Self { home, memory, buffer_len, buffer_count, free: (0..last).rev().collect(), exhausted_count: 0 }
    }

    /// Takes one. `None` is back-pressure, and counted.
    #[inline]
    pub fn take(&mut self) -> Option<Buffer> {
        let Some(index) = self.free.pop() else {
            self.exhausted_count += 1;
            return None;
        };
        Some(Buffer { segment: self.place(index), index, home: self.home })
    }

    /// Gives one back. Panics if it is not of this pool.
    #[inline]
    pub fn give(&mut self, buffer: Buffer) {
        let ours = (buffer.index as usize) < self.buffer_count && self.place(buffer.index) == buffer.segment;
        assert!(ours, "{buffer:?} given back to a pool that it is not from");
        assert!(self.free.len() < self.buffer_count, "more buffers given back than taken");
        self.free.push(buffer.index);
    }

    /// Gives back a buffer of this pool, and sends any other home.
    #[inline]
    pub fn give_or_send<M: From<Buffer>>(&mut self, turn: &mut Turn<'_, M>, buffer: Buffer) {
        if buffer.home == self.home { self.give(buffer) } else { buffer.go_home(turn) }
    }

    /// Where its buffers belong.
    #[must_use]
    pub fn home(&self) -> Home {
        self.home
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

    /// Those that are in: memory that nobody may touch.
    pub fn free(&self) -> impl Iterator<Item = Segment> {
        self.free.iter().map(|index| self.place(*index))
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

    const HOME: Home = Home { cpu: Cpu(3), pool: 1 };

    #[test]
    fn a_buffer_is_half_a_cache_line_and_knows_its_home() {
        assert_eq!(size_of::<Buffer>(), 32, "it travels in messages");
        let mut pool = Pool::new(HOME, Arena::new(4096, false).unwrap().segment(), 4096);
        let buffer = pool.take().unwrap();
        assert_eq!((buffer.home(), pool.home()), (HOME, HOME));
        pool.give(buffer);
    }

    #[test]
    fn a_buffer_that_is_dropped_stays_out_for_ever() {
        let mut pool = Pool::new(HOME, Arena::new(4096, false).unwrap().segment(), 1024);
        let _lost = pool.take();
        let kept = pool.take().unwrap();
        pool.give(kept);
        assert_eq!((pool.taken(), pool.available()), (1, 3));
    }

    #[test]
    fn buffers_do_not_overlap_and_come_back() {
        let arena = Arena::new(4096, false).unwrap();
        let mut pool = Pool::new(HOME, arena.segment(), 1000);
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
        let mut low = Pool::new(HOME, arena.segment().part(0, 4096), 1024);
        let mut high = Pool::new(HOME, arena.segment().part(4096, 4096), 1024);
        let _ = low.take();
        low.give(high.take().unwrap());
    }
}
