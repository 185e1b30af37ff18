//! What the simulation itself promises: late messages are in order and one turn late at most, sleepers are not stepped, and who hangs is named.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::*;
use crate::program::Rest;
use crate::turn::Turn;

/// What all [`Chatter`]s did.
#[derive(Default)]
struct Seen {
    turn_count: BTreeMap<u16, u64>,
    /// By sender and receiver: messages sent, with the number of turns that the receiver had made by then, and messages received.
    sent: BTreeMap<(u16, u16), Vec<u64>>,
    received: BTreeMap<(u16, u16), usize>,
    late_count: u64,
    overtaken_count: u64,
}

/// Sends to everybody now and then, and checks that nothing is later than it may be.
struct Chatter(Rc<RefCell<Seen>>);

#[derive(Clone, Copy)]
enum Word {
    Numbered,
    /// By now CPU 0 has sent so many messages to the receiver.
    Gossip {
        told_of: usize,
    },
}

impl Program for Chatter {
    type Message = Word;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Word>, from: Option<Cpu>, word: Word) {
        let pair = (from.unwrap().0, turn.cpu().0);
        let mut seen = self.0.borrow_mut();
        let from_first = seen.received.get(&(0, pair.1)).copied().unwrap_or(0);
        if let Word::Gossip { told_of } = word
            && from_first < told_of
        {
            seen.overtaken_count += 1;
        }
        let number = seen.received.entry(pair).or_default();
        *number += 1;
        let number = *number;
        let turns_at_sending = seen.sent[&pair][number - 1];
        let turns_now = seen.turn_count.get(&pair.1).copied().unwrap_or(0);
        // It counts its turns in its poll: in the very next turn after the sending the count is still the same.
        assert!(turns_now <= turns_at_sending + 1, "missed by more than one turn: {turns_at_sending} {turns_now}");
        seen.late_count += turns_now - turns_at_sending;
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Word>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Word>) -> Progress {
        let this = turn.cpu().0;
        let mut seen = self.0.borrow_mut();
        *seen.turn_count.entry(this).or_default() += 1;
        for to in (0..turn.cpu_count()).filter(|to| *to != this) {
            if turn.random().is_multiple_of(3) {
                let turns = seen.turn_count.get(&to).copied().unwrap_or(0);
                seen.sent.entry((this, to)).or_default().push(turns);
                let told_of = if this == 0 { 0 } else { seen.sent.get(&(0, to)).map_or(0, Vec::len) };
                turn.send(Cpu(to), if this == 0 { Word::Numbered } else { Word::Gossip { told_of } });
            }
        }
        Progress::Idle
    }
}

fn chat(seed: u64, late_ns_max: u64) -> Rc<RefCell<Seen>> {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let options = SimulationOptions { late_ns_max, ..SimulationOptions::default() };
    let mut simulation = Simulation::with_options(seed, 4, options);
    (0..4).for_each(|cpu| simulation.install(Cpu(cpu), Chatter(Rc::clone(&seen))));
    for _ in 0..400 {
        simulation.step();
    }
    seen
}

#[test]
fn late_messages_are_one_turn_late_at_most_and_may_overtake_what_caused_them() {
    let (mut late_count, mut overtaken_count) = (0, 0);
    for seed in 0..200 {
        let seen = chat(seed, 10_000);
        late_count += seen.borrow().late_count;
        overtaken_count += seen.borrow().overtaken_count;
        let on_time = chat(seed, 0);
        assert_eq!((on_time.borrow().late_count, on_time.borrow().overtaken_count), (0, 0));
    }
    assert!(late_count > 1_000 && overtaken_count > 100, "{late_count} late, {overtaken_count} overtaken");
}

#[test]
fn a_seed_gives_the_same_history_also_in_rough_weather() {
    let history = |seed| {
        let mut simulation = Simulation::with_options(seed, 4, SimulationOptions::rough(11));
        (0..4).for_each(|cpu| simulation.install(Cpu(cpu), Sleeper::new(&Rc::default(), Rest::Poll, u64::from(cpu))));
        (0..3_000).map(|_| (simulation.step(), simulation.now_ns())).collect::<Vec<_>>()
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
}

/// Notes when it turns; sleeps as it was told.
struct Sleeper {
    turns_ns: Rc<RefCell<Vec<u64>>>,
    rest: Rest,
    timer_ns: u64,
}

impl Sleeper {
    fn new(turns_ns: &Rc<RefCell<Vec<u64>>>, rest: Rest, timer_ns: u64) -> Self {
        Self { turns_ns: Rc::clone(turns_ns), rest, timer_ns }
    }
}

impl Program for Sleeper {
    type Message = u16;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, u16>, _from: Option<Cpu>, to: u16) {
        if to != turn.cpu().0 {
            turn.send(Cpu(to), to);
        }
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, u16>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, u16>) -> Progress {
        self.turns_ns.borrow_mut().push(turn.now_ns());
        if self.timer_ns > 0 {
            turn.arm(self.timer_ns, 0);
            self.timer_ns = 0;
        }
        Progress::Idle
    }

    fn rest<'t>(&mut self, _turn: &mut Turn<'t, u16>) -> Rest {
        self.rest
    }
}

/// Two CPUs, of which the first rests as given; stepped until it sleeps.
fn asleep(rest: Rest, timer_ns: u64) -> (Simulation<u16>, Rc<RefCell<Vec<u64>>>) {
    let options = SimulationOptions { sleeps: true, ..SimulationOptions::default() };
    let mut simulation = Simulation::with_options(3, 2, options);
    let turns_ns = Rc::new(RefCell::new(Vec::new()));
    simulation.install(Cpu(0), Sleeper::new(&turns_ns, rest, timer_ns));
    simulation.install(Cpu(1), Sleeper::new(&Rc::default(), Rest::Poll, 0));
    while !simulation.sleeps(Cpu(0)) {
        simulation.step_cpu(Cpu(0));
    }
    turns_ns.borrow_mut().clear();
    (simulation, turns_ns)
}

#[test]
fn a_sleeper_turns_when_it_is_woken_and_not_before() {
    let (mut simulation, turns_ns) = asleep(Rest::Sleep, 0);
    for _ in 0..1_000 {
        simulation.step();
    }
    assert_eq!(*turns_ns.borrow(), []);
    simulation.wake(Cpu(0)).wake();
    assert!(!simulation.sleeps(Cpu(0)));
    simulation.reach("a turn that was asked for", 100, || !turns_ns.borrow().is_empty());

    while !simulation.sleeps(Cpu(0)) {
        simulation.step();
    }
    turns_ns.borrow_mut().clear();
    // By way of the other CPU, which polls.
    simulation.postbox(Cpu(1)).post(0).unwrap();
    simulation.reach("a turn for a message", 100, || !turns_ns.borrow().is_empty());
    let counters = simulation.counters(Cpu(0));
    assert!(counters.sleep_count.value() == 2 && counters.sleep_ns.value() > 0);
}

#[test]
fn a_sleeper_turns_at_its_timer_and_at_its_own_limit() {
    let (mut simulation, turns_ns) = asleep(Rest::Sleep, 500_000);
    simulation.reach("the timer", 10_000, || !turns_ns.borrow().is_empty());
    assert!((500_000..520_000).contains(&turns_ns.borrow()[0]), "{turns_ns:?}");

    let (mut simulation, turns_ns) = asleep(Rest::SleepUntil(70_000), 0);
    simulation.reach("the limit", 10_000, || !turns_ns.borrow().is_empty());
    assert!((70_000..90_000).contains(&turns_ns.borrow()[0]), "{turns_ns:?}");
}

#[test]
fn where_all_sleep_or_are_stalled_time_passes_at_once() {
    let (mut simulation, turns_ns) = asleep(Rest::Sleep, 3_600_000_000_000);
    simulation.stall(Cpu(1), 7_200_000_000_000);
    simulation.reach("an hour", 10, || !turns_ns.borrow().is_empty());
    assert_eq!(simulation.counters(Cpu(1)).turn_count.value(), 0);
    simulation.step();
    assert!(simulation.now_ns() < 3_600_100_000_000);
    simulation.stall(Cpu(0), 7_200_000_000_000);
    simulation.step();
    assert!(simulation.now_ns() >= 7_200_000_000_000);
}

#[test]
fn who_hangs_is_named_with_what_it_waits_for() {
    let (mut simulation, turns_ns) = asleep(Rest::Sleep, 0);
    let since_ns = simulation.now_ns();
    let came = simulation.run_until(1_000, || !turns_ns.borrow().is_empty());
    assert!(!came);
    let report = simulation.report().to_string();
    assert!(report.contains(&format!("cpu 0 sleeps since {since_ns} ns until it is woken")), "{report}");
    assert!(report.contains("cpu 1 turns"), "{report}");
    assert_eq!(format!("{simulation:?}"), report);
    let hang = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        simulation.reach("news that nobody tells of", 10, || false);
    }));
    let message = *hang.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("news that nobody tells of") && message.contains("until it is woken"), "{message}");

    simulation.stall(Cpu(0), 5);
    simulation.postbox(Cpu(1)).post(0).unwrap();
    simulation.postbox(Cpu(1)).post(0).unwrap();
    let report = simulation.report().to_string();
    assert!(report.contains("cpu 0 is stalled until") && report.contains("2 messages posted"), "{report}");
    simulation.step_cpu(Cpu(1));
    let report = simulation.report().to_string();
    assert!(report.contains("2 messages from cpu 1"), "{report}");
}
