//! Worlds so small that every run near the calm one can be tried: one host, one polling CPU, one teardown. The window is the teardown.

use crate::sim::failure::Failure;
use crate::sim::host::raw::{End, RawHost, Session};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::Layout;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "one-host-leaves",
        about: "a host disconnects with commands outstanding, in the smallest world there is: made for --explore",
        entries: &[],
        play: |run| one_host_leaves(run, &small(), Meanwhile::Nothing),
    },
    Scenario {
        name: "one-host-leaves-shared-receives",
        about: "the same with a shared receive queue, on a device that never raises LAST_WQE_REACHED and sweeps on destroy",
        entries: &[],
        play: |run| {
            let mut layout = small();
            layout.shared_receive_count = 24;
            layout.fabric.raises_last_wqe = false;
            layout.fabric.sweeps_on_destroy = true;
            one_host_leaves(run, &layout, Meanwhile::Nothing)
        },
    },
    Scenario {
        name: "one-host-leaves-at-shutdown",
        about: "the same while the target is shut down",
        entries: &[],
        play: |run| one_host_leaves(run, &small(), Meanwhile::Shutdown),
    },
];

/// What happens at the target when the host begins to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    Shutdown,
}

/// Steps after the host's end in which a calm target has reaped its queue pairs.
const REAPING_STEPS: u64 = 40;

fn small() -> Layout {
    let mut layout = Layout::calm();
    layout.cpu_count = 1;
    layout.queue_pair_count_max = 2;
    // Every delivery may take one look more.
    layout.fabric.delay_max = 1;
    layout
}

fn one_host_leaves(run: &mut Run, layout: &Layout, meanwhile: Meanwhile) -> Result<(), Failure> {
    let mut world = run.world(layout);
    let host = RawHost::new(0, &world, vec![Session::new(2, End::Abruptly)]);
    let observed = host.observed();
    world.add(host);
    world.reach("that the host is served", 10_000, |_| observed.borrow().is_serving)?;
    run.begin_window();
    if meanwhile == Meanwhile::Shutdown {
        world.order("orders the target to shut down", |control, turn| control.begin_shutdown(turn));
    }
    world.reach("that the host is done", 400_000, |_| observed.borrow().is_done)?;
    world.steps(REAPING_STEPS)?;
    run.end_window();
    run.finish(world)
}
