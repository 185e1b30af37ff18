//! What a simulation does besides drawing the order of turns.

use super::choices::Choices;
use super::clamped;
use crate::random::Random;

/// What can go wrong in a [`crate::Simulation`]. By default nothing does but that the order of turns is random, and that CPUs go
/// offline between turns at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulationOptions {
    /// Messages in each ring between two CPUs.
    pub ring_capacity: usize,
    /// The clock moves on by at most this before each step (ns).
    pub step_ns_max: u64,
    /// A turn may have looked into its rings up to this long before it goes on (ns), so that it misses what was sent meanwhile. 0: never.
    pub late_ns_max: u64,
    /// After one of so many turns its CPU stalls. 0: never.
    pub stall_one_in: u32,
    /// For at most this long (ns).
    pub stall_ns_max: u64,
    /// One of so many CPUs is slow. 0: none.
    pub slow_one_in: u32,
    /// It makes one turn where the others make so many.
    pub slow_factor: u32,
    /// Idle programs are asked at random whether they can sleep ([`crate::Program::rest`]). Those that can make no turn until they are woken
    /// by a message, a [`crate::Wake`] or a timer: a wake-up that is lost shows as a simulation that does not go on. Descriptors are not looked at.
    pub sleeps: bool,
}

impl Default for SimulationOptions {
    fn default() -> Self {
        Self {
            ring_capacity: 64,
            step_ns_max: 2_000,
            late_ns_max: 0,
            stall_one_in: 0,
            stall_ns_max: 0,
            slow_one_in: 0,
            slow_factor: 1,
            sleeps: false,
        }
    }
}

impl SimulationOptions {
    /// Everything that can go wrong, each on or off and as bad as the seed says. Idle programs sleep if they say that they can.
    #[must_use]
    pub fn rough(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x0B5C_0AE5);
        let mut one_of = |choices: &[u64]| {
            let at = usize::try_from(random.below(choices.len() as u64)).unwrap_or_default();
            choices[at]
        };
        Self {
            ring_capacity: usize::try_from(one_of(&[1, 2, 3, 8, 64])).unwrap_or(1),
            step_ns_max: one_of(&[100, 500, 2_000, 20_000]),
            late_ns_max: one_of(&[0, 5_000, 50_000, 1_000_000]),
            stall_one_in: clamped(one_of(&[0, 0, 20, 200])),
            stall_ns_max: one_of(&[10_000, 100_000]),
            slow_one_in: clamped(one_of(&[0, 0, 2, 4])),
            slow_factor: clamped(one_of(&[4, 16, 64])),
            sleeps: true,
        }
    }

    /// How slow one CPU is.
    pub(super) fn chosen_slowness(&self, choices: &Choices) -> u32 {
        if choices.one_in("slow cpu", self.slow_one_in) { self.slow_factor.max(1) } else { 1 }
    }

    /// How long the next step takes: calmly as long as it can, so that time passes.
    pub(super) fn chosen_step_ns(&self, choices: &Choices) -> u64 {
        let less_ns = choices.below("step ns", clamped(self.step_ns_max.saturating_add(1)));
        self.step_ns_max - u64::from(less_ns)
    }
}
