//! `nvmf-ctl key …`: keys of hosts that have to authenticate.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::answer::{Answer, cell, items, number, table};
use super::client::Client;
use super::trouble::Trouble;
use super::words::said;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists their names; never a secret.
    List,
    /// Reads one from a file (of `nvme gen-dhchap-key`, mode 0600, of the target's user).
    Add {
        /// What hosts are given it by.
        name: String,
        /// The file, which the target reads.
        path: PathBuf,
    },
    /// Forgets one; who was given it keeps it.
    Remove {
        /// Its name.
        name: String,
    },
    /// Which hash functions and groups new authentications may use; what is left out stays.
    Policy {
        /// sha256, sha384, sha512; with commas between them.
        #[arg(long, value_delimiter = ',', required_unless_present = "dhgroups")]
        digests: Vec<String>,
        /// null, ffdhe2048, ffdhe3072, ffdhe4096, ffdhe6144, ffdhe8192; with commas between them.
        #[arg(long, value_delimiter = ',')]
        dhgroups: Vec<String>,
    },
}

impl Command {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        match self {
            Self::List => {
                let result = client.call("keyring_get_keys", &Value::Null)?;
                let rows = items(&result).iter().map(|key| {
                    // The keyring itself is the first that refers to it.
                    let hosts = number(&key["refcnt"]).saturating_sub(1);
                    vec![cell(&key["name"]), hosts.to_string(), cell(&key["path"])]
                });
                let text =
                    table(&["KEY", ">USES", "FILE"], rows.collect(), "no keys; add one: nvmf-ctl key add NAME FILE");
                Ok(Answer::new(result, text))
            }
            Self::Add { name, path } => {
                let path = std::path::absolute(path)
                    .map_err(|error| Trouble::Usage(format!("{}: {error}", path.display())))?;
                let result = client.call("keyring_file_add_key", &json!({ "name": name, "path": path }))?;
                Ok(Answer::new(
                    result,
                    format!("hosts can be given {name}: nvmf-ctl host allow NQN HOSTNQN --dhchap-key {name}"),
                ))
            }
            Self::Remove { name } => {
                let result = client.call("keyring_file_remove_key", &json!({ "name": name }))?;
                Ok(Answer::new(result, format!("{name} is forgotten; hosts that were given it keep it")))
            }
            Self::Policy { digests, dhgroups } => {
                let list = |names: &Vec<String>| (!names.is_empty()).then(|| names.clone());
                let parameters = said(json!({ "dhchap_digests": list(digests), "dhchap_dhgroups": list(dhgroups) }));
                let result = client.call("nvmf_set_config", &parameters)?;
                Ok(Answer::new(result, "holds for authentications that begin from now on"))
            }
        }
    }
}
