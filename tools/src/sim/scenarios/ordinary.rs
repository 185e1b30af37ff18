//! What hosts do when nothing is wrong with them, and when everything is.

use crate::sim::failure::Failure;
use crate::sim::host::raw::{End, RawHost, Session};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::Layout;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "hosts-come-and-go",
    about: "hosts connect, do I/O and end in every way at any moment, on devices of every kind",
    entries: &["B6", "E2", "F2"],
    play: hosts_come_and_go,
}];

fn hosts_come_and_go(run: &mut Run) -> Result<(), Failure> {
    let layout = Layout::chosen(&run.choices);
    let mut world = run.world(&layout);
    let host_count = run.choices.between("hosts", 1, 3);
    let mut observed = Vec::new();
    for number in 0..host_count {
        let session_count = run.choices.between("sessions", 1, 4);
        let sessions = (0..session_count).map(|_| any_session(run)).collect();
        let host = RawHost::new(number, &world, sessions);
        observed.push(host.observed());
        world.add(host);
    }
    world.reach("that all hosts are done", 4_000_000, |_| observed.iter().all(|host| host.borrow().is_done))?;
    run.finish(world)
}

/// A session that ends in any way, at any moment.
fn any_session(run: &Run) -> Session {
    let choices = &run.choices;
    let after = choices.below("end after turns", 200);
    let ends = [End::Quietly, End::Abruptly, End::Overrun, End::ShortCapsule, End::WrongKey, End::AfterTurns(after)];
    Session {
        depth: u16::try_from(choices.between("depth", 2, 16)).unwrap_or(2),
        io_count: choices.below("commands", 40),
        end: choices.one_of("end of a session", &ends),
        keep_alive_ms: 1000,
    }
}
