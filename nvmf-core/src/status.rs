//! NVMe status values: what a completion entry says about how its command ended [NVMe Base 2.0, 3.3.3.2].
//!
//! A [`Status`] is the 15 bits above the phase tag. The constants carry the *do not retry* bit that this target answers with; two values
//! that differ in it alone are the same code, so compare with [`Status::is`] what came from elsewhere.
//!
//! Stands beside steps 2 to 9 of the walk: every error type of this layer ends in one of these.

use std::fmt;

use bdev::DeviceError;

/// How a command ended: status code type, status code, and whether a retry is useless.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(u16);

/// Bits 10:8 of a status: which table the code is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusCodeType(pub u8);

impl StatusCodeType {
    /// Any command.
    pub const GENERIC: Self = Self(0);
    /// A meaning that depends on the command.
    pub const COMMAND_SPECIFIC: Self = Self(1);
    /// The medium, or data that did not compare.
    pub const MEDIA: Self = Self(2);
    /// The path to the namespace (ANA and transport).
    pub const PATH: Self = Self(3);
}

impl Status {
    const SC_MASK: u16 = 0x00FF;
    const SCT_SHIFT: u16 = 8;
    const SCT_MASK: u16 = 0x7;
    const MORE: u16 = 1 << 13;
    const DO_NOT_RETRY: u16 = 1 << 14;

    /// *Command size limit exceeded*, of I/O commands; Fabrics commands mean something else by the same code.
    pub const COMMAND_SIZE_LIMIT_EXCEEDED: Self = Self::CONNECT_RESTART_DISCOVERY;

    /// Of a code type (3 bits), a code, and whether a retry is useless.
    #[must_use]
    pub const fn new(code_type: StatusCodeType, code: u8, do_not_retry: bool) -> Self {
        let bits = (((code_type.0 as u16) & Self::SCT_MASK) << Self::SCT_SHIFT) | code as u16;
        Self(if do_not_retry { bits | Self::DO_NOT_RETRY } else { bits })
    }

    /// From the status field of a completion entry, whose lowest bit is the phase tag.
    #[must_use]
    pub const fn from_field(field: u16) -> Self {
        Self(field >> 1)
    }

    /// The status field of a completion entry. Its phase tag is 0, as everywhere over fabrics.
    #[must_use]
    pub const fn to_field(self) -> u16 {
        self.0 << 1
    }

    /// Which table.
    #[must_use]
    pub const fn code_type(self) -> StatusCodeType {
        StatusCodeType(((self.0 >> Self::SCT_SHIFT) & Self::SCT_MASK).to_le_bytes()[0])
    }

    /// The code in its table.
    #[must_use]
    pub const fn code(self) -> u8 {
        (self.0 & Self::SC_MASK).to_le_bytes()[0]
    }

    /// Whether the same command would fail again.
    #[must_use]
    pub const fn do_not_retry(self) -> bool {
        self.0 & Self::DO_NOT_RETRY != 0
    }

    /// Whether the error log has more about it.
    #[must_use]
    pub const fn has_more(self) -> bool {
        self.0 & Self::MORE != 0
    }

    /// The same with a retry declared useful or useless.
    #[must_use]
    pub const fn with_do_not_retry(self, do_not_retry: bool) -> Self {
        Self(if do_not_retry { self.0 | Self::DO_NOT_RETRY } else { self.0 & !Self::DO_NOT_RETRY })
    }

    /// Whether the command did what it should.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.is(Self::SUCCESS)
    }

    /// Whether it is the same code, whatever its other bits.
    #[must_use]
    pub const fn is(self, other: Self) -> bool {
        let mask = (Self::SCT_MASK << Self::SCT_SHIFT) | Self::SC_MASK;
        self.0 & mask == other.0 & mask
    }
}

/// `NAME: type, code, retry | no_retry, "words";` becomes a constant and a line of [`Status::name`].
macro_rules! statuses {
    ($($name:ident: $code_type:ident, $code:literal, $retry:ident, $words:literal;)*) => {
        impl Status {
            $(
                #[doc = concat!("The code for *", $words, "*.")]
                pub const $name: Self = Self::new(StatusCodeType::$code_type, $code, statuses!(@ $retry));
            )*

            /// Every code that has a constant.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// In words. `None` for a code that has no constant here.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match (self.code_type(), self.code()) {
                    $((StatusCodeType::$code_type, $code) => Some($words),)*
                    _ => None,
                }
            }
        }
    };
    (@ retry) => { false };
    (@ no_retry) => { true };
}

statuses! {
    // Generic.
    SUCCESS: GENERIC, 0x00, retry, "success";
    INVALID_OPCODE: GENERIC, 0x01, no_retry, "invalid command opcode";
    INVALID_FIELD: GENERIC, 0x02, no_retry, "invalid field in command";
    COMMAND_ID_CONFLICT: GENERIC, 0x03, no_retry, "command id conflict";
    DATA_TRANSFER_ERROR: GENERIC, 0x04, retry, "data transfer error";
    ABORTED_POWER_LOSS: GENERIC, 0x05, retry, "commands aborted due to power loss";
    INTERNAL_ERROR: GENERIC, 0x06, retry, "internal error";
    ABORT_REQUESTED: GENERIC, 0x07, retry, "command abort requested";
    ABORTED_QUEUE_DELETED: GENERIC, 0x08, retry, "command aborted due to queue deletion";
    ABORTED_FUSED_FAILED: GENERIC, 0x09, retry, "command aborted due to failed fused command";
    ABORTED_FUSED_MISSING: GENERIC, 0x0A, no_retry, "command aborted due to missing fused command";
    INVALID_NAMESPACE: GENERIC, 0x0B, no_retry, "invalid namespace or format";
    COMMAND_SEQUENCE_ERROR: GENERIC, 0x0C, no_retry, "command sequence error";
    SGL_SEGMENT_INVALID: GENERIC, 0x0D, no_retry, "invalid SGL segment descriptor";
    SGL_COUNT_INVALID: GENERIC, 0x0E, no_retry, "invalid number of SGL descriptors";
    SGL_LENGTH_INVALID: GENERIC, 0x0F, no_retry, "data SGL length invalid";
    METADATA_SGL_LENGTH_INVALID: GENERIC, 0x10, no_retry, "metadata SGL length invalid";
    SGL_TYPE_INVALID: GENERIC, 0x11, no_retry, "SGL descriptor type invalid";
    CONTROLLER_MEMORY_BUFFER_INVALID: GENERIC, 0x12, no_retry, "invalid use of controller memory buffer";
    PRP_OFFSET_INVALID: GENERIC, 0x13, no_retry, "PRP offset invalid";
    ATOMIC_WRITE_UNIT_EXCEEDED: GENERIC, 0x14, no_retry, "atomic write unit exceeded";
    OPERATION_DENIED: GENERIC, 0x15, no_retry, "operation denied";
    SGL_OFFSET_INVALID: GENERIC, 0x16, no_retry, "SGL offset invalid";
    HOST_ID_FORMAT_INCONSISTENT: GENERIC, 0x18, no_retry, "host identifier inconsistent format";
    KEEP_ALIVE_EXPIRED: GENERIC, 0x19, no_retry, "keep alive timer expired";
    KEEP_ALIVE_INVALID: GENERIC, 0x1A, no_retry, "keep alive timeout invalid";
    ABORTED_PREEMPT: GENERIC, 0x1B, retry, "command aborted due to preempt and abort";
    SANITIZE_FAILED: GENERIC, 0x1C, no_retry, "sanitize failed";
    SANITIZE_IN_PROGRESS: GENERIC, 0x1D, retry, "sanitize in progress";
    SGL_GRANULARITY_INVALID: GENERIC, 0x1E, no_retry, "SGL data block granularity invalid";
    NOT_SUPPORTED_IN_CMB_QUEUE: GENERIC, 0x1F, no_retry, "command not supported for queue in controller memory buffer";
    NAMESPACE_WRITE_PROTECTED: GENERIC, 0x20, no_retry, "namespace is write protected";
    COMMAND_INTERRUPTED: GENERIC, 0x21, retry, "command interrupted";
    TRANSIENT_TRANSPORT_ERROR: GENERIC, 0x22, retry, "transient transport error";
    COMMAND_LOCKED_DOWN: GENERIC, 0x23, no_retry, "command prohibited by command and feature lockdown";
    ADMIN_MEDIA_NOT_READY: GENERIC, 0x24, retry, "admin command media not ready";
    LBA_OUT_OF_RANGE: GENERIC, 0x80, no_retry, "LBA out of range";
    CAPACITY_EXCEEDED: GENERIC, 0x81, no_retry, "capacity exceeded";
    NAMESPACE_NOT_READY: GENERIC, 0x82, retry, "namespace not ready";
    RESERVATION_CONFLICT: GENERIC, 0x83, no_retry, "reservation conflict";
    FORMAT_IN_PROGRESS: GENERIC, 0x84, retry, "format in progress";

    // Command specific. 80h and above mean one thing for Fabrics commands and another for I/O commands.
    INVALID_COMPLETION_QUEUE: COMMAND_SPECIFIC, 0x00, no_retry, "completion queue invalid";
    INVALID_QUEUE_ID: COMMAND_SPECIFIC, 0x01, no_retry, "invalid queue identifier";
    INVALID_QUEUE_SIZE: COMMAND_SPECIFIC, 0x02, no_retry, "invalid queue size";
    ABORT_LIMIT_EXCEEDED: COMMAND_SPECIFIC, 0x03, retry, "abort command limit exceeded";
    EVENT_REQUEST_LIMIT_EXCEEDED: COMMAND_SPECIFIC, 0x05, no_retry, "asynchronous event request limit exceeded";
    INVALID_FIRMWARE_SLOT: COMMAND_SPECIFIC, 0x06, no_retry, "invalid firmware slot";
    INVALID_FIRMWARE_IMAGE: COMMAND_SPECIFIC, 0x07, no_retry, "invalid firmware image";
    INVALID_INTERRUPT_VECTOR: COMMAND_SPECIFIC, 0x08, no_retry, "invalid interrupt vector";
    INVALID_LOG_PAGE: COMMAND_SPECIFIC, 0x09, no_retry, "invalid log page";
    INVALID_FORMAT: COMMAND_SPECIFIC, 0x0A, no_retry, "invalid format";
    INVALID_QUEUE_DELETION: COMMAND_SPECIFIC, 0x0C, no_retry, "invalid queue deletion";
    FEATURE_NOT_SAVEABLE: COMMAND_SPECIFIC, 0x0D, no_retry, "feature identifier not saveable";
    FEATURE_NOT_CHANGEABLE: COMMAND_SPECIFIC, 0x0E, no_retry, "feature not changeable";
    FEATURE_NOT_NAMESPACE_SPECIFIC: COMMAND_SPECIFIC, 0x0F, no_retry, "feature not namespace specific";
    OVERLAPPING_RANGE: COMMAND_SPECIFIC, 0x14, no_retry, "overlapping range";
    NAMESPACE_ALREADY_ATTACHED: COMMAND_SPECIFIC, 0x18, no_retry, "namespace already attached";
    NAMESPACE_NOT_ATTACHED: COMMAND_SPECIFIC, 0x1A, no_retry, "namespace not attached";
    INVALID_CONTROLLER_ID: COMMAND_SPECIFIC, 0x1F, no_retry, "invalid controller identifier";
    ANA_GROUP_INVALID: COMMAND_SPECIFIC, 0x24, no_retry, "ANA group identifier invalid";
    COMMAND_SET_NOT_SUPPORTED: COMMAND_SPECIFIC, 0x29, no_retry, "I/O command set not supported";
    COMMAND_SET_COMBINATION_REJECTED: COMMAND_SPECIFIC, 0x2B, no_retry, "I/O command set combination rejected";
    CONNECT_INCOMPATIBLE_FORMAT: COMMAND_SPECIFIC, 0x80, no_retry, "incompatible format (Connect) or conflicting attributes (I/O)";
    CONNECT_CONTROLLER_BUSY: COMMAND_SPECIFIC, 0x81, retry, "controller busy (Connect) or invalid protection information (I/O)";
    CONNECT_INVALID_PARAMETERS: COMMAND_SPECIFIC, 0x82, no_retry, "invalid parameters (Connect) or write to a read-only range (I/O)";
    CONNECT_RESTART_DISCOVERY: COMMAND_SPECIFIC, 0x83, no_retry, "restart discovery (Connect) or command size limit exceeded (I/O)";
    CONNECT_INVALID_HOST: COMMAND_SPECIFIC, 0x84, no_retry, "invalid host";
    OVERLAPPING_IO_RANGE: COMMAND_SPECIFIC, 0x87, no_retry, "overlapping I/O range";
    INVALID_QUEUE_TYPE: COMMAND_SPECIFIC, 0x85, no_retry, "invalid queue type";
    DISCOVER_RESTART: COMMAND_SPECIFIC, 0x90, retry, "discover restart";
    AUTHENTICATION_REQUIRED: COMMAND_SPECIFIC, 0x91, no_retry, "authentication required";

    // Media and data integrity.
    WRITE_FAULT: MEDIA, 0x80, retry, "write fault";
    UNRECOVERED_READ_ERROR: MEDIA, 0x81, retry, "unrecovered read error";
    GUARD_CHECK_ERROR: MEDIA, 0x82, no_retry, "end-to-end guard check error";
    APPLICATION_TAG_CHECK_ERROR: MEDIA, 0x83, no_retry, "end-to-end application tag check error";
    REFERENCE_TAG_CHECK_ERROR: MEDIA, 0x84, no_retry, "end-to-end reference tag check error";
    COMPARE_FAILURE: MEDIA, 0x85, no_retry, "compare failure";
    ACCESS_DENIED: MEDIA, 0x86, no_retry, "access denied";
    DEALLOCATED_BLOCK: MEDIA, 0x87, no_retry, "deallocated or unwritten logical block";

    // Path related.
    PATH_INTERNAL_ERROR: PATH, 0x00, retry, "internal path error";
    ANA_PERSISTENT_LOSS: PATH, 0x01, retry, "asymmetric access persistent loss";
    ANA_INACCESSIBLE: PATH, 0x02, retry, "asymmetric access inaccessible";
    ANA_TRANSITION: PATH, 0x03, retry, "asymmetric access transition";
    CONTROLLER_PATHING_ERROR: PATH, 0x60, retry, "controller pathing error";
    HOST_PATHING_ERROR: PATH, 0x70, retry, "host pathing error";
    ABORTED_BY_HOST: PATH, 0x71, retry, "command aborted by host";
}

impl From<DeviceError> for Status {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::OutOfRange => Self::LBA_OUT_OF_RANGE,
            DeviceError::ReadFault => Self::UNRECOVERED_READ_ERROR,
            DeviceError::WriteFault => Self::WRITE_FAULT,
            DeviceError::NoSpace => Self::CAPACITY_EXCEEDED,
            DeviceError::ReadOnly => Self::NAMESPACE_WRITE_PROTECTED,
            DeviceError::Unsupported => Self::INVALID_OPCODE,
            DeviceError::Cancelled => Self::ABORT_REQUESTED,
            // The error is of this controller's way to the blocks alone, so a host with another path takes that [NVMe Base 2.0, 3.3.3.2.4].
            DeviceError::PathLost => Self::PATH_INTERNAL_ERROR,
            DeviceError::Internal => Self::INTERNAL_ERROR,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().unwrap_or("unknown status");
        write!(f, "{name} (type {}h, code {:02X}h", self.code_type().0, self.code())?;
        f.write_str(if self.do_not_retry() { ", do not retry)" } else { ")" })
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_specification_puts_them() {
        // Invalid Field with DNR, as a Linux target sends it: 0x4002 << 1.
        assert_eq!(Status::INVALID_FIELD.to_field(), 0x8004);
        assert_eq!(Status::CONNECT_INVALID_PARAMETERS.to_field(), (0x4000 | 0x182) << 1);
        assert_eq!(Status::UNRECOVERED_READ_ERROR.to_field(), 0x281 << 1);
        assert_eq!(Status::SUCCESS.to_field(), 0);
    }

    #[test]
    fn every_field_value_is_kept() {
        for field in 0..=u16::MAX {
            let status = Status::from_field(field);
            assert_eq!(status.to_field(), field & !1);
            let _ = status.to_string();
        }
    }

    #[test]
    fn every_constant_has_its_own_code() {
        for (index, a) in Status::ALL.iter().enumerate() {
            assert!(a.name().is_some());
            for b in &Status::ALL[index + 1..] {
                assert!(!a.is(*b), "{a} and {b}");
            }
        }
    }

    #[test]
    fn same_code_whatever_the_retry_bit() {
        let retry = Status::INVALID_FIELD.with_do_not_retry(false);
        assert_ne!(retry, Status::INVALID_FIELD);
        assert!(retry.is(Status::INVALID_FIELD));
        assert_eq!(retry.name(), Some("invalid field in command"));
        assert_eq!(Status::INVALID_FIELD.to_string(), "invalid field in command (type 0h, code 02h, do not retry)");
    }

    #[test]
    fn device_errors_are_errors() {
        for error in [
            DeviceError::OutOfRange,
            DeviceError::ReadFault,
            DeviceError::WriteFault,
            DeviceError::NoSpace,
            DeviceError::ReadOnly,
            DeviceError::Unsupported,
            DeviceError::Cancelled,
            DeviceError::PathLost,
            DeviceError::Internal,
        ] {
            assert!(!Status::from(error).is_success());
        }
    }
}
