//! `nvmf-ctl listener …` and `nvmf-ctl referral …`: addresses.

use std::net::SocketAddr;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::answer::{Answer, address, cell, items, table};
use super::client::Client;
use super::subsystem::of_each;
use super::trouble::Trouble;
use super::words::{self, listen_address, said, transport_address};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists those of one subsystem, or of all.
    List {
        /// The subsystem.
        nqn: Option<String>,
    },
    /// Offers a subsystem at an address.
    Add {
        /// The subsystem.
        nqn: String,
        /// IP:PORT, such as 10.0.0.1:4420; an IPv6 address is in brackets.
        #[arg(value_parser = words::address)]
        address: SocketAddr,
    },
    /// Offers it there no more: who came by this address is disconnected.
    Remove {
        /// The subsystem.
        nqn: String,
        /// IP:PORT.
        #[arg(value_parser = words::address)]
        address: SocketAddr,
    },
    /// Sets the ANA state of the namespaces by way of an address.
    Ana {
        /// The subsystem.
        nqn: String,
        /// IP:PORT of one of its listeners.
        #[arg(value_parser = words::address)]
        address: SocketAddr,
        /// How hosts that came by this address can use them.
        state: AnaState,
        /// Of this ANA group only.
        #[arg(long)]
        group: Option<u32>,
    },
}

/// ANA's states, as SPDK names three of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum AnaState {
    Optimized,
    NonOptimized,
    Inaccessible,
    PersistentLoss,
    Change,
}

impl AnaState {
    fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl Command {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        match self {
            Self::List { nqn } => {
                let (all, json) = of_each(client, nqn.as_deref(), |client, subsystem| {
                    client.call("nvmf_subsystem_get_listeners", &json!({ "nqn": subsystem["nqn"] }))
                })?;
                Ok(Answer::new(json, list(&all)))
            }
            Self::Add { nqn, address } => {
                let parameters = json!({ "nqn": nqn, "listen_address": listen_address(*address) });
                let result = client.call("nvmf_subsystem_add_listener", &parameters)?;
                Ok(Answer::new(result, format!("hosts reach {nqn} at {address}")))
            }
            Self::Remove { nqn, address } => {
                let parameters = json!({ "nqn": nqn, "listen_address": listen_address(*address) });
                let result = client.call("nvmf_subsystem_remove_listener", &parameters)?;
                Ok(Answer::new(result, format!("hosts reach {nqn} at {address} no more")))
            }
            Self::Ana { nqn, address, state, group } => {
                let word = state.word();
                let listener = listen_address(*address);
                let parameters =
                    json!({ "nqn": nqn, "listen_address": listener, "ana_state": word, "anagrpid": group });
                let result = client.call("nvmf_subsystem_listener_set_ana_state", &said(parameters))?;
                let of = group.map_or_else(|| "all ANA groups are".to_owned(), |group| format!("ANA group {group} is"));
                Ok(Answer::new(result, format!("by way of {address} {of} {word}")))
            }
        }
    }
}

fn list(all: &[(String, Value)]) -> String {
    let rows = all.iter().flat_map(|(nqn, listeners)| {
        items(listeners).iter().map(move |listener| {
            let at = &listener["address"];
            vec![nqn.clone(), cell(&at["trtype"]), address(at), states(&listener["ana_states"])]
        })
    });
    let none = "no listeners; add one: nvmf-ctl listener add NQN IP:PORT";
    table(&["SUBSYSTEM", "TRANSPORT", "ADDRESS", "ANA"], rows.collect(), none)
}

/// How many groups are in which state: there may be a thousand.
fn states(states: &Value) -> String {
    let mut counts: Vec<(String, u32)> = Vec::new();
    for state in items(states) {
        let word = cell(&state["ana_state"]);
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    match counts.as_slice() {
        [] => "-".to_owned(),
        [(word, _)] => word.clone(),
        several => several.iter().map(|(word, count)| format!("{word} × {count}")).collect::<Vec<_>>().join(", "),
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum ReferralCommand {
    /// Lists them.
    List,
    /// Sends hosts to another discovery service, or to a subsystem elsewhere.
    Add(Referral),
    /// Sends them there no more.
    Remove(Referral),
}

/// Where to.
#[derive(Debug, clap::Args)]
pub(super) struct Referral {
    /// IP:PORT.
    #[arg(value_parser = words::address)]
    address: SocketAddr,
    /// Over what.
    #[arg(long, default_value = "RDMA", value_parser = ["RDMA", "TCP"], ignore_case = true)]
    transport: String,
    /// A subsystem's NQN: a discovery service where it is left out.
    #[arg(long)]
    nqn: Option<String>,
    /// Hosts need TLS there.
    #[arg(long)]
    secure_channel: bool,
}

impl ReferralCommand {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        match self {
            Self::List => {
                let result = client.call("nvmf_discovery_get_referrals", &Value::Null)?;
                let rows = items(&result).iter().map(|referral| {
                    let at = &referral["address"];
                    let (nqn, secure) = (cell(&referral["subnqn"]), cell(&referral["secure_channel"]));
                    vec![cell(&at["trtype"]), address(at), nqn, secure]
                });
                let text = table(&["TRANSPORT", "ADDRESS", "NQN", "SECURE CHANNEL"], rows.collect(), "no referrals");
                Ok(Answer::new(result, text))
            }
            Self::Add(to) => {
                let mut parameters = to.parameters();
                parameters["secure_channel"] = json!(to.secure_channel.then_some(true));
                let result = client.call("nvmf_discovery_add_referral", &said(parameters))?;
                Ok(Answer::new(result, format!("hosts are sent to {}", to.address)))
            }
            Self::Remove(to) => {
                let result = client.call("nvmf_discovery_remove_referral", &said(to.parameters()))?;
                Ok(Answer::new(result, format!("hosts are sent to {} no more", to.address)))
            }
        }
    }
}

impl Referral {
    fn parameters(&self) -> Value {
        json!({ "address": transport_address(&self.transport, self.address), "subnqn": self.nqn })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ana_states_have_the_targets_words() {
        let words: Vec<String> = AnaState::value_variants().iter().map(|state| state.word()).collect();
        assert_eq!(words, ["optimized", "non_optimized", "inaccessible", "persistent_loss", "change"]);
        let some = json!([{ "ana_state": "optimized" }, { "ana_state": "change" }, { "ana_state": "optimized" }]);
        assert_eq!(states(&some), "optimized × 2, change × 1");
    }
}
