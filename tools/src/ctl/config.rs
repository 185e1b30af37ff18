//! `nvmf-ctl config …`: all that the target is, written down, and read again.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::answer::{Answer, items};
use super::client::Client;
use super::trouble::Trouble;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prints a configuration that starts a target like this one.
    Show {
        /// For nvmf-tgt --config, or for --spdk-config and SPDK's own client.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Has the target read its configuration file again, and do what has changed in it (the same as SIGHUP).
    Reload,
    /// Has the target perform the calls of a file of SPDK's, one after the other.
    Load {
        /// The file (JSON); `-` reads standard input.
        file: PathBuf,
    },
}

/// Whose files.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Format {
    /// Ours.
    #[default]
    Toml,
    /// SPDK's.
    Json,
}

impl Command {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        match self {
            Self::Show { format: Format::Toml } => {
                let result = client.call("save_config", &json!({ "format": "toml" }))?;
                let text = result.as_str().unwrap_or_default().trim_end().to_owned();
                Ok(Answer::new(result, text))
            }
            Self::Show { format: Format::Json } => {
                let result = client.call("save_config", &json!({ "format": "json" }))?;
                let text = format!("{result:#}");
                Ok(Answer::new(result, text))
            }
            Self::Reload => {
                let result = client.call("reload_config", &Value::Null)?;
                let done = items(&result["calls"]).iter().filter_map(Value::as_str).collect::<Vec<_>>();
                let mut text = match done.len() {
                    0 => "nothing has changed".to_owned(),
                    count => format!("{count} done: {}", done.join(", ")),
                };
                for what in items(&result["not_applied"]).iter().filter_map(Value::as_str) {
                    text.push_str("\nnot done: ");
                    text.push_str(what);
                }
                Ok(Answer::new(result, text))
            }
            Self::Load { file } => {
                let text = read(file).map_err(|error| Trouble::Usage(format!("{}: {error}", file.display())))?;
                let config: Value = serde_json::from_str(&text)
                    .map_err(|error| Trouble::Usage(format!("{} is no JSON: {error}", file.display())))?;
                let result = client.call("load_config", &json!({ "config": config }))?;
                let text = format!("{} calls are done", result["calls"]);
                Ok(Answer::new(result, text))
            }
        }
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    if file != Path::new("-") {
        return std::fs::read_to_string(file);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}
