//! I/O commands of the NVM command set [NVM Command Set 1.0, 3.2].

use super::reservation::{self, ReservationCommand};
use super::{CommandError, DataPointer, Sgl, data_from_host, data_to_host, exact};
use crate::reservation::Access;
use crate::wire::{IoOpcode, SubmissionEntry};

/// A command on an I/O queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoCommand {
    /// Which namespace. Not looked up yet: 0 and FFFFFFFFh are possible.
    pub nsid: u32,
    /// Whether it is one of a pair.
    pub fuse: Fuse,
    /// What.
    pub kind: IoKind,
}

/// FUSE: whether two commands, one behind the other in their queue, are one operation [NVMe Base 2.0, 3.4.2].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fuse {
    /// It stands alone.
    Alone,
    /// The next command belongs to it.
    First,
    /// It belongs to the command before.
    Second,
}

impl Fuse {
    /// Of the 64 bytes of a command on an I/O queue, whatever else they say. 11b is reserved, and the parser refuses it.
    #[must_use]
    pub const fn of(bytes: &[u8; 64]) -> Self {
        match bytes[1] & SubmissionEntry::FLAGS_FUSE_MASK {
            0b01 => Self::First,
            0b10 => Self::Second,
            _ => Self::Alone,
        }
    }
}

/// What an I/O command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// All completed writes to stable storage.
    Flush,
    /// Blocks to the host.
    Read {
        /// Which.
        range: BlockRange,
        /// Where to: its length is checked against the range by whoever knows the block length.
        data: DataPointer,
    },
    /// Blocks from the host.
    Write {
        /// Which.
        range: BlockRange,
        /// Completed only when on stable storage.
        force_unit_access: bool,
        /// Where from: as for reads.
        data: DataPointer,
    },
    /// Blocks read as zero afterwards.
    WriteZeroes {
        /// Which.
        range: BlockRange,
        /// Their space may be given back.
        deallocate: bool,
        /// Completed only when on stable storage.
        force_unit_access: bool,
    },
    /// Blocks fail to be read until they are written.
    WriteUncorrectable {
        /// Which.
        range: BlockRange,
    },
    /// Whether blocks are what the host has.
    Compare {
        /// Which.
        range: BlockRange,
        /// Where the host's are: as for writes.
        data: DataPointer,
    },
    /// Whether blocks can be read.
    Verify {
        /// Which.
        range: BlockRange,
    },
    /// What the host means to do with ranges of blocks.
    DatasetManagement {
        /// Entries of the list: 1 to 256.
        range_count: u16,
        /// AD: it needs them no longer. The other attributes are hints at how they will be used.
        deallocate: bool,
        /// Where the list is: at least as long as the entries. Hosts may send a whole page for one of them, as Linux does.
        data: DataPointer,
    },
    /// Blocks to other blocks of the namespace.
    Copy {
        /// SDLBA: where the first goes; the others follow.
        start_block: u64,
        /// Source range entries: 1 to 256.
        range_count: u16,
        /// Completed only when on stable storage.
        force_unit_access: bool,
        /// Where they are: exactly as long as the entries.
        data: DataPointer,
    },
    /// Who may do what with the namespace.
    Reservation(ReservationCommand),
}

impl IoKind {
    /// What reservations of others may keep it from [NVM Command Set 1.0, 'Reservations']. Flush is of the write group.
    pub(crate) const fn access(&self) -> Access {
        match self {
            Self::Read { .. } | Self::Compare { .. } | Self::Verify { .. } => Access::Read,
            Self::Flush
            | Self::Write { .. }
            | Self::WriteZeroes { .. }
            | Self::WriteUncorrectable { .. }
            | Self::DatasetManagement { .. }
            | Self::Copy { .. } => Access::Write,
            Self::Reservation(_) => Access::Reservation,
        }
    }
}

/// Bytes of one entry of a Dataset Management list [NVM Command Set 1.0, figure 43].
pub(crate) const DATASET_RANGE_LEN: u32 = 16;
/// Bytes of one source range entry of format 0 [NVM Command Set 1.0, figure 37].
pub(crate) const COPY_RANGE_LEN: u32 = 32;

/// Blocks of a namespace: 1 to 65,536 of them. May reach past the namespace's end, or past the end of `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRange {
    start_block: u64,
    count_zero_based: u16,
}

impl BlockRange {
    /// Most blocks of one command.
    pub const COUNT_MAX: u32 = 65_536;

    /// `None` unless `block_count` is 1 to [`Self::COUNT_MAX`].
    #[must_use]
    pub fn new(start_block: u64, block_count: u32) -> Option<Self> {
        let count_zero_based = u16::try_from(block_count.checked_sub(1)?).ok()?;
        Some(Self { start_block, count_zero_based })
    }

    /// SLBA.
    #[must_use]
    pub const fn start_block(self) -> u64 {
        self.start_block
    }

    /// NLB, as a count.
    #[must_use]
    pub const fn block_count(self) -> u32 {
        self.count_zero_based as u32 + 1
    }

    /// NLB as on the wire.
    #[must_use]
    pub const fn count_zero_based(self) -> u16 {
        self.count_zero_based
    }

    /// Whether all of it is inside a namespace of `namespace_block_count` blocks.
    #[must_use]
    pub const fn fits(self, namespace_block_count: u64) -> bool {
        match self.start_block.checked_add(self.block_count() as u64) {
            Some(end) => end <= namespace_block_count,
            None => false,
        }
    }

    /// Bytes of it. Cannot overflow: 17 bits of blocks times 32 bits.
    #[must_use]
    pub const fn byte_len(self, block_len: u32) -> u64 {
        self.block_count() as u64 * block_len as u64
    }
}

/// CDW11 of Dataset Management.
pub(crate) mod cdw11 {
    /// AD.
    pub(crate) const DEALLOCATE: u32 = 1 << 2;
}

/// CDW12 of Copy: its source ranges are below these, and FUA and PRINFOW where they are in a write.
pub(crate) mod copy_cdw12 {
    /// Descriptor Format.
    pub(crate) const FORMAT_MASK: u32 = 0xF << 8;
    /// PRINFOR.
    pub(crate) const READ_PROTECTION_MASK: u32 = 0xF << 12;
}

/// CDW12 of reads, writes and Write Zeroes: the number of blocks is below these.
pub(crate) mod cdw12 {
    /// DEAC.
    pub(crate) const DEALLOCATE: u32 = 1 << 25;
    /// PRINFO: PRACT and PRCHK.
    pub(crate) const PROTECTION_MASK: u32 = 0xF << 26;
    /// FUA.
    pub(crate) const FORCE_UNIT_ACCESS: u32 = 1 << 30;
}

pub(super) fn parse(entry: &SubmissionEntry, sgl: Sgl) -> Result<IoCommand, CommandError> {
    let nsid = entry.nsid.get();
    let force_unit_access = entry.cdw12.get() & cdw12::FORCE_UNIT_ACCESS != 0;
    let opcode = IoOpcode::from_byte(entry.opcode).ok_or(CommandError::Opcode { opcode: entry.opcode })?;
    let kind = match opcode {
        IoOpcode::Flush => IoKind::Flush,
        // Limited Retry (bit 31) allows less effort, and FUA on a read adds nothing: what is read is what was written.
        IoOpcode::Read => IoKind::Read { range: range(entry)?, data: data_to_host(sgl)? },
        IoOpcode::Write => IoKind::Write { range: range(entry)?, force_unit_access, data: data_from_host(sgl)? },
        IoOpcode::WriteZeroes => IoKind::WriteZeroes {
            range: range(entry)?,
            deallocate: entry.cdw12.get() & cdw12::DEALLOCATE != 0,
            force_unit_access,
        },
        IoOpcode::ReservationRegister => IoKind::Reservation(reservation::register(entry, sgl)?),
        IoOpcode::ReservationReport => IoKind::Reservation(reservation::report(entry, sgl)?),
        IoOpcode::ReservationAcquire => IoKind::Reservation(reservation::acquire(entry, sgl)?),
        IoOpcode::ReservationRelease => IoKind::Reservation(reservation::release(entry, sgl)?),
        IoOpcode::WriteUncorrectable => IoKind::WriteUncorrectable { range: blocks(entry) },
        // FUA asks that it is the medium that is compared or verified: nothing nearer is kept.
        IoOpcode::Compare => IoKind::Compare { range: range(entry)?, data: data_from_host(sgl)? },
        IoOpcode::Verify => IoKind::Verify { range: range(entry)? },
        IoOpcode::DatasetManagement => dataset_management(entry, sgl)?,
        IoOpcode::Copy => copy(entry, sgl)?,
    };
    let fuse = match entry.fuse() {
        0b00 => Fuse::Alone,
        0b01 => Fuse::First,
        0b10 => Fuse::Second,
        _ => return Err(CommandError::Field { byte: 1 }),
    };
    Ok(IoCommand { nsid, fuse, kind })
}

fn dataset_management(entry: &SubmissionEntry, sgl: Sgl) -> Result<IoKind, CommandError> {
    let range_count = u16::from(entry.cdw10.get().to_le_bytes()[0]) + 1;
    let data = data_from_host(sgl)?;
    if data.len() < u32::from(range_count) * DATASET_RANGE_LEN {
        return Err(CommandError::SglLength);
    }
    let deallocate = entry.cdw11.get() & cdw11::DEALLOCATE != 0;
    Ok(IoKind::DatasetManagement { range_count, deallocate, data })
}

fn copy(entry: &SubmissionEntry, sgl: Sgl) -> Result<IoKind, CommandError> {
    let flags = entry.cdw12.get();
    // Format 0 is the one that OCFS names [NVM Command Set 1.0, 3.2.2]; without protection information there is nothing to check or insert.
    if flags & (copy_cdw12::FORMAT_MASK | copy_cdw12::READ_PROTECTION_MASK | cdw12::PROTECTION_MASK) != 0 {
        return Err(CommandError::Field { byte: 48 });
    }
    let range_count = u16::from(flags.to_le_bytes()[0]) + 1;
    let data = exact(data_from_host(sgl)?, u32::from(range_count) * COPY_RANGE_LEN)?;
    let force_unit_access = flags & cdw12::FORCE_UNIT_ACCESS != 0;
    Ok(IoKind::Copy { start_block: start_block(entry), range_count, force_unit_access, data })
}

fn range(entry: &SubmissionEntry) -> Result<BlockRange, CommandError> {
    // No namespace has protection information, so nothing can be checked or inserted [NVM Command Set 1.0, 5.2].
    if entry.cdw12.get() & cdw12::PROTECTION_MASK != 0 {
        return Err(CommandError::Field { byte: 48 });
    }
    Ok(blocks(entry))
}

fn blocks(entry: &SubmissionEntry) -> BlockRange {
    let [low, high, ..] = entry.cdw12.get().to_le_bytes();
    BlockRange { start_block: start_block(entry), count_zero_based: u16::from_le_bytes([low, high]) }
}

fn start_block(entry: &SubmissionEntry) -> u64 {
    u64::from(entry.cdw11.get()) << 32 | u64::from(entry.cdw10.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RemoteBuffer;
    use crate::command::{Command, QueueKind};
    use crate::status::Status;

    fn io(bytes: &[u8; 64]) -> Result<IoCommand, Status> {
        match Command::parse(QueueKind::Io, bytes).map_err(CommandError::status)? {
            Command::Io(command) => Ok(command),
            other @ (Command::Admin(_) | Command::Fabrics(_)) => panic!("{other:?}"),
        }
    }

    /// 8 blocks from 0x1_0000_0002 of namespace 3, and 4096 bytes behind a key.
    fn transfer(opcode: u8) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&[opcode, 0x40, 7, 0, 3, 0, 0, 0]);
        bytes[24..40].copy_from_slice(&[0, 0x10, 0, 0, 0, 0, 0, 0, 0x00, 0x10, 0x00, 1, 0, 0, 0, 0x40]);
        bytes[40..48].copy_from_slice(&[2, 0, 0, 0, 1, 0, 0, 0]);
        bytes[48..50].copy_from_slice(&[7, 0]);
        bytes
    }

    const DATA: DataPointer =
        DataPointer::Keyed { buffer: RemoteBuffer { address: 0x1000, len: 4096, key: 1 }, invalidate: false };

    #[test]
    fn reads_and_writes() {
        let range = BlockRange::new(0x1_0000_0002, 8).unwrap();
        assert_eq!(
            io(&transfer(2)),
            Ok(IoCommand { nsid: 3, fuse: Fuse::Alone, kind: IoKind::Read { range, data: DATA } })
        );
        assert_eq!(
            io(&transfer(1)),
            Ok(IoCommand {
                nsid: 3,
                fuse: Fuse::Alone,
                kind: IoKind::Write { range, force_unit_access: false, data: DATA }
            })
        );
        let mut bytes = transfer(1);
        bytes[51] = 0b1100_0000; // LR, FUA
        assert_eq!(
            io(&bytes),
            Ok(IoCommand {
                nsid: 3,
                fuse: Fuse::Alone,
                kind: IoKind::Write { range, force_unit_access: true, data: DATA }
            })
        );
    }

    #[test]
    fn write_zeroes_and_flush() {
        let mut bytes = transfer(8);
        bytes[51] = 0b0100_0010; // FUA, DEAC
        bytes[39] = 0; // its SGL means nothing
        let range = BlockRange::new(0x1_0000_0002, 8).unwrap();
        let kind = IoKind::WriteZeroes { range, deallocate: true, force_unit_access: true };
        assert_eq!(io(&bytes), Ok(IoCommand { nsid: 3, fuse: Fuse::Alone, kind }));
        bytes[0] = 0;
        assert_eq!(io(&bytes), Ok(IoCommand { nsid: 3, fuse: Fuse::Alone, kind: IoKind::Flush }));
    }

    #[test]
    fn protection_information_is_refused() {
        for bit in 26..30 {
            for opcode in [1, 2, 5, 8, 0xC] {
                let mut bytes = transfer(opcode);
                bytes[48..52].copy_from_slice(&(7 | 1u32 << bit).to_le_bytes());
                assert_eq!(io(&bytes), Err(Status::INVALID_FIELD));
            }
        }
    }

    #[test]
    fn data_for_the_host_is_never_in_the_capsule() {
        let mut bytes = transfer(2);
        bytes[39] = 0x01;
        assert_eq!(io(&bytes), Err(Status::SGL_TYPE_INVALID));
        bytes[0] = 1;
        assert!(io(&bytes).is_ok());
    }

    #[test]
    fn ranges_at_the_edges() {
        assert_eq!(BlockRange::new(0, 0), None);
        assert_eq!(BlockRange::new(0, 65_537), None);
        let most = BlockRange::new(u64::MAX, 65_536).unwrap();
        assert_eq!(most.block_count(), 65_536);
        assert!(!most.fits(u64::MAX));
        assert_eq!(most.byte_len(u32::MAX), 65_536 * u64::from(u32::MAX));
        let last = BlockRange::new(99, 1).unwrap();
        assert!(last.fits(100) && !last.fits(99));
    }
}
