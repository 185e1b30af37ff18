//! What is written is what is read.

use bdev::Deallocation;

use crate::driver::{DEALLOCATE, Driver, FLUSH, READ, Random, WRITE, WRITE_FORCED, bytes, memory, zeroes};
use crate::subject::{BLOCK_COUNT, Bottom, subjects};

#[test]
fn random_operations_agree_with_a_model() {
    for subject in subjects().iter().filter(|subject| subject.keeps()) {
        let block_len = subject.block_len();
        let mut drivers = [Driver::new(&*subject.device), Driver::new(&*subject.device)];
        let mut model = vec![0_u8; block_len * BLOCK_COUNT as usize];
        let data = memory(64 * block_len);
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for round in 0..300 {
            let driver = &mut drivers[random.below(2) as usize];
            let count = 1 + random.below(64);
            let start = random.below(BLOCK_COUNT - count + 1);
            let piece = data.part(0, count as usize * block_len);
            let range = start as usize * block_len..(start + count) as usize * block_len;
            match random.below(9) {
                0..=2 => {
                    let fill: Vec<u8> = (0..piece.len()).map(|_| random.below(256) as u8).collect();
                    piece.write(0, &fill);
                    let kind = if random.below(4) == 0 { WRITE_FORCED } else { WRITE };
                    assert_eq!(driver.run_one(kind, start, count, Some(piece)), Ok(()));
                    model[range].copy_from_slice(&fill);
                }
                3 => {
                    let kind = zeroes(random.below(2) == 0, random.below(2) == 0);
                    assert_eq!(driver.run_one(kind, start, count, None), Ok(()));
                    model[range].fill(0);
                }
                4 => assert_eq!(driver.run_one(FLUSH, 0, 0, None), Ok(())),
                5 => {
                    assert_eq!(driver.run_one(DEALLOCATE, start, count, None), Ok(()));
                    if subject.device.geometry().deallocation != Deallocation::Zeroes {
                        // What they read as is not told.
                        assert_eq!(subject.bottom, Bottom::Given, "all others of the suite say");
                        assert_eq!(driver.run_one(zeroes(false, false), start, count, None), Ok(()));
                    }
                    model[range].fill(0);
                }
                _ => {
                    piece.write(0, &vec![0x5A; piece.len()]);
                    assert_eq!(driver.run_one(READ, start, count, Some(piece)), Ok(()));
                    assert!(bytes(piece) == model[range], "{} round {round}: {start}+{count}", subject.name);
                }
            }
        }
    }
}

#[test]
fn one_channel_reads_what_another_has_written() {
    for subject in subjects().iter().filter(|subject| subject.keeps()) {
        let block_len = subject.block_len();
        let (mut one, mut two) = (Driver::new(&*subject.device), Driver::new(&*subject.device));
        let data = memory(3 * block_len);
        data.write(0, &vec![0xC3; 3 * block_len]);
        assert_eq!(one.run_one(WRITE, 5, 3, Some(data)), Ok(()));
        data.zero();
        assert_eq!(two.run_one(READ, 5, 3, Some(data)), Ok(()));
        assert_eq!(bytes(data), vec![0xC3; 3 * block_len]);
    }
}

#[test]
fn channels_work_on_threads_of_their_own_at_the_same_time() {
    for subject in subjects().iter().filter(|subject| subject.keeps()) {
        let block_len = subject.block_len();
        std::thread::scope(|scope| {
            for half in 0..2_u64 {
                let mut driver = Driver::new(&*subject.device);
                scope.spawn(move || {
                    let data = memory(10 * block_len);
                    for round in 0..50_u64 {
                        let start = half * BLOCK_COUNT / 2 + round * 10;
                        let fill = vec![(half * 100 + round) as u8; data.len()];
                        data.write(0, &fill);
                        assert_eq!(driver.run_one(WRITE, start, 10, Some(data)), Ok(()));
                        data.zero();
                        assert_eq!(driver.run_one(READ, start, 10, Some(data)), Ok(()));
                        assert!(bytes(data) == fill);
                    }
                });
            }
        });
    }
}

#[test]
fn memory_that_reads_need_no_copy_of_shows_what_was_written() {
    for subject in subjects() {
        let block_len = subject.block_len();
        let mut driver = Driver::new(&*subject.device);
        let Some(in_place) = driver.channel.in_place(7, 2) else {
            assert!(subject.device.memory().is_none());
            continue;
        };
        let memory_of_device = subject.memory.expect("in place means memory");
        assert_eq!(in_place.region(), memory_of_device.region());
        assert!(in_place.address() >= memory_of_device.address());
        assert!(
            in_place.address() + in_place.len() as u64 <= memory_of_device.address() + memory_of_device.len() as u64
        );
        let data = memory(2 * block_len);
        data.write(0, &vec![9; 2 * block_len]);
        assert_eq!(driver.run_one(WRITE, 7, 2, Some(data)), Ok(()));
        assert_eq!(bytes(in_place), vec![if subject.keeps() { 9 } else { 0 }; 2 * block_len]);
    }
}
