//! Reservations that outlive the target, by a file that may be slow, full or hang.

use crate::sim::failure::Failure;
use crate::sim::host::raw::{Claim, Command, Order, Outcome, Tag, status};
use crate::sim::scenario::Run;
use crate::sim::scenarios::acting::{STEPS_MAX, expect};
use crate::sim::scenarios::ordinary::told_of_ends;
use crate::sim::scenarios::steady::{self, Member};
use crate::sim::world::World;

const NSID: u32 = 1;
/// A host that registers nothing.
const STRANGER: u32 = 99;
/// Of a reservation report: its header, each registrant, and where the latter's key and host are.
const HEADER_LEN: usize = 64;
const REGISTRANT_LEN: usize = 64;
const KEY_AT: usize = 8;
const HOST_AT: usize = 16;

/// What may hold of one thing, as far as its only writer knows.
#[derive(Clone, Debug)]
struct Known<T>(Vec<T>);

impl<T: Clone + PartialEq> Known<T> {
    /// What became of a command that makes it `value`.
    fn ended(&mut self, value: T, outcome: &Outcome) {
        match outcome.status {
            Some(0) => self.0 = vec![value],
            None => self.0.push(value),
            Some(_) => {}
        }
    }
}

pub(super) fn through_power_loss(run: &mut Run) -> Result<(), Failure> {
    let mut layout = told_of_ends(run);
    layout.keeps_reservations = true;
    let mut world = run.world(&layout);
    world.target.shelf().fail_one_in(run.choices.one_of("writes fail", &[0, 4]));
    let count = run.choices.between("hosts", 1, 3);
    let mut keys: Vec<Known<Option<u64>>> = vec![Known(vec![None]); count as usize];
    let mut persists = Known(vec![false]);
    run.begin_window();
    for life in 0..run.choices.between("lives of the target", 1, 3) {
        let members: Vec<Member> =
            (0..count).map(|number| Member::connected(&mut world, number, 1)).collect::<Result<_, _>>()?;
        if life > 0 {
            check(&mut world, &members[0], &keys, &persists)?;
            // What was found is what is.
            let found = registrants(&mut world, &members[0])?;
            for (host, known) in keys.iter_mut().enumerate() {
                known.0 = vec![found.iter().find(|(of, _)| usize::from(*of) == host + 1).map(|(_, key)| *key)];
            }
        }
        lead_a_life(run, &mut world, &members, &mut keys, &mut persists, u64::from(life) * 100)?;
        for member in &members {
            member.steering.die();
        }
        world.steps(40)?;
        world.kill_target();
        world.target.shelf().hold(false);
        world.restart_target();
    }
    run.end_window();
    let last = Member::connected(&mut world, STRANGER, 1)?;
    check(&mut world, &last, &keys, &persists)?;
    steady::part(std::slice::from_ref(&last));
    run.finish(world)
}

/// Each host changes its registration, one command at a time, until the target dies.
fn lead_a_life(
    run: &Run,
    world: &mut World,
    members: &[Member],
    keys: &mut [Known<Option<u64>>],
    persists: &mut Known<bool>,
    mut number: u64,
) -> Result<(), Failure> {
    /// What a host has sent: the key that it will have, and whether that persists.
    type Out = Option<(Tag, Option<u64>, bool)>;
    let mut out: Vec<Out> = vec![None; members.len()];
    let step_count = run.choices.between("commands of a life", 1, 12);
    for _ in 0..step_count {
        let which = run.choices.below("which host", u32::try_from(members.len()).unwrap_or(1)) as usize;
        settle(members, &mut out, keys, persists, which);
        if out[which].is_none() {
            number += 1;
            let new = u64::from(members[which].number + 1) << 32 | number;
            let now = keys[which].0.last().copied().flatten();
            let (claim, key, keeps) = match (now, run.choices.below("claim", 3)) {
                (None, _) => {
                    let keeps = !run.choices.one_in("not through power loss", 4);
                    (Claim::register(new, keeps), Some(new), keeps)
                }
                (Some(_), 0 | 1) => (Claim::replace(new), Some(new), false),
                (Some(key), _) => (Claim::unregister(key), None, false),
            };
            let tag = members[which].steering.send(1, Command::Claim { nsid: NSID, claim });
            out[which] = Some((tag, key, keeps));
        }
        if run.choices.one_in("the file hangs", 6) {
            world.target.shelf().hold(true);
        } else if run.choices.one_in("the file goes on", 3) {
            world.target.shelf().hold(false);
        }
        world.steps(run.choices.below("steps until the next command", 120).into())?;
    }
    if run.choices.one_in("everything is answered", 2) {
        world.target.shelf().hold(false);
        world.reach("that everything is answered", STEPS_MAX, |_| {
            members
                .iter()
                .all(|member| member.steering.has_taken_orders() && member.steering.observed().outstanding_count == 0)
        })?;
    }
    if run.choices.one_in("queues end first", 3) {
        members.iter().for_each(|member| member.steering.order(Order::DisconnectAll));
        world.steps(run.choices.below("steps until the target dies", 200).into())?;
    }
    for which in 0..members.len() {
        settle(members, &mut out, keys, persists, which);
        // It was under way when the target died.
        if let Some((_, key, keeps)) = out[which].take() {
            keys[which].ended(key, &Outcome { status: None, result: 0, data: Vec::new() });
            if keeps {
                persists.0.push(true);
            }
        }
    }
    Ok(())
}

/// What became of a host's command, if that is known.
fn settle(
    members: &[Member],
    out: &mut [Option<(Tag, Option<u64>, bool)>],
    keys: &mut [Known<Option<u64>>],
    persists: &mut Known<bool>,
    which: usize,
) {
    let Some((tag, key, keeps)) = out[which] else { return };
    let Some(outcome) = members[which].steering.outcome(tag) else { return };
    out[which] = None;
    keys[which].ended(key, &outcome);
    if keeps {
        persists.ended(true, &outcome);
    }
}

/// After a power loss: who is registered is who may be.
fn check(
    world: &mut World,
    member: &Member,
    keys: &[Known<Option<u64>>],
    persists: &Known<bool>,
) -> Result<(), Failure> {
    let found = registrants(world, member)?;
    let is_certain = persists.0 == [true];
    for (host, known) in keys.iter().enumerate() {
        let key = found.iter().find(|(of, _)| usize::from(*of) == host + 1).map(|(_, key)| *key);
        let is_right = known.0.contains(&key) || (!is_certain && key.is_none());
        expect(is_right, || {
            format!("after a power loss host {host} has key {key:x?}, and should have one of {:x?}", known.0)
        })?;
    }
    Ok(())
}

/// Hosts, by the first byte of their identifiers, and keys: as the target reports them.
fn registrants(world: &mut World, member: &Member) -> Result<Vec<(u8, u64)>, Failure> {
    let report = member.ask(world, 1, Command::ReservationReport(NSID))?;
    expect(report.status == Some(status::SUCCESS), || format!("a report ended with {:?}", report.status))?;
    let count = report.data.get(5..7).map_or(0, |bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
    let entries = report.data[HEADER_LEN..].chunks_exact(REGISTRANT_LEN).take(count);
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Ok(entries.map(|entry| (entry[HOST_AT], word(&entry[KEY_AT..]))).collect())
}
