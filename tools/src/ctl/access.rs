//! `nvmf-ctl host …`: who may connect, and how much one host may take.

use clap::Subcommand;
use serde_json::{Value, json};

use super::answer::{Answer, bytes, cell, facts, items, number, table};
use super::client::Client;
use super::subsystem::of_each;
use super::trouble::Trouble;
use super::words::{self, said};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the hosts that may connect to one subsystem, or to each. Who is connected: `nvmf-ctl controller list`.
    List {
        /// The subsystem.
        nqn: Option<String>,
    },
    /// Lets a host connect.
    Allow {
        /// The subsystem.
        nqn: String,
        /// The host's NQN.
        host: String,
        /// The key that it has to prove itself with: see `nvmf-ctl key list`.
        #[arg(long, value_name = "KEY")]
        dhchap_key: Option<String>,
        /// The key that the controller proves itself with.
        #[arg(long, value_name = "KEY", requires = "dhchap_key")]
        dhchap_ctrlr_key: Option<String>,
    },
    /// Takes a host's right to connect; it loses its controllers unless every host may connect.
    Disallow {
        /// The subsystem.
        nqn: String,
        /// The host's NQN.
        host: String,
    },
    /// Gives a host that may connect other keys, or none. Who is connected stays.
    Keys {
        /// The subsystem.
        nqn: String,
        /// The host's NQN.
        host: String,
        /// The key that it has to prove itself with; none where it is left out.
        #[arg(long, value_name = "KEY")]
        dhchap_key: Option<String>,
        /// The key that the controller proves itself with.
        #[arg(long, value_name = "KEY", requires = "dhchap_key")]
        dhchap_ctrlr_key: Option<String>,
    },
    /// Shows what one host may take, or changes what is given (0: no limit).
    Limits {
        /// Queue pairs of one IP address.
        #[arg(long, value_name = "COUNT")]
        queue_pairs: Option<u32>,
        /// I/O commands of one host that each CPU has in flight.
        #[arg(long, value_name = "COUNT")]
        commands: Option<u32>,
        /// Data of these commands together, such as 16MiB.
        #[arg(long, value_name = "SIZE", value_parser = words::size)]
        data: Option<u64>,
    },
}

impl Command {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        match self {
            Self::List { nqn } => {
                let mut open = Vec::new();
                let (all, json) = of_each(client, nqn.as_deref(), |_, subsystem| {
                    if subsystem["allow_any_host"] == true {
                        open.push(cell(&subsystem["nqn"]));
                    }
                    Ok(subsystem["hosts"].clone())
                })?;
                Ok(Answer::new(json, list(&all, &open)))
            }
            Self::Allow { nqn, host, dhchap_key, dhchap_ctrlr_key } => {
                let keys =
                    json!({ "nqn": nqn, "host": host, "dhchap_key": dhchap_key, "dhchap_ctrlr_key": dhchap_ctrlr_key });
                let result = client.call("nvmf_subsystem_add_host", &said(keys))?;
                Ok(Answer::new(result, format!("{host} may connect to {nqn}")))
            }
            Self::Disallow { nqn, host } => {
                let result = client.call("nvmf_subsystem_remove_host", &json!({ "nqn": nqn, "host": host }))?;
                Ok(Answer::new(result, format!("{host} is no longer in the list of {nqn}")))
            }
            Self::Keys { nqn, host, dhchap_key, dhchap_ctrlr_key } => {
                let keys =
                    json!({ "nqn": nqn, "host": host, "dhchap_key": dhchap_key, "dhchap_ctrlr_key": dhchap_ctrlr_key });
                let result = client.call("nvmf_subsystem_set_keys", &said(keys))?;
                let text = match dhchap_key {
                    Some(key) => format!("{host} needs {key} when it authenticates next"),
                    None => format!("{host} need not authenticate"),
                };
                Ok(Answer::new(result, text))
            }
            Self::Limits { queue_pairs: None, commands: None, data: None } => {
                let result = client.call("nvmf_get_host_limits", &Value::Null)?;
                let text = limits(&result);
                Ok(Answer::new(result, text))
            }
            Self::Limits { queue_pairs, commands, data } => {
                let parameters = json!({ "queue_pairs": queue_pairs, "commands": commands, "data_size": data });
                let result = client.call("nvmf_set_host_limits", &said(parameters))?;
                let text = limits(&client.call("nvmf_get_host_limits", &Value::Null)?);
                Ok(Answer::new(result, text))
            }
        }
    }
}

fn list(all: &[(String, Value)], open: &[String]) -> String {
    let rows = all.iter().flat_map(|(nqn, hosts)| {
        let any = open.contains(nqn).then(|| vec![nqn.clone(), "any host".into(), "-".into(), "-".into()]);
        let listed = items(hosts).iter().map(move |host| {
            vec![nqn.clone(), cell(&host["nqn"]), cell(&host["dhchap_key"]), cell(&host["dhchap_ctrlr_key"])]
        });
        any.into_iter().chain(listed)
    });
    let none = "no host may connect; allow one: nvmf-ctl host allow NQN HOSTNQN";
    table(&["SUBSYSTEM", "HOST", "DHCHAP KEY", "CTRLR KEY"], rows.collect(), none)
}

fn limits(result: &Value) -> String {
    let shown = |field: &str, show: fn(u64) -> String| match number(&result[field]) {
        0 => "no limit".to_owned(),
        limit => show(limit),
    };
    facts(vec![
        ("queue pairs of one address", shown("queue_pairs", |count| count.to_string())),
        ("commands in flight of one host and CPU", shown("commands", |count| count.to_string())),
        ("data of these commands", shown("data_size", bytes)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_connect_is_a_line_for_each() {
        let all =
            [("nqn.a".to_owned(), json!([])), ("nqn.b".to_owned(), json!([{ "nqn": "nqn.h", "dhchap_key": "k" }]))];
        assert_eq!(
            list(&all, &["nqn.a".to_owned()]),
            "SUBSYSTEM  HOST      DHCHAP KEY  CTRLR KEY\n\
             nqn.a      any host  -           -\n\
             nqn.b      nqn.h     k           -"
        );
        let shown = limits(&json!({ "queue_pairs": 0, "commands": 64, "data_size": 1 << 20 }));
        assert!(shown.contains("no limit") && shown.contains("64") && shown.contains("1 MiB"), "{shown}");
    }
}
