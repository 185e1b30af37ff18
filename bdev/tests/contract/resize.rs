//! Devices that grow under open channels, and devices that do not.

use std::fs;

use bdev::DeviceError;

use crate::driver::{DEALLOCATE, Driver, READ, WRITE, bytes, memory, zeroes};
use crate::subject::{BLOCK_COUNT, Bottom, Over, Subject, subjects};

const MORE: u64 = 64;

/// Makes it larger by what its kind has for that. False: its kind has nothing.
fn grow(subject: &Subject) -> bool {
    let has_fixed_size = subject.layers.contains(&Over::Partition);
    match (&subject.image, subject.bottom) {
        (Some(image), Bottom::File { .. }) => {
            let len = fs::metadata(&image.0).unwrap().len();
            let grown_len = len + MORE * subject.block_len() as u64;
            fs::OpenOptions::new().write(true).open(&image.0).unwrap().set_len(grown_len).unwrap();
            assert_eq!(subject.device.rescan().is_ok(), !has_fixed_size, "{}", subject.name);
            assert!(subject.device.resize(BLOCK_COUNT + MORE).is_err(), "{}", subject.name);
            !has_fixed_size
        }
        (_, Bottom::Null | Bottom::Rbd) if !has_fixed_size => {
            subject.device.resize(BLOCK_COUNT + MORE).unwrap();
            true
        }
        _ => {
            let text = subject.device.resize(BLOCK_COUNT + MORE).unwrap_err().to_string();
            assert!(text.contains("size is 1064 blocks: what it was"), "{text}");
            false
        }
    }
}

#[test]
fn open_channels_reach_the_blocks_of_a_device_that_has_grown() {
    for subject in subjects() {
        let block_len = subject.block_len();
        let mut driver = Driver::new(&*subject.device);
        let data = memory(2 * block_len);
        let beyond = [READ, WRITE].map(|kind| driver.run_one(kind, BLOCK_COUNT - 1, 2, Some(data)));
        assert_eq!(beyond, [Err(DeviceError::OutOfRange); 2]);
        let has_grown = grow(&subject);
        let block_count = BLOCK_COUNT + if has_grown { MORE } else { 0 };
        assert_eq!(subject.device.geometry().block_count, block_count, "{}", subject.name);
        data.write(0, &vec![0x6E; data.len()]);
        // Across the former end and at the end now; by the channel that was open and by a new one.
        for start in [BLOCK_COUNT - 1, block_count - 2] {
            let expected = if start + 2 <= block_count { Ok(()) } else { Err(DeviceError::OutOfRange) };
            assert_eq!(driver.run_one(WRITE, start, 2, Some(data)), expected, "{}", subject.name);
        }
        let read = memory(2 * block_len);
        let mut later = Driver::new(&*subject.device);
        assert_eq!(later.run_one(READ, block_count - 2, 2, Some(read)), Ok(()));
        assert!(bytes(read) == vec![if subject.keeps() { 0x6E } else { 0 }; 2 * block_len], "{}", subject.name);
        for kind in [READ, WRITE, zeroes(true, false), DEALLOCATE] {
            let result = driver.run_one(kind, block_count - 1, 2, Some(data));
            assert_eq!(result, Err(DeviceError::OutOfRange), "{}", subject.name);
        }
        assert_eq!(driver.run_one(zeroes(false, false), block_count - 1, 1, None), Ok(()));
    }
}

#[test]
fn no_device_shrinks() {
    for subject in subjects() {
        assert!(subject.device.resize(BLOCK_COUNT - 1).is_err(), "{}", subject.name);
        assert!(subject.device.resize(0).is_err(), "{}", subject.name);
        assert_eq!(subject.device.geometry().block_count, BLOCK_COUNT);
    }
}
