//! How a drive's commands end, in the block layer's terms.
//!
//! The kernel gives a status as a positive number: the completion entry's status field without its phase bit, so code, type, and the bits above them
//! that say whether it is worth another try. What did not come from the drive is a negated errno.

use crate::channel::OperationKind;
use crate::device::DeviceError;

/// Code and type of a status, without what stands above them [NVMe Base 2.0, 3.3.3.2].
const CODE: u32 = 0x7FF;

/// A drive's result.
pub(super) fn device_error(result: i32, kind: OperationKind) -> Result<(), DeviceError> {
    match u32::try_from(result) {
        Ok(0) => Ok(()),
        Ok(status) => Err(of_status(status & CODE, kind)),
        Err(_) => Err(of_errno(result.saturating_neg())),
    }
}

/// [NVMe Base 2.0, 3.3.3.2.1 to 3.3.3.2.4].
fn of_status(status: u32, kind: OperationKind) -> DeviceError {
    let fault = if kind == OperationKind::Read { DeviceError::ReadFault } else { DeviceError::WriteFault };
    match status {
        // LBA Out of Range.
        0x080 => DeviceError::OutOfRange,
        // Capacity Exceeded.
        0x081 => DeviceError::NoSpace,
        // Invalid Command Opcode.
        0x001 => DeviceError::Unsupported,
        // Namespace is Write Protected; Attempted Write to Read Only Range.
        0x020 | 0x182 => DeviceError::ReadOnly,
        // Data Transfer Error.
        0x004 => fault,
        // Invalid Namespace or Format: it was detached. Reservation Conflict: it is another host's.
        0x00B | 0x083 => DeviceError::PathLost,
        // Write Fault.
        0x280 => DeviceError::WriteFault,
        // Unrecovered Read Error; Deallocated or Unwritten Logical Block.
        0x281 | 0x287 => DeviceError::ReadFault,
        // Checks of protection information: there is none, so that a drive that says so has lost its way.
        0x282..=0x284 => fault,
        // Path related: Linux says so of a drive that is being reset or has gone.
        0x300..=0x3FF => DeviceError::PathLost,
        _ => DeviceError::Internal,
    }
}

fn of_errno(errno: i32) -> DeviceError {
    match errno {
        // The drive has gone, or was reset under the command.
        libc::ENODEV | libc::ENXIO | libc::EINTR | libc::ESHUTDOWN | libc::EIO => DeviceError::PathLost,
        // Its device file was opened for reading, or the process may not do this.
        libc::EACCES | libc::EPERM => DeviceError::ReadOnly,
        libc::EOPNOTSUPP => DeviceError::Unsupported,
        _ => DeviceError::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: OperationKind = OperationKind::Write { force_unit_access: false };

    #[test]
    fn a_status_is_named_for_what_was_done_whatever_stands_above_its_code() {
        for (status, kind, error) in [
            (0x080, OperationKind::Read, DeviceError::OutOfRange),
            (0x081, WRITE, DeviceError::NoSpace),
            (0x001, WRITE, DeviceError::Unsupported),
            (0x020, WRITE, DeviceError::ReadOnly),
            (0x004, OperationKind::Read, DeviceError::ReadFault),
            (0x004, WRITE, DeviceError::WriteFault),
            (0x00B, WRITE, DeviceError::PathLost),
            (0x280, WRITE, DeviceError::WriteFault),
            (0x281, OperationKind::Read, DeviceError::ReadFault),
            (0x283, WRITE, DeviceError::WriteFault),
            (0x371, WRITE, DeviceError::PathLost),
            (0x006, WRITE, DeviceError::Internal),
            (0x7FF, WRITE, DeviceError::Internal),
        ] {
            for above in [0, 0x4000, 0x6000, 0x7800] {
                assert_eq!(device_error(status | above, kind), Err(error), "{status:#x} {above:#x}");
            }
        }
        assert_eq!(device_error(0, WRITE), Ok(()));
    }

    #[test]
    fn no_status_and_no_errno_is_success() {
        for result in (i32::MIN..=i32::MIN + 100).chain(-4096..0).chain(1..0x8000) {
            let is_ok = device_error(result, OperationKind::Flush).is_ok();
            assert!(!is_ok, "{result}");
        }
    }
}
