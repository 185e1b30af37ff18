//! Lives of one connection in which anything may fail or come at any time: by seeds, with a provider and a CPU that are played move by move.
//!
//! Whatever happens, at the end each queue pair that was made was destroyed once, the connection was destroyed or rejected once, and the record and all
//! room that it had are gone; or, where a destroy call failed, they are kept and counted.

use nvmf_core::DisconnectReason;

use super::bench::{Bench, CONNECTION, failure, qpair, request};
use crate::target::message::ToControl;
use crate::trace::ConnectionStage;
use crate::verbs::{AddressUser, DeviceId, Event, PortId, RejectReason, Ticket};

/// splitmix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((word ^ word >> 31) % limit as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// What is owed to the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Created(Ticket),
    DestroyedQueuePair(Ticket),
    DestroyedConnection(Ticket),
    Adoption,
    Quiet,
    Reaped,
}

/// The CPU's side of the one queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    None,
    Live,
    Draining,
    Over,
}

/// A provider and a CPU that do what is asked of them, one move at a time.
struct Player {
    bench: Bench,
    draw: Draw,
    owed: Vec<Owed>,
    life: Life,
    returns: bool,
    made_count: u32,
    destroyed_count: u32,
    ended_count: u32,
    destroy_fails: bool,
    has_failed: bool,
}

impl Player {
    fn new(seed: u64) -> Self {
        let mut draw = Draw(seed);
        let destroy_fails = draw.one_in(4);
        let mut player = Self {
            bench: Bench::new(),
            draw,
            owed: Vec::new(),
            life: Life::None,
            returns: true,
            made_count: 0,
            destroyed_count: 0,
            ended_count: 0,
            destroy_fails,
            has_failed: false,
        };
        player.bench.event(request());
        player.listen();
        player
    }

    /// Takes in what the control plane asked for.
    fn listen(&mut self) {
        let calls = self.bench.provider.take_calls();
        let ticketed = calls.iter().filter(|call| call.contains("queue pair") || call.contains("destroy")).count();
        assert!(ticketed <= 1, "one call at a time: {calls:?}");
        for call in calls {
            match call.as_str() {
                "create queue pair" => self.owed.push(Owed::Created(self.bench.provider.last_ticket())),
                "destroy queue pair" => self.owed.push(Owed::DestroyedQueuePair(self.bench.provider.last_ticket())),
                "destroy connection" => {
                    self.owed.push(Owed::DestroyedConnection(self.bench.provider.last_ticket()));
                }
                "reject" => self.ended_count += 1,
                "accept" | "disconnect" | "unlisten" => {}
                other => panic!("an unexpected call: {other}"),
            }
        }
        for message in self.bench.take_heard() {
            match message.as_str() {
                "adopt" => self.owed.push(Owed::Adoption),
                "disconnect" | "last-wqe-reached" => self.drain(),
                "nothing-returns" => {
                    self.returns = false;
                    self.drain();
                    self.be_quiet();
                }
                "in-error-state" => self.be_quiet(),
                "queue-pair-destroyed" => self.owed.push(Owed::Reaped),
                other => panic!("an unexpected message: {other}"),
            }
        }
    }

    /// The CPU begins a drain, once.
    fn drain(&mut self) {
        if self.life == Life::Live {
            self.life = Life::Draining;
            let record = self.bench.record();
            self.bench.answer(ToControl::Disconnect { record, qpair: qpair() });
            if !self.returns {
                self.be_quiet();
            }
            self.listen();
        }
    }

    fn be_quiet(&mut self) {
        if self.life == Life::Draining && !self.owed.contains(&Owed::Quiet) {
            self.owed.push(Owed::Quiet);
        }
    }

    /// Gives one thing that is owed.
    fn pay(&mut self, at: usize) {
        let record = self.bench.record();
        let queue_pair = || Box::new(self.bench.provider.queue_pair());
        match self.owed.remove(at) {
            Owed::Created(ticket) if self.draw.one_in(5) => {
                self.bench.event(Event::QueuePairCreated { ticket, result: Err(failure()) });
            }
            Owed::Created(ticket) => {
                self.made_count += 1;
                let result = Ok(*queue_pair());
                self.bench.event(Event::QueuePairCreated { ticket, result });
            }
            Owed::DestroyedQueuePair(ticket) => {
                self.destroyed_count += 1;
                self.has_failed = self.destroy_fails;
                let result = if self.destroy_fails { Err(failure()) } else { Ok(()) };
                self.bench.event(Event::QueuePairDestroyed { ticket, result });
            }
            Owed::DestroyedConnection(ticket) => {
                self.ended_count += 1;
                self.bench.event(Event::ConnectionDestroyed { ticket });
            }
            Owed::Adoption => match self.draw.below(4) {
                0 => {
                    let queue_pair = queue_pair();
                    self.bench.answer(ToControl::Refused { record, queue_pair });
                }
                _ if !self.returns => {
                    let queue_pair = queue_pair();
                    self.bench.answer(ToControl::Refused { record, queue_pair });
                }
                // It could not post its receives.
                1 => {
                    self.life = Life::Live;
                    self.drain();
                }
                _ => {
                    self.life = Life::Live;
                    self.bench.answer(ToControl::Adopted { record, qpair: qpair() });
                }
            },
            Owed::Quiet => {
                self.life = Life::Over;
                let queue_pair = queue_pair();
                self.bench.answer(ToControl::Destroy { record, queue_pair });
            }
            Owed::Reaped => self.bench.answer(ToControl::Reaped { record }),
        }
        self.listen();
    }

    /// Something comes that nobody asked for.
    fn trouble(&mut self) {
        let connection = CONNECTION;
        let event = match self.draw.below(11) {
            0 => Event::Disconnected { connection },
            1 => Event::Rejected { connection, reason: RejectReason::TimedOut },
            2 | 3 => Event::LastWqeReached { connection },
            4 => Event::QueuePairFatal { connection },
            5 => Event::TimewaitExit { connection },
            6 => Event::AddressChanged { of: AddressUser::Connection(connection) },
            7 if self.draw.one_in(3) => Event::DeviceRemoved(DeviceId::ONLY),
            8 if self.draw.one_in(3) => Event::CompletionQueueError { port: PortId(0) },
            9 => {
                // The CPU's own reasons.
                self.drain();
                return;
            }
            _ => {
                Event::Established { connection, private_data: Vec::new(), responder_resources: 1, initiator_depth: 1 }
            }
        };
        self.bench.event(event);
        self.listen();
    }

    fn play(mut self, seed: u64) -> Self {
        for _ in 0..60 {
            if self.draw.one_in(3) {
                self.trouble();
            } else if !self.owed.is_empty() {
                let at = self.draw.below(self.owed.len());
                self.pay(at);
            }
        }
        self.bench.end_all(DisconnectReason::Shutdown);
        self.listen();
        // From here on nothing comes but what is owed.
        for _ in 0..20 {
            if !self.owed.is_empty() {
                self.pay(0);
            }
        }
        assert_eq!(self.owed, [], "seed {seed}");
        self
    }
}

#[test]
fn whatever_fails_in_whatever_step_everything_is_given_back_once() {
    let (mut gone_count, mut kept_count, mut unmade_count) = (0, 0, 0);
    for seed in 0..1200 {
        let player = Player::new(seed).play(seed);
        let Player { bench, made_count, destroyed_count, ended_count, has_failed, .. } = player;
        assert_eq!(bench.provider.take_lost(), 0, "seed {seed}: a queue pair was dropped, not destroyed");
        assert_eq!(made_count, destroyed_count, "seed {seed}: queue pairs made and destroyed");
        let control = bench.control.borrow();
        if has_failed {
            kept_count += 1;
            assert_eq!((ended_count, control.records.len()), (0, 1), "seed {seed}: it is kept");
            assert_eq!(control.counts.quarantined, 1, "seed {seed}");
            drop(control);
            assert_eq!(bench.stage(bench.record()), Some(ConnectionStage::Quarantined), "seed {seed}");
        } else {
            gone_count += 1;
            unmade_count += u32::from(made_count == 0);
            assert_eq!((ended_count, control.records.len()), (1, 0), "seed {seed}: it is gone, once");
            assert!(control.by_connection.is_empty(), "seed {seed}");
            assert!(control.loads[0].is_free(), "seed {seed}: the room that it had");
        }
    }
    assert!(gone_count > 600 && kept_count > 100 && unmade_count > 50, "{gone_count} {kept_count} {unmade_count}");
}

#[test]
fn last_wqe_reached_is_kept_while_nobody_can_be_told_of_it() {
    for adopts in [true, false] {
        let mut bench = Bench::new();
        bench.event(request());
        let (record, ticket) = (bench.record(), bench.provider.last_ticket());
        let result = Ok(bench.provider.queue_pair());
        bench.event(Event::QueuePairCreated { ticket, result });
        bench.event(Event::LastWqeReached { connection: CONNECTION });
        bench.event(Event::QueuePairFatal { connection: CONNECTION });
        assert_eq!(bench.take_heard(), ["adopt"]);
        if adopts {
            bench.answer(ToControl::Adopted { record, qpair: qpair() });
            assert_eq!(bench.take_heard(), ["disconnect", "last-wqe-reached"]);
        } else {
            bench.answer(ToControl::Disconnect { record, qpair: qpair() });
            assert_eq!(bench.take_heard(), ["in-error-state", "last-wqe-reached"]);
        }
    }
}

#[test]
fn a_removed_device_is_asked_for_nothing_but_destroying() {
    let mut bench = Bench::new();
    bench.event(request());
    let (record, ticket) = (bench.record(), bench.provider.last_ticket());
    let result = Ok(bench.provider.queue_pair());
    bench.event(Event::QueuePairCreated { ticket, result });
    bench.answer(ToControl::Adopted { record, qpair: qpair() });
    bench.provider.take_calls();
    bench.event(Event::DeviceRemoved(DeviceId::ONLY));
    bench.event(Event::DeviceRemoved(DeviceId::ONLY));
    assert_eq!(bench.row("rdma_device_removed"), 1);
    assert_eq!(bench.take_heard(), ["adopt", "nothing-returns", "disconnect"], "its CPU is told once");
    bench.answer(ToControl::Disconnect { record, qpair: qpair() });
    assert!(bench.take_heard().is_empty(), "it was not moved to the error state");
    assert_eq!(bench.provider.take_calls(), ["unlisten"], "the listener is on it too");
    let queue_pair = Box::new(bench.provider.queue_pair());
    bench.answer(ToControl::Destroy { record, queue_pair });
    let ticket = bench.provider.last_ticket();
    bench.event(Event::QueuePairDestroyed { ticket, result: Ok(()) });
    bench.answer(ToControl::Reaped { record });
    let ticket = bench.provider.last_ticket();
    bench.event(Event::ConnectionDestroyed { ticket });
    assert_eq!(bench.provider.take_calls(), ["destroy queue pair", "destroy connection"]);
    bench.event(request());
    assert_eq!(bench.provider.take_calls(), ["reject"], "nothing is begun on it");
    assert_eq!(bench.row("rdma_connections_live"), 0);
}

#[test]
fn a_cpu_whose_completion_queue_broke_gets_no_connection() {
    let mut bench = Bench::new();
    bench.event(Event::CompletionQueueError { port: PortId(0) });
    assert_eq!((bench.take_heard(), bench.row("rdma_completion_queue_broken")), (vec!["nothing-returns".into()], 1));
    bench.event(request());
    assert_eq!(bench.provider.take_calls(), ["reject"]);
    bench.event(Event::CompletionQueueError { port: PortId(7) });
    assert!(bench.take_heard().is_empty(), "it has no such port");
}

#[test]
fn what_never_ends_is_counted_until_it_does() {
    let mut bench = Bench::new();
    bench.event(request());
    bench.end_all(DisconnectReason::Shutdown);
    bench.advance(7_000_000_000);
    assert_eq!(bench.row("rdma_connections_overdue_live"), 0);
    bench.advance(2_000_000_000);
    assert_eq!(bench.row("rdma_connections_overdue_live"), 1);
    let result = Ok(bench.provider.queue_pair());
    bench.event(Event::QueuePairCreated { ticket: bench.provider.last_ticket(), result });
    assert_eq!(bench.row("rdma_connections_overdue_live"), 0, "it waits for something else now");
    bench.advance(20_000_000_000);
    assert_eq!(bench.row("rdma_connections_overdue_live"), 1);
    bench.shut_down();
    assert!(!bench.control.borrow().is_drained(), "nothing is given up in silence");
    let ticket = bench.provider.last_ticket();
    bench.event(Event::Unlistened { ticket });
    bench.provider.0.borrow_mut().tickets.clear();
    bench.event(Event::QueuePairDestroyed { ticket: destroy_ticket(&bench), result: Ok(()) });
    bench.event(Event::ConnectionDestroyed { ticket: bench.provider.last_ticket() });
    assert_eq!(bench.row("rdma_connections_overdue_live"), 0);
    assert_eq!(bench.row("rdma_connections_live"), 0);
}

/// Of the one record: what its tickets carry.
fn destroy_ticket(bench: &Bench) -> Ticket {
    Ticket(bench.record().to_bits())
}
