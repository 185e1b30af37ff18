//! The scenarios, by family.

mod on_purpose;
mod ordinary;

use super::scenario::Scenario;

/// All of them, in the order of this file.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [ordinary::SCENARIOS].concat()
}

/// Those that fail on purpose.
#[must_use]
pub fn on_purpose() -> &'static [Scenario] {
    on_purpose::SCENARIOS
}
