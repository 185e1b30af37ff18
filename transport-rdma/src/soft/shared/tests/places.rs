//! Places among the peers, and what is charged: who can take how many, and that they come back.

use std::net::SocketAddr;

use super::hostile::{Heard, Hostile, RING_LEN, Scene, memfd, pair_message};
use crate::soft::shared::SharedProvider;
use crate::soft::shared::link::memory_len;
use crate::soft::shared::message::{Instance, Message};
use crate::verbs::contract::Rig;
use crate::verbs::{Connection, Event, Provider};

/// A provider that only listens.
struct Third {
    provider: SharedProvider,
    address: SocketAddr,
}

impl Third {
    fn new(scene: &mut Scene) -> Self {
        let [mut provider, _] = scene.pair.rig.machines();
        let address = scene.pair.rig.address();
        provider.listen(address).unwrap();
        Self { provider, address }
    }

    fn instance(&self) -> Instance {
        self.provider.instance
    }

    /// Asks `count` times at once for it, from `side`.
    fn resolve(&mut self, scene: &mut Scene, side: usize, count: usize) -> Vec<Connection> {
        for _ in 0..count {
            let ticket = scene.pair.sides[side].ticket();
            scene.pair.sides[side].provider.begin_resolve(ticket, self.address);
        }
        let mut next = |scene: &mut Scene| {
            scene.pair.until("a resolution", |pair| {
                assert!(self.provider.next_event(pair.now_ns).is_none());
                let events = &mut pair.sides[side].events;
                let at = events.iter().position(|event| matches!(event, Event::Resolved { .. }))?;
                if let Event::Resolved { result, .. } = events.remove(at) { result.ok() } else { None }
            })
        };
        (0..count).map(|_| next(scene)).collect()
    }
}

fn expect_refusal(scene: &mut Scene, expected: &str) {
    let hostile = scene.connect();
    let Heard::Message(Message::Refuse { text }) = scene.hear(&hostile) else { panic!("not refused") };
    let process = format!("process {}", std::process::id());
    assert!(text.contains(expected) && text.contains(&process), "{text}");
}

#[test]
fn one_process_cannot_take_all_places() {
    let mut scene = Scene::new();
    let options = scene.pair.sides[1].provider.options.clone();
    let mut half_open: Vec<Hostile> = Vec::new();
    for _ in 0..options.handshake_count_per_process_max {
        let hostile = scene.connect();
        assert!(matches!(scene.hear(&hostile), Heard::Message(Message::Hello { .. })));
        half_open.push(hostile);
    }
    expect_refusal(&mut scene, "handshake_count_per_process_max");
    drop(half_open);
    scene.pair.steps(20);
    // The honest one is of the same process.
    let live: Vec<Hostile> = (1..options.peer_count_per_process_max).map(|_| scene.shake_hands()).collect();
    expect_refusal(&mut scene, "peer_count_per_process_max");
    assert_eq!(scene.counter("peers_refused"), 2);
    drop(live);
    scene.pair.steps(20);
    // They come back.
    drop(scene.shake_hands());
    scene.close();
}

#[test]
fn one_handshake_serves_all_who_ask_meanwhile() {
    let mut scene = Scene::new();
    let mut third = Third::new(&mut scene);
    let connections = third.resolve(&mut scene, 0, 20);
    assert_eq!(third.provider.peers.len(), 1);
    assert_eq!(third.provider.tally.peers_refused, 0);
    let peers: Vec<u64> = scene.pair.sides[0].provider.connections.values().map(|record| record.peer).collect();
    assert_eq!(peers.len(), 21);
    assert!(peers[1..].iter().all(|peer| *peer == peers[1] && *peer != peers[0]), "{peers:?}");
    for connection in connections {
        scene.pair.destroy_connection(0, connection);
    }
    drop(third);
    scene.close();
}

/// Instances are said by processes: another process that says the same is another peer.
#[test]
fn who_claims_anothers_instance_is_not_given_its_connections() {
    let mut scene = Scene::new();
    let mut third = Third::new(&mut scene);
    let hostile = scene.connect();
    assert!(matches!(scene.hear(&hostile), Heard::Message(Message::Hello { .. })));
    let Message::Pair { version, page_len, key_count, .. } = pair_message(0) else { panic!() };
    let claim = Message::Pair { version, instance: third.instance(), page_len, key_count };
    hostile.send(&claim, &[memfd(page_len as usize)]);
    assert!(matches!(scene.hear(&hostile), Heard::Message(Message::Paired { .. })));
    let peers = &scene.pair.sides[1].provider.peers;
    let claimant = peers.values().find(|peer| peer.instance == Some(third.instance())).unwrap().number;
    let mut peer_of_resolved = |scene: &mut Scene| {
        let connection = third.resolve(scene, 1, 1).remove(0);
        let peer = scene.pair.sides[1].provider.connections[&connection.id().0].peer;
        scene.pair.destroy_connection(1, connection);
        peer
    };
    assert_eq!(peer_of_resolved(&mut scene), claimant, "the same process: it may say who it is");
    let record = scene.pair.sides[1].provider.peers.get_mut(&claimant).unwrap();
    record.credentials.as_mut().unwrap().pid = 1;
    assert_ne!(peer_of_resolved(&mut scene), claimant, "another process");
    drop((hostile, third));
    scene.pair.steps(20);
    scene.close();
}

#[test]
fn rings_whose_queue_pair_cannot_be_made_are_given_back() {
    let mut scene = Scene::new();
    let hostile = scene.shake_hands();
    let before = scene.counter("mapped_bytes");
    hostile.send(&Message::Connect(scene.connect_message(9)), &[memfd(memory_len(RING_LEN))]);
    let request = scene.pair.request();
    assert_eq!(scene.counter("mapped_bytes"), before + memory_len(RING_LEN) as u64);
    for peer in scene.pair.sides[1].provider.peers.values_mut() {
        while peer.board.take(0).is_some() {}
    }
    let (ticket, port) = (scene.pair.sides[1].ticket(), scene.pair.sides[1].port_id);
    let options = scene.pair.setup.queue_pair;
    let id = request.connection.id();
    scene.pair.sides[1].provider.begin_create_queue_pair(ticket, id, port, options);
    let error = scene.pair.event(1, "a queue pair", |event| {
        if let Event::QueuePairCreated { ticket: of, result: Err(error) } = event {
            (*of == ticket).then(|| error.to_string())
        } else {
            None
        }
    });
    assert!(error.contains("news board"), "{error}");
    assert_eq!(scene.counter("mapped_bytes"), before);
    scene.pair.sides[1].provider.reject(request, b"");
    assert_eq!(scene.counter("mapped_bytes"), before, "once");
    drop(hostile);
    scene.close();
}
