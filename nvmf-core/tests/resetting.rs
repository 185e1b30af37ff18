//! A device is reset with I/O under way: what can be stopped is, the rest is waited for, and what comes meanwhile waits.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::Arc;

use bdev::{Device, Partition};
use harness::device::TestDevice;
use harness::{Conn, NQN, OP_WRITE, Options, World, io, keyed, namespace};
use nvmf_core::DisconnectReason;
use nvmf_core::status::Status;

fn world(seed: u64) -> (World, Arc<TestDevice>) {
    let disk = Arc::new(TestDevice::new("disk", 1024));
    let mut options = Options::new(vec![namespace(1, Arc::clone(&disk) as Arc<dyn Device>)]);
    options.seed = seed;
    (World::new(options), disk)
}

/// Writes one block of a namespace.
fn send_write(world: &mut World, queue: Conn, id: u16) {
    let at = 4096 + usize::from(id) * 512;
    world.host_write(queue.cpu, at, &[id as u8; 512]);
    world.send(queue, io(OP_WRITE, id, u64::from(id), 1, keyed(at, 512)), &[]);
}

/// Commands that have ended, by id, and whether they were cancelled.
fn ended(world: &World, queue: Conn) -> Vec<(u16, bool)> {
    let io = |response: &&nvmf_core::wire::CompletionEntry| response.command_id.get() < 0xC0;
    let responses = world.responses(queue);
    let mut ended: Vec<(u16, bool)> = responses
        .iter()
        .filter(io)
        .map(|response| {
            let status = response.status();
            assert!(status.is_success() || status == Status::ABORT_REQUESTED, "{status:?}");
            assert!(status.is_success() || !status.do_not_retry(), "its host may send it again");
            (response.command_id.get(), !status.is_success())
        })
        .collect();
    ended.sort_unstable();
    ended
}

#[test]
fn what_the_device_can_stop_is_cancelled_and_what_comes_later_is_done() {
    for seed in 0..100 {
        let (mut world, disk) = world(seed);
        let (_, id) = world.attach(0);
        let queues = [world.connect_io(0, id, 1), world.connect_io(1, id, 2)];
        (disk.state.lock().unwrap().hold, disk.state.lock().unwrap().cancels) = (true, true);
        for queue in queues {
            // The device takes two with each look: some wait for room.
            (1..7).for_each(|number| send_write(&mut world, queue, number));
        }
        let steps = world.sim.random() as usize % 60;
        world.run(steps);
        let reset = world.change(|target| target.reset_device("disk")).unwrap();
        // Nothing that the device still has is ever done.
        world.finish(reset);
        disk.state.lock().unwrap().hold = false;
        for queue in queues {
            (7..9).for_each(|number| send_write(&mut world, queue, number));
        }
        world.run(300);
        for queue in queues {
            let ended = ended(&world, queue);
            assert_eq!(ended.iter().map(|(id, _)| *id).collect::<Vec<_>>(), (1..9).collect::<Vec<_>>(), "seed {seed}");
            assert!(ended.iter().all(|(id, is_cancelled)| *id < 7 || !is_cancelled), "{ended:?}");
        }
        world.shut_down();
    }
}

#[test]
fn what_the_device_cannot_stop_is_waited_for_and_what_comes_meanwhile_waits() {
    for seed in 0..100 {
        let (mut world, disk) = world(seed);
        let (_, id) = world.attach(0);
        let queues = [world.connect_io(0, id, 1), world.connect_io(1, id, 2)];
        disk.state.lock().unwrap().hold = true;
        send_write(&mut world, queues[0], 1);
        world.run(100);
        assert_eq!(disk.state.lock().unwrap().seen.len(), 1);
        let reset = world.change(|target| target.reset_device("disk")).unwrap();
        world.run(200);
        assert!(!world.is_done(reset), "the device has something still");
        for queue in queues {
            (2..5).for_each(|number| send_write(&mut world, queue, number));
        }
        world.run(200);
        assert_eq!(disk.state.lock().unwrap().seen.len(), 1, "nothing is begun");
        assert!(ended(&world, queues[1]).is_empty());
        // Another one meanwhile: both have to be over.
        let again = world.change(|target| target.reset_device("disk")).unwrap();
        world.run(100);
        disk.state.lock().unwrap().hold = false;
        world.finish(reset);
        world.finish(again);
        world.run(200);
        // The second reset has cancelled what waited for the end of the first.
        assert_eq!(ended(&world, queues[0]), [(1, false), (2, true), (3, true), (4, true)]);
        assert_eq!(ended(&world, queues[1]), [(2, true), (3, true), (4, true)]);
        send_write(&mut world, queues[1], 5);
        world.run(100);
        assert_eq!(ended(&world, queues[1]).last(), Some(&(5, false)));
        world.shut_down();
    }
}

#[test]
fn with_a_device_every_one_that_is_made_of_it_is_reset() {
    let disk = Arc::new(TestDevice::new("disk", 1024));
    let part = |name: &str, start| {
        let base = Arc::clone(&disk) as Arc<dyn Device>;
        Arc::new(Partition::new(name, base, start, 512).unwrap()) as Arc<dyn Device>
    };
    let namespaces = vec![namespace(1, part("first", 0)), namespace(2, part("second", 512))];
    let devices = vec![Arc::clone(&disk) as Arc<dyn Device>];
    let mut world = World::new(Options { devices, ..Options::new(namespaces) });
    let (_, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    (disk.state.lock().unwrap().hold, disk.state.lock().unwrap().cancels) = (true, true);
    send_write(&mut world, queue, 1);
    world.run(100);
    // What another partition has is its own.
    let other = world.change(|target| target.reset_device("second")).unwrap();
    world.finish(other);
    assert!(ended(&world, queue).is_empty());
    let reset = world.change(|target| target.reset_device("disk")).unwrap();
    world.finish(reset);
    assert_eq!(ended(&world, queue), [(1, true)]);
    world.shut_down();
}

/// Hosts leave, devices are deleted and resumed while a reset waits.
#[test]
fn a_reset_is_in_nobodys_way_who_leaves() {
    for seed in 0..60 {
        let (mut world, disk) = world(seed);
        let (_, id) = world.attach(0);
        let (leaves, stays) = (world.connect_io(0, id, 1), world.connect_io(1, id, 2));
        disk.state.lock().unwrap().hold = true;
        send_write(&mut world, leaves, 1);
        world.run(100);
        let reset = world.change(|target| target.reset_device("disk")).unwrap();
        world.run(50);
        send_write(&mut world, stays, 2);
        send_write(&mut world, leaves, 3);
        let steps = world.sim.random() as usize % 60;
        world.run(steps);
        world.disconnect(leaves, DisconnectReason::Host);
        let deletion = (seed % 2 == 0).then(|| world.change(|target| target.delete_device("disk")).unwrap());
        world.run(50);
        disk.state.lock().unwrap().hold = false;
        world.finish(reset);
        deletion.into_iter().for_each(|deletion| world.finish(deletion));
        world.run(100);
        assert!(world.is_closed(leaves));
        assert_eq!(world.responses(stays).iter().filter(|response| response.command_id.get() == 2).count(), 1);
        world.shut_down();
    }
}

#[test]
fn a_device_that_is_not_there_is_named_and_one_that_is_paused_can_be_reset() {
    let (mut world, _) = world(1);
    let error = world.change(|target| target.reset_device("disc")).unwrap_err();
    assert_eq!(error.to_string(), "bdev is \"disc\", and should be the name of a device: disk");
    let pause = world.change(|target| target.pause_subsystem(NQN)).unwrap();
    world.finish(pause);
    let reset = world.change(|target| target.reset_device("disk")).unwrap();
    world.finish(reset);
    world.shut_down();
}
