//! Why 64 bytes are no command.

use crate::status::Status;
use crate::wire::SglError;

/// Why 64 bytes are no command. Each is answered with one status; none ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CommandError {
    /// No such command on this kind of queue.
    #[error("no command has opcode {opcode:#04x} on this queue")]
    Opcode {
        /// The opcode.
        opcode: u8,
    },
    /// No Fabrics command of this type on this kind of queue.
    #[error("no Fabrics command has type {fabrics_type:#04x} on this queue")]
    FabricsType {
        /// FCTYPE.
        fabrics_type: u8,
    },
    /// A Fabrics command on the wrong kind of queue.
    #[error("this Fabrics command is not for this kind of queue")]
    QueueKind,
    /// A field has a value that is reserved or not supported.
    #[error("the field at byte {byte} has a value that is not supported")]
    Field {
        /// Where the field starts, as the error log names it.
        byte: u8,
    },
    /// A structure that has no room for this host's identifier.
    #[error("the field at byte {byte} asks for host identifiers of 8 bytes, and they have 16")]
    HostIdFormat {
        /// Where the field starts.
        byte: u8,
    },
    /// RECFMT of a Connect or Disconnect.
    #[error("record format is not 0")]
    RecordFormat,
    /// The SGL is of a kind that this command cannot have.
    #[error("the SGL descriptor's type does not fit the command")]
    SglType,
    /// The SGL's length is not that of the command's data.
    #[error("the SGL's length is not that of the command's data")]
    SglLength,
    /// A list of descriptors that is no list.
    #[error("the SGL segment's length is not that of some descriptors")]
    SglSegment,
    /// A list of more descriptors than MSDBD.
    #[error("the SGL has more descriptors than MSDBD says")]
    SglCount,
    /// A list that is not inside the capsule.
    #[error("the SGL segment is not inside the capsule")]
    SglOffset,
}

impl CommandError {
    /// Where in the command the field starts that is wrong, as the error log names it.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Opcode { .. } => 0,
            Self::FabricsType { .. } | Self::QueueKind => 4,
            Self::Field { byte } | Self::HostIdFormat { byte } => byte,
            Self::RecordFormat => 40,
            Self::SglType => 39,
            Self::SglLength => 32,
            Self::SglSegment | Self::SglCount | Self::SglOffset => 24,
        }
    }

    /// The answer.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Opcode { .. } | Self::FabricsType { .. } => Status::INVALID_OPCODE,
            Self::QueueKind => Status::INVALID_QUEUE_TYPE,
            Self::Field { .. } => Status::INVALID_FIELD,
            Self::HostIdFormat { .. } => Status::HOST_ID_FORMAT_INCONSISTENT,
            Self::RecordFormat => Status::CONNECT_INCOMPATIBLE_FORMAT,
            Self::SglType => Status::SGL_TYPE_INVALID,
            Self::SglLength => Status::SGL_LENGTH_INVALID,
            Self::SglSegment => Status::SGL_SEGMENT_INVALID,
            Self::SglCount => Status::SGL_COUNT_INVALID,
            Self::SglOffset => Status::SGL_OFFSET_INVALID,
        }
    }
}

impl From<SglError> for CommandError {
    fn from(error: SglError) -> Self {
        match error {
            SglError::Type { .. } => Self::SglType,
            SglError::Segment { .. } => Self::SglSegment,
            SglError::Count { .. } => Self::SglCount,
            SglError::Offset { .. } => Self::SglOffset,
        }
    }
}
