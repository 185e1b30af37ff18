//! One polling CPU of a host: its port, its queues, its workload.
//!
//! A turn: completions first (commands end, queues fail), then what the queues' set-up needs, then the workload submits, then the doorbell. What the control plane
//! asks for by message only changes state: posting waits for the poll, when the port has seen the same change.

mod authenticate;
mod events;
mod set_up;

use std::os::fd::RawFd;
use std::sync::Arc;

use nvmf_core::DisconnectReason;
use nvmf_core::host::Attached;
use reactor::{Cpu, Grace, Handle, Limbo, Name, Program, Progress, Rest, Segment, Slab, TimerId, Turn};

use crate::binding::{WorkKind, WorkRequestId};
use crate::host::admin::Admin;
use crate::host::error::HostFailure;
use crate::host::io_queues::{IoQueues, in_capsule_len};
use crate::host::message::{Kind, MemoryKeys, Message};
use crate::host::options::{ADMIN_DATA_LEN, HostOptions};
use crate::host::queue::{Queue, QueueFault, Stage, owner_of};
use crate::host::workload::{Ended, Start, Workload};
use crate::teardown::{DestroyResult, Retired, Returns, Swept, release};
use crate::trace::{self, News, Step};
use crate::verbs::{Completion, Port, Provider};

/// Completions taken at a time.
const COMPLETION_BATCH: usize = 64;

const TIMER_ADMIN_STEP: u64 = 1 << 56;
const TIMER_KEEP_ALIVE: u64 = 2 << 56;
const TIMER_COMMANDS: u64 = 3 << 56;
/// A queue's handle is below it.
const TIMER_DRAIN: u64 = 4 << 56;
/// A queue's handle is below it: an authentication command is to be tried again.
const TIMER_AUTHENTICATE: u64 = 5 << 56;
const TIMER_KIND: u64 = 0xFF << 56;
/// The first three kinds: the association's, one of each at a time.
const CHORE_COUNT: usize = 3;

/// Where the workload is.
enum Phase {
    Waiting,
    Running(Arc<Attached>),
    Done,
    Failed,
}

/// Whether the CPU is wanted.
enum Presence {
    Staying,
    /// To make ready for another association.
    Parting,
    /// The control plane wants nothing more of it.
    Leaving,
    Left,
}

/// One polling CPU of a host.
pub struct HostCpu<P: Provider, W> {
    cpu: u16,
    port: P::Port,
    options: Arc<HostOptions>,
    keys: Option<MemoryKeys>,
    capsules: Segment,
    data: Segment,
    queues: Slab<Queue>,
    /// The I/O queues by their number; handles of queues that are gone are misses.
    names: Vec<Handle<Queue>>,
    admin: Option<Admin>,
    /// The admin queue is to take its next step.
    admin_due: bool,
    /// I/O queues whose Connect is to be sent.
    joining: Vec<Handle<Queue>>,
    /// I/O queues that authenticate.
    authenticating: Vec<authenticate::Authenticating>,
    /// Those of them that are to try again.
    authentication_due: Vec<Handle<Queue>>,
    controller_id: u16,
    /// Queues in [`Stage::Draining`], with the timers of their deadlines.
    draining: Vec<(Handle<Queue>, TimerId)>,
    /// Queues whose destroy call has come back.
    destroyed: Vec<(Handle<Queue>, DestroyResult)>,
    limbo: Limbo<Retired<Queue>>,
    returns: Returns,
    presence: Presence,
    /// The last timers of the association's own, by kind.
    chores: [Option<TimerId>; CHORE_COUNT],
    phase: Phase,
    workload: W,
    completions: Vec<Completion>,
    ended: Vec<Ended>,
    faults: Vec<(Handle<Queue>, QueueFault)>,
    /// Completions that name no queue of this CPU: what came after a cut.
    late_count: u64,
}

impl<P: Provider, W: Workload> HostCpu<P, W> {
    /// `capsules` and `data` are this CPU's parts of the host's memory.
    pub(super) fn new(
        cpu: u16,
        port: P::Port,
        options: Arc<HostOptions>,
        capsules: Segment,
        data: Segment,
        workload: W,
    ) -> Self {
        let queue_count = options.queues_of(cpu);
        let admin = (cpu == 0).then(|| Admin::new(&options, data.part(0, ADMIN_DATA_LEN)));
        Self {
            cpu,
            port,
            keys: None,
            capsules,
            data,
            queues: Slab::new(queue_count),
            names: vec![Handle::from_bits(u64::MAX); usize::from(options.queue_count_per_cpu)],
            admin,
            admin_due: false,
            joining: Vec::new(),
            authenticating: Vec::new(),
            authentication_due: Vec::new(),
            controller_id: 0,
            draining: Vec::with_capacity(queue_count),
            destroyed: Vec::with_capacity(queue_count),
            limbo: Limbo::new(Grace::Messages, queue_count.max(1)),
            returns: Returns::Come,
            presence: Presence::Staying,
            chores: [None; CHORE_COUNT],
            phase: Phase::Waiting,
            workload,
            completions: Vec::with_capacity(COMPLETION_BATCH),
            ended: Vec::with_capacity(COMPLETION_BATCH),
            faults: Vec::with_capacity(queue_count),
            late_count: 0,
            options,
        }
    }

    fn control(&self) -> Cpu {
        Cpu(self.options.cpu_count)
    }

    // Messages.

    fn close(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Queue>) {
        let Some(queue) = self.queues.look_mut(handle) else {
            return trace::missed(turn, handle, News::Disconnect);
        };
        trace::applied(turn, handle, News::Disconnect);
        Step::DrainBegun.trace(turn, handle.to_bits(), trace::reason_number(DisconnectReason::Host));
        let deadline_ns = turn.now_ns() + self.options.drain_timeout_ms * 1_000_000;
        let timer = turn.arm(deadline_ns, TIMER_DRAIN | handle.to_bits());
        let has_begun = queue.begin_drain(DisconnectReason::Host);
        assert!(has_begun, "the control plane closes a queue once");
        if self.returns == Returns::Never {
            queue.nothing_returns();
        }
        self.draining.push((handle, timer));
    }

    /// No drain waits for the device any more.
    fn nothing_returns(&mut self, turn: &mut Turn<'_, Message<P>>) {
        self.returns = Returns::Never;
        for &(handle, _) in &self.draining {
            if let Some(queue) = self.queues.look_mut(handle) {
                queue.nothing_returns();
                trace::applied(turn, handle, News::Cut);
            }
        }
    }

    fn start(&mut self, turn: &Turn<'_, Message<P>>, attached: Arc<Attached>) {
        if !matches!(self.phase, Phase::Waiting) {
            return;
        }
        self.workload.ready(Start {
            attached: &attached,
            cpu: self.cpu,
            queue_count: self.options.queue_count_per_cpu,
            queue_depth: self.options.queue_depth,
            memory: self.workload_memory(),
            now_ns: turn.now_ns(),
        });
        self.phase = Phase::Running(attached);
    }

    fn failed(&mut self, failure: &HostFailure) {
        match self.phase {
            Phase::Waiting | Phase::Running(_) => {
                self.phase = Phase::Failed;
                self.workload.failed(failure);
            }
            Phase::Done | Phase::Failed => {}
        }
    }

    // Timers.

    /// One of the association's own, which ends with it.
    fn arm(&mut self, turn: &mut Turn<'_, Message<P>>, deadline_ns: u64, kind: u64) {
        let place = usize::try_from(kind >> 56).unwrap_or(usize::MAX) - 1;
        if let Some(last) = self.chores[place].replace(turn.arm(deadline_ns, kind)) {
            turn.cancel(last);
        }
    }

    /// How often outstanding commands are looked at.
    fn command_scan_ns(&self) -> u64 {
        (self.options.command_timeout_ms * 1_000_000 / 8).max(1_000_000)
    }

    fn check_commands(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let limit_ms = self.options.command_timeout_ms;
        let late_ns = turn.now_ns().saturating_sub(limit_ms * 1_000_000);
        let late = self.queues.iter().find(|(_, queue)| {
            queue.carries_commands() && queue.oldest_submit_ns().is_some_and(|submit_ns| submit_ns < late_ns)
        });
        let late = late.map(|(handle, queue)| (handle, queue.qid));
        if let Some((handle, qid)) = late {
            let failure = HostFailure::TimedOut { what: "a command", qid, limit_ms };
            self.report_failure(turn, handle, failure);
        }
        self.arm(turn, turn.now_ns() + self.command_scan_ns(), TIMER_COMMANDS);
    }

    // The turn's poll.

    fn poll_completions(&mut self, turn: &mut Turn<'_, Message<P>>) -> bool {
        let mut any = false;
        loop {
            let mut completions = std::mem::take(&mut self.completions);
            completions.clear();
            let count = self.port.poll(turn.now_ns(), COMPLETION_BATCH, &mut completions);
            for completion in &completions {
                self.complete(turn, completion);
            }
            self.completions = completions;
            any |= count > 0;
            if !self.ended.is_empty() {
                if matches!(self.phase, Phase::Running(_)) {
                    self.workload.completed(turn.now_ns(), &self.ended);
                }
                self.ended.clear();
            }
            // After a destroy the completion queue is polled empty once: only then is nothing of it in there.
            if self.destroyed.is_empty() || count == 0 {
                break;
            }
        }
        if !self.destroyed.is_empty() {
            self.retire(turn);
        }
        any
    }

    /// The completion queue was seen empty after these destroy calls had come back.
    fn retire(&mut self, turn: &mut Turn<'_, Message<P>>) {
        for (handle, result) in std::mem::take(&mut self.destroyed) {
            let Some(queue) = self.queues.remove(handle) else {
                trace::missed(turn, handle, News::QueuePairDestroyed);
                continue;
            };
            let link = queue.link.to_bits();
            trace::applied(turn, handle, News::QueuePairDestroyed);
            Step::DestroyReturned.trace(turn, handle.to_bits(), (result == DestroyResult::Failed).into());
            match queue.end(result, Swept::completion_queue_was_emptied()) {
                Some(retired) => {
                    Step::Retired.trace(turn, handle.to_bits(), link);
                    let full = self.limbo.retire(turn, retired).is_err();
                    assert!(!full, "the limbo has a place for each queue");
                }
                None => {
                    Step::Quarantined.trace(turn, handle.to_bits(), link);
                    tracing::error!(
                        ?handle,
                        "queue pair could be neither drained nor destroyed: its memory is given up"
                    );
                }
            }
        }
    }

    fn complete(&mut self, turn: &mut Turn<'_, Message<P>>, completion: &Completion) {
        let Some(id) = WorkRequestId::from_bits(completion.id) else {
            self.late_count += 1;
            return;
        };
        let (handle, slot) = owner_of(id);
        let Some(queue) = self.queues.look_mut(handle) else {
            self.late_count += 1;
            return;
        };
        let result = match id.kind {
            WorkKind::Send => queue.sent(slot, completion.status),
            WorkKind::Receive => queue.received(&mut self.port, slot, completion),
            WorkKind::SharedReceive
            | WorkKind::Read
            | WorkKind::Write
            | WorkKind::Marker
            | WorkKind::Bind
            | WorkKind::Invalidate => {
                unreachable!("a host posts sends and receives")
            }
        };
        let (is_joining, qid, number) = (matches!(queue.stage, Stage::Joining(_)), queue.qid, queue.number);
        match result {
            Ok(None) => {}
            Ok(Some(finished)) if qid == 0 => self.admin_ended(turn, &finished),
            Ok(Some(finished)) if self.is_authenticating(handle) => {
                self.authentication_step(turn, handle, Some(&finished));
            }
            Ok(Some(finished)) if is_joining => self.joined(turn, handle, &finished),
            Ok(Some(finished)) => {
                self.ended.push(Ended { queue: number, tag: finished.tag, status: finished.status() });
            }
            Err(fault) => self.report(turn, handle, fault),
        }
    }

    fn poll_workload(&mut self, turn: &mut Turn<'_, Message<P>>) -> Progress {
        let (Phase::Running(attached), Some(keys)) = (&self.phase, self.keys) else { return Progress::Idle };
        let mut io = IoQueues {
            port: &mut self.port,
            queues: &mut self.queues,
            names: &self.names,
            keys,
            data_region: self.data.region(),
            in_capsule_len: in_capsule_len(self.options.in_capsule_data, attached),
            now_ns: turn.now_ns(),
            faults: &mut self.faults,
        };
        let progress = self.workload.poll(turn.now_ns(), &mut io);
        if self.workload.is_done() {
            self.phase = Phase::Done;
            turn.send(self.control(), Message(Kind::Done));
        }
        while let Some((handle, fault)) = self.faults.pop() {
            self.report(turn, handle, fault);
        }
        progress
    }

    fn check_drains(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let control = self.control();
        let (queues, port) = (&mut self.queues, &mut self.port);
        self.draining.retain(|&(handle, timer)| {
            let queue = queues.look_mut(handle).expect("a queue lives until its queue pair is destroyed");
            let Some((name, how)) = queue.check_drain() else { return true };
            turn.cancel(timer);
            Step::Quiet.trace(turn, handle.to_bits(), how);
            Step::DestroySent.trace(turn, handle.to_bits(), queue.link.to_bits());
            let queue_pair = port.detach(name).expect("attached once, detached once");
            turn.send(control, Message(Kind::Drained { link: queue.link, queue_pair }));
            false
        });
    }

    /// What was retired and can be reached by nothing late any more; then, if that was asked for, the CPU's own end.
    fn reap(&mut self, turn: &mut Turn<'_, Message<P>>) {
        while let Some(reaped) = self.limbo.reap(turn) {
            let queue = release(reaped);
            Step::Reaped.trace(turn, queue.handle().to_bits(), queue.link.to_bits());
        }
        if self.limbo.is_empty() && matches!(self.presence, Presence::Parting) {
            self.presence = Presence::Staying;
            self.part(turn);
        }
        // Not before: the control plane, which moves the epoch on, leaves when it has this message.
        if self.limbo.is_empty() && matches!(self.presence, Presence::Leaving) {
            self.presence = Presence::Left;
            turn.send(self.control(), Message(Kind::Left));
            turn.leave();
        }
    }

    fn report(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Queue>, fault: QueueFault) {
        let qid = self.queues.look(handle).map_or(0, |queue| queue.qid);
        self.report_failure(turn, handle, fault.into_failure(qid));
    }

    fn report_failure(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Queue>, failure: HostFailure) {
        if let Some(queue) = self.queues.look_mut(handle) {
            queue.break_off();
        }
        self.send_failure(turn, failure);
    }

    fn send_failure(&mut self, turn: &mut Turn<'_, Message<P>>, failure: HostFailure) {
        turn.send(self.control(), Message(Kind::Fault(Box::new(failure))));
    }
}

/// With the whole CPU: a queue that goes away by itself has to have its permits back.
#[cfg(debug_assertions)]
impl<P: Provider, W> Drop for HostCpu<P, W> {
    fn drop(&mut self) {
        for (_, queue) in self.queues.iter_mut() {
            queue.abandon();
        }
    }
}

impl<P: Provider, W: Workload> Program for HostCpu<P, W> {
    type Message = Message<P>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message<P>>, _from: Option<Cpu>, message: Message<P>) {
        match message.0 {
            Kind::Memory(keys) => self.keys = Some(keys),
            Kind::Attach { link, qid, controller_id, queue_pair } => {
                self.controller_id = controller_id;
                self.attach(turn, link, qid, queue_pair);
            }
            Kind::Connected { queue } => self.connected(turn, queue),
            Kind::Close { queue } => self.close(turn, queue),
            Kind::NothingReturns => self.nothing_returns(turn),
            Kind::Destroyed { queue, result } => self.destroyed.push((queue, result)),
            Kind::Start(attached) => self.start(turn, attached),
            Kind::Failed(failure) => self.failed(&failure),
            Kind::ShutDown => self.shut_down(),
            Kind::Part => self.presence = Presence::Parting,
            Kind::Apart => self.workload.apart(turn.now_ns()),
            Kind::Leave => self.presence = Presence::Leaving,
            Kind::Attached { .. }
            | Kind::ControllerReady(_)
            | Kind::Discovered
            | Kind::ShutDownEnded
            | Kind::QueueReady
            | Kind::Fault(_)
            | Kind::Drained { .. }
            | Kind::Done
            | Kind::Parted
            | Kind::Left
            | Kind::Connect
            | Kind::Disconnect
            | Kind::Shutdown => unreachable!("a message for the control plane"),
        }
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Message<P>>, token: u64) {
        match token & TIMER_KIND {
            TIMER_ADMIN_STEP => self.admin_due = true,
            TIMER_KEEP_ALIVE => self.keep_alive(turn),
            TIMER_COMMANDS => self.check_commands(turn),
            TIMER_DRAIN => {
                let handle = Handle::from_bits(token);
                if self.queues.look_mut(handle).is_some_and(Queue::deadline_passed) {
                    trace::applied(turn, handle, News::Deadline);
                } else {
                    trace::missed(turn, handle, News::Deadline);
                }
            }
            TIMER_AUTHENTICATE => self.authentication_due.push(Handle::from_bits(token)),
            other => unreachable!("a timer of kind {other:#x}"),
        }
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message<P>>) -> Progress {
        let mut progress = Progress::busy_if(self.poll_completions(turn));
        if self.admin_due {
            self.admin_due = false;
            self.admin_step(turn, None);
        }
        if !self.joining.is_empty() {
            self.send_connects(turn);
        }
        while let Some(handle) = self.authentication_due.pop() {
            self.authentication_step(turn, handle, None);
        }
        progress = progress.or(self.poll_workload(turn));
        if !self.draining.is_empty() {
            turn.section(&"drain");
            self.check_drains(turn);
        }
        if !matches!(self.presence, Presence::Staying) || !self.limbo.is_empty() {
            self.reap(turn);
        }
        self.port.ring();
        progress
    }

    /// All that the poll looks for comes by message, by a timer of the reactor, from the port, or is the workload's own.
    fn rest<'t>(&mut self, turn: &mut Turn<'t, Message<P>>) -> Rest {
        if self.admin_due || !self.joining.is_empty() || !self.destroyed.is_empty() {
            return Rest::Poll;
        }
        let workload = match self.phase {
            Phase::Running(_) => self.workload.rest(turn.now_ns()),
            Phase::Waiting | Phase::Done | Phase::Failed => Rest::Sleep,
        };
        if workload == Rest::Poll { workload } else { workload.and(self.port.arm(turn.now_ns())) }
    }

    fn awake(&mut self) {
        self.port.disarm();
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        self.port.wake_descriptor()
    }

    fn message_name(message: &Message<P>) -> Name {
        message.name()
    }
}
