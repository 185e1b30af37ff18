//! A referral: an entry of the discovery log that leads elsewhere.
//!
//! Made by the control plane of a checked [`ReferralSpec`], and read by every CPU as part of the snapshot.

use crate::limits::ADMIN_QUEUE_DEPTH_MIN;
use crate::spec::ReferralSpec;
use crate::wire::{DiscoveryEntry, Nqn, SubsystemType, TransportKind, discovery_treq, tcp_security};

/// PORTID belongs to the subsystem that is referred to, and is not known here; SPDK says 0 too.
const PORT_ID_UNKNOWN: u16 = 0;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Referral {
    spec: ReferralSpec,
    nqn: Nqn,
}

impl Referral {
    /// `nqn` is the specification's, checked.
    pub(crate) fn new(spec: ReferralSpec, nqn: Nqn) -> Self {
        Self { spec, nqn }
    }

    /// As it was asked for.
    pub(crate) fn spec(&self) -> &ReferralSpec {
        &self.spec
    }

    /// As hosts read it.
    pub(crate) fn entry(&self) -> DiscoveryEntry {
        let kind = if self.nqn.is_discovery() { SubsystemType::Referral } else { SubsystemType::Nvm };
        // ASQSZ of somebody else: what every controller takes.
        let depth = ADMIN_QUEUE_DEPTH_MIN;
        let mut entry =
            DiscoveryEntry::at(self.spec.transport, kind, &self.nqn, self.spec.address, PORT_ID_UNKNOWN, depth);
        if self.spec.needs_secure_channel {
            entry.requirements = discovery_treq::REQUIRED;
            if self.spec.transport == TransportKind::Tcp {
                entry.set_tcp_security(tcp_security::TLS_1_3);
            }
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    fn bytes(change: impl FnOnce(&mut ReferralSpec)) -> Vec<u8> {
        let mut spec = ReferralSpec::new("10.0.0.9:8009".parse().unwrap());
        change(&mut spec);
        let nqn = Nqn::new(&spec.subsystem_nqn).unwrap();
        Referral::new(spec, nqn).entry().as_bytes().to_vec()
    }

    #[test]
    fn a_discovery_service_and_a_subsystem_elsewhere() {
        let entry = bytes(|_| {});
        assert_eq!(entry[..12], [1, 1, 1, 2, 0, 0, 0xFF, 0xFF, 32, 0, 0, 0], "RDMA, IPv4, referral, no channel");
        assert_eq!(&entry[32..37], b"8009 ");
        assert_eq!(&entry[256..294], b"nqn.2014-08.org.nvmexpress.discovery\0\0");
        assert_eq!(&entry[512..521], b"10.0.0.9 ");
        assert_eq!(entry[768..771], [1, 1, 1]);
        let entry = bytes(|spec| spec.subsystem_nqn = "nqn.2016-06.io.quiesce:far".into());
        assert_eq!(entry[2], 2);
    }

    #[test]
    fn transport_and_secure_channel() {
        let tcp = bytes(|spec| spec.transport = TransportKind::Tcp);
        assert_eq!((tcp[0], tcp[3], &tcp[768..778]), (3, 2, &[0; 10][..]), "no RDMA in TCP's part");
        let secure = bytes(|spec| (spec.transport, spec.needs_secure_channel) = (TransportKind::Tcp, true));
        assert_eq!((secure[3], secure[768]), (1, 2), "required, TLS 1.3");
        let secure = bytes(|spec| spec.needs_secure_channel = true);
        assert_eq!((secure[3], &secure[768..771]), (1, &[1, 1, 1][..]), "RDMA has no word for which");
    }
}
