//! The completion queue entry: the 16 bytes of every response capsule [NVMe Base 2.0, 3.3.3.2].

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute};

use crate::status::Status;

/// Any response's 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CompletionEntry {
    /// DW0 and DW1: what the command gives back.
    pub result: U64,
    /// SQHD: how far the controller has fetched; 0xFFFF where SQ flow control is off.
    pub sq_head: U16,
    /// SQID. Reserved over fabrics: 0.
    pub sq_id: U16,
    /// CID.
    pub command_id: U16,
    /// Phase tag in bit 0 (0 over fabrics), status above it.
    pub status_field: U16,
}

impl CompletionEntry {
    /// The end of command `command_id`, with no result and SQHD 0.
    #[must_use]
    pub const fn new(command_id: u16, status: Status) -> Self {
        Self {
            result: U64::new(0),
            sq_head: U16::new(0),
            sq_id: U16::new(0),
            command_id: U16::new(command_id),
            status_field: U16::new(status.to_field()),
        }
    }

    /// The same with a result in DW0 and DW1.
    #[must_use]
    pub const fn with_result(mut self, result: u64) -> Self {
        self.result = U64::new(result);
        self
    }

    /// The same with SQHD.
    #[must_use]
    pub const fn with_sq_head(mut self, sq_head: u16) -> Self {
        self.sq_head = U16::new(sq_head);
        self
    }

    /// Any 16 bytes are an entry.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        transmute!(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        transmute!(self)
    }

    /// How the command ended.
    #[must_use]
    pub const fn status(&self) -> Status {
        Status::from_field(self.status_field.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_bytes() {
        let entry =
            CompletionEntry::new(0x1234, Status::INVALID_FIELD).with_result(0x0807_0605_0403_0201).with_sq_head(9);
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0x34, 0x12, 0x04, 0x80];
        assert_eq!(entry.to_bytes(), bytes);
        assert_eq!(CompletionEntry::from_bytes(bytes), entry);
        assert_eq!(entry.status(), Status::INVALID_FIELD);
    }
}
