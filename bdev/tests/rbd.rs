//! The rbd device on a library of the tests' own: what goes wrong, what comes late, and who holds the lock. That it is a device like others is said by the
//! contract suite; with a real cluster it is tried by `scripts/ceph-test`.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests, on small numbers")]

mod fake_rbd;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bdev::{
    Ceph, Channel, Cluster, ClusterOptions, Completion, Connection, Device, DeviceError, Operation, OperationKind, Rbd,
    RbdOptions, Standing, wait_until_closed,
};
use fake_rbd::{Counted, FakeRbd};
use reactor::{Arena, Segment};

const READ: OperationKind = OperationKind::Read;
const WRITE: OperationKind = OperationKind::Write { force_unit_access: false };
const WRITE_FORCED: OperationKind = OperationKind::Write { force_unit_access: true };

const BLOCK_COUNT: u64 = 256;

fn memory(fill: u8) -> Segment {
    let segment = Arena::new(4096, false).unwrap().segment().part(0, 512);
    segment.write(0, &[fill; 512]);
    segment
}

fn bytes(data: Segment) -> Vec<u8> {
    let mut bytes = vec![0; data.len()];
    data.read(0, &mut bytes);
    bytes
}

fn operation(token: u64, kind: OperationKind, block: u64, data: Segment) -> Operation {
    Operation { token, host: 0, kind, start_block: block, block_count: 1, data: Some(data) }
}

fn submit(channel: &mut dyn Channel, operation: Operation) {
    let mut waiting = VecDeque::from([operation]);
    channel.submit(0, &mut waiting);
    assert!(waiting.is_empty());
}

/// What is outstanding, to its ends.
#[allow(clippy::disallowed_methods, reason = "a test's patience")]
fn end(channel: &mut dyn Channel) -> Vec<Completion> {
    let start = Instant::now();
    let mut completions = Vec::new();
    while channel.outstanding_count() > 0 {
        channel.poll(0, &mut completions);
        assert!(start.elapsed() < Duration::from_secs(10), "{} are lost", channel.outstanding_count());
    }
    completions
}

fn run(channel: &mut dyn Channel, kind: OperationKind, block: u64, data: Segment) -> Result<(), DeviceError> {
    submit(channel, operation(1, kind, block, data));
    let completions = end(channel);
    assert_eq!(completions.len(), 1);
    completions[0].result
}

fn fenced(fake: &FakeRbd, image: &str) -> Rbd {
    let options = RbdOptions { fenced: true, ..RbdOptions::new("pool", image) };
    Rbd::open(image, fake.connection(512 * BLOCK_COUNT), options).unwrap()
}

#[test]
fn completions_that_come_after_their_channel_find_what_they_need() {
    let fake = FakeRbd::load();
    let device = fake.device("late", 512, BLOCK_COUNT);
    let data = memory(1);
    let mut channel = device.open_channel().unwrap();
    fake.hold("late", true);
    for token in 0..50 {
        submit(&mut *channel, operation(token, [READ, WRITE_FORCED][token as usize % 2], token, data));
    }
    drop(channel);
    drop(device);
    assert_eq!(fake.count("late", Counted::OpenHandles), 1, "an image stays open while an operation is in the library");
    fake.hold("late", false);
    assert!(wait_until_closed(Duration::from_secs(10)));
    assert_eq!(fake.count("late", Counted::OpenHandles), 0);
    assert_eq!(fake.count("late", Counted::Watches), 0);
}

#[test]
fn errors_and_refusals_end_operations_once_and_the_next_one_works() {
    let fake = FakeRbd::load();
    let device = fake.device("errors", 512, BLOCK_COUNT);
    let mut channel = device.open_channel().unwrap();
    let data = memory(2);
    for (errno, kind, expected) in [
        (libc::EIO, READ, DeviceError::ReadFault),
        (libc::EIO, WRITE, DeviceError::WriteFault),
        (libc::ENOSPC, WRITE_FORCED, DeviceError::NoSpace),
        (libc::EROFS, WRITE, DeviceError::ReadOnly),
        (libc::ETIMEDOUT, READ, DeviceError::PathLost),
        (libc::ENOMEM, OperationKind::Deallocate, DeviceError::Internal),
    ] {
        fake.fail("errors", errno, 1);
        assert_eq!(run(&mut *channel, kind, 3, data), Err(expected), "{errno} {kind:?}");
        assert_eq!(run(&mut *channel, kind, 3, data), Ok(()));
        fake.refuse("errors", errno, 1);
        assert_eq!(run(&mut *channel, kind, 3, data), Err(expected), "refused: {errno} {kind:?}");
        assert_eq!(run(&mut *channel, kind, 3, data), Ok(()));
    }
}

#[test]
fn forced_writes_are_flushed_and_others_are_not() {
    let fake = FakeRbd::load();
    let device = fake.device("forced", 512, BLOCK_COUNT);
    let mut channel = device.open_channel().unwrap();
    let data = memory(3);
    assert_eq!(run(&mut *channel, WRITE, 0, data), Ok(()));
    assert_eq!(fake.count("forced", Counted::Flushes), 0);
    assert_eq!(run(&mut *channel, WRITE_FORCED, 0, data), Ok(()));
    assert_eq!(fake.count("forced", Counted::Flushes), 1);
    let zeroes = OperationKind::WriteZeroes { deallocate: true, force_unit_access: true };
    assert_eq!(run(&mut *channel, zeroes, 0, data), Ok(()));
    assert_eq!(fake.count("forced", Counted::Flushes), 2);
    assert_eq!(fake.count("forced", Counted::Zeroings), 1);
}

#[test]
fn sizes_are_followed_upwards() {
    let fake = FakeRbd::load();
    let device = fake.device("sizes", 512, BLOCK_COUNT);
    let mut channel = device.open_channel().unwrap();
    let data = memory(4);
    assert!(!device.take_changed());
    fake.resize("sizes", 512 * (BLOCK_COUNT + 8));
    assert!(device.take_changed());
    assert!(!device.take_changed(), "told once");
    assert_eq!(device.geometry().block_count, BLOCK_COUNT, "until somebody looks");
    device.rescan().unwrap();
    assert_eq!(device.geometry().block_count, BLOCK_COUNT + 8);
    assert_eq!(run(&mut *channel, WRITE, BLOCK_COUNT + 7, data), Ok(()));
    device.resize(BLOCK_COUNT + 16).unwrap();
    assert_eq!(run(&mut *channel, WRITE, BLOCK_COUNT + 15, data), Ok(()));
    let error = device.resize(100 * BLOCK_COUNT).unwrap_err().to_string();
    assert_eq!(error, "ceph: rbd_resize of pool/sizes: No space left on device (os error 28)");
    fake.resize("sizes", 512 * 8);
    assert!(device.rescan().is_err(), "a device does not shrink");
    assert_eq!(run(&mut *channel, READ, BLOCK_COUNT, data), Err(DeviceError::OutOfRange));
    assert_eq!(run(&mut *channel, READ, 7, data), Ok(()));
}

#[test]
fn a_snapshot_takes_no_writes() {
    let fake = FakeRbd::load();
    let options = RbdOptions { snapshot: Some("before".to_owned()), ..RbdOptions::new("pool", "snapped") };
    let device = Rbd::open("snap", fake.connection(512 * BLOCK_COUNT), options.clone()).unwrap();
    assert!(device.geometry().read_only && !device.geometry().volatile_write_cache);
    let mut channel = device.open_channel().unwrap();
    assert_eq!(run(&mut *channel, WRITE, 0, memory(5)), Err(DeviceError::ReadOnly));
    assert_eq!(run(&mut *channel, READ, 0, memory(5)), Ok(()));
    let fenced = RbdOptions { fenced: true, ..options };
    let error = Rbd::open("snap", fake.connection(512), fenced).unwrap_err().to_string();
    assert_eq!(error, "snap: fenced is true: false for what takes no writes: it has no lock");
}

#[test]
fn whoever_takes_the_lock_locks_the_holder_out_with_what_it_has_under_way() {
    let fake = FakeRbd::load();
    let (first, second) = (fenced(fake, "shared"), fenced(fake, "shared"));
    assert_eq!((first.standing(), second.standing()), (Standing::Holder, Standing::Standby));
    let (mut of_first, mut of_second) = (first.open_channel().unwrap(), second.open_channel().unwrap());
    let (old, new) = (memory(0xAA), memory(0xBB));
    assert_eq!(run(&mut *of_first, WRITE, 0, old), Ok(()));
    assert_eq!(run(&mut *of_second, WRITE, 0, new), Err(DeviceError::PathLost), "stands by");
    assert_eq!(run(&mut *of_second, READ, 0, memory(0)), Err(DeviceError::PathLost), "what it read might be old");

    fake.hold("shared", true);
    for token in 0..20 {
        submit(&mut *of_first, operation(token, WRITE, token, old));
    }
    second.acquire_lock().unwrap();
    second.acquire_lock().unwrap();
    assert_eq!(second.standing(), Standing::Holder);
    fake.hold("shared", false);
    for block in 0..20 {
        assert_eq!(run(&mut *of_second, WRITE, block, new), Ok(()));
    }
    // Whatever was late has failed or was overwritten: nothing of it comes after.
    let late = end(&mut *of_first);
    assert!(late.iter().all(|completion| completion.result == Err(DeviceError::PathLost)), "{late:?}");
    assert_eq!(late.len(), 20);
    assert_eq!(first.standing(), Standing::Lost);
    assert_eq!(run(&mut *of_first, READ, 0, memory(0)), Err(DeviceError::PathLost));
    let data = memory(0);
    for block in 0..20 {
        assert_eq!(run(&mut *of_second, READ, block, data), Ok(()));
        assert_eq!(bytes(data), [0xBB; 512]);
    }

    // And back, by a new connection: the channel that is there goes on with it.
    first.acquire_lock().unwrap();
    assert_eq!(first.standing(), Standing::Holder);
    assert_eq!(second.check_standing(), Standing::Lost, "seen without an operation");
    assert_eq!(run(&mut *of_first, READ, 3, data), Ok(()));
    assert_eq!(bytes(data), [0xBB; 512]);
    assert_eq!(run(&mut *of_second, READ, 3, data), Err(DeviceError::PathLost));
}

#[test]
fn operations_of_a_lost_connection_end_while_the_next_one_is_used() {
    let fake = FakeRbd::load();
    let (first, second) = (fenced(fake, "eras"), fenced(fake, "eras"));
    let mut channel = first.open_channel().unwrap();
    let data = memory(6);
    fake.hold("eras", true);
    for token in 0..10 {
        submit(&mut *channel, operation(token, WRITE, token, data));
    }
    second.acquire_lock().unwrap();
    first.acquire_lock().unwrap();
    for token in 10..20 {
        submit(&mut *channel, operation(token, WRITE, token, data));
    }
    fake.hold("eras", false);
    let mut completions = end(&mut *channel);
    completions.sort_by_key(|completion| completion.token);
    for (token, completion) in completions.iter().enumerate() {
        let expected = if token < 10 { Err(DeviceError::PathLost) } else { Ok(()) };
        assert_eq!(*completion, Completion { token: token as u64, result: expected });
    }
    assert_eq!(first.standing(), Standing::Holder, "what the old one says does not count for the new one");
    drop(second);
    assert!(wait_until_closed(Duration::from_secs(10)));
    assert_eq!(fake.count("eras", Counted::OpenHandles), 1, "the lost connection's image is closed");
}

#[test]
fn a_lock_that_is_given_back_is_taken_without_locking_anybody_out() {
    let fake = FakeRbd::load();
    let (first, second) = (fenced(fake, "polite"), fenced(fake, "polite"));
    let mut of_first = first.open_channel().unwrap();
    first.release_lock().unwrap();
    assert_eq!(first.standing(), Standing::Standby);
    second.acquire_lock().unwrap();
    assert_eq!(run(&mut *of_first, WRITE, 0, memory(7)), Err(DeviceError::PathLost));
    second.release_lock().unwrap();
    first.acquire_lock().unwrap();
    assert_eq!(run(&mut *of_first, WRITE, 0, memory(7)), Ok(()), "by the connection that it had");
    assert_eq!(fake.count("polite", Counted::OpenHandles), 2);
}

#[test]
fn a_device_that_is_opened_again_at_once_has_its_lock() {
    let fake = FakeRbd::load();
    for _ in 0..10 {
        assert_eq!(fenced(fake, "again").standing(), Standing::Holder);
    }
}

#[test]
fn connections_are_shared_where_that_is_wanted() {
    let fake = FakeRbd::load();
    let settings = vec![("fake_size".to_owned(), "65536".to_owned())];
    let options = ClusterOptions { settings, ..ClusterOptions::default() };
    let cluster = Cluster::connect("east", &fake.ceph, options).unwrap();
    let open = |image| Rbd::open(image, Connection::Shared(Arc::clone(&cluster)), RbdOptions::new("pool", image));
    let (one, two) = (open("one").unwrap(), open("two").unwrap());
    for device in [&one, &two] {
        assert_eq!(run(&mut *device.open_channel().unwrap(), WRITE, 0, memory(8)), Ok(()));
    }
    let options = RbdOptions { fenced: true, ..RbdOptions::new("pool", "one") };
    let error = Rbd::open("one", Connection::Shared(cluster), options).unwrap_err().to_string();
    assert!(error.starts_with("one: fenced is true: false, or a connection of its own"), "{error}");
}

#[test]
fn what_cannot_be_opened_is_refused_with_the_way_out() {
    let fake = FakeRbd::load();
    let refused = |connection, options| Rbd::open("disk0", connection, options).unwrap_err().to_string();
    let here = || fake.connection(512);
    assert_eq!(
        refused(here(), RbdOptions::new("nowhere", "a")),
        "disk0: rados_ioctx_create of nowhere/a: No such file or directory (os error 2): is there such a pool?"
    );
    let none = Connection::Own(Arc::clone(&fake.ceph), ClusterOptions::default());
    let of_namespace = RbdOptions { namespace: Some("blue".to_owned()), ..RbdOptions::new("pool", "missing") };
    assert_eq!(
        refused(none, of_namespace),
        "disk0: rbd_open of pool/blue/missing: No such file or directory (os error 2): is there such an image, or snapshot?"
    );
    let options = ClusterOptions { config_file: Some("/nowhere/ceph.conf".into()), ..ClusterOptions::default() };
    assert_eq!(
        refused(Connection::Own(Arc::clone(&fake.ceph), options), RbdOptions::new("pool", "a")),
        "disk0: rados_conf_read_file of the cluster of /nowhere/ceph.conf: No such file or directory (os error 2): \
         is it there, and readable?"
    );
    assert_eq!(
        refused(fake.connection(1000), RbdOptions::new("pool", "odd")),
        "disk0: size is 1000 bytes: a multiple of the block size: resize the image, or set the block size to 512"
    );
    let deep = RbdOptions { queue_depth: 0, ..RbdOptions::new("pool", "a") };
    assert_eq!(refused(here(), deep), "disk0: queue depth is 0: 1 to 4096");
    let unfenced = fake.device("unfenced", 512, 8);
    assert!(unfenced.acquire_lock().unwrap_err().to_string().starts_with("ceph: fenced is false: true, for a device"));
    let error = Ceph::load_from("disk0", "librbd-nowhere.so.1", "librados-nowhere.so.2").unwrap_err().to_string();
    assert!(error.starts_with("disk0: librados-nowhere.so.2 cannot be used: "), "{error}");
    assert!(error.ends_with("install it (Debian: `apt-get install librados2`)"), "{error}");
}

/// What the process of the test below does.
const ENDS_WITH: &str = "QUIESCE_TEST_ENDS_WITH";

#[test]
#[allow(clippy::disallowed_methods, reason = "an operation ends after its device was let go of")]
fn a_process_ends_in_order_with_images_that_are_open_or_being_closed() {
    if let Ok(how) = std::env::var(ENDS_WITH) {
        let fake = FakeRbd::load();
        let device = fake.device("ends", 512, BLOCK_COUNT);
        let mut channel = device.open_channel().unwrap();
        if how == "open" {
            std::mem::forget((channel, device));
            std::process::exit(7);
        }
        fake.hold("ends", true);
        submit(&mut *channel, operation(1, WRITE, 0, memory(1)));
        drop(channel);
        drop(device);
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            fake.hold("ends", false);
        });
        std::thread::sleep(Duration::from_millis(if how == "closing" { 290 } else { 400 }));
        std::process::exit(7);
    }
    for how in ["open", "closing", "closed"] {
        let myself = std::env::current_exe().unwrap();
        let name = "a_process_ends_in_order_with_images_that_are_open_or_being_closed";
        let output = std::process::Command::new(myself).args([name, "--exact"]).env(ENDS_WITH, how).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{how}: {} {said}", output.status);
    }
}
