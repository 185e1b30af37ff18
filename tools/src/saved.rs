//! The file in which a target keeps what requests have changed: two configurations, what it was started with (`[before]`) and what it had become (`[present]`).
//!
//! Both are there so that a configuration file which was edited meanwhile can be told from one that was not: see [`merge`].

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use toml::{Table, Value};

use crate::config::{Config, merge, table, to_toml};
use crate::keeper::{StateDirectory, replace};

/// Its name in the state directory.
const NAME: &str = "configuration.toml";

/// What a person reads who opens it.
const HEAD: &str = "# What JSON-RPC requests have changed (target.save_changes). Written by nvmf-tgt, which reads it when it starts; take it away to forget the changes.\n";

/// See the module.
#[derive(Clone, Debug)]
pub struct SavedFile {
    path: PathBuf,
}

impl SavedFile {
    /// That of a directory.
    #[must_use]
    pub fn in_directory(directory: &StateDirectory) -> Self {
        Self { path: directory.path().join(NAME) }
    }

    /// What a target is to be started with whose file says `after`: that, and what requests had changed.
    ///
    /// # Errors
    /// If the file is damaged, or the two do not go together.
    pub fn merged(&self, after: &Config, cpus_allowed: &[usize]) -> Result<Config> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(after.clone()),
            Err(error) => return Err(error).with_context(|| self.path.display().to_string()),
        };
        let way_out =
            || format!("{}: mend it, or take it away to start without what requests have changed", self.path.display());
        let both: Table = toml::from_str(&text).with_context(way_out)?;
        let part = |name: &str| -> Result<Config> {
            let table = both.get(name).and_then(Value::as_table);
            let text = toml::to_string(table.with_context(|| format!("it has no [{name}]"))?)?;
            Ok(Config::parse(&self.path, &text, cpus_allowed)?)
        };
        let before = part("before").with_context(way_out)?;
        let present = part("present").with_context(way_out)?;
        let merged = merge(&present, &before, after);
        // Each was checked, and what they make together is not yet.
        Config::parse(&self.path, &to_toml(&merged), cpus_allowed).with_context(|| {
            format!(
                "{} does not go together with the configuration file as it is now: edit either",
                self.path.display()
            )
        })
    }

    /// What the file is to say.
    #[must_use]
    pub fn text(&self, before: &Config, present: &Config) -> String {
        let mut both = Table::new();
        both.insert("before".into(), Value::Table(table(before)));
        both.insert("present".into(), Value::Table(table(present)));
        // Tables of texts, numbers and tables: none of them can fail.
        format!("{HEAD}\n{}", toml::to_string(&both).unwrap_or_default())
    }

    /// Writes it, all of it or nothing. May take long.
    ///
    /// # Errors
    /// What keeps it from being on stable storage.
    pub fn write(&self, text: &str) -> Result<()> {
        let replaced = replace(&self.path, text.as_bytes());
        replaced.map_err(|(path, error)| anyhow!("{}: {error}", path.display()))
    }
}
