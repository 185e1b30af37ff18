//! Connections that come to nothing: each step of the way can fail, on either side, and whatever was there by then is gone again.

use transport_rdma::soft::in_process::{Calls, EventKinds, InjectedEvent};

use super::acting::{STEPS_MAX, connect, connected, expect, extent, host, opening, some_steps};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{Command, Opening, Order, Stage, status};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::Layout;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "each-step-of-set-up-fails",
        about: "one call of the way from request to Connect fails at the target, whichever it is",
        entries: &["A5", "C5", "D1", "D2", "D5", "D12", "J1", "R3", "R4", "R8"],
        play: each_step_fails,
    },
    Scenario {
        name: "bad-requests",
        about: "connection requests that cannot be granted leave nothing behind, however many there are",
        entries: &["B5", "L9", "R7", "R23"],
        play: bad_requests,
    },
    Scenario {
        name: "peer-leaves-during-set-up",
        about: "the host disconnects, dies or stops at any moment of the way, capsules under way or not",
        entries: &["D9", "J3"],
        play: peer_leaves,
    },
    Scenario {
        name: "same-queue-id-while-the-old-one-drains",
        about: "a host opens a queue again while the old one of the same number still drains",
        entries: &["D11", "H8", "I12"],
        play: same_queue_id,
    },
];

fn each_step_fails(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.fabric.forbids_destroy_with_work = false;
    // A host that is not told that the target gave up waits for ever.
    layout.fabric.loses_disconnected = false;
    let is_shared = layout.shared_receive_count > 0;
    let mut world = run.world(&layout);
    let machine = world.target.machine();
    let bystander = connected(&mut world, 0, 1)?;
    let host = host(&mut world, 1);
    run.begin_window();
    let receives = if is_shared { Calls::POST_SHARED_RECEIVE } else { Calls::POST_RECEIVE };
    let kinds = [Calls::CREATE_QUEUE_PAIR, Calls::ACCEPT, receives, Calls::POST_SEND];
    let kind = run.choices.one_of("what fails", &kinds);
    // Queue pairs are made and accepted once for each queue.
    let call_count = if (Calls::CREATE_QUEUE_PAIR | Calls::ACCEPT).contains(kind) { 3 } else { 12 };
    world.fabric.fail_call(machine, kind, u64::from(run.choices.below("which of them", call_count)));
    for qid in 0..3 {
        host.open(opening(qid));
        world.steps(20)?;
        let watched = host.clone();
        let came = |_: &_| watched.is_at(qid, Stage::Ready) || watched.stage(qid).is_none();
        world.reach("that the queue is up, or gone", STEPS_MAX, came)?;
        if !watched.is_at(0, Stage::Ready) {
            break;
        }
        some_steps(run, &mut world, "the next queue comes after", 100)?;
    }
    host.order(Order::DisconnectAll);
    run.end_window();
    bystander.order(Order::DisconnectAll);
    run.finish(world)
}

fn bad_requests(run: &mut Run) -> Result<(), Failure> {
    let layout = Layout::chosen(&run.choices);
    let mut world = run.world(&layout);
    let host = host(&mut world, 0);
    let requests: [(Vec<u8>, u8); 4] = [(Vec::new(), 4), (vec![0; 31], 4), (vec![0xFF; 32], 4), (vec![0; 56], 0)];
    let count = run.choices.between("requests", 8, 24);
    for (number, _) in (0..count).enumerate() {
        let request = requests[run.choices.below("which request", 4) as usize].clone();
        host.open(Opening { request: Some(request), ..Opening::new(0) });
        let watched = host.clone();
        world.reach("that it is refused", STEPS_MAX, |_| watched.observed().rejects.len() > number)?;
        world.reach("that the host is rid of it", STEPS_MAX, |_| watched.stage(0).is_none())?;
    }
    let requests = world.target.count("rdma_connection_requests");
    expect(requests == u64::from(count), || format!("{count} requests were made, the target saw {requests}"))?;
    connect(&mut world, &host, 1)?;
    host.order(Order::DisconnectAll);
    run.finish(world)
}

fn peer_leaves(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.fabric.manager.late = EventKinds::ESTABLISHED | EventKinds::QUEUE_PAIR_CREATED;
    layout.fabric.manager.late_looks_max = 20;
    let mut world = run.world(&layout);
    let mut hosts = Vec::new();
    run.begin_window();
    for number in 0..3 {
        let host = host(&mut world, number);
        host.open(Opening::new(0));
        some_steps(run, &mut world, "it leaves after", 300)?;
        match run.choices.below("how it leaves", 5) {
            0 => host.order(Order::DisconnectAll),
            1 => host.die(),
            2 => host.stop(),
            // The network gives it up, as the connection managers see it.
            3 => {
                let machine = world.target.machine();
                if let Some(connection) = world.fabric.connections(machine).last() {
                    world.fabric.inject(machine, InjectedEvent::Disconnected(*connection));
                }
            }
            _ => {}
        }
        hosts.push(host);
    }
    run.end_window();
    some_steps(run, &mut world, "they are left alone for", 400)?;
    for host in hosts {
        host.go_on();
        host.order(Order::DisconnectAll);
    }
    run.finish(world)
}

fn same_queue_id(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    // A target that is not told that the old one has ended has it still, and says so: busy.
    layout.fabric.loses_disconnected = false;
    let mut world = run.world(&layout);
    let host = connected(&mut world, 0, 1)?;
    let holds = run.choices.one_in("its block operations are held", 2);
    if holds {
        super::acting::held_io(&mut world, &host, 0, 1)?;
    }
    run.begin_window();
    host.order(Order::Disconnect { qid: 1 });
    some_steps(run, &mut world, "it comes again after", 200)?;
    host.open(opening(1));
    some_steps(run, &mut world, "the device goes on after", 800)?;
    world.target.device().let_go();
    run.end_window();
    // Refused with what may be tried again, or taken in.
    let watched = host.clone();
    for _ in 0..20 {
        let came = |_: &_| watched.is_at(1, Stage::Ready) || watched.stage(1).is_none();
        world.reach("that the queue id is taken in, or refused", STEPS_MAX, came)?;
        if watched.is_at(1, Stage::Ready) || watched.stage(0).is_none() {
            break;
        }
        world.advance(100_000_000);
        host.open(opening(1));
        // Until the host has heard of it.
        world.steps(20)?;
    }
    if watched.stage(0).is_some() {
        let refusals = watched.observed().refusals.clone();
        let is_final = refusals.iter().any(|(qid, status)| *qid == 1 && *status != status::CONTROLLER_BUSY);
        expect(!is_final, || format!("a queue id that is free in a moment is refused for good: {refusals:x?}"))?;
        expect(watched.is_at(1, Stage::Ready), || "the queue id was never taken in again".to_owned())?;
        // The Connect that waited was answered once: the next command is not its second end.
        let before = watched.observed().io_count;
        host.submit(1, Command::Read(extent(0, 1)));
        world.reach("that it carries commands", STEPS_MAX, |_| watched.observed().io_count > before)?;
    }
    host.order(Order::DisconnectAll);
    run.finish(world)
}
