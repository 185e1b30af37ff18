//! The scenarios, by family.

mod machines;
mod on_purpose;
mod ordinary;
mod refusals;
mod small;

use super::scenario::Scenario;

/// All of them, in the order of this file.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [ordinary::SCENARIOS, machines::SCENARIOS, refusals::SCENARIOS, small::SCENARIOS].concat()
}

/// Those that fail on purpose.
#[must_use]
pub fn on_purpose() -> &'static [Scenario] {
    on_purpose::SCENARIOS
}
