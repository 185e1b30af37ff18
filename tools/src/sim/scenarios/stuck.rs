//! What is waited for never comes: every end is bounded all the same, and nothing is used too early.

use transport_rdma::soft::in_process::{Calls, EventKinds, LastWqeMoment};

use super::acting::{STEPS_MAX, connected, expect, extent, held_io, sessions, some_steps};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{Command, End, Order, Session};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::Layout;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "flushes-that-never-come",
        about: "some flush completions are lost for good, and everything ends at the deadline",
        entries: &["E3", "R18"],
        play: flushes_never_come,
    },
    Scenario {
        name: "device-without-last-wqe",
        about: "shared receives on a device that never raises LAST_WQE_REACHED, or only at times",
        entries: &["E2", "L6"],
        play: without_last_wqe,
    },
    Scenario {
        name: "each-event-withheld-for-ever",
        about: "one kind of event never comes at the target, from some moment on",
        entries: &["E6"],
        play: each_event_withheld,
    },
    Scenario {
        name: "shutdown-under-load",
        about: "the target is shut down at any moment of hosts that know nothing of it",
        entries: &["A2", "E1", "H7"],
        play: shutdown_under_load,
    },
    Scenario {
        name: "connection-ends-in-bounded-time",
        about: "a host that leaves in good order is gone in a moment, with nothing cut off",
        entries: &["E16"],
        play: bounded_time,
    },
    Scenario {
        name: "hung-device-and-reconnects",
        about: "the block device hangs while hosts come and go: Connect gets its receive all the same",
        entries: &["F3", "L1"],
        play: hung_device,
    },
    Scenario {
        name: "call-that-never-ends-is-named",
        about: "a call of the target's device does not come back for long: what it has is kept, a gauge names it, others are served; then it comes",
        entries: &["E6"],
        play: call_never_ends,
    },
    Scenario {
        name: "what-cannot-be-destroyed-is-kept",
        about: "a queue pair can be neither drained nor destroyed: its memory is never used again, and the target ends all the same",
        entries: &["E3"],
        play: cannot_be_destroyed,
    },
];

fn flushes_never_come(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.fabric.forbids_destroy_with_work = false;
    let mut world = run.world(&layout);
    let machine = world.target.machine();
    let hosts = [connected(&mut world, 0, 2)?, connected(&mut world, 1, 1)?];
    run.begin_window();
    world.fabric.drop_flushes(machine, run.choices.between("flushes lost", 1, 12));
    for (number, host) in (0..).zip(&hosts) {
        host.submit(1, Command::Read(extent(number, 4)));
        host.order(Order::DisconnectAll);
        some_steps(run, &mut world, "the next one leaves after", 200)?;
    }
    run.end_window();
    run.finish(world)
}

fn without_last_wqe(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.shared_receive_count = 24;
    layout.fabric.forbids_destroy_with_work = false;
    match run.choices.below("what the device says of it", 3) {
        0 => layout.fabric.raises_last_wqe = false,
        1 => layout.fabric.device.last_wqe.moment = LastWqeMoment::Never,
        _ => layout.fabric.device.last_wqe.only_if_consumed = true,
    }
    let mut world = run.world(&layout);
    let session = |run: &Run| {
        let ends = [End::Quietly, End::Abruptly, End::Dies];
        Session::new(run.choices.below("commands", 10), run.choices.one_of("end", &ends))
    };
    let of_hosts = (0..2).map(|_| (0..4).map(|_| session(run)).collect()).collect();
    sessions(&mut world, of_hosts)?;
    run.finish(world)
}

fn each_event_withheld(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.fabric.forbids_destroy_with_work = false;
    let mut world = run.world(&layout);
    let machine = world.target.machine();
    let host = connected(&mut world, 0, 1)?;
    let kinds = [
        EventKinds::DISCONNECTED,
        EventKinds::LAST_WQE_REACHED,
        EventKinds::QUEUE_PAIR_FATAL,
        EventKinds::ESTABLISHED,
        EventKinds::REJECTED,
        EventKinds::TIMEWAIT_EXIT,
    ];
    let kind = run.choices.one_of("what never comes", &kinds);
    run.begin_window();
    world.fabric.change_for(machine, |options| options.manager.withholds = kind);
    host.submit(1, Command::Read(extent(0, 4)));
    some_steps(run, &mut world, "the host leaves after", 100)?;
    match run.choices.below("how it leaves", 3) {
        0 => host.order(Order::DisconnectAll),
        1 => host.die(),
        _ => world.fabric.connections(machine).into_iter().for_each(|id| world.fabric.break_queue_pair(machine, id)),
    }
    run.end_window();
    let other = connected(&mut world, 1, 1)?;
    other.order(Order::DisconnectAll);
    host.order(Order::DisconnectAll);
    run.finish(world)
}

fn shutdown_under_load(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    // A host that nobody tells would wait for ever.
    layout.fabric.loses_disconnected = false;
    let mut world = run.world(&layout);
    for number in 0..3 {
        let session = Session { io_queue_count: 2, ..Session::new(10_000, End::Wait) };
        world.add(crate::sim::host::raw::RawHost::new(number, &world, vec![session.clone(), session]));
    }
    run.begin_window();
    some_steps(run, &mut world, "it is shut down after", 6_000)?;
    let result = run.finish_in_use(world);
    run.end_window();
    result
}

fn bounded_time(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::calm();
    layout.cpu_count = run.choices.one_of("target CPUs", &[2, 1, 3]);
    layout.shared_receive_count = run.choices.one_of("shared receives", &[0, 24]);
    layout.fabric.delay_max = 3;
    layout.fabric.forbids_destroy_with_work = true;
    let mut world = run.world(&layout);
    let host = connected(&mut world, 0, 3)?;
    let begun_ns = world.now_ns();
    host.order(Order::DisconnectAll);
    world.reach("that nothing is left of it", STEPS_MAX, |world| world.target.is_at_rest())?;
    let took_ns = world.now_ns() - begun_ns;
    expect(took_ns < 50_000_000, || format!("the end of four queue pairs took {took_ns} ns"))?;
    let cut = world.target.count("rdma_cut");
    expect(cut == 0, || format!("{cut} queue pairs were cut off"))?;
    // Longer than every deadline: no timer was left behind that names what is gone.
    world.advance(20_000_000_000);
    world.steps(200)?;
    let stale = world.target.count("rdma_stale_handles");
    expect(stale == 0, || format!("{stale} names led nowhere"))?;
    run.finish(world)
}

fn hung_device(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.shared_receive_count = run.choices.one_of("shared receives", &[24, 0]);
    layout.queue_pair_count_max = 24;
    let mut world = run.world(&layout);
    let first = connected(&mut world, 0, 1)?;
    held_io(&mut world, &first, 0, 1)?;
    for block in 0..6 {
        first.submit(1, Command::Read(extent(block, 1)));
    }
    run.begin_window();
    for number in 1..4 {
        let host = connected(&mut world, number, 1)?;
        host.submit(1, Command::Write { extent: extent(number, 1), in_capsule: true });
        some_steps(run, &mut world, "it leaves after", 200)?;
        match run.choices.below("how it leaves", 2) {
            0 => host.order(Order::DisconnectAll),
            _ => host.die(),
        }
    }
    run.end_window();
    world.target.device().let_go();
    first.order(Order::DisconnectAll);
    run.finish(world)
}

fn call_never_ends(run: &mut Run) -> Result<(), Failure> {
    const CALLS: [(EventKinds, &str); 3] = [
        (EventKinds::QUEUE_PAIR_CREATED, "creation of a queue pair"),
        (EventKinds::QUEUE_PAIR_DESTROYED, "destruction of a queue pair"),
        (EventKinds::CONNECTION_DESTROYED, "destruction of a connection"),
    ];
    let mut world = run.world(&Layout::chosen(&run.choices));
    let machine = world.target.machine();
    let bystander = connected(&mut world, 0, 1)?;
    let host = connected(&mut world, 1, 1)?;
    let coming = super::acting::host(&mut world, 2);
    let (kind, waits_for) = run.choices.one_of("what does not come back", &CALLS);
    run.begin_window();
    world.note(|| format!("withholds from the target: {waits_for}"));
    world.fabric.change_for(machine, |options| options.manager.withholds = kind);
    coming.open(super::acting::opening(0));
    host.submit(1, Command::Read(extent(1, 4)));
    some_steps(run, &mut world, "it leaves after", 300)?;
    host.order(Order::DisconnectAll);
    // Longer than whoever waits for it has patience (its keep-alive may take two intervals), and than the target calls it overdue.
    world.pass(18_000_000_000)?;
    run.end_window();
    let (named, overdue) = (
        world.target.labelled("rdma_connections_overdue_live", waits_for),
        world.target.count("rdma_connections_overdue_live"),
    );
    expect(named > 0 && named == overdue, || format!("of {overdue} overdue {named} wait for the {waits_for}"))?;
    let before = bystander.observed().io_count;
    bystander.submit(1, Command::Read(extent(0, 2)));
    world.reach("that the other host is served", STEPS_MAX, |_| bystander.observed().io_count > before)?;
    world.note(|| "withholds nothing any more".to_owned());
    world.fabric.change_for(machine, |options| options.manager.withholds = EventKinds::empty());
    [&bystander, &host, &coming].into_iter().for_each(|host| host.order(Order::DisconnectAll));
    run.finish(world)
}

fn cannot_be_destroyed(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.fabric.forbids_destroy_with_work = false;
    let mut world = run.world(&layout);
    let machine = world.target.machine();
    let host = connected(&mut world, 0, 2)?;
    let bystander = connected(&mut world, 1, 1)?;
    run.begin_window();
    // What was drained may be forgotten though it was not destroyed: so some of it never comes back.
    world.fabric.change_for(machine, |options| options.device.completions.drops_flush_one_in = 1);
    let nth = run.choices.below("which destroy call fails", 3);
    world.fabric.fail_call(machine, Calls::DESTROY_QUEUE_PAIR, nth.into());
    host.submit(1, Command::Read(extent(0, 4)));
    some_steps(run, &mut world, "it leaves after", 200)?;
    host.order(Order::DisconnectAll);
    // A keep-alive where DISCONNECTED is lost, a drain's deadline, and what the calls take.
    world.pass(11_000_000_000)?;
    world.within("that one queue pair is left", 4_000_000_000, |world| {
        let is_kept = world.target.count("rdma_connections_quarantined_live") == 1;
        // Those of the other host, and it.
        is_kept && world.target.count("rdma_connections_live") == 3
    })?;
    run.end_window();
    world.fabric.change_for(machine, |options| options.device.completions.drops_flush_one_in = 0);
    let before = bystander.observed().io_count;
    bystander.submit(1, Command::Read(extent(1, 2)));
    world.reach("that the other host is served", STEPS_MAX, |_| bystander.observed().io_count > before)?;
    bystander.order(Order::DisconnectAll);
    world.order("shuts the target down", |control, turn| control.begin_shutdown(turn));
    world.within("that the target ends", 30_000_000_000, |world| world.target.has_left())?;
    run.add_up(&world);
    Ok(())
}
