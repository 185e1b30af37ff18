//! Asymmetric access changes under I/O: commands end as the state of their path says, hosts are told, and take the other path.

use std::collections::VecDeque;

use nvmf_core::spec::AnaState;
use nvmf_core::target::Amendment;

use super::acting::{STEPS_MAX, expect};
use super::ordinary::told_of_ends;
use super::steady::{self, Member, any_io};
use crate::sim::failure::Failure;
use crate::sim::host::law::Permit;
use crate::sim::host::raw::{Command, Order, Tag, status};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::World;
use crate::sim::world::layout::{SUBSYSTEM, address_of};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "paths-change",
    about: "ANA states change under I/O: a command on a path that cannot be used ends with the state's status, and does well on another",
    entries: &["S5"],
    play: paths_change,
}];

/// Log page: asymmetric namespace access.
const ANA: u8 = 0x0C;
/// The state in the log page's first group: its low four bits.
const STATE_OFFSET: usize = 32;
const PATH_COUNT: u8 = 2;

/// Commands that were sent, each with the path that it took.
type Sent = VecDeque<(usize, Tag, Command)>;

/// What commands on a path in this state end with.
fn right(state: AnaState) -> Permit {
    Permit::of(&[match state {
        AnaState::Optimized | AnaState::NonOptimized => status::SUCCESS,
        AnaState::Inaccessible => status::ANA_INACCESSIBLE,
        AnaState::PersistentLoss => status::ANA_PERSISTENT_LOSS,
        AnaState::Change => status::ANA_TRANSITION,
    }])
}

fn paths_change(run: &mut Run) -> Result<(), Failure> {
    let mut layout = told_of_ends(run);
    (layout.address_count, layout.reports_ana) = (PATH_COUNT, true);
    let mut world = run.world(&layout);
    let mut members = Vec::new();
    for path in 0..PATH_COUNT {
        members.push(Member::connected_by(&mut world, path.into(), 1, path)?);
    }
    members.iter_mut().for_each(Member::listen);
    let mut sent = Sent::new();
    run.begin_window();
    for _ in 0..run.choices.between("changes", 1, 6) {
        some_io(run, &mut world, &members, &mut sent)?;
        if run.choices.one_in("the device holds operations", 3) {
            world.target.device().hold();
        }
        let ends = run.choices.one_in("a queue ends", 4);
        if ends {
            members[0].steering.order(Order::Disconnect { qid: 1 });
        }
        let path = run.choices.below("which path", PATH_COUNT.into()) as usize;
        let all = [
            AnaState::Inaccessible,
            AnaState::Optimized,
            AnaState::NonOptimized,
            AnaState::Change,
            AnaState::PersistentLoss,
        ];
        change(run, &mut world, &mut members, &mut sent, path, run.choices.one_of("state", &all))?;
        if ends {
            members[0].reopen(&mut world, 1, 0)?;
        }
    }
    // One path at least, in the end.
    let best = run.choices.below("which path is the last", PATH_COUNT.into()) as usize;
    change(run, &mut world, &mut members, &mut sent, best, AnaState::Optimized)?;
    run.end_window();
    steady::quiet(&mut world, &members)?;
    // What failed goes the way that is there, and does well.
    while let Some((path, tag, command)) = sent.pop_front() {
        let outcome = members[path].wait(&mut world, tag)?;
        if outcome.status.is_some_and(|status| status >> 8 == 3) {
            let again = members[best].ask(&mut world, 1, command)?;
            expect(again.is_success(), || format!("the usable path ended a command with {:?}", again.status))?;
        }
    }
    steady::quiet(&mut world, &members)?;
    steady::part(&members);
    run.finish(world)
}

/// Commands of either host, each on its own blocks.
fn some_io(run: &Run, world: &mut World, members: &[Member], sent: &mut Sent) -> Result<(), Failure> {
    for _ in 0..run.choices.between("commands", 1, 10) {
        let path = run.choices.below("which path", PATH_COUNT.into()) as usize;
        let command = any_io(run, members[path].number, 0);
        sent.push_back((path, members[path].steering.send(1, command.clone()), command));
        world.steps(run.choices.below("steps until the next command", 24).into())?;
    }
    Ok(())
}

/// A path gets another state, under I/O, and its host hears of it.
fn change(
    run: &Run,
    world: &mut World,
    members: &mut [Member],
    sent: &mut Sent,
    path: usize,
    state: AnaState,
) -> Result<(), Failure> {
    let number = members[path].number;
    world.law.set(number, 1, world.law.now(number, 1).or(&right(state)));
    let listener = address_of(u8::try_from(path).unwrap_or(0));
    let asked = world.amend(Amendment::SetAnaState { nqn: SUBSYSTEM.to_owned(), listener, group: None, state });
    some_io(run, world, members, sent)?;
    world.reach("that the change is answered", STEPS_MAX, |_| asked.is_answered())?;
    expect(asked.is_done(), || "a change was refused for no reason".to_owned())?;
    world.law.set(number, 1, right(state));
    some_io(run, world, members, sent)?;
    world.target.device().let_go();
    let page = members[path].hear(world, ANA)?;
    let told = page.get(STATE_OFFSET).map(|byte| byte & 0xF);
    expect(told == Some(state as u8), || format!("path {path} is {state:?}, and its log page says {told:?}"))
}
