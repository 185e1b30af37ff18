//! Features: Set Features and Get Features [NVMe Base 2.0, 5.15, 5.27].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::opcode::byte_enum;

byte_enum! {
    /// Features that this layer can name.
    FeatureId {
        /// Arbitration.
        Arbitration = 0x01,
        /// Power Management.
        PowerManagement = 0x02,
        /// Temperature Threshold.
        TemperatureThreshold = 0x04,
        /// Error Recovery.
        ErrorRecovery = 0x05,
        /// Volatile Write Cache.
        VolatileWriteCache = 0x06,
        /// Number of Queues: see [`QueueCounts`].
        NumberOfQueues = 0x07,
        /// Write Atomicity Normal.
        WriteAtomicity = 0x0A,
        /// Asynchronous Event Configuration: see [`super::AsyncEventConfiguration`].
        AsyncEventConfiguration = 0x0B,
        /// Timestamp: see [`Timestamp`].
        Timestamp = 0x0E,
        /// Keep Alive Timer, in ms.
        KeepAliveTimer = 0x0F,
        /// Host Behavior Support: see [`HostBehavior`].
        HostBehaviorSupport = 0x16,
        /// I/O Command Set Profile.
        CommandSetProfile = 0x19,
        /// Host Identifier. Over fabrics it comes with Connect and can only be read.
        HostIdentifier = 0x81,
        /// Reservation Notification Mask.
        ReservationNotificationMask = 0x82,
        /// Reservation Persistence.
        ReservationPersistence = 0x83,
        /// Namespace Write Protection.
        NamespaceWriteProtection = 0x84,
    }
}

/// Host Behavior Support: 512 bytes [NVMe Base 2.0, 5.27.1.18].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct HostBehavior {
    /// ACRE: the host looks at the retry delay of a status.
    pub command_retry_delay: u8,
    /// ETDAS.
    pub extended_telemetry: u8,
    /// LBAFEE: the host knows more than 16 LBA formats.
    pub lba_format_extension: u8,
    reserved_3: [u8; 509],
}

impl HostBehavior {
    /// Bytes of it.
    pub const LEN: u32 = 512;
}

/// Timestamp: 8 bytes [NVMe Base 2.0, 5.27.1.11].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Timestamp {
    /// ms since 1970, 48 bits.
    milliseconds: [u8; 6],
    /// SYNCH in bit 0, ORIGIN in bits 3:1.
    pub attributes: u8,
    reserved_7: u8,
}

impl Timestamp {
    /// Bytes of it.
    pub const LEN: u32 = 8;
    /// ORIGIN 1: a host has set it.
    pub const SET_BY_HOST: u8 = 1 << 1;

    /// Of its two parts.
    #[must_use]
    pub fn new(ms: u64, attributes: u8) -> Self {
        let [a, b, c, d, e, f, ..] = ms.to_le_bytes();
        Self { milliseconds: [a, b, c, d, e, f], attributes, reserved_7: 0 }
    }

    /// The time.
    #[must_use]
    pub fn ms(&self) -> u64 {
        let [a, b, c, d, e, f] = self.milliseconds;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

/// Number of Queues: asked for in CDW11, granted in the result. Both zero-based on the wire, counts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueueCounts {
    /// I/O submission queues: 1 to 65,536.
    pub submission: u32,
    /// I/O completion queues: 1 to 65,536.
    pub completion: u32,
}

impl QueueCounts {
    /// From CDW11 or the result.
    #[must_use]
    pub const fn from_dword(dword: u32) -> Self {
        let submission_zero_based = dword & 0xFFFF;
        let completion_zero_based = dword >> 16;
        Self { submission: submission_zero_based + 1, completion: completion_zero_based + 1 }
    }

    /// As CDW11 or the result. A count of 0 cannot be said: it becomes 1; more than 65,536 becomes 65,536.
    #[must_use]
    pub const fn to_dword(self) -> u32 {
        Self::zero_based(self.submission) | Self::zero_based(self.completion) << 16
    }

    const fn zero_based(count: u32) -> u32 {
        let below = count.saturating_sub(1);
        if below > 0xFFFF { 0xFFFF } else { below }
    }

    /// Pairs: over fabrics a queue is both.
    #[must_use]
    pub const fn pairs(self) -> u32 {
        if self.submission < self.completion { self.submission } else { self.completion }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_has_48_bits() {
        let stamp = Timestamp::new(0x0001_0203_0405_0607, Timestamp::SET_BY_HOST);
        assert_eq!(stamp.as_bytes(), [7, 6, 5, 4, 3, 2, 2, 0]);
        assert_eq!(stamp.ms(), 0x0203_0405_0607);
        assert_eq!(size_of::<HostBehavior>(), 512);
    }

    #[test]
    fn zero_based_counts() {
        assert_eq!(QueueCounts::from_dword(0x0003_0001), QueueCounts { submission: 2, completion: 4 });
        assert_eq!(QueueCounts::from_dword(0x0003_0001).pairs(), 2);
        assert_eq!(QueueCounts::from_dword(u32::MAX), QueueCounts { submission: 65536, completion: 65536 });
        for dword in [0, 0x0003_0001, 0x0001_0003, u32::MAX] {
            assert_eq!(QueueCounts::from_dword(dword).to_dword(), dword);
        }
        assert_eq!(QueueCounts { submission: 0, completion: 70_000 }.to_dword(), 0xFFFF_0000);
    }
}
