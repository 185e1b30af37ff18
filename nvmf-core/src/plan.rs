//! Step 5 of the walk: an I/O command becomes one block operation, or a course of them.

use bdev::{Deallocation, OperationKind};

use crate::command::{BlockRange, DataPointer, IoKind};
use crate::course::{Course, Task};
use crate::limits::COPY_RANGE_COUNT_MAX;
use crate::lock::Span;
use crate::namespace::Namespace;
use crate::status::Status;

/// What an I/O command comes to: checked against the namespace, not yet given memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing: it is advice, and nobody takes it.
    Nothing,
    /// One operation, with all of the command's data.
    Once(Once),
    /// Several operations, one after the other.
    Course(Course),
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Once {
    pub(crate) kind: OperationKind,
    pub(crate) start_block: u64,
    pub(crate) block_count: u64,
    /// Bytes that come from or go to the host.
    pub(crate) data_len: u32,
}

impl Plan {
    /// The blocks that it reads or changes, if any.
    pub(crate) fn span(&self) -> Option<Span> {
        match self {
            Self::Nothing => None,
            Self::Once(once) if once.block_count == 0 => None,
            Self::Once(once) => Some(Span { start: once.start_block, end: once.start_block + once.block_count }),
            Self::Course(course) => Some(course.span()),
        }
    }
}

impl Namespace {
    /// What to do for a command. Transfers are at most `transfer_len_max` bytes.
    ///
    /// # Errors
    /// The status that answers a command which cannot be done here.
    pub(crate) fn plan(&self, kind: &IoKind, transfer_len_max: u32) -> Result<Plan, Status> {
        match *kind {
            IoKind::Flush => {
                Ok(Plan::Once(Once { kind: OperationKind::Flush, start_block: 0, block_count: 0, data_len: 0 }))
            }
            IoKind::Read { range, data } => {
                let data_len = self.transfer_len(range, &data, transfer_len_max)?;
                self.once(OperationKind::Read, range, data_len)
            }
            IoKind::Write { range, force_unit_access, data } => {
                let data_len = self.transfer_len(range, &data, transfer_len_max)?;
                self.writable()?;
                self.once(OperationKind::Write { force_unit_access }, range, data_len)
            }
            IoKind::WriteZeroes { range, deallocate, force_unit_access } => {
                self.writable()?;
                self.once(OperationKind::WriteZeroes { deallocate, force_unit_access }, range, 0)
            }
            // ONCS is the controller's, and says that some namespace can; this one may be of another device.
            IoKind::WriteUncorrectable { .. } if !self.geometry.writes_uncorrectable => Err(Status::INVALID_OPCODE),
            IoKind::WriteUncorrectable { range } => {
                self.writable()?;
                self.once(OperationKind::WriteUncorrectable, range, 0)
            }
            IoKind::Compare { range, data } => {
                self.transfer_len(range, &data, transfer_len_max)?;
                self.inside(range)?;
                let in_capsule = matches!(data, DataPointer::InCapsule { .. });
                Ok(self.course(Task::compare(range.start_block(), range.block_count(), in_capsule)))
            }
            IoKind::Verify { range } => {
                self.inside(range)?;
                Ok(self.course(Task::verify(range.start_block(), range.block_count())))
            }
            IoKind::DatasetManagement { range_count, deallocate, .. } => {
                if !deallocate || self.geometry.deallocation == Deallocation::Unsupported {
                    return Ok(Plan::Nothing);
                }
                self.writable()?;
                Ok(self.course(Task::deallocate(range_count)))
            }
            IoKind::Copy { start_block, range_count, force_unit_access, .. } => {
                self.writable()?;
                // MSRC [NVM Command Set 1.0, 3.2.2].
                if range_count > COPY_RANGE_COUNT_MAX {
                    return Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED);
                }
                Ok(self.course(Task::copy(start_block, range_count, force_unit_access)))
            }
            // Not an operation of a device.
            IoKind::Reservation(_) => Err(Status::INVALID_OPCODE),
        }
    }

    fn once(&self, kind: OperationKind, range: BlockRange, data_len: u32) -> Result<Plan, Status> {
        self.inside(range)?;
        let block_count = u64::from(range.block_count());
        if block_count > self.geometry.operation_block_count_max {
            // Identify told hosts: MDTS for transfers, and for the others nothing that a host could know [NVM Command Set 1.0, 3.2.8].
            return Err(Status::INVALID_FIELD);
        }
        Ok(Plan::Once(Once { kind, start_block: range.start_block(), block_count, data_len }))
    }

    fn course(&self, task: Task) -> Plan {
        Plan::Course(Course::new(task, &self.geometry))
    }

    fn inside(&self, range: BlockRange) -> Result<(), Status> {
        if range.fits(self.geometry.block_count) { Ok(()) } else { Err(Status::LBA_OUT_OF_RANGE) }
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

    use super::*;
    use crate::transport::RemoteBuffer;

    const LEN_MAX: u32 = 128 * 1024;

    fn namespace(read_only: bool) -> Namespace {
        let geometry = Geometry {
            read_only,
            deallocation: Deallocation::Zeroes,
            writes_uncorrectable: true,
            ..Geometry::plain(512, 1000, 512)
        };
        Namespace::blank(geometry)
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
        let once = Once { kind: OperationKind::Read, start_block: 992, block_count: 8, data_len: 4096 };
        assert_eq!(read(992, 8, 4096), Ok(Plan::Once(once)));
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
        let kinds = [
            IoKind::Write { range, force_unit_access: false, data: keyed(512) },
            IoKind::WriteZeroes { range, deallocate: false, force_unit_access: false },
            IoKind::WriteUncorrectable { range },
            IoKind::DatasetManagement { range_count: 1, deallocate: true, data: keyed(16) },
            IoKind::Copy { start_block: 0, range_count: 1, force_unit_access: false, data: keyed(32) },
        ];
        for kind in kinds {
            assert_eq!(namespace(true).plan(&kind, LEN_MAX), Err(Status::NAMESPACE_WRITE_PROTECTED), "{kind:?}");
            assert!(namespace(false).plan(&kind, LEN_MAX).is_ok(), "{kind:?}");
        }
        for kind in [IoKind::Verify { range }, IoKind::Compare { range, data: keyed(512) }] {
            assert!(namespace(true).plan(&kind, LEN_MAX).is_ok(), "{kind:?}");
        }
    }

    #[test]
    fn advice_is_taken_where_it_can_be() {
        let advice = IoKind::DatasetManagement { range_count: 1, deallocate: false, data: keyed(16) };
        assert_eq!(namespace(true).plan(&advice, LEN_MAX), Ok(Plan::Nothing));
        let deallocate = IoKind::DatasetManagement { range_count: 1, deallocate: true, data: keyed(16) };
        let mut unable = namespace(false);
        unable.geometry.deallocation = Deallocation::Unsupported;
        assert_eq!(unable.plan(&deallocate, LEN_MAX), Ok(Plan::Nothing));
        unable.geometry.writes_uncorrectable = false;
        let range = BlockRange::new(0, 1).unwrap();
        assert_eq!(unable.plan(&IoKind::WriteUncorrectable { range }, LEN_MAX), Err(Status::INVALID_OPCODE));
    }
}
