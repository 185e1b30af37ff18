//! Fused operations: two commands, one behind the other in their queue, that are one [NVMe Base 2.0, 3.4.2].
//!
//! The one that there is, is Compare and Write [NVM Command Set 1.0, 2.1.3]. The first command waits, parked, until the next one of its queue comes. If that is
//! its second, the pair asks for the lock on its blocks ([`crate::lock`]); with it the comparison is made, and if that succeeds, the write. Each
//! has its own response:
//!
//! | | Compare | Write |
//! |---|---|---|
//! | the other command is missing, or the two are no pair that is known | missing fused command | missing fused command |
//! | they are on different blocks, or the subsystem is one that other targets offer too | invalid field | invalid field |
//! | the comparison fails or cannot be made | its status | failed fused command |
//! | the write cannot be made, which is seen before | failed fused command | its status |
//! | the write fails later | success | its status |
//!
//! The lock is given back when the last operation under it has ended, whether its qpair lives or drains.

use super::PollGroup;
use super::buffers::RequestName;
use crate::command::{Command, Fuse, IoCommand, IoKind};
use crate::defect::{self, Defect};
use crate::lock::{LockName, Span};
use crate::namespace::Namespace;
use crate::qpair::request::{Fusion, Hold, RequestEvent, RequestState};
use crate::status::Status;
use crate::subsystem::Subsystem;
use crate::transport::Slot;

impl PollGroup {
    /// A command of an I/O queue was fetched: whether it may go into the batch as one that stands alone. What is fused is taken from here.
    pub(super) fn pair(&mut self, (handle, slot): RequestName, fuse: Fuse) -> bool {
        let Some(qpair) = self.qpairs.look_mut(handle) else { return false };
        match (qpair.fusing.take(), fuse) {
            (None, Fuse::Alone) => return true,
            (Some(first), Fuse::Second) => {
                qpair.request(first).fusion = Fusion::First { second: Some(slot), hold: Hold::Nothing };
                qpair.request(slot).fusion = Fusion::Second { first: Some(first), hold: Hold::Nothing };
                qpair.must_advance(first, RequestEvent::Unpark);
                qpair.must_advance(slot, RequestEvent::Park);
                self.io_batch.push((handle, first));
                return false;
            }
            (None, Fuse::Second) => self.complete((handle, slot), Status::ABORTED_FUSED_MISSING, 0),
            (first, Fuse::First) => {
                qpair.fusing = Some(slot);
                qpair.must_advance(slot, RequestEvent::Park);
                self.complete_missing(handle, first);
            }
            (first, Fuse::Alone) => {
                self.complete_missing(handle, first);
                return true;
            }
        }
        false
    }

    fn complete_missing(&mut self, handle: reactor::Handle<crate::Qpair>, first: Option<Slot>) {
        if let Some(first) = first {
            self.complete((handle, first), Status::ABORTED_FUSED_MISSING, 0);
        }
    }

    /// The first command of a pair begins: whether it goes on as a command with its lock. If not the lock has been asked for, or the pair has ended.
    pub(super) fn begin_pair(
        &mut self,
        name: RequestName,
        (subsystem, namespace): (&Subsystem, &Namespace),
        command: &IoCommand,
        transfer_len_max: u32,
    ) -> bool {
        let (handle, slot) = name;
        let Some(qpair) = self.qpairs.look_mut(handle) else { return false };
        let Fusion::First { second, hold } = qpair.request(slot).fusion else { return true };
        let second = match (hold, second) {
            (Hold::Has { .. }, _) => return true,
            (Hold::Nothing | Hold::Asked, Some(second)) => second,
            // The second was aborted meanwhile.
            (Hold::Nothing | Hold::Asked, None) => {
                self.complete(name, Status::ABORTED_FUSED_FAILED, 0);
                return false;
            }
        };
        let end = |group: &mut Self, of_first: Status, of_second: Status| {
            // The first's end would end the second by itself, with another status.
            group.complete((handle, second), of_second, 0);
            group.complete(name, of_first, 0);
            false
        };
        // FUSES is 0 [NVMe Base 2.0, figure 275]: other targets would not know of the lock.
        if subsystem.is_shared {
            return end(self, Status::INVALID_FIELD, Status::INVALID_FIELD);
        }
        let write = match qpair.request(second).command {
            Ok(Command::Io(write)) => write,
            Ok(Command::Fabrics(_) | Command::Admin(_)) => {
                return end(self, Status::ABORTED_FUSED_MISSING, Status::ABORTED_FUSED_MISSING);
            }
            Err(status) => return end(self, Status::ABORTED_FUSED_FAILED, status),
        };
        let (IoKind::Compare { range, .. }, IoKind::Write { range: written, .. }) = (command.kind, write.kind) else {
            return end(self, Status::ABORTED_FUSED_MISSING, Status::ABORTED_FUSED_MISSING);
        };
        if range != written || command.nsid != write.nsid {
            return end(self, Status::INVALID_FIELD, Status::INVALID_FIELD);
        }
        if let Err(status) = namespace.plan(&command.kind, transfer_len_max) {
            return end(self, status, Status::ABORTED_FUSED_FAILED);
        }
        if let Err(status) = namespace.plan(&write.kind, transfer_len_max) {
            return end(self, Status::ABORTED_FUSED_FAILED, status);
        }
        let span = Span { start: range.start_block(), end: range.start_block() + u64::from(range.block_count()) };
        if defect::is(Defect::PairTakesNoLock) {
            let lock = LockName { cpu: self.cpu, qpair: handle, slot, number: 0 };
            let hold = Hold::Has { lock, device: namespace.device };
            qpair.request(slot).fusion = Fusion::First { second: Some(second), hold };
            return true;
        }
        qpair.request(slot).fusion = Fusion::First { second: Some(second), hold: Hold::Asked };
        qpair.must_advance(slot, RequestEvent::AwaitLock);
        self.ask_lock(name, namespace.device, span);
        false
    }

    /// A command of a pair has ended, here or with its qpair's drain.
    pub(super) fn fused_ended(&mut self, (handle, slot): RequestName, status: Status) {
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let fusion = std::mem::replace(&mut qpair.request(slot).fusion, Fusion::Alone);
        match fusion {
            Fusion::Alone => {
                // A first one that was aborted before its second came.
                if qpair.fusing == Some(slot) {
                    qpair.fusing = None;
                }
            }
            Fusion::First { second, hold } => {
                let waits = second.filter(|second| qpair.request(*second).state == RequestState::Parked);
                if let (Some(second), true, Hold::Has { .. }) = (waits, status.is_success(), hold) {
                    // The lock is the write's from here on, and so is the lease: a pause that comes between waits for both.
                    let lease = qpair.request(slot).lease.take();
                    let write = qpair.request(second);
                    write.fusion = Fusion::Second { first: None, hold };
                    write.lease = lease;
                    qpair.must_advance(second, RequestEvent::Unpark);
                    return self.io_batch.push((handle, second));
                }
                if let Hold::Has { lock, device } = hold {
                    self.unlock(lock, device);
                }
                if let Some(second) = waits {
                    self.complete((handle, second), Status::ABORTED_FUSED_FAILED, 0);
                }
            }
            Fusion::Second { first, hold } => {
                if let Some(first) = first
                    && let Fusion::First { second, .. } = &mut qpair.request(first).fusion
                {
                    *second = None;
                }
                if let Hold::Has { lock, device } = hold {
                    self.unlock(lock, device);
                }
            }
        }
    }

    /// A qpair has begun to drain: pairs whose commands have no operation under way end here. The others' locks are given back when those end.
    pub(super) fn drop_pairs(&mut self, handle: reactor::Handle<crate::Qpair>) {
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        qpair.fusing = None;
        for slot in qpair.slots() {
            let Some(qpair) = self.qpairs.look_mut(handle) else { return };
            let request = qpair.request(slot);
            if request.state == RequestState::Dropped && request.fusion != Fusion::Alone {
                self.fused_ended((handle, slot), Status::ABORTED_QUEUE_DELETED);
            }
        }
    }
}
