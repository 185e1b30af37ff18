//! Storms of teardown between real processes: hosts that connect, do I/O, disconnect in every way, are killed and stopped at any moment, and a target that is
//! stopped under them. Afterwards nothing is left: gauges, memory, descriptors and mappings are as before, and the target ends with status 0.
//!
//! Everything is drawn from a seed, which is printed; `QUIESCE_STORM_SEED` takes it. (Processes run as they like: a seed gives the same storm, not the same moments.)
//! `QUIESCE_TEST_LONG=1` lets each storm have ten thousand queue pair lives. `scripts/sanitize address` runs target and hosts under AddressSanitizer.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "the test of hosts uses the rest")]
#[path = "hosts/processes.rs"]
mod processes;

mod storm {
    pub(crate) mod ledger;
    pub(crate) mod party;
    pub(crate) mod random;
    pub(crate) mod scenario;
}

use storm::scenario::Storm;

#[test]
fn two_cpus_with_their_own_receives() {
    Storm { name: "own", reactor_count: 2, shared_receives: false }.rage();
}

#[test]
fn more_reactors_than_cpus_with_shared_receives() {
    Storm { name: "shared-many", reactor_count: 5, shared_receives: true }.rage();
}

/// The other two pairings: their parts are in the two above.
#[test]
fn the_other_pairings() {
    if !storm::scenario::is_long() {
        println!("left out: QUIESCE_TEST_LONG=1 has it");
        return;
    }
    Storm { name: "shared", reactor_count: 2, shared_receives: true }.rage();
    Storm { name: "own-many", reactor_count: 5, shared_receives: false }.rage();
}
