//! What one host may have in flight, and where queue pairs go while hosts come and go.

use nvmf_core::spec::HostLimits;
use nvmf_core::target::Amendment;

use super::acting::{STEPS_MAX, expect, extent, host, opening};
use super::ordinary::{any_session, told_of_ends};
use super::steady::{self, Member};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{Command, Order, RawHost, Stage};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a-host-has-its-share",
        about: "a host with all its queues full has no more at the device than it may, another gets on meanwhile, and a larger share is had at once",
        entries: &["S12"],
        play: shares,
    },
    Scenario {
        name: "queues-are-spread",
        about: "hosts come and go in every way: those that come afterwards are spread over all CPUs evenly",
        entries: &["S13"],
        play: spread,
    },
];

fn shares(run: &mut Run) -> Result<(), Failure> {
    let mut layout = told_of_ends(run);
    // A read out of the device's own memory is no operation.
    layout.reads_in_place = false;
    let limit = run.choices.one_of("commands of a host", &[2, 1, 3]);
    layout.controller.host.command_count_max = limit;
    let mut world = run.world(&layout);
    let members = [Member::connected(&mut world, 0, 2)?, Member::connected(&mut world, 1, 1)?];
    run.begin_window();
    let most = |limit: u32| limit as usize * usize::from(layout.cpu_count);
    let check = |world: &World, limit: u32| {
        let count = world.target.device().outstanding_count();
        expect(count <= most(limit), || {
            format!("a host may have {limit} on each CPU, and the device has {count} of one")
        })
    };
    for _ in 0..run.choices.between("rounds", 1, 3) {
        world.target.device().hold();
        for _ in 0..8 {
            for qid in 1..=2 {
                let _ = members[0].steering.send(qid, steady::any_io(run, 0, 0));
            }
            world.steps(run.choices.below("steps until the next command", 20).into())?;
            check(&world, limit)?;
        }
        world.steps(400)?;
        check(&world, limit)?;
        expect(world.target.device().outstanding_count() > 0, || "a host with a share gets on".to_owned())?;
        let before = world.target.device().outstanding_count();
        let other = members[1].steering.send(1, Command::Write { extent: extent(1, 1), in_capsule: false });
        world.reach("that the other host's command is at the device", STEPS_MAX, |world| {
            world.target.device().outstanding_count() > before
        })?;
        if run.choices.one_in("the limit is raised", 2) {
            let limits = HostLimits { command_count_max: 16, ..HostLimits::default() };
            let asked = world.amend(Amendment::LimitHosts(limits));
            world.reach("that the limit is raised", STEPS_MAX, |_| asked.is_done())?;
            world.target.device().let_go();
            steady::quiet(&mut world, &members)?;
            let limits = HostLimits { command_count_max: limit, ..limits };
            let asked = world.amend(Amendment::LimitHosts(limits));
            world.reach("that the limit is what it was", STEPS_MAX, |_| asked.is_done())?;
        }
        world.target.device().let_go();
        members[1].wait(&mut world, other)?;
        if run.choices.one_in("a queue ends with commands that wait", 2) {
            members[0].steering.order(Order::Disconnect { qid: 1 });
            members[0].reopen(&mut world, 1, 0)?;
        }
        steady::quiet(&mut world, &members)?;
    }
    run.end_window();
    steady::read_back(&mut world, &members, 0)?;
    steady::part(&members);
    run.finish(world)
}

fn spread(run: &mut Run) -> Result<(), Failure> {
    let layout = told_of_ends(run);
    let mut world = run.world(&layout);
    run.begin_window();
    let mut observed = Vec::new();
    for number in 8..8 + run.choices.between("hosts that come and go", 1, 3) {
        let host = RawHost::new(number, &world, vec![any_session(run), any_session(run)]);
        observed.push(host.observed());
        world.add(host);
    }
    world.reach("that all hosts are done", 4_000_000, |_| observed.iter().all(|host| host.borrow().is_done))?;
    world.settle()?;
    let mut hosts = Vec::new();
    for number in 0..run.choices.between("hosts", 2, 5) {
        let host = host(&mut world, number);
        for qid in 0..=1 {
            host.open(opening(qid));
            world.reach("that a queue is up", STEPS_MAX, |_| host.is_at(qid, Stage::Ready))?;
        }
        hosts.push(host);
        let counts: Vec<u64> = (0..layout.cpu_count).map(|cpu| io_queue_count(&world, cpu)).collect();
        let (most, least) = (counts.iter().max(), counts.iter().min());
        expect(most.zip(least).is_some_and(|(most, least)| most - least <= 1), || {
            format!("I/O queues are not spread evenly: {counts:?} by CPU")
        })?;
        expect(counts.iter().sum::<u64>() == hosts.len() as u64, || {
            format!("{} hosts have an I/O queue each, and {counts:?} are counted", hosts.len())
        })?;
    }
    run.end_window();
    hosts.iter().for_each(|host| host.order(Order::DisconnectAll));
    run.finish(world)
}

/// I/O queue pairs of a CPU, as the target counts them.
fn io_queue_count(world: &World, cpu: u16) -> u64 {
    let is_it = |labels: &[(&'static str, String)]| labels.iter().any(|(_, value)| *value == cpu.to_string());
    let rows = world.target.rows();
    let of_cpu = rows.iter().filter(|row| row.0 == "rdma_io_queue_pairs_live" && is_it(&row.1));
    of_cpu.map(|row| row.2).sum()
}
