//! More reactors than CPUs on real threads, in modes that change while they run: messages, timers, reclamation and sleep go on, and in the
//! end everything balances.
//!
//! What is shared is plain memory, so that ThreadSanitizer sees every look at it.

#![expect(clippy::unwrap_used, reason = "a test: panicking is how it fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reactor::{
    Clock, Cpu, Grace, Limbo, PollMode, Postbox, Program, Progress, Published, ReactorCounters, ReactorOptions, Rest,
    RuntimeBuilder, Table, Turn, Unlinked,
};

const CPU_COUNT: u16 = 5;
/// More than a ring holds.
const OUTSTANDING_MAX: u64 = 12;
const MS: u64 = 1_000_000;
/// After this a wake-up or a message was lost.
const HANG_NS: u64 = 30_000 * MS;

enum Letter {
    /// Its number among those of the pair, and an object that the sender saw: where, and its mark.
    Word { number: u64, slot: usize, mark: u64 },
    /// The sender has sent all that it will.
    Goodbye,
    /// From the test.
    Stop,
}

/// Plain memory, wiped out when it is given back.
struct Object {
    mark: u64,
    copies: [u64; 7],
}

impl Object {
    fn boxed(mark: u64) -> Box<Self> {
        Box::new(Self { mark, copies: [mark; 7] })
    }

    fn check(&self) -> u64 {
        assert!(self.copies.iter().all(|copy| *copy == self.mark), "object {:x} was given back", self.mark);
        self.mark
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.mark = 0;
        self.copies = [u64::MAX; 7];
    }
}

/// Shared by all.
struct Shared {
    /// One slot for each CPU.
    table: Table<Object>,
    published: Published<Object>,
    /// By sender and receiver: each written by one CPU.
    sent: Box<[AtomicU64]>,
    received: Box<[AtomicU64]>,
    made_count: AtomicU64,
    reaped_count: AtomicU64,
    timer_count: AtomicU64,
    left_count: AtomicU64,
}

impl Shared {
    fn pair(from: Cpu, to: Cpu) -> usize {
        usize::from(from.0) * usize::from(CPU_COUNT) + usize::from(to.0)
    }

    fn make(&self) -> Box<Object> {
        Object::boxed(self.made_count.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

struct Worker {
    shared: Arc<Shared>,
    limbo: Limbo<Unlinked<Object>>,
    armed_count: u64,
    stopping: bool,
    has_said_goodbye: bool,
    goodbye_count: u16,
}

impl Worker {
    fn act(&mut self, turn: &mut Turn<'_, Letter>) {
        let this = usize::from(turn.cpu().0);
        let marks = (0..self.shared.table.capacity())
            .filter_map(|slot| Some((slot, self.shared.table.look(turn.guard(), slot)?)));
        let marks: Vec<_> = marks.map(|(slot, object)| (slot, object.check())).collect();
        self.shared.published.load(turn.guard()).check();
        if self.limbo.len() < self.limbo.capacity() {
            match self.shared.table.unlink(this) {
                Some(old) => self.limbo.retire(turn, old).unwrap(),
                None => self.shared.table.link(this, self.shared.make()),
            }
        }
        if turn.cpu() == Cpu(0) && self.limbo.len() < self.limbo.capacity() {
            let old = self.shared.published.replace(self.shared.make());
            self.limbo.retire(turn, old).unwrap();
        }
        for _ in 0..turn.random() % 8 {
            let to = Cpu(u16::try_from(turn.random() % u64::from(CPU_COUNT)).unwrap());
            let pair = Shared::pair(turn.cpu(), to);
            let [sent, received] = [&self.shared.sent, &self.shared.received].map(|counts| &counts[pair]);
            // A program keeps its backlogs bounded; one that is never empty holds reclamation up.
            if sent.load(Ordering::Relaxed) - received.load(Ordering::Relaxed) >= OUTSTANDING_MAX {
                continue;
            }
            let (slot, mark) = marks.first().copied().unwrap_or((0, 0));
            let number = sent.fetch_add(1, Ordering::Relaxed);
            turn.send(to, Letter::Word { number, slot, mark });
        }
        if turn.random().is_multiple_of(4) {
            let deadline_ns = turn.now_ns() + turn.random() % MS;
            turn.arm(deadline_ns, 7);
            self.armed_count += 1;
        }
    }

    fn stop(&mut self, turn: &mut Turn<'_, Letter>) {
        if !self.has_said_goodbye && self.limbo.len() < self.limbo.capacity() {
            if let Some(old) = self.shared.table.unlink(usize::from(turn.cpu().0)) {
                self.limbo.retire(turn, old).unwrap();
            }
            self.has_said_goodbye = true;
            let this = turn.cpu();
            (0..CPU_COUNT).map(Cpu).filter(|to| *to != this).for_each(|to| turn.send(to, Letter::Goodbye));
        }
        if self.has_said_goodbye && self.goodbye_count + 1 == CPU_COUNT && self.armed_count == 0 {
            turn.leave();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.left_count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Program for Worker {
    type Message = Letter;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Letter>, from: Option<Cpu>, letter: Letter) {
        match letter {
            Letter::Word { number, slot, mark } => {
                let received = &self.shared.received[Shared::pair(from.unwrap(), turn.cpu())];
                let expected = received.fetch_add(1, Ordering::Relaxed);
                assert_eq!(number, expected, "out of order from {from:?} to {:?}", turn.cpu());
                // What the sender saw, or something newer.
                if let Some(object) = self.shared.table.look(turn.guard(), slot) {
                    assert!(object.check() >= mark);
                }
            }
            Letter::Goodbye => self.goodbye_count += 1,
            Letter::Stop => self.stopping = true,
        }
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Letter>, token: u64) {
        assert_eq!(token, 7);
        self.armed_count -= 1;
        self.shared.timer_count.fetch_add(1, Ordering::Relaxed);
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Letter>) -> Progress {
        while let Some(reaped) = self.limbo.reap(turn) {
            reaped.into_object().check();
            self.shared.reaped_count.fetch_add(1, Ordering::Relaxed);
        }
        if self.stopping {
            self.stop(turn);
        } else if turn.random().is_multiple_of(16) {
            self.act(turn);
        }
        Progress::Idle
    }

    fn rest<'t>(&mut self, turn: &mut Turn<'t, Letter>) -> Rest {
        // Also those that have something left to do sleep, as long as something will wake them: a message, a timer, or their own limit.
        match turn.random() % 3 {
            _ if self.stopping => Rest::Sleep,
            0 => Rest::Poll,
            1 => Rest::SleepUntil(turn.now_ns() + turn.random() % MS),
            _ => Rest::Sleep,
        }
    }

    fn message_name(letter: &Letter) -> reactor::Name {
        match letter {
            Letter::Word { .. } => &"word",
            Letter::Goodbye => &"goodbye",
            Letter::Stop => &"stop",
        }
    }
}

#[test]
fn everything_balances_after_a_storm() {
    let storm_ns = if std::env::var_os("QUIESCE_TEST_LONG").is_some() { 60_000 * MS } else { 1_500 * MS };
    let mut builder = RuntimeBuilder::new(&[ReactorOptions::yielding(); CPU_COUNT as usize], 8).unwrap();
    let domain = builder.domain().clone();
    let zeroes = || (0..CPU_COUNT * CPU_COUNT).map(|_| AtomicU64::new(0)).collect();
    let shared = Arc::new(Shared {
        table: Table::new(&domain, usize::from(CPU_COUNT)),
        published: Published::new(&domain, Object::boxed(1)),
        sent: zeroes(),
        received: zeroes(),
        made_count: AtomicU64::new(1),
        reaped_count: AtomicU64::new(0),
        timer_count: AtomicU64::new(0),
        left_count: AtomicU64::new(0),
    });
    let cpus = || (0..CPU_COUNT).map(Cpu);
    let switches: Vec<_> = cpus().map(|cpu| builder.poll_switch(cpu)).collect();
    let postboxes: Vec<_> = cpus().map(|cpu| builder.postbox(cpu)).collect();
    let counters: Vec<_> = cpus().map(|cpu| builder.counters(cpu)).collect();
    let clock = builder.clock();
    for cpu in cpus() {
        let shared = Arc::clone(&shared);
        let make = move || Worker {
            shared,
            limbo: Limbo::new(Grace::Messages, 8),
            armed_count: 0,
            stopping: false,
            has_said_goodbye: false,
            goodbye_count: 0,
        };
        builder.spawn(cpu, "worker", make).unwrap();
    }
    let runtime = builder.start();

    let modes = [
        PollMode::Yielding,
        PollMode::SLEEPING,
        PollMode::ADAPTIVE,
        PollMode::Adaptive { spin_ns: 1_000, pause_ns: 10_000 },
        PollMode::Busy,
    ];
    let mut reader = domain.register_reader().unwrap();
    let mut turn_number = 0;
    while clock.now_ns() < storm_ns {
        for (at, switch) in switches.iter().enumerate() {
            turn_number += 1;
            // Busy is rare: it takes a whole time slice from the others.
            let mode = modes[(turn_number * 7 + at) % if turn_number % 10 == 0 { 5 } else { 4 }];
            switch.set(mode);
            assert_eq!(switch.mode(), mode);
            postboxes[at].wake().wake();
        }
        reader.read(|guard| {
            shared.published.load(guard).check();
            (0..shared.table.capacity())
                .filter_map(|slot| shared.table.look(guard, slot))
                .for_each(|it| _ = it.check());
        });
        pause(&clock, MS);
    }
    switches.iter().for_each(|switch| switch.set(PollMode::SLEEPING));
    postboxes.iter().for_each(|postbox| post(postbox, &clock));
    let end_ns = clock.now_ns() + HANG_NS;
    while shared.left_count.load(Ordering::Relaxed) < u64::from(CPU_COUNT) {
        assert!(clock.now_ns() < end_ns, "it does not end: {}", describe(&counters, &domain));
        pause(&clock, MS);
    }
    runtime.join();

    let values = |counts: &[AtomicU64]| counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
    assert_eq!(values(&shared.sent), values(&shared.received), "sent and received, by pair");
    assert_eq!(domain.limbo_len(), 0);
    let (made, reaped) = (shared.made_count.load(Ordering::Relaxed), shared.reaped_count.load(Ordering::Relaxed));
    assert_eq!(made, reaped + 1, "all but the one that is still published were given back");
    let total = |count: fn(&ReactorCounters) -> u64| counters.iter().map(|counters| count(counters)).sum::<u64>();
    let received: u64 = values(&shared.received).iter().sum();
    // Stops and goodbyes besides.
    let others = u64::from(CPU_COUNT * CPU_COUNT);
    assert_eq!(total(|counters| counters.message_count.value()), received + others);
    assert_eq!(total(|counters| counters.timer_count.value()), shared.timer_count.load(Ordering::Relaxed));
    assert_eq!(total(|counters| counters.limbo_len.value()), 0);
    let slept = (total(|counters| counters.sleep_count.value()), total(|counters| counters.sleep_ns.value()));
    assert!(received > 200 && reaped > 50 && slept.0 > 50 && slept.1 > MS, "too little: {received} {reaped} {slept:?}");
}

fn post(postbox: &Postbox<Letter>, clock: &Clock) {
    let mut letter = Letter::Stop;
    while let Err(reactor::Full(back)) = postbox.post(letter) {
        letter = back;
        pause(clock, MS);
    }
}

fn describe(counters: &[Arc<ReactorCounters>], domain: &reactor::Domain) -> String {
    let cpu = |counters: &Arc<ReactorCounters>| {
        let (turns, sleeps) = (counters.turn_count.value(), counters.sleep_count.value());
        format!("{} turns, {sleeps} sleeps, last in {}", turns, counters.activity())
    };
    format!("{:?}; {domain:?}", counters.iter().map(cpu).collect::<Vec<_>>())
}

/// Gives the CPUs to the reactors.
fn pause(clock: &Clock, ns: u64) {
    let end_ns = clock.now_ns() + ns;
    while clock.now_ns() < end_ns {
        std::thread::park_timeout(Duration::from_nanos(ns));
    }
}
