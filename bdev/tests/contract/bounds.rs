//! What a device says of itself, and what it refuses.

use bdev::{DeviceError, OperationKind};

use crate::driver::{DEALLOCATE, Driver, READ, WRITE, bytes, memory, zeroes};
use crate::subject::{BLOCK_COUNT, subjects};

#[test]
fn what_is_outside_the_device_is_answered_not_done() {
    for subject in subjects() {
        let geometry = subject.device.geometry();
        let block_len = geometry.block_len as usize;
        let mut driver = Driver::new(&*subject.device);
        let data = memory(2 * block_len);
        for start in [BLOCK_COUNT - 1, BLOCK_COUNT, u64::MAX - 1, u64::MAX, i64::MAX as u64 / 512] {
            for kind in [READ, WRITE, zeroes(true, false), zeroes(false, true), DEALLOCATE] {
                assert_eq!(
                    driver.run_one(kind, start, 2, Some(data)),
                    Err(DeviceError::OutOfRange),
                    "{start} {kind:?}"
                );
            }
        }
        assert_eq!(driver.run_one(zeroes(false, false), 0, u64::MAX, None), Err(DeviceError::OutOfRange));
        assert_eq!(driver.run_one(READ, 0, 0, Some(data)), Err(DeviceError::OutOfRange));
        // Memory that does not fit the range is never copied.
        assert_eq!(driver.run_one(READ, 0, 1, Some(data)), Err(DeviceError::Internal));
        assert_eq!(driver.run_one(WRITE, 0, 1, None), Err(DeviceError::Internal));
        // The device goes on.
        assert_eq!(driver.run_one(READ, BLOCK_COUNT - 2, 2, Some(data)), Ok(()));
        assert_eq!(bytes(data), vec![0; 2 * block_len]);
    }
}

#[test]
fn what_a_device_says_of_its_blocks_is_possible() {
    for subject in subjects() {
        let geometry = subject.device.geometry();
        let (preferred, atomic) = (geometry.preferred, geometry.atomic);
        assert!(preferred.write > 0 && preferred.deallocate > 0 && atomic.write > 0);
        assert!(preferred.write_optimal.is_multiple_of(preferred.write) && preferred.write_optimal > 0);
        assert!(atomic.power_fail <= atomic.write);
        assert!(geometry.operation_block_count_max > 0 && geometry.data_alignment.is_power_of_two());
        let mut driver = Driver::new(&*subject.device);
        let uncorrectable = driver.run_one(OperationKind::WriteUncorrectable, 0, 1, None);
        let expected = if geometry.writes_uncorrectable { Ok(()) } else { Err(DeviceError::Unsupported) };
        assert_eq!(uncorrectable, expected, "{}", subject.name);
    }
}
