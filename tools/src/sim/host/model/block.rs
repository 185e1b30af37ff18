//! One block: which writes it may hold, and which it held before.
//!
//! Time is a count of what hosts began and saw end. A write that was acknowledged is there, unless one that was under way at the same time, or later, is:
//! so it takes away everything that had ended before it began. What was not acknowledged takes nothing away. A read during which no write was under way
//! leaves only what it found.

use std::collections::VecDeque;
use std::fmt;

use super::stamp::{Content, Generation};

/// Writes that are remembered after others have taken their place.
const REMEMBERED: usize = 32;

/// A count of beginnings and ends.
pub(super) type Moment = u64;

/// What a write leaves in the block.
#[derive(Clone, Copy, Debug)]
struct Value {
    generation: Generation,
    is_zeroes: bool,
    began: Moment,
    /// Nothing of it takes effect after this.
    ended: Option<Moment>,
    was_read: bool,
}

/// A value that cannot be there any more.
#[derive(Clone, Copy, Debug)]
struct Replaced {
    value: Value,
    by: Generation,
    at: Moment,
}

#[derive(Clone, Debug)]
pub(super) struct Block {
    possible: Vec<Value>,
    replaced: VecDeque<Replaced>,
}

/// What is wrong with a block that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A write was acknowledged and is not there.
    Lost,
    /// A newer write was read before, and now an older one.
    Stale,
    /// Another block's data.
    Misplaced,
    /// Part of one write, part of something else.
    Torn,
    /// The read was answered and its buffer was not written.
    Unread,
    /// A write was refused, and had been read before.
    Refused,
    /// Nobody wrote that.
    Unknown,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "an acknowledged write is lost",
            Self::Stale => "stale: a newer write was read before",
            Self::Misplaced => "misplaced",
            Self::Torn => "torn",
            Self::Unread => "the read was answered and brought nothing",
            Self::Refused => "a write was refused, and had been read before",
            Self::Unknown => "nobody wrote that",
        })
    }
}

impl Block {
    /// A block of zeroes.
    pub(super) fn new() -> Self {
        let zeroes = Value { generation: 0, is_zeroes: true, began: 0, ended: Some(0), was_read: false };
        Self { possible: vec![zeroes], replaced: VecDeque::new() }
    }

    pub(super) fn begin_write(&mut self, generation: Generation, is_zeroes: bool, now: Moment) {
        self.possible.push(Value { generation, is_zeroes, began: now, ended: None, was_read: false });
    }

    /// The write was answered with success.
    pub(super) fn acknowledge(&mut self, generation: Generation, now: Moment) {
        let Some(began) = self.end(generation, now) else { return };
        self.replace(generation, now, |value| value.ended.is_some_and(|ended| ended < began));
    }

    /// The write takes no effect after this; whether it did before is not known. Gives when it began.
    pub(super) fn end(&mut self, generation: Generation, now: Moment) -> Option<Moment> {
        let value = self.possible.iter_mut().find(|value| value.generation == generation)?;
        value.ended.get_or_insert(now);
        Some(value.began)
    }

    /// The write was refused: it has not taken effect, and does not.
    pub(super) fn refuse(&mut self, generation: Generation) -> Result<(), Wrong> {
        let is_it = |value: &Value| value.generation == generation;
        let was_read = self.possible.iter().any(|value| is_it(value) && value.was_read && !value.is_zeroes);
        self.possible.retain(|value| !is_it(value));
        if was_read { Err(Wrong::Refused) } else { Ok(()) }
    }

    /// What a read that began at `began` and ends now has found. `tears`: a read may find a mixture of what is written meanwhile.
    pub(super) fn end_read(
        &mut self,
        block: u64,
        content: Content,
        began: Moment,
        now: Moment,
        tears: bool,
    ) -> Result<(), Wrong> {
        let is_it = |value: &Value| match content {
            Content::Zeroes => value.is_zeroes,
            Content::Stamped { block: of, generation } => {
                of == block && !value.is_zeroes && value.generation == generation
            }
            Content::Torn { .. } | Content::Poison => false,
        };
        let is_disturbed = self.possible.iter().any(|value| value.ended.is_none_or(|ended| ended > began))
            || self.replaced.iter().any(|replaced| replaced.at > began);
        let mut found = None;
        for value in self.possible.iter_mut().filter(|value| is_it(value)) {
            value.was_read = true;
            found = Some(value.generation);
        }
        if let Some(found) = found {
            if !is_disturbed {
                self.replace(found, now, |value| !is_it(value));
            }
            return Ok(());
        }
        if self.replaced.iter().any(|replaced| replaced.at > began && is_it(&replaced.value)) {
            return Ok(());
        }
        match content {
            Content::Torn { .. } if tears && is_disturbed => Ok(()),
            Content::Torn { .. } => Err(Wrong::Torn),
            Content::Poison => Err(Wrong::Unread),
            Content::Stamped { block: of, .. } if of != block => Err(Wrong::Misplaced),
            Content::Zeroes | Content::Stamped { .. } => Err(self.why_old(is_it)),
        }
    }

    /// Values that it may hold, for a report.
    pub(super) fn expected(&self) -> String {
        let word = |value: &Value| match (value.generation, value.ended) {
            (0, _) => "zeroes as in the beginning".to_owned(),
            (generation, Some(_)) if value.is_zeroes => format!("zeroes of write {generation}"),
            (generation, Some(_)) => format!("write {generation}"),
            (generation, None) => format!("write {generation}, which is under way"),
        };
        self.possible.iter().map(word).collect::<Vec<_>>().join(" or ")
    }

    /// It was there once, at best. Whether what came after it was ever read tells a write that was lost from one that was undone.
    fn why_old(&self, is_it: impl Fn(&Value) -> bool) -> Wrong {
        let Some(old) = self.replaced.iter().rev().find(|replaced| is_it(&replaced.value)) else {
            return Wrong::Unknown;
        };
        let newer = |value: &Value| value.generation == old.by;
        let now = self.possible.iter().copied();
        let was_read = now
            .chain(self.replaced.iter().map(|replaced| replaced.value))
            .filter(|value| newer(value) || value.began > old.at)
            .any(|value| value.was_read);
        if was_read { Wrong::Stale } else { Wrong::Lost }
    }

    fn replace(&mut self, by: Generation, at: Moment, is_gone: impl Fn(&Value) -> bool) {
        let (replaced, possible) = self.possible.iter().copied().partition::<Vec<_>, _>(|value| is_gone(value));
        self.possible = possible;
        self.replaced.extend(replaced.into_iter().map(|value| Replaced { value, by, at }));
        let surplus = self.replaced.len().saturating_sub(REMEMBERED);
        self.replaced.drain(..surplus);
    }
}
