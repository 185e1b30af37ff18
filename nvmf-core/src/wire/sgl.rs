//! SGL descriptors: where a command's data is [NVMe Base 2.0, 4.1.2].
//!
//! Over RDMA a command's SGL1 is one of three: a data block whose address is an offset into the capsule, a keyed data block in the host's
//! memory, or a last segment in the capsule that lists several of those. Everything else has a name here so that its refusal can say what it was.

use reactor::Segment;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::transport::RemoteBuffer;

/// Raw: 16 bytes, type in the high half and subtype in the low half of the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SglDescriptor {
    /// Address, or offset in the capsule.
    address: [u8; 8],
    /// Data block: four bytes of length, three reserved. Keyed: three bytes of length, four of key.
    body: [u8; 7],
    /// SGL identifier.
    identifier: u8,
}

/// Why a descriptor is none that this layer can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SglError {
    /// A type or subtype that RDMA or this target does not know.
    Type {
        /// The identifier byte.
        identifier: u8,
    },
    /// A segment of no descriptors, or of a part of one [NVMe Base 2.0, 4.1.2].
    Segment {
        /// Its bytes.
        len: u32,
    },
    /// More descriptors than [`KeyedList::COUNT_MAX`].
    Count {
        /// How many.
        count: u32,
    },
    /// A segment that is not inside what came with the capsule.
    Offset {
        /// Where it starts.
        offset: u64,
    },
}

/// Parsed: where a command's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPointer {
    /// The command has none.
    None,
    /// Data in the capsule.
    InCapsule {
        /// From the end of the 64 bytes (ICDOFF is 0).
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// Data in the host's memory.
    Keyed {
        /// Where.
        buffer: RemoteBuffer,
        /// Whether the host asks for its key to be invalidated with the response.
        invalidate: bool,
    },
    /// Data in several pieces of the host's memory.
    Listed(KeyedList),
}

/// Several keyed data blocks, as the capsule lists them behind the command. Their data is one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedList {
    /// Of the first descriptor, from the end of the 64 bytes (ICDOFF is 0).
    pub offset: u32,
    /// Descriptors: 1 to [`Self::COUNT_MAX`].
    pub count: u8,
    /// Bytes of data of all of them.
    pub len: u32,
    /// The last of their keys that the host wants invalidated with the response, which can name one.
    pub invalidate: Option<u32>,
}

impl KeyedList {
    /// Most descriptors of a command (MSDBD), as SPDK's target has it. Their lengths, of 24 bits each, add up to 28 bits.
    pub const COUNT_MAX: u8 = 16;

    /// Checks each descriptor of a list of `len` bytes at `offset` of `data`, what came with the capsule.
    fn check(offset: u64, len: u32, data: Option<Segment>) -> Result<Self, SglError> {
        if len == 0 || !len.is_multiple_of(SglDescriptor::LEN) {
            return Err(SglError::Segment { len });
        }
        let count = len / SglDescriptor::LEN;
        let Some(count) = u8::try_from(count).ok().filter(|count| *count <= Self::COUNT_MAX) else {
            return Err(SglError::Count { count });
        };
        let start = u32::try_from(offset).map_err(|_| SglError::Offset { offset })?;
        let end = u64::from(start) + u64::from(len);
        let Some(data) = data.filter(|data| end <= data.len() as u64) else { return Err(SglError::Offset { offset }) };
        let mut list = Self { offset: start, count, len: 0, invalidate: None };
        for index in 0..count {
            match list.descriptor(data, index).parse()? {
                DataPointer::Keyed { buffer, invalidate } => {
                    list.len += buffer.len;
                    if invalidate {
                        list.invalidate = Some(buffer.key);
                    }
                }
                // Data is all in the capsule or none of it [NVMe RDMA Transport 1.0, 3.3].
                DataPointer::InCapsule { .. } | DataPointer::Listed(_) | DataPointer::None => {
                    return Err(SglError::Type { identifier: SglDescriptor::DATA_BLOCK_OFFSET });
                }
            }
        }
        Ok(list)
    }

    fn descriptor(self, data: Segment, index: u8) -> SglDescriptor {
        let mut bytes = [0; SglDescriptor::LEN as usize];
        data.read(self.offset as usize + usize::from(index) * bytes.len(), &mut bytes);
        SglDescriptor::from_bytes(bytes)
    }

    /// The host's buffers, in order. `data` is what the list was found in, unchanged.
    pub(crate) fn buffers(self, data: Segment) -> impl Iterator<Item = RemoteBuffer> {
        (0..self.count).filter_map(move |index| match self.descriptor(data, index).parse() {
            Ok(DataPointer::Keyed { buffer, .. }) => Some(buffer),
            Ok(DataPointer::InCapsule { .. } | DataPointer::Listed(_) | DataPointer::None) | Err(_) => None,
        })
    }
}

impl DataPointer {
    /// Bytes of data.
    #[must_use]
    pub const fn len(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::InCapsule { len, .. } => *len,
            Self::Keyed { buffer, .. } => buffer.len,
            Self::Listed(list) => list.len,
        }
    }

    /// Whether there is not one byte of data.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key that the host wants invalidated with the response.
    #[must_use]
    pub const fn invalidate_key(&self) -> Option<u32> {
        match self {
            Self::Keyed { buffer, invalidate: true } => Some(buffer.key),
            Self::Listed(list) => list.invalidate,
            Self::Keyed { invalidate: false, .. } | Self::None | Self::InCapsule { .. } => None,
        }
    }

    /// As SGL1 says it; the descriptors of a list are the caller's to write. `None` where a keyed length has no room in 24 bits.
    #[must_use]
    pub const fn to_descriptor(self) -> Option<SglDescriptor> {
        match self {
            Self::None => Some(SglDescriptor::NO_DATA),
            Self::InCapsule { offset, len } => Some(SglDescriptor::in_capsule(offset, len)),
            Self::Keyed { buffer, invalidate } => SglDescriptor::keyed(buffer, invalidate),
            Self::Listed(list) => Some(SglDescriptor::last_segment(list.offset, list.count)),
        }
    }
}

impl SglDescriptor {
    /// Bytes of one.
    pub const LEN: u32 = 16;
    /// SGL Data Block, address: not over RDMA, which has no address without a key.
    pub const DATA_BLOCK_ADDRESS: u8 = 0x00;
    /// SGL Data Block, offset: in-capsule data.
    pub const DATA_BLOCK_OFFSET: u8 = 0x01;
    /// SGL Bit Bucket.
    pub const BIT_BUCKET: u8 = 0x10;
    /// SGL Segment, offset.
    pub const SEGMENT_OFFSET: u8 = 0x21;
    /// SGL Last Segment, offset: keyed descriptors in the capsule.
    pub const LAST_SEGMENT_OFFSET: u8 = 0x31;
    /// Keyed SGL Data Block, address.
    pub const KEYED_ADDRESS: u8 = 0x40;
    /// Keyed SGL Data Block, address, invalidate the key with the response [NVMe RDMA Transport 1.0, 3.3].
    pub const KEYED_INVALIDATE: u8 = 0x4F;
    /// Transport SGL Data Block (NVMe/TCP).
    pub const TRANSPORT: u8 = 0x5A;
    /// Largest length of a keyed descriptor: its field has 24 bits.
    pub const KEYED_LEN_MAX: u32 = 0x00FF_FFFF;

    /// In-capsule data.
    #[must_use]
    pub const fn in_capsule(offset: u64, len: u32) -> Self {
        let [a, b, c, d] = len.to_le_bytes();
        Self { address: offset.to_le_bytes(), body: [a, b, c, d, 0, 0, 0], identifier: Self::DATA_BLOCK_OFFSET }
    }

    /// Data in the host's memory. `None` if the length has no room in 24 bits.
    #[must_use]
    pub const fn keyed(buffer: RemoteBuffer, invalidate: bool) -> Option<Self> {
        if buffer.len > Self::KEYED_LEN_MAX {
            return None;
        }
        let [a, b, c, _] = buffer.len.to_le_bytes();
        let [k, l, m, n] = buffer.key.to_le_bytes();
        Some(Self {
            address: buffer.address.to_le_bytes(),
            body: [a, b, c, k, l, m, n],
            identifier: if invalidate { Self::KEYED_INVALIDATE } else { Self::KEYED_ADDRESS },
        })
    }

    /// A list of `count` keyed descriptors in the capsule.
    #[must_use]
    pub const fn last_segment(offset: u32, count: u8) -> Self {
        let [a, b, c, d] = (count as u32 * Self::LEN).to_le_bytes();
        let [o, p, q, r] = offset.to_le_bytes();
        Self { address: [o, p, q, r, 0, 0, 0, 0], body: [a, b, c, d, 0, 0, 0], identifier: Self::LAST_SEGMENT_OFFSET }
    }

    /// What a command without data carries: a keyed block of no bytes.
    pub const NO_DATA: Self = Self { address: [0; 8], body: [0; 7], identifier: Self::KEYED_ADDRESS };

    /// As it is on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LEN as usize] {
        zerocopy::transmute!(self)
    }

    /// Any bytes are one.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN as usize]) -> Self {
        zerocopy::transmute!(bytes)
    }

    /// Type and subtype.
    #[must_use]
    pub const fn identifier(&self) -> u8 {
        self.identifier
    }

    /// What it means over RDMA, as SGL1 of a capsule that `data` came with.
    ///
    /// # Errors
    /// [`SglError::Type`] for what is neither data in the capsule, nor behind a key, nor a list of the latter; another for a list that is not
    /// sound.
    pub fn resolve(&self, data: Option<Segment>) -> Result<DataPointer, SglError> {
        if self.identifier != Self::LAST_SEGMENT_OFFSET {
            return self.parse();
        }
        let [a, b, c, d, ..] = self.body;
        KeyedList::check(u64::from_le_bytes(self.address), u32::from_le_bytes([a, b, c, d]), data)
            .map(DataPointer::Listed)
    }

    /// What it means by itself.
    ///
    /// # Errors
    /// [`SglError::Type`] for every other type and subtype.
    pub const fn parse(&self) -> Result<DataPointer, SglError> {
        let address = u64::from_le_bytes(self.address);
        let [a, b, c, d, e, f, g] = self.body;
        match self.identifier {
            Self::DATA_BLOCK_OFFSET => {
                Ok(DataPointer::InCapsule { offset: address, len: u32::from_le_bytes([a, b, c, d]) })
            }
            Self::KEYED_ADDRESS | Self::KEYED_INVALIDATE => Ok(DataPointer::Keyed {
                buffer: RemoteBuffer {
                    address,
                    len: u32::from_le_bytes([a, b, c, 0]),
                    key: u32::from_le_bytes([d, e, f, g]),
                },
                invalidate: self.identifier == Self::KEYED_INVALIDATE,
            }),
            identifier => Err(SglError::Type { identifier }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::transmute;

    use super::*;

    #[test]
    fn real_bytes() {
        // Keyed: address 0x7fee12345000, 4096 bytes, key 0xA1B2C3D4, invalidate.
        let bytes: [u8; 16] =
            [0x00, 0x50, 0x34, 0x12, 0xEE, 0x7F, 0, 0, 0x00, 0x10, 0x00, 0xD4, 0xC3, 0xB2, 0xA1, 0x4F];
        let descriptor: SglDescriptor = transmute!(bytes);
        let buffer = RemoteBuffer { address: 0x7FEE_1234_5000, len: 4096, key: 0xA1B2_C3D4 };
        assert_eq!(descriptor.parse(), Ok(DataPointer::Keyed { buffer, invalidate: true }));
        assert_eq!(SglDescriptor::keyed(buffer, true), Some(descriptor));

        // In capsule: offset 16, 512 bytes.
        let bytes: [u8; 16] = [16, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0x01];
        let descriptor: SglDescriptor = transmute!(bytes);
        assert_eq!(descriptor.parse(), Ok(DataPointer::InCapsule { offset: 16, len: 512 }));
        assert_eq!(SglDescriptor::in_capsule(16, 512), descriptor);
    }

    #[test]
    fn only_three_identifiers_are_known() {
        for identifier in 0..=u8::MAX {
            let descriptor = SglDescriptor { identifier, ..SglDescriptor::default() };
            assert_eq!(descriptor.parse().is_ok(), matches!(identifier, 0x01 | 0x40 | 0x4F), "{identifier:#x}");
        }
    }

    #[test]
    fn a_length_of_more_than_24_bits_is_refused() {
        let buffer = RemoteBuffer { address: 0, len: 0x0100_0000, key: 0 };
        assert_eq!(SglDescriptor::keyed(buffer, false), None);
    }

    proptest! {
        #[test]
        fn keyed_round_trip(address: u64, len in 0..=SglDescriptor::KEYED_LEN_MAX, key: u32, invalidate: bool) {
            let buffer = RemoteBuffer { address, len, key };
            let descriptor = SglDescriptor::keyed(buffer, invalidate).unwrap();
            prop_assert_eq!(descriptor.parse(), Ok(DataPointer::Keyed { buffer, invalidate }));
        }

        #[test]
        fn in_capsule_round_trip(offset: u64, len: u32) {
            prop_assert_eq!(SglDescriptor::in_capsule(offset, len).parse(), Ok(DataPointer::InCapsule { offset, len }));
        }
    }
}
