//! I/O that goes on while something else happens: hosts that are steered send commands, on any namespace, as long as their queues have room.

use super::acting::{STEPS_MAX, connect, expect, host, opening};
use crate::sim::failure::Failure;
use crate::sim::host::blocks::any_extent;
use crate::sim::host::model::Extent;
use crate::sim::host::raw::{Command, Opening, Order, Outcome, Stage, Steering, Tag};
use crate::sim::scenario::Run;
use crate::sim::world::World;
use crate::sim::world::layout::address_of;

/// A host of a scenario.
pub(super) struct Member {
    pub(super) number: u32,
    pub(super) steering: Steering,
    pub(super) queue_count: u16,
    /// The event request that is out.
    pub(super) event: Option<Tag>,
}

impl Member {
    /// A host with its queues up.
    pub(super) fn connected(world: &mut World, number: u32, queue_count: u16) -> Result<Self, Failure> {
        let steering = host(world, number);
        connect(world, &steering, queue_count)?;
        Ok(Self { number, steering, queue_count, event: None })
    }

    /// The same, by one of several addresses.
    pub(super) fn connected_by(world: &mut World, number: u32, queue_count: u16, path: u8) -> Result<Self, Failure> {
        let steering = host(world, number);
        for qid in 0..=queue_count {
            steering.open(Opening { address: address_of(path), ..opening(qid) });
            world.reach("that a queue is up", STEPS_MAX, |_| steering.is_at(qid, Stage::Ready))?;
        }
        Ok(Self { number, steering, queue_count, event: None })
    }

    /// One of its I/O queues.
    pub(super) fn any_queue(&self, run: &Run) -> u16 {
        1 + u16::try_from(run.choices.below("I/O queue", self.queue_count.into())).unwrap_or(0)
    }

    /// The NQN by which the target knows it.
    pub(super) fn nqn(&self) -> String {
        format!("nqn.2026-01.org.quiesce:host{}", self.number + 1)
    }

    /// Opens an I/O queue again whose connection has ended.
    pub(super) fn reopen(&self, world: &mut World, qid: u16, path: u8) -> Result<(), Failure> {
        // A Connect that is told to come again, since the old queue drains, does.
        for _ in 0..60 {
            world.reach("that the queue is gone", STEPS_MAX, |_| {
                self.steering.has_taken_orders() && self.steering.stage(qid).is_none()
            })?;
            self.steering.open(Opening { address: address_of(path), ..opening(qid) });
            world.reach("an answer to Connect", STEPS_MAX, |_| {
                let is_answered = self.steering.is_at(qid, Stage::Ready) || self.steering.stage(qid).is_none();
                self.steering.has_taken_orders() && is_answered
            })?;
            if self.steering.is_at(qid, Stage::Ready) {
                return Ok(());
            }
            world.pass(50_000_000)?;
        }
        expect(false, || format!("host {} does not get its queue {qid} back", self.number))
    }

    /// Sends a command and waits for what becomes of it.
    pub(super) fn ask(&self, world: &mut World, qid: u16, command: Command) -> Result<Outcome, Failure> {
        let tag = self.steering.send(qid, command);
        self.wait(world, tag)
    }

    /// Waits for what becomes of a command.
    pub(super) fn wait(&self, world: &mut World, tag: Tag) -> Result<Outcome, Failure> {
        world.reach("an answer to a command", STEPS_MAX, |_| self.steering.outcome(tag).is_some())?;
        Ok(self.steering.outcome(tag).unwrap_or(Outcome { status: None, result: 0, data: Vec::new() }))
    }

    /// Leaves an event request with the controller.
    pub(super) fn listen(&mut self) {
        self.event = Some(self.steering.send(0, Command::EventRequest));
    }

    /// Waits until it is told of something, reads the log page that it is told of, and listens again. The page.
    pub(super) fn hear(&mut self, world: &mut World, log: u8) -> Result<Vec<u8>, Failure> {
        let Some(event) = self.event.take() else { return Ok(Vec::new()) };
        let told = self.wait(world, event)?;
        expect(told.is_success() && told.result & 7 == 2 && told.result >> 16 == u32::from(log), || {
            format!("host {} was told {told:?} instead of a notice with log page {log:#x}", self.number)
        })?;
        self.listen();
        let page = self.ask(world, 0, Command::LogPage(log, 4096))?;
        expect(page.is_success(), || format!("log page {log:#x} ended with {:?}", page.status))?;
        Ok(page.data)
    }
}

/// Some hosts, each with some I/O queues.
pub(super) fn members(run: &Run, world: &mut World, at_least: u32, at_most: u32) -> Result<Vec<Member>, Failure> {
    let queue_count = u16::try_from(run.choices.between("I/O queues", 1, 2)).unwrap_or(1);
    let count = run.choices.between("hosts", at_least, at_most);
    (0..count).map(|number| Member::connected(world, number, queue_count)).collect()
}

/// Any read or write of a host's own blocks on a disk.
pub(super) fn any_io(run: &Run, number: u32, disk: u64) -> Command {
    let extent = any_extent(&run.choices, number, 4, 0).on_disk(disk);
    match run.choices.one_of("I/O command", b"WRWRZ") {
        b'W' => Command::Write { extent, in_capsule: run.choices.one_in("in capsule", 2) },
        b'R' => Command::Read(extent),
        _ => Command::WriteZeroes(extent),
    }
}

/// Any command of any host, if there is room, and then some steps.
pub(super) fn io(run: &Run, world: &mut World, members: &[Member], disk_count: u32) -> Result<(), Failure> {
    let member = &members[run.choices.below("which host", u32::try_from(members.len()).unwrap_or(1)) as usize];
    let disk = run.choices.below("which namespace", disk_count);
    let command = any_io(run, member.number, disk.into());
    let _ = member.steering.send(member.any_queue(run), command);
    world.steps(run.choices.below("steps until the next command", 24).into())
}

/// A number of commands.
pub(super) fn much_io(run: &Run, world: &mut World, members: &[Member], disk_count: u32) -> Result<(), Failure> {
    (0..run.choices.between("commands", 1, 12)).try_for_each(|_| io(run, world, members, disk_count))
}

/// Until everything that was sent is answered, but for event requests.
pub(super) fn quiet(world: &mut World, members: &[Member]) -> Result<(), Failure> {
    world.reach("that everything is answered", STEPS_MAX, |_| {
        members
            .iter()
            .all(|member| member.steering.has_taken_orders() && member.steering.observed().outstanding_count == 0)
    })
}

/// Each reads what it may have written.
pub(super) fn read_back(world: &mut World, members: &[Member], disk: u64) -> Result<(), Failure> {
    for member in members {
        for part in 0..6 {
            let start = crate::sim::host::blocks::first_own_block(member.number) + part * 8;
            let outcome = member.ask(world, 1, Command::Read(Extent { start, count: 8 }.on_disk(disk)))?;
            expect(outcome.is_success(), || format!("a last read of host {} ended with {outcome:?}", member.number))?;
        }
    }
    Ok(())
}

/// All leave.
pub(super) fn part(members: &[Member]) {
    members.iter().for_each(|member| member.steering.order(Order::DisconnectAll));
}
