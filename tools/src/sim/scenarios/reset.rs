//! A device is reset with commands under way: what it can stop is aborted, the rest is done, what comes meanwhile waits, and nothing is lost.

use nvmf_core::target::Amendment;

use super::acting::{STEPS_MAX, expect, some_steps};
use super::ordinary::{any_session, roomy};
use super::steady::{self, Member};
use crate::sim::failure::Failure;
use crate::sim::host::law::Permit;
use crate::sim::host::raw::{Order, RawHost, status};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::World;
use crate::sim::world::asked::Asked;
use crate::sim::world::layout::disk_name;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "reset-under-load",
        about: "a device is reset again and again under I/O, whether it can stop operations, some, or hangs: commands end or are aborted, and none is lost",
        entries: &["S14", "S15"],
        play: reset_under_load,
    },
    Scenario {
        name: "reset-while-queues-die",
        about: "hosts end in every way, CPUs stall and devices hang while their device is reset and their subsystem paused",
        entries: &["S14", "S15"],
        play: reset_while_queues_die,
    },
];

const NSID: u32 = 1;

fn reset(world: &mut World) -> Asked {
    world.amend(Amendment::ResetDevice { name: disk_name(0).to_owned() })
}

/// From here on commands may be aborted by a reset, or not any more.
fn permit(world: &World, hosts: impl Iterator<Item = u32>, resets: bool) {
    let permit = if resets { Permit::of(&[status::SUCCESS, status::ABORT_REQUESTED]) } else { Permit::success() };
    hosts.for_each(|host| world.law.set(host, NSID, permit.clone()));
}

fn numbers(members: &[Member]) -> impl Iterator<Item = u32> {
    members.iter().map(|member| member.number)
}

fn reset_under_load(run: &mut Run) -> Result<(), Failure> {
    let layout = roomy(run).limiting_hosts(&run.choices);
    let mut world = run.world(&layout);
    let members = steady::members(run, &mut world, 1, 3)?;
    run.begin_window();
    for _ in 0..run.choices.between("resets", 1, 4) {
        let cancels = run.choices.one_in("the device can stop operations", 2);
        world.target.device().set_cancels(cancels);
        steady::much_io(run, &mut world, &members, 1)?;
        let is_held = run.choices.one_in("the device holds operations", 2);
        if is_held {
            world.target.device().hold();
            steady::much_io(run, &mut world, &members, 1)?;
        }
        permit(&world, numbers(&members), true);
        let begun_count = world.target.device().outstanding_count();
        let asked = reset(&mut world);
        let again = run.choices.one_in("once more at the same time", 4).then(|| reset(&mut world));
        steady::much_io(run, &mut world, &members, 1)?;
        if is_held && !cancels && begun_count > 0 {
            some_steps(run, &mut world, "the device ends operations after", 400)?;
            expect(!asked.is_done(), || format!("the device has {begun_count} operations, and its reset is done"))?;
        }
        world.target.device().let_go();
        world.reach("that it is reset", STEPS_MAX, |_| asked.is_done() && again.as_ref().is_none_or(Asked::is_done))?;
        // Commands that were cancelled may be on their way still.
        steady::quiet(&mut world, &members)?;
        permit(&world, numbers(&members), false);
        steady::much_io(run, &mut world, &members, 1)?;
    }
    run.end_window();
    steady::quiet(&mut world, &members)?;
    steady::read_back(&mut world, &members, 0)?;
    steady::part(&members);
    run.finish(world)
}

fn reset_while_queues_die(run: &mut Run) -> Result<(), Failure> {
    let layout = roomy(run).limiting_hosts(&run.choices);
    let mut world = run.world(&layout);
    let choices = run.choices.clone();
    let mut observed = Vec::new();
    let passing = 4..4 + choices.between("hosts that come and go", 1, 2);
    permit(&world, (0..4).chain(passing.clone()), true);
    for number in passing {
        let host = RawHost::new(number, &world, vec![any_session(run), any_session(run)]);
        observed.push(host.observed());
        world.add(host);
    }
    let members = steady::members(run, &mut world, 1, 2)?;
    run.begin_window();
    let (mut is_paused, mut resets) = (false, Vec::new());
    for _ in 0..choices.between("things that happen", 2, 10) {
        match choices.below("what happens", 8) {
            0 => {
                drop(if is_paused { super::pause::resume(&mut world) } else { super::pause::pause(&mut world) });
                is_paused = !is_paused;
            }
            1 | 2 => {
                world.target.device().set_cancels(choices.one_in("the device can stop operations", 2));
                resets.push(reset(&mut world));
            }
            3 => steady::much_io(run, &mut world, &members, 1)?,
            4 => world.target.device().hold(),
            5 => world.target.device().let_go(),
            6 => {
                let member = &members[choices.below("which host", u32::try_from(members.len()).unwrap_or(1)) as usize];
                member.steering.order(Order::Disconnect { qid: member.any_queue(run) });
            }
            _ => world.stall(choices.one_in("a CPU stalls", 2).then_some(0)),
        }
        some_steps(run, &mut world, "the next thing happens after", 150)?;
    }
    world.stall(None);
    world.target.device().let_go();
    if is_paused {
        drop(super::pause::resume(&mut world));
    }
    world.reach("that every reset is over", STEPS_MAX, |_| resets.iter().all(Asked::is_answered))?;
    run.end_window();
    steady::part(&members);
    world.reach("that all hosts are done", 4_000_000, |_| observed.iter().all(|host| host.borrow().is_done))?;
    run.finish(world)
}
