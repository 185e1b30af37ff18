//! What happened last, in words: the trace that a failing run prints.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use reactor::Choice;

use super::watchdog;

/// Lines that are kept.
const KEPT: usize = 400;

/// Choices that a drawn run makes all the time, and that say little there.
const USUAL: [&str; 4] = ["clock", "who acts", "lie down", "too slow"];

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

/// How much of a run is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closeness {
    /// Nothing, and nothing is formatted: the run is only tried.
    #[default]
    Nothing,
    /// What happened, and what was chosen, but for what is chosen all the time.
    Events,
    /// What happened, and every choice that is not the calm one.
    EveryChoice,
}

/// The last lines, where they are wanted.
#[derive(Clone, Debug, Default)]
pub struct History(Rc<RefCell<Kept>>);

#[derive(Debug)]
struct Kept {
    closeness: Closeness,
    at_ns: u64,
    step: u64,
    lines: VecDeque<Line>,
    /// Of all lines, also those that are not kept any more.
    digest: u64,
    /// Number of the choice that is told next.
    next_choice: usize,
    /// Choices that are not the calm ones: number, and the step that they were made in.
    places: Vec<(usize, u64)>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            closeness: Closeness::Nothing,
            at_ns: 0,
            step: 0,
            lines: VecDeque::new(),
            digest: FNV_OFFSET,
            next_choice: 0,
            places: Vec::new(),
        }
    }
}

impl History {
    /// A history that keeps its last lines.
    #[must_use]
    pub fn kept(closeness: Closeness) -> Self {
        let history = Self::default();
        history.0.borrow_mut().closeness = closeness;
        history
    }

    /// Whether anything is kept.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.borrow().closeness != Closeness::Nothing
    }

    /// Where the run is from here on.
    pub fn advance(&self, at_ns: u64, step: u64) {
        watchdog::beat();
        let mut kept = self.0.borrow_mut();
        kept.at_ns = at_ns;
        kept.step = step;
    }

    /// `who` did `what`.
    pub fn note(&self, who: &str, what: impl FnOnce() -> String) {
        if self.is_wanted() {
            let what = what();
            self.0.borrow_mut().push(who, what);
        }
    }

    /// The number of the first choice that was not told yet.
    #[must_use]
    pub fn next_choice(&self) -> usize {
        self.0.borrow().next_choice
    }

    /// These were chosen, after all that were told before.
    pub fn note_choices(&self, choices: &[Choice]) {
        let mut kept = self.0.borrow_mut();
        let (first, step) = (kept.next_choice, kept.step);
        kept.next_choice += choices.len();
        for (number, choice) in (first..).zip(choices).filter(|(_, choice)| choice.value > 0) {
            kept.places.push((number, step));
            if kept.closeness == Closeness::EveryChoice || !USUAL.contains(&choice.what) {
                let Choice { what, bound, value } = choice;
                kept.push("CHOSEN", format!("{what}: {value} of 0..={} (choice {number})", bound - 1));
            }
        }
    }

    /// The steps in which the choices were made that are not the calm ones, by their numbers.
    #[must_use]
    pub fn places(&self) -> Vec<(usize, u64)> {
        self.0.borrow().places.clone()
    }

    /// A number that differs if anything in the history does, the lines included that are not kept any more.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.0.borrow().digest
    }

    /// The last lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.0.borrow().lines.iter().cloned().collect()
    }
}

/// FNV-1a with 64 bits: the same on every machine and in every process.
const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01B3;

impl Kept {
    fn push(&mut self, who: &str, what: String) {
        let Self { at_ns, step, .. } = *self;
        let numbers = at_ns.to_le_bytes().into_iter().chain(step.to_le_bytes());
        for byte in numbers.chain(who.bytes()).chain(what.bytes()) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { at_ns, step, who: who.to_owned(), what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_special_choices_are_told_and_usual_ones_only_from_close_by() {
        let choice = |what, value| Choice { what, bound: 3, value };
        let choices = [choice("clock", 2), choice("loss", 0), choice("loss", 1)];
        for (closeness, count) in [(Closeness::Events, 1), (Closeness::EveryChoice, 2)] {
            let history = History::kept(closeness);
            history.advance(5, 7);
            history.note_choices(&choices);
            assert_eq!(history.lines().len(), count);
            assert_eq!(history.places(), [(0, 7), (2, 7)]);
            assert_eq!(history.next_choice(), 3);
        }
    }

    #[test]
    fn the_digest_remembers_lines_that_are_gone() {
        let digest = |first: &str| {
            let history = History::kept(Closeness::Events);
            history.note("a", || first.to_owned());
            (0..KEPT).for_each(|_| history.note("a", || "b".to_owned()));
            assert_eq!(history.lines().len(), KEPT);
            history.digest()
        };
        assert_eq!(digest("x"), digest("x"));
        assert_ne!(digest("x"), digest("y"));
    }
}
