//! One thing to try: a world is laid out, things happen to it, and it has to come to what it should.

use reactor::Choices;

use super::failure::Failure;
use super::history::History;
use super::world::{Layout, World};

/// A scenario. Named for the behaviour that it is about.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// For `--scenario`.
    pub name: &'static str,
    /// In one line.
    pub about: &'static str,
    /// Entries of the published list (`docs/LIFECYCLE.md`) that it is about.
    pub entries: &'static [&'static str],
    /// What happens.
    pub play: fn(&mut Run) -> Result<(), Failure>,
}

/// One run of a scenario: its choices, and what it has come to.
pub struct Run {
    /// Where everything that can go one way or another is asked.
    pub choices: Choices,
    history: History,
    tally: Tally,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps.
    pub step_count: u64,
    /// Queue pairs that lived and ended.
    pub life_count: u64,
    /// Virtual time.
    pub virtual_ns: u64,
    /// The number of the choice with which the interesting part began, and with which it ended: what is explored.
    pub window: (u64, u64),
}

impl Run {
    /// A run of these choices.
    #[must_use]
    pub fn new(choices: Choices, history: History) -> Self {
        Self { choices, history, tally: Tally { window: (0, u64::MAX), ..Tally::default() } }
    }

    /// A world to play in.
    #[must_use]
    pub fn world(&self, layout: &Layout) -> World {
        World::new(layout, &self.choices, &self.history)
    }

    /// The interesting part begins: what is chosen from here on is explored.
    pub fn begin_window(&mut self) {
        self.tally.window.0 = self.choices.count();
    }

    /// It is over.
    pub fn end_window(&mut self) {
        self.tally.window.1 = self.choices.count();
    }

    /// The end of a world that did as it should: nothing is left at rest, and nothing after its shutdown.
    ///
    /// # Errors
    /// What is wrong.
    pub fn finish(&mut self, mut world: World) -> Result<(), Failure> {
        world.settle()?;
        world.shut_down()?;
        self.add_up(&world);
        Ok(())
    }

    /// The same while hosts are there and do not leave by themselves: the target's shutdown ends them.
    ///
    /// # Errors
    /// What is wrong.
    pub fn finish_in_use(&mut self, mut world: World) -> Result<(), Failure> {
        world.shut_down()?;
        self.add_up(&world);
        Ok(())
    }

    /// What a world did is this run's doing: for scenarios that do not end in [`Self::finish`].
    pub fn add_up(&mut self, world: &World) {
        self.tally.step_count += world.step_count();
        self.tally.life_count += world.life_count();
        self.tally.virtual_ns += world.now_ns();
    }

    /// What it did so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }
}
