//! What is fixed of each feature: what it acts on, whether it can be changed, how much data goes which way.

use crate::subsystem::Subject;
use crate::wire::{FeatureId, HostBehavior, Timestamp};

/// What a feature is set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::controller) enum Scope {
    Controller,
    Namespace,
}

/// One feature.
#[derive(Clone, Copy, Debug)]
pub(in crate::controller) struct Facts {
    pub(in crate::controller) scope: Scope,
    pub(in crate::controller) is_changeable: bool,
    /// Bytes that Get Features brings to the host.
    pub(in crate::controller) read_len: u32,
    /// Bytes that Set Features takes from the host.
    pub(in crate::controller) write_len: u32,
}

/// Bytes of the extended host identifier.
pub(super) const HOST_ID_LEN: u32 = 16;

impl Facts {
    const FIXED: Self = Self { scope: Scope::Controller, is_changeable: false, read_len: 0, write_len: 0 };
    const PLAIN: Self = Self { is_changeable: true, ..Self::FIXED };

    const fn with_data(len: u32) -> Self {
        Self { read_len: len, write_len: len, ..Self::PLAIN }
    }

    /// Of this feature in a controller of this kind; `None`: it has no such feature.
    pub(in crate::controller) fn of(feature: FeatureId, subject: Subject) -> Option<Self> {
        let facts = Self::io(feature)?;
        let is_for_discovery = matches!(
            feature,
            FeatureId::AsyncEventConfiguration | FeatureId::KeepAliveTimer | FeatureId::HostIdentifier
        );
        (subject != Subject::Discovery || is_for_discovery).then_some(facts)
    }

    fn io(feature: FeatureId) -> Option<Self> {
        match feature {
            FeatureId::Arbitration
            | FeatureId::PowerManagement
            | FeatureId::TemperatureThreshold
            | FeatureId::NumberOfQueues
            | FeatureId::WriteAtomicity
            | FeatureId::AsyncEventConfiguration
            | FeatureId::KeepAliveTimer
            | FeatureId::CommandSetProfile => Some(Self::PLAIN),
            FeatureId::ErrorRecovery | FeatureId::ReservationNotificationMask | FeatureId::ReservationPersistence => {
                Some(Self { scope: Scope::Namespace, ..Self::PLAIN })
            }
            // It is the devices', which have no switch.
            FeatureId::VolatileWriteCache => Some(Self::FIXED),
            FeatureId::Timestamp => Some(Self::with_data(Timestamp::LEN)),
            FeatureId::HostBehaviorSupport => Some(Self::with_data(HostBehavior::LEN)),
            // Over fabrics it came with Connect.
            FeatureId::HostIdentifier => Some(Self { read_len: HOST_ID_LEN, ..Self::FIXED }),
            // No namespace has a switch for writes.
            FeatureId::NamespaceWriteProtection => None,
        }
    }

    /// SEL 011b: bit 2 changeable, bit 1 namespace specific, bit 0 saveable, which none is [NVMe Base 2.0, 5.15].
    pub(in crate::controller) fn capabilities(self) -> u32 {
        u32::from(self.is_changeable) << 2 | u32::from(self.scope == Scope::Namespace) << 1
    }
}
