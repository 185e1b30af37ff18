//! Set Features and Get Features [NVMe 1.4, 5.14, 5.21].
//!
//! A controller keeps its features for its life; none is saved. What is mandatory and has nothing behind it here (temperature, arbitration) is
//! kept and given back, as every NVMe controller without that hardware does.

use super::{Answer, Controller, events};
use crate::command::{GetFeatures, SetFeatures};
use crate::status::Status;
use crate::subsystem::{Snapshot, Subject};
use crate::wire::{AsyncEventConfiguration, FeatureId, QueueCounts};

/// Bytes of the extended host identifier.
const HOST_ID_LEN: u32 = 16;
/// EXHID in CDW11 of Host Identifier.
const EXTENDED_HOST_ID: u32 = 1;
/// THSEL and TMPSEL in CDW11 of Temperature Threshold [NVMe 1.4, 5.21.1.4].
const TEMPERATURE_SENSOR_MASK: u32 = 0xF << 16;
const TEMPERATURE_UNDER: u32 = 1 << 20;
/// TMPSEL 1111b: all sensors. There is none but the composite one.
const TEMPERATURE_ALL_SENSORS: u32 = 0xF << 16;
/// TLER: the only part of Error Recovery that is kept. DULBE needs a namespace that says so.
const ERROR_RECOVERY_MASK: u32 = 0xFFFF;
const POWER_STATE_MASK: u32 = 0x1F;

/// Current values.
#[derive(Debug)]
pub(super) struct Features {
    io_queue_count: u16,
    arbitration: u32,
    temperature_over: u32,
    temperature_under: u32,
    error_recovery: u32,
    write_atomicity: u32,
}

impl Features {
    const TEMPERATURE_OVER_DEFAULT: u32 = 0xFFFF;

    pub(super) fn new(io_queue_count: u16) -> Self {
        Self {
            io_queue_count,
            arbitration: 0,
            temperature_over: Self::TEMPERATURE_OVER_DEFAULT,
            temperature_under: 0,
            error_recovery: 0,
            write_atomicity: 0,
        }
    }

    /// I/O queues that the host was granted: all, until it asks for fewer.
    pub(super) fn io_queue_count(&self) -> u16 {
        self.io_queue_count
    }
}

/// Bytes that Get Features brings to the host.
pub(super) fn data_len(feature: FeatureId) -> u32 {
    match feature {
        FeatureId::HostIdentifier => HOST_ID_LEN,
        FeatureId::Arbitration
        | FeatureId::PowerManagement
        | FeatureId::TemperatureThreshold
        | FeatureId::ErrorRecovery
        | FeatureId::VolatileWriteCache
        | FeatureId::NumberOfQueues
        | FeatureId::WriteAtomicity
        | FeatureId::AsyncEventConfiguration
        | FeatureId::KeepAliveTimer
        | FeatureId::HostBehaviorSupport
        | FeatureId::ReservationNotificationMask
        | FeatureId::ReservationPersistence
        | FeatureId::NamespaceWriteProtection => 0,
    }
}

/// Whether a discovery controller has it.
fn is_for_discovery(feature: FeatureId) -> bool {
    matches!(feature, FeatureId::AsyncEventConfiguration | FeatureId::KeepAliveTimer | FeatureId::HostIdentifier)
}

impl Controller {
    /// Get Features.
    pub(super) fn read_feature(&self, get: &GetFeatures, snapshot: &Snapshot, data: &mut Vec<u8>) -> Answer {
        if self.subject == Subject::Discovery && !is_for_discovery(get.feature) {
            return Status::INVALID_FIELD.into();
        }
        let Some(current) = self.current(get, snapshot) else { return Status::INVALID_FIELD.into() };
        let value = match get.select {
            0 => current,
            // Nothing is saved, so saved values are the defaults [NVMe 1.4, 5.14.1].
            1 | 2 => self.default_value(get.feature, current),
            _ => capabilities(get.feature),
        };
        if get.feature == FeatureId::HostIdentifier && get.select == 0 {
            let Ok(pointer) = get.data else { return Status::SGL_TYPE_INVALID.into() };
            if get.cdw11 & EXTENDED_HOST_ID == 0 {
                return Status::HOST_ID_FORMAT_INCONSISTENT.into();
            }
            if pointer.len() < HOST_ID_LEN {
                return Status::SGL_LENGTH_INVALID.into();
            }
            data.extend_from_slice(&self.host.id);
        }
        Answer::Done { status: Status::SUCCESS, result: u64::from(value) }
    }

    /// Set Features.
    pub(super) fn change_feature(&mut self, set: &SetFeatures, snapshot: &Snapshot, now_ns: u64) -> Answer {
        if self.subject == Subject::Discovery && !is_for_discovery(set.feature) {
            return Status::INVALID_FIELD.into();
        }
        if set.save {
            return Status::FEATURE_NOT_SAVEABLE.into();
        }
        let features = &mut self.features;
        match set.feature {
            FeatureId::Arbitration => features.arbitration = set.value,
            // NPSS is 0: there is one power state.
            FeatureId::PowerManagement if set.value & POWER_STATE_MASK != 0 => return Status::INVALID_FIELD.into(),
            FeatureId::PowerManagement => {}
            FeatureId::TemperatureThreshold => {
                let sensor = set.value & TEMPERATURE_SENSOR_MASK;
                if sensor != 0 && sensor != TEMPERATURE_ALL_SENSORS {
                    return Status::INVALID_FIELD.into();
                }
                let threshold = set.value & 0xFFFF;
                if set.value & TEMPERATURE_UNDER == 0 {
                    features.temperature_over = threshold;
                } else {
                    features.temperature_under = threshold;
                }
            }
            FeatureId::ErrorRecovery if set.value & !ERROR_RECOVERY_MASK != 0 => return Status::INVALID_FIELD.into(),
            FeatureId::ErrorRecovery => features.error_recovery = set.value,
            FeatureId::VolatileWriteCache => {
                if !has_volatile_cache(self.subject, snapshot) {
                    return Status::INVALID_FIELD.into();
                }
                // It is the devices', which have no switch.
                if set.value & 1 == 0 {
                    return Status::FEATURE_NOT_CHANGEABLE.into();
                }
            }
            FeatureId::NumberOfQueues => return self.grant_queues(set.value, snapshot),
            FeatureId::WriteAtomicity => features.write_atomicity = set.value & 1,
            FeatureId::AsyncEventConfiguration => {
                // SMART's, and what OAES says.
                let known = AsyncEventConfiguration::SMART_MASK | events::optional(self.subject);
                if set.value & !known != 0 {
                    return Status::INVALID_FIELD.into();
                }
                self.events.configure(AsyncEventConfiguration(set.value));
            }
            FeatureId::KeepAliveTimer => self.keep_alive.set_timeout(set.value, now_ns),
            // Over fabrics it came with Connect [NVMe over Fabrics 1.1, 7.1.1].
            FeatureId::HostIdentifier => return Status::COMMAND_SEQUENCE_ERROR.into(),
            FeatureId::HostBehaviorSupport
            | FeatureId::ReservationNotificationMask
            | FeatureId::ReservationPersistence
            | FeatureId::NamespaceWriteProtection => return Status::INVALID_FIELD.into(),
        }
        Answer::SUCCESS
    }

    fn grant_queues(&mut self, value: u32, snapshot: &Snapshot) -> Answer {
        let asked = QueueCounts::from_dword(value);
        // FFFFh is no number of queues, and the grant is final once there is an I/O queue [NVMe 1.4, 5.21.1.7].
        if asked.submission > 0xFFFF || asked.completion > 0xFFFF {
            return Status::INVALID_FIELD.into();
        }
        if self.members.count() > 0 {
            return Status::COMMAND_SEQUENCE_ERROR.into();
        }
        let most = snapshot.controller.io_queue_count_max;
        let granted = u16::try_from(asked.pairs()).unwrap_or(u16::MAX).min(most);
        self.features.io_queue_count = granted;
        let count = u32::from(granted);
        let result = QueueCounts { submission: count, completion: count }.to_dword();
        Answer::Done { status: Status::SUCCESS, result: u64::from(result) }
    }

    /// `None`: not a feature of this controller.
    fn current(&self, get: &GetFeatures, snapshot: &Snapshot) -> Option<u32> {
        let features = &self.features;
        let count = u32::from(features.io_queue_count);
        match get.feature {
            FeatureId::Arbitration => Some(features.arbitration),
            FeatureId::PowerManagement | FeatureId::HostIdentifier => Some(0),
            FeatureId::TemperatureThreshold => {
                let sensor = get.cdw11 & TEMPERATURE_SENSOR_MASK;
                let is_over = get.cdw11 & TEMPERATURE_UNDER == 0;
                let value = if is_over { features.temperature_over } else { features.temperature_under };
                (sensor == 0).then_some(value)
            }
            FeatureId::ErrorRecovery => Some(features.error_recovery),
            FeatureId::VolatileWriteCache => has_volatile_cache(self.subject, snapshot).then_some(1),
            FeatureId::NumberOfQueues => Some(QueueCounts { submission: count, completion: count }.to_dword()),
            FeatureId::WriteAtomicity => Some(features.write_atomicity),
            FeatureId::AsyncEventConfiguration => Some(self.events.configuration().0),
            FeatureId::KeepAliveTimer => Some(self.keep_alive.timeout_ms),
            FeatureId::HostBehaviorSupport
            | FeatureId::ReservationNotificationMask
            | FeatureId::ReservationPersistence
            | FeatureId::NamespaceWriteProtection => None,
        }
    }

    fn default_value(&self, feature: FeatureId, current: u32) -> u32 {
        match feature {
            FeatureId::TemperatureThreshold => Features::TEMPERATURE_OVER_DEFAULT,
            FeatureId::VolatileWriteCache | FeatureId::NumberOfQueues => current,
            FeatureId::AsyncEventConfiguration => events::optional(self.subject),
            FeatureId::Arbitration
            | FeatureId::PowerManagement
            | FeatureId::ErrorRecovery
            | FeatureId::WriteAtomicity
            | FeatureId::KeepAliveTimer
            | FeatureId::HostBehaviorSupport
            | FeatureId::HostIdentifier
            | FeatureId::ReservationNotificationMask
            | FeatureId::ReservationPersistence
            | FeatureId::NamespaceWriteProtection => 0,
        }
    }
}

/// SEL 011b: bit 2 changeable, bit 1 namespace specific, bit 0 saveable.
fn capabilities(feature: FeatureId) -> u32 {
    if matches!(feature, FeatureId::HostIdentifier | FeatureId::VolatileWriteCache) { 0 } else { 1 << 2 }
}

/// Whether any namespace's completed writes can be lost.
pub(super) fn has_volatile_cache(subject: Subject, snapshot: &Snapshot) -> bool {
    match subject {
        Subject::Discovery => false,
        Subject::Nvm(id) => snapshot.subsystem(id).is_some_and(|subsystem| {
            subsystem.active_namespaces().any(|namespace| namespace.geometry.volatile_write_cache)
        }),
    }
}
