//! Where completions are that have happened and are not yet in the completion queue, and the completion queue as the program sees it then.
//!
//! Invariants:
//! - completions of one queue of one queue pair keep their order, whatever else is chosen;
//! - what can be polled was there when the poll began: nothing moves while a program polls to the end.

use std::collections::VecDeque;

use reactor::Choices;

use super::options::{CompletionFaults, CompletionKinds};
use crate::soft::nic::{Credit, Entry, QueuePairSerial};
use crate::verbs::CompletionStatus;

/// One port's.
pub(super) struct Stage {
    capacity: usize,
    /// Happened, oldest first.
    waiting: Vec<Entry>,
    /// In the completion queue.
    visible: VecDeque<Entry>,
    /// Until the next batch.
    looks: u32,
    has_overrun: bool,
}

impl Stage {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, waiting: Vec::new(), visible: VecDeque::new(), looks: 0, has_overrun: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.visible.is_empty()
    }

    /// One has happened.
    pub(super) fn add(&mut self, entry: Entry) {
        self.waiting.push(entry);
    }

    /// How long what has just happened takes, where nothing waited before.
    pub(super) fn begin(&mut self, choices: &Choices, faults: &CompletionFaults) {
        self.looks = choices.between("looks of completions", 0, faults.looks_max);
    }

    /// One look: what is due comes into the completion queue, but for what is held.
    pub(super) fn release(
        &mut self,
        choices: &Choices,
        faults: &CompletionFaults,
        mut is_held: impl FnMut(&Entry) -> bool,
        mut released: impl FnMut(&Entry),
    ) {
        if self.looks > 0 {
            self.looks -= 1;
            return;
        }
        loop {
            let heads = self.heads(&mut is_held);
            let which = if faults.is_mixed {
                choices.below("queue that completes", u32::try_from(heads.len()).unwrap_or(u32::MAX)) as usize
            } else {
                0
            };
            let Some(&at) = heads.get(which) else { return };
            if faults.is_split && choices.one_in("completion held back", 4) {
                self.begin(choices, faults);
                return;
            }
            let entry = self.waiting.remove(at);
            released(&entry);
            self.show(entry);
        }
    }

    /// The oldest of each queue that is not held, oldest first.
    fn heads(&self, is_held: &mut impl FnMut(&Entry) -> bool) -> Vec<usize> {
        let mut seen = Vec::new();
        let mut heads = Vec::new();
        for (at, entry) in self.waiting.iter().enumerate() {
            let queue = (entry.serial, is_receive(entry));
            if !seen.contains(&queue) {
                seen.push(queue);
                if !is_held(entry) {
                    heads.push(at);
                }
            }
        }
        heads
    }

    /// The oldest `count` come, whatever holds them. How many there were.
    pub(super) fn release_now(&mut self, count: usize) -> usize {
        let count = count.min(self.waiting.len());
        for entry in self.waiting.drain(..count).collect::<Vec<_>>() {
            self.show(entry);
        }
        count
    }

    /// All of these come at once.
    pub(super) fn release_where(&mut self, mut is_one: impl FnMut(&Entry) -> bool) {
        let (ones, others) = std::mem::take(&mut self.waiting).into_iter().partition(|entry| is_one(entry));
        self.waiting = others;
        let ones: Vec<Entry> = ones;
        for entry in ones {
            self.show(entry);
        }
    }

    /// These are taken away, wherever they are.
    pub(super) fn sweep(&mut self, mut is_one: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let mut swept = Vec::new();
        let mut keep = |entry: &Entry| {
            let goes = is_one(entry);
            if goes {
                swept.push(*entry);
            }
            !goes
        };
        self.visible.retain(&mut keep);
        self.waiting.retain(&mut keep);
        swept
    }

    /// What failed and is not in the completion queue never comes. What succeeded still does.
    pub(super) fn drop_failed(&mut self) {
        self.waiting.retain(|entry| entry.completion.status == CompletionStatus::Success);
    }

    /// The next in the completion queue.
    pub(super) fn take(&mut self) -> Option<Entry> {
        self.visible.pop_front()
    }

    /// Whether anything of this queue pair is here.
    pub(super) fn has(&self, serial: QueuePairSerial) -> bool {
        self.waiting.iter().chain(&self.visible).any(|entry| entry.serial == serial)
    }

    /// What happened and is not in the completion queue, oldest first.
    pub(super) fn waiting(&self) -> &[Entry] {
        &self.waiting
    }

    /// Whether polling brings anything, sooner or later.
    pub(super) fn has_more(&self, mut is_held: impl FnMut(&Entry) -> bool) -> bool {
        !self.visible.is_empty() || !self.heads(&mut is_held).is_empty()
    }

    /// True once after an overrun.
    pub(super) fn take_overrun(&mut self) -> bool {
        std::mem::take(&mut self.has_overrun)
    }

    fn show(&mut self, entry: Entry) {
        if self.visible.len() == self.capacity {
            self.has_overrun = true;
        } else {
            self.visible.push_back(entry);
        }
    }
}

pub(super) fn is_receive(entry: &Entry) -> bool {
    match entry.credit {
        Credit::Send(_) => false,
        Credit::Receive | Credit::SharedReceive => true,
    }
}

pub(super) fn kind(entry: &Entry) -> CompletionKinds {
    CompletionKinds::of(is_receive(entry), entry.completion.status)
}

/// Whether it is a flush of the queue pair's own queues.
pub(super) fn is_flush(entry: &Entry) -> bool {
    entry.completion.status == CompletionStatus::WorkRequestFlushed && entry.credit != Credit::SharedReceive
}
