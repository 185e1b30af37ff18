//! A port's wire against a peer's words that are set by hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::soft::shared::doorbell::Alarm;
use crate::soft::shared::export::Exports;
use crate::soft::shared::link::{Link, LinkCore, RING_LEN_MIN, memory_len};
use crate::soft::shared::local_keys::LocalKeys;
use crate::soft::shared::mapping::Mapping;
use crate::soft::shared::pair::{NEWS_SLOT_COUNT, PAGE_LEN, Pair, RemoteMemory, Side};
use crate::soft::shared::port_wire::SharedWire;
use crate::soft::shared::wake::Waker;
use crate::soft::wire::{Transfer, Wire};
use crate::verbs::Access;

/// One port, and the page that it shares with a peer.
struct Bench {
    wire: SharedWire,
    exports: Arc<Exports>,
    pair: Arc<Pair>,
    /// The peer's view of the page.
    page: Mapping,
    _waker: Waker,
}

impl Bench {
    fn new() -> Self {
        let exports = Arc::new(Exports::new().unwrap());
        let (page, descriptor) = Mapping::create("page", PAGE_LEN).unwrap();
        let ours = Mapping::take_over(&descriptor, PAGE_LEN as u64, true).unwrap();
        let pair = Arc::new(Pair::new(7, Side::Acceptor, ours));
        let waker = Waker::new().unwrap();
        let alarm = Arc::new(Alarm::new().unwrap());
        let wire = SharedWire::new(0, Arc::new(LocalKeys::new()), Arc::clone(&exports), waker.bell(), alarm);
        Self { wire, exports, pair, page, _waker: waker }
    }

    /// A window on an arena that is offered to the peer.
    fn window(&self) -> u32 {
        let region = self.exports.open_region(0, 0, 0x10000, 0x1000, Access::REMOTE_READ | Access::WINDOW_BIND);
        self.exports.offer(0, &self.pair);
        self.exports.open_window(1, region.unwrap()).unwrap()
    }

    /// A link whose place on our board is `slot`.
    fn link(&self, slot: u32) -> Link {
        let (memory, _) = Mapping::create("rings", memory_len(RING_LEN_MIN)).unwrap();
        let shared = (Arc::clone(&self.pair), Arc::new(RemoteMemory::new(None)));
        Link::new(Arc::new(LinkCore::new(shared, Side::Acceptor, memory, RING_LEN_MIN, slot, (0, 0))))
    }

    fn news(&mut self) -> Vec<u32> {
        let mut indices = Vec::new();
        self.wire.news(0, &mut indices);
        indices
    }

    /// The peer has sent to the queue pair at `slot`.
    fn peer_news(&self, slot: u32, index: u32) {
        self.page.word(PAGE_LEN / 2 + slot as usize * 4).store(index, Ordering::Release);
    }

    /// What the peer's first port says of its copies.
    fn peer_busy(&self, word: u32) {
        self.page.word(4096).store(word, Ordering::SeqCst);
    }
}

#[test]
fn an_invalidation_that_was_given_up_says_nothing_of_the_next_binding() {
    let mut bench = Bench::new();
    let key = bench.window() | 3;
    bench.peer_busy(41);
    assert!(bench.wire.bind(key, 0x10000, 64));
    assert_eq!(bench.wire.invalidate(key), Transfer::Unfinished);
    // Its queue pair ends here, and another binds the same key.
    assert!(bench.wire.bind(key, 0x10000, 64));
    bench.peer_busy(43);
    assert_eq!(bench.wire.invalidate(key), Transfer::Unfinished, "the copy under way has seen the new binding");
    assert!(bench.exports.invalidate(key).is_none(), "closed");
    assert_eq!(bench.wire.invalidate(key), Transfer::Unfinished);
    bench.peer_busy(44);
    assert_eq!(bench.wire.invalidate(key), Transfer::Done);
    assert_eq!(bench.wire.invalidate(key), Transfer::Denied);
}

/// Bound again past this wire, as on another port.
#[test]
fn an_open_key_is_closed_whatever_was_begun_before() {
    let mut bench = Bench::new();
    let key = bench.window() | 3;
    bench.peer_busy(41);
    assert!(bench.wire.bind(key, 0x10000, 64));
    assert_eq!(bench.wire.invalidate(key), Transfer::Unfinished);
    assert!(bench.exports.bind(key, 0x10000, 64));
    bench.peer_busy(42);
    assert_eq!(bench.wire.invalidate(key), Transfer::Done);
    assert!(bench.exports.invalidate(key).is_none(), "closed");
}

#[test]
fn what_a_wire_waits_for_does_not_keep_a_pair() {
    let mut bench = Bench::new();
    let key = bench.window() | 3;
    bench.peer_busy(41);
    assert!(bench.wire.bind(key, 0x10000, 64));
    assert_eq!(bench.wire.invalidate(key), Transfer::Unfinished);
    bench.exports.forget(bench.pair.id());
    assert_eq!(Arc::strong_count(&bench.pair), 1, "the provider's, which unmaps off the polling CPUs");
    assert_eq!(bench.wire.invalidate(key), Transfer::Done, "who is forgotten copies nothing");
}

#[test]
fn news_are_those_of_the_places_in_use() {
    let mut bench = Bench::new();
    let slots = [0, 15, 16, 1023];
    let mut links = slots.map(|slot| bench.link(slot));
    for (index, link) in (10..).zip(&mut links) {
        bench.wire.attach(index, link);
    }
    assert_eq!(bench.news(), [], "nothing was sent");
    for slot in 0..NEWS_SLOT_COUNT {
        bench.peer_news(slot, 1);
    }
    assert_eq!(bench.news(), [10, 11, 12, 13]);
    assert_eq!(bench.news(), [], "once");
    bench.peer_news(15, 2);
    assert_eq!(bench.news(), [11]);
    bench.wire.detach(11, &mut links[1]);
    bench.peer_news(15, 3);
    bench.peer_news(16, 3);
    assert_eq!(bench.news(), [12]);
    // What was stored before it is attached is news.
    bench.wire.attach(11, &mut links[1]);
    assert_eq!(bench.news(), [11]);
    bench.pair.set_gone();
    let mut told: Vec<u32> = (0..20).flat_map(|_| bench.news()).collect();
    told.sort_unstable();
    assert_eq!(told, [10, 11, 12, 13], "each is swept, once");
    for (index, link) in (10..).zip(&mut links) {
        bench.wire.detach(index, link);
    }
    assert_eq!(bench.news(), []);
}
