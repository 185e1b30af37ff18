//! The bytes that an operation names, checked against the device.
//!
//! The submitter has checked the range already; a device checks again, since the memory behind a segment is reached by raw copies and an
//! operation that is wrong must end in an error, never in a copy beyond the device or a panic.

use crate::channel::{Operation, OperationKind};
use crate::device::{BdevError, Deallocation, DeviceError, Geometry};

/// Largest operation of every device, in bytes: what Write Zeroes can ask for with 65,536 blocks of 4096.
const OPERATION_LEN_MAX: u64 = 256 << 20;

/// A range of a device in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First byte.
    pub(crate) offset: u64,
    /// Bytes. 0 for a flush.
    pub(crate) len: u64,
}

/// Checks kind, range and data of `operation`, and gives its bytes.
pub(crate) fn extent(geometry: &Geometry, operation: &Operation) -> Result<Extent, DeviceError> {
    let needs_data = match operation.kind {
        OperationKind::Flush => return Ok(Extent { offset: 0, len: 0 }),
        OperationKind::Read => true,
        kind if kind.is_change() && geometry.read_only => return Err(DeviceError::ReadOnly),
        OperationKind::Deallocate if geometry.deallocation == Deallocation::Unsupported => {
            return Err(DeviceError::Unsupported);
        }
        OperationKind::WriteUncorrectable if !geometry.writes_uncorrectable => return Err(DeviceError::Unsupported),
        OperationKind::Write { .. } => true,
        OperationKind::WriteZeroes { .. } | OperationKind::Deallocate | OperationKind::WriteUncorrectable => false,
    };
    let range = range(geometry, operation.start_block, operation.block_count).ok_or(DeviceError::OutOfRange)?;
    match operation.data {
        Some(data) if needs_data && data.len() as u64 == range.len => Ok(range),
        // Too much or too little memory is the submitter's bug; it still must not become a copy beyond the segment.
        Some(_) | None if needs_data => Err(DeviceError::Internal),
        Some(_) | None => Ok(range),
    }
}

/// The bytes of a range of blocks. `None` if they are not all on the device, or none or too many for one operation.
pub(crate) fn range(geometry: &Geometry, start_block: u64, block_count: u64) -> Option<Extent> {
    let end = start_block.checked_add(block_count)?;
    if block_count == 0 || end > geometry.block_count || block_count > geometry.operation_block_count_max {
        return None;
    }
    let block_len = u64::from(geometry.block_len);
    Some(Extent { offset: start_block.checked_mul(block_len)?, len: block_count.checked_mul(block_len)? })
}

/// Checks the two numbers that every device is described by, and gives the geometry of a plain device made of them.
pub(crate) fn geometry(device: &str, block_len: u32, block_count: u64) -> Result<Geometry, BdevError> {
    if block_len != 512 && block_len != 4096 {
        return Err(BdevError::Field {
            device: device.to_owned(),
            field: "block size",
            value: block_len.to_string(),
            allowed: "512 or 4096",
        });
    }
    // 2^63 bytes: offsets of files and of copies stay positive.
    if block_count == 0 || block_count > i64::MAX as u64 / u64::from(block_len) {
        return Err(BdevError::Field {
            device: device.to_owned(),
            field: "size",
            value: format!("{block_count} blocks"),
            allowed: "at least one block, and less than 8 EiB",
        });
    }
    Ok(Geometry::plain(block_len, block_count, OPERATION_LEN_MAX / u64::from(block_len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(kind: OperationKind, start_block: u64, block_count: u64) -> Operation {
        Operation { token: 1, host: 0, kind, start_block, block_count, data: None }
    }

    #[test]
    fn ranges_beyond_the_device_are_refused_without_wrapping() {
        let geometry = geometry("d", 512, 100).unwrap();
        assert_eq!(range(&geometry, 99, 1), Some(Extent { offset: 99 * 512, len: 512 }));
        for (start, count) in [(100, 1), (99, 2), (0, 101), (u64::MAX, 1), (u64::MAX, u64::MAX), (1, u64::MAX), (5, 0)]
        {
            assert_eq!(range(&geometry, start, count), None, "{start}+{count}");
        }
    }

    #[test]
    fn data_is_required_where_it_moves_and_writes_are_refused_where_they_are_not_allowed() {
        let mut geometry = geometry("d", 512, 100).unwrap();
        let zeroes = OperationKind::WriteZeroes { deallocate: false, force_unit_access: false };
        assert_eq!(extent(&geometry, &operation(OperationKind::Read, 0, 1)), Err(DeviceError::Internal));
        assert_eq!(extent(&geometry, &operation(zeroes, 1, 2)), Ok(Extent { offset: 512, len: 1024 }));
        geometry.read_only = true;
        let write = OperationKind::Write { force_unit_access: false };
        assert_eq!(extent(&geometry, &operation(write, 0, 1)), Err(DeviceError::ReadOnly));
        assert_eq!(extent(&geometry, &operation(zeroes, 0, 1)), Err(DeviceError::ReadOnly));
        assert_eq!(extent(&geometry, &operation(OperationKind::Flush, 0, 0)), Ok(Extent { offset: 0, len: 0 }));
    }

    #[test]
    fn a_wrong_description_names_device_field_and_value() {
        assert_eq!(geometry("disk0", 520, 8).unwrap_err().to_string(), "disk0: block size is 520: 512 or 4096");
        assert_eq!(
            geometry("disk0", 512, 0).unwrap_err().to_string(),
            "disk0: size is 0 blocks: at least one block, and less than 8 EiB"
        );
    }
}
