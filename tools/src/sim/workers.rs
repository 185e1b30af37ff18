//! Work on several threads whose results are taken in the order of its numbers: what is told does not depend on how many threads there are.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

/// Whether the results behind one are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// They are.
    GoOn,
    /// They are not: none is begun that was not yet, and none is taken.
    Stop,
}

/// Does `work` number 0, 1, 2, … for as long as `is_wanted` says that there is such a number, on `job_count` threads; each result is given to `take` on
/// this one, in order. `work` says too whether anything behind it is wanted, so that nothing is begun in vain.
pub fn in_order<T: Send>(
    job_count: NonZeroUsize,
    is_wanted: impl Fn(u64) -> bool + Sync,
    work: impl Fn(u64) -> (T, Next) + Sync,
    mut take: impl FnMut(u64, T) -> Next,
) {
    let next = AtomicU64::new(0);
    // Numbers from here on are not begun. Only ever lowered.
    let end = AtomicU64::new(u64::MAX);
    let (results, taken) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..job_count.get() {
            let results = results.clone();
            let (next, end, is_wanted, work) = (&next, &end, &is_wanted, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end.load(Ordering::Relaxed) || !is_wanted(number) {
                        return;
                    }
                    let (result, behind) = work(number);
                    if behind == Next::Stop {
                        end.fetch_min(number + 1, Ordering::Relaxed);
                    }
                    if results.send((number, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let mut waiting = BTreeMap::new();
        let mut expected = 0;
        while let Ok((number, result)) = taken.recv() {
            waiting.insert(number, result);
            while let Some(result) = waiting.remove(&expected) {
                if take(expected, result) == Next::Stop {
                    end.store(0, Ordering::Relaxed);
                    return;
                }
                expected += 1;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(job_count: usize, work: impl Fn(u64) -> (u64, Next) + Sync) -> Vec<u64> {
        let mut taken = Vec::new();
        let take = |number, result| {
            taken.push(result);
            if number == 90 { Next::Stop } else { Next::GoOn }
        };
        in_order(NonZeroUsize::new(job_count).unwrap(), |number| number < 100, work, take);
        taken
    }

    #[test]
    fn results_come_in_order_whatever_takes_longer() {
        let work = |number: u64| {
            let spun = (0..(number % 7) * 10_000).fold(number, |sum, more| std::hint::black_box(sum ^ more ^ more));
            (spun, Next::GoOn)
        };
        assert_eq!(taken(1, work), (0..=90).collect::<Vec<_>>());
        assert_eq!(taken(4, work), (0..=90).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_in_front_of_a_stop_is_taken_all_the_same() {
        let work = |number| (number, if number >= 40 { Next::Stop } else { Next::GoOn });
        for job_count in [1, 4] {
            let taken = taken(job_count, work);
            assert!(taken.len() > 40, "the first 41 are always there");
            assert_eq!(taken, (0..taken.len() as u64).collect::<Vec<_>>());
        }
    }
}
