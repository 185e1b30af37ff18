//! The scenarios, by family.

mod aborts;
mod acting;
mod ana;
mod completions;
mod control;
mod counts;
mod devices;
mod fused;
mod half_built;
mod host_side;
mod iwarp;
mod late_events;
mod limits;
mod machines;
mod namespaces;
mod on_purpose;
mod on_their_way;
mod ordinary;
mod pause;
mod refusals;
mod reservations;
mod reset;
mod small;
mod steady;
mod stuck;

use super::scenario::Scenario;

/// All of them, in the order of this file.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        ordinary::SCENARIOS,
        machines::SCENARIOS,
        refusals::SCENARIOS,
        late_events::SCENARIOS,
        completions::SCENARIOS,
        on_their_way::SCENARIOS,
        iwarp::SCENARIOS,
        half_built::SCENARIOS,
        stuck::SCENARIOS,
        counts::SCENARIOS,
        devices::SCENARIOS,
        host_side::SCENARIOS,
        control::SCENARIOS,
        pause::SCENARIOS,
        reset::SCENARIOS,
        namespaces::SCENARIOS,
        ana::SCENARIOS,
        reservations::SCENARIOS,
        fused::SCENARIOS,
        aborts::SCENARIOS,
        limits::SCENARIOS,
        small::SCENARIOS,
    ]
    .concat()
}

/// Those that fail on purpose.
#[must_use]
pub fn on_purpose() -> &'static [Scenario] {
    on_purpose::SCENARIOS
}
