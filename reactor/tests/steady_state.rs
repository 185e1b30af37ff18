//! Once a mesh runs, turns, messages, looks and retiring allocate nothing.

#![expect(clippy::unwrap_used, reason = "a test: panicking is how it fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reactor::{
    Arena, Cpu, Grace, Handle, Home, Limbo, Pool, Program, Progress, Published, Simulation, Slab, Turn, Unlinked,
};

struct Counting;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATION_COUNT: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_COUNTING.load(Ordering::Relaxed) {
            ALLOCATION_COUNT.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(address, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Busy {
    value: Arc<Published<u64>>,
    limbo: Limbo<Unlinked<u64>>,
    spare: Option<Box<u64>>,
    slab: Slab<u64>,
    last: Option<Handle<u64>>,
    pool: Pool,
}

impl Program for Busy {
    type Message = u64;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, u64>, _from: Option<Cpu>, hops: u64) {
        let to = Cpu(u16::try_from(hops % u64::from(turn.cpu_count())).unwrap());
        turn.send(to, hops + 1);
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, u64>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, u64>) -> Progress {
        let value = *self.value.load(turn.guard());
        if let Some(handle) = self.last.take() {
            self.slab.remove(handle).unwrap();
        }
        self.last = self.slab.insert(value).ok();
        let buffer = self.pool.take().unwrap();
        self.pool.give(buffer);
        if turn.cpu() == Cpu(0) {
            if let Some(spare) = self.spare.take() {
                self.limbo.retire(turn, self.value.replace(spare)).unwrap();
            }
            if let Some(reaped) = self.limbo.reap(turn) {
                self.spare = Some(reaped.into_object());
            }
        }
        Progress::Idle
    }
}

#[test]
fn turns_allocate_nothing() {
    let mut simulation = Simulation::with_ring_capacity(1, 3, 4);
    let value = Arc::new(Published::new(simulation.domain(), Box::new(1)));
    for cpu in (0..3).map(Cpu) {
        let pool = Pool::new(Home { cpu, pool: 0 }, Arena::new(4096, false).unwrap().segment(), 512);
        let (limbo, spare) = (Limbo::new(Grace::Messages, 4), Some(Box::new(2)));
        let value = Arc::clone(&value);
        simulation.install(cpu, Busy { value, limbo, spare, slab: Slab::new(4), last: None, pool });
        simulation.postbox(cpu).post(0).unwrap();
    }
    let run = |simulation: &mut Simulation<u64>| {
        (0..10_000).for_each(|_| {
            simulation.step();
        })
    };
    run(&mut simulation);
    let messages = |simulation: &Simulation<u64>| simulation.counters(Cpu(1)).message_count.value();
    let (epoch, before) = (simulation.domain().epoch(), messages(&simulation));
    IS_COUNTING.store(true, Ordering::Relaxed);
    run(&mut simulation);
    IS_COUNTING.store(false, Ordering::Relaxed);
    assert_eq!(ALLOCATION_COUNT.load(Ordering::Relaxed), 0);
    assert!(messages(&simulation) > before + 1_000 && simulation.domain().epoch() > epoch + 100);
}
