//! The state machine over a wire whose every answer the test writes: what a peer that keeps no rule can do to it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::*;
use crate::soft::wire::{MessageHeader, PeerFault, Transfer, WireFull};
use crate::verbs::{CompletionStatus as Status, Flags, QueuePairOptions, SendOperation};

/// What the wire says, and what it was asked.
#[derive(Default)]
struct Script {
    news: Vec<u32>,
    messages: VecDeque<MessageHeader>,
    consumed: u32,
    fault: Option<PeerFault>,
    is_full: bool,
    is_gone: bool,
    invalidate: Option<Transfer>,
    said: Vec<LinkState>,
    sent_count: u32,
    published_count: u32,
    look_count: u32,
}

#[derive(Clone)]
struct ScriptedWire(Arc<Mutex<Script>>);

impl ScriptedWire {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }
}

impl Wire for ScriptedWire {
    type Link = ();

    fn attach(&mut self, _index: u32, _link: &mut ()) {}

    fn detach(&mut self, _index: u32, _link: &mut ()) {}

    fn news(&mut self, _now_ns: u64, indices: &mut Vec<u32>) {
        indices.append(&mut self.script().news);
    }

    fn send(&mut self, _link: &mut (), _header: &MessageHeader, _payload: &[LocalSegment]) -> Result<(), WireFull> {
        let mut script = self.script();
        if script.is_full {
            return Err(WireFull);
        }
        script.sent_count += 1;
        Ok(())
    }

    fn publish(&mut self, _link: &mut ()) {
        self.script().published_count += 1;
    }

    fn consumed_count(&mut self, _link: &mut ()) -> Result<u32, PeerFault> {
        let mut script = self.script();
        script.look_count += 1;
        script.fault.map_or(Ok(script.consumed), Err)
    }

    fn peek(&mut self, _link: &mut ()) -> Result<Option<MessageHeader>, PeerFault> {
        let mut script = self.script();
        script.look_count += 1;
        script.fault.map_or_else(|| Ok(script.messages.front().copied()), Err)
    }

    fn take(&mut self, _link: &mut (), _into: &[LocalSegment]) {
        self.script().messages.pop_front();
    }

    fn release(&mut self, _link: &mut ()) {}

    fn peer_state(&mut self, _link: &mut ()) -> LinkState {
        let mut script = self.script();
        script.look_count += 1;
        if script.is_gone { LinkState::Gone } else { LinkState::Ready }
    }

    fn set_state(&mut self, _link: &mut (), state: LinkState) {
        self.script().said.push(state);
    }

    fn write(&mut self, _link: &mut (), _key: u32, _address: u64, _from: &[LocalSegment]) -> Transfer {
        Transfer::Done
    }

    fn read(&mut self, _link: &mut (), _key: u32, _address: u64, _into: &[LocalSegment]) -> Transfer {
        Transfer::Done
    }

    fn allows_local(&self, _segment: &LocalSegment, _write: bool) -> bool {
        true
    }

    fn invalidate(&mut self, _key: u32) -> Transfer {
        self.script().invalidate.unwrap_or(Transfer::Denied)
    }

    fn bind(&mut self, _key: u32, _address: u64, _len: u64) -> bool {
        true
    }

    fn ring(&mut self) {}

    fn announce(&mut self) {}

    fn last_look(&mut self, _now_ns: u64) -> Rest {
        if self.script().news.is_empty() { Rest::Sleep } else { Rest::Poll }
    }

    fn withdraw(&mut self, _has_slept: bool) {}

    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }
}

struct Bench {
    wire: ScriptedWire,
    nic: Nic<ScriptedWire>,
    handle: PortHandle<()>,
    name: QueuePairName,
    now_ns: u64,
}

const SERIAL: QueuePairSerial = QueuePairSerial(7);

impl Bench {
    /// One connected queue pair with 4 receives (100 to 103) posted.
    fn new() -> Self {
        let wire = ScriptedWire(Arc::default());
        let port = PortOptions { completion_count: 64, shared_receive_count: 0 };
        let (mut nic, mut handle) = Nic::new(wire.clone(), port, NicOptions::default(), None, None);
        let options = QueuePairOptions {
            send_count: 8,
            receive_count: 8,
            segment_count: 1,
            inline_len: 0,
            shared_receive: false,
        };
        let (queue_pair, _control) = QueuePair::new(SERIAL, 42, &options).unwrap();
        let name = nic.attach(queue_pair);
        for id in 100..104 {
            nic.post_receive(name, id, &[]).unwrap();
        }
        let parameters = LinkParameters { retry_count: 7, rnr_retry_count: 7 };
        handle.send(PortCommand::Connect { queue_pair: SERIAL, link: (), parameters });
        let mut bench = Self { wire, nic, handle, name, now_ns: 1 };
        assert_eq!(bench.poll(), []);
        assert_eq!(bench.nic.state(name), Some(QueuePairState::ReadyToSend));
        assert!(matches!(bench.handle.next_event(), Some(PortEvent::Connected { queue_pair: SERIAL })));
        bench
    }

    fn poll(&mut self) -> Vec<(u64, Status)> {
        let mut completions = Vec::new();
        self.now_ns += 1000;
        self.nic.poll(self.now_ns, 64, &mut completions);
        completions.iter().map(|completion| (completion.id, completion.status)).collect()
    }

    fn send(&mut self, id: u64) {
        let request = SendRequest { id, operation: SendOperation::Send, flags: Flags::SIGNALED, segments: &[] };
        self.nic.post_send(self.name, &request).unwrap();
        self.nic.ring();
    }

    fn bind(&mut self, key: u32) {
        let operation = SendOperation::BindWindow { key, address: 0, len: 1 };
        let request = SendRequest { id: 0, operation, flags: Flags::empty(), segments: &[] };
        self.nic.post_send(self.name, &request).unwrap();
    }

    fn message(&self, invalidate: Option<u32>) {
        let header = MessageHeader { len: 0, immediate: None, invalidate, solicited: false };
        let mut script = self.wire.script();
        script.messages.push_back(header);
        script.news.push(self.name.index);
    }
}

fn flushed(ids: impl IntoIterator<Item = u64>) -> Vec<(u64, Status)> {
    ids.into_iter().map(|id| (id, Status::WorkRequestFlushed)).collect()
}

#[test]
fn a_peer_that_breaks_the_wires_protocol() {
    for fault in [PeerFault::Index, PeerFault::Header] {
        let mut bench = Bench::new();
        bench.send(1);
        bench.send(2);
        bench.wire.script().fault = Some(fault);
        let expected = [vec![(1, Status::BadResponse), (2, Status::WorkRequestFlushed)], flushed(100..104)].concat();
        assert_eq!(bench.poll(), expected);
        assert_eq!(bench.wire.script().said.last(), Some(&LinkState::Error));
        assert!(matches!(bench.handle.next_event(), Some(PortEvent::Fatal { queue_pair: SERIAL })));
        assert_eq!(bench.handle.counters().peer_faults.value(), 1);
    }
}

#[test]
fn a_peer_that_consumed_more_than_was_sent() {
    let mut bench = Bench::new();
    bench.send(1);
    bench.wire.script().consumed = 2;
    assert_eq!(bench.poll()[0], (1, Status::BadResponse), "not a success");
    assert_eq!(bench.handle.counters().peer_faults.value(), 1);
}

#[test]
fn news_of_queue_pairs_that_do_not_exist() {
    let mut bench = Bench::new();
    bench.wire.script().news.extend([1, 77, u32::MAX]);
    assert_eq!(bench.poll(), []);
    bench.message(None);
    bench.wire.script().news.push(bench.name.index);
    assert_eq!(bench.poll(), [(100, Status::Success)]);
}

/// The completion that reports a key's end waits until no copy under it can run.
#[test]
fn an_invalidation_that_takes_a_while_holds_its_message_back() {
    let mut bench = Bench::new();
    bench.bind(5);
    bench.wire.script().invalidate = Some(Transfer::Unfinished);
    bench.message(Some(5));
    bench.message(None);
    for _ in 0..3 {
        assert_eq!(bench.poll(), []);
    }
    bench.wire.script().invalidate = Some(Transfer::Done);
    assert_eq!(bench.poll(), [(100, Status::Success), (101, Status::Success)]);
    assert_eq!(bench.wire.script().said, [LinkState::Ready], "it was ready all the time");
}

/// Keys are easily guessed, and the wire would end any window's.
#[test]
fn a_message_ends_no_window_of_another_queue_pair() {
    let ends = |bound: &[u32], ended: u32| {
        let mut bench = Bench::new();
        for &key in bound {
            bench.bind(key);
        }
        bench.wire.script().invalidate = Some(Transfer::Done);
        bench.message(Some(ended));
        bench.poll()[0] == (100, Status::Success)
    };
    assert!(ends(&[0x1105], 0x1105));
    assert!(!ends(&[], 0x1105));
    assert!(!ends(&[0x1105], 0x1106));
    assert!(!ends(&[0x1105, 0x1106], 0x1105), "the same window, bound anew");
    assert!(ends(&[0x1105, 0x2205], 0x1105));
}

/// A command that is answered: its queue pair is not here.
fn unknown(serial: u64) -> PortCommand<()> {
    let parameters = LinkParameters { retry_count: 0, rnr_retry_count: 0 };
    PortCommand::Connect { queue_pair: QueuePairSerial(serial), link: (), parameters }
}

/// The provider is woken for what it can take, not for what has no room.
#[test]
fn a_provider_that_is_slow_is_not_woken_by_every_poll() {
    let woken = Arc::new(Mutex::new(0));
    let count = Arc::clone(&woken);
    let wake: WakeProvider = Box::new(move || *count.lock().unwrap() += 1);
    let port = PortOptions { completion_count: 64, shared_receive_count: 0 };
    let (mut nic, mut handle) = Nic::new(ScriptedWire(Arc::default()), port, NicOptions::default(), Some(wake), None);
    for serial in 0..400 {
        handle.send(unknown(serial));
    }
    nic.poll(1, 64, &mut Vec::new());
    handle.flush();
    nic.poll(2, 64, &mut Vec::new());
    let before = *woken.lock().unwrap();
    for now_ns in 3..100 {
        nic.poll(now_ns, 64, &mut Vec::new());
    }
    assert_eq!(*woken.lock().unwrap(), before, "nothing more fits");
    assert!(handle.next_event().is_some());
    nic.poll(100, 64, &mut Vec::new());
    assert_eq!(*woken.lock().unwrap(), before + 1);
}

#[test]
fn a_full_wire_makes_sends_wait_in_order() {
    let mut bench = Bench::new();
    bench.wire.script().is_full = true;
    bench.send(1);
    bench.wire.script().is_full = false;
    bench.send(2);
    assert_eq!(bench.wire.script().sent_count, 0, "the second does not overtake the first");
    assert_eq!(bench.poll(), []);
    assert_eq!(bench.wire.script().sent_count, 2);
    bench.wire.script().consumed = 1;
    assert_eq!(bench.poll(), [(1, Status::Success)]);
    bench.wire.script().consumed = 2;
    assert_eq!(bench.poll(), [(2, Status::Success)]);
}

#[test]
fn a_peer_that_is_gone_ends_an_idle_queue_pair() {
    let mut bench = Bench::new();
    bench.wire.script().is_gone = true;
    bench.wire.script().news.push(0);
    assert_eq!(bench.poll(), flushed(100..104));
}

/// Nothing is asked about a queue pair on which nothing is under way, however often the port is polled.
#[test]
fn an_idle_queue_pair_costs_nothing() {
    let mut bench = Bench::new();
    bench.send(1);
    bench.wire.script().consumed = 1;
    assert_eq!(bench.poll(), [(1, Status::Success)]);
    bench.poll();
    let looks = bench.wire.script().look_count;
    for _ in 0..100 {
        bench.now_ns += 1_000_000;
        assert_eq!(bench.poll(), []);
    }
    assert_eq!(bench.wire.script().look_count, looks);
}

#[test]
fn one_doorbell_publishes_a_batch() {
    let mut bench = Bench::new();
    let before = bench.wire.script().published_count;
    for id in 0..4 {
        let request = SendRequest { id, operation: SendOperation::Send, flags: Flags::SIGNALED, segments: &[] };
        bench.nic.post_send(bench.name, &request).unwrap();
    }
    bench.nic.ring();
    bench.nic.ring();
    assert_eq!(bench.wire.script().published_count, before + 1);
}

#[test]
fn commands_for_those_that_left_are_misses() {
    let mut bench = Bench::new();
    assert!(bench.nic.detach(bench.name).is_some());
    bench.handle.send(PortCommand::ToError { queue_pair: SERIAL });
    let parameters = LinkParameters { retry_count: 0, rnr_retry_count: 0 };
    bench.handle.send(PortCommand::Connect { queue_pair: SERIAL, link: (), parameters });
    assert_eq!(bench.poll(), []);
    assert_eq!(bench.handle.counters().misses.value(), 2);
    let event = bench.handle.next_event();
    assert!(matches!(event, Some(PortEvent::Unconnected { queue_pair: SERIAL, link: () })));
}

/// More than the queues between provider and NIC hold: nothing is lost, and the order stays.
#[test]
fn commands_without_room_wait() {
    let mut bench = Bench::new();
    assert!(bench.nic.detach(bench.name).is_some());
    for serial in 0..1000 {
        bench.handle.send(unknown(serial));
    }
    let mut answered = Vec::new();
    while answered.len() < 1000 {
        bench.poll();
        while let Some(event) = bench.handle.next_event() {
            let PortEvent::Unconnected { queue_pair, link: () } = event else { panic!("{event:?}") };
            answered.push(queue_pair.0);
        }
    }
    assert_eq!(answered, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_broken_port_completes_nothing() {
    let mut bench = Bench::new();
    bench.send(1);
    bench.handle.send(PortCommand::Break);
    assert_eq!(bench.poll(), []);
    assert_eq!(bench.nic.state(bench.name), Some(QueuePairState::Error));
    assert!(matches!(bench.handle.next_event(), Some(PortEvent::Fatal { queue_pair: SERIAL })));
    assert!(bench.nic.detach(bench.name).is_some());
}
