//! The host's control plane: registers memory, makes one link per queue, ends them.
//!
//! Runs on the mesh's last reactor, which may sleep. It alone talks to the [`Provider`]; polling CPUs are told by message. The phases
//! follow each other and never go back; the first failure of anything ends everything, since a workload without one of its queues has
//! nothing left to measure. A host that stays goes round: its memory, ports and CPUs have one association after the other.

mod device;
mod leave;
mod links;
mod staying;

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::Arc;

use nvmf_core::host::Attached;
use reactor::{Cpu, Gathering, Handle, Program, Progress, Rest, SharedArena, Slab, TimerId, Turn};

use crate::host::control::device::Device;
use crate::host::error::HostFailure;
use crate::host::link::Link;
use crate::host::message::{Kind, MemoryKeys, Message};
use crate::host::options::HostOptions;
use crate::trace::Step;
use crate::verbs::{
    Access, AddressUser, ConnectionId, Event, Memory, PortId, Provider, RegisteredMemory, Ticket, VerbsError,
};

/// Events taken per turn.
const EVENT_BUDGET: usize = 64;
/// How often the provider is asked again whether its last objects are gone.
const LIVE_POLL_NS: u64 = 5_000_000;

const TIMER_ATTACH: u64 = 1;
const TIMER_LIVE: u64 = 2;
const TIMER_END: u64 = 3;
const TIMER_SHUTDOWN: u64 = 4;

/// How long the end may take beyond the drains' deadline. What has not come back then is held by a peer that is stopped or hostile, or by a device
/// that is stuck: it is left to the end of the process.
const END_GRACE_NS: u64 = 2_000_000_000;

/// What a ticket stands for: the kind is in its top byte, a link's handle below.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Call {
    RegisterCapsules = 1,
    RegisterData = 2,
    Deregister = 3,
    Link = 4,
}

enum Phase {
    New,
    Registering,
    /// The admin queue is being connected and works.
    Initialising,
    /// I/O queues are being connected.
    Opening {
        attached: Arc<Attached>,
        ready_count: u16,
    },
    Running {
        done_count: u16,
    },
    /// I/O queues end, then the controller shuts down.
    TakingLeave {
        is_told: bool,
    },
    /// Links are being closed.
    Ending,
    Deregistering,
    /// The provider still has something that ends by itself.
    Settling,
    /// The polling CPUs were told to make ready for another association.
    Parting(Gathering<()>),
    /// Waits to be told to begin one.
    Apart,
    /// The polling CPUs were told to leave.
    Leaving(Gathering<()>),
    Gone,
}

/// What follows when everything of an association is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterEnd {
    /// The end of everything.
    Leave,
    /// Waiting for another association.
    Stay,
}

/// A host's control plane.
pub struct HostControl<P: Provider> {
    provider: P,
    options: Arc<HostOptions>,
    ports: Vec<PortId>,
    capsules: reactor::Segment,
    data: Arc<SharedArena>,
    capsule_keys: Option<RegisteredMemory>,
    data_keys: Option<RegisteredMemory>,
    /// Register and deregister calls that have not ended.
    memory_call_count: usize,
    links: Slab<Link>,
    by_connection: BTreeMap<ConnectionId, Handle<Link>>,
    /// [`TIMER_LIVE`] is armed: once, however often the provider wakes us meanwhile.
    is_looking: bool,
    /// The association's own timers, those that have fired included.
    timers: Vec<TimerId>,
    after_end: AfterEnd,
    device: Device,
    phase: Phase,
}

impl<P: Provider> HostControl<P> {
    pub(super) fn new(
        provider: P,
        options: Arc<HostOptions>,
        ports: Vec<PortId>,
        capsules: reactor::Segment,
        data: Arc<SharedArena>,
    ) -> Self {
        let (after_end, phase) =
            if options.stays { (AfterEnd::Stay, Phase::Apart) } else { (AfterEnd::Leave, Phase::New) };
        let link_count = 1 + usize::from(options.cpu_count) * usize::from(options.queue_count_per_cpu);
        Self {
            provider,
            options,
            ports,
            capsules,
            data,
            capsule_keys: None,
            data_keys: None,
            memory_call_count: 0,
            links: Slab::new(link_count),
            by_connection: BTreeMap::new(),
            is_looking: false,
            timers: Vec::new(),
            after_end,
            device: Device::Present,
            phase,
        }
    }

    /// Events of the provider, and the next phase.
    pub fn poll(&mut self, turn: &mut Turn<'_, Message<P>>) -> Progress {
        if matches!(self.phase, Phase::New) {
            self.begin(turn);
        }
        let mut event_count = 0;
        while event_count < EVENT_BUDGET {
            let Some(event) = self.provider.next_event(turn.now_ns()) else { break };
            let (kind, subject) = event.outline();
            Step::EventFetched.trace(turn, subject, kind.number().into());
            let event = self.provider.acknowledge(event);
            Step::EventAcknowledged.trace(turn, subject, kind.number().into());
            self.event(turn, event);
            event_count += 1;
        }
        self.settle(turn);
        Progress::busy_if(event_count > 0)
    }

    /// A message of a polling CPU, or from outside.
    pub fn receive(&mut self, turn: &mut Turn<'_, Message<P>>, from: Option<Cpu>, message: Message<P>) {
        match message.0 {
            Kind::Attached { link, queue } => self.attached(turn, link, queue),
            Kind::ControllerReady(attached) => self.controller_ready(turn, *attached),
            Kind::Discovered if matches!(self.phase, Phase::Initialising) => self.take_leave(turn),
            Kind::ShutDownEnded => self.leave_taken(turn),
            Kind::Discovered => {}
            Kind::QueueReady => self.queue_ready(turn),
            Kind::Fault(failure) => self.fault(turn, *failure),
            Kind::Drained { link, queue_pair } => self.drained(turn, link, queue_pair),
            Kind::Done => self.done(turn),
            Kind::Parted => self.parted(turn, from),
            Kind::Left => self.left(from),
            Kind::Connect => self.connect(turn),
            Kind::Disconnect => self.fail(turn, HostFailure::Stopped),
            Kind::Shutdown => self.begin_shutdown(turn),
            Kind::Memory(_)
            | Kind::Attach { .. }
            | Kind::Connected { .. }
            | Kind::Close { .. }
            | Kind::NothingReturns
            | Kind::Destroyed { .. }
            | Kind::Start(_)
            | Kind::Failed(_)
            | Kind::ShutDown
            | Kind::Part
            | Kind::Apart
            | Kind::Leave => unreachable!("a message for a polling CPU"),
        }
    }

    /// A timer that this part armed.
    pub fn fire(&mut self, turn: &mut Turn<'_, Message<P>>, token: u64) {
        let attaching = match self.phase {
            Phase::New | Phase::Registering | Phase::Initialising | Phase::Opening { .. } => true,
            Phase::Running { .. }
            | Phase::TakingLeave { .. }
            | Phase::Ending
            | Phase::Deregistering
            | Phase::Settling
            | Phase::Parting(_)
            | Phase::Apart
            | Phase::Leaving(_)
            | Phase::Gone => false,
        };
        if token == TIMER_ATTACH && attaching {
            let (limit_ms, (what, qid)) = (self.options.attach_timeout_ms, self.awaited());
            self.fail(turn, HostFailure::TimedOut { what, qid, limit_ms });
        }
        if token == TIMER_SHUTDOWN {
            self.leave_takes_too_long(turn);
        }
        if token == TIMER_END {
            self.give_up(turn);
        }
        // It has nothing else to do: the poll that follows looks.
        self.is_looking &= token != TIMER_LIVE;
    }

    /// Ends everything, whatever is under way; workloads that are not done are told so.
    pub fn begin_shutdown(&mut self, turn: &mut Turn<'_, Message<P>>) {
        self.after_end = AfterEnd::Leave;
        if matches!(self.phase, Phase::Apart) {
            self.begin_leaving(turn);
        }
        self.fail(turn, HostFailure::Stopped);
    }

    /// Everything is gone, and the polling CPUs have left: the control plane's program may leave.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// Readable when [`Self::poll`] may find something.
    #[must_use]
    pub fn wake_descriptor(&self) -> Option<RawFd> {
        self.provider.wake_descriptor()
    }

    /// The provider, for its counters.
    #[must_use]
    pub fn provider(&self) -> &P {
        &self.provider
    }

    fn begin(&mut self, turn: &mut Turn<'_, Message<P>>) {
        self.timers.push(turn.arm(turn.now_ns() + self.options.attach_timeout_ms * 1_000_000, TIMER_ATTACH));
        self.phase = Phase::Registering;
        self.memory_call_count = 2;
        self.provider.begin_register(
            ticket(Call::RegisterCapsules, None),
            Memory::Private(self.capsules),
            Access::LOCAL_WRITE,
        );
        self.provider.begin_register(
            ticket(Call::RegisterData, None),
            Memory::Shared(Arc::clone(&self.data)),
            Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE,
        );
    }

    fn event(&mut self, turn: &mut Turn<'_, Message<P>>, event: Event<P::Port>) {
        match event {
            Event::Registered { ticket, result } => self.registered(turn, ticket, result),
            Event::Deregistered { .. } => self.memory_call_count -= 1,
            Event::Resolved { ticket, result } => self.resolved(turn, link_of(ticket), result),
            Event::QueuePairCreated { ticket, result } => self.created(turn, link_of(ticket), result),
            Event::Established { connection, private_data, .. } => self.established(turn, connection, &private_data),
            Event::Rejected { connection, reason } => self.rejected(turn, connection, &reason),
            // The timewait begins with a disconnect, whose own event may have been lost.
            Event::Disconnected { connection } | Event::TimewaitExit { connection } => {
                self.lost(turn, connection, "the target disconnected, or died");
            }
            Event::QueuePairFatal { connection } => self.lost(turn, connection, "the queue pair broke"),
            Event::QueuePairDestroyed { ticket, result } => self.queue_pair_destroyed(turn, link_of(ticket), result),
            Event::ConnectionDestroyed { ticket } => {
                self.forget(turn, link_of(ticket));
            }
            Event::AddressChanged { of: AddressUser::Connection(connection) } => {
                self.lost(turn, connection, "this host's address has changed; connect again");
            }
            Event::CompletionQueueError { port } => self.completion_queue_broke(turn, port),
            Event::DeviceRemoved(_) => self.device_removed(turn),
            // A host does not listen.
            Event::ConnectRequest(request) => self.provider.reject(request, &[]),
            // It is given up, not looked for again.
            Event::DeviceReleased(_)
            | Event::DeviceReopened { .. }
            | Event::LastWqeReached { .. }
            | Event::Unlistened { .. }
            | Event::AddressChanged { of: AddressUser::Listener(_) } => {}
        }
    }

    fn registered(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        ticket: Ticket,
        result: Result<RegisteredMemory, VerbsError>,
    ) {
        self.memory_call_count -= 1;
        match result {
            Err(error) => {
                self.fail(turn, HostFailure::Fabric { what: "registering memory", why: error.to_string() });
                return;
            }
            Ok(keys) if ticket.0 >> 56 == Call::RegisterCapsules as u64 => self.capsule_keys = Some(keys),
            Ok(keys) => self.data_keys = Some(keys),
        }
        let (Phase::Registering, Some(capsules), Some(data)) = (&self.phase, self.capsule_keys, self.data_keys) else {
            return;
        };
        turn.broadcast(|_cpu| Message(Kind::Memory(MemoryKeys { capsules, data })));
        self.phase = Phase::Initialising;
        self.open(turn, 0, Cpu(0));
    }

    fn controller_ready(&mut self, turn: &mut Turn<'_, Message<P>>, attached: Attached) {
        if !matches!(self.phase, Phase::Initialising) {
            return;
        }
        let queue_count = self.options.cpu_count * self.options.queue_count_per_cpu;
        if let Err(failure) = self.options.check_grant(&attached) {
            self.fail(turn, failure);
            return;
        }
        self.phase = Phase::Opening { attached: Arc::new(attached), ready_count: 0 };
        for index in 0..queue_count {
            self.open(turn, 1 + index, Cpu(index / self.options.queue_count_per_cpu));
        }
        if queue_count == 0 {
            self.start(turn);
        }
    }

    fn queue_ready(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let Phase::Opening { ready_count, .. } = &mut self.phase else { return };
        *ready_count += 1;
        if *ready_count == self.options.cpu_count * self.options.queue_count_per_cpu {
            self.start(turn);
        }
    }

    fn start(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let Phase::Opening { attached, .. } = std::mem::replace(&mut self.phase, Phase::Running { done_count: 0 })
        else {
            unreachable!("started twice")
        };
        turn.broadcast(|_cpu| Message(Kind::Start(Arc::clone(&attached))));
    }

    fn done(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let Phase::Running { done_count } = &mut self.phase else { return };
        *done_count += 1;
        if *done_count == self.options.cpu_count {
            self.take_leave(turn);
        }
    }

    /// The first failure ends everything; later ones follow from it and are not told.
    fn fail(&mut self, turn: &mut Turn<'_, Message<P>>, failure: HostFailure) {
        match self.phase {
            Phase::New | Phase::Registering | Phase::Initialising | Phase::Opening { .. } | Phase::Running { .. } => {}
            // What the association was for is done: nobody is told.
            Phase::TakingLeave { .. } => return self.begin_end(turn),
            Phase::Ending
            | Phase::Deregistering
            | Phase::Settling
            | Phase::Parting(_)
            | Phase::Apart
            | Phase::Leaving(_)
            | Phase::Gone => return,
        }
        self.report(turn, failure);
        self.begin_end(turn);
    }

    /// Tells every workload.
    fn report(&self, turn: &mut Turn<'_, Message<P>>, failure: HostFailure) {
        let failure = Arc::new(failure);
        turn.broadcast(|_cpu| Message(Kind::Failed(Arc::clone(&failure))));
    }

    fn begin_end(&mut self, turn: &mut Turn<'_, Message<P>>) {
        self.phase = Phase::Ending;
        let end_ns = turn.now_ns() + self.options.drain_timeout_ms * 1_000_000 + END_GRACE_NS;
        self.timers.push(turn.arm(end_ns, TIMER_END));
        let handles: Vec<_> = self.links.handles().collect();
        for handle in handles {
            self.close(turn, handle);
        }
    }

    /// Goes on with the end as far as it has come.
    fn settle(&mut self, turn: &mut Turn<'_, Message<P>>) {
        self.tell_controller(turn);
        if matches!(self.phase, Phase::Ending) && self.links_are_gone() && self.memory_call_count == 0 {
            for keys in [self.capsule_keys.take(), self.data_keys.take()].into_iter().flatten() {
                self.memory_call_count += 1;
                self.provider.begin_deregister(ticket(Call::Deregister, None), keys);
            }
            self.phase = Phase::Deregistering;
        }
        if matches!(self.phase, Phase::Deregistering) && self.memory_call_count == 0 {
            self.phase = Phase::Settling;
        }
        if matches!(self.phase, Phase::Settling) {
            if self.provider.live_count() == 0 {
                self.end_association(turn);
            } else if !self.is_looking {
                self.is_looking = true;
                turn.arm(turn.now_ns() + LIVE_POLL_NS, TIMER_LIVE);
            }
        }
    }

    fn begin_leaving(&mut self, turn: &mut Turn<'_, Message<P>>) {
        self.phase = Phase::Leaving(Gathering::ask(turn, |_cpu| Message(Kind::Leave)));
    }

    /// Leaves although not everything came back. No memory of ours is used again, and a peer writes to the arena that it has mapped, not to whatever
    /// is at our addresses then: so nobody is hurt.
    fn give_up(&mut self, turn: &mut Turn<'_, Message<P>>) {
        if matches!(self.phase, Phase::Ending | Phase::Deregistering | Phase::Settling) {
            let (link_count, memory_call_count) = (self.links.len(), self.memory_call_count);
            tracing::error!(
                link_count,
                memory_call_count,
                "not everything could be taken back in time: it is given up"
            );
            self.begin_leaving(turn);
        }
    }

    /// Whether polling CPUs can be told anything: one that was told to leave may be gone.
    fn has_cpus(&self) -> bool {
        !matches!(self.phase, Phase::Leaving(_) | Phase::Gone)
    }

    fn left(&mut self, from: Option<Cpu>) {
        let (Phase::Leaving(gathering), Some(from)) = (&mut self.phase, from) else {
            unreachable!("left without having been told")
        };
        if gathering.answer(from, ()) {
            self.phase = Phase::Gone;
        }
    }
}

impl<P: Provider> Program for HostControl<P> {
    type Message = Message<P>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message<P>>, from: Option<Cpu>, message: Message<P>) {
        HostControl::receive(self, turn, from, message);
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Message<P>>, token: u64) {
        HostControl::fire(self, turn, token);
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message<P>>) -> Progress {
        let progress = HostControl::poll(self, turn);
        if self.is_drained() {
            turn.leave();
        }
        progress
    }

    fn rest<'t>(&mut self, _turn: &mut Turn<'t, Message<P>>) -> Rest {
        Rest::Sleep
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        HostControl::wake_descriptor(self)
    }
}

fn ticket(call: Call, link: Option<Handle<Link>>) -> Ticket {
    Ticket((call as u64) << 56 | link.map_or(0, Handle::to_bits))
}

fn link_of(ticket: Ticket) -> Handle<Link> {
    Handle::from_bits(ticket.0)
}

#[cfg(test)]
mod tests;
