//! A mesh of two reactors and a control plane that turn when they are told to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use reactor::{Program, Progress, ReactorOptions, Rest, RuntimeBuilder, Turn};

use super::*;
use crate::config::ReactorSection;

const MS: u64 = 1_000_000;

fn reactors() -> Reactors {
    crate::reactors::tests::idle()
}

fn look(lookout: &mut Lookout, reactors: &Reactors, now_ms: u64) -> Vec<Notice> {
    lookout.notices(reactors, now_ms * MS)
}

/// Blocks whenever its lock is taken, which no program may, and says so first.
#[derive(Clone, Default)]
struct Blocker {
    lock: Arc<Mutex<()>>,
    is_blocked: Arc<AtomicBool>,
}

impl Program for Blocker {
    type Message = u64;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, u64>, _from: Option<Cpu>, _message: u64) {
        turn.leave();
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, u64>, _token: u64) {}

    fn poll<'t>(&mut self, _turn: &mut Turn<'t, u64>) -> Progress {
        if self.lock.try_lock().is_err() {
            self.is_blocked.store(true, Ordering::Relaxed);
            drop(self.lock.lock());
        }
        Progress::Idle
    }

    fn rest<'t>(&mut self, _turn: &mut Turn<'t, u64>) -> Rest {
        Rest::Poll
    }
}

#[test]
fn a_cpu_that_does_not_come_back_is_named_once_then_seldom_and_again_when_it_turns() {
    let section = ReactorSection::Floating(1);
    let mut builder: RuntimeBuilder<u64> = RuntimeBuilder::new(&[ReactorOptions::yielding(); 2], 2).unwrap();
    let reactors = Reactors::of(&builder, &section, vec![0]);
    let blocker = Blocker::default();
    let postboxes = [Cpu(0), Cpu(1)].map(|cpu| builder.postbox(cpu));
    let first = blocker.clone();
    builder.spawn(Cpu(0), "first", || first).unwrap();
    builder.spawn(Cpu(1), "second", Blocker::default).unwrap();
    let runtime = builder.start();
    let turns = |cpu: Cpu| reactors.all().nth(usize::from(cpu.0)).unwrap().counters.turn_count.value();
    let turned = |cpu: Cpu, before: u64| {
        while turns(cpu) <= before + 1 {
            std::thread::yield_now();
        }
    };
    turned(Cpu(0), 0);
    turned(Cpu(1), 0);

    let mut lookout = Lookout::new(&reactors);
    reactors.set_stall_limit_ns(1000 * MS);
    // On a machine with much to do any part of a poll may take long, which is not looked for here.
    reactors.watch().set_limit_ns(3_600_000 * MS);
    assert_eq!(look(&mut lookout, &reactors, 10_000), [], "nobody was seen before");
    turned(Cpu(0), turns(Cpu(0)));
    let blocked = blocker.lock.lock().unwrap();
    while !blocker.is_blocked.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
    let mut at = |now_ms: u64| {
        turned(Cpu(1), turns(Cpu(1)));
        let notices = look(&mut lookout, &reactors, now_ms);
        (notices, lookout.stalls(Cpu(0)), lookout.stalls(Cpu(1)))
    };
    at(10_500);
    let stalled = |for_ms| Notice::Stalled {
        cpu: "0".into(),
        what: "poll",
        for_ms,
        limit_ms: 1000,
        reclamation: Reclamation::DoesNotWait,
    };
    assert_eq!(at(11_400), (vec![], (0, false), (0, false)));
    assert_eq!(at(11_500), (vec![stalled(1000)], (1, true), (0, false)));
    assert_eq!(at(12_000).0, []);
    assert_eq!(at(21_500).0, [stalled(11_000)], "after ten seconds");
    assert_eq!(at(31_500).0, [], "then after twenty");
    assert_eq!(at(41_500).0, [stalled(31_000)]);
    let mut another = Lookout::new(&reactors);
    for now_ms in [50_000, 50_500, 51_900, 52_400] {
        assert_eq!(look(&mut another, &reactors, now_ms), [], "the looks at 50.5 and 51.9 s are too far apart");
    }
    drop(blocked);
    turned(Cpu(0), turns(Cpu(0)));
    let again = Notice::TurnsAgain { cpu: "0".into(), after_ms: 31_000 };
    assert_eq!(at(42_000), (vec![again], (1, false), (0, false)));

    for postbox in postboxes {
        postbox.post(0).unwrap();
    }
    runtime.join();
}

#[test]
fn reclamation_that_begins_to_wait_is_a_line_of_its_own() {
    let mut seen = Seen::default();
    let stall = |len_ms: u64, holds_up_reclamation| Stall {
        cpu: Cpu(0),
        what: "poll",
        len_ns: len_ms * MS,
        holds_up_reclamation,
    };
    let mut at = |now_ms: u64, holds_up| {
        let notice = seen.stalls("0".into(), stall(now_ms, holds_up), 1000 * MS, now_ms * MS);
        notice.map(|notice| {
            let Notice::Stalled { reclamation, .. } = notice else { panic!("{notice:?}") };
            reclamation
        })
    };
    assert_eq!(at(1000, false), Some(Reclamation::DoesNotWait));
    assert_eq!(at(1500, true), Some(Reclamation::Waits { for_ms: 0 }));
    assert_eq!(at(2000, true), None);
    assert_eq!(at(21_500, true), Some(Reclamation::Waits { for_ms: 20_000 }));
}

#[test]
fn reports_that_found_no_room_are_counted_a_look_later() {
    let reactors = reactors();
    let mut lookout = Lookout::new(&reactors);
    reactors.all().nth(1).unwrap().counters.slow_count.set(3);
    assert_eq!(look(&mut lookout, &reactors, 500), [], "their reports may be on their way");
    let unreported = |count| Notice::SlowUnreported { cpu: "6".into(), count, limit_us: 50_000 };
    assert_eq!(look(&mut lookout, &reactors, 1000), [unreported(3)]);
    reactors.all().nth(1).unwrap().counters.slow_count.set(10);
    assert_eq!(look(&mut lookout, &reactors, 1500), []);
    assert_eq!(look(&mut lookout, &reactors, 2000), []);
    assert_eq!(look(&mut lookout, &reactors, 11_000), [unreported(7)]);
    assert_eq!(look(&mut lookout, &reactors, 21_000), []);
}

#[test]
fn refused_connections_say_what_there_was_no_room_in() {
    let reactors = reactors();
    let mut lookout = Lookout::new(&reactors);
    let room = |refused_count, connection_count, in_limbo_count| Room {
        refused_count,
        connection_count,
        connection_count_max: 8,
        in_limbo_count,
    };
    let refused = |lookout: &mut Lookout, now_ms: u64| match look(lookout, &reactors, now_ms).as_slice() {
        [] => None,
        [Notice::Refused { count, why, .. }] => Some((*count, why.clone())),
        others => panic!("{others:?}"),
    };
    lookout.note(room(0, 1, 0));
    assert_eq!(refused(&mut lookout, 0), None);
    lookout.note(room(1, 8, 0));
    lookout.note(room(2, 8, 0));
    // They are gone when it is looked at.
    lookout.note(room(2, 0, 0));
    assert_eq!(refused(&mut lookout, 500), Some((2, RefusedWhy::QueuePairs)));
    lookout.note(room(5, 3, 0));
    assert_eq!(refused(&mut lookout, 1000), None);
    assert_eq!(refused(&mut lookout, 10_500), Some((3, RefusedWhy::OtherResources)));
    assert_eq!(refused(&mut lookout, 20_500), None);
    // The first reactor does not turn.
    lookout.cpus[0].stall = Some(Ongoing { len_ns: 0, next_line_ns: u64::MAX, quiet_ns: 0, waited_for_since_ns: None });
    lookout.note(room(6, 8, 8));
    let mut notices = Vec::new();
    lookout.look_for_refusals(&reactors, 40_000 * MS, &mut notices);
    let why = RefusedWhy::ReclamationWaits { stalled: "5".into() };
    assert_eq!(notices, [Notice::Refused { count: 1, room: room(6, 8, 8), why }]);
}

/// Passes what it is sent by a thread on to the other, so many times.
struct Sender;

impl Program for Sender {
    type Message = u64;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, u64>, from: Option<Cpu>, count: u64) {
        if from.is_some() || count == 0 {
            turn.leave();
        } else {
            (0..count).for_each(|number| turn.send(Cpu(1), number));
        }
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, u64>, _token: u64) {}

    fn poll<'t>(&mut self, _turn: &mut Turn<'t, u64>) -> Progress {
        Progress::Idle
    }
}

#[test]
fn a_full_ring_is_named_by_its_ends_with_how_many_messages_waited() {
    let section = ReactorSection::Floating(1);
    let mut builder: RuntimeBuilder<u64> = RuntimeBuilder::new(&[ReactorOptions::yielding(); 2], 2).unwrap();
    let reactors = Reactors::of(&builder, &section, vec![0]);
    let blocker = Blocker::default();
    let [sender, receiver] = [Cpu(0), Cpu(1)].map(|cpu| builder.postbox(cpu));
    let blocked = blocker.clone();
    builder.spawn(Cpu(0), "sender", || Sender).unwrap();
    builder.spawn(Cpu(1), "receiver", || Forgetful(blocked)).unwrap();
    let mut lookout = Lookout::new(&reactors);
    let lock = blocker.lock.lock().unwrap();
    let runtime = builder.start();
    while !blocker.is_blocked.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
    let full_count = || reactors.all().next().unwrap().counters.ring_full_count.value();
    sender.post(5).unwrap();
    while full_count() < 3 {
        std::thread::yield_now();
    }
    let full = |count| Notice::RingFull { from: "0".into(), to: "control".into(), count };
    assert_eq!(look(&mut lookout, &reactors, 1_000), [full(3)], "two of five found room");
    assert_eq!(look(&mut lookout, &reactors, 1_500), []);
    sender.post(4).unwrap();
    while full_count() < 7 {
        std::thread::yield_now();
    }
    assert_eq!(look(&mut lookout, &reactors, 2_000), [], "not so soon again");
    assert_eq!(look(&mut lookout, &reactors, 20_000), [full(4)]);
    drop(lock);
    sender.post(0).unwrap();
    receiver.post(u64::MAX).unwrap();
    runtime.join();
}

/// A [`Blocker`] that leaves only when a thread says so.
struct Forgetful(Blocker);

impl Program for Forgetful {
    type Message = u64;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, u64>, from: Option<Cpu>, _message: u64) {
        if from.is_none() {
            turn.leave();
        }
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, u64>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, u64>) -> Progress {
        self.0.poll(turn)
    }
}
