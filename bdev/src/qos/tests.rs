#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests, on small numbers")]

use std::collections::VecDeque;

use reactor::{Arena, Rest, Segment};

use super::*;
use crate::channel::{Channel, Completion, Operation};
use crate::device::{Device, DeviceError};
use crate::memory::Memory;
use crate::null::Null;

const READ: OperationKind = OperationKind::Read;
const WRITE: OperationKind = OperationKind::Write { force_unit_access: false };
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// A host that has so many operations out all the time.
#[derive(Clone, Copy)]
struct Load {
    cpu: usize,
    host: u64,
    depth: u64,
    kind: OperationKind,
    block_count: u64,
}

fn load(cpu: usize, host: u64, depth: u64) -> Load {
    Load { cpu, host, depth, kind: READ, block_count: 1 }
}

/// Gates of several CPUs before a device that is done at once, on one clock.
struct World {
    throttle: Arc<Throttle>,
    gates: Vec<Gate>,
    data: Segment,
    loads: Vec<Load>,
    /// Of each load.
    done: Vec<u64>,
    waiting: Vec<VecDeque<Operation>>,
    now_ns: u64,
}

impl World {
    fn new(cpu_count: usize, limits: Limits, loads: &[Load]) -> Self {
        let throttle = Arc::new(Throttle::default());
        throttle.set(limits);
        let device = Null::new("n", 512, 1 << 20).unwrap();
        let gate = || Gate::new(device.open_channel().unwrap(), Arc::clone(&throttle), 512);
        let gates = (0..cpu_count).map(|_| gate()).collect();
        let data = Arena::new(1 << 20, false).unwrap().segment();
        let mut waiting = vec![VecDeque::new(); cpu_count];
        for (number, load) in loads.iter().enumerate() {
            waiting[load.cpu].extend((0..load.depth).map(|_| operation(number as u64, load, data)));
        }
        let done = vec![0; loads.len()];
        Self { throttle, gates, data, loads: loads.to_vec(), done, waiting, now_ns: 5 * SECOND }
    }

    /// Turns of so many ns, CPU after CPU, for so long. What ends is begun anew.
    fn run(&mut self, for_ns: u64, turn_ns: u64) {
        let end_ns = self.now_ns + for_ns;
        let mut completions: Vec<Completion> = Vec::new();
        while self.now_ns < end_ns {
            for (gate, waiting) in self.gates.iter_mut().zip(&mut self.waiting) {
                gate.submit(self.now_ns, waiting);
                gate.poll(self.now_ns, &mut completions);
                for completion in completions.drain(..) {
                    assert_eq!(completion.result, Ok(()));
                    let number = completion.token as usize;
                    self.done[number] += 1;
                    waiting.push_back(operation(completion.token, &self.loads[number], self.data));
                }
            }
            self.now_ns += turn_ns;
        }
    }

    /// Operations that ended in this time.
    fn count(&mut self, for_ns: u64, turn_ns: u64) -> Vec<u64> {
        let before = self.done.clone();
        self.run(for_ns, turn_ns);
        self.done.iter().zip(before).map(|(done, before)| done - before).collect()
    }
}

fn operation(token: u64, load: &Load, data: Segment) -> Operation {
    let data = data.part(0, load.block_count as usize * 512);
    Operation {
        token,
        host: load.host,
        kind: load.kind,
        start_block: 0,
        block_count: load.block_count,
        data: Some(data),
    }
}

fn device(rates: Rates) -> Limits {
    Limits { device: rates, ..Limits::default() }
}

fn operations(operations: u64) -> Rates {
    Rates { operations, ..Rates::default() }
}

#[track_caller]
fn assert_near(what: &str, got: u64, wanted: u64, percent: u64) {
    assert!(got.abs_diff(wanted) * 100 <= wanted * percent, "{what}: {got}, and {wanted} were wanted");
}

#[test]
fn the_long_run_is_exact_at_any_rate_length_of_turns_and_number_of_cpus() {
    for cpu_count in [1, 2, 5] {
        for (rate, seconds) in [(20, 20), (1000, 4), (100_000, 1), (700_000, 1)] {
            for turn_ns in [7_000, 50_000, 300_000, 1_300_000, 6_000_000] {
                // A channel of the device below holds 256.
                if rate * turn_ns / SECOND > 128 * cpu_count as u64 {
                    continue;
                }
                // What a turn can bring is what was out before it.
                let depth = (2 * rate * turn_ns / SECOND).max(8);
                let loads: Vec<Load> = (0..cpu_count).map(|cpu| load(cpu, cpu as u64, depth)).collect();
                let mut world = World::new(cpu_count, device(operations(rate)), &loads);
                world.run(SECOND / 2, turn_ns);
                let count: u64 = world.count(seconds * SECOND, turn_ns).iter().sum();
                assert_near(&format!("{rate} on {cpu_count}, turns of {turn_ns} ns"), count, rate * seconds, 2);
            }
        }
    }
}

#[test]
fn bytes_and_both_directions_have_limits_of_their_own() {
    let mib = 1 << 20;
    let rates = Rates { read_bytes: 100 * mib, write_bytes: 40 * mib, writes: 50_000, ..Rates::default() };
    let loads = [
        Load { block_count: 8, ..load(0, 1, 64) },
        Load { kind: WRITE, block_count: 32, ..load(0, 1, 64) },
        Load { kind: WRITE, block_count: 1, ..load(1, 2, 64) },
    ];
    let mut world = World::new(2, device(rates), &loads);
    world.run(SECOND / 2, 20_000);
    let counts = world.count(2 * SECOND, 20_000);
    assert_near("read", counts[0] * 4096, 200 * mib, 2);
    assert_near("written", counts[1] * 16384 + counts[2] * 512, 80 * mib, 2);
    // The scarcer of two limits holds.
    let both = Rates { operations: 1000, bytes: 100 * mib, ..Rates::default() };
    let mut world = World::new(1, device(both), &[Load { block_count: 256, ..load(0, 1, 32) }]);
    world.run(SECOND, 20_000);
    assert_near("of 128 KiB", world.count(2 * SECOND, 20_000)[0], 1600, 2);
}

#[test]
fn a_burst_is_what_was_left_unused_and_no_more() {
    let limits = Limits { burst_ms: 100, ..device(operations(10_000)) };
    let mut world = World::new(2, limits, &[load(0, 1, 5000), load(1, 2, 5000)]);
    world.run(20, 1);
    let at_once: u64 = world.done.iter().sum();
    assert!((500..=1010).contains(&at_once), "{at_once} at once, and a burst is 1000");
    let soon: u64 = world.count(20 * MS, 10_000).iter().sum::<u64>() + at_once;
    assert!((1000..=1250).contains(&soon), "{soon} in 20 ms, and 1200 are a burst and their own");
    // Idle again: the burst is there again, once.
    world.waiting.iter_mut().for_each(VecDeque::clear);
    world.now_ns += 10 * SECOND;
    let soon: u64 = world.count(20 * MS, 10_000).iter().sum();
    assert!(soon <= 1250, "{soon}");
}

#[test]
fn hosts_of_one_device_have_fair_turns_whatever_their_depths() {
    for host_count in [2, 3, 8, 16] {
        let loads: Vec<Load> = (0..host_count).map(|host| load(0, host, 4 << (host % 6))).collect();
        let mut world = World::new(1, device(operations(100_000)), &loads);
        world.run(SECOND / 5, 10_000);
        for (host, count) in world.count(SECOND, 10_000).into_iter().enumerate() {
            assert_near(&format!("host {host} of {host_count}"), count, 100_000 / host_count, 5);
        }
    }
    // Also where one writes large and the other reads small: in bytes, if those are what is scarce.
    let loads = [load(0, 1, 64), Load { kind: WRITE, block_count: 128, ..load(0, 2, 4) }];
    let rates = Rates { bytes: 64 << 20, ..Rates::default() };
    let mut world = World::new(1, device(rates), &loads);
    world.run(SECOND / 5, 10_000);
    let counts = world.count(2 * SECOND, 10_000);
    assert_near("small", counts[0] * 512, 64 << 20, 5);
    assert_near("large", counts[1] * 65536, 64 << 20, 5);
}

#[test]
fn hosts_on_several_cpus_have_fair_shares_too() {
    // Three hosts on one CPU, one on the other; and one that is on both beside one that is on one.
    for (loads, shares) in [
        (
            vec![load(0, 1, 16), load(0, 2, 64), load(0, 3, 32), load(1, 4, 128)],
            vec![vec![0], vec![1], vec![2], vec![3]],
        ),
        (vec![load(0, 1, 64), load(1, 1, 64), load(1, 2, 16)], vec![vec![0, 1], vec![2]]),
    ] {
        let mut world = World::new(2, device(operations(80_000)), &loads);
        world.run(SECOND / 2, 20_000);
        let counts = world.count(2 * SECOND, 20_000);
        for share in &shares {
            let count = share.iter().map(|number| counts[*number]).sum();
            assert_near(&format!("{counts:?}"), count, 160_000 / shares.len() as u64, 10);
        }
    }
}

#[test]
fn what_one_cpu_leaves_unused_another_has() {
    let mut world = World::new(3, device(operations(50_000)), &[load(0, 1, 64), load(1, 2, 1)]);
    // The second has one operation for each of its turns, and those are long.
    world.run(SECOND / 5, 2 * MS);
    let counts = world.count(2 * SECOND, 100_000);
    assert_near(&format!("{counts:?}"), counts.iter().sum(), 100_000, 2);
    // It has none at all: the third gate was never asked.
    let mut alone = World::new(3, device(operations(50_000)), &[load(2, 1, 64)]);
    alone.run(SECOND / 5, 20_000);
    assert_near("alone", alone.count(2 * SECOND, 20_000)[0], 100_000, 2);
}

#[test]
fn each_host_has_its_own_limit_over_all_cpus() {
    let limits = Limits { host: operations(10_000), ..Limits::default() };
    let loads = [load(0, 1, 64), load(1, 1, 64), load(0, 2, 64), load(1, 3, 4)];
    let mut world = World::new(2, limits, &loads);
    world.run(SECOND / 2, 20_000);
    let counts = world.count(2 * SECOND, 20_000);
    assert_near(&format!("{counts:?}"), counts[0] + counts[1], 20_000, 2);
    assert_near(&format!("{counts:?}"), counts[2], 20_000, 2);
    assert_near(&format!("{counts:?}"), counts[3], 20_000, 2);
    assert!(counts[0].min(counts[1]) > 5000, "each CPU of a host has some: {counts:?}");
    // Beside a limit of the device, which is scarcer than theirs together.
    let limits = Limits { device: operations(24_000), ..limits };
    world.throttle.set(limits);
    world.run(SECOND / 2, 20_000);
    let counts = world.count(2 * SECOND, 20_000);
    assert_near(&format!("{counts:?}"), counts.iter().sum(), 48_000, 2);
    assert!((counts[0] + counts[1]).max(counts[2]).max(counts[3]) <= 20_400, "{counts:?}");
}

#[test]
fn limits_change_while_operations_wait() {
    let mut world = World::new(2, device(operations(1)), &[load(0, 1, 32), load(1, 2, 32)]);
    world.run(SECOND / 10, 20_000);
    assert!(world.done.iter().sum::<u64>() <= 2, "one for each CPU at most");
    // A debt of a second was made at that rate: it is none at this.
    world.throttle.set(device(operations(40_000)));
    assert_near("raised", world.count(SECOND, 20_000).iter().sum(), 40_000, 3);
    world.throttle.set(device(Rates { read_bytes: 512 * 5000, ..Rates::default() }));
    world.run(SECOND / 10, 20_000);
    assert_near("lowered", world.count(SECOND, 20_000).iter().sum(), 5000, 2);
    world.throttle.set(Limits::default());
    world.run(20_000, 20_000);
    assert!(world.gates.iter().all(|gate| gate.queues.len() == 0), "all go");
    let count: u64 = world.count(20_000 * 1000, 20_000).iter().sum();
    assert_eq!(count, 64 * 1000, "each turn all");
    assert!(world.gates.iter().all(|gate| gate.is_open()));
}

#[test]
fn without_limits_everything_passes_and_reads_need_no_copy() {
    let memory = Memory::new("m", 512, 100, false).unwrap();
    let throttle = Arc::new(Throttle::default());
    let mut gate = Gate::new(memory.open_channel().unwrap(), Arc::clone(&throttle), 512);
    let other = Gate::new(memory.open_channel().unwrap(), Arc::clone(&throttle), 512);
    assert!(gate.in_place(3, 1).is_some() && other.in_place(3, 1).is_some());
    throttle.set(device(operations(5)));
    assert_eq!(gate.in_place(3, 1), None, "it would pass by the limit");
    throttle.set(Limits::default());
    gate.submit(0, &mut VecDeque::new());
    gate.poll(0, &mut Vec::new());
    assert!(gate.in_place(3, 1).is_some());
}

#[test]
fn a_waiting_operation_is_cancelled_and_costs_nothing() {
    let mut world = World::new(1, device(operations(10)), &[]);
    let data = world.data;
    let mut waiting: VecDeque<Operation> =
        (1..=5).map(|token| operation(token, &load(0, token % 2, 1), data)).collect();
    waiting.push_back(Operation {
        kind: OperationKind::Flush,
        block_count: 0,
        data: None,
        ..operation(6, &load(0, 1, 1), data)
    });
    let (gate, now_ns) = (&mut world.gates[0], world.now_ns);
    gate.submit(now_ns, &mut waiting);
    assert_eq!((waiting.len(), gate.outstanding_count()), (0, 6));
    let mut completions = Vec::new();
    gate.poll(now_ns, &mut completions);
    let mut tokens: Vec<u64> = completions.drain(..).map(|completion| completion.token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [1, 6], "the first, and what is not limited");
    assert_eq!([3, 3, 1, 9].map(|token| gate.cancel(token)), [true, false, false, false]);
    assert_eq!(gate.arm(), Rest::Poll);
    gate.disarm();
    gate.poll(now_ns, &mut completions);
    assert_eq!(completions, [Completion { token: 3, result: Err(DeviceError::Cancelled) }]);
    // The three that are left take 100 ms each.
    completions.clear();
    let mut at_ns = now_ns;
    let mut ended_ns = Vec::new();
    while gate.outstanding_count() > 0 {
        let Rest::SleepUntil(until_ns) = gate.arm() else { panic!("there is something to wait for, and only time") };
        gate.disarm();
        assert!(until_ns > at_ns && until_ns <= at_ns + 6 * MS, "{at_ns} to {until_ns}");
        at_ns = until_ns;
        gate.poll(at_ns, &mut completions);
        gate.poll(at_ns, &mut completions);
        ended_ns.extend(completions.drain(..).map(|_| at_ns - now_ns));
    }
    assert_eq!(ended_ns.len(), 3);
    for (number, ended_ns) in (1..).zip(ended_ns) {
        assert!(ended_ns.abs_diff(number * 100 * MS) <= 12 * MS, "{number} ended after {ended_ns} ns");
    }
}

#[test]
fn sleeping_until_there_are_tokens_is_as_exact_as_polling() {
    let mut world = World::new(1, device(operations(2000)), &[]);
    let (data, now_ns) = (world.data, world.now_ns);
    let gate = &mut world.gates[0];
    let mut waiting: VecDeque<Operation> =
        (0..4000).map(|token| operation(token, &load(0, token % 3, 1), data)).collect();
    let (mut completions, mut at_ns, mut sleep_count) = (Vec::new(), now_ns, 0_u64);
    gate.submit(at_ns, &mut waiting);
    while gate.outstanding_count() > 0 {
        match gate.arm() {
            Rest::SleepUntil(until_ns) => {
                sleep_count += 1;
                at_ns = until_ns.max(at_ns + 1);
            }
            Rest::Poll => {}
            Rest::Sleep => panic!("nobody would wake it"),
        }
        gate.disarm();
        gate.poll(at_ns, &mut completions);
    }
    assert_eq!(completions.len(), 4000);
    assert_near("ns", at_ns - now_ns, 2 * SECOND, 2);
    assert!(sleep_count < 12_000, "{sleep_count} sleeps for 4000 operations");
}

#[test]
fn what_has_no_bytes_passes_a_limit_of_bytes() {
    let mut world = World::new(1, device(Rates { bytes: 1 << 20, write_bytes: 1 << 20, ..Rates::default() }), &[]);
    let zeroes = OperationKind::WriteZeroes { deallocate: true, force_unit_access: false };
    let one = Operation { kind: zeroes, data: None, ..operation(1, &load(0, 1, 1), world.data) };
    let mut completions = Vec::new();
    world.gates[0].submit(world.now_ns, &mut VecDeque::from([one]));
    world.gates[0].poll(world.now_ns, &mut completions);
    assert_eq!(completions, [Completion { token: 1, result: Ok(()) }]);
}

#[test]
fn a_gate_is_bounded_and_keeps_the_order_of_what_it_leaves() {
    let mut world = World::new(1, device(operations(10)), &[]);
    let data = world.data;
    let mut waiting: VecDeque<Operation> = (0..20_000).map(|token| operation(token, &load(0, 1, 1), data)).collect();
    let (gate, now_ns) = (&mut world.gates[0], world.now_ns);
    gate.submit(now_ns, &mut waiting);
    assert_eq!(waiting.len() + gate.outstanding_count(), 20_000);
    assert_eq!((waiting.len(), waiting[0].token), (20_000 - (16 << 10), 16 << 10));
    world.throttle.set(Limits::default());
    let mut completions = Vec::new();
    for _ in 0..10_000 {
        world.gates[0].submit(now_ns, &mut waiting);
        world.gates[0].poll(now_ns, &mut completions);
    }
    completions.sort_by_key(|completion| completion.token);
    assert!(completions.iter().map(|completion| completion.token).eq(0..20_000));
}

#[test]
fn gates_that_go_leave_nothing_behind() {
    let mut world = World::new(4, device(operations(30_000)), &[load(0, 1, 64), load(3, 2, 64)]);
    world.run(SECOND / 10, 20_000);
    world.gates.truncate(1);
    world.waiting.truncate(1);
    world.run(SECOND / 10, 20_000);
    assert_near("the one that is left", world.count(SECOND, 20_000)[0], 30_000, 2);
    let shared = world.throttle.lock();
    assert_eq!(shared.seats.len(), 1);
}

#[test]
fn a_limit_that_a_submission_sees_first_holds() {
    let memory = Memory::new("m", 512, 100, false).unwrap();
    let throttle = Arc::new(Throttle::default());
    let mut gate = Gate::new(memory.open_channel().unwrap(), Arc::clone(&throttle), 512);
    throttle.set(device(operations(1000)));
    let kind = OperationKind::WriteZeroes { deallocate: false, force_unit_access: false };
    let operation = |token| Operation { token, host: 1, kind, start_block: 0, block_count: 1, data: None };
    let mut operations: VecDeque<Operation> = (0..64).map(operation).collect();
    let mut completions = Vec::new();
    gate.submit(SECOND, &mut operations);
    gate.poll(SECOND, &mut completions);
    assert_eq!(gate.in_place(3, 1), None);
    let at_once = completions.len();
    assert!(at_once < 20, "{at_once} at once of a burst of 10 ms");
    for ms in 1..100 {
        gate.poll(SECOND + ms * 1_000_000, &mut completions);
    }
    assert_eq!(completions.len(), 64, "nothing waits for ever");
}
