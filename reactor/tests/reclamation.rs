//! Tables, published values and limbos in the simulation, over many seeds: nothing that a reader holds, or that a message of a
//! reader names, is given back; and in the end everything is.

#![expect(clippy::unwrap_used, reason = "a test: panicking is how it fails")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reactor::{
    Cpu, Domain, Grace, Guard, Limbo, Program, Progress, Published, Reader, Reaped, Simulation, Table, Turn, Unlinked,
};

const CPU_COUNT: u16 = 4;
const SLOTS_PER_CPU: u64 = 3;

/// Shared by all programs of one simulation.
struct World {
    table: Table<Object>,
    snapshot: Published<Object>,
    /// Set when an object's grace is over: whoever still comes by it then fails.
    reclaimed: Box<[AtomicBool]>,
    next_number: AtomicU64,
    /// Messages sent, and received.
    named_count: AtomicU64,
    mention_count: AtomicU64,
    stop: AtomicBool,
}

struct Object {
    number: u64,
    poisoned: AtomicBool,
}

impl Object {
    fn is_odd(&self) -> bool {
        !self.number.is_multiple_of(2)
    }
}

impl World {
    fn new(domain: &Domain) -> Arc<Self> {
        let capacity = usize::from(CPU_COUNT) * usize::try_from(SLOTS_PER_CPU).unwrap();
        Arc::new(Self {
            table: Table::new(domain, capacity),
            snapshot: Published::new(domain, Box::new(Object { number: 0, poisoned: AtomicBool::new(false) })),
            reclaimed: (0..4096).map(|_| AtomicBool::new(false)).collect(),
            next_number: AtomicU64::new(1),
            named_count: AtomicU64::new(0),
            mention_count: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        })
    }

    fn make(&self) -> Box<Object> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        Box::new(Object { number, poisoned: AtomicBool::new(false) })
    }

    fn reclaim(&self, reaped: Reaped<Unlinked<Object>>) {
        let object = reaped.into_object();
        object.poisoned.store(true, Ordering::Relaxed);
        assert!(!self.reclaimed[usize::try_from(object.number).unwrap()].swap(true, Ordering::Relaxed));
    }

    fn is_reclaimed(&self, number: u64) -> bool {
        self.reclaimed[usize::try_from(number).unwrap()].load(Ordering::Relaxed)
    }

    /// Everything that can be seen.
    fn look_at_all<'t>(&self, guard: Guard<'t>) -> Vec<&'t Object> {
        let linked = (0..self.table.capacity()).filter_map(|slot| self.table.look(guard, slot));
        linked.chain([self.snapshot.load(guard)]).inspect(|object| self.check(object)).collect()
    }

    fn check(&self, object: &Object) {
        assert!(!object.poisoned.load(Ordering::Relaxed), "object {} was given back", object.number);
        assert!(!self.is_reclaimed(object.number));
    }
}

/// Links, unlinks, looks, mentions what it saw to others.
struct Owner {
    world: Arc<World>,
    /// Objects with odd numbers, which no message names.
    for_readers: Limbo<Unlinked<Object>>,
    /// Those with even ones: who gets a message with the number still finds them alive.
    for_messages: Limbo<Unlinked<Object>>,
}

impl Program for Owner {
    type Message = u64;

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, u64>, _from: Option<Cpu>, number: u64) {
        assert!(!self.world.is_reclaimed(number), "a message of a reader names object {number}, which was given back");
        self.world.mention_count.fetch_add(1, Ordering::Relaxed);
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, u64>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, u64>) -> Progress {
        while let Some(reaped) = self.for_readers.reap(turn).or_else(|| self.for_messages.reap(turn)) {
            self.world.reclaim(reaped);
        }
        let seen = self.world.look_at_all(turn.guard());
        let first = u64::from(turn.cpu().0) * SLOTS_PER_CPU;
        let slot = usize::try_from(first + turn.random() % SLOTS_PER_CPU).unwrap();
        if self.world.stop.load(Ordering::Relaxed) {
            for slot in (first..first + SLOTS_PER_CPU).filter_map(|slot| usize::try_from(slot).ok()) {
                self.unlink(turn, slot);
            }
            // Whoever leaves must have been sent everything that will be.
            if self.world.named_count.load(Ordering::Relaxed) == self.world.mention_count.load(Ordering::Relaxed) {
                turn.leave();
            }
        } else if turn.random().is_multiple_of(2) {
            if self.world.table.look(turn.guard(), slot).is_some() {
                self.unlink(turn, slot);
            } else if turn.cpu() == Cpu(0) && turn.random().is_multiple_of(3) {
                let is_odd = self.world.snapshot.load(turn.guard()).is_odd();
                let old = self.world.snapshot.replace(self.world.make());
                self.retire(turn, is_odd, old);
            } else {
                self.world.table.link(slot, self.world.make());
            }
            let to = Cpu(u16::try_from(turn.random() % u64::from(CPU_COUNT)).unwrap());
            let named = &seen[usize::try_from(turn.random() % seen.len() as u64).unwrap()];
            if !named.is_odd() {
                turn.send(to, named.number);
                self.world.named_count.fetch_add(1, Ordering::Relaxed);
            }
        }
        // What this turn saw is there until its end, whatever was unlinked meanwhile.
        seen.iter().for_each(|object| self.world.check(object));
        Progress::Idle
    }
}

impl Owner {
    fn unlink(&mut self, turn: &mut Turn<'_, u64>, slot: usize) {
        if let Some(is_odd) = self.world.table.look(turn.guard(), slot).map(Object::is_odd) {
            let object = self.world.table.unlink(slot).unwrap();
            self.retire(turn, is_odd, object);
        }
    }

    fn retire(&mut self, turn: &mut Turn<'_, u64>, is_odd: bool, object: Unlinked<Object>) {
        let limbo = if is_odd { &mut self.for_readers } else { &mut self.for_messages };
        limbo.retire(turn, object).unwrap();
    }
}

/// A turn of one CPU. One is slow, as one that wakes late from its sleep.
fn step(simulation: &mut Simulation<u64>) {
    let cpu = match simulation.random() % 32 {
        0 => 1,
        1..12 => 0,
        12..22 => 2,
        _ => 3,
    };
    simulation.advance(1_000);
    simulation.step_cpu(Cpu(cpu));
}

fn start(seed: u64) -> (Simulation<u64>, Arc<World>, Reader) {
    let mut simulation = Simulation::with_ring_capacity(seed, CPU_COUNT, 2);
    let world = World::new(simulation.domain());
    for cpu in (0..CPU_COUNT).map(Cpu) {
        let world = Arc::clone(&world);
        let for_readers = Limbo::new(Grace::Readers, 1024);
        simulation.install(cpu, Owner { world, for_readers, for_messages: Limbo::new(Grace::Messages, 1024) });
    }
    let reader = simulation.domain().register_reader().unwrap();
    (simulation, world, reader)
}

/// Many more if `QUIESCE_TEST_LONG` is set.
fn seed_count(ordinary: u64) -> u64 {
    if std::env::var_os("QUIESCE_TEST_LONG").is_some() { ordinary * 30 } else { ordinary }
}

#[test]
fn nothing_that_can_be_reached_is_given_back_and_everything_is_in_the_end() {
    let mut totals = (0, 0);
    for seed in 0..seed_count(1_500) {
        let (mut simulation, world, mut reader) = start(seed);
        for _ in 0..20 {
            for _ in 0..simulation.random() % 24 {
                step(&mut simulation);
            }
            // A reading that lasts over many turns of the CPUs.
            reader.read(|guard| {
                let seen = world.look_at_all(guard);
                for _ in 0..simulation.random() % 48 {
                    step(&mut simulation);
                }
                seen.iter().for_each(|object| world.check(object));
                world.look_at_all(guard);
            });
        }
        world.stop.store(true, Ordering::Relaxed);
        assert!(simulation.run_until_left(20_000), "seed {seed}: {:?}", simulation.domain());
        assert_eq!((simulation.domain().limbo_len(), simulation.domain().limbo_age_steps()), (0, 0));
        let made_count = world.next_number.load(Ordering::Relaxed);
        let kept: BTreeSet<u64> = (0..made_count).filter(|number| !world.is_reclaimed(*number)).collect();
        let published = reader.read(|guard| world.snapshot.load(guard).number);
        assert_eq!(kept, BTreeSet::from([published]), "seed {seed}: what is still linked, and nothing else, is kept");
        totals.0 += made_count - 1;
        totals.1 += world.mention_count.load(Ordering::Relaxed);
    }
    assert!(totals.0 > 20_000 && totals.1 > 20_000, "too little happened: {totals:?}");
}

#[test]
fn the_epoch_rests_while_nothing_waits() {
    let (mut simulation, world, _reader) = start(1);
    world.stop.store(true, Ordering::Relaxed);
    let before = simulation.domain().epoch();
    for _ in 0..1_000 {
        step(&mut simulation);
    }
    assert_eq!(simulation.domain().epoch(), before);
}

#[test]
fn a_reading_holds_everything_up_and_the_laggards_are_named() {
    let (mut simulation, world, mut reader) = start(5);
    for _ in 0..200 {
        step(&mut simulation);
    }
    reader.read(|_| {
        for _ in 0..200 {
            step(&mut simulation);
        }
        let reclaimed_count = || world.reclaimed.iter().filter(|flag| flag.load(Ordering::Relaxed)).count();
        let (before, epoch) = (reclaimed_count(), simulation.domain().epoch());
        for _ in 0..200 {
            step(&mut simulation);
        }
        assert_eq!((reclaimed_count(), simulation.domain().epoch()), (before, epoch));
        assert!(simulation.domain().limbo_len() > 0);
        assert_eq!(simulation.domain().laggards().count(), 0, "no CPU is to blame");
    });
    let epoch = simulation.domain().epoch();
    // All but one CPU turn: it is named, unless it happened to lie down.
    for _ in 0..100 {
        for cpu in [Cpu(0), Cpu(2), Cpu(3)] {
            simulation.step_cpu(cpu);
        }
    }
    let laggards: Vec<u16> = simulation.domain().laggards().collect();
    assert!(laggards == [1] && simulation.domain().epoch() <= epoch + 1 || laggards.is_empty(), "{laggards:?}");
}

#[test]
fn there_is_a_fixed_number_of_places_for_readers() {
    let simulation: Simulation<()> = Simulation::new(0, 1);
    let mut readers: Vec<_> = std::iter::from_fn(|| simulation.domain().register_reader()).collect();
    assert_eq!(readers.len(), 8);
    readers.pop();
    assert!(simulation.domain().register_reader().is_some());
}

#[test]
#[should_panic(expected = "a guard of one domain used on a table of another")]
fn a_guard_of_another_domain_is_our_bug() {
    let (ours, theirs): (Simulation<()>, Simulation<()>) = (Simulation::new(0, 1), Simulation::new(0, 1));
    let table: Table<u64> = Table::new(ours.domain(), 1);
    theirs.domain().register_reader().unwrap().read(|guard| table.look(guard, 0).copied());
}
