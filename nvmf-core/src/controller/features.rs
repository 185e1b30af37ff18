//! Set Features and Get Features [NVMe Base 2.0, 5.15, 5.27].
//!
//! None is saved: a reset brings the defaults back [NVMe Base 2.0, 5.27.1], but for the keep-alive timeout and the host's identifier, which came with
//! Connect. What is mandatory and has nothing behind it here (temperature, arbitration) is kept and given back, as every NVMe controller without that
//! hardware does.

mod facts;

use std::collections::BTreeMap;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{Answer, Controller, Surroundings, events};
use crate::command::{DataPointer, GetFeatures, SetFeatures};
use crate::status::Status;
use crate::subsystem::{Snapshot, Subject};
use crate::wire::{AsyncEventConfiguration, FeatureId, HostBehavior, QueueCounts, Timestamp};
pub(super) use facts::{Facts, Scope};

/// EXHID in CDW11 of Host Identifier.
const EXTENDED_HOST_ID: u32 = 1;
/// THSEL and TMPSEL in CDW11 of Temperature Threshold [NVMe Base 2.0, 5.27.1.3].
const TEMPERATURE_SENSOR_MASK: u32 = 0xF << 16;
const TEMPERATURE_UNDER: u32 = 1 << 20;
/// TMPSEL 1111b: all sensors. There is none but the composite one.
const TEMPERATURE_ALL_SENSORS: u32 = 0xF << 16;
/// TLER: the only part of Error Recovery that is kept. DULBE needs a namespace that says so.
const ERROR_RECOVERY_MASK: u32 = 0xFFFF;
const POWER_STATE_MASK: u32 = 0x1F;
/// IOCSCI: which combination of command sets.
const COMBINATION_MASK: u32 = 0x1FF;
/// NSID for all namespaces.
const ALL_NAMESPACES: u32 = 0xFFFF_FFFF;
const NS_PER_MS: u64 = 1_000_000;

/// What the host has set as the time, and when.
#[derive(Clone, Copy, Debug)]
struct Clock {
    ms: u64,
    set_ns: u64,
}

/// Current values.
#[derive(Debug)]
pub(super) struct Features {
    io_queue_count: u16,
    arbitration: u32,
    temperature_over: u32,
    temperature_under: u32,
    /// Of the namespaces for which it is not 0.
    error_recovery: BTreeMap<u32, u32>,
    write_atomicity: u32,
    host_behavior: HostBehavior,
    clock: Option<Clock>,
}

impl Features {
    const TEMPERATURE_OVER_DEFAULT: u32 = 0xFFFF;

    pub(super) fn new(io_queue_count: u16) -> Self {
        Self {
            io_queue_count,
            arbitration: 0,
            temperature_over: Self::TEMPERATURE_OVER_DEFAULT,
            temperature_under: 0,
            error_recovery: BTreeMap::new(),
            write_atomicity: 0,
            host_behavior: HostBehavior::new_zeroed(),
            clock: None,
        }
    }

    /// I/O queues that the host was granted: all, until it asks for fewer.
    pub(super) fn io_queue_count(&self) -> u16 {
        self.io_queue_count
    }
}

impl Controller {
    /// Bytes that Get Features brings to the host.
    pub(super) fn feature_read_len(&self, get: &GetFeatures) -> u32 {
        let has_data = get.select != 3;
        Facts::of(get.feature, self.subject).filter(|_| has_data).map_or(0, |facts| facts.read_len)
    }

    /// Bytes that Set Features takes from the host.
    pub(super) fn feature_write_len(&self, set: &SetFeatures) -> u32 {
        // What is refused needs no data.
        Facts::of(set.feature, self.subject).filter(|_| !set.save).map_or(0, |facts| facts.write_len)
    }

    /// Get Features.
    pub(super) fn read_feature(&self, get: &GetFeatures, around: &Surroundings<'_>, data: &mut Vec<u8>) -> Answer {
        let Some(facts) = Facts::of(get.feature, self.subject) else { return Status::INVALID_FIELD.into() };
        if let Err(status) = self.check_namespace(facts, get.nsid, false, around.snapshot) {
            return status.into();
        }
        let Some(current) = self.current(get, around.snapshot) else { return Status::INVALID_FIELD.into() };
        let (value, is_default) = match get.select {
            0 => (current, false),
            // Nothing is saved, so saved values are the defaults [NVMe Base 2.0, 5.15].
            1 | 2 => (self.default_value(get, current, around.snapshot), true),
            _ => return Answer::Done { status: Status::SUCCESS, result: u64::from(facts.capabilities()) },
        };
        if facts.read_len > 0 {
            let pointer = match get.data {
                Ok(pointer) => pointer,
                Err(error) => return error.status().into(),
            };
            if get.feature == FeatureId::HostIdentifier && get.cdw11 & EXTENDED_HOST_ID == 0 {
                return Status::HOST_ID_FORMAT_INCONSISTENT.into();
            }
            if pointer.len() < facts.read_len {
                return Status::SGL_LENGTH_INVALID.into();
            }
            self.read_data(get.feature, is_default, around.now_ns, data);
        }
        Answer::Done { status: Status::SUCCESS, result: u64::from(value) }
    }

    fn read_data(&self, feature: FeatureId, is_default: bool, now_ns: u64, data: &mut Vec<u8>) {
        match feature {
            FeatureId::HostIdentifier => data.extend_from_slice(&self.host.id),
            FeatureId::HostBehaviorSupport if is_default => {
                data.extend_from_slice(HostBehavior::new_zeroed().as_bytes());
            }
            FeatureId::HostBehaviorSupport => data.extend_from_slice(self.features.host_behavior.as_bytes()),
            FeatureId::Timestamp => {
                let stamp = match self.features.clock {
                    Some(clock) if !is_default => {
                        let passed_ms = now_ns.saturating_sub(clock.set_ns) / NS_PER_MS;
                        Timestamp::new(clock.ms.wrapping_add(passed_ms), Timestamp::SET_BY_HOST)
                    }
                    // ORIGIN 0: a reset has cleared it.
                    Some(_) | None => Timestamp::new(0, 0),
                };
                data.extend_from_slice(stamp.as_bytes());
            }
            FeatureId::Arbitration
            | FeatureId::PowerManagement
            | FeatureId::TemperatureThreshold
            | FeatureId::ErrorRecovery
            | FeatureId::VolatileWriteCache
            | FeatureId::NumberOfQueues
            | FeatureId::WriteAtomicity
            | FeatureId::AsyncEventConfiguration
            | FeatureId::KeepAliveTimer
            | FeatureId::CommandSetProfile
            | FeatureId::ReservationNotificationMask
            | FeatureId::ReservationPersistence
            | FeatureId::NamespaceWriteProtection => {}
        }
    }

    /// Set Features. `input` is what came from the host: as much as [`Self::feature_write_len`] says.
    pub(super) fn change_feature(&mut self, set: &SetFeatures, input: &[u8], around: &Surroundings<'_>) -> Answer {
        let Some(facts) = Facts::of(set.feature, self.subject) else { return Status::INVALID_FIELD.into() };
        if set.save {
            return Status::FEATURE_NOT_SAVEABLE.into();
        }
        if let Err(status) = self.check_namespace(facts, set.nsid, true, around.snapshot) {
            return status.into();
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
            FeatureId::ErrorRecovery => return self.set_error_recovery(set, around.snapshot),
            FeatureId::VolatileWriteCache => {
                if !has_volatile_cache(self.subject, around.snapshot) {
                    return Status::INVALID_FIELD.into();
                }
                if set.value & 1 == 0 {
                    return Status::FEATURE_NOT_CHANGEABLE.into();
                }
            }
            FeatureId::NumberOfQueues => return self.grant_queues(set.value, around.snapshot),
            FeatureId::WriteAtomicity => features.write_atomicity = set.value & 1,
            FeatureId::AsyncEventConfiguration => {
                // SMART's, and what OAES says.
                let known = AsyncEventConfiguration::SMART_MASK | events::optional(self.subject, self.reports_ana);
                if set.value & !known != 0 {
                    return Status::INVALID_FIELD.into();
                }
                self.events.configure(AsyncEventConfiguration(set.value));
            }
            FeatureId::Timestamp => match Timestamp::read_from_bytes(input) {
                Ok(stamp) => features.clock = Some(Clock { ms: stamp.ms(), set_ns: around.now_ns }),
                Err(_) => return Status::SGL_LENGTH_INVALID.into(),
            },
            FeatureId::KeepAliveTimer => self.keep_alive.set_timeout(set.value, around.now_ns),
            FeatureId::HostBehaviorSupport => match HostBehavior::read_from_bytes(input) {
                Ok(behavior)
                    if [behavior.command_retry_delay, behavior.extended_telemetry, behavior.lba_format_extension]
                        .iter()
                        .all(|flag| *flag <= 1) =>
                {
                    features.host_behavior = behavior;
                }
                Ok(_) => return Status::INVALID_FIELD.into(),
                Err(_) => return Status::SGL_LENGTH_INVALID.into(),
            },
            // There is one combination [NVMe Base 2.0, 5.27.1.21].
            FeatureId::CommandSetProfile if set.value & COMBINATION_MASK != 0 => {
                return Status::COMMAND_SET_COMBINATION_REJECTED.into();
            }
            FeatureId::CommandSetProfile => {}
            // Over fabrics it came with Connect [NVMe Base 2.0, 5.27.1.25].
            FeatureId::HostIdentifier => return Status::COMMAND_SEQUENCE_ERROR.into(),
            FeatureId::ReservationNotificationMask
            | FeatureId::ReservationPersistence
            | FeatureId::NamespaceWriteProtection => return Status::INVALID_FIELD.into(),
        }
        Answer::SUCCESS
    }

    /// A feature is set on the controller, on one of its namespaces, or on all of them [NVMe Base 2.0, 5.27.1].
    fn check_namespace(&self, facts: Facts, nsid: u32, is_set: bool, snapshot: &Snapshot) -> Result<(), Status> {
        let is_active = || match self.subject {
            Subject::Nvm(id) => {
                snapshot.subsystem(id).is_some_and(|subsystem| subsystem.visible_namespace(nsid, self.id()).is_some())
            }
            Subject::Discovery => false,
        };
        match facts.scope {
            Scope::Controller if is_set && nsid != 0 && nsid != ALL_NAMESPACES => {
                Err(if is_active() { Status::FEATURE_NOT_NAMESPACE_SPECIFIC } else { Status::INVALID_NAMESPACE })
            }
            Scope::Controller => Ok(()),
            Scope::Namespace if is_set && nsid == ALL_NAMESPACES => Ok(()),
            Scope::Namespace if is_active() => Ok(()),
            Scope::Namespace => Err(Status::INVALID_NAMESPACE),
        }
    }

    fn set_error_recovery(&mut self, set: &SetFeatures, snapshot: &Snapshot) -> Answer {
        if set.value & !ERROR_RECOVERY_MASK != 0 {
            return Status::INVALID_FIELD.into();
        }
        let Subject::Nvm(id) = self.subject else { return Status::INVALID_FIELD.into() };
        let all = snapshot.subsystem(id).into_iter().flat_map(|subsystem| subsystem.visible_namespaces(self.id()));
        let nsids = all.map(|namespace| namespace.nsid).filter(|nsid| set.nsid == ALL_NAMESPACES || *nsid == set.nsid);
        for nsid in nsids.collect::<Vec<_>>() {
            self.features.error_recovery.insert(nsid, set.value);
        }
        Answer::SUCCESS
    }

    fn grant_queues(&mut self, value: u32, snapshot: &Snapshot) -> Answer {
        let asked = QueueCounts::from_dword(value);
        // FFFFh is no number of queues, and the grant is final once there is an I/O queue [NVMe Base 2.0, 5.27.1.5].
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

    /// `None`: not a feature of this controller, or not of what CDW11 names.
    fn current(&self, get: &GetFeatures, snapshot: &Snapshot) -> Option<u32> {
        let features = &self.features;
        let count = u32::from(features.io_queue_count);
        match get.feature {
            FeatureId::Arbitration => Some(features.arbitration),
            FeatureId::PowerManagement
            | FeatureId::HostIdentifier
            | FeatureId::HostBehaviorSupport
            | FeatureId::Timestamp
            | FeatureId::CommandSetProfile => Some(0),
            FeatureId::TemperatureThreshold => {
                let sensor = get.cdw11 & TEMPERATURE_SENSOR_MASK;
                let is_over = get.cdw11 & TEMPERATURE_UNDER == 0;
                let value = if is_over { features.temperature_over } else { features.temperature_under };
                (sensor == 0).then_some(value)
            }
            FeatureId::ErrorRecovery => Some(features.error_recovery.get(&get.nsid).copied().unwrap_or(0)),
            FeatureId::VolatileWriteCache => has_volatile_cache(self.subject, snapshot).then_some(1),
            FeatureId::NumberOfQueues => Some(QueueCounts { submission: count, completion: count }.to_dword()),
            FeatureId::WriteAtomicity => Some(features.write_atomicity),
            FeatureId::AsyncEventConfiguration => Some(self.events.configuration().0),
            FeatureId::KeepAliveTimer => Some(self.keep_alive.timeout_ms),
            FeatureId::ReservationNotificationMask
            | FeatureId::ReservationPersistence
            | FeatureId::NamespaceWriteProtection => None,
        }
    }

    fn default_value(&self, get: &GetFeatures, current: u32, snapshot: &Snapshot) -> u32 {
        match get.feature {
            FeatureId::TemperatureThreshold if get.cdw11 & TEMPERATURE_UNDER == 0 => Features::TEMPERATURE_OVER_DEFAULT,
            FeatureId::VolatileWriteCache => current,
            FeatureId::NumberOfQueues => {
                let count = u32::from(snapshot.controller.io_queue_count_max);
                QueueCounts { submission: count, completion: count }.to_dword()
            }
            FeatureId::AsyncEventConfiguration => events::optional(self.subject, self.reports_ana),
            FeatureId::Arbitration
            | FeatureId::PowerManagement
            | FeatureId::TemperatureThreshold
            | FeatureId::ErrorRecovery
            | FeatureId::WriteAtomicity
            | FeatureId::Timestamp
            | FeatureId::KeepAliveTimer
            | FeatureId::HostBehaviorSupport
            | FeatureId::CommandSetProfile
            | FeatureId::HostIdentifier
            | FeatureId::ReservationNotificationMask
            | FeatureId::ReservationPersistence
            | FeatureId::NamespaceWriteProtection => 0,
        }
    }
}

/// Where Set Features takes its data from.
pub(super) fn source(set: &SetFeatures, len: u32) -> Result<DataPointer, Status> {
    let pointer = set.data.map_err(crate::command::CommandError::status)?;
    if pointer.len() == len { Ok(pointer) } else { Err(Status::SGL_LENGTH_INVALID) }
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
