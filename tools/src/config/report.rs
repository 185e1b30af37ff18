//! What is wrong with a configuration file, in words that say where and what to do.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, both from 1. `None` if it is about the whole file.
    pub place: Option<(usize, usize)>,
    /// What, and what is allowed.
    pub text: String,
}

/// Everything that is wrong with a file.
#[derive(Debug)]
pub struct ConfigError {
    path: PathBuf,
    /// In the order of the file. At least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let text = format!("cannot be read: {error}");
        Self { path: path.to_owned(), problems: vec![Problem { place: None, text }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.path.display())?;
            if let Some((line, column)) = problem.place {
                write!(f, "{line}:{column}:")?;
            }
            write!(f, " {}", problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Collects problems of one file.
pub(super) struct Report<'a> {
    path: &'a Path,
    text: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Report<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, problems: Vec::new() }
    }

    /// A value is not allowed: its field, itself, and what is.
    pub(super) fn refuse(&mut self, span: Range<usize>, field: &str, value: impl fmt::Display, allowed: &str) {
        self.say(Some(span), format!("{field} is {value}: {allowed}"));
    }

    /// Something else is wrong.
    pub(super) fn say(&mut self, span: Option<Range<usize>>, text: String) {
        let place = span.map(|span| self.place(span.start));
        self.problems.push(Problem { place, text });
    }

    /// The file is not TOML, or has a field or type that it may not have.
    pub(super) fn refuse_shape(mut self, error: &toml::de::Error) -> ConfigError {
        let mut text = error.message().trim_end().replace('\n', "; ");
        if let Some(span) = error.span() {
            // What serde knows of a value; the field is what it does not. The other "invalid …" are the parser's, which knows of no field.
            let of_value = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
            if let Some(rest) = of_value
                && let Some(field) = self.field_at(span.start)
            {
                text = format!("{field} is {}", rest.replacen(", expected ", ": allowed is ", 1));
                // serde's word for every number here.
                text = text.replace("allowed is i64", "allowed is a whole number");
            } else if let Some(suggestion) = suggestion_for_unknown(&text) {
                text = format!("{text}; did you mean `{suggestion}`?");
            }
        }
        self.say(error.span(), text);
        ConfigError { path: self.path.to_owned(), problems: self.problems }
    }

    /// The result, if nothing was wrong.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, ConfigError> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        self.problems.sort_by_key(|problem| problem.place);
        Err(ConfigError { path: self.path.to_owned(), problems: self.problems })
    }

    fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The field whose value is at `offset`, with its table: `transport.queue_depth`.
    fn field_at(&self, offset: usize) -> Option<String> {
        let before = self.text.get(..offset)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let key = before[line_start..].split_once('=')?.0.trim();
        let table = before[..line_start].lines().rev().map(str::trim).find(|line| line.starts_with('['));
        let table = table.map(|line| line.split('#').next().unwrap_or(line).trim_matches(['[', ']', ' ']));
        Some(table.map_or_else(|| key.to_owned(), |table| format!("{table}.{key}")))
    }
}

/// For ``unknown field `x`, expected one of `a`, `b` ``: the expected name that is nearest to what was written.
fn suggestion_for_unknown(text: &str) -> Option<&str> {
    let mut names = text.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let written = names.next()?;
    nearest(written, names)
}

/// The name that was probably meant, if one is near enough.
pub(crate) fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (written.chars().count() / 3).max(1);
    names
        .map(|name| (edit_distance(written, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Characters to insert, delete or replace, or neighbours to swap.
fn edit_distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) = (one.chars().collect(), two.chars().collect());
    let mut rows = vec![vec![0; two.len() + 1]; one.len() + 1];
    for (at, row) in rows.iter_mut().enumerate() {
        row[0] = at;
    }
    rows[0] = (0..=two.len()).collect();
    for i in 1..=one.len() {
        for j in 1..=two.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != two[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == two[j - 2] && one[i - 2] == two[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[one.len()][two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["disk0", "memory", "null"];
        assert_eq!(nearest("dsik0", names.into_iter()), Some("disk0"));
        assert_eq!(nearest("memroy", names.into_iter()), Some("memory"));
        assert_eq!(nearest("nul", names.into_iter()), Some("null"));
        assert_eq!(nearest("image", names.into_iter()), None);
    }
}
