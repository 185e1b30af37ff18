//! What the real host side's own machine does to it: events and completions that never come, come late, twice or of nothing.
//!
//! In each an attachment ends by its deadline and says what it waited for, nothing is left over, the target and its other hosts are none the worse, and
//! another attachment works.

use std::cell::RefCell;
use std::rc::Rc;

use transport_rdma::host::HostFailure;
use transport_rdma::soft::in_process::{CompletionKinds, EventKinds, FabricOptions, InjectedEvent, MachineId};
use transport_rdma::verbs::{AddressUser, ConnectionId, RejectReason};

use super::ordinary::{expect, roomy};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{self, End, Order, RawHost, Session};
use crate::sim::host::real::{Association, RealHost, Shape, Steering};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "host-waits-for-what-never-comes",
        about: "one kind of event or of completion is withheld from the host side, for ever or for a while: everything ends by its deadline",
        entries: &["I1", "I15", "K2", "K5", "R19"],
        play: waits_for_what_never_comes,
    },
    Scenario {
        name: "host-hears-late-and-twice",
        about: "every event comes late at the host side, some come twice, and requests are rejected: what is not rejected is served",
        entries: &["I1", "K5"],
        play: hears_late_and_twice,
    },
    Scenario {
        name: "host-is-told-what-is-not-so",
        about: "the host side is told of rejections, disconnects, fatal errors and changed addresses that nobody caused, in any step of a connection",
        entries: &["I1", "J5", "K1", "K2"],
        play: is_told_what_is_not_so,
    },
];

/// Everything that an association can wait for: attaching, a command, the drain, and what is given up beyond it.
pub(super) const END_NS: u64 = 6_000_000_000;

/// A real host that stays and does what it is told, on a machine of its own.
pub(super) struct Steered {
    pub(super) steering: Steering,
    pub(super) machine: MachineId,
}

impl Steered {
    pub(super) fn new(run: &Run, world: &mut World, number: u32) -> Self {
        let host = RealHost::new(number, world, Shape::chosen(&run.choices), Vec::new());
        let steered = Self { steering: host.steering(), machine: host.machine() };
        steered.steering.keep(true);
        world.add(host);
        steered
    }

    pub(super) fn ended_count(&self) -> u32 {
        self.steering.observed().ended_count
    }

    pub(super) fn is_done(&self) -> bool {
        self.steering.observed().is_done
    }

    /// Ends the association that it was told to have, when it has begun.
    pub(super) fn interrupt(&self, world: &mut World) -> Result<(), Failure> {
        world.within("that the association has begun", END_NS, |_| self.steering.has_begun_all() || self.is_done())?;
        self.steering.interrupt();
        Ok(())
    }

    /// Until its `count`th association is over, or it has left.
    pub(super) fn await_end(&self, world: &mut World, count: u32) -> Result<(), Failure> {
        world.within("that its association is over", END_NS, |_| self.ended_count() >= count || self.is_done())
    }

    /// One more association, which has to do all that is planned; a rejection that was meant for the one before may find it first.
    pub(super) fn is_served_again(&self, world: &mut World) -> Result<(), Failure> {
        let (ended, as_planned) = {
            let observed = self.steering.observed();
            (observed.ended_count, observed.as_planned_count)
        };
        for attempt in 1..=2 {
            self.steering.associate(Association { io_count: 12, ends_after_turns: None });
            self.await_end(world, ended + attempt)?;
            let observed = self.steering.observed();
            let is_rejected = matches!(observed.failures.last(), Some(HostFailure::Rejected { .. }));
            if observed.as_planned_count > as_planned || !is_rejected {
                break;
            }
        }
        let observed = self.steering.observed();
        expect(observed.as_planned_count == as_planned + 1, || format!("another attachment did not work: {observed:?}"))
    }

    /// Ends it in good order. What is left over then is a finding.
    pub(super) fn leave(&self, world: &mut World) -> Result<(), Failure> {
        self.steering.keep(false);
        world.within("that the host has left", END_NS, |_| self.is_done())
    }
}

/// A host made of verbs alone that nobody may disturb.
pub(super) struct Bystander {
    steering: raw::Steering,
    observed: Rc<RefCell<raw::Observed>>,
    /// At the target.
    connections: Vec<ConnectionId>,
}

/// Commands of the bystander.
const IO_COUNT: u32 = 300;

impl Bystander {
    /// Is served when this returns.
    pub(super) fn new(world: &mut World) -> Result<Self, Failure> {
        let session = Session { keeps_alive: true, ..Session::new(IO_COUNT, End::Wait) };
        let host = RawHost::new(0, world, vec![session.owed()]);
        let (steering, observed) = (host.steering(), host.observed());
        world.add(host);
        world.within("that the other host is served", END_NS, |_| observed.borrow().is_serving)?;
        let connections = world.fabric.connections(world.target.machine());
        Ok(Self { steering, observed, connections })
    }

    /// The target's connections but for those of this host.
    pub(super) fn other_connections(&self, world: &World) -> Vec<ConnectionId> {
        let mut all = world.fabric.connections(world.target.machine());
        all.retain(|id| !self.connections.contains(id));
        all
    }

    /// It has done everything, was disturbed by nobody, and goes.
    pub(super) fn leave(&self, world: &mut World) -> Result<(), Failure> {
        world.within("that the other host has done its I/O", END_NS, |_| {
            let observed = self.observed.borrow();
            observed.io_count >= u64::from(IO_COUNT)
        })?;
        let observed = self.observed.borrow();
        expect(observed.is_serving && observed.disconnects.is_empty(), || {
            format!("the other host was disturbed: {observed:?}")
        })?;
        drop(observed);
        self.steering.order(Order::DisconnectAll);
        Ok(())
    }
}

/// What is withheld.
#[derive(Clone, Copy, Debug)]
enum Missing {
    Event(EventKinds),
    Completion(CompletionKinds),
    /// So many flush completions are lost, and the others come.
    Flushes(u32),
}

const MISSING: [Missing; 18] = [
    Missing::Event(EventKinds::ESTABLISHED),
    Missing::Event(EventKinds::REGISTERED),
    Missing::Event(EventKinds::RESOLVED),
    Missing::Event(EventKinds::QUEUE_PAIR_CREATED),
    Missing::Event(EventKinds::REJECTED),
    Missing::Event(EventKinds::DISCONNECTED),
    Missing::Event(EventKinds::TIMEWAIT_EXIT),
    Missing::Event(EventKinds::DISCONNECTED.union(EventKinds::TIMEWAIT_EXIT)),
    Missing::Event(EventKinds::QUEUE_PAIR_FATAL),
    Missing::Event(EventKinds::LAST_WQE_REACHED),
    Missing::Event(EventKinds::QUEUE_PAIR_DESTROYED),
    Missing::Event(EventKinds::CONNECTION_DESTROYED),
    Missing::Event(EventKinds::DEREGISTERED),
    Missing::Completion(CompletionKinds::SENT),
    Missing::Completion(CompletionKinds::RECEIVED),
    Missing::Completion(CompletionKinds::SEND_FAILED),
    Missing::Completion(CompletionKinds::RECEIVE_FAILED),
    Missing::Flushes(3),
];

impl Missing {
    fn begin(self, world: &World, machine: MachineId) {
        world.note(|| format!("withholds from the host: {self:?}"));
        world.fabric.change_for(machine, |options: &mut FabricOptions| match self {
            Self::Event(kinds) => options.manager.withholds = kinds,
            Self::Completion(kinds) => options.device.completions.holds = kinds,
            Self::Flushes(_) => {}
        });
        if let Self::Flushes(count) = self {
            world.fabric.drop_flushes(machine, count);
        }
    }

    fn end(world: &World, machine: MachineId) {
        world.note(|| "withholds nothing any more".to_owned());
        world.fabric.change_for(machine, |options: &mut FabricOptions| {
            options.manager.withholds = EventKinds::empty();
            options.device.completions.holds = CompletionKinds::empty();
        });
    }

    /// What an attachment that it was withheld from throughout says that it waited for.
    fn told_when_attaching(self) -> Option<&'static str> {
        match self {
            Self::Event(EventKinds::REGISTERED) => Some("registering memory"),
            Self::Event(EventKinds::RESOLVED) => Some("resolving the target's address"),
            Self::Event(EventKinds::QUEUE_PAIR_CREATED) => Some("creating a queue pair"),
            Self::Event(EventKinds::ESTABLISHED | EventKinds::REJECTED) => Some("the answer to a connection request"),
            Self::Completion(CompletionKinds::SENT | CompletionKinds::RECEIVED) => Some("the controller's answers"),
            Self::Event(_) | Self::Completion(_) | Self::Flushes(_) => None,
        }
    }

    /// Whether the machine owes something for ever that only its process's end takes back.
    fn is_owed_for_ever(self) -> bool {
        matches!(
            self,
            Self::Event(
                EventKinds::REGISTERED
                    | EventKinds::RESOLVED
                    | EventKinds::QUEUE_PAIR_CREATED
                    | EventKinds::QUEUE_PAIR_DESTROYED
                    | EventKinds::CONNECTION_DESTROYED
                    | EventKinds::DEREGISTERED
            )
        )
    }
}

fn waits_for_what_never_comes(run: &mut Run) -> Result<(), Failure> {
    let mut layout = roomy(run);
    // What is withheld is not waited for longer than the deadline.
    layout.fabric.forbids_destroy_with_work = false;
    let mut world = run.world(&layout);
    let target = world.target.machine();
    let bystander = Bystander::new(&mut world)?;
    let host = Steered::new(run, &mut world, 8);
    let missing = run.choices.one_of("what never comes", &MISSING);
    let is_throughout = !run.choices.one_in("not from the beginning", 2);
    let is_endless = run.choices.one_in("endless I/O", 2);
    host.steering.excuse(missing.is_owed_for_ever());
    run.begin_window();
    if is_throughout {
        missing.begin(&world, host.machine);
    }
    if let Missing::Event(EventKinds::REJECTED) = missing {
        world.fabric.reject_next(target, RejectReason::Consumer(Vec::new()));
    }
    let io_count = if is_endless { u32::MAX } else { 30 };
    host.steering.associate(Association { io_count, ends_after_turns: None });
    world.steps(u64::from(run.choices.below("steps into the association", 3_000)))?;
    if !is_throughout {
        missing.begin(&world, host.machine);
    }
    let comes_after_ms = run.choices.one_of("it comes after all, ms", &[u64::MAX, 100, 900, 1_500, 2_500]);
    let is_left_alone = match run.choices.below("what ends the association", 3) {
        1 => {
            world.note(|| "the target's queue pairs break".to_owned());
            bystander.other_connections(&world).into_iter().for_each(|id| world.fabric.cut(target, id));
            if is_endless {
                // There may have been none.
                world.steps(u64::from(run.choices.below("it is ended after", 2_000)))?;
                host.interrupt(&mut world)?;
            }
            false
        }
        // Without what is missing it works.
        how if is_endless && (how == 0 || !is_throughout || missing.told_when_attaching().is_none()) => {
            host.interrupt(&mut world)?;
            false
        }
        _ => true,
    };
    if comes_after_ms != u64::MAX {
        let until_ns = world.now_ns() + comes_after_ms * 1_000_000;
        world.within("that it comes after all", END_NS, |world| world.now_ns() >= until_ns)?;
        Missing::end(&world, host.machine);
        // Whether it was in time or not.
        host.interrupt(&mut world)?;
    }
    host.await_end(&mut world, 1)?;
    run.end_window();
    let told = missing.told_when_attaching().filter(|_| is_throughout && is_left_alone && comes_after_ms == u64::MAX);
    if let Some(told) = told {
        let observed = host.steering.observed();
        let says_so = |failure: &HostFailure| failure.to_string().contains(told);
        expect(observed.failures.first().is_some_and(says_so), || {
            format!("{missing:?} never came, and the attachment ended without saying so ({told}): {observed:?}")
        })?;
    }
    end_of_host(run, &mut world, &host, missing, comes_after_ms == u64::MAX)?;
    bystander.leave(&mut world)?;
    run.finish(world)
}

/// The host attaches again, if it can; otherwise another process does. Then there is nothing left of it.
fn end_of_host(
    run: &Run,
    world: &mut World,
    host: &Steered,
    missing: Missing,
    is_for_ever: bool,
) -> Result<(), Failure> {
    if !(is_for_ever && missing.is_owed_for_ever()) {
        // What never came is nothing that it needs to know of the past.
        Missing::end(world, host.machine);
        if !host.is_done() {
            host.steering.excuse(false);
            host.is_served_again(world)?;
        }
    }
    host.leave(world)?;
    // Its process ends.
    host.steering.die();
    let next = Steered::new(run, world, 9);
    next.is_served_again(world)?;
    next.leave(world)
}

fn hears_late_and_twice(run: &mut Run) -> Result<(), Failure> {
    const TWICE: EventKinds = EventKinds::DISCONNECTED
        .union(EventKinds::REJECTED)
        .union(EventKinds::TIMEWAIT_EXIT)
        .union(EventKinds::LAST_WQE_REACHED)
        .union(EventKinds::QUEUE_PAIR_FATAL);
    let layout = roomy(run);
    let mut world = run.world(&layout);
    let target = world.target.machine();
    let bystander = Bystander::new(&mut world)?;
    let host = Steered::new(run, &mut world, 8);
    let looks_max = run.choices.one_of("late by looks", &[20, 60, 120]);
    world.fabric.change_for(host.machine, |options| {
        options.manager.late = EventKinds::all();
        options.manager.late_looks_max = looks_max;
        options.manager.twice = TWICE;
    });
    run.begin_window();
    for number in 1..=run.choices.between("associations", 2, 4) {
        let is_rejected = run.choices.one_in("is rejected", 3);
        let is_interrupted = !is_rejected && run.choices.one_in("is interrupted", 3);
        if is_rejected {
            let reasons = [RejectReason::Stale, RejectReason::TimedOut, RejectReason::Consumer(Vec::new())];
            world.fabric.reject_next(target, reasons[run.choices.below("why it is rejected", 3) as usize].clone());
        }
        let ends_after_turns = is_interrupted.then(|| run.choices.below("ends after turns", 4_000));
        host.steering.associate(Association { io_count: run.choices.below("commands", 40), ends_after_turns });
        host.await_end(&mut world, number)?;
        let observed = host.steering.observed();
        expect(is_rejected || is_interrupted || observed.failures.len() < number as usize, || {
            format!("association {number} was left alone, and failed: {observed:?}")
        })?;
        let as_planned = observed.as_planned_count;
        drop(observed);
        if !is_rejected && !is_interrupted {
            expect(as_planned > 0, || "nothing was served".to_owned())?;
        }
    }
    run.end_window();
    host.leave(&mut world)?;
    bystander.leave(&mut world)?;
    run.finish(world)
}

fn is_told_what_is_not_so(run: &mut Run) -> Result<(), Failure> {
    let mut layout = roomy(run);
    layout.fabric.forbids_destroy_with_work = false;
    let mut world = run.world(&layout);
    let bystander = Bystander::new(&mut world)?;
    let host = Steered::new(run, &mut world, 8);
    run.begin_window();
    for number in 1..=run.choices.between("associations", 1, 3) {
        host.steering.associate(Association { io_count: 40, ends_after_turns: None });
        for _ in 0..run.choices.between("events told", 1, 4) {
            world.steps(u64::from(run.choices.below("an event comes after", 600)))?;
            let connections = world.fabric.connections(host.machine);
            let Some(&connection) = connections.get(run.choices.below("of which connection", 4) as usize) else {
                continue;
            };
            let event = match run.choices.below("which event", 6) {
                0 => InjectedEvent::Rejected(connection, RejectReason::Consumer(Vec::new())),
                1 => InjectedEvent::Disconnected(connection),
                2 => InjectedEvent::TimewaitExit(connection),
                3 => InjectedEvent::QueuePairFatal(connection),
                4 => InjectedEvent::LastWqeReached(connection),
                _ => InjectedEvent::AddressChanged(AddressUser::Connection(connection)),
            };
            world.note(|| format!("tells the host: {event:?}"));
            world.fabric.inject(host.machine, event);
        }
        host.await_end(&mut world, number)?;
    }
    run.end_window();
    host.is_served_again(&mut world)?;
    host.leave(&mut world)?;
    bystander.leave(&mut world)?;
    run.finish(world)
}
