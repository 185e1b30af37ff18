//! Log pages [NVMe Base 2.0, 5.16]. The discovery log has a file of its own.
//!
//! Raw structures as in [`super::identify`]: `new_zeroed()`, `as_bytes()`, `ref_from_bytes()`. A controller answers Get Log Page with the
//! part of a page that offset and length name: [`window`].

pub mod ana;
mod effects;

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::opcode::byte_enum;
pub use effects::{CommandEffects, EffectsLog, FeatureEffects, FeatureEffectsLog, ManagementEffectsLog, SupportedLogs};

byte_enum! {
    /// LID.
    LogPageId {
        /// [`SupportedLogs`].
        Supported = 0x00,
        /// [`ErrorEntry`], newest first.
        Error = 0x01,
        /// [`SmartLog`].
        Smart = 0x02,
        /// [`FirmwareSlotLog`].
        FirmwareSlot = 0x03,
        /// [`ChangedNamespaceList`].
        ChangedNamespaces = 0x04,
        /// [`EffectsLog`].
        Effects = 0x05,
        /// Asymmetric Namespace Access.
        Ana = 0x0C,
        /// [`FeatureEffectsLog`].
        FeatureEffects = 0x12,
        /// [`ManagementEffectsLog`].
        ManagementEffects = 0x13,
        /// [`super::DiscoveryHeader`] and entries.
        Discovery = 0x70,
        /// [`ReservationLog`].
        Reservation = 0x80,
    }
}

/// CDW14 bit 23: the offset is an index.
pub const OFFSET_TYPE_INDEX: u32 = 1 << 23;

/// Copies into `to` the part of `page` that starts at `offset`; what is behind the page's end becomes zero. Whether an offset past
/// the end is an error is the page's matter.
pub fn window(page: &[u8], offset: u64, to: &mut [u8]) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(page.len());
    let from = &page[start..];
    let len = from.len().min(to.len());
    to[..len].copy_from_slice(&from[..len]);
    to[len..].fill(0);
}

/// One entry of the error log: 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ErrorEntry {
    /// Errors so far, this one included; 0 is an entry that is not there.
    pub error_count: U64,
    /// SQID.
    pub sqid: U16,
    /// CID.
    pub command_id: U16,
    /// As in the completion entry.
    pub status_field: U16,
    /// Parameter Error Location: byte in bits 7:0, bit in bits 10:8; FFFFh for none.
    pub parameter_location: U16,
    /// LBA.
    pub lba: U64,
    /// NSID.
    pub nsid: U32,
    /// Vendor specific log page; 0 is none.
    pub vendor_log_page: u8,
    /// TRTYPE.
    pub transport_type: u8,
    reserved_30: [u8; 2],
    /// Command specific information.
    pub command_specific: U64,
    /// Transport specific information.
    pub transport_specific: U16,
    reserved_42: [u8; 22],
}

impl ErrorEntry {
    /// Parameter Error Location for none.
    pub const NO_LOCATION: u16 = 0xFFFF;
}

/// SMART / Health Information: 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SmartLog {
    /// Critical warnings.
    pub critical_warning: u8,
    /// In K.
    pub composite_temperature: U16,
    /// In percent.
    pub available_spare: u8,
    /// In percent.
    pub available_spare_threshold: u8,
    /// In percent.
    pub percentage_used: u8,
    /// Endurance group critical warnings.
    pub endurance_group_warning: u8,
    reserved_7: [u8; 25],
    /// In thousands of 512 bytes, rounded up.
    pub data_units_read: U128,
    /// In thousands of 512 bytes, rounded up.
    pub data_units_written: U128,
    /// Reads.
    pub host_reads: U128,
    /// Writes.
    pub host_writes: U128,
    /// In minutes.
    pub controller_busy_time: U128,
    /// Power cycles.
    pub power_cycles: U128,
    /// Power on hours.
    pub power_on_hours: U128,
    /// Unsafe shutdowns.
    pub unsafe_shutdowns: U128,
    /// Media and data integrity errors.
    pub media_errors: U128,
    /// Entries that the error log has had.
    pub error_log_entries: U128,
    /// In minutes.
    pub warning_temperature_time: U32,
    /// In minutes.
    pub critical_temperature_time: U32,
    /// In K; 0 is not there.
    pub temperature_sensors: [U16; 8],
    /// Transitions and seconds of the two thermal states.
    pub thermal_management: [U32; 4],
    reserved_232: [u8; 280],
}

/// Firmware Slot Information: 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FirmwareSlotLog {
    /// AFI: active slot in bits 2:0, next in bits 6:4.
    pub active_firmware: u8,
    reserved_1: [u8; 7],
    /// FRS1 to FRS7, ASCII.
    pub revisions: [[u8; 8]; 7],
    reserved_64: [u8; 448],
}

/// Changed Namespace List: 4096 bytes; FFFFFFFFh in the first place means more than fit.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChangedNamespaceList {
    /// The ids, ascending, ended by 0.
    pub nsids: [U32; Self::COUNT_MAX],
}

impl ChangedNamespaceList {
    /// Ids that it has room for.
    pub const COUNT_MAX: usize = 1024;

    /// Of ids that ascend.
    #[must_use]
    pub fn new(nsids: &[u32]) -> Self {
        let mut list = Self::new_zeroed();
        if nsids.len() > list.nsids.len() {
            list.nsids[0].set(u32::MAX);
        } else {
            for (place, nsid) in list.nsids.iter_mut().zip(nsids) {
                place.set(*nsid);
            }
        }
        list
    }
}

/// Reservation Notification: one notification in 64 bytes [NVMe Base 2.0, 5.16.1.24].
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReservationLog {
    /// Counts notifications; 0 where there is none.
    pub count: U64,
    /// 0 empty, 1 registration preempted, 2 reservation released, 3 reservation preempted.
    pub kind: u8,
    /// How many more there are; FFh is that many or more.
    pub behind: u8,
    reserved_10: [u8; 2],
    /// Of which namespace.
    pub nsid: U32,
    reserved_16: [u8; 48],
}

impl ReservationLog {
    /// There is none.
    #[must_use]
    pub fn empty() -> Self {
        Self::new_zeroed()
    }

    /// Of its fields.
    #[must_use]
    pub fn new(count: u64, kind: u8, behind: u8, nsid: u32) -> Self {
        Self { count: U64::new(count), kind, behind, nsid: U32::new(nsid), ..Self::empty() }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn places_are_the_specifications() {
        assert_eq!(size_of::<ErrorEntry>(), 64);
        assert_eq!(offset_of!(ErrorEntry, status_field), 12);
        assert_eq!(offset_of!(ErrorEntry, parameter_location), 14);
        assert_eq!(offset_of!(ErrorEntry, lba), 16);
        assert_eq!(offset_of!(ErrorEntry, nsid), 24);
        assert_eq!(offset_of!(ErrorEntry, transport_type), 29);
        assert_eq!(offset_of!(ErrorEntry, command_specific), 32);
        assert_eq!(offset_of!(ErrorEntry, transport_specific), 40);
        assert_eq!(size_of::<SmartLog>(), 512);
        assert_eq!(offset_of!(SmartLog, composite_temperature), 1);
        assert_eq!(offset_of!(SmartLog, data_units_read), 32);
        assert_eq!(offset_of!(SmartLog, host_reads), 64);
        assert_eq!(offset_of!(SmartLog, media_errors), 160);
        assert_eq!(offset_of!(SmartLog, error_log_entries), 176);
        assert_eq!(offset_of!(SmartLog, warning_temperature_time), 192);
        assert_eq!(offset_of!(SmartLog, temperature_sensors), 200);
        assert_eq!(offset_of!(SmartLog, thermal_management), 216);
        assert_eq!(size_of::<FirmwareSlotLog>(), 512);
        assert_eq!(offset_of!(FirmwareSlotLog, revisions), 8);
        assert_eq!(size_of::<ChangedNamespaceList>(), 4096);
        assert_eq!(size_of::<ReservationLog>(), 64);
        assert_eq!(offset_of!(ReservationLog, kind), 8);
        assert_eq!(offset_of!(ReservationLog, nsid), 12);
    }

    #[test]
    fn a_window_never_reaches_outside() {
        let page = [1, 2, 3, 4];
        let mut to = [9; 3];
        window(&page, 0, &mut to);
        assert_eq!(to, [1, 2, 3]);
        window(&page, 2, &mut to);
        assert_eq!(to, [3, 4, 0]);
        window(&page, 4, &mut to);
        assert_eq!(to, [0; 3]);
        window(&page, u64::MAX, &mut to);
        assert_eq!(to, [0; 3]);
    }

    #[test]
    fn too_many_changed_namespaces() {
        let few = ChangedNamespaceList::new(&[3, 9]);
        assert_eq!(few.nsids[..3], [U32::new(3), U32::new(9), U32::new(0)]);
        let many: Vec<u32> = (1..=1025).collect();
        let list = ChangedNamespaceList::new(&many);
        assert_eq!(list.nsids[..2], [U32::new(u32::MAX), U32::new(0)]);
        assert_eq!(ChangedNamespaceList::new(&many[..1024]).nsids[1023], U32::new(1024));
    }
}
