//! A subsystem is paused and resumed with commands under way: none is lost, none fails, and nothing touches the device meanwhile.

use nvmf_core::target::Amendment;

use super::acting::{STEPS_MAX, expect, some_steps};
use super::ordinary::{any_session, roomy};
use super::steady::{self, Member};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{Command, Order, RawHost};
use crate::sim::host::real::{Association, RealHost, Shape};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::World;
use crate::sim::world::asked::Asked;
use crate::sim::world::layout::SUBSYSTEM;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "paused-under-load",
        about: "a subsystem is paused and resumed under I/O of raw and real hosts: nothing fails, and the device is left alone meanwhile",
        entries: &["S1", "S2"],
        play: paused_under_load,
    },
    Scenario {
        name: "paused-while-queues-die",
        about: "hosts end in every way, CPUs stall and devices hang while their subsystem is paused and resumed",
        entries: &["S1", "S2"],
        play: paused_while_queues_die,
    },
];

pub(super) fn pause(world: &mut World) -> Asked {
    world.amend(Amendment::PauseSubsystem { nqn: SUBSYSTEM.to_owned() })
}

pub(super) fn resume(world: &mut World) -> Asked {
    world.amend(Amendment::ResumeSubsystem { nqn: SUBSYSTEM.to_owned() })
}

fn paused_under_load(run: &mut Run) -> Result<(), Failure> {
    let layout = roomy(run).limiting_hosts(&run.choices);
    let mut world = run.world(&layout);
    let real = run.choices.one_in("a real host", 2).then(|| {
        let plan = Association { io_count: 40, ends_after_turns: None };
        let host = RealHost::new(8, &world, Shape::chosen(&run.choices), vec![plan]);
        let observed = host.observed();
        world.add(host);
        observed
    });
    let members = steady::members(run, &mut world, 1, 3)?;
    run.begin_window();
    for _ in 0..run.choices.between("times it is paused", 1, 4) {
        steady::much_io(run, &mut world, &members, 1)?;
        let is_held = run.choices.one_in("the device holds operations", 3);
        if is_held {
            world.target.device().hold();
        }
        let paused = pause(&mut world);
        steady::much_io(run, &mut world, &members, 1)?;
        world.target.device().let_go();
        if run.choices.one_in("resumed before it is paused", 4) {
            some_steps(run, &mut world, "it is resumed after", 60)?;
        } else {
            world.reach("that it is paused", STEPS_MAX, |_| paused.is_done())?;
            at_rest_while_paused(run, &mut world, &members)?;
        }
        let resumed = resume(&mut world);
        steady::much_io(run, &mut world, &members, 1)?;
        world.reach("that it is resumed", STEPS_MAX, |_| resumed.is_done() && paused.is_done())?;
    }
    run.end_window();
    steady::quiet(&mut world, &members)?;
    steady::read_back(&mut world, &members, 0)?;
    if let Some(real) = real {
        world.reach("that the real host is done", 2_000_000, |_| real.borrow().is_done)?;
        expect(real.borrow().as_planned_count == 1, || format!("a pause disturbed a host: {:?}", real.borrow()))?;
    }
    steady::part(&members);
    run.finish(world)
}

/// Commands come, and the device sees none of them.
fn at_rest_while_paused(run: &Run, world: &mut World, members: &[Member]) -> Result<(), Failure> {
    let submitted_count = world.target.device().submitted_count();
    let check = |world: &World| {
        let device = world.target.device();
        expect(device.outstanding_count() == 0 && device.submitted_count() == submitted_count, || {
            "the subsystem is paused, and its device has operations".to_owned()
        })
    };
    check(world)?;
    for _ in 0..run.choices.between("commands while it is paused", 0, 6) {
        steady::io(run, world, members, 1)?;
        check(world)?;
    }
    if run.choices.one_in("an Abort while it is paused", 3) {
        let further = run.choices.below("which command", 4) as usize;
        let _ = members[0].steering.send(0, Command::Abort { qid: 1, further });
    }
    some_steps(run, world, "it stays paused for", 200)?;
    check(world)
}

fn paused_while_queues_die(run: &mut Run) -> Result<(), Failure> {
    let layout = roomy(run).limiting_hosts(&run.choices);
    let mut world = run.world(&layout);
    let choices = run.choices.clone();
    let mut observed = Vec::new();
    for number in 4..4 + choices.between("hosts that come and go", 1, 2) {
        let host = RawHost::new(number, &world, vec![any_session(run), any_session(run)]);
        observed.push(host.observed());
        world.add(host);
    }
    let members = steady::members(run, &mut world, 1, 2)?;
    run.begin_window();
    let mut is_paused = false;
    for _ in 0..choices.between("things that happen", 2, 10) {
        match choices.below("what happens", 7) {
            0 => {
                drop(if is_paused { resume(&mut world) } else { pause(&mut world) });
                is_paused = !is_paused;
            }
            1 => steady::much_io(run, &mut world, &members, 1)?,
            2 => world.target.device().hold(),
            3 => world.target.device().let_go(),
            4 => {
                let member = &members[choices.below("which host", u32::try_from(members.len()).unwrap_or(1)) as usize];
                member.steering.order(Order::Disconnect { qid: member.any_queue(run) });
            }
            5 => world.stall(choices.one_in("a CPU stalls", 2).then_some(0)),
            _ => {
                let further = choices.below("which command", 4) as usize;
                let _ = members[0].steering.send(0, Command::Abort { qid: 1, further });
            }
        }
        some_steps(run, &mut world, "the next thing happens after", 150)?;
    }
    world.stall(None);
    world.target.device().let_go();
    if is_paused && choices.one_in("it is resumed", 2) {
        drop(resume(&mut world));
        is_paused = false;
    }
    run.end_window();
    steady::part(&members);
    if is_paused {
        // Those that wait for answers wait for ever; whatever they do, a pause is in nobody's way who ends them.
        return run.finish_in_use(world);
    }
    world.reach("that all hosts are done", 4_000_000, |_| observed.iter().all(|host| host.borrow().is_done))?;
    run.finish(world)
}
