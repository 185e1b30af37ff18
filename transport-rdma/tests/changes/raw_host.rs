//! A host made of verbs alone, at any of several addresses and subsystems: it opens sessions (an admin queue and an I/O queue), reads back what it wrote, and ends
//! them when it likes. It waits for everything that it posted before it destroys a queue pair, so that what is left over in the end is the target's.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use reactor::{Cpu, Program, Progress, Segment, SharedArena, Turn};
use transport_rdma::binding::{RejectData, RequestData};
use transport_rdma::soft::in_process::{InProcessPort, InProcessProvider};
use transport_rdma::target::Message;
use transport_rdma::verbs::{
    Access, Completion, CompletionStatus, ConnectParameters, Connection, ConnectionId, Event, Flags, LocalSegment,
    Memory, Port, PortId, PortOptions, Provider, QueuePairName, QueuePairOptions, RegisteredMemory, RejectReason,
    SendOperation, SendRequest, Ticket,
};

use super::nvme;

pub const SUBSYSTEM: &str = "nqn.2026-01.org.quiesce:test";
pub const BLOCK_LEN: usize = 512;
/// Largest transfer of a host, in blocks.
pub const BLOCK_COUNT_MAX: u16 = 16;
/// Blocks that belong to one host alone.
pub const HOST_BLOCK_COUNT: u64 = 64;

/// What one session does.
#[derive(Clone, Debug)]
pub struct Session {
    /// The I/O queue's depth.
    pub depth: u16,
    /// Commands on the I/O queue before the end.
    pub io_count: u32,
    /// How it ends.
    pub end: End,
    /// Where the target is.
    pub address: SocketAddr,
    /// The subsystem.
    pub nqn: &'static str,
    /// Whether its Connect may be refused, since the subsystem may have gone: then the session ends.
    pub may_be_refused: bool,
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After the last response.
    Quietly,
    /// With commands outstanding.
    Abruptly,
    /// This many of our turns after the admin connection was asked for, wherever it is then.
    AfterTurns(u32),
    /// Waits for the target to end it.
    Wait,
    /// The same, and does not even connect: its queue pair says nothing.
    Silent,
}

/// What is seen from outside.
#[derive(Debug, Default)]
pub struct Observed {
    pub sessions_ended: u32,
    pub io_count: u64,
    pub rejects: Vec<u16>,
    /// Requests that found nobody listening.
    pub unreachable: u64,
    /// Connects answered with an error.
    pub refused: Vec<u16>,
    pub disconnected: u64,
    pub is_done: bool,
    pub sessions_established: u32,
    pub is_serving: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Resolving,
    Creating,
    Connecting,
    Up,
    /// We disconnected: everything posted is to come back.
    Draining,
    Destroying,
    DestroyingConnection,
}

#[derive(Clone, Copy, Debug)]
enum Sent {
    Connect,
    EnableController,
    Status,
    QueueCount,
    Identify,
    Wait,
    Write { block: u64, count: u16, stamp: u8 },
    Read { block: u64, count: u16, stamp: u8 },
}

/// One connection with its queue pair.
struct Queue {
    qid: u16,
    depth: u16,
    stage: Stage,
    connection: Option<Connection>,
    name: Option<QueuePairName>,
    sent: Vec<Option<Sent>>,
    posted: u32,
    memory: Segment,
}

const SLOT_LEN: usize = BLOCK_LEN * BLOCK_COUNT_MAX as usize;
const DEPTH_MAX: usize = 16;
/// Receives, capsules, data.
const QUEUE_LEN: usize = DEPTH_MAX * 2 * (64 + 256 + SLOT_LEN);

pub struct RawHost {
    number: u8,
    provider: InProcessProvider,
    port: InProcessPort,
    port_id: PortId,
    arena: Arc<SharedArena>,
    keys: Option<RegisteredMemory>,
    sessions: Vec<Session>,
    session: Option<Session>,
    queues: [Queue; 2],
    controller_id: u16,
    turns: u32,
    submitted: u32,
    next_block: u64,
    stamps: Vec<u8>,
    completions: Vec<Completion>,
    observed: Rc<RefCell<Observed>>,
}

impl RawHost {
    pub fn new(
        number: u8,
        mut provider: InProcessProvider,
        mut sessions: Vec<Session>,
        observed: Rc<RefCell<Observed>>,
    ) -> Self {
        let options = PortOptions { completion_count: 512, shared_receive_count: 0 };
        let (port_id, port) = provider.create_port(options).unwrap();
        let arena = Arc::new(SharedArena::new("raw-host", 2 * QUEUE_LEN, false).unwrap());
        let access = Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE;
        provider.begin_register(Ticket(9 << 8), Memory::Shared(Arc::clone(&arena)), access);
        sessions.reverse();
        let queue = |qid: u16| Queue {
            qid,
            depth: 0,
            stage: Stage::Idle,
            connection: None,
            name: None,
            sent: Vec::new(),
            posted: 0,
            memory: arena.segment().part(usize::from(qid) * QUEUE_LEN, QUEUE_LEN),
        };
        let queues = [queue(0), queue(1)];
        Self {
            number,
            provider,
            port,
            port_id,
            arena,
            keys: None,
            sessions,
            session: None,
            queues,
            controller_id: 0,
            turns: 0,
            submitted: 0,
            next_block: 0,
            stamps: vec![0; HOST_BLOCK_COUNT as usize],
            completions: Vec::new(),
            observed,
        }
    }

    // Connections.

    fn begin_connection(&mut self, at: usize) {
        let queue = &mut self.queues[at];
        assert_eq!(queue.stage, Stage::Idle);
        queue.depth = if at == 0 { 8 } else { self.session.as_ref().unwrap().depth };
        queue.sent = vec![None; usize::from(queue.depth) + 1];
        queue.posted = 0;
        queue.stage = Stage::Resolving;
        self.provider.begin_resolve(Ticket(1 << 8 | at as u64), self.session.as_ref().unwrap().address);
    }

    fn take_event(&mut self, event: Event<InProcessPort>) {
        match event {
            Event::Registered { result, .. } => self.keys = Some(result.unwrap()),
            Event::Resolved { ticket, result } => {
                let at = (ticket.0 & 0xFF) as usize;
                let connection = result.unwrap();
                let depth = u32::from(self.queues[at].depth);
                let options = QueuePairOptions {
                    send_count: depth + 4,
                    receive_count: depth + 2,
                    segment_count: 2,
                    inline_len: 0,
                    shared_receive: false,
                };
                let id = connection.id();
                self.queues[at].connection = Some(connection);
                self.queues[at].stage = Stage::Creating;
                self.provider.begin_create_queue_pair(Ticket(2 << 8 | at as u64), id, self.port_id, options);
            }
            Event::QueuePairCreated { ticket, result } => {
                self.connect((ticket.0 & 0xFF) as usize, result.unwrap());
            }
            Event::Established { connection, .. } => {
                let Some(at) = self.queue_of(connection) else { return };
                if self.queues[at].stage == Stage::Connecting {
                    self.queues[at].stage = Stage::Up;
                    self.observed.borrow_mut().sessions_established += 1;
                    let id = if at == 0 { 0xFFFF } else { self.controller_id };
                    if self.session.as_ref().unwrap().end != End::Silent {
                        self.send_connect(at, id);
                    }
                }
            }
            Event::Rejected { connection, reason } => {
                match reason {
                    RejectReason::Consumer(data) => {
                        let status = RejectData::parse(&data).map_or(0, |data| data.status);
                        self.observed.borrow_mut().rejects.push(status);
                    }
                    RejectReason::Unreachable(_) => self.observed.borrow_mut().unreachable += 1,
                    RejectReason::Stale | RejectReason::TimedOut => {}
                }
                let Some(at) = self.queue_of(connection) else { return };
                self.disconnect(at);
                self.disconnect(1 - at);
            }
            Event::Disconnected { connection } => {
                self.observed.borrow_mut().disconnected += 1;
                let Some(at) = self.queue_of(connection) else { return };
                self.disconnect(at);
                self.disconnect(1 - at);
            }
            Event::QueuePairDestroyed { ticket, result } => {
                result.unwrap();
                let at = (ticket.0 & 0xFF) as usize;
                let connection = self.queues[at].connection.take().unwrap();
                self.queues[at].stage = Stage::DestroyingConnection;
                self.provider.begin_destroy_connection(Ticket(4 << 8 | at as u64), connection);
            }
            Event::ConnectionDestroyed { ticket } => self.queues[(ticket.0 & 0xFF) as usize].stage = Stage::Idle,
            Event::Deregistered { .. }
            | Event::Unlistened { .. }
            | Event::ConnectRequest(_)
            | Event::TimewaitExit { .. }
            | Event::LastWqeReached { .. }
            | Event::QueuePairFatal { .. }
            | Event::CompletionQueueError { .. }
            | Event::AddressChanged { .. }
            | Event::DeviceRemoved(_)
            | Event::DeviceReleased(_)
            | Event::DeviceReopened { .. } => {}
        }
    }

    fn connect(&mut self, at: usize, queue_pair: <InProcessPort as Port>::QueuePair) {
        let name = self.port.attach(queue_pair);
        self.queues[at].name = Some(name);
        let queue = &self.queues[at];
        if queue.stage == Stage::Draining {
            return;
        }
        for number in 0..queue.depth + 2 {
            self.post_receive(at, number);
        }
        self.queues[at].stage = Stage::Connecting;
        let queue = &self.queues[at];
        let data = RequestData {
            queue_id: queue.qid,
            receive_queue_size: queue.depth,
            send_queue_size_zero_based: queue.depth - 1,
            controller_id: 0,
        };
        let request = data.to_bytes();
        let parameters = ConnectParameters {
            private_data: &request,
            responder_resources: 4,
            initiator_depth: 0,
            retry_count: 7,
            rnr_retry_count: 7,
        };
        self.provider.connect(queue.connection.as_ref().unwrap(), parameters);
    }

    fn disconnect(&mut self, at: usize) {
        let queue = &mut self.queues[at];
        match queue.stage {
            Stage::Creating | Stage::Connecting | Stage::Up => {
                queue.stage = Stage::Draining;
                self.provider.disconnect(queue.connection.as_ref().unwrap().id());
            }
            Stage::Resolving | Stage::Idle | Stage::Draining | Stage::Destroying | Stage::DestroyingConnection => {}
        }
    }

    /// `None`: it is being destroyed.
    fn queue_of(&self, id: ConnectionId) -> Option<usize> {
        let is_it = |queue: &Queue| queue.connection.as_ref().is_some_and(|connection| connection.id() == id);
        self.queues.iter().position(is_it)
    }

    // Commands.

    fn local(&self, memory: Segment) -> LocalSegment {
        LocalSegment { memory, local_key: self.keys.unwrap().local_key }
    }

    fn receive_segment(&self, at: usize, number: u16) -> Segment {
        self.queues[at].memory.part(usize::from(number) * 64, 16)
    }

    fn capsule_segment(&self, at: usize, slot: u16) -> Segment {
        self.queues[at].memory.part(DEPTH_MAX * 2 * 64 + usize::from(slot) * 256, 256)
    }

    fn data_segment(&self, at: usize, slot: u16) -> Segment {
        self.queues[at].memory.part(DEPTH_MAX * 2 * 320 + usize::from(slot) * SLOT_LEN, SLOT_LEN)
    }

    fn post_receive(&mut self, at: usize, number: u16) {
        let segment = self.local(self.receive_segment(at, number));
        let id = 1 << 16 | (at as u64) << 8 | u64::from(number);
        self.port.post_receive(self.queues[at].name.unwrap(), id, &[segment]).unwrap();
        self.queues[at].posted += 1;
    }

    fn free_slot(&self, at: usize) -> Option<u16> {
        let queue = &self.queues[at];
        let slot = queue.sent[..usize::from(queue.depth)].iter().position(Option::is_none)?;
        Some(slot as u16)
    }

    fn keyed(&self, at: usize, slot: u16, len: usize) -> [u8; 16] {
        nvme::keyed(self.data_segment(at, slot).address(), len as u32, self.keys.unwrap().remote_key, false)
    }

    fn send(&mut self, at: usize, slot: u16, sent: Sent, command: [u8; 64], in_capsule: Option<Segment>) {
        self.send_bytes(at, slot, &command, in_capsule);
        self.queues[at].sent[usize::from(slot)] = Some(sent);
    }

    fn send_bytes(&mut self, at: usize, slot: u16, bytes: &[u8], in_capsule: Option<Segment>) {
        let capsule = self.capsule_segment(at, slot);
        capsule.write(0, bytes);
        let mut segments = vec![self.local(capsule.part(0, bytes.len()))];
        segments.extend(in_capsule.map(|data| self.local(data)));
        let id = 2 << 16 | (at as u64) << 8 | u64::from(slot);
        let request = SendRequest { id, operation: SendOperation::Send, flags: Flags::SIGNALED, segments: &segments };
        self.port.post_send(self.queues[at].name.unwrap(), &request).unwrap();
        self.queues[at].posted += 1;
    }

    fn send_connect(&mut self, at: usize, controller_id: u16) {
        let data = self.data_segment(at, 0);
        data.write(0, &nvme::connect_data(self.session.as_ref().unwrap().nqn, controller_id, self.number + 1));
        let (qid, depth) = (self.queues[at].qid, self.queues[at].depth);
        let sgl = self.keyed(at, 0, 1024);
        self.send(at, 0, Sent::Connect, nvme::connect(0, qid, depth, 0, sgl), None);
    }

    fn take_response(&mut self, at: usize, bytes: [u8; 16]) {
        let (result, cid, status) = nvme::completion(bytes);
        let sent = self.queues[at].sent[usize::from(cid)].take().expect("a response to nothing");
        if matches!(sent, Sent::Connect) && status != 0 && self.session.as_ref().unwrap().may_be_refused {
            self.observed.borrow_mut().refused.push(status);
            self.disconnect(at);
            return self.disconnect(1 - at);
        }
        assert_eq!(status, 0, "host {}: {sent:?} on queue {at} ended with status {status:#x}", self.number);
        match sent {
            Sent::Connect if at == 0 => {
                self.controller_id = (result & 0xFFFF) as u16;
                self.send(0, 0, Sent::EnableController, nvme::property_set(0, 0x14, 0x0046_0001), None);
            }
            Sent::Connect => self.observed.borrow_mut().is_serving = true,
            Sent::EnableController => self.send(0, 0, Sent::Status, nvme::property_get(0, 0x1C), None),
            Sent::Status if result & 1 == 0 => self.send(0, 0, Sent::Status, nvme::property_get(0, 0x1C), None),
            Sent::Status => self.send(0, 0, Sent::QueueCount, nvme::queue_count(0, 1), None),
            Sent::QueueCount => {
                let sgl = self.keyed(0, 0, 4096);
                self.send(0, 0, Sent::Identify, nvme::identify_controller(0, sgl), None);
            }
            Sent::Identify => {
                self.send(0, 1, Sent::Wait, nvme::async_event_request(1), None);
                self.begin_connection(1);
            }
            Sent::Wait => {}
            Sent::Write { block, count, stamp } => {
                self.observed.borrow_mut().io_count += 1;
                let sgl = self.keyed(at, cid, usize::from(count) * BLOCK_LEN);
                self.data_segment(at, cid).zero();
                let command = nvme::transfer(false, cid, block, count, sgl);
                self.send(at, cid, Sent::Read { block, count, stamp }, command, None);
            }
            Sent::Read { count, stamp, .. } => {
                self.observed.borrow_mut().io_count += 1;
                let mut data = vec![0; usize::from(count) * BLOCK_LEN];
                self.data_segment(at, cid).read(0, &mut data);
                assert!(data.iter().all(|byte| *byte == stamp), "host {}: read back something else", self.number);
            }
        }
    }

    /// A write whose data comes back with the read that follows it. Ranges of commands under way do not overlap.
    fn submit_io(&mut self, slot: u16, random: u64) {
        let count = 1 + (random % u64::from(BLOCK_COUNT_MAX / 4)) as u16;
        if self.next_block + u64::from(count) > HOST_BLOCK_COUNT {
            self.next_block = 0;
        }
        let first = self.next_block;
        let range = first..first + u64::from(count);
        let overlaps = |sent: &Option<Sent>| match sent {
            Some(Sent::Write { block, count, .. } | Sent::Read { block, count, .. }) => {
                *block < range.end && range.start < *block + u64::from(*count)
            }
            Some(_) | None => false,
        };
        if self.queues[1].sent.iter().any(overlaps) {
            return;
        }
        self.next_block = range.end;
        let stamp = (random >> 32) as u8 | 1;
        self.stamps[first as usize] = stamp;
        let block = u64::from(self.number) * HOST_BLOCK_COUNT + first;
        let len = usize::from(count) * BLOCK_LEN;
        let data = self.data_segment(1, slot).part(0, len);
        data.write(0, &vec![stamp; len]);
        let sent = Sent::Write { block, count, stamp };
        self.submitted += 1;
        if count == 1 && random & 0x100 != 0 {
            let command = nvme::transfer(true, slot, block, count, nvme::in_capsule(len as u32));
            self.send(1, slot, sent, command, Some(data));
        } else {
            let command = nvme::transfer(true, slot, block, count, self.keyed(1, slot, len));
            self.send(1, slot, sent, command, None);
        }
    }

    // Sessions.

    fn drive(&mut self, random: u64) {
        let Some(session) = self.session.clone() else { return self.begin_session() };
        self.turns += 1;
        if self.queues.iter().all(|queue| queue.stage == Stage::Idle) {
            let mut observed = self.observed.borrow_mut();
            observed.sessions_ended += 1;
            observed.is_serving = false;
            self.session = None;
            return;
        }
        let over = match session.end {
            End::AfterTurns(turns) => self.turns > turns,
            End::Abruptly => self.submitted >= session.io_count,
            End::Quietly => self.submitted >= session.io_count && self.is_quiet(),
            End::Wait | End::Silent => false,
        };
        if over && self.queues[1].stage != Stage::Resolving {
            self.disconnect((random % 2) as usize);
            self.disconnect(1 - (random % 2) as usize);
        }
        if self.queues[1].stage != Stage::Up || !self.observed.borrow().is_serving {
            return;
        }
        if self.submitted < session.io_count
            && let Some(slot) = self.free_slot(1)
        {
            self.submit_io(slot, random);
        }
    }

    fn is_quiet(&self) -> bool {
        self.queues[1].stage == Stage::Up && self.queues[1].sent.iter().all(Option::is_none)
    }

    fn begin_session(&mut self) {
        match self.sessions.pop() {
            Some(session) => {
                self.session = Some(session);
                self.turns = 0;
                self.submitted = 0;
                self.begin_connection(0);
            }
            None => self.observed.borrow_mut().is_done = true,
        }
    }

    fn destroy_drained(&mut self) {
        for at in 0..2 {
            let queue = &mut self.queues[at];
            if queue.stage == Stage::Draining
                && queue.posted == 0
                && let Some(name) = queue.name.take()
            {
                queue.stage = Stage::Destroying;
                let queue_pair = self.port.detach(name).unwrap();
                self.provider.begin_destroy_queue_pair(Ticket(3 << 8 | at as u64), queue_pair);
            }
        }
    }

    fn take_completion(&mut self, completion: Completion) {
        let at = (completion.id >> 8 & 0xFF) as usize;
        self.queues[at].posted -= 1;
        if completion.status != CompletionStatus::Success {
            self.disconnect(at);
            self.disconnect(1 - at);
            return;
        }
        if completion.id >> 16 == 1 && self.queues[at].stage == Stage::Up {
            let number = (completion.id & 0xFF) as u16;
            let mut bytes = [0; 16];
            self.receive_segment(at, number).read(0, &mut bytes);
            assert_eq!(completion.len, 16);
            self.post_receive(at, number);
            self.take_response(at, bytes);
        }
    }
}

impl Program for RawHost {
    type Message = Message<InProcessProvider>;

    fn receive<'t>(&mut self, _: &mut Turn<'t, Self::Message>, _: Option<Cpu>, _: Self::Message) {
        unreachable!("nobody writes to a host");
    }

    fn fire<'t>(&mut self, _: &mut Turn<'t, Self::Message>, _: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Self::Message>) -> Progress {
        let _ = &self.arena;
        while let Some(event) = self.provider.next_event(turn.now_ns()) {
            let event = self.provider.acknowledge(event);
            self.take_event(event);
        }
        let mut completions = std::mem::take(&mut self.completions);
        self.port.poll(turn.now_ns(), 64, &mut completions);
        for completion in completions.drain(..) {
            self.take_completion(completion);
        }
        self.completions = completions;
        if self.keys.is_some() {
            let random = turn.random();
            self.drive(random);
        }
        self.destroy_drained();
        self.port.ring();
        if self.observed.borrow().is_done {
            turn.leave();
        }
        Progress::Busy
    }
}
