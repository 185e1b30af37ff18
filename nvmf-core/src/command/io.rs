//! I/O commands of the NVM command set [NVM Command Set 1.0, 3.2].

use super::reservation::{self, ReservationCommand};
use super::{CommandError, DataPointer, Sgl, data_from_host, data_to_host};
use crate::reservation::Access;
use crate::wire::{IoOpcode, SubmissionEntry};

/// A command on an I/O queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoCommand {
    /// Which namespace. Not looked up yet: 0 and FFFFFFFFh are possible.
    pub nsid: u32,
    /// What.
    pub kind: IoKind,
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
    /// Who may do what with the namespace.
    Reservation(ReservationCommand),
}

impl IoKind {
    /// What reservations of others may keep it from [NVM Command Set 1.0, 'Reservations']. Flush is of the write group.
    pub(crate) const fn access(&self) -> Access {
        match self {
            Self::Read { .. } => Access::Read,
            Self::Flush | Self::Write { .. } | Self::WriteZeroes { .. } => Access::Write,
            Self::Reservation(_) => Access::Reservation,
        }
    }
}

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
    };
    Ok(IoCommand { nsid, kind })
}

fn range(entry: &SubmissionEntry) -> Result<BlockRange, CommandError> {
    // No namespace has protection information, so nothing can be checked or inserted [NVM Command Set 1.0, 5.2].
    if entry.cdw12.get() & cdw12::PROTECTION_MASK != 0 {
        return Err(CommandError::Field { byte: 48 });
    }
    let [low, high, ..] = entry.cdw12.get().to_le_bytes();
    Ok(BlockRange {
        start_block: u64::from(entry.cdw11.get()) << 32 | u64::from(entry.cdw10.get()),
        count_zero_based: u16::from_le_bytes([low, high]),
    })
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
        assert_eq!(io(&transfer(2)), Ok(IoCommand { nsid: 3, kind: IoKind::Read { range, data: DATA } }));
        assert_eq!(
            io(&transfer(1)),
            Ok(IoCommand { nsid: 3, kind: IoKind::Write { range, force_unit_access: false, data: DATA } })
        );
        let mut bytes = transfer(1);
        bytes[51] = 0b1100_0000; // LR, FUA
        assert_eq!(
            io(&bytes),
            Ok(IoCommand { nsid: 3, kind: IoKind::Write { range, force_unit_access: true, data: DATA } })
        );
    }

    #[test]
    fn write_zeroes_and_flush() {
        let mut bytes = transfer(8);
        bytes[51] = 0b0100_0010; // FUA, DEAC
        bytes[39] = 0; // its SGL means nothing
        let range = BlockRange::new(0x1_0000_0002, 8).unwrap();
        let kind = IoKind::WriteZeroes { range, deallocate: true, force_unit_access: true };
        assert_eq!(io(&bytes), Ok(IoCommand { nsid: 3, kind }));
        bytes[0] = 0;
        assert_eq!(io(&bytes), Ok(IoCommand { nsid: 3, kind: IoKind::Flush }));
    }

    #[test]
    fn protection_information_is_refused() {
        for bit in 26..30 {
            for opcode in [1, 2, 8] {
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
