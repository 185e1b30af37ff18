//! `nvmf-ctl subsystem …`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::answer::{Answer, address, cell, facts, items, table};
use super::client::Client;
use super::namespace;
use super::trouble::Trouble;
use super::words::{OnOff, said};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists them.
    List,
    /// Shows all of one: addresses, hosts, namespaces.
    Show {
        /// Its NQN.
        nqn: String,
    },
    /// Makes one, without addresses and namespaces.
    Create {
        /// Its NQN, such as nqn.2026-11.org.example:disks.
        nqn: String,
        /// Serial number: 1 to 20 characters. Made from the NQN where it is left out.
        #[arg(long)]
        serial: Option<String>,
        /// Model number: 1 to 40 characters.
        #[arg(long)]
        model: Option<String>,
        /// Every host may connect.
        #[arg(long)]
        allow_any_host: bool,
        /// The highest namespace id and ANA group that there may be.
        #[arg(long, value_name = "COUNT")]
        max_namespaces: Option<u32>,
        /// Hosts are told of ANA, and its states can be set.
        #[arg(long)]
        ana: bool,
        /// The lowest controller id.
        #[arg(long, value_name = "ID")]
        min_cntlid: Option<u16>,
        /// The highest controller id.
        #[arg(long, value_name = "ID")]
        max_cntlid: Option<u16>,
        /// Another target offers the same subsystem.
        #[arg(long)]
        shared: bool,
        /// Controllers are there before hosts connect, by their ids.
        #[arg(long)]
        static_controllers: bool,
    },
    /// Deletes one: its hosts are disconnected, and it is answered when the last controller is gone.
    Delete {
        /// Its NQN.
        nqn: String,
    },
    /// Holds I/O commands up; answered when the last that was begun has ended.
    Pause {
        /// Its NQN.
        nqn: String,
    },
    /// Lets I/O go on.
    Resume {
        /// Its NQN.
        nqn: String,
    },
    /// Whether every host may connect, or only those of its list.
    AllowAnyHost {
        /// Its NQN.
        nqn: String,
        /// Every host, or those that were allowed.
        value: OnOff,
    },
}

impl Command {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        match self {
            Self::List => {
                let result = client.call("nvmf_get_subsystems", &Value::Null)?;
                let text = list(&result);
                Ok(Answer::new(result, text))
            }
            Self::Show { nqn } => {
                let result = client.call("nvmf_get_subsystems", &json!({ "nqn": nqn }))?;
                let text = items(&result).iter().map(show).collect::<Vec<_>>().join("\n\n");
                Ok(Answer::new(result, text))
            }
            Self::Create {
                nqn,
                serial,
                model,
                allow_any_host,
                max_namespaces,
                ana,
                min_cntlid,
                max_cntlid,
                shared,
                static_controllers,
            } => {
                let parameters = said(json!({
                    "nqn": nqn,
                    "serial_number": serial,
                    "model_number": model,
                    "allow_any_host": allow_any_host.then_some(true),
                    "max_namespaces": max_namespaces,
                    "ana_reporting": ana.then_some(true),
                    "min_cntlid": min_cntlid,
                    "max_cntlid": max_cntlid,
                    "shared": shared.then_some(true),
                    "controller_model": static_controllers.then_some("static"),
                }));
                let result = client.call("nvmf_create_subsystem", &parameters)?;
                let next = format!("next: nvmf-ctl namespace add {nqn} DEVICE; nvmf-ctl listener add {nqn} IP:PORT");
                let hosts =
                    if *allow_any_host { String::new() } else { format!("; nvmf-ctl host allow {nqn} HOSTNQN") };
                Ok(Answer::new(result, format!("{nqn} is created; {next}{hosts}")))
            }
            Self::Delete { nqn } => named(client, "nvmf_delete_subsystem", nqn, "is deleted"),
            Self::Pause { nqn } => {
                let done = format!("is paused: nothing touches its devices until nvmf-ctl subsystem resume {nqn}");
                named(client, "nvmf_subsystem_pause", nqn, &done)
            }
            Self::Resume { nqn } => named(client, "nvmf_subsystem_resume", nqn, "goes on"),
            Self::AllowAnyHost { nqn, value } => {
                let is_allowed = *value == OnOff::On;
                let parameters = json!({ "nqn": nqn, "allow_any_host": is_allowed });
                let result = client.call("nvmf_subsystem_allow_any_host", &parameters)?;
                let who =
                    if is_allowed { "every host may connect" } else { "only hosts that were allowed may connect" };
                Ok(Answer::new(result, format!("{nqn}: {who}")))
            }
        }
    }
}

/// A method whose only parameter is a subsystem.
fn named(client: &mut Client, method: &str, nqn: &str, done: &str) -> Result<Answer, Trouble> {
    let result = client.call(method, &json!({ "nqn": nqn }))?;
    Ok(Answer::new(result, format!("{nqn} {done}")))
}

/// Something of one subsystem as it is, or of each as an object by NQN: the subsystems that are shown, and what is shown of each.
pub(super) fn of_each(
    client: &mut Client,
    nqn: Option<&str>,
    mut part: impl FnMut(&mut Client, &Value) -> Result<Value, Trouble>,
) -> Result<(Vec<(String, Value)>, Value), Trouble> {
    let parameters = nqn.map_or(Value::Null, |nqn| json!({ "nqn": nqn }));
    let subsystems = client.call("nvmf_get_subsystems", &parameters)?;
    let mut parts = Vec::new();
    for subsystem in items(&subsystems) {
        parts.push((cell(&subsystem["nqn"]), part(client, subsystem)?));
    }
    let json = match nqn {
        Some(_) => parts.first().map_or(Value::Null, |(_, value)| value.clone()),
        None => Value::Object(parts.iter().cloned().collect()),
    };
    Ok((parts, json))
}

fn list(result: &Value) -> String {
    let rows = items(result).iter().map(|subsystem| {
        vec![
            cell(&subsystem["nqn"]),
            cell(&subsystem["serial_number"]),
            items(&subsystem["namespaces"]).len().to_string(),
            addresses(subsystem),
            hosts(subsystem),
        ]
    });
    let none = "no subsystems; make one: nvmf-ctl subsystem create NQN";
    table(&["NQN", "SERIAL", ">NAMESPACES", "LISTENERS", "HOSTS"], rows.collect(), none)
}

fn addresses(subsystem: &Value) -> String {
    let all: Vec<String> = items(&subsystem["listen_addresses"]).iter().map(address).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

fn hosts(subsystem: &Value) -> String {
    let count = items(&subsystem["hosts"]).len();
    match (subsystem["allow_any_host"] == true, count) {
        (true, _) => "any".to_owned(),
        (false, 0) => "none".to_owned(),
        (false, 1) => "1 host".to_owned(),
        (false, count) => format!("{count} hosts"),
    }
}

fn show(subsystem: &Value) -> String {
    let of = |field: &str| cell(&subsystem[field]);
    let listed: Vec<String> = items(&subsystem["hosts"]).iter().map(|host| cell(&host["nqn"])).collect();
    let hosts =
        if listed.is_empty() { hosts(subsystem) } else { format!("{} ({})", hosts(subsystem), listed.join(", ")) };
    let about = facts(vec![
        ("nqn", of("nqn")),
        ("serial", of("serial_number")),
        ("model", of("model_number")),
        ("listeners", addresses(subsystem)),
        ("hosts", hosts),
        ("controller ids", format!("{} to {}", of("min_cntlid"), of("max_cntlid"))),
        ("ANA", of("ana_reporting")),
        ("max namespaces", of("max_namespaces")),
    ]);
    let all = [(of("nqn"), subsystem["namespaces"].clone())];
    format!("{about}\n\n{}", namespace::list(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> Value {
        json!([{
            "nqn": "nqn.2026-11.io.quiesce:demo", "serial_number": "QD", "model_number": "Quiesce", "allow_any_host": false,
            "hosts": [{ "nqn": "nqn.x:a" }], "min_cntlid": 1, "max_cntlid": 65519, "max_namespaces": 1024, "ana_reporting": false,
            "listen_addresses": [{ "trtype": "RDMA", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420" }],
            "namespaces": [{ "nsid": 1, "bdev_name": "memory", "uuid": "8d…" }],
        }])
    }

    #[test]
    fn a_list_is_a_line_for_each() {
        assert_eq!(
            list(&demo()),
            "NQN                          SERIAL  NAMESPACES  LISTENERS       HOSTS\n\
             nqn.2026-11.io.quiesce:demo  QD               1  127.0.0.1:4420  1 host"
        );
        assert!(list(&json!([])).contains("subsystem create"));
    }

    #[test]
    fn all_of_one_is_shown() {
        assert_eq!(
            show(&demo()[0]),
            "nqn:             nqn.2026-11.io.quiesce:demo\n\
             serial:          QD\n\
             model:           Quiesce\n\
             listeners:       127.0.0.1:4420\n\
             hosts:           1 host (nqn.x:a)\n\
             controller ids:  1 to 65519\n\
             ANA:             no\n\
             max namespaces:  1024\n\n\
             SUBSYSTEM                    NSID  DEVICE  ANA GROUP  VISIBLE TO  UUID\n\
             nqn.2026-11.io.quiesce:demo     1  memory          -  all         8d…"
        );
    }
}
