//! Async events, connection events, flush completions and block operations of one queue pair's end, in every order; late, twice, never.

use transport_rdma::soft::in_process::{CompletionFaults, EventKinds, InjectedEvent, LastWqeMoment};

use super::acting::{STEPS_MAX, connected, expect, held_io, some_steps};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{Command, Order};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::Layout;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "events-in-every-order",
        about: "flushes, LAST_WQE_REACHED, DISCONNECTED and the last block operation come in any order, on one CPU and on more",
        entries: &["A1", "A3", "B1", "B4", "C4", "R6"],
        play: events_in_every_order,
    },
    Scenario {
        name: "event-after-the-end",
        about: "every event of a queue pair comes when its end is far gone, or over, or when another has its place",
        entries: &["A2", "A5", "A6", "B3", "B7", "B10", "H16", "R1"],
        play: event_after_the_end,
    },
    Scenario {
        name: "event-twice",
        about: "LAST_WQE_REACHED, QP_FATAL and DISCONNECTED come twice, and together",
        entries: &["A4", "A6"],
        play: event_twice,
    },
    Scenario {
        name: "many-triggers-one-teardown",
        about: "any two or three reasons to end a queue pair at once: it ends once",
        entries: &["A7", "B2", "B6", "R2"],
        play: many_triggers,
    },
    Scenario {
        name: "disconnected-does-not-flush",
        about: "a peer's DISCONNECTED leaves our queue pair as it is: only moving it ourselves brings its work back",
        entries: &["E7"],
        play: disconnected_does_not_flush,
    },
];

fn events_in_every_order(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::calm();
    layout.cpu_count = run.choices.one_of("target CPUs", &[2, 1]);
    layout.shared_receive_count = run.choices.one_of("shared receives", &[24, 0]);
    layout.fabric.delay_max = 3;
    layout.fabric.device.last_wqe.moment = LastWqeMoment::Chosen;
    layout.fabric.device.completions =
        CompletionFaults { looks_max: 4, is_split: true, is_mixed: true, ..CompletionFaults::default() };
    layout.fabric.manager.late = EventKinds::DISCONNECTED | EventKinds::LAST_WQE_REACHED;
    layout.fabric.manager.late_looks_max = 12;
    let mut world = run.world(&layout);
    let host = connected(&mut world, 0, 1)?;
    held_io(&mut world, &host, 0, 1)?;
    run.begin_window();
    match run.choices.below("how it ends", 4) {
        0 => host.order(Order::DisconnectAll),
        1 => host.die(),
        2 => host.submit(1, Command::Bytes(vec![0; 10])),
        _ => {
            let machine = world.target.machine();
            for connection in world.fabric.connections(machine) {
                world.fabric.break_queue_pair(machine, connection);
            }
        }
    }
    some_steps(run, &mut world, "the block operation ends after", 120)?;
    world.target.device().let_go();
    run.end_window();
    if run.choices.count() > 0 {
        host.order(Order::DisconnectAll);
    }
    run.finish(world)
}

fn event_after_the_end(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::calm();
    layout.cpu_count = run.choices.one_of("target CPUs", &[2, 1]);
    layout.shared_receive_count = run.choices.one_of("shared receives", &[24, 0]);
    let mut world = run.world(&layout);
    let machine = world.target.machine();
    let host = connected(&mut world, 0, 1)?;
    let connections = world.fabric.connections(machine);
    // What is raised by itself stays away: what is told by hand comes instead, when it is late.
    world.fabric.change_for(machine, |options| {
        options.manager.withholds =
            EventKinds::LAST_WQE_REACHED | EventKinds::DISCONNECTED | EventKinds::QUEUE_PAIR_FATAL;
    });
    host.order(Order::DisconnectAll);
    run.begin_window();
    let stages = run.choices.between("events told", 1, 6);
    for _ in 0..stages {
        some_steps(run, &mut world, "an event comes after", 400)?;
        if run.choices.one_in("the deadline passes", 3) {
            world.advance(6_000_000_000);
        }
        let connection = run.choices.one_of("whose event", &connections);
        world.fabric.change_for(machine, |options| options.manager.withholds = EventKinds::empty());
        let event = match run.choices.below("which event", 3) {
            0 => InjectedEvent::LastWqeReached(connection),
            1 => InjectedEvent::Disconnected(connection),
            _ => InjectedEvent::QueuePairFatal(connection),
        };
        world.fabric.inject(machine, event);
        if run.choices.one_in("another has its place", 3) {
            let other = super::acting::host(&mut world, 1 + stages);
            other.open(crate::sim::host::raw::Opening::new(0));
            some_steps(run, &mut world, "it comes along for", 600)?;
            other.order(Order::DisconnectAll);
        }
    }
    run.end_window();
    run.finish(world)
}

fn event_twice(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.shared_receive_count = run.choices.one_of("shared receives", &[24, 0]);
    layout.fabric.manager.twice =
        EventKinds::LAST_WQE_REACHED | EventKinds::QUEUE_PAIR_FATAL | EventKinds::DISCONNECTED;
    layout.fabric.device.last_wqe.fatal_first_one_in = 2;
    let mut world = run.world(&layout);
    let hosts = [connected(&mut world, 0, 1)?, connected(&mut world, 1, 1)?];
    let machine = world.target.machine();
    run.begin_window();
    for connection in world.fabric.connections(machine) {
        if run.choices.one_in("its queue pair breaks", 2) {
            world.fabric.break_queue_pair(machine, connection);
        }
        some_steps(run, &mut world, "the next thing happens after", 100)?;
    }
    for host in &hosts {
        host.order(Order::DisconnectAll);
        some_steps(run, &mut world, "the next thing happens after", 100)?;
    }
    run.end_window();
    run.finish(world)
}

fn many_triggers(run: &mut Run) -> Result<(), Failure> {
    let layout = Layout::chosen(&run.choices);
    let mut world = run.world(&layout);
    let machine = world.target.machine();
    let host = connected(&mut world, 0, 2)?;
    let bystander = connected(&mut world, 1, 1)?;
    let connections: Vec<_> = world.fabric.connections(machine).into_iter().take(3).collect();
    run.begin_window();
    let trigger_count = run.choices.between("reasons to end", 2, 3);
    for _ in 0..trigger_count {
        let connection = run.choices.one_of("which queue pair", &connections);
        match run.choices.below("which reason", 8) {
            0 => world.fabric.break_queue_pair(machine, connection),
            1 => world.fabric.cut(machine, connection),
            2 => host.order(Order::DisconnectAll),
            3 => host.order(Order::Disconnect { qid: 1 }),
            4 => host.submit(1, Command::Bytes(vec![0; 10])),
            5 => host.submit(2, Command::WrongKey),
            // Nothing keeps it alive. From here on a deadline may be over before anything could come back, since nobody acts meanwhile.
            6 => {
                world.fabric.change(|options| options.forbids_destroy_with_work = false);
                world.advance(20_000_000_000);
            }
            _ => host.die(),
        }
        some_steps(run, &mut world, "the next reason comes after", 60)?;
    }
    run.end_window();
    host.order(Order::DisconnectAll);
    bystander.order(Order::DisconnectAll);
    run.finish(world)
}

fn disconnected_does_not_flush(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::calm();
    layout.shared_receive_count = run.choices.one_of("shared receives", &[0, 24]);
    layout.fabric.delay_max = 3;
    let mut world = run.world(&layout);
    let host = connected(&mut world, 0, 1)?;
    // Neither flush nor death is seen: only DISCONNECTED says that the host has left.
    host.order(Order::CutsAfter(Some(0)));
    host.order(Order::DisconnectAll);
    let begun_ns = world.now_ns();
    world.reach("that both queue pairs are quiet", STEPS_MAX, |world| {
        world.target.count("rdma_returned") + world.target.count("rdma_cut") == 2
    })?;
    let (cut, took_ns) = (world.target.count("rdma_cut"), world.now_ns() - begun_ns);
    expect(cut == 0, || {
        format!("{cut} queue pairs were cut off, {took_ns} ns after DISCONNECTED: nobody had moved them")
    })?;
    run.finish(world)
}
