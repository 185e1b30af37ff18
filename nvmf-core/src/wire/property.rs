//! Controller properties: what a PCIe controller has as registers [NVMe Base 2.0, 3.1.3].

use super::opcode::byte_enum;

/// A property that exists over fabrics, by its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Property {
    /// CAP, 8 bytes, read only.
    Capabilities,
    /// VS, 4 bytes, read only.
    Version,
    /// CC, 4 bytes.
    Configuration,
    /// CSTS, 4 bytes; writing clears the NSSRO bit.
    Status,
    /// NSSR, 4 bytes, where CAP.NSSRS is set.
    SubsystemReset,
    /// CRTO, 4 bytes, read only, where CAP.CRMS says so.
    ReadyTimeouts,
}

impl Property {
    /// By its offset; `None` is reserved or only on PCIe.
    #[must_use]
    pub const fn from_offset(offset: u32) -> Option<Self> {
        match offset {
            0x00 => Some(Self::Capabilities),
            0x08 => Some(Self::Version),
            0x14 => Some(Self::Configuration),
            0x1C => Some(Self::Status),
            0x20 => Some(Self::SubsystemReset),
            0x68 => Some(Self::ReadyTimeouts),
            _ => None,
        }
    }

    /// Its offset.
    #[must_use]
    pub const fn offset(self) -> u32 {
        match self {
            Self::Capabilities => 0x00,
            Self::Version => 0x08,
            Self::Configuration => 0x14,
            Self::Status => 0x1C,
            Self::SubsystemReset => 0x20,
            Self::ReadyTimeouts => 0x68,
        }
    }

    /// Whether it has eight bytes rather than four.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        matches!(self, Self::Capabilities)
    }
}

/// `(value >> SHIFT) & MASK`, and its inverse, for a field of a property.
const fn bits(value: u64, shift: u32, width: u32) -> u64 {
    (value >> shift) & ((1 << width) - 1)
}

/// CAP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// CSS bit: the NVM command set.
    pub const COMMAND_SET_NVM: u8 = 1 << 0;
    /// CSS bit: one or more command sets, told by Identify.
    pub const COMMAND_SET_IDENTIFY: u8 = 1 << 6;
    /// CSS bit: admin commands only.
    pub const COMMAND_SET_NONE: u8 = 1 << 7;

    /// CRMS bit: ready with media; mandatory since 2.0 [NVMe Base 2.0, 3.1.3].
    const READY_WITH_MEDIA: u64 = 1 << 59;

    /// A controller over fabrics: contiguous queues (required), the NVM command set, told by Identify too, 4 KiB pages, DSTRD 0, ready with media.
    #[must_use]
    pub const fn new(entry_count_max_zero_based: u16, ready_timeout_500ms: u8) -> Self {
        Self(
            entry_count_max_zero_based as u64
                | 1 << 16
                | (ready_timeout_500ms as u64) << 24
                | ((Self::COMMAND_SET_NVM | Self::COMMAND_SET_IDENTIFY) as u64) << 37
                | Self::READY_WITH_MEDIA,
        )
    }

    /// MQES.
    #[must_use]
    pub const fn entry_count_max_zero_based(self) -> u16 {
        let [a, b, ..] = self.0.to_le_bytes();
        u16::from_le_bytes([a, b])
    }

    /// MQES as a count.
    #[must_use]
    pub const fn entry_count_max(self) -> u32 {
        self.entry_count_max_zero_based() as u32 + 1
    }

    /// CQR: queues are contiguous.
    #[must_use]
    pub const fn contiguous_queues(self) -> bool {
        bits(self.0, 16, 1) == 1
    }

    /// TO: the longest that CSTS.RDY may take, in units of 500 ms.
    #[must_use]
    pub const fn ready_timeout_500ms(self) -> u8 {
        self.0.to_le_bytes()[3]
    }

    /// CSS.
    #[must_use]
    pub const fn command_sets(self) -> u8 {
        bits(self.0, 37, 8).to_le_bytes()[0]
    }

    /// MPSMIN: 2 to the power of (12 + this) bytes.
    #[must_use]
    pub const fn page_size_min_exponent(self) -> u8 {
        bits(self.0, 48, 4).to_le_bytes()[0]
    }

    /// MPSMAX: 2 to the power of (12 + this) bytes.
    #[must_use]
    pub const fn page_size_max_exponent(self) -> u8 {
        bits(self.0, 52, 4).to_le_bytes()[0]
    }
}

/// VS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// NVMe 1.3.
    pub const V1_3: Self = Self::new(1, 3, 0);
    /// NVMe 1.4.
    pub const V1_4: Self = Self::new(1, 4, 0);
    /// NVMe 2.0.
    pub const V2_0: Self = Self::new(2, 0, 0);

    /// Of its three numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u8, tertiary: u8) -> Self {
        Self((major as u32) << 16 | (minor as u32) << 8 | tertiary as u32)
    }
}

byte_enum! {
    /// CSTS.SHST.
    ShutdownStatus {
        /// No shutdown was asked for.
        Normal = 0,
        /// Under way.
        Occurring = 1,
        /// Done.
        Complete = 2,
    }
}

/// CC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Configuration(pub u32);

impl Configuration {
    const ENABLE: u32 = 1;

    /// What a host over fabrics sets: enabled, 64-byte submission and 16-byte completion entries.
    #[must_use]
    pub const fn enabled(command_set: u8, page_size_exponent: u8) -> Self {
        Self(
            Self::ENABLE | (command_set as u32 & 0x7) << 4 | (page_size_exponent as u32 & 0xF) << 7 | 6 << 16 | 4 << 20,
        )
    }

    /// EN.
    #[must_use]
    pub const fn is_enabled(self) -> bool {
        self.0 & Self::ENABLE != 0
    }

    /// CSS: 0 NVM, 6 all supported, 7 admin commands only.
    #[must_use]
    pub const fn command_set(self) -> u8 {
        bits(self.0 as u64, 4, 3).to_le_bytes()[0]
    }

    /// MPS: 2 to the power of (12 + this) bytes.
    #[must_use]
    pub const fn page_size_exponent(self) -> u8 {
        bits(self.0 as u64, 7, 4).to_le_bytes()[0]
    }

    /// AMS: 0 is round robin.
    #[must_use]
    pub const fn arbitration(self) -> u8 {
        bits(self.0 as u64, 11, 3).to_le_bytes()[0]
    }

    /// SHN: 0 nothing, 1 normal shutdown, 2 abrupt shutdown, 3 reserved.
    #[must_use]
    pub const fn shutdown(self) -> u8 {
        bits(self.0 as u64, 14, 2).to_le_bytes()[0]
    }

    /// IOSQES: 2 to the power of this, in bytes.
    #[must_use]
    pub const fn submission_entry_exponent(self) -> u8 {
        bits(self.0 as u64, 16, 4).to_le_bytes()[0]
    }

    /// IOCQES: 2 to the power of this, in bytes.
    #[must_use]
    pub const fn completion_entry_exponent(self) -> u8 {
        bits(self.0 as u64, 20, 4).to_le_bytes()[0]
    }

    /// The same with a shutdown asked for: 1 normal, 2 abrupt.
    #[must_use]
    pub const fn with_shutdown(self, shutdown: u8) -> Self {
        Self(self.0 & !(0x3 << 14) | (shutdown as u32 & 0x3) << 14)
    }
}

/// CSTS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ControllerStatus(pub u32);

impl ControllerStatus {
    const READY: u32 = 1;
    const FATAL: u32 = 1 << 1;

    /// Of its fields.
    #[must_use]
    pub const fn new(ready: bool, fatal: bool, shutdown: ShutdownStatus) -> Self {
        let flags = (if ready { Self::READY } else { 0 }) | (if fatal { Self::FATAL } else { 0 });
        Self(flags | (shutdown.to_byte() as u32) << 2)
    }

    /// RDY.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        self.0 & Self::READY != 0
    }

    /// CFS.
    #[must_use]
    pub const fn is_fatal(self) -> bool {
        self.0 & Self::FATAL != 0
    }

    /// SHST; `None` is reserved.
    #[must_use]
    pub const fn shutdown(self) -> Option<ShutdownStatus> {
        ShutdownStatus::from_byte(bits(self.0 as u64, 2, 2).to_le_bytes()[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_values() {
        // MQES 1023, CQR, TO 15 (7.5 s), CSS NVM and by Identify, CRMS.
        let capabilities = Capabilities::new(1023, 15);
        assert_eq!(capabilities.0, 0x0800_0820_0F01_03FF);
        assert_eq!(capabilities.entry_count_max(), 1024);
        assert!(capabilities.contiguous_queues());
        assert_eq!(capabilities.ready_timeout_500ms(), 15);
        assert_eq!(capabilities.command_sets(), Capabilities::COMMAND_SET_NVM | Capabilities::COMMAND_SET_IDENTIFY);
        assert_eq!(capabilities.page_size_min_exponent(), 0);
        assert_eq!(Capabilities(u64::MAX).entry_count_max(), 65536);
        assert_eq!(Capabilities(u64::MAX).page_size_max_exponent(), 15);
        assert_eq!(Capabilities(0x40 << 37).command_sets(), Capabilities::COMMAND_SET_IDENTIFY);

        // CC of a Linux host: EN, IOSQES 6, IOCQES 4.
        let configuration = Configuration::enabled(0, 0);
        assert_eq!(configuration.0, 0x0046_0001);
        assert!(configuration.is_enabled());
        assert_eq!(configuration.submission_entry_exponent(), 6);
        assert_eq!(configuration.completion_entry_exponent(), 4);
        let stopping = configuration.with_shutdown(1);
        assert_eq!(stopping.0, 0x0046_4001);
        assert_eq!(stopping.shutdown(), 1);
        let all = Configuration::enabled(6, 2);
        assert_eq!((all.command_set(), all.page_size_exponent(), all.arbitration()), (6, 2, 0));

        assert_eq!(Version::V1_4.0, 0x0001_0400);
        assert!(Version::V1_3 < Version::V2_0);
        let status = ControllerStatus::new(true, false, ShutdownStatus::Complete);
        assert_eq!(status.0, 0b1001);
        assert!(status.is_ready() && !status.is_fatal());
        assert_eq!(status.shutdown(), Some(ShutdownStatus::Complete));
        assert_eq!(ControllerStatus(0b1100).shutdown(), None);
    }

    #[test]
    fn offsets_and_back() {
        for offset in 0..0x100 {
            if let Some(property) = Property::from_offset(offset) {
                assert_eq!(property.offset(), offset);
            }
        }
        assert_eq!(Property::from_offset(0x14), Some(Property::Configuration));
        assert_eq!(Property::from_offset(0x15), None);
    }
}
