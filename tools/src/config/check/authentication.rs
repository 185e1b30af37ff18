//! Keys, who has which, and how hosts authenticate. No file is opened here.

use nvmf_core::auth::{GroupId, GroupSet, HashId, HashSet};
use toml::Spanned;

use super::value::quoted;
use crate::config::report::{Report, nearest};
use crate::config::{HostKeySection, KeySection, shape};

pub(super) fn check_keys(sections: Vec<shape::Key>, report: &mut Report<'_>) -> Vec<KeySection> {
    let mut keys: Vec<KeySection> = Vec::new();
    for section in sections {
        let (name, path) = (section.name.get_ref(), section.path.get_ref());
        if keys.iter().any(|key| key.name == *name) {
            report.refuse(section.name.span(), "key.name", quoted(name), "names are unique, and this one is taken");
        }
        if !path.is_absolute() {
            let shown = quoted(&path.display().to_string());
            report.refuse(section.path.span(), "key.path", shown, "a path that begins with /");
        }
        keys.push(KeySection { name: section.name.into_inner(), path: section.path.into_inner() });
    }
    keys
}

pub(super) fn check_authentication(section: shape::Authentication, report: &mut Report<'_>) -> (HashSet, GroupSet) {
    let mut hashes = HashSet::ALL;
    if let Some(names) = section.digests {
        let allowed = "\"sha256\", \"sha384\" or \"sha512\", at least one of them";
        hashes = HashSet::empty();
        for name in named(&names, "authentication.digests", HashId::from_name, allowed, report) {
            hashes = hashes.with(name);
        }
    }
    let mut groups = GroupSet::ALL;
    if let Some(names) = section.dhgroups {
        let allowed = "\"null\" or \"ffdhe\" with 2048, 3072, 4096, 6144 or 8192, at least one of them";
        groups = GroupSet::empty();
        for name in named(&names, "authentication.dhgroups", GroupId::from_name, allowed, report) {
            groups = groups.with(name);
        }
    }
    (hashes, groups)
}

fn named<T>(
    names: &Spanned<Vec<Spanned<String>>>,
    field: &str,
    parse: fn(&str) -> Option<T>,
    allowed: &str,
    report: &mut Report<'_>,
) -> Vec<T> {
    if names.get_ref().is_empty() {
        report.refuse(names.span(), field, "[]", allowed);
    }
    let mut found = Vec::new();
    for name in names.get_ref() {
        match parse(name.get_ref()) {
            Some(value) => found.push(value),
            None => report.refuse(name.span(), field, quoted(name.get_ref()), allowed),
        }
    }
    found
}

/// Hosts with keys: they are hosts of the subsystem, whether or not the list says so too.
pub(super) fn check_host_keys(
    sections: Vec<shape::Host>,
    nqn: &str,
    keys: &[KeySection],
    report: &mut Report<'_>,
) -> Vec<HostKeySection> {
    let named = |field: &str| format!("subsystem \"{nqn}\": host.{field}");
    let mut hosts: Vec<HostKeySection> = Vec::new();
    for section in sections {
        let host = section.nqn.get_ref();
        if hosts.iter().any(|known| known.host == *host) {
            report.refuse(section.nqn.span(), &named("nqn"), quoted(host), "each host once");
        }
        let mut check = |field: &str, key: &Spanned<String>| {
            let name = key.get_ref();
            if !keys.iter().any(|known| known.name == *name) {
                let names = keys.iter().map(|key| key.name.as_str());
                let allowed = match nearest(name, names) {
                    Some(other) => format!("there is no such [[key]]; did you mean {other:?}?"),
                    None => "there is no such [[key]]".to_owned(),
                };
                report.refuse(key.span(), &named(field), quoted(name), &allowed);
            }
        };
        check("dhchap_key", &section.dhchap_key);
        if let Some(key) = &section.dhchap_ctrlr_key {
            check("dhchap_ctrlr_key", key);
        }
        hosts.push(HostKeySection {
            host: section.nqn.into_inner(),
            key: section.dhchap_key.into_inner(),
            controller_key: section.dhchap_ctrlr_key.map(Spanned::into_inner),
        });
    }
    hosts
}
