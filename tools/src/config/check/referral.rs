//! `[[referral]]`: where else hosts are sent.

use nvmf_core::limits::REFERRAL_COUNT_MAX;
use nvmf_core::spec::ReferralSpec;
use nvmf_core::wire::{Nqn, TransportKind};

use super::value::{address, choice, quoted};
use crate::config::report::Report;
use crate::config::shape;

pub(super) fn check_referrals(sections: Vec<shape::Referral>, report: &mut Report<'_>) -> Vec<ReferralSpec> {
    let mut referrals: Vec<ReferralSpec> = Vec::new();
    if let Some(beyond) = sections.get(REFERRAL_COUNT_MAX) {
        report.say(Some(beyond.address.span()), format!("referral: at most {REFERRAL_COUNT_MAX} of these sections"));
    }
    for section in sections {
        let (span, text) = (section.address.span(), section.address.get_ref().clone());
        let Some(referral) = check_referral(section, report) else { continue };
        if referrals.iter().any(|other| other.is_same_way(&referral)) {
            report.refuse(span, "referral.address", quoted(&text), "each address once for each transport and NQN");
        }
        referrals.push(referral);
    }
    referrals
}

fn check_referral(section: shape::Referral, report: &mut Report<'_>) -> Option<ReferralSpec> {
    let kinds = [("rdma", TransportKind::Rdma), ("tcp", TransportKind::Tcp)];
    let transport = choice(section.transport, "referral.transport", TransportKind::Rdma, &kinds, report);
    let nqn = section.nqn.map(|nqn| {
        if let Err(error) = Nqn::new(nqn.get_ref()) {
            report.refuse(nqn.span(), "referral.nqn", quoted(nqn.get_ref()), &error.to_string());
        }
        nqn.into_inner()
    });
    let parsed = address(&section.address, "referral.address", "10.0.0.9:8009", report)?;
    if parsed.ip().is_unspecified() {
        let allowed = "an address that hosts can connect to, not a wildcard";
        report.refuse(section.address.span(), "referral.address", quoted(section.address.get_ref()), allowed);
    }
    let default = ReferralSpec::new(parsed);
    Some(ReferralSpec {
        transport,
        subsystem_nqn: nqn.unwrap_or_else(|| default.subsystem_nqn.clone()),
        needs_secure_channel: section.secure_channel,
        ..default
    })
}
