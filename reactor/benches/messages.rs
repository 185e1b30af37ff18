//! Messages: how many, how fast, beside a bare ring, a bare cache line and other queues in the same run.
//!
//! `cargo bench -p reactor --bench messages`

mod measure;

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use crossbeam_queue::ArrayQueue;
use hdrhistogram::Histogram;
use measure::{as_float, print, print_rate, side_by_side, two_cpus};
use reactor::parts::bare_ring;
use reactor::{Clock, Cpu, PollMode, Program, Progress, ReactorOptions, Rest, RuntimeBuilder, Turn};

/// Messages under way in each direction: what SPDK's `event_perf` keeps up by itself.
const BALL_COUNT: u64 = 256;
const RING_CAPACITY: usize = 1024;
const RUN_NS: u64 = 200_000_000;
const ROUND_COUNT: usize = 5;
const PING_COUNT: u64 = 300_000;

fn main() {
    let clock = Clock::start();
    let one = one_cpu();
    print_rate("messages of one CPU to itself", one, None);
    let Some(cpus) = two_cpus() else {
        println!("this machine gives this process one CPU: nothing between two can be measured");
        return;
    };

    println!("\neach way at once, {BALL_COUNT} under way in each direction, per CPU:");
    let bare = best(|| bare_throughput(clock, cpus, || bare_ring(RING_CAPACITY)));
    print_rate("  bare ring", bare, None);
    let beside = Some(("bare ring", bare));
    print_rate("  reactors, 16 bytes", best(|| throughput::<16>(cpus)), beside);
    print_rate("  reactors, 64 bytes", best(|| throughput::<64>(cpus)), beside);
    print_rate("  reactors, 256 bytes", best(|| throughput::<256>(cpus)), beside);
    print_rate("  crossbeam ArrayQueue", best(|| bare_throughput(clock, cpus, array_queue)), beside);
    print_rate("  crossbeam-channel, bounded", best(|| bare_throughput(clock, cpus, channel)), beside);

    println!("\none way, half of there and back:");
    let line = one_way("  bare cache line", None, || cache_line(clock, cpus));
    let beside = Some(("cache line", line));
    one_way("  bare ring", beside, || bare_latency(clock, cpus, bare_ring(RING_CAPACITY), bare_ring(RING_CAPACITY)));
    one_way("  reactors", beside, || latency(cpus));
    one_way("  crossbeam ArrayQueue", beside, || bare_latency(clock, cpus, array_queue(), array_queue()));
    one_way("  crossbeam-channel, bounded", beside, || bare_latency(clock, cpus, channel(), channel()));
}

fn best(mut run: impl FnMut() -> f64) -> f64 {
    (0..ROUND_COUNT).map(|_| run()).fold(f64::INFINITY, f64::min)
}

/// Runs some rounds and shows the one with the best median.
fn one_way(what: &str, beside: Option<(&str, f64)>, mut run: impl FnMut() -> Histogram<u64>) -> f64 {
    let half = |histogram: &Histogram<u64>, quantile| as_float(histogram.value_at_quantile(quantile)) / 2.0;
    let rounds = (0..ROUND_COUNT).map(|_| run());
    let Some(best) = rounds.min_by_key(|histogram| histogram.value_at_quantile(0.5)) else { return 0.0 };
    print(&format!("{what}, p50"), half(&best, 0.5), beside);
    print(&format!("{what}, p99"), half(&best, 0.99), None);
    half(&best, 0.5)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000, 3).expect("bounds")
}

/// The end that sends.
trait Sends: Send {
    fn push(&mut self, value: u64) -> bool;
}

/// The end that receives.
trait Receives: Send {
    fn pop(&mut self) -> Option<u64>;
    fn tell(&mut self) {}
}

impl Sends for reactor::parts::RingWriter<u64> {
    fn push(&mut self, value: u64) -> bool {
        Self::push(self, value)
    }
}

impl Receives for reactor::parts::RingReader<u64> {
    fn pop(&mut self) -> Option<u64> {
        Self::pop(self)
    }
    fn tell(&mut self) {
        Self::tell(self);
    }
}

impl Sends for Arc<ArrayQueue<u64>> {
    fn push(&mut self, value: u64) -> bool {
        ArrayQueue::push(self, value).is_ok()
    }
}

impl Receives for Arc<ArrayQueue<u64>> {
    fn pop(&mut self) -> Option<u64> {
        ArrayQueue::pop(self)
    }
}

impl Sends for crossbeam_channel::Sender<u64> {
    fn push(&mut self, value: u64) -> bool {
        self.try_send(value).is_ok()
    }
}

impl Receives for crossbeam_channel::Receiver<u64> {
    fn pop(&mut self) -> Option<u64> {
        self.try_recv().ok()
    }
}

fn array_queue() -> (Arc<ArrayQueue<u64>>, Arc<ArrayQueue<u64>>) {
    let queue = Arc::new(ArrayQueue::new(RING_CAPACITY));
    (Arc::clone(&queue), queue)
}

fn channel() -> (crossbeam_channel::Sender<u64>, crossbeam_channel::Receiver<u64>) {
    crossbeam_channel::bounded(RING_CAPACITY)
}

/// ns for each message that comes in, and is sent back.
fn bare_throughput<S: Sends, R: Receives>(clock: Clock, cpus: [usize; 2], pair: impl Fn() -> (S, R)) -> f64 {
    let ((forth, from_first), (back, from_second)) = (pair(), pair());
    let play = move |mut out: S, mut back: R| {
        move || {
            (0..BALL_COUNT).for_each(|ball| assert!(out.push(ball)));
            let began_ns = clock.now_ns();
            let mut count = 0_u64;
            // No room: the other has stopped.
            let mut is_over = false;
            while !is_over {
                let before = count;
                while let Some(ball) = back.pop() {
                    count += 1;
                    is_over |= !out.push(ball);
                    if count.is_multiple_of(BALL_COUNT) {
                        break;
                    }
                }
                back.tell();
                is_over |= clock.now_ns() - began_ns > RUN_NS;
                if count == before {
                    spin_loop();
                }
            }
            as_float(clock.now_ns() - began_ns) / as_float(count)
        }
    };
    let (first, second) = side_by_side(cpus, play(forth, from_second), play(back, from_first));
    f64::midpoint(first, second)
}

/// There and back through two queues.
fn bare_latency<S: Sends, R: Receives>(
    clock: Clock,
    cpus: [usize; 2],
    (mut ping, mut pinged): (S, R),
    (mut pong, mut ponged): (S, R),
) -> Histogram<u64> {
    let ask = move || {
        let mut histogram = histogram();
        let mut began_ns = clock.now_ns();
        for number in 0..PING_COUNT {
            assert!(ping.push(number));
            while ponged.pop().is_none() {
                spin_loop();
            }
            ponged.tell();
            let now_ns = clock.now_ns();
            histogram.saturating_record(now_ns - began_ns);
            began_ns = now_ns;
        }
        histogram
    };
    let answer = move || {
        for _ in 0..PING_COUNT {
            let number = loop {
                if let Some(number) = pinged.pop() {
                    break number;
                }
                spin_loop();
            };
            pinged.tell();
            assert!(pong.push(number));
        }
    };
    side_by_side(cpus, ask, answer).0
}

/// One cache line handed over and back, with nothing else.
fn cache_line(clock: Clock, cpus: [usize; 2]) -> Histogram<u64> {
    #[repr(align(128))]
    #[derive(Default)]
    struct Line(AtomicU64);
    let (there, back) = (Line::default(), Line::default());
    let wait = |line: &Line, number| {
        while line.0.load(Ordering::Acquire) != number {
            spin_loop();
        }
    };
    let ask = || {
        let mut histogram = histogram();
        let mut began_ns = clock.now_ns();
        for number in 1..=PING_COUNT {
            there.0.store(number, Ordering::Release);
            wait(&back, number);
            let now_ns = clock.now_ns();
            histogram.saturating_record(now_ns - began_ns);
            began_ns = now_ns;
        }
        histogram
    };
    let answer = || {
        for number in 1..=PING_COUNT {
            wait(&there, number);
            back.0.store(number, Ordering::Release);
        }
    };
    side_by_side(cpus, ask, answer).0
}

#[derive(Clone, Copy)]
enum Message<const LEN: usize> {
    Ball([u8; LEN]),
    Stop,
}

/// Sends back whatever comes, for a while.
struct Player<const LEN: usize> {
    partner: Cpu,
    clock: Clock,
    began_ns: u64,
    count: u64,
    result: mpsc::Sender<f64>,
    is_over: bool,
}

impl<const LEN: usize> Program for Player<LEN> {
    type Message = Message<LEN>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message<LEN>>, _from: Option<Cpu>, message: Message<LEN>) {
        match message {
            Message::Ball(_) => {
                self.count += 1;
                if !self.is_over {
                    turn.send(self.partner, black_box(message));
                }
            }
            Message::Stop => {
                self.end(turn);
                turn.leave();
            }
        }
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Message<LEN>>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message<LEN>>) -> Progress {
        if self.began_ns == 0 {
            self.began_ns = self.clock.now_ns();
            (0..BALL_COUNT).for_each(|_| turn.send(self.partner, Message::Ball([0; LEN])));
        }
        if turn.now_ns().saturating_sub(self.began_ns) > RUN_NS {
            self.end(turn);
        }
        Progress::Idle
    }
}

impl<const LEN: usize> Player<LEN> {
    /// Nothing is sent after the stop: whoever gets it may leave.
    fn end(&mut self, turn: &mut Turn<'_, Message<LEN>>) {
        if !self.is_over {
            self.is_over = true;
            let ns = turn.now_ns().saturating_sub(self.began_ns);
            self.result.send(as_float(ns) / as_float(self.count)).ok();
            turn.send(self.partner, Message::Stop);
        }
    }
}

/// Sleeps until all others have left: the mesh's last CPU, which moves the epoch.
struct Control<const LEN: usize>;

impl<const LEN: usize> Program for Control<LEN> {
    type Message = Message<LEN>;

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, Message<LEN>>, _from: Option<Cpu>, _message: Message<LEN>) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Message<LEN>>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message<LEN>>) -> Progress {
        turn.leave();
        Progress::Idle
    }

    fn rest<'t>(&mut self, _turn: &mut Turn<'t, Message<LEN>>) -> Rest {
        Rest::Sleep
    }
}

fn busy(os_cpu: usize) -> ReactorOptions {
    ReactorOptions { poll_mode: PollMode::Busy, ..ReactorOptions::pinned(os_cpu) }
}

/// ns for each message that comes in, and is sent back.
fn throughput<const LEN: usize>(cpus: [usize; 2]) -> f64 {
    let reactors = [busy(cpus[0]), busy(cpus[1]), ReactorOptions::sleeping()];
    let mut builder = RuntimeBuilder::new(&reactors, RING_CAPACITY).expect("a runtime");
    let clock = builder.clock();
    let (result, results) = mpsc::channel();
    for (this, partner) in [(Cpu(0), Cpu(1)), (Cpu(1), Cpu(0))] {
        let result = result.clone();
        let player: Player<LEN> = Player { partner, clock, began_ns: 0, count: 0, result, is_over: false };
        builder.spawn(this, "player", move || player).expect("a thread");
    }
    builder.spawn(Cpu(2), "control", || Control::<LEN>).expect("a thread");
    builder.start().join();
    let results: Vec<f64> = results.try_iter().collect();
    results.iter().sum::<f64>() / results.len() as f64
}

/// Asks and measures, or answers.
struct Pinger {
    partner: Cpu,
    asks: bool,
    clock: Clock,
    began_ns: u64,
    left: u64,
    histogram: Option<Histogram<u64>>,
    result: mpsc::Sender<Histogram<u64>>,
}

impl Program for Pinger {
    type Message = Message<8>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message<8>>, _from: Option<Cpu>, message: Message<8>) {
        if let Message::Stop = message {
            turn.leave();
            return;
        }
        if self.asks {
            let now_ns = self.clock.now_ns();
            if let Some(histogram) = &mut self.histogram {
                histogram.saturating_record(now_ns - self.began_ns);
            }
            self.began_ns = now_ns;
            self.left -= 1;
            if self.left == 0 {
                self.histogram.take().map(|histogram| self.result.send(histogram));
                turn.send(self.partner, Message::Stop);
                turn.leave();
                return;
            }
        }
        turn.send(self.partner, message);
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Message<8>>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message<8>>) -> Progress {
        if self.asks && self.began_ns == 0 {
            self.began_ns = self.clock.now_ns();
            turn.send(self.partner, Message::Ball([0; 8]));
        }
        Progress::Idle
    }
}

fn latency(cpus: [usize; 2]) -> Histogram<u64> {
    let reactors = [busy(cpus[0]), busy(cpus[1]), ReactorOptions::sleeping()];
    let mut builder = RuntimeBuilder::new(&reactors, RING_CAPACITY).expect("a runtime");
    let clock = builder.clock();
    let (result, histograms) = mpsc::channel();
    for (this, partner, asks) in [(Cpu(0), Cpu(1), true), (Cpu(1), Cpu(0), false)] {
        let result = result.clone();
        let histogram = Some(histogram());
        let pinger = Pinger { partner, asks, clock, began_ns: 0, left: PING_COUNT, histogram, result };
        builder.spawn(this, "pinger", move || pinger).expect("a thread");
    }
    builder.spawn(Cpu(2), "control", || Control::<8>).expect("a thread");
    builder.start().join();
    histograms.recv().expect("a result")
}

/// ns for each message of a CPU to itself.
fn one_cpu() -> f64 {
    let os_cpu = core_affinity::get_core_ids().unwrap_or_default().last().map_or(0, |core| core.id);
    best(|| {
        let reactors = [busy(os_cpu), ReactorOptions::sleeping()];
        let mut builder = RuntimeBuilder::new(&reactors, RING_CAPACITY).expect("a runtime");
        let clock = builder.clock();
        let (result, results) = mpsc::channel();
        let player: Player<16> = Player { partner: Cpu(0), clock, began_ns: 0, count: 0, result, is_over: false };
        builder.spawn(Cpu(0), "player", move || player).expect("a thread");
        builder.spawn(Cpu(1), "control", || Control::<16>).expect("a thread");
        builder.start().join();
        results.recv().expect("a result")
    })
}
