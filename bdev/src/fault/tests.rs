#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests, on small numbers")]

use std::collections::VecDeque;

use reactor::{Arena, Progress, Rest, Segment};

use super::*;
use crate::channel::{Completion, Operation, OperationKind};
use crate::device::DeviceError;
use crate::memory::Memory;

const READ: OperationKind = OperationKind::Read;
const WRITE: OperationKind = OperationKind::Write { force_unit_access: false };

struct Rig {
    device: Fault,
    channel: Box<dyn Channel>,
    data: Segment,
}

fn rig(seed: u64) -> Rig {
    let device = Fault::new("fault", Arc::new(Memory::new("m", 512, 100, false).unwrap()), seed);
    let channel = device.open_channel().unwrap();
    Rig { device, channel, data: Arena::new(1 << 16, false).unwrap().segment() }
}

impl Rig {
    fn submit(&mut self, kind: OperationKind, start_block: u64, block_count: u64) {
        let has_data = matches!(kind, OperationKind::Read | OperationKind::Write { .. });
        let data = has_data.then(|| self.data.part(0, block_count as usize * 512));
        let operation = Operation { token: 7, host: 0, kind, start_block, block_count, data };
        self.channel.submit(0, &mut VecDeque::from([operation]));
    }

    fn poll(&mut self) -> Option<Result<(), DeviceError>> {
        let mut completions: Vec<Completion> = Vec::new();
        self.channel.poll(0, &mut completions);
        assert!(completions.len() <= 1);
        completions.first().map(|completion| completion.result)
    }

    fn run(&mut self, kind: OperationKind, start: u64, count: u64) -> Result<(), DeviceError> {
        self.submit(kind, start, count);
        (0..100).find_map(|_| self.poll()).expect("it ends")
    }

    fn write(&mut self, byte: u8, start: u64, count: u64) -> Result<(), DeviceError> {
        self.data.part(0, count as usize * 512).write(0, &vec![byte; count as usize * 512]);
        self.run(WRITE, start, count)
    }

    fn read(&mut self, start: u64, count: u64) -> Vec<u8> {
        assert_eq!(self.run(READ, start, count), Ok(()));
        let mut bytes = vec![0; count as usize * 512];
        self.data.read(0, &mut bytes);
        bytes
    }
}

#[test]
fn uncorrectable_blocks_fail_until_they_are_written() {
    let mut rig = rig(1);
    assert_eq!(rig.write(1, 0, 20), Ok(()));
    assert_eq!(rig.run(OperationKind::WriteUncorrectable, 5, 4), Ok(()));
    assert_eq!(rig.run(OperationKind::WriteUncorrectable, 9, 3), Ok(()));
    for (start, count, fails) in [(0, 5, false), (0, 6, true), (11, 1, true), (12, 8, false), (7, 1, true)] {
        let expected = if fails { Err(DeviceError::ReadFault) } else { Ok(()) };
        assert_eq!(rig.run(READ, start, count), expected, "{start}+{count}");
    }
    // In the middle: what is on both sides stays.
    assert_eq!(rig.write(2, 7, 2), Ok(()));
    assert!(rig.read(7, 2).iter().all(|byte| *byte == 2));
    assert_eq!(rig.run(READ, 6, 2), Err(DeviceError::ReadFault));
    assert_eq!(rig.run(READ, 8, 2), Err(DeviceError::ReadFault));
    // A second channel sees the same.
    rig.channel = rig.device.open_channel().unwrap();
    assert_eq!(rig.run(READ, 5, 1), Err(DeviceError::ReadFault));
    let zeroes = OperationKind::WriteZeroes { deallocate: false, force_unit_access: false };
    assert_eq!(rig.run(zeroes, 0, 20), Ok(()));
    assert!(rig.read(0, 20).iter().all(|byte| *byte == 0));
    assert_eq!(rig.run(OperationKind::WriteUncorrectable, 99, 2), Err(DeviceError::OutOfRange));
}

#[test]
fn rules_fit_kinds_blocks_and_counts() {
    let mut rig = rig(1);
    let error = DeviceError::WriteFault;
    rig.device.inject(Rule {
        blocks: Some(10..20),
        count: Some(2),
        ..Rule::always(Affected::Write, Effect::Fail(error))
    });
    assert_eq!(rig.write(1, 0, 10), Ok(()));
    assert_eq!(rig.run(READ, 10, 10), Ok(()));
    assert_eq!(rig.write(1, 9, 2), Err(error));
    assert_eq!(rig.write(1, 19, 2), Err(error));
    assert_eq!(rig.write(1, 15, 1), Ok(()), "twice");
    assert_eq!(rig.device.hit_count(), 2);
    rig.device.inject(Rule::always(Affected::All, Effect::Fail(DeviceError::Internal)));
    assert_eq!(rig.run(OperationKind::Flush, 0, 0), Err(DeviceError::Internal));
    assert_eq!(rig.run(OperationKind::Deallocate, 0, 1), Err(DeviceError::Internal));
    rig.device.clear();
    assert_eq!(rig.run(OperationKind::Flush, 0, 0), Ok(()));
}

#[test]
fn chance_is_the_seeds() {
    let hits = |seed| -> Vec<bool> {
        let mut rig = rig(seed);
        rig.device.inject(Rule { one_in: 4, ..Rule::always(Affected::Read, Effect::Fail(DeviceError::ReadFault)) });
        (0..200).map(|_| rig.run(READ, 0, 1).is_err()).collect()
    };
    assert_eq!(hits(5), hits(5));
    assert_ne!(hits(5), hits(6));
    let count = hits(5).iter().filter(|hit| **hit).count();
    assert!((20..90).contains(&count), "{count} of 200");
}

#[test]
fn data_goes_bad_without_a_word() {
    let mut rig = rig(1);
    assert_eq!(rig.write(1, 0, 4), Ok(()));
    rig.device.inject(Rule { count: Some(1), ..Rule::always(Affected::Write, Effect::Lose) });
    assert_eq!(rig.write(2, 0, 4), Ok(()));
    assert!(rig.read(0, 4).iter().all(|byte| *byte == 1), "lost");
    rig.device.inject(Rule { count: Some(1), ..Rule::always(Affected::Write, Effect::Tear) });
    assert_eq!(rig.write(3, 0, 4), Ok(()));
    let read = rig.read(0, 4);
    assert!(read[..1024].iter().all(|byte| *byte == 3) && read[1024..].iter().all(|byte| *byte == 1), "torn");
    let corrupt = |offset| Effect::Corrupt { offset, flip: 0xF0 };
    rig.device.inject(Rule { count: Some(1), ..Rule::always(Affected::Read, corrupt(1500)) });
    let read = rig.read(0, 4);
    let wrong: Vec<usize> = (1024..2048).filter(|at| read[*at] != 1).collect();
    assert_eq!((wrong, read[1500]), (vec![1500], 0xF1));
    assert_eq!(rig.read(0, 4)[1500], 1, "on the medium it is as it was");
    rig.device.inject(Rule { count: Some(2), ..Rule::always(Affected::Write, corrupt(600)) });
    assert_eq!(rig.write(5, 0, 1), Ok(()), "it has no such byte");
    assert_eq!(rig.write(5, 0, 4), Ok(()));
    let read = rig.read(0, 4);
    let wrong: Vec<usize> = (0..2048).filter(|at| read[*at] != 5).collect();
    assert_eq!((wrong, read[600]), (vec![600], 0xF5));
}

#[test]
fn operations_are_late_or_stalled() {
    let mut rig = rig(1);
    rig.device.inject(Rule { count: Some(1), ..Rule::always(Affected::Read, Effect::Delay { poll_count: 5 }) });
    rig.submit(READ, 0, 1);
    let polls = (0..100).take_while(|_| rig.poll().is_none()).count();
    assert_eq!(polls, 5);
    rig.device.inject(Rule { count: Some(1), ..Rule::always(Affected::All, Effect::Stall) });
    rig.device.release_stalled();
    rig.submit(OperationKind::Flush, 0, 0);
    assert!((0..1000).all(|_| rig.poll().is_none()), "it came after the release");
    assert_eq!((rig.channel.outstanding_count(), rig.channel.arm()), (1, Rest::Poll));
    rig.channel.disarm();
    rig.device.release_stalled();
    assert_eq!((0..10).find_map(|_| rig.poll()), Some(Ok(())));
    assert_eq!(rig.channel.outstanding_count(), 0);
}

#[test]
fn without_room_an_operation_comes_before_the_rules_again() {
    let mut rig = rig(1);
    rig.device.inject(Rule { count: Some(3), ..Rule::always(Affected::Read, Effect::Refuse) });
    rig.submit(READ, 0, 1);
    assert_eq!((rig.channel.outstanding_count(), rig.channel.arm()), (1, Rest::Poll));
    rig.channel.disarm();
    let polls = (0..100).take_while(|_| rig.poll().is_none()).count();
    assert_eq!((polls, rig.device.hit_count()), (2, 3), "the third refusal is a poll's");
    assert_eq!(rig.channel.outstanding_count(), 0);
}

#[test]
fn faults_can_wait_for_a_queue_depth() {
    let mut rig = rig(1);
    rig.device
        .inject(Rule { outstanding_min: 2, ..Rule::always(Affected::Read, Effect::Fail(DeviceError::ReadFault)) });
    assert_eq!(rig.run(READ, 0, 1), Ok(()));
    let read = |token| Operation {
        token,
        host: 0,
        kind: READ,
        start_block: 0,
        block_count: 1,
        data: Some(rig.data.part(0, 512)),
    };
    rig.channel.submit(0, &mut (0..4).map(read).collect());
    let mut completions = Vec::new();
    while rig.channel.outstanding_count() > 0 {
        rig.channel.poll(0, &mut completions);
    }
    completions.sort_by_key(|completion| completion.token);
    let failed: Vec<u64> = completions.iter().filter(|c| c.result.is_err()).map(|c| c.token).collect();
    assert_eq!((completions.len(), failed), (4, vec![2, 3]));
}

#[test]
fn a_rule_takes_the_place_of_those_for_the_same_operations() {
    let mut rig = rig(1);
    let fail =
        |affected, count| Rule { count: Some(count), ..Rule::always(affected, Effect::Fail(DeviceError::Internal)) };
    for affected in [Affected::Read, Affected::Write] {
        rig.device.set(fail(affected, 5));
        rig.device.set(fail(affected, 1));
    }
    assert_eq!(rig.run(READ, 0, 1), Err(DeviceError::Internal));
    assert_eq!(rig.run(READ, 0, 1), Ok(()), "once");
    rig.device.set(fail(Affected::Write, 0));
    assert_eq!(rig.write(1, 0, 1), Ok(()), "never");
}

#[test]
fn a_device_that_goes_holds_nothing_back() {
    let mut rig = rig(1);
    rig.device.inject(Rule::always(Affected::All, Effect::Stall));
    rig.submit(READ, 0, 1);
    assert!((0..100).all(|_| rig.poll().is_none()));
    rig.device.let_go();
    assert_eq!((0..10).find_map(|_| rig.poll()), Some(Ok(())));
    assert_eq!(rig.run(READ, 0, 1), Ok(()), "nor what comes later");
}

#[test]
fn it_grows_with_the_device_below() {
    let null = Arc::new(crate::null::Null::new("n", 512, 100).unwrap());
    let device = Fault::new("fault", null, 1);
    let channel = device.open_channel().unwrap();
    let mut rig = Rig { device, channel, data: Arena::new(1 << 16, false).unwrap().segment() };
    assert_eq!(rig.run(READ, 150, 1), Err(DeviceError::OutOfRange));
    rig.device.resize(200).unwrap();
    assert_eq!(rig.device.geometry().block_count, 200);
    assert_eq!(rig.run(READ, 150, 1), Ok(()));
}

#[test]
fn sets_of_blocks_agree_with_a_model() {
    let (mut set, mut model) = (Uncorrectable::default(), [false; 64]);
    let mut random = 0x9E37_79B9_u64;
    for _ in 0..5000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let start = random % 60;
        let end = start + 1 + (random >> 8) % (64 - start);
        let is_insert = random & (1 << 40) != 0;
        if is_insert {
            set.insert(start, end);
        } else {
            set.remove(start, end);
        }
        model[start as usize..end as usize].fill(is_insert);
        for (block, is_in) in (0_u64..).zip(model) {
            assert_eq!(set.hits(block, block + 1), is_in);
        }
    }
}

/// Notes what it is asked to do, and does nothing.
#[derive(Debug, Default)]
struct Recorder(Arc<Mutex<Vec<OperationKind>>>);

struct RecorderChannel(Arc<Mutex<Vec<OperationKind>>>, VecDeque<Completion>);

impl Device for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn product(&self) -> &'static str {
        "Recorder"
    }

    fn geometry(&self) -> Geometry {
        Geometry { volatile_write_cache: true, ..Geometry::plain(512, 100, 100) }
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        Ok(Box::new(RecorderChannel(Arc::clone(&self.0), VecDeque::new())))
    }
}

impl Channel for RecorderChannel {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        for operation in operations.drain(..) {
            self.0.lock().unwrap().push(operation.kind);
            self.1.push_back(Completion { token: operation.token, result: Ok(()) });
        }
    }

    fn poll(&mut self, _now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        completions.extend(self.1.drain(..));
        Progress::Idle
    }

    fn outstanding_count(&self) -> usize {
        self.1.len()
    }
}

#[test]
fn a_disk_can_lie_about_what_is_durable() {
    let recorder = Recorder::default();
    let seen = Arc::clone(&recorder.0);
    let device = Fault::new("fault", Arc::new(recorder), 1);
    let channel = device.open_channel().unwrap();
    let mut rig = Rig { device, channel, data: Arena::new(1 << 16, false).unwrap().segment() };
    let forced = OperationKind::Write { force_unit_access: true };
    let zeroes = |force_unit_access| OperationKind::WriteZeroes { deallocate: true, force_unit_access };
    let mut after = |rule: Option<Rule>| {
        rule.map_or_else(|| rig.device.clear(), |rule| rig.device.inject(rule));
        assert_eq!(rig.run(forced, 0, 1), Ok(()));
        assert_eq!(rig.run(zeroes(true), 0, 1), Ok(()));
        assert_eq!(rig.run(OperationKind::Flush, 0, 0), Ok(()));
        std::mem::take(&mut *seen.lock().unwrap())
    };
    assert_eq!(after(None), [forced, zeroes(true), OperationKind::Flush]);
    let unforced = after(Some(Rule::always(Affected::Write, Effect::Unforce)));
    assert_eq!(unforced, [WRITE, zeroes(false), OperationKind::Flush]);
    after(None);
    assert_eq!(after(Some(Rule::always(Affected::Flush, Effect::Lose))), [forced, zeroes(true)]);
}

#[test]
fn a_stall_ends_when_its_time_is_over() {
    let mut rig = rig(1);
    rig.device.inject(Rule { count: Some(1), ..Rule::always(Affected::Read, Effect::StallFor { ns: 1000 }) });
    rig.submit(READ, 0, 1);
    let mut completions = Vec::new();
    for now_ns in [0, 500, 999] {
        rig.channel.poll(now_ns, &mut completions);
        assert_eq!((completions.len(), rig.channel.arm()), (0, Rest::Poll), "{now_ns}");
        rig.channel.disarm();
    }
    rig.channel.poll(1000, &mut completions);
    rig.channel.poll(1000, &mut completions);
    assert_eq!(completions, [Completion { token: 7, result: Ok(()) }]);

    // Released before that, and cancelled.
    rig.device.inject(Rule::always(Affected::Read, Effect::StallFor { ns: u64::MAX }));
    rig.submit(READ, 0, 1);
    assert_eq!(rig.poll(), None);
    rig.device.release_stalled();
    assert_eq!((0..3).find_map(|_| rig.poll()), Some(Ok(())));
    rig.submit(READ, 0, 1);
    assert!(rig.channel.cancel(7));
    assert_eq!(rig.poll(), Some(Err(DeviceError::Cancelled)));
}
