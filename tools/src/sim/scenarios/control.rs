//! What people do to a running target, at any moment of connections; and controllers whose queues are on several CPUs.

use transport_rdma::target::Change;

use super::acting::{STEPS_MAX, connected, expect, held_io, host, some_steps};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{End, Opening, Order, RawHost, Session, Stage};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::Layout;
use crate::sim::world::layout::{SUBSYSTEM, address};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "listener-removed-under-load",
        about: "a listener is removed while the device holds I/O of connections that came by it: the answer does not wait for them",
        entries: &["H1", "K12"],
        play: listener_removed,
    },
    Scenario {
        name: "subsystem-deleted-under-load",
        about: "a subsystem is deleted with hosts connected and connecting: its controllers end first",
        entries: &["H3", "H12", "J12"],
        play: subsystem_deleted,
    },
    Scenario {
        name: "io-connect-while-the-admin-queue-dies",
        about: "an I/O queue connects at any moment of its controller's end",
        entries: &["B9", "H6", "L3"],
        play: io_connect_while_admin_dies,
    },
    Scenario {
        name: "every-rpc-at-any-moment",
        about: "listeners, subsystems and hosts' rights are changed and listed at any moment",
        entries: &["E10", "H3", "H10", "H15"],
        play: every_rpc,
    },
    Scenario {
        name: "keep-alive-expires-during-teardown",
        about: "keep-alive timers of many hosts come due while their queue pairs end slowly",
        entries: &["H11", "J13", "L5"],
        play: keep_alive,
    },
    Scenario {
        name: "queues-on-three-cpus",
        about: "queues of one controller on three CPUs end in any order, held up one by one",
        entries: &["H2", "H4", "H14"],
        play: three_cpus,
    },
];

fn listener_removed(run: &mut Run) -> Result<(), Failure> {
    let layout = Layout::chosen(&run.choices);
    let mut world = run.world(&layout);
    let host = connected(&mut world, 0, 1)?;
    held_io(&mut world, &host, 0, 1)?;
    let late = super::acting::host(&mut world, 1);
    run.begin_window();
    late.open(Opening::new(0));
    some_steps(run, &mut world, "the listener is removed after", 300)?;
    let begun_ns = world.now_ns();
    world.change(Change::RemoveListener { nqn: SUBSYSTEM.to_owned(), address: address() });
    world.reach("the answer", STEPS_MAX, |world| world.target.changes_under_way() == 0)?;
    let took_ns = world.now_ns() - begun_ns;
    expect(took_ns < 100_000_000, || format!("the answer took {took_ns} ns: it waited for what the device holds"))?;
    expect(world.target.control().listeners().count() == 0, || "the address is listened on still".to_owned())?;
    run.end_window();
    // Asked where it came from, the qpair that drains still knows.
    world.steps(2_000)?;
    world.change(Change::AddListener { nqn: SUBSYSTEM.to_owned(), address: address() });
    world.reach("the answer", STEPS_MAX, |world| world.target.changes_under_way() == 0)?;
    world.target.device().let_go();
    let again = connected(&mut world, 2, 1)?;
    for host in [host, late, again] {
        host.order(Order::DisconnectAll);
    }
    run.finish(world)
}

fn subsystem_deleted(run: &mut Run) -> Result<(), Failure> {
    let layout = Layout::chosen(&run.choices);
    let mut world = run.world(&layout);
    let first = connected(&mut world, 0, 2)?;
    let holds = run.choices.one_in("the device holds its operations", 2);
    if holds {
        held_io(&mut world, &first, 0, 1)?;
    }
    let second = host(&mut world, 1);
    run.begin_window();
    second.open(Opening::new(0));
    some_steps(run, &mut world, "it is deleted after", 500)?;
    world.change(Change::DeleteSubsystem { nqn: SUBSYSTEM.to_owned() });
    some_steps(run, &mut world, "the deletion goes on for", 300)?;
    if holds {
        world.steps(4_000)?;
        expect(world.target.changes_under_way() == 1, || "it is gone, and the device holds its operations".to_owned())?;
        world.target.device().let_go();
    }
    for host in [&first, &second] {
        host.order(Order::DisconnectAll);
    }
    world.reach("that it is gone", STEPS_MAX, |world| world.target.changes_under_way() == 0)?;
    run.end_window();
    run.finish(world)
}

fn io_connect_while_admin_dies(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.cpu_count = run.choices.one_of("target CPUs", &[2, 3]);
    let mut world = run.world(&layout);
    let host = host(&mut world, 0);
    // Nothing keeps it alive.
    host.open(Opening { keep_alive_ms: 100, ..Opening::new(0) });
    let watched = host.clone();
    world.reach("that the admin queue is up", STEPS_MAX, |_| watched.is_at(0, Stage::Ready))?;
    host.open(Opening::new(1).until(Stage::Established));
    world.reach("that the I/O queue is there", STEPS_MAX, |_| watched.is_at(1, Stage::Established))?;
    run.begin_window();
    let first = run.choices.below("what comes first", 2);
    let end = |host: &crate::sim::host::raw::Steering, world: &mut crate::sim::world::World, how: u32| match how {
        0 => host.order(Order::Disconnect { qid: 0 }),
        _ => world.advance(300_000_000),
    };
    let how = run.choices.below("how the admin queue ends", 2);
    if first == 1 {
        end(&host, &mut world, how);
        some_steps(run, &mut world, "the other comes after", 120)?;
    }
    host.order(Order::Advance { qid: 1, goal: Stage::Ready });
    if first == 0 {
        some_steps(run, &mut world, "the other comes after", 120)?;
        end(&host, &mut world, how);
    }
    some_steps(run, &mut world, "it goes on for", 400)?;
    run.end_window();
    host.order(Order::DisconnectAll);
    run.finish(world)
}

fn every_rpc(run: &mut Run) -> Result<(), Failure> {
    let layout = Layout::chosen(&run.choices);
    let mut world = run.world(&layout);
    for number in 0..2 {
        let session = |run: &Run| {
            let after = End::AfterTurns(run.choices.below("end after turns", 300));
            Session::new(
                run.choices.below("commands", 30),
                run.choices.one_of("end", &[End::Quietly, End::Abruptly, after]),
            )
        };
        let sessions = (0..3).map(|_| session(run)).collect();
        world.add(RawHost::new(number, &world, sessions));
    }
    run.begin_window();
    for _ in 0..run.choices.between("changes", 2, 8) {
        some_steps(run, &mut world, "the next change comes after", 800)?;
        let nqn = || SUBSYSTEM.to_owned();
        let host = || "nqn.2026-01.org.quiesce:host1".to_owned();
        let change = match run.choices.below("which change", 6) {
            0 => Change::AllowAnyHost { nqn: nqn(), is_allowed: false },
            1 => Change::AllowAnyHost { nqn: nqn(), is_allowed: true },
            2 => Change::AddHost { nqn: nqn(), host: host() },
            3 => Change::RemoveHost { nqn: nqn(), host: host() },
            4 => Change::RemoveListener { nqn: nqn(), address: address() },
            _ => Change::AddListener { nqn: nqn(), address: address() },
        };
        // What is refused changes nothing.
        world.change(change);
        world.target.list_everything();
    }
    run.end_window();
    world.reach("every answer", STEPS_MAX, |world| world.target.changes_under_way() == 0)?;
    run.finish_in_use(world)
}

fn keep_alive(run: &mut Run) -> Result<(), Failure> {
    let layout = Layout::chosen(&run.choices);
    let mut world = run.world(&layout);
    let mut hosts = Vec::new();
    for number in 0..3 {
        let host = host(&mut world, number);
        host.open(Opening { keep_alive_ms: 100, ..Opening::new(0) });
        let watched = host.clone();
        world.reach("that the admin queue is up", STEPS_MAX, |_| watched.is_at(0, Stage::Ready))?;
        host.open(Opening::new(1));
        hosts.push(host);
    }
    run.begin_window();
    let holds = run.choices.one_in("the device holds operations", 2);
    if holds && hosts[0].is_at(1, Stage::Ready) {
        held_io(&mut world, &hosts[0], 0, 1)?;
    }
    for host in &hosts {
        world.advance(u64::from(run.choices.below("time passes, ms", 120)) * 1_000_000);
        if run.choices.one_in("one leaves", 2) {
            host.order(Order::DisconnectAll);
        }
        some_steps(run, &mut world, "the next thing happens after", 100)?;
    }
    world.advance(400_000_000);
    some_steps(run, &mut world, "it goes on for", 400)?;
    run.end_window();
    world.target.device().let_go();
    hosts.iter().for_each(|host| host.order(Order::DisconnectAll));
    run.finish(world)
}

fn three_cpus(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.cpu_count = 3;
    layout.reactors.stall_one_in = run.choices.one_of("a CPU stalls after one in so many turns", &[0, 40]);
    layout.reactors.stall_ns_max = 200_000;
    let mut world = run.world(&layout);
    let host = connected(&mut world, 0, 4)?;
    if run.choices.one_in("the device holds operations", 2) {
        held_io(&mut world, &host, 0, 3)?;
    }
    run.begin_window();
    let mut queues: Vec<u16> = (0..=4).collect();
    while !queues.is_empty() {
        let at = run.choices.below("which queue ends next", u32::try_from(queues.len()).unwrap_or(1)) as usize;
        host.order(Order::Disconnect { qid: queues.remove(at) });
        some_steps(run, &mut world, "the next one ends after", 100)?;
    }
    run.end_window();
    world.target.device().let_go();
    run.finish(world)
}
