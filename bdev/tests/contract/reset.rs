//! Everything that is under way is ended, with nothing new submitted and no time passing: the device is at rest then, and goes on.

use std::collections::{BTreeSet, VecDeque};

use bdev::{Completion, DeviceError, Operation};

use crate::driver::{DEALLOCATE, Driver, FLUSH, READ, Random, WRITE, bytes, memory, zeroes};
use crate::subject::{BLOCK_COUNT, subjects};

const ROUND_COUNT: u64 = 10;
const BATCH_LEN: u64 = 300;
const POLLS_MAX: u64 = 100_000_000;

#[test]
fn all_that_was_taken_ends_once_and_what_was_not_is_left() {
    for subject in subjects() {
        let block_len = subject.block_len();
        let mut driver = Driver::new(&*subject.device);
        let data = memory(BATCH_LEN as usize * block_len);
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        // With nothing under way it is nothing.
        driver.channel.cancel_all();
        assert_eq!(driver.channel.outstanding_count(), 0);
        for _ in 0..ROUND_COUNT {
            let mut waiting: VecDeque<Operation> = VecDeque::new();
            for place in 0..BATCH_LEN {
                let piece = Some(data.part(place as usize * block_len, block_len));
                let block = place * (BLOCK_COUNT / BATCH_LEN);
                waiting.push_back(match random.below(8) {
                    0 => driver.operation(FLUSH, 0, 0, None),
                    1 => driver.operation(zeroes(true, false), block, 1, None),
                    2 => driver.operation(DEALLOCATE, block, 1, None),
                    3..6 => driver.operation(WRITE, block, 1, piece),
                    _ => driver.operation(READ, block, 1, piece),
                });
            }
            let all: BTreeSet<u64> = waiting.iter().map(|operation| operation.token).collect();
            let mut completions: Vec<Completion> = Vec::new();
            for _ in 0..random.below(4) {
                driver.turn(&mut waiting, &mut completions);
            }
            driver.channel.submit(driver.now_ns, &mut waiting);
            driver.channel.cancel_all();
            if random.below(4) == 0 {
                driver.channel.cancel_all();
            }
            let mut poll_count = 0;
            while driver.channel.outstanding_count() > 0 {
                driver.channel.poll(driver.now_ns, &mut completions);
                std::thread::yield_now();
                poll_count += 1;
                assert!(poll_count < POLLS_MAX, "{}: operations never end", subject.name);
            }
            let ended: BTreeSet<u64> = completions.iter().map(|completion| completion.token).collect();
            let left: BTreeSet<u64> = waiting.iter().map(|operation| operation.token).collect();
            assert_eq!(ended.len(), completions.len(), "{}: each ends once", subject.name);
            assert!(ended.is_disjoint(&left) && ended.union(&left).eq(&all), "{}", subject.name);
            for Completion { token, result } in completions {
                assert!(
                    matches!(result, Ok(()) | Err(DeviceError::Cancelled)),
                    "{}: {token}: {result:?}",
                    subject.name
                );
            }
        }
        let piece = data.part(0, block_len);
        piece.write(0, &vec![0x5A; block_len]);
        assert_eq!(driver.run_one(WRITE, 1, 1, Some(piece)), Ok(()));
        piece.zero();
        assert_eq!(driver.run_one(READ, 1, 1, Some(piece)), Ok(()));
        assert!(bytes(piece) == vec![if subject.keeps() { 0x5A } else { 0 }; block_len], "{}", subject.name);
    }
}

/// What a delay holds back, and what waits at a limit, is ended as well.
#[test]
fn what_is_held_back_is_cancelled() {
    for subject in subjects().into_iter().filter(|subject| subject.waits()) {
        let mut driver = Driver::new(&*subject.device);
        let data = memory(subject.block_len());
        let mut waiting: VecDeque<Operation> = (0..8).map(|_| driver.operation(READ, 0, 1, Some(data))).collect();
        let mut completions = Vec::new();
        driver.channel.submit(driver.now_ns, &mut waiting);
        driver.channel.cancel_all();
        // Time stands still, so no latency is ever over.
        while driver.channel.outstanding_count() > 0 {
            driver.channel.poll(driver.now_ns, &mut completions);
            std::thread::yield_now();
        }
        assert_eq!(completions.len(), 8, "{}", subject.name);
    }
}
