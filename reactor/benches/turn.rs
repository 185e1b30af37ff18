//! Cost of a turn in which nothing happens, and of its quiet point.
//!
//! `cargo bench -p reactor --bench turn`

mod measure;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use measure::{per_operation, print};
use reactor::parts::Quiet;
use reactor::{Clock, Cpu, PollMode, Program, Progress, ReactorOptions, RuntimeBuilder, Turn};

const TURN_COUNT: u64 = 2_000_000;
const ROUND_COUNT: usize = 9;

fn main() {
    let clock = Clock::start();
    print("read the clock", clock_read(clock), None);
    let quiet = quiet_point(clock);
    print("quiet point, the epoch has not moved", quiet, None);
    print("quiet point and a step of the epoch", quiet_and_step(clock), None);
    for cpu_count in [1, 4, 16] {
        let name = format!("empty turn, 3 pollers, mesh of {cpu_count} and a control plane");
        print(&name, empty_turn(cpu_count), None);
    }
}

fn clock_read(clock: Clock) -> f64 {
    per_operation(clock, TURN_COUNT, || (0..TURN_COUNT).for_each(|_| _ = black_box(clock.now_ns())))
}

fn quiet_point(clock: Clock) -> f64 {
    let mut quiet = Quiet::default();
    per_operation(clock, TURN_COUNT, || (0..TURN_COUNT).for_each(|_| black_box(&mut quiet).point()))
}

fn quiet_and_step(clock: Clock) -> f64 {
    let mut quiet = Quiet::default();
    per_operation(clock, TURN_COUNT, || {
        for _ in 0..TURN_COUNT {
            assert!(black_box(&mut quiet).advance());
            black_box(&mut quiet).point();
        }
    })
}

/// Something that is looked at each turn, as a completion queue is.
trait Poller: Send {
    fn poll(&mut self) -> Progress;
}

struct Queue {
    filled: Arc<AtomicU64>,
    taken: u64,
}

impl Poller for Queue {
    fn poll(&mut self) -> Progress {
        Progress::busy_if(self.filled.load(Ordering::Acquire) != self.taken)
    }
}

struct Polling {
    pollers: Vec<Box<dyn Poller>>,
    clock: Clock,
    turn_count: u64,
    began_ns: u64,
    best_ns: f64,
    round_count: usize,
    result: mpsc::Sender<f64>,
}

impl Program for Polling {
    type Message = u64;

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, u64>, _from: Option<Cpu>, _message: u64) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, u64>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, u64>) -> Progress {
        if self.turn_count == 0 {
            let now_ns = self.clock.now_ns();
            if self.round_count > 0 {
                let ns = measure::as_float(now_ns - self.began_ns) / measure::as_float(TURN_COUNT);
                self.best_ns = self.best_ns.min(ns);
            }
            if self.round_count == ROUND_COUNT {
                self.result.send(self.best_ns).ok();
                for cpu in 1..turn.cpu_count() {
                    turn.send(Cpu(cpu), 0);
                }
                turn.leave();
            }
            self.round_count += 1;
            self.turn_count = TURN_COUNT;
            self.began_ns = now_ns;
        }
        self.turn_count -= 1;
        self.pollers.iter_mut().fold(Progress::Idle, |progress, poller| progress.or(poller.poll()))
    }
}

/// Sleeps until it is told to leave.
struct Asleep;

impl Program for Asleep {
    type Message = u64;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, u64>, _from: Option<Cpu>, _message: u64) {
        turn.leave();
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, u64>, _token: u64) {}

    fn poll<'t>(&mut self, _turn: &mut Turn<'t, u64>) -> Progress {
        Progress::Idle
    }

    fn rest<'t>(&mut self, _turn: &mut Turn<'t, u64>) -> reactor::Rest {
        reactor::Rest::Sleep
    }
}

fn empty_turn(cpu_count: u16) -> f64 {
    let os_cpu = core_affinity::get_core_ids().unwrap_or_default().last().map_or(0, |core| core.id);
    let mut reactors = vec![ReactorOptions { poll_mode: PollMode::Busy, ..ReactorOptions::pinned(os_cpu) }];
    reactors.extend((0..cpu_count).map(|_| ReactorOptions::sleeping()));
    let mut builder = RuntimeBuilder::new(&reactors, 1024).expect("a runtime");
    let clock = builder.clock();
    let (result, best) = mpsc::channel();
    let queue = || -> Box<dyn Poller> { Box::new(Queue { filled: Arc::default(), taken: 0 }) };
    let pollers = (0..3).map(|_| queue()).collect();
    let polling =
        Polling { pollers, clock, turn_count: 0, began_ns: 0, best_ns: f64::INFINITY, round_count: 0, result };
    let spawned = builder.spawn(Cpu(0), "polling", move || polling);
    spawned.expect("a thread");
    for cpu in 1..=cpu_count {
        builder.spawn(Cpu(cpu), "asleep", || Asleep).expect("a thread");
    }
    builder.start().join();
    best.recv().expect("a result")
}
