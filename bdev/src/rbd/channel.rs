//! A channel into an image.
//!
//! Calls go to librbd on the channel's CPU, which queues them for threads of its own; their ends come back through an [`Inbox`]. librbd allocates and locks for
//! each call: what happens between this channel and it is without either.
//!
//! An *era* is the image as it was opened at some time. After the connection was lost for good and made anew, new operations go to the new one, and the old
//! one is kept until its last operation has come back.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use reactor::{Progress, Rest};

use super::Shared;
use super::completion::{Ended, Slot};
use super::image::Image;
use super::request::{Next, Request, is_fenced_out};
use crate::channel::{Channel, Completion, Operation};
use crate::device::{DeviceError, Geometry};
use crate::extent;
use crate::inbox::Inbox;

struct Era {
    number: u64,
    image: Arc<Image>,
    outstanding_count: usize,
}

/// One CPU's way into an image.
pub(super) struct RbdChannel {
    shared: Arc<Shared>,
    geometry: Geometry,
    ended: Inbox<Ended>,
    slots: Vec<Arc<Slot>>,
    requests: Vec<Option<Request>>,
    free: Vec<u32>,
    /// The last is the one that operations go to.
    eras: Vec<Era>,
    /// Ended without the library.
    finished: VecDeque<Completion>,
}

impl RbdChannel {
    pub(super) fn new(shared: Arc<Shared>, geometry: Geometry, queue_depth: u32) -> io::Result<Self> {
        let ended = Inbox::new(queue_depth as usize)?;
        let (number, image) = shared.current();
        Ok(Self {
            slots: (0..queue_depth).map(|slot| Slot::new(&shared.ceph, ended.entrance(), slot)).collect(),
            requests: vec![None; queue_depth as usize],
            free: (0..queue_depth).rev().collect(),
            eras: vec![Era { number, image, outstanding_count: 0 }],
            finished: VecDeque::with_capacity(queue_depth as usize),
            geometry,
            ended,
            shared,
        })
    }

    fn era(&mut self) -> &mut Era {
        let Some(era) = self.eras.last_mut() else { unreachable!("the last era stays") };
        era
    }

    /// Goes over to the image as it was opened last.
    fn catch_up(&mut self) {
        if self.shared.era() == self.era().number {
            return;
        }
        // Not while somebody has it: the next turn does.
        if let Some((number, image)) = self.shared.try_current() {
            self.eras.retain(|era| era.outstanding_count > 0);
            self.eras.push(Era { number, image, outstanding_count: 0 });
        }
    }

    /// Begins what `request` needs next. Its end comes later, or is here.
    fn begin(&mut self, slot: u32) {
        let Some(request) = &mut self.requests[slot as usize] else { unreachable!("a slot that is in use") };
        let number = request.era;
        let Some(era) = self.eras.iter_mut().find(|era| era.number == number) else {
            unreachable!("an era stays as long as an operation of it")
        };
        if let Err(refusal) = era.image.begin(request.call(), &self.slots[slot as usize]) {
            let Next::Done(result) = request.advance(refusal) else { unreachable!("an error is the end") };
            let completion = Completion { token: request.token, result };
            self.finished.push_back(completion);
            self.end(slot, refusal);
        }
    }

    /// The operation in `slot` has come to its end, with `result`.
    fn end(&mut self, slot: u32, result: i64) {
        let Some(request) = self.requests[slot as usize].take() else { unreachable!("a slot that is in use") };
        self.free.push(slot);
        let is_fenced = self.shared.is_fenced;
        if let Some(at) = self.eras.iter().position(|era| era.number == request.era) {
            let era = &mut self.eras[at];
            era.outstanding_count -= 1;
            if is_fenced_out(result, is_fenced) {
                era.image.lose();
            }
            if era.outstanding_count == 0 && at + 1 < self.eras.len() {
                self.eras.remove(at);
            }
        }
    }

    fn start(&mut self, operation: &Operation) -> Result<(), DeviceError> {
        let extent = extent::extent(&self.geometry, operation)?;
        let is_fenced = self.shared.is_fenced;
        let era = self.era();
        if !era.image.standing().serves() {
            return Err(DeviceError::PathLost);
        }
        let request = Request::new(operation, extent, era.number, is_fenced)?;
        era.outstanding_count += 1;
        let Some(slot) = self.free.pop() else { unreachable!("fewer operations than slots") };
        self.requests[slot as usize] = Some(request);
        self.begin(slot);
        Ok(())
    }
}

impl Channel for RbdChannel {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        self.catch_up();
        self.geometry.block_count = self.shared.size.now();
        while self.outstanding_count() < self.slots.len()
            && let Some(operation) = operations.pop_front()
        {
            if let Err(error) = self.start(&operation) {
                self.finished.push_back(Completion { token: operation.token, result: Err(error) });
            }
        }
    }

    fn poll(&mut self, _now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let had_len = completions.len();
        let mut again = false;
        while let Some((slot, result)) = self.ended.take() {
            let Some(request) = &mut self.requests[slot as usize] else { unreachable!("one end for each call") };
            match request.advance(result) {
                Next::Call(_) => {
                    self.begin(slot);
                    again = true;
                }
                Next::Done(done) => {
                    completions.push(Completion { token: request.token, result: done });
                    self.end(slot, result);
                }
            }
        }
        completions.extend(self.finished.drain(..));
        Progress::busy_if(again || completions.len() > had_len)
    }

    fn outstanding_count(&self) -> usize {
        self.slots.len() - self.free.len() + self.finished.len()
    }

    fn arm(&mut self) -> Rest {
        if !self.finished.is_empty() {
            return Rest::Poll;
        }
        if self.free.len() == self.slots.len() {
            return Rest::Sleep;
        }
        self.ended.arm()
    }

    fn disarm(&mut self) {
        self.ended.disarm();
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        Some(self.ended.descriptor())
    }
}

impl Drop for RbdChannel {
    fn drop(&mut self) {
        let count = self.slots.len() - self.free.len();
        if count > 0 {
            tracing::error!(count, "a channel is closed with operations in librbd");
        }
    }
}
