//! Bursts of commands, and completions that are still on their way when what they are of ends: steered, since chance seldom has so much under way at once.

use transport_rdma::soft::in_process::{CompletionFaults, CompletionKinds, Reuse};
use transport_rdma::verbs::PortId;

use super::acting::{STEPS_MAX, connected, expect, extent, host, opening, some_steps};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{Command, Opening, Order, Stage, Steering};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::{Layout, World};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bursts-wait-for-room",
        about: "as many commands as the depth allows come at once, to queues that have no room for their transfers: each is answered",
        entries: &["E4", "F6"],
        play: bursts_wait,
    },
    Scenario {
        name: "capsules-wait-at-the-end",
        about: "a host sends on while the target does not hear that its responses were sent, and then ends: what waits for a slot is given back",
        entries: &["F1", "J8"],
        play: capsules_wait,
    },
    Scenario {
        name: "completions-come-with-the-destroy",
        about: "commands that nobody saw come into the completion queue when their queue pair is destroyed, and the next one has its number",
        entries: &["C6", "R11"],
        play: completions_come_late,
    },
];

/// Depth of the steered queue.
const DEPTH: u16 = 16;

/// A host with a queue of this depth.
fn deep(world: &mut World, number: u32) -> Result<Steering, Failure> {
    let host = connected(world, number, 0)?;
    host.open(Opening { depth: DEPTH, ..opening(1) });
    let watched = host.clone();
    world.reach("that the queue is up", STEPS_MAX, |_| watched.is_at(1, Stage::Ready))?;
    Ok(host)
}

fn bursts_wait(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::calm();
    layout.shared_receive_count = run.choices.one_of("shared receives", &[0, 64]);
    layout.fabric.delay_max = run.choices.one_of("network delay", &[3, 12]);
    layout.fabric.attributes.transfer_len_max = 1024;
    layout.fabric.attributes.work_request_count_max = run.choices.one_of("room of queues", &[24, 40]);
    layout.fabric.attributes.read_initiator_count_max = run.choices.one_of("read depth", &[16, 2, 1]);
    layout.fabric.attributes.inline_len_max = 0;
    layout.fabric.device.completions =
        CompletionFaults { looks_max: 12, is_mixed: true, ..CompletionFaults::default() };
    let mut world = run.world(&layout);
    let host = deep(&mut world, 0)?;
    run.begin_window();
    for _ in 0..run.choices.between("bursts", 1, 3) {
        let (before, holds) = (host.observed().io_count, run.choices.one_in("the device holds its operations", 2));
        if holds {
            world.target.device().hold();
        }
        for number in 0..u32::from(DEPTH) {
            let extent = extent(number % 8, 8);
            host.submit(
                1,
                match run.choices.below("which command", 2) {
                    0 => Command::Read(extent),
                    _ => Command::Write { extent, in_capsule: false },
                },
            );
        }
        some_steps(run, &mut world, "the device goes on after", 200)?;
        world.target.device().let_go();
        let watched = host.clone();
        world.reach("that each command is answered", 60_000, |_| {
            watched.observed().io_count == before + u64::from(DEPTH)
        })?;
    }
    run.end_window();
    let waits = world.target.count("rdma_send_room_waits") + world.target.count("rdma_read_depth_waits");
    expect(waits > 0, || "nothing had to wait".to_owned())?;
    let thrown_out = host.observed().disconnects.clone();
    expect(thrown_out.is_empty(), || format!("the host was thrown out: {thrown_out:?}"))?;
    host.order(Order::DisconnectAll);
    run.finish(world)
}

fn capsules_wait(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::calm();
    layout.shared_receive_count = run.choices.one_of("shared receives", &[64, 0]);
    layout.fabric.delay_max = 3;
    let mut world = run.world(&layout);
    let machine = world.target.machine();
    let host = deep(&mut world, 0)?;
    run.begin_window();
    world.fabric.change_for(machine, |options| options.device.completions.holds = CompletionKinds::SENT);
    // There are twice as many slots as commands: none is left the third time at the latest. Responses alone do not fill the send queue.
    let waits = |world: &World| world.target.count("rdma_slot_waits") > 0;
    while !waits(&world) {
        (0..DEPTH).for_each(|_| host.submit(1, Command::Flush));
        world.steps(20)?;
        let watched = host.clone();
        world.reach("that all are answered, or a command waits for a slot", 60_000, |world| {
            waits(world) || watched.observed().outstanding_count == 0
        })?;
    }
    some_steps(run, &mut world, "it ends after", 60)?;
    match run.choices.below("how it ends", 3) {
        0 => host.order(Order::DisconnectAll),
        1 => host.die(),
        _ => host.submit(1, Command::WrongKey),
    }
    some_steps(run, &mut world, "the target hears of it after", 200)?;
    world.fabric.change_for(machine, |options| options.device.completions.holds = CompletionKinds::empty());
    run.end_window();
    host.order(Order::DisconnectAll);
    run.finish(world)
}

fn completions_come_late(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::calm();
    layout.cpu_count = 1;
    layout.shared_receive_count = 64;
    layout.fabric.raises_last_wqe = run.choices.one_in("raises LAST_WQE", 2);
    layout.fabric.device.numbers = Reuse::AtOnce;
    layout.fabric.forbids_destroy_with_work = false;
    let mut world = run.world(&layout);
    let machine = world.target.machine();
    let leaving = connected(&mut world, 0, 1)?;
    // The next one has all but the connection.
    let coming = host(&mut world, 1);
    coming.open(opening(0).until(Stage::Attached));
    let watched = coming.clone();
    world.reach("that the next host has a queue pair", STEPS_MAX, |_| watched.is_at(0, Stage::Attached))?;
    run.begin_window();
    // Commands have come, and nobody sees them.
    world.fabric.change_for(machine, |options| options.device.completions.holds = CompletionKinds::RECEIVED);
    for number in 0..run.choices.between("commands", 1, 8) {
        leaving.submit(1, Command::Read(extent(number, 1)));
        leaving.submit(0, Command::EventRequest);
    }
    world.steps(60)?;
    match run.choices.below("how it leaves", 2) {
        0 => leaving.order(Order::DisconnectAll),
        _ => leaving.die(),
    }
    world.reach("that its end has begun", STEPS_MAX, |world| world.target.count("rdma_disconnects") == 2)?;
    // Where nothing proves the end only a deadline comes, and nobody acts until then.
    world.advance(6_000_000_000);
    let is_quiet = |world: &World| world.target.count("rdma_returned") + world.target.count("rdma_cut") == 2;
    world.reach("that its queue pairs are quiet", STEPS_MAX, is_quiet)?;
    // What was held is there when the destroy calls end. The next one comes while the CPU is held up: the end of the old one and the new one are there
    // when it goes on.
    world.reach("that the destroy calls bring what was held", STEPS_MAX, |world| {
        world.fabric.waiting_completion_count(machine, PortId(0)) == 0
    })?;
    some_steps(run, &mut world, "the CPU is held up after", 2)?;
    world.stall(Some(0));
    coming.order(Order::Advance { qid: 0, goal: Stage::Ready });
    world.steps(u64::from(run.choices.between("steps until the CPU goes on", 100, 400)))?;
    world.stall(None);
    some_steps(run, &mut world, "what was held comes after", 300)?;
    world.fabric.change_for(machine, |options| options.device.completions.holds = CompletionKinds::empty());
    run.end_window();
    world.reach("that the next one is up", STEPS_MAX, |_| watched.is_at(0, Stage::Ready))?;
    let is_disturbed = !coming.observed().disconnects.is_empty();
    expect(!is_disturbed, || "the next one was thrown out".to_owned())?;
    leaving.order(Order::DisconnectAll);
    coming.order(Order::DisconnectAll);
    run.finish(world)
}
