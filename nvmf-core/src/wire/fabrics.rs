//! Fabrics commands: the same 64 bytes as every command, with other names from byte 4 on [NVMe Base 2.0, 6].

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::opcode::{FabricsType, OPCODE_FABRICS};
use super::sgl::SglDescriptor;
use super::submission::SubmissionEntry;

/// Connect [NVMe Base 2.0, 6.3].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ConnectEntry {
    /// 7Fh.
    pub opcode: u8,
    /// PSDT in bits 7:6.
    pub flags: u8,
    /// CID.
    pub command_id: U16,
    /// FCTYPE: 01h.
    pub fabrics_type: u8,
    reserved_5: [u8; 19],
    /// SGL1: 1024 bytes of [`super::ConnectData`].
    pub sgl1: SglDescriptor,
    /// RECFMT: 0.
    pub record_format: U16,
    /// QID: 0 is the admin queue.
    pub qid: U16,
    /// SQSIZE.
    pub entry_count_zero_based: U16,
    /// CATTR: priority class in bits 1:0, SQ flow control disabled in bit 2.
    pub attributes: u8,
    reserved_47: u8,
    /// KATO in ms.
    pub keep_alive_ms: U32,
    reserved_52: [u8; 12],
}

/// Property Get and Property Set [NVMe Base 2.0, 6.5, 6.6].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PropertyEntry {
    /// 7Fh.
    pub opcode: u8,
    /// PSDT in bits 7:6.
    pub flags: u8,
    /// CID.
    pub command_id: U16,
    /// FCTYPE: 00h for Set, 04h for Get.
    pub fabrics_type: u8,
    reserved_5: [u8; 35],
    /// ATTRIB: size in bits 2:0, 0 for 4 bytes and 1 for 8 bytes.
    pub attributes: u8,
    reserved_41: [u8; 3],
    /// OFST.
    pub offset: U32,
    /// VALUE, of Set.
    pub value: U64,
    reserved_56: [u8; 8],
}

/// Disconnect [NVMe Base 2.0, 6.4].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DisconnectEntry {
    /// 7Fh.
    pub opcode: u8,
    /// PSDT in bits 7:6.
    pub flags: u8,
    /// CID.
    pub command_id: U16,
    /// FCTYPE: 08h.
    pub fabrics_type: u8,
    reserved_5: [u8; 35],
    /// RECFMT: 0.
    pub record_format: U16,
    reserved_42: [u8; 22],
}

/// They are views of the same 64 bytes.
macro_rules! entry {
    ($name:ident) => {
        impl $name {
            /// Any 64 bytes have these fields.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 64]) -> Self {
                zerocopy::transmute!(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 64] {
                zerocopy::transmute!(self)
            }

            /// All zero but the opcode, PSDT, type and an SGL that says "no data".
            #[must_use]
            pub const fn new(fabrics_type: FabricsType) -> Self {
                let mut bytes = [0; 64];
                bytes[0] = OPCODE_FABRICS;
                bytes[1] = SubmissionEntry::FLAGS_PSDT_SGL;
                bytes[4] = fabrics_type.to_byte();
                bytes[39] = SglDescriptor::KEYED_ADDRESS;
                Self::from_bytes(bytes)
            }
        }
    };
}

pub(super) use entry;

entry!(ConnectEntry);
entry!(PropertyEntry);
entry!(DisconnectEntry);

impl ConnectEntry {
    /// CATTR bit 2: the host does not look at SQHD.
    pub const ATTRIBUTE_NO_SQ_FLOW_CONTROL: u8 = 1 << 2;
}

impl PropertyEntry {
    /// The size in ATTRIB.
    pub const ATTRIBUTE_SIZE_MASK: u8 = 0b111;
    /// Four bytes.
    pub const SIZE_4: u8 = 0;
    /// Eight bytes.
    pub const SIZE_8: u8 = 1;
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn places_are_the_specifications() {
        assert_eq!(size_of::<ConnectEntry>(), 64);
        assert_eq!(offset_of!(ConnectEntry, fabrics_type), 4);
        assert_eq!(offset_of!(ConnectEntry, sgl1), 24);
        assert_eq!(offset_of!(ConnectEntry, record_format), 40);
        assert_eq!(offset_of!(ConnectEntry, qid), 42);
        assert_eq!(offset_of!(ConnectEntry, entry_count_zero_based), 44);
        assert_eq!(offset_of!(ConnectEntry, attributes), 46);
        assert_eq!(offset_of!(ConnectEntry, keep_alive_ms), 48);
        assert_eq!(size_of::<PropertyEntry>(), 64);
        assert_eq!(offset_of!(PropertyEntry, attributes), 40);
        assert_eq!(offset_of!(PropertyEntry, offset), 44);
        assert_eq!(offset_of!(PropertyEntry, value), 48);
        assert_eq!(size_of::<DisconnectEntry>(), 64);
        assert_eq!(offset_of!(DisconnectEntry, record_format), 40);
    }

    #[test]
    fn property_set_of_cc_as_a_linux_host_sends_it() {
        let mut bytes = [0u8; 64];
        bytes[..5].copy_from_slice(&[0x7F, 0x40, 0x05, 0x00, 0x00]);
        bytes[39] = 0x40;
        bytes[40] = 0; // four bytes
        bytes[44] = 0x14; // CC
        bytes[48..52].copy_from_slice(&0x0046_0001u32.to_le_bytes());
        let mut entry = PropertyEntry::new(FabricsType::PropertySet);
        entry.command_id = U16::new(5);
        entry.offset = U32::new(0x14);
        entry.value = U64::new(0x0046_0001);
        assert_eq!(entry.to_bytes(), bytes);
    }
}
