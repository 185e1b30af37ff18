//! Steps 8 and 9: data goes to the host, receive permits go back, responses are posted; and the one place where a request gives back what it
//! holds.

use reactor::Progress;

use super::PollGroup;
use super::buffers::RequestName;
use super::hosts::Hosts;
use crate::failure::Failure;
use crate::lock::Gate;
use crate::qpair::request::{Request, RequestEvent, RequestState, Told};
use crate::transport::Transport;

impl PollGroup {
    /// Posts data and response of every request that was completed.
    pub(super) fn respond<T: Transport>(&mut self, transport: &mut T) -> Progress {
        let did = !self.completed.is_empty();
        let mut completed = std::mem::take(&mut self.completed);
        for (handle, slot) in completed.drain(..) {
            let Some(qpair) = self.qpairs.look_mut(handle) else { continue };
            // Its qpair may have begun to drain since.
            if qpair.request(slot).state != RequestState::Completed {
                continue;
            }
            let sq_head = qpair.head();
            let request = qpair.request(slot);
            if let Some((from, to)) = request.push.take() {
                for (part, buffer) in request.transfers(to, 0, from) {
                    transport.push(handle, slot, part, buffer);
                }
            }
            // Before the response: with it the host may use the receive again.
            request.capsule_data = None;
            if let Some(receive) = request.receive.take() {
                transport.consumed(receive);
            }
            if !request.status.is_success() {
                self.counters.error_count.add(1);
                self.counters.errors.add(request.status);
                if Failure::is_worth_telling(request.status) {
                    let Told { nsid, lba, location } = request.told;
                    let (command_id, status) = (request.command_id, request.status);
                    let sqid = qpair.spec.qid;
                    self.failures.push((handle, Failure { sqid, command_id, status, location, nsid, lba }));
                }
            }
            let request = qpair.request(slot);
            transport.respond(handle, slot, request.response(sq_head), request.invalidate);
            qpair.must_advance(slot, RequestEvent::Respond);
        }
        self.completed = completed;
        Progress::busy_if(did)
    }

    /// Gives back all that a request still holds. The caller has seen to it that nothing can touch its data any more.
    pub(super) fn give_back<T: Transport>(&mut self, transport: &mut T, (handle, slot): RequestName) {
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let request = qpair.request(slot);
        request.capsule_data = None;
        request.push = None;
        if let Some(buffer) = request.buffer.take() {
            self.buffers.give(buffer);
        }
        if let Some(lease) = request.lease.take() {
            self.devices.give(lease);
        }
        Self::give_way(request, &mut self.hosts, &mut self.gate);
        if let Some(receive) = request.receive.take() {
            transport.consumed(receive);
        }
        self.requests_live -= 1;
    }

    /// What others may wait for who are on blocks themselves goes back: the request's blocks, and what its host may have in flight.
    pub(super) fn give_way(request: &mut Request, hosts: &mut Hosts, gate: &mut Gate<RequestName>) {
        if let Some(share) = request.share.take() {
            hosts.give(share);
        }
        if let Some(claim) = request.claim.take() {
            gate.give(claim);
        }
    }
}
