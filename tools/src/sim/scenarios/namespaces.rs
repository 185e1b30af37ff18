//! Namespaces that come, go, grow and are hidden under I/O: each command ends as what holds says, and hosts are told.

use nvmf_core::target::{Amendment, NamespaceRequest};

use super::acting::{STEPS_MAX, expect, some_steps};
use super::ordinary::{roomy, told_of_ends};
use super::steady::{self, Member};
use crate::sim::failure::Failure;
use crate::sim::host::law::Permit;
use crate::sim::host::model::Extent;
use crate::sim::host::raw::{Command, Order, status};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::World;
use crate::sim::world::layout::{BLOCK_COUNT, SUBSYSTEM, disk_name};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "namespaces-come-and-go",
        about: "a namespace is removed, added, hidden and shown, and its device deleted and opened again, under I/O: hosts are told, and commands end as they should",
        entries: &["S3", "S4"],
        play: namespaces_come_and_go,
    },
    Scenario {
        name: "namespace-grows",
        about: "a device grows under I/O: hosts are told, and use what it has grown by",
        entries: &["S4"],
        play: namespace_grows,
    },
];

/// Log page: which namespaces changed.
const CHANGED_NAMESPACES: u8 = 0x04;
const NSID: u32 = 2;
const DISK: usize = 1;

/// What there is of the second namespace.
struct There {
    has_device: bool,
    exists: bool,
    /// By host.
    shown: Vec<bool>,
}

fn nqn() -> String {
    SUBSYSTEM.to_owned()
}

fn gone() -> Permit {
    Permit::of(&[status::INVALID_NAMESPACE])
}

fn namespaces_come_and_go(run: &mut Run) -> Result<(), Failure> {
    let mut layout = told_of_ends(run);
    layout.disk_count = 2;
    let is_hidden = run.choices.one_in("hosts see what they are shown", 2);
    if is_hidden {
        layout.hidden = vec![NSID];
    }
    let mut world = run.world(&layout);
    let mut members = steady::members(run, &mut world, 1, 3)?;
    members.iter_mut().for_each(Member::listen);
    let mut there = There { has_device: true, exists: true, shown: vec![!is_hidden; members.len()] };
    establish(&world, &members, &there);
    run.begin_window();
    for _ in 0..run.choices.between("changes", 1, 6) {
        steady::much_io(run, &mut world, &members, 2)?;
        if run.choices.one_in("the device holds operations", 3) {
            world.target.devices()[DISK].hold();
        }
        let ends = run.choices.one_in("a queue ends", 4);
        if ends {
            members[0].steering.order(Order::Disconnect { qid: 1 });
        }
        change(run, &mut world, &mut members, &mut there, is_hidden)?;
        if ends {
            members[0].reopen(&mut world, 1, 0)?;
        }
    }
    run.end_window();
    steady::quiet(&mut world, &members)?;
    steady::read_back(&mut world, &members, 0)?;
    steady::part(&members);
    run.finish(world)
}

/// What holds from now on.
fn establish(world: &World, members: &[Member], there: &There) {
    for (member, is_shown) in members.iter().zip(&there.shown) {
        let permit = if there.exists && *is_shown { Permit::success() } else { gone() };
        world.law.set(member.number, NSID, permit);
    }
}

/// One change, under I/O, until it is answered and everybody whom it concerns has heard of it.
fn change(
    run: &Run,
    world: &mut World,
    members: &mut [Member],
    there: &mut There,
    is_hidden: bool,
) -> Result<(), Failure> {
    // While it is on its way both what was right and what will be is.
    for member in &*members {
        let meanwhile = Permit::of(&[status::SUCCESS, status::INVALID_NAMESPACE, status::NAMESPACE_NOT_READY]);
        world.law.set(member.number, NSID, meanwhile);
    }
    let seen_before: Vec<bool> = there.shown.iter().map(|is_shown| there.exists && *is_shown).collect();
    let mut told: Vec<bool> = vec![false; members.len()];
    let asked = if !there.has_device {
        there.has_device = true;
        world.add_disk(DISK)
    } else if !there.exists {
        there.exists = true;
        there.shown.fill(!is_hidden);
        told.fill(!is_hidden);
        let namespace = NamespaceRequest {
            nsid: NSID,
            device: disk_name(DISK).to_owned(),
            uuid: None,
            nguid: None,
            eui64: None,
            ana_group: None,
            is_auto_visible: !is_hidden,
            persistence_file: None,
        };
        world.amend(Amendment::AddNamespace { nqn: nqn(), namespace })
    } else {
        match run.choices.below("change", if is_hidden { 4 } else { 2 }) {
            0 => {
                there.exists = false;
                told.copy_from_slice(&seen_before);
                world.amend(Amendment::RemoveNamespace { nqn: nqn(), nsid: NSID })
            }
            1 => {
                (there.exists, there.has_device) = (false, false);
                told.copy_from_slice(&seen_before);
                world.amend(Amendment::DeleteDevice { name: disk_name(DISK).to_owned() })
            }
            _ => {
                let which = run.choices.below("which host", u32::try_from(members.len()).unwrap_or(1)) as usize;
                let host = members[which].nqn();
                there.shown[which] = !there.shown[which];
                told[which] = true;
                world.amend(if there.shown[which] {
                    Amendment::AddNamespaceHost { nqn: nqn(), nsid: NSID, host }
                } else {
                    Amendment::RemoveNamespaceHost { nqn: nqn(), nsid: NSID, host }
                })
            }
        }
    };
    steady::much_io(run, world, members, 2)?;
    some_steps(run, world, "operations end after", 200)?;
    world.target.devices()[DISK].let_go();
    world.reach("that the change is answered", STEPS_MAX, |_| asked.is_answered())?;
    expect(asked.is_done(), || "a change was refused for no reason".to_owned())?;
    establish(world, members, there);
    steady::much_io(run, world, members, 2)?;
    for (member, _) in members.iter_mut().zip(told).filter(|(_, told)| *told) {
        let page = member.hear(world, CHANGED_NAMESPACES)?;
        expect(page.get(..4) == Some(&NSID.to_le_bytes()), || {
            format!("host {}'s list of changed namespaces begins with {:?}", member.number, page.get(..8))
        })?;
    }
    Ok(())
}

fn namespace_grows(run: &mut Run) -> Result<(), Failure> {
    const BEFORE: u64 = BLOCK_COUNT / 2;
    let mut layout = roomy(run);
    layout.disk_count = 2;
    layout.last_disk_block_count = BEFORE;
    let mut world = run.world(&layout);
    let mut members = steady::members(run, &mut world, 1, 2)?;
    members.iter_mut().for_each(Member::listen);
    run.begin_window();
    let mut block_count = BEFORE;
    for _ in 0..run.choices.between("times it grows", 1, 3) {
        steady::much_io(run, &mut world, &members, 2)?;
        let grown = Extent { start: block_count, count: 4 }.on_disk(DISK as u64);
        for member in &members {
            world.law.set(member.number, NSID, Permit::of(&[status::SUCCESS, status::OUT_OF_RANGE]));
            let _ = member.steering.send(1, Command::Write { extent: grown, in_capsule: false });
        }
        block_count += 8 * u64::from(run.choices.between("blocks that it grows by", 1, 4));
        let asked = world.amend(Amendment::ResizeDevice { name: disk_name(DISK).to_owned(), block_count });
        steady::much_io(run, &mut world, &members, 2)?;
        world.reach("that it has grown", STEPS_MAX, |_| asked.is_done())?;
        for member in &mut members {
            world.law.set(member.number, NSID, Permit::success());
            let _ = member.steering.send(1, Command::Write { extent: grown, in_capsule: false });
            let page = member.hear(&mut world, CHANGED_NAMESPACES)?;
            expect(page.get(..4) == Some(&NSID.to_le_bytes()), || format!("changed namespaces: {:?}", page.get(..8)))?;
            let identified = member.ask(&mut world, 0, Command::IdentifyNamespace(NSID))?;
            let size = identified.data.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            expect(size == Some(block_count), || format!("it has {block_count} blocks, and says {size:?}"))?;
            let _ = member.steering.send(1, Command::Read(grown));
        }
    }
    run.end_window();
    steady::quiet(&mut world, &members)?;
    steady::part(&members);
    run.finish(world)
}
