//! One CPU's data path: `nvmf_core::Transport` over a port. Steps 1, 6, 8 and 9 of the walk.
//!
//! | part | what it does |
//! |---|---|
//! | here | what the walk calls; receives |
//! | `arrivals` | completions become arrivals |
//! | `posting` | transfers and responses become work requests, or wait for room |
//!
//! Owned by its CPU. Nothing here allocates once a queue pair is made. What fails ends its queue pair: that is noted in `endings`, and
//! the teardown begins after the batch, so that no body goes away while completions of the same batch still name it.
//!
//! Invariants:
//! 1. A receive is posted again before the response of its command is (the NVMe layer gives it back first): a host that sends within its
//!    depth never finds the queue empty.
//! 2. Nothing is posted but by a live queue pair ([`Live`]), which has the permits; and a marker by one that drains.
//! 3. After a request that the device refused nothing more is posted for its queue pair: a response must not follow a push that was not posted.

mod arrivals;
mod posting;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use nvmf_core::defect::{self, Defect};
use nvmf_core::transport::{RemoteBuffer, Slot};
use nvmf_core::{Arrival, DisconnectReason, Qpair, Receive, Transport};
use reactor::{Handle, Progress, RegionId, Segment, Turn};

use super::body::{Bodies, Body, Work};
use super::counters::CpuCounters;
use super::fitting::Fitting;
use super::region::RegionKeys;
use super::shared_receive::SharedReceives;
use crate::binding::{WorkKind, WorkRequestId};
use crate::teardown::{Live, Returns, Swept};
use crate::verbs::{Completion, Port, PostError};

/// Completions taken in one poll: bounds a turn, and is what one doorbell pays for.
const POLL_LIMIT: usize = 256;

/// What a data path is made of.
pub(super) struct DataPathOptions<Q> {
    pub(super) fitting: Fitting<Q>,
    pub(super) queue_pair_count_max: usize,
    /// Indices of one queue pair in `wr_id`s, as a power of two: at least its slots and its receives.
    pub(super) index_shift: u32,
    /// 16 bytes for each slot that can be named.
    pub(super) responses: Segment,
    pub(super) shared: Option<SharedReceives>,
    pub(super) counters: Arc<CpuCounters>,
}

/// See the module.
pub(super) struct DataPath<Q: Port> {
    pub(super) port: Q,
    pub(super) bodies: Bodies,
    pub(super) shared: Option<SharedReceives>,
    pub(super) counters: Arc<CpuCounters>,
    /// Queue pairs whose teardown is to begin, and why.
    pub(super) endings: Vec<(Handle<Qpair>, DisconnectReason)>,
    completion_count: usize,
    index_shift: u32,
    responses: Segment,
    keys: RegionKeys,
    transfer_len_max: u32,
    inline_responses: bool,
    /// How the drain of its queue pairs is proven.
    pub(super) raises_last_wqe: bool,
    /// Whether what is posted comes back.
    pub(super) returns: Returns,
    completions: Vec<Completion>,
    /// Arrivals that were found outside of the walk, or need no wire.
    early: Vec<Arrival>,
    doorbell: Doorbell,
    queue: CompletionQueue,
}

/// Whether something was posted since the last ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doorbell {
    Silent,
    Due,
}

/// How the last poll left the completion queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CompletionQueue {
    MayHold,
    Empty,
}

impl<Q: Port> DataPath<Q> {
    pub(super) fn new(options: DataPathOptions<Q>) -> Self {
        let Fitting { port, keys, completion_count, transfer_len_max, inline_responses, raises_last_wqe } =
            options.fitting;
        let mut path = Self {
            port,
            bodies: Bodies::new(options.queue_pair_count_max),
            shared: options.shared,
            counters: options.counters,
            endings: Vec::with_capacity(options.queue_pair_count_max),
            completion_count,
            index_shift: options.index_shift,
            responses: options.responses,
            keys,
            transfer_len_max,
            inline_responses,
            raises_last_wqe,
            returns: Returns::Come,
            completions: Vec::with_capacity(POLL_LIMIT),
            early: Vec::new(),
            doorbell: Doorbell::Silent,
            queue: CompletionQueue::MayHold,
        };
        path.post_shared_receives();
        path
    }

    /// The device that was removed is back, and let go of everything that was posted to it: no queue pair is here, and no receive but on the new port. Gives
    /// the old port back.
    pub(super) fn refit(&mut self, fitting: Fitting<Q>) -> Q {
        // Of queue pairs that are gone: their receives are free.
        let mut late = Vec::new();
        self.hand_over_early(&mut late);
        let old = std::mem::replace(&mut self.port, fitting.port);
        self.keys = fitting.keys;
        self.completion_count = fitting.completion_count;
        self.transfer_len_max = fitting.transfer_len_max;
        self.inline_responses = fitting.inline_responses;
        self.raises_last_wqe = fitting.raises_last_wqe;
        self.returns = Returns::Come;
        self.queue = CompletionQueue::MayHold;
        if let Some(shared) = &mut self.shared {
            shared.take_all_back();
            self.counters.shared_receives_posted.set(0);
            self.counters.shared_receives_unaccounted.set(0);
        }
        self.post_shared_receives();
        old
    }

    /// The device knows more memory, or less: nothing of that is on its way.
    pub(super) fn note_memory(&mut self, region: RegionId, key: Option<u32>) {
        match key {
            Some(key) => self.keys.insert(region, key),
            None => self.keys.remove(region),
        }
    }

    /// All of the shared receive queue's, which are out.
    fn post_shared_receives(&mut self) {
        let count = self.shared.as_ref().map_or(0, SharedReceives::count);
        for index in 0..count {
            self.repost_shared(index);
        }
        self.ring();
    }

    /// Takes completions until there are none, or as many as the queue has entries: whatever was in it before was then seen. What they bring
    /// comes with the next poll.
    pub(super) fn sweep(&mut self, now_ns: u64) -> Swept {
        let mut early = std::mem::take(&mut self.early);
        let mut taken = 0;
        loop {
            taken += self.take_completions(now_ns, &mut early);
            if self.queue == CompletionQueue::Empty || taken >= self.completion_count {
                break;
            }
        }
        self.early = early;
        Swept::completion_queue_was_emptied()
    }

    /// Whether the next poll has something to do that came from nowhere else.
    pub(super) fn has_begun(&self) -> bool {
        !self.early.is_empty() || !self.endings.is_empty() || self.queue == CompletionQueue::MayHold
    }

    /// The last poll found the end of the queue.
    pub(super) fn completion_queue_is_empty(&self) -> bool {
        self.queue == CompletionQueue::Empty
    }

    /// Posts a new queue pair's receives. False if the device refuses one: the queue pair is to end.
    pub(super) fn post_first_receives(&mut self, qpair: Handle<Qpair>) -> bool {
        let Some(body) = self.bodies.look_mut(qpair) else { return false };
        for index in 0..body.work.receives.buffers.len() {
            let Some((live, work)) = body.live_mut() else { return false };
            if post_own_receive(&mut self.port, &self.keys, self.index_shift, (live, work), index).is_err() {
                return false;
            }
        }
        self.doorbell = Doorbell::Due;
        true
    }

    /// Posts the last request of a draining queue pair, if it is time: a WRITE of nothing, which touches no memory at either side. If the device
    /// refuses it, what is posted comes back by itself, or the deadline decides. `None` if it is not time.
    pub(super) fn post_marker(&mut self, qpair: Handle<Qpair>) -> Option<Result<(), PostError>> {
        let body = self.bodies.look_mut(qpair)?;
        let name = body.work.name;
        let draining = body.draining_mut()?;
        let permit = draining.take_marker()?;
        let id = request_id(self.index_shift, WorkKind::Marker, qpair, 0);
        self.doorbell = Doorbell::Due;
        let posted = posting::post_marker(&mut self.port, name, id);
        match posted {
            Ok(()) => body.work.posted.push(permit, true),
            Err(error) => {
                tracing::debug!(?qpair, ?error, "no marker");
                draining.marker_refused(permit);
            }
        }
        Some(posted)
    }

    /// Gives the receives of capsules that wait for a slot back: the queue pair drains, and they will never get one.
    pub(super) fn drop_waiting_capsules(&mut self, qpair: Handle<Qpair>) {
        while let Some(body) = self.bodies.look_mut(qpair) {
            let Some(capsule) = body.work.waiting_capsules.pop_front() else { break };
            body.work.commands.give(capsule.command);
            if self.shared.is_some() && !defect::is(Defect::WaitingCapsulesKeepReceives) {
                self.repost_shared(capsule.receive);
            }
        }
    }

    /// The queue pair was destroyed, and the completion queue swept: no completion carries its number any more. What it swallowed of the shared
    /// receives is posted anew as soon as that is certain.
    pub(super) fn forget_number(&mut self, number: u32, qpair: Handle<Qpair>) {
        let Some(shared) = &mut self.shared else { return };
        shared.remove(number, qpair);
        for index in shared.recover() {
            self.counters.shared_receives_posted.sub(1);
            self.counters.shared_receives_recovered.add(1);
            self.repost_shared(index);
        }
        self.retry_refused();
        let passed_count = self.shared.as_ref().map_or(0, SharedReceives::passed_count);
        self.counters.shared_receives_unaccounted.set(passed_count);
    }

    /// What was found outside of the walk. A teardown may have begun since: then it is dropped.
    fn hand_over_early(&mut self, arrivals: &mut Vec<Arrival>) {
        let mut early = std::mem::take(&mut self.early);
        for arrival in early.drain(..) {
            let (Arrival::Command { qpair, .. } | Arrival::Pulled { qpair, .. } | Arrival::Finished { qpair, .. }) =
                &arrival;
            if self.bodies.look(*qpair).is_some_and(Body::is_live) {
                arrivals.push(arrival);
            } else if let Arrival::Command { receive, .. } = arrival {
                self.consumed(receive);
            }
        }
        self.early = early;
    }

    /// A receive of the shared queue is free again. Where the device takes it, it takes one that it refused before too.
    fn repost_shared(&mut self, index: u32) {
        if self.post_shared(index)
            && let Some(refused) = self.shared.as_mut().and_then(SharedReceives::next_refused)
        {
            self.post_shared(refused);
        }
    }

    /// Tries whatever the device refused before: when queue pairs come and go, since no completion may bring a try otherwise.
    pub(super) fn retry_refused(&mut self) {
        while let Some(refused) = self.shared.as_mut().and_then(SharedReceives::next_refused) {
            if !self.post_shared(refused) {
                return;
            }
        }
    }

    /// Whether the device took it.
    fn post_shared(&mut self, index: u32) -> bool {
        let Some(shared) = &mut self.shared else { return false };
        let generation = shared.post(index);
        let id = WorkRequestId { kind: WorkKind::SharedReceive, index, generation };
        let posted = match self.keys.local(shared.segment(index)) {
            Some(segment) => self.port.post_shared_receive(id.to_bits(), &[segment]),
            None => Err(PostError::Malformed),
        };
        match posted {
            Ok(()) => {
                self.doorbell = Doorbell::Due;
                self.counters.shared_receives_posted.add(1);
                true
            }
            Err(_) => {
                shared.post_failed(index);
                false
            }
        }
    }

    /// Index and slot (or receive) of a `wr_id` or permit.
    #[inline]
    fn split(&self, index: u32) -> (u32, u32) {
        (index >> self.index_shift, index & ((1 << self.index_shift) - 1))
    }
}

impl<Q: Port> Transport for DataPath<Q> {
    fn poll<M>(&mut self, turn: &mut Turn<'_, M>, arrivals: &mut Vec<Arrival>) -> Progress {
        let early = !self.early.is_empty();
        if early {
            self.hand_over_early(arrivals);
        }
        let taken = self.take_completions(turn.now_ns(), arrivals);
        Progress::busy_if(early || taken > 0)
    }

    fn consumed(&mut self, receive: Receive) {
        if self.shared.is_some() {
            return self.repost_shared(receive.id);
        }
        let (index, number) = self.split(receive.id);
        let Some(body) = self.bodies.at_mut(index as usize) else {
            return self.counters.stale_handles.add(1);
        };
        let Some((live, work)) = body.live_mut() else { return };
        self.doorbell = Doorbell::Due;
        if post_own_receive(&mut self.port, &self.keys, self.index_shift, (live, work), number as usize).is_err() {
            body.break_off();
            self.endings.push((body.work.handle, DisconnectReason::TransportError));
        }
    }

    fn pull(&mut self, qpair: Handle<Qpair>, slot: Slot, from: RemoteBuffer, into: Segment) {
        self.begin_pull(qpair, slot, from, into);
    }

    fn push(&mut self, qpair: Handle<Qpair>, slot: Slot, from: Segment, to: RemoteBuffer) {
        self.begin_push(qpair, slot, from, to);
    }

    fn respond(&mut self, qpair: Handle<Qpair>, slot: Slot, response: [u8; 16], invalidate: Option<u32>) {
        self.begin_response(qpair, slot, response, invalidate);
    }

    fn ring(&mut self) {
        if self.doorbell == Doorbell::Due {
            self.port.ring();
            self.doorbell = Doorbell::Silent;
        }
    }

    fn is_registered(&self, region: RegionId) -> bool {
        self.keys.key(region).is_some()
    }

    fn disconnect(&mut self, qpair: Handle<Qpair>, reason: DisconnectReason) {
        self.endings.push((qpair, reason));
    }
}

/// Posts receive `number` of a queue pair's own receive queue. It has its permit until it comes back.
// Always: there are two callers, and one is called for each command.
#[inline(always)]
fn post_own_receive<Q: Port>(
    port: &mut Q,
    keys: &RegionKeys,
    index_shift: u32,
    (live, work): (&mut Live, &mut Work),
    number: usize,
) -> Result<(), PostError> {
    let receives = &mut work.receives;
    let (Some(buffer), Some(posted)) = (receives.buffers.get(number), receives.posted.get_mut(number)) else {
        return Err(PostError::Malformed);
    };
    let Some(segment) = keys.local(buffer.segment()) else { return Err(PostError::Malformed) };
    assert!(posted.is_none(), "receive {number} of {:?} is posted already", work.handle);
    // There are as many as buffers.
    let Some(permit) = live.allowance().receives.take() else { return Err(PostError::QueueFull) };
    let id = request_id(index_shift, WorkKind::Receive, work.handle, u32::try_from(number).unwrap_or(u32::MAX));
    match port.post_receive(work.name, id, &[segment]) {
        Ok(()) => {
            *posted = Some(permit);
            Ok(())
        }
        Err(error) => {
            live.allowance().receives.give(permit);
            Err(error)
        }
    }
}

/// The `wr_id` of a queue pair's slot or receive. The limits were checked when the target was built.
#[inline]
fn request_id(index_shift: u32, kind: WorkKind, qpair: Handle<Qpair>, number: u32) -> u64 {
    WorkRequestId { kind, index: permit_id(index_shift, qpair, number), generation: qpair.generation() }.to_bits()
}

/// A queue pair's slot or receive as one number, unique on its CPU.
#[inline]
fn permit_id(index_shift: u32, qpair: Handle<Qpair>, number: u32) -> u32 {
    // Handles' indices are below 2^24.
    let index = (qpair.to_bits() & 0xFF_FFFF) as u32;
    index << index_shift | number
}
