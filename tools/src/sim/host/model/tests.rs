//! The model notices each kind of wrong data, and takes each kind of right data for right.

use super::*;

const ONE: Extent = Extent { start: 5, count: 1 };

/// A device that does what it is told to, wrong or right.
struct Disk(Vec<u8>);

impl Disk {
    fn new() -> Self {
        Self(vec![0; 16 * BLOCK_BYTES])
    }

    fn put(&mut self, extent: Extent, bytes: &[u8]) {
        let start = extent.blocks().start * BLOCK_BYTES;
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn take(&self, extent: Extent) -> &[u8] {
        &self.0[extent.blocks().start * BLOCK_BYTES..][..extent.len()]
    }
}

fn model() -> Model {
    Model::new(16, false)
}

/// A write that was begun, and its data.
fn begun(model: &Model, extent: Extent) -> (Write, Vec<u8>) {
    let mut bytes = vec![0; extent.len()];
    let write = model.begin_write(0, extent, &mut bytes);
    (write, bytes)
}

fn written(model: &Model, disk: &mut Disk, extent: Extent) -> Vec<u8> {
    let (write, bytes) = begun(model, extent);
    disk.put(extent, &bytes);
    model.acknowledge(write);
    bytes
}

fn read(model: &Model, extent: Extent, bytes: &[u8]) -> Result<(), Wrong> {
    let read = model.begin_read(extent);
    model.check_read(read, bytes).map_err(|(wrong, _)| wrong)
}

#[test]
fn what_was_acknowledged_is_read_back() {
    let (model, mut disk) = (model(), Disk::new());
    assert_eq!(read(&model, ONE, disk.take(ONE)), Ok(()), "zeroes in the beginning");
    let extent = Extent { start: 3, count: 4 };
    written(&model, &mut disk, extent);
    assert_eq!(read(&model, extent, disk.take(extent)), Ok(()));
    let zeroes = model.begin_write_zeroes(0, ONE);
    disk.put(ONE, &[0; BLOCK_BYTES]);
    model.acknowledge(zeroes);
    assert_eq!(read(&model, extent, disk.take(extent)), Ok(()));
}

#[test]
fn a_lost_write_is_noticed() {
    let (model, mut disk) = (model(), Disk::new());
    let old = written(&model, &mut disk, ONE);
    written(&model, &mut disk, ONE);
    assert_eq!(read(&model, ONE, &old), Err(Wrong::Lost));
    assert_eq!(read(&model, ONE, &[0; BLOCK_BYTES]), Err(Wrong::Lost), "two of them");
    let zeroes = model.begin_write_zeroes(0, ONE);
    model.acknowledge(zeroes);
    assert_eq!(read(&model, ONE, disk.take(ONE)), Err(Wrong::Lost), "lost zeroes");
}

#[test]
fn stale_data_is_told_from_lost() {
    let (model, mut disk) = (model(), Disk::new());
    let old = written(&model, &mut disk, ONE);
    written(&model, &mut disk, ONE);
    assert_eq!(read(&model, ONE, disk.take(ONE)), Ok(()));
    assert_eq!(read(&model, ONE, &old), Err(Wrong::Stale));
}

#[test]
fn torn_data_is_noticed_and_said() {
    let (model, mut disk) = (model(), Disk::new());
    let mut mixed = written(&model, &mut disk, ONE);
    let new = written(&model, &mut disk, ONE);
    mixed[200..].copy_from_slice(&new[200..]);
    let read_of = model.begin_read(ONE);
    let (wrong, words) = model.check_read(read_of, &mixed).unwrap_err();
    assert_eq!(wrong, Wrong::Torn);
    assert!(words.contains("200 bytes of write 1") && words.contains("write 0x2"), "{words}");
    let mut half = vec![0; BLOCK_BYTES];
    half[256..].copy_from_slice(&new[256..]);
    assert_eq!(read(&model, ONE, &half), Err(Wrong::Torn), "half of it is still zeroes");
    let mut poisoned = new.clone();
    poisoned[504..].fill(POISON);
    assert_eq!(read(&model, ONE, &poisoned), Err(Wrong::Torn), "the last bytes never came");
}

#[test]
fn misplaced_data_is_noticed() {
    let (model, mut disk) = (model(), Disk::new());
    let extent = Extent { start: 3, count: 4 };
    let bytes = written(&model, &mut disk, extent);
    assert_eq!(read(&model, ONE, &bytes[..BLOCK_BYTES]), Err(Wrong::Misplaced));
}

#[test]
fn a_read_that_brought_nothing_is_noticed() {
    assert_eq!(read(&model(), ONE, &[POISON; BLOCK_BYTES]), Err(Wrong::Unread));
}

#[test]
fn data_that_nobody_wrote_is_noticed() {
    let mut bytes = vec![0; BLOCK_BYTES];
    stamp::stamp(5, 77, &mut bytes);
    assert_eq!(read(&model(), ONE, &bytes), Err(Wrong::Unknown));
}

#[test]
fn writes_under_way_together_leave_either_and_one_read_settles_which() {
    let (model, mut disk) = (model(), Disk::new());
    let old = written(&model, &mut disk, ONE);
    let (first, first_bytes) = begun(&model, ONE);
    let (second, second_bytes) = begun(&model, ONE);
    assert_eq!(read(&model, ONE, &old), Ok(()), "neither has taken effect yet");
    model.acknowledge(second);
    model.acknowledge(first);
    assert_eq!(read(&model, ONE, &old), Err(Wrong::Lost));
    assert_eq!(read(&model, ONE, &first_bytes), Ok(()));
    assert_eq!(read(&model, ONE, &second_bytes), Err(Wrong::Stale), "it was the other");
}

#[test]
fn a_read_may_find_what_was_there_at_any_time_while_it_was_under_way() {
    let (model, mut disk) = (model(), Disk::new());
    let old = written(&model, &mut disk, ONE);
    let under_way = model.begin_read(ONE);
    let new = written(&model, &mut disk, ONE);
    assert!(model.check_read(under_way, &old).is_ok());
    assert!(model.check_read(under_way, &new).is_ok());
    assert_eq!(read(&model, ONE, &old), Err(Wrong::Stale));
}

#[test]
fn a_write_of_a_dead_connection_may_take_effect_until_it_is_reaped() {
    let (model, mut disk) = (model(), Disk::new());
    let old = written(&model, &mut disk, ONE);
    let (write, late) = begun(&model, ONE);
    model.lose(write);
    assert_eq!(read(&model, ONE, &old), Ok(()));
    let newer = written(&model, &mut disk, ONE);
    assert_eq!(read(&model, ONE, &newer), Ok(()));
    assert_eq!(read(&model, ONE, &late), Ok(()), "it comes late, over what was acknowledged since");
    assert_eq!(read(&model, ONE, &old), Err(Wrong::Stale), "but that is gone");
    model.settle_lost(0);
    assert_eq!(model.lost_count(), 1, "it was lost later than that");
    model.settle_lost(model.next_loss());
    assert_eq!(read(&model, ONE, &late), Ok(()), "it did come");
    assert_eq!(read(&model, ONE, &newer), Err(Wrong::Stale), "one read settles it");
}

#[test]
fn a_write_that_failed_is_there_or_not() {
    for is_there in [false, true] {
        let (model, mut disk) = (model(), Disk::new());
        let old = written(&model, &mut disk, ONE);
        let (write, new) = begun(&model, ONE);
        model.fail(write);
        let (found, other) = if is_there { (&new, &old) } else { (&old, &new) };
        assert_eq!(read(&model, ONE, found), Ok(()));
        assert_eq!(read(&model, ONE, found), Ok(()));
        assert!(read(&model, ONE, other).is_err(), "it cannot change its mind");
    }
}

#[test]
fn in_place_a_read_may_be_torn_by_a_write_and_by_nothing_else() {
    let (model, mut disk) = (Model::new(16, true), Disk::new());
    let mut mixed = written(&model, &mut disk, ONE);
    let (write, new) = begun(&model, ONE);
    mixed[256..].copy_from_slice(&new[256..]);
    assert_eq!(read(&model, ONE, &mixed), Ok(()));
    model.acknowledge(write);
    assert_eq!(read(&model, ONE, &mixed), Err(Wrong::Torn));
}

#[test]
fn what_was_refused_is_not_there() {
    let (model, mut disk) = (model(), Disk::new());
    let (write, data) = begun(&model, ONE);
    assert!(model.refuse(write).is_ok());
    disk.put(ONE, &data);
    let read = model.begin_read(ONE);
    assert_eq!(model.check_read(read, disk.take(ONE)).unwrap_err().0, Wrong::Unknown);

    let (write, data) = begun(&model, ONE);
    disk.put(ONE, &data);
    let read = model.begin_read(ONE);
    assert!(model.check_read(read, disk.take(ONE)).is_ok(), "it is under way");
    assert!(model.refuse(write).is_err(), "and so was not refused");
}

#[test]
fn what_was_forbidden_takes_no_effect_after_that() {
    let (model, mut disk) = (model(), Disk::new());
    let mut late = vec![0; ONE.len()];
    let write = model.begin_write(7, ONE, &mut late);
    model.forbid(7, 1);
    let (next, data) = begun(&model, ONE);
    disk.put(ONE, &data);
    model.acknowledge(next);
    let read = model.begin_read(ONE);
    assert!(model.check_read(read, disk.take(ONE)).is_ok());
    disk.put(ONE, &late);
    let read = model.begin_read(ONE);
    assert!(model.check_read(read, disk.take(ONE)).is_err(), "the forbidden write came after all");
    model.lose(write);
}

#[test]
fn one_pair_replaces_a_write() {
    let (model, mut disk) = (model(), Disk::new());
    let both = Extent { start: 2, count: 2 };
    model.declare_whole(both);
    let (mut first, mut second) = (vec![0; both.len()], vec![0; both.len()]);
    let old = disk.take(both).to_vec();
    let a = model.begin_swap(1, both, &old, &mut first);
    let b = model.begin_swap(2, both, &old, &mut second);
    disk.put(both, &first);
    assert!(model.acknowledge_swap(a).is_ok());
    let read = model.begin_read(both);
    assert!(model.check_read(read, disk.take(both)).is_ok());
    disk.put(Extent { start: 3, count: 1 }, &second[BLOCK_BYTES..]);
    let read = model.begin_read(both);
    assert_eq!(model.check_read(read, disk.take(both)).unwrap_err().0, Wrong::Torn);
    assert!(model.acknowledge_swap(b).is_err(), "both compared with zeroes");
}
