//! Time that stands still, and time that leaps.

use std::collections::VecDeque;

use bdev::Operation;

use crate::driver::{Driver, READ, WRITE, memory};
use crate::subject::subjects;

const OPERATION_COUNT: u64 = 100;

/// A day.
const LONG_NS: u64 = 86_400_000_000_000;

fn batch(driver: &mut Driver, block_len: usize) -> VecDeque<Operation> {
    let data = memory(block_len);
    (0..OPERATION_COUNT)
        .map(|number| driver.operation(if number % 2 == 0 { READ } else { WRITE }, number, 1, Some(data)))
        .collect()
}

#[test]
fn who_waits_for_nothing_needs_no_time_and_who_does_loses_nothing_by_it() {
    for subject in subjects() {
        let mut driver = Driver::new(&*subject.device);
        let mut waiting = batch(&mut driver, subject.block_len());
        let mut completions = Vec::new();
        if subject.waits() {
            for _ in 0..1000 {
                driver.channel.submit(LONG_NS, &mut waiting);
                driver.channel.poll(LONG_NS, &mut completions);
                std::thread::yield_now();
            }
            assert!(completions.is_empty(), "{}: {} ended before their time", subject.name, completions.len());
            driver.now_ns = LONG_NS;
            driver.finish(&mut waiting, &mut completions);
        } else {
            while !waiting.is_empty() || driver.channel.outstanding_count() > 0 {
                driver.channel.submit(LONG_NS, &mut waiting);
                driver.channel.poll(LONG_NS, &mut completions);
                std::thread::yield_now();
            }
        }
        assert_eq!(completions.len() as u64, OPERATION_COUNT, "{}", subject.name);
        assert!(completions.iter().all(|completion| completion.result.is_ok()), "{}", subject.name);
    }
}

#[test]
fn a_leap_of_time_ends_each_operation_once() {
    for subject in subjects() {
        let mut driver = Driver::new(&*subject.device);
        let mut waiting = batch(&mut driver, subject.block_len());
        let mut completions = Vec::new();
        driver.turn(&mut waiting, &mut completions);
        driver.now_ns += LONG_NS;
        driver.finish(&mut waiting, &mut completions);
        completions.sort_by_key(|completion| completion.token);
        let ended: Vec<u64> = completions.iter().map(|completion| completion.token).collect();
        assert_eq!(ended, (1..=OPERATION_COUNT).collect::<Vec<_>>(), "{}", subject.name);
    }
}
