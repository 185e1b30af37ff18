//! What the benches share: time per operation as the best of several rounds, two pinned threads, a table of lines.
//!
//! These machines are shared with others: single figures mean little, ratios of figures of one run mean more. So every bench measures something bare
//! of the same kind (a cache line handed over, a ring without a reactor) in the same run.

#![allow(dead_code, reason = "each bench uses a part of this")]

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;

use reactor::Clock;

const ROUND_COUNT: usize = 9;

/// ns for one of `count` operations that `run` does, the best of some rounds.
pub(crate) fn per_operation<R>(clock: Clock, count: u64, mut run: impl FnMut() -> R) -> f64 {
    let rounds = (0..ROUND_COUNT).map(|_| {
        let began_ns = clock.now_ns();
        black_box(run());
        as_float(clock.now_ns() - began_ns) / as_float(count)
    });
    rounds.fold(f64::INFINITY, f64::min)
}

/// Numbers here are small enough.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn as_float(number: u64) -> f64 {
    number as f64
}

/// Prints one figure; beside `other`, also as a ratio to it.
pub(crate) fn print(what: &str, ns: f64, beside: Option<(&str, f64)>) {
    match beside {
        None => println!("{what:<58} {ns:>9.1} ns"),
        Some((other, other_ns)) => println!("{what:<58} {ns:>9.1} ns   {:>5.2} × {other}", ns / other_ns),
    }
}

/// As [`print`], for rates.
pub(crate) fn print_rate(what: &str, ns: f64, beside: Option<(&str, f64)>) {
    let millions = 1000.0 / ns;
    match beside {
        None => println!("{what:<58} {millions:>9.2} M/s"),
        Some((other, other_ns)) => println!("{what:<58} {millions:>9.2} M/s  {:>5.2} × {other}", other_ns / ns),
    }
}

/// Two CPUs of this process, if it has two.
pub(crate) fn two_cpus() -> Option<[usize; 2]> {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    if let [first, second, ..] = cpus[..] { Some([first.id, second.id]) } else { None }
}

/// Runs both at once, each pinned to a CPU of its own, and gives what they return.
pub(crate) fn side_by_side<A: Send, B: Send>(
    cpus: [usize; 2],
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    let barrier = Arc::new(Barrier::new(2));
    let pin = |id| assert!(core_affinity::set_for_current(core_affinity::CoreId { id }), "cpu {id} cannot be used");
    thread::scope(|scope| {
        let other_barrier = Arc::clone(&barrier);
        let first = scope.spawn(move || {
            pin(cpus[0]);
            other_barrier.wait();
            first()
        });
        let second = scope.spawn(move || {
            pin(cpus[1]);
            barrier.wait();
            second()
        });
        match (first.join(), second.join()) {
            (Ok(first), Ok(second)) => (first, second),
            (Err(panic), _) | (_, Err(panic)) => std::panic::resume_unwind(panic),
        }
    })
}
