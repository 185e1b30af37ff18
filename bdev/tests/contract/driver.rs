//! One channel and its bookkeeping, on a clock of the test's own.

use std::collections::VecDeque;

use bdev::{Channel, Completion, Device, DeviceError, Operation, OperationKind};
use reactor::{Arena, Segment};

pub(crate) const READ: OperationKind = OperationKind::Read;
pub(crate) const WRITE: OperationKind = OperationKind::Write { force_unit_access: false };
pub(crate) const WRITE_FORCED: OperationKind = OperationKind::Write { force_unit_access: true };
pub(crate) const FLUSH: OperationKind = OperationKind::Flush;
pub(crate) const DEALLOCATE: OperationKind = OperationKind::Deallocate;

pub(crate) fn zeroes(deallocate: bool, force_unit_access: bool) -> OperationKind {
    OperationKind::WriteZeroes { deallocate, force_unit_access }
}

/// An hour: buckets of limits have filled.
const BEGIN_NS: u64 = 3_600_000_000_000;

/// What a turn takes.
const TURN_NS: u64 = 1000;

pub(crate) struct Driver {
    pub(crate) channel: Box<dyn Channel>,
    pub(crate) now_ns: u64,
    next_token: u64,
}

impl Driver {
    pub(crate) fn new(device: &dyn Device) -> Self {
        Self { channel: device.open_channel().unwrap(), now_ns: BEGIN_NS, next_token: 1 }
    }

    pub(crate) fn operation(
        &mut self,
        kind: OperationKind,
        start_block: u64,
        block_count: u64,
        data: Option<Segment>,
    ) -> Operation {
        let token = self.next_token;
        self.next_token += 1;
        Operation { token, host: token % 3, kind, start_block, block_count, data }
    }

    /// One turn.
    pub(crate) fn turn(&mut self, waiting: &mut VecDeque<Operation>, completions: &mut Vec<Completion>) {
        self.channel.submit(self.now_ns, waiting);
        self.channel.poll(self.now_ns, completions);
        self.now_ns += TURN_NS;
        std::thread::yield_now();
    }

    /// Turns until all have ended.
    pub(crate) fn finish(&mut self, waiting: &mut VecDeque<Operation>, completions: &mut Vec<Completion>) {
        let mut turn_count = 0_u64;
        while !waiting.is_empty() || self.channel.outstanding_count() > 0 {
            self.turn(waiting, completions);
            turn_count += 1;
            assert!(turn_count < 100_000_000, "operations never end");
        }
    }

    /// Runs operations to their ends; checks that each token comes back once, and gives the results by token order.
    pub(crate) fn run(&mut self, operations: Vec<Operation>) -> Vec<Result<(), DeviceError>> {
        let tokens: Vec<u64> = operations.iter().map(|operation| operation.token).collect();
        let mut completions: Vec<Completion> = Vec::new();
        self.finish(&mut VecDeque::from(operations), &mut completions);
        completions.sort_by_key(|completion| completion.token);
        assert_eq!(completions.iter().map(|completion| completion.token).collect::<Vec<_>>(), tokens);
        completions.into_iter().map(|completion| completion.result).collect()
    }

    pub(crate) fn run_one(
        &mut self,
        kind: OperationKind,
        start: u64,
        count: u64,
        data: Option<Segment>,
    ) -> Result<(), DeviceError> {
        let operation = self.operation(kind, start, count, data);
        self.run(vec![operation])[0]
    }
}

/// A seeded sequence (xorshift): failures repeat.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Test memory. Never unmapped, like every arena that is dropped.
pub(crate) fn memory(len: usize) -> Segment {
    Arena::new(len, false).unwrap().segment().part(0, len)
}

pub(crate) fn bytes(segment: Segment) -> Vec<u8> {
    let mut bytes = vec![0; segment.len()];
    segment.read(0, &mut bytes);
    bytes
}
