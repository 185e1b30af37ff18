//! Devices of iWARP: nothing is tried again that finds no receive, the end of one side ends the other, and LAST_WQE_REACHED is never raised.

use super::acting::{STEPS_MAX, connected, expect, extent, opening};
use super::ordinary::any_session;
use crate::sim::failure::Failure;
use crate::sim::host::raw::{Command, Opening, Order, RawHost, Stage, Steering};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::Layout;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hosts-come-and-go-on-iwarp",
        about: "hosts connect, do I/O and end in every way at any moment, on devices with the rules of iWARP",
        entries: &["E2", "E7"],
        play: hosts_come_and_go,
    },
    Scenario {
        name: "each-command-has-a-receive-on-iwarp",
        about: "as many queues as there are shared receives for: all commands at once find one each, and one queue more is refused",
        entries: &["F2"],
        play: each_command_has_a_receive,
    },
];

/// Depth of the I/O queues.
const DEPTH: u16 = 16;

fn hosts_come_and_go(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.fabric.is_iwarp = true;
    layout.shared_receive_count = run.choices.one_of("shared receives", &[0, 160]);
    layout.fabric.forbids_destroy_with_work = layout.drains_are_provable();
    let mut world = run.world(&layout);
    let mut observed = Vec::new();
    for number in 0..run.choices.between("hosts", 1, 3) {
        let session_count = run.choices.between("sessions", 1, 4);
        let host = RawHost::new(number, &world, (0..session_count).map(|_| any_session(run)).collect());
        observed.push(host.observed());
        world.add(host);
    }
    world.reach("that all hosts are done", 4_000_000, |_| observed.iter().all(|host| host.borrow().is_done))?;
    run.finish(world)
}

fn each_command_has_a_receive(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::calm();
    layout.fabric.is_iwarp = true;
    layout.fabric.delay_max = run.choices.one_of("network delay", &[3, 12]);
    layout.cpu_count = 1;
    // Two admin queues of 8 and two I/O queues of 16, with the third host's admin queue, leave 8.
    layout.shared_receive_count = 64;
    let mut world = run.world(&layout);
    let mut hosts: Vec<Steering> = Vec::new();
    for number in 0..2 {
        let host = connected(&mut world, number, 0)?;
        host.open(Opening { depth: DEPTH, ..opening(1) });
        let watched = host.clone();
        world.reach("that the queue is up", STEPS_MAX, |_| watched.is_at(1, Stage::Ready))?;
        hosts.push(host);
    }
    let refused = connected(&mut world, 2, 0)?;
    refused.open(Opening { depth: DEPTH, ..opening(1) });
    world.reach("that the last queue is refused", STEPS_MAX, |world| {
        world.target.labelled("rdma_connections_rejected", "no_resources") > 0
    })?;

    run.begin_window();
    for _ in 0..run.choices.between("bursts", 1, 3) {
        // Held, so that all are out at a time.
        world.target.device().hold();
        let before: u64 = hosts.iter().map(|host| host.observed().io_count).sum();
        for (number, host) in (0..).zip(&hosts) {
            (0..DEPTH).for_each(|_| host.submit(1, Command::Write { extent: extent(number, 1), in_capsule: true }));
        }
        world.steps(u64::from(run.choices.below("the device goes on after", 200)))?;
        world.target.device().let_go();
        world.reach("that each command is answered", 60_000, |_| {
            let answered: u64 = hosts.iter().map(|host| host.observed().io_count).sum();
            answered == before + 2 * u64::from(DEPTH)
        })?;
    }
    run.end_window();
    for host in &hosts {
        let thrown_out = host.observed().disconnects.clone();
        expect(thrown_out.is_empty(), || format!("a command found no receive: {thrown_out:?}"))?;
        host.order(Order::DisconnectAll);
    }
    refused.order(Order::DisconnectAll);
    run.finish(world)
}
