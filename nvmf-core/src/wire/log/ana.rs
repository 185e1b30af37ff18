//! Asymmetric Namespace Access: the log page [NVMe Base 2.0, 5.16.1.13].

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// LSP bit 0: groups without their namespaces.
pub const GROUPS_ONLY: u8 = 1;

/// The page's start: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AnaHeader {
    /// Counts changes of the page.
    pub change_count: U64,
    /// Groups.
    pub group_count: U16,
    reserved_10: [u8; 6],
}

/// One group: 32 bytes, and its namespaces' ids of 4 bytes behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AnaGroupHeader {
    /// ANAGRPID.
    pub id: U32,
    /// Ids that follow.
    pub nsid_count: U32,
    /// Counts changes of the group, or of the page.
    pub change_count: U64,
    /// State in bits 3:0.
    pub state: u8,
    reserved_17: [u8; 15],
}

impl AnaHeader {
    /// Of its numbers.
    #[must_use]
    pub fn new(change_count: u64, group_count: u16) -> Self {
        Self { change_count: U64::new(change_count), group_count: U16::new(group_count), ..Self::new_zeroed() }
    }
}

impl AnaGroupHeader {
    /// Of its fields.
    #[must_use]
    pub fn new(id: u32, nsid_count: u32, change_count: u64, state: u8) -> Self {
        let (id, nsid_count, change_count) = (U32::new(id), U32::new(nsid_count), U64::new(change_count));
        Self { id, nsid_count, change_count, state, ..Self::new_zeroed() }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn places_are_the_specifications() {
        assert_eq!((size_of::<AnaHeader>(), offset_of!(AnaHeader, group_count)), (16, 8));
        assert_eq!((size_of::<AnaGroupHeader>(), offset_of!(AnaGroupHeader, state)), (32, 16));
    }
}
