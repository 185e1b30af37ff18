//! `nvmf-ctl namespace …`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::answer::{Answer, cell, items, table};
use super::client::Client;
use super::subsystem::of_each;
use super::trouble::Trouble;
use super::words::said;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists those of one subsystem, or of all.
    List {
        /// The subsystem.
        nqn: Option<String>,
    },
    /// Offers a device to a subsystem's hosts.
    Add {
        /// The subsystem.
        nqn: String,
        /// The device: see `nvmf-ctl device list`.
        device: String,
        /// Its id: the lowest free one where it is left out.
        #[arg(long)]
        nsid: Option<u32>,
        /// What hosts know it by: made from the names where it is left out.
        #[arg(long)]
        uuid: Option<String>,
        /// 32 hexadecimal digits.
        #[arg(long)]
        nguid: Option<String>,
        /// 16 hexadecimal digits.
        #[arg(long)]
        eui64: Option<String>,
        /// Its ANA group: its id where it is left out.
        #[arg(long, value_name = "GROUP")]
        ana_group: Option<u32>,
        /// Only hosts that it is shown to see it: `nvmf-ctl namespace show-to`.
        #[arg(long)]
        hidden: bool,
        /// The target's file that keeps its reservations.
        #[arg(long, value_name = "FILE")]
        ptpl_file: Option<String>,
    },
    /// Takes one from its hosts; answered when its last command has ended. The device stays.
    Remove {
        /// The subsystem.
        nqn: String,
        /// Its id.
        nsid: u32,
    },
    /// Grows the device behind one: as `nvmf-ctl device resize`.
    Resize {
        /// The subsystem.
        nqn: String,
        /// Its id.
        nsid: u32,
        /// The new size, such as 20GiB.
        #[arg(value_parser = super::words::mebibytes)]
        size: u64,
    },
    /// Shows a hidden one to a host.
    ShowTo {
        /// The subsystem.
        nqn: String,
        /// Its id.
        nsid: u32,
        /// The host's NQN.
        host: String,
    },
    /// Hides one from a host that it was shown to.
    HideFrom {
        /// The subsystem.
        nqn: String,
        /// Its id.
        nsid: u32,
        /// The host's NQN.
        host: String,
    },
    /// Puts one into another ANA group.
    AnaGroup {
        /// The subsystem.
        nqn: String,
        /// Its id.
        nsid: u32,
        /// The group.
        group: u32,
    },
}

impl Command {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        match self {
            Self::List { nqn } => {
                let (all, json) = of_each(client, nqn.as_deref(), |_, subsystem| Ok(subsystem["namespaces"].clone()))?;
                Ok(Answer::new(json, list(&all)))
            }
            Self::Add { nqn, device, nsid, uuid, nguid, eui64, ana_group, hidden, ptpl_file } => {
                let namespace = json!({
                    "bdev_name": device,
                    "nsid": nsid,
                    "uuid": uuid,
                    "nguid": nguid,
                    "eui64": eui64,
                    "anagrpid": ana_group,
                    "no_auto_visible": hidden.then_some(true),
                    "ptpl_file": ptpl_file,
                });
                let result =
                    client.call("nvmf_subsystem_add_ns", &said(json!({ "nqn": nqn, "namespace": namespace })))?;
                let text = format!("{device} is namespace {} of {nqn}", cell(&result));
                Ok(Answer::new(result, text))
            }
            Self::Remove { nqn, nsid } => {
                let result = client.call("nvmf_subsystem_remove_ns", &json!({ "nqn": nqn, "nsid": nsid }))?;
                Ok(Answer::new(result, format!("namespace {nsid} of {nqn} is removed; its device stays")))
            }
            Self::Resize { nqn, nsid, size } => {
                let subsystems = client.call("nvmf_get_subsystems", &json!({ "nqn": nqn }))?;
                let namespaces = items(&subsystems).iter().flat_map(|subsystem| items(&subsystem["namespaces"]));
                let found = namespaces.into_iter().find(|namespace| namespace["nsid"] == *nsid);
                let found = found.ok_or_else(|| {
                    Trouble::Refused(format!(
                        "{nqn} has no namespace {nsid}; nvmf-ctl namespace list {nqn} shows those that it has"
                    ))
                })?;
                super::device::resize(client, &cell(&found["bdev_name"]), *size)
            }
            Self::ShowTo { nqn, nsid, host } => {
                let result = client.call("nvmf_ns_add_host", &json!({ "nqn": nqn, "nsid": nsid, "host": host }))?;
                Ok(Answer::new(result, format!("{host} sees namespace {nsid}")))
            }
            Self::HideFrom { nqn, nsid, host } => {
                let result = client.call("nvmf_ns_remove_host", &json!({ "nqn": nqn, "nsid": nsid, "host": host }))?;
                Ok(Answer::new(result, format!("{host} sees namespace {nsid} no more")))
            }
            Self::AnaGroup { nqn, nsid, group } => {
                let parameters = json!({ "nqn": nqn, "nsid": nsid, "anagrpid": group });
                let result = client.call("nvmf_subsystem_set_ns_ana_group", &parameters)?;
                Ok(Answer::new(result, format!("namespace {nsid} is in ANA group {group}")))
            }
        }
    }
}

/// Those of each subsystem.
pub(super) fn list(all: &[(String, Value)]) -> String {
    let rows = all.iter().flat_map(|(nqn, namespaces)| {
        items(namespaces).iter().map(move |namespace| {
            let visible = match items(&namespace["hosts"]) {
                _ if namespace["no_auto_visible"] != true => "all".to_owned(),
                [] => "nobody".to_owned(),
                hosts => hosts.iter().map(cell).collect::<Vec<_>>().join(", "),
            };
            vec![
                nqn.clone(),
                cell(&namespace["nsid"]),
                cell(&namespace["bdev_name"]),
                cell(&namespace["anagrpid"]),
                visible,
                cell(&namespace["uuid"]),
            ]
        })
    });
    let none = "no namespaces; add one: nvmf-ctl namespace add NQN DEVICE";
    table(&["SUBSYSTEM", ">NSID", "DEVICE", ">ANA GROUP", "VISIBLE TO", "UUID"], rows.collect(), none)
}
