//! What happened last, in words: the trace that a failing run prints.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// Lines that are kept.
const KEPT: usize = 400;

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Line {
    /// Virtual time.
    pub at_ns: u64,
    /// Number of the step.
    pub step: u64,
    /// Whose doing it was.
    pub who: String,
    /// What.
    pub what: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (us, ns) = (self.at_ns / 1000, self.at_ns % 1000);
        write!(f, "{us:>9}.{ns:03} µs  step {:>6}  {:<14} {}", self.step, self.who, self.what)
    }
}

/// The last lines, where they are wanted: a run that is only tried keeps none, and formats none.
#[derive(Clone, Debug, Default)]
pub struct History(Rc<RefCell<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    is_wanted: bool,
    at_ns: u64,
    step: u64,
    lines: VecDeque<Line>,
}

impl History {
    /// A history that keeps its last lines.
    #[must_use]
    pub fn kept() -> Self {
        let history = Self::default();
        history.0.borrow_mut().is_wanted = true;
        history
    }

    /// Where the run is from here on.
    pub fn advance(&self, at_ns: u64, step: u64) {
        let mut kept = self.0.borrow_mut();
        kept.at_ns = at_ns;
        kept.step = step;
    }

    /// `who` did `what`.
    pub fn note(&self, who: &str, what: impl FnOnce() -> String) {
        let mut kept = self.0.borrow_mut();
        if !kept.is_wanted {
            return;
        }
        if kept.lines.len() == KEPT {
            kept.lines.pop_front();
        }
        let line = Line { at_ns: kept.at_ns, step: kept.step, who: who.to_owned(), what: what() };
        kept.lines.push_back(line);
    }

    /// The last lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.0.borrow().lines.iter().cloned().collect()
    }
}
