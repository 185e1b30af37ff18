//! Features: Set Features and Get Features [NVMe Base 2.0, 5.16, 5.27].

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
        /// Keep Alive Timer, in ms.
        KeepAliveTimer = 0x0F,
        /// Host Behavior Support, with 512 bytes of data.
        HostBehaviorSupport = 0x16,
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
