//! A qpair's body: its stage, its requests, its submission queue's head. Owned by its CPU's poll group, which alone changes it.
//!
//! Invariants: every change of a request's state goes through [`QpairBody::advance`], which keeps the count of what is awaited; a qpair is
//! closed only when that count is zero and every request is free.

pub(crate) mod authentication;
pub(crate) mod header;
pub(crate) mod request;

use std::collections::VecDeque;

use reactor::{Handle, TimerId};

use crate::ControllerKind;
use crate::command::{Connect, QueueKind};
use crate::failure::FailureReports;
use crate::limits::SLOTS_PER_ENTRY;
use crate::membership::ControllerLease;
use crate::poll_group::HostIndex;
use crate::subsystem::Subject;
use crate::transport::{DisconnectReason, QpairSpec, Slot};
use authentication::Authentication;
use request::{Request, RequestEvent, RequestState};

/// Where a qpair is in its life. Consumed by value at each step.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The connection stands; the first Connect has not come, or one was refused.
    AwaitingConnect {
        /// Ends the wait.
        timer: TimerId,
    },
    /// A Connect was fetched and is not answered. What else comes waits behind it.
    Connecting {
        /// Ends the wait.
        timer: TimerId,
        /// Which request it is.
        slot: Slot,
        /// What it is to, once that was checked: from then on a withdrawal ends it.
        subject: Option<Subject>,
        /// What it has come to hold.
        membership: Membership,
    },
    /// Admin queue of a controller on this CPU.
    Admin {
        /// Which.
        controller: Handle<ControllerKind>,
    },
    /// I/O queue of a controller on some CPU.
    Io {
        /// Held until the qpair is reaped. Also says whose namespaces are served.
        lease: ControllerLease,
    },
    /// It ends: nothing is started any more.
    Draining {
        /// What goes home when it is closed.
        membership: Membership,
    },
}

/// What ties a qpair to a controller.
#[derive(Debug)]
pub(crate) enum Membership {
    /// Nothing.
    None,
    /// It is the controller's admin queue.
    Owner(Handle<ControllerKind>),
    /// It is a member.
    Member(ControllerLease),
}

/// SQHD [NVMe over Fabrics 1.1, 2.4]: advanced when a command is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubmissionHead {
    /// The host looks at it.
    Counted {
        /// Where the next command would come from.
        head: u16,
        /// Entries.
        size: u16,
    },
    /// The host switched flow control off at Connect.
    Uncounted,
}

impl SubmissionHead {
    /// What responses carry where flow control is off.
    pub(crate) const UNCOUNTED_FIELD: u16 = 0xFFFF;

    fn fetched(self) -> Self {
        match self {
            Self::Counted { head, size } => Self::Counted { head: if head + 1 >= size { 0 } else { head + 1 }, size },
            Self::Uncounted => Self::Uncounted,
        }
    }

    /// As responses carry it.
    pub(crate) fn field(self) -> u16 {
        match self {
            Self::Counted { head, .. } => head,
            Self::Uncounted => Self::UNCOUNTED_FIELD,
        }
    }
}

/// One qpair, on its CPU.
pub(crate) struct QpairBody {
    /// As the transport announced it.
    pub(crate) spec: QpairSpec,
    /// Where it is.
    pub(crate) stage: Stage,
    /// Whose commands its own count with on this CPU.
    pub(crate) host: HostIndex,
    /// The same host, as devices know it: 0 before its Connect.
    pub(crate) host_key: u64,
    /// Commands that came while a Connect was not answered, in order.
    pub(crate) stalled: VecDeque<Slot>,
    /// Disconnect or the end of an authentication was answered in this slot: when that response is sent, the qpair ends, for this reason.
    pub(crate) last_slot: Option<(Slot, DisconnectReason)>,
    /// Where the host has to authenticate.
    pub(crate) authentication: Option<Box<Authentication>>,
    /// What its controller's error log has still to be told.
    pub(crate) failures: FailureReports,
    /// The first command of a pair, whose second is to come next.
    pub(crate) fusing: Option<Slot>,
    head: SubmissionHead,
    requests: Box<[Request]>,
    awaited_count: usize,
    live_count: usize,
}

impl QpairBody {
    /// Allocates its requests.
    pub(crate) fn new(spec: QpairSpec, timer: TimerId) -> Self {
        let slot_count = usize::from(spec.depth) * usize::from(SLOTS_PER_ENTRY);
        let mut requests = Vec::new();
        requests.resize_with(slot_count, Request::new);
        Self {
            stage: Stage::AwaitingConnect { timer },
            host: HostIndex::STRANGERS,
            host_key: 0,
            stalled: VecDeque::with_capacity(slot_count),
            last_slot: None,
            authentication: None,
            failures: FailureReports::default(),
            fusing: None,
            head: SubmissionHead::Counted { head: 0, size: spec.depth },
            requests: requests.into_boxed_slice(),
            awaited_count: 0,
            live_count: 0,
            spec,
        }
    }

    /// What opcodes mean here.
    pub(crate) fn kind(&self) -> QueueKind {
        if self.spec.qid == 0 { QueueKind::Admin } else { QueueKind::Io }
    }

    /// Whether it has begun to end.
    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.stage, Stage::Draining { .. })
    }

    /// A request. Panics on a slot that the transport cannot have given.
    pub(crate) fn request(&mut self, slot: Slot) -> &mut Request {
        &mut self.requests[usize::from(slot)]
    }

    /// Request slots.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        0..u16::try_from(self.requests.len()).unwrap_or(Slot::MAX)
    }

    /// Moves a request on. `None`, and nothing changed, where the table has no such step.
    pub(crate) fn advance(&mut self, slot: Slot, event: RequestEvent) -> Option<RequestState> {
        let request = &mut self.requests[usize::from(slot)];
        let was = request.state;
        let next = was.next(event)?;
        request.state = next;
        self.awaited_count = self.awaited_count + usize::from(next.is_awaited()) - usize::from(was.is_awaited());
        self.live_count =
            self.live_count + usize::from(next != RequestState::Free) - usize::from(was != RequestState::Free);
        Some(next)
    }

    /// Moves a request on where the table must have the step.
    pub(crate) fn must_advance(&mut self, slot: Slot, event: RequestEvent) -> RequestState {
        let was = self.requests[usize::from(slot)].state;
        let next = self.advance(slot, event);
        assert!(next.is_some(), "request {slot}: {event:?} in {was:?}");
        next.unwrap_or(was)
    }

    /// A command was fetched.
    pub(crate) fn count_fetched(&mut self) {
        self.head = self.head.fetched();
    }

    /// SQHD now.
    pub(crate) fn head(&self) -> u16 {
        self.head.field()
    }

    /// Connect succeeded: the queue has this size from now on. Connect itself has been fetched.
    pub(crate) fn size_queue(&mut self, connect: &Connect) {
        self.head = if connect.sq_flow_control_disabled {
            SubmissionHead::Uncounted
        } else {
            let size = u16::try_from(connect.entry_count).unwrap_or(u16::MAX);
            let head = if let SubmissionHead::Counted { head, .. } = self.head { head % size } else { 0 };
            SubmissionHead::Counted { head, size }
        };
    }

    /// Requests that a device or another CPU must give back first.
    pub(crate) fn awaited_count(&self) -> usize {
        self.awaited_count
    }

    /// Slots in use.
    pub(crate) fn live_count(&self) -> usize {
        self.live_count
    }

    /// A Connect was fetched.
    pub(crate) fn begin_connecting(&mut self, slot: Slot) {
        if let Stage::AwaitingConnect { timer } = self.stage {
            self.stage = Stage::Connecting { timer, slot, subject: None, membership: Membership::None };
        }
    }

    /// Takes the stage out, to put the next one in.
    pub(crate) fn take_stage(&mut self) -> Stage {
        std::mem::replace(&mut self.stage, Stage::Draining { membership: Membership::None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_wraps_at_the_size() {
        let mut head = SubmissionHead::Counted { head: 0, size: 3 };
        let seen: Vec<_> = (0..5)
            .map(|_| {
                head = head.fetched();
                head.field()
            })
            .collect();
        assert_eq!(seen, [1, 2, 0, 1, 2]);
        assert_eq!(SubmissionHead::Uncounted.fetched().field(), 0xFFFF);
    }
}
