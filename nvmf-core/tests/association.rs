//! Connect, controllers and their members over two CPUs and the control plane: statuses, races, teardown.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::Arc;

use harness::device::TestDevice;
use harness::{
    CLOSED_NQN, Connect, HOST_ID, NQN, OP_READ, OTHER_HOST_NQN, Options, World, command, io, keyed, namespace,
    property_get, property_set,
};
use nvmf_core::status::Status;
use nvmf_core::wire::{ConnectRefusal, DISCOVERY_NQN, SglDescriptor};
use nvmf_core::{DisconnectReason, QpairStage};
use reactor::Cpu;

fn world(seed: u64) -> World {
    let mut options = Options::new(vec![namespace(1, Arc::new(TestDevice::new("disk", 1024)))]);
    options.seed = seed;
    World::new(options)
}

fn invalid(field: ConnectRefusal) -> (Status, u64) {
    (Status::CONNECT_INVALID_PARAMETERS, field.to_result())
}

#[test]
fn connects_that_are_refused_say_why() {
    let mut world = world(1);
    let (_, id) = world.attach(1);
    let admin = |connect: Connect| (0u16, connect);
    let io = |connect: Connect| (1u16, Connect { controller_id: id, ..connect });
    let cases = [
        (
            "static model",
            admin(Connect { controller_id: 1, ..Connect::new(0, 32) }),
            invalid(ConnectRefusal::CONTROLLER_ID),
        ),
        ("one entry", admin(Connect::new(0, 1)), invalid(ConnectRefusal::QUEUE_SIZE)),
        ("too deep", admin(Connect::new(0, 33)), invalid(ConnectRefusal::QUEUE_SIZE)),
        ("65536 entries", admin(Connect::new(0, 0)), invalid(ConnectRefusal::QUEUE_SIZE)),
        (
            "unknown subsystem",
            admin(Connect { nqn: "nqn.2024-01.example:none".into(), ..Connect::new(0, 32) }),
            invalid(ConnectRefusal::SUBSYSTEM_NQN),
        ),
        (
            "host not allowed",
            admin(Connect { nqn: CLOSED_NQN.into(), ..Connect::new(0, 32) }),
            (Status::CONNECT_INVALID_HOST, ConnectRefusal::HOST_NQN.to_result()),
        ),
        ("host id 0", admin(Connect { host_id: [0; 16], ..Connect::new(0, 32) }), invalid(ConnectRefusal::HOST_ID)),
        ("not the transport's qid", admin(Connect::new(1, 32)), invalid(ConnectRefusal::QUEUE_ID)),
        ("no such controller", io(Connect { host_id: HOST_ID, ..Connect::new(1, 16) }), (Status::SUCCESS, 0)),
    ];
    for (what, (qid, connect), expected) in cases {
        let conn = world.open(0, qid, 32);
        if what == "no such controller" {
            for controller_id in [0, 500, 0xFFFE, 0xFFFF] {
                let response = world.execute_connect(conn, &Connect { controller_id, ..connect.clone() });
                assert_eq!((response.status(), response.result.get()), invalid(ConnectRefusal::CONTROLLER_ID));
            }
            continue;
        }
        let response = world.execute_connect(conn, &connect);
        assert_eq!((response.status(), response.result.get()), expected, "{what}");
        assert!(world.ended(conn).is_none(), "{what}: the host may try again");
    }
    // I/O Connects that the controller's CPU refuses.
    let cases = [
        (
            "another host",
            Connect { host_nqn: OTHER_HOST_NQN.into(), ..Connect::new(1, 16) },
            Status::CONNECT_INVALID_HOST,
        ),
        ("another host id", Connect { host_id: [8; 16], ..Connect::new(1, 16) }, Status::CONNECT_INVALID_HOST),
        (
            "another subsystem",
            Connect { nqn: CLOSED_NQN.into(), host_nqn: OTHER_HOST_NQN.into(), ..Connect::new(1, 16) },
            Status::CONNECT_INVALID_PARAMETERS,
        ),
        ("discovery", Connect { nqn: DISCOVERY_NQN.into(), ..Connect::new(1, 16) }, Status::CONNECT_INVALID_PARAMETERS),
        ("queue 999", Connect::new(999, 16), Status::CONNECT_INVALID_PARAMETERS),
    ];
    for (what, connect, status) in cases {
        let conn = world.open(0, connect.qid, 16);
        let response = world.execute_connect(conn, &Connect { controller_id: id, ..connect });
        assert_eq!(response.status(), status, "{what}");
    }
    world.shut_down();
}

#[test]
fn nothing_is_served_before_its_time() {
    let mut world = world(2);
    // Before Connect.
    let conn = world.open(0, 0, 32);
    let keep_alive = command(0x18, 1, 0, SglDescriptor::NO_DATA, [0; 4]).to_bytes();
    assert_eq!(world.execute(conn, keep_alive, &[]).status(), Status::COMMAND_SEQUENCE_ERROR);
    assert_eq!(world.execute(conn, property_get(8, false), &[]).status(), Status::COMMAND_SEQUENCE_ERROR);
    let queue = world.open(0, 1, 16);
    assert_eq!(world.execute(queue, io(OP_READ, 1, 0, 1, keyed(0, 512)), &[]).status(), Status::COMMAND_SEQUENCE_ERROR);
    // Before CC.EN.
    let (admin, id) = world.connect_admin(0, NQN, 0);
    let identify = command(0x06, 2, 0, keyed(0, 4096), [1, 0, 0, 0]).to_bytes();
    assert_eq!(world.execute(admin, identify, &[]).status(), Status::COMMAND_SEQUENCE_ERROR);
    assert_eq!(world.execute(admin, keep_alive, &[]).status(), Status::SUCCESS);
    let connect = Connect { controller_id: id, ..Connect::new(1, 16) };
    assert_eq!(world.execute_connect(queue, &connect).status(), Status::COMMAND_SEQUENCE_ERROR);
    world.enable(admin);
    assert_eq!(world.execute_connect(queue, &connect).status(), Status::SUCCESS, "and the same queue tries again");
    assert_eq!(world.execute_connect(queue, &connect).status(), Status::COMMAND_SEQUENCE_ERROR, "once");
    world.shut_down();
}

#[test]
fn commands_behind_connect_wait_for_its_answer() {
    let mut world = world(3);
    let (_, id) = world.attach(0);
    let queue = world.open(1, 1, 16);
    let connect = Connect { controller_id: id, attributes: 4, ..Connect::new(1, 16) };
    world.send_connect(queue, &connect);
    for cid in 0..5 {
        world.send(queue, io(OP_READ, cid, 0, 1, keyed(0, 512)), &[]);
    }
    world.run(100);
    let responses = world.responses(queue);
    let ids: Vec<_> = responses.iter().map(|response| response.command_id.get()).collect();
    assert_eq!(ids, [0xC1, 0, 1, 2, 3, 4]);
    assert!(responses.iter().all(|r| r.status() == Status::SUCCESS));
    assert!(responses.iter().all(|r| r.sq_head.get() == 0xFFFF), "SQ flow control is off");
    world.shut_down();
}

#[test]
fn headers_are_public() {
    let mut world = world(4);
    let (_, id) = world.attach(0);
    let _io = world.connect_io(1, id, 3);
    let mut reader = world.sim.domain().register_reader().unwrap();
    let directory = Arc::clone(&world.directory);
    let seen: Vec<_> = reader.read(|guard| {
        (0..2)
            .flat_map(|cpu| {
                directory.qpairs(guard, Cpu(cpu)).map(|q| (q.qid, q.stage(), q.controller_id())).collect::<Vec<_>>()
            })
            .collect()
    });
    assert_eq!(seen, [(0, QpairStage::Admin, Some(id)), (3, QpairStage::Io, Some(id))]);
    drop(reader);
    world.shut_down();
}

#[test]
fn a_closed_admin_queue_ends_its_io_queues_on_every_cpu() {
    let mut world = world(5);
    let (admin, id) = world.attach(0);
    let (other_admin, other_id) = world.attach(1);
    let queues = [world.connect_io(0, id, 1), world.connect_io(1, id, 2)];
    let other = world.connect_io(0, other_id, 1);
    world.disconnect(admin, DisconnectReason::PeerGone);
    world.run(200);
    for queue in queues {
        assert_eq!(world.ended(queue), Some(DisconnectReason::PeerGone));
        assert!(world.is_closed(queue));
    }
    assert_eq!((world.ended(other_admin), world.ended(other)), (None, None), "another controller is not disturbed");
    assert_eq!(world.control.borrow().live_count, 1);
    world.shut_down();
}

#[test]
fn a_controller_is_gone_only_when_its_last_lease_is_home() {
    let mut world = world(6);
    let (admin, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    world.wire(1).hold_teardown = true;
    world.disconnect(admin, DisconnectReason::Host);
    world.run(200);
    assert!(world.is_closed(admin) && !world.is_closed(queue));
    assert_eq!(world.control.borrow().live_count, 1, "closed is not gone");
    assert_eq!(world.counters(0).controllers_live.value(), 1);
    // Its id leads nowhere meanwhile.
    let late = world.open(1, 2, 16);
    let response = world.execute_connect(late, &Connect { controller_id: id, ..Connect::new(2, 16) });
    assert_eq!((response.status(), response.result.get()), invalid(ConnectRefusal::CONTROLLER_ID));
    world.wire(1).hold_teardown = false;
    world.run(200);
    assert_eq!(world.control.borrow().live_count, 0);
    world.shut_down();
}

#[test]
fn the_same_queue_id_waits_for_its_old_qpair() {
    let mut world = world(7);
    let (_, id) = world.attach(0);
    let old = world.connect_io(1, id, 1);
    world.wire(1).hold_teardown = true;
    world.disconnect(old, DisconnectReason::PeerGone);
    world.run(30);
    let connect = Connect { controller_id: id, ..Connect::new(1, 16) };
    let new = world.open(0, 1, 16);
    world.send_connect(new, &connect);
    world.run(100);
    assert!(world.responses(new).is_empty(), "the old one drains");
    let third = world.open(0, 1, 16);
    assert_eq!(world.execute_connect(third, &connect).status(), Status::CONNECT_CONTROLLER_BUSY);
    world.wire(1).hold_teardown = false;
    world.run(200);
    assert_eq!(world.responses(new)[0].status(), Status::SUCCESS);
    // Not for ever: the host is told to try again.
    let status = {
        world.send_connect(third, &connect);
        world.run(100);
        assert_eq!(world.responses(third).len(), 1);
        world.pass(2100);
        world.responses(third)[1].status()
    };
    assert_eq!(status, Status::CONNECT_CONTROLLER_BUSY);
    assert!(!status.do_not_retry());
    world.shut_down();
}

#[test]
fn admin_and_io_queues_may_end_at_any_point_of_connect() {
    for seed in 0..400 {
        let mut world = world(seed);
        let (admin, id) = world.attach(0);
        let queue = world.open(1, 1, 16);
        world.send_connect(queue, &Connect { controller_id: id, ..Connect::new(1, 16) });
        // What waits behind Connect when the qpair ends, legal or not.
        world.send(queue, [0xFF; 64], &[]);
        world.send(queue, io(OP_READ, 9, 0, 1, keyed(0, 512)), &[]);
        let second = world.open(1, 0, 32);
        world.send_connect(second, &Connect::new(0, 32));
        world.run(usize::try_from(seed % 24).unwrap());
        if seed % 3 != 0 {
            world.disconnect(admin, DisconnectReason::PeerGone);
        }
        for conn in [queue, second] {
            let steps = usize::try_from(world.sim.random() % 8).unwrap();
            world.run(steps);
            if world.sim.random().is_multiple_of(2) && world.is_open(conn) {
                world.disconnect(conn, DisconnectReason::PeerGone);
            }
        }
        world.run(100);
        for response in world.responses(queue) {
            let status = response.status();
            assert!(
                status.is_success()
                    || status == Status::CONNECT_INVALID_PARAMETERS
                    || status == Status::CONNECT_CONTROLLER_BUSY
                    || status == Status::INVALID_FIELD
                    || status == Status::COMMAND_SEQUENCE_ERROR,
                "{status}"
            );
        }
        world.shut_down();
    }
}

#[test]
fn an_admin_queue_that_ends_before_its_id_comes_leaves_nothing() {
    let mut world = world(8);
    world.control.borrow_mut().hold = true;
    let admin = world.open(0, 0, 32);
    world.send_connect(admin, &Connect::new(0, 32));
    world.run(60);
    world.disconnect(admin, DisconnectReason::PeerGone);
    world.run(100);
    assert!(!world.is_closed(admin), "the answer is waited for");
    world.control.borrow_mut().hold = false;
    world.run(100);
    assert!(world.is_closed(admin));
    world.shut_down();
}

#[test]
fn a_host_that_is_silent_is_ended() {
    let mut world = world(9);
    let (admin, id) = world.connect_admin(0, NQN, 1500);
    world.enable(admin);
    let queue = world.connect_io(1, id, 1);
    let keep_alive = command(0x18, 1, 0, SglDescriptor::NO_DATA, [0; 4]).to_bytes();
    for _ in 0..3 {
        world.pass(1500);
        assert_eq!(world.execute(admin, keep_alive, &[]).status(), Status::SUCCESS);
    }
    // Rounded up to 2 s; other traffic counts, from the end of the interval on.
    world.pass(1900);
    assert!(world.ended(admin).is_none());
    world.execute(queue, io(OP_READ, 1, 0, 1, keyed(0, 512)), &[]);
    world.pass(1900);
    assert!(world.ended(admin).is_none());
    world.pass(300);
    assert_eq!(world.ended(admin), Some(DisconnectReason::KeepAlive));
    assert_eq!(world.ended(queue), Some(DisconnectReason::KeepAlive));
    assert_eq!(world.counters(0).keep_alive_expired_count.value(), 1);
    world.shut_down();
}

#[test]
fn a_connection_without_connect_is_ended() {
    let mut world = world(10);
    let conn = world.open(0, 0, 32);
    let attached = world.attach(0).0;
    world.pass(9_900);
    assert!(world.ended(conn).is_none());
    world.pass(200);
    assert_eq!(world.ended(conn), Some(DisconnectReason::ConnectTimeout));
    assert_eq!(world.ended(attached), None);
    world.shut_down();
}

#[test]
fn a_reset_ends_the_io_queues_and_the_controller_can_be_enabled_again() {
    let mut world = world(11);
    let (admin, id) = world.attach(0);
    let queue = world.connect_io(1, id, 1);
    let event = command(0x0C, 50, 0, SglDescriptor::NO_DATA, [0; 4]).to_bytes();
    world.send(admin, event, &[]);
    world.wire(1).hold_teardown = true;
    assert_eq!(world.execute(admin, property_set(0x14, 0), &[]).status(), Status::SUCCESS);
    world.run(60);
    assert_eq!(world.ended(queue), Some(DisconnectReason::ControllerGone));
    let held = world.responses(admin).into_iter().find(|r| r.command_id.get() == 50).unwrap();
    assert_eq!(held.status(), Status::ABORTED_QUEUE_DELETED);
    assert_eq!(world.execute(admin, property_get(0x1C, false), &[]).result.get(), 1, "RDY until the queue is gone");
    world.wire(1).hold_teardown = false;
    world.run(100);
    assert_eq!(world.execute(admin, property_get(0x1C, false), &[]).result.get(), 0);
    world.enable(admin);
    let _again = world.connect_io(1, id, 1);
    world.shut_down();
}

#[test]
fn a_target_that_shuts_down_takes_nobody_in() {
    let mut world = world(12);
    let (admin, id) = world.attach(0);
    world.control.borrow_mut().shutdown = true;
    world.run(60);
    for (qid, controller_id) in [(0, 0xFFFF), (1, id)] {
        let conn = world.open(1, qid, 32);
        let response = world.execute_connect(conn, &Connect { controller_id, ..Connect::new(qid, 32) });
        assert_eq!(response.status(), Status::CONNECT_CONTROLLER_BUSY);
    }
    assert!(world.ended(admin).is_none());
    world.shut_down();
}

#[test]
fn a_hundred_connects_in_a_row_leave_nothing() {
    let mut world = world(13);
    for round in 0..100u16 {
        let (admin, id) = world.attach(round % 2);
        let queue = world.connect_io((round + 1) % 2, id, 1);
        world.execute(queue, io(OP_READ, 1, 0, 1, keyed(0, 512)), &[]);
        world.disconnect(if round % 3 == 0 { queue } else { admin }, DisconnectReason::Host);
        world.run(60);
        if world.ended(admin).is_none() {
            world.disconnect(admin, DisconnectReason::Host);
        }
        world.run(60);
    }
    world.assert_empty();
}
