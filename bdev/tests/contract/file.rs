//! What only files have.

use std::fs;

use bdev::{BdevError, Device, DeviceError, File, FileOptions};

use crate::driver::{DEALLOCATE, Driver, FLUSH, READ, WRITE, WRITE_FORCED, bytes, memory, zeroes};
use crate::subject::{BLOCK_COUNT, Image, subjects};

#[test]
fn deallocated_space_is_given_back_by_files() {
    use std::os::unix::fs::MetadataExt;
    for subject in subjects() {
        let Some(image) = &subject.image else { continue };
        let block_len = subject.block_len();
        let mut driver = Driver::new(&*subject.device);
        let data = memory(BLOCK_COUNT as usize * block_len);
        data.write(0, &vec![0x77; data.len()]);
        assert_eq!(driver.run_one(WRITE, 0, BLOCK_COUNT, Some(data)), Ok(()));
        assert_eq!(driver.run_one(FLUSH, 0, 0, None), Ok(()));
        let used = fs::metadata(&image.0).unwrap().blocks();
        assert_eq!(driver.run_one(DEALLOCATE, 0, BLOCK_COUNT, None), Ok(()));
        let left = fs::metadata(&image.0).unwrap().blocks();
        assert!(left < used / 2, "{left} of {used} sectors are left of {}", image.0.display());
    }
}

#[test]
fn a_file_shows_its_bytes_and_gets_what_is_written() {
    let image = Image::new(64 * 512);
    fs::write(&image.0, (0..64 * 512).map(|at| (at / 512) as u8).collect::<Vec<_>>()).unwrap();
    let device = File::open("file", &image.0, FileOptions::default()).unwrap();
    let mut driver = Driver::new(&device);
    let data = memory(512);
    assert_eq!(driver.run_one(READ, 9, 1, Some(data)), Ok(()));
    assert_eq!(bytes(data), vec![9; 512]);
    data.write(0, &[0xEE; 512]);
    assert_eq!(driver.run_one(WRITE_FORCED, 63, 1, Some(data)), Ok(()));
    assert_eq!(driver.run_one(zeroes(true, true), 0, 8, None), Ok(()));
    let now = fs::read(&image.0).unwrap();
    assert_eq!(now[63 * 512..], [0xEE; 512]);
    assert_eq!(now[..8 * 512], [0; 8 * 512]);
    assert_eq!(now.len(), 64 * 512);
}

#[test]
fn a_file_that_is_truncated_under_its_device_fails_reads_only_where_it_is_gone() {
    for without_ring in [false, true] {
        let image = Image::new(64 * 512);
        let options = FileOptions { without_ring, ..FileOptions::default() };
        let device = File::open("file", &image.0, options).unwrap();
        let mut driver = Driver::new(&device);
        let data = memory(512);
        fs::OpenOptions::new().write(true).open(&image.0).unwrap().set_len(32 * 512).unwrap();
        assert_eq!(driver.run_one(READ, 40, 1, Some(data)), Err(DeviceError::OutOfRange));
        assert_eq!(driver.run_one(READ, 31, 1, Some(data)), Ok(()));
    }
}

#[test]
fn a_read_only_file_takes_no_writes() {
    let image = Image::new(64 * 512);
    let options = FileOptions { read_only: true, ..FileOptions::default() };
    let device = File::open("file", &image.0, options).unwrap();
    assert!(device.geometry().read_only);
    let mut driver = Driver::new(&device);
    let data = memory(512);
    assert_eq!(driver.run_one(WRITE, 0, 1, Some(data)), Err(DeviceError::ReadOnly));
    assert_eq!(driver.run_one(zeroes(true, false), 0, 1, None), Err(DeviceError::ReadOnly));
    assert_eq!(driver.run_one(FLUSH, 0, 0, None), Ok(()));
    assert_eq!(driver.run_one(READ, 0, 1, Some(data)), Ok(()));
    // Readers share.
    File::open("file again", &image.0, options).unwrap();
}

#[test]
fn a_file_is_written_by_one_device_at_a_time() {
    let image = Image::new(64 * 512);
    let first = File::open("first", &image.0, FileOptions::default()).unwrap();
    let error = File::open("second", &image.0, FileOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("second: lock of {}: another process, or another device of this target, uses it", image.0.display())
    );
    drop(first);
    File::open("second", &image.0, FileOptions::default()).unwrap();
}

#[test]
fn what_is_no_disk_is_refused_with_the_way_out() {
    let text = |path: &str, options| File::open("disk0", path.as_ref(), options).unwrap_err().to_string();
    let options = FileOptions::default();
    assert_eq!(
        text("/nowhere/disk.img", options),
        "disk0: open of /nowhere/disk.img: No such file or directory (os error 2)"
    );
    assert_eq!(text("/dev/null", options), "disk0: path is /dev/null: a regular file or a block device");
    assert_eq!(text("/", options), "disk0: path is /: a regular file or a block device");
    assert_eq!(text("/dev/null", FileOptions { block_len: 1024, ..options }), "disk0: block size is 1024: 512 or 4096");
    assert_eq!(text("/dev/null", FileOptions { queue_depth: 0, ..options }), "disk0: queue depth is 0: 1 to 4096");
    let image = Image::new(1000);
    assert!(matches!(File::open("disk0", &image.0, options), Err(BdevError::Field { field: "size", .. })));
}
