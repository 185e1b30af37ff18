//! Reservations while queue pairs die, CPUs lag and the file that keeps them is slow: who has no right does not write, and what was answered is kept.

mod power_loss;
mod preemption;

use crate::sim::scenario::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "preempted-under-load",
        about: "hosts preempt each other under I/O, with operations held and queues that end: after a Preempt and Abort nothing of the other takes effect",
        entries: &["S6"],
        play: preemption::preempted_under_load,
    },
    Scenario {
        name: "reservations-raced",
        about: "hosts register, acquire, release and preempt all at once while their queues end: every command is answered and nothing is left",
        entries: &["S6"],
        play: preemption::raced,
    },
    Scenario {
        name: "reservations-through-power-loss",
        about: "the target is killed while reservations are written, late, badly or never: what was answered is there when it is back",
        entries: &["S7"],
        play: power_loss::through_power_loss,
    },
];
