//! What is wrong with a run.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// The first thing that went wrong in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who found it: a checker, a host, the scenario itself, or `panic`.
    pub found_by: &'static str,
    /// What it is.
    pub what: String,
}

impl Failure {
    /// A failure found by the scenario itself: it did not come to what it waits for.
    #[must_use]
    pub fn stuck(what: impl Into<String>) -> Self {
        Self { found_by: PROGRESS, what: what.into() }
    }

    /// Its first line.
    #[must_use]
    pub fn headline(&self) -> String {
        format!("{}: {}", self.found_by, self.what.lines().next().unwrap_or_default())
    }

    /// Whether both are probably the same mistake: found by the same, at the same place where it names one. Numbers may differ.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let names_place = [PANIC, PROGRESS].contains(&self.found_by);
        self.found_by == other.found_by && (!names_place || self.what.lines().next() == other.what.lines().next())
    }
}

/// What finds a run that does not come to an end.
const PROGRESS: &str = "progress";

/// What finds a panic. Its first line is the place.
pub(super) const PANIC: &str = "panic";

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.found_by, self.what)
    }
}

/// Where every part of a run reports to. Only the first finding is kept: the others may follow from it.
#[derive(Clone, Debug, Default)]
pub struct Findings(Rc<RefCell<Option<Failure>>>);

impl Findings {
    /// Something is wrong.
    pub fn report(&self, found_by: &'static str, what: impl Into<String>) {
        self.0.borrow_mut().get_or_insert_with(|| Failure { found_by, what: what.into() });
    }

    /// The first finding, once.
    #[must_use]
    pub fn take(&self) -> Option<Failure> {
        self.0.borrow_mut().take()
    }
}
