//! Hosts that take a reservation from each other.

use crate::sim::failure::Failure;
use crate::sim::host::law::Permit;
use crate::sim::host::raw::claim::{Claim, EXCLUSIVE_ACCESS, WRITE_EXCLUSIVE, WRITE_EXCLUSIVE_ALL};
use crate::sim::host::raw::{Command, Order, Stage, status};
use crate::sim::scenario::Run;
use crate::sim::scenarios::acting::expect;
use crate::sim::scenarios::ordinary::told_of_ends;
use crate::sim::scenarios::steady::{self, Member};
use crate::sim::world::World;

const NSID: u32 = 1;

/// What a host may do that another's reservation is in the way of.
fn shut_out(kind: u8) -> Permit {
    let reads = if kind == EXCLUSIVE_ACCESS { status::RESERVATION_CONFLICT } else { status::SUCCESS };
    Permit { reads: vec![reads], writes: vec![status::RESERVATION_CONFLICT] }
}

fn claim(claim: Claim) -> Command {
    Command::Claim { nsid: NSID, claim }
}

/// In a round a host has this key.
fn key_of(member: &Member, round: u64) -> u64 {
    u64::from(member.number + 1) << 32 | (round + 1)
}

pub(super) fn preempted_under_load(run: &mut Run) -> Result<(), Failure> {
    let layout = told_of_ends(run).limiting_hosts(&run.choices);
    let mut world = run.world(&layout);
    let members = steady::members(run, &mut world, 2, 3)?;
    let mut kind = run.choices.one_of("type", &[WRITE_EXCLUSIVE, EXCLUSIVE_ACCESS]);
    let (mut holder, mut round) = (0, 0);
    for member in &members {
        done(&mut world, member, Claim::register(key_of(member, 0), false))?;
    }
    for member in &members[1..] {
        world.law.set(member.number, NSID, Permit::success().or(&shut_out(kind)));
    }
    done(&mut world, &members[0], Claim::acquire(key_of(&members[0], 0), kind))?;
    for member in &members[1..] {
        world.law.set(member.number, NSID, shut_out(kind));
    }
    let mut keys: Vec<u64> = members.iter().map(|member| key_of(member, 0)).collect();
    run.begin_window();
    for _ in 0..run.choices.between("preemptions", 1, 4) {
        round += 1;
        let next_kind = run.choices.one_of("type", &[kind, WRITE_EXCLUSIVE, EXCLUSIVE_ACCESS]);
        let by = (holder + 1 + run.choices.below("by whom", u32::try_from(members.len() - 1).unwrap_or(1)) as usize)
            % members.len();
        let preemption = Preemption { victim: holder, by, kind, next_kind };
        if !preempt(run, &mut world, &members, &keys, preemption)? {
            break;
        }
        (kind, holder) = (next_kind, by);
        // Whoever was thrown out comes back, with another key.
        let victim = &members[preemption.victim];
        keys[preemption.victim] = key_of(victim, round);
        done(&mut world, victim, Claim::register(keys[preemption.victim], false))?;
    }
    run.end_window();
    steady::quiet(&mut world, &members)?;
    steady::part(&members);
    run.finish(world)
}

/// One host takes over from another.
#[derive(Clone, Copy)]
struct Preemption {
    victim: usize,
    by: usize,
    kind: u8,
    next_kind: u8,
}

/// False if nobody knows what became of it.
fn preempt(
    run: &Run,
    world: &mut World,
    members: &[Member],
    keys: &[u64],
    preemption: Preemption,
) -> Result<bool, Failure> {
    let Preemption { victim, by, kind, next_kind } = preemption;
    let aborts = !run.choices.one_in("without Abort", 4);
    steady::much_io(run, world, members, 1)?;
    if run.choices.one_in("the device holds operations", 2) {
        world.target.device().hold();
    }
    much_of(run, world, &members[victim])?;
    let ended = run.choices.one_in("a queue of the victim ends", 3).then(|| members[victim].any_queue(run));
    if let Some(qid) = ended {
        members[victim].steering.order(Order::Disconnect { qid });
    }
    // Until it is answered nobody knows by which of the two a command is let in.
    for (at, member) in members.iter().enumerate() {
        let (before, after) = (at_state(at == victim, kind), at_state(at == by, next_kind));
        let aborted = Permit::of(&[status::ABORTED_PREEMPT]);
        let meanwhile = before.or(&after);
        world.law.set(member.number, NSID, if at == victim { meanwhile.or(&aborted) } else { meanwhile });
    }
    let asks = if aborts {
        Claim::preempt_and_abort(keys[by], keys[victim], next_kind, &[members[victim].number])
    } else {
        Claim::preempt(keys[by], keys[victim], next_kind)
    };
    let qid = members[by].any_queue(run);
    let tag = members[by].steering.send(qid, claim(asks));
    much_of(run, world, &members[victim])?;
    world.steps(run.choices.below("operations end after", 300).into())?;
    let leaves = run.choices.one_in("the queue of the preemptor ends", 6);
    if leaves {
        members[by].steering.order(Order::Disconnect { qid });
    }
    world.target.device().let_go();
    let outcome = members[by].wait(world, tag)?;
    if leaves {
        members[by].reopen(world, qid, 0)?;
    }
    if outcome.status.is_none() {
        return Ok(false);
    }
    expect(outcome.is_success(), || format!("a preemption ended with {:?}", outcome.status))?;
    for (at, member) in members.iter().enumerate() {
        world.law.set(member.number, NSID, at_state(at == by, next_kind));
    }
    if let Some(qid) = ended {
        members[victim].reopen(world, qid, 0)?;
    }
    // The victim's blocks are its successor's now: what it finds there stays, and what it writes there too.
    let own = crate::sim::host::blocks::first_own_block(members[victim].number);
    for part in 0..6 {
        let extent = crate::sim::host::model::Extent { start: own + part * 8, count: 8 };
        let read = members[by].ask(world, 1, Command::Read(extent))?;
        expect(read.is_success(), || format!("the holder's read ended with {:?}", read.status))?;
        if run.choices.one_in("it writes there", 2) {
            let _ = members[by].steering.send(1, Command::Write { extent, in_capsule: false });
        }
    }
    much_of(run, world, &members[victim])?;
    steady::quiet(world, members)?;
    for part in 0..6 {
        let extent = crate::sim::host::model::Extent { start: own + part * 8, count: 8 };
        members[by].ask(world, 1, Command::Read(extent))?;
    }
    Ok(true)
}

fn at_state(holds: bool, kind: u8) -> Permit {
    if holds { Permit::success() } else { shut_out(kind) }
}

/// Commands of one host.
fn much_of(run: &Run, world: &mut World, member: &Member) -> Result<(), Failure> {
    for _ in 0..run.choices.between("commands of one host", 0, 8) {
        let _ = member.steering.send(member.any_queue(run), steady::any_io(run, member.number, 0));
        world.steps(run.choices.below("steps until the next command", 12).into())?;
    }
    Ok(())
}

/// It is granted.
fn done(world: &mut World, member: &Member, what: Claim) -> Result<(), Failure> {
    let outcome = member.ask(world, 1, claim(what.clone()))?;
    expect(outcome.is_success(), || format!("host {}: {what:?} ended with {:?}", member.number, outcome.status))
}

pub(super) fn raced(run: &mut Run) -> Result<(), Failure> {
    let mut layout = told_of_ends(run);
    layout.keeps_reservations = true;
    let mut world = run.world(&layout);
    let members = steady::members(run, &mut world, 2, 3)?;
    for member in &members {
        let all = [status::SUCCESS, status::RESERVATION_CONFLICT, status::ABORTED_PREEMPT];
        world.law.set(member.number, NSID, Permit::of(&all));
    }
    run.begin_window();
    let mut tags = Vec::new();
    for _ in 0..run.choices.between("things that happen", 4, 40) {
        let which = run.choices.below("which host", u32::try_from(members.len()).unwrap_or(1)) as usize;
        let member = &members[which];
        let qid = member.any_queue(run);
        match run.choices.below("what happens", 12) {
            0 => world.target.device().hold(),
            1 => world.target.device().let_go(),
            2 => world.target.shelf().hold(true),
            3 => world.target.shelf().hold(false),
            4 if member.steering.is_at(qid, Stage::Ready) => {
                member.steering.order(Order::Disconnect { qid });
                world.target.device().let_go();
                world.target.shelf().hold(false);
                member.reopen(&mut world, qid, 0)?;
            }
            5 => {
                let further = run.choices.below("which command", 4) as usize;
                tags.push((which, member.steering.send(0, Command::Abort { qid, further })));
            }
            6 | 7 => steady::much_io(run, &mut world, &members, 1)?,
            _ => {
                let command = any_claim(run, &members, which);
                tags.push((which, member.steering.send(qid, command)));
            }
        }
        world.steps(run.choices.below("the next thing happens after", 60).into())?;
    }
    run.end_window();
    world.target.device().let_go();
    world.target.shelf().hold(false);
    for (which, tag) in tags {
        members[which].wait(&mut world, tag)?;
    }
    steady::quiet(&mut world, &members)?;
    steady::part(&members);
    run.finish(world)
}

fn any_claim(run: &Run, members: &[Member], which: usize) -> Command {
    let other = run.choices.below("whose key", u32::try_from(members.len()).unwrap_or(1)) as usize;
    let (key, victim) = (key_of(&members[which], 0), key_of(&members[other], 0));
    let kind = run.choices.one_of("type", &[WRITE_EXCLUSIVE, EXCLUSIVE_ACCESS, WRITE_EXCLUSIVE_ALL]);
    claim(match run.choices.below("claim", 8) {
        0 | 1 => Claim::register(key, run.choices.one_in("through power loss", 2)),
        2 => Claim::acquire(key, kind),
        3 => Claim::release(key, kind),
        4 => Claim::unregister(key),
        5 => Claim::preempt(key, victim, kind),
        6 => Claim::replace(key),
        _ => Claim::preempt_and_abort(key, victim, kind, &[]),
    })
}
