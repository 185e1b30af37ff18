//! `nvmf-ctl controller …` and `nvmf-ctl qpair …`: who is connected.

use clap::Subcommand;
use serde_json::{Value, json};

use super::answer::{Answer, address, cell, items, table};
use super::client::Client;
use super::subsystem::of_each;
use super::trouble::Trouble;

/// Who asks for discovery has a controller of this subsystem.
const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

#[derive(Debug, Subcommand)]
pub(super) enum ControllerCommand {
    /// Lists those of one subsystem, or of all with the discovery service.
    List {
        /// The subsystem.
        nqn: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum QpairCommand {
    /// Lists those of one subsystem, or of all with the discovery service.
    List {
        /// The subsystem.
        nqn: Option<String>,
    },
}

impl ControllerCommand {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        let Self::List { nqn } = self;
        let (all, json) = connected(client, nqn.as_deref(), "nvmf_subsystem_get_controllers")?;
        Ok(Answer::new(json, controllers(&all)))
    }
}

impl QpairCommand {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        let Self::List { nqn } = self;
        let (all, json) = connected(client, nqn.as_deref(), "nvmf_subsystem_get_qpairs")?;
        Ok(Answer::new(json, qpairs(&all)))
    }
}

/// What a method says of one subsystem, or of each.
pub(super) fn connected(
    client: &mut Client,
    nqn: Option<&str>,
    method: &str,
) -> Result<(Vec<(String, Value)>, Value), Trouble> {
    if let Some(nqn) = nqn {
        let result = client.call(method, &json!({ "nqn": nqn }))?;
        return Ok((vec![(nqn.to_owned(), result.clone())], result));
    }
    let (mut all, mut json) =
        of_each(client, None, |client, subsystem| client.call(method, &json!({ "nqn": subsystem["nqn"] })))?;
    let discovery = client.call(method, &json!({ "nqn": DISCOVERY_NQN }))?;
    json[DISCOVERY_NQN] = discovery.clone();
    all.push((DISCOVERY_NQN.to_owned(), discovery));
    Ok((all, json))
}

fn controllers(all: &[(String, Value)]) -> String {
    let rows = all.iter().flat_map(|(nqn, controllers)| {
        items(controllers).iter().map(move |controller| {
            vec![
                nqn.clone(),
                cell(&controller["cntlid"]),
                cell(&controller["hostnqn"]),
                cell(&controller["num_io_qpairs"]),
                cell(&controller["hostid"]),
            ]
        })
    });
    table(&["SUBSYSTEM", ">CNTLID", "HOST", ">I/O QPAIRS", "HOST ID"], rows.collect(), "no host is connected")
}

fn qpairs(all: &[(String, Value)]) -> String {
    let rows = all.iter().flat_map(|(nqn, qpairs)| {
        items(qpairs).iter().map(move |qpair| {
            vec![
                nqn.clone(),
                cell(&qpair["cntlid"]),
                cell(&qpair["qid"]),
                cell(&qpair["state"]),
                cell(&qpair["thread"]),
                address(&qpair["listen_address"]),
                address(&qpair["peer_address"]),
                cell(&qpair["hostnqn"]),
            ]
        })
    });
    let headings = ["SUBSYSTEM", ">CNTLID", ">QID", "STATE", "THREAD", "LISTENER", "PEER", "HOST"];
    table(&headings, rows.collect(), "no host is connected")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_connected_is_a_line_for_each() {
        let all = [(
            "nqn.a".to_owned(),
            json!([{ "cntlid": 3, "hostnqn": "nqn.h\u{7}", "num_io_qpairs": 2, "hostid": "id" }]),
        )];
        assert_eq!(
            controllers(&all),
            "SUBSYSTEM  CNTLID  HOST    I/O QPAIRS  HOST ID\nnqn.a           3  nqn.h\u{fffd}           2  id"
        );
        assert_eq!(qpairs(&[("nqn.a".to_owned(), json!([]))]), "no host is connected");
    }
}
