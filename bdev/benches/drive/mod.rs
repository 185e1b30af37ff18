//! What the benches share: one channel under load, as a CPU of the target has it. Each turn hands over a batch and polls once.

#![allow(dead_code, reason = "each bench uses a part of this")]

use std::collections::VecDeque;

use bdev::{Channel, Completion, Device, Geometry, Meter, Operation, OperationKind, Statistics};
use reactor::{Arena, Segment};

/// Operations that a turn hands over at most.
const BATCH: usize = 32;

/// Time that passes from turn to turn. The channels' own: nothing here waits for it.
const TURN_NS: u64 = 1000;

/// Which blocks come next.
#[derive(Clone, Copy)]
pub(crate) enum Places {
    /// One behind the other, all over the device.
    InOrder,
    /// Anywhere on it.
    AtRandom,
}

/// One channel, and what it is told to do.
pub(crate) struct Drive {
    channel: Box<dyn Channel>,
    geometry: Geometry,
    meter: Option<(Meter, Statistics)>,
    buffers: Segment,
    len: usize,
    depth: usize,
    places: Walk,
    now_ns: u64,
    operations: VecDeque<Operation>,
    completions: Vec<Completion>,
}

impl Drive {
    /// Operations of `len` bytes on a device.
    pub(crate) fn new(device: &dyn Device, len: usize, places: Places) -> Self {
        Self::through(device.open_channel().expect("a channel"), device.geometry(), len, places)
    }

    /// Through a channel that something stands before.
    pub(crate) fn through(channel: Box<dyn Channel>, geometry: Geometry, len: usize, places: Places) -> Self {
        // Its memory is used for as long as the process runs.
        let buffers = Arena::new(len * BATCH, false).expect("memory").segment();
        let places = Walk::new(places, geometry.block_count * u64::from(geometry.block_len) / len as u64);
        let (operations, completions) = (VecDeque::with_capacity(BATCH), Vec::with_capacity(1024));
        Self { channel, geometry, meter: None, buffers, len, depth: BATCH, places, now_ns: 0, operations, completions }
    }

    /// With so many operations under way.
    pub(crate) fn at_depth(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    /// Counted, as the target counts.
    pub(crate) fn metered(self) -> Self {
        let mut meter = Meter::default();
        meter.reserve(self.depth);
        Self { meter: Some((meter, Statistics::default())), ..self }
    }

    /// Begins and ends so many.
    pub(crate) fn run(&mut self, kind: OperationKind, count: u64) {
        let (mut begun_count, mut ended_count) = (0, 0);
        while ended_count < count {
            while self.operations.len() < BATCH && begun_count < count && self.room(begun_count - ended_count) {
                let operation = self.operation(kind, begun_count);
                self.operations.push_back(operation);
                begun_count += 1;
            }
            self.now_ns += TURN_NS;
            self.channel.submit(self.now_ns, &mut self.operations);
            self.channel.poll(self.now_ns, &mut self.completions);
            ended_count += self.completions.len() as u64;
            for completion in self.completions.drain(..) {
                let told = match &mut self.meter {
                    Some((meter, statistics)) => meter.end(self.now_ns, completion, statistics),
                    None => Some(completion),
                };
                assert!(told.is_some_and(|told| told.result.is_ok()), "{completion:?}");
            }
        }
    }

    /// Asks so many times where a read needs no copy.
    pub(crate) fn run_in_place(&mut self, count: u64) {
        let block_count = self.block_count();
        for _ in 0..count {
            let place = self.places.next();
            assert!(std::hint::black_box(self.channel.in_place(place * block_count, block_count)).is_some());
        }
    }

    fn room(&self, outstanding_count: u64) -> bool {
        outstanding_count < self.depth as u64
    }

    fn block_count(&self) -> u64 {
        self.len as u64 / u64::from(self.geometry.block_len)
    }

    fn operation(&mut self, kind: OperationKind, number: u64) -> Operation {
        let block_count = self.block_count();
        let buffer = usize::try_from(number % BATCH as u64).unwrap_or(0);
        let data = Some(self.buffers.part(buffer * self.len, self.len));
        let start_block = self.places.next() * block_count;
        let operation = Operation { token: number, host: 1, kind, start_block, block_count, data };
        match &mut self.meter {
            Some((meter, statistics)) => meter.begin(self.now_ns, operation, self.geometry.block_len, statistics),
            None => operation,
        }
    }
}

/// Copies as [`Drive`] has them done, by nobody but the standard library: what a device in memory is measured by.
pub(crate) struct BareCopy {
    blocks: Vec<u8>,
    buffers: Vec<u8>,
    len: usize,
    places: Walk,
}

impl BareCopy {
    /// `size` bytes of blocks, all there already.
    pub(crate) fn new(size: usize, len: usize, places: Places) -> Self {
        let places = Walk::new(places, (size / len) as u64);
        Self { blocks: vec![1; size], buffers: vec![2; len * BATCH], len, places }
    }

    /// So many out of the blocks.
    pub(crate) fn read(&mut self, count: u64) {
        for number in 0..count {
            let (block, buffer) = self.next(number);
            self.buffers[buffer..buffer + self.len].copy_from_slice(&self.blocks[block..block + self.len]);
            std::hint::black_box(&mut self.buffers);
        }
    }

    /// So many into them.
    pub(crate) fn write(&mut self, count: u64) {
        for number in 0..count {
            let (block, buffer) = self.next(number);
            self.blocks[block..block + self.len].copy_from_slice(&self.buffers[buffer..buffer + self.len]);
            std::hint::black_box(&mut self.blocks);
        }
    }

    fn next(&mut self, number: u64) -> (usize, usize) {
        let place = usize::try_from(self.places.next()).unwrap_or(0);
        (place * self.len, usize::try_from(number).unwrap_or(0) % BATCH * self.len)
    }
}

/// Places, one after another.
struct Walk {
    places: Places,
    count: u64,
    at: u64,
}

impl Walk {
    fn new(places: Places, count: u64) -> Self {
        let at = match places {
            Places::InOrder => 0,
            Places::AtRandom => 0x9E37_79B9_7F4A_7C15,
        };
        Self { places, count, at }
    }

    fn next(&mut self) -> u64 {
        match self.places {
            Places::InOrder => self.at = if self.at + 1 < self.count { self.at + 1 } else { 0 },
            Places::AtRandom => {
                self.at ^= self.at << 13;
                self.at ^= self.at >> 7;
                self.at ^= self.at << 17;
                // The high half of a product: no division.
                return u64::try_from((u128::from(self.at) * u128::from(self.count)) >> 64).unwrap_or(0);
            }
        }
        self.at
    }
}
