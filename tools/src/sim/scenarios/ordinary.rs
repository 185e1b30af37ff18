//! What hosts do when nothing is wrong with the machines: they come and go, share blocks, come back while their old queue still drains, fall silent.

use std::cell::RefCell;
use std::rc::Rc;

use crate::sim::failure::Failure;
use crate::sim::host::blocks::{any_extent, first_own_block};
use crate::sim::host::model::Extent;
use crate::sim::host::raw::{Command, End, Observed, Opening, Order, RawHost, Session, Stage, Steering};
use crate::sim::host::real::{Association, RealHost, Shape};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::{Layout, World};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hosts-come-and-go",
        about: "hosts connect, do I/O and end in every way at any moment, on devices of every kind",
        entries: &["B6", "E2", "F2"],
        play: hosts_come_and_go,
    },
    Scenario {
        name: "hosts-share-blocks",
        about: "several hosts read and write the same blocks over several queues each, and some end with writes under way",
        entries: &["C2", "J10"],
        play: hosts_share_blocks,
    },
    Scenario {
        name: "real-and-raw-hosts",
        about: "the real host side beside hosts made of verbs alone, one association after the other, some ended in their midst",
        entries: &["B6", "I4", "I12"],
        play: real_and_raw_hosts,
    },
    Scenario {
        name: "device-fails-operations",
        about: "block operations fail, hosts are told so with the right status, and nothing else is wrong",
        entries: &["J10"],
        play: device_fails_operations,
    },
    Scenario {
        name: "reconnect-during-drain",
        about: "a queue is disconnected with operations held at the device, and connected again with the same id while the old one drains",
        entries: &["C2", "C3", "D11", "H8", "J10", "R11"],
        play: reconnect_during_drain,
    },
    Scenario {
        name: "keep-alive-expires",
        about: "a host that keeps nothing alive is thrown out in time, one that does is served throughout",
        entries: &["J13", "L5"],
        play: keep_alive_expires,
    },
];

fn hosts_come_and_go(run: &mut Run) -> Result<(), Failure> {
    let layout = Layout::chosen(&run.choices).limiting_hosts(&run.choices);
    let mut world = run.world(&layout);
    let host_count = run.choices.between("hosts", 1, 3);
    let mut observed = Vec::new();
    for number in 0..host_count {
        let session_count = run.choices.between("sessions", 1, 4);
        let sessions = (0..session_count).map(|_| any_session(run)).collect();
        let host = RawHost::new(number, &world, sessions);
        observed.push(host.observed());
        world.add(host);
    }
    world.reach("that all hosts are done", 4_000_000, |_| observed.iter().all(|host| host.borrow().is_done))?;
    run.finish(world)
}

fn hosts_share_blocks(run: &mut Run) -> Result<(), Failure> {
    let mut layout = roomy(run).limiting_hosts(&run.choices);
    // A queue whose end the target never hears of keeps its id while its controller is kept alive: another Connect is told to come again, for ever.
    layout.fabric.loses_disconnected = false;
    let mut world = run.world(&layout);
    let mut observed = Vec::new();
    for number in 0..run.choices.between("hosts", 2, 3) {
        let session = |run: &Run| Session {
            end: run.choices.one_of("end of a session", &[End::Quietly, End::Abruptly, End::Reconnect]),
            shares_one_in: run.choices.one_of("shares blocks", &[1, 2]),
            io_queue_count: run.choices.one_of("I/O queues", &[1, 2]),
            io_count: run.choices.between("commands", 20, 80),
            ..any_session(run).owed()
        };
        let sessions = vec![session(run), session(run)];
        let host = RawHost::new(number, &world, sessions);
        observed.push(host.observed());
        world.add(host);
    }
    world.reach("that all hosts are done", 4_000_000, |_| observed.iter().all(|host| host.borrow().is_done))?;
    for host in &observed {
        let host = host.borrow();
        expect(host.sessions_as_planned == 2, || {
            format!("nobody was thrown out, and not all went as planned: {host:?}")
        })?;
    }
    run.finish(world)
}

fn real_and_raw_hosts(run: &mut Run) -> Result<(), Failure> {
    let layout = roomy(run);
    let mut world = run.world(&layout);
    let choices = run.choices.clone();
    let (mut raw, mut real) = (Vec::new(), Vec::new());
    for number in 0..choices.between("raw hosts", 0, 2) {
        let host = RawHost::new(number, &world, vec![any_session(run), any_session(run)]);
        raw.push(host.observed());
        world.add(host);
    }
    let mut planned_count = 0;
    for number in 8..8 + choices.between("real hosts", 1, 2) {
        let association = |_| {
            let interrupted = choices.one_in("is interrupted", 3);
            planned_count += u32::from(!interrupted);
            Association {
                io_count: choices.between("commands", 0, 60),
                ends_after_turns: interrupted.then(|| choices.below("ends after turns", 1500)),
            }
        };
        let associations = (0..choices.between("associations", 1, 3)).map(association).collect();
        let host = RealHost::new(number, &world, Shape::chosen(&choices), associations);
        real.push(host.observed());
        world.add(host);
    }
    world.reach("that all hosts are done", 4_000_000, |_| {
        raw.iter().all(|host| host.borrow().is_done) && real.iter().all(|host| host.borrow().is_done)
    })?;
    // What was to be interrupted may have been over before.
    let as_planned: u32 = real.iter().map(|host| host.borrow().as_planned_count).sum();
    // Queue pairs that still drain take room.
    let refused = world.target.labelled("rdma_connections_rejected", "no_resources");
    expect(u64::from(as_planned) + refused >= u64::from(planned_count), || {
        format!("{planned_count} associations were left alone, {as_planned} did what was planned: {real:?}")
    })?;
    run.finish(world)
}

fn device_fails_operations(run: &mut Run) -> Result<(), Failure> {
    let layout = roomy(run);
    let mut world = run.world(&layout);
    world.target.device().fail_one_in(run.choices.one_of("operations fail", &[6, 2, 1]));
    let mut observed = Vec::new();
    for number in 0..run.choices.between("hosts", 1, 2) {
        let end = run.choices.one_of("end of a session", &[End::Quietly, End::Abruptly]);
        let host = RawHost::new(number, &world, vec![Session { end, io_count: 60, ..any_session(run).owed() }]);
        observed.push(host.observed());
        world.add(host);
    }
    let real = RealHost::new(
        8,
        &world,
        Shape::chosen(&run.choices),
        vec![Association { io_count: 30, ends_after_turns: None }],
    );
    let real_observed = real.observed();
    world.add(real);
    world.reach("that all hosts are done", 4_000_000, |_| {
        observed.iter().all(|host| host.borrow().is_done) && real_observed.borrow().is_done
    })?;
    let as_planned_count = real_observed.borrow().as_planned_count;
    expect(as_planned_count == 1, || format!("a failed operation ended an association: {:?}", real_observed.borrow()))?;
    let told =
        real_observed.borrow().io_failed_count + observed.iter().map(|host| host.borrow().io_failed_count).sum::<u64>();
    let failed = world.target.device().failed_count();
    expect(told <= failed, || format!("{failed} operations failed, and hosts were told of {told}"))?;
    run.finish(world)
}

fn reconnect_during_drain(run: &mut Run) -> Result<(), Failure> {
    const LIMIT: u64 = 2_000_000;
    let mut layout = Layout::chosen(&run.choices);
    // As in `hosts_share_blocks`.
    layout.fabric.loses_disconnected = false;
    let mut world = run.world(&layout);
    let host = RawHost::new(0, &world, Vec::new());
    let steering = host.steering();
    world.add(host);
    steering.order(Order::KeepAlive(true));
    steering.open(Opening::new(0));
    world.reach("that the admin queue is ready", LIMIT, |_| steering.is_at(0, Stage::Ready))?;
    steering.open(Opening::new(1));
    world.reach("that queue 1 is ready", LIMIT, |_| steering.is_at(1, Stage::Ready))?;

    run.begin_window();
    world.target.device().hold();
    for _ in 0..run.choices.between("commands", 1, 8) {
        let extent = any_extent(&run.choices, 0, 4, 0);
        let command = match run.choices.one_of("I/O command", b"WRZ") {
            b'W' => Command::Write { extent, in_capsule: run.choices.one_in("in capsule", 2) },
            b'R' => Command::Read(extent),
            _ => Command::WriteZeroes(extent),
        };
        steering.submit(1, command);
    }
    world.steps(u64::from(run.choices.below("steps until it disconnects", 200)))?;
    steering.order(Order::Disconnect { qid: 1 });
    world.steps(u64::from(run.choices.below("steps until it connects again", 100)))?;
    steering.open(Opening::new(1));
    world.steps(u64::from(run.choices.below("steps until operations end", 2_000)))?;
    if run.choices.one_in("held for long", 4) {
        // Longer than a Connect waits for the old queue.
        world.pass(3_000_000_000)?;
    }
    world.target.device().let_go();
    run.end_window();
    // A Connect that was told to come again does.
    for _ in 0..6 {
        world.reach("an answer to Connect", LIMIT, |_| {
            let is_answered = steering.is_at(1, Stage::Ready) || steering.stage(1).is_none_or(Stage::is_ending);
            steering.has_taken_orders() && is_answered
        })?;
        if steering.is_at(1, Stage::Ready) {
            break;
        }
        world.pass(50_000_000)?;
        steering.open(Opening::new(1));
    }
    world.reach("that the queue is connected again", 1, |_| steering.is_at(1, Stage::Ready))?;
    steering.submit(1, Command::Read(Extent { start: first_own_block(0), count: 8 }));
    read_back(&mut world, &steering)?;
    run.finish(world)
}

fn keep_alive_expires(run: &mut Run) -> Result<(), Failure> {
    let layout = Layout::chosen(&run.choices);
    let mut world = run.world(&layout);
    let session = Session {
        io_queue_count: run.choices.one_of("I/O queues", &[1, 0, 2]),
        event_request_count: 1,
        io_count: run.choices.below("commands", 10),
        ..Session::new(0, End::Wait)
    };
    let silent = RawHost::new(0, &world, vec![session.clone()]);
    let lively = RawHost::new(1, &world, vec![Session { keeps_alive: true, ..session }]);
    let (silent_steering, lively_steering) = (silent.steering(), lively.steering());
    world.add(silent);
    world.add(lively);
    let serve = |steering: &Steering| steering.observed().is_serving;
    world.reach("that both are served", 2_000_000, |_| serve(&silent_steering) && serve(&lively_steering))?;
    run.begin_window();
    // A second, one more where its last commands came early in the first, and what the target may take to end.
    world.pass(2_500_000_000)?;
    run.end_window();
    let expired = world.target.labelled("rdma_disconnects", "keep_alive");
    expect(expired >= 1, || "two seconds and a half without a sign of life, and nobody was thrown out".to_owned())?;
    let lively = lively_steering.observed();
    expect(lively.is_serving && lively.disconnects.is_empty() && lively.keep_alive_count >= 2, || {
        format!("the host that keeps itself alive was not: {lively:?}")
    })?;
    drop(lively);
    lively_steering.order(Order::DisconnectAll);
    // Where DISCONNECTED gets lost it does not know yet.
    silent_steering.order(Order::DisconnectAll);
    run.finish(world)
}

/// A last read of what it holds, and the end.
fn read_back(world: &mut World, steering: &Steering) -> Result<(), Failure> {
    world.steps(50)?;
    world.reach("that everything is answered", 2_000_000, |_| steering.observed().outstanding_count == 0)?;
    steering.order(Order::DisconnectAll);
    world.steps(50)
}

/// Any layout with room for everybody, so that nobody is refused.
pub(super) fn roomy(run: &Run) -> Layout {
    let mut layout = Layout::chosen(&run.choices);
    layout.queue_pair_count_max = 24;
    // What the real host side asks for.
    let attributes = &mut layout.fabric.attributes;
    attributes.work_request_count_max = attributes.work_request_count_max.max(40);
    layout
}

/// The same, on a network that loses no DISCONNECTED: a queue can be had again soon after its end.
pub(super) fn told_of_ends(run: &Run) -> Layout {
    let mut layout = roomy(run);
    layout.fabric.loses_disconnected = false;
    layout
}

/// A session that ends in any way, at any moment.
pub(super) fn any_session(run: &Run) -> Session {
    let choices = &run.choices;
    let after = choices.below("end after turns", 200);
    let ends = [
        End::Quietly,
        End::Abruptly,
        End::Announced,
        End::Overrun,
        End::ShortCapsule,
        End::WrongKey,
        End::WrongSgl,
        End::Reconnect,
        End::Dies,
        End::AfterTurns(after),
        End::AfterTurns(after),
    ];
    let number =
        |what, low: u16, high: u16| u16::try_from(choices.between(what, low.into(), high.into())).unwrap_or(low);
    Session {
        io_queue_count: choices.one_of("I/O queues", &[1, 0, 2, 3]),
        depth: number("depth", 2, 16),
        io_count: choices.below("commands", 40),
        end: choices.one_of("end of a session", &ends),
        keep_alive_ms: 1000,
        keeps_alive: choices.one_in("keeps alive", 2),
        event_request_count: number("event requests", 0, 3),
        block_count_max: number("most blocks", 1, 8),
        shares_one_in: choices.one_of("shares blocks", &[0, 3]),
        is_owed: false,
        request: None,
    }
}

/// The one session of a host that nobody had a reason to disturb went as planned.
pub(super) fn expect_served(host: &Rc<RefCell<Observed>>) -> Result<(), Failure> {
    let host = host.borrow();
    expect(host.sessions_as_planned == 1, || format!("a host was disturbed by what another did: {host:?}"))
}

/// What a scenario itself finds wrong.
pub(super) fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure { found_by: "scenario", what: otherwise() }) }
}
