//! Scenarios that fail on purpose: what a failure looks like, for whoever has not seen one, and for the program's own tests. Played only if one is named in full.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::sim::failure::Failure;
use crate::sim::host::raw::{End, RawHost, Session};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::Layout;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "fails-on-purpose",
        about: "says that no queue pair may end on a device that sweeps completion queues on destroy",
        entries: &[],
        play: fails,
    },
    Scenario { name: "panics-on-purpose", about: "panics if two things are chosen", entries: &[], play: panics },
    Scenario { name: "differs-on-purpose", about: "is another run each time", entries: &[], play: differs },
    Scenario { name: "hangs-on-purpose", about: "has a step that does not end", entries: &[], play: hangs },
];

fn fails(run: &mut Run) -> Result<(), Failure> {
    let layout = Layout::chosen(&run.choices);
    let mut world = run.world(&layout);
    let session = Session { depth: 4, ..Session::new(run.choices.below("commands", 10), End::Quietly) };
    let host = RawHost::new(0, &world, vec![session]);
    let observed = host.observed();
    world.add(host);
    world.reach("that the host is done", 4_000_000, |_| observed.borrow().is_done)?;
    if layout.fabric.sweeps_on_destroy {
        return Err(Failure { found_by: "on purpose", what: "a queue pair ended, and the device sweeps".to_owned() });
    }
    run.finish(world)
}

fn panics(run: &mut Run) -> Result<(), Failure> {
    let values: Vec<_> = (0..40).map(|_| run.choices.below("way", 4)).collect();
    assert!(values[10] == 0 || values[20] < 2, "on purpose");
    Ok(())
}

fn differs(run: &mut Run) -> Result<(), Failure> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let _ = run.choices.below("same", 4);
    let _ = run.choices.below("another", 2 + count);
    Ok(())
}

fn hangs(run: &mut Run) -> Result<(), Failure> {
    while run.choices.count() < u64::MAX {
        std::hint::spin_loop();
    }
    Ok(())
}
