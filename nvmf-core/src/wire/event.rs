//! Asynchronous events: their configuration, and the result of an Asynchronous Event Request [NVMe Base 2.0, 5.2, 5.27.1.8].

/// Which events the host wants: CDW11 of Set Features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AsyncEventConfiguration(pub u32);

impl AsyncEventConfiguration {
    /// Critical warnings of the SMART log.
    pub const SMART_MASK: u32 = 0xFF;
    /// Namespace Attribute Notices.
    pub const NAMESPACE_CHANGED: u32 = 1 << 8;
    /// Firmware Activation Notices.
    pub const FIRMWARE: u32 = 1 << 9;
    /// Asymmetric Namespace Access Change Notices.
    pub const ANA_CHANGED: u32 = 1 << 11;
    /// Discovery Log Page Change Notices.
    pub const DISCOVERY_CHANGED: u32 = 1 << 31;

    /// Whether all of `bits` are set.
    #[must_use]
    pub const fn contains(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

/// What happened: DW0 of the completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AsyncEvent {
    /// Bits 2:0.
    pub event_type: u8,
    /// Bits 15:8.
    pub information: u8,
    /// Bits 23:16: reading this log page (with RAE 0) lets the controller report this type again.
    pub log_page: u8,
}

impl AsyncEvent {
    /// A namespace's attributes or the list of namespaces has changed: the Changed Namespace List (04h) names them.
    pub const NAMESPACE_CHANGED: Self = Self { event_type: 2, information: 0x00, log_page: 0x04 };
    /// The discovery log has changed.
    pub const DISCOVERY_CHANGED: Self = Self { event_type: 2, information: 0xF0, log_page: 0x70 };
    /// An ANA state has changed.
    pub const ANA_CHANGED: Self = Self { event_type: 2, information: 0x03, log_page: 0x0C };
    /// The reservation notification log is not empty any more [NVMe Base 2.0, 5.2].
    pub const RESERVATION_LOG: Self = Self { event_type: 6, information: 0x00, log_page: 0x80 };

    /// The result of the response.
    #[must_use]
    pub const fn to_result(self) -> u64 {
        self.event_type as u64 & 0x7 | (self.information as u64) << 8 | (self.log_page as u64) << 16
    }

    /// From a response's result.
    #[must_use]
    pub const fn from_result(result: u64) -> Self {
        let [event_type, information, log_page, ..] = result.to_le_bytes();
        Self { event_type: event_type & 0x7, information, log_page }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_values() {
        assert_eq!(AsyncEvent::NAMESPACE_CHANGED.to_result(), 0x0004_0002);
        assert_eq!(AsyncEvent::DISCOVERY_CHANGED.to_result(), 0x0070_F002);
        assert_eq!(AsyncEvent::from_result(0xFFFF_FFFF_000C_03FA), AsyncEvent::ANA_CHANGED);
        assert!(AsyncEventConfiguration(0x1FF).contains(AsyncEventConfiguration::NAMESPACE_CHANGED));
        assert!(!AsyncEventConfiguration(0xFF).contains(AsyncEventConfiguration::NAMESPACE_CHANGED));
    }
}
