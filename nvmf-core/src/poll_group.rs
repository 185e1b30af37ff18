//! One CPU's qpairs and controllers, and the walk of their commands.
//!
//! Owned by its CPU's program, and called on that CPU alone. Owns the bodies of the CPU's qpairs, their requests, the controllers whose admin qpair
//! is here, the data buffers and the channels into the devices. Everything of other CPUs it reaches by message.
//!
//! Invariants:
//! - every command that was fetched has exactly one response, unless its qpair drains before;
//! - what a request holds is given back in one place ([`PollGroup::give_back`]), when the transport is done with it or when its drained qpair
//!   releases everything;
//! - on the data path nothing is allocated: batches keep their room, queues are reserved when a qpair opens.

mod abort;
mod admission;
mod association;
mod authenticate;
mod buffers;
mod connect;
mod control;
mod course;
mod evictions;
mod failures;
mod fair;
mod fetch;
mod fusing;
mod hosts;
mod io;
mod locking;
mod orders;
mod parking;
mod petitions;
mod pressure;
mod respond;
mod teardown;
mod timers;
mod withdraw;

use std::os::fd::RawFd;
use std::sync::Arc;

use bdev::Completion;
use reactor::{Cpu, Full, Grace, Handle, Limbo, Progress, Rest, Segment, Slab, Turn, Unlinked};

use crate::controller::Controller;
use crate::counters::PollGroupCounters;
use crate::devices::Devices;
use crate::failure::Failure;
use crate::limits::{CONNECT_TIMEOUT_NS, HEADER_COUNT_MAX, QPAIR_COUNT_MAX, SLOTS_PER_ENTRY};
use crate::lock::{Gate, Home};
use crate::message::{Letter, Message};
use crate::order::Way;
use crate::qpair::QpairBody;
use crate::qpair::header::QpairHeader;
use crate::target::Directory;
use crate::trace::Step;
use crate::transport::{Arrival, QpairSpec, Transport};
use crate::{ControllerKind, Qpair};
pub(crate) use abort::Aborter;
use buffers::{Buffers, RequestName};
use hosts::Hosts;
pub(crate) use hosts::{HostIndex, Share};
use parking::Parking;
pub use timers::TIMER_BIT;
use timers::{Timer, token};

/// What a poll group is made with.
pub struct PollGroupOptions {
    /// This CPU.
    pub cpu: Cpu,
    /// The control plane's place in the mesh.
    pub control: Cpu,
    /// Most qpairs on this CPU.
    pub qpair_count_max: usize,
    /// Memory for data buffers, registered with the transport. At least a few times the largest transfer.
    pub data_memory: Segment,
    /// Its ways into the target's devices: [`crate::Target::open_ways`].
    pub ways: Vec<Way>,
    /// What is shared.
    pub directory: Arc<Directory>,
}

/// One CPU's part of the target.
pub struct PollGroup {
    cpu: Cpu,
    control: Cpu,
    directory: Arc<Directory>,
    counters: Arc<PollGroupCounters>,

    qpairs: Slab<QpairBody, Qpair>,
    /// The live handle of each slot: operations' tokens have no room for a whole one.
    handles: Vec<Option<Handle<Qpair>>>,
    headers: Limbo<Unlinked<QpairHeader>>,
    controllers: Slab<Controller, ControllerKind>,
    buffers: Buffers,
    hosts: Hosts,
    devices: Devices,
    gate: Gate<RequestName>,
    home: Home,
    lock_letters: Vec<(Cpu, Letter)>,
    lock_number: u32,
    /// Locks that were asked for and have not been granted: this CPU stays, to give them back.
    locks_asked: usize,
    parking: Parking,
    /// Of the control plane, not yet answered.
    orders: Vec<orders::Pending>,
    evictions: Vec<evictions::Eviction>,
    /// What was withdrawn from hosts whose qpairs have not all begun to drain.
    withdrawals: Vec<withdraw::Pending>,
    requests_live: u64,
    /// When the first qpair was opened.
    first_open_ns: Option<u64>,
    /// Request slots of all qpairs: what every queue of requests has room for.
    slot_count: usize,

    // Batches of one turn, empty between turns but for what messages and timers have completed since.
    arrivals: Vec<Arrival>,
    control_batch: Vec<RequestName>,
    io_batch: Vec<RequestName>,
    completions: Vec<Completion>,
    completed: Vec<RequestName>,
    failures: Vec<(Handle<Qpair>, Failure)>,
    abort_answers: Vec<(Aborter, bool)>,
    scratch: Vec<u8>,
    episodes: pressure::Episodes,
}

impl PollGroup {
    /// With no qpairs.
    #[must_use]
    pub fn new(options: PollGroupOptions) -> Self {
        let qpair_count_max = options.qpair_count_max.clamp(1, QPAIR_COUNT_MAX);
        let directory = options.directory;
        Self {
            cpu: options.cpu,
            control: options.control,
            counters: directory.counters(options.cpu),
            qpairs: Slab::new(qpair_count_max),
            handles: vec![None; qpair_count_max],
            headers: Limbo::new(Grace::Messages, HEADER_COUNT_MAX),
            controllers: Slab::new(qpair_count_max),
            buffers: Buffers::new(options.cpu, options.data_memory, directory.transfer_len_max()),
            devices: Devices::new(options.ways),
            hosts: Hosts::new(),
            gate: Gate::default(),
            home: Home::default(),
            lock_letters: Vec::new(),
            lock_number: 0,
            locks_asked: 0,
            parking: Parking::default(),
            orders: Vec::new(),
            evictions: Vec::new(),
            withdrawals: Vec::new(),
            requests_live: 0,
            first_open_ns: None,
            slot_count: 0,
            arrivals: Vec::new(),
            control_batch: Vec::new(),
            io_batch: Vec::new(),
            completions: Vec::new(),
            completed: Vec::new(),
            failures: Vec::new(),
            abort_answers: Vec::new(),
            scratch: Vec::new(),
            episodes: pressure::Episodes::default(),
            directory,
        }
    }

    /// Steps 1 to 9, once.
    pub fn walk<M: From<Message>, T: Transport>(&mut self, turn: &mut Turn<'_, M>, transport: &mut T) -> Progress {
        self.devices.begin_turn(turn.now_ns());
        // 1: completions become arrivals.
        let mut progress = transport.poll(turn, &mut self.arrivals);
        // 2, 3: 64 bytes become a typed command, in its slot; what was pulled is taken on, what is finished gives everything back.
        self.fetch(turn, transport);
        // Buffers that came back go to those who wait longest.
        self.grant_buffers(turn, transport);
        self.grant_shares(turn);
        // 4: Fabrics and admin commands.
        self.begin_control_batch(turn, transport);
        // 5, 6: I/O commands become block operations; what a write needs is pulled first.
        self.begin_io_batch(turn, transport);
        // 7: submit, poll.
        progress = progress.or(self.run_devices(transport));
        // 8, 9: data is pushed, responses are posted, one doorbell.
        progress = progress.or(self.respond(transport));
        transport.ring();
        self.report_failures(turn);
        self.answer_aborts(turn);
        self.answer_orders(turn);
        self.answer_evictions(turn);
        self.send_lock_letters(turn);
        self.reap_headers(turn);
        self.trace_pressure(turn);
        self.publish_gauges();
        progress
    }

    /// This CPU would sleep: the devices' completions end the sleep from here on ([`Self::wake_descriptors`]). What else the walk waits for comes
    /// from the transport, by message or by timer. Each call is followed by one of [`Self::disarm`] before anything else.
    pub fn arm(&mut self) -> Rest {
        let has_begun = !self.arrivals.is_empty()
            || !self.control_batch.is_empty()
            || !self.io_batch.is_empty()
            || !self.completions.is_empty()
            || !self.completed.is_empty()
            || !self.abort_answers.is_empty()
            || self.has_order_due()
            || self.has_eviction_due()
            || !self.lock_letters.is_empty()
            || self.gate.has_answer();
        if has_begun { Rest::Poll } else { self.devices.arm() }
    }

    /// It is awake.
    pub fn disarm(&mut self) {
        self.devices.disarm();
    }

    /// What becomes readable when a device has completed something while this CPU sleeps. The same for ever.
    pub fn wake_descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.devices.wake_descriptors()
    }

    /// A connection is being made: its qpair exists from now on, and waits for a Connect capsule.
    ///
    /// # Errors
    /// [`Full`] hands the facts back where the CPU has as many qpairs as it may.
    pub fn open<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        spec: QpairSpec,
    ) -> Result<Handle<Qpair>, Full<QpairSpec>> {
        // A place in limbo is reserved now, so that closing can never fail.
        let has_limbo = self.headers.len() + self.qpairs.len() < HEADER_COUNT_MAX;
        let Some(handle) = self.qpairs.next_handle().filter(|_| has_limbo) else { return Err(Full(spec)) };
        let slot_count = usize::from(spec.depth) * usize::from(SLOTS_PER_ENTRY);
        let qid = spec.qid;
        let now_ns = turn.now_ns();
        self.first_open_ns.get_or_insert(now_ns);
        let timer = turn.arm(now_ns + CONNECT_TIMEOUT_NS, token(Timer::Connect(handle)));
        let header = Box::new(QpairHeader::new(handle, &spec, now_ns));
        match self.qpairs.insert(QpairBody::new(spec, timer)) {
            Ok(inserted) => debug_assert_eq!(inserted, handle),
            Err(Full(body)) => {
                turn.cancel(timer);
                return Err(Full(body.spec));
            }
        }
        self.handles[handle.index()] = Some(handle);
        self.slot_count += slot_count;
        self.reserve();
        self.directory.link_header(self.cpu, header);
        Step::QpairOpened.trace(turn, handle.to_bits(), qid.into());
        Ok(handle)
    }

    /// Block operations of a draining qpair that have not completed, and messages of it that have not been answered. They are waited for, never cut.
    #[must_use]
    pub fn outstanding_count(&self, qpair: Handle<Qpair>) -> usize {
        self.qpairs.look(qpair).map_or(0, QpairBody::awaited_count)
    }

    /// Qpairs, controllers, buffers and locks in use on this CPU, and values in limbo: the CPU may leave when it is zero.
    #[must_use]
    pub fn live_count(&self) -> usize {
        let locks = self.locks_asked + self.home.len() + self.gate.fence_count() + self.lock_letters.len();
        self.qpairs.len() + self.controllers.len() + self.buffers.taken() + self.headers.len() + locks
    }

    /// Data buffers that no request has: memory that no device may touch.
    pub fn free_buffers(&self) -> impl Iterator<Item = Segment> {
        self.buffers.free()
    }

    /// What this CPU counts.
    #[must_use]
    pub fn counters(&self) -> Arc<PollGroupCounters> {
        Arc::clone(&self.counters)
    }

    /// Room for the requests of all qpairs in everything that they may queue in, so that no batch grows on the data path.
    fn reserve(&mut self) {
        let slot_count = self.slot_count;
        // A stranger has one request that may wait: its Connect.
        self.buffers.reserve(HostIndex::STRANGERS, self.qpairs.len());
        self.devices.reserve(slot_count);
        self.parking.reserve(slot_count);
        self.gate.reserve(slot_count);
        self.arrivals.reserve(slot_count);
        self.control_batch.reserve(slot_count);
        self.io_batch.reserve(slot_count);
        self.completed.reserve(slot_count);
        self.failures.reserve(slot_count);
        self.completions.reserve(slot_count);
    }

    fn reap_headers<M>(&mut self, turn: &mut Turn<'_, M>) {
        while let Some(header) = self.headers.reap(turn) {
            drop(header.into_object());
        }
    }

    fn publish_gauges(&self) {
        let counters = &self.counters;
        counters.qpairs_live.set(self.qpairs.len() as u64);
        counters.controllers_live.set(self.controllers.len() as u64);
        counters.requests_live.set(self.requests_live);
        counters.buffers_taken.set(self.buffers.taken() as u64);
        counters.buffers_awaited.set(self.buffers.waiting_count() as u64);
        counters.host_shares_awaited.set(self.hosts.waiting_count() as u64);
        counters.requests_parked.set((self.parking.len() + self.gate.held_count()) as u64);
        counters.device_leases.set(self.devices.lease_count());
        counters.headers_in_limbo.set(self.headers.len() as u64);
    }

    fn header<'t, M>(&self, turn: &Turn<'t, M>, qpair: Handle<Qpair>) -> Option<&'t QpairHeader> {
        self.directory.header(turn.guard(), self.cpu, qpair.index())
    }
}
