//! Where else hosts are sent: the referrals of the discovery log.

use super::Target;
use super::change::{ChangeError, ChangeId, Task};
use super::check::{self, SpecError, nqn};
use super::subsystems::list;
use crate::limits::REFERRAL_COUNT_MAX;
use crate::referral::Referral;
use crate::spec::ReferralSpec;
use crate::wire::TransportKind;

/// All of them, in the order in which they came.
pub(super) struct Referrals {
    referrals: Vec<Referral>,
}

impl Referrals {
    /// Those of a target's specification.
    pub(super) fn new(specs: Vec<ReferralSpec>) -> Result<Self, SpecError> {
        let mut all = Self { referrals: Vec::new() };
        for spec in specs {
            if all.place(&spec).is_some() {
                return Err(refusal(&spec, "address", spec.address.to_string(), "each address once for each NQN"));
            }
            all.add(spec)?;
        }
        Ok(all)
    }

    /// As CPUs see them.
    pub(super) fn publish(&self) -> Vec<Referral> {
        self.referrals.clone()
    }

    fn place(&self, spec: &ReferralSpec) -> Option<usize> {
        self.referrals.iter().position(|referral| referral.spec().is_same_way(spec))
    }

    /// One that is not there yet.
    fn add(&mut self, spec: ReferralSpec) -> Result<(), SpecError> {
        let count = self.referrals.len() + 1;
        check::within("target", "referrals (their number)", count, 0, REFERRAL_COUNT_MAX)?;
        let nqn = nqn(&format!("referral to {}", spec.address), "subnqn", &spec.subsystem_nqn)?;
        if !matches!(spec.transport, TransportKind::Rdma | TransportKind::Tcp) {
            return Err(refusal(&spec, "trtype", format!("{:?}", spec.transport), "RDMA or TCP"));
        }
        if spec.address.ip().is_unspecified() || spec.address.port() == 0 {
            let allowed = "an IP address and a port that hosts can connect to";
            return Err(refusal(&spec, "address", spec.address.to_string(), allowed));
        }
        self.referrals.push(Referral::new(spec, nqn));
        Ok(())
    }
}

fn refusal(spec: &ReferralSpec, field: &'static str, value: String, allowed: &str) -> SpecError {
    let subject = format!("referral to {}", spec.address);
    SpecError::Field { subject, field, value, allowed: allowed.into() }
}

impl Target {
    /// Where else hosts are sent.
    pub fn referrals(&self) -> impl Iterator<Item = &ReferralSpec> {
        self.referrals.referrals.iter().map(Referral::spec)
    }

    /// Hosts are told of it. Done when the discovery log says so.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn add_referral(&mut self, spec: ReferralSpec) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        if self.referrals.place(&spec).is_some() {
            return Err(ChangeError::ReferralThere { nqn: spec.subsystem_nqn, address: spec.address });
        }
        self.referrals.add(spec)?;
        Ok(self.begin(Task::Publish))
    }

    /// Hosts are not told of it any more; what is needed there does not matter. Done when the discovery log says so.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn remove_referral(&mut self, spec: &ReferralSpec) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let Some(place) = self.referrals.place(spec) else {
            let names: Vec<String> = self.referrals().map(ToString::to_string).collect();
            let known = if names.is_empty() { "none".into() } else { list(&names) };
            return Err(ChangeError::NoReferral { nqn: spec.subsystem_nqn.clone(), address: spec.address, known });
        };
        self.referrals.referrals.remove(place);
        Ok(self.begin(Task::Publish))
    }
}
