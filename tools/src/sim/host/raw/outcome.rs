//! What became of a command that a scenario wants to hear of.

use std::cell::Cell;
use std::rc::Rc;

/// Names a command that was sent by [`super::Steering::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(u64);

/// Gives tags.
#[derive(Clone, Debug, Default)]
pub(super) struct Tags(Rc<Cell<u64>>);

impl Tags {
    pub(super) fn next(&self) -> Tag {
        self.0.set(self.0.get() + 1);
        Tag(self.0.get())
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Code type and code. `None`: its connection ended first, or it was not sent.
    pub status: Option<u16>,
    /// The first word of its result.
    pub result: u32,
    /// What came into its buffer.
    pub data: Vec<u8>,
}

impl Outcome {
    /// Nobody knows.
    pub(super) const LOST: Self = Self { status: None, result: 0, data: Vec::new() };

    /// Whether it did what it should.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == Some(0)
    }
}
