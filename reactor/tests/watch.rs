//! Who holds a CPU too long is named; what a real run counts adds up.

#![expect(clippy::unwrap_used, reason = "a test: panicking is how it fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reactor::{
    Clock, Cpu, Grace, Limbo, Name, Program, Progress, ReactorCounters, ReactorOptions, Rest, Runtime, RuntimeBuilder,
    Slow, StallFinder, Turn, Watch,
};

const MS: u64 = 1_000_000;
const HANG_NS: u64 = 20_000 * MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Holds the CPU for 40 ms.
    WorkLong,
    /// Has its next timer do so.
    TimerLong,
    /// Has a part of its next poll do so.
    PollLong,
    /// Until the test lets go.
    Stick,
    /// Something waits in a limbo from now on.
    Retire,
    Leave,
}

struct Holder {
    clock: Clock,
    holds_poll: bool,
    stuck: Arc<AtomicBool>,
    limbo: Limbo<u8>,
}

impl Holder {
    fn hold(&self) {
        let end_ns = self.clock.now_ns() + 40 * MS;
        while self.clock.now_ns() < end_ns {
            std::thread::yield_now();
        }
    }
}

impl Program for Holder {
    type Message = Order;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Order>, _from: Option<Cpu>, order: Order) {
        match order {
            Order::WorkLong => self.hold(),
            Order::TimerLong => _ = turn.arm(turn.now_ns(), 0),
            Order::PollLong => self.holds_poll = true,
            Order::Stick => {
                while self.stuck.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
            }
            Order::Retire => self.limbo.retire(turn, 1).unwrap(),
            Order::Leave => turn.leave(),
        }
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Order>, _token: u64) {
        self.hold();
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Order>) -> Progress {
        if std::mem::take(&mut self.holds_poll) {
            turn.section(&"a long part");
            self.hold();
            turn.section(&"the rest of it");
        }
        Progress::busy_if(self.limbo.reap(turn).is_some())
    }

    fn rest<'t>(&mut self, _turn: &mut Turn<'t, Order>) -> Rest {
        Rest::Sleep
    }

    fn message_name(order: &Order) -> Name {
        match order {
            Order::WorkLong => &"long work",
            Order::Stick => &"stick",
            Order::TimerLong | Order::PollLong | Order::Retire | Order::Leave => &"short",
        }
    }
}

struct Mesh {
    runtime: Runtime,
    postboxes: Vec<reactor::Postbox<Order>>,
    counters: Vec<Arc<ReactorCounters>>,
    watch: Watch,
    domain: reactor::Domain,
    clock: Clock,
    stuck: Arc<AtomicBool>,
}

impl Mesh {
    fn start(options: &[ReactorOptions]) -> Self {
        let mut builder = RuntimeBuilder::new(options, 64).unwrap();
        let (clock, stuck) = (builder.clock(), Arc::new(AtomicBool::new(true)));
        let cpus: Vec<_> = (0..).map(Cpu).take(options.len()).collect();
        for cpu in &cpus {
            let stuck = Arc::clone(&stuck);
            let limbo = Limbo::new(Grace::Readers, 4);
            builder.spawn(*cpu, "holder", move || Holder { clock, holds_poll: false, stuck, limbo }).unwrap();
        }
        let postboxes = cpus.iter().map(|cpu| builder.postbox(*cpu)).collect();
        let counters = cpus.iter().map(|cpu| builder.counters(*cpu)).collect();
        let (watch, domain) = (builder.watch(), builder.domain().clone());
        Self { runtime: builder.start(), postboxes, counters, watch, domain, clock, stuck }
    }

    fn order(&self, cpu: usize, order: Order) {
        self.postboxes[cpu].post(order).unwrap();
    }

    /// The next report that `is_it`, of what may be many: the machine, too, holds threads.
    fn report(&self, is_it: impl Fn(&Slow) -> bool) -> Slow {
        let end_ns = self.clock.now_ns() + HANG_NS;
        loop {
            if let Some(slow) = self.watch.take().filter(&is_it) {
                return slow;
            }
            assert!(self.clock.now_ns() < end_ns, "no report came");
            pause(1);
        }
    }

    fn wait_until(&self, what: &str, done: impl Fn() -> bool) {
        let end_ns = self.clock.now_ns() + HANG_NS;
        while !done() {
            assert!(self.clock.now_ns() < end_ns, "never: {what}");
            pause(1);
        }
    }

    fn end(self) -> Vec<Arc<ReactorCounters>> {
        (0..self.postboxes.len()).for_each(|cpu| self.order(cpu, Order::Leave));
        self.runtime.join();
        self.counters
    }
}

#[test]
fn a_message_a_timer_and_a_part_of_a_poll_that_take_long_are_named() {
    let mesh = Mesh::start(&[ReactorOptions::yielding(), ReactorOptions::sleeping()]);
    assert_eq!(mesh.watch.limit_ns(), 50 * MS);
    mesh.watch.set_limit_ns(20 * MS);
    for (cpu, order, what) in [
        (0, Order::WorkLong, "long work"),
        (1, Order::TimerLong, "timer"),
        (0, Order::PollLong, "a long part"),
        (1, Order::WorkLong, "long work"),
    ] {
        let before_ns = mesh.clock.now_ns();
        mesh.order(usize::from(cpu), order);
        let slow = mesh.report(|slow| slow.cpu == Cpu(cpu) && slow.what == what);
        // A message counts from when its turn looked at the clock, which may be before it was sent.
        let end_ns = slow.began_ns + slow.len_ns;
        assert!(slow.len_ns >= 40 * MS && end_ns >= before_ns + 40 * MS, "{slow:?} asked for at {before_ns}");
        assert!(end_ns <= mesh.clock.now_ns());
    }
    // Below the limit nothing is said.
    mesh.watch.set_limit_ns(HANG_NS);
    while mesh.watch.take().is_some() {}
    let before = mesh.counters[0].message_count.value();
    mesh.order(0, Order::WorkLong);
    mesh.wait_until("the message is received", || mesh.counters[0].message_count.value() > before);
    let counters = mesh.end();
    assert!(counters.iter().all(|counters| counters.slow_count.value() > 0));
}

#[test]
fn reports_that_nobody_takes_are_bounded_and_counted() {
    let mesh = Mesh::start(&[ReactorOptions::yielding()]);
    mesh.watch.set_limit_ns(0);
    mesh.wait_until("many reports", || mesh.counters[0].slow_count.value() > 200);
    mesh.watch.set_limit_ns(HANG_NS);
    // Whoever had read the old limit has used it.
    let turns = mesh.counters[0].turn_count.value();
    mesh.wait_until("two turns", || mesh.counters[0].turn_count.value() > turns + 2);
    assert_eq!(std::iter::from_fn(|| mesh.watch.take()).count(), 64);
    mesh.end();
}

#[test]
fn a_cpu_that_does_not_come_back_is_found_and_sleepers_are_not() {
    let mesh = Mesh::start(&[ReactorOptions::yielding(), ReactorOptions::sleeping(), ReactorOptions::sleeping()]);
    let mut finder = StallFinder::new(&mesh.domain, mesh.counters.clone());
    let limit_ns = 500 * MS;
    mesh.wait_until("two CPUs sleep", || mesh.counters[1..].iter().all(|counters| counters.activity() == "rest"));
    assert_eq!(finder.look(mesh.clock.now_ns(), limit_ns).count(), 0);
    mesh.order(0, Order::Stick);
    mesh.wait_until("it sticks", || mesh.counters[0].activity() == "stick");
    let mut find = || {
        let mut stalls = Vec::new();
        while stalls.is_empty() {
            pause(10);
            stalls = finder.look(mesh.clock.now_ns(), limit_ns).collect();
        }
        stalls
    };
    let stalls = find();
    assert_eq!(stalls.len(), 1, "{stalls:?}");
    assert!(stalls[0].cpu == Cpu(0) && stalls[0].what == "stick" && stalls[0].len_ns >= limit_ns, "{stalls:?}");
    assert!(!stalls[0].holds_up_reclamation, "nothing waits");
    mesh.order(1, Order::Retire);
    mesh.wait_until("the epoch waits for it", || mesh.domain.laggards().any(|cpu| cpu == 0));
    let stalls = find();
    assert!(stalls.iter().any(|stall| stall.cpu == Cpu(0) && stall.holds_up_reclamation), "{stalls:?}");
    mesh.stuck.store(false, Ordering::Relaxed);
    mesh.wait_until("reclamation goes on", || mesh.domain.limbo_len() == 0);
    mesh.end();
}

#[test]
fn the_lengths_of_turns_and_the_times_add_up() {
    let mesh = Mesh::start(&[ReactorOptions::yielding(), ReactorOptions::sleeping()]);
    mesh.order(0, Order::WorkLong);
    for _ in 0..5 {
        mesh.order(1, Order::WorkLong);
        pause(60);
    }
    mesh.wait_until("it sleeps", || mesh.counters[1].activity() == "rest");
    let clock = mesh.clock;
    let counters = mesh.end();
    let elapsed_ns = clock.now_ns();
    for counters in &counters {
        let lengths: u64 = counters.turn_lengths.buckets().map(|(_, count)| count).sum();
        let turns = counters.turn_count.value();
        let sleeps = counters.sleep_count.value();
        // Those before a sleep have no end that would count, and neither has the last; also a sleep that did not take place begins anew.
        assert!(lengths < turns && lengths > 0, "{lengths} {turns} {sleeps}");
        let longest_ns = counters.longest_turn_ns.value();
        let slowest_ns = counters.turn_lengths.quantile_ns(1.0);
        assert!(slowest_ns >= longest_ns && slowest_ns <= longest_ns + longest_ns / 4 + 1, "{slowest_ns} {longest_ns}");
        assert!(counters.turn_lengths.quantile_ns(0.5) <= slowest_ns);
        let [busy_ns, idle_ns, sleep_ns] =
            [&counters.busy_ns, &counters.idle_ns, &counters.sleep_ns].map(|counter| counter.value());
        assert!(busy_ns + idle_ns + sleep_ns <= elapsed_ns, "{busy_ns} {idle_ns} {sleep_ns} of {elapsed_ns}");
        assert!(busy_ns >= 40 * MS && counters.busy_turn_count.value() >= 1, "{busy_ns}");
        assert!(longest_ns >= 40 * MS, "{longest_ns}");
    }
    assert_eq!(counters[0].sleep_count.value(), 0, "one that yields does not sleep");
    assert!(counters[1].sleep_count.value() >= 3 && counters[1].sleep_ns.value() > 10 * MS);
}

fn pause(ms: u64) {
    let clock = Clock::start();
    while clock.now_ns() < ms * MS {
        std::thread::park_timeout(Duration::from_millis(ms));
    }
}
