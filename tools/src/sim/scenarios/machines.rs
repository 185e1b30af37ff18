//! Machines that are killed, started again, stopped and let go on, on both sides.

use super::ordinary::{any_session, expect, expect_served, roomy};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{self, End, Opening, Order, RawHost, Session, Stage};
use crate::sim::host::real::{self, Association, RealHost, Shape};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "target-killed-and-started-again",
        about: "the target's machine is gone in the midst of everything; hosts notice, and are served by the one that takes its place",
        entries: &["I12", "K5"],
        play: target_killed_and_started_again,
    },
    Scenario {
        name: "host-killed",
        about: "hosts' machines are gone in the midst of everything; the target takes back what was theirs and serves the others",
        entries: &["B6", "E7", "I12"],
        play: host_killed,
    },
    Scenario {
        name: "host-stopped-and-continued",
        about: "a host is stopped, for less or more than its keep-alive, and goes on",
        entries: &["E7", "I12", "J8"],
        play: host_stopped_and_continued,
    },
    Scenario {
        name: "responses-find-no-receive",
        about: "a host takes no responses for a while, or for ever",
        entries: &["F2", "J8"],
        play: responses_find_no_receive,
    },
];

const LIMIT: u64 = 2_000_000;

/// Hosts of both kinds that do endless I/O.
struct Crowd {
    raw: Vec<raw::Steering>,
    real: Vec<real::Steering>,
}

impl Crowd {
    fn new(run: &Run, world: &mut World) -> Self {
        let mut crowd = Self { raw: Vec::new(), real: Vec::new() };
        for number in 0..run.choices.between("raw hosts", 1, 2) {
            let host = RawHost::new(number, world, vec![endless(run)]);
            crowd.raw.push(host.steering());
            world.add(host);
        }
        for number in 8..8 + run.choices.below("real hosts", 2) {
            let association = Association { io_count: u32::MAX, ends_after_turns: None };
            let host = RealHost::new(number, world, Shape::chosen(&run.choices), vec![association]);
            host.steering().keep(true);
            crowd.real.push(host.steering());
            world.add(host);
        }
        crowd
    }

    fn is_served(&self) -> bool {
        self.raw.iter().all(|host| host.observed().is_serving)
            && self.real.iter().all(|host| host.observed().is_serving)
    }

    /// Ends what is under way.
    fn end(&self) {
        self.raw.iter().for_each(|host| host.order(Order::DisconnectAll));
        self.real.iter().for_each(real::Steering::interrupt);
    }

    /// Whether the first association of all is over.
    fn is_over(&self) -> bool {
        self.raw.iter().all(|host| host.observed().is_done)
            && self.real.iter().all(|host| host.observed().ended_count == 1)
    }
}

fn endless(run: &Run) -> Session {
    Session { io_count: u32::MAX, end: End::Wait, keeps_alive: true, ..any_session(run) }
}

fn target_killed_and_started_again(run: &mut Run) -> Result<(), Failure> {
    let mut layout = roomy(run);
    // Nothing but a message could tell a host without I/O.
    layout.fabric.loses_disconnected = false;
    let mut world = run.world(&layout);
    let crowd = Crowd::new(run, &mut world);
    let are_served = run.choices.one_in("killed when all are served", 2);
    if are_served {
        world.reach("that all hosts are served", LIMIT, |_| crowd.is_served())?;
    }
    run.begin_window();
    world.steps(u64::from(run.choices.below("steps until it is killed", 3_000)))?;
    world.kill_target();
    world.steps(u64::from(run.choices.below("steps until it is started", 300)))?;
    world.restart_target();
    if !are_served {
        // Some may have come to it first now.
        world.steps(1_000)?;
        crowd.end();
    }
    world.reach("that all hosts have noticed", LIMIT, |_| crowd.is_over())?;
    run.end_window();
    for host in &crowd.raw {
        host.order(Order::Run(Session { end: End::Quietly, io_count: 30, ..endless(run) }.owed()));
    }
    for host in &crowd.real {
        host.associate(Association { io_count: 30, ends_after_turns: None });
        host.keep(false);
    }
    world.steps(100)?;
    world.reach("that all hosts are done", LIMIT, |_| {
        crowd.raw.iter().all(|host| host.observed().is_done) && crowd.real.iter().all(|host| host.observed().is_done)
    })?;
    for host in &crowd.raw {
        let host = host.observed();
        expect(host.sessions_as_planned == 1, || format!("the second target did not serve it: {host:?}"))?;
    }
    for host in &crowd.real {
        let host = host.observed();
        expect(host.as_planned_count == 1, || format!("the second target did not serve it: {host:?}"))?;
    }
    run.finish(world)
}

fn host_killed(run: &mut Run) -> Result<(), Failure> {
    let layout = roomy(run);
    let mut world = run.world(&layout);
    let crowd = Crowd::new(run, &mut world);
    let survivor = RawHost::new(5, &world, vec![Session::new(400, End::Quietly).owed()]);
    let survivor_observed = survivor.observed();
    world.add(survivor);
    run.begin_window();
    world.steps(u64::from(run.choices.below("steps until they are killed", 4_000)))?;
    crowd.raw.iter().for_each(raw::Steering::die);
    world.steps(u64::from(run.choices.below("steps between", 200)))?;
    crowd.real.iter().for_each(real::Steering::die);
    run.end_window();
    world.reach("that the other host is done", LIMIT, |_| survivor_observed.borrow().is_done)?;
    expect_served(&survivor_observed)?;
    run.finish(world)
}

fn host_stopped_and_continued(run: &mut Run) -> Result<(), Failure> {
    let layout = roomy(run);
    let mut world = run.world(&layout);
    let crowd = Crowd::new(run, &mut world);
    world.steps(u64::from(run.choices.below("steps until they are stopped", 4_000)))?;
    run.begin_window();
    crowd.raw.iter().for_each(raw::Steering::stop);
    crowd.real.iter().for_each(real::Steering::stop);
    let stopped_ns = run.choices.one_of("stopped for", &[1_000_000, 400_000_000, 3_000_000_000, 12_000_000_000]);
    world.pass(stopped_ns)?;
    crowd.raw.iter().for_each(raw::Steering::go_on);
    crowd.real.iter().for_each(real::Steering::go_on);
    world.steps(u64::from(run.choices.below("steps after that", 2_000)))?;
    run.end_window();
    crowd.real.iter().for_each(|host| host.keep(false));
    crowd.end();
    world.reach("that all hosts are done", LIMIT, |_| {
        crowd.raw.iter().all(|host| host.observed().is_done) && crowd.real.iter().all(|host| host.observed().is_done)
    })?;
    run.finish(world)
}

fn responses_find_no_receive(run: &mut Run) -> Result<(), Failure> {
    let layout = roomy(run);
    let mut world = run.world(&layout);
    let host = RawHost::new(0, &world, vec![Session { io_queue_count: 1, ..endless(run) }]);
    let steering = host.steering();
    world.add(host);
    let other = RawHost::new(1, &world, vec![Session::new(200, End::Quietly).owed()]);
    let other_observed = other.observed();
    world.add(other);
    world.reach("that it is served", LIMIT, |_| steering.observed().is_serving)?;
    run.begin_window();
    steering.order(Order::HoldReceives { qid: 1, held: true });
    world.steps(u64::from(run.choices.below("steps without", 4_000)))?;
    if run.choices.one_in("takes them again", 2) {
        steering.order(Order::HoldReceives { qid: 1, held: false });
        let before = steering.observed().io_count;
        world.reach("that it is served again", LIMIT, |_| steering.observed().io_count > before + 20)?;
    }
    run.end_window();
    steering.order(Order::DisconnectAll);
    world.reach("that both are done", LIMIT, |_| steering.observed().is_done && other_observed.borrow().is_done)?;
    expect_served(&other_observed)?;
    // A connection that is never asked for is no different.
    steering.open(Opening::new(0).until(Stage::Attached));
    world.steps(100)?;
    steering.order(Order::DisconnectAll);
    world.steps(100)?;
    run.finish(world)
}
