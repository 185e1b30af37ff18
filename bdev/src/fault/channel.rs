//! One CPU's way through the fault device.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};

use reactor::{Progress, Rest, Segment};

use super::rule::Effect;
use super::{Shared, geometry_over, lock};
use crate::channel::{Channel, Completion, Operation, OperationKind};
use crate::device::{Device, DeviceError};
use crate::extent;
use crate::layer::{OUTSTANDING_MAX, Passed, forward};

pub(super) struct FaultChannel {
    /// The device below: it may grow.
    device: Arc<dyn Device>,
    base: Box<dyn Channel>,
    shared: Arc<Mutex<Shared>>,
    /// On their way to the base, under tokens of our own: places in `passed`.
    forward: VecDeque<Operation>,
    passed: Passed<Begun>,
    /// Each with the polls that it still waits.
    delayed: VecDeque<(u32, Operation)>,
    stalled: VecDeque<Stalled>,
    /// There was no room for them.
    refused: VecDeque<Operation>,
    finished: VecDeque<Completion>,
    completions: Vec<Completion>,
    now_ns: u64,
}

/// Begun when there has been another release, or its time has come.
struct Stalled {
    release_count: u64,
    until_ns: u64,
    operation: Operation,
}

/// What the base has, or is about to.
#[derive(Clone, Copy)]
struct Begun {
    operation: Operation,
    /// Which byte of its data is spoilt, and how.
    corrupt: Option<(u64, u8)>,
}

impl FaultChannel {
    pub(super) fn new(device: Arc<dyn Device>, base: Box<dyn Channel>, shared: Arc<Mutex<Shared>>) -> Self {
        Self {
            device,
            base,
            shared,
            forward: VecDeque::new(),
            passed: Passed::new(),
            delayed: VecDeque::new(),
            stalled: VecDeque::new(),
            refused: VecDeque::new(),
            finished: VecDeque::new(),
            completions: Vec::new(),
            now_ns: 0,
        }
    }

    fn take(&mut self, operation: Operation) {
        let shared = Arc::clone(&self.shared);
        let mut shared = lock(&shared);
        match shared.rules.effect(&operation, self.passed.len()) {
            None => self.begin(&mut shared, operation, None),
            Some(Effect::Fail(error)) => self.end(operation.token, Err(error)),
            Some(Effect::Corrupt { offset, flip }) => self.begin(&mut shared, operation, Some((offset, flip))),
            Some(Effect::Lose) if is_write(operation.kind) || operation.kind == OperationKind::Flush => {
                let result = extent::extent(&geometry_over(&*self.device), &operation).map(|_| ());
                self.end(operation.token, result);
            }
            Some(Effect::Tear) if is_write(operation.kind) && operation.block_count > 1 => {
                self.begin(&mut shared, half(&operation, self.device.geometry().block_len), None);
            }
            Some(Effect::Unforce) => self.begin(&mut shared, unforced(&operation), None),
            Some(Effect::Lose | Effect::Tear) => self.begin(&mut shared, operation, None),
            Some(Effect::Delay { poll_count }) => self.delayed.push_back((poll_count, operation)),
            Some(Effect::Stall) => self.stall(&shared, u64::MAX, operation),
            Some(Effect::StallFor { ns }) => self.stall(&shared, self.now_ns.saturating_add(ns), operation),
            Some(Effect::Refuse) => self.refused.push_back(operation),
        }
    }

    fn stall(&mut self, shared: &Shared, until_ns: u64, operation: Operation) {
        self.stalled.push_back(Stalled { release_count: shared.release_count, until_ns, operation });
    }

    /// No rule is in its way any more.
    fn begin(&mut self, shared: &mut Shared, operation: Operation, corrupt: Option<(u64, u8)>) {
        let range = match extent::extent(&geometry_over(&*self.device), &operation) {
            Ok(_) => (operation.start_block, operation.start_block + operation.block_count),
            Err(error) => return self.end(operation.token, Err(error)),
        };
        match operation.kind {
            OperationKind::Read if shared.uncorrectable.hits(range.0, range.1) => {
                return self.end(operation.token, Err(DeviceError::ReadFault));
            }
            OperationKind::WriteUncorrectable => {
                shared.uncorrectable.insert(range.0, range.1);
                return self.end(operation.token, Ok(()));
            }
            OperationKind::Read
            | OperationKind::Write { .. }
            | OperationKind::Flush
            | OperationKind::WriteZeroes { .. }
            | OperationKind::Deallocate => {}
        }
        if let (OperationKind::Write { .. }, Some((offset, flip)), Some(data)) =
            (operation.kind, corrupt, operation.data)
        {
            spoil(data, offset, flip);
        }
        let token = self.passed.insert(Begun { operation, corrupt });
        self.forward.push_back(Operation { token, ..operation });
    }

    fn end(&mut self, token: u64, result: Result<(), DeviceError>) {
        self.finished.push_back(Completion { token, result });
    }

    /// The base is done with one.
    fn came_back(&mut self, completion: Completion) {
        let Some(Begun { operation, corrupt }) = self.passed.take(completion.token) else { return };
        if completion.result.is_ok() {
            let end = operation.start_block + operation.block_count;
            match (operation.kind, corrupt, operation.data) {
                (OperationKind::Read, Some((offset, flip)), Some(data)) => spoil(data, offset, flip),
                (OperationKind::Read | OperationKind::Flush | OperationKind::WriteUncorrectable, _, _) => {}
                // What is written can be read again.
                (OperationKind::Write { .. } | OperationKind::WriteZeroes { .. } | OperationKind::Deallocate, _, _) => {
                    lock(&self.shared).uncorrectable.remove(operation.start_block, end);
                }
            }
        }
        self.end(operation.token, completion.result);
    }

    /// What a rule holds back.
    fn held_count(&self) -> usize {
        self.delayed.len() + self.stalled.len() + self.refused.len()
    }

    /// Those whose delay is over, those that were released, and those for which there may be room now.
    fn resume(&mut self) {
        for operation in std::mem::take(&mut self.refused) {
            self.take(operation);
        }
        if self.delayed.is_empty() && self.stalled.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut shared = lock(&shared);
        for (polls_left, operation) in std::mem::take(&mut self.delayed) {
            if polls_left > 0 {
                self.delayed.push_back((polls_left - 1, operation));
            } else {
                self.begin(&mut shared, operation, None);
            }
        }
        for _ in 0..self.stalled.len() {
            let Some(stalled) = self.stalled.pop_front() else { break };
            if stalled.release_count < shared.release_count || stalled.until_ns <= self.now_ns {
                self.begin(&mut shared, stalled.operation, None);
            } else {
                self.stalled.push_back(stalled);
            }
        }
    }
}

impl Channel for FaultChannel {
    fn submit(&mut self, now_ns: u64, operations: &mut VecDeque<Operation>) {
        self.now_ns = now_ns;
        while self.outstanding_count() < OUTSTANDING_MAX
            && let Some(operation) = operations.pop_front()
        {
            self.take(operation);
        }
        forward(&mut *self.base, now_ns, &mut self.forward);
    }

    fn poll(&mut self, now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let had_len = completions.len();
        self.now_ns = now_ns;
        self.resume();
        forward(&mut *self.base, now_ns, &mut self.forward);
        let mut ended = std::mem::take(&mut self.completions);
        self.base.poll(now_ns, &mut ended);
        for completion in ended.drain(..) {
            self.came_back(completion);
        }
        self.completions = ended;
        completions.extend(self.finished.drain(..));
        Progress::busy_if(completions.len() > had_len || !self.delayed.is_empty() || !self.refused.is_empty())
    }

    fn cancel(&mut self, token: u64) -> bool {
        if let Some(below) = self.passed.find(|begun| begun.operation.token == token) {
            return match self.forward.iter().position(|operation| operation.token == below) {
                Some(place) => {
                    self.forward.remove(place);
                    self.passed.take(below);
                    self.end(token, Err(DeviceError::Cancelled));
                    true
                }
                None => self.base.cancel(below),
            };
        }
        let held_count = self.held_count();
        self.delayed.retain(|(_, operation)| operation.token != token);
        self.stalled.retain(|stalled| stalled.operation.token != token);
        self.refused.retain(|operation| operation.token != token);
        let is_held = self.held_count() < held_count;
        if is_held {
            self.end(token, Err(DeviceError::Cancelled));
        }
        is_held
    }

    fn cancel_all(&mut self) {
        for operation in std::mem::take(&mut self.forward) {
            if let Some(Begun { operation, .. }) = self.passed.take(operation.token) {
                self.end(operation.token, Err(DeviceError::Cancelled));
            }
        }
        let delayed = self.delayed.drain(..).map(|(_, operation)| operation);
        let stalled = self.stalled.drain(..).map(|stalled| stalled.operation);
        let held = delayed.chain(stalled).chain(self.refused.drain(..));
        let result = Err(DeviceError::Cancelled);
        self.finished.extend(held.map(|operation| Completion { token: operation.token, result }));
        self.base.cancel_all();
    }

    fn outstanding_count(&self) -> usize {
        self.finished.len() + self.held_count() + self.passed.len()
    }

    fn arm(&mut self) -> Rest {
        let base = self.base.arm();
        let is_waiting = !self.finished.is_empty()
            || !self.forward.is_empty()
            || !self.delayed.is_empty()
            || !self.refused.is_empty()
            || !self.stalled.is_empty();
        if is_waiting { Rest::Poll } else { base }
    }

    fn disarm(&mut self) {
        self.base.disarm();
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        self.base.wake_descriptor()
    }
}

fn is_write(kind: OperationKind) -> bool {
    matches!(kind, OperationKind::Write { .. } | OperationKind::WriteZeroes { .. })
}

/// The same without a promise.
fn unforced(operation: &Operation) -> Operation {
    let kind = match operation.kind {
        OperationKind::Write { .. } => OperationKind::Write { force_unit_access: false },
        OperationKind::WriteZeroes { deallocate, .. } => {
            OperationKind::WriteZeroes { deallocate, force_unit_access: false }
        }
        kind @ (OperationKind::Read
        | OperationKind::Flush
        | OperationKind::Deallocate
        | OperationKind::WriteUncorrectable) => kind,
    };
    Operation { kind, ..*operation }
}

/// The first half of a write's blocks.
fn half(operation: &Operation, block_len: u32) -> Operation {
    let block_count = operation.block_count / 2;
    let len = usize::try_from(block_count * u64::from(block_len)).unwrap_or(usize::MAX);
    Operation { block_count, data: operation.data.map(|data| data.part(0, len.min(data.len()))), ..*operation }
}

/// Makes a byte another than it was, if the data has so many.
fn spoil(data: Segment, offset: u64, flip: u8) {
    if let Some(offset) = usize::try_from(offset).ok().filter(|offset| *offset < data.len()) {
        let mut byte = [0];
        data.read(offset, &mut byte);
        data.write(offset, &[byte[0] ^ flip]);
    }
}
