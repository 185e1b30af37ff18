//! Operations that need not be done any more: each ends once, done or cancelled, and the device goes on.

use std::collections::{BTreeSet, VecDeque};

use bdev::{DeviceError, Operation};

use crate::driver::{DEALLOCATE, Driver, FLUSH, READ, Random, WRITE, bytes, memory, zeroes};
use crate::subject::{BLOCK_COUNT, subjects};

const ROUND_COUNT: u64 = 20;
const BATCH_LEN: u64 = 200;

#[test]
fn cancelled_operations_end_once_and_the_others_are_done() {
    for subject in subjects() {
        let block_len = subject.block_len();
        let mut driver = Driver::new(&*subject.device);
        let data = memory(BATCH_LEN as usize * block_len);
        let mut random = Random(0xD1B5_4A32_D192_ED03);
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
            let tokens: Vec<u64> = waiting.iter().map(|operation| operation.token).collect();
            let (mut completions, mut cancelled) = (Vec::new(), BTreeSet::new());
            for _ in 0..random.below(4) {
                driver.turn(&mut waiting, &mut completions);
            }
            driver.channel.submit(driver.now_ns, &mut waiting);
            // What has ended, what is with the device, what was never taken, and some of them twice.
            for token in tokens.iter().filter(|token| *token % 3 > 0) {
                driver.channel.cancel(*token);
                cancelled.insert(*token);
                if random.below(4) == 0 {
                    driver.channel.cancel(*token);
                }
            }
            driver.channel.cancel(0);
            driver.channel.cancel(u64::MAX);
            driver.finish(&mut waiting, &mut completions);
            completions.sort_by_key(|completion| completion.token);
            let ended: Vec<u64> = completions.iter().map(|completion| completion.token).collect();
            assert_eq!(ended, tokens, "{}", subject.name);
            for completion in completions {
                let may_be_cancelled = cancelled.contains(&completion.token);
                match completion.result {
                    Ok(()) => {}
                    Err(DeviceError::Cancelled) if may_be_cancelled => {}
                    Err(error) => panic!("{}: {} ended with {error:?}", subject.name, completion.token),
                }
            }
        }
        let piece = data.part(0, block_len);
        piece.write(0, &vec![0x3C; block_len]);
        assert_eq!(driver.run_one(WRITE, 1, 1, Some(piece)), Ok(()));
        piece.zero();
        assert_eq!(driver.run_one(READ, 1, 1, Some(piece)), Ok(()));
        assert!(bytes(piece) == vec![if subject.keeps() { 0x3C } else { 0 }; block_len], "{}", subject.name);
    }
}
