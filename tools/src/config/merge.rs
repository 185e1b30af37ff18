//! What becomes of a configuration that was changed in two places: in its file, and by requests while the target ran.
//!
//! Both changes are kept. Where both say something of one value the file has the last word, since a person has just written it. What requests made and the file
//! never named stays; what they deleted does not come back because the file still names it.

use super::{Config, DeviceSection, LimitsSection, NamespaceSection, SubsystemSection, TargetSection};

/// `present` is what `before` has become by requests; `after` is what it has become in the file.
#[must_use]
pub fn merge(present: &Config, before: &Config, after: &Config) -> Config {
    let target = TargetSection {
        poll_mode: value(&present.target.poll_mode, &before.target.poll_mode, &after.target.poll_mode),
        turn_limit_us: value(&present.target.turn_limit_us, &before.target.turn_limit_us, &after.target.turn_limit_us),
        stall_limit_ms: value(
            &present.target.stall_limit_ms,
            &before.target.stall_limit_ms,
            &after.target.stall_limit_ms,
        ),
        ..after.target.clone()
    };
    let mut log = after.log.clone();
    log.level = value(&present.log.level, &before.log.level, &after.log.level);
    Config {
        target,
        log,
        placement: value(&present.placement, &before.placement, &after.placement),
        limits: limits(present.limits, before.limits, after.limits),
        authentication: value(&present.authentication, &before.authentication, &after.authentication),
        clusters: list([&present.clusters, &before.clusters, &after.clusters], |cluster| &cluster.name, value),
        devices: list([&present.devices, &before.devices, &after.devices], |device| &device.name, device),
        subsystems: list([&present.subsystems, &before.subsystems, &after.subsystems], |one| &one.nqn, subsystem),
        referrals: list(
            [&present.referrals, &before.referrals, &after.referrals],
            |referral| (referral.transport, referral.address, referral.subsystem_nqn.clone()),
            value,
        ),
        keys: list([&present.keys, &before.keys, &after.keys], |key| &key.name, value),
        ..after.clone()
    }
}

fn limits(present: LimitsSection, before: LimitsSection, after: LimitsSection) -> LimitsSection {
    LimitsSection {
        host_queue_pair_count_max: value(
            &present.host_queue_pair_count_max,
            &before.host_queue_pair_count_max,
            &after.host_queue_pair_count_max,
        ),
        host: value(&present.host, &before.host, &after.host),
    }
}

fn device(present: &DeviceSection, before: &DeviceSection, after: &DeviceSection) -> DeviceSection {
    DeviceSection {
        name: present.name.clone(),
        block_len: value(&present.block_len, &before.block_len, &after.block_len),
        kind: value(&present.kind, &before.kind, &after.kind),
        limits: value(&present.limits, &before.limits, &after.limits),
    }
}

fn subsystem(present: &SubsystemSection, before: &SubsystemSection, after: &SubsystemSection) -> SubsystemSection {
    let whole = |host: &String| host.clone();
    SubsystemSection {
        nqn: present.nqn.clone(),
        serial_number: value(&present.serial_number, &before.serial_number, &after.serial_number),
        model_number: value(&present.model_number, &before.model_number, &after.model_number),
        allow_any_host: value(&present.allow_any_host, &before.allow_any_host, &after.allow_any_host),
        hosts: list([&present.hosts, &before.hosts, &after.hosts], whole, value),
        host_keys: list([&present.host_keys, &before.host_keys, &after.host_keys], |keys| keys.host.clone(), value),
        listeners: list([&present.listeners, &before.listeners, &after.listeners], |listener| *listener, value),
        namespaces: list(
            [&present.namespaces, &before.namespaces, &after.namespaces],
            |namespace| namespace.nsid,
            namespace,
        ),
        nsid_max: value(&present.nsid_max, &before.nsid_max, &after.nsid_max),
        controller_ids: value(&present.controller_ids, &before.controller_ids, &after.controller_ids),
        controller_model: value(&present.controller_model, &before.controller_model, &after.controller_model),
        is_shared: value(&present.is_shared, &before.is_shared, &after.is_shared),
        reports_ana: value(&present.reports_ana, &before.reports_ana, &after.reports_ana),
        ana: value(&present.ana, &before.ana, &after.ana),
    }
}

fn namespace(present: &NamespaceSection, before: &NamespaceSection, after: &NamespaceSection) -> NamespaceSection {
    NamespaceSection {
        ana_group: value(&present.ana_group, &before.ana_group, &after.ana_group),
        hosts: list([&present.hosts, &before.hosts, &after.hosts], String::clone, value),
        // What hosts know it by changes together or not at all.
        ..if before == after { present.clone() } else { after.clone() }
    }
}

/// What the file says now, if it says something else than before.
fn value<T: Clone + PartialEq>(present: &T, before: &T, after: &T) -> T {
    if before == after { present.clone() } else { after.clone() }
}

/// By what names its members: those of `present` in their order, then what is new in the file.
fn list<'a, T: Clone, K: PartialEq>(
    [present, before, after]: [&'a Vec<T>; 3],
    key: impl Fn(&'a T) -> K,
    join: impl Fn(&T, &T, &T) -> T,
) -> Vec<T> {
    let find = |list: &'a Vec<T>, wanted: &K| list.iter().find(|member| key(member) == *wanted);
    let stay = |member: &'a T| match (find(before, &key(member)), find(after, &key(member))) {
        (Some(_), None) => None,
        (Some(before), Some(after)) => Some(join(member, before, after)),
        (None, Some(after)) => Some(after.clone()),
        (None, None) => Some(member.clone()),
    };
    let mut merged: Vec<T> = present.iter().filter_map(stay).collect();
    let is_new = |member: &&'a T| find(present, &key(member)).is_none() && find(before, &key(member)).is_none();
    merged.extend(after.iter().filter(is_new).cloned());
    merged
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        let text = format!("[target]\nreactors = 1\n[rpc]\nsocket = \"x.sock\"\n{text}");
        Config::parse(Path::new("x.toml"), &text, &[0]).unwrap()
    }

    const NULLS: &str = "[[device]]\nname = \"a\"\ntype = \"null\"\nsize = \"1MiB\"\n\
                         [[device]]\nname = \"b\"\ntype = \"null\"\nsize = \"1MiB\"\n";

    fn names(config: &Config) -> Vec<&str> {
        config.devices.iter().map(|device| device.name.as_str()).collect()
    }

    #[test]
    fn what_both_changed_is_kept() {
        let before = config(NULLS);
        let mut present = before.clone();
        // By requests: one deleted, one made, one limited.
        present.devices.remove(1);
        present.devices.push(DeviceSection { name: "c".into(), ..before.devices[0].clone() });
        present.devices[0].limits.burst_ms = 77;
        let mut after = before.clone();
        // In the file: one made, another number of µs.
        after.devices.push(DeviceSection { name: "d".into(), ..before.devices[0].clone() });
        after.target.turn_limit_us = 5;
        let merged = merge(&present, &before, &after);
        assert_eq!(names(&merged), ["a", "c", "d"]);
        assert_eq!((merged.devices[0].limits.burst_ms, merged.target.turn_limit_us), (77, 5));
        // The file takes one away, and says something of what a request has changed.
        let mut after = before.clone();
        after.devices[0].limits.burst_ms = 5;
        assert_eq!(merge(&present, &before, &after).devices[0].limits.burst_ms, 5);
        after.devices.remove(0);
        assert_eq!(names(&merge(&present, &before, &after)), ["c"]);
    }

    #[test]
    fn a_file_that_is_as_it_was_changes_nothing() {
        let before = config(NULLS);
        let present = config("[[device]]\nname = \"z\"\ntype = \"null\"\nsize = \"2MiB\"\n");
        assert_eq!(merge(&present, &before, &before), present);
        assert_eq!(merge(&before, &before, &present), present);
        assert_eq!(merge(&before, &before, &before), before);
    }
}
