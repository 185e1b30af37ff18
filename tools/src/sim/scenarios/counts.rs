//! Many lives one after the other: whatever one of them loses is missing in the end.

use super::acting::{expect, sessions};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{End, Session};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::Layout;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "connect-loop-leaks-nothing",
    about: "forty associations with event requests left, commands outstanding and every kind of command: the last gets what the first got",
    entries: &["F1", "F2", "F10", "F12", "F13"],
    play: connect_loop,
}];

fn connect_loop(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.shared_receive_count = run.choices.one_of("shared receives", &[24, 0]);
    layout.queue_pair_count_max = 24;
    // Where nobody is told that a host has left, its places are taken until its keep-alive ends.
    layout.fabric.loses_disconnected = false;
    let is_provable = layout.drains_are_provable();
    let mut world = run.world(&layout);
    let session = |run: &Run| {
        let ends = [End::Quietly, End::Abruptly, End::Announced];
        Session {
            event_request_count: u16::try_from(run.choices.between("event requests", 1, 4)).unwrap_or(1),
            ..Session::new(run.choices.below("commands", 6), run.choices.one_of("end", &ends))
        }
    };
    let of_hosts: Vec<Vec<Session>> = (0..2).map(|_| (0..20).map(|_| session(run)).collect()).collect();
    sessions(&mut world, of_hosts)?;
    // Drains that nothing can prove take their time, and their places.
    let rejected = world.target.count("rdma_connections_rejected");
    expect(rejected == 0 || !is_provable, || format!("{rejected} of 80 connections were refused"))?;
    run.finish(world)
}
