//! Identify Namespace, lists of namespaces, and the pages of one command set [NVM Command Set 1.0, 4.1.5; NVMe Base 2.0, 5.17.2].

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One LBA format: 4 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LbaFormat {
    /// MS: bytes of metadata with each block.
    pub metadata_len: U16,
    /// LBADS: bytes of a block as a power of two; below 9 the format is not there.
    pub block_len_exponent: u8,
    /// RP: 0 is best.
    pub relative_performance: u8,
}

/// Identify Namespace: 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IdentifyNamespace {
    /// NSZE, in blocks.
    pub block_count: U64,
    /// NCAP, in blocks.
    pub capacity_block_count: U64,
    /// NUSE, in blocks.
    pub used_block_count: U64,
    /// NSFEAT: thin provisioning is bit 0.
    pub nsfeat: u8,
    /// NLBAF.
    pub lba_format_count_zero_based: u8,
    /// FLBAS: format index, bits 3:0 and 6:5.
    pub flbas: u8,
    /// MC.
    pub mc: u8,
    /// DPC.
    pub dpc: u8,
    /// DPS.
    pub dps: u8,
    /// NMIC: bit 0, shared by several controllers.
    pub nmic: u8,
    /// RESCAP.
    pub rescap: u8,
    /// FPI.
    pub fpi: u8,
    /// DLFEAT: deallocated blocks read as zero (bits 2:0 = 1), Write Zeroes may deallocate (bit 3).
    pub dlfeat: u8,
    /// NAWUN, zero-based.
    pub nawun_zero_based: U16,
    /// NAWUPF, zero-based.
    pub nawupf_zero_based: U16,
    /// NACWU, zero-based.
    pub nacwu_zero_based: U16,
    /// NABSN.
    pub nabsn: U16,
    /// NABO.
    pub nabo: U16,
    /// NABSPF.
    pub nabspf: U16,
    /// NOIOB.
    pub noiob: U16,
    /// NVMCAP, in bytes.
    pub capacity_bytes: U128,
    /// NPWG, zero-based.
    pub npwg_zero_based: U16,
    /// NPWA, zero-based.
    pub npwa_zero_based: U16,
    /// NPDG, zero-based.
    pub npdg_zero_based: U16,
    /// NPDA, zero-based.
    pub npda_zero_based: U16,
    /// NOWS, zero-based.
    pub nows_zero_based: U16,
    /// MSSRL.
    pub mssrl: U16,
    /// MCL.
    pub mcl: U32,
    /// MSRC, zero-based.
    pub msrc_zero_based: u8,
    reserved_81: [u8; 11],
    /// ANAGRPID.
    pub ana_group_id: U32,
    reserved_96: [u8; 3],
    /// NSATTR: bit 0, write protected.
    pub nsattr: u8,
    /// NVMSETID.
    pub nvmsetid: U16,
    /// ENDGID.
    pub endgid: U16,
    /// NGUID; zero is none.
    pub nguid: [u8; 16],
    /// EUI64; zero is none.
    pub eui64: [u8; 8],
    /// LBAF0 to LBAF63.
    pub lba_formats: [LbaFormat; 64],
    reserved_384: [u8; 3712],
}

impl IdentifyNamespace {
    /// NSFEAT bit 1: NAWUN, NAWUPF and NACWU say more than the controller's.
    pub const NSFEAT_ATOMIC: u8 = 1 << 1;
    /// NSFEAT bit 4: NPWG, NPWA, NPDG, NPDA and NOWS are there.
    pub const NSFEAT_PREFERRED: u8 = 1 << 4;
    /// NMIC bit 0.
    pub const NMIC_SHARED: u8 = 1;
    /// DLFEAT: deallocated blocks read as zeroes.
    pub const DLFEAT_READ_ZERO: u8 = 0b001;
    /// DLFEAT bit 3: Write Zeroes takes DEAC.
    pub const DLFEAT_WRITE_ZEROES_DEALLOCATE: u8 = 1 << 3;
    /// NSATTR bit 0.
    pub const NSATTR_WRITE_PROTECTED: u8 = 1;

    /// The format in use. `None` if FLBAS names one that is not there.
    #[must_use]
    pub fn format(&self) -> Option<LbaFormat> {
        // Bits 6:5 are the upper bits only where there are more than 16 formats [NVM Command Set 1.0, figure 97].
        let upper = if self.lba_format_count_zero_based >= 16 { (self.flbas >> 5) & 0b11 } else { 0 };
        let index = usize::from(upper << 4 | self.flbas & 0xF);
        if index > usize::from(self.lba_format_count_zero_based) {
            return None;
        }
        self.lba_formats.get(index).copied()
    }
}

impl NamespaceIndependent {
    /// NSTAT bit 0: ready.
    pub const NSTAT_READY: u8 = 1;
}

impl LbaFormat {
    /// Bytes of a block. `None` for a format that is not there (below 512) or has no 32-bit length.
    #[must_use]
    pub const fn block_len(self) -> Option<u32> {
        if self.block_len_exponent < 9 { None } else { 1u32.checked_shl(self.block_len_exponent as u32) }
    }
}

/// Up to 2047 controller ids, ascending, behind their number [NVMe Base 2.0, 4.4.1].
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ControllerList {
    /// How many.
    pub count: U16,
    /// The ids.
    pub ids: [U16; Self::COUNT_MAX],
}

impl ControllerList {
    /// Ids of one page.
    pub const COUNT_MAX: usize = 2047;

    /// The first page's worth of `ids`, which ascend, from `first` on.
    #[must_use]
    pub fn new(ids: impl IntoIterator<Item = u16>, first: u16) -> Self {
        let mut list = Self::new_zeroed();
        let mut count = 0;
        for (place, id) in list.ids.iter_mut().zip(ids.into_iter().filter(|id| *id >= first)) {
            place.set(id);
            count += 1;
        }
        list.count.set(count);
        list
    }
}

/// The combinations of I/O command sets: 4096 bytes [NVMe Base 2.0, figures 289 and 290].
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CommandSetCombinations {
    /// A bit by CSI in each.
    pub combinations: [U64; 512],
}

impl CommandSetCombinations {
    /// The NVM command set alone.
    #[must_use]
    pub fn nvm() -> Self {
        let mut page = Self::new_zeroed();
        page.combinations[0].set(1);
        page
    }
}

/// Up to 1024 namespace ids, ascending, ended by 0.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NamespaceList {
    /// The ids.
    pub nsids: [U32; Self::COUNT_MAX],
}

impl NamespaceList {
    /// Ids of one page.
    pub const COUNT_MAX: usize = 1024;

    /// The first page's worth of `nsids`, which ascend, above `after`.
    #[must_use]
    pub fn new(nsids: impl IntoIterator<Item = u32>, after: u32) -> Self {
        let mut list = Self::new_zeroed();
        for (place, nsid) in list.nsids.iter_mut().zip(nsids.into_iter().filter(|nsid| *nsid > after)) {
            place.set(nsid);
        }
        list
    }

    /// The ids up to the first 0.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.nsids.iter().map(|nsid| nsid.get()).take_while(|nsid| *nsid != 0)
    }
}

/// Identify Controller of the NVM command set: 4096 bytes; all zero means "no limit but MDTS" [NVM Command Set 1.0, 4.1.5].
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ControllerCommandSet {
    /// VSL.
    pub verify_size_limit: u8,
    /// WZSL: largest Write Zeroes, in the unit of MDTS; 0 is no limit.
    pub write_zeroes_size_limit: u8,
    /// WUSL.
    pub write_uncorrectable_size_limit: u8,
    /// DMRL.
    pub deallocate_ranges_max: u8,
    /// DMRSL.
    pub deallocate_range_size_max: U32,
    /// DMSL.
    pub deallocate_size_max: U64,
    reserved_16: [u8; 4080],
}

/// Identify Namespace of the NVM command set: 4096 bytes; all zero means no storage tags [NVM Command Set 1.0, 4.1.5].
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NamespaceCommandSet {
    /// LBSTM.
    pub storage_tag_mask: U64,
    /// PIC.
    pub protection_capabilities: u8,
    reserved_9: [u8; 3],
    /// ELBAF0 to ELBAF63.
    pub extended_formats: [U32; 64],
    reserved_268: [u8; 3828],
}

/// Identify Namespace, independent of the I/O command set: 4096 bytes [NVMe Base 2.0, figure 280].
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NamespaceIndependent {
    /// NSFEAT.
    pub nsfeat: u8,
    /// NMIC.
    pub nmic: u8,
    /// RESCAP.
    pub rescap: u8,
    /// FPI.
    pub fpi: u8,
    /// ANAGRPID.
    pub ana_group_id: U32,
    /// NSATTR.
    pub nsattr: u8,
    reserved_9: u8,
    /// NVMSETID.
    pub nvmsetid: U16,
    /// ENDGID.
    pub endgid: U16,
    /// NSTAT: ready is bit 0.
    pub nstat: u8,
    reserved_15: [u8; 4081],
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn places_are_the_specifications() {
        assert_eq!(size_of::<IdentifyNamespace>(), 4096);
        macro_rules! at {
            ($type:ty: $($field:ident: $offset:literal,)*) => {
                $(assert_eq!(offset_of!($type, $field), $offset, stringify!($field));)*
            };
        }
        at! { IdentifyNamespace:
            block_count: 0, capacity_block_count: 8, used_block_count: 16, nsfeat: 24, lba_format_count_zero_based: 25,
            flbas: 26, dps: 29, nmic: 30, rescap: 31, dlfeat: 33, nawun_zero_based: 34, noiob: 46, capacity_bytes: 48,
            npwg_zero_based: 64, mssrl: 74, mcl: 76, msrc_zero_based: 80, ana_group_id: 92, nsattr: 99, nvmsetid: 100,
            endgid: 102, nguid: 104, eui64: 120, lba_formats: 128,
        }
        at! { NamespaceIndependent: ana_group_id: 4, nsattr: 8, nvmsetid: 10, endgid: 12, nstat: 14, }
        at! { NamespaceCommandSet: extended_formats: 12, }
        at! { ControllerCommandSet: deallocate_range_size_max: 4, deallocate_size_max: 8, }
        assert_eq!(size_of::<NamespaceList>(), 4096);
        assert_eq!(size_of::<ControllerList>(), 4096);
        assert_eq!(ControllerList::new([1, 4, 9], 4).as_bytes()[..8], [2, 0, 4, 0, 9, 0, 0, 0]);
        assert_eq!(size_of::<CommandSetCombinations>(), 4096);
        assert_eq!(size_of::<ControllerCommandSet>(), 4096);
        assert_eq!(size_of::<NamespaceCommandSet>(), 4096);
        assert_eq!(size_of::<NamespaceIndependent>(), 4096);
    }

    #[test]
    fn the_format_in_use() {
        let mut namespace = IdentifyNamespace::new_zeroed();
        namespace.lba_formats[0].block_len_exponent = 9;
        namespace.lba_formats[1].block_len_exponent = 12;
        assert_eq!(namespace.format().and_then(LbaFormat::block_len), Some(512));
        namespace.flbas = 1;
        assert_eq!(namespace.format(), None);
        namespace.lba_format_count_zero_based = 1;
        assert_eq!(namespace.format().and_then(LbaFormat::block_len), Some(4096));
        // Bits 6:5 count only with more than 16 formats.
        namespace.flbas = 0b0110_0001;
        assert_eq!(namespace.format().and_then(LbaFormat::block_len), Some(4096));
        namespace.lba_format_count_zero_based = 63;
        assert_eq!(namespace.format().and_then(LbaFormat::block_len), None);
        for flbas in 0..=u8::MAX {
            for count in [0, 15, 16, 63, 255] {
                namespace.flbas = flbas;
                namespace.lba_format_count_zero_based = count;
                let _ = namespace.format();
            }
        }
        for exponent in 0..=u8::MAX {
            let format = LbaFormat { block_len_exponent: exponent, ..LbaFormat::default() };
            assert_eq!(format.block_len().is_some(), (9..32).contains(&exponent));
        }
    }

    #[test]
    fn lists_are_paged() {
        let list = NamespaceList::new(1..=3000, 0);
        assert_eq!(list.iter().count(), 1024);
        assert_eq!(list.iter().last(), Some(1024));
        assert_eq!(NamespaceList::new(1..=3000, 2999).iter().collect::<Vec<_>>(), [3000]);
        assert_eq!(NamespaceList::new([1, 5], 5).iter().count(), 0);
        assert_eq!(&NamespaceList::new([0x0102], 0).as_bytes()[..8], &[2, 1, 0, 0, 0, 0, 0, 0]);
    }
}
