//! `nvmf_…_placement`, which SPDK has not: which polling CPUs connections may go to.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use transport_rdma::target::{Origin, PlacementRule};

use super::View;
use crate::reactors::Reactors;
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

pub(super) fn get_placement(view: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    Ok(view.target.placement().iter().map(|rule| describe_rule(view.reactors, rule)).collect())
}

/// As it was written.
fn describe_rule(reactors: &Reactors, rule: &PlacementRule) -> Value {
    let number = |cpu: &u16| reactors.polling().nth(usize::from(*cpu)).and_then(|place| place.number);
    let mut facts = json!({
        "policy": rule.policy().name(),
        "cpus": rule.cpus.iter().filter_map(number).collect::<Vec<_>>(),
    });
    match rule.origin {
        Origin::Any => {}
        Origin::Listener(address) => facts["listener"] = json!(address),
        Origin::Host(address) => facts["host"] = json!(address),
    }
    facts
}

/// All rules at once, so that none is in force without the others.
pub(super) fn set_placement(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let rules = parameters.objects("rules", &["listener", "host", "cpus"])?;
    let rules = rules.iter().map(|rule| read_rule(view.reactors, rule)).collect::<Result<Vec<_>, _>>()?;
    let count = rules.len();
    view.target.set_placement(rules).map_err(|error| parameters.impossible(&error.to_string()))?;
    tracing::info!(count, "by RPC: rules for the placement of new connections");
    Ok(json!(true))
}

fn read_rule(reactors: &Reactors, rule: &Parameters<'_>) -> Result<PlacementRule, RpcError> {
    let listener = rule.string("listener")?;
    let host = rule.string("host")?;
    let origin = match (listener, host) {
        (None, None) => Origin::Any,
        (Some(text), None) => match text.parse::<SocketAddr>() {
            Ok(address) => Origin::Listener(address),
            Err(_) => return Err(rule.refuse("listener", &json!(text), "an address and a port: \"10.0.0.1:4420\"")),
        },
        (None, Some(text)) => match text.parse::<IpAddr>() {
            Ok(address) => Origin::Host(address),
            Err(_) => return Err(rule.refuse("host", &json!(text), "the host's IP address, such as \"10.0.0.7\"")),
        },
        (Some(_), Some(_)) => return Err(rule.out_of_place("host", "does not go with listener: write two rules")),
    };
    let polling = || reactors.polling().filter_map(|place| place.number);
    let allowed = || {
        let numbers = polling().map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
        format!("a list of some of the CPUs that poll: {numbers}")
    };
    let numbers = rule.numbers("cpus", &allowed())?;
    let mut cpus = Vec::new();
    for number in numbers {
        let place = (0..).zip(polling()).find(|(_, polling)| *polling as u64 == number);
        let (cpu, _) = place.ok_or_else(|| rule.refuse("cpus", &json!(number), &allowed()))?;
        cpus.push(cpu);
    }
    Ok(PlacementRule { origin, cpus })
}
