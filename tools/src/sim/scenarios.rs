//! The scenarios, by family.

mod acting;
mod completions;
mod control;
mod counts;
mod devices;
mod half_built;
mod host_side;
mod iwarp;
mod late_events;
mod machines;
mod on_purpose;
mod on_their_way;
mod ordinary;
mod refusals;
mod small;
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
        small::SCENARIOS,
    ]
    .concat()
}

/// Those that fail on purpose.
#[must_use]
pub fn on_purpose() -> &'static [Scenario] {
    on_purpose::SCENARIOS
}
