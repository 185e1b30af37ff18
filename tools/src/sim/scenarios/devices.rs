//! The RDMA device goes away, on one side or the other.

use transport_rdma::host::HostFailure;
use transport_rdma::soft::in_process::{Calls, InjectedEvent};
use transport_rdma::verbs::{AddressUser, PortId};

use super::acting::{STEPS_MAX, connected, expect, extent, host, some_steps};
use super::host_side::{Bystander, Steered};
use super::ordinary::roomy;
use crate::sim::failure::Failure;
use crate::sim::host::raw::{Command, Opening, Order};
use crate::sim::host::real::Association;
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::{Layout, World};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "device-removed-at-any-moment",
        about: "the target's device is removed while hosts connect, work and leave: no flush comes, destroys end with EIO",
        entries: &["D3", "G1", "G2", "G5", "J6", "K14", "R13", "R14", "R17"],
        play: device_removed,
    },
    Scenario {
        name: "device-comes-back",
        about: "the target's device is removed under I/O and comes back, once or more, also while it is being taken in again, and calls on it fail: hosts that keep trying are served",
        entries: &["G1", "G3", "R15"],
        play: device_comes_back,
    },
    Scenario {
        name: "host-device-removed-at-any-moment",
        about: "the host side's device is removed, or a completion queue of it breaks, in any step of an association and with I/O in flight",
        entries: &["G8"],
        play: host_device_removed,
    },
    Scenario {
        name: "addresses-change",
        about: "the target's listener and connections are told that their address has changed, with requests pending: it listens anew, and hosts come back",
        entries: &["J5"],
        play: addresses_change,
    },
];

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
    world.reach("that every queue pair has ended", 10_000, |world| world.target.count("rdma_queue_pairs_live") == 0)?;
    let took_ns = world.now_ns() - begun_ns;
    expect(took_ns < 1_000_000_000, || format!("it took {took_ns} ns: no deadline is to be waited for"))?;
    run.end_window();
    hosts.iter().for_each(|host| host.order(Order::DisconnectAll));
    let counts = |world: &World| {
        ["rdma_device_removed", "rdma_connections_quarantined_live"].map(|name| world.target.count(name))
    };
    expect(counts(&world) == [1, 0], || format!("removed, and given up: {:?}", counts(&world)))?;
    // It goes on, and takes nobody in.
    let accepted = world.target.count("rdma_connections_accepted");
    let late = host(&mut world, 3);
    late.open(Opening::new(0));
    world.steps(2_000)?;
    late.order(Order::DisconnectAll);
    let accepted_since = world.target.count("rdma_connections_accepted") - accepted;
    expect(accepted_since == 0, || format!("{accepted_since} were accepted without a device"))?;
    world.expect_receives_lost();
    run.finish(world)
}

fn device_comes_back(run: &mut Run) -> Result<(), Failure> {
    let mut layout = roomy(run);
    layout.fabric.forbids_destroy_with_work = false;
    layout.fabric.is_strict = false;
    layout.fabric.device.is_removed_silently = run.choices.one_in("peers are not told", 2);
    let mut world = run.world(&layout);
    let machine = world.target.machine();
    let hosts = [connected(&mut world, 0, 2)?, connected(&mut world, 1, 1)?, host(&mut world, 2)];
    let real = Steered::new(run, &mut world, 8);
    real.steering.associate(Association { io_count: u32::MAX, ends_after_turns: None });
    hosts[0].submit(1, Command::Write { extent: extent(0, 4), in_capsule: false });
    run.begin_window();
    hosts[2].open(Opening::new(0));
    let removal_count = run.choices.between("removals", 1, 3);
    for number in 0..removal_count {
        some_steps(run, &mut world, "the device goes after", 400)?;
        world.note(|| "removes the target's device".to_owned());
        world.fabric.remove_device(machine);
        if run.choices.one_in("it is back before anybody has noticed", 4) {
            some_steps(run, &mut world, "the device is back after", 3)?;
        } else {
            let ns = u64::from(run.choices.below("how long it is away (ms)", 3_000)) * 1_000_000;
            world.within("that it was noticed", 0, |world| world.target.count("rdma_device_removed") == 1)?;
            world.pass(ns)?;
        }
        if run.choices.one_in("calls on the new one fail", 2) {
            for _ in 0..run.choices.between("how many", 1, 3) {
                let nth = u64::from(run.choices.below("which call", 6));
                world.fabric.fail_call(
                    machine,
                    Calls::OPEN | Calls::REGISTER | Calls::CREATE_PORT | Calls::LISTEN,
                    nth,
                );
            }
        }
        world.note(|| "gives the target's device back".to_owned());
        world.fabric.restore_device(machine);
        let goes_again = number + 1 < removal_count && run.choices.one_in("it goes again at once", 2);
        if !goes_again {
            world.within("that it listens again", 30_000_000_000, |world| {
                let has_device = world.target.count("rdma_device_removed") == 0;
                has_device && world.fabric.listeners(machine).len() == 1
            })?;
        }
    }
    run.end_window();
    expect(world.target.count("rdma_device_returns") >= 1, || "nobody has counted it".to_owned())?;
    expect(world.target.count("rdma_connections_quarantined_live") == 0, || "something was given up".to_owned())?;
    real.interrupt(&mut world)?;
    real.await_end(&mut world, 1)?;
    real.is_served_again(&mut world)?;
    real.leave(&mut world)?;
    hosts.iter().for_each(|host| host.order(Order::DisconnectAll));
    let late = connected(&mut world, 3, 2)?;
    late.submit(1, Command::Write { extent: extent(3, 4), in_capsule: false });
    late.submit(2, Command::Read(extent(3, 4)));
    late.order(Order::DisconnectAll);
    run.finish(world)
}

fn host_device_removed(run: &mut Run) -> Result<(), Failure> {
    let mut layout = roomy(run);
    layout.fabric.forbids_destroy_with_work = false;
    layout.fabric.is_strict = false;
    layout.fabric.device.is_removed_silently = run.choices.one_in("peers are not told", 2);
    let mut world = run.world(&layout);
    let bystander = Bystander::new(&mut world)?;
    let host = Steered::new(run, &mut world, 8);
    run.begin_window();
    let is_there = run.choices.one_in("between associations", 8);
    if !is_there {
        host.steering.associate(Association { io_count: u32::MAX, ends_after_turns: None });
    }
    if run.choices.one_in("when it is served", 2) && !is_there {
        world.within("that it is served", 0, |_| host.steering.observed().is_serving)?;
    }
    some_steps(run, &mut world, "the device goes after", 2_000)?;
    let what = run.choices.below("what breaks", 3);
    match what {
        0 | 1 => {
            world.note(|| "removes the host's device".to_owned());
            world.fabric.remove_device(host.machine);
        }
        _ => {
            let port = run.choices.below("whose completion queue", 2);
            let port_count = u32::try_from(world.fabric.port_count(host.machine)).unwrap_or(1);
            world.note(|| "breaks a completion queue of the host".to_owned());
            world.fabric.break_port(host.machine, PortId(port % port_count));
        }
    }
    if what == 1 {
        // Told twice, and of what it had begun itself.
        some_steps(run, &mut world, "it is told again after", 200)?;
        world.fabric.inject(host.machine, InjectedEvent::DeviceRemoved);
        host.steering.interrupt();
    }
    let begun_ns = world.now_ns();
    world.reach("that the host has left", STEPS_MAX, |_| host.is_done())?;
    let took_ns = world.now_ns() - begun_ns;
    // Nothing is waited for but calls that end; a queue on a port that works drains.
    expect(took_ns < 200_000_000, || format!("it took {took_ns} ns: no deadline is to be waited for"))?;
    run.end_window();
    let observed = host.steering.observed();
    let is_told = |failure: &HostFailure| {
        matches!(failure, HostFailure::DeviceGone { .. } | HostFailure::Stopped | HostFailure::Fabric { .. })
            || matches!(failure, HostFailure::Disconnected { .. } | HostFailure::Unreachable { .. })
            || matches!(failure, HostFailure::Rejected { .. })
    };
    expect(is_there || observed.failures.iter().any(is_told), || format!("nobody was told why: {observed:?}"))?;
    drop(observed);
    host.steering.die();
    let next = Steered::new(run, &mut world, 9);
    next.is_served_again(&mut world)?;
    next.leave(&mut world)?;
    bystander.leave(&mut world)?;
    run.finish(world)
}

fn addresses_change(run: &mut Run) -> Result<(), Failure> {
    let mut layout = roomy(run);
    // Hosts are told.
    layout.fabric.loses_disconnected = false;
    let mut world = run.world(&layout);
    let target = world.target.machine();
    let hosts = [connected(&mut world, 0, 2)?, connected(&mut world, 1, 1)?, host(&mut world, 2)];
    let real = Steered::new(run, &mut world, 8);
    hosts[0].submit(1, Command::Read(extent(0, 4)));
    run.begin_window();
    hosts[2].open(Opening::new(0));
    real.steering.associate(Association { io_count: u32::MAX, ends_after_turns: None });
    let mut renewed_count = 0_u64;
    for _ in 0..run.choices.between("changes", 1, 4) {
        some_steps(run, &mut world, "an address changes after", 400)?;
        let listeners = world.fabric.listeners(target);
        let connections = world.fabric.connections(target);
        let of = match (run.choices.below("whose address", 3), connections.is_empty()) {
            (1 | 2, false) => AddressUser::Connection(run.choices.one_of("which connection", &connections)),
            _ => match listeners.first() {
                Some(listener) => {
                    renewed_count += 1;
                    AddressUser::Listener(*listener)
                }
                // It is being listened on anew.
                None => continue,
            },
        };
        world.note(|| format!("tells the target that an address changed: {of:?}"));
        world.fabric.inject(target, InjectedEvent::AddressChanged(of));
    }
    world.within("that it listens again", 2_000_000_000, |world| {
        let has_noticed = world.target.count("rdma_address_changes") >= renewed_count.min(1);
        has_noticed && world.fabric.listeners(target).len() == 1
    })?;
    run.end_window();
    real.interrupt(&mut world)?;
    real.await_end(&mut world, 1)?;
    real.is_served_again(&mut world)?;
    real.leave(&mut world)?;
    hosts.iter().for_each(|host| host.order(Order::DisconnectAll));
    let late = connected(&mut world, 3, 1)?;
    late.order(Order::DisconnectAll);
    run.finish(world)
}
