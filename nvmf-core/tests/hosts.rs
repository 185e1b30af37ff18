//! Hosts beside each other on one CPU: none has more in flight than it may, and none waits for all that another has asked for.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::{Arc, Mutex};

use harness::device::{State, TestDevice};
use harness::{Conn, Connect, OP_READ, OP_WRITE, Options, World, command, io, keyed, namespace};
use nvmf_core::DisconnectReason;
use nvmf_core::spec::{ControllerSpec, HostLimits};
use nvmf_core::status::Status;
use nvmf_core::wire::SglDescriptor;

const OTHER_HOST: &str = "nqn.2026-11.io.quiesce:other";

/// Two hosts with a queue each on CPU 0; the device holds what it gets.
fn two_hosts(limits: HostLimits, data_memory_len: usize) -> (World, Conn, [Conn; 2], Arc<Mutex<State>>) {
    let device = TestDevice::new("disk", 2048);
    let state = Arc::clone(&device.state);
    let mut options = Options::new(vec![namespace(1, Arc::new(device))]);
    options.data_memory_len = data_memory_len;
    options.controller = ControllerSpec { transfer_len_max: 16 * 1024, host: limits, ..ControllerSpec::default() };
    let mut world = World::new(options);
    let (admin, id) = world.attach(0);
    let first = world.connect_io(0, id, 1);
    let other = |qid, controller_id| Connect {
        host_nqn: OTHER_HOST.into(),
        host_id: [9; 16],
        controller_id,
        ..Connect::new(qid, if qid == 0 { 32 } else { 16 })
    };
    let other_admin = world.open(0, 0, 32);
    let response = world.execute_connect(other_admin, &other(0, 0xFFFF));
    world.enable(other_admin);
    let second = world.open(0, 1, 16);
    let response = world.execute_connect(second, &other(1, response.result.get() as u16));
    assert_eq!(response.status(), Status::SUCCESS);
    state.lock().unwrap().hold = true;
    (world, admin, [first, second], state)
}

fn read(world: &mut World, queue: Conn, id: u16, len: u32) {
    world.send(queue, io(OP_READ, id, u64::from(id), len / 512, keyed(0, len)), &[]);
}

fn answered(world: &World, queue: Conn) -> Vec<u16> {
    world.responses(queue)[1..].iter().map(|response| response.command_id.get()).collect()
}

#[test]
fn hosts_take_turns_for_buffers() {
    // Half of it is three large buffers.
    let (mut world, _, [first, second], state) = two_hosts(HostLimits::default(), 96 * 1024);
    for id in 0..12 {
        read(&mut world, first, id, 16 * 1024);
    }
    world.run(60);
    for id in 0..2 {
        read(&mut world, second, id, 16 * 1024);
    }
    world.run(60);
    assert_eq!(world.counters(0).buffers_awaited.value(), 11);
    let before = state.lock().unwrap().seen.len();
    assert_eq!(before, 3);
    // The second host's two wait behind at most two more of the first's each, not behind nine.
    state.lock().unwrap().hold = false;
    while answered(&world, second).len() < 2 {
        world.run(1);
    }
    let passed = answered(&world, first).len();
    assert!(passed <= 7, "{passed} of the first host were answered before");
    world.run(200);
    assert_eq!(answered(&world, first), (0..12).collect::<Vec<_>>());
    assert_eq!(answered(&world, second), [0, 1]);
    world.shut_down();
}

#[test]
fn a_host_has_no_more_commands_in_flight_than_it_may_and_the_other_is_not_disturbed() {
    let limits = HostLimits { command_count_max: 4, ..HostLimits::default() };
    let (mut world, admin, [first, second], state) = two_hosts(limits, 1 << 20);
    for id in 0..10 {
        read(&mut world, first, id, 512);
    }
    for id in 0..3 {
        read(&mut world, second, id, 512);
    }
    world.run(60);
    let counters = world.counters(0);
    assert_eq!(state.lock().unwrap().seen.len(), 4 + 3);
    assert_eq!((counters.host_shares_awaited.value(), counters.host_limit_count.value()), (6, 6));
    // One that waits can be aborted.
    let abort = command(0x08, 77, 0, SglDescriptor::NO_DATA, [7 << 16 | 1, 0, 0, 0]).to_bytes();
    assert_eq!(world.execute(admin, abort, &[]).result.get(), 0, "aborted");
    assert_eq!(counters.host_shares_awaited.value(), 5);
    state.lock().unwrap().hold = false;
    world.run(300);
    assert_eq!(answered(&world, first), [7, 0, 1, 2, 3, 4, 5, 6, 8, 9]);
    assert_eq!(answered(&world, second), [0, 1, 2]);
    assert_eq!(counters.host_shares_awaited.value(), 0);
    world.shut_down();
}

#[test]
fn bytes_in_flight_are_limited_and_one_command_always_goes() {
    let limits = HostLimits { data_len_max: 8192, ..HostLimits::default() };
    let (mut world, _, [first, _], state) = two_hosts(limits, 1 << 20);
    for (id, len) in [(0, 4096), (1, 4096), (2, 512), (3, 16 * 1024), (4, 512)] {
        read(&mut world, first, id, len);
    }
    world.run(60);
    assert_eq!(state.lock().unwrap().seen.len(), 2, "the third would be more than 8192 bytes");
    state.lock().unwrap().hold = false;
    world.run(300);
    assert_eq!(answered(&world, first), [0, 1, 2, 3, 4]);
    world.shut_down();
}

#[test]
fn what_waits_goes_with_its_qpair_and_what_was_in_flight_comes_back() {
    let limits = HostLimits { command_count_max: 2, ..HostLimits::default() };
    let (mut world, _, [first, second], state) = two_hosts(limits, 1 << 20);
    for id in 0..8 {
        read(&mut world, first, id, 512);
        read(&mut world, second, id, 512);
    }
    world.run(60);
    assert_eq!(world.counters(0).host_shares_awaited.value(), 12);
    world.disconnect(first, DisconnectReason::PeerGone);
    world.run(100);
    assert_eq!(world.counters(0).host_shares_awaited.value(), 6);
    assert!(!world.is_closed(first), "two operations are outstanding");
    state.lock().unwrap().hold = false;
    world.run(300);
    assert!(world.is_closed(first));
    assert_eq!(answered(&world, second), (0..8).collect::<Vec<_>>());
    world.shut_down();
}

/// Others of the host may wait for its share while they have what the end of the queue waits for: so the share goes back first.
#[test]
fn what_is_dropped_gives_its_share_back_before_its_queue_has_ended() {
    let limits = HostLimits { command_count_max: 1, ..HostLimits::default() };
    let (mut world, admin, [first, _], state) = two_hosts(limits, 1 << 20);
    state.lock().unwrap().hold = false;
    let id = u16::try_from(world.responses(admin)[0].result.get() & 0xFFFF).unwrap();
    let sister = world.connect_io(0, id, 2);
    world.wire(0).hold_pulls = true;
    world.send(first, io(OP_WRITE, 1, 0, 1, keyed(0, 512)), &[]);
    world.run(60);
    read(&mut world, sister, 1, 512);
    world.run(60);
    assert_eq!(world.counters(0).host_shares_awaited.value(), 1);
    world.wire(0).hold_teardown = true;
    world.disconnect(first, DisconnectReason::PeerGone);
    world.run(60);
    assert!(!world.is_closed(first));
    assert_eq!(answered(&world, sister), [1]);
    world.wire(0).hold_teardown = false;
    world.wire(0).hold_pulls = false;
    world.shut_down();
}
