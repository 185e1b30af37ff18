//! What many scenarios begin and end with.

use crate::sim::failure::Failure;
use crate::sim::host::model::Extent;
use crate::sim::host::raw::{Command, Opening, Order, RawHost, Session, Stage, Steering};
use crate::sim::scenario::Run;
use crate::sim::world::World;

/// Steps in which whatever is not held up comes about.
pub(super) const STEPS_MAX: u64 = 400_000;

/// A host that does what it is told.
pub(super) fn host(world: &mut World, number: u32) -> Steering {
    let host = RawHost::new(number, world, Vec::new());
    let steering = host.steering();
    world.add(host);
    steering.order(Order::EndsTogether(false));
    steering.order(Order::KeepAlive(true));
    steering
}

/// The same, with its admin queue and so many I/O queues up.
pub(super) fn connected(world: &mut World, number: u32, io_queue_count: u16) -> Result<Steering, Failure> {
    let steering = host(world, number);
    connect(world, &steering, io_queue_count)?;
    Ok(steering)
}

/// Opens its admin queue and so many I/O queues.
pub(super) fn connect(world: &mut World, host: &Steering, io_queue_count: u16) -> Result<(), Failure> {
    for qid in 0..=io_queue_count {
        host.open(opening(qid));
        let steering = host.clone();
        world.reach("that a queue is up", STEPS_MAX, |_| steering.is_at(qid, Stage::Ready))?;
    }
    Ok(())
}

/// A queue that goes all the way. Its controller has a keep-alive: on a network that loses DISCONNECTED nothing else tells that an idle host has left.
pub(super) fn opening(qid: u16) -> Opening {
    Opening { keep_alive_ms: 4_000, ..Opening::new(qid) }
}

/// Hosts that do these sessions by themselves, all at once; comes back when they are done.
pub(super) fn sessions(world: &mut World, sessions: Vec<Vec<Session>>) -> Result<(), Failure> {
    let mut observed = Vec::new();
    for (number, sessions) in (0..).zip(sessions) {
        let host = RawHost::new(number, world, sessions);
        observed.push(host.observed());
        world.add(host);
    }
    world.reach("that all hosts are done", 4_000_000, |_| observed.iter().all(|host| host.borrow().is_done))
}

/// One block, or more, of the host's own part of the namespace.
pub(super) fn extent(host: u32, count: u16) -> Extent {
    Extent { start: u64::from(host % 16) * 64, count }
}

/// Operations under way, which the device holds. (A read may need none.)
pub(super) fn held_io(world: &mut World, host: &Steering, number: u32, qid: u16) -> Result<(), Failure> {
    world.target.device().hold();
    host.submit(qid, Command::Read(extent(number + 1, 2)));
    host.submit(qid, Command::Write { extent: extent(number, 2), in_capsule: false });
    host.submit(qid, Command::WriteZeroes(extent(number + 2, 1)));
    world.reach("that the device has the operations", STEPS_MAX, |world| world.target.device().outstanding_count() >= 2)
}

/// A chosen number of steps, 0 is the calm choice.
pub(super) fn some_steps(run: &Run, world: &mut World, what: &'static str, max: u32) -> Result<(), Failure> {
    let count = run.choices.below(what, max + 1);
    world.steps(u64::from(count))
}

/// Fails unless it holds.
pub(super) fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure { found_by: "scenario", what: what() }) }
}
