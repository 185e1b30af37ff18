//! Homes and gates of several CPUs with messages between them, in random orders, against what a lock has to mean.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests, on small numbers")]

use std::collections::VecDeque;

use super::*;
use crate::namespace::DeviceIndex;

const CPUS: u16 = 4;
const DEVICE: DeviceIndex = DeviceIndex(1);

/// A seeded sequence (xorshift): failures repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn span(&mut self) -> Span {
        let start = self.below(8);
        if self.below(12) == 0 { Span::ALL } else { Span { start, end: start + 1 + self.below(3) } }
    }
}

#[derive(Clone, Copy, Debug)]
enum Mail {
    Lock { lock: LockName, span: Span },
    Fence { lock: LockName, span: Span },
    Fenced { lock: LockName },
    Granted { lock: LockName },
    Unlock { lock: LockName },
    Lift { lock: LockName },
}

#[derive(Default)]
struct CpuState {
    gate: Gate<u32>,
    home: Home,
    /// Commands that are let in: their number, claim and blocks.
    running: Vec<(u32, Claim, Span)>,
    /// Those that wait at the gate.
    held: Vec<(u32, Span)>,
    /// Locks that were asked for here, and their blocks.
    asked: Vec<(LockName, Span)>,
    has: Vec<(LockName, Span)>,
}

struct World {
    cpus: Vec<CpuState>,
    /// From each CPU to each, in order.
    mail: Vec<VecDeque<Mail>>,
    random: Random,
    next: u32,
    begun: u64,
    locked: u64,
}

fn lock_name(cpu: u16, number: u32) -> LockName {
    LockName { cpu: Cpu(cpu), qpair: Handle::from_bits(u64::from(number) << 24), slot: 0, number }
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            cpus: (0..CPUS).map(|_| CpuState::default()).collect(),
            mail: (0..CPUS * CPUS).map(|_| VecDeque::new()).collect(),
            random: Random(seed),
            next: 0,
            begun: 0,
            locked: 0,
        }
    }

    fn post(&mut self, from: u16, to: u16, mail: Mail) {
        self.mail[usize::from(from * CPUS + to)].push_back(mail);
    }

    fn orders(&mut self, home: u16, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Fence { lock, span, .. } => {
                    (0..CPUS).for_each(|cpu| self.post(home, cpu, Mail::Fence { lock, span }));
                }
                Order::Grant { lock, .. } => self.post(home, lock.cpu.0, Mail::Granted { lock }),
                Order::Lift { lock } => (0..CPUS).for_each(|cpu| self.post(home, cpu, Mail::Lift { lock })),
            }
        }
    }

    fn deliver(&mut self, from: u16, to: u16) -> bool {
        let Some(mail) = self.mail[usize::from(from * CPUS + to)].pop_front() else { return false };
        let cpu = &mut self.cpus[usize::from(to)];
        let mut orders = Vec::new();
        match mail {
            Mail::Lock { lock, span } => cpu.home.ask(lock, DEVICE, span, CPUS, &mut orders),
            Mail::Fence { lock, span } => cpu.gate.fence(lock, DEVICE, span),
            Mail::Fenced { lock } => assert!(cpu.home.fenced(lock, &mut orders)),
            Mail::Granted { lock } => {
                let place = cpu.asked.iter().position(|(asked, _)| *asked == lock).unwrap();
                let lock = cpu.asked.swap_remove(place);
                cpu.has.push(lock);
                self.locked += 1;
                self.check();
            }
            Mail::Unlock { lock } => assert!(cpu.home.unlock(lock, CPUS, &mut orders)),
            Mail::Lift { lock } => {
                let (running, held) = (&mut cpu.running, &mut cpu.held);
                cpu.gate.lift(lock, |name, claim| {
                    let place = held.iter().position(|(number, _)| *number == name).unwrap();
                    let (name, span) = held.remove(place);
                    running.push((name, claim, span));
                });
                self.check();
            }
        }
        self.orders(to, orders);
        true
    }

    /// Nobody is on blocks that another has locked.
    fn check(&self) {
        let locks: Vec<_> = self.cpus.iter().flat_map(|cpu| cpu.has.iter().copied()).collect();
        for (index, (lock, span)) in locks.iter().enumerate() {
            for (other, held) in &locks[index + 1..] {
                assert!(!held.overlaps(*span), "{lock:?} and {other:?}");
            }
            for cpu in &self.cpus {
                assert!(cpu.running.iter().all(|(_, _, on)| !on.overlaps(*span)), "{lock:?} {span:?}");
            }
        }
    }

    fn step(&mut self, may_begin: bool) {
        let at = self.random.below(CPUS.into()) as u16;
        match self.random.below(8) {
            0 | 1 if may_begin => self.begin(at),
            2 if may_begin => {
                let (span, number) = (self.random.span(), self.next);
                self.next += 1;
                let lock = lock_name(at, number);
                self.cpus[usize::from(at)].asked.push((lock, span));
                self.post(at, DEVICE.0 % CPUS, Mail::Lock { lock, span });
            }
            3 => {
                let cpu = &mut self.cpus[usize::from(at)];
                if !cpu.running.is_empty() {
                    let place = self.random.below(cpu.running.len() as u64) as usize;
                    let (_, claim, _) = cpu.running.swap_remove(place);
                    cpu.gate.give(claim);
                }
            }
            4 => {
                let cpu = &mut self.cpus[usize::from(at)];
                if let Some((lock, _)) = cpu.has.pop() {
                    self.post(at, DEVICE.0 % CPUS, Mail::Unlock { lock });
                }
            }
            5 => {
                let mut answers = Vec::new();
                let gate = &mut self.cpus[usize::from(at)].gate;
                let had_answer = gate.has_answer();
                gate.answer(|lock, _| answers.push(lock));
                assert_eq!(had_answer, !answers.is_empty());
                for lock in answers {
                    self.post(at, DEVICE.0 % CPUS, Mail::Fenced { lock });
                }
            }
            _ => {
                let from = self.random.below(CPUS.into()) as u16;
                self.deliver(from, at);
            }
        }
    }

    fn begin(&mut self, at: u16) {
        let (span, number) = (self.random.span(), self.next);
        self.next += 1;
        let cpu = &mut self.cpus[usize::from(at)];
        if cpu.gate.is_fenced(DEVICE, span) {
            cpu.gate.hold(number, DEVICE, span);
            cpu.held.push((number, span));
        } else {
            let claim = cpu.gate.claim(DEVICE, span);
            cpu.running.push((number, claim, span));
            self.begun += 1;
            self.check();
        }
        // Some are given up while they wait.
        if self.random.below(20) == 0
            && let Some((given_up, _)) = self.cpus[usize::from(at)].held.pop()
        {
            self.cpus[usize::from(at)].gate.forget(|name| name == given_up);
        }
    }

    fn is_empty(&self) -> bool {
        self.mail.iter().all(VecDeque::is_empty)
            && self.cpus.iter().all(|cpu| {
                cpu.home.len() == 0
                    && cpu.gate.fence_count() == 0
                    && cpu.gate.held_count() == 0
                    && cpu.running.is_empty()
                    && cpu.asked.is_empty()
                    && cpu.has.is_empty()
            })
    }
}

#[test]
fn locks_exclude_everybody_and_everything_ends_whatever_the_order() {
    let (mut begun, mut locked) = (0, 0);
    for seed in 1..=200 {
        let mut world = World::new(seed * 0x9E37_79B9);
        for _ in 0..2000 {
            world.step(true);
        }
        let mut steps_left = 200_000;
        while !world.is_empty() {
            world.step(false);
            steps_left -= 1;
            assert!(steps_left > 0, "seed {seed}: something waits for ever");
        }
        begun += world.begun;
        locked += world.locked;
    }
    assert!(begun > 10_000 && locked > 2_000, "{begun} commands, {locked} locks");
}

/// What each message means to a lock at its home, in each phase.
#[test]
fn a_lock_at_its_home() {
    let span = |start, end| Span { start, end };
    let [one, two, three] = [1, 2, 3].map(|number| lock_name(0, number));
    let mut home = Home::default();
    let mut told = |act: &mut dyn FnMut(&mut Home, &mut Vec<Order>)| {
        let mut orders = Vec::new();
        act(&mut home, &mut orders);
        orders
    };
    let fence = |lock, span| Order::Fence { lock, device: DEVICE, span };
    assert_eq!(told(&mut |home, orders| home.ask(one, DEVICE, span(0, 4), 2, orders)), [fence(one, span(0, 4))]);
    assert_eq!(told(&mut |home, orders| home.ask(two, DEVICE, span(3, 5), 2, orders)), []);
    // It would not be in the way of the first, but of the second, which came before.
    assert_eq!(told(&mut |home, orders| home.ask(three, DEVICE, span(4, 6), 2, orders)), []);
    let elsewhere = lock_name(1, 4);
    let device = DeviceIndex(5);
    assert_eq!(
        told(&mut |home, orders| home.ask(elsewhere, device, span(0, 9), 2, orders)),
        [Order::Fence { lock: elsewhere, device, span: span(0, 9) }]
    );
    assert_eq!(told(&mut |home, orders| assert!(!home.unlock(one, 2, orders), "not granted yet")), []);
    assert_eq!(told(&mut |home, orders| assert!(!home.fenced(two, orders), "not asked for yet")), []);
    assert_eq!(told(&mut |home, orders| assert!(home.fenced(one, orders))), []);
    assert_eq!(
        told(&mut |home, orders| assert!(home.fenced(one, orders))),
        [Order::Grant { lock: one, device: DEVICE }]
    );
    assert_eq!(told(&mut |home, orders| assert!(!home.fenced(one, orders), "one CPU too many")), []);
    assert_eq!(
        told(&mut |home, orders| assert!(home.unlock(one, 2, orders))),
        [Order::Lift { lock: one }, fence(two, span(3, 5))]
    );
    assert_eq!(told(&mut |home, orders| assert!(!home.unlock(one, 2, orders), "twice")), []);
}

#[test]
fn a_held_command_is_ahead_of_later_fences_and_behind_earlier_ones() {
    let mut gate: Gate<u32> = Gate::default();
    let [first, second] = [1, 2].map(|number| lock_name(0, number));
    let wide = Span { start: 0, end: 8 };
    gate.fence(first, DEVICE, Span { start: 0, end: 1 });
    let mut answered = Vec::new();
    gate.answer(|lock, _| answered.push(lock));
    assert_eq!(answered, [first]);
    gate.hold(7, DEVICE, wide);
    gate.fence(second, DEVICE, Span { start: 4, end: 5 });
    assert!(!gate.has_answer(), "the held command comes first");
    let mut let_in = Vec::new();
    gate.lift(first, |name, claim| let_in.push((name, claim)));
    assert_eq!(let_in.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [7], "the later fence does not hold it");
    assert!(!gate.has_answer());
    for (_, claim) in let_in {
        assert!(gate.is_on(&claim, DEVICE, wide));
        gate.give(claim);
    }
    assert!(gate.has_answer());
}
