//! A controller's properties: CAP, VS, CC, CSTS, and what writing CC sets off.

use crate::limits::READY_TIMEOUT_NS;
use crate::status::Status;
use crate::wire::{Capabilities, Configuration, ControllerStatus, Property, ShutdownStatus, Version};

/// What 2.0 made mandatory is there: Supported Log Pages, the effects of commands and features with their scopes, CAP.CRMS and CRTO, Identify by I/O
/// command set and independent of it [NVMe Base 2.0, 3.1.2, 3.1.3].
pub(crate) const VERSION: Version = Version::V2_0;

/// Where a controller is between CC.EN, CSTS.RDY and the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// CC.EN 0, CSTS.RDY 0.
    Disabled,
    /// CC.EN 1, CSTS.RDY 1.
    Ready,
    /// CC.EN 0; CSTS.RDY stays 1 until the last I/O qpair has left [NVMe 1.4, 3.1.6].
    Resetting,
    /// CSTS.SHST 01b until the last I/O qpair has left.
    ShuttingDown,
    /// CSTS.SHST 10b. Ends with a reset.
    ShutDown,
}

/// What writing a property means for the rest of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// The I/O qpairs end and held event requests are aborted; features are what they were in the beginning.
    Reset,
    /// The I/O qpairs end and held event requests are aborted.
    ShutDown,
}

/// The properties of one controller.
#[derive(Debug)]
pub(crate) struct Properties {
    capabilities: Capabilities,
    configuration: Configuration,
    readiness: Readiness,
}

impl Properties {
    /// Of a controller whose queues have at most this many entries.
    pub(crate) fn new(queue_depth_max: u16) -> Self {
        let unit_ns = 500_000_000;
        let timeout_500ms = u8::try_from(READY_TIMEOUT_NS / unit_ns).unwrap_or(u8::MAX);
        Self {
            capabilities: Capabilities::new(queue_depth_max - 1, timeout_500ms),
            configuration: Configuration::default(),
            readiness: Readiness::Disabled,
        }
    }

    /// Whether commands other than Fabrics ones are served.
    pub(crate) fn is_ready(&self) -> bool {
        self.readiness == Readiness::Ready
    }

    /// Property Get.
    pub(crate) fn value(&self, offset: u32, is_wide: bool) -> Result<u64, Status> {
        let property = Property::from_offset(offset).filter(|property| property.is_wide() == is_wide);
        match property {
            Some(Property::Capabilities) => Ok(self.capabilities.0),
            Some(Property::Version) => Ok(u64::from(VERSION.0)),
            Some(Property::Configuration) => Ok(u64::from(self.configuration.0)),
            Some(Property::Status) => Ok(u64::from(self.status().0)),
            // CRWMT: with media, no longer than CAP.TO says; CRIMT is 0, since CAP.CRMS says that there is no other way [NVMe Base 2.0, 3.1.3.21].
            Some(Property::ReadyTimeouts) => Ok(u64::from(self.capabilities.ready_timeout_500ms())),
            // CAP.NSSRS is 0: a reset of the whole subsystem would take it from hosts that know nothing of each other. A reserved offset or a wrong size is an invalid field [NVMe Base 2.0, 6.5].
            Some(Property::SubsystemReset) | None => Err(Status::INVALID_FIELD),
        }
    }

    /// Property Set. `member_count` I/O qpairs are there that a reset or shutdown has to wait for.
    pub(crate) fn set(
        &mut self,
        offset: u32,
        is_wide: bool,
        value: u64,
        member_count: usize,
    ) -> Result<Effect, Status> {
        let property = Property::from_offset(offset).filter(|property| property.is_wide() == is_wide);
        match property {
            Some(Property::Configuration) => {
                let value = u32::try_from(value).map_err(|_| Status::INVALID_FIELD)?;
                self.configure(Configuration(value), member_count)
            }
            Some(
                Property::Capabilities
                | Property::Version
                | Property::Status
                | Property::SubsystemReset
                | Property::ReadyTimeouts,
            )
            | None => Err(Status::INVALID_FIELD),
        }
    }

    /// The last I/O qpair has left.
    pub(crate) fn queues_ended(&mut self) {
        self.readiness = match self.readiness {
            Readiness::Resetting => Readiness::Disabled,
            Readiness::ShuttingDown => Readiness::ShutDown,
            other @ (Readiness::Disabled | Readiness::Ready | Readiness::ShutDown) => other,
        };
    }

    fn configure(&mut self, next: Configuration, member_count: usize) -> Result<Effect, Status> {
        let was = self.configuration;
        if next.is_enabled() && !was.is_enabled() {
            // Only what CAP offers: the NVM command set, by its name or as all that there are; 4 KiB pages; round robin.
            let is_offered =
                matches!(next.command_set(), 0 | 6) && next.page_size_exponent() == 0 && next.arbitration() == 0;
            if !is_offered || next.shutdown() != 0 {
                return Err(Status::INVALID_FIELD);
            }
            // Enabling before CSTS.RDY has gone to 0 has no defined result [NVMe 1.4, 3.1.5]: it is refused.
            if self.readiness != Readiness::Disabled {
                return Err(Status::COMMAND_SEQUENCE_ERROR);
            }
            self.readiness = Readiness::Ready;
            self.configuration = next;
            return Ok(Effect::None);
        }
        self.configuration = next;
        let is_reset = was.is_enabled() && !next.is_enabled();
        let is_shutdown = next.shutdown() != 0 && was.shutdown() == 0 && self.readiness == Readiness::Ready;
        if !is_reset && !is_shutdown {
            return Ok(Effect::None);
        }
        self.readiness = if is_reset { Readiness::Resetting } else { Readiness::ShuttingDown };
        if member_count == 0 {
            self.queues_ended();
        }
        Ok(if is_reset { Effect::Reset } else { Effect::ShutDown })
    }

    fn status(&self) -> ControllerStatus {
        let (is_ready, shutdown) = match self.readiness {
            Readiness::Disabled => (false, ShutdownStatus::Normal),
            Readiness::Ready | Readiness::Resetting => (true, ShutdownStatus::Normal),
            Readiness::ShuttingDown => (true, ShutdownStatus::Occurring),
            Readiness::ShutDown => (true, ShutdownStatus::Complete),
        };
        // CFS is never set: what is fatal to a controller (its keep-alive time is over, its subsystem is gone) ends its connections in the same turn, and
        // nobody is left who could read it. NSSRO stays 0, since there is no subsystem reset.
        ControllerStatus::new(is_ready, false, shutdown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CC: u32 = 0x14;
    const CSTS: u32 = 0x1C;

    fn enabled() -> Properties {
        let mut properties = Properties::new(128);
        let value = u64::from(Configuration::enabled(0, 0).0);
        assert_eq!(properties.set(CC, false, value, 0), Ok(Effect::None));
        properties
    }

    #[test]
    fn read_only_and_unknown_properties_are_refused() {
        let mut properties = Properties::new(128);
        assert_eq!(properties.value(0x00, true).map(|value| value & 0xFFFF), Ok(127));
        assert_eq!(properties.value(0x00, false), Err(Status::INVALID_FIELD));
        assert_eq!(properties.value(CC, true), Err(Status::INVALID_FIELD));
        assert_eq!(properties.value(0x08, false), Ok(0x0002_0000));
        assert_eq!(properties.value(0x68, false), Ok(30), "as CAP.TO");
        for offset in [0x00, 0x08, 0x0C, CSTS, 0x20, 0x24, 0x28, 0xFFFF_FFFF] {
            assert_eq!(properties.set(offset, false, 1, 0), Err(Status::INVALID_FIELD));
        }
    }

    #[test]
    fn ready_follows_enable() {
        let mut properties = enabled();
        assert!(properties.is_ready());
        assert_eq!(properties.value(CSTS, false), Ok(1));
        assert_eq!(properties.set(CC, false, 0, 2), Ok(Effect::Reset));
        assert!(!properties.is_ready());
        assert_eq!(properties.value(CSTS, false), Ok(1), "I/O qpairs are still there");
        let again = u64::from(Configuration::enabled(0, 0).0);
        assert_eq!(properties.set(CC, false, again, 2), Err(Status::COMMAND_SEQUENCE_ERROR));
        properties.queues_ended();
        assert_eq!(properties.value(CSTS, false), Ok(0));
        assert_eq!(properties.set(CC, false, again, 0), Ok(Effect::None));
    }

    #[test]
    fn shutdown_completes_when_the_queues_are_gone() {
        let mut properties = enabled();
        let value = u64::from(Configuration::enabled(0, 0).with_shutdown(1).0);
        assert_eq!(properties.set(CC, false, value, 1), Ok(Effect::ShutDown));
        assert_eq!(properties.value(CSTS, false), Ok(0b0101));
        properties.queues_ended();
        assert_eq!(properties.value(CSTS, false), Ok(0b1001));
        assert_eq!(properties.set(CC, false, 0, 0), Ok(Effect::Reset));
        assert_eq!(properties.value(CSTS, false), Ok(0));
    }

    #[test]
    fn only_what_is_offered_can_be_enabled() {
        for value in [Configuration::enabled(7, 0), Configuration::enabled(0, 1)] {
            let mut properties = Properties::new(128);
            assert_eq!(properties.set(CC, false, u64::from(value.0), 0), Err(Status::INVALID_FIELD));
            assert_eq!(properties.value(CSTS, false), Ok(0));
        }
    }
}
