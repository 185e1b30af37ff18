//! Pairs of Compare and Write of several hosts over several CPUs: each is one operation, whatever ends in its midst, and every lock comes home.

use super::acting::{expect, some_steps};
use super::ordinary::told_of_ends;
use super::steady::{self, Member};
use crate::sim::failure::Failure;
use crate::sim::host::model::Extent;
use crate::sim::host::raw::{Command, Order};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "pairs-are-one-operation",
    about: "hosts compare and write the same blocks by fused commands, with reads between, aborts, pauses and queues that end: one pair replaces each write",
    entries: &["S8", "S9"],
    play: pairs,
}];

/// Two blocks that overlap nothing, and two more: each is written by pairs alone.
const PLACES: [Extent; 2] = [Extent { start: 2, count: 2 }, Extent { start: 8, count: 2 }];

fn pairs(run: &mut Run) -> Result<(), Failure> {
    let layout = told_of_ends(run).limiting_hosts(&run.choices);
    let mut world = run.world(&layout);
    PLACES.iter().for_each(|place| world.model.declare_whole(*place));
    let members = steady::members(run, &mut world, 2, 3)?;
    run.begin_window();
    for _ in 0..run.choices.between("rounds", 1, 8) {
        let ended = disturb(run, &mut world, &members)?;
        for _ in 0..run.choices.between("commands", 2, 12) {
            one(run, &mut world, &members)?;
        }
        world.target.device().let_go();
        if let Some((member, qid)) = ended {
            members[member].reopen(&mut world, qid, 0)?;
        }
    }
    run.end_window();
    steady::quiet(&mut world, &members)?;
    // Nobody has the blocks: a read and a pair after it do well.
    for place in PLACES {
        let swap_count = |member: &Member| member.steering.observed().swap_count;
        for member in &members {
            let read = member.ask(&mut world, 1, Command::Read(place))?;
            expect(read.is_success(), || format!("a last read ended with {read:?}"))?;
            let before = swap_count(member);
            member.ask(&mut world, 1, Command::Swap(place))?;
            steady::quiet(&mut world, &members)?;
            expect(swap_count(member) == before + 1, || "a pair of the only host that sends one failed".to_owned())?;
        }
    }
    steady::part(&members);
    run.finish(world)
}

/// A pair, or a read of what pairs write.
fn one(run: &Run, world: &mut World, members: &[Member]) -> Result<(), Failure> {
    let member = &members[run.choices.below("which host", u32::try_from(members.len()).unwrap_or(1)) as usize];
    let place = PLACES[run.choices.below("which blocks", 4) as usize / 3];
    let command = match run.choices.one_of("command", b"SRSRA") {
        b'S' => Command::Swap(place),
        b'R' => Command::Read(place),
        _ => {
            let further = run.choices.below("which command", 4) as usize;
            let _ = member.steering.send(0, Command::Abort { qid: member.any_queue(run), further });
            return Ok(());
        }
    };
    let _ = member.steering.send(member.any_queue(run), command);
    world.steps(run.choices.below("steps until the next command", 40).into())
}

/// What else happens meanwhile; the queue that was ended.
fn disturb(run: &Run, world: &mut World, members: &[Member]) -> Result<Option<(usize, u16)>, Failure> {
    match run.choices.below("what happens", 5) {
        0 => {}
        1 => world.target.device().hold(),
        2 => {
            let paused = super::pause::pause(world);
            some_steps(run, world, "it is resumed after", 100)?;
            let resumed = super::pause::resume(world);
            one(run, world, members)?;
            world.reach("that it is resumed", 400_000, |_| paused.is_answered() && resumed.is_answered())?;
        }
        _ => {
            let which = run.choices.below("which host", u32::try_from(members.len()).unwrap_or(1)) as usize;
            let qid = members[which].any_queue(run);
            for _ in 0..run.choices.between("commands before the end", 0, 4) {
                one(run, world, members)?;
            }
            if run.choices.one_in("the device holds operations", 2) {
                world.target.device().hold();
            }
            members[which].steering.order(Order::Disconnect { qid });
            return Ok(Some((which, qid)));
        }
    }
    Ok(None)
}
