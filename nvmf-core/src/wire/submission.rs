//! The submission queue entry: the 64 bytes that every command capsule starts with [NVMe Base 2.0, 3.3.3.1].

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute};

use super::sgl::SglDescriptor;

/// Any command's 64 bytes, with the names that hold for all but Fabrics commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SubmissionEntry {
    /// OPC.
    pub opcode: u8,
    /// FUSE in bits 1:0, PSDT in bits 7:6.
    pub flags: u8,
    /// CID: the host's name for the command.
    pub command_id: U16,
    /// NSID.
    pub nsid: U32,
    /// CDW2.
    pub cdw2: U32,
    /// CDW3.
    pub cdw3: U32,
    /// MPTR.
    pub metadata_pointer: U64,
    /// SGL1.
    pub sgl1: SglDescriptor,
    /// CDW10.
    pub cdw10: U32,
    /// CDW11.
    pub cdw11: U32,
    /// CDW12.
    pub cdw12: U32,
    /// CDW13.
    pub cdw13: U32,
    /// CDW14.
    pub cdw14: U32,
    /// CDW15.
    pub cdw15: U32,
}

impl SubmissionEntry {
    /// FUSE in [`Self::flags`].
    pub const FLAGS_FUSE_MASK: u8 = 0b0000_0011;
    /// PSDT in [`Self::flags`].
    pub const FLAGS_PSDT_MASK: u8 = 0b1100_0000;
    /// PSDT 01b: SGL1 describes the data; the only value that fabrics know.
    pub const FLAGS_PSDT_SGL: u8 = 0b0100_0000;

    /// All zero but the opcode and PSDT.
    #[must_use]
    pub fn new(opcode: u8) -> Self {
        let mut bytes = [0; 64];
        bytes[0] = opcode;
        bytes[1] = Self::FLAGS_PSDT_SGL;
        Self::from_bytes(bytes)
    }

    /// Any 64 bytes are an entry.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        transmute!(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 64] {
        transmute!(self)
    }

    /// FUSE: 00b for a command that stands alone.
    #[must_use]
    pub const fn fuse(&self) -> u8 {
        self.flags & Self::FLAGS_FUSE_MASK
    }

    /// Whether SGL1 describes the data.
    #[must_use]
    pub const fn uses_sgl(&self) -> bool {
        self.flags & Self::FLAGS_PSDT_MASK == Self::FLAGS_PSDT_SGL
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn places_are_the_specifications() {
        assert_eq!(size_of::<SubmissionEntry>(), 64);
        assert_eq!(offset_of!(SubmissionEntry, flags), 1);
        assert_eq!(offset_of!(SubmissionEntry, command_id), 2);
        assert_eq!(offset_of!(SubmissionEntry, nsid), 4);
        assert_eq!(offset_of!(SubmissionEntry, metadata_pointer), 16);
        assert_eq!(offset_of!(SubmissionEntry, sgl1), 24);
        assert_eq!(offset_of!(SubmissionEntry, cdw10), 40);
        assert_eq!(offset_of!(SubmissionEntry, cdw12), 48);
        assert_eq!(offset_of!(SubmissionEntry, cdw15), 60);
    }

    #[test]
    fn real_bytes() {
        // Read of 8 blocks at 0x0102030405060708 of namespace 1, command id 0xBEEF.
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&[0x02, 0x40, 0xEF, 0xBE, 1, 0, 0, 0]);
        bytes[40..50].copy_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1, 7, 0]);
        let entry = SubmissionEntry::from_bytes(bytes);
        assert_eq!(entry.opcode, 2);
        assert_eq!(entry.command_id.get(), 0xBEEF);
        assert_eq!(entry.nsid.get(), 1);
        assert_eq!(entry.cdw10.get(), 0x0506_0708);
        assert_eq!(entry.cdw11.get(), 0x0102_0304);
        assert_eq!(entry.cdw12.get(), 7);
        assert!(entry.uses_sgl());
        assert_eq!(entry.fuse(), 0);
        assert_eq!(entry.to_bytes(), bytes);
    }

    #[test]
    fn psdt_has_one_legal_value() {
        for psdt in 0..4u8 {
            let mut entry = SubmissionEntry::new(0);
            entry.flags = psdt << 6;
            assert_eq!(entry.uses_sgl(), psdt == 1);
        }
    }
}
