//! Step 5 of the walk: an I/O command becomes a block operation.

use bdev::OperationKind;

use crate::command::{BlockRange, DataPointer, IoKind};
use crate::namespace::Namespace;
use crate::status::Status;

/// What an I/O command comes to: checked against the namespace, not yet given memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) kind: OperationKind,
    pub(crate) start_block: u64,
    pub(crate) block_count: u64,
    /// Bytes that come from or go to the host.
    pub(crate) data_len: u32,
}

impl Namespace {
    /// What to do for a command. Transfers are at most `transfer_len_max` bytes.
    ///
    /// # Errors
    /// The status that answers a command which cannot be done here.
    pub(crate) fn plan(&self, kind: &IoKind, transfer_len_max: u32) -> Result<Plan, Status> {
        match *kind {
            IoKind::Flush => Ok(Plan { kind: OperationKind::Flush, start_block: 0, block_count: 0, data_len: 0 }),
            IoKind::Read { range, data } => {
                let data_len = self.transfer_len(range, &data, transfer_len_max)?;
                self.ranged(OperationKind::Read, range, data_len)
            }
            IoKind::Write { range, force_unit_access, data } => {
                let data_len = self.transfer_len(range, &data, transfer_len_max)?;
                self.writable()?;
                self.ranged(OperationKind::Write { force_unit_access }, range, data_len)
            }
            IoKind::WriteZeroes { range, deallocate, force_unit_access } => {
                self.writable()?;
                self.ranged(OperationKind::WriteZeroes { deallocate, force_unit_access }, range, 0)
            }
            // Not an operation of a device.
            IoKind::Reservation(_) => Err(Status::INVALID_OPCODE),
        }
    }

    fn ranged(&self, kind: OperationKind, range: BlockRange, data_len: u32) -> Result<Plan, Status> {
        if !range.fits(self.geometry.block_count) {
            return Err(Status::LBA_OUT_OF_RANGE);
        }
        let block_count = u64::from(range.block_count());
        if block_count > self.geometry.operation_block_count_max {
            // Identify told hosts: MDTS for transfers, and for Write Zeroes nothing that a host could know [NVM Command Set 1.0, 3.2.8].
            return Err(Status::INVALID_FIELD);
        }
        Ok(Plan { kind, start_block: range.start_block(), block_count, data_len })
    }

    fn writable(&self) -> Result<(), Status> {
        if self.geometry.read_only { Err(Status::NAMESPACE_WRITE_PROTECTED) } else { Ok(()) }
    }

    /// The command's bytes: at most MDTS [NVMe 1.4, 5.15.2.2], and exactly what the SGL describes.
    fn transfer_len(&self, range: BlockRange, data: &DataPointer, transfer_len_max: u32) -> Result<u32, Status> {
        let len = u32::try_from(range.byte_len(self.geometry.block_len)).map_err(|_| Status::INVALID_FIELD)?;
        if len > transfer_len_max {
            return Err(Status::INVALID_FIELD);
        }
        if data.len() == len { Ok(len) } else { Err(Status::SGL_LENGTH_INVALID) }
    }
}

#[cfg(test)]
mod tests {
    use bdev::Geometry;
    use uuid::Uuid;

    use super::*;
    use crate::namespace::DeviceIndex;
    use crate::transport::RemoteBuffer;

    const LEN_MAX: u32 = 128 * 1024;

    fn namespace(read_only: bool) -> Namespace {
        let geometry = Geometry { read_only, ..Geometry::plain(512, 1000, 512) };
        Namespace { nsid: 1, device: DeviceIndex(0), geometry, uuid: Uuid::nil(), nguid: [0; 16], standing: None }
    }

    fn keyed(len: u32) -> DataPointer {
        DataPointer::Keyed { buffer: RemoteBuffer { address: 0, len, key: 0 }, invalidate: false }
    }

    fn read(start: u64, count: u32, len: u32) -> Result<Plan, Status> {
        let range = BlockRange::new(start, count).unwrap();
        namespace(false).plan(&IoKind::Read { range, data: keyed(len) }, LEN_MAX)
    }

    #[test]
    fn ranges_are_checked_at_both_ends() {
        let plan = Plan { kind: OperationKind::Read, start_block: 992, block_count: 8, data_len: 4096 };
        assert_eq!(read(992, 8, 4096), Ok(plan));
        assert_eq!(read(993, 8, 4096), Err(Status::LBA_OUT_OF_RANGE));
        assert_eq!(read(u64::MAX, 8, 4096), Err(Status::LBA_OUT_OF_RANGE));
        assert_eq!(read(0, 8, 4095), Err(Status::SGL_LENGTH_INVALID));
        assert_eq!(read(0, 8, 8192), Err(Status::SGL_LENGTH_INVALID));
        assert_eq!(read(0, 512, 512 * 512), Err(Status::INVALID_FIELD), "more than the largest transfer");
        assert_eq!(read(0, 65_536, 0), Err(Status::INVALID_FIELD));
    }

    #[test]
    fn a_read_only_device_takes_no_writes() {
        let range = BlockRange::new(0, 1).unwrap();
        let write = IoKind::Write { range, force_unit_access: false, data: keyed(512) };
        let zeroes = IoKind::WriteZeroes { range, deallocate: false, force_unit_access: false };
        for kind in [write, zeroes] {
            assert_eq!(namespace(true).plan(&kind, LEN_MAX), Err(Status::NAMESPACE_WRITE_PROTECTED));
            assert!(namespace(false).plan(&kind, LEN_MAX).is_ok());
        }
    }
}
