//! More operations than there is room for.

use std::collections::VecDeque;

use bdev::{Completion, Operation};

use crate::driver::{Driver, READ, WRITE, bytes, memory};
use crate::subject::{BLOCK_COUNT, subjects};

/// Beyond what a channel of any device holds.
const OPERATION_COUNT: u64 = 5 * BLOCK_COUNT;

#[test]
fn many_outstanding_operations_all_end_once_and_a_full_queue_leaves_the_rest() {
    for subject in subjects() {
        let block_len = subject.block_len();
        let mut driver = Driver::new(&*subject.device);
        let data = memory(BLOCK_COUNT as usize * block_len);
        let fill: Vec<u8> = (0..data.len()).map(|at| (at / block_len + at % 251) as u8).collect();
        data.write(0, &fill);
        let all = |driver: &mut Driver, kind| -> Vec<Operation> {
            (0..OPERATION_COUNT)
                .map(|number| {
                    // Again and again the same from the same memory.
                    let block = number % BLOCK_COUNT;
                    let piece = data.part(block as usize * block_len, block_len);
                    driver.operation(kind, block, 1, Some(piece))
                })
                .collect()
        };
        let writes = all(&mut driver, WRITE);

        let mut waiting = VecDeque::from(writes);
        driver.channel.submit(driver.now_ns, &mut waiting);
        let taken_count = OPERATION_COUNT as usize - waiting.len();
        assert!(taken_count > 0, "a channel takes something");
        assert_eq!(driver.channel.outstanding_count(), taken_count, "{}", subject.name);
        assert!(!waiting.is_empty() || subject.is_roomy(), "{}: a channel's queue is bounded", subject.name);
        let left: Vec<u64> = waiting.iter().map(|operation| operation.token).collect();
        let expected: Vec<u64> = (taken_count as u64 + 1..=OPERATION_COUNT).collect();
        assert_eq!(left, expected, "taken from the front, in order");
        driver.channel.submit(driver.now_ns, &mut waiting);
        assert_eq!(waiting.len(), left.len(), "{}: full stays full until a poll", subject.name);
        let mut completions = Vec::new();
        driver.finish(&mut waiting, &mut completions);
        completions.sort_by_key(|completion| completion.token);
        assert_eq!(completions.len(), OPERATION_COUNT as usize);
        for (at, completion) in completions.iter().enumerate() {
            assert_eq!(*completion, Completion { token: at as u64 + 1, result: Ok(()) });
        }

        data.zero();
        let reads = all(&mut driver, READ);
        assert!(driver.run(reads).iter().all(Result::is_ok));
        let expected = if subject.keeps() { fill } else { vec![0; fill.len()] };
        assert!(bytes(data) == expected, "{}", subject.name);
    }
}

#[test]
fn a_batch_of_nothing_is_nothing() {
    for subject in subjects() {
        let mut driver = Driver::new(&*subject.device);
        let mut completions = Vec::new();
        driver.turn(&mut VecDeque::new(), &mut completions);
        assert_eq!((completions.len(), driver.channel.outstanding_count()), (0, 0), "{}", subject.name);
    }
}
