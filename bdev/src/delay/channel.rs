//! One CPU's way through the delay device.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use reactor::{Progress, Rest};

use super::{LatencyKind, Shared};
use crate::channel::{Channel, Completion, Operation, OperationKind};
use crate::device::DeviceError;
use crate::layer::{OUTSTANDING_MAX, Passed, forward};

pub(super) struct DelayChannel {
    base: Box<dyn Channel>,
    shared: Arc<Shared>,
    random: u64,
    /// On their way to the base, under tokens of our own: places in `passed`.
    forward: VecDeque<Operation>,
    /// Each with its submitter's token, and the latency that it shall have.
    passed: Passed<(u64, Option<LatencyKind>)>,
    held: BinaryHeap<Reverse<Held>>,
    held_count: u64,
    finished: Vec<Completion>,
    completions: Vec<Completion>,
}

/// A completion that is held back. Ordered by when it is due; of the same time, by age.
struct Held {
    due_ns: u64,
    number: u64,
    completion: Completion,
}

impl Held {
    fn key(&self) -> (u64, u64) {
        (self.due_ns, self.number)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl DelayChannel {
    pub(super) fn new(base: Box<dyn Channel>, shared: Arc<Shared>, seed: u64, number: u64) -> Self {
        // Another sequence for each channel; xorshift stays at zero.
        let random = (seed ^ number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1 << 63;
        Self {
            base,
            shared,
            random,
            forward: VecDeque::with_capacity(OUTSTANDING_MAX),
            passed: Passed::new(),
            held: BinaryHeap::with_capacity(OUTSTANDING_MAX),
            held_count: 0,
            finished: Vec::with_capacity(OUTSTANDING_MAX),
            completions: Vec::with_capacity(OUTSTANDING_MAX),
        }
    }

    fn latency(&mut self, kind: OperationKind) -> Option<LatencyKind> {
        let is_read = match kind {
            OperationKind::Flush => return None,
            OperationKind::Read => true,
            OperationKind::Write { .. }
            | OperationKind::WriteZeroes { .. }
            | OperationKind::Deallocate
            | OperationKind::WriteUncorrectable => false,
        };
        Some(match (is_read, self.is_the_hundredth()) {
            (true, false) => LatencyKind::Read,
            (true, true) => LatencyKind::ReadP99,
            (false, false) => LatencyKind::Write,
            (false, true) => LatencyKind::WriteP99,
        })
    }

    fn is_the_hundredth(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // The low bits of an xorshift are its worst.
        (self.random >> 16).is_multiple_of(100)
    }

    /// The base is done with one.
    fn came_back(&mut self, now_ns: u64, completion: Completion) {
        let Some((token, latency)) = self.passed.take(completion.token) else { return };
        let completion = Completion { token, ..completion };
        match latency.map_or(0, |kind| self.shared.latency_ns(kind)) {
            0 => self.finished.push(completion),
            latency_ns => {
                let due_ns = now_ns.saturating_add(latency_ns);
                self.held.push(Reverse(Held { due_ns, number: self.held_count, completion }));
                self.held_count += 1;
            }
        }
    }

    fn release_due(&mut self, now_ns: u64) {
        let now_ns = if self.shared.has_let_go.load(Ordering::Relaxed) { u64::MAX } else { now_ns };
        while self.held.peek().is_some_and(|Reverse(held)| held.due_ns <= now_ns) {
            self.finished.extend(self.held.pop().map(|Reverse(held)| held.completion));
        }
    }
}

impl Channel for DelayChannel {
    fn submit(&mut self, now_ns: u64, operations: &mut VecDeque<Operation>) {
        while self.passed.len() + self.held.len() + self.finished.len() < OUTSTANDING_MAX
            && let Some(operation) = operations.pop_front()
        {
            let latency = self.latency(operation.kind);
            let token = self.passed.insert((operation.token, latency));
            self.forward.push_back(Operation { token, ..operation });
        }
        forward(&mut *self.base, now_ns, &mut self.forward);
    }

    fn poll(&mut self, now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        forward(&mut *self.base, now_ns, &mut self.forward);
        let mut ended = std::mem::take(&mut self.completions);
        // Something may have been done without an end: zeroing goes on from poll to poll.
        let progress = self.base.poll(now_ns, &mut ended);
        for completion in ended.drain(..) {
            self.came_back(now_ns, completion);
        }
        self.completions = ended;
        self.release_due(now_ns);
        let progress = progress.or(Progress::busy_if(!self.finished.is_empty()));
        completions.append(&mut self.finished);
        progress
    }

    fn cancel(&mut self, token: u64) -> bool {
        if let Some(below) = self.passed.find(|(of, _)| *of == token) {
            return match self.forward.iter().position(|operation| operation.token == below) {
                Some(place) => {
                    self.forward.remove(place);
                    self.passed.take(below);
                    self.finished.push(Completion { token, result: Err(DeviceError::Cancelled) });
                    true
                }
                None => self.base.cancel(below),
            };
        }
        let held_len = self.held.len();
        self.held.retain(|Reverse(held)| held.completion.token != token);
        let is_held = self.held.len() < held_len;
        if is_held {
            self.finished.push(Completion { token, result: Err(DeviceError::Cancelled) });
        }
        is_held
    }

    fn cancel_all(&mut self) {
        for operation in self.forward.drain(..) {
            if let Some((token, _)) = self.passed.take(operation.token) {
                self.finished.push(Completion { token, result: Err(DeviceError::Cancelled) });
            }
        }
        // What the base cannot stop need not be held back.
        self.passed.values_mut().for_each(|(_, latency)| *latency = None);
        let held = self.held.drain().map(|Reverse(held)| held.completion.token);
        self.finished.extend(held.map(|token| Completion { token, result: Err(DeviceError::Cancelled) }));
        self.base.cancel_all();
    }

    fn outstanding_count(&self) -> usize {
        self.passed.len() + self.held.len() + self.finished.len()
    }

    fn arm(&mut self) -> Rest {
        let base = self.base.arm();
        if !self.finished.is_empty() || !self.forward.is_empty() || self.shared.has_let_go.load(Ordering::Relaxed) {
            return Rest::Poll;
        }
        match self.held.peek() {
            Some(Reverse(held)) => base.and(Rest::SleepUntil(held.due_ns)),
            None => base,
        }
    }

    fn disarm(&mut self) {
        self.base.disarm();
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        self.base.wake_descriptor()
    }
}
