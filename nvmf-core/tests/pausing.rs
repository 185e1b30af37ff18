//! Pause and resume with I/O under way: nothing is lost, nothing fails, nothing touches a device of a paused subsystem.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::Arc;

use harness::device::TestDevice;
use harness::{Conn, NQN, OP_READ, OP_WRITE, Options, World, command, io, keyed, namespace};
use nvmf_core::status::Status;
use nvmf_core::{ChangeError, DisconnectReason};

const OP_ABORT: u8 = 0x08;

fn world(seed: u64) -> (World, Arc<TestDevice>) {
    let disk = Arc::new(TestDevice::new("disk", 1024));
    let mut options = Options::new(vec![namespace(1, Arc::clone(&disk) as Arc<dyn bdev::Device>)]);
    options.seed = seed;
    (World::new(options), disk)
}

/// Writes one block of `byte`.
fn send_write(world: &mut World, queue: Conn, id: u16, block: u64, byte: u8) {
    let at = 4096 + usize::from(id) * 512;
    world.host_write(queue.cpu, at, &[byte; 512]);
    world.send(queue, io(OP_WRITE, id, block, 1, keyed(at, 512)), &[]);
}

fn ids(world: &World, queue: Conn) -> Vec<u16> {
    let io = |id: &u16| *id < 0xC0;
    world.responses(queue).iter().map(|response| response.command_id.get()).filter(io).collect()
}

#[test]
fn what_was_begun_ends_and_what_comes_waits() {
    for seed in 0..200 {
        let (mut world, disk) = world(seed);
        let (admin, id) = world.attach(0);
        let queues = [world.connect_io(0, id, 1), world.connect_io(1, id, 2)];
        disk.state.lock().unwrap().hold = true;
        for queue in queues {
            send_write(&mut world, queue, 1, u64::from(queue.cpu), 1);
        }
        // Some are with the device by then, some are being pulled, some are not fetched yet.
        let steps = world.sim.random() as usize % 40;
        world.run(steps);
        let pause = world.change(|target| target.pause_subsystem(NQN)).unwrap();
        world.run(100);
        let begun: Vec<u64> = queues.map(|queue| world.counters(queue.cpu).device_leases.value()).to_vec();
        assert_eq!(
            world.is_done(pause),
            begun == [0, 0],
            "seed {seed}: it waits for what was begun, and only for that"
        );
        for queue in queues {
            for number in 2..6 {
                send_write(&mut world, queue, number, 8 + u64::from(number), number as u8);
            }
        }
        disk.state.lock().unwrap().hold = false;
        world.finish(pause);
        let submitted = disk.state.lock().unwrap().seen.len();
        world.run(200);
        assert_eq!(disk.state.lock().unwrap().seen.len(), submitted, "nothing touches the device");
        for queue in queues {
            let answered = ids(&world, queue).len() as u64;
            assert_eq!(answered, begun[usize::from(queue.cpu)]);
            assert_eq!(world.counters(queue.cpu).requests_parked.value(), 5 - answered);
        }
        // Everything but I/O is served.
        assert_eq!(
            world.execute(admin, command(0x18, 77, 0, keyed(0, 0), [0; 4]).to_bytes(), &[]).status(),
            Status::SUCCESS
        );

        let resume = world.change(|target| target.resume_subsystem(NQN)).unwrap();
        world.finish(resume);
        world.run(200);
        for queue in queues {
            assert_eq!(ids(&world, queue), [1, 2, 3, 4, 5], "in order, each once");
            assert!(world.responses(queue).iter().all(|response| response.status().is_success()));
            assert_eq!(world.counters(queue.cpu).requests_parked.value(), 0);
        }
        let blocks = disk.state.lock().unwrap().blocks.clone();
        for number in 2..6_u8 {
            assert_eq!(blocks[(8 + usize::from(number)) * 512], number);
        }
        world.shut_down();
    }
}

#[test]
fn a_resumption_ends_a_pause_that_never_came_to_its_end() {
    let (mut world, disk) = world(1);
    let (_, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    disk.state.lock().unwrap().hold = true;
    send_write(&mut world, queue, 1, 0, 1);
    world.run(60);
    let pause = world.change(|target| target.pause_subsystem(NQN)).unwrap();
    send_write(&mut world, queue, 2, 1, 2);
    world.run(200);
    assert!(!world.is_done(pause));
    let twice = world.change(|target| target.pause_subsystem(NQN)).unwrap_err();
    assert_eq!(twice.to_string(), format!("nqn is {NQN:?}, which is paused already"));
    let resume = world.change(|target| target.resume_subsystem(NQN)).unwrap();
    world.finish(resume);
    assert!(world.is_done(pause), "nobody waits for it any more");
    assert_eq!(world.counters(1).device_leases.value(), 2, "the second is begun, though the first has not ended");
    let twice = world.change(|target| target.resume_subsystem(NQN)).unwrap_err();
    assert!(matches!(twice, ChangeError::PausedAlready { .. }), "{twice}");
    disk.state.lock().unwrap().hold = false;
    world.run(100);
    assert_eq!(ids(&world, queue), [1, 2]);
    world.shut_down();
}

#[test]
fn a_parked_command_can_be_aborted() {
    let (mut world, disk) = world(2);
    let (admin, id) = world.attach(0);
    let queue = world.connect_io(0, id, 1);
    let pause = world.change(|target| target.pause_subsystem(NQN)).unwrap();
    world.finish(pause);
    send_write(&mut world, queue, 1, 0, 1);
    send_write(&mut world, queue, 2, 1, 2);
    world.run(60);
    let abort = command(OP_ABORT, 9, 0, keyed(0, 0), [1 << 16 | 1, 0, 0, 0]).to_bytes();
    let response = world.execute(admin, abort, &[]);
    assert_eq!((response.status(), response.result.get() & 1), (Status::SUCCESS, 0));
    world.run(20);
    assert_eq!(world.responses(queue)[1].status(), Status::ABORT_REQUESTED);
    let resume = world.change(|target| target.resume_subsystem(NQN)).unwrap();
    world.finish(resume);
    world.run(60);
    assert_eq!(ids(&world, queue), [1, 2]);
    assert_eq!(disk.state.lock().unwrap().seen.len(), 1, "what was aborted has done nothing");
    world.shut_down();
}

/// Hosts leave, controllers are reset and the subsystem is deleted, with commands parked.
#[test]
fn a_paused_subsystem_lets_everybody_go() {
    for seed in 0..100 {
        let (mut world, disk) = world(seed);
        let (admin, id) = world.attach(0);
        let (leaves, stays) = (world.connect_io(0, id, 1), world.connect_io(1, id, 2));
        let pause = world.change(|target| target.pause_subsystem(NQN)).unwrap();
        world.finish(pause);
        for number in 1..5 {
            send_write(&mut world, leaves, number, 0, 1);
            // In the capsule: the receive is held.
            world.send(
                stays,
                io(OP_WRITE, number, 0, 1, nvmf_core::wire::SglDescriptor::in_capsule(0, 512)),
                &[9; 512],
            );
        }
        world.run(100);
        assert_eq!(world.counters(0).requests_parked.value() + world.counters(1).requests_parked.value(), 8);
        world.disconnect(leaves, DisconnectReason::Host);
        world.run(60);
        assert!(world.is_closed(leaves));
        assert_eq!(world.counters(0).requests_parked.value(), 0);
        if seed % 2 == 0 {
            let deletion = world.change(|target| target.delete_subsystem(NQN)).unwrap();
            world.finish(deletion);
            assert!(world.is_closed(stays) && world.is_closed(admin));
        }
        assert_eq!(disk.state.lock().unwrap().seen.len(), 0);
        world.shut_down();
    }
}

/// A host that is connected while the subsystem is paused: everything but its I/O.
#[test]
fn hosts_connect_to_a_paused_subsystem() {
    let (mut world, _) = world(3);
    let pause = world.change(|target| target.pause_subsystem(NQN)).unwrap();
    world.finish(pause);
    let (_, id) = world.attach(1);
    let queue = world.connect_io(0, id, 1);
    world.send(queue, io(OP_READ, 1, 0, 1, keyed(0, 512)), &[]);
    world.run(100);
    assert_eq!(ids(&world, queue), [0_u16; 0]);
    let resume = world.change(|target| target.resume_subsystem(NQN)).unwrap();
    world.finish(resume);
    world.run(60);
    assert_eq!(ids(&world, queue), [1]);
    world.shut_down();
}
