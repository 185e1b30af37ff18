//! `[[placement]]`: which CPUs connections may go to.

use std::net::IpAddr;

use transport_rdma::target::{Origin, RULE_COUNT_MAX};

use super::value::{address, list_of, quoted};
use crate::config::report::Report;
use crate::config::{PlacementSection, ReactorSection, shape};

pub(super) fn check_placement(
    sections: Vec<shape::Placement>,
    reactors: &ReactorSection,
    report: &mut Report<'_>,
) -> Vec<PlacementSection> {
    let polling = reactors.numbers();
    if let Some(beyond) = sections.get(RULE_COUNT_MAX) {
        let text = format!("placement: at most {RULE_COUNT_MAX} of these sections");
        report.say(Some(beyond.cpus.span()), text);
    }
    sections.into_iter().filter_map(|section| check_rule(section, &polling, report)).collect()
}

fn check_rule(section: shape::Placement, polling: &[usize], report: &mut Report<'_>) -> Option<PlacementSection> {
    let origin = match (section.listener, section.host) {
        (None, None) => Some(Origin::Any),
        (Some(listener), None) => {
            address(&listener, "placement.listener", "10.0.0.1:4420", report).map(Origin::Listener)
        }
        (None, Some(host)) => {
            let ip = host.get_ref().parse::<IpAddr>().ok();
            if ip.is_none() {
                let allowed = "the host's IP address, such as \"10.0.0.7\": its NQN is not known yet when it connects";
                report.refuse(host.span(), "placement.host", quoted(host.get_ref()), allowed);
            }
            ip.map(Origin::Host)
        }
        (Some(_), Some(host)) => {
            let allowed = "not together with listener: a rule is for one of the two, and the first that fits decides";
            report.refuse(host.span(), "placement.host", quoted(host.get_ref()), allowed);
            None
        }
    };
    if section.cpus.get_ref().is_empty() {
        report.refuse(section.cpus.span(), "placement.cpus", "[]", "at least one CPU: connections go nowhere else");
    }
    let mut cpus = Vec::new();
    for number in section.cpus.into_inner() {
        match usize::try_from(*number.get_ref()).ok().filter(|cpu| polling.contains(cpu)) {
            Some(cpu) => cpus.push(cpu),
            None => {
                let allowed = format!("CPUs that poll (target.cpus or target.reactors): {}", list_of(polling));
                report.refuse(number.span(), "placement.cpus", number.get_ref(), &allowed);
            }
        }
    }
    Some(PlacementSection { origin: origin?, cpus })
}
