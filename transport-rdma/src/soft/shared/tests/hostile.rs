//! A peer that speaks the protocol as it likes, against a provider that serves an honest peer at the same time.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use super::{Scratch, SharedRig};
use crate::soft::shared::link::{CONTROL_LEN, memory_len};
use crate::soft::shared::mapping::Mapping;
use crate::soft::shared::message::{Accept, Connect, Instance, Message, Parameters, Reason, VERSION};
use crate::soft::shared::pair::{NEWS_SLOT_COUNT, PAGE_LEN};
use crate::soft::shared::socket::{self, Arrival, MESSAGE_LEN_MAX};
use crate::verbs::contract::Rig;
use crate::verbs::contract::pair::{End, Pair};
use crate::verbs::{Access, CompletionStatus as Status, Event, Flags, Memory, Port, Provider, SendOperation, Ticket};

pub(super) const RING_LEN: u32 = 32 << 10;

/// An honest connection beside the hostile one.
pub(super) struct Scene {
    pub(super) pair: Pair<SharedRig>,
    pub(super) ends: [End; 2],
    pub(super) address: SocketAddr,
}

/// The hostile end of a socket to the second machine.
pub(super) struct Hostile {
    pub(super) socket: OwnedFd,
    pub(super) page: Option<Mapping>,
    /// Those that it was handed.
    pub(super) doorbells: RefCell<Vec<OwnedFd>>,
}

/// What the hostile peer hears.
#[derive(Debug)]
pub(super) enum Heard {
    Message(Message),
    HungUp,
}

impl Scene {
    pub(super) fn new() -> Self {
        let clock = reactor::Clock::start();
        let mut pair = Pair::new(SharedRig { scratch: Scratch::new(), clock, next_port: 4420 });
        let ends = pair.connect_with(|pair, side, name| {
            if side == 1 {
                pair.post_receives(1, name, 100, 16);
            }
        });
        let address = pair.listen();
        Self { pair, ends, address }
    }

    /// Ends a connection of the hostile peer, then the peer, then the scene.
    pub(super) fn part(mut self, hostile: Hostile, end: End) {
        self.pair.sides[1].events.clear();
        self.pair.end(1, end);
        self.pair.sides[1].completions.clear();
        drop(hostile);
        self.close();
    }

    /// The honest connection still works: once in each scene's end.
    pub(super) fn close(mut self) {
        self.pair.sides[0].send_with(self.ends[0].name, 1, SendOperation::Send, Flags::SIGNALED, &[]);
        assert_eq!(self.pair.completions(0, 1), [(1, Status::Success)]);
        assert_eq!(self.pair.completions(1, 1).len(), 1);
        self.pair.sides.iter_mut().for_each(|side| side.events.clear());
        self.pair.finish(self.ends);
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        self.pair.sides[1].provider.counters().into_iter().find(|(known, _)| *known == name).unwrap().1
    }

    pub(super) fn connect(&self) -> Hostile {
        let path = self.pair.rig.scratch.0.join(self.address.to_string());
        Hostile { socket: socket::connect(&path).unwrap(), page: None, doorbells: RefCell::default() }
    }

    pub(super) fn hear(&mut self, hostile: &Hostile) -> Heard {
        self.pair.until("a word to the hostile peer", |_| {
            let mut buffer = [0; MESSAGE_LEN_MAX];
            match socket::receive(&hostile.socket, &mut buffer).unwrap() {
                Arrival::Message(len, descriptors) => {
                    let message = Message::parse(&buffer[..len]).unwrap();
                    if matches!(message, Message::Doorbell { .. }) {
                        hostile.doorbells.borrow_mut().extend(descriptors);
                        return None;
                    }
                    Some(Heard::Message(message))
                }
                Arrival::Closed => Some(Heard::HungUp),
                Arrival::Nothing => None,
                Arrival::Oversized => panic!(),
            }
        })
    }

    pub(super) fn expect_end(&mut self, hostile: &Hostile) {
        loop {
            match self.hear(hostile) {
                Heard::HungUp => return,
                Heard::Message(Message::Hello { .. } | Message::Refuse { .. } | Message::Paired { .. }) => {}
                Heard::Message(other) => panic!("{other:?}"),
            }
        }
    }

    /// A handshake as an honest peer makes it.
    pub(super) fn shake_hands(&mut self) -> Hostile {
        let mut hostile = self.connect();
        assert!(matches!(self.hear(&hostile), Heard::Message(Message::Hello { version: VERSION, .. })));
        let (page, descriptor) = Mapping::create("page", PAGE_LEN).unwrap();
        hostile.send(&pair_message(0), &[descriptor]);
        hostile.page = Some(page);
        assert!(matches!(self.hear(&hostile), Heard::Message(Message::Paired { .. })));
        hostile
    }

    pub(super) fn connect_message(&self, queue_pair_number: u32) -> Connect {
        Connect {
            from: u64::from(queue_pair_number),
            queue_pair_number,
            address: self.address,
            source: "127.0.0.1:50000".parse().unwrap(),
            ring_len: RING_LEN,
            news_slot: 0,
            port: 0,
            parameters: Parameters { responder_resources: 1, initiator_depth: 1, retry_count: 7, rnr_retry_count: 7 },
            private_data: Vec::new(),
        }
    }

    /// A connection that the provider's side has accepted: its end, its place on the board, the rings.
    pub(super) fn be_accepted(&mut self, hostile: &Hostile, number: u32) -> (End, Accept, Mapping) {
        let (rings, descriptor) = Mapping::create("rings", memory_len(RING_LEN)).unwrap();
        hostile.send(&Message::Connect(self.connect_message(number)), &[descriptor]);
        let request = self.pair.request();
        let end = crate::verbs::contract::pair::Attach::attach(request.connection, &mut self.pair, 1);
        self.pair.post_receives(1, end.name, 0, 4);
        let parameters = self.pair.parameters(b"");
        self.pair.sides[1].provider.accept(&end.connection, parameters);
        let accept = loop {
            match self.hear(hostile) {
                Heard::Message(Message::Accept(accept)) => break accept,
                Heard::Message(Message::Arena { slot, .. }) => {
                    hostile.send(&Message::ArenaTaken { slot, error: String::new() }, &[]);
                }
                other @ (Heard::Message(_) | Heard::HungUp) => panic!("not accepted: {other:?}"),
            }
        };
        hostile.send(&Message::ReadyToUse { to: accept.from }, &[]);
        (end, accept, rings)
    }
}

impl Hostile {
    pub(super) fn send(&self, message: &Message, descriptors: &[OwnedFd]) {
        socket::send(&self.socket, &message.encode(), descriptors).unwrap();
    }
}

pub(super) fn pair_message(key_count: u32) -> Message {
    let page_len = u32::try_from(PAGE_LEN).unwrap();
    Message::Pair { version: VERSION, instance: Instance([7; 16]), page_len, key_count }
}

pub(super) fn memfd(len: usize) -> OwnedFd {
    Mapping::create("honest", len).unwrap().1
}

#[test]
fn words_that_nobody_says_end_their_peer_alone() {
    let mut scene = Scene::new();
    let full = Message::Connect(scene.connect_message(9)).encode();
    let words: Vec<Vec<u8>> = vec![
        vec![0],
        vec![0xFF; 300],
        pair_message(0).encode()[..20].to_vec(),
        full[..full.len() - 1].to_vec(),
        // Out of turn: nothing was agreed on.
        Message::ReadyToUse { to: 1 }.encode(),
        Message::Hello { version: VERSION, instance: Instance([1; 16]) }.encode(),
    ];
    let count = words.len() as u64;
    for word in words {
        let hostile = scene.connect();
        socket::send(&hostile.socket, &word, &[]).unwrap();
        scene.expect_end(&hostile);
    }
    assert_eq!(scene.counter("peers_at_fault"), count);
    scene.close();
}

#[test]
fn descriptors_that_do_not_belong_end_their_peer() {
    let mut scene = Scene::new();
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let handed: Vec<Vec<OwnedFd>> =
        vec![Vec::new(), vec![memfd(PAGE_LEN), memfd(PAGE_LEN)], vec![null()], vec![memfd(4096)]];
    for descriptors in handed {
        let hostile = scene.connect();
        hostile.send(&pair_message(0), &descriptors);
        scene.expect_end(&hostile);
    }
    // A word that needs none, with one.
    let hostile = scene.shake_hands();
    hostile.send(&Message::Ended { to: 1 }, &[null()]);
    scene.expect_end(&hostile);
    scene.close();
}

#[test]
fn another_version_is_told_so() {
    let mut scene = Scene::new();
    let hostile = scene.connect();
    let Message::Pair { instance, page_len, key_count, .. } = pair_message(0) else { panic!() };
    hostile.send(&Message::Pair { version: 99, instance, page_len, key_count }, &[memfd(PAGE_LEN)]);
    assert!(matches!(scene.hear(&hostile), Heard::Message(Message::Hello { .. })));
    let Heard::Message(Message::Refuse { text }) = scene.hear(&hostile) else { panic!("not told") };
    assert!(text.contains("version 99") && text.contains(&format!("version {VERSION}")), "{text}");
    scene.expect_end(&hostile);
    scene.close();
}

#[test]
fn requests_beyond_what_is_allowed_are_refused_by_name() {
    let mut scene = Scene::new();
    let hostile = scene.shake_hands();
    let honest = || memfd(memory_len(RING_LEN));
    let connect = |change: fn(&mut Connect)| {
        let mut connect = scene.connect_message(9);
        change(&mut connect);
        Message::Connect(connect)
    };
    let sparse = || {
        let (mapping, descriptor) = Mapping::create("sparse", 4096).unwrap();
        drop(mapping);
        descriptor
    };
    let cases = [
        (connect(|c| c.ring_len = 1 << 30), honest(), "no ring"),
        (connect(|c| c.ring_len = 12345), honest(), "no ring"),
        (connect(|c| c.ring_len = 1 << 20), honest(), "ring_len"),
        (connect(|c| c.ring_len = RING_LEN / 2), honest(), "ring_len"),
        (connect(|c| c.news_slot = NEWS_SLOT_COUNT), honest(), "nobody makes"),
        (connect(|c| c.private_data = vec![0; 100]), honest(), "nobody makes"),
        (connect(|c| c.address = "127.0.0.1:1".parse().unwrap()), honest(), "127.0.0.1:1"),
        (connect(|_| ()), sparse(), "bytes long"),
        (connect(|_| ()), OwnedFd::from(std::fs::File::open("/dev/null").unwrap()), "no memfd"),
    ];
    for (message, descriptor, expected) in cases {
        hostile.send(&message, &[descriptor]);
        match scene.hear(&hostile) {
            Heard::Message(Message::Reject { to: 9, reason: Reason::Unreachable(text) }) => {
                assert!(text.contains(expected), "{text:?} does not say {expected:?}");
            }
            other @ (Heard::Message(_) | Heard::HungUp) => panic!("{expected}: {other:?}"),
        }
    }
    assert_eq!(scene.counter("mapped_bytes"), 4096 * 16 + memory_len(RING_LEN) as u64, "the honest peer's alone");
    drop(hostile);
    scene.close();
}

#[test]
fn too_many_requests_wait_for_no_answer() {
    let mut scene = Scene::new();
    let hostile = scene.shake_hands();
    let limit = crate::soft::shared::SharedOptions::default().backlog_count_max;
    for number in 0..=limit {
        hostile.send(&Message::Connect(scene.connect_message(100 + number)), &[memfd(memory_len(RING_LEN))]);
        scene.pair.steps(50);
    }
    let Heard::Message(Message::Reject { reason: Reason::Unreachable(text), .. }) = scene.hear(&hostile) else {
        panic!("not refused")
    };
    assert!(text.contains("backlog_count_max"), "{text}");
    drop(hostile);
    let mut requests = 0;
    while requests < limit {
        let request = scene.pair.request();
        scene.pair.sides[1].provider.reject(request, b"");
        requests += 1;
    }
    scene.close();
}

/// A producer index that jumps, and headers that no NIC writes: the queue pair breaks, and nothing else.
#[test]
fn rings_that_lie_break_their_queue_pair_alone() {
    let lies: [fn(&Hostile, &Accept, &Mapping); 5] = [
        |hostile, accept, _| store_index(hostile, accept, RING_LEN / 64 + 1),
        |hostile, accept, _| store_index(hostile, accept, u32::MAX),
        |hostile, accept, rings| {
            write_header(rings, [u32::MAX, 0, 0, 0]);
            store_index(hostile, accept, 4);
        },
        |hostile, accept, rings| {
            // Longer than what is there.
            write_header(rings, [4096, 0, 0, 0]);
            store_index(hostile, accept, 2);
        },
        |hostile, accept, rings| {
            write_header(rings, [16, 0xFFFF_0000, 0, 0]);
            store_index(hostile, accept, 1);
        },
    ];
    let mut scene = Scene::new();
    let hostile = scene.shake_hands();
    for (number, lie) in (0..).zip(lies) {
        let (end, accept, rings) = scene.be_accepted(&hostile, 200 + number);
        lie(&hostile, &accept, &rings);
        let id = end.id();
        scene.pair.event(1, "the queue pair's end", |event| {
            matches!(event, Event::QueuePairFatal { connection } if *connection == id).then_some(())
        });
        let flushed = scene.pair.completions(1, 4);
        assert!(flushed.iter().all(|(_, status)| *status == Status::WorkRequestFlushed), "{flushed:?}");
        scene.pair.sides[1].events.clear();
        scene.pair.end(1, end);
        assert!(matches!(scene.hear(&hostile), Heard::Message(Message::Ended { .. } | Message::Disconnect { .. })));
        while let Ok(Arrival::Message(..)) = socket::receive(&hostile.socket, &mut [0; MESSAGE_LEN_MAX]) {}
    }
    assert_eq!(scene.counter("peer_faults"), 5);
    drop(hostile);
    scene.close();
}

/// A consumer index that says more than was sent.
#[test]
fn an_echo_beyond_what_was_sent_breaks_the_queue_pair() {
    let mut scene = Scene::new();
    let hostile = scene.shake_hands();
    let (end, _, rings) = scene.be_accepted(&hostile, 300);
    scene.pair.sides[1].send_with(end.name, 7, SendOperation::Send, Flags::SIGNALED, &[]);
    rings.word(0).store(77, Ordering::Release);
    let id = end.id();
    scene.pair.event(1, "the queue pair's end", |event| {
        matches!(event, Event::QueuePairFatal { connection } if *connection == id).then_some(())
    });
    scene.pair.completions(1, 5);
    scene.pair.sides[1].events.clear();
    scene.pair.end(1, end);
    drop(hostile);
    scene.close();
}

/// A copy that never ends, as in a process that is stopped: it delays the end of its queue pair and nothing else.
#[test]
fn a_copy_under_way_delays_its_queue_pair_alone() {
    let mut scene = Scene::new();
    let hostile = scene.shake_hands();
    let (first, _, _first_rings) = scene.be_accepted(&hostile, 399);
    // Registered with two peers connected: offered with the next connection.
    let arena = Memory::Shared(scene.pair.rig.memory(1));
    let keys = scene.pair.register(1, arena, Access::REMOTE_READ);
    let (end, _, _rings) = scene.be_accepted(&hostile, 400);
    scene.pair.end(1, first);
    // Its ninth port's busy word, in the connector's block.
    let busy = 4096 + 9 * 64;
    let page = |hostile: &Hostile, word| hostile.page.as_ref().unwrap().word(busy).store(word, Ordering::SeqCst);
    page(&hostile, 41);
    let queue_pair = scene.pair.sides[1].port.detach(end.name).unwrap();
    let ticket = Ticket(1 << 40);
    scene.pair.sides[1].provider.begin_destroy_queue_pair(ticket, queue_pair);
    let is_it =
        |event: &Event<_>| matches!(event, Event::QueuePairDestroyed { ticket: of, .. } if *of == ticket).then_some(());
    scene.pair.sides[0].send_with(scene.ends[0].name, 1, SendOperation::Send, Flags::SIGNALED, &[]);
    assert_eq!(scene.pair.completions(0, 1), [(1, Status::Success)], "others go on");
    scene.pair.pass(50_000_000);
    assert!(scene.pair.sides[1].take_event(is_it).is_none(), "while the copy runs");
    assert_eq!(scene.counter("queue_pairs_live"), 2);
    // Not idle, but another copy: it has seen the gate closed.
    page(&hostile, 43);
    scene.pair.event(1, "the destruction", is_it);
    scene.pair.destroy_connection(1, end.connection);
    page(&hostile, 44);
    scene.pair.deregister(1, keys);
    scene.pair.sides[1].completions.clear();
    drop(hostile);
    scene.close();
}

/// To whom no memory is offered copies nothing: what it says of copies keeps neither its queue pairs nor its place among the peers.
#[test]
fn a_peer_that_was_offered_nothing_keeps_nothing() {
    let mut scene = Scene::new();
    for number in 450..453 {
        let hostile = scene.shake_hands();
        let (end, _, _rings) = scene.be_accepted(&hostile, number);
        for port in 0..32 {
            hostile.page.as_ref().unwrap().word(4096 + port * 64).store(41, Ordering::SeqCst);
        }
        scene.pair.sides[1].events.clear();
        scene.pair.end(1, end);
        scene.pair.sides[1].completions.clear();
        drop(hostile);
        scene.pair.until("the peer to be forgotten", |pair| {
            let counters = pair.sides[1].provider.counters();
            let value = |name| counters.iter().find(|(known, _)| *known == name).map(|known| known.1);
            (value("peers_live") == Some(1) && value("peers_idle") == Some(0)).then_some(())
        });
        assert_eq!(scene.counter("queue_pairs_live"), 1);
    }
    scene.close();
}

/// The same queue pair number again, while the old connection is known.
#[test]
fn a_queue_pair_number_that_is_in_use_is_stale() {
    let mut scene = Scene::new();
    let hostile = scene.shake_hands();
    let (end, _, _rings) = scene.be_accepted(&hostile, 500);
    hostile.send(&Message::Connect(scene.connect_message(500)), &[memfd(memory_len(RING_LEN))]);
    let Heard::Message(Message::Reject { to: 500, reason: Reason::Stale }) = scene.hear(&hostile) else {
        panic!("not stale")
    };
    scene.part(hostile, end);
}

/// An arena is one process's: connecting to another says so, and what to do.
#[test]
fn an_arena_is_offered_to_one_process_only() {
    let mut scene = Scene::new();
    let [mut third, _] = scene.pair.rig.machines();
    let address = scene.pair.rig.address();
    third.listen(address).unwrap();
    let ticket = scene.pair.sides[0].ticket();
    scene.pair.sides[0].provider.begin_resolve(ticket, address);
    let connection = scene.pair.until("a resolution", |pair| {
        assert!(third.next_event(pair.now_ns).is_none());
        let at = pair.sides[0].events.iter().position(|event| matches!(event, Event::Resolved { .. }))?;
        if let Event::Resolved { result, .. } = pair.sides[0].events.remove(at) { result.ok() } else { None }
    });
    let end = crate::verbs::contract::pair::Attach::attach(connection, &mut scene.pair, 0);
    let parameters = scene.pair.parameters(b"");
    scene.pair.sides[0].provider.connect(&end.connection, parameters);
    let reason = scene.pair.event(0, "a rejection", |event| {
        if let Event::Rejected { reason, .. } = event { Some(format!("{reason:?}")) } else { None }
    });
    let process = format!("process {}", std::process::id());
    assert!(reason.contains("one peer process only: register another arena") && reason.contains(&process), "{reason}");
    scene.pair.end(0, end);
    scene.close();
}

/// Names of connections that are another peer's, or nobody's.
#[test]
fn words_about_others_connections_change_nothing() {
    let mut scene = Scene::new();
    let hostile = scene.shake_hands();
    for to in 0..40 {
        hostile.send(&Message::Disconnect { to }, &[]);
        hostile.send(&Message::Ended { to }, &[]);
        hostile.send(&Message::ReadyToUse { to }, &[]);
        hostile.send(&Message::Reject { to, reason: Reason::Stale }, &[]);
        scene.pair.steps(20);
    }
    assert!(scene.counter("late_messages") >= 80);
    assert_eq!(scene.counter("connections_live"), 1);
    drop(hostile);
    scene.close();
}

fn store_index(hostile: &Hostile, accept: &Accept, index: u32) {
    // The acceptor's board is the second block.
    let offset = PAGE_LEN / 2 + accept.news_slot as usize * 4;
    hostile.page.as_ref().unwrap().word(offset).store(index, Ordering::Release);
}

/// The first entry of the ring into the acceptor.
fn write_header(rings: &Mapping, words: [u32; 4]) {
    for (at, word) in words.into_iter().enumerate() {
        rings.word(CONTROL_LEN + RING_LEN as usize + at * 4).store(word, Ordering::Release);
    }
}
