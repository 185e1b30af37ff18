//! What is special about a run: its choices that are not the calm ones, by number. What a person copies from a report and gives to `--choices`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use reactor::Choice;

/// The word for a schedule in which nothing is special.
const CALM: &str = "calm";

/// Highest number of a choice that a schedule may name: a list up to there is kept in memory.
const NUMBER_MAX: usize = 1 << 28;

/// Numbers of choices, ascending, and what was chosen, never 0. Written as `12=1,801=2`, or `calm` if it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule(Vec<(usize, u32)>);

impl Schedule {
    /// That of a run.
    #[must_use]
    pub fn of(choices: &[Choice]) -> Self {
        let special = choices.iter().enumerate().filter(|(_, choice)| choice.value > 0);
        Self(special.map(|(number, choice)| (number, choice.value)).collect())
    }

    /// The same one choice later on, which is not in it yet. `number` is beyond its last.
    #[must_use]
    pub fn with(&self, number: usize, value: u32) -> Self {
        let mut entries = self.0.clone();
        entries.push((number, value));
        Self(entries)
    }

    /// The list that repeats the run: see [`reactor::Choices::listed`].
    #[must_use]
    pub fn list(&self) -> Vec<u32> {
        let mut list = vec![0; self.0.last().map_or(0, |(number, _)| number + 1)];
        for (number, value) in &self.0 {
            list[*number] = *value;
        }
        list
    }

    /// Its entries.
    #[must_use]
    pub fn entries(&self) -> &[(usize, u32)] {
        &self.0
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(CALM);
        }
        for (at, (number, value)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{number}={value}")?;
        }
        Ok(())
    }
}

impl FromStr for Schedule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if text == CALM {
            return Ok(Self::default());
        }
        let mut entries: Vec<(usize, u32)> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (number, value) = part.split_once('=').with_context(|| format!("{part:?} is not NUMBER=VALUE"))?;
            let number: usize = number.parse().with_context(|| format!("{number:?} is no number of a choice"))?;
            let value = value.parse().with_context(|| format!("{value:?} is no value of a choice"))?;
            ensure!(number <= NUMBER_MAX, "choice {number} is beyond {NUMBER_MAX}, the last that can be listed");
            ensure!(entries.last().is_none_or(|(last, _)| *last < number), "choice {number} is not in ascending order");
            if value > 0 {
                entries.push((number, value));
            }
        }
        Ok(Self(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_read_back_as_it_is_written() {
        for text in ["calm", "0=1", "12=1,801=2"] {
            assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        }
        assert_eq!("2=1,4=3".parse::<Schedule>().unwrap().list(), [0, 0, 1, 0, 3]);
        assert_eq!("3=0".parse::<Schedule>().unwrap(), Schedule::default());
        assert!(Schedule::default().list().is_empty());
    }

    #[test]
    fn what_is_no_schedule_is_named() {
        for (text, named) in [("7", "\"7\""), ("a=1", "\"a\""), ("1=x", "\"x\""), ("3=1,3=1", "choice 3")] {
            let error = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
