//! Names with `*` in them, as in `--scenario 'hosts-*'`.

use std::convert::Infallible;
use std::str::FromStr;

/// `*` stands for any text; everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Whether the whole name fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        fits(&self.0, name)
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether there is a `*` in it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.contains('*')
    }
}

impl FromStr for Pattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|name| {
            let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.any(|at| fits(rest, &name[at..]))
        }),
    }
}

/// How many letters have to be changed, added or left out to make one of the other: for "did you mean".
#[must_use]
pub fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (number, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], number + 1);
        for at in 0..other.len() {
            let changed = diagonal + usize::from(letter != other[at]);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        let fits = |pattern: &str, name| pattern.parse::<Pattern>().unwrap().matches(name);
        assert!(fits("hosts-*", "hosts-come"));
        assert!(fits("*", ""));
        assert!(fits("*come*go", "hosts-come-and-go"));
        assert!(!fits("*come", "hosts-come-and-go"));
        assert!(!fits("hosts", "hosts-come"));
        assert!(fits("a*a", "aµa"));
    }

    #[test]
    fn distance_counts_letters() {
        assert_eq!(distance("host", "host"), 0);
        assert_eq!(distance("host", "hosts"), 1);
        assert_eq!(distance("hots", "host"), 2);
        assert_eq!(distance("", "abc"), 3);
    }
}
