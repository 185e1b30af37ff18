//! `nvmf_discovery_…_referral`: what the discovery log says of others.

use nvmf_core::ChangeId;
use nvmf_core::spec::ReferralSpec;
use nvmf_core::target::Amendment;
use nvmf_core::wire::TransportKind;
use serde_json::{Value, json};
use transport_rdma::target::Change;

use super::View;
use super::nvmf::{check_target, describe_address};
use super::subsystem::{address_parts, begin, ip_address};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// The transports that hosts can be sent to: SPDK's words.
const TRANSPORTS: [(&str, TransportKind); 2] = [("RDMA", TransportKind::Rdma), ("TCP", TransportKind::Tcp)];

/// SPDK takes one that is there already in silence; here it is an error, since it may have been meant to change something.
pub(super) fn add(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let needs_secure_channel = parameters.boolean("secure_channel")?.unwrap_or(false);
    let referral = ReferralSpec { needs_secure_channel, ..way(parameters)? };
    begin(view, parameters, Change::Amend(Amendment::AddReferral(referral)))
}

pub(super) fn remove(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let referral = way(parameters)?;
    begin(view, parameters, Change::Amend(Amendment::RemoveReferral(referral)))
}

pub(super) fn get(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    check_target(parameters)?;
    let describe = |referral: &&ReferralSpec| {
        let word = TRANSPORTS.iter().find(|(_, kind)| *kind == referral.transport).map_or("", |(word, _)| *word);
        json!({
            "address": describe_address(&referral.address, word),
            "secure_channel": referral.needs_secure_channel,
            "subnqn": referral.subsystem_nqn,
        })
    };
    Ok(view.target.referrals().iter().map(describe).collect())
}

fn way(parameters: &Parameters<'_>) -> Result<ReferralSpec, RpcError> {
    let parts = address_parts(parameters, "address")?;
    let allowed = "\"RDMA\" or \"TCP\"";
    let word = parts.needed_string("trtype", allowed)?;
    let known = TRANSPORTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
    let (_, transport) = known.ok_or_else(|| parts.refuse("trtype", &json!(word), allowed))?;
    let mut referral = ReferralSpec { transport: *transport, ..ReferralSpec::new(ip_address(&parts)?) };
    if let Some(nqn) = parameters.string("subnqn")? {
        referral.subsystem_nqn = nqn.to_owned();
    }
    Ok(referral)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rpc::methods::tests::{call, change};

    /// What a target has that these methods are tested on.
    pub(crate) fn two() -> [ReferralSpec; 2] {
        let service = ReferralSpec::new("10.0.0.9:8009".parse().unwrap());
        let subsystem = ReferralSpec {
            transport: TransportKind::Tcp,
            subsystem_nqn: "nqn.2026-11.io.quiesce:far".into(),
            needs_secure_channel: true,
            ..ReferralSpec::new("[fd00::9]:4420".parse().unwrap())
        };
        [service, subsystem]
    }

    #[test]
    fn referrals_have_spdks_shape() {
        let listed = call("nvmf_discovery_get_referrals", json!({ "tgt_name": "nvmf_tgt" })).unwrap();
        assert_eq!(
            listed,
            json!([
                {
                    "address": { "trtype": "RDMA", "adrfam": "IPv4", "traddr": "10.0.0.9", "trsvcid": "8009" },
                    "secure_channel": false,
                    "subnqn": "nqn.2014-08.org.nvmexpress.discovery",
                },
                {
                    "address": { "trtype": "TCP", "adrfam": "IPv6", "traddr": "fd00::9", "trsvcid": "4420" },
                    "secure_channel": true,
                    "subnqn": "nqn.2026-11.io.quiesce:far",
                },
            ])
        );
        assert_eq!(call("nvmf_discovery_get_referrals", json!({ "tgt_name": "other" })).unwrap_err().code, -32603);
    }

    #[test]
    fn referrals_take_spdks_parameters() {
        let address = |kind: &str| json!({ "trtype": kind, "adrfam": "IPv4", "traddr": "10.0.0.9", "trsvcid": "8009" });
        for (method, parameters, asked) in [
            (
                "nvmf_discovery_add_referral",
                json!({ "address": address("rdma") }),
                "hosts are told of nqn.2014-08.org.nvmexpress.discovery at 10.0.0.9:8009 over Rdma",
            ),
            (
                "nvmf_discovery_add_referral",
                json!({ "address": address("TCP"), "secure_channel": true, "subnqn": "nqn.x:far" }),
                "hosts are told of nqn.x:far at 10.0.0.9:8009 over Tcp",
            ),
            (
                "nvmf_discovery_remove_referral",
                json!({ "address": address("TCP"), "subnqn": "nqn.x:far", "tgt_name": "nvmf_tgt" }),
                "hosts are told no more of nqn.x:far at 10.0.0.9:8009 over Tcp",
            ),
        ] {
            assert_eq!(change(method, parameters, None).unwrap(), asked);
        }
        for (parameters, text) in [
            (json!({}), "address is missing, and should be an object with trtype, adrfam, traddr, trsvcid"),
            (json!({ "address": address("FC") }), "address: trtype is \"FC\", and should be \"RDMA\" or \"TCP\""),
            (
                json!({ "address": { "trtype": "RDMA", "traddr": "0.0.0.0", "trsvcid": "8009" } }),
                "address: traddr is \"0.0.0.0\", and should be an IP address that hosts can connect to, such as \"127.0.0.1\"",
            ),
        ] {
            let error = change("nvmf_discovery_add_referral", parameters, None).unwrap_err();
            assert_eq!(error.message, format!("Invalid parameters: nvmf_discovery_add_referral: {text}"));
        }
        let there = nvmf_core::ChangeError::ReferralThere {
            nqn: "nqn.x:far".into(),
            address: "10.0.0.9:8009".parse().unwrap(),
        };
        let parameters = json!({ "address": address("RDMA") });
        let error = change("nvmf_discovery_add_referral", parameters, Some(there.into())).unwrap_err();
        assert!(error.code == -32602 && error.message.contains("remove that referral first"), "{error:?}");
    }
}
