//! Commands of hosts whose registration was preempted end on this CPU before the preemption is answered [NVMe Base 2.0, 7.2 and 8.19, Preempt and Abort].
//!
//! The order comes when every CPU lets commands in by the new state, so those that are meant are a fixed set. Of these
//! - what waits (for a buffer, for a pause) ends at once;
//! - what is being pulled ends when its data is there, instead of going to the device, and what is done piece by piece with its next piece;
//! - what a device has is waited for, also where its qpair drains meanwhile: the device may still write.
//!
//! Reservation commands are not among them: the control plane has ruled on those that came before, and will rule on the others by the new state.

use reactor::{Handle, Turn};

use super::PollGroup;
use super::buffers::RequestName;
use crate::Qpair;
use crate::command::{Command, IoCommand, IoKind};
use crate::defect::{self, Defect};
use crate::message::{Letter, Message};
use crate::qpair::request::RequestState;
use crate::qpair::{Membership, QpairBody, Stage};
use crate::reservation::HostNumber;
use crate::status::Status;
use crate::subsystem::{Subject, SubsystemId};
use crate::target::ChangeId;

/// An order whose commands have not all ended.
pub(super) struct Eviction {
    change: ChangeId,
    /// With the number of the command in the slot: the slot may have another one by now.
    requests: Vec<(RequestName, u32)>,
}

impl PollGroup {
    /// Ends what can be ended, and remembers the rest. It is answered now or at the end of the walk in which the last of them ends.
    pub(super) fn evict<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        change: ChangeId,
        (subsystem, nsid): (SubsystemId, u32),
        hosts: &[HostNumber],
    ) {
        let is_meant = |(_, body): &(Handle<Qpair>, &QpairBody)| match &body.stage {
            Stage::Io { lease } | Stage::Draining { membership: Membership::Member(lease) } => {
                lease.subject() == Subject::Nvm(subsystem) && hosts.contains(&lease.host())
            }
            Stage::AwaitingConnect { .. }
            | Stage::Connecting { .. }
            | Stage::Admin { .. }
            | Stage::Draining { membership: Membership::None | Membership::Owner(_) } => false,
        };
        let qpairs: Vec<Handle<Qpair>> = self.qpairs.iter().filter(is_meant).map(|(handle, _)| handle).collect();
        let (mut waiting, mut requests) = (Vec::new(), Vec::new());
        for handle in qpairs {
            let Some(body) = self.qpairs.look_mut(handle) else { continue };
            for slot in body.slots() {
                let request = body.request(slot);
                let Ok(Command::Io(IoCommand { nsid: of, kind, .. })) = request.command else { continue };
                if of != nsid || matches!(kind, IoKind::Reservation(_)) {
                    continue;
                }
                if matches!(request.state, RequestState::WaitingBuffer | RequestState::Parked) {
                    waiting.push((handle, slot));
                } else if request.state.is_under_way() && !defect::is(Defect::EvictionForgetsTheDevice) {
                    // Looked at when its data is there, or a piece of it is done.
                    request.status = Status::ABORTED_PREEMPT;
                    requests.push(((handle, slot), request.number));
                }
            }
        }
        self.buffers.forget(|name| waiting.contains(&name));
        self.parking.forget(|name| waiting.contains(&name));
        self.gate.forget(|name| waiting.contains(&name));
        for name in waiting {
            // The end of a pair's first command is the end of its second.
            let state = self.qpairs.look_mut(name.0).map(|body| body.request(name.1).state);
            if !matches!(state, Some(RequestState::WaitingBuffer | RequestState::Parked)) {
                continue;
            }
            if let Some(host) = self.qpairs.look(name.0).map(|qpair| qpair.host) {
                self.hosts.forget(host, |waiting| waiting == name);
            }
            self.complete(name, Status::ABORTED_PREEMPT, 0);
        }
        self.evictions.push(Eviction { change, requests });
        self.answer_evictions(turn);
    }

    /// Answers the orders whose last command has ended.
    pub(super) fn answer_evictions<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>) {
        if self.evictions.is_empty() {
            return;
        }
        let mut evictions = std::mem::take(&mut self.evictions);
        evictions.retain_mut(|eviction| {
            eviction.requests.retain(|(name, number)| self.is_under_way(*name, *number));
            if eviction.requests.is_empty() {
                turn.send(self.control, Message(Letter::Obeyed { change: eviction.change, way: None }).into());
            }
            !eviction.requests.is_empty()
        });
        self.evictions = evictions;
    }

    fn is_under_way(&mut self, (handle, slot): RequestName, number: u32) -> bool {
        self.qpairs.look_mut(handle).is_some_and(|body| {
            let request = body.request(slot);
            request.number == number && request.state.is_under_way()
        })
    }

    /// Whether an eviction may have ended outside of the walk, when a qpair began to drain: asked before this CPU sleeps.
    pub(super) fn has_eviction_due(&mut self) -> bool {
        let evictions = std::mem::take(&mut self.evictions);
        let is_due = evictions
            .iter()
            .any(|eviction| !eviction.requests.iter().any(|(name, number)| self.is_under_way(*name, *number)));
        self.evictions = evictions;
        is_due
    }
}
