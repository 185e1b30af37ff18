//! The RDMA device goes away, on one side or the other.

use super::acting::{STEPS_MAX, connected, expect, extent, host, some_steps};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{Command, Opening, Order};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::Layout;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "device-removed-at-any-moment",
    about: "the target's device is removed while hosts connect, work and leave: no flush comes, destroys end with EIO",
    entries: &["D3", "G1", "G2", "G5", "J6", "K14", "R13", "R14", "R17"],
    play: device_removed,
}];

fn device_removed(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.fabric.forbids_destroy_with_work = false;
    layout.fabric.is_strict = false;
    layout.fabric.device.is_removed_silently = run.choices.one_in("peers are not told", 2);
    let mut world = run.world(&layout);
    let machine = world.target.machine();
    let hosts = [connected(&mut world, 0, 2)?, connected(&mut world, 1, 1)?, host(&mut world, 2)];
    for (number, host) in (0..2).zip(&hosts) {
        host.submit(1, Command::Read(extent(number, 4)));
        host.submit(1, Command::Write { extent: extent(number, 4), in_capsule: false });
    }
    run.begin_window();
    hosts[2].open(Opening::new(0));
    some_steps(run, &mut world, "the device goes after", 400)?;
    world.fabric.remove_device(machine);
    some_steps(run, &mut world, "one leaves after", 100)?;
    hosts[0].order(Order::DisconnectAll);
    let begun_ns = world.now_ns();
    world.reach("that every queue pair has ended", STEPS_MAX, |world| {
        world.target.count("rdma_queue_pairs_live") == 0
    })?;
    let took_ns = world.now_ns() - begun_ns;
    expect(took_ns < 1_000_000_000, || format!("it took {took_ns} ns: no deadline is to be waited for"))?;
    run.end_window();
    hosts.iter().for_each(|host| host.order(Order::DisconnectAll));
    world.expect_receives_lost();
    run.finish(world)
}
