#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;

use reactor::{Arena, Rest, Segment};

use super::*;
use crate::channel::{Completion, Operation, OperationKind};
use crate::device::DeviceError;
use crate::null::Null;

const READ: OperationKind = OperationKind::Read;
const WRITE: OperationKind = OperationKind::Write { force_unit_access: false };

fn delay(latencies: Latencies, seed: u64) -> Delay {
    Delay::new("d", Arc::new(Null::new("n", 512, 1000).unwrap()), latencies, seed).unwrap()
}

fn data() -> Segment {
    Arena::new(512, false).unwrap().segment().part(0, 512)
}

fn operation(token: u64, kind: OperationKind, data: Segment) -> Operation {
    let has_data = matches!(kind, OperationKind::Read | OperationKind::Write { .. });
    let block_count = u64::from(kind != OperationKind::Flush);
    Operation { token, host: 0, kind, start_block: 0, block_count, data: has_data.then_some(data) }
}

fn poll(channel: &mut dyn Channel, now_ns: u64) -> Vec<Completion> {
    let mut completions = Vec::new();
    channel.poll(now_ns, &mut completions);
    completions
}

fn tokens(completions: &[Completion]) -> Vec<u64> {
    completions.iter().map(|completion| completion.token).collect()
}

#[test]
fn each_kind_is_held_back_for_its_time_to_the_nanosecond() {
    let device = delay(Latencies { read_us: 10, read_p99_us: 10, write_us: 30, write_p99_us: 30 }, 1);
    let (mut channel, data) = (device.open_channel().unwrap(), data());
    let kinds = [WRITE, READ, OperationKind::Flush, OperationKind::Deallocate];
    channel.submit(1000, &mut (0..).zip(kinds).map(|(token, kind)| operation(token, kind, data)).collect());
    assert_eq!(tokens(&poll(&mut *channel, 1000)), [2], "a flush is not held back");
    assert_eq!(channel.arm(), Rest::SleepUntil(11_000));
    channel.disarm();
    assert!(poll(&mut *channel, 10_999).is_empty());
    assert_eq!(tokens(&poll(&mut *channel, 11_000)), [1]);
    assert_eq!(channel.arm(), Rest::SleepUntil(31_000));
    channel.disarm();
    assert!(poll(&mut *channel, 30_999).is_empty());
    assert_eq!(tokens(&poll(&mut *channel, 40_000)), [0, 3]);
    assert_eq!((channel.outstanding_count(), channel.arm()), (0, Rest::Sleep));
}

#[test]
fn one_of_a_hundred_takes_the_longer_time_by_seed_and_channel() {
    let late = |seed, channel_number: usize| -> Vec<u64> {
        let device = delay(Latencies { read_us: 1, read_p99_us: 50, ..Latencies::default() }, seed);
        let mut channels: Vec<_> = (0..=channel_number).map(|_| device.open_channel().unwrap()).collect();
        let (channel, data) = (&mut *channels[channel_number], data());
        let mut late = Vec::new();
        for round in 0..100 {
            let now_ns = round * 1_000_000;
            channel.submit(now_ns, &mut (0..100).map(|n| operation(round * 100 + n, READ, data)).collect());
            assert!(poll(channel, now_ns).is_empty());
            let soon = poll(channel, now_ns + 1000).len();
            let rest = poll(channel, now_ns + 50_000);
            assert_eq!(soon + rest.len(), 100);
            late.extend(tokens(&rest));
        }
        late
    };
    let first = late(7, 0);
    assert!((60..150).contains(&first.len()), "{} of 10000", first.len());
    assert_eq!(first, late(7, 0));
    assert_ne!(first, late(8, 0));
    assert_ne!(first, late(7, 1), "channels draw for themselves");
}

#[test]
fn latencies_are_changed_while_it_runs_and_too_long_ones_refused() {
    let device = delay(Latencies::default(), 1);
    let (mut channel, data) = (device.open_channel().unwrap(), data());
    channel.submit(0, &mut VecDeque::from([operation(1, READ, data)]));
    assert_eq!(tokens(&poll(&mut *channel, 0)), [1]);
    for kind in [LatencyKind::Read, LatencyKind::ReadP99] {
        device.set_latency(kind, 5).unwrap();
    }
    assert_eq!(device.latencies(), Latencies { read_us: 5, read_p99_us: 5, ..Latencies::default() });
    channel.submit(0, &mut VecDeque::from([operation(2, READ, data)]));
    assert!(poll(&mut *channel, 4999).is_empty(), "counted from this poll, in which the device below was done");
    assert!(poll(&mut *channel, 9998).is_empty());
    assert_eq!(tokens(&poll(&mut *channel, 9999)), [2]);
    let error = device.set_latency(LatencyKind::Write, LATENCY_US_MAX + 1).unwrap_err();
    assert_eq!(error.to_string(), "d: latency is 86400000001 µs: at most a day, in µs");
}

#[test]
fn what_is_held_back_can_be_cancelled_and_let_go() {
    let day = Latencies { read_us: LATENCY_US_MAX, read_p99_us: LATENCY_US_MAX, ..Latencies::default() };
    let device = delay(day, 1);
    let (mut channel, data) = (device.open_channel().unwrap(), data());
    channel.submit(0, &mut (1..=3).map(|token| operation(token, READ, data)).collect());
    assert!(poll(&mut *channel, 0).is_empty());
    assert_eq!([2, 2, 9].map(|token| channel.cancel(token)), [true, false, false]);
    assert_eq!(channel.arm(), Rest::Poll);
    channel.disarm();
    assert_eq!(poll(&mut *channel, 1), [Completion { token: 2, result: Err(DeviceError::Cancelled) }]);
    device.let_go();
    assert_eq!(tokens(&poll(&mut *channel, 2)), [1, 3]);
    assert_eq!(channel.outstanding_count(), 0);
}
