//! A change that a scenario asked the target for, and what has become of it.

use std::cell::Cell;
use std::rc::Rc;

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Its turn has not come.
    #[default]
    Waiting,
    /// It was taken.
    UnderWay,
    /// It was refused, and nothing has changed.
    Refused,
    /// It is done.
    Done,
}

/// See the module. Clones are of the same change.
#[derive(Clone, Debug, Default)]
pub struct Asked(Rc<Cell<Answer>>);

impl Asked {
    /// What has become of it.
    #[must_use]
    pub fn answer(&self) -> Answer {
        self.0.get()
    }

    /// Whether it was answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        matches!(self.answer(), Answer::Refused | Answer::Done)
    }

    /// Whether it is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.answer() == Answer::Done
    }

    pub(super) fn set(&self, answer: Answer) {
        self.0.set(answer);
    }
}
