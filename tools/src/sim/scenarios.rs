//! The scenarios, by family.

mod ordinary;

use super::scenario::Scenario;

/// All of them, in the order of this file.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [ordinary::SCENARIOS].concat()
}
