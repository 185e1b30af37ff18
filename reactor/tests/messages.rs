//! Messages, timers and leaving, in the simulation.

#![expect(clippy::unwrap_used, reason = "a test: panicking is how it fails")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use reactor::{Cpu, Program, Progress, Simulation, SimulationOptions, TimerId, Turn};

/// From CPU to CPU, and its number among those.
#[derive(Clone, Copy)]
struct Numbered {
    number: u64,
}

#[derive(Default)]
struct Log {
    sent: BTreeMap<(u16, u16), u64>,
    received: BTreeMap<(u16, u16), u64>,
}

impl Log {
    fn sent_count(&self) -> u64 {
        self.sent.values().sum()
    }
}

/// Sends bursts to random CPUs, itself included; leaves once it has sent enough and all have received everything.
struct Chatter {
    log: Rc<RefCell<Log>>,
    left_to_send: u64,
}

impl Program for Chatter {
    type Message = Numbered;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Numbered>, from: Option<Cpu>, message: Numbered) {
        let pair = (from.unwrap().0, turn.cpu().0);
        let mut log = self.log.borrow_mut();
        let expected = log.received.entry(pair).or_default();
        assert_eq!(message.number, *expected, "out of order or lost from {} to {}", pair.0, pair.1);
        *expected += 1;
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Numbered>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Numbered>) -> Progress {
        let burst = (turn.random() % 8).min(self.left_to_send);
        for _ in 0..burst {
            let to = Cpu(u16::try_from(turn.random() % u64::from(turn.cpu_count())).unwrap());
            let mut log = self.log.borrow_mut();
            let next = log.sent.entry((turn.cpu().0, to.0)).or_default();
            turn.send(to, Numbered { number: *next });
            *next += 1;
        }
        self.left_to_send -= burst;
        let log = self.log.borrow();
        if self.left_to_send == 0 && log.sent_count() == 4 * 100 && log.sent == log.received {
            turn.leave();
        }
        Progress::busy_if(burst > 0)
    }
}

/// One history to its end: how often rings were full.
fn chat(seed: u64, options: SimulationOptions) -> u64 {
    let log = Rc::new(RefCell::new(Log::default()));
    let mut simulation = Simulation::with_options(seed, 4, options);
    for cpu in (0..4).map(Cpu) {
        simulation.install(cpu, Chatter { log: Rc::clone(&log), left_to_send: 100 });
    }
    simulation.reach_end(200_000);
    assert_eq!(log.borrow().sent, log.borrow().received, "seed {seed}");
    let (mut received, mut ring_full_count) = (0, 0);
    for cpu in (0..4).map(Cpu) {
        let counters = simulation.counters(cpu);
        received += counters.message_count.value();
        let by_pair: u64 = (0..4).map(|to| counters.ring_full_count_to(Cpu(to))).sum();
        assert_eq!(by_pair, counters.ring_full_count.value());
        ring_full_count += by_pair;
    }
    assert_eq!(received, 400);
    ring_full_count
}

/// Many more if `QUIESCE_TEST_LONG` is set.
fn seed_count(ordinary: u64) -> u64 {
    if std::env::var_os("QUIESCE_TEST_LONG").is_some() { ordinary * 30 } else { ordinary }
}

#[test]
fn order_is_kept_and_nothing_lost_when_rings_are_full() {
    let tiny =
        |seed: u64| SimulationOptions { ring_capacity: 1 + usize::from(seed.is_multiple_of(2)), ..Default::default() };
    let ring_full_count: u64 = (0..100).map(|seed| chat(seed, tiny(seed))).sum();
    assert!(ring_full_count > 10_000, "rings were full only {ring_full_count} times: the test shows nothing");
}

#[test]
fn order_is_kept_and_nothing_lost_in_rough_weather() {
    let ring_full_count: u64 = (0..seed_count(500)).map(|seed| chat(seed, SimulationOptions::rough(seed))).sum();
    assert!(ring_full_count > 10_000, "rings were full only {ring_full_count} times: the test shows nothing");
}

#[test]
fn a_seed_gives_the_same_history_every_time() {
    let history = |seed| {
        let log = Rc::new(RefCell::new(Log::default()));
        let mut simulation = Simulation::with_ring_capacity(seed, 4, 2);
        for cpu in (0..4).map(Cpu) {
            simulation.install(cpu, Chatter { log: Rc::clone(&log), left_to_send: 100 });
        }
        let steps: Vec<_> = (0..2_000).map(|_| (simulation.step(), simulation.now_ns())).collect();
        let sent = log.borrow().sent.clone();
        (steps, sent)
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
}

/// In which turn a message came, and from whom.
type Arrival = (u64, Option<Cpu>);

/// Posts a message to itself for every one that it gets, and notes the turn in which each came.
struct Echo {
    turn_number: u64,
    seen: Rc<RefCell<Vec<Arrival>>>,
}

impl Program for Echo {
    type Message = ();

    fn receive<'t>(&mut self, turn: &mut Turn<'t, ()>, from: Option<Cpu>, (): ()) {
        self.seen.borrow_mut().push((self.turn_number, from));
        let this_cpu = turn.cpu();
        turn.send(this_cpu, ());
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, ()>, _token: u64) {}

    fn poll<'t>(&mut self, _turn: &mut Turn<'t, ()>) -> Progress {
        self.turn_number += 1;
        Progress::Idle
    }
}

#[test]
fn a_message_to_itself_comes_in_the_next_turn_and_a_posted_one_has_no_sender() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let mut simulation = Simulation::new(1, 1);
    simulation.install(Cpu(0), Echo { turn_number: 0, seen: Rc::clone(&seen) });
    let postbox = simulation.postbox(Cpu(0));
    simulation.step_cpu(Cpu(0));
    postbox.post(()).unwrap();
    for _ in 0..4 {
        simulation.step_cpu(Cpu(0));
    }
    let own = Some(Cpu(0));
    assert_eq!(*seen.borrow(), [(1, None), (2, own), (3, own), (4, own)]);
}

/// Arms and cancels timers at random; each must fire once, in the first turn at or after its deadline, or not at all.
struct Alarms {
    armed: BTreeMap<u64, (TimerId, u64)>,
    next_token: u64,
    fired: Rc<RefCell<u64>>,
}

impl Program for Alarms {
    type Message = ();

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, ()>, _from: Option<Cpu>, (): ()) {}

    fn fire<'t>(&mut self, turn: &mut Turn<'t, ()>, token: u64) {
        let (timer, deadline_ns) = self.armed.remove(&token).expect("fired twice, or after it was cancelled");
        assert!(deadline_ns <= turn.now_ns());
        assert!(!turn.cancel(timer));
        *self.fired.borrow_mut() += 1;
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, ()>) -> Progress {
        let late = self.armed.values().find(|(_, deadline_ns)| *deadline_ns <= turn.now_ns());
        assert!(late.is_none(), "due before this turn's poll, and not fired: {late:?}");
        let token = self.next_token;
        self.next_token += 1;
        let deadline_ns = turn.now_ns() + 1 + turn.random() % 20_000;
        self.armed.insert(token, (turn.arm(deadline_ns, token), deadline_ns));
        if turn.random().is_multiple_of(3) {
            let (&token, &(timer, _)) = self.armed.iter().next().unwrap();
            assert!(turn.cancel(timer));
            self.armed.remove(&token);
        }
        Progress::Idle
    }
}

#[test]
fn every_timer_fires_once_in_the_first_turn_that_may() {
    let fired = Rc::new(RefCell::new(0));
    let mut simulation = Simulation::new(3, 2);
    for cpu in [Cpu(0), Cpu(1)] {
        let fired = Rc::clone(&fired);
        simulation.install(cpu, Alarms { armed: BTreeMap::new(), next_token: 0, fired });
    }
    assert!(simulation.run_until(100_000, || *fired.borrow() > 2_000));
}

/// Leaves at once if told so; sends to CPU 0 when it is given a turn.
struct Leaver {
    leaves: bool,
    sends: bool,
}

impl Program for Leaver {
    type Message = ();

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, ()>, _from: Option<Cpu>, (): ()) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, ()>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, ()>) -> Progress {
        if self.leaves {
            turn.leave();
        }
        if self.sends {
            turn.send(Cpu(0), ());
        }
        Progress::Idle
    }
}

#[test]
fn a_cpu_that_left_turns_no_more_and_its_postbox_is_closed() {
    let mut simulation = Simulation::new(1, 2);
    simulation.install(Cpu(0), Leaver { leaves: true, sends: false });
    simulation.install(Cpu(1), Leaver { leaves: true, sends: false });
    simulation.step_cpu(Cpu(1));
    assert!(!simulation.has_left(Cpu(1)), "the last CPU leaves last");
    simulation.step_cpu(Cpu(0));
    assert!(simulation.has_left(Cpu(0)));
    simulation.step_cpu(Cpu(0));
    assert_eq!(simulation.counters(Cpu(0)).turn_count.value(), 1);
    assert!(simulation.postbox(Cpu(0)).post(()).is_err());
    simulation.step_cpu(Cpu(1));
    assert!(simulation.has_left(Cpu(1)));
}

#[test]
#[should_panic(expected = "a message from cpu 1 to cpu 0, which has left")]
fn a_message_to_a_cpu_that_left_is_our_bug() {
    let mut simulation = Simulation::new(1, 2);
    simulation.install(Cpu(0), Leaver { leaves: true, sends: false });
    simulation.install(Cpu(1), Leaver { leaves: false, sends: true });
    simulation.step_cpu(Cpu(0));
    simulation.step_cpu(Cpu(1));
}
