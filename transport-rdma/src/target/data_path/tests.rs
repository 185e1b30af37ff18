//! The data path over a port whose every completion is written by hand.

mod misbehaving;
mod serving;

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::mpsc;

use reactor::{Rest, TimerId};

use super::*;
use crate::target::body::{Body, Life};
use crate::target::message::Terms;
use crate::teardown::{Evidence, Quiet, ReceiveSide};
use crate::verbs::{CompletionStatus, Flags, LocalSegment, QueuePairName, Received, SendOperation, SendRequest};

/// What was posted, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Posted {
    Receive(u64),
    SharedReceive(u64),
    Send { id: u64, operation: SendOperation, flags: Flags, len: usize },
}

#[derive(Default)]
struct ByHand {
    posted: Vec<Posted>,
    completions: VecDeque<Completion>,
    refuses_sends: bool,
    /// Takes so many sends, refuses one, and takes all after that.
    refuses_send_after: Option<usize>,
    refuses_receives: bool,
    /// Of the send queue, for sends that never complete.
    capacity: Option<usize>,
    ring_count: usize,
}

impl ByHand {
    fn look_at_faults(&mut self) -> Result<(), PostError> {
        let is_send = |posted: &&Posted| matches!(posted, Posted::Send { .. });
        let send_count = self.posted.iter().filter(is_send).count();
        if self.capacity.is_some_and(|capacity| send_count >= capacity) {
            return Err(PostError::QueueFull);
        }
        if self.refuses_send_after == Some(send_count) {
            self.refuses_send_after = None;
            return Err(PostError::Malformed);
        }
        Ok(())
    }
}

impl Port for ByHand {
    type QueuePair = ();

    fn attach(&mut self, (): ()) -> QueuePairName {
        QueuePairName { index: 0, number: 7 }
    }

    fn detach(&mut self, _: QueuePairName) -> Option<()> {
        Some(())
    }

    fn post_receive(&mut self, _: QueuePairName, id: u64, _: &[LocalSegment]) -> Result<(), PostError> {
        if self.refuses_receives {
            return Err(PostError::WrongState);
        }
        self.posted.push(Posted::Receive(id));
        Ok(())
    }

    fn post_shared_receive(&mut self, id: u64, _: &[LocalSegment]) -> Result<(), PostError> {
        self.posted.push(Posted::SharedReceive(id));
        Ok(())
    }

    fn post_send(&mut self, _: QueuePairName, request: &SendRequest<'_>) -> Result<(), PostError> {
        if self.refuses_sends {
            return Err(PostError::QueueFull);
        }
        if self.capacity.is_some() || self.refuses_send_after.is_some() {
            self.look_at_faults()?;
        }
        let len = request.segments.iter().map(|segment| segment.memory.len()).sum();
        self.posted.push(Posted::Send { id: request.id, operation: request.operation, flags: request.flags, len });
        Ok(())
    }

    fn ring(&mut self) {
        self.ring_count += 1;
    }

    fn poll(&mut self, _: u64, limit: usize, completions: &mut Vec<Completion>) -> usize {
        let count = limit.min(self.completions.len());
        completions.extend(self.completions.drain(..count));
        count
    }

    fn arm(&mut self, _now_ns: u64) -> Rest {
        Rest::Poll
    }

    fn disarm(&mut self) {}

    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }
}

const SHIFT: u32 = 4;
const DEPTH: u16 = 2;

fn arena(len: usize) -> Segment {
    reactor::Arena::new(len, false).unwrap().segment()
}

/// One that a reactor made: there is no other way to one.
fn timer() -> TimerId {
    struct Arms(mpsc::Sender<TimerId>);
    impl reactor::Program for Arms {
        type Message = ();
        fn receive<'t>(&mut self, _: &mut Turn<'t, ()>, _: Option<reactor::Cpu>, (): ()) {}
        fn fire<'t>(&mut self, _: &mut Turn<'t, ()>, _: u64) {}
        fn poll<'t>(&mut self, turn: &mut Turn<'t, ()>) -> Progress {
            self.0.send(turn.arm(1, 1)).unwrap();
            Progress::Idle
        }
    }
    let (sender, receiver) = mpsc::channel();
    let mut simulation = reactor::Simulation::new(1, 1);
    simulation.install(reactor::Cpu(0), Arms(sender));
    simulation.step();
    receiver.recv().unwrap()
}

struct Rig {
    path: DataPath<ByHand>,
    qpair: Handle<Qpair>,
    data: Segment,
    arrivals: Vec<Arrival>,
}

impl Rig {
    /// One queue pair of depth 2, with room for `send_count` requests and `read_depth` READs; transfers of at most 4096 bytes.
    fn new(send_count: u32, read_depth: u8, shared_count: u32) -> Self {
        let (receives, responses, data) = (arena(4 * 128), arena(64 * 16), arena(16 * 4096));
        let mut keys = RegionKeys::default();
        for (key, segment) in [(1, receives), (2, responses), (3, data)] {
            keys.insert(segment.region(), key);
        }
        let home = reactor::Home { cpu: reactor::Cpu(0), pool: 0 };
        let mut pool = reactor::Pool::new(home, receives.part(0, 3 * 128), 128);
        let shared = (shared_count > 0).then(|| SharedReceives::new(receives, 128, shared_count));
        let buffers = if shared_count > 0 { Vec::new() } else { std::iter::from_fn(|| pool.take()).collect() };
        let mut path = DataPath::new(DataPathOptions {
            fitting: Fitting {
                port: ByHand::default(),
                keys,
                completion_count: 64,
                transfer_len_max: 4096,
                inline_responses: false,
                raises_last_wqe: true,
            },
            queue_pair_count_max: 4,
            index_shift: SHIFT,
            responses,
            shared,
            counters: Arc::default(),
        });
        let qpair = Handle::from_bits(5 << 24 | 1);
        let terms = Terms { depth: DEPTH, read_depth, send_count };
        let name = path.port.attach(());
        if let Some(shared) = &mut path.shared {
            shared.insert(name.number, qpair);
        }
        path.bodies.insert(Box::new(Body::new(qpair, Handle::from_bits(0), name, terms, buffers)));
        assert!(path.post_first_receives(qpair));
        path.ring();
        Self { path, qpair, data, arrivals: Vec::new() }
    }

    fn id(&self, kind: WorkKind, number: u32) -> u64 {
        request_id(SHIFT, kind, self.qpair, number)
    }

    fn complete(&mut self, id: u64, status: CompletionStatus, len: u32) {
        let received = Received::default();
        self.path.port.completions.push_back(Completion { id, status, number: 7, len, received });
    }

    fn capsule(&mut self, number: u32) {
        self.complete(self.id(WorkKind::Receive, number), CompletionStatus::Success, 64);
    }

    fn poll(&mut self) -> Vec<Arrival> {
        self.path.take_completions(0, &mut self.arrivals);
        #[cfg(debug_assertions)]
        self.body().audit();
        std::mem::take(&mut self.arrivals)
    }

    fn body(&mut self) -> &mut Body {
        self.path.bodies.look_mut(self.qpair).unwrap()
    }

    /// Permits that are not at hand: sends (without the marker's), READs, own receives, commands.
    fn out(&mut self) -> [u32; 4] {
        let body = self.body();
        let commands = body.work.commands.out_count();
        let (Some(Life::Live(live)) | Some(Life::Broken(live))) = &mut body.life else { panic!("not live") };
        let allowance = live.allowance();
        let (reads, receives) = (allowance.reads.out_count(), allowance.receives.out_count());
        [allowance.posted_send_count(), reads, receives, commands]
    }

    fn begin_drain(&mut self) {
        assert!(self.body().begin_drain(DisconnectReason::Host, timer));
        self.path.drop_waiting_capsules(self.qpair);
        self.body().draining_mut().unwrap().entered_error_state();
    }

    /// The marker, if there is anything before it, and all receives that are posted come back. Sends said before what they say.
    fn return_all(&mut self) {
        self.path.post_marker(self.qpair);
        if self.body().draining_mut().unwrap().marker_is_out() {
            self.complete(self.id(WorkKind::Marker, 0), CompletionStatus::WorkRequestFlushed, 0);
        }
        let posted: Vec<_> = self.body().work.receives.posted.iter().map(Option::is_some).collect();
        for (number, _) in (0..).zip(posted).filter(|(_, is_posted)| *is_posted) {
            self.complete(self.id(WorkKind::Receive, number), CompletionStatus::WorkRequestFlushed, 0);
        }
        assert!(self.poll().is_empty(), "what drains brings nothing");
    }

    fn check(&mut self) -> Option<Quiet> {
        let body = self.body();
        let Some(Life::Draining(draining, timer)) = body.life.take() else { panic!("does not drain") };
        let evidence = Evidence { receives: ReceiveSide::Own, completion_queue_empty: true, operation_count: 0 };
        match draining.check(&evidence) {
            Ok(quiet) => Some(quiet),
            Err(draining) => {
                body.life = Some(Life::Draining(draining, timer));
                None
            }
        }
    }

    fn respond(&mut self, slot: Slot) {
        self.path.respond(self.qpair, slot, [0; 16], None);
    }

    fn sends(&self) -> Vec<(u64, usize)> {
        let send = |posted: &Posted| match *posted {
            Posted::Send { id, len, .. } => Some((id, len)),
            Posted::Receive(_) | Posted::SharedReceive(_) => None,
        };
        self.path.port.posted.iter().filter_map(send).collect()
    }

    fn remote(len: u32) -> RemoteBuffer {
        RemoteBuffer { address: 0x1000, len, key: 9 }
    }
}

/// Whatever a test did: everything comes back in the end, and each slot is free once.
impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if matches!(self.body().life, Some(Life::Live(_) | Life::Broken(_))) {
            self.begin_drain();
        }
        if matches!(self.body().life, Some(Life::Draining(..))) {
            self.path.port.refuses_sends = false;
            self.return_all();
            assert!(matches!(self.check(), Some(Quiet::Returned(_))));
        }
        let body = self.body();
        body.release_slots();
        assert_eq!(body.work.free_slots.len(), body.work.slots.len());
        #[cfg(debug_assertions)]
        body.audit();
    }
}

fn receive_of(arrival: Arrival) -> (Slot, Receive) {
    match arrival {
        Arrival::Command { slot, receive, .. } => (slot, receive),
        Arrival::Pulled { .. } | Arrival::Finished { .. } => panic!("no command: {arrival:?}"),
    }
}
