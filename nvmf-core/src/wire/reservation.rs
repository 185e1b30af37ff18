//! Reservations on the wire [NVMe Base 2.0, 7.2 to 7.5, 8.19]: the fields of the four commands, their data, the report, the features.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::opcode::byte_enum;

byte_enum! {
    /// RTYPE [NVMe Base 2.0, figure 'Reservation Types']. 0 is none.
    ReservationType {
        /// Others do not write.
        WriteExclusive = 1,
        /// Others neither read nor write.
        ExclusiveAccess = 2,
        /// Only registrants write; one of them holds it.
        WriteExclusiveRegistrants = 3,
        /// Only registrants read and write; one of them holds it.
        ExclusiveAccessRegistrants = 4,
        /// Only registrants write; all of them hold it.
        WriteExclusiveAll = 5,
        /// Only registrants read and write; all of them hold it.
        ExclusiveAccessAll = 6,
    }
}

impl ReservationType {
    /// Every type.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrants,
        Self::ExclusiveAccessRegistrants,
        Self::WriteExclusiveAll,
        Self::ExclusiveAccessAll,
    ];

    /// Whether every registrant holds it.
    #[must_use]
    pub const fn is_held_by_all(self) -> bool {
        matches!(self, Self::WriteExclusiveAll | Self::ExclusiveAccessAll)
    }

    /// Whether registrants may do what the holder may.
    #[must_use]
    pub const fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Whether it keeps others from reading, too.
    #[must_use]
    pub const fn excludes_reads(self) -> bool {
        matches!(self, Self::ExclusiveAccess | Self::ExclusiveAccessRegistrants | Self::ExclusiveAccessAll)
    }
}

byte_enum! {
    /// RREGA.
    RegisterAction {
        /// A new key.
        Register = 0,
        /// No key any more.
        Unregister = 1,
        /// Another key.
        Replace = 2,
    }
}

byte_enum! {
    /// RACQA.
    AcquireAction {
        /// Where nobody holds one.
        Acquire = 0,
        /// Instead of those whose key is PRKEY.
        Preempt = 1,
        /// The same, and their commands end first.
        PreemptAndAbort = 2,
    }
}

byte_enum! {
    /// RRELA.
    ReleaseAction {
        /// The reservation.
        Release = 0,
        /// The reservation and all registrations.
        Clear = 1,
    }
}

/// Bits of the Reservation Notification Mask: a set one keeps notifications of that type back [NVMe Base 2.0, 5.27.1.26]. The types are 1 to 3.
pub const NOTIFICATION_MASK: u32 = 0b1110;

/// CDW10 of Reservation Register, Acquire and Release: the action, IEKEY, RTYPE, CPTPL.
pub mod cdw10 {
    /// RREGA, RACQA, RRELA.
    pub const ACTION_MASK: u32 = 0x7;
    /// IEKEY.
    pub const IGNORE_EXISTING_KEY: u32 = 1 << 3;
    /// RTYPE, of Acquire and Release.
    pub const TYPE_SHIFT: u32 = 8;
    /// CPTPL, of Register: 0 changes nothing, 1 is reserved.
    pub const PERSISTENCE_SHIFT: u32 = 30;
    /// CPTPL: the state is cleared.
    pub const PERSISTENCE_CLEAR: u32 = 2;
    /// CPTPL: the state is set.
    pub const PERSISTENCE_SET: u32 = 3;
}

/// CDW11 bit 0 of Reservation Report (EDS): the extended structure.
pub const REPORT_EXTENDED: u32 = 1;

/// Bit 0 of the Reservation Persistence feature: PTPL.
pub const PERSISTENCE: u32 = 1;

/// Data of Reservation Register and of Acquire: 16 bytes. Of Release: the first 8 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReservationKeys {
    /// CRKEY: the host's key.
    pub current: U64,
    /// NRKEY of Register, PRKEY of Acquire.
    pub other: U64,
}

impl ReservationKeys {
    /// Bytes of Register's and Acquire's data.
    pub const LEN: u32 = 16;
    /// Bytes of Release's.
    pub const RELEASE_LEN: u32 = 8;
}

/// Reservation Status Extended, without its entries: 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReservationStatus {
    /// GEN.
    pub generation: U32,
    /// RTYPE; 0 is no reservation.
    pub reservation_type: u8,
    /// REGCTL: entries that there are, also where they found no room.
    pub registrant_count: U16,
    reserved_7: [u8; 2],
    /// PTPLS.
    pub persistence: u8,
    reserved_10: [u8; 14],
    reserved_24: [u8; 40],
}

impl ReservationStatus {
    /// Bytes.
    pub const LEN: usize = 64;

    /// Of these facts.
    #[must_use]
    pub fn new(generation: u32, kind: Option<ReservationType>, registrant_count: u16, is_persistent: bool) -> Self {
        let mut status = Self::new_zeroed();
        status.generation.set(generation);
        status.reservation_type = kind.map_or(0, ReservationType::to_byte);
        status.registrant_count.set(registrant_count);
        status.persistence = u8::from(is_persistent);
        status
    }
}

/// Registered Controller Extended: 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReservationRegistrant {
    /// CNTLID; FFFFh for a host of dynamic controllers.
    pub controller_id: U16,
    /// RCSTS: bit 0, it holds the reservation.
    pub status: u8,
    reserved_3: [u8; 5],
    /// RKEY.
    pub key: U64,
    /// HOSTID.
    pub host_id: [u8; 16],
    reserved_32: [u8; 32],
}

impl ReservationRegistrant {
    /// Bytes.
    pub const LEN: usize = 64;
    /// RCSTS bit 0.
    pub const HOLDER: u8 = 1;

    /// A host, whose controllers are dynamic.
    #[must_use]
    pub fn new(host_id: [u8; 16], key: u64, is_holder: bool) -> Self {
        let mut registrant = Self::new_zeroed();
        registrant.controller_id.set(u16::MAX);
        registrant.status = if is_holder { Self::HOLDER } else { 0 };
        registrant.key.set(key);
        registrant.host_id = host_id;
        registrant
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn places_are_the_specifications() {
        assert_eq!(size_of::<ReservationKeys>(), 16);
        assert_eq!(offset_of!(ReservationKeys, other), 8);
        assert_eq!(size_of::<ReservationStatus>(), ReservationStatus::LEN);
        assert_eq!(offset_of!(ReservationStatus, reservation_type), 4);
        assert_eq!(offset_of!(ReservationStatus, registrant_count), 5);
        assert_eq!(offset_of!(ReservationStatus, persistence), 9);
        assert_eq!(size_of::<ReservationRegistrant>(), ReservationRegistrant::LEN);
        assert_eq!(offset_of!(ReservationRegistrant, status), 2);
        assert_eq!(offset_of!(ReservationRegistrant, key), 8);
        assert_eq!(offset_of!(ReservationRegistrant, host_id), 16);
    }

    #[test]
    fn bytes_of_a_report() {
        let status = ReservationStatus::new(0x0102_0304, Some(ReservationType::ExclusiveAccess), 0x0506, true);
        assert_eq!(status.as_bytes()[..10], [4, 3, 2, 1, 2, 6, 5, 0, 0, 1]);
        let registrant = ReservationRegistrant::new([9; 16], 0xAB, true);
        assert_eq!(registrant.as_bytes()[..9], [0xFF, 0xFF, 1, 0, 0, 0, 0, 0, 0xAB]);
    }
}
