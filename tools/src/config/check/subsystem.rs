//! Subsystems and their namespaces: names that are well formed, unique, and meet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use nvmf_core::limits::{CONTROLLER_ID_MAX, NSID_MAX, STATIC_CONTROLLER_COUNT_MAX};
use nvmf_core::spec::{AnaSpec, ControllerModel};
use toml::Spanned;
use uuid::Uuid;

use super::authentication::check_host_keys;
use super::value::{address, number, quoted, words};
use crate::config::report::{Report, nearest};
use crate::config::{DeviceSection, KeySection, NamespaceSection, SubsystemSection, shape};
use crate::rpc::methods::namespace::{ANA_STATES, ana_state, bytes};
use crate::rpc::methods::subsystem::{CONTROLLER_MODELS, controller_model};

/// NVM Express Base 2.0, 4.5: an NQN has at most 223 bytes.
const NQN_LEN_MAX: usize = 223;

pub(super) fn check_subsystems(
    sections: Vec<shape::Subsystem>,
    devices: &[DeviceSection],
    keys: &[KeySection],
    report: &mut Report<'_>,
) -> Vec<SubsystemSection> {
    let mut subsystems: Vec<SubsystemSection> = Vec::new();
    // What uses a device: two would write over each other.
    let of_others = devices.iter().filter_map(|user| Some((user.base()?.clone(), format!("device \"{}\"", user.name))));
    let mut users: BTreeMap<String, String> = of_others.collect();
    for section in sections {
        let nqn = section.nqn.get_ref().clone();
        let named = |field: &str| format!("subsystem \"{nqn}\": {field}");
        check_nqn(&section.nqn, "subsystem.nqn", report);
        if subsystems.iter().any(|subsystem| subsystem.nqn == nqn) {
            report.refuse(section.nqn.span(), "subsystem.nqn", quoted(&nqn), "names are unique, and this one is taken");
        }
        if !section.allow_any_host && section.hosts.is_none() && section.host.is_empty() {
            let text = format!(
                "{} is missing: list host NQNs, or set allow_any_host = true; nobody could connect (hosts = [] says that this is meant)",
                named("hosts")
            );
            report.say(Some(section.nqn.span()), text);
        }
        let listed = section.hosts.unwrap_or_default();
        for host in listed.iter().chain(section.host.iter().map(|host| &host.nqn)) {
            check_nqn(host, &named("hosts"), report);
        }
        if section.listeners.is_none() {
            let text = format!(
                "{} is missing: such as listeners = [\"127.0.0.1:4420\"] ([] for none yet)",
                named("listeners")
            );
            report.say(Some(section.nqn.span()), text);
        }
        let mut listeners = Vec::new();
        for listener in &section.listeners.unwrap_or_default() {
            if let Some(address) = address(listener, &named("listeners"), "127.0.0.1:4420", report) {
                if address.ip().is_unspecified() {
                    let allowed = "an address that hosts can connect to, not a wildcard";
                    report.refuse(listener.span(), &named("listeners"), quoted(listener.get_ref()), allowed);
                }
                listeners.push(address);
            }
        }
        let host_keys = check_host_keys(section.host, &nqn, keys, report);
        let mut hosts: Vec<String> = listed.into_iter().map(Spanned::into_inner).collect();
        for keys in &host_keys {
            if !hosts.contains(&keys.host) {
                hosts.push(keys.host.clone());
            }
        }
        let nsid_max = number(section.max_namespaces, &named("max_namespaces"), NSID_MAX, 1..=NSID_MAX, report);
        let first_id = number(section.min_cntlid, &named("min_cntlid"), 1, 1..=CONTROLLER_ID_MAX, report);
        let ids = first_id..=CONTROLLER_ID_MAX;
        let last_id = number(section.max_cntlid, &named("max_cntlid"), CONTROLLER_ID_MAX, ids, report);
        let model = check_model(section.controller_model, &nqn, &(first_id..=last_id), report);
        if section.shared && section.serial.is_none() {
            let allowed = "given where shared = true: every target of the subsystem says the same";
            report.say(Some(section.nqn.span()), format!("{} is missing, and should be {allowed}", named("serial")));
        }
        let ana = check_ana(section.ana, &nqn, (section.ana_reporting, nsid_max), &listeners, report);
        let is_static = model == ControllerModel::Static;
        let terms = Terms { nqn: &nqn, nsid_max, is_shared: section.shared, is_static };
        let namespaces = check_namespaces(section.namespace, &terms, devices, &mut users, report);
        subsystems.push(SubsystemSection {
            serial_number: words(section.serial, &named("serial"), 20, report).unwrap_or_else(|| serial_number(&nqn)),
            model_number: words(section.model, &named("model"), 40, report).unwrap_or_else(|| "Quiesce".to_owned()),
            allow_any_host: section.allow_any_host,
            hosts,
            host_keys,
            listeners,
            namespaces,
            nsid_max,
            controller_ids: first_id..=last_id,
            controller_model: model,
            is_shared: section.shared,
            reports_ana: section.ana_reporting,
            ana,
            nqn,
        });
    }
    subsystems
}

/// What a namespace has to fit to.
struct Terms<'a> {
    nqn: &'a str,
    nsid_max: u32,
    is_shared: bool,
    is_static: bool,
}

fn check_model(
    word: Option<Spanned<String>>,
    nqn: &str,
    ids: &RangeInclusive<u16>,
    report: &mut Report<'_>,
) -> ControllerModel {
    let Some(word) = word else { return ControllerModel::Dynamic };
    let field = format!("subsystem \"{nqn}\": controller_model");
    let model = controller_model(word.get_ref());
    if model.is_none() {
        report.refuse(word.span(), &field, quoted(word.get_ref()), CONTROLLER_MODELS);
    }
    if model == Some(ControllerModel::Static) && ids.len() > usize::from(STATIC_CONTROLLER_COUNT_MAX) {
        let allowed = format!(
            "with min_cntlid and max_cntlid at most {STATIC_CONTROLLER_COUNT_MAX} apart: these ids are nobody else's"
        );
        report.refuse(word.span(), &field, quoted(word.get_ref()), &allowed);
    }
    model.unwrap_or_default()
}

fn check_ana(
    sections: Vec<shape::Ana>,
    nqn: &str,
    (is_reported, group_max): (bool, u32),
    listeners: &[SocketAddr],
    report: &mut Report<'_>,
) -> Vec<AnaSpec> {
    let named = |field: &str| format!("subsystem \"{nqn}\": ana.{field}");
    let mut rules = Vec::new();
    for section in sections {
        let found = address(&section.listener, &named("listener"), "127.0.0.1:4420", report);
        let (span, text) = (section.listener.span(), quoted(section.listener.get_ref()));
        if found.is_some_and(|found| !listeners.contains(&found)) {
            report.refuse(span.clone(), &named("listener"), &text, "one of the subsystem's listeners");
        }
        if !is_reported {
            report.refuse(span, &named("listener"), text, "nothing without ana_reporting = true");
        }
        let state = ana_state(section.state.get_ref());
        if state.is_none() {
            report.refuse(section.state.span(), &named("state"), quoted(section.state.get_ref()), ANA_STATES);
        }
        let group = section.group.map(|group| number(Some(group), &named("group"), 1, 1..=group_max, report));
        if let (Some(listener), Some(state)) = (found, state) {
            rules.push(AnaSpec { listener, group, state });
        }
    }
    rules
}

fn check_namespaces(
    sections: Vec<shape::Namespace>,
    terms: &Terms<'_>,
    devices: &[DeviceSection],
    users: &mut BTreeMap<String, String>,
    report: &mut Report<'_>,
) -> Vec<NamespaceSection> {
    let Terms { nqn, nsid_max, is_shared, is_static } = *terms;
    let named = |field: &str| format!("subsystem \"{nqn}\": namespace.{field}");
    let mut namespaces: Vec<NamespaceSection> = Vec::new();
    for section in sections {
        let device = section.device.get_ref().clone();
        if !devices.iter().any(|known| known.name == device) {
            let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
            let allowed = match nearest(&device, names.iter().copied()) {
                Some(name) => format!("there is no such [[device]]; did you mean {name:?}?"),
                None if names.is_empty() => "there is no such [[device]], nor any other".to_owned(),
                None => format!("there is no such [[device]]; there are {}", names.join(", ")),
            };
            report.refuse(section.device.span(), &named("device"), quoted(&device), &allowed);
        }
        let next = namespaces.iter().map(|namespace| namespace.nsid).max().unwrap_or(0).saturating_add(1);
        let nsid_span = section.nsid.as_ref().map(Spanned::span);
        let nsid = number(section.nsid, &named("nsid"), next, 1..=nsid_max, report);
        if let Some(other) = namespaces.iter().find(|namespace| namespace.nsid == nsid) {
            let span = nsid_span.unwrap_or_else(|| section.device.span());
            let allowed = format!("unique in its subsystem, and device \"{}\" has this one", other.device);
            report.refuse(span, &named("nsid"), nsid, &allowed);
        }
        if let Some(user) = users.insert(device.clone(), format!("namespace {nsid} of \"{nqn}\"")) {
            let allowed = format!("one use for each device, and {user} has it");
            report.refuse(section.device.span(), &named("device"), quoted(&device), &allowed);
        }
        let uuid = section.uuid.and_then(|uuid| {
            let parsed = Uuid::parse_str(uuid.get_ref()).ok().filter(|uuid| !uuid.is_nil());
            if parsed.is_none() {
                let allowed = "a UUID such as \"6f1c2d9e-8f0b-4d5c-9a3b-0c1d2e3f4a5b\", not nil";
                report.refuse(uuid.span(), &named("uuid"), quoted(uuid.get_ref()), allowed);
            }
            parsed
        });
        if is_shared && (uuid.is_none() || section.nguid.is_none()) {
            let allowed = "both given where shared = true: every target of the subsystem says the same";
            report.say(Some(section.device.span()), format!("{} and nguid should be {allowed}", named("uuid")));
        }
        if !section.no_auto_visible
            && let Some(host) = section.hosts.first()
        {
            let allowed = "nothing without no_auto_visible = true: every host sees the namespace";
            report.refuse(host.span(), &named("hosts"), quoted(host.get_ref()), allowed);
        }
        for host in &section.hosts {
            check_nqn(host, &named("hosts"), report);
        }
        let ptpl_file = section.ptpl_file.map(|path| {
            let shown = path.get_ref().display().to_string();
            if let Some(user) = users.insert(format!("file {shown}"), format!("namespace {nsid} of \"{nqn}\"")) {
                let allowed = format!("a file of its own for each namespace, and {user} has it");
                report.refuse(path.span(), &named("ptpl_file"), quoted(&shown), &allowed);
            }
            if is_static {
                let allowed = "left out where controllers are static: hosts get no reservations";
                report.refuse(path.span(), &named("ptpl_file"), quoted(&shown), allowed);
            }
            if is_shared {
                let allowed = "left out where shared = true: targets do not share reservations, so hosts get none";
                report.refuse(path.span(), &named("ptpl_file"), quoted(&shown), allowed);
            }
            path.into_inner()
        });
        namespaces.push(NamespaceSection {
            device,
            nsid,
            uuid,
            nguid: identifier(section.nguid, &named("nguid"), report),
            eui64: identifier(section.eui64, &named("eui64"), report),
            ana_group: section.anagrpid.map(|group| number(Some(group), &named("anagrpid"), 1, 1..=nsid_max, report)),
            is_auto_visible: !section.no_auto_visible,
            hosts: section.hosts.into_iter().map(Spanned::into_inner).collect(),
            ptpl_file,
        });
    }
    namespaces
}

/// NGUID or EUI-64 in hexadecimal. Zero is none [NVM Command Set 1.0, figure 97].
fn identifier<const LEN: usize>(
    text: Option<Spanned<String>>,
    field: &str,
    report: &mut Report<'_>,
) -> Option<[u8; LEN]> {
    let text = text?;
    let bytes = bytes(text.get_ref()).filter(|bytes| *bytes != [0; LEN]);
    if bytes.is_none() {
        let allowed = format!("{} hexadecimal digits, not all zero", 2 * LEN);
        report.refuse(text.span(), field, quoted(text.get_ref()), &allowed);
    }
    bytes
}

/// A serial number that survives a restart and differs between subsystems: for one that was given none.
#[must_use]
pub fn serial_number(nqn: &str) -> String {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, nqn.as_bytes()).simple().to_string();
    format!("QS{}", id[..16].to_ascii_uppercase())
}

/// NVM Express Base 2.0, 4.5: `nqn.yyyy-mm.reverse.domain:name`, or the same with a UUID.
fn check_nqn(nqn: &Spanned<String>, field: &str, report: &mut Report<'_>) {
    let text = nqn.get_ref();
    let date_and_domain = text.strip_prefix("nqn.").and_then(|rest| rest.split_once('.'));
    let well_formed = date_and_domain.is_some_and(|(date, domain)| {
        let date = date.as_bytes();
        let digits = |range: &[u8]| range.iter().all(u8::is_ascii_digit);
        date.len() == 7 && digits(&date[..4]) && date[4] == b'-' && digits(&date[5..]) && !domain.is_empty()
    });
    if !well_formed || text.len() > NQN_LEN_MAX || text.chars().any(char::is_control) {
        let allowed = "such as \"nqn.2026-11.org.example:disks\", at most 223 bytes";
        report.refuse(nqn.span(), field, quoted(text), allowed);
    }
}
