//! Buffers of one size out of one arena, owned by one CPU.

use crate::memory::Segment;

/// A buffer taken from a [`Pool`]: move-only, and given back by value. Dropped elsewhere it is lost to the pool, which counts it as out for ever.
#[derive(Debug)]
#[must_use = "a buffer goes back to its pool"]
pub struct Buffer {
    segment: Segment,
}

impl Buffer {
    /// All of it.
    #[must_use]
    pub fn segment(&self) -> Segment {
        self.segment
    }
}

/// Equal buffers, last in first out.
pub struct Pool {
    _todo: (),
}

impl Pool {
    /// Cuts `memory` into buffers of `buffer_len` bytes.
    #[must_use]
    pub fn new(memory: Segment, buffer_len: usize) -> Self {
        let _ = (memory, buffer_len);
        todo!()
    }

    /// Takes one. `None` is back-pressure, and counted.
    pub fn take(&mut self) -> Option<Buffer> {
        todo!()
    }

    /// Gives one back. Panics if it is not of this pool.
    pub fn give(&mut self, buffer: Buffer) {
        let _ = buffer;
        todo!()
    }

    /// Bytes of each.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        todo!()
    }

    /// How many are in.
    #[must_use]
    pub fn available(&self) -> usize {
        todo!()
    }

    /// How many are out.
    #[must_use]
    pub fn taken(&self) -> usize {
        todo!()
    }

    /// How often [`Self::take`] found none.
    #[must_use]
    pub fn exhausted_count(&self) -> u64 {
        todo!()
    }
}
