//! The I/O commands beyond reading and writing.

use zerocopy::little_endian::{U32, U64};

use super::{access, plain, transfer};
use crate::command::{BlockRange, COPY_RANGE_LEN, DATASET_RANGE_LEN, DataPointer, Fuse, cdw11};
use crate::wire::{IoOpcode, SubmissionEntry};

/// Compare blocks with what the host has.
///
/// # Panics
/// As [`super::fill`].
#[must_use]
pub fn compare(command_id: u16, nsid: u32, range: BlockRange, data: DataPointer) -> [u8; 64] {
    transfer(IoOpcode::Compare, command_id, nsid, range, 0, data)
}

/// See that blocks can be read.
#[must_use]
pub fn verify(command_id: u16, nsid: u32, range: BlockRange) -> [u8; 64] {
    transfer(IoOpcode::Verify, command_id, nsid, range, 0, DataPointer::None)
}

/// Make blocks fail to be read.
#[must_use]
pub fn write_uncorrectable(command_id: u16, nsid: u32, range: BlockRange) -> [u8; 64] {
    transfer(IoOpcode::WriteUncorrectable, command_id, nsid, range, 0, DataPointer::None)
}

/// Deallocate ranges, 1 to 256, that [`deallocation_list`] made `data` of.
///
/// # Panics
/// As [`super::fill`].
#[must_use]
pub fn deallocate(command_id: u16, nsid: u32, range_count: u16, data: DataPointer) -> [u8; 64] {
    let mut entry = plain(IoOpcode::DatasetManagement.to_byte(), command_id);
    entry.nsid = U32::new(nsid);
    entry.sgl1 = super::descriptor(data);
    entry.cdw10 = U32::new(u32::from(range_count.saturating_sub(1)));
    entry.cdw11 = U32::new(cdw11::DEALLOCATE);
    entry.to_bytes()
}

/// Copy source ranges, 1 to 256, that [`copy_list`] made `data` of, to `start_block` and the blocks behind it.
///
/// # Panics
/// As [`super::fill`].
#[must_use]
pub fn copy(
    command_id: u16,
    nsid: u32,
    start_block: u64,
    range_count: u16,
    force_unit_access: bool,
    data: DataPointer,
) -> [u8; 64] {
    let mut entry = plain(IoOpcode::Copy.to_byte(), command_id);
    entry.nsid = U32::new(nsid);
    entry.sgl1 = super::descriptor(data);
    let [a, b, c, d, e, f, g, h] = start_block.to_le_bytes();
    entry.cdw10 = U32::from_bytes([a, b, c, d]);
    entry.cdw11 = U32::from_bytes([e, f, g, h]);
    entry.cdw12 = U32::new(u32::from(range_count.saturating_sub(1)) | access(force_unit_access));
    entry.to_bytes()
}

/// Makes one of a pair of a command that stands alone.
pub fn fuse(command: &mut [u8; 64], fuse: Fuse) {
    let bits = match fuse {
        Fuse::Alone => 0b00,
        Fuse::First => 0b01,
        Fuse::Second => 0b10,
    };
    command[1] = command[1] & !SubmissionEntry::FLAGS_FUSE_MASK | bits;
}

/// The list of a deallocation: first block and number of blocks of each range.
#[must_use]
pub fn deallocation_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let mut list = vec![0; ranges.len() * DATASET_RANGE_LEN as usize];
    for (entry, (start_block, block_count)) in list.chunks_exact_mut(DATASET_RANGE_LEN as usize).zip(ranges) {
        entry[4..8].copy_from_slice(&block_count.to_le_bytes());
        entry[8..16].copy_from_slice(U64::new(*start_block).as_ref());
    }
    list
}

/// The source ranges of a copy.
#[must_use]
pub fn copy_list(ranges: &[BlockRange]) -> Vec<u8> {
    let mut list = vec![0; ranges.len() * COPY_RANGE_LEN as usize];
    for (entry, range) in list.chunks_exact_mut(COPY_RANGE_LEN as usize).zip(ranges) {
        entry[8..16].copy_from_slice(&range.start_block().to_le_bytes());
        entry[16..18].copy_from_slice(&range.count_zero_based().to_le_bytes());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RemoteBuffer;
    use crate::command::{Command, IoCommand, IoKind, QueueKind};

    fn parsed(bytes: &[u8; 64]) -> IoKind {
        match Command::parse(QueueKind::Io, bytes) {
            Ok(Command::Io(IoCommand { nsid: 3, fuse: Fuse::Alone, kind })) => kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_host_makes_the_target_reads() {
        let keyed = |len| DataPointer::Keyed { buffer: RemoteBuffer { address: 7, len, key: 1 }, invalidate: false };
        let range = BlockRange::new(0x1_0000_0002, 9).unwrap();
        let data = keyed(9 * 512);
        assert_eq!(parsed(&compare(1, 3, range, data)), IoKind::Compare { range, data });
        assert_eq!(parsed(&verify(1, 3, range)), IoKind::Verify { range });
        assert_eq!(parsed(&write_uncorrectable(1, 3, range)), IoKind::WriteUncorrectable { range });
        for range_count in [1, 255, 256] {
            let data = keyed(u32::from(range_count) * 16);
            let kind = IoKind::DatasetManagement { range_count, deallocate: true, data };
            assert_eq!(parsed(&deallocate(1, 3, range_count, data)), kind);
            let data = keyed(u32::from(range_count) * 32);
            let kind = IoKind::Copy { start_block: 1 << 40 | 5, range_count, force_unit_access: true, data };
            assert_eq!(parsed(&copy(1, 3, 1 << 40 | 5, range_count, true, data)), kind);
        }
    }

    #[test]
    fn lists_in_bytes() {
        let list = deallocation_list(&[(0x0102_0304_0506, 7), (1, 1)]);
        assert_eq!(list[..16], [0, 0, 0, 0, 7, 0, 0, 0, 6, 5, 4, 3, 2, 1, 0, 0]);
        assert_eq!(list.len(), 32);
        let list = copy_list(&[BlockRange::new(0x0102_0304_0506, 0x1000).unwrap()]);
        assert_eq!(list.len(), 32);
        assert_eq!(list[8..20], [6, 5, 4, 3, 2, 1, 0, 0, 0xFF, 0x0F, 0, 0]);
    }
}
