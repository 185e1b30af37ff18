//! What looking at a shared object costs, and what replacing one does, beside the usual other ways.
//!
//! `cargo bench -p reactor --bench reclamation`

mod measure;

use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock, mpsc};

use arc_swap::ArcSwap;
use crossbeam_epoch as epoch;
use measure::{as_float, per_operation, print};
use reactor::{
    Clock, Cpu, Domain, Grace, Limbo, PollMode, Program, Progress, Published, ReactorOptions, RuntimeBuilder, Table,
    Turn, Unlinked,
};

const LOAD_COUNT: u64 = 2_000_000;
const ROUND_COUNT: usize = 9;
/// Objects replaced in one turn.
const BATCH: u64 = 32;
const TURN_COUNT: u64 = 50_000;

fn main() {
    let clock = Clock::start();
    let builder: RuntimeBuilder<()> = RuntimeBuilder::new(&[ReactorOptions::yielding()], 1).expect("a runtime");
    looks(clock, builder.domain());
    println!();
    replacements(clock);
}

fn looks(clock: Clock, domain: &Domain) {
    let ours = published_load(clock, domain);
    print("Published::load", ours, None);
    let beside = Some(("Published::load", ours));
    print("Table::look", table_look(clock, domain), beside);
    print("ArcSwap::load", arc_swap_load(clock), beside);
    print("crossbeam-epoch: pin and load", epoch_load(clock), beside);
    print("RwLock::read", rw_lock_read(clock), beside);
    print("Mutex<Arc>: lock and clone", mutex_clone(clock), beside);
    print("Reader::read: online, one load, offline", reader_read(clock, domain), beside);
}

fn published_load(clock: Clock, domain: &Domain) -> f64 {
    let published = Published::new(domain, Box::new(7_u64));
    let mut reader = domain.register_reader().expect("a place");
    per_operation(clock, LOAD_COUNT, || {
        reader.read(|guard| (0..LOAD_COUNT).for_each(|_| _ = black_box(*black_box(&published).load(guard))));
    })
}

fn table_look(clock: Clock, domain: &Domain) -> f64 {
    let table = Table::new(domain, 64);
    table.link(5, Box::new(7_u64));
    let mut reader = domain.register_reader().expect("a place");
    per_operation(clock, LOAD_COUNT, || {
        reader.read(|guard| {
            (0..LOAD_COUNT).for_each(|_| _ = black_box(black_box(&table).look(guard, black_box(5)).copied()))
        });
    })
}

fn reader_read(clock: Clock, domain: &Domain) -> f64 {
    let published = Published::new(domain, Box::new(7_u64));
    let mut reader = domain.register_reader().expect("a place");
    per_operation(clock, LOAD_COUNT, || {
        (0..LOAD_COUNT).for_each(|_| _ = black_box(reader.read(|guard| *published.load(guard))));
    })
}

fn arc_swap_load(clock: Clock) -> f64 {
    let value = ArcSwap::from_pointee(7_u64);
    per_operation(clock, LOAD_COUNT, || (0..LOAD_COUNT).for_each(|_| _ = black_box(**black_box(&value).load())))
}

fn epoch_load(clock: Clock) -> f64 {
    let value = epoch::Atomic::new(7_u64);
    per_operation(clock, LOAD_COUNT, || {
        for _ in 0..LOAD_COUNT {
            let guard = epoch::pin();
            // SAFETY: the value is not null and is not replaced here.
            black_box(unsafe { *black_box(&value).load(Ordering::Acquire, &guard).deref() });
        }
    })
}

fn rw_lock_read(clock: Clock) -> f64 {
    let value = RwLock::new(7_u64);
    per_operation(clock, LOAD_COUNT, || {
        (0..LOAD_COUNT).for_each(|_| _ = black_box(black_box(&value).read().map(|value| *value).unwrap_or(0)));
    })
}

fn mutex_clone(clock: Clock) -> f64 {
    let value = Mutex::new(Arc::new(7_u64));
    per_operation(clock, LOAD_COUNT, || {
        (0..LOAD_COUNT).for_each(|_| _ = black_box(black_box(&value).lock().map(|value| Arc::clone(&value)).is_ok()));
    })
}

fn replacements(clock: Clock) {
    let ours = replace_and_reap(Work::Replace);
    print("Published: Box, replace, retire, reap, drop", ours, None);
    let beside = Some(("Published", ours));
    print("  of which retire and reap", replace_and_reap(Work::Retire), beside);
    print("ArcSwap::store", arc_swap_store(clock), beside);
    print("crossbeam-epoch: pin, Box, swap, defer_destroy", epoch_replace(clock), beside);
}

fn arc_swap_store(clock: Clock) -> f64 {
    let value = ArcSwap::from_pointee(7_u64);
    per_operation(clock, LOAD_COUNT, || (0..LOAD_COUNT).for_each(|number| black_box(&value).store(Arc::new(number))))
}

fn epoch_replace(clock: Clock) -> f64 {
    let value = epoch::Atomic::new(7_u64);
    per_operation(clock, LOAD_COUNT, || {
        for number in 0..LOAD_COUNT {
            let guard = epoch::pin();
            let old = black_box(&value).swap(epoch::Owned::new(number), Ordering::AcqRel, &guard);
            // SAFETY: swapped out, so nobody finds it any more, and it is destroyed once.
            unsafe { guard.defer_destroy(old) };
        }
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Everything.
    Replace,
    /// The limbo alone, with plain numbers.
    Retire,
}

/// Replaces or retires a batch each turn, on a mesh of one CPU: every turn is a step of the epoch.
struct Replacing {
    work: Work,
    published: Published<u64>,
    snapshots: Limbo<Unlinked<u64>>,
    numbers: Limbo<u64>,
    clock: Clock,
    turn_count: u64,
    began_ns: u64,
    best_ns: f64,
    round_count: usize,
    result: mpsc::Sender<f64>,
}

impl Program for Replacing {
    type Message = ();

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, ()>, _from: Option<Cpu>, (): ()) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, ()>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, ()>) -> Progress {
        while let Some(old) = self.snapshots.reap(turn) {
            drop(black_box(old.into_object()));
        }
        while let Some(old) = self.numbers.reap(turn) {
            black_box(old.into_inner());
        }
        if self.round_count > ROUND_COUNT {
            turn.leave();
            return Progress::Idle;
        }
        if self.turn_count == 0 {
            self.next_round();
        }
        self.turn_count -= 1;
        for number in 0..BATCH {
            let retired = match self.work {
                Work::Replace => {
                    let old = self.published.replace(Box::new(number));
                    self.snapshots.retire(turn, old).is_ok()
                }
                Work::Retire => self.numbers.retire(turn, number).is_ok(),
            };
            assert!(retired, "the limbo holds some batches");
        }
        Progress::Busy
    }
}

impl Replacing {
    fn next_round(&mut self) {
        let now_ns = self.clock.now_ns();
        if self.round_count > 0 {
            let ns = as_float(now_ns - self.began_ns) / as_float(TURN_COUNT * BATCH);
            self.best_ns = self.best_ns.min(ns);
        }
        if self.round_count == ROUND_COUNT {
            self.result.send(self.best_ns).ok();
        }
        self.round_count += 1;
        self.turn_count = TURN_COUNT;
        self.began_ns = now_ns;
    }
}

fn replace_and_reap(work: Work) -> f64 {
    let os_cpu = core_affinity::get_core_ids().unwrap_or_default().last().map_or(0, |core| core.id);
    let reactor = ReactorOptions { poll_mode: PollMode::Busy, ..ReactorOptions::pinned(os_cpu) };
    let mut builder = RuntimeBuilder::new(&[reactor], 1).expect("a runtime");
    let capacity = usize::try_from(BATCH).expect("a small number") * 16;
    let (result, best) = mpsc::channel();
    let replacing = Replacing {
        work,
        published: Published::new(builder.domain(), Box::new(0)),
        snapshots: Limbo::new(Grace::Readers, capacity),
        numbers: Limbo::new(Grace::Readers, capacity),
        clock: builder.clock(),
        turn_count: 0,
        began_ns: 0,
        best_ns: f64::INFINITY,
        round_count: 0,
        result,
    };
    builder.spawn(Cpu(0), "replacing", move || replacing).expect("a thread");
    builder.start().join();
    best.recv().expect("a result")
}
