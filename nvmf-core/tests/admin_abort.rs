//! Abort: what waits is ended, here and on other CPUs; what cannot be ended goes on, and the answer says so.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::Arc;

use harness::device::TestDevice;
use harness::{Conn, NQN, OP_READ, OP_WRITE, Options, World, command, io, keyed, namespace};
use nvmf_core::DisconnectReason;
use nvmf_core::status::Status;
use nvmf_core::wire::SglDescriptor;

const ABORTED: (Status, u64) = (Status::SUCCESS, 0);
const NOT_ABORTED: (Status, u64) = (Status::SUCCESS, 1);

fn world() -> (World, Arc<TestDevice>) {
    let disk = Arc::new(TestDevice::new("disk", 4096));
    let world = World::new(Options::new(vec![namespace(1, Arc::clone(&disk) as Arc<dyn bdev::Device>)]));
    (world, disk)
}

fn abort_command(command_id: u16, sqid: u32, target: u16) -> [u8; 64] {
    let what = sqid | u32::from(target) << 16;
    command(0x08, command_id, 0, SglDescriptor::NO_DATA, [what, 0, 0, 0]).to_bytes()
}

/// Abort and its answer.
fn abort(world: &mut World, admin: Conn, sqid: u32, target: u16) -> (Status, u64) {
    let response = world.execute(admin, abort_command(0xAB, sqid, target), &[]);
    (response.status(), response.result.get())
}

fn write(id: u16) -> [u8; 64] {
    io(OP_WRITE, id, 0, 8, keyed(8192, 4096))
}

/// How the commands of a queue have ended, in order, but for Connect.
fn ends(world: &World, queue: Conn) -> Vec<(u16, Status)> {
    world.responses(queue)[1..].iter().map(|response| (response.command_id.get(), response.status())).collect()
}

#[test]
fn a_transfer_under_way_ends_when_it_comes_back() {
    for cpu in [0, 1] {
        let (mut world, disk) = world();
        let (admin, id) = world.attach(0);
        let queue = world.connect_io(cpu, id, 1);
        world.wire(cpu).hold_pulls = true;
        world.send(queue, write(5), &[]);
        world.run(60);
        let before = world.responses(admin).len();
        world.send(admin, abort_command(0xAB, 1, 5), &[]);
        // A second one finds that somebody waits for it already.
        world.send(admin, abort_command(0xAC, 1, 5), &[]);
        world.run(100);
        let answers = |world: &World| -> Vec<(u16, u64)> {
            world.responses(admin)[before..].iter().map(|r| (r.command_id.get(), r.result.get())).collect()
        };
        assert_eq!((ends(&world, queue), answers(&world)), (vec![], vec![(0xAC, 1)]), "CPU {cpu}");
        world.wire(cpu).hold_pulls = false;
        world.run(100);
        assert_eq!(ends(&world, queue), [(5, Status::ABORT_REQUESTED)]);
        assert_eq!(answers(&world), [(0xAC, 1), (0xAB, 0)]);
        assert!(disk.state.lock().unwrap().seen.is_empty(), "the device never heard of it");
        // Its slot and buffer serve the next one.
        assert_eq!(world.execute(queue, write(5), &[]).status(), Status::SUCCESS);
        world.shut_down();
    }
}

#[test]
fn what_a_device_works_on_goes_on() {
    for cpu in [0, 1] {
        let (mut world, disk) = world();
        let (admin, id) = world.attach(0);
        let queue = world.connect_io(cpu, id, 1);
        disk.state.lock().unwrap().hold = true;
        world.send(queue, write(5), &[]);
        world.run(60);
        assert_eq!(abort(&mut world, admin, 1, 5), NOT_ABORTED);
        assert_eq!(abort(&mut world, admin, 1, 6), NOT_ABORTED, "no such command");
        assert_eq!(abort(&mut world, admin, 9, 5), NOT_ABORTED, "no such queue");
        assert_eq!(abort(&mut world, admin, 0, 0xAB), NOT_ABORTED, "itself");
        disk.state.lock().unwrap().hold = false;
        world.run(60);
        assert_eq!(ends(&world, queue), [(5, Status::SUCCESS)]);
        world.shut_down();
    }
}

#[test]
fn what_a_device_can_stop_ends_as_aborted() {
    for cpu in [0, 1] {
        let (mut world, disk) = world();
        let (admin, id) = world.attach(0);
        let queue = world.connect_io(cpu, id, 1);
        {
            let mut state = disk.state.lock().unwrap();
            (state.hold, state.cancels) = (true, true);
        }
        // The device takes two; the others wait for room in it.
        for id in 1..=4 {
            world.send(queue, write(id), &[]);
        }
        world.run(60);
        assert_eq!(abort(&mut world, admin, 1, 2), ABORTED, "CPU {cpu}: with the device");
        assert_eq!(abort(&mut world, admin, 1, 4), ABORTED, "CPU {cpu}: not yet");
        assert_eq!(ends(&world, queue), [(2, Status::ABORT_REQUESTED), (4, Status::ABORT_REQUESTED)]);
        disk.state.lock().unwrap().hold = false;
        world.run(100);
        let ended: Vec<u16> = ends(&world, queue).iter().map(|end| end.0).collect();
        assert_eq!(ended, [2, 4, 1, 3]);
        let counted = &world.statistics[0][usize::from(cpu)];
        assert_eq!(counted.error_count(bdev::DeviceError::Cancelled), 2);
        let writes = counted.class(bdev::Class::Write);
        assert_eq!((writes.operation_count.value(), writes.byte_count.value()), (4, 2 * 4096));
        assert_eq!((counted.outstanding.value(), counted.outstanding_max.value()), (0, 4));
        world.shut_down();
    }
}

#[test]
fn a_command_that_waits_for_a_buffer_ends_at_once() {
    let disk = Arc::new(TestDevice::new("disk", 4096));
    let mut options = Options::new(vec![namespace(1, Arc::clone(&disk) as Arc<dyn bdev::Device>)]);
    // One large buffer.
    options.data_memory_len = 128 << 10;
    let mut world = World::new(options);
    let (admin, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    disk.state.lock().unwrap().hold = true;
    let large = |id| io(OP_READ, id, 0, 256, keyed(8192, 128 << 10));
    world.wire(1).registered = false;
    for id in 1..=3 {
        world.send(queue, large(id), &[]);
    }
    world.run(60);
    assert_eq!(world.counters(1).buffers_awaited.value(), 2);
    assert_eq!(abort(&mut world, admin, 1, 2), ABORTED);
    assert_eq!(ends(&world, queue), [(2, Status::ABORT_REQUESTED)]);
    disk.state.lock().unwrap().hold = false;
    world.run(100);
    let ended: Vec<u16> = ends(&world, queue).iter().map(|end| end.0).collect();
    assert_eq!(ended, [2, 1, 3]);
    world.shut_down();
}

#[test]
fn a_command_that_a_pause_holds_back_ends_at_once() {
    let (mut world, _) = world();
    let (admin, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    let pause = world.change(|target| target.pause_subsystem(NQN)).unwrap();
    world.finish(pause);
    world.send(queue, write(5), &[]);
    world.send(queue, write(6), &[]);
    world.run(60);
    assert_eq!(world.counters(1).requests_parked.value(), 2);
    assert_eq!(abort(&mut world, admin, 1, 5), ABORTED);
    let resume = world.change(|target| target.resume_subsystem(NQN)).unwrap();
    world.finish(resume);
    world.run(60);
    assert_eq!(ends(&world, queue), [(5, Status::ABORT_REQUESTED), (6, Status::SUCCESS)]);
    world.shut_down();
}

#[test]
fn aborts_have_a_limit_and_end_with_their_queues() {
    for ends_first in ["member", "admin"] {
        let (mut world, _) = world();
        let (admin, id) = world.attach(0);
        let queue = world.connect_io(1, id, 1);
        world.wire(1).hold_pulls = true;
        for id in 1..=5 {
            world.send(queue, write(id), &[]);
        }
        world.run(60);
        let before = world.responses(admin).len();
        for id in 1..=5 {
            world.send(admin, abort_command(0xA0 + id, 1, id), &[]);
        }
        world.run(100);
        let answers: Vec<_> =
            world.responses(admin)[before..].iter().map(|r| (r.command_id.get(), r.status())).collect();
        assert_eq!(answers, [(0xA5, Status::ABORT_LIMIT_EXCEEDED)], "ACL");
        world.disconnect(if ends_first == "member" { queue } else { admin }, DisconnectReason::Host);
        world.run(300);
        if ends_first == "member" {
            let answers = world.responses(admin);
            assert!(answers[before + 1..].iter().all(|answer| (answer.status(), answer.result.get()) == NOT_ABORTED));
            assert_eq!(answers.len(), before + 5);
        }
        world.wire(1).hold_pulls = false;
        world.shut_down();
    }
}
