//! One polling CPU of the target: messages, the walk, and the teardown of its queue pairs.
//!
//! Owns the poll group (NVMe side), the data path (RDMA side) and the limbo in which retired bodies wait. All calls come from this CPU's
//! reactor. While it turns it makes no system call and takes no lock: what is slow is asked of the control plane by message.
//!
//! **Sleep.** All that the poll looks for comes by message, by a timer of the reactor, from the port or from a device's channel; the last two end the
//! sleep through one descriptor. What waits for room, a buffer or a proof waits for one of these.
//!
//! The teardown's steps are decided in [`crate::teardown`] and taken here, once per turn after the walk.

#[cfg(feature = "defects")]
mod defective;

use std::os::fd::RawFd;
use std::sync::Arc;

use nvmf_core::defect::{self, Defect};
use nvmf_core::poll_group::TIMER_BIT;
use nvmf_core::{DisconnectReason, PollGroup, Qpair, QpairSpec, Transport};
use reactor::{Buffer, Cpu, Full, Grace, Handle, Limbo, Name, Pool, Program, Progress, Rest, Segment, Turn};

use super::body::{Body, Life};
use super::counters::CpuCounters;
use super::fitting::Fitting;
use super::message::{ConnectionRecord, Kind, Leftovers, Message, QueuePairOf, Terms, ToControl, ToCpu};
use super::paths::Paths;
use crate::teardown::{
    AfterDestroy, DestroyResult, Destroying, Draining, Evidence, MemoryIsQuiet, Quiet, ReceiveSide, Retired, Returns,
    Swept, release,
};
use crate::trace::{self, CUT, News, RETURNED, Step};
use crate::verbs::{DeviceId, Port, Provider, VerbsError};
use crate::wake_set::WakeSet;

/// How long a drain may take until the queue pair is cut off.
pub(super) const DRAIN_DEADLINE_NS: u64 = 5_000_000_000;

/// The same where the receives are shared and the device does not raise LAST_WQE_REACHED: nothing would prove the end, so waiting
/// longer than completions can take brings nothing.
pub(super) const UNPROVABLE_DRAIN_NS: u64 = 200_000_000;

/// What a CPU is made of.
pub(super) struct TargetCpuParts<P: Provider, const SEVERAL: bool> {
    pub(super) control: Cpu,
    pub(super) group: PollGroup,
    pub(super) paths: Paths<P::Port, SEVERAL>,
    /// Buffers for queue pairs with their own receives.
    pub(super) receive_pool: Option<Pool>,
    pub(super) queue_pair_count_max: usize,
    pub(super) counters: Arc<CpuCounters>,
}

/// One polling CPU of the target.
pub struct TargetCpu<P: Provider, const SEVERAL: bool = false> {
    control: Cpu,
    group: PollGroup,
    paths: Paths<P::Port, SEVERAL>,
    /// Taken from the paths, one batch at a time.
    endings: Vec<(Handle<Qpair>, DisconnectReason)>,
    receive_pool: Option<Pool>,
    /// Queue pairs between Live and Quiet.
    draining: Vec<Handle<Qpair>>,
    /// When the teardown of each began, by the index of its handle, which is not given again before it is reaped.
    teardown_begins_ns: Box<[u64]>,
    limbo: Limbo<Retired<Box<Body>>>,
    quarantined: usize,
    presence: Presence,
    counters: Arc<CpuCounters>,
    /// The port's and the channels'.
    wakes: WakeSet,
}

/// Whether this CPU serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Serving,
    /// Told to leave: as soon as nothing is left.
    Leaving(Leftovers),
    Left,
}

impl<P: Provider, const SEVERAL: bool> TargetCpu<P, SEVERAL> {
    /// Makes a system call: before it serves.
    pub(super) fn new(parts: TargetCpuParts<P, SEVERAL>) -> Result<Self, VerbsError> {
        let wakes = WakeSet::new(
            parts.paths.all().filter_map(|path| path.port.wake_descriptor()).chain(parts.group.wake_descriptors()),
        )
        .map_err(|source| VerbsError::System { call: "epoll for a polling CPU", source })?;
        Ok(Self {
            control: parts.control,
            group: parts.group,
            paths: parts.paths,
            endings: Vec::with_capacity(parts.queue_pair_count_max),
            receive_pool: parts.receive_pool,
            draining: Vec::with_capacity(parts.queue_pair_count_max),
            teardown_begins_ns: vec![0; parts.queue_pair_count_max].into_boxed_slice(),
            // As many as there can be bodies: retiring never fails.
            limbo: Limbo::new(Grace::Messages, parts.queue_pair_count_max),
            quarantined: 0,
            presence: Presence::Serving,
            counters: parts.counters,
            wakes,
        })
    }

    /// What it sleeps on, for who gives it more.
    pub(super) fn wakes(&self) -> WakeSet {
        self.wakes.clone()
    }

    /// Buffers that are free, for receives and for data: memory that no device may touch.
    pub fn free_buffers(&self) -> impl Iterator<Item = Segment> {
        self.receive_pool.iter().flat_map(Pool::free).chain(self.group.free_buffers())
    }

    fn tell(&self, turn: &mut Turn<'_, Message<P>>, message: ToControl<P>) {
        turn.send(self.control, message.into());
    }

    fn take(&mut self, turn: &mut Turn<'_, Message<P>>, message: ToCpu<P>) {
        match message {
            ToCpu::Adopt { record, device, queue_pair, spec, terms } => {
                self.adopt(turn, record, (device, queue_pair), *spec, terms);
            }
            ToCpu::Disconnect { qpair, reason } => self.begin_teardown(turn, qpair, reason, News::Disconnect),
            ToCpu::InErrorState { qpair } => {
                self.note(turn, qpair, News::InErrorState, Draining::entered_error_state);
            }
            ToCpu::LastWqeReached { qpair } => {
                // It may come before any other sign of trouble: then it is one.
                self.begin_teardown(turn, qpair, DisconnectReason::PeerGone, News::LastWqeReached);
                self.note(turn, qpair, News::LastWqeReached, Draining::last_wqe_reached);
                if defect::is(Defect::LastWqeMessageFrees) && self.check_drain(turn, qpair) {
                    trace::applied(turn, qpair, News::LastWqeReached);
                }
            }
            ToCpu::QueuePairDestroyed { qpair, result } => self.queue_pair_destroyed(turn, qpair, result),
            ToCpu::NothingReturns { device } => self.nothing_returns(turn, device),
            ToCpu::Refit { device, fitting } => self.refit(turn, device, *fitting),
            ToCpu::Memory { device, region, key } => self.paths.on(device).note_memory(region, key),
            ToCpu::Trace { change, mut records } => {
                records.extend(turn.traced().take(records.capacity()));
                let cpu = turn.cpu();
                self.tell(turn, ToControl::Traced { cpu, change, records });
            }
            ToCpu::Stop { leftovers } => self.presence = Presence::Leaving(leftovers),
        }
    }

    /// Looks a drain up for a message or timer.
    fn note(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        qpair: Handle<Qpair>,
        news: News,
        note: impl FnOnce(&mut Draining),
    ) {
        match self.paths.of(qpair).bodies.look_mut(qpair).and_then(Body::draining_mut) {
            Some(draining) => {
                note(draining);
                trace::applied(turn, qpair, news);
            }
            None => self.miss(turn, qpair, news),
        }
    }

    /// It came too late.
    fn miss(&self, turn: &mut Turn<'_, Message<P>>, qpair: Handle<Qpair>, news: News) {
        self.counters.stale_handles.add(1);
        trace::missed(turn, qpair, news);
    }

    // Set-up.

    /// A queue pair comes in. Whatever fails after it was attached takes the teardown's path.
    fn adopt(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        record: Handle<ConnectionRecord>,
        (device, queue_pair): (DeviceId, Box<QueuePairOf<P>>),
        spec: QpairSpec,
        terms: Terms,
    ) {
        if self.paths.on(device).returns == Returns::Never {
            return self.refuse(turn, record, queue_pair);
        }
        let Some(buffers) = self.take_receive_buffers(terms) else {
            return self.refuse(turn, record, queue_pair);
        };
        let qpair = match self.group.open(turn, spec) {
            Ok(qpair) => qpair,
            Err(Full(_)) => {
                self.give_receive_buffers(buffers);
                return self.refuse(turn, record, queue_pair);
            }
        };
        self.paths.assign(qpair, device);
        let path = self.paths.on(device);
        let name = path.port.attach(*queue_pair);
        if let Some(shared) = &mut path.shared {
            shared.insert(name.number, qpair);
        }
        path.retry_refused();
        path.bodies.insert(Box::new(Body::new(qpair, record, name, terms, buffers)));
        self.counters.queue_pairs_live.add(1);
        Step::Adopted.trace(turn, qpair.to_bits(), record.to_bits());
        if self.paths.of(qpair).post_first_receives(qpair) {
            self.tell(turn, ToControl::Adopted { record, qpair });
        } else {
            #[cfg(feature = "defects")]
            if defect::is(Defect::FailedSetUpSkipsTheDrain) {
                return self.refuse_without_drain(turn, qpair);
            }
            self.begin_teardown(turn, qpair, DisconnectReason::TransportError, News::Ending);
        }
    }

    fn refuse(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        record: Handle<ConnectionRecord>,
        queue_pair: Box<QueuePairOf<P>>,
    ) {
        self.counters.refused.add(1);
        Step::Refused.trace(turn, record.to_bits(), 0);
        self.tell(turn, ToControl::Refused { record, queue_pair });
    }

    /// One more than the depth: so that a host that sends too much is seen, not just stalled.
    fn take_receive_buffers(&mut self, terms: Terms) -> Option<Vec<Buffer>> {
        let Some(pool) = &mut self.receive_pool else { return Some(Vec::new()) };
        let count = usize::from(terms.depth) + 1;
        if pool.available() < count {
            return None;
        }
        let buffers: Vec<_> = std::iter::from_fn(|| pool.take()).take(count).collect();
        self.counters.receive_buffers_live.add(count as u64);
        Some(buffers)
    }

    fn give_receive_buffers(&mut self, buffers: Vec<Buffer>) {
        let Some(pool) = &mut self.receive_pool else { return };
        self.counters.receive_buffers_live.sub(buffers.len() as u64);
        for buffer in buffers {
            pool.give(buffer);
        }
    }

    // Teardown.

    /// Live → Draining. The first trigger wins; later ones find it begun.
    fn begin_teardown(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        qpair: Handle<Qpair>,
        reason: DisconnectReason,
        news: News,
    ) {
        let path = self.paths.of(qpair);
        let is_unprovable = path.shared.is_some() && !path.raises_last_wqe;
        let returns = path.returns;
        let Some(body) = path.bodies.look_mut(qpair) else {
            return self.miss(turn, qpair, news);
        };
        let patience_ns = if is_unprovable { UNPROVABLE_DRAIN_NS } else { DRAIN_DEADLINE_NS };
        let deadline_ns = turn.now_ns() + patience_ns;
        let is_first = body.begin_drain(reason, || turn.arm(deadline_ns, qpair.to_bits()));
        if !is_first && !defect::is(Defect::EachTriggerTearsDown) {
            return trace::missed(turn, qpair, news);
        }
        let record = body.record;
        if returns == Returns::Never {
            body.draining_mut().map(Draining::nothing_returns);
        }
        trace::applied(turn, qpair, news);
        Step::DrainBegun.trace(turn, qpair.to_bits(), trace::reason_number(reason));
        tracing::debug!(?qpair, ?reason, "queue pair drains");
        self.teardown_begins_ns[qpair.index()] = turn.now_ns();
        self.counters.count_disconnect(reason);
        self.counters.draining_live.add(1);
        self.draining.push(qpair);
        self.paths.of(qpair).drop_waiting_capsules(qpair);
        self.group.begin_drain(turn, &mut self.paths, qpair, reason);
        self.tell(turn, ToControl::Disconnect { record, qpair });
    }

    /// Every queue pair on this device ends now, and no drain waits for it any more.
    fn nothing_returns(&mut self, turn: &mut Turn<'_, Message<P>>, device: DeviceId) {
        let path = self.paths.on(device);
        path.returns = Returns::Never;
        for qpair in path.bodies.handles() {
            self.begin_teardown(turn, qpair, DisconnectReason::DeviceGone, News::Cut);
            if let Some(draining) = self.paths.on(device).bodies.look_mut(qpair).and_then(Body::draining_mut) {
                draining.nothing_returns();
                trace::applied(turn, qpair, News::Cut);
            }
        }
    }

    /// The device is back.
    fn refit(&mut self, turn: &mut Turn<'_, Message<P>>, device: DeviceId, fitting: Fitting<P::Port>) {
        let port = Box::new(self.paths.on(device).refit(fitting));
        Step::Refitted.trace(turn, 0, 0);
        self.tell(turn, ToControl::Bereft { port });
    }

    /// Begins what the walk asked for. Beginning one may ask for others (an admin qpair's I/O qpairs).
    fn begin_teardowns(&mut self, turn: &mut Turn<'_, Message<P>>) {
        self.paths.take_endings(&mut self.endings);
        let mut position = 0;
        while let Some(&(qpair, reason)) = self.endings.get(position) {
            self.begin_teardown(turn, qpair, reason, News::Ending);
            self.paths.take_endings(&mut self.endings);
            position += 1;
        }
        self.endings.clear();
    }

    /// Draining → Quiet, for those that are.
    fn check_draining(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let mut position = 0;
        while let Some(&qpair) = self.draining.get(position) {
            if self.check_drain(turn, qpair) {
                self.draining.swap_remove(position);
            } else {
                position += 1;
            }
        }
    }

    /// True if the queue pair does not drain any more.
    fn check_drain(&mut self, turn: &mut Turn<'_, Message<P>>, qpair: Handle<Qpair>) -> bool {
        let is_waited_for = !defect::is(Defect::DrainIgnoresOperations);
        let operation_count = if is_waited_for { self.group.outstanding_count(qpair) } else { 0 };
        let path = self.paths.of(qpair);
        let completion_queue_empty = path.completion_queue_is_empty();
        let is_shared = path.shared.is_some();
        let receives = match (is_shared, path.raises_last_wqe) {
            (false, _) => ReceiveSide::Own,
            (true, true) => ReceiveSide::SharedWithLastWqe,
            (true, false) => ReceiveSide::SharedWithoutLastWqe,
        };
        if let Some(posted) = path.post_marker(qpair) {
            Step::MarkerPosted.trace(turn, qpair.to_bits(), posted.is_ok().into());
        }
        let Some(body) = self.paths.of(qpair).bodies.look_mut(qpair) else { return true };
        #[cfg(debug_assertions)]
        body.audit();
        let (draining, timer) = match body.life.take() {
            Some(Life::Draining(draining, timer)) => (draining, timer),
            other => {
                body.life = other;
                return true;
            }
        };
        let reason = draining.reason();
        if operation_count > 0 && draining.transfers_ended() {
            self.group.transfers_ended(qpair);
        }
        match draining.check(&Evidence { receives, completion_queue_empty, operation_count }) {
            Err(draining) => {
                body.life = Some(Life::Draining(draining, timer));
                false
            }
            Ok(quiet) => {
                // A timer holds a handle: none is left behind.
                turn.cancel(timer);
                tracing::debug!(?qpair, ?reason, ?quiet, "queue pair is quiet");
                self.counters.draining_live.sub(1);
                self.become_quiet(turn, qpair, quiet);
                true
            }
        }
    }

    /// Quiet: after a full return the memory is free at once; then the queue pair goes home to be destroyed.
    fn become_quiet(&mut self, turn: &mut Turn<'_, Message<P>>, qpair: Handle<Qpair>, quiet: Quiet) {
        match &quiet {
            Quiet::Returned(returned) => {
                self.counters.returned.add(1);
                Step::Quiet.trace(turn, qpair.to_bits(), RETURNED);
                self.release_requests(qpair, returned);
                Step::RequestsReleased.trace(turn, qpair.to_bits(), RETURNED);
            }
            Quiet::Cut(cut) => {
                self.counters.cut.add(1);
                Step::Quiet.trace(turn, qpair.to_bits(), CUT);
                if let Some(body) = self.paths.of(qpair).bodies.look_mut(qpair) {
                    body.surrender_posted(cut);
                }
                if defect::is(Defect::MemoryFreeAtTheCut) {
                    self.group.release_requests(&mut self.paths, qpair);
                }
                tracing::warn!(?qpair, "queue pair is cut off: its work did not return in time, or cannot");
            }
        }
        let (name, destroying) = quiet.detach();
        let queue_pair = self.paths.of(qpair).port.detach(name);
        let Some(body) = self.paths.of(qpair).bodies.look_mut(qpair) else { return };
        body.life = Some(Life::Destroying(destroying));
        let record = body.record;
        match queue_pair {
            Some(queue_pair) => {
                Step::DestroySent.trace(turn, qpair.to_bits(), record.to_bits());
                self.tell(turn, ToControl::Destroy { record, queue_pair: Box::new(queue_pair) });
            }
            None => unreachable!("a queue pair is detached once: there is one Live for each"),
        }
    }

    /// The NVMe layer's buffers, permits and leases, with a proof that no device touches them.
    fn release_requests(&mut self, qpair: Handle<Qpair>, _proof: &impl MemoryIsQuiet) {
        self.group.release_requests(&mut self.paths, qpair);
        if let Some(body) = self.paths.of(qpair).bodies.look_mut(qpair) {
            body.release_slots();
        }
    }

    /// The destroy call came back: Quiet → Retired, once the completion queue was seen empty.
    fn queue_pair_destroyed(&mut self, turn: &mut Turn<'_, Message<P>>, qpair: Handle<Qpair>, result: DestroyResult) {
        // Before the next message, which may bring a queue pair of the same number.
        let is_polled = !defect::is(Defect::NotPolledAfterTheDestroy);
        let swept =
            if is_polled { self.paths.of(qpair).sweep(turn.now_ns()) } else { Swept::completion_queue_was_emptied() };
        let Some(destroying) = self.take_destroying(qpair) else {
            return self.miss(turn, qpair, News::QueuePairDestroyed);
        };
        trace::applied(turn, qpair, News::QueuePairDestroyed);
        Step::DestroyReturned.trace(turn, qpair.to_bits(), (result == DestroyResult::Failed).into());
        self.counters.queue_pairs_live.sub(1);
        match destroying.end(result, swept) {
            AfterDestroy::Destroyed(destroyed) => {
                if let Some(proof) = destroyed.release_owed() {
                    self.release_requests(qpair, proof);
                    Step::RequestsReleased.trace(turn, qpair.to_bits(), CUT);
                }
                let path = self.paths.of(qpair);
                let Some(body) = path.bodies.remove(qpair) else { return };
                path.forget_number(body.work.name.number, qpair);
                self.counters.count_retired();
                Step::Retired.trace(turn, qpair.to_bits(), body.record.to_bits());
                if self.limbo.retire(turn, destroyed.retire(body)).is_err() {
                    unreachable!("the limbo has a place for every body");
                }
            }
            AfterDestroy::Quarantined(proof) => {
                tracing::error!(?qpair, "queue pair could be neither drained nor destroyed: its memory is given up");
                self.counters.quarantined_live.add(1);
                self.quarantined += 1;
                if let Some(body) = self.paths.of(qpair).bodies.look_mut(qpair) {
                    body.quarantine(&proof);
                    Step::Quarantined.trace(turn, qpair.to_bits(), body.record.to_bits());
                }
            }
        }
    }

    fn take_destroying(&mut self, qpair: Handle<Qpair>) -> Option<Destroying> {
        let body = self.paths.of(qpair).bodies.look_mut(qpair)?;
        match body.life.take() {
            Some(Life::Destroying(destroying)) => Some(destroying),
            other => {
                body.life = other;
                None
            }
        }
    }

    /// Retired → Reaped: nothing late can reach it, so everything that it holds is used again.
    fn reap(&mut self, turn: &mut Turn<'_, Message<P>>) {
        while let Some(reaped) = self.limbo.reap(turn) {
            let mut body = release(reaped);
            let qpair = body.work.handle;
            self.counters.count_reaped(turn.now_ns() - self.teardown_begins_ns[qpair.index()]);
            self.give_receive_buffers(std::mem::take(&mut body.work.receives.buffers));
            Step::Reaped.trace(turn, qpair.to_bits(), body.record.to_bits());
            self.group.close(turn, qpair);
            self.tell(turn, ToControl::Reaped { record: body.record });
        }
    }

    /// The last of it.
    fn leave_if_done(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let Presence::Leaving(leftovers) = self.presence else { return };
        let empty =
            (self.paths.body_count() == self.quarantined && self.limbo.is_empty()) || defect::is(Defect::StopAtOnce);
        // What is quarantined is never given back by the NVMe layer either, here or on another CPU, and must not keep the process.
        if empty
            && (leftovers == Leftovers::Quarantined || self.group.live_count() == 0 || defect::is(Defect::StopAtOnce))
        {
            self.presence = Presence::Left;
            self.tell(turn, ToControl::Stopped);
            turn.leave();
        }
    }
}

impl<P: Provider, const SEVERAL: bool> Program for TargetCpu<P, SEVERAL> {
    type Message = Message<P>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message<P>>, from: Option<Cpu>, message: Message<P>) {
        match message.0 {
            Kind::Core(message) => self.group.receive(turn, &mut self.paths, from, message),
            Kind::ToCpu(message) => self.take(turn, message),
            Kind::ToControl(_) => unreachable!("a message for the control plane was sent to a polling CPU"),
        }
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Message<P>>, token: u64) {
        if token & TIMER_BIT != 0 {
            return self.group.fire(turn, &mut self.paths, token);
        }
        self.note(turn, Handle::from_bits(token), News::Deadline, Draining::deadline_passed);
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message<P>>) -> Progress {
        let progress = self.group.walk(turn, &mut self.paths);
        self.begin_teardowns(turn);
        if !self.draining.is_empty() {
            turn.section(&"drain");
            self.check_draining(turn);
        }
        if !self.limbo.is_empty() {
            turn.section(&"reap");
            self.reap(turn);
        }
        // What teardown and messages posted; the walk rang for its own.
        self.paths.ring();
        self.leave_if_done(turn);
        progress
    }

    fn rest<'t>(&mut self, turn: &mut Turn<'t, Message<P>>) -> Rest {
        if self.paths.has_begun() {
            return Rest::Poll;
        }
        self.paths.arm(turn.now_ns()).and(self.group.arm())
    }

    fn awake(&mut self) {
        self.paths.disarm();
        self.group.disarm();
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        self.wakes.descriptor()
    }

    fn message_name(message: &Message<P>) -> Name {
        message.name()
    }
}
