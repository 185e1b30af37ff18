//! Completions: batches with an error inside, late ones, names that are used again, requests that cannot be posted, room that is not there.

use transport_rdma::soft::in_process::{Calls, CompletionFaults, Reuse};
use transport_rdma::verbs::PortId;

use super::acting::{STEPS_MAX, connect, connected, expect, extent, held_io, sessions, some_steps};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{Command, End, Order, Session};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::Layout;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "error-inside-a-batch",
        about: "a failed completion anywhere in a batch of two queue pairs, with successes of both behind it",
        entries: &["C1", "C8", "C12", "C18", "J7"],
        play: error_inside_a_batch,
    },
    Scenario {
        name: "number-reused-while-completions-wait",
        about: "a queue pair is destroyed while completions of it wait, and the next one has its number at once",
        entries: &["C2", "C6", "C7", "L6", "R5", "R11"],
        play: number_reused,
    },
    Scenario {
        name: "block-operation-held-over-the-teardown",
        about: "the device keeps its operations while everything above them ends",
        entries: &["C3", "J10", "L1"],
        play: block_operation_held,
    },
    Scenario {
        name: "post-fails-anywhere",
        about: "any post of a request or a receive fails, on either side",
        entries: &["C19", "E11", "F11", "I11"],
        play: post_fails,
    },
    Scenario {
        name: "everything-waits-for-room",
        about: "send queues, read depths and buffers are short of room when the connection ends",
        entries: &["C9", "C11", "E4", "F5", "F6", "J8"],
        play: everything_waits,
    },
    Scenario {
        name: "completion-queue-breaks",
        about: "a completion queue breaks, with everything that is on it",
        entries: &[],
        play: completion_queue_breaks,
    },
];

fn error_inside_a_batch(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    // Both queues are polled by one CPU, from one completion queue.
    layout.cpu_count = 1;
    layout.fabric.device.completions = CompletionFaults {
        looks_max: 8,
        is_split: run.choices.one_in("completions come in parts", 2),
        is_mixed: run.choices.one_in("completions are mixed", 2),
        ..CompletionFaults::default()
    };
    let mut world = run.world(&layout);
    let host = connected(&mut world, 0, 2)?;
    run.begin_window();
    for at in 0..run.choices.between("commands", 2, 8) {
        let qid = 1 + u16::try_from(at % 2).unwrap_or_default();
        let command = match run.choices.below("which command", 4) {
            0 => Command::Read(extent(at, 2)),
            1 => Command::Write { extent: extent(at, 2), in_capsule: false },
            2 => Command::WrongKey,
            _ => Command::Write { extent: extent(at, 1), in_capsule: true },
        };
        host.submit(qid, command);
        some_steps(run, &mut world, "the next command comes after", 12)?;
    }
    some_steps(run, &mut world, "they go on for", 200)?;
    run.end_window();
    host.order(Order::DisconnectAll);
    run.finish(world)
}

fn number_reused(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.cpu_count = 1;
    layout.shared_receive_count = run.choices.one_of("shared receives", &[24, 0]);
    layout.fabric.device.numbers = Reuse::AtOnce;
    layout.fabric.device.keys = Reuse::AtOnce;
    layout.fabric.device.completions =
        CompletionFaults { looks_max: 30, is_split: true, ..CompletionFaults::default() };
    layout.fabric.device.swallows_shared_receive_one_in = run.choices.one_of("swallows a receive, one in", &[0, 2]);
    layout.fabric.device.flushes_shared_receive_one_in = run.choices.one_of("flushes a receive, one in", &[0, 2]);
    let mut world = run.world(&layout);
    run.begin_window();
    let ends = [End::Abruptly, End::Quietly, End::Dies, End::AfterTurns(run.choices.below("end after turns", 120))];
    let mut of_hosts = Vec::new();
    for _ in 0..2 {
        let sessions =
            (0..4).map(|_| Session::new(run.choices.below("commands", 12), run.choices.one_of("end", &ends)));
        of_hosts.push(sessions.collect());
    }
    sessions(&mut world, of_hosts)?;
    run.end_window();
    run.finish(world)
}

fn block_operation_held(run: &mut Run) -> Result<(), Failure> {
    let layout = Layout::chosen(&run.choices);
    let mut world = run.world(&layout);
    let host = connected(&mut world, 0, 2)?;
    held_io(&mut world, &host, 0, 1)?;
    run.begin_window();
    match run.choices.below("how it ends", 3) {
        0 => host.order(Order::DisconnectAll),
        1 => host.order(Order::Disconnect { qid: 1 }),
        _ => host.die(),
    }
    some_steps(run, &mut world, "the end goes on for", 300)?;
    // Longer than every deadline: what the device has is not cut. The rest may be, as nobody acts meanwhile.
    world.fabric.change(|options| options.forbids_destroy_with_work = false);
    world.advance(30_000_000_000);
    world.steps(2_000)?;
    let live = world.target.count("rdma_queue_pairs_live");
    expect(live >= 1, || "the queue pair whose operations the device has is gone".to_owned())?;
    run.end_window();
    // Others come and go meanwhile.
    let other = connected(&mut world, 1, 0)?;
    other.order(Order::DisconnectAll);
    world.target.device().let_go();
    host.order(Order::DisconnectAll);
    run.finish(world)
}

fn post_fails(run: &mut Run) -> Result<(), Failure> {
    let layout = Layout::chosen(&run.choices);
    let mut world = run.world(&layout);
    let machine = world.target.machine();
    let hosts = [connected(&mut world, 0, 2)?, connected(&mut world, 1, 1)?];
    run.begin_window();
    let kinds = [Calls::POST_SEND, Calls::POST_RECEIVE, Calls::POST_SHARED_RECEIVE];
    for _ in 0..run.choices.between("posts that fail", 1, 3) {
        let nth = u64::from(run.choices.below("which post", 40));
        world.fabric.fail_call(machine, run.choices.one_of("which kind of post", &kinds), nth);
    }
    for number in 0..run.choices.between("commands", 4, 24) {
        let (host, qid) = (&hosts[number as usize % 2], 1);
        host.submit(
            qid,
            match run.choices.below("which command", 3) {
                0 => Command::Read(extent(number % 8, 4)),
                1 => Command::Write { extent: extent(number % 8, 4), in_capsule: false },
                _ => Command::Flush,
            },
        );
        some_steps(run, &mut world, "the next command comes after", 40)?;
    }
    run.end_window();
    hosts.iter().for_each(|host| host.order(Order::DisconnectAll));
    run.finish(world)
}

fn everything_waits(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::calm();
    layout.shared_receive_count = run.choices.one_of("shared receives", &[0, 24]);
    layout.fabric.delay_max = run.choices.one_of("network delay", &[3, 12]);
    layout.fabric.attributes.transfer_len_max = 1024;
    layout.fabric.attributes.work_request_count_max = run.choices.one_of("room of queues", &[24, 18, 40]);
    layout.fabric.attributes.read_initiator_count_max = run.choices.one_of("read depth", &[1, 2, 16]);
    layout.fabric.attributes.inline_len_max = 0;
    layout.data_memory_len = run.choices.one_of("bytes of buffers", &[64 << 10, 256 << 10]);
    layout.fabric.device.completions =
        CompletionFaults { looks_max: 12, is_mixed: true, ..CompletionFaults::default() };
    let mut world = run.world(&layout);
    run.begin_window();
    let mut of_hosts = Vec::new();
    for _ in 0..2 {
        let end = match run.choices.below("end", 3) {
            0 => End::Quietly,
            1 => End::Abruptly,
            _ => End::AfterTurns(run.choices.below("end after turns", 400)),
        };
        let session = Session { io_queue_count: 2, depth: 16, block_count_max: 8, ..Session::new(40, end) };
        of_hosts.push(vec![session.clone(), session]);
    }
    sessions(&mut world, of_hosts)?;
    run.end_window();
    run.finish(world)
}

fn completion_queue_breaks(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.cpu_count = 2;
    layout.fabric.is_strict = false;
    // Nothing completes on it any more, so nothing can be proven.
    layout.fabric.forbids_destroy_with_work = false;
    let mut world = run.world(&layout);
    let machine = world.target.machine();
    let hosts = [connected(&mut world, 0, 2)?, connected(&mut world, 1, 2)?];
    let begun_ns = world.now_ns();
    run.begin_window();
    for (host, number) in hosts.iter().zip(0..) {
        host.submit(1, Command::Read(extent(number, 4)));
        host.submit(2, Command::Write { extent: extent(number, 4), in_capsule: false });
    }
    some_steps(run, &mut world, "it breaks after", 60)?;
    world.fabric.break_port(machine, PortId(0));
    world.reach("that its queue pairs have ended", STEPS_MAX, |world| {
        world.target.labelled("rdma_queue_pairs_live", "0") == 0
    })?;
    let took_ns = world.now_ns() - begun_ns;
    expect(took_ns < 1_000_000_000, || format!("it took {took_ns} ns: no deadline is to be waited for"))?;
    run.end_window();
    hosts.iter().for_each(|host| host.order(Order::DisconnectAll));
    // The other CPU takes connections in still.
    let other = super::acting::host(&mut world, 2);
    connect(&mut world, &other, 0)?;
    other.order(Order::DisconnectAll);
    let broken = world.target.count("rdma_completion_queue_broken");
    expect(broken == 1, || format!("{broken} completion queues are said to be broken"))?;
    // The broken CPU's shared receives never come back.
    world.expect_receives_lost();
    run.finish(world)
}
