//! The two features that belong to a namespace's reservations rather than to a controller [NVMe Base 2.0, 5.27.1.26, 5.27.1.27]. The control plane keeps
//! them, and is asked.

use super::features::Facts;
use super::{Answer, Controller};
use crate::command::{GetFeatures, SetFeatures};
use crate::petition::Plea;
use crate::reservation::Claim;
use crate::status::Status;
use crate::subsystem::{Snapshot, Subject};
use crate::wire::FeatureId;
use crate::wire::reservation::PERSISTENCE;

/// NSID for all namespaces.
const ALL_NAMESPACES: u32 = 0xFFFF_FFFF;

impl Controller {
    /// Whether the control plane keeps this feature.
    pub(super) fn asks_for(&self, feature: FeatureId) -> bool {
        matches!(self.subject, Subject::Nvm(_))
            && matches!(feature, FeatureId::ReservationNotificationMask | FeatureId::ReservationPersistence)
    }

    /// Get Features of one of these.
    pub(super) fn read_reservation_feature(&self, get: &GetFeatures, snapshot: &Snapshot) -> Answer {
        match get.select {
            0 => {}
            // Nothing is saved, and the default is that nothing is masked and nothing persists.
            1 | 2 => return Answer::SUCCESS,
            _ => {
                let capabilities = Facts::of(get.feature, self.subject).map_or(0, Facts::capabilities);
                return Answer::Done { status: Status::SUCCESS, result: capabilities.into() };
            }
        }
        let is_mask = get.feature == FeatureId::ReservationNotificationMask;
        let plea = if is_mask { Plea::ReadMask } else { Plea::ReadPersistence };
        match self.has_reservations(get.nsid, snapshot) {
            Ok(()) => Answer::Petition { nsid: get.nsid, plea },
            Err(status) => status.into(),
        }
    }

    /// Set Features of one of these.
    pub(super) fn change_reservation_feature(&self, set: &SetFeatures, snapshot: &Snapshot) -> Answer {
        if set.save {
            return Status::FEATURE_NOT_SAVEABLE.into();
        }
        let plea = if set.feature == FeatureId::ReservationNotificationMask {
            Plea::SetMask(set.value)
        } else {
            Plea::Claim(Claim::Persist { is_persistent: set.value & PERSISTENCE != 0 })
        };
        let outcome = if set.nsid == ALL_NAMESPACES { Ok(()) } else { self.has_reservations(set.nsid, snapshot) };
        match outcome {
            Ok(()) => Answer::Petition { nsid: set.nsid, plea },
            Err(status) => status.into(),
        }
    }

    fn has_reservations(&self, nsid: u32, snapshot: &Snapshot) -> Result<(), Status> {
        let subsystem = match self.subject {
            Subject::Nvm(id) => snapshot.subsystem(id),
            Subject::Discovery => None,
        };
        let controller_id = self.stage.id().unwrap_or(0);
        let namespace = subsystem
            .and_then(|subsystem| subsystem.visible_namespace(nsid, controller_id))
            .ok_or(Status::INVALID_NAMESPACE)?;
        if namespace.reservation_capabilities == 0 { Err(Status::INVALID_FIELD) } else { Ok(()) }
    }
}
