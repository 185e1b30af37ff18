//! Aborts that race with whatever ends commands otherwise, and hosts that nothing but their traffic keeps alive.

use super::acting::{STEPS_MAX, expect, host, some_steps};
use super::ordinary::told_of_ends;
use super::steady::{self, any_io};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{Command, Opening, Order, Stage};
use crate::sim::scenario::{Run, Scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "aborts-race",
        about: "commands are aborted wherever they are: what an Abort says is what became of them, once, also over pauses, full buffers and queues that end",
        entries: &["S10"],
        play: aborts_race,
    },
    Scenario {
        name: "traffic-keeps-alive",
        about: "a host that sends I/O and no Keep Alive is served; one that sends nothing is thrown out",
        entries: &["S11"],
        play: traffic_keeps_alive,
    },
];

fn aborts_race(run: &mut Run) -> Result<(), Failure> {
    let mut layout = told_of_ends(run).limiting_hosts(&run.choices);
    layout.data_memory_len = run.choices.one_of("bytes of buffers", &[256 << 10, 64 << 10]);
    let mut world = run.world(&layout);
    let members = steady::members(run, &mut world, 1, 2)?;
    run.begin_window();
    let mut is_paused = false;
    for _ in 0..run.choices.between("rounds", 1, 6) {
        steady::much_io(run, &mut world, &members, 1)?;
        let mut ended = None;
        match run.choices.below("what happens", 6) {
            0 | 1 => {}
            2 => world.target.device().hold(),
            3 if is_paused => {
                drop(super::pause::resume(&mut world));
                is_paused = false;
            }
            3 => {
                drop(super::pause::pause(&mut world));
                is_paused = true;
            }
            4 => {
                let _ = members[0].steering.send(0, Command::EventRequest);
            }
            _ => {
                let qid = members[0].any_queue(run);
                members[0].steering.order(Order::Disconnect { qid });
                ended = Some(qid);
            }
        }
        for _ in 0..run.choices.between("aborts", 1, 6) {
            let member = &members[run.choices.below("which host", u32::try_from(members.len()).unwrap_or(1)) as usize];
            let qid = if run.choices.one_in("of the admin queue", 6) { 0 } else { member.any_queue(run) };
            let further = run.choices.below("which command", 6) as usize;
            let _ = member.steering.send(0, Command::Abort { qid, further });
            steady::io(run, &mut world, &members, 1)?;
        }
        world.target.device().let_go();
        if let Some(qid) = ended {
            members[0].reopen(&mut world, qid, 0)?;
        }
    }
    if is_paused {
        drop(super::pause::resume(&mut world));
    }
    run.end_window();
    steady::quiet(&mut world, &members)?;
    steady::read_back(&mut world, &members, 0)?;
    steady::part(&members);
    run.finish(world)
}

fn traffic_keeps_alive(run: &mut Run) -> Result<(), Failure> {
    const KEEP_ALIVE_MS: u32 = 1000;
    let layout = told_of_ends(run);
    let mut world = run.world(&layout);
    let mut hosts = Vec::new();
    for number in 0..2 {
        let host = host(&mut world, number);
        host.order(Order::KeepAlive(false));
        host.open(Opening { keep_alive_ms: KEEP_ALIVE_MS, ..Opening::new(0) });
        world.reach("that the admin queue is up", STEPS_MAX, |_| host.is_at(0, Stage::Ready))?;
        for qid in 1..=2 {
            host.open(Opening::new(qid));
            world.reach("that a queue is up", STEPS_MAX, |_| host.is_at(qid, Stage::Ready))?;
        }
        hosts.push(host);
    }
    run.begin_window();
    for _ in 0..12 {
        let qid = run.choices.one_of("I/O queue", &[1, 2]);
        let _ = hosts[0].send(qid, any_io(run, 0, 0));
        some_steps(run, &mut world, "time passes after", 60)?;
        // A quarter of the interval, with some turns of everybody in each hundredth.
        for _ in 0..25 {
            world.advance(u64::from(KEEP_ALIVE_MS) * 10_000);
            world.steps(60)?;
        }
    }
    run.end_window();
    let is_connected = |host: usize| hosts[host].is_at(0, Stage::Ready) && hosts[host].is_at(1, Stage::Ready);
    expect(is_connected(0), || format!("its traffic does not keep a host alive: {:?}", hosts[0].observed()))?;
    expect(!is_connected(1), || "three intervals without a sign of life, and nobody was thrown out".to_owned())?;
    hosts.iter().for_each(|host| host.order(Order::DisconnectAll));
    run.finish(world)
}
