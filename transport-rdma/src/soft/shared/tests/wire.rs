//! A port's wire against a peer's words that are set by hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::soft::shared::export::Exports;
use crate::soft::shared::local_keys::LocalKeys;
use crate::soft::shared::mapping::Mapping;
use crate::soft::shared::pair::{PAGE_LEN, Pair, Side};
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
        let wire = SharedWire::new(0, Arc::new(LocalKeys::new()), Arc::clone(&exports), waker.bell());
        Self { wire, exports, pair, page, _waker: waker }
    }

    /// A window on an arena that is offered to the peer.
    fn window(&self) -> u32 {
        let region = self.exports.open_region(0, 0, 0x10000, 0x1000, Access::REMOTE_READ | Access::WINDOW_BIND);
        self.exports.offer(0, &self.pair);
        self.exports.open_window(1, region.unwrap()).unwrap()
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
